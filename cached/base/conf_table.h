/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Every option of objectfs.conf, once: O(type, field, key, default, min, max, flags, help).
 * Structs, parsing, `--check-config` messages and the manual come from here.
 *
 * Types: STR text, PATH absolute path (min and max: of the length in bytes), BOOL, COUNT, SIZE
 * (K M G T), DURATION (ms s m h d, plain: seconds; min and max in ns), and the enumerations LEVEL,
 * FORMAT, STORE, ADDRESSING, XATTR, GUARD, FOREIGN,
 * ENCRYPTION, CHECKSUM, TRUST of conf.c. Default NULL: unset. Defaults are parsed like a file's values.
 */
#ifndef OFS_BASE_CONF_TABLE_H
#define OFS_BASE_CONF_TABLE_H

#define CONF_MS 1000000LL
#define CONF_S (1000LL * CONF_MS)
#define CONF_DAY (86400LL * CONF_S)
#define CONF_KIB 1024LL
#define CONF_MIB (1024LL * CONF_KIB)
#define CONF_GIB (1024LL * CONF_MIB)
#define CONF_TIB (1024LL * CONF_GIB)

/* The socket's limit is that of sockaddr_un. */
#define CONF_GLOBAL_TABLE(O)                                                                       \
	O(PATH, socket, "socket", "/run/objectfs/cached.sock", 2, 107, 0,                          \
		"Unix socket the module and objectfsctl connect to")                               \
	O(PATH, run_directory, "run directory", "/run/objectfs", 2, 1024, 0,                       \
		"directory for rings and shared memory; lost at a reboot")                         \
	O(PATH, cache_directory, "cache directory", "/var/cache/objectfs", 2, 1024, 0,             \
		"directory that holds the mirror of every volume")                                 \
	O(LEVEL, log_level, "log level", "notice", 0, 0, 0, "least severe level that is logged")   \
	O(FORMAT, log_format, "log format", "text", 0, 0, 0,                                       \
		"text, or json: one object a line")                                                \
	O(PATH, log_file, "log file", NULL, 2, 1024, 0, "log file; standard error if unset")       \
	O(COUNT, workers, "workers", "8", 2, 64, 0, "threads for work on the local disk")          \
	O(STR, group, "group", NULL, 1, 64, 0, "group that may use objectfsctl; root only if unset") \
	O(BOOL, core_dumps, "core dumps", "no", 0, 0, 0,                                           \
		"leave a core when the daemon ends by a fault; it has the keys to the bucket in it") \
	O(STR, http_listen, "http listen", "127.0.0.1:9470", 0, 64, 0,                             \
		"address and port of metrics and health pages, which need no password; empty: none")

