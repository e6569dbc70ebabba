/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: notice that the users of this server are not those whom the rights in the bucket name.
 * Way: a module tells who comes in (dispatch.c) -> here -> the volume record (volrec.c), read again by
 * whoever serves the volume next; told to people by health, status and at the door.
 * Thread: core. Owns: what the record says, what modules say.
 * Holds: 1. What is in the record changes only by additions, or by accept.
 *        2. Nobody comes in by a SID that had another name: he would have another's rights. Another
 *           machine's SID is only told: its users are strangers to all rights, which is safe.
 *        3. Nothing of another machine's is added to the record, nor a second SID for a name.
 *        4. Of a domain only its SID is kept: who its users are it says itself.
 */
#include "accounts.h"

#include <errno.h>
#include <string.h>

#include "../base/log.h"
#include "../base/stats.h"
#include "volrec.h"
#include "volume.h"

#define NAMES_MAX 400 /* with all else below what a record may have */
#define NAME_MAX_BYTES 64
#define SID_MAX_BYTES 60
#define NAMED_MOST 3 /* in one sentence */

struct accounts {
	struct volume *v;
	/* as in the record */
	char *sid; /* NULL: not said */
	bool domain;
	json_t *names; /* SID: name */
	/* as modules say */
	char *here; /* NULL: not said */
	bool here_domain;
	json_t *told; /* SID: name */
	/* being written */
	bool writing, again;
	bool taking; /* what is told replaces what is recorded */
	json_t *next; /* the record as it is sent */
	void (*accepted)(int status, const char *message, void *arg); /* NULL: nobody waits */
	void *accepted_arg;
};

static void accounts_write(struct accounts *a);

bool accounts_sid_sound(const char *sid)
{
	size_t len = strlen(sid);

	return len <= SID_MAX_BYTES && strncmp(sid, "S-1-", 4) == 0 &&
	       strspn(sid + 4, "0123456789-") == len - 4 && len > 4;
}

static int accounts_destroy(struct accounts *a)
{
	json_decref(a->names);
	json_decref(a->told);
	json_decref(a->next);
	return 0;
}

struct accounts *accounts_new(struct volume *v)
{
	struct accounts *a = talloc_zero(v, struct accounts);

	if (a == NULL) {
		return NULL;
	}
	a->v = v;
	a->names = json_object();
	a->told = json_object();
	talloc_set_destructor(a, accounts_destroy);
	return a;
}

/* ---- the record ---- */

void accounts_loaded(struct accounts *a, const json_t *record)
{
	const char *sid = json_string_value(json_object_get(record, ACCOUNTS_SID)), *key;
	json_t *name;

	if (a == NULL) {
		return;
	}
	TALLOC_FREE(a->sid);
	if (sid != NULL && accounts_sid_sound(sid)) {
		a->sid = talloc_strdup(a, sid);
	}
	a->domain = json_is_true(json_object_get(record, ACCOUNTS_DOMAIN));
	json_object_clear(a->names);
	json_object_foreach((json_t *)json_object_get(record, ACCOUNTS_NAMES), key, name)
	{
		if (accounts_sid_sound(key) && json_is_string(name)) {
			json_object_set(a->names, key, name);
		}
	}
}

/* true: so it was already. */
static bool same(const char *sid, bool domain, const struct accounts *a)
{
	return sid != NULL && a->here != NULL && strcmp(sid, a->here) == 0 && domain == a->here_domain;
}

/* As far as the last number: the machine, unix users, unix groups. */
static bool same_kind(const char *one, const char *two)
{
	size_t len = (size_t)(strrchr(one, '-') - one);

	return strncmp(one, two, len + 1) == 0 && strchr(two + len + 1, '-') == NULL;
}

/* The other SID of this kind that a name had, or NULL: the files that say so are not this one's now. */
static const char *sid_before(const json_t *names, const char *sid, const char *name)
{
	const char *key;
	json_t *had;

	json_object_foreach((json_t *)names, key, had)
	{
		const char *text = json_string_value(had);

		if (text != NULL && strcmp(text, name) == 0 && strcmp(key, sid) != 0 &&
				accounts_sid_sound(key) && same_kind(key, sid)) {
			return key;
		}
	}
	return NULL;
}

