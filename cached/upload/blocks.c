/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: know what large objects are made of, and what of a file differs from its object.
 * Way: upload.c asks before it sends, and tells after; send.c keeps what was told, once the fence is known.
 * Thread: core, the *_run on workers.
 * Owns: the files of blocks/, each written whole and renamed into place.
 * Holds:
 *  1. a block is taken for the same by its SHA-256 alone, read now, and only of the object that has this ETag;
 *  2. a file of blocks/ that is damaged, or of another version of the object, is as good as none: its digest is
 *     at its end, so nothing need be synced.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "blocks.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shared/cursor.h"
#include "../base/log.h"
#include "../core/volume.h"
#include "../objstore/objstore.h"
#include "../reconcile/index.h"

#define MAGIC "OFSBLK1\n"
#define MAGIC_BYTES 8u
#define HEAD_BYTES (MAGIC_BYTES + 8 + 8 + 2 + 2)
#define TEXT_MAX_BYTES 1024u /* of an ETag, of a version */
#define FILE_MAX_BYTES (HEAD_BYTES + 2 * TEXT_MAX_BYTES + 32u * OBJ_PARTS_MAX + 32u)
#define READ_BYTES (1u << 20)
#define TURN_BYTES (128LL << 20) /* read by a worker before others have their turn */

/* ---- the blocks of one object ---- */

struct blocks *blocks_new(int64_t size, int64_t each)
{
	int64_t count = each > 0 && size > 0 ? (size - 1) / each + 1 : 0;
	struct blocks *b;

	if (each > OBJ_PUT_MAX_BYTES || count < 1 || count > OBJ_PARTS_MAX) {
		return NULL;
	}
	b = calloc(1, sizeof(*b));
	if (b == NULL || (b->sha256 = calloc((size_t)count, 32)) == NULL) {
		free(b);
		return NULL;
	}
	b->size = size;
	b->each = each;
	b->count = (unsigned)count;
	return b;
}

void blocks_free(struct blocks **b)
{
	if (*b != NULL) {
		free((*b)->sha256);
		free((*b)->etag);
		free((*b)->version);
		free(*b);
		*b = NULL;
	}
}

int64_t blocks_bytes(const struct blocks *b, unsigned i)
{
	return i + 1 < b->count ? b->each : b->size - b->each * i;
}

uint8_t *blocks_pack(const struct blocks *b, size_t *len)
{
	size_t etag = strlen(b->etag), version = b->version != NULL ? strlen(b->version) : 0;
	size_t cap = HEAD_BYTES + etag + version + 32u * b->count + 32;
	uint8_t *data;
	struct ofs_wr w;

	if (etag > TEXT_MAX_BYTES || version > TEXT_MAX_BYTES) {
		return NULL;
	}
	data = malloc(cap);
	w = ofs_wr_init(data, cap);
	ofs_wr_bytes(&w, MAGIC, MAGIC_BYTES);
	ofs_wr_u64(&w, (uint64_t)b->size);
	ofs_wr_u64(&w, (uint64_t)b->each);
	ofs_wr_u16(&w, (uint16_t)etag);
	ofs_wr_u16(&w, (uint16_t)version);
	ofs_wr_bytes(&w, b->etag, etag);
	ofs_wr_bytes(&w, b->version, version);
	ofs_wr_bytes(&w, b->sha256, 32u * b->count);
	SHA256(data, w.done, w.p);
	*len = cap;
	return data;
}

static char *text(struct ofs_rd *r, size_t len)
{
	const uint8_t *p = ofs_rd_bytes(r, len);

	return p != NULL ? strndup((const char *)p, len) : NULL;
}

struct blocks *blocks_unpack(const uint8_t *data, size_t len)
{
	struct ofs_rd r = ofs_rd_init(data, len < 32 ? 0 : len - 32);
	const uint8_t *magic = ofs_rd_bytes(&r, MAGIC_BYTES);
	uint8_t digest[SHA256_DIGEST_LENGTH];
	struct blocks *b;
	size_t etag, version;
	int64_t size;

	if (magic == NULL || memcmp(magic, MAGIC, MAGIC_BYTES) != 0 ||
			memcmp(SHA256(data, len - 32, digest), data + len - 32, sizeof(digest)) != 0) {
		return NULL;
	}
	size = (int64_t)ofs_rd_u64(&r);
	b = blocks_new(size, (int64_t)ofs_rd_u64(&r));
	etag = ofs_rd_u16(&r);
	version = ofs_rd_u16(&r);
	if (b != NULL) {
		b->etag = text(&r, etag);
		b->version = version > 0 ? text(&r, version) : NULL;
		ofs_rd_copy(&r, b->sha256, 32u * b->count);
		if (r.bad || r.left != 0 || b->etag == NULL) {
			blocks_free(&b);
		}
	}
	return b;
}

