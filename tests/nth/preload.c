/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the Nth call fails, in processes as they are: a library that is loaded before all others (LD_PRELOAD), for
 *       scenario/nth-module.
 * Way: a call by the object named in NTH_CALLER (objectfs.so, within smbd), or by whomever on a file below NTH_TREE, comes here
 *       first; what is to fail stands in the page of NTH_CONTROL, which the test writes (tests/lib/nth.py).
 * Thread: any; processes meet in the page alone.
 * Owns: the page's mapping.
 * Holds: 1. a call that fails does nothing, but for a short one, which does half;
 *        2. without a page, and while it is not armed, nothing is looked at;
 *        3. fstat of a descriptor fails for the caller alone: on no disk does it fail, and Samba ends over it (rule 9).
 * calls.c does the same within the simulator, where there is one thread, and memory whose lack ends the daemon.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <talloc.h>
#include <tevent.h>
#include <time.h>
#include <unistd.h>

#define SHORT (-1) /* in place of an errno: half of what was asked for */

/* In the order of KINDS in tests/lib/nth.py. */
enum kind {
	KIND_OPEN, KIND_READ, KIND_WRITE, KIND_SYNC, KIND_TRUNCATE, KIND_ALLOCATE, KIND_NAME, KIND_UNLINK, KIND_XATTR_GET,
	KIND_XATTR_SET, KIND_STAT, KIND_MODE, KIND_COPY, KIND_MAP, KIND_SOCKET, KIND_LEASE, KIND_MEMORY, KINDS
};

struct page {
	_Atomic uint32_t armed;
	_Atomic uint32_t kind, n; /* the nth of the kind, from 1; 0: none */
	_Atomic int32_t how;      /* errno or SHORT */
	_Atomic uint32_t held;    /* and each later one */
	_Atomic uint32_t failed;
	_Atomic uint32_t counts[KINDS];
};

static struct page *page;
static const char *tree, *caller_name;
static size_t tree_len;
static _Atomic uintptr_t caller_from, caller_to;

/* The next library's. */
#define REAL(name) ({ \
	static __typeof__(name) *real_; \
	if (real_ == NULL) { \
		*(void **)&real_ = dlsym(RTLD_NEXT, #name); \
	} \
	real_; \
})

__attribute__((constructor)) static void page_open(void)
{
	const char *path = getenv("NTH_CONTROL");
	int fd = path != NULL ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
	void *p;

	if (fd < 0) {
		return;
	}
	tree = getenv("NTH_TREE");
	tree_len = tree != NULL ? strlen(tree) : 0;
	caller_name = getenv("NTH_CALLER");
	p = REAL(mmap)(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	syscall(SYS_close, fd);
	page = p != MAP_FAILED ? p : NULL;
}

static int caller_found(struct dl_phdr_info *info, size_t size, void *arg)
{
	const char *name = info->dlpi_name[0] != '\0' ? info->dlpi_name : program_invocation_name;
	const char *base = strrchr(name, '/');
	uintptr_t from = UINTPTR_MAX, to = 0;

	(void)size;
	(void)arg;
	if (caller_name == NULL || strcmp(base != NULL ? base + 1 : name, caller_name) != 0) {
		return 0;
	}
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X) != 0) {
			from = info->dlpi_addr + ph->p_vaddr;
			to = from + ph->p_memsz;
		}
	}
	atomic_store(&caller_to, to);
	atomic_store(&caller_from, from);
	return 1;
}

static bool is_caller(const void *at)
{
	if (atomic_load(&caller_from) == 0) {
		dl_iterate_phdr(caller_found, NULL); /* Samba loads it when a client comes */
	}
	return (uintptr_t)at >= atomic_load(&caller_from) && (uintptr_t)at < atomic_load(&caller_to);
}

static bool armed(void)
{
	return page != NULL && atomic_load(&page->armed) != 0;
}

static bool in_tree(int fd)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	if (tree_len == 0) {
		return false;
	}
	if (fd == AT_FDCWD) {
		snprintf(link, sizeof(link), "/proc/self/cwd");
	} else {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	}
	n = readlink(link, path, sizeof(path) - 1);
	return n > 0 && (size_t)n >= tree_len && strncmp(path, tree, tree_len) == 0;
}

/* An eventfd takes what is written. */
static bool is_file(int fd)
{
	struct stat st;

	return armed() && REAL(fstat)(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* A name as openat takes it; /proc/self/fd/N is that file. */
static bool names_tree(int dir, const char *name)
{
	if (name[0] != '/') {
		return in_tree(dir);
	}
	if (strncmp(name, "/proc/self/fd/", 14) == 0) {
		return in_tree(atoi(name + 14));
	}
	return tree_len > 0 && strncmp(name, tree, tree_len) == 0;
}

/* 0: let it be done. */
static int fate(enum kind kind)
{
	uint32_t n = atomic_fetch_add(&page->counts[kind], 1) + 1, wanted = atomic_load(&page->n);

	if (kind != atomic_load(&page->kind) || wanted == 0 || n < wanted ||
			(n > wanted && atomic_load(&page->held) == 0)) {
		return 0;
	}
	atomic_fetch_add(&page->failed, 1);
	return atomic_load(&page->how);
}

/* Whether the call of the function that this stands in fails; `here`: it is about a file of the tree. */
#define FATE(kind, here) (armed() && (is_caller(__builtin_return_address(0)) || (here)) ? fate(kind) : 0)
#define FAILS(kind, here) ({ \
	int how_ = FATE(kind, here); \
	if (how_ > 0) { \
		errno = how_; \
	} \
	how_ > 0; \
})

