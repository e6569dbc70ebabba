/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: read the hint rings of a volume's modules, and clear away those whose writer is gone.
 * Way: doorbell or timer (volume.c) -> rings_drain -> mirror_hint, reconcile_hint.
 * Thread: core; pread of files in /run (memory), which does not block.
 * Owns: the ring files and one descriptor of each.
 * Holds: (1) what a ring says is checked: a damaged slot costs a rescan of marked directories, never
 * more; of a ring that cannot be opened or read, at the start or later, one now and then while its writer
 * lives. (2) A ring goes only after its writer is dead and every hint in it was read. (3) The daemon's
 * descriptor is never the module's open file: the writer's lock dies with the module.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "rings.h"
#include "volume.h"
#include "../base/log.h"
#include "../base/stats.h"
#include "../mirror/mirror.h"
#include "../reconcile/reconcile.h"
#include "shared/ring.h"

#define REAP_EVERY_NS (1 * NS_PER_S)
#define UNUSED_AGE_NS (600 * NS_PER_S)
#define BROKEN_RESCAN_NS (30 * NS_PER_S)

struct ring {
	struct ring *next, **prev;
	struct rings *rs;
	char name[64];
	int fd; /* -1: not opened yet */
	uint64_t tail, lost;
	uint64_t session;    /* 0: of a former daemon's */
	struct ofs_use use;  /* as far as it is in the counters */
	int64_t born_ns;
	bool used;   /* a writer was seen: lock, pid or hint */
	bool broken; /* its head cannot be read, or makes no sense */
	bool adopted; /* a former daemon's, whose tail is not known yet */
	int64_t rescan_ns; /* broken: when the marked directories are looked at again in place of its hints */
};

struct rings {
	struct volume *v;
	int dirfd;
	struct ring *list;
	int64_t reap_ns;
	bool rescan; /* wanted; told to reconcile at the end of a drain */
	bool look_again; /* the same, and nothing to be said of it */
};

static int ring_free(struct ring *r)
{
	*r->prev = r->next;
	if (r->next != NULL) {
		r->next->prev = r->prev;
	}
	if (r->fd >= 0) {
		close(r->fd);
	}
	return 0;
}

static struct ring *ring_new(struct rings *rs, const char *name, int fd)
{
	struct ring *r = talloc_zero(rs, struct ring);

	if (r == NULL) {
		if (fd >= 0) {
			close(fd);
		}
		return NULL;
	}
	r->rs = rs;
	r->fd = fd;
	r->born_ns = clock_now_ns(rs->v->clock);
	snprintf(r->name, sizeof(r->name), "%s", name);
	r->next = rs->list;
	r->prev = &rs->list;
	if (r->next != NULL) {
		r->next->prev = &r->next;
	}
	rs->list = r;
	talloc_set_destructor(r, ring_free);
	return r;
}

/* What it would have said is found by the marks. */
static void ring_is_broken(struct ring *r, int status)
{
	struct rings *rs = r->rs;
	int64_t now = clock_now_ns(rs->v->clock);

	if (!r->broken) {
		log_warning("core", "ring %s of volume %s cannot be read (%s): what its smbd changes is found "
				"every %d s only, until that client connects anew",
				r->name, rs->v->name, strerror(-status), (int)(BROKEN_RESCAN_NS / NS_PER_S));
		stats_add(hints_bad, 1);
		r->broken = true;
		r->rescan_ns = now;
	}
	if (now >= r->rescan_ns) {
		r->rescan_ns = now + BROKEN_RESCAN_NS;
		rs->look_again = true;
	}
}