unsigned blocks_plan(const struct blocks *b, const bool *same, int64_t run_bytes, struct blocks_part *parts)
{
	struct blocks_part *last = NULL;
	unsigned n = 0;

	for (unsigned i = 0; i < b->count; i++) {
		int64_t bytes = blocks_bytes(b, i);

		if (last != NULL && last->copy && same[i] && last->length + bytes <= run_bytes) {
			last->length += bytes;
			continue;
		}
		last = &parts[n++];
		*last = (struct blocks_part){ .offset = b->each * i, .length = bytes, .copy = same[i] };
	}
	return n;
}

/* ---- files ---- */

struct blocks *blocks_read(int dir_fd, const struct ofs_oid *oid)
{
	char name[OFS_OID_HEX_BYTES];
	struct blocks *b = NULL;
	uint8_t *data = NULL;
	struct stat st;
	int fd;

	ofs_oid_hex(oid, name);
	fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size <= FILE_MAX_BYTES) {
		data = malloc((size_t)st.st_size);
	}
	if (data != NULL && pread(fd, data, (size_t)st.st_size, 0) == (ssize_t)st.st_size) {
		b = blocks_unpack(data, (size_t)st.st_size);
	}
	free(data);
	if (fd >= 0) {
		close(fd);
	}
	return b;
}

struct keep_job {
	struct disk_job job;
	int dir_fd;
	struct ofs_oid oid;
	struct blocks *blocks;
	void (*done)(void *arg);
	void *arg;
};

static void keep_run(struct disk_job *job)
{
	struct keep_job *k = (struct keep_job *)job;
	char name[OFS_OID_HEX_BYTES], temp[OFS_OID_HEX_BYTES + 4];
	uint8_t *data;
	size_t len = 0;
	ssize_t n = -1;
	int fd = -1;

	ofs_oid_hex(&k->oid, name);
	snprintf(temp, sizeof(temp), "%s.new", name);
	data = blocks_pack(k->blocks, &len);
	if (data != NULL) {
		fd = openat(k->dir_fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	}
	if (fd >= 0) {
		n = write(fd, data, len);
		close(fd);
	}
	if (n != (ssize_t)len || renameat(k->dir_fd, temp, k->dir_fd, name) != 0) {
		unlinkat(k->dir_fd, temp, 0); /* its next version is sent whole */
	}
	free(data);
}

static void keep_done(struct disk_job *job)
{
	struct keep_job *k = (struct keep_job *)job;

	k->done(k->arg);
	blocks_free(&k->blocks);
	free(k);
}

void blocks_keep(struct volume *v, const struct ofs_oid *oid, struct blocks *b, void (*done)(void *arg), void *arg)
{
	struct keep_job *k = calloc(1, sizeof(*k));

	if (b->etag == NULL) {
		free(k);
		blocks_free(&b);
		done(arg);
		return;
	}
	k->job.what = "keep blocks";
	k->job.run = keep_run;
	k->job.done = keep_done;
	k->dir_fd = v->blocks_fd;
	k->oid = *oid;
	k->blocks = b;
	k->done = done;
	k->arg = arg;
	disk_submit(v->disk, DISK_ANY, &k->job);
}

void blocks_forget(int dir_fd, const struct ofs_oid *oid)
{
	char name[OFS_OID_HEX_BYTES];

	ofs_oid_hex(oid, name);
	unlinkat(dir_fd, name, 0); /* of most files there are none */
}

/* ---- comparing ---- */

/* Worker. The digest of a block of the file; false: it cannot be read, or nobody wants it any more. */
static bool block_digest(struct blocks_ask *q, unsigned i, uint8_t *buf, uint8_t sha256[32])
{
	int64_t at = q->now->each * i, end = at + blocks_bytes(q->now, i);
	EVP_MD_CTX *md = EVP_MD_CTX_new();

	EVP_DigestInit_ex(md, EVP_sha256(), NULL);
	while (at < end && !atomic_load(&q->cancelled)) {
		ssize_t n = pread(q->fd, buf, end - at < READ_BYTES ? (size_t)(end - at) : READ_BYTES, at);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			break;
		}
		EVP_DigestUpdate(md, buf, (size_t)n);
		sum_add(&q->whole, buf, (size_t)n);
		at += n;
	}
	EVP_DigestFinal_ex(md, sha256, NULL);
	EVP_MD_CTX_free(md);
	return at == end;
}

/* Worker. What was sent, if it is still what the store has. */
static bool ask_begin(struct blocks_ask *q)
{
	q->was = q->etag != NULL ? blocks_read(q->dir_fd, &q->oid) : NULL;
	if (q->was != NULL && strcmp(q->was->etag, q->etag) != 0) {
		blocks_free(&q->was);
	}
	q->now = blocks_new(q->size, q->was != NULL ? q->was->each : q->each);
	if (q->now == NULL) {
		return false;
	}
	q->same = calloc(q->now->count, sizeof(*q->same));
	if (q->was != NULL) {
		q->version = q->was->version;
		q->was->version = NULL;
	}
	return sum_begin(&q->whole, q->sum_kind);
}

