/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the directory store does for each request; listing and multipart have files of their own.
 *
 * Way:    dir.c -> dir_run on a worker; results go into the request.
 * Thread: workers; blocks on the local disk and on another process's commit to a key of the same
 *         lock file.
 * Holds:  1. No store is made at run time: without objects/ the answer is OBJ_NO_BUCKET (an
 *            unmounted disk must not look like a store that lost everything).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "dir.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cached/base/stats.h"

#define IO_BYTES (1u << 20)

/* --- failing --- */

void dir_fail(struct dir_job *job, int err, const char *what)
{
	struct obj_req *req = job->req;

	req->result.local_errno = err;
	if (err == ENOENT && faccessat(job->root_fd, DIR_OBJECTS, F_OK, 0) != 0) {
		obj_fail(req, OBJ_NO_BUCKET, "the store's directory has no \"" DIR_OBJECTS
				"\" any more: is its disk mounted?");
		return;
	}
	switch (err) {
	case EACCES:
	case EPERM:
	case EROFS:
		obj_fail(req, OBJ_DENIED, "%s: %s: the daemon needs to write below the store's "
				"directory", what, strerror(err));
		break;
	case EBADMSG:
		obj_fail(req, OBJ_DAMAGED, "%s: the file of this object is damaged", what);
		break;
	case ENAMETOOLONG:
		obj_fail(req, OBJ_INVALID, "%s: the key is too long for the store's file system",
				what);
		break;
	default:
		obj_fail(req, OBJ_AWAY, "%s: %s", what, strerror(err));
		break;
	}
}

bool dir_cancelled(struct obj_req *req)
{
	if (!atomic_load(&req->cancelled)) {
		return false;
	}
	obj_fail(req, OBJ_CANCELLED, "cancelled");
	return true;
}

/* --- reading --- */