#define CONF_VOLUME_TABLE(O)                                                                       \
	O(STORE, store, "store", NULL, 0, 0, CONF_REQUIRED, "kind of object store")                \
	O(PATH, directory, "directory", NULL, 2, 1024, CONF_DIR_ONLY,                              \
		"directory that holds the objects")                                                \
	O(STR, bucket, "bucket", NULL, 3, 255, CONF_S3_ONLY, "bucket that holds the objects")      \
	O(STR, prefix, "prefix", "", 0, 512, 0,                                                    \
		"what every key begins with; a slash is added at the end")                         \
	O(STR, endpoint, "endpoint", NULL, 8, 512, CONF_S3_ONLY,                                   \
		"http:// or https:// address of the store; AWS's of the region if unset")          \
	O(STR, region, "region", "us-east-1", 1, 64, CONF_S3_ONLY,                                 \
		"region requests are signed for")                                                  \
	O(ADDRESSING, addressing, "addressing", "auto", 0, 0, CONF_S3_ONLY,                        \
		"where the bucket's name goes: into the path or the host name")                    \
	O(BOOL, dual_stack, "dual stack", "no", 0, 0, CONF_S3_ONLY,                                \
		"AWS: use the endpoint that has IPv6, too; the plain one if it cannot be reached")  \
	O(BOOL, acceleration, "acceleration", "no", 0, 0, CONF_S3_ONLY,                            \
		"AWS: use Transfer Acceleration, which costs by the gigabyte; the plain endpoint if the " \
		"bucket has none")                                                                 \
	O(BOOL, request_payer, "request payer", "no", 0, 0, CONF_S3_ONLY,                          \
		"pay for the requests to a bucket whose owner has them paid by who sends them")    \
	O(PATH, ca_file, "ca file", NULL, 2, 1024, CONF_S3_ONLY,                                   \
		"certificates (PEM) the endpoint's is checked against; the system's if unset")     \
	O(STR, access_key, "access key", NULL, 1, 256, CONF_S3_ONLY,                               \
		"access key id; if unset, credentials are looked for where AWS's tools look")      \
	O(STR, secret_key, "secret key", NULL, 1, 256, CONF_S3_ONLY | CONF_SECRET,                 \
		"secret access key; the file must not be readable by everyone")                    \
	O(STR, session_token, "session token", NULL, 1, 4096, CONF_S3_ONLY | CONF_SECRET,          \
		"token that goes with temporary keys")                                             \
	O(STR, profile, "profile", NULL, 1, 128, CONF_S3_ONLY,                                     \
		"profile in AWS's files; comes before AWS_ACCESS_KEY_ID and the like")             \
	O(PATH, credentials_file, "credentials file", NULL, 2, 1024, CONF_S3_ONLY,                 \
		"in AWS's format; comes before the environment; the files in ~/.aws if unset")     \
	O(ENCRYPTION, encryption, "encryption", "none", 0, 0, CONF_S3_ONLY,                        \
		"how the store encrypts what is written: as the bucket says and an overwritten object was " \
		"(none), with its own keys (s3), with one of AWS KMS (kms), or with that of a file (customer)") \
	O(STR, kms_key, "kms key", NULL, 1, 2048, CONF_S3_ONLY,                                    \
		"id or ARN of the key for encryption = kms; the account's aws/s3 if unset")        \
	O(BOOL, bucket_key, "bucket key", "yes", 0, 0, CONF_S3_ONLY,                               \
		"encryption = kms: let the bucket keep a key of its own, for far fewer requests to KMS") \
	O(PATH, customer_key_file, "customer key file", NULL, 2, 1024, CONF_S3_ONLY,               \
		"encryption = customer: 32 random bytes, or their base64; without it nobody reads the " \
		"objects again")                                                                   \
	O(CHECKSUM, checksum, "checksum", "auto", 0, 0, CONF_S3_ONLY,                              \
		"checksum sent with what is written, and compared with what is read: CRC64NVME where " \
		"the store checks it (auto), this one or the volume does not start, or none (then what is " \
		"fetched is compared with nothing)")                                               \
	O(TRUST, trust_metadata, "trust metadata", "all", 0, 0, 0,                                 \
		"whose rights and attributes in the bucket are believed: everybody's who may write there " \
		"(all), or those alone that are signed with the volume's key (signed)")            \
	O(PATH, signing_key_file, "signing key file", NULL, 2, 1024, 0,                            \
		"trust metadata = signed: the base64 of 32 random bytes; up to seven lines with keys " \
		"before it are accepted, too, with a time behind one: what it signed until then; never " \
		"in the bucket, and needed on the next host")                                      \
	O(XATTR, record_xattr, "record xattr", "auto", 0, 0, 0,                                    \
		"namespace of the inode records; user where security is not allowed")              \
	O(GUARD, guard, "guard", "auto", 0, 0, 0,                                                  \
		"let local programs that open a stub wait until its data is here, where kernel and " \
		"rights allow it (auto), always or not at all (yes), or never (no)")               \
	O(COUNT, guard_limit, "guard limit", "0", 0, 1000000000, 0,                                \
		"stubs that are guarded, at most; each keeps 1.3 KiB of the kernel's memory; 0: what " \
		"fits into an eighth of this machine's memory")                                    \
	O(DURATION, guard_patience_ns, "guard patience", "2m", CONF_S, CONF_DAY, 0,                \
		"a local program gets an I/O error when no more of its file came for so long")     \
	O(SIZE, capacity_bytes, "capacity", "1T", CONF_MIB, INT64_MAX, 0,                          \
		"size of the share that clients are told")                                         \
	O(SIZE, cache_size_bytes, "cache size", "0", 0, INT64_MAX, 0,                              \
		"data kept on the local disk, at most; 0: what the file system has")               \
	O(COUNT, cache_high, "cache high", "90", 10, 99, 0,                                        \
		"percent of the cache size at which clean files begin to leave; the rest is the "  \
		"reserve for what S3 does not have yet")                                           \
	O(COUNT, cache_low, "cache low", "80", 5, 98, 0,                                           \
		"percent of the cache size at which they stop to leave")                           \
	O(SIZE, cache_free_bytes, "cache free", "1G", 0, INT64_MAX, 0,                             \
		"what stays free on the file system of the cache; clean files leave for it")       \
	O(DURATION, evict_age_ns, "evict age", "0", 0, 3650 * CONF_DAY, 0,                         \
		"clean files that nobody has opened for so long leave the local disk; 0: never")   \
	O(DURATION, drop_age_ns, "drop age", "30d", 0, 3650 * CONF_DAY, 0,                         \
		"stubs of a directory that nobody has used for so long leave the mirror, and come " \
		"back when they are asked for; 0, or with listing age = 0: never")                 \
	O(BOOL, evict_at_close, "evict at close", "no", 0, 0, 0,                                   \
		"files leave the local disk as soon as nobody has them open and the store has them") \
	O(DURATION, settle_time_ns, "settle time", "5s", 0, CONF_DAY, 0,                           \
		"quiet time after the last change before a file is sent")                          \
	O(DURATION, settle_limit_ns, "settle limit", "60s", 0, 7 * CONF_DAY, 0,                    \
		"longest time a file that keeps changing waits")                                   \
	O(DURATION, listing_age_ns, "listing age", "15m", 0, 3650 * CONF_DAY, 0,                   \
		"age at which a directory is listed anew; 0: never")                               \
	O(COUNT, listing_growth, "listing growth", "16", 1, 16, 0,                                 \
		"the age doubles each time a directory is listed anew and nothing in it has changed, " \
		"up to so many times listing age; 1: it does not")                                 \
	O(DURATION, base_quiet_ns, "base quiet", "10m", 0, 365 * CONF_DAY, 0,                      \
		"how long nothing has changed in a directory before its base is written to the store, " \
		"which spares the next disk a request for each file; 0: never")                    \
	O(COUNT, base_names, "base names", "100", 1, 1000000000, 0,                                \
		"files in a directory from which on it gets a base")                               \
	O(SIZE, part_size_bytes, "part size", "8M", 5 * CONF_MIB, 5 * CONF_GIB, 0,                 \
		"size of the parts of a large upload; grows for files beyond 10,000 parts")        \
	O(DURATION, upload_age_ns, "upload age", "7d", 0, 3650 * CONF_DAY, 0,                      \
		"parts of an upload that this daemon has begun, and has not completed in so long, are removed " \
		"from the store; at once where the file was changed or deleted meanwhile; 0: never") \
	O(SIZE, delta_above_bytes, "delta above", "64M", 0, INT64_MAX, 0,                          \
		"files from this size on, of which little has changed, are read whole but sent in part: the " \
		"store copies the rest from the version before, where it can be held to it; 0: never") \
	O(SIZE, copy_limit_bytes, "copy limit", "5G", CONF_MIB, 5 * CONF_GIB, 0,                   \
		"largest object that the store is asked to copy by itself; larger ones that are "  \
		"renamed pass through this machine in parts")                                      \
	O(COUNT, rename_limit, "rename limit", "100000", 0, 1000000000, 0,                         \
		"objects below a directory from which on its rename is not begun in the store before " \
		"it is allowed (objectfsctl renames --allow); 0: no limit")                        \
	O(COUNT, rename_limit_archived, "rename limit archived", "1000", 0, 1000000000, 0,         \
		"the same of archived objects, which stay under their old names; 0: no limit")     \
	O(COUNT, rename_limit_cost, "rename limit cost", "10", 0, 1000000000, 0,                   \
		"the same of what it costs, in US dollars by AWS's public list; 0: no limit")      \
	O(SIZE, compare_limit_bytes, "compare limit", "64M", 0, 5 * CONF_GIB, 0,                   \
		"largest object of another writer's that is read, where it has a changed file's size, to see " \
		"whether its bytes are the same, before both are kept; 0: only empty ones are")    \
	O(FOREIGN, foreign_properties, "foreign properties", "keep", 0, 0, 0,                      \
		"what becomes of headers, metadata and tags that another tool set on an object, and that " \
		"cannot be put on what overwrites it: what does not fit is logged, and tags that may "     \
		"not be read make the file wait (keep); both are logged (log); both make it wait (refuse)") \
	O(BOOL, look_before_overwrite, "look before overwrite", "no", 0, 0, 0,                     \
		"ask for an object's properties before each overwrite, and not only where another tool is " \
		"known to have set some: finds tags put on objects of ours, for one HEAD each")    \
	O(COUNT, parallel_uploads, "parallel uploads", "8", 1, 256, 0,                             \
		"objects and parts sent at the same time")                                         \
	O(COUNT, parallel_fetches, "parallel fetches", "16", 1, 256, 0,                            \
		"ranges fetched at the same time")                                                 \
	O(SIZE, recall_budget_bytes, "recall budget", "0", 0, INT64_MAX, 0,                        \
		"what one client may recall in a minute; when it is used up its reads of stubs are slowed; " \
		"0: no bound")                                                                     \
	O(DURATION, verify_age_ns, "verify age", "30d", 0, 3650 * CONF_DAY, 0,                     \
		"all that is on the local disk is read once in so long, in the background, to see whether it is " \
		"still what S3 has; 0: only when it is asked for (objectfsctl verify)")            \
	O(SIZE, verify_rate_bytes, "verify rate", "50M", 0, INT64_MAX, 0,                         \
		"what is read a second of the local disk, at most, to see whether it is still what S3 has; " \
		"0: no bound")                                                                     \
	O(COUNT, connections, "connections", "32", 1, 1024, CONF_S3_ONLY,                          \
		"connections to the store")                                                        \
	O(COUNT, retries, "retries", "5", 1, 100, CONF_S3_ONLY,                                    \
		"how often a failed request is sent again")                                        \
	O(DURATION, read_patience_ns, "read patience", "15s", 0, CONF_DAY, CONF_S3_ONLY,           \
		"for so long from its beginning clients do not see that the store is away: what they wait for is sent again " \
		"until then; 0: only as often as retries says")                                    \
	O(DURATION, request_timeout_ns, "request timeout", "30s", CONF_S, CONF_DAY, CONF_S3_ONLY,  \
		"a request that moves no byte for so long has failed")                             \
	O(DURATION, backlog_age_ns, "backlog age", "1h", CONF_S, 365 * CONF_DAY, 0,                \
		"a change that is not in S3 after so long is a problem in health and doctor")      \
	O(BOOL, doubt_listings, "doubt listings", "no", 0, 0, 0,                                   \
		"ask for each name that a listing lacks by itself before it is removed here: for stores " \
		"whose listings may be behind their objects")                                      \
	O(BOOL, accept_removals, "accept removals", "no", 0, 0, 0,                                 \
		"remove locally what is gone from the bucket, however much it is")                 \
	O(DURATION, log_flush_ns, "log flush", "60s", 0, CONF_DAY, 0,                              \
		"how long a metadata change may wait in memory before it is written to the store") \
	O(COUNT, log_fold, "log fold", "64", 2, 100000, 0,                                         \
		"log segments of this node from which on they are made into few")

#endif
