/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A short stay as root, around a record, the trash, or a directory the user may not search.
 * Way: from all of the module; two system calls and back.
 * Thread: the client's smbd; Linux credentials are per thread, and only this thread's change.
 * Owns: nothing.
 * Holds: 1. smbd's become_root would do, and says so to its own bookkeeping: 20 system calls and a
 *           copy of the user's token, several times per create. Here only the effective uid
 *           changes, and is put back before anything of Samba runs.
 *        2. With the effective uid 0 the permitted capabilities are effective: CAP_SYS_ADMIN for
 *           security.objectfs, CAP_DAC_OVERRIDE for user.objectfs.
 */
#include "ofs.h"

#include <sys/syscall.h>

#ifdef SYS_setresuid32
#define OFS_SETRESUID SYS_setresuid32
#else
#define OFS_SETRESUID SYS_setresuid
#endif

/* glibc's setresuid would change every thread of the process, those of the thread pool too */
static int set_euid(uid_t euid)
{
	return (int)syscall(OFS_SETRESUID, (uid_t)-1, euid, (uid_t)-1);
}

uid_t ofs_root_enter(void)
{
	uid_t euid = geteuid();

	if (euid != 0 && set_euid(0) != 0) {
		DBG_ERR("cannot act as root: %s\n", strerror(errno));
	}
	return euid;
}

void ofs_root_leave(uid_t euid)
{
	int err = errno;

	if (euid != 0 && set_euid(euid) != 0) {
		smb_panic("objectfs: the user's identity cannot be taken up again");
	}
	errno = err;
}
