/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the daemon asks first of the modules of a volume (wire_table.h, DAEMON): one connection is
 * chosen and keeps being asked until it is lost or slow; then another one is. Core thread only.
 */
#ifndef OFS_CORE_ASK_H
#define OFS_CORE_ASK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <talloc.h>
#include "core.h"
#include "session.h"

struct asker;

/* status: 0 and the whole frame of the answer (borrowed); -ENOTCONN: no module is connected;
 * -ETIMEDOUT: none has answered. */
typedef void (*ask_done)(int status, const uint8_t *frame, size_t len, void *arg);

struct asker *asker_new(struct volume *v, struct core *core);
/* Is there a module to ask? asker may be NULL: no. */
bool ask_possible(const struct asker *as);
/* For the frame of the next question. */
uint64_t ask_next_id(struct asker *as);
/* frame: malloc'ed, taken over; len as its encoder gave it. In order, as long as one module
 * answers. done comes once, perhaps at once. */
void ask_send(struct asker *as, uint64_t id, uint8_t *frame, ssize_t len, ask_done done, void *arg);

/* --- for session.c --- */
void ask_answered(struct asker *as, struct session *s, uint64_t id, const uint8_t *frame,
		size_t len);
/* The connection is no more. */
void ask_lost(struct asker *as, const struct session *s);

#endif
