/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Every option of a share in smb.conf, once: O(type, field, key, default, help); there it is
 * objectfs:KEY. What conf_read reads and the manual come from here.
 * Types: TEXT; COUNT from 1 up to 86400; BOOL.
 */
#ifndef OFS_CONF_TABLE_H
#define OFS_CONF_TABLE_H

#define OFS_CONF_TABLE(O)                                                                          \
	O(TEXT, volume, "volume", NULL,                                                            \
		"volume of objectfs.conf that the share belongs to; without it the share is refused") \
	O(TEXT, socket, "socket", "/run/objectfs/cached.sock", "the daemon's socket")              \
	O(TEXT, durability, "durability", "local",                                                 \
		"what FLUSH and close promise: local (this machine's disk) or s3 (the object is in S3)") \
	O(BOOL, offline, "offline", true,                                                          \
		"files whose data is not here have the attributes OFFLINE and RECALL_ON_DATA_ACCESS, so " \
		"that scanners, indexers and previews pass them by")                               \
	O(COUNT, openat_retry_ms, "openat retry", 50,                                              \
		"milliseconds an open waits for the daemon to let go of the file")                 \
	O(COUNT, request_timeout_s, "request timeout", 30,                                         \
		"seconds a request to the daemon may take")                                        \
	O(COUNT, reconnect_timeout_s, "reconnect timeout", 60,                                     \
		"seconds the daemon may be away before what needs it fails")

#endif
