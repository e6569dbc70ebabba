/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the other tool of sim_others.h: it puts, edits, copies, renames, deletes and puts back, and keeps metadata of ours
 * or does not.
 * Way: sim_store.c before it serves a request of ours; sim_others.c while the daemon is dead. Thread: one.
 * Owns: the backups, and what it remembers of writes of ours that have covered its own.
 * Holds: all that it writes and replaces is told the judge; what the class of the store lets us lose (docs/SEMANTICS.md)
 * has ended.
 */
#include "cached/mirror/objmeta.h"
#include "cached/reconcile/private.h"
#include "sim_others.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW_NS (200 * NS_PER_MS) /* from the look to the write that goes by it: two requests, and some */
#define YOUNG_NS (5 * NS_PER_S)    /* nobody may have been told yet that it is there: by metadata and size it is known */

static const char *text_of(const struct sim_object *o, char text[64])
{
	snprintf(text, 64, "%.*s", (int)o->len, (const char *)o->data);
	return text;
}

static void backup_free(struct backup *b)
{
	for (unsigned i = 0; i < b->meta_count; i++) {
		free(b->meta[i].name);
		free(b->meta[i].value);
	}
	free(b->meta);
	free(b->text);
}

static void backup_make(struct others *x, const struct sim_object *o)
{
	struct backup *b = &x->backups[x->backup_count % BACKUPS];
	char text[64];

	backup_free(b);
	snprintf(b->key, sizeof(b->key), "%s", o->key);
	b->text = strdup(text_of(o, text));
	b->meta = calloc(o->meta_count + 1, sizeof(*b->meta));
	b->meta_count = o->meta_count;
	for (unsigned i = 0; i < o->meta_count; i++) {
		b->meta[i].name = strdup(o->meta[i].name);
		b->meta[i].value = strdup(o->meta[i].value);
	}
	x->backup_count++;
}

static bool is_marker(const char *key)
{
	return key[strlen(key) - 1] == '/';
}

/* Some file's object, or NULL. */
static struct sim_object *pick_object(struct others *x, const char *prefix)
{
	struct sim_object *o, *picked = NULL;
	unsigned n = 0;

	for (o = sim_objects(x->w.sim); o != NULL; o = o->next) {
		if (strncmp(o->key, prefix, strlen(prefix)) == 0 && judge_is_file(o) &&
				sim_random(x->w.sim, ++n) == 0) {
			picked = o;
		}
	}
	return picked;
}

/* What covers a write of ours before it has looked hides what lies under it. */
static void other_hides(struct others *x, const char *key)
{
	for (unsigned i = 0; i < HIDDEN; i++) {
		struct hidden *h = &x->hidden[i];

		if (strcmp(h->key, key) == 0 && clock_now_ns(sim_clock(x->w.sim)) - h->at_ns < HIDDEN_NS) {
			judge_ended(&x->j, h->text, strlen(h->text), "hidden by the other tool");
			h->key[0] = '\0';
		}
	}
}

/* What is there is replaced by who sees it; what is of no bytes is nobody's loss. */
static void other_put(struct others *x, const char *key, const char *text, bool is_new, const struct obj_meta *meta,
		unsigned count)
{
	static const struct obj_meta own[] = {{"author", "another tool"}, {"mtime", "1600000000.5"}};
	const struct sim_object *o = sim_object(x->w.sim, key);

	if (o != NULL && !sim_object_is(o, text)) {
		judge_ended(&x->j, o->data, o->len, "overwritten by the other tool");
	}
	if (is_new) {
		judge_written(&x->j, text, true);
	}
	other_hides(x, key);
	world_trace(&x->w, "other puts", key, text);
	sim_put_with(x->w.sim, key, text, meta != NULL ? meta : own, meta != NULL ? count : 2);
}

static void other_remove(struct others *x, const char *key)
{
	const struct sim_object *o = sim_object(x->w.sim, key);

	if (o != NULL) {
		judge_ended(&x->j, o->data, o->len, "deleted by the other tool");
		other_hides(x, key);
		world_trace(&x->w, "other deletes", key, "");
		sim_remove(x->w.sim, key);
	}
}

