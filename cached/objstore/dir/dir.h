/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside of the directory store; see dir.c for the picture. Worker threads only. */
#ifndef OFS_OBJSTORE_DIR_H
#define OFS_OBJSTORE_DIR_H

#include <openssl/evp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "../impl.h"

#define DIR_OBJECTS "objects"
#define DIR_TMP "tmp"
#define DIR_LOCKS "locks"
#define DIR_MULTIPART "multipart"
#define DIR_VERSIONS "versions"
#define DIR_RULES "store"
#define DIR_SUFFIX_OBJECT "%o"
#define DIR_SUFFIX_CHUNK "%+"
/* Longest relative path made from a key: every byte escaped, all suffixes, room below the root. */
#define DIR_PATH_MAX 3400u
#define DIR_VERSION_BYTES 17u /* 16 hexadecimal digits and NUL */

/* --- names.c: keys <-> paths --- */
/* Relative to the root, below objects/. 0 or -ENAMETOOLONG. */
int dir_path_of_object(const char *key, char out[DIR_PATH_MAX]);
/* Of the directory that holds what begins with `prefix` up to its last '/'. */
int dir_path_of_prefix(const char *prefix, char out[DIR_PATH_MAX]);
/* Of the directory with the versions of a key. */
int dir_path_of_versions(const char *key, char out[DIR_PATH_MAX]);
/* Undo the escape of `len` bytes; out holds len + 1. 0; -EINVAL: not one of our names. */
int dir_name_decode(const char *name, size_t len, char *out);

/* --- head.c: what stands before the bytes of an object --- */
#define DIR_HEAD_BLOCK 4096u
#define DIR_HEAD_MAX_BYTES (8u * DIR_HEAD_BLOCK)
struct dir_head {
	char etag[48];
	int64_t size;
	int64_t mtime_ns;
	char version[DIR_VERSION_BYTES]; /* "": from a time without versions */
	char sum[16];      /* CRC64NVME of the content; "": not known */
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

/* --- rules.c: what this store honours --- */
struct dir_rules {
	bool put, complete, copy, delete; /* conditions on these */
	bool versions;
};
/* Of the store at root_fd; all conditions and no versions if it does not say. 0 or -errno; -EINVAL: it
 * says what this daemon does not understand. */
int dir_rules_read(int root_fd, struct dir_rules *rules);

/* --- children.c: the names in one directory --- */
struct dir_child {
	char *name; /* component, unescaped, '/' behind it if a directory */
	char *path; /* relative to the root */
	bool is_dir;
};
struct dir_children { /* malloc; a portion, in the order of keys */
	struct dir_child *list;
	size_t count, at; /* at: the next of the listing */
	bool whole;       /* nothing is behind the last */
	/* children.c */
	char *path, *prefix, *after;
	uint64_t ino;
	int64_t changed_ns;
	bool settled; /* may be kept */
};
struct dir_range { /* which keys a page is about; whole keys, or NULL */
	const char *prefix;
	size_t prefix_len;
	const char *token; /* behind this row, in it if that is a directory */
	const char *after; /* behind this, and all that is in it */
	unsigned page;     /* rows */
};
#define DIR_KEPT 2u
struct dir_kept { /* portions that the next pages may need */
	pthread_mutex_t lock;
	struct dir_children *slot[DIR_KEPT]; /* shared, `lock` */
};
void dir_kept_fini(struct dir_kept *kept);
void dir_children_free(struct dir_children **pc);
/* 'o': an object; '+': what begins names with a rest; 'd': a directory. *len: without the suffix. */
int dir_entry_kind(const char *name, size_t *len);

/* --- ops.c, list.c --- */
struct dir_job {
	struct obj_req *req;
	const struct dir_rules *rules;
	struct dir_kept *kept;
	int root_fd;
};
/* The next portion of the range in the directory `path`, whose keys begin with key_base. 0 or -errno. */
int dir_children_take(struct dir_job *job, const char *path, const char *key_base,
		const struct dir_range *range, struct dir_children **out);
/* No more of it is needed now. */
void dir_children_give(struct dir_job *job, struct dir_children **pc);
void dir_run(struct dir_job *job);
void dir_run_list(struct dir_job *job);
/* Fill the result from an errno of the store's own file system. */
void dir_fail(struct dir_job *job, int err, const char *what);
/* true: the caller gave up, and the result says so. */
bool dir_cancelled(struct obj_req *req);
/* true: it would have to be restored first, and the result says so. */
bool dir_archived(struct obj_req *req, const char *class);
/* The MD5 of content bytes as an ETag. 0 or -errno. */
int dir_etag_of_bytes(int fd, int64_t from, int64_t length, char *etag);
/* Descriptor of the object (of the version, unless NULL) and its head (dir_head_fini), or -1 with the result
 * set. */
int dir_object_open(struct dir_job *job, const char *key, const char *version, struct dir_head *head);

/* --- multipart.c --- */
void dir_run_mpu_create(struct dir_job *job);
/* Of the request's bytes, or a copy. */
void dir_run_mpu_part(struct dir_job *job);
void dir_run_mpu_complete(struct dir_job *job);
void dir_run_mpu_abort(struct dir_job *job);
void dir_run_mpu_list(struct dir_job *job);

struct dir_stage;
/* --- versions.c; under the key's lock; false: the result is set --- */
/* The stage becomes the key's newest version; head and bytes are synced. */
bool dir_version_add(struct dir_job *job, struct dir_stage *s);
/* A delete's marker becomes the key's newest version; the result tells its id. */
bool dir_version_mark(struct dir_job *job);
/* Takes the lock itself. */
void dir_run_versions(struct dir_job *job);
/* Path of a version, relative to the root. 0 or -errno; -ENOENT: no such id can be. */
int dir_path_of_version(const char *key, const char *id, char out[DIR_PATH_MAX]);

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
/* Head and bytes are on the disk. 0 or -errno. */
int dir_stage_seal(struct dir_stage *s);
/* Make the directories above `path`, but never the first. 0 or -errno; -ENOENT: the store is gone. */
int dir_parents_make(int root_fd, const char *path);
/* Sync the directory that holds `path`. 0 or -errno. */
int dir_sync_parent(int root_fd, const char *path);
int64_t dir_wall_ns(void);

#endif
