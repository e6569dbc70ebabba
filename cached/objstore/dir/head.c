/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The head of an object's file: readable lines, padded to whole blocks, before the content.
 *
 *   objectfs-object 1 4096 <checksum>     format, bytes of the head, FNV-1a of the lines below
 *   etag 9e107d9d372bb6826bd81d3542a419d6
 *   size 43
 *   mtime 1767225600123456789
 *   sum rosUhgp5mIg=                      CRC64NVME of the content, if it came in one piece
 *   version 0000000000000003              only where versions are kept
 *   type text/plain                       and other properties, by the words of OBJ_PROPS
 *   meta mtime 1767225600
 *   end
 *
 * Why in the file and not beside it or in xattrs: one rename replaces bytes and description
 * together, on any file system, and `cp -r`, tar and rsync keep both. `tail -c +4097` gives an
 * administrator the plain content.
 *
 * Way:    from ops.c and list.c.
 * Thread: workers; blocks on the local disk.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "dir.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC_LINE_BYTES 64u
#define NUMBERS_BYTES 256u /* etag, size, mtime, version, key and "end" at their longest */

static uint64_t fnv1a(const char *data, size_t len)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < len; i++) {
		h = (h ^ (uint8_t)data[i]) * 0x100000001b3u;
	}
	return h;
}

uint32_t dir_head_bytes(const struct dir_head *h)
{
	size_t n = MAGIC_LINE_BYTES + NUMBERS_BYTES;

	for (unsigned i = 0; i < OBJ_PROP_MAX; i++) {
		n += h->props[i] != NULL ? strlen(obj_prop_names[i].word) + strlen(h->props[i]) + 2 : 0;
	}
	for (unsigned i = 0; i < h->meta_count; i++) {
		n += strlen(h->meta[i].name) + strlen(h->meta[i].value) + 7;
	}
	return (uint32_t)((n + DIR_HEAD_BLOCK - 1) / DIR_HEAD_BLOCK * DIR_HEAD_BLOCK);
}

int dir_head_describe(struct dir_head *h, char *const props[OBJ_PROP_MAX],
		const struct obj_meta *meta, unsigned meta_count)
{
	if (props != NULL && obj_props_copy(h->props, props) != 0) {
		return -ENOMEM;
	}
	h->meta = calloc(meta_count == 0 ? 1 : meta_count, sizeof(*h->meta));
	if (h->meta == NULL) {
		return -ENOMEM;
	}
	for (unsigned i = 0; i < meta_count; i++) {
		h->meta[i].name = strdup(meta[i].name);
		h->meta[i].value = strdup(meta[i].value);
		h->meta_count = i + 1;
		if (h->meta[i].name == NULL || h->meta[i].value == NULL) {
			return -ENOMEM;
		}
	}
	return 0;
}

void dir_head_fini(struct dir_head *h)
{
	obj_props_free(h->props);
	for (unsigned i = 0; i < h->meta_count; i++) {
		free(h->meta[i].name);
		free(h->meta[i].value);
	}
	free(h->meta);
	memset(h, 0, sizeof(*h));
}

int dir_head_write(int fd, const struct dir_head *h)
{
	char *buf;
	size_t len = 0;
	FILE *f;
	char magic[MAGIC_LINE_BYTES + 1];
	char *block;
	size_t off = 0;
	int ret = 0;

	f = open_memstream(&buf, &len);
	if (f == NULL) {
		return -ENOMEM;
	}
	fprintf(f, "etag %s\nsize %" PRId64 "\nmtime %" PRId64 "\n", h->etag, h->size, h->mtime_ns);
	if (h->version[0] != '\0') {
		fprintf(f, "version %s\n", h->version);
	}
	if (h->sum[0] != '\0') {
		fprintf(f, "sum %s\n", h->sum);
	}
	if (h->key_hash[0] != '\0') {
		fprintf(f, "key %s\n", h->key_hash);
	}
	for (unsigned i = 0; i < OBJ_PROP_MAX; i++) {
		if (h->props[i] != NULL) {
			fprintf(f, "%s %s\n", obj_prop_names[i].word, h->props[i]);
		}
	}
	for (unsigned i = 0; i < h->meta_count; i++) {
		fprintf(f, "meta %s %s\n", h->meta[i].name, h->meta[i].value);
	}
	fputs("end\n", f);
	if (fclose(f) != 0) {
		free(buf);
		return -ENOMEM;
	}
	block = calloc(1, h->bytes);
	if (block == NULL || MAGIC_LINE_BYTES + len > h->bytes || h->bytes > DIR_HEAD_MAX_BYTES) {
		free(buf);
		free(block);
		return block == NULL ? -ENOMEM : -EMSGSIZE;
	}
	snprintf(magic, sizeof(magic), "objectfs-object 1 %u %016" PRIx64, h->bytes,
			fnv1a(buf, len));
	memset(block, ' ', MAGIC_LINE_BYTES);
	memcpy(block, magic, strlen(magic));
	block[MAGIC_LINE_BYTES - 1] = '\n';
	memcpy(block + MAGIC_LINE_BYTES, buf, len);
	free(buf);
	while (off < h->bytes) {
		ssize_t n = pwrite(fd, block + off, h->bytes - off, (off_t)off);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			ret = n < 0 ? -errno : -EIO;
			break;
		}
		off += (size_t)n;
	}
	free(block);
	return ret;
}

