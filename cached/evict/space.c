/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: keep room on the disk: above the high mark files go until the low one; what dirty data may
 *       need is kept free, and when that runs out writers are slowed, then refused.
 * Way: a timer, and what has come here (evict_note) -> measure (disk jobs) -> evict.c; the shared
 *      memory tells the modules, reconcile is told to hurry.
 * Thread: core; measure_run on a worker.
 * Owns: the round: how much must go, and how often nothing would.
 * Holds: 1. clients are refused before the disk is full, never after a write was acknowledged: they take
 *           their part of what is free and of what no recall has asked for, and wait when there is none;
 *           refused they are when waiting has not helped;
 *        2. a round ends: when the low mark is reached, or when every file was asked in vain;
 *        3. every pending file is measured, some in each job: the sum is of the moment the first job
 *           began; what is written from then on the modules count, and what was on its way then.
 *
 *   used:   0 ...... low mark ...... high mark ... half the reserve ... 1/16 of it ... all
 *              rest            rest            files go        and writers are slowed   and wait
 */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "../core/rings.h"
#include "../reconcile/metalog.h"
#include "../reconcile/reconcile.h"

#define SPACE_TICK_NS NS_PER_S
#define SPACE_SOON_NS (50 * NS_PER_MS)
#define SPACE_AT_ONCE_NS (5 * NS_PER_MS)
#define SPACE_PATIENCE_NS (10 * NS_PER_S) /* writers wait so long for a file to go */
#define SPACE_REST_MOST_NS (30 * NS_PER_S)
#define SPACE_CENSUS_NS (86400 * NS_PER_S)
#define SPACE_OLD_LOOK 1024u /* table slots looked at for age, a tick */
#define SPACE_BATCH 1024u    /* files being written whose growth is measured, in one job */
#define SPACE_SLOW_MOST_US 500000u /* a MiB */

struct space { /* core only */
	struct evictor *ev;
	struct clock_timer *timer;
	int64_t timer_at_ns;
	bool started, measuring, pumping;
	uint64_t fs_free; /* at the last measuring */
	uint64_t written; /* of what modules write, by then */
	uint64_t fresh;   /* bytes of files that reconcile has not looked at yet: in no queue, not kept */
	/* of the measuring under way: its begin, what had been written by then, and what is fresh so far */
	int64_t begin_ns;
	uint64_t begin_written, begin_fresh;
	bool more; /* files are left for another job */
	uint64_t before;  /* what an earlier daemon knew to be here; 0: the census has ended */
	uint64_t coming;  /* bytes that recalls have asked S3 for */
	uint64_t told;    /* of the bytes here, in the counter of all volumes */
	uint64_t misses;  /* in a row, this round */
	int64_t rest_ns, rest_until_ns;
	int64_t census_ns;
	int64_t waiting_ns; /* since when writers wait and no file has gone; 0: they do not */
	uint32_t waits;     /* of shm, at the last measuring */
	unsigned slow_us;
	bool full;
	bool measured, gone; /* it was, a file has, since the modules were told how full it is */
	bool unasked; /* the log says that the file system cannot be asked */
};

struct space_file {
	char *path;
	struct ofs_oid oid;
	uint64_t bytes;
	bool there;
};

struct measure_job {
	struct disk_job job;
	struct space *s; /* core only */
	struct ofs_record_io rio;
	int tree_fd;
	struct space_file *files; /* pending ones, SPACE_BATCH at most */
	unsigned file_count;
	/* out */
	int status;
	uint64_t fs_free;
};

struct space *space_new(struct evictor *ev)
{
	struct space *s = talloc_zero(ev, struct space);

	if (s != NULL) {
		s->ev = ev;
		s->fs_free = UINT64_MAX; /* not measured yet */
		if (ev->v->shm != NULL) {
			s->written = atomic_load(&ev->v->shm->cache_at);
			s->before = atomic_load(&ev->v->shm->cache_bytes);
		}
	}
	return s;
}

/* ---- how full it is ---- */

