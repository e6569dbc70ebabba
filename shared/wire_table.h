/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Every message on the daemon's socket, once: this is the protocol's document, and from it come the
 * structs, encode, decode, names, limits, dispatch and the fuzz target. Numbers are never reused.
 *
 * OFS_WIRE_TABLE(M): M(NAME, name, number, request fds, reply fds, who may send it)
 *   who: MODULE (root), ADMIN (root or the configured group); ONEWAY messages get no reply; DAEMON:
 *   asked of a module, on the module's connection, under ids of the daemon's own (OFS_WIRE_ID_DAEMON).
 * OFS_WIRE_<NAME>_REQ(F), OFS_WIRE_<NAME>_REP(F): fields F(type, name); types u32 u64 i32 id str
 *   blob. str: u16 length, bytes without NUL, one NUL (not counted); blob: u32 length, bytes;
 *   id: 16 bytes (struct ofs_oid).
 * Every reply begins with i32 status (0 or -errno) and str message (for people; may be empty).
 */
#ifndef OFS_SHARED_WIRE_TABLE_H
#define OFS_SHARED_WIRE_TABLE_H

#define OFS_WIRE_TABLE(M)                                                                          \
	M(HELLO, hello, 1, 0, 5, MODULE)                                                           \
	M(LOOKUP, lookup, 2, 1, 0, MODULE)                                                         \
	M(LIST, list, 3, 1, 0, MODULE)                                                             \
	M(OPEN, open, 4, 1, 1, MODULE)                                                             \
	M(FETCH, fetch, 5, 0, 0, MODULE)                                                           \
	M(RELEASE, release, 6, 0, 0, ONEWAY)                                                       \
	M(FLUSH, flush, 7, 1, 0, MODULE)                                                           \
	M(RMDIR, rmdir, 8, 1, 0, MODULE)                                                           \
	M(DISCARD, discard, 9, 0, 0, MODULE)                                                       \
	M(COPY, copy, 10, 1, 0, MODULE)                                                            \
	M(ACCOUNT, account, 11, 0, 0, MODULE)                                                      \
	M(NOTIFY, notify, 16, 0, 0, DAEMON)                                                        \
	M(BREAK, break, 17, 0, 0, DAEMON)                                                          \
	M(CTL, ctl, 32, 0, 0, ADMIN)

/* Reply descriptors: ring, shm, intent file (O_APPEND), doorbell eventfd, trash directory. */
#define OFS_WIRE_HELLO_REQ(F)                                                                      \
	F(u32, minor)                                                                              \
	F(u64, features)                                                                           \
	F(u32, pid)                                                                                \
	F(str, volume)                                                                             \
	F(str, path)   /* the share's path, absolute */                                            \
	F(str, samba)  /* Samba version, for the log */
#define OFS_WIRE_HELLO_REP(F)                                                                      \
	F(u32, minor)                                                                              \
	F(u64, features)                                                                           \
	F(u64, session)                                                                            \
	F(str, xattr)          /* record xattr */                                                  \
	F(id, cache_id)                                                                            \
	F(str, tree)           /* absolute path of the mirror's root */                            \
	F(u64, listing_age_ns) /* 0: listings never expire */

/* Is `name` in the unlisted directory (descriptor)? Status 0: in the mirror now; -ENOENT: absent;
 * anything else: unknown, an error. */
#define OFS_WIRE_LOOKUP_REQ(F) F(str, name)
#define OFS_WIRE_LOOKUP_REP(F)

/* Bring every child of the directory (descriptor) into the mirror. flags bit 0: even if listed. */
#define OFS_WIRE_LIST_REQ(F) F(u32, flags)
#define OFS_WIRE_LIST_REP(F)

/* Attach to the recall of a marked file (descriptor). Reply descriptor: the extent map, one bit
 * per extent, least significant first, to be mapped read-only; open_id 0 and no descriptor: the
 * file is plain by now. */
#define OFS_WIRE_OPEN_REQ(F) F(u32, flags)
#define OFS_WIRE_OPEN_REP(F)                                                                       \
	F(u64, open_id)                                                                            \
	F(u64, size)                                                                               \
	F(u32, extent_shift)

/* Fill [offset, offset + length); flags bit 0: the whole file, and make it plain. */
#define OFS_WIRE_FETCH_REQ(F)                                                                      \
	F(u64, open_id)                                                                            \
	F(u64, offset)                                                                             \
	F(u64, length)                                                                             \
	F(u32, flags)
#define OFS_WIRE_FETCH_REP(F)

#define OFS_WIRE_RELEASE_REQ(F) F(u64, open_id)
#define OFS_WIRE_RELEASE_REP(F)

/* Answer when the file (descriptor) as it is now is in S3. */
#define OFS_WIRE_FLUSH_REQ(F) F(u32, flags)
#define OFS_WIRE_FLUSH_REP(F)

/* May `name` in the directory (descriptor) be removed? 0: S3 holds nothing below it. */
#define OFS_WIRE_RMDIR_REQ(F) F(str, name)
#define OFS_WIRE_RMDIR_REP(F)

/* The client truncates to nothing: make the file plain, empty and dirty without a recall. Its directory
 * is marked, and its intent on the disk, before this is asked. */
#define OFS_WIRE_DISCARD_REQ(F) F(u64, open_id)
#define OFS_WIRE_DISCARD_REP(F)

/*
 * The file (descriptor), new and without data, is to become a copy of the whole stub `source`. First
 * its object is copied in S3, which changes nothing here; then, flags bit 0, the file becomes a stub of
 * the copy: the descriptor must be the client's own open file, and -EOPNOTSUPP says that it is not one
 * and will not be.
 */
#define OFS_WIRE_COPY_REQ(F)                                                                       \
	F(u32, flags)                                                                              \
	F(id, source)                                                                              \
	F(id, target) /* of the descriptor's file */                                               \
	F(u64, size)
#define OFS_WIRE_COPY_REP(F)

/*
 * Whose client this is, after HELLO, before anything is done for it. sid: of the accounts that users here
 * have, this machine's or, flags bit 0, a domain's; names: of what the client is by accounts of this
 * machine, pairs of SID and name, each with a NUL behind it, its user first. -EACCES: a SID had another
 * name when rights were given to it.
 */
#define OFS_WIRE_ACCOUNT_REQ(F)                                                                    \
	F(u32, flags)                                                                              \
	F(str, sid)                                                                                \
	F(blob, names)
#define OFS_WIRE_ACCOUNT_REP(F)

/*
 * Somebody else changed the bucket and the tree shows it: tell the clients that watch. path: below the
 * tree; kind MANY: of a directory, in which more has changed than is told one by one.
 */
#define OFS_WIRE_NOTIFY_REQ(F)                                                                     \
	F(u32, kind)                                                                               \
	F(u32, flags) /* bit 0: of a directory */                                                  \
	F(str, path)
#define OFS_WIRE_NOTIFY_REP(F)

/*
 * Files that are about to change because the bucket has: break the leases and oplocks that clients have of
 * them, and say who has them open. inodes: u64 each, little-endian, at most OFS_WIRE_BREAK_MAX; states: a
 * byte for each, OFS_WIRE_HELD_*.
 */
#define OFS_WIRE_BREAK_REQ(F) F(blob, inodes)
#define OFS_WIRE_BREAK_REP(F)                                                                      \
	F(u32, broken) /* so many clients were told to give up what they cache */                  \
	F(blob, states)

/* objectfsctl: argv joined by NUL; the answer is one JSON document. */
#define OFS_WIRE_CTL_REQ(F) F(blob, argv)
#define OFS_WIRE_CTL_REP(F) F(blob, json)

#endif