int dir_object_open(struct dir_job *job, const char *key, const char *version, struct dir_head *head)
{
	char path[DIR_PATH_MAX];
	struct stat st;
	bool null;
	int ret, fd;

	memset(head, 0, sizeof(*head));
	ret = version == NULL ? dir_path_of_object(key, path) : dir_path_of_version(key, version, path);
	if (ret == -ENOENT) {
		obj_fail(job->req, OBJ_NOT_FOUND, "no such version");
		return -1;
	}
	if (ret != 0) {
		dir_fail(job, -ret, "name");
		return -1;
	}
	null = version != NULL && strcmp(version, "null") == 0;
	fd = openat(job->root_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && null && errno == ENOENT && dir_path_of_object(key, path) == 0) { /* not replaced yet */
		fd = openat(job->root_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	}
	if (fd < 0) {
		ret = errno;
		if (ret == ENOTDIR) {
			ret = ENOENT;
		}
		dir_fail(job, ret, "open");
		if (job->req->result.status == OBJ_AWAY && ret == ENOENT) {
			obj_fail(job->req, OBJ_NOT_FOUND, "no such %s", version == NULL ? "object" : "version");
		}
		return -1;
	}
	ret = dir_head_read(fd, head);
	if (ret == 0 && (fstat(fd, &st) != 0 || st.st_size != head->size + head->bytes)) {
		ret = -EBADMSG;
	}
	if (ret != 0) {
		dir_fail(job, -ret, "read head");
	} else if (null && head->version[0] != '\0') {
		obj_fail(job->req, OBJ_NOT_FOUND, "no such version");
		ret = -ENOENT;
	}
	if (ret != 0) {
		dir_head_fini(head);
		close(fd);
		return -1;
	}
	return fd;
}

static char *dup_or_null(const char *s)
{
	return s == NULL || s[0] == '\0' ? NULL : strdup(s);
}

/* Move what the head says into the result. As S3, it tells how many tags there are, not which. */
static void describe(struct dir_job *job, struct dir_head *head)
{
	struct obj_req *req = job->req;
	struct obj_result *r = &req->result;

	r->etag = dup_or_null(head->etag);
	r->version_id = dup_or_null(head->version[0] == '\0' && job->rules->versions ? "null" : head->version);
	r->size = head->size;
	r->mtime_ns = head->mtime_ns;
	memcpy(r->props, head->props, sizeof(r->props));
	memset(head->props, 0, sizeof(head->props));
	if (r->content_type == NULL) {
		r->content_type = strdup(OBJ_DEFAULT_TYPE);
	}
	for (const char *p = r->tags; p != NULL && *p != '\0'; p = strchr(p, '&')) {
		p += *p == '&';
		r->tag_count++;
	}
	if (req->op != OBJ_TAGS) {
		free(r->tags);
		r->tags = NULL;
	} else if (r->tags == NULL) {
		r->tags = strdup("");
	}
	r->meta = head->meta;
	r->meta_count = head->meta_count;
	head->meta = NULL;
	head->meta_count = 0;
}

static void run_head(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct dir_head head;
	int fd = dir_object_open(job, req->key, req->version_id, &head);

	if (fd < 0) {
		return;
	}
	describe(job, &head);
	if (req->wants_sum && head.sum[0] != '\0') {
		req->result.sum = strdup(head.sum);
		req->result.sum_kind = OBJ_SUM_CRC64NVME;
	}
	if (req->if_match != NULL && strcmp(req->if_match, req->result.etag) != 0) {
		obj_fail(req, OBJ_PRECONDITION, "the object is another one by now");
	}
	dir_head_fini(&head);
	close(fd);
}

/* Deliver `length` bytes of fd from `from`, whose checksum is `said` unless that is ""; 0, -errno of the store, or local_errno set and -1. */
static int deliver_bytes(struct obj_req *req, int fd, int64_t from, int64_t length, const char *said)
{
	struct obj_result *r = &req->result;
	uint8_t *buf = NULL;
	char text[OBJ_SUM_TEXT_BYTES];
	struct sum sum = {0};
	int64_t done = 0;
	int ret = 0;

	sum_begin(&sum, said[0] != '\0' ? OBJ_SUM_CRC64NVME : OBJ_SUM_NONE);
	if (req->sink_fd < 0) {
		r->body = malloc((size_t)length + 1);
		buf = r->body;
	} else {
		buf = malloc(IO_BYTES);
	}
	if (buf == NULL) {
		return -ENOMEM;
	}
	while (done < length && !dir_cancelled(req)) {
		size_t want = length - done > IO_BYTES ? IO_BYTES : (size_t)(length - done);
		uint8_t *to = req->sink_fd < 0 ? buf + done : buf;
		ssize_t n = pread(fd, to, want, from + done);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			ret = n < 0 ? -errno : -EBADMSG;
			break;
		}
		sum_add(&sum, to, (size_t)n);
		for (ssize_t put = 0; req->sink_fd >= 0 && put < n;) {
			ssize_t w = pwrite(req->sink_fd, buf + put, (size_t)(n - put),
					req->sink_offset + done + put);

			if (w < 0 && errno == EINTR) {
				continue;
			}
			if (w <= 0) {
				r->local_errno = w < 0 ? errno : EIO;
				obj_fail(req, OBJ_LOCAL, "writing what was read: %s",
						strerror(r->local_errno));
				goto out;
			}
			put += w;
		}
		done += n;
	}
	if (ret == 0 && done == length && said[0] != '\0') {
		sum_text(&sum, text);
		ret = strcmp(text, said) != 0 ? -EBADMSG : 0;
		r->held = ret == 0;
	}
	r->size = done;
	if (req->sink_fd < 0) {
		r->body_len = (size_t)done;
		r->body[done] = '\0';
	}
	stats_add(s3_bytes_in, done);
out:
	if (req->sink_fd >= 0) {
		free(buf);
	}
	return ret;
}

/* As in S3's archive classes: bytes are given out and copied once the class is another. */
bool dir_archived(struct obj_req *req, const char *class)
{
	if (class == NULL || (strcmp(class, "GLACIER") != 0 && strcmp(class, "DEEP_ARCHIVE") != 0)) {
		return false;
	}
	obj_fail(req, OBJ_ARCHIVED, "the object is archived and must be restored before it can be read");
	return true;
}

