/* SPDX-License-Identifier: GPL-3.0-or-later */
/* An upload in parts that was interrupted: what is gone on with, what is sent again, and what becomes of the rest. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include "cached/base/stats.h"
#include "cached/objstore/impl.h"
#include "cached/upload/begun.h"
#include "cached/upload/upload.h"
#include "tests/lib/volume_fixture.h"

#define MIB (1LL << 20)
#define SIZE (12 * MIB + 3) /* three parts of 5 MiB */
#define DAY (86400 * NS_PER_S)

static struct ofs_oid file_oid, file_wid;

static void on_barrier(struct disk_job *job)
{
	(void)job;
}

static bool barred;
static void on_barred(struct disk_job *job)
{
	(void)job;
	barred = true;
}

/* All that was to be written down is. */
static void written(struct fixture *f)
{
	struct disk_job job = {.what = "barrier", .run = on_barrier, .done = on_barred};

	barred = false;
	disk_submit(f->v->disk, DISK_ORDER, &job);
	while (!barred) {
		tevent_loop_once(f->ev);
	}
}

/* As a daemon that begins: it knows what is on the disk. */
static void restart(struct fixture *f)
{
	char *error = NULL;

	if (f->v->begun != NULL) {
		written(f);
		TALLOC_FREE(f->v->begun);
	}
	f->v->begun = begun_open(f->v, f->v, &error);
	assert_null(error);
	begun_start(f->v->begun);
}

static struct fixture *begin(void)
{
	struct fixture *f = fixture_new();

	f->clock.now_ns = (int64_t)time(NULL) * NS_PER_S; /* the store's files have a date */
	f->conf.part_size_bytes = 5 * MIB;
	f->conf.upload_age_ns = 7 * DAY;
	f->store->s.parts_above_bytes = MIB;
	f->store->s.caps = (struct obj_caps){.fence_class = 3, .put_if_match = true, .put_if_none_match = true,
		.complete_if_match = true, .complete_if_none_match = true};
	f->v->path = f->dir;
	f->v->path_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	restart(f);
	ofs_oid_new(&file_oid);
	ofs_oid_new(&file_wid);
	return f;
}

static void end(struct fixture *f, int fd)
{
	close(fd);
	written(f);
	TALLOC_FREE(f->v->begun);
	close(f->v->path_fd);
	fixture_free(&f);
}

static void uploaded(struct upload *u)
{
	fixture_answer((int)u->status, u->message, u->arg);
}

static struct upload *start(struct fixture *f, int fd, uint64_t data_gen, int64_t atime_ns)
{
	struct upload *u = upload_new(f, f->v, "p/k");

	u->fd = fd;
	u->size = lseek(fd, 0, SEEK_END);
	u->done = uploaded;
	u->arg = f;
	u->meta.ours = true;
	u->meta.oid = file_oid;
	ofs_oid_new(&u->meta.wid);
	u->meta.data_gen = data_gen;
	u->meta.size = u->size;
	u->meta.snapshot = calloc(1, sizeof(*u->meta.snapshot));
	u->meta.snapshot->atime_ns = atime_ns;
	upload_start(u);
	fixture_advance(f, 1);
	return u;
}

static enum obj_status finish(struct fixture *f, struct upload *u)
{
	fixture_wait(f, f->answers + 1);
	talloc_free(u);
	return (enum obj_status)f->status;
}