static bool edit_names(json_t *record, const struct accounts *a)
{
	json_t *names = json_object_get(record, ACCOUNTS_NAMES), *name;
	bool changed = false;
	const char *sid;

	if (!json_is_object(names) && json_object_size(a->told) > 0) {
		names = json_object();
		json_object_set_new(record, ACCOUNTS_NAMES, names);
	}
	json_object_foreach(a->told, sid, name)
	{
		const json_t *has = json_object_get(names, sid);
		const char *before = sid_before(names, sid, json_string_value(name));

		if (before != NULL && !a->taking) {
			continue;
		}
		if (has != NULL ? a->taking && !json_equal(has, name)
				: json_object_size(names) < NAMES_MAX || before != NULL) {
			json_object_set(names, sid, name);
			if (before != NULL) {
				json_object_del(names, before);
			}
			changed = true;
		}
	}
	return changed;
}

static bool edit_record(json_t *record, void *arg)
{
	struct accounts *a = arg;
	const char *sid = json_string_value(json_object_get(record, ACCOUNTS_SID));
	bool domain = json_is_true(json_object_get(record, ACCOUNTS_DOMAIN));
	bool changed = false;

	json_decref(a->next);
	a->next = NULL;
	if (a->here == NULL) {
		return false;
	}
	if (!same(sid, domain, a)) {
		if (sid != NULL && sid[0] != '\0' && !a->taking) {
			accounts_loaded(a, record); /* another node was here first */
			return false;
		}
		json_object_set_new(record, ACCOUNTS_SID, json_string(a->here));
		json_object_set_new(record, ACCOUNTS_DOMAIN, json_boolean(a->here_domain));
		if (a->taking) {
			json_object_del(record, ACCOUNTS_NAMES);
		}
		changed = true;
	}
	changed = edit_names(record, a) || changed;
	a->next = json_incref(record);
	return changed;
}

static void accounts_written(int status, const char *message, void *arg)
{
	struct accounts *a = arg;
	void (*accepted)(int, const char *, void *) = a->accepted;

	a->writing = false;
	if (status == 0 && a->next != NULL) {
		accounts_loaded(a, a->next);
	} else if (status != 0) { /* the next client that comes in tries again */
		log_warning("core", "volume %s: accounts cannot be kept in the volume record: %s",
				a->v->name, message != NULL ? message : strerror(-status));
	}
	json_decref(a->next);
	a->next = NULL;
	if (a->again) {
		a->again = false;
		accounts_write(a);
		return;
	}
	a->taking = false;
	if (accepted != NULL) {
		a->accepted = NULL;
		accepted(status, message, a->accepted_arg);
	}
}

static void accounts_write(struct accounts *a)
{
	if (a->writing) {
		a->again = true;
		return;
	}
	a->writing = true;
	volrec_amend(a->v, edit_record, accounts_written, a);
}

/* Something that the record should have and has not. */
static bool lacks(const struct accounts *a)
{
	json_t *name;
	const char *sid;

	if (a->here == NULL || a->v->read_only != NULL ||
			(a->sid != NULL && !same(a->sid, a->domain, a))) {
		return false;
	}
	if (a->sid == NULL) {
		return true;
	}
	json_object_foreach(a->told, sid, name)
	{
		if (json_object_get(a->names, sid) == NULL &&
				json_object_size(a->names) < NAMES_MAX &&
				sid_before(a->names, sid, json_string_value(name)) == NULL) {
			return true;
		}
	}
	return false;
}

void accounts_ready(struct accounts *a)
{
	if (a != NULL && lacks(a)) {
		accounts_write(a);
	}
}

void accounts_accept(struct accounts *a, void (*done)(int status, const char *message, void *arg),
		void *arg)
{
	if (a->here == NULL) {
		done(-EAGAIN, "it is not known yet whose accounts this server has: connect to the share",
				arg);
		return;
	}
	if (a->v->state != VOLUME_READY || a->accepted != NULL) {
		done(-EBUSY, a->accepted != NULL ? "it is being done" : "the bucket is not reached", arg);
		return;
	}
	a->taking = true;
	a->accepted = done;
	a->accepted_arg = arg;
	accounts_write(a);
}

/* ---- who comes in ---- */

static char *say_other(TALLOC_CTX *ctx, const char *sid, const char *was, const char *is)
{
	return talloc_asprintf(ctx,
			"%s was %s when rights were given to it, and is %s on this server, who would have "
			"these rights", sid, was, is);
}

