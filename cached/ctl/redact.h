/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a text may say when it leaves the house: no secret, and no name of a client's file. Names in
 * free text cannot be told from other words; so the words that stay are those that the daemon, its
 * configuration and the C library use themselves, and numbers. Every other word becomes "~" and eight
 * hexadecimal digits, the same ones wherever it stands in one bundle, others in the next.
 */
#ifndef OFS_CTL_REDACT_H
#define OFS_CTL_REDACT_H

#include <jansson.h>
#include <stdbool.h>
#include <talloc.h>

struct redact;

/* talloc child of ctx; names: they stay. NULL: out of memory. */
struct redact *redact_new(TALLOC_CTX *ctx, bool names);
/* Words that stay: those of a text, those in a program's file (nothing if it cannot be read). */
void redact_learn(struct redact *r, const char *text);
void redact_learn_file(struct redact *r, const char *path);
/* What stands below this directory is names, whatever words they are made of. */
void redact_below(struct redact *r, const char *directory);
void redact_secret(void *redact, const char *secret);
/* talloc children of ctx. The first takes out secrets only. */
char *redact_secrets(TALLOC_CTX *ctx, struct redact *r, const char *text);
char *redact_text(TALLOC_CTX *ctx, struct redact *r, const char *text);
/* A new document: all strings by redact_text, those under keys that hold names wholly. */
json_t *redact_json(struct redact *r, const json_t *value);

#endif
