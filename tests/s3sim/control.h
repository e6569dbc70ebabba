/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The control endpoint: settings, keys, faults and counters at run time, as JSON over HTTP. One thread. */
#ifndef OFS_S3SIM_CONTROL_H
#define OFS_S3SIM_CONTROL_H

#include "sim.h"

/* 0 or -errno. */
int control_start(struct sim *s, unsigned port);
/* -1: there is none. */
int control_fd(const struct sim *s);
int64_t control_patience(const struct sim *s);
void control_run(struct sim *s);
void control_stop(struct sim *s);
/* NAME=VALUE of a setting. false: there is none of that name, or the value is none. */
bool control_set(struct sim *s, const char *name, int64_t value);

#endif
