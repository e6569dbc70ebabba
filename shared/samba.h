/* SPDX-License-Identifier: GPL-3.0-or-later */
/* For which Samba a module was built: it says so in its own bytes, where others can read it. */
#ifndef OFS_SHARED_SAMBA_H
#define OFS_SHARED_SAMBA_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* What stands before the version in objectfs.so. */
#define OFS_BUILT_FOR "objectfs.so was built for Samba "

/* Length of the series: "4.17.12-Debian" -> 4, of "4.17". */
static inline size_t ofs_samba_series(const char *version)
{
	size_t n = strspn(version, "0123456789");

	if (version[n] == '.') {
		n += 1 + strspn(version + n + 1, "0123456789");
	}
	return n;
}

/* A security revision must not take the shares down; another series has other structures. */
static inline bool ofs_samba_fits(const char *built_for, const char *running)
{
	size_t n = ofs_samba_series(built_for);

	return ofs_samba_series(running) == n && strncmp(running, built_for, n) == 0;
}

#endif
