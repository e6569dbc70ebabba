/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Multipart uploads: a directory multipart/<id> with "info" (what the object will be; its content is the key)
 * and an object file for each part, joined by Complete.
 *
 * Way:    ops.c -> here -> stage.c.
 * Thread: workers; blocks on the local disk.
 * Owns:   the upload's directory, from create to complete or abort.
 * Holds:  1. Nothing shows under the key before Complete's rename, which obeys conditions as any.
 *         2. Parts are what S3 wants: 5 MiB at least but the last, named by the ETags given.
 *         3. An upload is its key's: whoever names another key ends nothing. Of uploads that an earlier daemon
 *            began only the key's hash is known: they are in no list.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "dir.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static void no_upload(struct obj_req *req, const char *why)
{
	obj_fail(req, OBJ_INVALID, "%s", why);
	req->result.upload_gone = true;
}

static bool upload_path(struct dir_job *job, const char *name, char out[128])
{
	const char *id = job->req->upload_id;

	if (strlen(id) != 32 || strspn(id, "0123456789abcdef") != 32) {
		no_upload(job->req, "no such multipart upload");
		return false;
	}
	snprintf(out, 128, DIR_MULTIPART "/%s%s%s", id, name[0] == '\0' ? "" : "/", name);
	return true;
}

static int key_digest(const char *key, char hex[65])
{
	uint8_t md[EVP_MAX_MD_SIZE];

	if (EVP_Digest(key, strlen(key), md, NULL, EVP_sha256(), NULL) != 1) {
		return -ENOMEM;
	}
	obj_hex(md, 32, hex);
	return 0;
}

/* Head of multipart/<id>/info, checked against the key. false: result set, info empty. */
static bool upload_info(struct dir_job *job, struct dir_head *info)
{
	char path[128], hex[65];
	int fd, ret;

	memset(info, 0, sizeof(*info));
	if (!upload_path(job, "info", path)) {
		return false;
	}
	fd = openat(job->root_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		ret = errno;
		dir_fail(job, ret, "open the multipart upload");
		if (ret == ENOENT && job->req->result.status != OBJ_NO_BUCKET) {
			no_upload(job->req, "no such multipart upload");
		}
		return false;
	}
	ret = dir_head_read(fd, info);
	close(fd);
	if (ret == 0) {
		ret = key_digest(job->req->key, hex);
	}
	if (ret != 0) {
		dir_fail(job, -ret, "read the multipart upload");
	} else if (strcmp(hex, info->key_hash) != 0) {
		no_upload(job->req, "no such multipart upload for this key");
		ret = -EINVAL;
	}
	if (ret != 0) {
		dir_head_fini(info);
	}
	return ret == 0;
}

void dir_run_mpu_create(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct dir_stage s;
	char path[128];
	uint8_t random[16];
	char hex[33];
	int ret;

	if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
		dir_fail(job, EAGAIN, "random numbers");
		return;
	}
	obj_hex(random, sizeof(random), hex);
	if (!dir_stage_init(job, &s, req->props, req->meta, req->meta_count)) {
		dir_stage_fini(job, &s);
		return;
	}
	snprintf(path, sizeof(path), DIR_MULTIPART "/%s", hex);
	strcpy(s.head.etag, "none");
	s.head.size = (int64_t)strlen(req->key);
	s.head.mtime_ns = dir_wall_ns();
	ret = key_digest(req->key, s.head.key_hash);
	if (ret == 0) {
		ret = dir_head_write(s.fd, &s.head);
	}
	if (ret == 0 && pwrite(s.fd, req->key, (size_t)s.head.size, s.head.bytes) != s.head.size) {
		ret = -EIO;
	}
	if (ret == 0 && (fsync(s.fd) != 0 || faccessat(job->root_fd, DIR_OBJECTS, F_OK, 0) != 0 ||
					mkdirat(job->root_fd, path, 0700) != 0)) {
		ret = -errno;
	}
	if (ret != 0) {
		dir_fail(job, -ret, "begin a multipart upload");
	} else {
		strcat(path, "/info");
		if (dir_stage_publish(job, &s, path)) {
			req->result.upload_id = strdup(hex);
		}
	}
	dir_stage_fini(job, &s);
}

