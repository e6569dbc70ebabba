/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: leave the process no right it does not need.
 * Way: main calls it before threads start (capabilities are per thread and inherited).
 * Thread: main. Owns: nothing.
 * Holds: what is kept is the intersection of the list and what we had; in a container that lacks
 * some of them nothing fails here, the rooms that need them say so themselves.
 */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "core.h"
#include "../base/log.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED
#endif
#endif

/* In containers some are often missing: without those not `needed` records are kept in user.objectfs,
 * and leases are taken as the owner. */
static const struct {
	int cap;
	const char *name;
	bool needed;
} kept[] = {
		{CAP_LEASE, "CAP_LEASE", false},
		{CAP_SYS_ADMIN, "CAP_SYS_ADMIN", false},
		{CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", false},
		{CAP_FOWNER, "CAP_FOWNER", true},
		{CAP_CHOWN, "CAP_CHOWN", true},
		{CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE", true},
		{CAP_SETUID, "CAP_SETUID", true},
		{CAP_SETGID, "CAP_SETGID", true},
		{CAP_FSETID, "CAP_FSETID", true},
};

void privs_drop(bool core_dumps)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	uint32_t keep[2] = {0, 0};

#ifndef SANITIZED /* looks for leaks by ptrace, which this forbids, too */
	(void)prctl(PR_SET_DUMPABLE, core_dumps ? 1 : 0, 0, 0, 0);
#else
	(void)core_dumps;
#endif
	if (geteuid() != 0) {
		return;
	}
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		keep[CAP_TO_INDEX(kept[i].cap)] |= CAP_TO_MASK(kept[i].cap);
	}
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
		if (cap >= 64 || (keep[CAP_TO_INDEX(cap)] & CAP_TO_MASK(cap)) == 0) {
			/* Without CAP_SETPCAP this fails; then the capset below must do. */
			(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
		}
	}
	if (syscall(SYS_capget, &head, data) != 0) {
		log_warning("core", "capabilities cannot be read: %s", strerror(errno));
		return;
	}
	for (int i = 0; i < 2; i++) {
		data[i].permitted &= keep[i];
		data[i].effective = data[i].permitted;
		data[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &head, data) != 0) {
		log_warning("core", "capabilities cannot be dropped: %s", strerror(errno));
	}
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

char *privs_missing(TALLOC_CTX *ctx, bool *needed)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	char *list = talloc_strdup(ctx, "");

	*needed = false;
	if (syscall(SYS_capget, &head, data) != 0) {
		return list;
	}
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		uint32_t has = data[CAP_TO_INDEX(kept[i].cap)].effective;

		if (list != NULL && (has & CAP_TO_MASK(kept[i].cap)) == 0) {
			*needed = *needed || kept[i].needed;
			list = talloc_asprintf_append(
					list, "%s%s", list[0] != '\0' ? ", " : "", kept[i].name);
		}
	}
	return list;
}

void privs_raise_limits(void)
{
	struct rlimit lim = {.rlim_cur = 1u << 20, .rlim_max = 1u << 20};

	/* More than the hard limit needs CAP_SYS_RESOURCE; else as far as it goes. */
	if (setrlimit(RLIMIT_NOFILE, &lim) == 0) {
		return;
	}
	if (getrlimit(RLIMIT_NOFILE, &lim) != 0) {
		return;
	}
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim) != 0) {
		log_warning("core", "the limit of open files stays: %s", strerror(errno));
	}
}
