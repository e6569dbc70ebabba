/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writing an object: staged below tmp/, judged under the key's lock, renamed into place.
 *
 *   [dir_stage_init] -> bytes: [dir_stage_body] [dir_stage_append] -> [dir_stage_commit]
 *        lock -> conditions, still_valid -> rename -> sync the directory -> unlock
 *   -> [dir_stage_fini], in every case
 *
 * Way:    ops.c and multipart.c.
 * Thread: workers; blocks on the local disk and on other holders of the lock.
 * Owns:   the temporary file, until it is renamed or removed.
 * Holds:  1. An object is never torn: it is written whole, synced, and renamed over its name; its
 *            directory is synced before the answer.
 *         2. A condition is exact among processes: it is judged and the rename done under an
 *            flock that all commits to that key take.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "dir.h"
#include <errno.h>
#include <fcntl.h>
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

void dir_stage_fini(struct dir_job *job, struct dir_stage *s)
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
bool dir_stage_init(struct dir_job *job, struct dir_stage *s, char *const props[OBJ_PROP_MAX],
		const struct obj_meta *meta, unsigned meta_count)
{
	uint8_t random[16];
	char hex[33];

	memset(s, 0, sizeof(*s));
	s->fd = -1;
	if (dir_head_describe(&s->head, props, meta, meta_count) != 0 ||
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
bool dir_stage_body(struct dir_job *job, struct dir_stage *s)
{
	struct obj_req *req = job->req;
	uint8_t *buf = malloc(IO_BYTES);
	uint8_t md5[EVP_MAX_MD_SIZE];
	char text[OBJ_SUM_TEXT_BYTES];
	struct sum sum = {0};
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
	sum_begin(&sum, OBJ_SUM_CRC64NVME);
	while (done < req->length) {
		size_t want = req->length - done > IO_BYTES ? IO_BYTES
							    : (size_t)(req->length - done);
		const uint8_t *from = buf;
		ssize_t n = (ssize_t)want;

		if (dir_cancelled(req)) {
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
		sum_add(&sum, from, (size_t)n);
		ret = write_all(s->fd, from, (size_t)n);
		if (ret != 0) {
			dir_fail(job, -ret, "write");
			goto out;
		}
		done += n;
	}
	EVP_DigestFinal_ex(s->md5, md5, NULL);
	EVP_DigestFinal_ex(s->sha256, req->result.sha256, NULL);
	sum_text(&sum, text);
	memcpy(s->head.sum, text, sizeof(s->head.sum) - 1); /* shorter than that */
	obj_hex(md5, 16, s->head.etag);
	s->head.size = done;
	stats_add(s3_bytes_out, done);
	ok = true;
out:
	free(buf);
	return ok;
}

/* Append `length` content bytes of another object's file. 0 or -errno. */
int dir_stage_append(struct dir_stage *s, int fd, int64_t from, int64_t length)
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

int64_t dir_wall_ns(void)
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
int dir_sync_parent(int root_fd, const char *path)
{
	char parent[DIR_PATH_MAX];
	const char *slash = strrchr(path, '/');

	memcpy(parent, path, (size_t)(slash - path));
	parent[slash - path] = '\0';
	return sync_dir(root_fd, parent);
}

int dir_parents_make(int root_fd, const char *path)
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
			ret = dir_sync_parent(root_fd, dir);
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
int dir_key_lock(struct dir_job *job, const char *key)
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

/* As some S3 stores do, one may take no notice of a condition. */
static bool honours_conditions(const struct dir_job *job)
{
	switch (job->req->op) {
	case OBJ_PUT:
		return job->rules->put;
	case OBJ_MPU_COMPLETE:
		return job->rules->complete;
	case OBJ_COPY:
		return job->rules->copy;
	case OBJ_DELETE:
		return job->rules->delete;
	default:
		return true;
	}
}

/* Under the lock: do the request's conditions on its own key hold? false: result set. */
bool dir_condition_holds(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct dir_head now;
	char path[DIR_PATH_MAX];
	bool same;
	int fd;

	if (!honours_conditions(job)) {
		return true;
	}
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
	fd = dir_object_open(job, req->key, NULL, &now);
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
bool dir_stage_publish(struct dir_job *job, struct dir_stage *s, const char *path)
{
	int ret = 0;

	for (int tries = 0; renameat(job->root_fd, s->path, job->root_fd, path) != 0; tries++) {
		ret = -errno;
		if (ret != -ENOENT || tries == 100) {
			break;
		}
		ret = dir_parents_make(job->root_fd, path);
		if (ret != 0) {
			break;
		}
	}
	if (ret != 0) {
		dir_fail(job, -ret, "put the object in place");
		return false;
	}
	ret = dir_sync_parent(job->root_fd, path);
	if (ret != 0 && ret != -ENOENT) {
		obj_fail(job->req, OBJ_UNKNOWN, "sync of the object's directory: %s", strerror(-ret));
		return false;
	}
	return true;
}

int dir_stage_seal(struct dir_stage *s)
{
	int ret = dir_head_write(s->fd, &s->head);

	if (ret == 0 && fsync(s->fd) != 0) {
		ret = -errno;
	}
	return ret;
}

/* Sync the stage and make it the object, if the conditions hold. Sets the result. */
void dir_stage_commit(struct dir_job *job, struct dir_stage *s)
{
	struct obj_req *req = job->req;
	char path[DIR_PATH_MAX];
	int lock, ret;

	s->head.mtime_ns = dir_wall_ns();
	ret = dir_path_of_object(req->key, path);
	if (ret == 0 && !job->rules->versions) {
		ret = dir_stage_seal(s);
	}
	if (ret != 0) {
		dir_fail(job, -ret, "write");
		return;
	}
	lock = dir_key_lock(job, req->key);
	if (lock < 0) {
		return;
	}
	if (!dir_cancelled(req) && dir_condition_holds(job)) {
		if (req->still_valid != NULL && !req->still_valid(req->still_valid_arg)) {
			obj_fail(req, OBJ_CANCELLED, "given up before the end");
		} else if ((!job->rules->versions || dir_version_add(job, s)) &&
				dir_stage_publish(job, s, path)) {
			req->result.etag = strdup(s->head.etag);
			req->result.version_id = job->rules->versions ? strdup(s->head.version) : NULL;
			req->result.size = s->head.size;
			req->result.mtime_ns = s->head.mtime_ns;
		}
	}
	close(lock);
}