/* --- names --- */

static mode_t open_mode(int flags, va_list ap)
{
	return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
}

int openat(int dir, const char *name, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = open_mode(flags, ap);
	va_end(ap);
	return FAILS(KIND_OPEN, names_tree(dir, name)) ? -1 : REAL(openat)(dir, name, flags, mode);
}

int open(const char *name, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = open_mode(flags, ap);
	va_end(ap);
	return FAILS(KIND_OPEN, names_tree(AT_FDCWD, name)) ? -1 : REAL(open)(name, flags, mode);
}

long syscall(long number, ...)
{
	va_list ap;
	long a[6];

	va_start(ap, number);
	for (unsigned i = 0; i < 6; i++) {
		a[i] = va_arg(ap, long);
	}
	va_end(ap);
	if (number == SYS_openat2 && FAILS(KIND_OPEN, false)) {
		return -1;
	}
	return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	return FAILS(KIND_NAME, names_tree(from_dir, from)) ? -1 : REAL(renameat)(from_dir, from, to_dir, to);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	return FAILS(KIND_NAME, names_tree(from_dir, from)) ? -1 : REAL(renameat2)(from_dir, from, to_dir, to, flags);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	return FAILS(KIND_NAME, names_tree(from_dir, from)) ? -1 : REAL(linkat)(from_dir, from, to_dir, to, flags);
}

int mkdirat(int dir, const char *name, mode_t mode)
{
	return FAILS(KIND_NAME, names_tree(dir, name)) ? -1 : REAL(mkdirat)(dir, name, mode);
}

int unlinkat(int dir, const char *name, int flags)
{
	return FAILS(KIND_UNLINK, names_tree(dir, name)) ? -1 : REAL(unlinkat)(dir, name, flags);
}

/* --- bytes --- */

ssize_t pread(int fd, void *buf, size_t len, off_t at)
{
	int how = FATE(KIND_READ, in_tree(fd));

	if (how > 0) {
		errno = how;
		return -1;
	}
	return REAL(pread)(fd, buf, how == SHORT ? (len + 1) / 2 : len, at);
}

ssize_t write(int fd, const void *buf, size_t len)
{
	int how = is_file(fd) ? FATE(KIND_WRITE, false) : 0;

	if (how > 0) {
		errno = how;
		return -1;
	}
	return REAL(write)(fd, buf, how == SHORT ? (len + 1) / 2 : len);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
	int how = FATE(KIND_WRITE, in_tree(fd));

	if (how > 0) {
		errno = how;
		return -1;
	}
	return REAL(pwrite)(fd, buf, how == SHORT ? (len + 1) / 2 : len, at);
}

ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t len, unsigned flags)
{
	int how = FATE(KIND_COPY, in_tree(out));

	if (how > 0) {
		errno = how;
		return -1;
	}
	return REAL(copy_file_range)(in, in_at, out, out_at, how == SHORT ? (len + 1) / 2 : len, flags);
}

int fsync(int fd)
{
	return FAILS(KIND_SYNC, in_tree(fd)) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	return FAILS(KIND_SYNC, in_tree(fd)) ? -1 : REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t len)
{
	return FAILS(KIND_TRUNCATE, in_tree(fd)) ? -1 : REAL(ftruncate)(fd, len);
}

int fallocate(int fd, int mode, off_t at, off_t len)
{
	return FAILS(KIND_ALLOCATE, in_tree(fd)) ? -1 : REAL(fallocate)(fd, mode, at, len);
}

void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	return FAILS(KIND_MAP, false) ? MAP_FAILED : REAL(mmap)(at, len, prot, flags, fd, offset);
}

/* --- what is known of an inode --- */

ssize_t fgetxattr(int fd, const char *name, void *value, size_t size)
{
	return FAILS(KIND_XATTR_GET, in_tree(fd)) ? -1 : REAL(fgetxattr)(fd, name, value, size);
}

ssize_t getxattr(const char *path, const char *name, void *value, size_t size)
{
	return FAILS(KIND_XATTR_GET, names_tree(AT_FDCWD, path)) ? -1 : REAL(getxattr)(path, name, value, size);
}

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
	return FAILS(KIND_XATTR_SET, in_tree(fd)) ? -1 : REAL(fsetxattr)(fd, name, value, size, flags);
}

