/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Any bytes as a file of uploads/: the file itself, or its head and records with the digests that belong to them.
 * What is taken is an upload whose parts cover its file once, one behind the other, and which can be gone on with;
 * what is not taken is gone.
 *
 * The second form: a byte says how much longer than its fixed fields the head is, then rows of a length and so many bytes.
 */
/* Covers: cached/upload/begun.c */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <tevent.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/core/volume.h"
#include "cached/upload/begun.h"
#include "shared/cursor.h"
#include "tests/lib/scratch.h"

#define NAME "00112233445566778899aabbccddeeff"
#define HEAD_BYTES 114u /* its fixed fields */
#define MOST_BYTES 8192u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64], path[160];
static struct volume v;

static void clean(void)
{
	scratch_remove(dir);
}

static void begin(void)
{
	struct tevent_context *ev = tevent_context_init(NULL);

	scratch_in_memory();
	scratch_make(dir, sizeof(dir), "fuzz-begun");
	snprintf(path, sizeof(path), "%s/uploads/" NAME, dir);
	atexit(clean);
	v.name = "fuzz";
	v.path = dir;
	v.path_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	v.clock = clock_real_new(ev, ev);
	log_set_level(LOG_LVL_ERROR);
	if (v.path_fd < 0 || mkdirat(v.path_fd, "uploads", 0700) != 0 || v.clock == NULL) {
		abort();
	}
}

static void sound(const struct begun *b)
{
	int64_t end = 0;

	if (b->key == NULL || b->key[0] == '\0' || b->size <= 0 || b->part_count == 0 || b->part_count > b->block_count ||
			b->used || b->begun_ns < 0) {
		abort();
	}
	for (unsigned i = 0; i < b->part_count; i++) {
		if (b->parts[i].offset != end || b->parts[i].length <= 0 ||
				(b->done[i].sum != NULL && b->done[i].etag == NULL)) {
			abort();
		}
		end += b->parts[i].length;
	}
	if (end != b->size) {
		abort();
	}
}

static void take(const void *data, size_t len)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	char *error = NULL;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct begun_set *set;

	if (fd < 0 || write(fd, data, len) != (ssize_t)len || close(fd) != 0) {
		abort();
	}
	set = begun_open(ctx, &v, &error);
	if (set == NULL || (access(path, F_OK) == 0) != (set->list != NULL)) {
		abort();
	}
	if (set->list != NULL) {
		sound(set->list);
	}
	talloc_free(ctx);
}

/* `len` bytes of the input, or what is left, and the first `seal` bytes of their digest. */
static void sealed(struct ofs_wr *w, struct ofs_rd *r, size_t len, size_t seal)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	const uint8_t *p = ofs_rd_bytes(r, len < r->left ? len : r->left);

	if (p != NULL && EVP_Digest(p, (size_t)(r->p - p), digest, NULL, EVP_sha256(), NULL) == 1) {
		ofs_wr_bytes(w, p, (size_t)(r->p - p));
		ofs_wr_bytes(w, digest, seal);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t made[MOST_BYTES * 2];
	struct ofs_rd r = ofs_rd_init(data, size < MOST_BYTES / 16 ? size : MOST_BYTES / 16);
	struct ofs_wr w = ofs_wr_init(made, sizeof(made));

	if (dir[0] == '\0') {
		begin();
	}
	take(data, size);
	sealed(&w, &r, HEAD_BYTES + ofs_rd_u8(&r), 32);
	while (r.left > 0 && !w.bad) {
		sealed(&w, &r, ofs_rd_u8(&r), 8);
	}
	take(made, w.done);
	return 0;
}
