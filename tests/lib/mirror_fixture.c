/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See mirror_fixture.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/mirror/mirror_private.h"
#include "cached/objstore/impl.h"
#include "mirror_fixture.h"
#include "scratch.h"

#define FIXTURE_WAIT_S 20

char fixture_message[512];

/* ---- the door ---- */

struct door {
	struct objstore base;
	struct fixture *fx;
};

struct edited { /* an answer that is not what the store says */
	struct fixture *fx;
	void (*done)(struct obj_req *req);
	void *arg;
};

/* A LIST that lacks what contains fault_key. */
static void edit_stale(struct fixture *fx, struct obj_req *req)
{
	struct obj_entry *e = req->result.entries;
	unsigned kept = 0;

	for (unsigned i = 0; i < req->result.entry_count; i++) {
		if (strstr(e[i].key, fx->fault_key) == NULL) {
			struct obj_entry moved = e[i];

			e[i] = e[kept];
			e[kept++] = moved;
		} else {
			free(e[i].key);
			e[i].key = NULL;
		}
	}
}

static void edited_done(struct obj_req *req)
{
	struct edited *s = req->arg;

	if (s->fx->fault == FAULT_STALE) {
		edit_stale(s->fx, req);
	} else if (s->fx->fault == FAULT_EDIT) {
		s->fx->fault_edit(req);
	}
	req->done = s->done;
	req->arg = s->arg;
	free(s);
	req->done(req);
}

static void door_submit(struct objstore *s, struct obj_req *req)
{
	struct fixture *fx = ((struct door *)s)->fx;

	fx->sent[req->op]++;
	if (req->op == OBJ_GET && strstr(req->key, ".objectfs/") == NULL) {
		fx->asked_bytes += req->length;
	}
	if (fx->fault != FAULT_NONE && fx->fault_op == req->op &&
			(strstr(req->key, fx->fault_key) != NULL) != (fx->fault == FAULT_STALE)) {
		if (fx->fault == FAULT_HANG) {
			req->next = fx->hanging;
			fx->hanging = req;
			return;
		}
		if (fx->fault == FAULT_STALE || fx->fault == FAULT_EDIT) {
			struct edited *s = calloc(1, sizeof(*s));

			assert_non_null(s);
			*s = (struct edited){fx, req->done, req->arg};
			req->done = edited_done;
			req->arg = s;
			fx->inner->ops->submit(fx->inner, req);
			return;
		}
		obj_fail(req, fx->fault_status, "made to fail");
		obj_deliver(fx->mb, req);
		return;
	}
	fx->inner->ops->submit(fx->inner, req);
}

static const struct objstore_ops door_ops = {.name = "door", .submit = door_submit};

void fixture_fault(struct fixture *fx, enum obj_op op, const char *key_part,
		enum fixture_fault fault, enum obj_status status)
{
	fx->fault = fault;
	fx->fault_op = op;
	fx->fault_status = status;
	snprintf(fx->fault_key, sizeof(fx->fault_key), "%s", key_part);
}

void fixture_release(struct fixture *fx)
{
	struct obj_req *req = fx->hanging;

	fx->fault = FAULT_NONE;
	fx->hanging = NULL;
	while (req != NULL) {
		struct obj_req *next = req->next;

		req->next = NULL;
		fx->inner->ops->submit(fx->inner, req);
		req = next;
	}
}

/* ---- the volume ---- */

static int fixture_dir(struct fixture *fx, const char *name, mode_t mode)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", fx->root, name);
	assert_true(mkdir(path, mode) == 0 || errno == EEXIST);
	assert_int_equal(chmod(path, mode), 0);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void fixture_index_open(struct fixture *fx)
{
	char path[256], *error = NULL;
	bool fresh;

	snprintf(path, sizeof(path), "%s/index.db", fx->root);
	fx->v->index = index_open(fx->ctx, fx->v->disk, fx->v->clock, path, &fresh, &error);
	assert_non_null(fx->v->index);
}

void fixture_index_again(struct fixture *fx, bool lost)
{
	static const char *const tails[] = {"", "-wal", "-shm"};
	char path[256];
	unsigned i;

	index_close(&fx->v->index);
	for (i = 0; lost && i < 3; i++) {
		snprintf(path, sizeof(path), "%s/index.db%s", fx->root, tails[i]);
		unlink(path);
	}
	fixture_index_open(fx);
}

/* ---- a clock that the test puts forward ---- */

