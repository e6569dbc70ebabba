/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * `trust metadata = signed`: what a volume's daemons write carries a proof, and nothing else is believed.
 *
 * The proof is user metadata of its own, `objectfs-proof`: base64 of four bytes that name the key and an
 * HMAC-SHA-256, bound to the volume, the key of the object, and what is proven: the value of `objectfs`, or
 * the whole body of an object of the daemons' own below .objectfs/. FORMAT.md, section 3, has its bytes.
 */
#ifndef OFS_CORE_TRUST_H
#define OFS_CORE_TRUST_H

#include <stdint.h>
#include <talloc.h>
#include "../base/conf.h"
#include "../objstore/objstore.h"
#include "shared/record.h"

#define TRUST_PROOF_NAME "objectfs-proof"
#define TRUST_UNPROVEN_NAME "objectfs-unproven" /* what `objectfs` is called in an answer that is not believed */
#define TRUST_META_BYTES (sizeof(TRUST_PROOF_NAME) - 1 + 48) /* of the 2,048 */
#define TRUST_FEATURE "signed"  /* in the volume record */
#define TRUST_MEMBER "signed"   /* the same: {"since": seconds} */
#define TRUST_KEYS 8
#define TRUST_KEY_BYTES 32
#define TRUST_ID_BYTES 4

struct trust;
struct trust_key {
	uint8_t bytes[TRUST_KEY_BYTES];
	int64_t until_ns; /* what it signed counts if the store dates it before that; 0: always */
};

/*
 * With `trust metadata = signed` read the key file, and look at all that goes through the store from now on:
 * writes are signed, answers that are not proven are made those of another program's object, objects of the
 * daemons' own are emptied, and so damaged. The volume record is left as it is: its reader looks at
 * result.proof. The door is a child of the store. 0; -EINVAL and *error (child of ctx).
 */
int trust_attach(TALLOC_CTX *ctx, struct objstore *s, const struct conf_volume *cv, char **error);

/* Objects that were not believed since the start; *last: one of them, "" if none. 0 where all is believed. */
uint64_t trust_unproven(const struct objstore *s, const char **last);
bool trust_is_signed(const struct objstore *s);
/* What names the key that it signs with. false: it does not sign. */
bool trust_signer(const struct objstore *s, uint8_t id[TRUST_ID_BYTES]);
/* From here on what is unsigned is believed if it is older than `since_s` by the store's clock; 0: never. */
void trust_set(const struct objstore *s, const struct ofs_oid *uuid, int64_t since_s);

/* --- for tests --- */
/* Keys from the text of a key file, the first one signs. Their number; 0 and *why (static). */
unsigned trust_keys_parse(const char *text, size_t len, struct trust_key keys[TRUST_KEYS], const char **why);
/* malloc; NULL: out of memory. `what` is "object" or "control". */
char *trust_proof(const uint8_t key[TRUST_KEY_BYTES], const char *what, const struct ofs_oid *uuid, const char *object,
		const void *data, size_t len);

#endif