/* The whole head in *buf (NUL behind), its length in *bytes. */
static int load(int fd, char **buf, uint32_t *bytes)
{
	char *b = malloc(DIR_HEAD_MAX_BYTES + 1);
	ssize_t got;
	unsigned want;
	uint64_t sum;

	*buf = b;
	if (b == NULL) {
		return -ENOMEM;
	}
	got = pread(fd, b, DIR_HEAD_BLOCK, 0);
	if (got < 0) {
		return -errno;
	}
	if (got < (ssize_t)DIR_HEAD_BLOCK) {
		return -EBADMSG;
	}
	b[got] = '\0';
	if (sscanf(b, "objectfs-object 1 %u %" SCNx64, &want, &sum) != 2 ||
			want < DIR_HEAD_BLOCK || want > DIR_HEAD_MAX_BYTES ||
			want % DIR_HEAD_BLOCK != 0) {
		return -EBADMSG;
	}
	if (want > DIR_HEAD_BLOCK) {
		got = pread(fd, b, want, 0);
		if (got < 0) {
			return -errno;
		}
		if (got < (ssize_t)want) {
			return -EBADMSG;
		}
	}
	b[want] = '\0';
	*bytes = want;
	if (b[MAGIC_LINE_BYTES - 1] != '\n' ||
			fnv1a(b + MAGIC_LINE_BYTES, strlen(b + MAGIC_LINE_BYTES)) != sum) {
		return -EBADMSG;
	}
	return 0;
}

static int parse_meta(struct dir_head *h, char *text, unsigned *capacity)
{
	char *space = strchr(text, ' ');

	if (space == NULL || space == text) {
		return -EBADMSG;
	}
	if (h->meta_count == *capacity) {
		unsigned cap = *capacity == 0 ? 8 : *capacity * 2;
		struct obj_meta *grown = realloc(h->meta, cap * sizeof(*grown));

		if (grown == NULL) {
			return -ENOMEM;
		}
		h->meta = grown;
		*capacity = cap;
	}
	*space = '\0';
	h->meta[h->meta_count].name = strdup(text);
	h->meta[h->meta_count].value = strdup(space + 1);
	h->meta_count++;
	if (h->meta[h->meta_count - 1].name == NULL || h->meta[h->meta_count - 1].value == NULL) {
		return -ENOMEM;
	}
	return 0;
}

static int parse_prop(struct dir_head *h, const char *line)
{
	for (unsigned i = 0; i < OBJ_PROP_MAX; i++) {
		size_t len = strlen(obj_prop_names[i].word);

		if (strncmp(line, obj_prop_names[i].word, len) == 0 && line[len] == ' ') {
			free(h->props[i]);
			h->props[i] = strdup(line + len + 1);
			return h->props[i] == NULL ? -ENOMEM : 0;
		}
	}
	return -EBADMSG;
}

static int parse_line(struct dir_head *h, char *line, unsigned *capacity)
{
	if (strncmp(line, "etag ", 5) == 0 && strlen(line + 5) < sizeof(h->etag)) {
		strcpy(h->etag, line + 5);
		return 0;
	}
	if (strncmp(line, "size ", 5) == 0) {
		return sscanf(line + 5, "%" SCNd64, &h->size) == 1 && h->size >= 0 ? 0 : -EBADMSG;
	}
	if (strncmp(line, "mtime ", 6) == 0) {
		return sscanf(line + 6, "%" SCNd64, &h->mtime_ns) == 1 ? 0 : -EBADMSG;
	}
	if (strncmp(line, "version ", 8) == 0 && strlen(line + 8) < sizeof(h->version)) {
		strcpy(h->version, line + 8);
		return 0;
	}
	if (strncmp(line, "sum ", 4) == 0 && strlen(line + 4) < sizeof(h->sum)) {
		strcpy(h->sum, line + 4);
		return 0;
	}
	if (strncmp(line, "key ", 4) == 0 && strlen(line + 4) < sizeof(h->key_hash)) {
		strcpy(h->key_hash, line + 4);
		return 0;
	}
	if (strncmp(line, "meta ", 5) == 0) {
		return parse_meta(h, line + 5, capacity);
	}
	return parse_prop(h, line);
}

int dir_head_read(int fd, struct dir_head *h)
{
	char *buf = NULL;
	char *line, *end;
	unsigned capacity = 0;
	int ret;

	memset(h, 0, sizeof(*h));
	h->size = -1;
	ret = load(fd, &buf, &h->bytes);
	line = buf == NULL ? NULL : buf + MAGIC_LINE_BYTES;
	while (ret == 0) {
		end = strchr(line, '\n');
		if (end == NULL) {
			ret = -EBADMSG;
			break;
		}
		*end = '\0';
		if (strcmp(line, "end") == 0) {
			break;
		}
		ret = parse_line(h, line, &capacity);
		line = end + 1;
	}
	if (ret == 0 && (h->etag[0] == '\0' || h->size < 0)) {
		ret = -EBADMSG;
	}
	free(buf);
	return ret;
}
