/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the directory store does for each request, listing apart.
 *
 * Way:    dir.c -> dir_run on a worker; results go into the request.
 * Thread: workers; blocks on the local disk and on another process's commit to a key of the same
 *         lock file.
 * Owns:   the temporary file of the request in work.
 * Holds:  1. An object is never torn: it is written whole below tmp/, synced, and renamed over its
 *            name; its directory is synced before the answer.
 *         2. A condition is exact among processes: it is judged and the rename done under an
 *            flock that all commits to that key take.
 *         3. No store made at run time: without objects/ the answer is OBJ_NO_BUCKET (an
 *            unmounted disk must not look like a store that lost everything).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "dir.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "cached/base/stats.h"

#define IO_BYTES (1u << 20)
#define LOCK_FILES 256u
#define DEFAULT_TYPE "binary/octet-stream"

/* A file being written; fd -1: none. */
struct stage {
	int fd;
	char path[64];
	struct dir_head head;
	EVP_MD_CTX *md5, *sha256; /* NULL: not computed */
};

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
		obj_fail(req, OBJ_INVALID, "%s: the file of this object is damaged", what);
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

static bool cancelled(struct obj_req *req)
{
	if (!atomic_load(&req->cancelled)) {
		return false;
	}
	obj_fail(req, OBJ_CANCELLED, "cancelled");
	return true;
}

/* --- reading --- */

