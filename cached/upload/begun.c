/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: remember the multipart uploads that this node has begun, and what the store has of them.
 * Way: parts.c and reconcile/pass.c tell; parts_begun.c asks before another is begun; begun_end.c ends what is left.
 * Thread: core, the *_run on workers; begun_open before the loop.
 * Owns: the files of uploads/.
 * Holds:
 *  1. a file is there, durably, before the store hears of its upload: whatever dies, nothing is begun that nobody
 *     knows of;
 *  2. all behind the file's head is only appended, each record with its digest: what a crash tore or lost is sent
 *     again;
 *  3. a part is the store's when it has said so, and of the bytes that were sent: of which digest they were is kept,
 *     and compared with the file before it counts.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "begun.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shared/cursor.h"
#include "../base/log.h"
#include "../base/stats.h"
#include "../core/volume.h"
#include "../objstore/objstore.h"

#define MAGIC "OFSUPL1\n"
#define MAGIC_BYTES 8u
#define FIXED_BYTES (MAGIC_BYTES + 16 + 16 + 8 + 8 + 32 + 8 + 8 + 8 + 2)
#define TEXT_MAX_BYTES 1024u /* of a key, an id, an ETag, a checksum */
#define RECORD_MAX_BYTES (8 + 2 + 32 + 2 * (2 + TEXT_MAX_BYTES))
#define SEAL_BYTES 8u /* of a record's digest */
#define FILE_MAX_BYTES (16u << 20)

enum record { RECORD_ID = 1, RECORD_PART };

/* ---- one of them ---- */

static int begun_destructor(struct begun *b)
{
	*b->prev = b->next;
	if (b->next != NULL) {
		b->next->prev = b->prev;
	}
	return 0;
}

/* Its parts follow from these blocks, run and same. */
static void begun_plan(struct begun *b, const struct blocks *blocks)
{
	b->parts = talloc_zero_array(b, struct blocks_part, b->block_count);
	b->part_count = blocks_plan(blocks, b->same, b->run, b->parts);
	b->done = talloc_zero_array(b, struct begun_done, b->part_count);
}

static struct begun *begun_alloc(struct begun_set *set)
{
	struct begun *b = talloc_zero(set, struct begun);

	b->v = set->v;
	b->next = set->list;
	b->prev = &set->list;
	if (b->next != NULL) {
		b->next->prev = &b->next;
	}
	set->list = b;
	talloc_set_destructor(b, begun_destructor);
	return b;
}

int64_t begun_now_ns(const struct volume *v)
{
	return objstore_now_ns(v->store, v->clock);
}

struct begun *begun_new(struct volume *v, const struct ofs_oid *oid, const char *key, const struct blocks *blocks,
		const bool *same, int64_t run_bytes)
{
	struct begun *b;
	struct ofs_oid id;

	if (v->begun == NULL) {
		return NULL;
	}
	b = begun_alloc(v->begun);
	b->used = true;
	clock_random(v->clock, &id, sizeof(id));
	ofs_oid_hex(&id, b->file);
	b->oid = *oid;
	b->key = talloc_strdup(b, key);
	b->begun_ns = begun_now_ns(v);
	b->size = blocks->size;
	b->each = blocks->each;
	b->run = run_bytes;
	b->block_count = blocks->count;
	b->same = talloc_zero_array(b, bool, blocks->count);
	if (same != NULL) {
		memcpy(b->same, same, blocks->count * sizeof(*same));
	}
	begun_plan(b, blocks);
	return b;
}

struct begun *begun_find(struct volume *v, const struct ofs_oid *oid)
{
	struct begun *b = v->begun != NULL ? v->begun->list : NULL;

	while (b != NULL && (b->used || b->upload_id == NULL || !ofs_oid_equal(&b->oid, oid))) {
		b = b->next;
	}
	return b;
}

bool begun_knows(const struct volume *v, const char *upload_id)
{
	struct begun *b = v->begun->list;

	while (b != NULL && (b->upload_id == NULL || strcmp(b->upload_id, upload_id) != 0)) {
		b = b->next;
	}
	return b != NULL;
}

/* ---- as bytes ---- */

