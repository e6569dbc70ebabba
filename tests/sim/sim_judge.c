/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the judge of sim_judge.h.
 * Way: sim_others.c tells what clients do, sim_tool.c what the other tool does, sim_store.c what is stored.
 * Thread: one.
 * Owns: the versions.
 * Holds:
 *  1. what a write has replaced is what its writer saw: a client the bytes in its file, or of the version that a stub
 *     was of; the other tool the object that was there;
 *  2. too much may be there, never too little; bytes of two versions, or of none, never;
 *  3. a power cut takes of what clients wrote what neither the disk nor the store has, and that was neither flushed nor
 *     sent; and it leaves no file in pieces.
 */
#include "sim_judge.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "sim_share.h"

void judge_free(struct judge *j)
{
	for (unsigned i = 0; i < j->count; i++) {
		for (unsigned e = 0; e < j->versions[i].etag_count; e++) {
			free(j->versions[i].etags[e]);
		}
		free(j->versions[i].text);
	}
	free(j->versions);
	memset(j, 0, sizeof(*j));
}

static struct version *judge_find(struct judge *j, const void *data, size_t len)
{
	for (unsigned i = j->count; i > 0; i--) {
		struct version *v = &j->versions[i - 1];

		if (strlen(v->text) == len && memcmp(v->text, data, len) == 0) {
			return v;
		}
	}
	return NULL;
}

void judge_written(struct judge *j, const char *text, bool foreign)
{
	struct version *v = judge_find(j, text, strlen(text));

	if (*text == '\0') {
		return;
	}
	if (v == NULL) {
		if ((j->count & (j->count - 1)) == 0) {
			j->versions = realloc(j->versions, (2 * j->count + 1) * sizeof(*j->versions));
		}
		v = &j->versions[j->count++];
		*v = (struct version){.text = strdup(text), .foreign = foreign};
	}
	v->live++;
}

struct version *judge_known(struct judge *j, const void *data, size_t len, const char *where)
{
	struct version *v = judge_find(j, data, len);

	if (v == NULL && len > 0) {
		fprintf(stderr, "%.*s\n", (int)len, (const char *)data);
		die(j->w, "bytes that nobody wrote", where);
	}
	return v;
}

void judge_ended(struct judge *j, const void *data, size_t len, const char *how)
{
	struct version *v = judge_find(j, data, len);

	if (v != NULL && v->live > 0) {
		world_trace(j->w, how, "", v->text);
		v->live--;
		v->ended = how;
	}
}

const char *judge_text(const struct judge *j, const char *etag)
{
	for (unsigned i = 0; etag != NULL && i < j->count; i++) {
		for (unsigned e = 0; e < j->versions[i].etag_count; e++) {
			if (strcmp(j->versions[i].etags[e], etag) == 0) {
				return j->versions[i].text;
			}
		}
	}
	return NULL;
}

void judge_stored(struct judge *j, const struct sim_object *o)
{
	struct version *v = judge_known(j, o->data, o->len, o->key);

	if (v != NULL && judge_text(j, o->etag) == NULL && v->etag_count < VERSION_ETAGS) {
		v->etags[v->etag_count++] = strdup(o->etag);
	}
}

void judge_flushed(struct judge *j, const char *text)
{
	struct version *v = judge_find(j, text, strlen(text));

	if (v != NULL) {
		v->flushed = true;
	}
}

static unsigned objects_of(struct judge *j, const char *text)
{
	unsigned there = 0;

	for (const struct sim_object *o = sim_objects(j->w->sim); o != NULL; o = o->next) {
		there += judge_is_file(o) && sim_object_is(o, text);
	}
	return there;
}

/* Its data is here: what somebody wrote, whole, or nothing. */
static bool is_whole(struct judge *j, const struct model_file *f)
{
	struct ofs_record rec = {0};
	struct stat st;

	if (fstatat(j->w->tree_fd, f->path, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		die(j->w, "after the cut a file cannot be looked at", f->path);
	}
	(void)ofs_record_get_at(&j->w->rio, j->w->tree_fd, f->path, &rec); /* its writer may have died before that */
	if ((st.st_mode & OFS_MARKER_MODE) != 0 || (rec.flags & OFS_REC_STUB) != 0) {
		return false;
	}
	if (st.st_size != (off_t)strlen(f->text)) {
		die(j->w, "after the cut a file has a hole", f->path);
	}
	judge_known(j, f->text, strlen(f->text), f->path);
	return true;
}

void judge_cut(struct judge *j)
{
	struct world *w = j->w;
	bool whole[MODEL_FILES];

	share_look(w);
	for (unsigned i = 0; i < w->file_count; i++) {
		whole[i] = is_whole(j, &w->files[i]);
	}
	for (unsigned n = 0; n < j->count; n++) {
		struct version *v = &j->versions[n];
		unsigned there = v->foreign || v->live == 0 ? v->live : objects_of(j, v->text);

		for (unsigned i = 0; i < w->file_count && there < v->live; i++) {
			there += whole[i] && strcmp(w->files[i].text, v->text) == 0;
		}
		if (v->live > 0 && there == 0 && (v->flushed || v->etag_count > 0)) {
			die(w, v->flushed ? "what was flushed is lost with the power" : "what was sent is lost with the power",
					v->text);
		}
		while (v->live > there) {
			judge_ended(j, v->text, strlen(v->text), "lost with the power");
		}
	}
}

bool judge_is_file(const struct sim_object *o)
{
	return strncmp(o->key, "p/.objectfs/", 12) != 0 && o->key[strlen(o->key) - 1] != '/';
}

void judge_store(struct judge *j)
{
	for (unsigned i = 0; i < j->count; i++) {
		struct version *v = &j->versions[i];
		unsigned there = objects_of(j, v->text);

		if (there < v->live) {
			fprintf(stderr, "%u of %u are there\n", there, v->live);
			die(j->w, v->foreign ? "another tool's version is lost" : "a client's version is lost", v->text);
		}
	}
	for (const struct sim_object *o = sim_objects(j->w->sim); o != NULL; o = o->next) {
		if (strstr(o->key, "/.objectfs/stage/") || strstr(o->key, "/.objectfs/rename/")) {
			die(j->w, "left behind", o->key);
		}
		if (judge_is_file(o)) {
			judge_known(j, o->data, o->len, o->key);
		}
	}
}
