/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The directory store: the whole contract, in every fence class, and what only it promises: several processes at once,
 * kill -9 in the middle of a write, damage found, a vanished disk told from an empty store.
 *
 * Thread: processes are forked before this one has threads.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <tevent.h>
#include <time.h>
#include <unistd.h>
#include "tests/lib/objstore_contract.h"
#include "tests/lib/scratch.h"

#define WRITERS 2
#define INCREMENTS 100
#define BIG_BYTES (4u << 20)
#define CRASHES 15

static char root_dir[256];

static struct objstore *open_root(TALLOC_CTX *ctx, struct mailbox *mb, const char *root)
{
	char *error;
	struct objstore *s = objstore_dir_new(ctx, mb, root, 4, &error);

	if (s == NULL) {
		fprintf(stderr, "%s\n", error);
	}
	return s;
}

static void rules_write(const char *root, const char *text)
{
	char path[320];
	FILE *f;

	snprintf(path, sizeof(path), "%s/store", root);
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "objectfs-store 1\n%s", text);
	assert_int_equal(fclose(f), 0);
}

static struct objstore *open_good(TALLOC_CTX *ctx, struct mailbox *mb)
{
	return open_root(ctx, mb, root_dir);
}

static struct objstore *open_no_bucket(TALLOC_CTX *ctx, struct mailbox *mb)
{
	char path[300], objects[320];
	struct objstore *s;

	snprintf(path, sizeof(path), "%s/vanishing", root_dir);
	snprintf(objects, sizeof(objects), "%s/objects", path);
	s = open_root(ctx, mb, path);
	assert_int_equal(rmdir(objects), 0);
	return s;
}

/* Something else stands where the root was. */
static struct objstore *open_away(TALLOC_CTX *ctx, struct mailbox *mb)
{
	char path[300], aside[310];
	struct objstore *s;
	int fd;

	snprintf(path, sizeof(path), "%s/away", root_dir);
	snprintf(aside, sizeof(aside), "%s.aside", path);
	s = open_root(ctx, mb, path);
	assert_int_equal(rename(path, aside), 0);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	return s;
}

struct contract contract = {
	.prefix = "vol/",
	.open = open_good,
	.open_no_bucket = open_no_bucket,
	.open_away = open_away,
	.least_fence_class = 3,
	.most_fence_class = 3,
	.copy_joins = true,
	.list_keys = 2500,
};

/* --- several processes --- */

/* In a child: add one to the number in the object, so often; no lost update allowed. */
static int count_up(void)
{
	if (contract_setup(NULL) != 0) {
		return 1;
	}
	for (int done = 0; done < INCREMENTS;) {
		struct obj_req *req = contract_req(OBJ_GET, "counter");
		enum obj_status status;
		char text[32];

		req->length = -1;
		contract_run(contract.store, req);
		if (req->result.status != OBJ_OK) {
			return 2;
		}
		snprintf(text, sizeof(text), "%d", atoi((char *)req->result.body) + 1);
		status = contract_put("counter", text, strlen(text), req->result.etag, false, NULL);
		objstore_req_free(&req);
		if (status == OBJ_OK) {
			done++;
		} else if (status != OBJ_PRECONDITION) {
			return 3;
		}
	}
	contract_teardown(NULL);
	return 0;
}

