/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a large object is made of, block by block, as far as it was sent from here: so that of its next version
 * only what differs is sent. Kept in `blocks/<object id>` beside the mirror; losing it costs bytes sent, never
 * data. Core thread only, but for what blocks_* says of itself.
 */
#ifndef OFS_UPLOAD_BLOCKS_H
#define OFS_UPLOAD_BLOCKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "shared/record.h"
#include "../base/disk.h"
#include "../objstore/sum.h"

struct volume;

struct blocks { /* malloc */
	int64_t size, each; /* of the object; of a block: the last one may be shorter */
	unsigned count;
	uint8_t (*sha256)[32];
	char *etag, *version; /* of the object; version NULL: not known, or it has none */
};

/* All digests zero. NULL: no memory, or no object is made of such blocks. Any thread. */
struct blocks *blocks_new(int64_t size, int64_t each);
void blocks_free(struct blocks **b);
/* Bytes of a block. */
int64_t blocks_bytes(const struct blocks *b, unsigned i);
/* As a file, malloc, and back; NULL: no memory; damaged, or of a later version. Any thread. */
uint8_t *blocks_pack(const struct blocks *b, size_t *len);
struct blocks *blocks_unpack(const uint8_t *data, size_t len);

/* A part of an upload. */
struct blocks_part {
	int64_t offset, length;
	bool copy; /* the store has it */
};
/* Those that are kept of a file; dir_fd: of blocks/. NULL: none. Worker. */
struct blocks *blocks_read(int dir_fd, const struct ofs_oid *oid);

/* The parts of an object of these blocks, of which `same` the store has at the same place: each that differs is one,
 * runs of the others are, up to `run_bytes` (0: each is one). `parts` has room for b->count; how many there are. */
unsigned blocks_plan(const struct blocks *b, const bool *same, int64_t run_bytes, struct blocks_part *parts);

/* What of a file does the object have that was sent before? malloc; freed by who asked, after `done`. */
struct blocks_ask {
	struct disk_job job;
	struct volume *v; /* core only */
	int dir_fd;       /* borrowed: of blocks/ */
	int fd;           /* owned: of the file, whose content does not move */
	struct ofs_oid oid;
	char *etag;       /* owned: of the object; NULL: whatever it has, the file is only read */
	int64_t each;     /* > 0: in blocks of this size it is read although nothing is known of the object */
	int64_t size;     /* of the file */
	enum obj_sum sum_kind; /* of the whole file, wanted beside; NONE: not */
	_Atomic bool cancelled;
	void (*done)(struct blocks_ask *q);
	void *arg;
	/* out; owned */
	bool known;        /* there is something that need not be sent; else only `now` and `sum` count */
	char *version;     /* of the object; NULL: not known */
	struct blocks *now; /* of the file, without etag; NULL: it was not read */
	bool *same;
	char sum[OBJ_SUM_TEXT_BYTES];
	/* private */
	struct blocks *was;
	unsigned at;
	struct sum whole;
};
/* Reads all of the file, on workers, a while at a time; done is never called from inside. */
void blocks_ask(struct blocks_ask *q);
void blocks_ask_free(struct blocks_ask **q);
/* Nobody waits for it any more: it ends, and frees itself. */
void blocks_ask_leave(struct blocks_ask **q);

/* Remember them (taken over) as those of this row's object; done(arg) once it was tried. */
void blocks_keep(struct volume *v, const struct ofs_oid *oid, struct blocks *b, void (*done)(void *arg), void *arg);
/* Forget those of a file that has gone, with its object; dir_fd: of blocks/. Worker. */
void blocks_forget(int dir_fd, const struct ofs_oid *oid);
/* Forget those of objects that the index does not know. At the start. */
void blocks_sweep(struct volume *v);

#endif
