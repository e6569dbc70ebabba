/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Every counter and gauge of the daemon, once: S(name, kind, unit, help); every histogram of times:
 * families F(family, label, help) and their rows H(family, value of the label, help).
 * The structs, `objectfsctl status --json`, the metrics page and the manual come from here.
 */
#ifndef OFS_BASE_STATS_TABLE_H
#define OFS_BASE_STATS_TABLE_H

#define OFS_STATS_TABLE(S)                                                                         \
	S(sessions, GAUGE, count, "module connections now")                                        \
	S(messages, COUNTER, count, "requests read from sockets, HELLO included")                  \
	S(hello_closed, COUNTER, count, "tree connects refused: the root's rights not read from S3 yet") \
	S(accounts_refused, COUNTER, count, "tree connects refused: of somebody who would have another's rights") \
	S(bad_frames, COUNTER, count, "connections ended for a malformed frame")                   \
	S(hints, COUNTER, count, "hints read from rings")                                          \
	S(hints_bad, COUNTER, count, "damaged hints skipped")                                      \
	S(hints_lost, COUNTER, count, "hints that modules could not place")                        \
	S(opens_here, COUNTER, count, "opens of files for their data, which was all here")         \
	S(opens_away, COUNTER, count, "opens of files whose data was not, or not all, here")       \
	S(reads_here, COUNTER, count, "reads of bytes that were here")                             \
	S(reads_away, COUNTER, count, "reads that waited for bytes from S3")                       \
	S(names_here, COUNTER, count, "names found, or known to be absent, without asking the daemon") \
	S(names_asked, COUNTER, count, "names that the daemon was asked for")                      \
	S(lists_here, COUNTER, count, "listings of directories from the local disk alone")         \
	S(lists_asked, COUNTER, count, "listings that the daemon was asked for")                   \
	S(client_read_bytes, COUNTER, bytes, "bytes that clients read")                            \
	S(client_write_bytes, COUNTER, bytes, "bytes that clients wrote")                          \
	S(lookups, COUNTER, count, "names asked for in unlisted directories")                      \
	S(listings, COUNTER, count, "directories listed from S3")                                  \
	S(listings_spared, COUNTER, count, "listings that serve longer, because nothing changed for long") \
	S(walks, COUNTER, count, "walks through directories recognised: what is below is listed as a whole") \
	S(walk_pages, COUNTER, count, "pages that were listed for them")                           \
	S(walk_dirs, COUNTER, count, "directories that were listed by those pages")                \
	S(names_absent_known, COUNTER, count, "absent names that S3 was not asked for again")      \
	S(stubs_made, COUNTER, count, "stubs made in the mirror")                                  \
	S(names_escaped, COUNTER, count, "names made under an escape: their keys are no names for SMB") \
	S(base_names, COUNTER, count, "names made from the bases of their directories, without a HEAD for each") \
	S(bases_written, COUNTER, count, "bases of directories written")                                 \
	S(bases_unusable, COUNTER, count, "bases, or chunks of them, that were missing, damaged or of a later version") \
	S(names_hidden, COUNTER, count, "times that a name was not shown, as its metadata or rights cannot be read; the log says why") \
	S(files_beside, COUNTER, count, "files that got an escape because a directory has their name") \
	S(recalls, COUNTER, count, "files opened for recall")                                      \
	S(recall_bytes, COUNTER, bytes, "bytes fetched from S3 into files")                        \
	S(recall_failures, COUNTER, count, "extents that could not be fetched")                    \
	S(recalls_whole, COUNTER, count, "files made resident")                                    \
	S(recalls_wrong, COUNTER, count, "times that all of a file had come, and its bytes were not its object's: they were thrown away") \
	S(recalls_untold, COUNTER, count, "files made resident although nothing says whether their bytes are right") \
	S(recalls_slowed, COUNTER, count, "reads of stubs that waited because their client was over its budget") \
	S(guard_waits, COUNTER, count, "local programs that opened a stub and waited for its data") \
	S(guard_errors, COUNTER, count, "those of them that got an error")                         \
	S(guard_passed, COUNTER, count, "opens of stubs by smbd, which asks for their data itself") \
	S(cache_bytes, GAUGE, bytes, "data of files on the local disk")                            \
	S(evictions, COUNTER, count, "files whose data left the local disk")                       \
	S(evicted_bytes, COUNTER, bytes, "what that freed")                                        \
	S(stubs_dropped, COUNTER, count, "stubs of unused directories that left the mirror")       \
	S(evict_refused, COUNTER, count, "files kept because S3 does not have, or give out, what is here") \
	S(cache_full, COUNTER, count, "times writers were refused because the cache was full of unsent data") \
	S(verify_files, COUNTER, count, "files on the local disk compared with what is known of their objects") \
	S(verify_bytes, COUNTER, bytes, "what they had of data")                                   \
	S(verify_damaged, COUNTER, count, "those of them that had other bytes, or could not be read") \
	S(verify_mended, COUNTER, count, "those of these that were fetched again")                 \
	S(uploads, COUNTER, count, "objects written by PUT or multipart")                          \
	S(upload_bytes, COUNTER, bytes, "bytes of file content sent to S3")                        \
	S(deltas, COUNTER, count, "large objects of which only what had changed was sent")         \
	S(delta_bytes, COUNTER, bytes, "what the store copied for them, from the versions before") \
	S(delta_refused, COUNTER, count, "uploads begun so, and then sent whole: the store did not copy") \
	S(uploads_resumed, COUNTER, count, "uploads in parts gone on with, after a restart or an outage") \
	S(parts_resumed, COUNTER, count, "parts of theirs that were there already, of the very bytes") \
	S(uploads_ended, COUNTER, count, "uploads in parts that nobody went on with, removed with their parts") \
	S(upload_broken, COUNTER, count, "uploads given up because the file was opened for writing") \
	S(uploads_open, COUNTER, count, "objects sent from a copy of a file open for writing")         \
	S(uploads_spared, COUNTER, count, "times such a file was dirty, but as it had been sent")      \
	S(upload_failures, COUNTER, count, "uploads that failed and will be retried")              \
	S(metadata_unproven, COUNTER, count, "objects whose metadata were not believed: trust metadata = signed") \
	S(properties_kept, COUNTER, count, "overwritten objects that kept what another tool had set on them") \
	S(properties_lost, COUNTER, count, "those that could not keep all of it")                  \
	S(copies, COUNTER, count, "server-side copies")                                            \
	S(copies_whole, COUNTER, count, "stubs copied in S3 for a client, without their bytes")    \
	S(copies_passed, COUNTER, count, "copies too large for the store, sent through this machine") \
	S(deletes, COUNTER, count, "objects deleted")                                              \
	S(log_entries, COUNTER, count, "metadata changes written to the node's log")               \
	S(log_segments, COUNTER, count, "log segments written")                                    \
	S(log_segments_folded, COUNTER, count, "log segments deleted once what counts of them was written again") \
	S(log_entries_dropped, COUNTER, count, "log entries dropped then: their objects know better, or are gone") \
	S(fsck_found, COUNTER, count, "things that fsck found in buckets and that should not be so")         \
	S(fsck_mended, COUNTER, count, "those that it mended")                                     \
	S(blobs_swept, COUNTER, count, "large values that nothing named any more, deleted by it")  \
	S(conflicts, COUNTER, count, "conflict copies made")                                       \
	S(rebased, COUNTER, count, "files that another writer had stored meanwhile with the very same bytes") \
	S(markers_replaced, COUNTER, count, "directories whose rights another writer had set meanwhile: ours are the last") \
	S(renames_dir, COUNTER, count, "directory renames completed in S3")                        \
	S(renames_held, COUNTER, count, "directory renames not begun before they are allowed: large, archived or dear") \
	S(redirects, GAUGE, count, "objects that stay under an old key, archived or refused by the store") \
	S(remote_changes, COUNTER, count, "changes found in the bucket and applied")               \
	S(remote_deferred, COUNTER, count, "remote changes that wait: clients have the files open")  \
	S(breaks_sent, COUNTER, count, "leases and oplocks of clients broken for remote changes")  \
	S(notifies_sent, COUNTER, count, "changes found in the bucket that smbd was given for clients that watch") \
	S(notifies_dropped, COUNTER, count, "those that no smbd took in time, or at all")          \
	S(removals_held, GAUGE, count, "removals held back by the brake")                          \
	S(dirs_scanned, COUNTER, count, "directories scanned after an unclean stop")               \
	S(pending, GAUGE, count, "names and files not yet in agreement with S3")                   \
	S(disk_jobs, COUNTER, count, "disk jobs run")                                              \
	S(http_requests, COUNTER, count, "requests for metrics and health pages")                  \
	S(fence_windows, COUNTER, count, "writes without a condition that tells: looked right before") \
	S(s3_get, COUNTER, count, "GET requests for objects")                                      \
	S(s3_head, COUNTER, count, "HEAD requests")                                                \
	S(s3_list, COUNTER, count, "LIST requests")                                                \
	S(s3_put, COUNTER, count, "PUT requests, parts included")                                  \
	S(s3_copy, COUNTER, count, "COPY requests")                                                \
	S(s3_delete, COUNTER, count, "DELETE requests")                                            \
	S(s3_other, COUNTER, count, "other requests to the store")                                 \
	S(s3_retries, COUNTER, count, "requests sent again")                                       \
	S(s3_errors, COUNTER, count, "requests that finally failed")                               \
	S(creds_renewals, COUNTER, count, "times credentials for a store were had from elsewhere")     \
	S(creds_failures, COUNTER, count, "searches for credentials that failed")                   \
	S(s3_bytes_in, COUNTER, bytes, "object bytes received")                                    \
	S(s3_bytes_out, COUNTER, bytes, "object bytes sent")

