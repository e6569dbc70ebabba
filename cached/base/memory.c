/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the end for lack of memory.
 * Way: from whoever allocates (allocate.c, index_row.c); to the log, and out.
 * Thread: any.
 * Owns: nothing.
 * Holds: nothing here allocates.
 */
#include "memory.h"

#include <stdlib.h>

#include "log.h"

void memory_ends(size_t bytes)
{
	static _Thread_local int ending; /* log_line's own */

	if (ending++ == 0) {
		log_error("core", "out of memory (%zu bytes): ending, to be started again with what is on disk; "
				"give this machine, or the service (MemoryMax=), more of it", bytes);
	}
	abort();
}
