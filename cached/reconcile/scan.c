/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: find what hints do not tell: after a start, after lost hints: trash/, the marked directories,
 * rows not at home, and, after a power cut, what the intent file names.
 * Way: reconcile_start, reconcile_rescan -> disk jobs (DISK_ORDER) -> look.c's rows and items.
 * Thread: *_run on a worker, without core state; the rest on the core.
 * Owns: its jobs; they carry plain copies.
 * Holds:
 *  1. only marked directories are read, and one whose stubs were being dropped, unless the index is
 *     new, or was when a scan began that has not ended: then all;
 *  2. reconcile_flush waits until no scan is under way;
 *  3. a scan that failed sets rescan_wanted;
 *  4. what moves from a directory not read yet into one that was is scanned where its hint says;
 *  5. a scan reads each directory once, wherever it moves meanwhile: what it holds moves with it.
 */
#include "private.h"
#include "shared/intent.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- directories and trash/ ---- */

#define SCAN_AGAIN_NS (300 * NS_PER_MS)
#define SCAN_DOUBLES_MOST 5u /* of that, while the disk fails */
#define SCAN_RECENT_NS (10 * NS_PER_S) /* a client's process may be slow between rename and hint */

struct scan_job {
	struct disk_job job;
	struct reconcile *rc; /* core only */
	struct ofs_record_io rio;
	struct ofs_shm *shm;
	struct clock *clock;
	int tree_fd;
	char *path;
	struct ofs_oid oid;
	bool trash; /* scan trash/ instead */
	int trash_fd;
	int status;
	struct seen *seen; /* of a directory: by id */
	unsigned seen_count, seen_cap;
};

static struct seen *scan_grow(struct scan_job *s)
{
	if (s->seen_count == s->seen_cap) {
		unsigned cap = s->seen_cap ? s->seen_cap * 2 : 64;
		struct seen *n = realloc(s->seen, cap * sizeof(*n));

		if (n == NULL) {
			return NULL;
		}
		s->seen = n;
		s->seen_cap = cap;
	}
	memset(&s->seen[s->seen_count], 0, sizeof(*s->seen));
	return &s->seen[s->seen_count];
}

/* By id, what could not be looked at last: its id may be that of another (a copied stub). */
static int scan_order(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	if ((x->status != 0) != (y->status != 0)) {
		return x->status != 0 ? 1 : -1;
	}
	return memcmp(&x->rec.oid, &y->rec.oid, sizeof(x->rec.oid));
}

static bool scan_has_seen(const struct scan_job *s, const struct ofs_oid *oid)
{
	const struct seen key = { .rec.oid = *oid };

	return s->seen_count > 0 &&
	       bsearch(&key, s->seen, s->seen_count, sizeof(*s->seen), scan_order) != NULL;
}

static void scan_run(struct disk_job *job)
{
	struct scan_job *s = (struct scan_job *)job;
	int fd = s->trash ? openat(s->trash_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
			  : look_open_dir(s->tree_fd, &s->rio, s->path, &s->oid, O_RDONLY);
	struct dirent *de;
	DIR *dir;

	if (fd < 0 || (dir = fdopendir(fd)) == NULL) {
		s->status = fd < 0 ? (s->trash ? -errno : fd) : -errno;
		if (fd >= 0) {
			close(fd);
		}
		return;
	}
	while (errno = 0, (de = readdir(dir)) != NULL) {
		struct seen *n;
		struct stat st;

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0) {
			continue;
		}
		n = scan_grow(s);
		if (n == NULL || (n->name = strdup(de->d_name)) == NULL) {
			s->status = -ENOMEM;
			break;
		}
		s->seen_count++;
		if (s->trash && n->name[0] == 'f' &&
				(fstatat(fd, n->name, &st, AT_SYMLINK_NOFOLLOW) != 0 || st.st_nlink > 1)) {
			n->status = -EAGAIN; /* not unlinked from the tree (yet) */
		}
		if (!s->trash) {
			look_at(&s->rio, s->shm, s->clock, fd, n);
		}
	}
	if (s->status == 0 && errno != 0) {
		s->status = -errno;
	}
	closedir(dir);
	if (!s->trash && s->seen_count > 0) {
		qsort(s->seen, s->seen_count, sizeof(*s->seen), scan_order);
	}
}

static void scan_intents(struct reconcile *rc);