static int ring_open(const struct rings *rs, const char *name)
{
	int fd = openat(rs->dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	return fd >= 0 ? fd : -errno;
}

/* Goes on where the former daemon ended, which has counted what was in use until then. */
static void ring_resume(struct ring *r, const struct ofs_ring_head *head)
{
	struct rings *rs = r->rs;
	uint64_t first = atomic_load(&head->tail), last = atomic_load(&head->head);

	(void)ofs_ring_read_use(r->fd, &r->use);
	if (first > last || last - first > OFS_RING_SLOTS) {
		log_warning("core", "ring %s of volume %s has an impossible tail", r->name, rs->v->name);
		first = last > OFS_RING_SLOTS ? last - OFS_RING_SLOTS : 0;
		rs->rescan = true;
	}
	r->tail = first;
	r->adopted = false;
}

/* Its head as it is now; opens the ring if it has to. 0 or -errno. */
static int ring_head(struct ring *r, struct ofs_ring_head *head)
{
	int ret;

	if (r->fd < 0) {
		ret = ring_open(r->rs, r->name);
		if (ret < 0) {
			return ret;
		}
		r->fd = ret;
	}
	ret = ofs_ring_read_head(r->fd, head);
	if (ret == 0 && r->adopted) {
		ring_resume(r, head);
	}
	return ret;
}

/* A ring that a former daemon left. Its smbd may be alive, and write on: one that cannot be read now is kept. */
static void ring_adopt(struct rings *rs, const char *name)
{
	int fd = ring_open(rs, name);
	struct ofs_ring_head head;
	struct ring *r;
	int ret;

	if (fd == -ELOOP || fd == -EISDIR || fd == -ENXIO) {
		log_warning("core", "ring %s of volume %s is none: %s", name, rs->v->name, strerror(-fd));
		return;
	}
	r = ring_new(rs, name, fd >= 0 ? fd : -1);
	if (r == NULL) {
		return;
	}
	r->used = r->adopted = true;
	ret = fd < 0 ? fd : ring_head(r, &head);
	if (ret == -EBADMSG) {
		log_warning("core", "ring %s of volume %s is damaged and is removed", name, rs->v->name);
		(void)unlinkat(rs->dirfd, name, 0);
		talloc_free(r);
		rs->rescan = true;
	} else if (ret != 0) {
		ring_is_broken(r, ret);
	}
}

/* A count that went back is no module's: it is not believed. */
static void ring_count(struct ring *r)
{
	struct ofs_use use;

	if (r->broken || ofs_ring_read_use(r->fd, &use) != 0) {
		return;
	}
#define COUNT_ROW(name)                                                                            \
	if (atomic_load(&use.name) > atomic_load(&r->use.name)) {                                  \
		stats_add(name, (int64_t)(atomic_load(&use.name) - atomic_load(&r->use.name)));    \
		atomic_store(&r->use.name, atomic_load(&use.name));                                \
	}
	OFS_USE_TABLE(COUNT_ROW)
#undef COUNT_ROW
}

void rings_count(struct rings *rs)
{
	for (struct ring *r = rs->list; r != NULL; r = r->next) {
		ring_count(r);
	}
}

bool rings_use(const struct rings *rs, uint64_t session, struct ofs_use *use)
{
	const struct ring *r = rs->list;

	while (r != NULL && r->session != session) {
		r = r->next;
	}
	return r != NULL && !r->broken && ofs_ring_read_use(r->fd, use) == 0;
}

uint64_t rings_writing(const struct rings *rs)
{
	struct ofs_use use;
	uint64_t sum = 0, bytes;

	for (const struct ring *r = rs->list; r != NULL; r = r->next) {
		bytes = !r->broken && ofs_ring_read_use(r->fd, &use) == 0 ? atomic_load(&use.writing_bytes) : 0;
		if (bytes > 0 && !ofs_ring_writer_dead(r->fd)) {
			sum += bytes < UINT64_MAX - sum ? bytes : UINT64_MAX - sum;
		}
	}
	return sum;
}

static bool is_ring_name(const char *name)
{
	size_t len = strlen(name);

	return len > 5 && len < sizeof(((struct ring *)0)->name) &&
	       strcmp(name + len - 5, ".ring") == 0;
}

static int rings_free(struct rings *rs)
{
	while (rs->list != NULL) {
		talloc_free(rs->list);
	}
	if (rs->dirfd >= 0) {
		close(rs->dirfd);
	}
	return 0;
}

struct rings *rings_new(TALLOC_CTX *ctx, struct volume *v, const char *run_directory)
{
	struct rings *rs = talloc_zero(ctx, struct rings);
	struct dirent *e;
	char *path;
	DIR *dir;
	int fd;

	if (rs == NULL) {
		return NULL;
	}
	rs->v = v;
	rs->dirfd = -1;
	talloc_set_destructor(rs, rings_free);
	path = talloc_asprintf(rs, "%s/%s.rings", run_directory, v->name);
	if (path == NULL) {
		talloc_free(rs);
		return NULL;
	}
	if (mkdir(path, 0700) != 0 && errno != EEXIST) {
		log_error("core", "%s: %s", path, strerror(errno));
		talloc_free(rs);
		return NULL;
	}
	rs->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	fd = rs->dirfd < 0 ? -1 : fcntl(rs->dirfd, F_DUPFD_CLOEXEC, 0);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (dir == NULL) {
		log_error("core", "%s: %s", path, strerror(errno));
		if (fd >= 0) {
			close(fd);
		}
		talloc_free(rs);
		return NULL;
	}
	while ((e = readdir(dir)) != NULL) {
		if (is_ring_name(e->d_name)) {
			ring_adopt(rs, e->d_name);
		}
	}
	closedir(dir);
	talloc_free(path);
	return rs;
}

int rings_add(struct rings *rs, uint64_t session)
{
	struct ring *r;
	uint8_t random[12];
	char name[64];
	size_t n = 0;
	int fd, own;

	clock_random(rs->v->clock, random, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++) {
		n += (size_t)snprintf(name + n, sizeof(name) - n, "%02x", random[i]);
	}
	snprintf(name + n, sizeof(name) - n, ".ring");
	fd = ofs_ring_create(rs->dirfd, name);
	if (fd < 0) {
		return fd;
	}
	own = openat(rs->dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (own < 0) {
		int ret = -errno;

		close(fd);
		(void)unlinkat(rs->dirfd, name, 0);
		return ret;
	}
	r = ring_new(rs, name, own);
	if (r == NULL) {
		close(fd);
		(void)unlinkat(rs->dirfd, name, 0);
		return -ENOMEM;
	}
	r->session = session;
	return fd;
}

static unsigned ring_drain(struct ring *r, bool writer_dead)
{
	struct rings *rs = r->rs;
	struct ofs_ring_head head;
	struct ofs_hint hint;
	uint64_t last, lost, from = r->tail;
	unsigned count = 0;
	int ret;

	ret = ring_head(r, &head);
	if (ret != 0) {
		ring_is_broken(r, ret);
		return 0;
	}
	r->broken = false;
	last = atomic_load(&head.head);
	lost = atomic_load(&head.lost);
	if (head.writer_pid != 0 || last > 0) {
		r->used = true;
	}
	if (r->tail > last || last - r->tail > OFS_RING_SLOTS) {
		/* Nobody writes past the tail: the head is not to be believed. */
		stats_add(hints_bad, 1);
		rs->rescan = true;
		r->tail = last;
	}
	/* A writer killed at the wrong moment leaves one whole hint beyond its head. */
	while (r->tail < last || writer_dead) {
		ret = ofs_ring_read(r->fd, r->tail + 1, &hint);
		if (r->tail >= last && ret != 1) {
			break;
		}
		r->tail++;
		if (ret == 1) {
			count++;
			mirror_hint(rs->v->mirror, &hint);
			reconcile_hint(rs->v->reconcile, &hint);
		} else {
			stats_add(hints_bad, 1);
			rs->rescan = true;
		}
	}
	if (r->tail != from) {
		(void)ofs_ring_set_tail(r->fd, r->tail);
	}
	if (lost > r->lost) {
		stats_add(hints_lost, (int64_t)(lost - r->lost));
		rs->rescan = true;
	}
	r->lost = lost;
	return count;
}

static bool ring_is_dead(struct ring *r)
{
	if (!ofs_ring_writer_dead(r->fd)) {
		r->used = true;
		return false;
	}
	/* Handed over but not yet mapped by its module: it looks dead for a moment. */
	return r->used || clock_now_ns(r->rs->v->clock) - r->born_ns > UNUSED_AGE_NS;
}

static unsigned rings_reap(struct rings *rs)
{
	struct ofs_ring_head head;
	struct ring *r, *next;
	unsigned count = 0;

	for (r = rs->list; r != NULL; r = next) {
		next = r->next;
		if (!ring_is_dead(r)) {
			continue;
		}
		count += ring_drain(r, true);
		if (ofs_ring_read_head(r->fd, &head) != 0 || atomic_load(&head.inflight[0]) != 0 ||
				atomic_load(&head.inflight[1]) != 0) {
			/* It died in the middle of a change: the hint for it never came. */
			rs->rescan = true;
		}
		if (unlinkat(rs->dirfd, r->name, 0) != 0 && errno != ENOENT) {
			log_warning("core", "ring %s of volume %s: %s", r->name, rs->v->name,
					strerror(errno));
		}
		ring_count(r);
		talloc_free(r);
	}
	return count;
}

static unsigned rings_read(struct rings *rs, bool reap)
{
	const struct log_volume *before = log_enter(rs->v->log);
	int64_t now = clock_now_ns(rs->v->clock);
	unsigned count = 0;

	for (struct ring *r = rs->list; r != NULL; r = r->next) {
		count += ring_drain(r, false);
	}
	if (reap || now >= rs->reap_ns) {
		rs->reap_ns = now + REAP_EVERY_NS;
		count += rings_reap(rs);
	}
	if (count > 0) {
		stats_add(hints, count);
	}
	if (rs->rescan) {
		rs->rescan = false;
		log_warning("core", "volume %s: hints were lost or damaged, marked directories are "
				    "looked at again",
				rs->v->name);
		rs->look_again = true;
	}
	if (rs->look_again) {
		rs->look_again = false;
		mirror_hints_lost(rs->v->mirror);
		reconcile_rescan(rs->v->reconcile);
	}
	(void)log_enter(before);
	return count;
}

unsigned rings_drain(struct rings *rs)
{
	return rings_read(rs, false);
}

unsigned rings_settle(struct rings *rs)
{
	return rings_read(rs, true);
}

bool rings_inflight(struct rings *rs, uint32_t stripe)
{
	for (struct ring *r = rs->list; r != NULL; r = r->next) {
		struct ofs_ring_head head;

		if (ofs_ring_read_head(r->fd, &head) != 0) {
			return true; /* who knows */
		}
		if (atomic_load(&head.inflight[0]) != stripe + 1 &&
				atomic_load(&head.inflight[1]) != stripe + 1) {
			continue;
		}
		/* Of a dead writer too: its change may have happened without its hint. */
		return true;
	}
	return false;
}

bool rings_have_writer(const struct rings *rs, pid_t pid)
{
	for (const struct ring *r = rs->list; r != NULL; r = r->next) {
		struct ofs_ring_head head;

		if (ofs_ring_read_head(r->fd, &head) == 0 && head.writer_pid == (uint64_t)pid &&
				!ofs_ring_writer_dead(r->fd)) {
			return true;
		}
	}
	return false;
}
