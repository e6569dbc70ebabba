/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See probed.h. */
#include "probed.h"
#include <stdio.h>

void probed_set(enum obj_status status, const char *message, void *arg)
{
	struct probed *p = arg;

	p->status = status;
	snprintf(p->message, sizeof(p->message), "%s", message);
	p->done = true;
}
