/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: calls that fail, for calls.h.
 * Way: the functions here have the names of libc's and SQLite's, so everybody's calls come here first; the next
 *       library of that name does the work.
 * Thread: one.
 * Owns: which descriptors were opened inside.
 * Holds:
 *  1. a call that fails does nothing, but for a short one, which does half;
 *  2. nothing here allocates.
 */
#include "calls.h"
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/base/memory.h"
#include "cached/objstore/objstore.h"

#define FDS_MOST 4096
#define PLACES 16384u
#define PLACE_FRAMES 10

int nth_inside;
sigjmp_buf *nth_gate;
int nth_log_fd = -1;
bool nth_shows;
static struct nth_seen *seen;
static struct nth_plan plan;
static bool counting, lifted;
static bool fds[FDS_MOST];
const struct nth_disk *nth_disk;
static bool in_disk;

enum call {
	CALL_OPEN, CALL_CREATE, CALL_READ, CALL_WRITE, CALL_SYNC, CALL_TRUNCATE, CALL_ALLOCATE, CALL_NAME, CALL_UNLINK,
	CALL_XATTR_GET, CALL_XATTR_SET, CALL_STAT, CALL_DIR, CALL_READDIR, CALL_LEASE, CALL_DUP, CALL_LOCK, CALL_COPY, CALL_MAP,
	CALL_HANDLE, CALL_MODE, CALL_KINDS
};

static const struct nth_kind sys_kinds[CALL_KINDS] = {
	[CALL_OPEN] = {"open", {EMFILE, EIO}},
	[CALL_CREATE] = {"create", {EMFILE, EIO, ENOSPC, EROFS}},
	[CALL_READ] = {"read", {EIO, EINTR, NTH_SHORT}},
	[CALL_WRITE] = {"write", {EIO, ENOSPC, EDQUOT, EINTR, NTH_SHORT}},
	[CALL_SYNC] = {"fsync", {EIO, ENOSPC}},
	[CALL_TRUNCATE] = {"ftruncate", {EIO, EROFS}},
	[CALL_ALLOCATE] = {"fallocate", {EIO, ENOSPC, EINTR}},
	[CALL_NAME] = {"rename, link, mkdir", {EIO, ENOSPC, EDQUOT, EROFS}},
	[CALL_UNLINK] = {"unlink", {EIO, EROFS}},
	[CALL_XATTR_GET] = {"getxattr", {EIO}},
	[CALL_XATTR_SET] = {"setxattr", {EIO, ENOSPC, EDQUOT, EROFS}},
	[CALL_STAT] = {"stat", {EIO}},
	[CALL_DIR] = {"opendir", {EIO, ENOMEM}},
	[CALL_READDIR] = {"readdir", {EIO}},
	[CALL_LEASE] = {"lease", {EAGAIN, ENOMEM}},
	[CALL_DUP] = {"dup, memfd_create", {EMFILE}},
	[CALL_LOCK] = {"lock", {EAGAIN, EIO}},
	[CALL_COPY] = {"copy_file_range", {EIO, ENOSPC, NTH_SHORT}},
	[CALL_MAP] = {"mmap", {ENOMEM}},
	[CALL_HANDLE] = {"handle", {EIO}},
	[CALL_MODE] = {"chmod, chown, utimens", {EIO, EROFS}},
};
static const struct nth_kind memory_kinds[] = {{"malloc", {ENOMEM}}};
static const struct nth_kind sqlite_kinds[] = {
	{"sqlite", {SQLITE_BUSY, SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_NOMEM}},
};
static const struct nth_kind request_kinds[NTH_REQUEST_KINDS] = {
	[NTH_READS] = {"GET, HEAD, LIST", {OBJ_AWAY, OBJ_DENIED}},
	[NTH_WRITES] = {"write", {OBJ_AWAY, OBJ_UNKNOWN, OBJ_DENIED, OBJ_INVALID}},
	[NTH_WRITES_IF] = {"conditional write", {OBJ_AWAY, OBJ_UNKNOWN, OBJ_CONFLICT, OBJ_DENIED, OBJ_INVALID}},
};
static const struct nth_kind *const kinds[NTH_CLASSES] = {
	[NTH_MEMORY] = memory_kinds,
	[NTH_SYSTEM] = sys_kinds,
	[NTH_SQLITE] = sqlite_kinds,
	[NTH_REQUEST] = request_kinds,
};

