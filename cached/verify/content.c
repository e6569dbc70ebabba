/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: compare the bytes of a file with what is known of its object's.
 * Way: recall/ when all of a file has come, verify.c for what lies here -> here -> workers read, a while at a time; the
 *      store says its checksum in a HEAD -> the verdict.
 * Thread: core, the *_run on workers.
 * Owns: the digests; the HEAD in flight.
 * Holds:
 *  1. right is what one of the means confirms. Wrong is only what contradicts the store's own word on this object
 *     (checksum, or an ETag that is known to be the MD5), or the blocks that it was made of, by its ETag;
 *  2. means that cannot be certain (what the row remembers, parts of a size that is assumed) confirm, and never
 *     condemn: the file is then told as "cannot be told";
 *  3. all bytes are hashed on workers.
 *
 *   START -> BLOCKS -no, none kept-> SHA256 -no-> MD5 -no-> HEAD -> SUM -> PARTS -> unknown
 *              \ no: wrong                                   \ no checksum, but MD5 said no: wrong
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "content.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../core/volume.h"
#include "../upload/upload.h"

#define READ_BYTES (1u << 20)
#define READ_ALIGN 4096u /* for O_DIRECT */
#define TURN_BYTES (32LL << 20) /* read by a worker before others have their turn */
#define PARTS_USUAL_BYTES (8LL << 20) /* `part size`, if nobody has set it */

struct content_digest { /* malloc */
	EVP_MD_CTX *md, *outer; /* outer: MD5 of parts' MD5s */
	struct sum sum;
};

static const char *const means_names[] = {
	[CONTENT_START] = "nothing",
	[CONTENT_BLOCKS] = "the SHA-256 of its blocks when they were sent",
	[CONTENT_SHA256] = "its SHA-256 when it was sent",
	[CONTENT_MD5] = "the MD5 that is its object's ETag",
	[CONTENT_SUM] = "the checksum that the store has of its object",
	[CONTENT_PARTS] = "the MD5s of parts in its object's ETag",
	[CONTENT_END] = "nothing",
};

const char *content_means_name(enum content_means means)
{
	return means_names[means];
}

/* ---- digests: workers ---- */

static void digest_free(struct content_digest **d)
{
	if (*d != NULL) {
		EVP_MD_CTX_free((*d)->md);
		EVP_MD_CTX_free((*d)->outer);
		sum_fini(&(*d)->sum);
		free(*d);
		*d = NULL;
	}
}

static const EVP_MD *digest_md(enum content_means means)
{
	return means == CONTENT_BLOCKS || means == CONTENT_SHA256 ? EVP_sha256() : EVP_md5();
}

static int digest_begin(struct content *c)
{
	struct content_digest *d = calloc(1, sizeof(*d));

	digest_free(&c->digest);
	c->digest = d;
	if (d == NULL) {
		return -ENOMEM;
	}
	if (c->means == CONTENT_SUM) {
		return sum_begin(&d->sum, c->sum_kind) ? 0 : -ENOMEM;
	}
	d->md = EVP_MD_CTX_new();
	if (d->md == NULL || EVP_DigestInit_ex(d->md, digest_md(c->means), NULL) != 1) {
		return -ENOMEM;
	}
	if (c->means == CONTENT_PARTS) {
		d->outer = EVP_MD_CTX_new();
		return d->outer != NULL && EVP_DigestInit_ex(d->outer, EVP_md5(), NULL) == 1 ? 0 : -ENOMEM;
	}
	return 0;
}

