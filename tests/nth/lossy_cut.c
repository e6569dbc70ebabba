/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the power goes: of what no sync has waited for so much is undone as lossy.h says.
 * Way: from who cuts the power, after everybody is dead; lossy.c has remembered.
 * Thread: one. Owns: paths of all inodes, while it runs.
 * Holds:
 *  1. changes are undone from the last one on, so each finds the names that it left;
 *  2. of a page only that is chosen which was written after the last change of size that stays, and before the first
 *     one that does not;
 *  3. what is chosen follows from the seed, and not from the numbers of inodes.
 */
#include "lossy_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "calls.h"

static uint64_t chance;

/* splitmix64 (Vigna) */
static uint64_t below(uint64_t most)
{
	uint64_t z = (chance += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % most;
}

static int path_of(ino_t ino, char path[64])
{
	struct node *n = lossy_node(ino);

	if (n == NULL || n->fd < 0) {
		lossy_die("an inode that is nowhere");
	}
	snprintf(path, 64, "/proc/self/fd/%d", n->fd);
	return n->fd;
}

static void times_set(ino_t ino, const struct timespec *atime, const struct timespec *mtime)
{
	struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, *mtime};
	char path[64];

	path_of(ino, path);
	if (atime != NULL) {
		ts[0] = *atime;
	}
	if (utimensat(AT_FDCWD, path, ts, 0) != 0) {
		lossy_die("times");
	}
}

/* What lost this name has it again. */
static void dig(struct change *c, const struct place *at)
{
	char grave[LOSSY_PATH], path[64];
	int dir = path_of(at->dir, path), ret;
	struct node *n = lossy_node(c->buried);

	lossy_grave(c->grave, grave);
	ret = n->dead ? renameat2(AT_FDCWD, grave, dir, at->name, 0) : linkat(AT_FDCWD, grave, dir, at->name, 0);
	n->dead = false;
	if (ret != 0) {
		lossy_die("a name that does not come back");
	}
}

static void undo_xattr(const struct change *c)
{
	char path[64];
	int ret;

	path_of(c->ino, path);
	ret = c->len >= 0 ? setxattr(path, c->xattr, c->value != NULL ? c->value : "", (size_t)c->len, 0)
			  : removexattr(path, c->xattr);
	if (ret != 0) {
		lossy_die(c->xattr);
	}
}

static void undo(struct change *c)
{
	char path[64];
	int ret = 0;

	if (!lossy_node(c->ino)->named) {
		return;
	}
	switch (c->kind) {
	case CHANGE_MADE:
		ret = unlinkat(path_of(c->at[0].dir, path), c->at[0].name, c->is_dir ? AT_REMOVEDIR : 0);
		break;
	case CHANGE_GONE:
		dig(c, &c->at[0]);
		break;
	case CHANGE_MOVED:
		ret = renameat2(path_of(c->at[1].dir, path), c->at[1].name, path_of(c->at[0].dir, path), c->at[0].name,
				RENAME_NOREPLACE);
		if (ret == 0 && c->grave != 0) {
			dig(c, &c->at[1]);
		}
		break;
	case CHANGE_XATTR:
		undo_xattr(c);
		return;
	case CHANGE_MODE:
		path_of(c->ino, path);
		ret = chmod(path, c->was.st_mode & 07777);
		break;
	case CHANGE_OWNER:
		path_of(c->ino, path);
		ret = chown(path, c->was.st_uid, c->was.st_gid);
		break;
	case CHANGE_TIMES:
		times_set(c->ino, &c->was.st_atim, &c->was.st_mtim);
		return;
	}
	if (ret != 0) {
		lossy_die("a change that cannot be undone");
	}
	for (unsigned i = 0; i < 2 && c->at[i].dir != 0; i++) {
		times_set(c->at[i].dir, NULL, &c->at[i].mtime);
	}
}

/* ---- bytes ---- */

/* Which of its versions the page has, when metadata is there up to `upto`, and nothing from `limit` on. */
static unsigned choose(const struct page *p, enum lossy_how how, uint64_t upto, uint64_t limit)
{
	unsigned from = 0, chosen, count = 0;

	for (unsigned i = 1; i < p->count && p->versions[i]->seq <= upto; i++) {
		from = p->versions[i]->resized ? i : from;
	}
	chosen = from;
	for (unsigned i = from + 1; i < p->count && p->versions[i]->seq < limit; i++) {
		if (p->versions[i]->extends && p->versions[i]->seq > upto) {
			continue;
		}
		count++;
		if (how == LOSSY_METADATA || (how == LOSSY_SOME && below(count + 1) == 0)) {
			chosen = i;
		}
	}
	lossy.lost.pages += chosen + 1 < p->count;
	return chosen;
}

static void bytes_set(struct node *n, enum lossy_how how, uint64_t upto)
{
	uint64_t limit = UINT64_MAX;
	off_t size = n->size;
	struct stat st;
	char path[64];
	int fd;

	path_of(n->ino, path);
	fd = openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		lossy_die("a file that is held");
	}
	for (unsigned i = 0; i < n->resize_count && limit == UINT64_MAX; i++) {
		if (n->resizes[i].seq <= upto) {
			size = n->resizes[i].size;
		} else {
			limit = n->resizes[i].seq;
		}
	}
	for (const struct page *p = n->pages; p != NULL; p = p->next) {
		unsigned chosen = choose(p, how, upto, limit);
		const struct version *v = p->versions[chosen];

		if (v->extends && v->end > size) {
			size = v->end;
		}
		if (pwrite(fd, v->bytes, LOSSY_PAGE, (off_t)p->number * LOSSY_PAGE) != LOSSY_PAGE) {
			lossy_die("write");
		}
	}
	/* What was behind the end of a page is nothing. */
	if (ftruncate(fd, size) != 0) {
		lossy_die("truncate");
	}
	times_set(n->ino, &st.st_atim, &st.st_mtim);
	close(fd);
}

static void all_bytes(enum lossy_how how, uint64_t upto, uint64_t seed)
{
	for (unsigned i = 0; i < sizeof(lossy.nodes) / sizeof(lossy.nodes[0]); i++) {
		for (struct node *n = lossy.nodes[i]; n != NULL; n = n->next) {
			struct stat st;

			if (n->dirty && n->fd >= 0 && fstat(n->fd, &st) == 0 && st.st_nlink > n->graves) {
				chance = seed + (n->order << 32);
				bytes_set(n, how, upto);
			}
		}
	}
}

void lossy_cut(enum lossy_how how, uint64_t seed)
{
	uint64_t upto = lossy.committed;

	nth_disk = NULL;
	chance = seed;
	if (how == LOSSY_BYTES) {
		upto = lossy.seq;
	} else if (how == LOSSY_SOME) {
		upto += below(lossy.seq - lossy.committed + 1);
	}
	lossy_walk(true);
	for (unsigned i = lossy.change_count; i > 0 && lossy.changes[i - 1]->seq > upto; i--) {
		undo(lossy.changes[i - 1]);
		lossy_forget(lossy.changes[i - 1]);
		lossy.change_count--;
		lossy.lost.changes++;
	}
	all_bytes(how, upto, seed);
	while (lossy.change_count > 0) {
		lossy_forget(lossy.changes[--lossy.change_count]);
	}
	lossy_look();
	lossy.committed = lossy.seq;
	lossy_resume();
}

struct lossy_lost lossy_lost(void)
{
	return lossy.lost;
}
