/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Checksums of content as S3 names them. Each sum is one thread's at a time. */
#ifndef OFS_OBJSTORE_SUM_H
#define OFS_OBJSTORE_SUM_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum obj_sum { OBJ_SUM_NONE, OBJ_SUM_AUTO, OBJ_SUM_CRC64NVME, OBJ_SUM_CRC32C, OBJ_SUM_SHA256 };
#define OBJ_SUM_TEXT_BYTES 48u /* base64, big-endian, and NUL */

struct sum {
	enum obj_sum kind; /* AUTO is CRC64NVME, NONE nothing */
	uint64_t crc;
	EVP_MD_CTX *sha256;
};
/* Begin, also again. false: out of memory, and it is a sum of kind NONE. */
bool sum_begin(struct sum *s, enum obj_sum kind);
void sum_add(struct sum *s, const void *data, size_t len);
/* At the end, once; of kind NONE nothing is to be told. */
void sum_text(struct sum *s, char out[OBJ_SUM_TEXT_BYTES]);
void sum_fini(struct sum *s);
/* "crc64nvme", as in x-amz-checksum-...; "" */
const char *sum_name(enum obj_sum kind);
/* Of a name; OBJ_SUM_NONE: another. */
enum obj_sum sum_of_name(const char *name);

#endif