static void test_processes_race(void **state)
{
	pid_t pid[WRITERS];
	struct obj_req *req;

	(void)state;
	assert_int_equal(contract_setup(NULL), 0);
	assert_int_equal(contract_put("counter", "0", 1, NULL, false, NULL), OBJ_OK);
	contract_teardown(NULL); /* no thread is left to be forked */
	for (int i = 0; i < WRITERS; i++) {
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (pid[i] == 0) {
			_exit(count_up());
		}
	}
	for (int i = 0; i < WRITERS; i++) {
		int status;

		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	assert_int_equal(contract_setup(NULL), 0);
	req = contract_req(OBJ_GET, "counter");
	req->length = -1;
	contract_run(contract.store, req);
	assert_int_equal(req->result.status, OBJ_OK);
	assert_int_equal(atoi((char *)req->result.body), WRITERS * INCREMENTS);
	objstore_req_free(&req);
	contract_teardown(NULL);
}

/* In a child: overwrite one object for ever, each time with another byte. */
static int overwrite(void)
{
	uint8_t *data = malloc(BIG_BYTES);

	if (data == NULL || contract_setup(NULL) != 0) {
		return 1;
	}
	for (unsigned i = 1;; i++) {
		memset(data, (int)(i & 0xff), BIG_BYTES);
		if (contract_put("big", data, BIG_BYTES - i % 100, NULL, false, NULL) != OBJ_OK) {
			return 2;
		}
	}
}

/* Number of files below tmp/; they are removed if `clear`. */
static unsigned temporary_files(bool clear)
{
	char path[300];
	unsigned count = 0;
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/tmp", root_dir);
	dir = opendir(path);
	assert_non_null(dir);
	while ((d = readdir(dir)) != NULL) {
		if (d->d_name[0] != '.') {
			count++;
			if (clear) {
				assert_int_equal(unlinkat(dirfd(dir), d->d_name, 0), 0);
			}
		}
	}
	closedir(dir);
	return count;
}

static void test_crash_never_tears(void **state)
{
	uint8_t *data = calloc(1, BIG_BYTES);

	(void)state;
	assert_non_null(data);
	assert_int_equal(contract_setup(NULL), 0);
	assert_int_equal(contract_put("big", data, BIG_BYTES, NULL, false, NULL), OBJ_OK);
	contract_teardown(NULL);
	free(data);
	for (int round = 0; round < CRASHES; round++) {
		time_t end = time(NULL) + 20;
		struct obj_req *req;
		pid_t pid;

		temporary_files(true);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			_exit(overwrite());
		}
		while (temporary_files(false) == 0) { /* until it is in the middle of a write */
			assert_true(time(NULL) < end);
		}
		usleep((useconds_t)(round * 1500)); /* then at another place each time */
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_int_equal(contract_setup(NULL), 0);
		req = contract_req(OBJ_GET, "big");
		req->length = -1;
		contract_run(contract.store, req);
		assert_int_equal(req->result.status, OBJ_OK);
		assert_true(req->result.body_len > BIG_BYTES - 100);
		for (size_t i = 1; i < req->result.body_len; i++) {
			if (req->result.body[i] != req->result.body[0]) {
				fail_msg("torn at %zu", i);
			}
		}
		objstore_req_free(&req);
		contract_teardown(NULL);
	}
}

/* --- damage, and disks that go away --- */

static void test_damage_is_found(void **state)
{
	char path[320];
	struct obj_req *req;
	int fd;

	(void)state;
	assert_int_equal(contract_put("damaged", "content", 7, NULL, false, NULL), OBJ_OK);
	snprintf(path, sizeof(path), "%s/objects/vol/damaged%%o", root_dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "e", 1, 70), 1); /* inside the head */
	req = contract_req(OBJ_GET, "damaged");
	req->length = -1;
	contract_run(contract.store, req);
	assert_int_equal(req->result.status, OBJ_DAMAGED);
	objstore_req_free(&req);
	req = contract_req(OBJ_LIST, "dam"); /* no gap in a listing */
	contract_run(contract.store, req);
	assert_int_equal(req->result.status, OBJ_DAMAGED);
	objstore_req_free(&req);
	assert_int_equal(contract_put("damaged", "content", 7, NULL, false, NULL), OBJ_OK);
	close(fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "K", 1, 4096), 1); /* one byte of the content */
	req = contract_req(OBJ_GET, "damaged");
	req->length = -1;
	contract_run(contract.store, req);
	assert_int_equal(req->result.status, OBJ_DAMAGED);
	objstore_req_free(&req);
	assert_int_equal(contract_put("damaged", "again", 5, NULL, false, NULL), OBJ_OK);
	assert_int_equal(ftruncate(fd, 10), 0); /* the old file, no more the object */
	close(fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 4096 + 3), 0);
	close(fd);
	req = contract_req(OBJ_GET, "damaged");
	req->length = -1;
	contract_run(contract.store, req);
	assert_int_equal(req->result.status, OBJ_DAMAGED);
	objstore_req_free(&req);
	assert_int_equal(contract_delete("damaged"), OBJ_OK);
}

