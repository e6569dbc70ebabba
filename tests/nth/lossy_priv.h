/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The lossy disk's inside: lossy_calls.c and lossy_bytes.c do, lossy.c remembers, lossy_cut.c undoes. */
#ifndef OFS_TESTS_LOSSY_PRIV_H
#define OFS_TESTS_LOSSY_PRIV_H

#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>
#include "lossy.h"

#define LOSSY_PAGE 4096
#define LOSSY_PATH 192

struct version {
	uint64_t seq;
	bool resized; /* by a change of the size, which is metadata */
	bool extends; /* the file ended before it */
	off_t end;    /* of the file's bytes, up to the page's end */
	uint8_t bytes[LOSSY_PAGE];
};

struct page { /* that some sync has still to wait for */
	struct page *next;
	uint64_t number;
	unsigned count;
	struct version **versions; /* the first one is on the disk */
};

struct resize {
	uint64_t seq;
	off_t size;
};

struct node { /* an inode */
	struct node *next;
	ino_t ino;
	uint64_t order; /* it was the so manieth that became known */
	bool named; /* it has been; else nothing of it is left */
	bool dead;  /* a directory without a name */
	bool dirty; /* bytes or size: what follows */
	unsigned graves; /* links of ours */
	uint64_t seq, data_seq; /* the last change of it, and of what its bytes need */
	off_t size;             /* on the disk */
	struct page *pages;
	struct resize *resizes;
	unsigned resize_count;
	int fd; /* a path, during a cut */
};

enum change_kind { CHANGE_MADE, CHANGE_GONE, CHANGE_MOVED, CHANGE_XATTR, CHANGE_MODE, CHANGE_OWNER, CHANGE_TIMES };

struct place {
	ino_t dir;
	char name[256];
	struct timespec mtime; /* of the directory, before */
};

struct change {
	uint64_t seq;
	enum change_kind kind;
	ino_t ino;
	bool is_dir;
	struct place at[2]; /* MOVED: from, to */
	unsigned grave;     /* what had the name is there; 0: nothing had it */
	ino_t buried;
	struct stat was;    /* mode, owner, times */
	char xattr[256];
	void *value;
	ssize_t len; /* -1: there was none */
};

struct lossy {
	char root[128];
	ino_t root_ino;
	bool still;
	uint64_t seq, committed, known;
	struct node *nodes[1024];
	struct change **changes; /* not on the disk */
	unsigned change_count, change_room;
	unsigned graves;
	const char *const *loose;
	void (*changed)(void *arg);
	void *arg;
	struct lossy_lost lost;
};
extern struct lossy lossy;

/* --- lossy.c --- */
void lossy_die(const char *what) __attribute__((noreturn));
/* NULL: nobody of ours. */
struct node *lossy_node(ino_t ino);
struct node *lossy_of_fd(int fd);
/* A new inode; one of that number is no more. */
struct node *lossy_node_new(ino_t ino);
/* Is this name in the root in memory alone? */
bool lossy_is_loose(const char *name);
/* All its bytes are on the disk. */
void lossy_synced(struct node *n, off_t size);
/* What is about to change, malloc; and once it has: it is the last change. */
struct change *lossy_change(enum change_kind kind, ino_t ino);
void lossy_add(struct change *c);
/* What came before is on the disk, up to `seq`. */
void lossy_commit(uint64_t seq);
/* Somebody is told. */
void lossy_heard(void);
/* All that is there becomes known; paths: and a path is opened of each. */
void lossy_walk(bool paths);
/* What is there, and nothing else, is known, and on the disk. */
void lossy_look(void);
/* It is on the disk, or undone: its grave goes. */
void lossy_forget(struct change *c);
void lossy_grave(unsigned grave, char path[LOSSY_PATH]);
/* Remember again. */
void lossy_resume(void);

/* --- lossy_calls.c --- */
struct nth_disk;
extern const struct nth_disk lossy_calls;

/* --- lossy_bytes.c: each as the call of its name --- */
ssize_t lossy_write(int fd, const void *buf, size_t len);
ssize_t lossy_pwrite(int fd, const void *buf, size_t len, off_t at);
ssize_t lossy_copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t len, unsigned flags);
int lossy_ftruncate(int fd, off_t len);
int lossy_fallocate(int fd, int mode, off_t at, off_t len);
int lossy_fsync(int fd);
int lossy_fdatasync(int fd);

#endif
