/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: bytes and sizes of files, and what waits for the disk (lossy.h).
 * Way: from calls.c, by lossy_calls.c's table; the kernel does it; pages as they were and as they are to their inode.
 * Thread: one. Owns: nothing.
 * Holds: 1. what fails is not remembered;
 *        2. a page is remembered from before its first write that no sync has waited for.
 */
#include "lossy_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- bytes ---- */

static void page_add(struct page *p, uint64_t seq, int fd, bool resized, bool extends)
{
	struct version *v = calloc(1, sizeof(*v));
	ssize_t n = pread(fd, v->bytes, LOSSY_PAGE, (off_t)p->number * LOSSY_PAGE);

	if (n < 0) {
		lossy_die("read");
	}
	v->seq = seq;
	v->resized = resized;
	v->extends = extends || (!resized && p->count > 0 && p->versions[p->count - 1]->extends);
	v->end = (off_t)p->number * LOSSY_PAGE + n;
	if ((p->count & (p->count - 1)) == 0) {
		p->versions = realloc(p->versions, (2 * p->count + 1) * sizeof(*p->versions));
	}
	p->versions[p->count++] = v;
}

static struct page *page_find(struct node *n, uint64_t number)
{
	struct page *p = n->pages;

	while (p != NULL && p->number != number) {
		p = p->next;
	}
	return p;
}

/* For reading: bytes may be written by a descriptor that cannot. -1 is none. */
static int reader(int fd)
{
	char proc[64];

	if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR) {
		return fd;
	}
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return openat(AT_FDCWD, proc, O_RDONLY | O_CLOEXEC);
}

struct writing { /* under way */
	struct node *n;
	int fd, reader;
	off_t at, len;
	struct stat before;
};

/* The pages as they are. */
static void write_begin(struct writing *w, struct node *n, int fd, off_t at, off_t len)
{
	*w = (struct writing){.n = n, .fd = fd, .reader = reader(fd), .at = at, .len = len};
	if (w->reader < 0 || fstat(fd, &w->before) != 0) {
		lossy_die("a file that cannot be read");
	}
	if (!n->dirty) {
		n->dirty = true;
		n->size = w->before.st_size;
	}
	for (off_t i = at / LOSSY_PAGE; len > 0 && i <= (at + len - 1) / LOSSY_PAGE; i++) {
		struct page *p = page_find(n, (uint64_t)i);

		if (p == NULL) {
			p = calloc(1, sizeof(*p));
			p->number = (uint64_t)i;
			p->next = n->pages;
			n->pages = p;
			page_add(p, 0, w->reader, false, false);
		}
	}
}

/* And as they are now. */
static void write_end(struct writing *w, bool done, bool resized)
{
	struct stat st;

	if (done && fstat(w->fd, &st) == 0 && (st.st_mtim.tv_sec != w->before.st_mtim.tv_sec ||
			st.st_mtim.tv_nsec != w->before.st_mtim.tv_nsec)) {
		struct change *c = lossy_change(CHANGE_TIMES, w->n->ino);

		c->was = w->before;
		lossy_add(c);
	}
	if (done) {
		uint64_t seq = ++lossy.seq;

		for (struct page *p = w->n->pages; p != NULL; p = p->next) {
			off_t start = (off_t)p->number * LOSSY_PAGE;

			if (start + LOSSY_PAGE > w->at && start < w->at + w->len) {
				page_add(p, seq, w->reader, resized, st.st_size > w->before.st_size);
			}
		}
		if (resized) {
			w->n->resizes = realloc(w->n->resizes, (w->n->resize_count + 1) * sizeof(*w->n->resizes));
			w->n->resizes[w->n->resize_count++] = (struct resize){seq, st.st_size};
			w->n->seq = w->n->data_seq = seq;
		} else if (st.st_size > w->before.st_size) {
			w->n->data_seq = seq;
		}
	}
	if (w->reader != w->fd) {
		close(w->reader);
	}
	if (done) {
		lossy_heard();
	}
}