/* A file of which the store has the second and the third part when it goes away. */
static int interrupted(struct fixture *f)
{
	int fd = memfd_create("sent", MFD_CLOEXEC);
	struct upload *u;
	struct obj_req *req;

	assert_true(fd >= 0 && ftruncate(fd, SIZE) == 0);
	for (int64_t at = 0; at < SIZE; at += MIB) {
		assert_int_equal(pwrite(fd, &at, sizeof(at), at), sizeof(at));
	}
	f->store->hold = OBJ_MPU_PART;
	u = start(f, fd, 7, 1);
	file_wid = u->meta.wid;
	while (f->store->held == NULL || f->store->seen[OBJ_MPU_PART] < 2 || f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	req = f->store->held;
	f->store->held = NULL;
	req->result.status = OBJ_AWAY;
	req->done(req);
	assert_int_equal(f->status, OBJ_AWAY);
	talloc_free(u);
	f->answers = 0;
	assert_int_equal(f->store->seen[OBJ_MPU_ABORT], 0);
	memset(f->store->seen, 0, sizeof(f->store->seen));
	return fd;
}

static void same_in_store(struct fixture *f, int fd)
{
	struct obj_req *req = objstore_req_new(OBJ_GET, "p/k");
	int64_t size = lseek(fd, 0, SEEK_END);
	const void *file = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);

	req->length = -1;
	assert_int_equal(fixture_run(f, req), OBJ_OK);
	assert_int_equal(req->result.body_len, size);
	assert_int_equal(memcmp(req->result.body, file, (size_t)size), 0);
	munmap((void *)file, (size_t)size);
	objstore_req_free(&req);
}

/* Uploads that the store has. */
static unsigned open_uploads(struct fixture *f)
{
	struct obj_req *req = objstore_req_new(OBJ_UPLOADS, "p/");
	unsigned count;

	assert_int_equal(fixture_run(f, req), OBJ_OK);
	count = req->result.entry_count;
	objstore_req_free(&req);
	return count;
}

