/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: cut the power, and judge (sim_power.h).
 * Way: from sim_disk.c and sim_core.c; sim_cut.c cuts.
 * Thread: one.
 * Owns: who wrote what.
 * Holds, of a file that no client was told to be gone:
 *  1. flushed, or in S3: it is there, and has these bytes or later ones;
 *  2. data that is here is what a client wrote, whole, or nothing where it was cut off meanwhile; never a hole;
 *  3. all that is left comes to S3 as it is, once: each file is an object with its bytes, each object a file; nothing is
 *     there twice or in conflict;
 *  4. it is called what it was called at some time; and what it was called last, if S3 has it so;
 *  5. what was left of one cut is on the disk, whatever follows.
 */
#include "sim_power.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/base/stats.h"
#include "cached/mirror/snapshot.h"
#include "cached/reconcile/reconcile.h"
#include "sim_share.h"
#include "sim_tally.h"

static void on_told(void *arg)
{
	power_look(arg);
}

void power_begin(struct power *p, struct world *w)
{
	memset(p, 0, sizeof(*p));
	p->w = w;
	p->conflicts = stats_get(conflicts);
	cut_begin(&p->cut, w, on_told, p);
	power_look(p);
}

void power_end(struct power *p)
{
	cut_end(&p->cut);
}

/* ---- who has written what ---- */

static struct owner *owner_of(struct power *p, const struct ofs_oid *oid)
{
	for (unsigned i = 0; i < p->owner_count; i++) {
		if (ofs_oid_equal(&p->owners[i].oid, oid)) {
			return &p->owners[i];
		}
	}
	return NULL;
}

/* Whose bytes are these? *which: of its texts. */
static struct owner *owner_of_text(struct power *p, const char *text, unsigned *which)
{
	for (unsigned i = 0; i < p->owner_count; i++) {
		for (*which = 0; *which < p->owners[i].count; ++*which) {
			if (strcmp(p->owners[i].texts[*which], text) == 0) {
				return &p->owners[i];
			}
		}
	}
	return NULL;
}

static bool owner_was(const struct owner *o, const char *path)
{
	char key[300];

	world_key(path, key);
	for (unsigned i = 0; i < o->key_count; i++) {
		if (strcmp(o->keys[i], key) == 0) {
			return true;
		}
	}
	return false;
}

static const char *owner_key(const struct owner *o)
{
	return o->key_count > 0 ? o->keys[o->key_count - 1] : "";
}

static void owner_is_called(struct power *p, struct owner *o, const char *path)
{
	char key[300];

	world_key(path, key);
	if (strcmp(owner_key(o), key) == 0) {
		return;
	}
	if (o->key_count == OWNER_KEYS) {
		die(p->w, "too many names", path);
	}
	snprintf(o->keys[o->key_count++], sizeof(o->keys[0]), "%s", key);
}

static void owner_has(struct power *p, struct owner *o, const char *text)
{
	if (o->count > 0 && strcmp(o->texts[o->count - 1], text) == 0) {
		return;
	}
	if (o->count == OWNER_TEXTS) {
		die(p->w, "too many texts", text);
	}
	o->emptied[o->count] = true;
	snprintf(o->texts[o->count++], sizeof(o->texts[0]), "%s", text);
}

/* The model has a file that was called so, and the tree does not. */
static bool is_dropped(struct power *p, const struct owner *o)
{
	for (unsigned i = 0; i < p->w->file_count; i++) {
		char key[300];

		world_key(p->w->files[i].path, key);
		if (strcmp(key, owner_key(o)) == 0) {
			return !share_has(p->w, p->w->files[i].path);
		}
	}
	return false;
}

void power_look(struct power *p)
{
	bool seen[OWNERS_MOST] = {false};

	for (unsigned i = 0; i < p->w->file_count && !p->judging; i++) {
		const struct model_file *f = &p->w->files[i];
		struct ofs_record rec;
		struct owner *o;

		if (ofs_record_get_at(&p->w->rio, p->w->tree_fd, f->path, &rec) != 0) {
			continue; /* not yet; or its name was dropped */
		}
		o = owner_of(p, &rec.oid);
		if (o == NULL) {
			if (p->owner_count == OWNERS_MOST) {
				die(p->w, "too many files", f->path);
			}
			o = &p->owners[p->owner_count++];
			*o = (struct owner){.oid = rec.oid};
		}
		owner_is_called(p, o, f->path);
		owner_has(p, o, f->text);
		seen[o - p->owners] = true;
	}
	for (unsigned i = 0; i < p->owner_count && !p->judging; i++) {
		struct owner *o = &p->owners[i];

		o->ended = o->ended || (!seen[i] && !is_dropped(p, o));
	}
}

