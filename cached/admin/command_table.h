/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Every command of objectfsctl, once: C(name, fn, path, patience, print, args, help).
 * The daemon's dispatch (admin.c), objectfsctl and its help, the manual and the shell completion
 * come from here.
 *
 * fn of admin/ runs it, print of ctl/ shows the answer. path: whether a PATH is among the words.
 * patience: LONG may take as long as S3 does. args: for people and for the completion; what begins
 * with "--" is an option, PATH and LEVEL are completed as what they say, SECONDS follows an option.
 */
#ifndef OFS_ADMIN_COMMAND_TABLE_H
#define OFS_ADMIN_COMMAND_TABLE_H

enum command_path { COMMAND_PATH_NO, COMMAND_PATH_MAY, COMMAND_PATH_MUST };
enum command_patience { COMMAND_PATIENCE_SHORT, COMMAND_PATIENCE_LONG };

#define OFS_COMMAND_TABLE(C)                                                                       \
	C("status", admin_status, NO, SHORT, print_status, "",                                     \
		"how the daemon and each volume are; counters")                                    \
	C("health", admin_health, NO, SHORT, print_health, "",                                     \
		"every component of the daemon, and what to do where it is not well")              \
	C("stat", admin_stat, MUST, SHORT, print_object, "PATH",                                   \
		"what mirror and S3 know of one file or directory")                                \
	C("pending", admin_pending, MAY, SHORT, print_pending, "[PATH]",                           \
		"what is not in S3 yet, and why")                                                  \
	C("flush", admin_flush, MAY, LONG, print_left, "[--wait] [--timeout SECONDS] [PATH]",      \
		"send what is pending now; --wait: until it is in S3")                             \
	C("refresh", admin_refresh, MUST, LONG, print_object, "PATH",                              \
		"look at the bucket anew for a directory or file")                                 \
	C("evict", admin_evict, MUST, LONG, print_object, "PATH",                                  \
		"take a file, or all below a directory, from the local disk; S3 keeps it")         \
	C("drop", admin_drop, MUST, LONG, print_object, "PATH",                                    \
		"take the stubs of a directory and of all below it, if nobody has used them lately, " \
		"from the mirror; they come back when they are asked for")                         \
	C("warm", admin_warm, MUST, LONG, print_object, "PATH",                                    \
		"fetch a file, or all below a directory, to the local disk")                       \
	C("pin", admin_pin, MUST, SHORT, print_object, "PATH",                                     \
		"what is here of a file, or below a directory, stays on the local disk")           \
	C("unpin", admin_unpin, MUST, SHORT, print_object, "PATH",                                 \
		"it may leave the local disk again")                                               \
	C("tasks", admin_tasks, NO, SHORT, print_object, "", "evict, drop and warm under way")           \
	C("log", admin_log, NO, SHORT, print_object, "LEVEL [VOLUME]",                             \
		"error, warning, notice, info or debug, until the next start; of a volume: "       \
		"default takes its own level away")                                                \
	C("version", admin_version, NO, SHORT, print_object, "", "version of the daemon")

/* Those that objectfsctl runs itself: C(name, fn, args, help). */
#define OFS_LOCAL_COMMAND_TABLE(C)                                                                 \
	C("doctor", ctl_doctor, "[--smb-conf FILE]",                                               \
		"what is wrong here and what to do about it: configuration, daemon, store, "       \
		"mirror, Samba; needs root")

#endif
