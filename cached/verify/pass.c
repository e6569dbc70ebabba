/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: all that is on the local disk is looked at once each `verify age`, one file after the other, in the background.
 * Way: core/volume.c, when the volume is ready -> a timer -> verify.c -> what is damaged is told there.
 * Thread: core.
 * Owns: the value `verify` of the index: when the last pass began, and the object id of the file that it has come to.
 * Holds: 1. nothing is mended: what a wrong verdict would do by itself, at night, to all files, nobody could undo;
 *        2. a restart goes on where the pass was, some minutes less; without the index it begins anew.
 */
#include "private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../base/log.h"
#include "../core/volume.h"
#include "../evict/evict.h"
#include "../reconcile/index.h"

#define PASS_KV "verify"
#define PASS_LOOK_NS (60 * NS_PER_S)
#define PASS_SAVE_S 600
#define PASS_ROWS_MOST 2000u /* in one turn of the loop */

static void pass_step(void *arg);

static int64_t now_s(const struct verifier *vf)
{
	return clock_wall_ns(vf->v->clock) / NS_PER_S;
}

static void pass_save(struct verifier *vf, const struct row *at)
{
	char text[64], hex[OFS_OID_HEX_BYTES] = "-";

	if (at != NULL) {
		ofs_oid_hex(&at->oid, hex);
	}
	snprintf(text, sizeof(text), "%" PRId64 " %s", vf->since_s, hex);
	index_kv_set(vf->v->index, PASS_KV, text);
	vf->saved_s = now_s(vf);
}

static void pass_begin(struct verifier *vf, uint32_t at)
{
	vf->next = at;
	vf->files = vf->damaged = 0;
	pass_step(vf);
}

static void pass_later(struct verifier *vf)
{
	struct clock *c = vf->v->clock;

	/* Without memory for it the next look goes on. */
	(void)clock_timer_add(c, vf, clock_now_ns(c), pass_step, vf);
}

static void pass_verified(void *arg, const struct verify_result *r)
{
	struct verifier *vf = arg;

	vf->files += r->found == VERIFY_RIGHT || r->found == VERIFY_DAMAGED;
	vf->damaged += r->found == VERIFY_DAMAGED;
	vf->waiting = false;
	pass_later(vf);
}

static void pass_step(void *arg)
{
	struct verifier *vf = arg;
	struct index *ix = vf->v->index;
	unsigned rows = 0;

	if (vf->waiting || vf->next == 0 || vf->v->state != VOLUME_READY) {
		return;
	}
	while (vf->next < index_numbers(ix) && rows++ < PASS_ROWS_MOST) {
		const struct row *row = index_numbered(ix, vf->next++);

		if (row == NULL || row->is_dir || row->live != ROW_HERE || !evict_is_here(vf->v->evictor, &row->oid)) {
			continue;
		}
		if (now_s(vf) - vf->saved_s >= PASS_SAVE_S) {
			pass_save(vf, row);
		}
		vf->waiting = true;
		verify_file(vf, &row->oid, false, 0, pass_verified, vf);
		return;
	}
	if (vf->next < index_numbers(ix)) {
		pass_later(vf);
		return;
	}
	vf->next = 0;
	pass_save(vf, NULL);
	log_info("verify", "%" PRIu64 " files on the local disk compared with their objects, %" PRIu64 " are damaged", vf->files,
			vf->damaged);
}

static void pass_look(void *arg)
{
	struct verifier *vf = arg;
	struct clock *c = vf->v->clock;
	int64_t age_ns = vf->v->conf->verify_age_ns, now = now_s(vf);

	if (vf->next != 0) {
		pass_step(vf);
	} else if (now - vf->since_s >= age_ns / NS_PER_S || now < vf->since_s) {
		vf->since_s = now;
		pass_save(vf, NULL);
		pass_begin(vf, 1);
	}
	if (clock_timer_add(c, vf, clock_now_ns(c) + (age_ns < PASS_LOOK_NS ? age_ns : PASS_LOOK_NS), pass_look, vf) == NULL) {
		log_warning("verify", "out of memory: what is here is not looked at any more before the next start");
	}
}

void verifier_start(struct verifier *vf)
{
	const char *kv = index_kv_get(vf->v->index, PASS_KV);
	const struct row *at = NULL;
	struct ofs_oid oid;
	char *end = NULL;

	if (vf->v->conf->verify_age_ns == 0) {
		return;
	}
	vf->since_s = kv != NULL ? strtoll(kv, &end, 10) : now_s(vf);
	vf->saved_s = now_s(vf);
	if (kv == NULL) {
		pass_save(vf, NULL);
	} else if (*end == ' ' && ofs_oid_parse(end + 1, &oid)) {
		at = index_get(vf->v->index, &oid);
		pass_begin(vf, at != NULL ? at->number : 1);
	}
	pass_look(vf);
}
