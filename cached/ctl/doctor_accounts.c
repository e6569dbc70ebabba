/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: doctor's look at whom the rights of a share's root name: are they somebody here?
 * Way: doctor.c -> here -> the root's NT ACL; net lookup sid, as smbd looks them up. Thread: the only one.
 * Owns: the children it runs.
 * Holds: 1. what a domain has made is not looked at: it knows, and may be away;
 *        2. at most SIDS_MOST are asked about: each is a program that runs.
 */
#include "doctor.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include "../mirror/ntacl.h"
#include "ctl.h"

#define SIDS_MOST 32u
#define SID_BYTES 200
#define XATTR_BYTES 65536u
#define MACHINE "S-1-5-21-" /* or a domain */
#define UNIX_USER "S-1-22-1-"
#define UNIX_GROUP "S-1-22-2-"

struct named {
	char sid[SIDS_MOST][SID_BYTES];
	unsigned count;
};

static void take_sid(void *arg, const char *sid)
{
	struct named *n = arg;

	for (unsigned i = 0; i < n->count; i++) {
		if (strcmp(n->sid[i], sid) == 0) {
			return;
		}
	}
	if (n->count < SIDS_MOST) {
		snprintf(n->sid[n->count++], SID_BYTES, "%s", sid);
	}
}

static bool sid_is_somebody(struct doctor *d, const char *sid)
{
	const char *const of_conf[] = {"net", "-s", d->smb_conf, "lookup", "sid", sid, NULL};
	const char *const of_samba[] = {"net", "lookup", "sid", sid, NULL};
	int status;

	if (strncmp(sid, UNIX_USER, strlen(UNIX_USER)) == 0) {
		return getpwuid((uid_t)strtoul(sid + strlen(UNIX_USER), NULL, 10)) != NULL;
	}
	if (strncmp(sid, UNIX_GROUP, strlen(UNIX_GROUP)) == 0) {
		return getgrgid((gid_t)strtoul(sid + strlen(UNIX_GROUP), NULL, 10)) != NULL;
	}
	if (strncmp(sid, MACHINE, strlen(MACHINE)) != 0) {
		return true; /* well known */
	}
	return ctl_run(d, (char *const *)(d->smb_conf != NULL ? of_conf : of_samba), &status) == NULL ||
	       status == 0;
}

static void root_look(struct doctor *d, const char *volume, const char *tree)
{
	static const char *const names[] = {"security.NTACL", "user.NTACL"};
	uint8_t *value = talloc_array(d, uint8_t, XATTR_BYTES);
	struct named *n = talloc_zero(d, struct named);
	ssize_t len = -1;

	for (size_t i = 0; value != NULL && len < 0 && i < sizeof(names) / sizeof(names[0]); i++) {
		len = getxattr(tree, names[i], value, XATTR_BYTES);
	}
	if (len > 0 && n != NULL && ntacl_sids(value, (size_t)len, take_sid, n) == 0) {
		for (unsigned i = 0; i < n->count; i++) {
			if (!sid_is_somebody(d, n->sid[i])) {
				doctor_say(d, FINDING_ACCOUNTS_UNKNOWN, volume, "%s", n->sid[i]);
			}
		}
	}
	talloc_free(value);
	talloc_free(n);
}

void doctor_accounts(struct doctor *d, const json_t *status)
{
	for (unsigned i = 0; i < d->conf->volume_count; i++) {
		const char *name = d->conf->volumes[i].name;
		const json_t *accounts = json_object_get(doctor_volume(status, name), "accounts");
		char *tree = talloc_asprintf(d, "%s/%s/tree", d->conf->global.cache_directory, name);

		if (tree != NULL && !json_is_true(json_object_get(accounts, "domain"))) {
			root_look(d, name, tree);
		}
		talloc_free(tree);
	}
}
