/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whose accounts the rights in this volume name. The volume record keeps `machine_sid` (the SID of the
 * accounts; with `domain`, of a domain's) and, of accounts of the machine itself, `accounts`: the name of
 * each SID that has come in. Core thread only.
 */
#ifndef OFS_CORE_ACCOUNTS_H
#define OFS_CORE_ACCOUNTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <talloc.h>

struct volume;
struct accounts;

#define ACCOUNTS_SID "machine_sid" /* members of the record */
#define ACCOUNTS_DOMAIN "domain"
#define ACCOUNTS_NAMES "accounts"

/* talloc child of v; NULL: no memory. */
struct accounts *accounts_new(struct volume *v);
/* What the record says, each time it is opened. accounts NULL: nothing. */
void accounts_loaded(struct accounts *a, const json_t *record);
/* The volume is READY: what was told meanwhile is written. */
void accounts_ready(struct accounts *a);
/*
 * A module says whose client it serves: wire_table.h, ACCOUNT. 0; -EINVAL: not what is agreed; -EACCES
 * with *message (child of ctx): a SID of the client had another name, the client is not let in.
 */
int accounts_told(struct accounts *a, bool domain, const char *sid, const char *names, size_t len,
		TALLOC_CTX *ctx, char **message);
/* What is told here counts from now on: the record is changed. done comes later, once. */
void accounts_accept(struct accounts *a, void (*done)(int status, const char *message, void *arg),
		void *arg);

/* For people, children of ctx; NULL: there is nothing to say. */
/* The accounts of this server are others than the rights name: its users lack rights they had. */
char *accounts_other(const struct accounts *a, TALLOC_CTX *ctx);
/* SIDs that had another name, as far as they have come in: these clients are refused. */
char *accounts_renamed(const struct accounts *a, TALLOC_CTX *ctx);
/* {recorded, domain, here, named}: SIDs or null; of how many the name is known. */
json_t *accounts_json(const struct accounts *a);

/* The text of a SID, as far as anybody here looks. */
bool accounts_sid_sound(const char *sid);

#endif