/* A block or part has been read to its end. false: it is another. */
static bool digest_piece(struct content *c)
{
	uint8_t md[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	EVP_DigestFinal_ex(c->digest->md, md, &len);
	EVP_DigestInit_ex(c->digest->md, digest_md(c->means), NULL);
	if (c->means == CONTENT_PARTS) {
		EVP_DigestUpdate(c->digest->outer, md, len);
		return true;
	}
	return memcmp(md, c->blocks->sha256[(c->at - 1) / c->each], 32) == 0;
}

/* The next bytes of the file. false: they are others. */
static bool digest_add(struct content *c, const uint8_t *data, int64_t len)
{
	bool same = true;

	while (len > 0 && same) {
		int64_t n = c->each > 0 && len > c->each - c->at % c->each ? c->each - c->at % c->each : len;

		if (c->means == CONTENT_SUM) {
			sum_add(&c->digest->sum, data, (size_t)n);
		} else {
			EVP_DigestUpdate(c->digest->md, data, (size_t)n);
		}
		c->at += n;
		data += n;
		len -= n;
		if (c->each > 0 && (c->at % c->each == 0 || c->at == c->size)) {
			same = digest_piece(c);
		}
	}
	return same;
}

static bool digest_matches(struct content *c)
{
	uint8_t md[EVP_MAX_MD_SIZE];
	char text[2 * EVP_MAX_MD_SIZE + 16];
	unsigned len = 0;

	switch (c->means) {
	case CONTENT_BLOCKS: /* each was compared */
		return true;
	case CONTENT_SUM:
		sum_text(&c->digest->sum, text);
		return strcmp(text, c->sum) == 0;
	case CONTENT_SHA256:
		EVP_DigestFinal_ex(c->digest->md, md, &len);
		return memcmp(md, c->sha256, 32) == 0;
	default:
		EVP_DigestFinal_ex(c->means == CONTENT_PARTS ? c->digest->outer : c->digest->md, md, &len);
		for (unsigned i = 0; i < len; i++) {
			snprintf(text + 2 * i, 3, "%02x", md[i]);
		}
		return strncmp(text, c->etag, 32) == 0;
	}
}

/* ---- reading: workers ---- */

/* At most a turn. 0 or -errno. */
static int read_turn(struct content *c, int fd, uint8_t *buf)
{
	int64_t end = c->size - c->at < TURN_BYTES ? c->size : c->at + TURN_BYTES;

	while (c->at < end) {
		ssize_t n = pread(fd, buf, READ_BYTES, c->at);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0 && errno == EINVAL && (fcntl(fd, F_GETFL) & O_DIRECT) != 0) {
			/* this file system cannot, or not from here on */
			if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_DIRECT) == 0) {
				continue;
			}
		}
		if (n <= 0) {
			return n < 0 ? -errno : -EBUSY; /* shorter than it was */
		}
		if (atomic_load(&c->cancelled)) {
			return -ECANCELED;
		}
		n = n < c->size - c->at ? n : (ssize_t)(c->size - c->at);
		if (!digest_add(c, buf, n)) {
			c->at = c->size;
			return 0; /* not matched */
		}
	}
	c->matched = c->at == c->size && digest_matches(c);
	return 0;
}

static int read_file(struct content *c)
{
	int fd = c->take != NULL ? c->take(c) : c->fd, ret, given;
	uint8_t *buf = NULL;

	if (fd < 0) {
		return fd;
	}
	ret = posix_memalign((void **)&buf, READ_ALIGN, READ_BYTES) == 0 ? 0 : -ENOMEM;
	if (ret == 0 && c->at == 0) {
		ret = digest_begin(c);
	}
	if (ret == 0) {
		ret = read_turn(c, fd, buf);
	}
	free(buf);
	given = c->give != NULL ? c->give(c, fd) : 0;
	return given != 0 ? given : ret;
}

static void content_run(struct disk_job *job)
{
	struct content *c = (struct content *)job;

	if (c->means == CONTENT_BLOCKS && c->blocks == NULL) {
		c->blocks = blocks_read(c->v->blocks_fd, &c->oid);
		if (c->blocks == NULL || strcmp(c->blocks->etag, c->etag) != 0 || c->blocks->size != c->size) {
			blocks_free(&c->blocks);
			return; /* none are kept */
		}
		c->each = c->blocks->each;
	}
	c->status = read_file(c);
}

/* ---- which means: core ---- */

static bool hex32(const char *s)
{
	return strspn(s, "0123456789abcdef") == 32;
}

/* Parts of which size gave an ETag with this number of them? 0: none that is usual. */
static int64_t parts_bytes(const struct content *c)
{
	const int64_t sizes[] = {upload_part_bytes(c->v->conf, c->size), PARTS_USUAL_BYTES};
	long number = hex32(c->etag) && c->etag[32] == '-' ? strtol(c->etag + 33, NULL, 10) : 0;

	for (unsigned i = 0; i < 2; i++) {
		if (number > 0 && (c->size - 1) / sizes[i] + 1 == number) {
			return sizes[i];
		}
	}
	return 0;
}

static bool means_apply(const struct content *c, enum content_means means)
{
	const struct objstore *s = c->v->store;

	switch (means) {
	case CONTENT_BLOCKS:
		return c->v->conf->delta_above_bytes > 0 && c->size >= c->v->conf->delta_above_bytes;
	case CONTENT_SHA256:
		return c->has_sha256;
	case CONTENT_MD5:
		return atomic_load(&s->etag_md5) && hex32(c->etag) && c->etag[32] == '\0';
	case CONTENT_SUM:
		return c->asked ? c->sum != NULL : atomic_load(&s->sum) != OBJ_SUM_NONE;
	case CONTENT_PARTS:
		return atomic_load(&s->etag_md5) && !c->opaque && parts_bytes(c) > 0;
	default:
		return false;
	}
}

bool content_may_tell(struct volume *v, const struct row *row)
{
	const struct content c = {.v = v, .etag = (char *)row->etag, .size = row->s3_size,
			.has_sha256 = row->has_sha256};
	enum content_means m = CONTENT_BLOCKS;

	while (c.etag != NULL && c.size > 0 && m < CONTENT_END && !means_apply(&c, m)) {
		m++;
	}
	return c.etag != NULL && c.size > 0 && m < CONTENT_END;
}

static void content_end(struct content *c, enum content_verdict verdict, int status)
{
	c->verdict = verdict;
	c->status = status;
	c->done(c);
}