static void test_foreign_files_are_no_objects(void **state)
{
	char path[320];
	struct obj_req *req;
	int fd;

	(void)state;
	assert_int_equal(contract_put("foreign/x", "x", 1, NULL, false, NULL), OBJ_OK);
	snprintf(path, sizeof(path), "%s/objects/vol/foreign/notes.txt", root_dir);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	snprintf(path, sizeof(path), "%s/objects/vol/foreign/empty", root_dir);
	assert_int_equal(mkdir(path, 0700), 0);
	req = contract_req(OBJ_LIST, "foreign/");
	req->delimiter = '/';
	contract_run(contract.store, req);
	assert_int_equal(req->result.status, OBJ_OK);
	assert_int_equal(req->result.entry_count, 1); /* "empty/" is no prefix either */
	assert_false(req->result.entries[0].is_prefix);
	objstore_req_free(&req);
	contract_delete("foreign/x");
}

/* --- pages: what was read for one serves the next --- */

#define PORTION_KEYS 300u /* by pages of two: three portions of fifty pages */

static void portion_key(char key[64], unsigned i)
{
	snprintf(key, 64, i % 10 == 3 ? "pages/k%04u/in" : "pages/k%04u", i);
}

/* Nothing has changed in it for an hour. */
static void portion_still(void)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - 3600}};
	char path[320];

	snprintf(path, sizeof(path), "%s/objects/vol/pages", root_dir);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* The rows of the page behind *token, which becomes the next one's: a letter for each, p of a prefix. */
static const char *portion_page(char **token, char delimiter)
{
	static char rows[8];
	struct obj_req *req = contract_req(OBJ_LIST, "pages/");

	req->delimiter = delimiter;
	req->max_keys = 2;
	req->token = *token;
	contract_expect(req, OBJ_OK);
	memset(rows, 0, sizeof(rows));
	for (unsigned i = 0; i < req->result.entry_count; i++) {
		rows[i] = req->result.entries[i].is_prefix ? 'p' : 'o';
	}
	*token = req->result.next_token != NULL ? contract_dup(req->result.next_token) : NULL;
	objstore_req_free(&req);
	return rows;
}

static unsigned portion_rows(char delimiter)
{
	unsigned rows = 0;
	char *token = NULL;

	do {
		rows += (unsigned)strlen(portion_page(&token, delimiter));
	} while (token != NULL);
	return rows;
}

static void test_pages(void **state)
{
	char key[64], path[400], aside[400], *token = NULL;

	(void)state;
	for (unsigned i = 0; i < PORTION_KEYS; i++) {
		portion_key(key, i);
		assert_int_equal(contract_put(key, "x", 1, NULL, false, NULL), OBJ_OK);
	}
	for (int still = 0; still < 2; still++) {
		assert_int_equal(portion_rows('/'), PORTION_KEYS);
		assert_int_equal(portion_rows(0), PORTION_KEYS);
		portion_still();
	}
	assert_string_equal(portion_page(&token, '/'), "oo");
	/* Behind its back: whoever changes the directory changes its time, and here that is put back. */
	snprintf(path, sizeof(path), "%s/objects/vol/pages/k0002%%o", root_dir);
	snprintf(aside, sizeof(aside), "%s/objects/vol/pages/k0001a%%o", root_dir);
	assert_int_equal(link(path, aside), 0);
	portion_still();
	assert_string_equal(portion_page(&token, '/'), "op"); /* k0002, k0003/: it was not read again */
	assert_string_equal(portion_page(&token, '/'), "oo");
	assert_int_equal(contract_put("pages/k0005a", "x", 1, NULL, false, NULL), OBJ_OK);
	assert_int_equal(contract_delete("pages/k0006"), OBJ_OK);
	portion_page(&token, '/');
	assert_string_equal(token, "vol/pages/k0007"); /* behind k0005a */
	free(token);
	assert_int_equal(portion_rows('/'), PORTION_KEYS + 1);
	assert_int_equal(unlink(aside), 0);
	assert_int_equal(contract_delete("pages/k0005a"), OBJ_OK);
	for (unsigned i = 0; i < PORTION_KEYS; i++) {
		portion_key(key, i);
		contract_delete(key);
	}
}

