/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * objectfs.conf: INI in Samba's manner, [global] and one [volume NAME] for each volume. Fields and
 * their meaning: conf_table.h; units are in the fields' names; a string that is unset is NULL.
 */
#ifndef OFS_BASE_CONF_H
#define OFS_BASE_CONF_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <talloc.h>
#include "conf_table.h"
#include "log.h"

#define CONF_PATH_DEFAULT "/etc/objectfs/objectfs.conf"
#define CONF_VOLUME_NAME_MAX_BYTES 64u

enum conf_store { CONF_STORE_DIR, CONF_STORE_S3 };
enum conf_addressing { CONF_ADDR_AUTO, CONF_ADDR_PATH, CONF_ADDR_VIRTUAL }; /* as OBJ_ADDR_* */
enum conf_xattr { CONF_XATTR_AUTO, CONF_XATTR_SECURITY, CONF_XATTR_USER };
enum conf_encryption { /* as OBJ_SSE_* */
	CONF_SSE_NONE,
	CONF_SSE_S3,
	CONF_SSE_KMS,
	CONF_SSE_CUSTOMER
};
enum conf_checksum { /* as OBJ_SUM_* */
	CONF_SUM_NONE,
	CONF_SUM_AUTO,
	CONF_SUM_CRC64NVME,
	CONF_SUM_CRC32C,
	CONF_SUM_SHA256
};
enum conf_foreign { CONF_FOREIGN_KEEP, CONF_FOREIGN_LOG, CONF_FOREIGN_REFUSE };
enum conf_trust { CONF_TRUST_ALL, CONF_TRUST_SIGNED };
enum conf_guard { CONF_GUARD_AUTO, CONF_GUARD_YES, CONF_GUARD_NO };

#define CONF_CTYPE_STR const char *
#define CONF_CTYPE_PATH const char *
#define CONF_CTYPE_BOOL bool
#define CONF_CTYPE_COUNT unsigned
#define CONF_CTYPE_SIZE int64_t
#define CONF_CTYPE_DURATION int64_t
#define CONF_CTYPE_LEVEL enum log_level
#define CONF_CTYPE_FORMAT enum log_format
#define CONF_CTYPE_STORE enum conf_store
#define CONF_CTYPE_ADDRESSING enum conf_addressing
#define CONF_CTYPE_XATTR enum conf_xattr
#define CONF_CTYPE_GUARD enum conf_guard
#define CONF_CTYPE_ENCRYPTION enum conf_encryption
#define CONF_CTYPE_CHECKSUM enum conf_checksum
#define CONF_CTYPE_FOREIGN enum conf_foreign
#define CONF_CTYPE_TRUST enum conf_trust
#define CONF_FIELD(type, field, key, def, min, max, flags, help) CONF_CTYPE_##type field;

struct conf_global {
	CONF_GLOBAL_TABLE(CONF_FIELD)
};
struct conf_volume {
	const char *name; /* [A-Za-z0-9._-]{1,64}, not beginning with a dot */
	unsigned line;    /* of its section, for messages */
	CONF_VOLUME_TABLE(CONF_FIELD)
};
#undef CONF_FIELD

struct conf_seen;
struct conf { /* talloc; all strings are children */
	const char *path;
	const struct conf_seen *seen; /* which lines said what: of [global], then of each volume */
	struct conf_global global;
	struct conf_volume *volumes;
	unsigned volume_count; /* at least 1 */
};

/*
 * Read, check and normalise. 0 and *conf (child of ctx); else -errno, and *error (child of ctx):
 * "FILE:LINE: key: reason", never with the value of a secret. -EINVAL: the content is refused;
 * -EACCES also: secrets in a file that everyone may read.
 */
int conf_load(TALLOC_CTX *ctx, const char *path, struct conf **conf, char **error);
/* The same from a stream, `path` for messages only; the rights of the file are not checked. */
int conf_load_stream(
		TALLOC_CTX *ctx, FILE *stream, const char *path, struct conf **conf, char **error);
/*
 * Every option as it is in force: [{section, key, value, source}], of secrets only whether they are
 * set; value null: unset; source: "FILE:LINE" or "default". New reference, NULL: out of memory.
 */
json_t *conf_json(const struct conf *conf);
/* Options, volumes too, that `now` does not say as `then` did: ["[volume a] key", ...]; secrets
 * too. New reference. */
json_t *conf_changes(const struct conf *then, const struct conf *now);
/* Calls fn with the value of every secret that is set. */
void conf_secrets_each(
		const struct conf *conf, void (*fn)(void *arg, const char *secret), void *arg);
/* NULL: no such volume. */
const struct conf_volume *conf_volume_find(const struct conf *conf, const char *name);

enum conf_type {
	CONF_STR,
	CONF_PATH,
	CONF_BOOL,
	CONF_COUNT,
	CONF_SIZE,
	CONF_DURATION,
	CONF_LEVEL,
	CONF_FORMAT,
	CONF_STORE,
	CONF_ADDRESSING,
	CONF_XATTR,
	CONF_GUARD,
	CONF_FOREIGN,
	CONF_ENCRYPTION,
	CONF_CHECKSUM,
	CONF_TRUST
};
#define CONF_REQUIRED 1u
#define CONF_SECRET 2u
#define CONF_S3_ONLY 4u
#define CONF_DIR_ONLY 8u

struct conf_option { /* a row of conf_table.h */
	const char *section; /* "global", "volume" */
	const char *key;
	enum conf_type type;
	const char *def; /* NULL: unset */
	int64_t min, max;
	unsigned flags;
	const char *help;
	size_t offset; /* in struct conf_global or conf_volume */
};
extern const struct conf_option conf_options[];
extern const unsigned conf_option_count;
/* Words an enumeration knows, NULL-terminated, index = value; NULL: not an enumeration. */
const char *const *conf_type_words(enum conf_type type);
/* A COUNT, SIZE or DURATION in the largest unit that divides it; talloc child of ctx, or NULL. */
char *conf_number_format(TALLOC_CTX *ctx, enum conf_type type, int64_t value);

#endif
