/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The daemon does not go on without memory: what it was about to remember, a timer, a callback or a row, would be
 * missing for as long as it runs, and an error that is made up of it would be taken for an answer. It ends, and is started again with
 * what is on disk, as after any other death. Who asks for very much at once gets NULL, and has an answer for it.
 */
#ifndef OFS_BASE_MEMORY_H
#define OFS_BASE_MEMORY_H

#include <stddef.h>

#define MEMORY_MUCH_BYTES ((size_t)64 << 20)

/* An allocation of so many bytes has failed: log it and abort. Any thread. */
void memory_ends(size_t bytes) __attribute__((noreturn));

#endif