/* Descriptor of the object and its head, or -1 with the result set. */
static int object_open(struct dir_job *job, const char *key, struct dir_head *head)
{
	char path[DIR_PATH_MAX];
	struct stat st;
	int ret, fd;

	memset(head, 0, sizeof(*head));
	ret = dir_path_of_object(key, path);
	if (ret != 0) {
		dir_fail(job, -ret, "name");
		return -1;
	}
	fd = openat(job->root_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		ret = errno;
		if (ret == ENOTDIR) {
			ret = ENOENT;
		}
		dir_fail(job, ret, "open");
		if (job->req->result.status == OBJ_AWAY && ret == ENOENT) {
			obj_fail(job->req, OBJ_NOT_FOUND, "no such object");
		}
		return -1;
	}
	ret = dir_head_read(fd, head);
	if (ret == 0 && (fstat(fd, &st) != 0 || st.st_size != head->size + head->bytes)) {
		ret = -EBADMSG;
	}
	if (ret != 0) {
		dir_fail(job, -ret, "read head");
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

/* Move what the head says into the result. */
static void describe(struct obj_result *r, struct dir_head *head)
{
	r->etag = dup_or_null(head->etag);
	r->size = head->size;
	r->mtime_ns = head->mtime_ns;
	r->content_type = strdup(head->content_type == NULL ? DEFAULT_TYPE : head->content_type);
	r->storage_class = strdup("STANDARD");
	r->meta = head->meta;
	r->meta_count = head->meta_count;
	head->meta = NULL;
	head->meta_count = 0;
}

static void run_head(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct dir_head head;
	int fd = object_open(job, req->key, &head);

	if (fd < 0) {
		return;
	}
	describe(&req->result, &head);
	if (req->if_match != NULL && strcmp(req->if_match, req->result.etag) != 0) {
		obj_fail(req, OBJ_PRECONDITION, "the object is another one by now");
	}
	dir_head_fini(&head);
	close(fd);
}

/* Deliver `length` bytes of fd from `from`; 0, -errno of the store, or local_errno set and -1. */
static int deliver_bytes(struct obj_req *req, int fd, int64_t from, int64_t length)
{
	struct obj_result *r = &req->result;
	uint8_t *buf = NULL;
	int64_t done = 0;
	int ret = 0;

	if (req->sink_fd < 0) {
		r->body = malloc((size_t)length + 1);
		buf = r->body;
	} else {
		buf = malloc(IO_BYTES);
	}
	if (buf == NULL) {
		return -ENOMEM;
	}
	while (done < length && !cancelled(req)) {
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

static void run_get(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct dir_head head;
	int64_t length = req->length;
	int64_t size;
	int ret;
	int fd = object_open(job, req->key, &head);

	if (fd < 0) {
		return;
	}
	size = head.size;
	describe(&req->result, &head);
	req->result.size = 0;
	if (req->if_match != NULL && strcmp(req->if_match, req->result.etag) != 0) {
		obj_fail(req, OBJ_PRECONDITION, "the object is another one by now");
		goto out;
	}
	if ((req->offset > 0 || length > 0) && req->offset >= size) {
		obj_fail(req, OBJ_INVALID, "the range begins behind the object's end");
		goto out;
	}
	if (length < 0 || length > size - req->offset) {
		length = size - req->offset;
	}
	ret = deliver_bytes(req, fd, head.bytes + req->offset, length);
	if (ret < 0) {
		dir_fail(job, -ret, "read");
	}
out:
	dir_head_fini(&head);
	close(fd);
}

/* --- writing: stage, judge, commit --- */

static void stage_fini(struct dir_job *job, struct stage *s)
{
	if (s->fd >= 0) {
		close(s->fd);
		unlinkat(job->root_fd, s->path, 0); /* gone already after a commit */
		s->fd = -1;
	}
	EVP_MD_CTX_free(s->md5);
	EVP_MD_CTX_free(s->sha256);
	dir_head_fini(&s->head);
}

/* New temporary file, positioned at the content. false: result set. */
static bool stage_init(struct dir_job *job, struct stage *s, const char *type,
		const struct obj_meta *meta, unsigned meta_count)
{
	uint8_t random[16];
	char hex[33];

	memset(s, 0, sizeof(*s));
	s->fd = -1;
	if (dir_head_describe(&s->head, type, meta, meta_count) != 0 ||
			getrandom(random, sizeof(random), 0) != sizeof(random)) {
		dir_fail(job, ENOMEM, "write");
		return false;
	}
	s->head.bytes = dir_head_bytes(&s->head);
	obj_hex(random, sizeof(random), hex);
	snprintf(s->path, sizeof(s->path), DIR_TMP "/%s", hex);
	s->fd = openat(job->root_fd, s->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (s->fd < 0) {
		dir_fail(job, errno, "make a temporary file");
		return false;
	}
	if (lseek(s->fd, s->head.bytes, SEEK_SET) < 0) {
		dir_fail(job, errno, "write");
		return false;
	}
	return true;
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return n < 0 ? -errno : -EIO;
		}
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The request's body into the stage, with digests. false: result set. */
static bool stage_body(struct dir_job *job, struct stage *s)
{
	struct obj_req *req = job->req;
	uint8_t *buf = malloc(IO_BYTES);
	uint8_t md5[EVP_MAX_MD_SIZE];
	int64_t done = 0;
	bool ok = false;
	int ret;

	s->md5 = EVP_MD_CTX_new();
	s->sha256 = EVP_MD_CTX_new();
	if (buf == NULL || s->md5 == NULL || s->sha256 == NULL ||
			EVP_DigestInit_ex(s->md5, EVP_md5(), NULL) != 1 ||
			EVP_DigestInit_ex(s->sha256, EVP_sha256(), NULL) != 1) {
		dir_fail(job, ENOMEM, "write");
		goto out;
	}
	while (done < req->length) {
		size_t want = req->length - done > IO_BYTES ? IO_BYTES
							    : (size_t)(req->length - done);
		const uint8_t *from = buf;
		ssize_t n = (ssize_t)want;

		if (cancelled(req)) {
			goto out;
		}
		if (req->fd < 0) {
			from = req->body + done;
		} else {
			n = pread(req->fd, buf, want, req->offset + done);
			if (n < 0 && errno == EINTR) {
				continue;
			}
			if (n <= 0) {
				req->result.local_errno = n < 0 ? errno : ENODATA;
				obj_fail(req, OBJ_LOCAL, "reading what was to be sent: %s",
						n < 0 ? strerror(errno)
						      : "the file is shorter than it was");
				goto out;
			}
		}
		EVP_DigestUpdate(s->md5, from, (size_t)n);
		EVP_DigestUpdate(s->sha256, from, (size_t)n);
		ret = write_all(s->fd, from, (size_t)n);
		if (ret != 0) {
			dir_fail(job, -ret, "write");
			goto out;
		}
		done += n;
	}
	EVP_DigestFinal_ex(s->md5, md5, NULL);
	EVP_DigestFinal_ex(s->sha256, req->result.sha256, NULL);
	obj_hex(md5, 16, s->head.etag);
	s->head.size = done;
	stats_add(s3_bytes_out, done);
	ok = true;
out:
	free(buf);
	return ok;
}

/* Append `length` content bytes of another object's file. 0 or -errno. */
static int stage_append(struct stage *s, int fd, int64_t from, int64_t length)
{
	uint8_t *buf = NULL;
	loff_t pos = from;
	int ret = 0;

	while (length > 0) {
		ssize_t n = buf != NULL ? -1
					: copy_file_range(fd, &pos, s->fd, NULL,
						  length > (64 << 20) ? 64 << 20 : (size_t)length, 0);

		if (n <= 0) { /* not on this file system: by hand from here on */
			if (buf == NULL) {
				buf = malloc(IO_BYTES);
			}
			if (buf == NULL) {
				return -ENOMEM;
			}
			n = pread(fd, buf, length > IO_BYTES ? IO_BYTES : (size_t)length, pos);
			if (n <= 0) {
				ret = n < 0 ? -errno : -EBADMSG;
				break;
			}
			ret = write_all(s->fd, buf, (size_t)n);
			if (ret != 0) {
				break;
			}
			pos += n;
		}
		length -= n;
	}
	free(buf);
	return ret;
}

static int64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int sync_dir(int root_fd, const char *path)
{
	int fd = openat(root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0) {
		return -errno;
	}
	if (fsync(fd) != 0) {
		ret = -errno;
	}
	close(fd);
	return ret;
}

/* Sync the directory that holds `path`. */
static int sync_parent(int root_fd, const char *path)
{
	char parent[DIR_PATH_MAX];
	const char *slash = strrchr(path, '/');

	memcpy(parent, path, (size_t)(slash - path));
	parent[slash - path] = '\0';
	return sync_dir(root_fd, parent);
}

/* Make the directories above `path`, but never objects/ itself. 0 or -errno. */
static int make_parents(int root_fd, const char *path)
{
	char dir[DIR_PATH_MAX];
	char *slash;
	int ret;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strchr(dir, '/');
	if (slash == NULL || faccessat(root_fd, DIR_OBJECTS, F_OK, 0) != 0) {
		return -ENOENT;
	}
	while ((slash = strchr(slash + 1, '/')) != NULL) {
		*slash = '\0';
		if (mkdirat(root_fd, dir, 0700) == 0) {
			ret = sync_parent(root_fd, dir);
			/* a delete may have taken it away again: the rename will tell */
			if (ret != 0 && ret != -ENOENT) {
				return ret;
			}
		} else if (errno != EEXIST && errno != ENOENT) {
			return -errno;
		}
		*slash = '/';
	}
	return 0;
}

/* Lock what decides about `key`; descriptor (close unlocks) or -1 with the result set. */
static int key_lock(struct dir_job *job, const char *key)
{
	char path[32];
	uint32_t h = 2166136261u;
	int fd;

	for (const char *p = key; *p != '\0'; p++) {
		h = (h ^ (uint8_t)*p) * 16777619u;
	}
	snprintf(path, sizeof(path), DIR_LOCKS "/%02x", (h ^ (h >> 16)) % LOCK_FILES);
	fd = openat(job->root_fd, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		dir_fail(job, errno, "lock");
		return -1;
	}
	while (flock(fd, LOCK_EX) != 0) {
		if (errno != EINTR) {
			dir_fail(job, errno, "lock");
			close(fd);
			return -1;
		}
	}
	return fd;
}

/* Under the lock: do the request's conditions on its own key hold? false: result set. */
static bool condition_holds(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct dir_head now;
	char path[DIR_PATH_MAX];
	bool same;
	int fd;

	if (req->if_none_match) {
		if (dir_path_of_object(req->key, path) != 0) {
			dir_fail(job, ENAMETOOLONG, "name");
			return false;
		}
		if (faccessat(job->root_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) != 0) {
			if (errno == ENOENT) {
				return true;
			}
			dir_fail(job, errno, "look for the object");
			return false;
		}
		obj_fail(req, OBJ_PRECONDITION, "the object exists already");
		return false;
	}
	if (req->if_match == NULL) {
		return true;
	}
	fd = object_open(job, req->key, &now);
	if (fd < 0) {
		return false;
	}
	same = strcmp(now.etag, req->if_match) == 0;
	dir_head_fini(&now);
	close(fd);
	if (!same) {
		obj_fail(req, OBJ_PRECONDITION, "the object is another one by now");
	}
	return same;
}

/* Put the stage at `path`; head complete except for the time. false: result set. */
static bool stage_publish(struct dir_job *job, struct stage *s, const char *path)
{
	int ret = 0;

	for (int tries = 0; renameat(job->root_fd, s->path, job->root_fd, path) != 0; tries++) {
		ret = -errno;
		if (ret != -ENOENT || tries == 100) {
			break;
		}
		ret = make_parents(job->root_fd, path);
		if (ret != 0) {
			break;
		}
	}
	if (ret != 0) {
		dir_fail(job, -ret, "put the object in place");
		return false;
	}
	ret = sync_parent(job->root_fd, path);
	if (ret != 0 && ret != -ENOENT) {
		obj_fail(job->req, OBJ_UNKNOWN, "sync of the object's directory: %s", strerror(-ret));
		return false;
	}
	return true;
}

/* Sync the stage and make it the object, if the conditions hold. Sets the result. */
static void stage_commit(struct dir_job *job, struct stage *s)
{
	struct obj_req *req = job->req;
	char path[DIR_PATH_MAX];
	int lock, ret;

	s->head.mtime_ns = wall_ns();
	ret = dir_path_of_object(req->key, path);
	if (ret == 0) {
		ret = dir_head_write(s->fd, &s->head);
	}
	if (ret == 0 && fsync(s->fd) != 0) {
		ret = -errno;
	}
	if (ret != 0) {
		dir_fail(job, -ret, "write");
		return;
	}
	lock = key_lock(job, req->key);
	if (lock < 0) {
		return;
	}
	if (!cancelled(req) && condition_holds(job)) {
		if (req->still_valid != NULL && !req->still_valid(req->still_valid_arg)) {
			obj_fail(req, OBJ_CANCELLED, "given up before the end");
		} else if (stage_publish(job, s, path)) {
			req->result.etag = strdup(s->head.etag);
			req->result.size = s->head.size;
			req->result.mtime_ns = s->head.mtime_ns;
		}
	}
	close(lock);
}

static void run_put(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct stage s;

	if (stage_init(job, &s, req->content_type, req->meta, req->meta_count) &&
			stage_body(job, &s)) {
		stage_commit(job, &s);
	}
	stage_fini(job, &s);
}

static void run_copy(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct dir_head head;
	struct stage s;
	int ret, fd;

	if (req->source_version_id != NULL) {
		obj_fail(req, OBJ_INVALID, "this store keeps no versions");
		return;
	}
	fd = object_open(job, req->source_key, &head);
	if (fd < 0) {
		return;
	}
	if (req->source_if_match != NULL && strcmp(req->source_if_match, head.etag) != 0) {
		obj_fail(req, OBJ_PRECONDITION, "the source is another one by now");
		goto out;
	}
	if (stage_init(job, &s, req->replace_meta ? req->content_type : head.content_type,
			    req->replace_meta ? req->meta : head.meta,
			    req->replace_meta ? req->meta_count : head.meta_count)) {
		ret = stage_append(&s, fd, head.bytes, head.size);
		if (ret != 0) {
			dir_fail(job, -ret, "copy");
		} else {
			memcpy(s.head.etag, head.etag, sizeof(s.head.etag));
			s.head.size = head.size;
			stage_commit(job, &s);
		}
	}
	stage_fini(job, &s);
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
	lock = key_lock(job, req->key);
	if (lock < 0) {
		return;
	}
	if (cancelled(req) || !condition_holds(job)) {
		if (req->result.status == OBJ_NOT_FOUND) { /* as S3: what is gone is deleted */
			obj_result_clear(&req->result);
		}
		goto out;
	}
	if (req->still_valid != NULL && !req->still_valid(req->still_valid_arg)) {
		obj_fail(req, OBJ_CANCELLED, "given up before the end");
		goto out;
	}
	if (unlinkat(job->root_fd, path, 0) != 0) {
		ret = errno == ENOTDIR ? ENOENT : errno;
		dir_fail(job, ret, "delete");
		if (ret == ENOENT && req->result.status != OBJ_NO_BUCKET) {
			obj_result_clear(&req->result);
		}
		goto out;
	}
	ret = sync_parent(job->root_fd, path);
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

/* --- multipart: a directory multipart/<id> with "info" and one object file per part --- */

static bool upload_path(struct dir_job *job, const char *name, char out[128])
{
	const char *id = job->req->upload_id;

	if (strlen(id) != 32 || strspn(id, "0123456789abcdef") != 32) {
		obj_fail(job->req, OBJ_INVALID, "no such multipart upload");
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
			obj_fail(job->req, OBJ_INVALID, "no such multipart upload");
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
		obj_fail(job->req, OBJ_INVALID, "no such multipart upload for this key");
		ret = -EINVAL;
	}
	if (ret != 0) {
		dir_head_fini(info);
	}
	return ret == 0;
}

static void run_mpu_create(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct stage s;
	char path[128];
	uint8_t random[16];
	char hex[33];
	int ret;

	if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
		dir_fail(job, EAGAIN, "random numbers");
		return;
	}
	obj_hex(random, sizeof(random), hex);
	if (!stage_init(job, &s, req->content_type, req->meta, req->meta_count)) {
		stage_fini(job, &s);
		return;
	}
	snprintf(path, sizeof(path), DIR_MULTIPART "/%s", hex);
	strcpy(s.head.etag, "none");
	s.head.mtime_ns = wall_ns();
	ret = key_digest(req->key, s.head.key_hash);
	if (ret == 0) {
		ret = dir_head_write(s.fd, &s.head);
	}
	if (ret == 0 && (fsync(s.fd) != 0 || faccessat(job->root_fd, DIR_OBJECTS, F_OK, 0) != 0 ||
					mkdirat(job->root_fd, path, 0700) != 0)) {
		ret = -errno;
	}
	if (ret != 0) {
		dir_fail(job, -ret, "begin a multipart upload");
	} else {
		strcat(path, "/info");
		if (stage_publish(job, &s, path)) {
			req->result.upload_id = strdup(hex);
		}
	}
	stage_fini(job, &s);
}

static void run_mpu_part(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct dir_head info;
	struct stage s;
	char path[128], name[16];
	int ret;

	snprintf(name, sizeof(name), "%05d", req->part_number);
	if (!upload_path(job, name, path) || !upload_info(job, &info)) {
		return;
	}
	dir_head_fini(&info);
	if (stage_init(job, &s, NULL, NULL, 0) && stage_body(job, &s)) {
		s.head.mtime_ns = wall_ns();
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
				obj_fail(req, OBJ_INVALID, "the multipart upload was ended meanwhile");
			}
		} else {
			req->result.etag = strdup(s.head.etag);
			req->result.size = s.head.size;
		}
	}
	stage_fini(job, &s);
}

/* Append part i to the stage and its MD5 to the digest of digests. false: result set. */
static bool append_part(struct dir_job *job, struct stage *s, unsigned i, EVP_MD_CTX *all)
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
		ret = stage_append(s, fd, head.bytes, head.size);
		if (ret != 0) {
			dir_fail(job, -ret, "join the parts");
		}
		s->head.size += head.size;
	}
	dir_head_fini(&head);
	close(fd);
	return ret == 0;
}

static void upload_remove(struct dir_job *job)
{
	char path[128], name[16];

	for (int i = 1; i <= OBJ_PARTS_MAX && upload_path(job, "", path); i++) {
		if (unlinkat(job->root_fd, path, AT_REMOVEDIR) == 0 || errno == ENOENT) {
			return;
		}
		snprintf(name, sizeof(name), "%05d", i);
		if (i == 1 && upload_path(job, "info", path)) {
			unlinkat(job->root_fd, path, 0);
		}
		if (upload_path(job, name, path)) {
			unlinkat(job->root_fd, path, 0);
		}
	}
	if (upload_path(job, "", path)) {
		unlinkat(job->root_fd, path, AT_REMOVEDIR);
	}
}

static void run_mpu_complete(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct dir_head info;
	struct stage s;
	EVP_MD_CTX *all;
	uint8_t md5[EVP_MAX_MD_SIZE];
	bool ok;

	if (!upload_info(job, &info)) {
		return;
	}
	all = EVP_MD_CTX_new();
	ok = stage_init(job, &s, info.content_type, info.meta, info.meta_count);
	if (ok && (all == NULL || EVP_DigestInit_ex(all, EVP_md5(), NULL) != 1)) {
		dir_fail(job, ENOMEM, "join the parts");
		ok = false;
	}
	for (unsigned i = 0; ok && i < req->part_count; i++) {
		ok = !cancelled(req) && append_part(job, &s, i, all);
	}
	if (ok) {
		EVP_DigestFinal_ex(all, md5, NULL);
		obj_hex(md5, 16, s.head.etag);
		snprintf(s.head.etag + 32, sizeof(s.head.etag) - 32, "-%u", req->part_count);
		stage_commit(job, &s);
	}
	if (req->result.status == OBJ_OK) {
		upload_remove(job);
	}
	EVP_MD_CTX_free(all);
	stage_fini(job, &s);
	dir_head_fini(&info);
}

static void run_mpu_abort(struct dir_job *job)
{
	char path[128];

	if (faccessat(job->root_fd, DIR_OBJECTS, F_OK, 0) != 0) {
		dir_fail(job, ENOENT, "abort a multipart upload");
		return;
	}
	if (upload_path(job, "", path)) {
		upload_remove(job);
	} else {
		obj_result_clear(&job->req->result); /* no upload of ours: nothing to end */
	}
}

void dir_run(struct dir_job *job)
{
	if (cancelled(job->req)) {
		return;
	}
	obj_count(job->req->op);
	switch (job->req->op) {
	case OBJ_HEAD:
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
	case OBJ_LIST:
		dir_run_list(job);
		break;
	case OBJ_MPU_CREATE:
		run_mpu_create(job);
		break;
	case OBJ_MPU_PART:
		run_mpu_part(job);
		break;
	case OBJ_MPU_COMPLETE:
		run_mpu_complete(job);
		break;
	case OBJ_MPU_ABORT:
		run_mpu_abort(job);
		break;
	default:
		obj_fail(job->req, OBJ_INVALID, "unknown operation");
		break;
	}
}