#define OFS_TIMES_FAMILIES(F)                                                                      \
	F(step, "step", "time of a step on the ways of a read and a write")                        \
	F(s3_request, "type", "time of a request to the store, waiting and retries included")      \
	F(core, "what", "processor time of the core thread, which does one thing after the other")         \
	F(disk_wait, "lane", "time a disk job waited for its worker")                              \
	F(disk_run, "lane", "time a disk job ran")

/* In the order of their families. */
#define OFS_TIMES_TABLE(H)                                                                         \
	H(step, recall_open, "a marked file's OPEN, from smbd's question to the answer")           \
	H(step, first_extent, "from the begin of a recall to its first extent in the file")        \
	H(step, local_open, "a stub's open by a local program, until its data was here")           \
	H(step, fetch, "a FETCH, from smbd's question to the answer")                              \
	H(step, lookup, "a name in an unlisted directory, from smbd's question to the answer")     \
	H(step, list, "a directory to be listed, from smbd's question to the answer")              \
	H(step, flush, "a FLUSH, or a close with durability s3, from question to answer")          \
	H(step, copy, "a server-side copy of a stub, from smbd's question to the answer")          \
	H(step, upload, "one object sent, all its parts included")                                 \
	H(step, backlog, "from a change, as far as the daemon knows, to its agreement with S3")    \
	H(s3_request, get, "GET of an object or a range")                                          \
	H(s3_request, head, "HEAD")                                                                \
	H(s3_request, list, "a page of LIST")                                                      \
	H(s3_request, put, "PUT, of a part too")                                                   \
	H(s3_request, copy, "COPY")                                                                \
	H(s3_request, delete, "DELETE")                                                            \
	H(s3_request, other, "begin, end and abort of multipart uploads, settings of the bucket")  \
	H(core, turn, "one thing done: so long everybody else waited")                             \
	H(disk_wait, any, "any order")                                                             \
	H(disk_wait, order, "looking at the tree, in order")                                       \
	H(disk_wait, index, "the index's file, in order")                                          \
	H(disk_run, any, "any order")                                                              \
	H(disk_run, order, "looking at the tree, in order")                                        \
	H(disk_run, index, "the index's file, in order")

#endif
