/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Who the client is, by accounts of this machine: what its user and groups are called, and the SID of the
 * accounts. The daemon compares them with those whom the rights in the bucket name.
 * Way: from ofs_connect, after HELLO; to the daemon's core/accounts.c.
 * Thread: the client's smbd, as root, at the tree connect.
 * Owns: nothing.
 * Holds: 1. A member of a domain has its users from there: no names are told.
 *        2. Well-known SIDs (RIDs below 1000) mean the same everywhere.
 *        3. A SID without a name is not told: it can be nobody's.
 */
#include "ofs.h"

#include <grp.h>
#include <pwd.h>

#include "libcli/security/security.h"
#include "passdb.h"
#include "passdb/machine_sid.h"
#include "secrets.h"

#define ACCOUNT_RID_FIRST 1000 /* of accounts that somebody made */
#define ACCOUNT_NAMES_BYTES 5120 /* a frame has room for them */

static const char *account_unix_user(uid_t uid)
{
	const struct passwd *pw = getpwuid(uid);

	return pw != NULL ? pw->pw_name : NULL;
}

static const char *account_unix_group(gid_t gid)
{
	const struct group *gr = getgrgid(gid);

	return gr != NULL ? gr->gr_name : NULL;
}

/* NULL: nobody whom this machine made. */
static const char *account_name(TALLOC_CTX *ctx, const struct dom_sid *sid, const char *user)
{
	const char *domain, *name = NULL;
	enum lsa_SidType type;
	uint32_t rid;

	if (sid_peek_check_rid(&global_sid_Unix_Users, sid, &rid)) {
		return account_unix_user((uid_t)rid);
	}
	if (sid_peek_check_rid(&global_sid_Unix_Groups, sid, &rid)) {
		return account_unix_group((gid_t)rid);
	}
	if (!sid_peek_check_rid(get_global_sam_sid(), sid, &rid) || rid < ACCOUNT_RID_FIRST) {
		return NULL;
	}
	if (user != NULL) {
		return user;
	}
	return lookup_sid(ctx, sid, &domain, &name, &type) ? name : NULL;
}

/* Pairs of SID and name, each with a NUL behind it; as many as there is room for. */
static size_t account_names(const struct auth_session_info *info, TALLOC_CTX *ctx, char *buf, size_t cap)
{
	const struct security_token *token = info->security_token;
	size_t len = 0;

	for (uint32_t i = 0; i < token->num_sids; i++) {
		const char *name = account_name(ctx, &token->sids[i],
				i == PRIMARY_USER_SID_INDEX ? info->info->account_name : NULL);
		struct dom_sid_buf text;
		size_t sid_len, name_len;

		if (name == NULL) {
			continue;
		}
		dom_sid_str_buf(&token->sids[i], &text);
		sid_len = strlen(text.buf) + 1;
		name_len = strlen(name) + 1;
		if (len + sid_len + name_len > cap) {
			break;
		}
		memcpy(buf + len, text.buf, sid_len);
		memcpy(buf + len + sid_len, name, name_len);
		len += sid_len + name_len;
	}
	return len;
}

/* The SID of the accounts that users here have. */
static bool account_domain(struct dom_sid *sid, bool *domain)
{
	const struct dom_sid *own = get_global_sam_sid();

	*domain = lp_server_role() != ROLE_STANDALONE;
	if (lp_server_role() == ROLE_DOMAIN_MEMBER) {
		return secrets_fetch_domain_sid(lp_workgroup(), sid);
	}
	if (own != NULL) {
		*sid = *own;
	}
	return own != NULL;
}

int ofs_account_tell(struct ofs_conn *c)
{
	const struct auth_session_info *info = c->handle->conn->session_info;
	char names[ACCOUNT_NAMES_BYTES];
	struct dom_sid sid;
	struct dom_sid_buf text;
	TALLOC_CTX *ctx;
	bool domain;
	size_t len = 0;
	int ret;

	if ((c->features & OFS_WIRE_FEATURE_ACCOUNT) == 0 || info == NULL ||
			!account_domain(&sid, &domain)) {
		return 0;
	}
	ctx = talloc_new(c);
	if (ctx == NULL) {
		return -ENOMEM;
	}
	if (!domain) {
		len = account_names(info, ctx, names, sizeof(names));
	}
	ret = ofs_call_account(c->link, domain ? OFS_WIRE_ACCOUNT_DOMAIN : 0,
			dom_sid_str_buf(&sid, &text), names, len);
	talloc_free(ctx);
	return ret;
}