static struct fixture *ahead(struct clock *c)
{
	return (struct fixture *)((char *)c - offsetof(struct fixture, clock));
}

static int64_t ahead_now(struct clock *c)
{
	return clock_now_ns(ahead(c)->real_clock) + ahead(c)->ahead_ns;
}

static int64_t ahead_wall(struct clock *c)
{
	return clock_wall_ns(ahead(c)->real_clock) + ahead(c)->ahead_ns + ahead(c)->wall_ahead_ns;
}

static struct clock_timer *ahead_timer(struct clock *c, TALLOC_CTX *ctx, int64_t at_ns,
		void (*fn)(void *arg), void *arg)
{
	return clock_timer_add(ahead(c)->real_clock, ctx, at_ns - ahead(c)->ahead_ns, fn, arg);
}

static void ahead_random(struct clock *c, void *buf, size_t len)
{
	clock_random(ahead(c)->real_clock, buf, len);
}

void fixture_store_ahead(struct fixture *fx, int64_t seconds)
{
	atomic_store(&fx->v->store->since_boot_ns, clock_wall_ns(fx->real_clock) - clock_now_ns(fx->real_clock) +
			seconds * NS_PER_S);
}

static const struct clock_ops ahead_ops = {ahead_now, ahead_wall, ahead_timer, ahead_random};