static const struct conf_volume *space_conf(const struct space *s)
{
	return s->ev->v->conf;
}

static uint64_t percent(int64_t of, unsigned p)
{
	return (uint64_t)of / 100 * p;
}

static uint64_t space_here(const struct space *s)
{
	return keep_bytes(s->ev->keep) + s->fresh;
}

/* The same for those who want more: a daemon that has just begun has not seen all yet. */
static uint64_t space_here_most(const struct space *s)
{
	return space_here(s) > s->before ? space_here(s) : s->before;
}

/* What is here, and what has been written since that was last counted. */
static uint64_t space_used(const struct space *s)
{
	return space_here(s) + atomic_load(&s->ev->v->shm->written_bytes) - s->written;
}

/* How much has to go: 0 below the high mark. `until_low`: a round has begun. */
static uint64_t space_excess(const struct space *s, bool until_low)
{
	const struct conf_volume *cv = space_conf(s);
	uint64_t used = space_used(s), leaving = keep_leaving(s->ev->keep), most = 0;
	uint64_t keep_free = (uint64_t)cv->cache_free_bytes;

	if (cv->cache_size_bytes > 0) {
		uint64_t mark = percent(cv->cache_size_bytes,
				until_low ? cv->cache_low : cv->cache_high);

		most = used > mark ? used - mark : 0;
	}
	if (until_low) {
		keep_free += keep_free / 4;
	}
	if (s->fs_free < keep_free && keep_free - s->fs_free > most) {
		most = keep_free - s->fs_free;
	}
	return most > leaving ? most - leaving : 0;
}

/* What is above the high mark, for what S3 does not have yet. */
static uint64_t space_reserve(const struct conf_volume *cv)
{
	return (uint64_t)cv->cache_size_bytes - percent(cv->cache_size_bytes, cv->cache_high);
}

/* What is left of a reserve, in 1/1024; 1024 and more: all of it. */
static uint64_t space_left(uint64_t room, uint64_t reserve)
{
	return reserve == 0 || room >= reserve ? 1024 : room * 1024 / reserve;
}

/* All but 1/16 of the reserve may be written. */
static uint64_t space_room(uint64_t total, uint64_t used, uint64_t reserve)
{
	uint64_t taken = used + reserve / 16;

	return total > taken ? total - taken : 0;
}

/* Up to where the modules may go: their counter was `written` when this was measured. */
static uint64_t space_limit(const struct space *s)
{
	const struct conf_volume *cv = space_conf(s);
	uint64_t room = space_room(s->fs_free, 0, (uint64_t)cv->cache_free_bytes), own, limit;

	if (s->fs_free == UINT64_MAX) {
		room = UINT64_MAX;
	}
	if (cv->cache_size_bytes > 0) {
		own = space_room((uint64_t)cv->cache_size_bytes, space_here_most(s) + s->coming,
				space_reserve(cv));
		room = own < room ? own : room;
	}
	limit = s->written + room;
	return limit < room ? 0 : limit > 0 ? limit : 1;
}

/* Waiting has not helped: nothing has gone for a while. */
static bool space_is_full(struct space *s, uint64_t left)
{
	if (s->full) {
		return left < 512 && !s->gone;
	}
	return s->waiting_ns != 0 &&
			clock_now_ns(s->ev->v->clock) - s->waiting_ns >= SPACE_PATIENCE_NS;
}