static void run_get(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct dir_head head;
	int64_t length = req->length;
	int64_t size;
	int ret;
	int fd = dir_object_open(job, req->key, req->version_id, &head);

	if (fd < 0) {
		return;
	}
	size = head.size;
	describe(job, &head);
	req->result.size = 0;
	if (req->if_match != NULL && strcmp(req->if_match, req->result.etag) != 0) {
		obj_fail(req, OBJ_PRECONDITION, "the object is another one by now");
		goto out;
	}
	if (dir_archived(req, req->result.storage_class)) {
		goto out;
	}
	if ((req->offset > 0 || length > 0) && req->offset >= size) {
		obj_fail(req, OBJ_INVALID, "the range begins behind the object's end");
		goto out;
	}
	if (length < 0 || length > size - req->offset) {
		length = size - req->offset;
	}
	ret = deliver_bytes(req, fd, head.bytes + req->offset, length, length == size ? head.sum : "");
	if (ret < 0) {
		dir_fail(job, -ret, "read");
	}
out:
	dir_head_fini(&head);
	close(fd);
}

/* --- writing --- */

static void run_put(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct dir_stage s;

	if (dir_stage_init(job, &s, req->props, req->meta, req->meta_count) &&
			dir_stage_body(job, &s)) {
		dir_stage_commit(job, &s);
	}
	dir_stage_fini(job, &s);
}

int dir_etag_of_bytes(int fd, int64_t from, int64_t length, char *etag)
{
	EVP_MD_CTX *md5 = EVP_MD_CTX_new();
	uint8_t *buf = malloc(IO_BYTES), md[EVP_MAX_MD_SIZE];
	int ret = -ENOMEM;

	if (md5 == NULL || buf == NULL || EVP_DigestInit_ex(md5, EVP_md5(), NULL) != 1) {
		goto out;
	}
	for (ret = 0; length > 0 && ret == 0;) {
		ssize_t n = pread(fd, buf, length > IO_BYTES ? IO_BYTES : (size_t)length, from);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			ret = n < 0 ? -errno : -EBADMSG;
			break;
		}
		EVP_DigestUpdate(md5, buf, (size_t)n);
		from += n;
		length -= n;
	}
	EVP_DigestFinal_ex(md5, md, NULL);
	obj_hex(md, 16, etag);
out:
	free(buf);
	EVP_MD_CTX_free(md5);
	return ret;
}

/* What of the source's properties the copy has: as S3, not its class and encryption. */
static bool copy_props(struct obj_req *req, struct dir_head *head)
{
	for (unsigned i = 0; i < OBJ_PROP_MAX; i++) {
		bool own = i >= OBJ_PROP_storage_class ? i != OBJ_PROP_tags : req->replace_meta;

		if (own) {
			free(head->props[i]);
			head->props[i] = NULL;
		}
	}
	return obj_props_copy(head->props, req->props) == 0;
}

static void run_copy(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct dir_head head;
	struct dir_stage s;
	int ret, fd;

	fd = dir_object_open(job, req->source_key, req->source_version_id, &head);
	if (fd < 0) {
		return;
	}
	if (job->rules->copy && req->source_if_match != NULL &&
			strcmp(req->source_if_match, head.etag) != 0) {
		obj_fail(req, OBJ_PRECONDITION, "the source is another one by now");
		goto out;
	}
	if (dir_archived(req, head.props[OBJ_PROP_storage_class])) {
		goto out;
	}
	if (!copy_props(req, &head)) {
		dir_fail(job, ENOMEM, "copy");
		goto out;
	}
	if (dir_stage_init(job, &s, head.props,
			    req->replace_meta ? req->meta : head.meta,
			    req->replace_meta ? req->meta_count : head.meta_count)) {
		ret = dir_stage_append(&s, fd, head.bytes, head.size);
		memcpy(s.head.sum, head.sum, sizeof(s.head.sum));
		memcpy(s.head.etag, head.etag, sizeof(s.head.etag));
		if (ret == 0 && strchr(head.etag, '-') != NULL) {
			/* As on AWS: the copy has no parts, and another ETag than its source. */
			ret = dir_etag_of_bytes(fd, head.bytes, head.size, s.head.etag);
		}
		if (ret != 0) {
			dir_fail(job, -ret, "copy");
		} else {
			s.head.size = head.size;
			dir_stage_commit(job, &s);
		}
	}
	dir_stage_fini(job, &s);
out:
	dir_head_fini(&head);
	close(fd);
}