static void fixture_volume(struct fixture *fx)
{
	struct volume *v = fx->v;
	struct ofs_record rec = {.flags = OFS_REC_DIR | OFS_REC_KNOWN};
	struct door *door;
	char text[256], hex[OFS_OID_HEX_BYTES], *error = NULL;
	int fd;

	fx->conf.name = "test";
	fx->conf.listing_age_ns = 900 * NS_PER_S;
	fx->conf.parallel_fetches = 8;
	v->name = "test";
	v->conf = &fx->conf;
	fx->real_clock = clock_real_new(fx->ctx, fx->ev);
	fx->clock.ops = &ahead_ops;
	v->clock = &fx->clock;
	v->disk = disk_real_new(fx->ctx, fx->mb, 4);
	v->prefix = "share/";
	v->path = fx->root;
	snprintf(text, sizeof(text), "%s/store", fx->root);
	fx->inner = objstore_dir_new(fx->ctx, fx->mb, text, 4, &error);
	assert_non_null(fx->inner);
	door = talloc_zero(fx->ctx, struct door);
	door->base.ops = &door_ops;
	door->base.caps.delete_if_match = true;
	door->base.where = "test";
	door->fx = fx;
	v->store = &door->base;
	snprintf(v->rio.xattr, sizeof(v->rio.xattr), "%s", OFS_RECORD_XATTR_USER);
	memcpy(v->rio.cache_id, "0123456789abcdef", 16);
	v->path_fd = open(fx->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	v->tree_fd = fixture_dir(fx, "tree", 0777);
	v->trash_fd = fixture_dir(fx, "trash", 0700);
	v->limbo_fd = fixture_dir(fx, "limbo", 0700);
	fd = memfd_create("shm", MFD_CLOEXEC);
	v->shm = ofs_shm_map(fd, true);
	assert_non_null(v->shm);
	close(fd);
	rec.oid = OFS_OID_ROOT;
	assert_int_equal(ofs_record_set(&v->rio, v->tree_fd, &rec), 0);
	ofs_oid_new(&v->uuid);
	ofs_oid_hex(&v->uuid, hex);
	fixture_index_open(fx);
	v->state = VOLUME_READY;
	v->mirror = mirror_new(fx->ctx, v);
	v->recalls = recalls_new(fx->ctx, v);
	assert_true(v->mirror != NULL && v->recalls != NULL);
	v->mirror->list_turn = 2; /* what takes many turns must do so with few names, too */
	snprintf(text, sizeof(text),
			"{\"format\":\"objectfs volume\",\"uuid\":\"%s\",\"write_version\":1,"
			"\"read_version\":1,\"features\":[],\"created\":\"2026-01-01T00:00:00Z\","
			"\"machine_sid\":\"\"}", hex);
	talloc_free(fixture_put(fx, ".objectfs/volume", text, strlen(text), NULL));
}

struct fixture *fixture_new(void)
{
	struct fixture *fx = calloc(1, sizeof(*fx));

	assert_non_null(fx);
	signal(SIGIO, SIG_IGN); /* leases of ours that break */
	umask(0);
	talloc_disable_null_tracking();
	log_open(NULL, getenv("FIXTURE_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	scratch_make(fx->root, sizeof(fx->root), "mirror");
	fx->ctx = talloc_new(NULL);
	fx->ev = tevent_context_init(fx->ctx);
	fx->mb = mailbox_new(fx->ctx, fx->ev);
	fx->v = talloc_zero(fx->ctx, struct volume);
	assert_true(fx->ev != NULL && fx->mb != NULL && fx->v != NULL);
	fixture_volume(fx);
	return fx;
}

void fixture_free(struct fixture **fxp)
{
	struct fixture *fx = *fxp;
	struct volume *v = fx->v;

	fixture_release(fx);
	fixture_idle(fx, 20);
	talloc_free(v->recalls);
	talloc_free(v->mirror);
	index_close(&v->index);
	talloc_free(fx->inner);
	talloc_free(v->disk);
	close(v->path_fd);
	close(v->tree_fd);
	close(v->trash_fd);
	close(v->limbo_fd);
	ofs_shm_unmap(&v->shm);
	talloc_free(fx->ctx);
	scratch_remove(fx->root);
	free(fx);
	*fxp = NULL;
}

int fixture_setup(void **state)
{
	*state = fixture_new();
	return 0;
}

int fixture_teardown(void **state)
{
	fixture_free((struct fixture **)state);
	return 0;
}

/* ---- the loop ---- */

static void fixture_alarm(struct tevent_context *ev, struct tevent_timer *te, struct timeval now,
		void *arg)
{
	(void)ev;
	(void)te;
	(void)now;
	*(bool *)arg = true;
}

static bool fixture_run(struct fixture *fx, const bool *flag, int ms)
{
	bool late = false;
	struct tevent_timer *te = tevent_add_timer(fx->ev, fx->ctx,
			tevent_timeval_current_ofs((uint32_t)ms / 1000,
					(uint32_t)(ms % 1000) * 1000),
			fixture_alarm, &late);

	while (!late && (flag == NULL || !*flag)) {
		assert_int_equal(tevent_loop_once(fx->ev), 0);
	}
	if (!late) {
		talloc_free(te);
	}
	return !late;
}

void fixture_until(struct fixture *fx, const bool *flag)
{
	assert_true(fixture_run(fx, flag, FIXTURE_WAIT_S * 1000));
}

void fixture_idle(struct fixture *fx, int ms)
{
	fixture_run(fx, NULL, ms);
}

/* ---- objects ---- */

static void fixture_req_done(struct obj_req *req)
{
	*(bool *)req->arg = true;
}

static void fixture_ask(struct fixture *fx, struct obj_req *req)
{
	bool done = false;

	req->done = fixture_req_done;
	req->arg = &done;
	objstore_submit(fx->inner, req);
	fixture_until(fx, &done);
}

static char *fixture_do(struct fixture *fx, struct obj_req *req)
{
	char *etag;

	fixture_ask(fx, req);
	if (req->result.status != OBJ_OK) {
		print_error("%s: %s\n", req->key, req->result.message);
	}
	assert_int_equal(req->result.status, OBJ_OK);
	etag = talloc_strdup(fx->ctx, req->result.etag ? req->result.etag : "");
	objstore_req_free(&req);
	return etag;
}

static struct obj_req *fixture_req(struct fixture *fx, enum obj_op op, const char *key)
{
	char *whole = talloc_asprintf(fx->ctx, "%s%s", fx->v->prefix, key);
	struct obj_req *req = objstore_req_new(op, whole);

	talloc_free(whole);
	assert_non_null(req);
	return req;
}

static struct obj_req *fixture_put_req(struct fixture *fx, const char *key, const void *data,
		size_t len)
{
	struct obj_req *req = fixture_req(fx, OBJ_PUT, key);

	req->body = malloc(len + 1);
	assert_non_null(req->body);
	if (len > 0) {
		memcpy(req->body, data, len);
	}
	req->length = (int64_t)len;
	return req;
}

char *fixture_put(struct fixture *fx, const char *key, const void *data, size_t len, ...)
{
	struct obj_req *req = fixture_put_req(fx, key, data, len);
	const char *name;
	va_list ap;

	va_start(ap, len);
	while ((name = va_arg(ap, const char *)) != NULL) {
		assert_int_equal(objstore_req_meta(req, name, va_arg(ap, const char *)), 0);
	}
	va_end(ap);
	return fixture_do(fx, req);
}

void fixture_put_text(struct fixture *fx, const char *key, const char *text)
{
	talloc_free(fixture_put(fx, key, text, strlen(text), NULL));
}

char *fixture_put_meta(struct fixture *fx, const char *key, const void *data, size_t len,
		const struct objmeta *meta)
{
	struct obj_req *req = fixture_put_req(fx, key, data, len);

	assert_int_equal(objmeta_put(req, meta), 0);
	return fixture_do(fx, req);
}

void fixture_delete(struct fixture *fx, const char *key)
{
	talloc_free(fixture_do(fx, fixture_req(fx, OBJ_DELETE, key)));
}

bool fixture_stored(struct fixture *fx, const char *key)
{
	struct obj_req *req = fixture_req(fx, OBJ_HEAD, key);
	bool stored;

	fixture_ask(fx, req);
	stored = req->result.status == OBJ_OK;
	assert_true(stored || req->result.status == OBJ_NOT_FOUND);
	objstore_req_free(&req);
	return stored;
}

/* ---- requests ---- */

struct answer {
	bool done;
	int status;
};

static void fixture_answered(int status, const char *message, void *arg)
{
	struct answer *a = arg;

	assert_false(a->done);
	a->done = true;
	a->status = status;
	snprintf(fixture_message, sizeof(fixture_message), "%s", message ? message : "");
}

int fixture_list(struct fixture *fx, const char *path, bool refresh)
{
	struct answer a = {0};

	mirror_list(fx->v->mirror, 1, 1, fixture_open(fx, path, O_PATH), refresh, fixture_answered,
			&a);
	fixture_until(fx, &a.done);
	return a.status;
}

int fixture_lookup(struct fixture *fx, const char *path, const char *name)
{
	struct answer a = {0};

	mirror_lookup(fx->v->mirror, 1, fixture_open(fx, path, O_PATH), name, fixture_answered, &a);
	fixture_until(fx, &a.done);
	return a.status;
}

int fixture_rmdir(struct fixture *fx, const char *path, const char *name)
{
	struct answer a = {0};

	mirror_rmdir_check(fx->v->mirror, 1, fixture_open(fx, path, O_PATH), name, fixture_answered,
			&a);
	fixture_until(fx, &a.done);
	return a.status;
}

/* ---- the tree ---- */

bool fixture_exists(struct fixture *fx, const char *path)
{
	struct stat st;

	return fstatat(fx->v->tree_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int fixture_open(struct fixture *fx, const char *path, int flags)
{
	int fd = openat(fx->v->tree_fd, *path ? path : ".", flags | O_CLOEXEC);

	if (fd < 0) {
		print_error("%s: %s\n", path, strerror(errno));
	}
	assert_true(fd >= 0);
	return fd;
}

struct stat fixture_stat(struct fixture *fx, const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(fx->v->tree_fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

bool fixture_is_dir(struct fixture *fx, const char *path)
{
	return S_ISDIR(fixture_stat(fx, path).st_mode);
}

unsigned fixture_count(struct fixture *fx, const char *path)
{
	DIR *d = fdopendir(fixture_open(fx, path, O_RDONLY | O_DIRECTORY));
	struct dirent *de;
	unsigned n = 0;

	assert_non_null(d);
	while ((de = readdir(d)) != NULL) {
		n += de->d_name[0] != '.' || (de->d_name[1] != '\0' && de->d_name[1] != '.');
	}
	closedir(d);
	return n;
}

void fixture_write(struct fixture *fx, const char *path, const char *text)
{
	int fd = openat(fx->v->tree_fd, path, O_RDWR | O_CREAT | O_TRUNC, 0666);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

struct ofs_record fixture_record(struct fixture *fx, const char *path)
{
	struct ofs_record rec;
	int fd = fixture_open(fx, path, O_PATH);

	assert_int_equal(ofs_record_get(&fx->v->rio, fd, &rec), 0);
	close(fd);
	return rec;
}

void fixture_record_set(struct fixture *fx, const char *path, const struct ofs_record *rec)
{
	struct ofs_record copy = *rec;
	int fd = fixture_open(fx, path, O_PATH);

	assert_int_equal(ofs_record_set(&fx->v->rio, fd, &copy), 0);
	close(fd);
}

bool fixture_has_oid(struct fixture *fx, const char *path, const struct ofs_oid *oid)
{
	struct ofs_record rec = fixture_record(fx, path);

	return ofs_oid_equal(&rec.oid, oid);
}

struct row *fixture_row(struct fixture *fx, const char *path)
{
	struct ofs_record rec = fixture_record(fx, path);

	return index_get(fx->v->index, &rec.oid);
}