/* One of the pairs; false: it is not one. */
static bool take_pair(struct accounts *a, const char *sid, const char *name, TALLOC_CTX *ctx,
		char **other)
{
	const char *was = json_string_value(json_object_get(a->names, sid)), *stale;
	json_t *text;

	if (!accounts_sid_sound(sid)) {
		return false;
	}
	if (was != NULL && strcmp(was, name) != 0 && *other == NULL) {
		*other = say_other(ctx, sid, was, name);
	}
	text = name[0] != '\0' && strlen(name) <= NAME_MAX_BYTES ? json_string(name) : NULL;
	if (text == NULL || json_object_size(a->told) >= NAMES_MAX) {
		json_decref(text);
		return true; /* not remembered */
	}
	stale = sid_before(a->told, sid, name); /* its number was mended since */
	if (stale != NULL) {
		json_object_del(a->told, stale);
	}
	json_object_set_new(a->told, sid, text);
	return true;
}

int accounts_told(struct accounts *a, bool domain, const char *sid, const char *names, size_t len,
		TALLOC_CTX *ctx, char **message)
{
	const char *end = names + len;

	*message = NULL;
	if (!accounts_sid_sound(sid) || (len > 0 && end[-1] != '\0')) {
		return -EINVAL;
	}
	if (!same(sid, domain, a)) {
		TALLOC_FREE(a->here);
		a->here = talloc_strdup(a, sid);
		a->here_domain = domain;
		json_object_clear(a->told);
	}
	while (!domain && names < end) {
		const char *name = names + strlen(names) + 1;

		if (name >= end || !take_pair(a, names, name, ctx, message)) {
			return -EINVAL;
		}
		names = name + strlen(name) + 1;
	}
	if (a->v->state == VOLUME_READY && lacks(a)) {
		accounts_write(a);
	}
	if (*message == NULL) {
		return 0;
	}
	stats_add(accounts_refused, 1);
	log_warning("core", "volume %s: a client is not let in: %s", a->v->name, *message);
	return -EACCES;
}

/* ---- for people ---- */

/* The next of several things to say in one sentence; false: it is long enough. */
static bool say_also(char **text, unsigned *count, char *one)
{
	if (++*count > NAMED_MOST) {
		*text = talloc_asprintf_append(*text, "; and others");
		return false;
	}
	*text = *text == NULL ? one : talloc_asprintf_append(*text, "; %s", one != NULL ? one : "");
	return true;
}

/* Names that had other SIDs of the same machine, or other uids and gids. */
static char *accounts_moved(const struct accounts *a, TALLOC_CTX *ctx)
{
	char *text = NULL;
	unsigned count = 0;
	json_t *name;
	const char *sid;

	json_object_foreach(a->told, sid, name)
	{
		const char *before = sid_before(a->names, sid, json_string_value(name));

		if (before != NULL && !say_also(&text, &count, talloc_asprintf(ctx,
				"%s was %s when rights were given to it, and is %s on this server",
				json_string_value(name), before, sid))) {
			break;
		}
	}
	return text;
}

char *accounts_other(const struct accounts *a, TALLOC_CTX *ctx)
{
	const char *whose = a->domain ? "the domain" : "the machine";

	if (a->here == NULL || a->sid == NULL) {
		return NULL;
	}
	if (same(a->sid, a->domain, a)) {
		return accounts_moved(a, ctx);
	}
	if (a->domain || a->here_domain) {
		return talloc_asprintf(ctx,
				"rights name accounts of %s %s, this server has those of the %s %s", whose,
				a->sid, a->here_domain ? "domain" : "machine", a->here);
	}
	return talloc_asprintf(ctx, "rights name accounts of the machine %s, this is %s: net setlocalsid %s",
			a->sid, a->here, a->sid);
}

char *accounts_renamed(const struct accounts *a, TALLOC_CTX *ctx)
{
	char *text = NULL;
	unsigned count = 0;
	json_t *name;
	const char *sid;

	json_object_foreach(a->told, sid, name)
	{
		const char *was = json_string_value(json_object_get(a->names, sid));

		if (was != NULL && strcmp(was, json_string_value(name)) != 0 &&
				!say_also(&text, &count, say_other(ctx, sid, was,
						json_string_value(name)))) {
			break;
		}
	}
	return text;
}

json_t *accounts_json(const struct accounts *a)
{
	return json_pack("{s:s?, s:b, s:s?, s:I}", "recorded", a->sid, "domain", a->domain, "here", a->here,
			"named", (json_int_t)json_object_size(a->names));
}