const struct nth_kind *nth_kind_of(enum nth_class class, uint8_t kind)
{
	return &kinds[class][kind];
}

void nth_begin(const struct nth_plan *p)
{
	plan = *p;
	memset(seen->counts, 0, sizeof(seen->counts));
	seen->failed = 0;
	counting = true;
	lifted = false;
}

void nth_lift(void)
{
	counting = false;
	lifted = true;
}

static bool kind_can(const struct nth_kind *kind, int how)
{
	for (unsigned i = 0; i < NTH_HOWS && kind->hows[i] != 0; i++) {
		if (kind->hows[i] == how) {
			return true;
		}
	}
	return false;
}

/* A place is a call and who called whom for it, PLACE_FRAMES up. true: it has not called before. */
static bool place_first(enum nth_class class)
{
	static uint64_t known[PLACES];
	void *stack[PLACE_FRAMES];
	uint64_t place = 14695981039346656037u + class; /* FNV-1a */
	int inside = nth_inside, frames;

	nth_inside = 0;
	frames = backtrace(stack, PLACE_FRAMES);
	nth_inside = inside;
	for (int i = 0; i < frames; i++) {
		place = (place ^ (uintptr_t)stack[i]) * 1099511628211u;
	}
	for (unsigned i = 0; i < PLACES; i++) {
		uint64_t *slot = &known[(place + i) % PLACES];

		if (*slot == place) {
			return false;
		}
		if (*slot == 0) {
			*slot = place;
			return true;
		}
	}
	return true;
}

/* 0: let it be done; else how it fails. */
static int fate(enum nth_class class, unsigned kind)
{
	uint32_t n;

	if (!counting) {
		return 0;
	}
	n = ++seen->counts[class];
	if (n < NTH_CALLS_MOST) {
		seen->kinds[class][n] = (uint8_t)kind;
		seen->firsts[class][n] = plan.n == 0 && place_first(class);
	}
	if (plan.n == 0 || class != plan.class || n < plan.n || (n > plan.n && !plan.held) ||
			!kind_can(&kinds[class][kind], plan.how)) {
		return 0;
	}
	if (seen->failed++ == 0 && nth_shows) {
		void *stack[24];
		int inside = nth_inside;

		nth_inside = 0;
		backtrace_symbols_fd(stack, backtrace(stack, 24), 2);
		nth_inside = inside;
	}
	return plan.how;
}

/* true: errno says how it failed. *half: do half. */
static bool sys_fails(enum call kind, bool *half)
{
	int how = nth_inside ? fate(NTH_SYSTEM, kind) : 0;

	if (half != NULL) {
		*half = how == NTH_SHORT;
	}
	if (how > 0) {
		errno = how;
	}
	return how > 0;
}

int nth_request(enum nth_requests kind)
{
	return fate(NTH_REQUEST, kind);
}

/* The next library's, looked for once. */
#define REAL(name) ({ \
	static __typeof__(name) *real; \
	if (real == NULL) { \
		*(void **)&real = dlsym(RTLD_NEXT, #name); \
	} \
	real; \
})

/* Done by the disk of lossy.h, if there is one; what that does itself, by the next library. */
#define DONE(name, ...) ({ \
	__typeof__(nth_disk->name(__VA_ARGS__)) result; \
	if (nth_disk == NULL || in_disk) { \
		result = REAL(name)(__VA_ARGS__); \
	} else { \
		in_disk = true; \
		result = nth_disk->name(__VA_ARGS__); \
		in_disk = false; \
	} \
	result; \
})

static int opened(int fd)
{
	if (nth_inside && fd >= 0 && fd < FDS_MOST) {
		fds[fd] = true;
	}
	return fd;
}

unsigned nth_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < FDS_MOST; fd++) {
		n += fds[fd];
	}
	return n;
}

