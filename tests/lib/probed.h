/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a probe of a store has found, for the tests that ask for one. */
#ifndef OFS_TESTS_PROBED_H
#define OFS_TESTS_PROBED_H

#include <stdbool.h>
#include "cached/objstore/objstore.h"

struct probed {
	bool done;
	enum obj_status status;
	char message[512];
};

/* objstore_probe's fn; arg is a struct probed. */
void probed_set(enum obj_status status, const char *message, void *arg);

#endif