static void run_delete(struct dir_job *job)
{
	struct obj_req *req = job->req;
	char path[DIR_PATH_MAX];
	char *slash;
	int lock, ret;

	ret = dir_path_of_object(req->key, path);
	if (ret != 0) {
		dir_fail(job, -ret, "name");
		return;
	}
	lock = dir_key_lock(job, req->key);
	if (lock < 0) {
		return;
	}
	if (dir_cancelled(req) || !dir_condition_holds(job)) {
		if (req->result.status == OBJ_NOT_FOUND) { /* as S3: what is gone is deleted */
			obj_result_clear(&req->result);
		}
		goto out;
	}
	if (req->still_valid != NULL && !req->still_valid(req->still_valid_arg)) {
		obj_fail(req, OBJ_CANCELLED, "given up before the end");
		goto out;
	}
	if (job->rules->versions && !dir_version_mark(job)) {
		goto out;
	}
	if (unlinkat(job->root_fd, path, 0) != 0) {
		ret = errno == ENOTDIR ? ENOENT : errno;
		if (ret != ENOENT || faccessat(job->root_fd, DIR_OBJECTS, F_OK, 0) != 0) {
			dir_fail(job, ret, "delete");
		}
		goto out;
	}
	ret = dir_sync_parent(job->root_fd, path);
	if (ret != 0 && ret != -ENOENT) {
		obj_fail(req, OBJ_UNKNOWN, "sync of the object's directory: %s", strerror(-ret));
	}
	/* Directories that this left empty go too; a writer that needs one makes it again. */
	while ((slash = strrchr(path, '/')) != NULL && strchr(path, '/') != slash) {
		*slash = '\0';
		if (unlinkat(job->root_fd, path, AT_REMOVEDIR) != 0) {
			break;
		}
	}
out:
	close(lock);
}

static void run_versioning(struct dir_job *job)
{
	if (faccessat(job->root_fd, DIR_OBJECTS, F_OK, 0) != 0) {
		dir_fail(job, errno, "look for the store");
		return;
	}
	job->req->result.versioned = job->rules->versions;
}

void dir_run(struct dir_job *job)
{
	if (dir_cancelled(job->req)) {
		return;
	}
	obj_count(job->req->op);
	switch (job->req->op) {
	case OBJ_HEAD:
	case OBJ_TAGS:
		run_head(job);
		break;
	case OBJ_GET:
		run_get(job);
		break;
	case OBJ_PUT:
		run_put(job);
		break;
	case OBJ_COPY:
		run_copy(job);
		break;
	case OBJ_DELETE:
		run_delete(job);
		break;
	case OBJ_SET_TAGS:
		obj_fail(job->req, OBJ_INVALID, "tags come with the object in this store");
		break;
	case OBJ_LIST:
		dir_run_list(job);
		break;
	case OBJ_VERSIONS:
		dir_run_versions(job);
		break;
	case OBJ_UPLOADS:
		dir_run_mpu_list(job);
		break;
	case OBJ_VERSIONING:
		run_versioning(job);
		break;
	case OBJ_MPU_CREATE:
		dir_run_mpu_create(job);
		break;
	case OBJ_MPU_PART:
	case OBJ_MPU_COPY:
		dir_run_mpu_part(job);
		break;
	case OBJ_MPU_COMPLETE:
		dir_run_mpu_complete(job);
		break;
	case OBJ_MPU_ABORT:
		dir_run_mpu_abort(job);
		break;
	default:
		obj_fail(job->req, OBJ_INVALID, "unknown operation");
		break;
	}
}