static void space_tell(struct space *s)
{
	const struct conf_volume *cv = space_conf(s);
	uint64_t left = space_left(s->fs_free, (uint64_t)cv->cache_free_bytes), used = space_used(s);
	struct ofs_shm *shm = s->ev->v->shm;
	bool full;

	if (cv->cache_size_bytes > 0) {
		uint64_t size = (uint64_t)cv->cache_size_bytes;
		uint64_t own = space_left(used < size ? size - used : 0, space_reserve(cv));

		left = own < left ? own : left;
	}
	full = space_is_full(s, left);
	s->gone = false;
	s->slow_us = left < 512 ? (unsigned)((512 - left) * SPACE_SLOW_MOST_US / 512) : 0;
	atomic_store(&shm->write_slow_us, s->slow_us);
	atomic_store(&shm->write_limit, space_limit(s));
	atomic_store(&shm->write_full, full ? 1 : 0);
	reconcile_hurry(s->ev->v->reconcile, s->slow_us > 0 || s->waiting_ns != 0 || full);
	if (full != s->full) {
		s->waiting_ns = 0;
		s->full = full;
		if (full) {
			stats_add(cache_full, 1);
			log_warning("evict", "volume %s: the cache is full of what S3 does not have yet: "
					"writers are refused until some of it is sent (objectfsctl status, "
					"pending)", s->ev->v->name);
		} else {
			log_notice("evict", "volume %s: the cache has room again", s->ev->v->name);
		}
	}
	/* Between two measurings a file may be both fresh and kept: only what goes is news. */
	if (s->measured || space_here(s) < s->told) {
		stats_add(cache_bytes, (int64_t)(space_here(s) - s->told));
		s->told = space_here(s);
	}
	s->measured = false;
	atomic_store(&shm->cache_bytes, space_here_most(s));
	atomic_store(&shm->cache_at, s->written);
}

bool space_has_room(const struct space *s)
{
	return space_excess(s, false) == 0;
}

json_t *space_json(const struct space *s)
{
	const struct conf_volume *cv = space_conf(s);

	return json_pack("{s:I, s:I, s:I, s:i, s:b}", "size", (json_int_t)cv->cache_size_bytes,
			"used", (json_int_t)space_used(s), "free",
			s->fs_free == UINT64_MAX ? (json_int_t)-1 : (json_int_t)s->fs_free,
			"slow_us_per_mib", (int)s->slow_us, "full", s->full);
}

/* ---- files go ---- */

static void space_pump(struct space *s);

static void space_evicted(void *arg, int status)
{
	struct space *s = arg;

	if (status == 0) {
		s->misses = 0;
		s->rest_ns = s->rest_until_ns = 0;
		s->waiting_ns = 0;
		s->gone = true;
		space_tell(s);
	} else {
		s->misses++;
	}
	if (status == -EAGAIN || status == -EIO) { /* S3, or the disk, has a problem: not now */
		s->misses = UINT64_MAX / 2;
	}
	space_pump(s);
}

static void space_pump(struct space *s)
{
	struct evictor *ev = s->ev;
	struct ofs_oid oid;

	if (s->pumping) {
		return;
	}
	s->pumping = true;
	while (ev->count < EVICT_AT_ONCE && s->misses <= keep_count(ev->keep) &&
			space_excess(s, true) > 0 && keep_pick(ev->keep, &oid)) {
		evict_file(ev, &oid, space_evicted, s);
	}
	s->pumping = false;
	if (ev->count == 0) {
		space_tell(s);
	}
}

static void space_round(struct space *s)
{
	int64_t now = clock_now_ns(s->ev->v->clock);

	if ((space_excess(s, false) == 0 && s->waiting_ns == 0) || now < s->rest_until_ns) {
		return;
	}
	if (s->misses > keep_count(s->ev->keep) && s->ev->count > 0) {
		return; /* the others are not all asked in vain yet */
	}
	if (s->misses > keep_count(s->ev->keep)) {
		/* All are open, dirty or pinned, or S3 is away. Those whose rights or times wait for the
		 * log's next segment need not. */
		metalog_flush(s->ev->v->metalog);
		s->rest_ns = s->rest_ns == 0 || s->waiting_ns != 0 ? NS_PER_S : s->rest_ns * 2;
		s->rest_ns = s->rest_ns > SPACE_REST_MOST_NS ? SPACE_REST_MOST_NS : s->rest_ns;
		s->rest_until_ns = now + s->rest_ns;
		s->misses = 0;
		return;
	}
	space_pump(s);
}

static void space_aged(void *arg, int status)
{
	(void)arg;
	(void)status;
}