static void fresh_key(struct others *x, const char *beside, char key[300])
{
	const char *slash = strrchr(beside, '/');

	snprintf(key, 300, "%.*so%u", slash != NULL ? (int)(slash + 1 - beside) : 0, beside, x->serial++);
}

static void new_text(struct others *x, const struct sim_object *o, char text[64])
{
	int pad = 0;

	if (o != NULL && sim_random(x->w.sim, 3) == 0) {
		pad = (int)o->len; /* of the same size */
	}
	snprintf(text, 64, "other %-*u", pad > 6 && pad < 64 ? pad - 6 : 0, x->serial++);
}

/* The bytes of the client's file of this key. */
static bool text_here(struct others *x, const char *key, char text[64])
{
	int fd = openat(x->w.tree_fd, key + 2, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct ofs_record rec;
	ssize_t n = -1;

	if (fd >= 0 && ofs_record_get(&x->w.rio, fd, &rec) == 0 && (rec.flags & OFS_REC_STUB) == 0) {
		n = pread(fd, text, 63, 0);
	}
	if (fd >= 0) {
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static void other_copy(struct others *x, const struct sim_object *o, bool rename)
{
	char to[300], text[64];

	fresh_key(x, o->key, to);
	other_put(x, to, text_of(o, text), true, o->meta, o->meta_count);
	if (rename) {
		other_remove(x, o->key);
	}
}

/* No row may say yet that it is there: by its metadata and size it is known, and bytes of the same size with them are taken
 * for it (docs/SEMANTICS.md). The daemon that wrote it may have been killed before it knew, and even before it was there; and the next
 * ones, too. */
static bool is_young(struct others *x, const struct sim_object *o)
{
	int64_t now = sim_store_ns(x->w.sim);

	return now - o->mtime_ns < YOUNG_NS ||
	       (now - x->killed_ns < HIDDEN_NS && o->mtime_ns > x->killed_since_ns - YOUNG_NS &&
			       o->mtime_ns < x->killed_ns + YOUNG_NS);
}

/* What its metadata say that our write had; of an edit that kept them not its own size. 0: they are not ours. */
static size_t size_said(const struct sim_object *o)
{
	const struct obj_result r = {.meta = o->meta, .meta_count = o->meta_count};
	struct objmeta m = {0};
	bool damaged;
	size_t size;

	objmeta_read(&r, &m, &damaged);
	size = m.ours ? (size_t)m.size : 0;
	objmeta_clear(&m);
	return size;
}

/* What is there now, or of another file: its metadata, on bytes of the tool's own. Where objects come in parts, or say what
 * they are a copy of, bytes of the same size with our metadata are taken for a copy of ours (FORMAT.md). */
static void other_edit(struct others *x, const char *key, const struct sim_object *o, const struct sim_object *like)
{
	const struct obj_result r = {.meta = like->meta, .meta_count = like->meta_count};
	bool young = o != NULL && is_young(x, o), copied = x->w.parts || objstore_meta_get(&r, COPY_OF_META) != NULL;
	char text[64];

	new_text(x, young || copied ? NULL : o, text);
	if (like->foreign && like->len != size_said(like) && size_said(like) == strlen(text)) {
		return; /* an edit of an edit, and of that write's size again: as if it were young */
	}
	if ((!young || o->len != strlen(text)) && (!copied || like->len != strlen(text))) {
		other_put(x, key, text, true, like->meta, like->meta_count);
	}
}

static void other_puts_back(struct others *x)
{
	unsigned n = x->backup_count < BACKUPS ? x->backup_count : BACKUPS;
	const struct backup *b = n > 0 ? &x->backups[sim_random(x->w.sim, n)] : NULL;

	if (b != NULL && *b->text != '\0' && strstr(b->key, "/.objectfs/") == NULL) {
		other_put(x, b->key, b->text, false, b->meta, b->meta_count);
	}
}

static void other_acts(struct others *x, const char *near)
{
	const struct sim_object *o = sim_object(x->w.sim, near), *like;
	char key[300], text[64];

	snprintf(key, sizeof(key), "%s", near);
	switch (sim_random(x->w.sim, 16)) {
	default:
		new_text(x, o, text);
		other_put(x, key, text, true, NULL, 0);
		return;
	case 4:
	case 5:
	case 6:
		other_remove(x, key);
		return;
	case 7:
		if (o != NULL && o->len > 0) {
			other_edit(x, key, o, o);
		}
		return;
	case 8:
		if (o != NULL) { /* and its metadata are lost */
			other_put(x, key, text_of(o, text), false, NULL, 0);
		}
		return;
	case 9:
		if (text_here(x, key, text)) {
			other_put(x, key, text, false, NULL, 0);
		}
		return;
	case 10:
	case 11:
		if (o != NULL && o->len > 0) {
			other_copy(x, o, sim_random(x->w.sim, 2) == 0);
		}
		return;
	case 12:
		other_puts_back(x);
		return;
	case 13:
		like = pick_object(x, "p/");
		if (like != NULL && like->len > 0) {
			other_edit(x, key, o, like);
		}
		return;
	case 14:
		other_put(x, key, "", false, NULL, 0);
		return;
	case 15:
		fresh_key(x, near, key);
		new_text(x, NULL, text);
		other_put(x, key, text, true, NULL, 0);
		return;
	}
}

/* ---- between two requests ---- */

static void on_request(void *arg, const struct obj_req *q)
{
	struct others *x = arg;
	const char *near = q->source_key != NULL && sim_random(x->w.sim, 2) == 0 ? q->source_key : q->key;
	const struct sim_object *o = NULL;
	char key[300];

	if (!x->acting || x->acts == 0 || strncmp(near, "p/", 2) != 0 ||
			strncmp(near, "p/.objectfs/", 12) == 0 || sim_random(x->w.sim, 5) != 0) {
		return;
	}
	if (q->op == OBJ_LIST) {
		o = pick_object(x, near);
	} else if (sim_random(x->w.sim, 8) == 0) {
		o = pick_object(x, "p/");
	}
	snprintf(key, sizeof(key), "%s", o != NULL ? o->key : near);
	if (is_marker(key) || (strstr(key, " (conflict ") != NULL && sim_object(x->w.sim, key) == NULL)) {
		return; /* nobody guesses these names */
	}
	x->acts--;
	other_acts(x, key);
}

static void on_covers(void *arg, const struct sim_object *o, const struct obj_req *q)
{
	struct others *x = arg;
	struct hidden *h = &x->hidden[x->hidden_count % HIDDEN];
	bool unfenced = x->fence_class == 0 || (x->fence_class == 2 && q->op != OBJ_PUT);

	if (o->foreign && unfenced && sim_store_ns(x->w.sim) - o->mtime_ns < WINDOW_NS) {
		judge_ended(&x->j, o->data, o->len, "covered in a window");
	} else if (o->foreign && x->fence_class == 1) {
		snprintf(h->key, sizeof(h->key), "%s", o->key);
		text_of(o, h->text);
		h->at_ns = clock_now_ns(sim_clock(x->w.sim));
		x->hidden_count++;
	}
}

static void on_stored(void *arg, const struct sim_object *o)
{
	struct others *x = arg;

	judge_stored(&x->j, o);
	if (!is_marker(o->key) && o->len > 0 && sim_random(x->w.sim, 4) == 0) {
		backup_make(x, o);
	}
}

/* ---- from the outside ---- */

void tool_start(struct others *x, unsigned acts)
{
	x->acts = acts;
	x->acting = true;
	x->watch = (struct sim_watch){on_request, on_covers, on_stored, x};
	sim_set_watch(x->w.sim, &x->watch);
}

void tool_act(struct others *x)
{
	const struct sim_object *o = pick_object(x, "p/");
	char key[300];

	if (o != NULL) {
		snprintf(key, sizeof(key), "%s", o->key);
		other_acts(x, key);
	}
}

void tool_rest(struct others *x)
{
	x->acting = false;
}

void tool_stop(struct others *x)
{
	sim_set_watch(x->w.sim, NULL);
	for (unsigned i = 0; i < BACKUPS; i++) {
		backup_free(&x->backups[i]);
	}
}