/* Worker. false: it is of no use. */
static bool ask_turn(struct blocks_ask *q)
{
	uint8_t *buf = malloc(READ_BYTES);
	int64_t read = 0;
	bool ok = true;

	while (ok && q->at < q->now->count && read < TURN_BYTES) {
		unsigned i = q->at++;

		ok = block_digest(q, i, buf, q->now->sha256[i]);
		read += blocks_bytes(q->now, i);
		q->same[i] = ok && q->was != NULL && i < q->was->count && blocks_bytes(q->was, i) == blocks_bytes(q->now, i) &&
				memcmp(q->was->sha256[i], q->now->sha256[i], 32) == 0;
		q->known = q->known || q->same[i];
	}
	free(buf);
	return ok;
}

static void ask_run(struct disk_job *job)
{
	struct blocks_ask *q = (struct blocks_ask *)job;

	if ((q->now == NULL && !ask_begin(q)) || !ask_turn(q)) {
		q->known = false;
		blocks_free(&q->now);
	}
}

static void ask_done(struct disk_job *job)
{
	struct blocks_ask *q = (struct blocks_ask *)job;

	if (q->done == NULL) {
		blocks_ask_free(&q);
		return;
	}
	if (q->now != NULL && q->at < q->now->count) {
		blocks_ask(q);
		return;
	}
	if (q->now != NULL && q->sum_kind != OBJ_SUM_NONE) {
		sum_text(&q->whole, q->sum);
	}
	q->done(q);
}

void blocks_ask(struct blocks_ask *q)
{
	q->job.what = "compare blocks";
	q->job.run = ask_run;
	q->job.done = ask_done;
	q->dir_fd = q->v->blocks_fd;
	disk_submit(q->v->disk, DISK_ANY, &q->job);
}

void blocks_ask_leave(struct blocks_ask **q)
{
	atomic_store(&(*q)->cancelled, true);
	(*q)->done = NULL;
	*q = NULL;
}

void blocks_ask_free(struct blocks_ask **q)
{
	if (*q != NULL) {
		blocks_free(&(*q)->was);
		blocks_free(&(*q)->now);
		sum_fini(&(*q)->whole);
		if ((*q)->fd >= 0) {
			close((*q)->fd);
		}
		free((*q)->same);
		free((*q)->etag);
		free((*q)->version);
		free(*q);
		*q = NULL;
	}
}

/* ---- the sweep ---- */

struct sweep_job {
	struct disk_job job;
	struct volume *v; /* core only */
	int dir_fd;
	char (*names)[OFS_OID_HEX_BYTES + 4];
	unsigned count, cap;
	bool remove;
};

static void sweep_list(struct sweep_job *s)
{
	int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	while (dir != NULL && (de = readdir(dir)) != NULL) {
		if (de->d_name[0] == '.' || strlen(de->d_name) >= sizeof(s->names[0])) {
			continue;
		}
		if (s->count == s->cap) {
			unsigned cap = s->cap * 2 + 64;
			void *grown = realloc(s->names, cap * sizeof(s->names[0]));

			if (grown == NULL) {
				break;
			}
			s->names = grown;
			s->cap = cap;
		}
		strcpy(s->names[s->count++], de->d_name);
	}
	if (dir != NULL) {
		closedir(dir);
	} else if (fd >= 0) {
		close(fd);
	}
}

static void sweep_run(struct disk_job *job)
{
	struct sweep_job *s = (struct sweep_job *)job;

	if (!s->remove) {
		sweep_list(s);
		return;
	}
	for (unsigned i = 0; i < s->count; i++) {
		unlinkat(s->dir_fd, s->names[i], 0);
	}
}

/* Core: keep those that may be of use. */
static void sweep_done(struct disk_job *job)
{
	struct sweep_job *s = (struct sweep_job *)job;
	unsigned stay = 0;

	for (unsigned i = 0; !s->remove && i < s->count; i++) {
		struct ofs_oid oid;
		struct row *row = ofs_oid_parse(s->names[i], &oid) ? index_get(s->v->index, &oid) : NULL;

		if (row == NULL || !row->in_s3) {
			memmove(s->names[stay++], s->names[i], sizeof(s->names[0]));
		}
	}
	if (stay > 0) {
		s->remove = true;
		s->count = stay;
		disk_submit(s->v->disk, DISK_ORDER, &s->job);
		return;
	}
	free(s->names);
	free(s);
}

void blocks_sweep(struct volume *v)
{
	struct sweep_job *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		return;
	}
	s->job.what = "sweep blocks";
	s->job.run = sweep_run;
	s->job.done = sweep_done;
	s->v = v;
	s->dir_fd = v->blocks_fd;
	disk_submit(v->disk, DISK_ORDER, &s->job);
}