static struct owner *owner_at(struct power *p, const char *path)
{
	struct ofs_record rec;
	struct owner *o;

	power_look(p);
	o = ofs_record_get_at(&p->w->rio, p->w->tree_fd, path, &rec) == 0 ? owner_of(p, &rec.oid) : NULL;
	if (o == NULL) {
		die(p->w, "nobody's", path);
	}
	return o;
}

void power_patched(struct power *p, const char *path)
{
	struct owner *o = owner_at(p, path);

	o->emptied[o->count - 1] = false;
}

void power_flush(struct power *p, const char *path)
{
	int fd = openat(p->w->tree_fd, path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	struct owner *o;

	if (fd >= 0 && fsync(fd) == 0) {
		o = owner_at(p, path);
		o->kept = o->count - 1;
		o->promised = true;
	}
	close(fd);
}

/* ---- what is left ---- */

static bool may_be_empty(const struct owner *o)
{
	for (unsigned i = o->promised ? o->kept : 0; i < o->count; i++) {
		if (o->texts[i][0] == '\0' || (o->emptied[i] && (i > o->kept || !o->promised))) {
			return true;
		}
	}
	return false;
}

/* What S3 has is not lost. */
static void look_at_store(struct power *p)
{
	for (unsigned i = 0; i < p->owner_count; i++) {
		p->owners[i].objects = 0;
		p->owners[i].named = false;
	}
	for (const struct sim_object *obj = sim_objects(p->w->sim); obj != NULL; obj = obj->next) {
		char text[64];
		unsigned which;
		struct owner *o;

		snprintf(text, sizeof(text), "%.*s", (int)obj->len, (const char *)obj->data);
		o = judge_is_file(obj) && obj->len > 0 ? owner_of_text(p, text, &which) : NULL;
		if (o != NULL) {
			o->named = o->objects++ == 0 && strcmp(owner_key(o), obj->key) == 0;
			o->kept = !o->promised || which > o->kept ? which : o->kept;
			o->promised = true;
		} else if (judge_is_file(obj) && obj->len > 0) {
			die(p->w, "an object that nobody wrote", obj->key);
		}
	}
}

/* Of a file whose data is here. */
static void text_of(struct power *p, struct owner *o, const char *path)
{
	int fd = openat(p->w->tree_fd, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char text[64] = "";
	ssize_t n = fd >= 0 ? pread(fd, text, sizeof(text) - 1, 0) : -1;

	close(fd);
	for (o->text = 0; o->text < o->count && n == (ssize_t)strlen(text) && strcmp(o->texts[o->text], text) != 0; o->text++) {
	}
	if (n == 0 && may_be_empty(o)) {
		o->text = o->count;
		return;
	}
	if (n != (ssize_t)strlen(text) || o->text == o->count) {
		fprintf(stderr, "%zd bytes: '%s'\n", n, text);
		die(p->w, "after the cut a file has bytes that nobody wrote to it", path);
	}
	if (o->promised && o->text < o->kept) {
		fprintf(stderr, "'%s', and not '%s'\n", text, o->texts[o->kept]);
		die(p->w, "after the cut a file is older than what was flushed, or is in S3", path);
	}
}

static void look_at_tree(struct power *p)
{
	struct world *w = p->w;

	for (unsigned i = 0; i < p->owner_count; i++) {
		p->owners[i].here = false;
	}
	share_look(w);
	for (unsigned i = 0; i < w->file_count; i++) {
		const char *path = w->files[i].path;
		struct ofs_record rec;
		int ret = ofs_record_get_at(&w->rio, w->tree_fd, path, &rec);
		struct owner *o = ret == 0 ? owner_of(p, &rec.oid) : NULL;

		if (ret != 0 && (ret != -ENODATA || share_has_stub(w, path))) {
			die(w, "after the cut a file's record cannot be read", path);
		}
		if (o == NULL) {
			continue; /* its writer died with it */
		}
		if (o->here) {
			die(w, "after the cut a file is there twice", path);
		}
		o->here = true;
		o->plain = (rec.flags & OFS_REC_STUB) == 0;
		snprintf(o->path, sizeof(o->path), "%s", path);
		if (o->plain) {
			text_of(p, o, path);
		}
		if (!owner_was(o, path)) {
			die(w, "after the cut a file has a name that it never had", path);
		}
	}
}

/* It is all on the disk: later names and bytes never were. */
static void promise_what_is_left(struct power *p)
{
	for (unsigned i = 0; i < p->owner_count; i++) {
		struct owner *o = &p->owners[i];

		if (!o->here) {
			continue;
		}
		owner_is_called(p, o, o->path);
		if (o->plain) {
			if (o->text == o->count) {
				owner_has(p, o, "");
			}
			o->kept = o->text;
			o->count = o->text + 1;
			o->promised = true;
		}
	}
}

/* ---- and what comes of it ---- */

static void judge_file(struct power *p, const struct model_file *f, bool seen[OWNERS_MOST])
{
	unsigned which = 0;
	char key[300];
	struct ofs_record rec;
	struct owner *o = ofs_record_get_at(&p->w->rio, p->w->tree_fd, f->path, &rec) == 0 ? owner_of(p, &rec.oid) : NULL;
	struct owner *writer = *f->text != '\0' ? owner_of_text(p, f->text, &which) : o;

	if (writer == NULL && *f->text != '\0') {
		die(p->w, "bytes that nobody wrote", f->path);
	}
	if (o != NULL && writer != o) {
		die(p->w, "a file has another one's bytes", f->path);
	}
	if (writer == NULL) {
		return; /* made, and its client never heard of it */
	}
	if (seen[writer - p->owners]) {
		die(p->w, "a file is there twice", f->path);
	}
	seen[writer - p->owners] = true;
	if (writer->promised && (*f->text != '\0' ? which < writer->kept : !may_be_empty(writer))) {
		fprintf(stderr, "'%s', and not '%s'\n", f->text, writer->texts[writer->kept]);
		die(p->w, "a file is older than what was flushed, or was in S3", f->path);
	}
	if (writer->here && writer->plain &&
			strcmp(f->text, writer->text < writer->count ? writer->texts[writer->text] : "") != 0) {
		fprintf(stderr, "'%s', and not '%s'\n", f->text,
				writer->text < writer->count ? writer->texts[writer->text] : "");
		die(p->w, "a file has other bytes than after the cut", f->path);
	}
	if (!owner_was(writer, f->path)) {
		die(p->w, "a file has a name that it never had", f->path);
	}
	world_key(f->path, key);
	if (writer->named && !writer->ended && strcmp(key, owner_key(writer)) != 0) {
		fprintf(stderr, "'%s', and not '%s'\n", key, owner_key(writer));
		die(p->w, "a file is not called what it was called in S3", f->path);
	}
}

/* What has left the disk again is what its object is. */
static void model_is_share(struct world *w)
{
	share_look(w);
	for (unsigned i = 0; i < w->file_count; i++) {
		struct model_file *f = &w->files[i];
		const struct sim_object *o;
		char key[300];

		world_key(f->path, key);
		o = share_has_stub(w, f->path) ? sim_object(w->sim, key) : NULL;
		if (o != NULL) {
			snprintf(f->text, sizeof(f->text), "%.*s", (int)o->len, (const char *)o->data);
		}
	}
}

static void judge_share(struct power *p)
{
	bool seen[OWNERS_MOST] = {false};
	struct world *w = p->w;

	share_is_store(w);
	model_is_share(w);
	for (unsigned i = 0; i < w->file_count; i++) {
		judge_file(p, &w->files[i], seen);
	}
	for (unsigned i = 0; i < p->owner_count; i++) {
		const struct owner *o = &p->owners[i];

		/* A delete that the cut has undone is undone in S3, too. */
		if (!seen[i] && (o->here || (o->promised && !o->ended))) {
			die(w, o->here ? "a file that was there after the cut is lost" : "a file is lost",
					o->here ? o->path : owner_key(o));
		}
	}
	if (stats_get(conflicts) != p->conflicts) {
		die(w, "a conflict", "nobody else writes");
	}
}

/* What is there now is what clients know, and S3 has all of it: times and rights, too. */
static void begin_anew(struct power *p)
{
	struct world *w = p->w;

	for (unsigned i = 0; i < w->file_count; i++) {
		struct model_file *f = &w->files[i];
		char path[400];
		ssize_t n;

		snprintf(path, sizeof(path), "%s/tree/%s", w->root, f->path);
		n = getxattr(path, snapshot_ntacl_name(w->rio.xattr), f->rights, sizeof(f->rights) - 1);
		f->rights[n > 0 ? n : 0] = '\0';
	}
	world_drain(w);
	p->owner_count = 0;
	p->judging = false;
	power_look(p);
}

void power_cut(struct power *p, enum lossy_how how, uint64_t seed)
{
	if (!cut_is_gone(&p->cut)) {
		power_look(p);
	}
	cut_dies(&p->cut);
	look_at_store(p);
	cut_loses(&p->cut, how, seed);
	look_at_tree(p);
	promise_what_is_left(p);
	p->judging = true;
	world_boot(p->w);
}

void power_judge(struct power *p)
{
	world_settle(p->w);
	share_list(p->w, 2);
	judge_share(p);
	world_no_uploads(p->w);
	begin_anew(p);
}
