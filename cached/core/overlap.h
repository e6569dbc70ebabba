/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Volumes must not lie within each other, whoever serves them: two daemons would write the same keys. */
#ifndef OFS_CORE_OVERLAP_H
#define OFS_CORE_OVERLAP_H

struct core;
struct volume;

/* Core thread. Is a prefix above the volume's another volume's? done comes once, perhaps within the call: 0;
 * -ESTALE: it is, message says which; -EAGAIN: S3 is not reached; -ENOMEM. What may not be read there is none. */
void overlap_above(struct volume *v, void (*done)(int status, const char *message, void *arg), void *arg);
/* The same of a volume that is to be made: do the first keys below its prefix hold another volume's record? */
void overlap_below(struct volume *v, void (*done)(int status, const char *message, void *arg), void *arg);
/* Another volume of this daemon that has the same record, one bucket by two ways; or NULL. */
const struct volume *overlap_twin(const struct core *core, const struct volume *v);

#endif
