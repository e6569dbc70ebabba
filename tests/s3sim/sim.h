/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The server's settings and what it counts; changed at run time by the control endpoint. One thread. */
#ifndef OFS_S3SIM_SIM_H
#define OFS_S3SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <talloc.h>

struct store;
struct req;

struct credential {
	struct credential *next;
	char *access, *secret, *token;  /* token: "" for none */
	char *error;                    /* NULL, or what S3 says to it: ExpiredToken, AccessDenied, ... */
	char *deny;                     /* NULL, or operations, with commas around each, that are AccessDenied */
	char day[9];                    /* of the derived key */
	uint8_t derived[32];
};

enum honours { HONOURS_PUT = 1, HONOURS_COMPLETE = 2, HONOURS_COPY = 4, HONOURS_SOURCE = 8, HONOURS_DELETE = 16,
	HONOURS_PART_SOURCE = 32 };

struct settings {
	unsigned honours;           /* which conditions */
	bool bare_etags;            /* If-Match of writes is compared without quotes */
	bool silent_complete;       /* CompleteMultipartUpload tells an empty ETag */
	int64_t rtt_us;
	int64_t bytes_s, all_bytes_s; /* of each connection, of all; 0: no limit */
	int64_t requests_s;         /* above it: 503 SlowDown */
	int64_t clock_s;            /* its clock is so much ahead */
	int64_t restore_ms;         /* so long a RestoreObject takes */
	int64_t part_min_bytes;
};

struct count {
	const char *name;
	unsigned status;
	uint64_t requests;
	struct count *next;
};

struct MHD_Daemon;
struct sim {
	struct MHD_Daemon *daemon, *control;
	struct settings set;
	struct store *store;
	struct credential *keys;
	const char *region, *domain;
	struct req *live;
	struct count *counts;
	struct fault *faults;
	FILE *log;
	/* limits (server.c) */
	int64_t all_next_ns, slot_s;
	int64_t slot_requests;
};

int64_t now_ns(const struct sim *s); /* of its clock */
int64_t mono_ns(void);
/* F0 to F3 by name. false: none of them. */
bool settings_fence(struct settings *set, const char *name);
/* NULL: out of memory. Replaces one of the same access key. */
struct credential *credential_add(struct sim *s, const char *access, const char *secret, const char *token);

#endif
