/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A volume (bucket + prefix + mirror) as the core thread sees it: what its rooms share.
 * Core thread only, except fields marked constant, which disk jobs may copy.
 */
#ifndef OFS_CORE_VOLUME_H
#define OFS_CORE_VOLUME_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "shared/record.h"
#include "shared/shm.h"
#include "../base/clock.h"
#include "../base/conf.h"
#include "../base/disk.h"
#include "../base/log.h"
#include "../coord/coord.h"
#include "../objstore/objstore.h"

struct log_volume;
struct index;
struct mirror;
struct bases;
struct recalls;
struct reconcile;
struct metalog;
struct rings;
struct evictor;
struct verifier;
struct asker;
struct accounts;
struct announcer;
struct guard;
struct nodes;
struct blobs_known;
struct begun_set;
struct fsck;
struct sure;

enum volume_state {
	VOLUME_CONNECTING, /* S3 not reached yet, or lost at start: retried; shares are up */
	VOLUME_READY,
	VOLUME_HELD, /* the bucket is not ours, was emptied, or asks for what we lack: S3 is not used */
};

struct volume {
	/* constant after volume_start */
	const char *name;
	const struct log_volume *log;
	const struct conf_volume *conf;
	struct clock *clock;
	struct disk *disk;
	struct objstore *store;
	struct coord *coord;
	struct ofs_record_io rio;
	const char *path;   /* <cache directory>/<name> */
	int path_fd;        /* of `path`, O_PATH */
	int tree_fd;        /* of tree/, O_RDONLY|O_DIRECTORY */
	int trash_fd;       /* of trash/ */
	int limbo_fd;       /* of limbo/: inodes removed by remote changes */
	int blocks_fd;      /* of blocks/: upload/blocks.h */
	struct ofs_shm *shm;
	char node_id[OFS_OID_HEX_BYTES]; /* of this cache directory, hex */
	const char *prefix; /* "" or ends in "/" */
	struct guard *guard; /* NULL: simulated */
	bool inodes_small;  /* security descriptors do not fit into them */
	/* core only */
	enum volume_state state;
	char *state_why;     /* for people; NULL when READY */
	bool tried;          /* an attempt to reach S3 has ended, well or not */
	bool away;           /* the last attempt to reach S3 failed */
	bool denied;         /* for want of credentials or a right */
	bool stuck;          /* CONNECTING, and somebody must act first: nobody waits for it */
	char *read_only;     /* why nothing may be written to S3, for people; NULL: it may */
	bool served;         /* its record is this volume's, not also another's of this daemon */
	struct ofs_oid uuid; /* from the volume record, once READY */
	int64_t created_ns;  /* the same; 0: the record does not say */
	int64_t seen_ns; /* when the bucket was last seen to be this volume's (sure.h); 0: it was not yet */
	struct sure *asking; /* whether it is; NULL: nobody does */
	void (*on_doubt)(struct volume *); /* it is not */
	bool root_kept;  /* the record says that S3 has the root's metadata: gone is lost */
	bool root_known; /* the root has the rights S3 has for it: clients may come in */
	struct index *index;
	struct mirror *mirror;
	struct bases *bases; /* NULL: no directory bases are written */
	struct recalls *recalls;
	struct reconcile *reconcile;
	struct metalog *metalog;
	struct rings *rings;
	struct evictor *evictor;
	struct verifier *verifier; /* NULL: in tests */
	struct accounts *accounts; /* NULL: in tests */
	struct blobs_known *blobs; /* upload/blobs.c */
	struct begun_set *begun; /* upload/begun.h; NULL, in tests: no upload is remembered */
	struct fsck *fsck; /* the one under way, or NULL */
	struct nodes *nodes; /* NULL: nobody else is known of */
	struct asker *asker; /* NULL: nobody can be asked */
	struct announcer *announcer; /* NULL: nobody is told */
	void (*on_ready)(struct volume *);
	struct volume_wait *waiting; /* core/volume.c */
};

/*
 * Run fn(v, arg, status) on the core thread when the volume is READY (0, perhaps at once) or still CONNECTING
 * deadline_ns from now (-ETIMEDOUT), or cannot be had before somebody acts (-EACCES: the credentials; -EIO; so where it
 * is HELD: a client's read is no write, and not refused as one).
 */
void volume_when_ready(struct volume *v, int64_t deadline_ns,
		void (*fn)(struct volume *v, void *arg, int status), void *arg);

/* For what failed because the volume cannot use its store, which the log has said once: DEBUG; else `level`. */
enum log_level volume_trouble_level(const struct volume *v, enum log_level level);

/* The volume record asks of writers what this program does not have (why), or not any more (NULL). Names and
 * recalls go on; what waits goes on waiting; clients' changes are refused. */
void volume_read_only(struct volume *v, const char *why);

/* The root's metadata are in S3 now: the volume record says so from now on. */
void volume_root_kept(struct volume *v);

#endif
