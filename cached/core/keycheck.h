/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Is the customer's key the one that this volume was written with? Core thread only. */
#ifndef OFS_CORE_KEYCHECK_H
#define OFS_CORE_KEYCHECK_H

#include "volume.h"

/* done(status, message, arg): 0; -ENOENT: nothing says it yet, and it was not to be made; -EBADMSG: it is another one;
 * -EAGAIN, -EACCES, -EIO as for the volume record. */
void keycheck_open(struct volume *v, bool make, void (*done)(int status, const char *message, void *arg), void *arg);

#endif
