/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The digests that S3 knows, while bytes pass. One thread. */
#ifndef OFS_S3SIM_DIGEST_H
#define OFS_S3SIM_DIGEST_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum digest_kind { DIGEST_NONE, DIGEST_CRC32, DIGEST_CRC32C, DIGEST_CRC64NVME, DIGEST_SHA1, DIGEST_SHA256,
	DIGEST_MD5, DIGEST_KINDS };
#define DIGEST_TEXT_BYTES 64

struct digest {
	enum digest_kind kind;
	uint64_t crc;
	EVP_MD_CTX *md; /* of those that are no CRC */
};

/* Lower case as in x-amz-checksum-...; upper case in documents. "" for DIGEST_NONE. */
extern const char *const digest_names[DIGEST_KINDS];
/* Of either spelling; DIGEST_NONE: unknown. */
enum digest_kind digest_of_name(const char *name);
bool digest_is_crc(enum digest_kind kind);
/* false: out of memory. A digest that was begun before is begun anew. */
bool digest_begin(struct digest *d, enum digest_kind kind);
void digest_add(struct digest *d, const void *data, size_t len);
/* Bytes of the value; no more may be added. */
size_t digest_end(struct digest *d, uint8_t out[EVP_MAX_MD_SIZE]);
void digest_base64(const uint8_t *value, size_t len, char out[DIGEST_TEXT_BYTES]);
void digest_hex(const uint8_t *value, size_t len, char *out);
/* CRC of a and b one after the other, b of so many bytes; values in base64. false: a text that is none. */
bool digest_join(enum digest_kind kind, const char *a, const char *b, int64_t b_bytes, char out[DIGEST_TEXT_BYTES]);
void digest_fini(struct digest *d);

#endif