/* The head, with its digest; malloc. */
static uint8_t *head_pack(const struct begun *b, size_t *len)
{
	size_t key = strlen(b->key), bits = (b->block_count + 7) / 8, cap = FIXED_BYTES + key + bits + 32;
	uint8_t *data = malloc(cap);
	struct ofs_wr w = ofs_wr_init(data, cap);

	ofs_wr_bytes(&w, MAGIC, MAGIC_BYTES);
	ofs_wr_bytes(&w, &b->oid, 16);
	ofs_wr_bytes(&w, &b->wid, 16);
	ofs_wr_u64(&w, (uint64_t)b->begun_ns);
	ofs_wr_u64(&w, (uint64_t)b->atime_ns);
	ofs_wr_bytes(&w, b->what, 32);
	ofs_wr_u64(&w, (uint64_t)b->size);
	ofs_wr_u64(&w, (uint64_t)b->each);
	ofs_wr_u64(&w, (uint64_t)b->run);
	ofs_wr_u16(&w, (uint16_t)key);
	ofs_wr_bytes(&w, b->key, key);
	for (size_t i = 0; i < bits; i++) {
		uint8_t byte = 0;

		for (unsigned k = 0; k < 8 && i * 8 + k < b->block_count; k++) {
			byte |= (uint8_t)(b->same[i * 8 + k] << k);
		}
		ofs_wr_bytes(&w, &byte, 1);
	}
	SHA256(data, w.done, w.p);
	*len = cap;
	return data;
}

static char *text(TALLOC_CTX *ctx, struct ofs_rd *r)
{
	size_t len = ofs_rd_u16(r);
	const uint8_t *p = len <= TEXT_MAX_BYTES ? ofs_rd_bytes(r, len) : NULL;

	return p != NULL && len > 0 && memchr(p, 0, len) == NULL ? talloc_strndup(ctx, (const char *)p, len) : NULL;
}

static bool head_read(struct begun *b, struct ofs_rd *r)
{
	const uint8_t *all = r->p, *magic = ofs_rd_bytes(r, MAGIC_BYTES), *bits, *digest;
	uint8_t want[SHA256_DIGEST_LENGTH];
	struct blocks *blocks;
	bool good;

	if (magic == NULL || memcmp(magic, MAGIC, MAGIC_BYTES) != 0) {
		return false;
	}
	ofs_rd_copy(r, &b->oid, 16);
	ofs_rd_copy(r, &b->wid, 16);
	b->begun_ns = (int64_t)ofs_rd_u64(r);
	b->atime_ns = (int64_t)ofs_rd_u64(r);
	ofs_rd_copy(r, b->what, 32);
	b->size = (int64_t)ofs_rd_u64(r);
	b->each = (int64_t)ofs_rd_u64(r);
	b->run = (int64_t)ofs_rd_u64(r);
	b->key = text(b, r);
	blocks = b->key != NULL && b->begun_ns >= 0 ? blocks_new(b->size, b->each) : NULL;
	if (blocks == NULL) {
		return false;
	}
	b->block_count = blocks->count;
	bits = ofs_rd_bytes(r, (b->block_count + 7) / 8);
	digest = ofs_rd_bytes(r, 32);
	good = digest != NULL && memcmp(SHA256(all, (size_t)(digest - all), want), digest, sizeof(want)) == 0;
	if (good) {
		b->same = talloc_zero_array(b, bool, b->block_count);
		for (unsigned i = 0; i < b->block_count; i++) {
			b->same[i] = (bits[i / 8] >> i % 8 & 1) != 0;
		}
		begun_plan(b, blocks);
	}
	blocks_free(&blocks);
	return good;
}

static void record_seal(const uint8_t *data, size_t len, uint8_t seal[SEAL_BYTES])
{
	uint8_t digest[SHA256_DIGEST_LENGTH];

	SHA256(data, len, digest);
	memcpy(seal, digest, SEAL_BYTES);
}

/* The next record behind the head; false: there are no more, or it was torn. */
static bool record_read(struct begun *b, struct ofs_rd *r)
{
	const uint8_t *all = r->p, *seal;
	unsigned kind = ofs_rd_u16(r), number = ofs_rd_u16(r);
	uint8_t want[SEAL_BYTES], sha256[32];
	char *first, *second;

	ofs_rd_copy(r, sha256, 32);
	first = text(b, r);
	second = text(b, r);
	seal = ofs_rd_bytes(r, SEAL_BYTES);
	if (seal == NULL || first == NULL) {
		return false;
	}
	record_seal(all, (size_t)(seal - all), want);
	if (memcmp(seal, want, SEAL_BYTES) != 0) {
		return false;
	}
	if (kind == RECORD_ID) {
		b->upload_id = first;
	} else if (kind == RECORD_PART && number < b->part_count) {
		b->done[number].etag = first;
		b->done[number].sum = second;
		memcpy(b->done[number].sha256, sha256, 32);
	}
	return true;
}

/* ---- the disk ---- */

