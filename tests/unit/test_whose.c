/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Duty: whose an object is: every case of the table, by what the row knows and what the object says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cached/mirror/base64.h"
#include "cached/reconcile/whose.h"

#define NODE "00112233445566778899aabbccddeeff"
#define OTHER_NODE "ffffffffffffffffffffffffffffffff"
#define KEY "p/a"
#define HEIR "heir 22222222222222222222222222222222"

/* Write ids and files by a letter. */
static struct ofs_oid id_of(char letter)
{
	struct ofs_oid id;

	memset(id.bytes, letter == '-' || letter == '%' ? 0 : letter, sizeof(id.bytes));
	return id;
}

enum tool { OURS = 0, OTHER, OLD, NONE, TOMB, BROKEN }; /* who has written the metadata */

struct wcase {
	const char *what;
	/* the row: wid '-' not known, '%' nor that, and the file is named by its key; note in place of the version */
	const char *etag;
	char wid;
	const char *note;
	/* the object: ETag, metadata of whom, file ('f' is ours, '"' stands in HEIR), wid, parent: '=' the
	 * row's id, '-' none */
	const char *seen;
	enum tool by;
	char file, seen_wid, parent;
	int size; /* it has; its metadata says 5, as the row does */
	int gen;  /* its generations; the row's are 3 */
	enum whose want;
};

#define PARTS "0123-2"

