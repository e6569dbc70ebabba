/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside objectfsctl top only. */
#ifndef OFS_CTL_TOP_H
#define OFS_CTL_TOP_H

#include "ctl.h"

/* --- print_top.c --- */
/* A sample: rates of the counters, parts answered here, mean times, volumes, sessions. */
void print_top(const json_t *sample);

#endif