static void scan_again(void *arg)
{
	struct reconcile *rc = arg;

	rc->rescan_timer = NULL;
	if (rc->scans_running == 0) {
		scan_start(rc);
	}
}

/* A disk that fails is told once, asked more and more rarely, and told when it is well. */
static int64_t scan_delay_ns(struct reconcile *rc)
{
	unsigned failures = rc->scan_failures;

	if (!rc->scan_failed && failures > 0) {
		log_notice("reconcile", "every directory that has changed can be read again");
	}
	rc->scan_failures = rc->scan_failed ? failures + 1 : 0;
	rc->scan_failed = false;
	return (int64_t)SCAN_AGAIN_NS << (failures < SCAN_DOUBLES_MOST ? failures : SCAN_DOUBLES_MOST);
}

static void scan_cannot_read(struct reconcile *rc, const struct scan_job *s)
{
	bool moved = s->status == -ENOENT || s->status == -ESTALE;

	log_line(moved || rc->scan_failed || rc->scan_failures > 0 ? LOG_LVL_INFO : LOG_LVL_WARNING, "reconcile",
			0, "%s cannot be read (%s): what was changed there is not known, and not sent, until it can; "
			"tried again", s->trash ? "trash/" : s->path, strerror(-s->status));
	rc->scan_failed = rc->scan_failed || !moved;
	rc->rescan_wanted = true;
}

/* After the last scan every inode has its row: then intents can be told from rows. */
static void scan_ended(struct reconcile *rc)
{
	int64_t delay_ns;

	if (--rc->scans_running > 0) {
		return;
	}
	delay_ns = scan_delay_ns(rc);
	rc->scan_end_ns = clock_now_ns(rc->v->clock);
	if (rc->rescan_wanted) {
		if (rc->rescan_timer == NULL) {
			rc->rescan_timer = clock_timer_add(rc->v->clock, rc,
					clock_now_ns(rc->v->clock) + delay_ns, scan_again, rc);
		}
		return;
	}
	if (rc->fresh) {
		rc->fresh = false;
		index_kv_set(rc->v->index, INDEX_KV_READ, "1");
	}
	if (!rc->intents_read) {
		rc->intents_read = true;
		scan_intents(rc);
	} else if (rc->work_count == 0) {
		marks_sweep_soon(rc);
	}
}

bool reconcile_is_fresh(const struct reconcile *rc)
{
	return rc->fresh;
}

static void scan_take_trash(struct reconcile *rc, const struct scan_job *s)
{
	unsigned i;

	for (i = 0; i < s->seen_count; i++) {
		const char *n = s->seen[i].name;
		char hex[OFS_OID_HEX_BYTES];
		struct ofs_oid oid;

		if ((n[0] != 'f' && n[0] != 'd') || n[1] != '.' || strlen(n) < 34 ||
				s->seen[i].status != 0) {
			continue;
		}
		memcpy(hex, n + 2, 32);
		hex[32] = '\0';
		if (ofs_oid_parse(hex, &oid)) {
			look_deleted(rc, &oid, n[0] == 'd');
		}
	}
}

static void scan_take_dir(struct reconcile *rc, const struct scan_job *s)
{
	struct row *dir = index_get(rc->v->index, &s->oid), *child, *next;
	unsigned i;

	if (dir == NULL) {
		return;
	}
	for (i = 0; i < s->seen_count; i++) {
		struct seen *n = &s->seen[i];
		struct row *sub;

		look_warn(n->status, s->path, n->name);
		if (n->status != 0) {
			continue;
		}
		look_found(rc, &s->oid, n, -1);
		sub = n->is_dir ? index_get(rc->v->index, &n->rec.oid) : NULL;
		if (sub != NULL && (rc->fresh || n->adopted || (n->rec.flags & OFS_REC_MARKED))) {
			scan_dir(rc, sub);
		}
	}
	/* Rows said to be here that are not: moved (another scan finds them) or deleted (trash/). */
	for (child = index_live_child(rc->v->index, dir); child != NULL; child = next) {
		next = index_live_next(rc->v->index, child);
		if (!scan_has_seen(s, &child->oid)) {
			work_place(rc, &dir->oid, child->name, 0);
		}
	}
}

