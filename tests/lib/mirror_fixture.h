/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A volume without a daemon for tests of mirror/ and recall/: real loop, disk jobs, index, shared
 * memory and directory store in a scratch directory, and a store door that can fail or hang for
 * keys that contain a given text. Reconcile and rings are absent.
 */
#ifndef OFS_TESTS_MIRROR_FIXTURE_H
#define OFS_TESTS_MIRROR_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <tevent.h>
#include "cached/core/volume.h"
#include "cached/mirror/mirror.h"
#include "cached/mirror/objmeta.h"
#include "cached/recall/recall.h"
#include "cached/reconcile/index.h"

/* STALE: a LIST of something else lacks what contains the key. EDIT: fault_edit has the answer first. */
enum fixture_fault { FAULT_NONE, FAULT_FAIL, FAULT_HANG, FAULT_STALE, FAULT_EDIT };

struct fixture {
	TALLOC_CTX *ctx;
	char root[128];
	struct tevent_context *ev;
	struct mailbox *mb;
	struct volume *v;
	struct conf_volume conf;
	struct clock clock, *real_clock;
	int64_t ahead_ns; /* of the volume's clock; the test puts it forward */
	int64_t wall_ahead_ns; /* of its wall clock alone, which is set */
	struct objstore *inner; /* the directory store */
	/* the faulty door */
	enum fixture_fault fault;
	enum obj_op fault_op;
	char fault_key[64];
	enum obj_status fault_status;
	void (*fault_edit)(struct obj_req *req);
	struct obj_req *hanging; /* by next */
	unsigned sent[OBJ_OP_MAX];
	int64_t asked_bytes; /* of GETs */
};

struct fixture *fixture_new(void);
void fixture_free(struct fixture **fx);
/* cmocka's: *state is the fixture. */
int fixture_setup(void **state);
int fixture_teardown(void **state);
/* Close and open the index, as a restart would; lost: its file is gone. */
void fixture_index_again(struct fixture *fx, bool lost);
void fixture_fault(struct fixture *fx, enum obj_op op, const char *key_part,
		enum fixture_fault fault, enum obj_status status);
/* What hangs goes on to the store. */
void fixture_release(struct fixture *fx);

/* Run the loop until *flag, at most 20 s; fails the test otherwise. */
void fixture_until(struct fixture *fx, const bool *flag);
/* The same for a condition that no callback tells. */
#define FIXTURE_UNTIL(fx, condition)                                                               \
	do {                                                                                       \
		int turns_ = 0;                                                                    \
                                                                                                   \
		while (!(condition)) {                                                             \
			assert_true(turns_++ < 2000);                                              \
			fixture_idle(fx, 10);                                                      \
		}                                                                                  \
	} while (0)
/* Run it for some ms, in which something is not to happen. */
void fixture_idle(struct fixture *fx, int ms);

/* Store an object (directly, whatever the faults); meta: name, value, ..., NULL. The ETag, talloc. */
char *fixture_put(struct fixture *fx, const char *key, const void *data, size_t len, ...)
		__attribute__((sentinel));
void fixture_put_text(struct fixture *fx, const char *key, const char *text);
char *fixture_put_meta(struct fixture *fx, const char *key, const void *data, size_t len,
		const struct objmeta *meta);
void fixture_delete(struct fixture *fx, const char *key);
bool fixture_stored(struct fixture *fx, const char *key); /* is it there? */
/* The store has said what time it is: so far ahead of the real clock. */
void fixture_store_ahead(struct fixture *fx, int64_t seconds);

/* Requests by path below the tree; the message of the last one in fixture_message. */
int fixture_list(struct fixture *fx, const char *path, bool refresh);
int fixture_lookup(struct fixture *fx, const char *path, const char *name);
int fixture_rmdir(struct fixture *fx, const char *path, const char *name);
extern char fixture_message[512];

/* The tree, by path; what is asked of a name that is not there fails the test. */
bool fixture_exists(struct fixture *fx, const char *path);
bool fixture_is_dir(struct fixture *fx, const char *path);
struct stat fixture_stat(struct fixture *fx, const char *path);
unsigned fixture_count(struct fixture *fx, const char *path); /* names in a directory */
void fixture_write(struct fixture *fx, const char *path, const char *text); /* as a client would */
int fixture_open(struct fixture *fx, const char *path, int flags); /* fails the test on error */
struct ofs_record fixture_record(struct fixture *fx, const char *path);
void fixture_record_set(struct fixture *fx, const char *path, const struct ofs_record *rec);
bool fixture_has_oid(struct fixture *fx, const char *path, const struct ofs_oid *oid);
struct row *fixture_row(struct fixture *fx, const char *path); /* of its object id, or NULL */

#endif
