/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A disk that loses what was not synced: below one directory of a real file system each change is done and
 * remembered, and when the power goes the tree becomes one that could be left.
 *
 * What could be left, after ext4 (data=ordered) and XFS:
 *  - changes of metadata (names, attributes, modes, owners, times, sizes cut off) in their order: a prefix of them, at
 *    least to the last one that a sync has waited for. fsync of an inode waits for the last change of it, and so for
 *    all before that; fdatasync for the last one that its bytes need (its creation, its size, new blocks);
 *  - of bytes that no sync of their inode has waited for each page of 4 KiB by itself: as it was, or as any write since
 *    left it. A page behind the end is there only with what came before its write: its blocks are in the journal;
 *  - a hole that was punched as a page of bytes: before what was journaled before it, or not at all. So no kernel that we
 *    know does it to whole blocks; no standard says that it may not.
 * What it does not show, and the real kernels in scenario/power do: pages torn at sectors, bytes behind an end within
 * its page, when they write back by themselves, their own faults.
 *
 * One thread. The file system below needs extended attributes and links.
 */
#ifndef OFS_TESTS_LOSSY_H
#define OFS_TESTS_LOSSY_H

#include <stdbool.h>
#include <stdint.h>

enum lossy_how {
	LOSSY_BYTES,    /* no byte that was not synced, and all metadata */
	LOSSY_METADATA, /* the other way round */
	LOSSY_BOTH,     /* all that was not synced is lost */
	LOSSY_SOME,     /* by the seed */
	LOSSY_HOWS
};

/* What is below `root` is on the disk, and calls go through here from now on. Names in it that are in `loose` (ends
 * with NULL) lie in memory, with all below them. Who changes something, or waits for the disk, calls `changed` when
 * that is done; NULL: nobody hears of it. */
void lossy_begin(const char *root, const char *const *loose, void (*changed)(void *arg), void *arg);
/* Nothing is remembered any more. */
void lossy_end(void);
/* The machine is dead: what is done changes nothing, and is said to be done. Until lossy_cut, or told otherwise. */
void lossy_still(bool still);
bool lossy_is_still(void);
/* Nobody has anything open below the root. What is there now is on the disk. */
void lossy_cut(enum lossy_how how, uint64_t seed);
/* By all cuts. */
struct lossy_lost {
	unsigned changes, pages;
};
struct lossy_lost lossy_lost(void);

#endif
