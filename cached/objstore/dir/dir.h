/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside of the directory store; see dir.c for the picture. Worker threads only. */
#ifndef OFS_OBJSTORE_DIR_H
#define OFS_OBJSTORE_DIR_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include "../impl.h"

#define DIR_OBJECTS "objects"
#define DIR_TMP "tmp"
#define DIR_LOCKS "locks"
#define DIR_MULTIPART "multipart"
#define DIR_SUFFIX_OBJECT "%o"
#define DIR_SUFFIX_CHUNK "%+"
/* Longest relative path made from a key: every byte escaped, all suffixes, room below the root. */
#define DIR_PATH_MAX 3400u

/* --- names.c: keys <-> paths --- */
/* Relative to the root, below objects/. 0 or -ENAMETOOLONG. */
int dir_path_of_object(const char *key, char out[DIR_PATH_MAX]);
/* Of the directory that holds what begins with `prefix` up to its last '/'. */
int dir_path_of_prefix(const char *prefix, char out[DIR_PATH_MAX]);
/* Undo the escape of `len` bytes; out holds len + 1. 0; -EINVAL: not one of our names. */
int dir_name_decode(const char *name, size_t len, char *out);

/* --- head.c: what stands before the bytes of an object --- */
#define DIR_HEAD_BLOCK 4096u
#define DIR_HEAD_MAX_BYTES (8u * DIR_HEAD_BLOCK)
struct dir_head {
	char etag[48];
	int64_t size;
	int64_t mtime_ns;
	char key_hash[65]; /* multipart uploads: SHA-256 of the key; else "" */
	char *props[OBJ_PROP_MAX];
	struct obj_meta *meta;
	unsigned meta_count;
	uint32_t bytes; /* of the encoded head: the content starts here */
};
/* Bytes that dir_head_write will need, whatever etag, size and time turn out to be. */
uint32_t dir_head_bytes(const struct dir_head *h);
/* At offset 0; h->bytes must be set. 0 or -errno. */
int dir_head_write(int fd, const struct dir_head *h);
/* 0, -EBADMSG: damaged, -errno. The caller calls dir_head_fini in either case. */
int dir_head_read(int fd, struct dir_head *h);
void dir_head_fini(struct dir_head *h);
/* Copy properties and metadata. 0 or -ENOMEM. */
int dir_head_describe(struct dir_head *h, char *const props[OBJ_PROP_MAX],
		const struct obj_meta *meta, unsigned meta_count);

/* --- ops.c, list.c --- */
struct dir_job {
	struct obj_req *req;
	int root_fd;
};
void dir_run(struct dir_job *job);
void dir_run_list(struct dir_job *job);
/* Fill the result from an errno of the store's own file system. */
void dir_fail(struct dir_job *job, int err, const char *what);
/* true: the caller gave up, and the result says so. */
bool dir_cancelled(struct obj_req *req);
/* Descriptor of the object and its head (dir_head_fini), or -1 with the result set. */
int dir_object_open(struct dir_job *job, const char *key, struct dir_head *head);

/* --- multipart.c --- */
void dir_run_mpu_create(struct dir_job *job);
void dir_run_mpu_part(struct dir_job *job);
void dir_run_mpu_complete(struct dir_job *job);
void dir_run_mpu_abort(struct dir_job *job);

/* --- stage.c; what returns bool: false, and the result is set --- */
struct dir_stage { /* a file being written; fd -1: none */
	int fd;
	char path[64];
	struct dir_head head;
	EVP_MD_CTX *md5, *sha256; /* NULL: not computed */
};
/* New temporary file, positioned at the content; props NULL: none. Always followed by dir_stage_fini. */
bool dir_stage_init(struct dir_job *job, struct dir_stage *s, char *const props[OBJ_PROP_MAX],
		const struct obj_meta *meta, unsigned meta_count);
void dir_stage_fini(struct dir_job *job, struct dir_stage *s);
/* The request's body, with ETag, size and the result's SHA-256. */
bool dir_stage_body(struct dir_job *job, struct dir_stage *s);
/* `length` content bytes of another object's file. 0 or -errno. */
int dir_stage_append(struct dir_stage *s, int fd, int64_t from, int64_t length);
/* Rename to `path`, synced, without judging; the head must be written. */
bool dir_stage_publish(struct dir_job *job, struct dir_stage *s, const char *path);
/* Head, sync, lock, conditions, publish as the request's key; sets the result. */
void dir_stage_commit(struct dir_job *job, struct dir_stage *s);
/* Lock what decides about `key`; descriptor (close unlocks) or -1 with the result set. */
int dir_key_lock(struct dir_job *job, const char *key);
/* Under the lock: do the request's conditions on its own key hold? */
bool dir_condition_holds(struct dir_job *job);
/* Sync the directory that holds `path`. 0 or -errno. */
int dir_sync_parent(int root_fd, const char *path);
int64_t dir_wall_ns(void);

#endif