static void scan_done(struct disk_job *job)
{
	struct scan_job *s = (struct scan_job *)job;
	struct reconcile *rc = s->rc;
	struct row *dir = s->trash ? NULL : index_get(rc->v->index, &s->oid);
	unsigned i;

	if (!s->trash) {
		stats_add(dirs_scanned, 1);
	}
	if (s->status != 0) {
		/* Also where the directory has only moved: what lies in it must be looked at. */
		scan_cannot_read(rc, s);
		if (dir != NULL) {
			dir->scanned = false;
		}
	}
	if (s->trash) {
		scan_take_trash(rc, s);
	} else {
		scan_take_dir(rc, s);
	}
	scan_ended(rc);
	for (i = 0; i < s->seen_count; i++) {
		free(s->seen[i].name);
	}
	free(s->seen);
	free(s->path);
	free(s);
}

/* dir NULL: trash/. false: nobody knows where it is (its own place's look tells), or no memory (then
 * all is scanned again). */
static bool scan_submit(struct reconcile *rc, const struct row *dir)
{
	bool trash = dir == NULL;
	char *path = trash ? NULL : index_path(rc->v->index, rc, dir);
	struct scan_job *s = calloc(1, sizeof(*s));

	if (s == NULL || (!trash && path == NULL) || (!trash && (s->path = strdup(path)) == NULL)) {
		rc->rescan_wanted |= s == NULL;
		talloc_free(path);
		free(s);
		return false;
	}
	talloc_free(path);
	s->job.what = trash ? "scan trash" : "scan directory";
	s->job.run = scan_run;
	s->job.done = scan_done;
	s->rc = rc;
	s->rio = rc->v->rio;
	s->shm = rc->v->shm;
	s->clock = rc->v->clock;
	s->tree_fd = rc->v->tree_fd;
	s->trash_fd = rc->v->trash_fd;
	s->trash = trash;
	if (dir != NULL) {
		s->oid = dir->oid;
	}
	rc->scans_running++;
	disk_submit(rc->v->disk, DISK_ORDER, &s->job);
	return true;
}

bool scan_is_recent(const struct reconcile *rc)
{
	return rc->scans_running > 0 || (rc->scan_end_ns != 0 &&
			clock_now_ns(rc->v->clock) - rc->scan_end_ns < SCAN_RECENT_NS);
}

void scan_dir(struct reconcile *rc, struct row *dir)
{
	if (!dir->scanned) {
		dir->scanned = scan_submit(rc, dir);
	}
}

/* ---- the intent file ---- */

struct intent_job {
	struct disk_job job;
	struct reconcile *rc; /* core only */
	int path_fd;
	bool other_boot;
	char boot[64]; /* id of this boot, if it is another */
	struct ofs_oid *oids;
	unsigned count;
};

/* After a power cut an overwrite may be on disk although its mark is not: every inode the intent
 * file names is dirty. A mere restart finds the marks themselves. */
static void intent_run(struct disk_job *job)
{
	struct intent_job *in = (struct intent_job *)job;
	char now[64] = "", then[64] = "";
	uint8_t e[OFS_INTENT_BYTES];
	struct ofs_intent entry;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		if (read(fd, now, sizeof(now) - 1) < 0) {
			now[0] = '\0';
		}
		close(fd);
	}
	fd = openat(in->path_fd, "boot-id", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0) {
		if (pread(fd, then, sizeof(then) - 1, 0) < 0) {
			then[0] = '\0';
		}
	}
	in->other_boot = strcmp(now, then) != 0;
	if (in->other_boot) {
		int ifd = openat(in->path_fd, "intent", O_RDONLY | O_CLOEXEC);
		unsigned cap = 0;

		while (ifd >= 0 && read(ifd, e, sizeof(e)) == (ssize_t)sizeof(e)) {
			if (ofs_intent_decode(e, &entry) != 0) {
				continue; /* torn by the cut: its write had not been answered */
			}
			if (in->count == cap) {
				struct ofs_oid *n;

				cap = cap ? cap * 2 : 256;
				n = realloc(in->oids, cap * sizeof(*n));
				if (n == NULL) {
					break;
				}
				in->oids = n;
			}
			in->oids[in->count++] = entry.oid;
		}
		if (ifd >= 0) {
			close(ifd);
		}
		snprintf(in->boot, sizeof(in->boot), "%s", now);
	}
	if (fd >= 0) {
		close(fd);
	}
}

/* Last of all, behind every mark in the same lane: this boot's intents need no reading. */
static void boot_run(struct disk_job *job)
{
	struct intent_job *in = (struct intent_job *)job;
	int fd = openat(in->path_fd, "boot-id", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd >= 0) {
		(void)pwrite(fd, in->boot, strlen(in->boot), 0); /* lost with the power, it is of another boot all the same */
		close(fd);
	}
}