struct begun_job {
	struct disk_job job;
	struct begun *b; /* core only: whose waiter it has; or NULL */
	int dir_fd; /* of uploads/ */
	char file[OFS_OID_HEX_BYTES];
	uint8_t *data; /* NULL: the file goes */
	size_t len;
	bool head;
	void (*done)(void *arg);
	void *arg;
};

static void begun_run(struct disk_job *job)
{
	struct begun_job *j = (struct begun_job *)job;
	int flags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC | (j->head ? O_CREAT | O_EXCL : 0), fd;
	bool good;

	if (j->data == NULL) {
		unlinkat(j->dir_fd, j->file, 0); /* perhaps it was never there */
		return;
	}
	fd = openat(j->dir_fd, j->file, flags, 0600);
	if (fd < 0) {
		return; /* it has gone; or nothing can be kept: the next daemon begins anew */
	}
	good = write(fd, j->data, j->len) == (ssize_t)j->len &&
	       (!j->head || (fdatasync(fd) == 0 && fsync(j->dir_fd) == 0));
	if (!good && j->head) {
		unlinkat(j->dir_fd, j->file, 0);
	}
	close(fd);
}

static void begun_run_done(struct disk_job *job)
{
	struct begun_job *j = (struct begun_job *)job;

	if (j->b != NULL) {
		j->b->keeping = NULL;
		j->done(j->arg);
	}
	free(j->data);
	free(j);
}

static void begun_unwait(struct begun *b)
{
	if (b->keeping != NULL) {
		b->keeping->b = NULL;
		b->keeping = NULL;
	}
}

static struct begun_job *job_new(const struct begun *b, const char *what)
{
	struct begun_job *j = calloc(1, sizeof(*j));

	j->job.what = what;
	j->job.run = begun_run;
	j->job.done = begun_run_done;
	j->dir_fd = b->v->begun->dir_fd;
	memcpy(j->file, b->file, sizeof(j->file));
	return j;
}

void begun_keep(struct begun *b, void (*done)(void *arg), void *arg)
{
	struct begun_job *j = job_new(b, "keep an upload");

	j->data = head_pack(b, &j->len);
	j->head = true;
	if (done != NULL) {
		j->b = b;
		b->keeping = j;
	}
	j->done = done;
	j->arg = arg;
	disk_submit(b->v->disk, DISK_ORDER, &j->job);
}

static void begun_append(struct begun *b, enum record kind, unsigned number, const uint8_t sha256[32], const char *first,
		const char *second)
{
	static const uint8_t none[32];
	size_t a = strlen(first), c = second != NULL ? strlen(second) : 0;
	struct begun_job *j;
	struct ofs_wr w;

	if (a > TEXT_MAX_BYTES || c > TEXT_MAX_BYTES) {
		return;
	}
	j = job_new(b, "note a part");
	j->data = malloc(RECORD_MAX_BYTES);
	w = ofs_wr_init(j->data, RECORD_MAX_BYTES);
	ofs_wr_u16(&w, (uint16_t)kind);
	ofs_wr_u16(&w, (uint16_t)number);
	ofs_wr_bytes(&w, sha256 != NULL ? sha256 : none, 32);
	ofs_wr_u16(&w, (uint16_t)a);
	ofs_wr_bytes(&w, first, a);
	ofs_wr_u16(&w, (uint16_t)c);
	ofs_wr_bytes(&w, second, c);
	record_seal(j->data, w.done, w.p);
	j->len = w.done + SEAL_BYTES;
	disk_submit(b->v->disk, DISK_ORDER, &j->job);
}

/* ---- what becomes of it ---- */

void begun_id(struct begun *b, const char *upload_id)
{
	b->upload_id = talloc_strdup(b, upload_id);
	begun_append(b, RECORD_ID, 0, NULL, upload_id, NULL);
}

void begun_part(struct begun *b, unsigned part, const char *etag, const char *sum, const uint8_t sha256[32])
{
	struct begun_done *d = &b->done[part];

	talloc_free(d->etag);
	talloc_free(d->sum);
	d->etag = talloc_strdup(b, etag);
	d->sum = sum != NULL ? talloc_strdup(b, sum) : NULL;
	memcpy(d->sha256, sha256, 32);
	begun_append(b, RECORD_PART, part, sha256, etag, sum);
}

void begun_gone(struct begun **b)
{
	struct begun_job *j;

	if (*b == NULL) {
		return;
	}
	begun_unwait(*b);
	j = job_new(*b, "forget an upload");
	disk_submit((*b)->v->disk, DISK_ORDER, &j->job);
	TALLOC_FREE(*b);
}