/* The bytes of the part, from the request or from another object. false: result set. */
static bool part_fill(struct dir_job *job, struct dir_stage *s)
{
	struct obj_req *req = job->req;
	struct dir_head head;
	int64_t length;
	bool ok = false;
	int fd, ret;

	if (req->op == OBJ_MPU_PART) {
		return dir_stage_body(job, s);
	}
	fd = dir_object_open(job, req->source_key, req->source_version_id, &head);
	if (fd < 0) {
		return false;
	}
	length = req->length < 0 ? head.size - req->offset : req->length;
	if (job->rules->copy && req->source_if_match != NULL && strcmp(req->source_if_match, head.etag) != 0) {
		obj_fail(req, OBJ_PRECONDITION, "the source is another one by now");
	} else if (length < 1 || req->offset > head.size - length) {
		obj_fail(req, OBJ_INVALID, "the range is not all in the source");
	} else if (!dir_archived(req, head.props[OBJ_PROP_storage_class])) {
		ret = dir_stage_append(s, fd, head.bytes + req->offset, length);
		ret = ret != 0 ? ret : dir_etag_of_bytes(fd, head.bytes + req->offset, length, s->head.etag);
		s->head.size = length;
		ok = ret == 0;
		if (!ok) {
			dir_fail(job, -ret, "copy");
		}
	}
	dir_head_fini(&head);
	close(fd);
	return ok;
}

void dir_run_mpu_part(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct dir_head info;
	struct dir_stage s;
	char path[128], name[16];
	int ret;

	snprintf(name, sizeof(name), "%05d", req->part_number);
	if (!upload_path(job, name, path) || !upload_info(job, &info)) {
		return;
	}
	dir_head_fini(&info);
	if (dir_stage_init(job, &s, NULL, NULL, 0) && part_fill(job, &s)) {
		s.head.mtime_ns = dir_wall_ns();
		ret = dir_head_write(s.fd, &s.head);
		if (ret == 0 && fsync(s.fd) != 0) {
			ret = -errno;
		}
		if (ret != 0) {
			dir_fail(job, -ret, "write");
		} else if (req->still_valid != NULL && !req->still_valid(req->still_valid_arg)) {
			obj_fail(req, OBJ_CANCELLED, "given up before the end");
		} else if (renameat(job->root_fd, s.path, job->root_fd, path) != 0) {
			ret = errno;
			dir_fail(job, ret, "put the part in place");
			if (ret == ENOENT && req->result.status != OBJ_NO_BUCKET) {
				no_upload(req, "the multipart upload was ended meanwhile");
			}
		} else {
			req->result.etag = strdup(s.head.etag);
			req->result.size = s.head.size;
		}
	}
	dir_stage_fini(job, &s);
}

/* Append part i to the stage and its MD5 to the digest of digests. false: result set. */
static bool append_part(struct dir_job *job, struct dir_stage *s, unsigned i, EVP_MD_CTX *all)
{
	struct obj_req *req = job->req;
	struct dir_head head;
	char path[128], name[16];
	uint8_t md5[16];
	int fd, ret;

	snprintf(name, sizeof(name), "%05d", req->parts[i].number);
	if (!upload_path(job, name, path)) {
		return false;
	}
	fd = openat(job->root_fd, path, O_RDONLY | O_CLOEXEC);
	ret = fd < 0 ? -errno : dir_head_read(fd, &head);
	if (fd < 0) {
		obj_fail(req, OBJ_INVALID, "part %d was never uploaded", req->parts[i].number);
		return false;
	}
	if (ret != 0) {
		dir_fail(job, -ret, "read a part");
	} else if (strcmp(head.etag, req->parts[i].etag) != 0) {
		ret = -EINVAL;
		obj_fail(req, OBJ_INVALID, "part %d is another one by now", req->parts[i].number);
	} else if (head.size < OBJ_PART_MIN_BYTES && i + 1 < req->part_count) {
		ret = -EINVAL;
		obj_fail(req, OBJ_INVALID, "part %d is smaller than 5 MiB", req->parts[i].number);
	} else {
		for (int b = 0; b < 16; b++) {
			unsigned v = 0;

			sscanf(head.etag + 2 * b, "%2x", &v);
			md5[b] = (uint8_t)v;
		}
		EVP_DigestUpdate(all, md5, sizeof(md5));
		ret = dir_stage_append(s, fd, head.bytes, head.size);
		if (ret != 0) {
			dir_fail(job, -ret, "join the parts");
		}
		s->head.size += head.size;
	}
	dir_head_fini(&head);
	close(fd);
	return ret == 0;
}

