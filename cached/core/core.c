/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: put the daemon together, and take it apart.
 * Way: main (and tests) -> cache directory -> doors -> volumes -> socket.
 * Thread: core, outside the loop; blocks. Owns: the doors.
 * Holds: threads end before anything they could touch is freed; after core_close nothing of the
 * daemon is left but what is on disk.
 *
 *  lock -> threads -> volumes_open -> server_open ... server_close -> threads end -> volumes_close
 *       -> unlock
 */
#include <errno.h>
#include <string.h>
#include "core.h"
#include "session.h"

static int doors_open(struct core *core, char **error)
{
	core->ev = tevent_context_init(core);
	core->mb = core->ev != NULL ? mailbox_new(core, core->ev) : NULL;
	core->clock = core->ev != NULL ? clock_real_new(core, core->ev) : NULL;
	core->coord = coord_local_new(core);
	if (core->mb == NULL || core->clock == NULL || core->coord == NULL) {
		return -ENOMEM;
	}
	core->start_ns = clock_now_ns(core->clock);
	core->disk = disk_real_new(core, core->mb, core->conf->global.workers);
	if (core->disk == NULL) {
		*error = talloc_strdup(core, "the worker threads cannot be started");
		return -ENOMEM;
	}
	return 0;
}

int core_open(struct core *core, char **error)
{
	int ret;

	core->lock_fd = -1;
	ret = cachedir_open(core, error);
	if (ret == 0) {
		ret = doors_open(core, error);
	}
	if (ret == 0) {
		ret = volumes_open(core, error);
	}
	if (ret == 0) {
		ret = server_open(core, error);
	}
	return ret;
}

void core_close(struct core *core)
{
	server_close(core);
	TALLOC_FREE(core->disk);
	for (unsigned i = 0; i < core->volume_count; i++) {
		core->volumes[i]->disk = NULL;
		volume_stop_store(core->volumes[i]);
	}
	volumes_close(core);
	TALLOC_FREE(core->coord);
	TALLOC_FREE(core->clock);
	TALLOC_FREE(core->mb);
	TALLOC_FREE(core->ev);
	cachedir_close(core);
}