void nth_fds_close(const char *spare)
{
	for (int fd = 0; fd < FDS_MOST; fd++) {
		char link[64], path[512];
		ssize_t len;

		if (!fds[fd]) {
			continue;
		}
		fds[fd] = false;
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		len = readlink(link, path, sizeof(path) - 1);
		path[len > 0 ? len : 0] = '\0';
		if (strncmp(path, spare, strlen(spare)) != 0) {
			close(fd);
		}
	}
}

/* --- its end --- */

void abort(void)
{
	if (nth_inside && nth_gate != NULL) {
		siglongjmp(*nth_gate, 1);
	}
	signal(SIGABRT, SIG_DFL);
	raise(SIGABRT);
	_exit(134);
}

/* --- memory --- */

static struct {
	uintptr_t from, to;
} apart[8];
static unsigned apart_count;

static int apart_add(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	if (apart_count == sizeof(apart) / sizeof(apart[0]) ||
			(strstr(info->dlpi_name, "libsqlite3") == NULL && strstr(info->dlpi_name, "libcrypto") == NULL)) {
		return 0;
	}
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X) != 0) {
			apart[apart_count].from = info->dlpi_addr + ph->p_vaddr;
			apart[apart_count++].to = info->dlpi_addr + ph->p_vaddr + ph->p_memsz;
		}
	}
	return 0;
}

struct nth_seen *nth_init(void)
{
	dl_iterate_phdr(apart_add, NULL);
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return seen != MAP_FAILED ? seen : NULL;
}

/* As cached/allocate.c does: the daemon ends. Not where a library holds locks of its own, which would outlive it in
 * this process. */
static void lack(const void *caller, size_t bytes)
{
	for (unsigned i = 0; i < apart_count; i++) {
		if ((uintptr_t)caller >= apart[i].from && (uintptr_t)caller < apart[i].to) {
			return;
		}
	}
	if (fate(NTH_MEMORY, 0) != 0) {
		memory_ends(bytes);
	}
}

void *malloc(size_t size)
{
	if (nth_inside) {
		lack(__builtin_return_address(0), size);
	}
	return REAL(malloc)(size);
}

void *calloc(size_t count, size_t size)
{
	if (nth_inside) {
		lack(__builtin_return_address(0), count * size);
	}
	return REAL(calloc)(count, size);
}

void *realloc(void *p, size_t size)
{
	if (nth_inside) {
		lack(__builtin_return_address(0), size);
	}
	return REAL(realloc)(p, size);
}

/* --- SQLite --- */

static bool in_exec;

int sqlite3_step(sqlite3_stmt *stmt)
{
	int how = nth_inside && !in_exec ? fate(NTH_SQLITE, 0) : 0;

	return how != 0 ? how : REAL(sqlite3_step)(stmt);
}

int sqlite3_prepare_v2(sqlite3 *db, const char *sql, int len, sqlite3_stmt **stmt, const char **tail)
{
	int how = nth_inside && !in_exec ? fate(NTH_SQLITE, 0) : 0;

	*stmt = NULL;
	return how != 0 ? how : REAL(sqlite3_prepare_v2)(db, sql, len, stmt, tail);
}

int sqlite3_exec(sqlite3 *db, const char *sql, int (*fn)(void *, int, char **, char **), void *arg, char **error)
{
	int how = nth_inside ? fate(NTH_SQLITE, 0) : 0;

	if (how == 0) {
		in_exec = true; /* its own steps are no calls */
		how = REAL(sqlite3_exec)(db, sql, fn, arg, error);
		in_exec = false;
	}
	return how;
}

/* --- the kernel: files --- */