static void content_done(struct disk_job *job);

static void content_turn(void *arg)
{
	struct content *c = arg;

	c->job.what = "compare content";
	c->job.run = content_run;
	c->job.done = content_done;
	c->turn_ns = clock_now_ns(c->v->clock);
	disk_submit(c->v->disk, DISK_ANY, &c->job);
}

/* The next while of the same reading, not before its time. */
static void content_go_on(struct content *c)
{
	int64_t pause = c->bytes_s > 0 ? (int64_t)((double)TURN_BYTES / (double)c->bytes_s * NS_PER_S) : 0;
	struct clock *clock = c->v->clock;

	if (pause == 0 || clock_timer_add(clock, c->v, c->turn_ns + pause, content_turn, c) == NULL) {
		content_turn(c);
	}
}

static void content_next(struct content *c);

static void content_head_done(struct obj_req *req)
{
	struct content *c = req->arg;
	struct obj_result *r = &req->result;
	int status = 0;

	if (r->status != OBJ_OK && r->status != OBJ_NOT_FOUND) {
		status = -EAGAIN;
	} else if (r->status == OBJ_NOT_FOUND || r->etag == NULL || strcmp(r->etag, c->etag) != 0) {
		status = -ESTALE; /* another object by now */
	}
	c->opaque = objstore_etag_opaque(r);
	c->sum = r->sum;
	c->sum_kind = r->sum_kind;
	r->sum = NULL;
	objstore_req_free(&req);
	if (status != 0) {
		content_end(c, CONTENT_FAILED, status);
	} else if (c->sum == NULL && c->md5_wrong && !c->opaque) {
		c->means = CONTENT_MD5;
		content_end(c, CONTENT_WRONG, 0);
	} else {
		content_next(c);
	}
}

static void content_ask(struct content *c)
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, c->key);

	c->asked = true;
	if (req == NULL) {
		content_end(c, CONTENT_FAILED, -ENOMEM);
		return;
	}
	req->wants_sum = true;
	req->prio = c->prio;
	req->done = content_head_done;
	req->arg = c;
	objstore_submit(c->v->store, req);
}

/* The next means, with the whole file read for it. */
static void content_next(struct content *c)
{
	do {
		c->means++;
	} while (c->means < CONTENT_END && !means_apply(c, c->means) && !(c->means == CONTENT_SUM && c->md5_wrong &&
			!c->asked));
	c->at = 0;
	c->each = c->means == CONTENT_PARTS ? parts_bytes(c) : 0;
	if (c->means == CONTENT_END) {
		content_end(c, CONTENT_UNKNOWN, 0);
	} else if (c->means == CONTENT_SUM && !c->asked) {
		c->means--; /* it is tried once the store has said it */
		content_ask(c);
	} else {
		content_turn(c);
	}
}

static void content_done(struct disk_job *job)
{
	struct content *c = (struct content *)job;
	bool kept = c->means != CONTENT_BLOCKS || c->blocks != NULL;

	if (atomic_load(&c->cancelled)) {
		content_end(c, CONTENT_FAILED, -ECANCELED);
	} else if (c->status != 0) {
		content_end(c, CONTENT_FAILED, c->status);
	} else if (kept && c->at < c->size) {
		content_go_on(c);
	} else if (c->matched) {
		content_end(c, CONTENT_RIGHT, 0);
	} else if ((c->means == CONTENT_BLOCKS && kept) || c->means == CONTENT_SUM) {
		content_end(c, CONTENT_WRONG, 0);
	} else {
		c->md5_wrong = c->md5_wrong || c->means == CONTENT_MD5;
		content_next(c);
	}
}

/* ---- */

struct content *content_new(struct volume *v, const struct row *row, const char *key)
{
	struct content *c = row->etag != NULL && row->s3_size > 0 ? calloc(1, sizeof(*c)) : NULL;

	if (c == NULL) {
		return NULL;
	}
	c->v = v;
	c->oid = row->oid;
	c->size = row->s3_size;
	c->fd = -1;
	c->has_sha256 = row->has_sha256;
	if (row->has_sha256) {
		memcpy(c->sha256, row_sha256(row), sizeof(c->sha256));
	}
	c->key = strdup(key);
	c->etag = strdup(row->etag);
	if (c->key == NULL || c->etag == NULL) {
		content_free(&c);
	}
	return c;
}

void content_free(struct content **c)
{
	if (*c != NULL) {
		digest_free(&(*c)->digest);
		blocks_free(&(*c)->blocks);
		free((*c)->key);
		free((*c)->etag);
		free((*c)->sum);
		free(*c);
		*c = NULL;
	}
}

static void content_begin(void *arg)
{
	content_next(arg);
}

void content_check(struct content *c)
{
	c->means = CONTENT_START;
	/* From the loop, so that done never comes from inside this call. */
	if (clock_timer_add(c->v->clock, c->v, clock_now_ns(c->v->clock), content_begin, c) == NULL) {
		content_next(c);
	}
}
