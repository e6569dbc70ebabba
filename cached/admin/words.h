/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The words behind a command's name, by what its row of command_table.h takes. Any thread. */
#ifndef OFS_ADMIN_WORDS_H
#define OFS_ADMIN_WORDS_H

#include <stddef.h>

#define WORDS_OPTIONS_MAX 8u
#define WORDS_PLAIN_MAX 4u
#define WORDS_WHY_BYTES 256u

struct words {
	struct {
		char name[24]; /* "--wait" */
		const char *value; /* "" of one that takes none */
	} options[WORDS_OPTIONS_MAX];
	unsigned option_count;
	const char *plain[WORDS_PLAIN_MAX]; /* what is no option, in order */
	unsigned plain_count;
};

/* args: of the table. Borrows from argv. 0; -EINVAL, and `why` says what to do. */
int words_take(struct words *w, const char *args, unsigned argc, const char *const *argv,
		char why[WORDS_WHY_BYTES]);
/* Its value, "" if it takes none; NULL: not given. */
const char *words_option(const struct words *w, const char *name);

#endif