static bool makes(int flags)
{
	return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

int openat(int dir, const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = makes(flags) ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	if (sys_fails(makes(flags) ? CALL_CREATE : CALL_OPEN, NULL)) {
		return -1;
	}
	return opened(makes(flags) || (flags & O_TRUNC) != 0 ? DONE(openat, dir, path, flags, mode)
							     : REAL(openat)(dir, path, flags, mode));
}

int open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = makes(flags) ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	return openat(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

long syscall(long number, ...)
{
	va_list ap;
	long a[6];

	va_start(ap, number);
	for (unsigned i = 0; i < 6; i++) {
		a[i] = va_arg(ap, long);
	}
	va_end(ap);
	if (number != SYS_openat2) {
		return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
	return sys_fails(CALL_OPEN, NULL) ? -1 : opened((int)REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

int close(int fd)
{
	if (fd >= 0 && fd < FDS_MOST) {
		fds[fd] = false;
	}
	return REAL(close)(fd);
}

ssize_t read(int fd, void *buf, size_t len)
{
	bool half;

	return sys_fails(CALL_READ, &half) ? -1 : REAL(read)(fd, buf, half ? (len + 1) / 2 : len);
}

ssize_t pread(int fd, void *buf, size_t len, off_t at)
{
	bool half;

	return sys_fails(CALL_READ, &half) ? -1 : REAL(pread)(fd, buf, half ? (len + 1) / 2 : len, at);
}

ssize_t pread64(int fd, void *buf, size_t len, off_t at)
{
	return pread(fd, buf, len, at);
}

ssize_t write(int fd, const void *buf, size_t len)
{
	bool half = false;

	if (fd != nth_log_fd && fd > 2 && sys_fails(CALL_WRITE, &half)) {
		return -1;
	}
	return DONE(write, fd, buf, half ? (len + 1) / 2 : len);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
	bool half;

	return sys_fails(CALL_WRITE, &half) ? -1 : DONE(pwrite, fd, buf, half ? (len + 1) / 2 : len, at);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off_t at)
{
	return pwrite(fd, buf, len, at);
}

int fsync(int fd)
{
	return sys_fails(CALL_SYNC, NULL) ? -1 : DONE(fsync, fd);
}

int fdatasync(int fd)
{
	return sys_fails(CALL_SYNC, NULL) ? -1 : DONE(fdatasync, fd);
}

int ftruncate(int fd, off_t len)
{
	return sys_fails(CALL_TRUNCATE, NULL) ? -1 : DONE(ftruncate, fd, len);
}

int ftruncate64(int fd, off_t len)
{
	return ftruncate(fd, len);
}

int fallocate(int fd, int mode, off_t at, off_t len)
{
	return sys_fails(CALL_ALLOCATE, NULL) ? -1 : DONE(fallocate, fd, mode, at, len);
}

ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t len, unsigned flags)
{
	bool half;

	return sys_fails(CALL_COPY, &half) ? -1 : DONE(copy_file_range, in, in_at, out, out_at, half ? (len + 1) / 2 : len, flags);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	return sys_fails(CALL_COPY, NULL) ? -1 : REAL(ioctl)(fd, request, arg);
}

int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;
	bool dup = cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC;
	int ret;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	if ((dup && sys_fails(CALL_DUP, NULL)) ||
			(cmd == F_SETLEASE && arg != (void *)F_UNLCK && sys_fails(CALL_LEASE, NULL)) ||
			(cmd == F_SETLK && ((struct flock *)arg)->l_type != F_UNLCK && sys_fails(CALL_LOCK, NULL))) {
		return -1;
	}
	ret = REAL(fcntl)(fd, cmd, arg);
	return dup ? opened(ret) : ret;
}

int fcntl64(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	return fcntl(fd, cmd, arg);
}

int memfd_create(const char *name, unsigned flags)
{
	return sys_fails(CALL_DUP, NULL) ? -1 : opened(REAL(memfd_create)(name, flags));
}

void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	return sys_fails(CALL_MAP, NULL) ? MAP_FAILED : REAL(mmap)(at, len, prot, flags, fd, offset);
}

void *mmap64(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	return mmap(at, len, prot, flags, fd, offset);
}

/* --- the kernel: names --- */

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	return sys_fails(CALL_NAME, NULL) ? -1 : DONE(renameat2, from_dir, from, to_dir, to, flags);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	return renameat2(from_dir, from, to_dir, to, 0);
}

int rename(const char *from, const char *to)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	return sys_fails(CALL_NAME, NULL) ? -1 : DONE(linkat, from_dir, from, to_dir, to, flags);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
	return sys_fails(CALL_NAME, NULL) ? -1 : DONE(mkdirat, dir, path, mode);
}

int mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}

int unlinkat(int dir, const char *path, int flags)
{
	return sys_fails(CALL_UNLINK, NULL) ? -1 : DONE(unlinkat, dir, path, flags);
}