/* Until nothing is in flight; no time passes but what is said. */
static void pass(struct fixture *f, int64_t ns)
{
	fixture_advance(f, ns);
	while (f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	written(f);
}

static char *only_note(struct fixture *f)
{
	assert_non_null(f->v->begun->list);
	assert_null(f->v->begun->list->next);
	return talloc_asprintf(f, "%s/uploads/%s", f->dir, f->v->begun->list->file);
}

static void change(int fd, int64_t at)
{
	assert_int_equal(pwrite(fd, "y", 1, at + 100), 1);
}

enum what { NOTHING, BYTES_THERE, BYTES_MISSING, ATIME, DATA, SMALLER, ENCRYPTION, TORN, HEAD_TORN, MAGIC_TORN, FLIPPED, HEAD_FLIPPED,
	NOT_OURS, OTHER_BLOCKS, ENDLESS_KEY };

/* What a disk may make of a note. */
static void note_damage(const char *note, enum what w)
{
	int fd = open(note, O_RDWR);
	off_t size = lseek(fd, 0, SEEK_END);
	off_t at = w == FLIPPED ? size - 24 : w == HEAD_FLIPPED ? 60 : w == OTHER_BLOCKS ? 101 : w == ENDLESS_KEY ? 113 : 0;
	uint8_t byte;

	assert_true(fd >= 0 && size > 200);
	if (w == TORN || w == HEAD_TORN || w == MAGIC_TORN) {
		assert_int_equal(ftruncate(fd, w == TORN ? size - 1 : w == HEAD_TORN ? 100 : 4), 0);
	} else {
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 4;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	close(fd);
}

static void test_resume(void **state)
{
	static const struct {
		const char *name;
		enum what what;
		bool again; /* from its begin */
		unsigned parts;
	} rows[] = {
		{"nothing has changed", NOTHING, false, 1},
		{"it was read", ATIME, false, 1},
		{"other bytes where a part is missing", BYTES_MISSING, false, 1},
		{"other bytes in a part that is there", BYTES_THERE, false, 2},
		{"another state", DATA, true, 3},
		{"another size", SMALLER, true, 3},
		{"it is to be encrypted now", ENCRYPTION, true, 3},
		{"what was noted of a part is torn", TORN, false, 2},
		{"what was noted is torn from the begin", HEAD_TORN, true, 3},
		{"what was noted has not even its first bytes", MAGIC_TORN, true, 3},
		{"a bit of what was noted of a part is another", FLIPPED, false, 2},
		{"a bit of what was noted at the begin is another", HEAD_FLIPPED, true, 3},
		{"a file that is no note", NOT_OURS, true, 3},
		{"its blocks are larger than any part", OTHER_BLOCKS, true, 3},
		{"its key is longer than any", ENDLESS_KEY, true, 3},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fixture *f = begin();
		int fd = interrupted(f);
		enum what w = rows[i].what;
		struct upload *u;
		char *note;

		print_message("%s\n", rows[i].name);
		written(f);
		note = only_note(f);
		if (w >= TORN) {
			note_damage(note, w);
		}
		restart(f);
		if (w == BYTES_THERE || w == BYTES_MISSING) {
			change(fd, w == BYTES_THERE ? SIZE - 200 : 0);
		} else if (w == SMALLER) {
			assert_int_equal(ftruncate(fd, SIZE - 1), 0);
		} else if (w == ENCRYPTION) {
			f->conf.encryption = CONF_SSE_KMS;
		}
		u = start(f, fd, w == DATA ? 8 : 7, w == ATIME ? 2 : 1);
		fixture_wait(f, 1);
		assert_int_equal(f->status, OBJ_OK);
		assert_int_equal(f->store->seen[OBJ_MPU_CREATE], rows[i].again);
		assert_int_equal(f->store->seen[OBJ_MPU_PART], rows[i].parts);
		assert_int_equal(ofs_oid_equal(&u->meta.wid, &file_wid), !rows[i].again);
		assert_int_equal(u->begun_ns != 0, !rows[i].again);
		talloc_free(u);
		same_in_store(f, fd);
		pass(f, 0);
		assert_int_equal(open_uploads(f), rows[i].again && w >= TORN); /* of that nobody knows */
		assert_null(f->v->begun->list);
		assert_int_equal(access(note, F_OK), -1);
		end(f, fd);
	}
}

/* Its id is no more: completed, it may be, by who began it. Who asked looks; the next try begins anew. */
static void test_gone(void **state)
{
	struct fixture *f = begin();
	struct obj_req *req = objstore_req_new(OBJ_MPU_ABORT, "p/k");
	int fd = interrupted(f);
	struct upload *u;

	(void)state;
	req->upload_id = strdup(f->v->begun->list->upload_id);
	assert_int_equal(fixture_run(f, req), OBJ_OK);
	objstore_req_free(&req);
	restart(f);
	u = start(f, fd, 7, 1);
	assert_int_equal(finish(f, u), OBJ_UNKNOWN);
	assert_null(f->v->begun->list);
	u = start(f, fd, 7, 1);
	assert_int_equal(finish(f, u), OBJ_OK);
	assert_int_equal(f->store->seen[OBJ_MPU_CREATE], 1);
	same_in_store(f, fd);
	end(f, fd);
}

/* Complete was answered to nobody: done, and then its note goes with the word of it; or not, and it is gone on with. */
static void test_complete(void **state)
{
	(void)state;
	for (unsigned done = 0; done < 2; done++) {
		struct fixture *f = begin();
		int fd = interrupted(f);
		struct upload *u;

		f->store->hold = OBJ_MPU_COMPLETE;
		u = start(f, fd, 7, 1);
		while (f->store->held == NULL) {
			tevent_loop_once(f->ev);
		}
		if (done) {
			f->store->fail_op = OBJ_MPU_COMPLETE;
			f->store->fail_with = OBJ_UNKNOWN;
			f->store->fail_count = 1;
			test_store_release(f->store);
			assert_int_equal(finish(f, u), OBJ_UNKNOWN);
			begun_made(f->v, &file_oid, &file_wid);
		} else {
			struct obj_req *req = f->store->held;

			f->store->held = NULL;
			req->result.status = OBJ_UNKNOWN;
			req->done(req);
			talloc_free(u);
			u = start(f, fd, 7, 1);
			f->answers = 0;
			assert_int_equal(finish(f, u), OBJ_OK);
			assert_int_equal(f->store->seen[OBJ_MPU_PART], 1);
		}
		pass(f, 0);
		assert_int_equal(f->store->seen[OBJ_MPU_CREATE], 0);
		assert_int_equal(f->store->seen[OBJ_MPU_ABORT], 0);
		assert_null(f->v->begun->list);
		assert_int_equal(open_uploads(f), 0);
		same_in_store(f, fd);
		end(f, fd);
	}
}

/* Nobody goes on with it: its row is no more. The store is away at first, and the daemon is started again. */
static void test_ended(void **state)
{
	struct fixture *f = begin();
	int fd = interrupted(f);

	(void)state;
	f->store->fail_op = OBJ_MPU_ABORT;
	f->store->fail_with = OBJ_AWAY;
	f->store->fail_count = 1;
	begun_look(f->v->begun);
	pass(f, 0);
	assert_int_equal(open_uploads(f), 1);
	restart(f);
	pass(f, 60 * NS_PER_S);
	pass(f, 0);
	assert_int_equal(open_uploads(f), 0);
	assert_null(f->v->begun->list);
	end(f, fd);
}

/* What the store says of an abort: the upload is no more, and its note goes; or it is asked again, so much later. */
static void test_end_answers(void **state)
{
	static const struct {
		enum obj_status status;
		int64_t later_ns; /* 0: it is done */
	} rows[] = {
		{OBJ_NOT_FOUND, 0},
		{OBJ_INVALID, 0},
		{OBJ_AWAY, 600 * NS_PER_S},
		{OBJ_DENIED, DAY},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fixture *f = begin();
		int fd = interrupted(f);

		f->store->fail_op = OBJ_MPU_ABORT;
		f->store->fail_with = rows[i].status;
		f->store->fail_count = 1;
		begun_look(f->v->begun);
		pass(f, 0);
		assert_int_equal(f->store->seen[OBJ_MPU_ABORT], 1);
		assert_int_equal(f->v->begun->list == NULL, rows[i].later_ns == 0);
		if (rows[i].later_ns != 0) {
			pass(f, rows[i].later_ns - NS_PER_S);
			assert_int_equal(f->store->seen[OBJ_MPU_ABORT], 1);
			pass(f, 61 * NS_PER_S);
			pass(f, 0);
			assert_int_equal(f->store->seen[OBJ_MPU_ABORT], 2);
			assert_int_equal(open_uploads(f), 0);
			assert_null(f->v->begun->list);
		}
		end(f, fd);
	}
}

/* A volume that only reads ends nothing; nor does one whose store is not there. */
static void test_not_ended(void **state)
{
	struct fixture *f = begin();
	int fd = interrupted(f);

	(void)state;
	f->v->read_only = "a test";
	begun_look(f->v->begun);
	pass(f, 8 * DAY);
	assert_int_equal(f->store->seen[OBJ_MPU_ABORT], 0);
	f->v->read_only = NULL;
	f->v->state = VOLUME_HELD;
	pass(f, DAY);
	assert_int_equal(f->store->seen[OBJ_MPU_ABORT], 0);
	f->v->state = VOLUME_READY;
	pass(f, 61 * NS_PER_S);
	pass(f, 0);
	assert_int_equal(open_uploads(f), 0);
	assert_null(f->v->begun->list);
	end(f, fd);
}

/* What has no room in a note, or finds none on the disk, is not noted: nothing else is lost by it, and no note comes back. */
static void test_not_noted(void **state)
{
	struct fixture *f = begin();
	int fd = interrupted(f);
	char endless[2000], *note = only_note(f);
	static const uint8_t sha256[32];
	struct begun *b = f->v->begun->list;
	unsigned known = 0;

	(void)state;
	memset(endless, 'e', sizeof(endless) - 1);
	endless[sizeof(endless) - 1] = '\0';
	begun_part(b, 0, endless, NULL, sha256);
	begun_part(b, 0, "etag", endless, sha256);
	begun_part(b, 1, "a short one", NULL, sha256);
	restart(f);
	b = f->v->begun->list;
	assert_non_null(b);
	assert_null(b->done[0].etag);
	assert_string_equal(b->done[1].etag, "a short one");
	for (unsigned i = 0; i < b->part_count; i++) {
		known += b->done[i].etag != NULL;
	}
	assert_int_equal(known, 2);
	assert_int_equal(unlink(note), 0);
	begun_part(b, 0, "etag", NULL, sha256);
	written(f);
	assert_int_equal(access(note, F_OK), -1);
	begun_look(f->v->begun);
	pass(f, 0);
	assert_int_equal(open_uploads(f), 0);
	end(f, fd);
}

/* What is remembered cannot be read at one start: it is there at the next. */
static void test_unread(void **state)
{
	struct fixture *f = begin();
	int fd = interrupted(f), next[3];
	struct rlimit was, few;

	(void)state;
	written(f);
	TALLOC_FREE(f->v->begun);
	for (unsigned i = 0; i < 3; i++) {
		next[i] = dup(fd);
	}
	for (unsigned i = 0; i < 3; i++) {
		close(next[i]);
	}
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = (struct rlimit){.rlim_cur = (rlim_t)next[2], .rlim_max = was.rlim_max}; /* uploads/ twice, and no file */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	restart(f);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_null(f->v->begun->list);
	restart(f);
	assert_non_null(f->v->begun->list);
	begun_look(f->v->begun);
	pass(f, 0);
	assert_int_equal(open_uploads(f), 0);
	end(f, fd);
}

/* A file that is still to be sent keeps its upload for `upload age`, over restarts. */
static void test_kept(void **state)
{
	struct fixture *f = begin();
	int fd = interrupted(f);
	struct row *row = index_add(f->v->index, &file_oid, false);

	(void)state;
	index_set_here(f->v->index, row, &OFS_OID_ROOT, "k", 1);
	row->work = f;
	pass(f, 3 * DAY);
	restart(f);
	pass(f, 3 * DAY);
	assert_int_equal(open_uploads(f), 1);
	pass(f, DAY + 60 * NS_PER_S);
	assert_int_equal(open_uploads(f), 0);
	row->work = NULL;
	end(f, fd);
}

/* A begin whose answer was lost, and which was made again: what the first one has begun goes after `upload age`, and
 * nothing else. */
static void test_stray(void **state)
{
	struct fixture *f = begin();
	struct obj_req *lost = objstore_req_new(OBJ_MPU_CREATE, "p/k"), *other = objstore_req_new(OBJ_MPU_CREATE, "p/kk");
	struct obj_req *second = objstore_req_new(OBJ_MPU_CREATE, "p/k");
	struct obj_req *held;
	int fd = memfd_create("sent", MFD_CLOEXEC);
	struct upload *u;

	(void)state;
	assert_int_equal(ftruncate(fd, SIZE), 0);
	f->store->hold = OBJ_MPU_CREATE;
	u = start(f, fd, 7, 1);
	while (f->store->held == NULL) {
		tevent_loop_once(f->ev);
	}
	assert_int_equal(fixture_run(f, lost), OBJ_OK);
	assert_int_equal(fixture_run(f, other), OBJ_OK);
	assert_int_equal(fixture_run(f, second), OBJ_OK);
	held = f->store->held;
	f->store->held = NULL;
	held->result.upload_id = strdup(second->result.upload_id);
	held->result.more_begun = true;
	held->done(held);
	assert_int_equal(finish(f, u), OBJ_OK);
	same_in_store(f, fd);
	pass(f, 6 * DAY);
	assert_int_equal(open_uploads(f), 2);
	restart(f);
	f->v->begun->list->begun_ns -= 2 * 3600 * NS_PER_S; /* it was another's: begun an hour after we had asked */
	pass(f, 2 * DAY);
	assert_int_equal(open_uploads(f), 2);
	assert_null(f->v->begun->list);
	objstore_req_free(&lost);
	objstore_req_free(&second);
	f->clock.now_ns = (int64_t)time(NULL) * NS_PER_S;
	f->store->fail_op = OBJ_MPU_CREATE;
	f->store->fail_with = OBJ_UNKNOWN; /* begun, and nobody hears of it */
	f->store->fail_count = 1;
	f->answers = 0;
	u = start(f, fd, 8, 1);
	assert_int_equal(finish(f, u), OBJ_AWAY);
	assert_int_equal(open_uploads(f), 3);
	pass(f, 8 * DAY);
	for (int i = 0; i < 5; i++) {
		pass(f, 0);
	}
	assert_int_equal(open_uploads(f), 1); /* of another key */
	objstore_req_free(&other);
	end(f, fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resume),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_complete),
		cmocka_unit_test(test_ended),
		cmocka_unit_test(test_end_answers),
		cmocka_unit_test(test_not_ended),
		cmocka_unit_test(test_not_noted),
		cmocka_unit_test(test_unread),
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_stray),
	};

	return cmocka_run_group_tests_name("begun", tests, NULL, NULL);
}
