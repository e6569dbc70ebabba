/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside http/ only. */
#ifndef OFS_HTTP_PRIVATE_H
#define OFS_HTTP_PRIVATE_H

#include <jansson.h>
#include <stddef.h>

struct ask;
struct core;

/* --- ask.c: threads of http/ --- */
/* What the daemon's command answers (`status`, `health`), a copy of the caller's own; NULL: the core
 * has not answered within two seconds, or memory is out. */
json_t *ask_core(struct core *core, const char *command);

/* --- metrics.c: any thread --- */
/* The Prometheus text. status: answer of `status`, NULL: the core has not answered, then what only it
 * knows is missing. malloc'ed; NULL: out of memory. */
char *metrics_text(const json_t *status, size_t *len);

#endif