void begun_leave(struct begun **b)
{
	struct begun *left = *b;

	if (left == NULL) {
		return;
	}
	*b = NULL;
	begun_unwait(left);
	left->used = false;
	left->left_ns = clock_now_ns(left->v->clock);
	begun_look_at(left->v->begun, 0);
}

void begun_give_up(struct begun **b)
{
	if (*b != NULL) {
		memset(&(*b)->oid, 0, sizeof((*b)->oid));
		begun_leave(b);
	}
}

void begun_made(struct volume *v, const struct ofs_oid *oid, const struct ofs_oid *wid)
{
	struct begun *b;

	while ((b = begun_find(v, oid)) != NULL) {
		if (ofs_oid_equal(&b->wid, wid)) {
			begun_gone(&b);
		} else {
			begun_give_up(&b);
		}
	}
}

void begun_stray(struct begun *b)
{
	static const struct ofs_oid nobody;
	struct blocks *blocks = blocks_new(b->size, b->each);
	struct begun *stray = begun_new(b->v, &nobody, b->key, blocks, NULL, 0);

	stray->begun_ns = b->begun_ns;
	begun_keep(stray, NULL, NULL);
	begun_give_up(&stray);
	blocks_free(&blocks);
}

/* ---- at the start ---- */

/* All of a file; malloc. NULL: *status is -errno, or 0: it cannot be one of ours. */
static uint8_t *file_read(int dir_fd, const char *name, size_t *len, int *status)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	uint8_t *data = NULL;
	struct stat st;
	ssize_t n;

	*status = 0;
	if (fd < 0 || fstat(fd, &st) != 0) {
		*status = -errno;
	} else if (S_ISREG(st.st_mode) && st.st_size > 0 && st.st_size <= FILE_MAX_BYTES) {
		data = malloc((size_t)st.st_size);
		n = pread(fd, data, (size_t)st.st_size, 0);
		*status = n < 0 ? -errno : n != st.st_size ? -EIO : 0;
		*len = (size_t)st.st_size;
	}
	if (fd >= 0) {
		close(fd);
	}
	if (*status != 0) {
		free(data);
		data = NULL;
	}
	return data;
}

static void begun_load(struct begun_set *set, const char *name)
{
	struct ofs_oid id;
	bool good = ofs_oid_parse(name, &id);
	struct begun *b = NULL;
	size_t len = 0;
	int status;
	uint8_t *data = file_read(set->dir_fd, name, &len, &status);

	if (status != 0) { /* what it says is still so: the next daemon reads it */
		log_warning("upload", "volume %s: uploads/%s cannot be read (%s): it is kept for the next start; until then "
				"parts of an upload may stay in the bucket", set->v->name, name, strerror(-status));
		return;
	}
	good = good && data != NULL;
	if (good) {
		struct ofs_rd r = ofs_rd_init(data, len);

		b = begun_alloc(set);
		ofs_oid_hex(&id, b->file);
		b->left_ns = clock_now_ns(set->v->clock);
		good = head_read(b, &r);
		while (good && r.left > 0 && record_read(b, &r)) {
		}
	}
	if (!good) {
		talloc_free(b);
		unlinkat(set->dir_fd, name, 0); /* torn before the store heard of it */
	}
	free(data);
}

static int begun_set_destructor(struct begun_set *set)
{
	if (set->dir_fd >= 0) {
		close(set->dir_fd);
	}
	return 0;
}

struct begun_set *begun_open(TALLOC_CTX *ctx, struct volume *v, char **error)
{
	struct begun_set *set = talloc_zero(ctx, struct begun_set);
	struct dirent *de;
	DIR *dir;
	int fd;

	*error = NULL;
	set->v = v;
	if (mkdirat(v->path_fd, "uploads", 0700) != 0 && errno != EEXIST) {
		*error = talloc_asprintf(ctx, "%s/uploads: %s", v->path, strerror(errno));
	}
	set->dir_fd = openat(v->path_fd, "uploads", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	talloc_set_destructor(set, begun_set_destructor);
	fd = set->dir_fd >= 0 ? openat(set->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (dir == NULL) {
		*error = *error != NULL ? *error : talloc_asprintf(ctx, "%s/uploads: %s", v->path, strerror(errno));
		if (fd >= 0) {
			close(fd);
		}
		talloc_free(set);
		return NULL;
	}
	while ((de = readdir(dir)) != NULL) {
		if (de->d_name[0] != '.') {
			begun_load(set, de->d_name);
		}
	}
	closedir(dir);
	return set;
}
