/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: no allocation in the daemon fails and is survived (base/memory.h): malloc and its kin, for every library in this
 *       process.
 * Way: from talloc, libc, SQLite, whoever; to glibc's own.
 * Thread: any.
 * Owns: nothing.
 * Holds: linked with the daemon alone; a sanitizer has an allocator of its own, which ends the process itself.
 */
#include <errno.h>
#include <stddef.h>
#include "base/memory.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

/* glibc's manual, "Replacing malloc": these are there for it. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);

void *malloc(size_t size)
{
	void *p = __libc_malloc(size);

	if (p == NULL && size < MEMORY_MUCH_BYTES) {
		memory_ends(size);
	}
	return p;
}

void *calloc(size_t count, size_t size)
{
	void *p = __libc_calloc(count, size);
	size_t bytes;

	if (p == NULL && !__builtin_mul_overflow(count, size, &bytes) && bytes < MEMORY_MUCH_BYTES) {
		memory_ends(bytes);
	}
	return p;
}

void *realloc(void *old, size_t size)
{
	void *p = __libc_realloc(old, size);

	if (p == NULL && size > 0 && size < MEMORY_MUCH_BYTES) {
		memory_ends(size);
	}
	return p;
}

#endif
