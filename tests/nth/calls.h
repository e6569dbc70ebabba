/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The Nth call fails. What is linked with calls.c calls malloc, the kernel and SQLite through it, and so do the
 * libraries it uses; while `inside` is set calls are counted by class, and one of them, or all of its kind from one
 * on, comes to nothing.
 */
#ifndef OFS_TESTS_NTH_CALLS_H
#define OFS_TESTS_NTH_CALLS_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

enum nth_class { NTH_MEMORY, NTH_SYSTEM, NTH_SQLITE, NTH_REQUEST, NTH_CLASSES };

#define NTH_HOWS 5u
#define NTH_CALLS_MOST (1u << 20)

/* Not an errno: half of what was asked for. */
#define NTH_SHORT (-1)

struct nth_kind { /* of a call, and how it can fail */
	const char *name;
	int hows[NTH_HOWS]; /* errno, NTH_SHORT, SQLite's or a request's status; 0: no more */
};

struct nth_plan {
	enum nth_class class;
	uint32_t n;  /* from 1; 0: none fails */
	int how;     /* one of the kind's */
	bool held;   /* and so does each later call that can fail in this way, until nth_lift */
};

/* What has been counted since nth_begin; who forks children looks at it, so it is shared memory. */
struct nth_seen {
	uint32_t counts[NTH_CLASSES];
	uint32_t failed; /* calls that came to nothing */
	uint8_t kinds[NTH_CLASSES][NTH_CALLS_MOST]; /* of the first ones, for nth_kind_of */
	bool firsts[NTH_CLASSES][NTH_CALLS_MOST];   /* the first call from its place, where none fails */
};

/* Once, before anything is counted. */
struct nth_seen *nth_init(void);
const struct nth_kind *nth_kind_of(enum nth_class class, uint8_t kind);
void nth_begin(const struct nth_plan *plan);
/* From now on all goes well, and nothing is counted. */
void nth_lift(void);
/* Of NTH_REQUEST: the caller's own calls. Must this one fail? The status it is to have, 0: no. */
enum nth_requests { NTH_READS, NTH_WRITES, NTH_WRITES_IF, NTH_REQUEST_KINDS };
int nth_request(enum nth_requests kind);

/* Whose code runs. abort() inside jumps to the gate. */
extern int nth_inside;
extern sigjmp_buf *nth_gate;
/* Lines of the log are no calls: its descriptor. */
extern int nth_log_fd;
/* Who makes the first call that fails is shown on stderr: addresses for addr2line. */
extern bool nth_shows;
/* Who does what changes a file or says how it is, each as the call of its name would; openat is asked only for what
 * may make or empty a file. What it calls itself, the kernel does. NULL: the kernel does all. */
struct nth_disk {
	int (*openat)(int dir, const char *path, int flags, mode_t mode);
	ssize_t (*write)(int fd, const void *buf, size_t len);
	ssize_t (*pwrite)(int fd, const void *buf, size_t len, off_t at);
	ssize_t (*copy_file_range)(int in, off_t *in_at, int out, off_t *out_at, size_t len, unsigned flags);
	int (*fsync)(int fd);
	int (*fdatasync)(int fd);
	int (*ftruncate)(int fd, off_t len);
	int (*fallocate)(int fd, int mode, off_t at, off_t len);
	int (*renameat2)(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
	int (*linkat)(int from_dir, const char *from, int to_dir, const char *to, int flags);
	int (*mkdirat)(int dir, const char *path, mode_t mode);
	int (*unlinkat)(int dir, const char *path, int flags);
	int (*fstat)(int fd, struct stat *st);
	int (*fstatat)(int dir, const char *path, struct stat *st, int flags);
	int (*fsetxattr)(int fd, const char *name, const void *value, size_t size, int flags);
	int (*setxattr)(const char *path, const char *name, const void *value, size_t size, int flags);
	int (*fremovexattr)(int fd, const char *name);
	int (*fchmod)(int fd, mode_t mode);
	int (*chmod)(const char *path, mode_t mode);
	int (*fchown)(int fd, uid_t uid, gid_t gid);
	int (*futimens)(int fd, const struct timespec times[2]);
};
extern const struct nth_disk *nth_disk;
/* Descriptors that were opened inside and are open. Close them, but for those below `spare`: the process is dead. */
unsigned nth_fds(void);
void nth_fds_close(const char *spare);

#endif