int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

DIR *fdopendir(int fd)
{
	return sys_fails(CALL_DIR, NULL) ? NULL : REAL(fdopendir)(fd);
}

int closedir(DIR *d)
{
	int fd = dirfd(d);

	if (fd >= 0 && fd < FDS_MOST) {
		fds[fd] = false;
	}
	return REAL(closedir)(d);
}

struct dirent *readdir(DIR *d)
{
	return sys_fails(CALL_READDIR, NULL) ? NULL : REAL(readdir)(d);
}

/* --- the kernel: what is known of an inode --- */

int fstat(int fd, struct stat *st)
{
	return sys_fails(CALL_STAT, NULL) ? -1 : DONE(fstat, fd, st);
}

int fstat64(int fd, struct stat64 *st)
{
	return fstat(fd, (struct stat *)st);
}

int fstatat(int dir, const char *path, struct stat *st, int flags)
{
	return sys_fails(CALL_STAT, NULL) ? -1 : DONE(fstatat, dir, path, st, flags);
}

int stat64(const char *path, struct stat64 *st)
{
	return fstatat(AT_FDCWD, path, (struct stat *)st, 0);
}

int lstat64(const char *path, struct stat64 *st)
{
	return fstatat(AT_FDCWD, path, (struct stat *)st, AT_SYMLINK_NOFOLLOW);
}

int lstat(const char *path, struct stat *st)
{
	return fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

int statx(int dir, const char *path, int flags, unsigned mask, struct statx *st)
{
	return sys_fails(CALL_STAT, NULL) ? -1 : REAL(statx)(dir, path, flags, mask, st);
}

int fstatvfs(int fd, struct statvfs *st)
{
	return sys_fails(CALL_STAT, NULL) ? -1 : REAL(fstatvfs)(fd, st);
}

int name_to_handle_at(int dir, const char *path, struct file_handle *handle, int *mount, int flags)
{
	return sys_fails(CALL_HANDLE, NULL) ? -1 : REAL(name_to_handle_at)(dir, path, handle, mount, flags);
}

int open_by_handle_at(int mount, struct file_handle *handle, int flags)
{
	return sys_fails(CALL_OPEN, NULL) ? -1 : opened(REAL(open_by_handle_at)(mount, handle, flags));
}

ssize_t fgetxattr(int fd, const char *name, void *value, size_t size)
{
	return sys_fails(CALL_XATTR_GET, NULL) ? -1 : REAL(fgetxattr)(fd, name, value, size);
}

ssize_t getxattr(const char *path, const char *name, void *value, size_t size)
{
	return sys_fails(CALL_XATTR_GET, NULL) ? -1 : REAL(getxattr)(path, name, value, size);
}

ssize_t flistxattr(int fd, char *list, size_t size)
{
	return sys_fails(CALL_XATTR_GET, NULL) ? -1 : REAL(flistxattr)(fd, list, size);
}

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
	return sys_fails(CALL_XATTR_SET, NULL) ? -1 : DONE(fsetxattr, fd, name, value, size, flags);
}

int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
	return sys_fails(CALL_XATTR_SET, NULL) ? -1 : DONE(setxattr, path, name, value, size, flags);
}

int fremovexattr(int fd, const char *name)
{
	return sys_fails(CALL_XATTR_SET, NULL) ? -1 : DONE(fremovexattr, fd, name);
}

int fchmod(int fd, mode_t mode)
{
	return sys_fails(CALL_MODE, NULL) ? -1 : DONE(fchmod, fd, mode);
}

int chmod(const char *path, mode_t mode)
{
	return sys_fails(CALL_MODE, NULL) ? -1 : DONE(chmod, path, mode);
}

int fchown(int fd, uid_t uid, gid_t gid)
{
	return sys_fails(CALL_MODE, NULL) ? -1 : DONE(fchown, fd, uid, gid);
}

int futimens(int fd, const struct timespec times[2])
{
	return sys_fails(CALL_MODE, NULL) ? -1 : DONE(futimens, fd, times);
}

/* SQLite waits for a lock that is busy. */
int usleep(useconds_t us)
{
	(void)us;
	return 0;
}