int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
	return FAILS(KIND_XATTR_SET, names_tree(AT_FDCWD, path)) ? -1 : REAL(setxattr)(path, name, value, size, flags);
}

int fstat(int fd, struct stat *st)
{
	return FAILS(KIND_STAT, false) ? -1 : REAL(fstat)(fd, st);
}

int fstatat(int dir, const char *name, struct stat *st, int flags)
{
	return FAILS(KIND_STAT, false) ? -1 : REAL(fstatat)(dir, name, st, flags);
}

int statx(int dir, const char *name, int flags, unsigned mask, struct statx *st)
{
	return FAILS(KIND_STAT, false) ? -1 : REAL(statx)(dir, name, flags, mask, st);
}

int fchmod(int fd, mode_t mode)
{
	return FAILS(KIND_MODE, in_tree(fd)) ? -1 : REAL(fchmod)(fd, mode);
}

int futimens(int fd, const struct timespec times[2])
{
	return FAILS(KIND_MODE, in_tree(fd)) ? -1 : REAL(futimens)(fd, times);
}

int utimensat(int dir, const char *name, const struct timespec times[2], int flags)
{
	return FAILS(KIND_MODE, names_tree(dir, name)) ? -1 : REAL(utimensat)(dir, name, times, flags);
}

int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (cmd == F_SETLEASE && arg != (void *)F_UNLCK && FAILS(KIND_LEASE, false)) {
		return -1;
	}
	return REAL(fcntl)(fd, cmd, arg);
}

/* --- the socket between the two --- */

int socket(int domain, int type, int protocol)
{
	return FAILS(KIND_SOCKET, false) ? -1 : REAL(socket)(domain, type, protocol);
}

int connect(int fd, const struct sockaddr *to, socklen_t len)
{
	return FAILS(KIND_SOCKET, false) ? -1 : REAL(connect)(fd, to, len);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	return FAILS(KIND_SOCKET, false) ? -1 : REAL(sendmsg)(fd, m, flags);
}

ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	return FAILS(KIND_SOCKET, false) ? -1 : REAL(recvmsg)(fd, m, flags);
}

/* --- memory: the caller's own --- */

void *_talloc_zero(const void *ctx, size_t size, const char *name)
{
	return FAILS(KIND_MEMORY, false) ? NULL : REAL(_talloc_zero)(ctx, size, name);
}

void *_talloc_array(const void *ctx, size_t el_size, unsigned count, const char *name)
{
	return FAILS(KIND_MEMORY, false) ? NULL : REAL(_talloc_array)(ctx, el_size, count, name);
}

void *_talloc_memdup(const void *ctx, const void *p, size_t size, const char *name)
{
	return FAILS(KIND_MEMORY, false) ? NULL : REAL(_talloc_memdup)(ctx, p, size, name);
}

void *talloc_named_const(const void *ctx, size_t size, const char *name)
{
	return FAILS(KIND_MEMORY, false) ? NULL : REAL(talloc_named_const)(ctx, size, name);
}

char *talloc_strdup(const void *ctx, const char *text)
{
	return FAILS(KIND_MEMORY, false) ? NULL : REAL(talloc_strdup)(ctx, text);
}

struct tevent_req *_tevent_req_create(TALLOC_CTX *ctx, void *state, size_t size, const char *type, const char *location)
{
	return FAILS(KIND_MEMORY, false) ? NULL : REAL(_tevent_req_create)(ctx, state, size, type, location);
}

struct tevent_fd *_tevent_add_fd(struct tevent_context *ev, TALLOC_CTX *ctx, int fd, uint16_t flags,
		tevent_fd_handler_t handler, void *arg, const char *name, const char *location)
{
	return FAILS(KIND_MEMORY, false) ? NULL : REAL(_tevent_add_fd)(ev, ctx, fd, flags, handler, arg, name, location);
}

struct tevent_timer *_tevent_add_timer(struct tevent_context *ev, TALLOC_CTX *ctx, struct timeval at,
		tevent_timer_handler_t handler, void *arg, const char *name, const char *location)
{
	return FAILS(KIND_MEMORY, false) ? NULL : REAL(_tevent_add_timer)(ev, ctx, at, handler, arg, name, location);
}

struct tevent_req *tevent_wakeup_send(TALLOC_CTX *ctx, struct tevent_context *ev, struct timeval at)
{
	return FAILS(KIND_MEMORY, false) ? NULL : REAL(tevent_wakeup_send)(ctx, ev, at);
}

/* Samba's (vfs.h). */
void *vfs_add_fsp_extension_notype(void *handle, void *fsp, size_t size, void (*destroy)(void *p));
void *vfs_add_fsp_extension_notype(void *handle, void *fsp, size_t size, void (*destroy)(void *p))
{
	return FAILS(KIND_MEMORY, false) ? NULL : REAL(vfs_add_fsp_extension_notype)(handle, fsp, size, destroy);
}
