/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the users and groups whom the rights in the bucket name, made again with the numbers they had.
 * Way: recover.c -> here (the record's accounts against /etc/passwd, /etc/group and passdb) -> steps.
 * Thread: the only one; waits for Samba's programs. Owns: nothing beyond the plan.
 * Holds: 1. a number that somebody else has here is never given away: it is refused, with who has it;
 *        2. no account is changed that is there; one that is there with another number is refused;
 *        3. of a domain's accounts nothing is made: who they are the domain says.
 */
#include "recover.h"

#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../core/accounts.h"

#define FIRST_OF_PEOPLE 1000 /* uids and gids below are the distribution's */
#define UNIX_USERS "S-1-22-1-"
#define UNIX_GROUPS "S-1-22-2-"

/* The number behind a prefix; false: it is not one of these. */
static bool sid_number(const char *sid, const char *prefix, uint32_t *number)
{
	size_t len = strlen(prefix);
	char *end;
	unsigned long n;

	if (strncmp(sid, prefix, len) != 0) {
		return false;
	}
	n = strtoul(sid + len, &end, 10);
	*number = (uint32_t)n;
	return *end == '\0' && end != sid + len && n < UINT32_MAX;
}

/* A name that may stand in a command of this plan. */
static bool name_is_plain(const char *name)
{
	return name[0] != '-' && name[0] != '\0' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
			       strlen(name);
}

/* ---- /etc/group, /etc/passwd ---- */

/* The distribution's own: each host gives them other numbers, and nobody would change those. Whoever is let
 * in by one is looked at at the door. */
static void note_system(const char *kind, const char *name, uint32_t id)
{
	printf("note: rights may name the %s %s as %u, which it is not here\n", kind, name, id);
}

static void plan_group(struct recover *r, uint32_t gid, const char *name)
{
	const struct group *by_name = getgrnam(name), *by_gid;
	char number[16];

	if (by_name != NULL && by_name->gr_gid == gid) {
		return;
	}
	if (gid < FIRST_OF_PEOPLE) {
		note_system("group", name, gid);
		return;
	}
	if (by_name != NULL) {
		recover_refuse(r, "the group %s is %u here, and rights name it as %u: groupmod -g %u %s",
				name, (unsigned)by_name->gr_gid, gid, gid, name);
		return;
	}
	by_gid = getgrgid(gid);
	if (by_gid != NULL) {
		recover_refuse(r, "the gid %u of the group %s is %s's here: give %s another one (groupmod "
				"-g)", gid, name, by_gid->gr_name, by_gid->gr_name);
		return;
	}
	snprintf(number, sizeof(number), "%u", gid);
	recover_run(r, (const char *const[]){"groupadd", "-g", number, name, NULL});
}

static void plan_user(struct recover *r, uint32_t uid, const char *name, const json_t *names)
{
	const struct passwd *by_name = getpwnam(name), *by_uid;
	char number[16];
	const char *sid;
	uint32_t gid;
	json_t *group;

	if (by_name != NULL && by_name->pw_uid == uid) {
		return;
	}
	if (uid < FIRST_OF_PEOPLE) {
		note_system("user", name, uid);
		return;
	}
	if (by_name != NULL) {
		recover_refuse(r, "the user %s is %u here, and rights name him as %u: usermod -u %u %s",
				name, (unsigned)by_name->pw_uid, uid, uid, name);
		return;
	}
	by_uid = getpwuid(uid);
	if (by_uid != NULL) {
		recover_refuse(r, "the uid %u of %s is %s's here: give %s another one (usermod -u)", uid,
				name, by_uid->pw_name, by_uid->pw_name);
		return;
	}
	snprintf(number, sizeof(number), "%u", uid);
	json_object_foreach((json_t *)names, sid, group)
	{
		if (sid_number(sid, UNIX_GROUPS, &gid) && strcmp(json_string_value(group), name) == 0) {
			recover_run(r, (const char *const[]){"useradd", "--no-create-home", "--shell",
					"/usr/sbin/nologin", "-u", number, "-g", name, name, NULL});
			return;
		}
	}
	recover_run(r, (const char *const[]){"useradd", "--no-create-home", "--shell",
			"/usr/sbin/nologin", "-u", number, "-N", name, NULL});
}

/* ---- passdb ---- */

/* {name: RID} of the accounts that Samba has. New reference. */
static json_t *passdb_rids(struct recover *r)
{
	const char *const argv[] = {"pdbedit", "-L", "-v", NULL};
	json_t *found = json_object();
	char name[256] = "", sid[256], *line, *save;
	int status;
	char *text = recover_ask_samba(r, argv, &status);

	if (text == NULL || status != 0) {
		return found; /* no account yet */
	}
	for (line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		(void)sscanf(line, "Unix username: %255s", name);
		if (name[0] != '\0' && sscanf(line, "User SID: %255s", sid) == 1 &&
				strrchr(sid, '-') != NULL) {
			json_object_set_new(found, name, json_integer(atoll(strrchr(sid, '-') + 1)));
			name[0] = '\0';
		}
	}
	return found;
}

/* What Samba's configuration says of a parameter; "" where it cannot be asked. */
static char *samba_parameter(struct recover *r, const char *name)
{
	const char *const argv[] = {"testparm", "-s", "--suppress-prompt", "--parameter-name", name,
			r->smb_conf, NULL};
	int status;
	char *text = ctl_run(r, (char *const *)argv, &status);

	if (text == NULL || status != 0) {
		return talloc_strdup(r, "");
	}
	text[strcspn(text, "\n")] = '\0';
	return text;
}

/* The old server's passdb.tdb in place of one that is empty: pdbedit opens one tdb at a time and cannot
 * bring accounts from one to another. */
static void plan_passdb(struct recover *r, const json_t *rids)
{
	char *backend = samba_parameter(r, "passdb backend"), *to;

	if (json_object_size(rids) > 0) {
		recover_refuse(r, "Samba has accounts here: --passdb is for a server that has none yet");
		return;
	}
	if (strncmp(backend, "tdbsam", strlen("tdbsam")) != 0) {
		recover_refuse(r, "passdb backend = %s: --passdb is for tdbsam", backend);
		return;
	}
	to = backend[strlen("tdbsam")] == ':' ? talloc_strdup(r, backend + strlen("tdbsam:"))
			: talloc_asprintf(r, "%s/passdb.tdb", samba_parameter(r, "private dir"));
	recover_run(r, (const char *const[]){"install", "-m", "600", r->passdb, to, NULL});
}

static void plan_account(struct recover *r, const json_t *rids, const char *sid, uint32_t rid,
		const char *name)
{
	const json_t *has = json_object_get(rids, name), *other;
	struct recover_step *s;
	const char *key;

	if (has != NULL && json_integer_value(has) == rid) {
		return;
	}
	if (has != NULL) {
		recover_refuse(r, "Samba's account %s has the RID %lld here, and rights name it as %u: "
				"pdbedit -x -u %s, and recover makes it again", name,
				(long long)json_integer_value(has), rid, name);
		return;
	}
	json_object_foreach((json_t *)rids, key, other)
	{
		if (json_integer_value(other) == rid) {
			recover_refuse(r, "the RID %u of %s is %s's here, who would have its rights: "
					"pdbedit -x -u %s", rid, name, key, key);
			return;
		}
	}
	s = recover_run_samba(r, (const char *const[]){"pdbedit", "-a", "-U", sid, "-u", name, NULL});
	if (s != NULL) {
		s->unless_account = talloc_strdup(s, name);
	}
}

/* Has the record a uid of this name? Else it is a group's. */
static bool is_user(const json_t *names, const char *name)
{
	const char *sid;
	uint32_t uid;
	json_t *has;

	json_object_foreach((json_t *)names, sid, has)
	{
		if (sid_number(sid, UNIX_USERS, &uid) && json_is_string(has) &&
				strcmp(json_string_value(has), name) == 0) {
			return true;
		}
	}
	return false;
}

static void plan_machine(struct recover *r, const char *sid)
{
	const char *const ask[] = {"net", "getlocalsid", NULL};
	int status;
	char *text = recover_ask_samba(r, ask, &status);

	if (text == NULL || status != 0) {
		recover_refuse(r, "net getlocalsid: exit status %d: is Samba installed?", status);
	} else if (strstr(text, sid) == NULL || text[strcspn(text, "\n")] == '\0' ||
			strncmp(strstr(text, "S-1-"), sid, strlen(sid)) != 0 ||
			strstr(text, "S-1-")[strlen(sid)] != '\n') {
		recover_run_samba(r, (const char *const[]){"net", "setlocalsid", sid, NULL});
	}
}

/* Somebody may type it as it stands here: only what a shell takes for a name is in the command. */
static void note_group(const char *sid, uint32_t rid, const char *name)
{
	bool plain = name_is_plain(name);

	printf("note: %s is the group ", sid);
	print_safe(name);
	printf(": map it again, with net groupmap add rid=%u ntgroup=%s unixgroup=...\n", rid,
			plain ? name : "its-name");
}

void recover_accounts(struct recover *r)
{
	const json_t *names = json_object_get(r->record, ACCOUNTS_NAMES);
	const char *machine = text_of(r->record, ACCOUNTS_SID), *sid;
	char *prefix = talloc_asprintf(r, "%s-", machine);
	json_t *name, *rids;
	uint32_t number;

	if (machine[0] == '\0' || json_is_true(json_object_get(r->record, ACCOUNTS_DOMAIN))) {
		return;
	}
	if (!accounts_sid_sound(machine) || prefix == NULL) {
		recover_refuse(r, "the volume record names no sound SID");
		return;
	}
	json_object_foreach((json_t *)names, sid, name)
	{
		bool shown = sid_number(sid, prefix, &number) && json_is_string(name) &&
			     !is_user(names, json_string_value(name)); /* a group of Samba's: stands in no command of ours */

		if (!json_is_string(name) || !accounts_sid_sound(sid) ||
				!(shown || name_is_plain(json_string_value(name)))) {
			recover_refuse(r, "the account %s in the volume record is called as none here can be",
					sid);
		} else if (sid_number(sid, UNIX_GROUPS, &number)) {
			plan_group(r, number, json_string_value(name));
		}
	}
	if (r->refusals[0] != '\0') {
		return;
	}
	json_object_foreach((json_t *)names, sid, name)
	{
		if (sid_number(sid, UNIX_USERS, &number)) {
			plan_user(r, number, json_string_value(name), names);
		}
	}
	plan_machine(r, machine);
	rids = passdb_rids(r);
	if (r->passdb != NULL) {
		plan_passdb(r, rids);
	}
	json_object_foreach((json_t *)names, sid, name)
	{
		if (sid_number(sid, prefix, &number) && is_user(names, json_string_value(name))) {
			plan_account(r, rids, sid, number, json_string_value(name));
		} else if (sid_number(sid, prefix, &number)) {
			note_group(sid, number, json_string_value(name));
		}
	}
	json_decref(rids);
	recover_run_samba(r, (const char *const[]){"net", "cache", "flush", NULL});
}

bool recover_accounts_are(struct recover *r)
{
	const json_t *names = json_object_get(r->record, ACCOUNTS_NAMES);
	const char *machine = text_of(r->record, ACCOUNTS_SID), *sid, *key;
	char *prefix = talloc_asprintf(r, "%s-", machine);
	json_t *rids = passdb_rids(r), *rid, *name;
	bool good = true;

	json_object_foreach(rids, key, rid)
	{
		char *at = talloc_asprintf(r, "%s%lld", prefix, (long long)json_integer_value(rid));

		json_object_foreach((json_t *)names, sid, name)
		{
			if (strcmp(sid, at) == 0 && strcmp(json_string_value(name), key) != 0) {
				fprintf(stderr, "objectfsctl: %s was ", sid);
				print_safe_to(stderr, json_string_value(name));
				fprintf(stderr, " and is %s by now: correct that before smbd is started\n", key);
				good = false;
			}
		}
	}
	json_decref(rids);
	return good;
}
