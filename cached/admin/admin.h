/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What objectfsctl asks of the daemon. Core thread only. */
#ifndef OFS_ADMIN_H
#define OFS_ADMIN_H

#include <jansson.h>
#include <stdint.h>

struct core;
/* answer: borrowed, may be NULL; status 0 or -errno with a message for people. */
typedef void (*admin_done)(int status, const char *message, json_t *answer, void *arg);

/*
 * Run a command: words separated by NUL, options first. `-v NAME` chooses the volume, needed only
 * if there are several and the command is about one path. done is called once, perhaps from inside.
 *   status | health | version | stat PATH | pending [PATH] | refresh PATH | log-level LEVEL
 *   flush [--wait] [--timeout SECONDS] [PATH]
 * PATH: absolute below a volume's tree, VOLUME:path, or relative to the tree of the one volume.
 */
void admin_run(struct core *core, uint64_t request_id, const char *argv, uint32_t argv_bytes,
		admin_done done, void *arg);

#endif