static const struct wcase cases[] = {
	{"untouched", "E", 'w', NULL, "E", OURS, 'f', 'w', 'p', 5, 3, WHOSE_ROWS},
	{"untouched, version 1", "E", 'w', NULL, "E", OLD, 'f', 'w', '-', 5, 3, WHOSE_ROWS},
	{"untouched, wid not known yet", "E", '-', NULL, "E", OURS, 'f', 'w', 'p', 5, 3, WHOSE_ROWS},
	{"untouched, not ours", "E", '-', NULL, "E", NONE, 0, 0, 0, 5, 0, WHOSE_ROWS},
	{"our write of now", "E", 'w', NULL, "F", OURS, 'f', 'n', '=', 5, 4, WHOSE_NOW},
	{"lost answer", "E", 'w', NULL, "F", OURS, 'f', 'x', '=', 5, 4, WHOSE_EARLIER},
	{"lost answer, same generation", "E", 'w', NULL, "F", OURS, 'f', 'x', '=', 5, 3, WHOSE_EARLIER},
	{"lost answer, then edited to another size", "E", 'w', NULL, "G", OURS, 'f', 'x', '=', 6, 4, WHOSE_EDITED},
	{"lost answer over somebody's", "E", '-', NULL, "F", OURS, 'f', 'x', '=', 5, 4, WHOSE_EARLIER},
	{"lost answer of the first write", NULL, '-', NULL, "F", OURS, 'f', 'x', '-', 5, 1, WHOSE_EARLIER},
	{"lost answer, version 1", "E", 'w', NULL, "F", OLD, 'f', 'x', '-', 5, 4, WHOSE_EARLIER},
	{"lost answer of the first write, version 1", NULL, '-', NULL, "F", OLD, 'f', 'x', '-', 5, 1, WHOSE_EARLIER},
	{"first write, a tool's at the key that the file's id is of", NULL, '%', NULL, "F", NONE, 0, 0, 0, 5, 0, WHOSE_FOREIGN},
	{"edited, metadata kept", "E", 'w', NULL, "G", OURS, 'f', 'w', 'p', 5, 3, WHOSE_EDITED},
	{"edited, metadata kept, version 1", "E", '-', NULL, "G", OLD, 'f', 'w', '-', 5, 3, WHOSE_EDITED},
	{"an older version put back", "E", 'w', NULL, "D", OURS, 'f', 'v', 'p', 5, 2, WHOSE_EDITED},
	{"the first version put back", "E", 'w', NULL, "D", OURS, 'f', 'v', '-', 5, 1, WHOSE_EDITED},
	{"an older version, version 1", "E", 'w', NULL, "D", OLD, 'f', 'v', '-', 5, 3, WHOSE_EDITED},
	{"another node's", "E", 'w', NULL, "F", OTHER, 'f', 'x', '=', 5, 9, WHOSE_NODES},
	{"another node's, same bytes", "E", 'w', NULL, "E", OTHER, 'f', 'x', '=', 5, 9, WHOSE_NODES},
	{"replaced by a tool", "E", 'w', NULL, "F", NONE, 0, 0, 0, 5, 0, WHOSE_FOREIGN},
	{"replaced by a tool, same bytes", "E", 'w', NULL, "E", NONE, 0, 0, 0, 5, 0, WHOSE_FOREIGN},
	{"another file's", "E", 'w', NULL, "F", OURS, 'g', 'x', '=', 5, 9, WHOSE_FOREIGN},
	{"another file's, same bytes", "E", 'w', NULL, "E", OURS, 'g', 'x', '-', 5, 1, WHOSE_FOREIGN},
	{"a copy of what was sent in parts", PARTS, 'w', NULL, "F", OURS, 'f', 'w', 'p', 5, 3, WHOSE_ROWS},
	{"an edit of what was sent in parts", PARTS, 'w', NULL, "F", OURS, 'f', 'w', 'p', 6, 3, WHOSE_EDITED},
	{"deleted half way", "E", 'w', NULL, "0", TOMB, 'f', 'x', '-', 0, 0, WHOSE_TOMBSTONE},
	{"damaged", "E", 'w', NULL, "F", BROKEN, 0, 0, 0, 5, 0, WHOSE_UNREADABLE},
	/* it takes over the key of a file that was deleted */
	{"heir: what it replaces", "E", 'w', HEIR, "E", OURS, '"', 'w', 'p', 5, 3, WHOSE_ROWS},
	{"heir: lost answer of that", "E", 'w', HEIR, "F", OURS, '"', 'x', '=', 5, 3, WHOSE_EARLIER},
	{"heir: lost answer of its own", "E", 'w', HEIR, "F", OURS, 'f', 'x', '=', 5, 1, WHOSE_EARLIER},
	{"heir: that one edited", "E", 'w', HEIR, "G", OURS, '"', 'w', 'p', 5, 3, WHOSE_EDITED},
	{"heir: another file", "E", 'w', HEIR, "G", OURS, 'g', 'x', '=', 5, 3, WHOSE_FOREIGN},
	{"heir: never in S3, lost answer", NULL, '-', HEIR, "F", OURS, '"', 'x', '-', 5, 1, WHOSE_EARLIER},
	/* the index was lost; "lost E" stands for the note of fence E */
	{"lost: nothing known, ours", NULL, '-', "lost ", "F", OURS, 'f', 'x', 'p', 5, 3, WHOSE_ROWS},
	{"lost: nothing known, not ours", NULL, '-', "lost ", "F", NONE, 0, 0, 0, 5, 3, WHOSE_FOREIGN},
	{"lost: nothing known, a tool's at the key that its id is of", NULL, '%', "lost ", "F", NONE, 0, 0, 0, 5, 0, WHOSE_ROWS},
	{"lost: untouched", NULL, 'w', "lost E", "E", OURS, 'f', 'w', 'p', 5, 3, WHOSE_ROWS},
	{"lost: lost answer", NULL, 'w', "lost E", "F", OURS, 'f', 'x', '=', 5, 3, WHOSE_EARLIER},
	{"lost: edited", NULL, 'w', "lost E", "G", OURS, 'f', 'w', 'p', 5, 3, WHOSE_EDITED},
	{"lost: an older version", NULL, 'w', "lost E", "D", OURS, 'f', 'v', 'p', 5, 3, WHOSE_EDITED},
	{"lost: an older version, version 1", NULL, 'w', "lost E", "D", OLD, 'f', 'v', '-', 5, 9, WHOSE_EDITED},
	{"lost: another node's", NULL, 'w', "lost E", "F", OTHER, 'f', 'x', '=', 5, 3, WHOSE_NODES},
	{"lost: replaced by a tool", NULL, 'w', "lost E", "F", NONE, 0, 0, 0, 5, 0, WHOSE_FOREIGN},
	{"lost: a tool's, untouched", NULL, '#', "lost E", "E", NONE, 0, 0, 0, 5, 0, WHOSE_ROWS},
	{"lost: a tool's, replaced", NULL, '#', "lost E", "F", NONE, 0, 0, 0, 5, 0, WHOSE_FOREIGN},
	{"lost: in parts, copied", NULL, 'w', "lost E", PARTS, OURS, 'f', 'w', 'p', 5, 3, WHOSE_ROWS},
	{"lost: its heir, untouched", NULL, 'w', HEIR " lost E", "E", OURS, '"', 'w', 'p', 5, 3, WHOSE_ROWS},
	{"lost: its heir, edited", NULL, 'w', HEIR " lost E", "G", OURS, '"', 'w', 'p', 5, 3, WHOSE_EDITED},
};

