/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as a log segment: as they are, and as its lines with head and checksum made right. */
/* Covers: cached/reconcile/metalog_segment.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cached/reconcile/metalog_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take(struct metalog_entry *e, void *arg)
{
	char *line = metalog_line(e);

	*(unsigned *)arg += 1;
	if (line == NULL || e->packed_len == 0) {
		abort();
	}
	free(line);
	free(e->packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct ofs_oid uuid = { { 1 } };
	struct metalog_id id = { .uuid = &uuid, .node = "n", .seq = 1 };
	char node[METALOG_NODE_MAX_BYTES + 1], *text, *segment;
	unsigned taken = 0;
	const char *why;
	uint64_t seq;
	size_t len;

	if (metalog_segment_parse((const char *)data, size, &id, take, &taken, &why) != 0 &&
			why == NULL) {
		abort();
	}
	text = malloc(size + 1);
	if (text == NULL) {
		return 0;
	}
	memcpy(text, data, size);
	text[size] = '\0';
	metalog_key_parse(text, node, &seq);
	segment = metalog_segment_build(&id, (const char *const *)&text, 1, &len);
	if (segment != NULL) {
		metalog_segment_parse(segment, len, &id, take, &taken, &why);
	}
	free(segment);
	free(text);
	return 0;
}
