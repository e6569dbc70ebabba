/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The one place where the version is written. */
#ifndef OFS_SHARED_VERSION_H
#define OFS_SHARED_VERSION_H

#define OFS_VERSION "0.1.0"

#endif