/* "lost E" becomes the note that the record of a file of ETag E makes. */
static char *note_of(const char *text)
{
	const struct ofs_oid none = {{0}};
	struct ofs_clean clean;
	char *note = text != NULL ? calloc(1, strlen(text) + 32) : NULL;
	char *lost;

	if (note == NULL) {
		return NULL;
	}
	strcpy(note, text);
	lost = strstr(note, "lost E");
	if (lost != NULL) {
		objmeta_clean(&none, "E", &clean);
		sprintf(lost, ROW_LOST "%016llx", (unsigned long long)clean.fence);
	}
	return note;
}

static void object_of(const struct wcase *c, const struct row *row, struct obj_req *req)
{
	struct snapshot snapshot = {.mode = 0100644};
	struct objmeta m = {.ours = true, .data_gen = (uint64_t)c->gen, .meta_gen = (uint64_t)c->gen, .size = 5,
		.snapshot = c->by == TOMB ? NULL : &snapshot, .tombstone = c->by == TOMB};
	char *raw;

	m.oid = id_of(c->file);
	m.wid = id_of(c->seen_wid);
	m.parent = id_of(c->parent);
	if (c->parent == '=') {
		whose_parent(row, &m.parent);
	}
	assert_true(ofs_oid_parse(c->by == OTHER ? OTHER_NODE : NODE, &m.node));
	if (c->by == BROKEN) {
		assert_int_equal(objstore_req_meta(req, "objectfs", "broken"), 0);
	} else if (c->by != NONE) {
		assert_int_equal(objmeta_put(req, &m), 0);
	}
	raw = c->by == OLD ? req->meta[0].value : NULL;
	if (raw != NULL) {
		/* version 1: no size, no proof behind the parent. 82 bytes before them */
		uint8_t bytes[512];
		size_t len = 0;
		uint8_t *all;

		all = base64_decode(raw, strlen(raw), &len);
		assert_non_null(all);
		memcpy(bytes, all, 82);
		memcpy(bytes + 82, all + 91, len - 91);
		bytes[0] = 1;
		free(all);
		free(raw);
		req->meta[0].value = base64_encode(bytes, len - 9);
	}
}

static enum whose judge(const struct wcase *c)
{
	static struct volume v;
	struct ofs_oid file = id_of('f'), now = id_of('n');
	struct row row = {.etag = c->etag, .s3_size = 5, .s3_data_gen = 3, .s3_meta_gen = 3, .in_s3 = true};
	struct whose_known known = {.v = &v, .oid = &file, .row = &row, .wid = &now};
	struct obj_req *req = objstore_req_new(OBJ_PUT, KEY);
	struct obj_result r = {.status = OBJ_OK, .etag = (char *)c->seen, .size = c->size};
	char *note = note_of(c->note);
	struct objmeta m;
	enum whose who;

	snprintf(v.node_id, sizeof(v.node_id), NODE);
	row.version_id = note;
	row.wid = id_of(c->wid);
	if (c->wid == '#') { /* a tool's: named by its ETag, and the file by its key */
		const struct ofs_oid none = {{0}};

		objmeta_id(&none, "E", &row.wid);
		objmeta_foreign_oid(&v.uuid, KEY, &file);
	} else if (c->wid == '%') {
		objmeta_foreign_oid(&v.uuid, KEY, &file);
	}
	object_of(c, &row, req);
	r.meta = req->meta;
	r.meta_count = req->meta_count;
	who = whose_is(&known, KEY, &r, &m);
	objmeta_clear(&m);
	objstore_req_free(&req);
	free(note);
	return who;
}

static void test_table(void **state)
{
	unsigned failed = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum whose who = judge(&cases[i]);

		if (who != cases[i].want) {
			fprintf(stderr, "%s: %d, not %d\n", cases[i].what, (int)who, (int)cases[i].want);
			failed++;
		}
	}
	assert_int_equal(failed, 0);
}

/* Nothing is known of the object but whose it should be: a tombstone of a delete that has no row. */
static void test_no_row(void **state)
{
	static struct volume v;
	struct ofs_oid file = id_of('f');
	const struct whose_known known = {.v = &v, .oid = &file};
	struct obj_result r = {.status = OBJ_OK, .etag = (char *)"E", .size = 5};
	struct objmeta m;

	(void)state;
	assert_int_equal(whose_is(&known, KEY, &r, &m), WHOSE_FOREIGN);
	objmeta_clear(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_no_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