static void test_root_refused(void **state)
{
	char *error = NULL;

	(void)state;
	assert_null(objstore_dir_new(NULL, contract.mb, "/dev/null", 1, &error));
	assert_non_null(strstr(error, "/dev/null"));
	TALLOC_FREE(error);
	assert_null(objstore_dir_new(NULL, contract.mb, "/no/such/parent", 1, &error));
	TALLOC_FREE(error);
}

/* What was there before versions were kept is one of them. */
static void test_null_version(void **state)
{
	char path[320], ids[3][40];
	struct obj_req *req;
	struct objstore *s;

	(void)state;
	assert_int_equal(contract_put("old", "1", 1, NULL, false, NULL), OBJ_OK);
	rules_write(root_dir, "conditions\nversions yes\n");
	s = contract.store;
	contract.store = open_root(contract.ctx, contract.mb, root_dir);
	assert_non_null(contract.store);
	assert_int_equal(contract_put("old", "22", 2, NULL, false, NULL), OBJ_OK);
	assert_int_equal(contract_delete("old"), OBJ_OK);
	req = contract_req(OBJ_VERSIONS, "old");
	contract_expect(req, OBJ_OK);
	assert_int_equal(req->result.entry_count, 3);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(ids[i], sizeof(ids[i]), "%s", req->result.entries[i].version_id);
	}
	assert_true(req->result.entries[0].is_marker);
	assert_string_equal(ids[2], "null");
	assert_int_equal(req->result.entries[2].size, 1);
	objstore_req_free(&req);
	req = contract_req(OBJ_GET, "old");
	req->length = -1;
	req->version_id = contract_dup("null");
	contract_expect(req, OBJ_OK);
	assert_string_equal((char *)req->result.body, "1");
	objstore_req_free(&req);
	talloc_free(contract.store);
	contract.store = s;
	snprintf(path, sizeof(path), "%s/store", root_dir);
	assert_int_equal(unlink(path), 0);
}

static void test_rules_refused(void **state)
{
	static const char *const bad[] = { "conditions put move\n", "versions perhaps\n", "class f3\n" };
	char path[320];
	char *error = NULL;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		rules_write(root_dir, bad[i]);
		assert_null(objstore_dir_new(NULL, contract.mb, root_dir, 1, &error));
		assert_non_null(strstr(error, "/store is not understood"));
		TALLOC_FREE(error);
	}
	snprintf(path, sizeof(path), "%s/store", root_dir);
	assert_int_equal(unlink(path), 0);
}

/* Fence classes that are less than the store's own. */
static const struct {
	int fence_class;
	const char *rules;
} classes[] = {
	{ 2, "conditions put\nversions no\n" },
	{ 1, "conditions\nversions yes\n" },
	{ 0, "conditions\nversions no\n" },
};

static int suites_of_less(void)
{
	char name[64], whole[256];
	int failed = 0;

	snprintf(whole, sizeof(whole), "%s", root_dir);
	contract.list_keys = 1100;
	for (unsigned i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		snprintf(root_dir, sizeof(root_dir), "%.200s/f%d", whole, classes[i].fence_class);
		mkdir(root_dir, 0700);
		rules_write(root_dir, classes[i].rules);
		snprintf(name, sizeof(name), "dir store F%d, contract", classes[i].fence_class);
		contract.least_fence_class = contract.most_fence_class = classes[i].fence_class;
		failed += contract_suite(name);
	}
	snprintf(root_dir, sizeof(root_dir), "%s", whole);
	return failed;
}

int main(void)
{
	const struct CMUnitTest processes[] = {
		cmocka_unit_test(test_processes_race),
		cmocka_unit_test(test_crash_never_tears),
	};
	const struct CMUnitTest own[] = {
		cmocka_unit_test(test_damage_is_found),
		cmocka_unit_test(test_foreign_files_are_no_objects),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_root_refused),
		cmocka_unit_test(test_null_version),
		cmocka_unit_test(test_rules_refused),
	};
	int failed;

	scratch_make(root_dir, sizeof(root_dir), "objstore-dir");
	failed = cmocka_run_group_tests_name("dir store, processes", processes, NULL, NULL);
	failed += contract_suite("dir store, contract");
	failed += suites_of_less();
	failed += cmocka_run_group_tests_name("dir store", own, contract_setup, contract_teardown);
	scratch_remove(root_dir);
	return failed != 0;
}
