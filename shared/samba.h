/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is known of Samba outside the module, and for which one that was built. */
#ifndef OFS_SHARED_SAMBA_H
#define OFS_SHARED_SAMBA_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* What stands before the version in objectfs.so: it says so in its own bytes, where others can read it. */
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

/*
 * smbd makes a directory (from 4.22 on) under a name of its own beside the real one and renames it
 * when it is complete. What a killed smbd left of these, the next one that lists removes. They are
 * nobody's else: no client sees one, none goes to the object store.
 */
static inline bool ofs_samba_tmpname(const char *name)
{
	return strncmp(name, ".::TMPNAME:", 11) == 0;
}

#endif