ssize_t lossy_pwrite(int fd, const void *buf, size_t len, off_t at)
{
	struct node *n = lossy_of_fd(fd);
	struct writing w;
	ssize_t ret;

	if (n == NULL || lossy.still) {
		return n == NULL ? pwrite(fd, buf, len, at) : (ssize_t)len;
	}
	write_begin(&w, n, fd, at, (off_t)len);
	ret = pwrite(fd, buf, len, at);
	write_end(&w, ret > 0, false);
	return ret;
}

ssize_t lossy_write(int fd, const void *buf, size_t len)
{
	struct node *n = lossy_of_fd(fd);
	bool appends = (fcntl(fd, F_GETFL) & O_APPEND) != 0;
	struct writing w;
	struct stat st;
	ssize_t ret;

	if (n == NULL || lossy.still) {
		return n == NULL ? write(fd, buf, len) : (ssize_t)len;
	}
	write_begin(&w, n, fd, appends && fstat(fd, &st) == 0 ? st.st_size : lseek(fd, 0, SEEK_CUR), (off_t)len);
	ret = write(fd, buf, len);
	write_end(&w, ret > 0, false);
	return ret;
}

ssize_t lossy_copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t len, unsigned flags)
{
	struct node *n = lossy_of_fd(out);
	struct writing w;
	struct stat st;
	ssize_t ret;

	if (n == NULL || lossy.still || fstat(in, &st) != 0) {
		return n == NULL ? copy_file_range(in, in_at, out, out_at, len, flags) : 0;
	}
	len = len > (size_t)st.st_size ? (size_t)st.st_size : len;
	write_begin(&w, n, out, out_at != NULL ? *out_at : lseek(out, 0, SEEK_CUR), (off_t)len);
	ret = copy_file_range(in, in_at, out, out_at, len, flags);
	write_end(&w, ret > 0, false);
	return ret;
}

int lossy_ftruncate(int fd, off_t len)
{
	struct node *n = lossy_of_fd(fd);
	struct writing w;
	struct stat st;
	int ret;

	if (n == NULL || lossy.still || fstat(fd, &st) != 0) {
		return n == NULL ? ftruncate(fd, len) : 0;
	}
	write_begin(&w, n, fd, len, st.st_size > len ? st.st_size - len : 0);
	ret = ftruncate(fd, len);
	write_end(&w, ret == 0, len != st.st_size);
	return ret;
}

int lossy_fallocate(int fd, int mode, off_t at, off_t len)
{
	struct node *n = lossy_of_fd(fd);
	struct writing w;
	struct stat st;
	int ret;

	if (n == NULL || lossy.still || fstat(fd, &st) != 0) {
		return n == NULL ? fallocate(fd, mode, at, len) : 0;
	}
	if ((mode & FALLOC_FL_PUNCH_HOLE) == 0) {
		errno = EOPNOTSUPP;
		return -1;
	}
	write_begin(&w, n, fd, at, at + len > st.st_size ? st.st_size - at : len);
	ret = fallocate(fd, mode, at, len);
	write_end(&w, ret == 0, false);
	return ret;
}

/* ---- syncs ---- */

/* A file that grew has new blocks, and they are in the journal behind all that was before. */
static uint64_t bytes_need(const struct node *n, uint64_t seq)
{
	for (const struct page *p = n->pages; p != NULL; p = p->next) {
		for (unsigned i = 1; i < p->count; i++) {
			if (p->versions[i]->extends) {
				return lossy.seq;
			}
		}
	}
	return seq;
}

static int sync_one(int fd, bool bytes_alone)
{
	struct node *n = lossy_of_fd(fd);
	struct stat st;

	if (n == NULL || lossy.still || fstat(fd, &st) != 0) {
		return n == NULL ? fsync(fd) : 0;
	}
	lossy_commit(bytes_need(n, bytes_alone ? n->data_seq : n->seq));
	lossy_synced(n, st.st_size);
	lossy_heard();
	return 0;
}

int lossy_fsync(int fd)
{
	return sync_one(fd, false);
}

int lossy_fdatasync(int fd)
{
	return sync_one(fd, true);
}
