/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a directory store honours, as a property of the store: all that use it see the same.
 *
 *   objectfs-store 1
 *   conditions put complete copy delete     those that are missing are taken no notice of
 *   versions yes                            what is replaced or deleted stays (versions.c)
 *
 * Whoever makes the store writes it, before its first object; without it: all conditions, no versions.
 * So the daemon's work on stores that honour less can be tried where there is no such server.
 *
 * Way:    dir.c, when the store is opened.
 * Thread: core; blocks on the local disk.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "dir.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define RULES_MAX_BYTES 1024u

static int read_conditions(struct dir_rules *r, char *words)
{
	char *save = NULL;

	r->put = r->complete = r->copy = r->delete = false;
	for (char *w = strtok_r(words, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
		if (strcmp(w, "put") == 0) {
			r->put = true;
		} else if (strcmp(w, "complete") == 0) {
			r->complete = true;
		} else if (strcmp(w, "copy") == 0) {
			r->copy = true;
		} else if (strcmp(w, "delete") == 0) {
			r->delete = true;
		} else {
			return -EINVAL;
		}
	}
	return 0;
}

static int read_line(struct dir_rules *r, char *line)
{
	if (strcmp(line, "conditions") == 0 || strncmp(line, "conditions ", 11) == 0) {
		return read_conditions(r, line + 10);
	}
	if (strcmp(line, "versions yes") == 0 || strcmp(line, "versions no") == 0) {
		r->versions = line[9] == 'y';
		return 0;
	}
	return -EINVAL;
}

int dir_rules_read(int root_fd, struct dir_rules *rules)
{
	char text[RULES_MAX_BYTES];
	char *line, *save = NULL;
	ssize_t n;
	int fd, ret = 0;

	*rules = (struct dir_rules){ .put = true, .complete = true, .copy = true, .delete = true };
	fd = openat(root_fd, DIR_RULES, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0) {
		return errno == ENOENT ? 0 : -errno;
	}
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0) {
		ret = -errno;
	}
	close(fd);
	if (ret != 0) {
		return ret;
	}
	text[n] = '\0';
	line = strtok_r(text, "\n", &save);
	if (line == NULL || strcmp(line, "objectfs-store 1") != 0) {
		return -EINVAL;
	}
	while (ret == 0 && (line = strtok_r(NULL, "\n", &save)) != NULL) {
		ret = read_line(rules, line);
	}
	return ret;
}
