/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside objectfsctl recover only: what it finds, and the plan that it makes of it. */
#ifndef OFS_CTL_RECOVER_H
#define OFS_CTL_RECOVER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <talloc.h>
#include "shared/record.h"
#include "../base/conf.h"
#include "ctl.h"

#define RECOVER_ARGS_MAX 12

struct recover_step {
	struct recover_step *next;
	char *what;        /* for people: the command, or the file */
	char *argv[RECOVER_ARGS_MAX + 1];
	const char *unless_account; /* not if Samba has this account by then */
	/* or, with argv[0] NULL, a file: */
	char *path, *text; /* its whole new content */
	bool secret;
	/* or, without both, the key of a node that serves no more */
	char *retires;
};

struct recover { /* talloc */
	const struct ctl_options *o;
	const struct words *w;
	const char *name, *bucket, *prefix; /* of the volume */
	const char *endpoint, *region, *credentials; /* NULL: not said */
	const char *smb_conf, *passdb;      /* NULL: not said */
	struct conf *conf;          /* as it will be */
	const struct conf_volume *cv;
	json_t *record;             /* the volume record; NULL: not read yet */
	bool put_if_match;          /* the store honours it: known after the probe */
	struct ofs_oid uuid;        /* what it says */
	char *refusals;             /* "" or lines: nothing is done */
	struct recover_step *steps, **steps_end;
};

/* --- recover.c --- */
/* Something that somebody must decide first; printf's. */
void recover_refuse(struct recover *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* argv ends with NULL; copied. NULL: no memory. */
struct recover_step *recover_run(struct recover *r, const char *const argv[]);
/* A program of Samba's, told of smb.conf where that is not Samba's own. */
struct recover_step *recover_run_samba(struct recover *r, const char *const argv[]);
/* The node with this key was the lost host's. */
void recover_retire(struct recover *r, const char *key, const char *host);
/* What one says, as ctl_run. */
char *recover_ask_samba(struct recover *r, const char *const argv[], int *status);

/* --- recover_conf.c --- */
/* objectfs.conf as it will be, checked: r->conf and r->cv; steps that write it. false: refused. */
bool recover_conf(struct recover *r);
/* The share. */
void recover_share(struct recover *r);

/* --- recover_bucket.c --- */
/* Read the volume record and who serves, and try what may be done in the bucket: r->record, and steps.
 * false: refused. */
bool recover_bucket(struct recover *r);
/* Say in the bucket that a node serves no more. false: said on standard error. */
bool recover_retired(struct recover *r, const char *key);

/* --- recover_accounts.c --- */
/* Users and groups with the numbers they had, the machine's SID. */
void recover_accounts(struct recover *r);
/* After the steps: is each account what the record says? false: said on standard error. */
bool recover_accounts_are(struct recover *r);

#endif