/* A part of the table each tick, a few files at once. */
static void space_age(struct space *s)
{
	const struct conf_volume *cv = space_conf(s);
	int64_t age_s = cv->evict_at_close ? -1 : cv->evict_age_ns / NS_PER_S;
	struct evictor *ev = s->ev;
	unsigned look = age_s != 0 ? SPACE_OLD_LOOK : 0;
	struct ofs_oid oid;

	while (ev->count < EVICT_AT_ONCE &&
			keep_old(ev->keep, clock_wall_ns(ev->v->clock) / NS_PER_S - age_s, &look,
					&oid)) {
		evict_file(ev, &oid, space_aged, NULL);
	}
}

/* ---- measuring ---- */

static void measure_run(struct disk_job *job)
{
	struct measure_job *m = (struct measure_job *)job;
	struct statvfs fs;

	if (fstatvfs(m->tree_fd, &fs) != 0) {
		m->status = -errno;
		return;
	}
	m->fs_free = (uint64_t)fs.f_bavail * fs.f_frsize;
	for (unsigned i = 0; i < m->file_count; i++) {
		struct space_file *f = &m->files[i];
		struct ofs_record rec;
		struct stat st;
		int fd = mirror_open_beneath(m->tree_fd, f->path, O_PATH | O_NOFOLLOW);

		if (fd < 0) {
			continue;
		}
		if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && ofs_record_get(&m->rio, fd, &rec) == 0 &&
				(rec.flags & OFS_REC_STUB) == 0) {
			f->oid = rec.oid;
			f->bytes = (uint64_t)st.st_blocks * 512;
			f->there = true;
		}
		close(fd);
	}
}

static void space_later(struct space *s, int64_t delay_ns);

/* Do writers wait for room? */
static void space_waits(struct space *s)
{
	uint32_t waits = atomic_load(&s->ev->v->shm->write_waits);

	if (waits == s->waits) {
		s->waiting_ns = 0;
	} else if (s->waiting_ns == 0) {
		s->waiting_ns = clock_now_ns(s->ev->v->clock);
	}
	s->waits = waits;
}

static void measure_found(struct space *s, const struct space_file *f)
{
	const struct row *row = f->there ? index_get(s->ev->v->index, &f->oid) : NULL;

	if (row != NULL && row->live == ROW_HERE) {
		keep_set(s->ev->keep, &f->oid, f->bytes,
				clock_wall_ns(s->ev->v->clock) / NS_PER_S);
	} else if (f->there) {
		s->begin_fresh += f->bytes;
	}
}

/* All have been measured, or the file system cannot be asked. */
static void space_measured(struct space *s, int status)
{
	int64_t rest_ns = s->slow_us > 0 || s->waiting_ns != 0 ? SPACE_SOON_NS : SPACE_TICK_NS;
	int64_t took_ns = clock_now_ns(s->ev->v->clock) - s->begin_ns;

	s->measuring = false;
	s->before = census_running(s->ev) ? s->before : 0;
	if (status == 0) {
		s->unasked = false;
		s->fresh = s->begin_fresh;
		s->written = s->begin_written;
		s->measured = true;
		space_waits(s);
		space_tell(s);
		space_round(s);
	} else {
		if (!s->unasked) {
			log_warning("evict", "volume %s: the mirror's file system cannot be asked (%s), tried again: until "
					"it can, nothing is evicted; is its disk well?", s->ev->v->name, strerror(-status));
		}
		s->unasked = true;
	}
	space_later(s, rest_ns > took_ns ? rest_ns : took_ns);
}

static void space_measure(struct space *s);

static void measure_done(struct disk_job *job)
{
	struct measure_job *m = (struct measure_job *)job;
	struct space *s = m->s;
	int status = m->status;
	unsigned i;

	for (i = 0; i < m->file_count; i++) {
		measure_found(s, &m->files[i]);
		free(m->files[i].path);
	}
	s->fs_free = status == 0 ? m->fs_free : s->fs_free;
	free(m->files);
	free(m);
	if (status == 0 && s->more) {
		space_measure(s);
	} else {
		space_measured(s, status);
	}
}