static void boot_nothing(struct disk_job *job)
{
	(void)job;
}

static void boot_done(struct disk_job *job)
{
	struct intent_job *in = (struct intent_job *)job;
	struct reconcile *rc = in->rc;

	free(in->oids);
	free(in);
	scan_ended(rc);
}

static void intent_done(struct disk_job *job)
{
	struct intent_job *in = (struct intent_job *)job;
	struct reconcile *rc = in->rc;
	unsigned i;

	for (i = 0; i < in->count; i++) {
		struct row *row = index_get(rc->v->index, &in->oids[i]);

		if (row != NULL && row->live == ROW_HERE && !row->is_dir) {
			look_redirty(rc, row);
		}
	}
	if (in->count > 0) {
		log_notice("reconcile", "unclean stop of the machine: %u files that were being "
				"overwritten are sent to S3 again", in->count);
	}
	in->job.what = "note the boot";
	in->job.run = in->boot[0] != '\0' ? boot_run : boot_nothing;
	in->job.done = boot_done;
	disk_submit(rc->v->disk, DISK_ORDER, &in->job);
}

static void scan_intents(struct reconcile *rc)
{
	struct intent_job *in = calloc(1, sizeof(*in));

	if (in == NULL) {
		return;
	}
	in->job.what = "read intents";
	in->job.run = intent_run;
	in->job.done = intent_done;
	in->rc = rc;
	in->path_fd = rc->v->path_fd;
	rc->scans_running++;
	disk_submit(rc->v->disk, DISK_ORDER, &in->job);
}

struct root_job {
	struct disk_job job;
	struct reconcile *rc; /* core only */
	struct ofs_record_io rio;
	int tree_fd;
	struct ofs_record rec;
	int status;
};

static void root_run(struct disk_job *job)
{
	struct root_job *r = (struct root_job *)job;

	r->status = ofs_record_get(&r->rio, r->tree_fd, &r->rec);
}

static void root_done(struct disk_job *job)
{
	struct root_job *r = (struct root_job *)job;
	struct row *root = index_get(r->rc->v->index, &OFS_OID_ROOT);

	if (root != NULL && (r->status != 0 || r->rc->fresh || (r->rec.flags & OFS_REC_MARKED))) {
		scan_dir(r->rc, root);
	}
	if (root != NULL && r->status == 0 && (r->rec.flags & OFS_REC_META_DIRTY)) {
		work_item(r->rc, root, -1);
	}
	scan_ended(r->rc);
	free(r);
}

static bool scan_resume_row(struct row *row, void *arg)
{
	struct reconcile *rc = arg;

	row->scanned = false;
	if (row_is_coming(row) && !rc->intents_read) {
		work_unseen(work_place(rc, &row->parent, row->name, 0), true);
	}
	if (row->in_s3 && (row->live == ROW_TRASHED || (row->live == ROW_HERE && !step_at_home(row)))) {
		work_item(rc, row, -1);
	}
	return true;
}

/* Of a drop that a kill has ended some files are there still, and their rows do not say so. */
static void scan_dropped(struct reconcile *rc)
{
	const char *hex = index_kv_get(rc->v->index, INDEX_KV_DROP);
	struct ofs_oid oid;
	struct row *dir;

	if (hex == NULL || !ofs_oid_parse(hex, &oid)) {
		return;
	}
	dir = index_get(rc->v->index, &oid);
	if (dir != NULL && dir->live == ROW_HERE) {
		scan_dir(rc, dir);
	}
}

void scan_start(struct reconcile *rc)
{
	struct root_job *r = calloc(1, sizeof(*r));

	rc->rescan_wanted = false;
	rc->scan_begin_ns = clock_now_ns(rc->v->clock);
	if (r == NULL) {
		rc->rescan_wanted = true;
		return;
	}
	index_each(rc->v->index, scan_resume_row, rc);
	scan_submit(rc, NULL);
	scan_dropped(rc);
	r->job.what = "look at the root";
	r->job.run = root_run;
	r->job.done = root_done;
	r->rc = rc;
	r->rio = rc->v->rio;
	r->tree_fd = rc->v->tree_fd;
	rc->scans_running++;
	disk_submit(rc->v->disk, DISK_ORDER, &r->job);
}
