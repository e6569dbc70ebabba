/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Every command of objectfsctl, once: C(name, fn, path, patience, print, args, help).
 * The daemon's dispatch (admin.c), objectfsctl and its help, the manual and the shell completion
 * come from here.
 *
 * fn of admin/ runs it, print of ctl/ shows the answer. path: whether a PATH is among the words.
 * patience: LONG may take as long as S3 does. args: for people, for the completion, and for what
 * checks what was typed (words.h): what begins with "--" is an option, the word in capitals behind it
 * its value; SECONDS and NUMBER are checked to be such, PATH and LEVEL are completed as what they say.
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
	C("sessions", admin_sessions, NO, SHORT, print_sessions, "",                               \
		"who is connected, and what was done since: the 500 that did most")                \
	C("config", admin_config, NO, SHORT, print_config, "[--check]",                            \
		"every option as it is in force, and where it comes from; secrets are not shown; " \
		"--check: exit status 1 if the file does not say the same any more")               \
	C("ls", admin_ls, MAY, SHORT, print_ls, "[--limit NUMBER] [--from PLACE] [PATH]",          \
		"what is here of each file in a directory, and whether S3 has it; an answer has "  \
		"1000 entries at most and says where the next begins, as text all follow")         \
	C("stat", admin_stat, MUST, SHORT, print_object, "PATH",                                   \
		"what mirror and S3 know of one file or directory")                                \
	C("pending", admin_pending, MAY, SHORT, print_pending, "[PATH]",                           \
		"what is not in S3 yet, and why")                                                  \
	C("renames", admin_renames, MAY, SHORT, print_renames, "[--allow] [PATH]",                 \
		"what is renamed or moved in S3 now: from, to, how much is copied, what it costs, what it " \
		"waits for; --allow: those that are held, as they are large or dear (rename limit), begin") \
	C("flush", admin_flush, MAY, LONG, print_left, "[--wait] [--timeout SECONDS] [PATH]",      \
		"send what is pending now; --wait: until it is in S3")                             \
	C("refresh", admin_refresh, MUST, LONG, print_object, "PATH",                              \
		"look at the bucket anew for a directory or file")                                 \
	C("accept-removals", admin_accept, MAY, LONG, print_object, "[PATH]",                      \
		"names that are gone from the bucket, and kept here because they are many, may go, " \
		"and what else goes below PATH within an hour")                                    \
	C("conflicts", admin_conflicts, MAY, SHORT, print_conflicts, "[PATH]",                     \
		"what this node and somebody else wrote at the same time: where the two versions of " \
		"each file are; the last 100 since the daemon's start")                            \
	C("accept-conflicts", admin_accept_conflicts, NO, SHORT, print_object, "",                 \
		"more than 100 conflicts within an hour have stopped the sending of files: it goes on") \
	C("evict", admin_evict, MUST, LONG, print_object, "PATH",                                  \
		"take a file, or all below a directory, from the local disk; S3 keeps it")         \
	C("drop", admin_drop, MUST, LONG, print_object, "PATH",                                    \
		"take the stubs of a directory and of all below it, if nobody has used them lately, " \
		"from the mirror; they come back when they are asked for")                         \
	C("warm", admin_warm, MUST, LONG, print_object, "PATH",                                    \
		"fetch a file, or all below a directory, to the local disk")                       \
	C("verify", admin_verify, MAY, LONG, print_verify, "[--repair] [PATH]",                    \
		"read a file, or all below a directory, from the local disk and see whether it is still what S3 " \
		"has; --repair: what is not is fetched again")                                     \
	C("pin", admin_pin, MUST, SHORT, print_object, "PATH",                                     \
		"what is here of a file, or below a directory, stays on the local disk")           \
	C("unpin", admin_unpin, MUST, SHORT, print_object, "PATH",                                 \
		"it may leave the local disk again")                                               \
	C("pins", admin_pins, NO, SHORT, print_pins, "", "what is pinned")                         \
	C("fsck", admin_fsck, NO, LONG, print_fsck, "[--repair] [--older SECONDS] [VOLUME]",        \
		"look at all that is in the bucket (a HEAD for each object) and say what is wrong; " \
		"--repair: mend it where no data can be lost; what is left over counts from 7 days on, or SECONDS") \
	C("nodes", admin_nodes, NO, SHORT, print_nodes, "",                                        \
		"who serves each volume, as it was when the daemon began: every cache directory that " \
		"ever did")                                                                        \
	C("forget-node", admin_forget_node, NO, LONG, print_object, "ID",                          \
		"a node whose cache directory is gone serves no more: what it left half way is finished " \
		"by the next start of another, and a store for one node takes another; its log stays") \
	C("tasks", admin_tasks, NO, SHORT, print_tasks, "", "evict, drop, warm and flush --wait under way") \
	C("accept-accounts", admin_accept_accounts, NO, LONG, print_object, "",            \
		"rights are meant for the accounts of this server, whatever they were "    \
		"called: the volume record takes them as they are, and clients that were " \
		"refused for it are let in")                                               \
	C("log", admin_log, NO, SHORT, print_object, "LEVEL [VOLUME]",                             \
		"error, warning, notice, info or debug, until the next start; of a volume: "       \
		"default takes its own level away")                                                \
	C("version", admin_version, NO, SHORT, print_object, "", "version of the daemon")

/* Those that objectfsctl runs itself: C(name, fn, args, help). */
#define OFS_LOCAL_COMMAND_TABLE(C)                                                                 \
	C("top", ctl_top, "[--once] [--interval SECONDS]",                                         \
		"what the daemon is doing, every second until q or Control-C; --once, and without " \
		"a terminal: one sample")                                                          \
	C("doctor", ctl_doctor, "[--smb-conf FILE]",                                               \
		"what is wrong here and what to do about it: configuration, daemon, store, "       \
		"mirror, Samba; needs root")                                                       \
	C("recover", ctl_recover,                                                          \
		"[--name NAME] [--endpoint URL] [--region NAME] [--credentials FILE] "     \
		"[--passdb FILE] [--smb-conf FILE] [--no-start] [--yes] URL",              \
		"serve the volume at s3://BUCKET/PREFIX, whose host is lost, from this "   \
		"server: what is missing of its configuration, its share and the accounts " \
		"its rights name is added, once you have said yes (RECOVERY.md); needs root")          \
	C("support-bundle", ctl_bundle, "[--names] [--lines NUMBER] [--smb-conf FILE] [FILE]",     \
		"all the above in one file (tar.gz) for those who help, without secrets; names of " \
		"files are replaced unless --names; needs root")

#endif