static void measure_add(void *arg, const char *path)
{
	struct measure_job *m = arg;

	if (m->files == NULL) {
		m->files = calloc(SPACE_BATCH, sizeof(*m->files));
	}
	if (m->files != NULL && (m->files[m->file_count].path = strdup(path)) != NULL) {
		m->file_count++;
	}
}

/* Of what the modules write, as much as is in the files: the counter first, for a write that lands
 * between the two is then measured, and one that begins there counts twice until the next measuring. */
static uint64_t space_landed(const struct volume *v)
{
	uint64_t written = atomic_load(&v->shm->written_bytes), writing = rings_writing(v->rings);

	return written > writing ? written - writing : 0;
}

/* Some files; the first of a measuring begin it. */
static void space_measure(struct space *s)
{
	struct volume *v = s->ev->v;
	struct measure_job *m = calloc(1, sizeof(*m));
	bool begin = !s->measuring;

	if (m == NULL) {
		s->measuring = false;
		space_later(s, SPACE_TICK_NS);
		return;
	}
	m->job.what = "measure";
	m->job.run = measure_run;
	m->job.done = measure_done;
	m->s = s;
	m->rio = v->rio;
	m->tree_fd = v->tree_fd;
	if (begin) {
		s->begin_ns = clock_now_ns(v->clock);
		s->begin_written = space_landed(v);
		s->begin_fresh = 0;
		s->more = s->begin_written != s->written || s->fresh > 0;
		if (s->more) {
			rings_drain(v->rings); /* a file is hinted before its first bytes */
		}
	}
	if (s->more) {
		s->more = reconcile_pending_files(v->reconcile, begin, SPACE_BATCH, measure_add, m);
	}
	s->measuring = true;
	disk_submit(v->disk, DISK_ANY, &m->job);
}

/* Once a day, or as often as there may be stubs to drop. */
static int64_t space_census_ns(const struct space *s)
{
	int64_t age = space_conf(s)->drop_age_ns;

	return age > 0 && age < SPACE_CENSUS_NS ? age : SPACE_CENSUS_NS;
}

static void space_tick(void *arg)
{
	struct space *s = arg;
	int64_t now = clock_now_ns(s->ev->v->clock);

	s->timer = NULL;
	s->timer_at_ns = 0;
	if (now - s->census_ns > space_census_ns(s)) {
		s->census_ns = now;
		census_start(s->ev);
	}
	space_age(s);
	if (!s->measuring) {
		space_measure(s);
	}
}

static void space_later(struct space *s, int64_t delay_ns)
{
	struct clock *c = s->ev->v->clock;
	int64_t at = clock_now_ns(c) + delay_ns;

	if (!s->started || s->measuring || (s->timer != NULL && s->timer_at_ns <= at)) {
		return;
	}
	TALLOC_FREE(s->timer);
	s->timer = clock_timer_add(c, s, at, space_tick, s);
	s->timer_at_ns = at;
}

void space_start(struct space *s)
{
	s->started = true;
	s->census_ns = clock_now_ns(s->ev->v->clock);
	space_later(s, SPACE_SOON_NS);
}

void space_coming(struct space *s, int64_t bytes)
{
	s->coming += (uint64_t)bytes;
	atomic_store(&s->ev->v->shm->write_limit, space_limit(s));
}

void space_kick(struct space *s)
{
	atomic_store(&s->ev->v->shm->write_limit, space_limit(s));
	if (space_excess(s, false) > 0) {
		space_later(s, SPACE_AT_ONCE_NS);
	}
}

bool space_can_take(struct space *s, uint64_t bytes)
{
	const struct conf_volume *cv = space_conf(s);
	uint64_t size = (uint64_t)cv->cache_size_bytes;
	uint64_t used = space_used(s) - space_here(s) + space_here_most(s) + s->coming;

	if ((size == 0 || used + bytes <= size - space_reserve(cv) / 2) &&
			s->fs_free >= (uint64_t)cv->cache_free_bytes / 2) {
		return true;
	}
	space_later(s, SPACE_AT_ONCE_NS);
	return false;
}