/* What says whose it is goes last. */
static void upload_remove(struct dir_job *job)
{
	char path[128];
	struct dirent *d;
	DIR *dir;
	int fd;

	if (!upload_path(job, "", path)) {
		return;
	}
	fd = openat(job->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (dir == NULL) {
		if (fd >= 0) {
			close(fd);
		}
		return;
	}
	while ((d = readdir(dir)) != NULL) {
		if (d->d_name[0] != '.' && strcmp(d->d_name, "info") != 0) {
			unlinkat(fd, d->d_name, 0);
		}
	}
	unlinkat(fd, "info", 0);
	closedir(dir);
	unlinkat(job->root_fd, path, AT_REMOVEDIR);
}

void dir_run_mpu_complete(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct dir_head info;
	struct dir_stage s;
	EVP_MD_CTX *all;
	uint8_t md5[EVP_MAX_MD_SIZE];
	bool ok;

	if (!upload_info(job, &info)) {
		return;
	}
	all = EVP_MD_CTX_new();
	ok = dir_stage_init(job, &s, info.props, info.meta, info.meta_count);
	if (ok && (all == NULL || EVP_DigestInit_ex(all, EVP_md5(), NULL) != 1)) {
		dir_fail(job, ENOMEM, "join the parts");
		ok = false;
	}
	for (unsigned i = 0; ok && i < req->part_count; i++) {
		ok = !dir_cancelled(req) && append_part(job, &s, i, all);
	}
	if (ok) {
		EVP_DigestFinal_ex(all, md5, NULL);
		obj_hex(md5, 16, s.head.etag);
		snprintf(s.head.etag + 32, sizeof(s.head.etag) - 32, "-%u", req->part_count);
		dir_stage_commit(job, &s);
	}
	if (req->result.status == OBJ_OK) {
		upload_remove(job);
	}
	EVP_MD_CTX_free(all);
	dir_stage_fini(job, &s);
	dir_head_fini(&info);
}

void dir_run_mpu_abort(struct dir_job *job)
{
	struct dir_head info;

	if (faccessat(job->root_fd, DIR_OBJECTS, F_OK, 0) != 0) {
		dir_fail(job, ENOENT, "abort a multipart upload");
	} else if (upload_info(job, &info)) {
		dir_head_fini(&info);
		upload_remove(job);
	} else if (job->req->result.status == OBJ_INVALID) {
		obj_result_clear(&job->req->result); /* no upload of this key: nothing to end */
	}
}

/* The key of an upload, malloc; NULL: it is not known, or (*ret) an error. */
static char *upload_key(int fd, const struct dir_head *info, int *ret)
{
	size_t len = info->size > 0 && info->size <= OBJ_KEY_MAX_BYTES ? (size_t)info->size : 0;
	char *key = len > 0 ? calloc(1, len + 1) : NULL;
	char hex[65];

	*ret = len > 0 && key == NULL ? -ENOMEM : 0;
	if (key != NULL && (pread(fd, key, len, info->bytes) != (ssize_t)len || strlen(key) != len ||
					key_digest(key, hex) != 0 || strcmp(hex, info->key_hash) != 0)) {
		free(key);
		key = NULL;
	}
	return key;
}

/* One directory of multipart/: its row, unless it goes, or is no upload of a key that was asked for. 0 or -errno. */
static int upload_row(struct dir_job *job, const char *id, unsigned *capacity)
{
	const char *prefix = job->req->key;
	struct dir_head info = { 0 };
	struct obj_entry *e;
	char path[128], *key = NULL;
	int fd, ret = 0;

	snprintf(path, sizeof(path), DIR_MULTIPART "/%.32s/info", id);
	fd = openat(job->root_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	}
	if (dir_head_read(fd, &info) == 0) {
		key = upload_key(fd, &info, &ret);
	}
	close(fd);
	if (key != NULL && strncmp(key, prefix, strlen(prefix)) == 0) {
		e = obj_result_entry_add(&job->req->result, capacity);
		ret = e == NULL || (e->version_id = strdup(id)) == NULL ? -ENOMEM : 0;
		if (e != NULL) {
			e->key = key;
			e->mtime_ns = info.mtime_ns;
			key = NULL;
		}
	}
	free(key);
	dir_head_fini(&info);
	return ret;
}

void dir_run_mpu_list(struct dir_job *job)
{
	int fd = openat(job->root_fd, DIR_MULTIPART, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	unsigned capacity = 0;
	int ret = 0;

	if (dir == NULL) {
		dir_fail(job, errno, "list multipart uploads");
		if (fd >= 0) {
			close(fd);
		}
		return;
	}
	while (ret == 0 && (errno = 0, d = readdir(dir)) != NULL) {
		if (d->d_name[0] != '.') {
			ret = upload_row(job, d->d_name, &capacity);
		}
	}
	if (ret == 0 && errno != 0) {
		ret = -errno;
	}
	if (ret != 0) {
		dir_fail(job, -ret, "list multipart uploads");
	}
	obj_result_entries_sort(&job->req->result);
	closedir(dir);
}
