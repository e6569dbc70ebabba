/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: from a volume's section of the configuration to its object store.
 * Way: volume_open.c, and objectfsctl recover -> here -> objstore/. Thread: core. Owns: nothing.
 * Holds: all that the section says of the store is in what is opened.
 */
#include "volume_store.h"

#include "../base/clock.h"
#include "trust.h"

#define DIR_STORE_THREADS 4

struct objstore *volume_store_new(TALLOC_CTX *ctx, struct mailbox *mb, const struct conf_volume *cv,
		const char *agent, char **error)
{
	const struct objstore_s3_conf sc = {
			.bucket = cv->bucket,
			.endpoint = cv->endpoint,
			.region = cv->region,
			.addressing = (int)cv->addressing,
			.dual_stack = cv->dual_stack,
			.acceleration = cv->acceleration,
			.request_payer = cv->request_payer,
			.ca_file = cv->ca_file,
			.encryption = (int)cv->encryption,
			.checksum = (enum obj_sum)cv->checksum,
			.kms_key = cv->kms_key,
			.bucket_key = cv->bucket_key,
			.customer_key_file = cv->customer_key_file,
			.access_key = cv->access_key,
			.secret_key = cv->secret_key,
			.session_token = cv->session_token,
			.profile = cv->profile,
			.credentials_file = cv->credentials_file,
			.user_agent = agent,
			.max_connections = cv->connections,
			.retries = cv->retries,
			.patience_ns = cv->read_patience_ns,
			.request_timeout_s = (unsigned)(cv->request_timeout_ns / NS_PER_S),
	};

	struct objstore *s = cv->store == CONF_STORE_DIR
			? objstore_dir_new(ctx, mb, cv->directory, DIR_STORE_THREADS, error)
			: objstore_s3_new(ctx, mb, &sc, error);

	if (s != NULL && trust_attach(ctx, s, cv, error) != 0) {
		TALLOC_FREE(s);
	}
	return s;
}
