/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the implementations of the object store share; nobody else includes it. Any thread. */
#ifndef OFS_OBJSTORE_IMPL_H
#define OFS_OBJSTORE_IMPL_H

#include <stddef.h>
#include "objstore.h"

extern const struct obj_prop_names { const char *header, *word; } obj_prop_names[OBJ_PROP_MAX];
/* probe_sum.c: what the store makes of checksums, with the scratch object OBJ_PROBE_SUMS_KEY behind base, which the
 * caller removes; *store NULL: it is gone. done as objstore_probe's. */
#define OBJ_PROBE_SUMS_KEY 's'
void obj_probe_sums(struct objstore **store, const char *base,
		void (*done)(enum obj_status, const char *message, void *arg), void *arg);
/* probe.c: is this the store's answer to a step of the probe? false: nothing is known, the probe ends. */
bool obj_probe_answered(struct objstore *s, unsigned step, const struct obj_result *r, enum obj_status expect);
/* Copy what is set; 0 or -ENOMEM. Free all. */
int obj_props_copy(char *to[OBJ_PROP_MAX], char *const from[OBJ_PROP_MAX]);
void obj_props_free(char *props[OBJ_PROP_MAX]);
/* Free all a result holds and zero it (status OBJ_OK). */
void obj_result_clear(struct obj_result *r);
/* Set status and message, replacing an earlier one. Out of memory: no message. */
void obj_fail(struct obj_req *req, enum obj_status status, const char *fmt, ...)
		__attribute__((format(printf, 3, 4)));
/* Append a copy; 0 or -ENOMEM. */
int obj_result_meta_add(struct obj_result *r, const char *name, const char *value);
/* Append an empty row; NULL: out of memory. `*capacity` is the caller's, from 0. */
struct obj_entry *obj_result_entry_add(struct obj_result *r, unsigned *capacity);
/* Free all a row holds and zero it. */
void obj_entry_clear(struct obj_entry *e);
/* Rows in key order, as bytes. */
void obj_result_entries_sort(struct obj_result *r);
/* One request of this kind goes to the store (each retry counts). */
void obj_count(enum obj_op op);
/* rights.c, any thread: what a request that was refused may lack. */
const char *obj_right_needed(enum obj_op op);
/* rights.c, core: with each request; before each answer's `done`: what it says of the rights we have. */
void obj_rights_begin(struct objstore *s);
void obj_rights_judge(const struct obj_req *req);
/* Answers may come after the end of their store. */
bool obj_store_is_live(const struct objstore *s);
/* Send the finished request home; the store must not touch it afterwards. */
void obj_deliver(struct mailbox *mb, struct obj_req *req);
/* What an answer says of the store: its state (any thread), and since when it has been away (core). obj_deliver does both;
 * for who answers on the core's thread without it. */
void obj_judge(const struct obj_req *req);
void obj_heard(struct obj_req *req);
bool obj_op_mutates(enum obj_op op);
bool obj_req_conditional(const struct obj_req *req);
/* Lower-case hexadecimal and NUL: out has 2 * len + 1 bytes. */
void obj_hex(const uint8_t *data, size_t len, char *out);

#endif
