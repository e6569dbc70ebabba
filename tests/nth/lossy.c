/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: remember what no sync has waited for (lossy.h).
 * Way: from lossy_calls.c and lossy_bytes.c, which do what is asked; lossy_cut.c reads what is remembered here.
 * Thread: one.
 * Owns: inodes, changes, pages; the directory .grave, where what lost its last name stays as long as it may come back.
 * Holds: an inode that may come back is the same inode, for records are bound to it.
 */
#include "lossy_priv.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "calls.h"

#define GRAVES ".grave"

struct lossy lossy;

void lossy_die(const char *what)
{
	fprintf(stderr, "lossy: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* ---- inodes ---- */

static struct node **node_slot(ino_t ino)
{
	struct node **pp = &lossy.nodes[ino % (sizeof(lossy.nodes) / sizeof(lossy.nodes[0]))];

	while (*pp != NULL && (*pp)->ino != ino) {
		pp = &(*pp)->next;
	}
	return pp;
}

struct node *lossy_node(ino_t ino)
{
	return *node_slot(ino);
}

void lossy_synced(struct node *n, off_t size)
{
	while (n->pages != NULL) {
		struct page *p = n->pages;

		n->pages = p->next;
		for (unsigned i = 0; i < p->count; i++) {
			free(p->versions[i]);
		}
		free(p->versions);
		free(p);
	}
	free(n->resizes);
	n->resizes = NULL;
	n->resize_count = 0;
	n->dirty = false;
	n->size = size;
}

static void node_free(ino_t ino)
{
	struct node **pp = node_slot(ino), *n = *pp;

	if (n != NULL) {
		*pp = n->next;
		lossy_synced(n, 0);
		free(n);
	}
}

struct node *lossy_node_new(ino_t ino)
{
	struct node *n = calloc(1, sizeof(*n)), **pp;

	node_free(ino);
	pp = node_slot(ino);
	n->ino = ino;
	n->order = ++lossy.known;
	n->fd = -1;
	*pp = n;
	return n;
}

struct node *lossy_of_fd(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? lossy_node(st.st_ino) : NULL;
}

bool lossy_is_loose(const char *name)
{
	for (unsigned i = 0; lossy.loose[i] != NULL; i++) {
		if (strcmp(lossy.loose[i], name) == 0) {
			return true;
		}
	}
	return strcmp(name, GRAVES) == 0;
}

static void walk(int dir_fd, bool at_root, bool paths)
{
	DIR *d = fdopendir(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *de;

	if (d == NULL) {
		lossy_die("walk");
	}
	while ((de = readdir(d)) != NULL) {
		struct node *n;
		struct stat st;
		int fd;

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
				(at_root && lossy_is_loose(de->d_name))) {
			continue;
		}
		fd = openat(dir_fd, de->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) != 0) {
			lossy_die(de->d_name);
		}
		n = lossy_node(st.st_ino);
		if (n == NULL) {
			n = lossy_node_new(st.st_ino);
			n->named = true;
		}
		if (S_ISDIR(st.st_mode)) {
			walk(fd, false, paths);
		}
		if (paths && n->fd < 0) {
			n->fd = fd;
		} else {
			close(fd);
		}
	}
	closedir(d);
}

void lossy_walk(bool paths)
{
	int root_fd = openat(AT_FDCWD, lossy.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int grave_fd = openat(root_fd, GRAVES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct node *root = lossy_node(lossy.root_ino);

	walk(root_fd, true, paths);
	walk(grave_fd, false, paths);
	close(grave_fd);
	if (paths) {
		root->fd = root_fd;
	} else {
		close(root_fd);
	}
}

static void nodes_free(void)
{
	for (unsigned i = 0; i < sizeof(lossy.nodes) / sizeof(lossy.nodes[0]); i++) {
		while (lossy.nodes[i] != NULL) {
			if (lossy.nodes[i]->fd >= 0) {
				close(lossy.nodes[i]->fd);
			}
			node_free(lossy.nodes[i]->ino);
		}
	}
}

void lossy_look(void)
{
	nodes_free();
	lossy_node_new(lossy.root_ino)->named = true;
	lossy_walk(false);
}

/* ---- changes ---- */

void lossy_grave(unsigned grave, char path[LOSSY_PATH])
{
	snprintf(path, LOSSY_PATH, "%s/" GRAVES "/%u", lossy.root, grave);
}

void lossy_forget(struct change *c)
{
	struct node *n = c->grave != 0 ? lossy_node(c->buried) : NULL;
	char path[LOSSY_PATH];
	struct stat st;

	if (c->grave != 0) {
		lossy_grave(c->grave, path);
		if (n != NULL && n->graves > 0) {
			n->graves--;
		}
		if (fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0) {
			unlinkat(AT_FDCWD, path, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
		}
	}
	free(c->value);
	free(c);
}

void lossy_commit(uint64_t seq)
{
	unsigned n = 0;

	while (n < lossy.change_count && lossy.changes[n]->seq <= seq) {
		lossy_forget(lossy.changes[n++]);
	}
	lossy.change_count -= n;
	memmove(lossy.changes, lossy.changes + n, lossy.change_count * sizeof(*lossy.changes));
	lossy.committed = seq > lossy.committed ? seq : lossy.committed;
}

struct change *lossy_change(enum change_kind kind, ino_t ino)
{
	struct change *c = calloc(1, sizeof(*c));

	c->kind = kind;
	c->ino = ino;
	return c;
}

void lossy_add(struct change *c)
{
	struct node *n = lossy_node(c->ino);

	if (lossy.change_count == lossy.change_room) {
		lossy.change_room = 2 * lossy.change_room + 64;
		lossy.changes = realloc(lossy.changes, lossy.change_room * sizeof(*lossy.changes));
	}
	lossy.changes[lossy.change_count++] = c;
	c->seq = ++lossy.seq;
	n->seq = c->seq;
	for (unsigned i = 0; i < 2; i++) {
		struct node *dir = c->at[i].dir != 0 ? lossy_node(c->at[i].dir) : NULL;

		if (dir != NULL) {
			dir->seq = c->seq;
		}
	}
}

void lossy_heard(void)
{
	if (lossy.changed != NULL) {
		lossy.changed(lossy.arg);
	}
}

/* ---- its life ---- */

void lossy_begin(const char *root, const char *const *loose, void (*changed)(void *arg), void *arg)
{
	char graves[LOSSY_PATH];
	struct stat st;

	memset(&lossy, 0, sizeof(lossy));
	lossy.loose = loose;
	lossy.changed = changed;
	lossy.arg = arg;
	snprintf(lossy.root, sizeof(lossy.root), "%s", root);
	snprintf(graves, sizeof(graves), "%s/" GRAVES, root);
	if (mkdirat(AT_FDCWD, graves, 0700) != 0 || fstatat(AT_FDCWD, root, &st, 0) != 0) {
		lossy_die(root);
	}
	lossy.root_ino = st.st_ino;
	lossy_look();
	nth_disk = &lossy_calls;
}

void lossy_resume(void)
{
	lossy.still = false;
	nth_disk = &lossy_calls;
}

void lossy_end(void)
{
	nth_disk = NULL;
	lossy_commit(UINT64_MAX);
	nodes_free();
	free(lossy.changes);
}

void lossy_still(bool still)
{
	lossy.still = still;
}

bool lossy_is_still(void)
{
	return lossy.still;
}
