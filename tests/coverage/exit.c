/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what ends by _exit is counted, too: the daemon, and the children of tests.
 * Way: the linker sends every call of _exit here (--wrap), in the build of `make coverage` alone.
 * Thread: any.
 */
void __gcov_dump(void);
void __real__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status) __attribute__((noreturn));

void __wrap__exit(int status)
{
	__gcov_dump();
	__real__exit(status);
}
