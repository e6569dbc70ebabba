/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside objectfsctl doctor only. */
#ifndef OFS_CTL_DOCTOR_H
#define OFS_CTL_DOCTOR_H

#include <jansson.h>
#include <talloc.h>
#include "../admin/findings.h"
#include "../base/conf.h"

struct doctor { /* talloc */
	const char *conf_path, *socket;
	const char *smb_conf;    /* NULL: Samba's own default */
	const struct conf *conf; /* NULL: it cannot be used */
	json_t *list;            /* of finding_json */
};

/* The reason is printf's; bytes that are no UTF-8 become '?'. */
void doctor_say(struct doctor *d, enum finding_id id, const char *volume, const char *fmt, ...)
		__attribute__((format(printf, 4, 5)));

/* What the daemon's `status` says of a volume; NULL: nothing. */
const json_t *doctor_volume(const json_t *status, const char *name);

/* --- doctor_accounts.c --- */
/* status: the daemon's, or NULL. Nothing is said where there is no net. */
void doctor_accounts(struct doctor *d, const json_t *status);

/* --- doctor_samba.c --- */
struct share_need {
	const char *key, *value;
	enum {
		SHARE_NEED,
		SHARE_NEED_GLOBAL, /* [global] only */
		SHARE_NEED_NEWER,  /* the same; this Samba may not know it, and does not need it then */
	} kind;
};
extern const struct share_need share_needs[]; /* up to a key NULL */
/* Module and smb.conf; nothing is said where there is no smbd. */
void doctor_samba(struct doctor *d);

#endif
