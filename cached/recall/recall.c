/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: who reads which marked file: recalls by inode, readers by open_id, the shared extent map.
 * Way: OPEN, FETCH, RELEASE, DISCARD from the client through core; recall_go.c decides what is
 *      next, recall_fetch.c brings the bytes, recall_object.c looks at the object, recall_file.c
 *      does what must be done to the inode.
 * Thread: core.
 * Owns: one descriptor and one map per recalled inode; readers.
 * Holds: 1. one recall, one descriptor per inode (a second one would block our own leases);
 *        2. a recall is freed only when no GET, HEAD or job uses it;
 *        3. every callback comes exactly once, also after RELEASE.
 *
 *   FILLING -all here-> VERIFYING -> FINISHING -> PLAIN          (recall_go)
 *      |                    \-other bytes-> FILLING, at last DEAD
 *      |  -412-> CHECKING -same size, nothing here yet-> FILLING, else DEAD
 *      |  -404-> DEAD          -discard-> DISCARDING -> PLAIN
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "recall_private.h"
#include "../reconcile/reconcile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct recalls *recalls_new(TALLOC_CTX *ctx, struct volume *v)
{
	struct recalls *rs = talloc_zero(ctx, struct recalls);

	rs->v = v;
	rs->next_id = 1;
	rs->turn_last = &rs->turn;
	return rs;
}

/* ---- the extent map ---- */

bool recall_has(const struct recall *r, uint64_t extent)
{
	return (atomic_load_explicit(&r->map[extent / 8], memory_order_relaxed) >>
			(extent % 8)) & 1;
}

bool recall_came(const struct recall *r, uint64_t extent)
{
	return (r->come[extent / 8] >> (extent % 8)) & 1;
}

void recall_bits_clear(struct recall *r)
{
	size_t i;

	for (i = 0; i < r->map_bytes; i++) {
		atomic_store_explicit(&r->map[i], 0, memory_order_release);
	}
	memset(r->come, 0, r->map_bytes);
	r->filled = 0;
}

void recall_give_all(struct recall *r)
{
	size_t i;

	for (i = 0; i < r->map_bytes; i++) {
		atomic_store_explicit(&r->map[i], 0xff, memory_order_release);
	}
	memset(r->come, 0xff, r->map_bytes);
	r->filled = r->extents;
}

/* The last one is held back in any case: nobody reads to the end of what is wrong. */
void recall_take(struct recall *r, uint64_t extent)
{
	uint8_t bit = (uint8_t)(1u << (extent % 8));

	r->come[extent / 8] |= bit;
	r->filled++;
	if (!r->verified && (r->whole_first || r->filled == r->extents)) {
		return;
	}
	atomic_fetch_or_explicit(&r->map[extent / 8], bit, memory_order_release);
}

static int recall_map_new(struct recall *r)
{
	void *p;

	r->map_bytes = r->extents / 8 + 1;
	r->map_fd = memfd_create("objectfs-extents", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (r->map_fd < 0 || ftruncate(r->map_fd, (off_t)r->map_bytes) != 0) {
		return -errno;
	}
	fcntl(r->map_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
	p = mmap(NULL, r->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->map_fd, 0);
	if (p == MAP_FAILED) {
		return -errno;
	}
	r->map = p;
	r->busy = talloc_zero_array(r, uint8_t, r->map_bytes);
	r->come = talloc_zero_array(r, uint8_t, r->map_bytes);
	return 0;
}

/* ---- recalls ---- */

static int recall_destructor(struct recall *r)
{
	recall_fetch_leave(r);
	if (r->prev != NULL) {
		*r->prev = r->next;
		if (r->next != NULL) {
			r->next->prev = r->prev;
		}
	}
	if (r->map != NULL) {
		munmap((void *)r->map, r->map_bytes);
	}
	if (r->map_fd >= 0) {
		close(r->map_fd);
	}
	if (r->fd >= 0) {
		close(r->fd);
	}
	return 0;
}

static struct recall *recall_new(struct recalls *rs, uint64_t ino, const struct ofs_oid *oid,
		int fd, uint64_t size)
{
	struct recall *r = talloc_zero(rs, struct recall);

	r->rs = rs;
	r->ino = ino;
	r->oid = *oid;
	r->fd = fd;
	r->map_fd = -1;
	r->size = size;
	r->since_ns = clock_now_ns(rs->v->clock);
	r->extents = (size + RECALL_EXTENT_BYTES - 1) >> RECALL_EXTENT_SHIFT;
	talloc_set_destructor(r, recall_destructor);
	if (recall_map_new(r) != 0) {
		talloc_free(r);
		return NULL;
	}
	r->next = rs->list;
	r->prev = &rs->list;
	if (r->next != NULL) {
		r->next->prev = &r->next;
	}
	rs->list = r;
	return r;
}

/* Those that can still be joined. */
static struct recall *recall_find(struct recalls *rs, uint64_t ino)
{
	struct recall *r;

	for (r = rs->list; r != NULL; r = r->next) {
		if (r->ino == ino && r->state != RECALL_DEAD && r->state != RECALL_PLAIN) {
			return r;
		}
	}
	return NULL;
}

bool recall_busy(struct recalls *rs, uint64_t ino)
{
	struct recall *r;

	for (r = rs->list; r != NULL; r = r->next) {
		if (r->ino == ino && r->fd >= 0) {
			return true;
		}
	}
	return false;
}

uint64_t recall_bytes_here(struct recalls *rs, uint64_t ino)
{
	const struct recall *r = recall_find(rs, ino);

	if (r == NULL || r->filled == 0) {
		return 0;
	}
	return r->filled == r->extents ? r->size : r->filled << RECALL_EXTENT_SHIFT;
}

void recall_hold(struct recall *r)
{
	r->held++;
}

void recall_unhold(struct recall *r)
{
	if (--r->held == 0) {
		recall_settle(r);
	}
}

/*
 * An open job that read the record before this moment still believes in a stub: a recall begun on
 * its word would write old bytes over what clients may have changed by then.
 */
void recall_became_plain(struct recall *r)
{
	struct recalls *rs = r->rs;

	r->state = RECALL_PLAIN;
	if (rs->opening == 0) {
		return;
	}
	rs->plain = talloc_realloc(rs, rs->plain, uint64_t, rs->plain_count + 1);
	rs->plain[rs->plain_count++] = r->ino;
}

static bool open_is_outdated(const struct recalls *rs, uint64_t ino)
{
	unsigned i;

	for (i = 0; i < rs->plain_count; i++) {
		if (rs->plain[i] == ino) {
			return true;
		}
	}
	return false;
}

static void recall_expired(void *arg)
{
	struct recall *r = arg;

	r->timer = NULL;
	if (r->readers == NULL && r->waits == NULL && r->running == 0 && !r->job_running &&
			!r->head_running && !r->asking) {
		talloc_free(r);
	}
}

void recall_forget(struct recalls *rs, uint64_t ino)
{
	struct recall *r = recall_find(rs, ino);

	if (r != NULL && r->timer != NULL && r->held == 0) {
		TALLOC_FREE(r->timer);
		recall_expired(r);
	}
}

void recall_settle(struct recall *r)
{
	struct clock *c = r->rs->v->clock;

	if (r->held > 0 || r->running > 0 || r->job_running || r->head_running || r->asking) {
		return;
	}
	if (r->state == RECALL_DEAD && r->fd >= 0) {
		close(r->fd); /* the next recall of this inode has its own */
		r->fd = -1;
	}
	if (r->state == RECALL_PLAIN && r->fd >= 0) {
		close(r->fd); /* nothing is left to do with it; leases may be taken again */
		r->fd = -1;
	}
	if (r->readers != NULL || r->waits != NULL) {
		return;
	}
	if (r->state != RECALL_FILLING || r->filled == 0) {
		talloc_free(r);
		return;
	}
	/* A reader often comes back; later the bytes are simply fetched again. */
	talloc_free(r->timer);
	r->timer = clock_timer_add(c, r, clock_now_ns(c) + RECALL_KEEP_NS, recall_expired, r);
}

/* ---- readers ---- */

static struct recall_reader *reader_find(struct recalls *rs, uint64_t open_id)
{
	struct recall_reader *x = rs->hash[open_id % RECALL_HASH];

	while (x != NULL && x->open_id != open_id) {
		x = x->hash_next;
	}
	return x;
}

static struct recall_reader *reader_new(struct recall *r, uint64_t client)
{
	struct recalls *rs = r->rs;
	struct recall_reader *x = talloc_zero(r, struct recall_reader);
	struct recall_reader **slot;

	x->client = recall_client_get(rs, client);
	x->r = r;
	x->open_id = rs->next_id++;
	x->next = r->readers;
	r->readers = x;
	slot = &rs->hash[x->open_id % RECALL_HASH];
	x->hash_next = *slot;
	*slot = x;
	TALLOC_FREE(r->timer);
	return x;
}

static void reader_free(struct recall_reader *x)
{
	struct recall_reader **pp = &x->r->rs->hash[x->open_id % RECALL_HASH];

	while (*pp != x) {
		pp = &(*pp)->hash_next;
	}
	*pp = x->hash_next;
	for (pp = &x->r->readers; *pp != x; pp = &(*pp)->next) {
	}
	*pp = x->next;
	if (x->r->ahead_by == x) {
		x->r->ahead_by = NULL;
	}
	recall_client_put(x->client);
	talloc_free(x);
}

void recall_release(struct recalls *rs, uint64_t open_id)
{
	struct recall_reader *x = reader_find(rs, open_id);
	struct recall *r;
	struct ofs_oid oid;
	bool last;

	if (x == NULL) {
		return;
	}
	r = x->r;
	oid = r->oid;
	last = r->readers == x && x->next == NULL && r->state == RECALL_PLAIN;
	reader_free(x);
	recall_settle(r);
	if (last) {
		evict_closed(rs->v->evictor, &oid);
	}
}

uint64_t recall_here(struct recalls *rs, uint64_t open_id)
{
	const struct recall_reader *x = reader_find(rs, open_id);

	return x != NULL ? x->r->filled << RECALL_EXTENT_SHIFT : 0;
}

/* ---- open ---- */

struct open_ask {
	uint64_t request_id, client;
	void (*opened)(int status, const char *message, uint64_t open_id, uint64_t size,
			int map_fd, void *arg);
	void *arg;
};

static const char *open_message(int status)
{
	switch (status) {
	case -EIO:
		return "marked as a stub but without a valid record: a copy made below the share, or "
		       "damage; it is left alone";
	case -EAGAIN:
		return "the file is leased and was not given free";
	default:
		return "the file cannot be opened for its recall";
	}
}

/* Join the recall of the inode, or begin one; fd is taken over. */
static void open_attach(struct recall_file_job *j, struct open_ask *ask)
{
	struct recall *r = recall_find(j->rs, j->ino);
	struct recall_reader *x;
	char path[32];
	int map;

	if (r != NULL) {
		close(j->fd);
	} else {
		r = recall_new(j->rs, j->ino, &j->rec.oid, j->fd, j->rec.size);
	}
	if (r == NULL) {
		ask->opened(-EMFILE, "out of descriptors or memory", 0, 0, -1, ask->arg);
		return;
	}
	x = reader_new(r, ask->client);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", r->map_fd);
	map = open(path, O_RDONLY | O_CLOEXEC);
	if (map < 0) {
		map = fcntl(r->map_fd, F_DUPFD_CLOEXEC, 0);
	}
	if (map < 0) {
		reader_free(x);
		recall_settle(r);
		ask->opened(-EMFILE, "out of descriptors", 0, 0, -1, ask->arg);
		return;
	}
	stats_add(recalls, 1);
	evict_note_use(j->rs->v->evictor, &j->rec.oid);
	ask->opened(0, NULL, x->open_id, r->size, map, ask->arg);
}

static void open_again(void *arg)
{
	recall_file_open(arg);
}

static void open_done(struct recall_file_job *j)
{
	struct open_ask *ask = j->arg;
	struct recalls *rs = j->rs;
	bool outdated = open_is_outdated(rs, j->ino);

	if (!j->plain && (evict_wait(rs->v->evictor, j->ino, open_again, j) ||
				mirror_change_wait(rs->v->mirror, j->ino, open_again, j))) {
		return; /* looked at anew once its bytes are out, or are not */
	}
	if (--rs->opening == 0) {
		TALLOC_FREE(rs->plain);
		rs->plain_count = 0;
	}
	if (j->status == 0 && !j->plain && outdated) {
		rs->opening++;
		recall_file_open(j);
		return;
	}
	if (j->status != 0) {
		close(j->fd);
		log_line(LOG_LVL_WARNING, "recall", ask->request_id, "inode %llu: %s (%s)",
				(unsigned long long)j->ino, open_message(j->status),
				strerror(-j->status));
		ask->opened(j->status, open_message(j->status), 0, 0, -1, ask->arg);
	} else if (j->plain) {
		close(j->fd);
		ask->opened(0, NULL, 0, (uint64_t)j->size, -1, ask->arg);
	} else {
		open_attach(j, ask);
	}
	free(ask);
	free(j);
}

void recall_open(struct recalls *rs, uint64_t request_id, uint64_t client, int fd,
		void (*opened)(int status, const char *message, uint64_t open_id, uint64_t size,
				int map_fd, void *arg),
		void *arg)
{
	struct recall_file_job *j = recall_file_job_new(rs, NULL);
	struct open_ask *ask = calloc(1, sizeof(*ask));

	ask->request_id = request_id;
	ask->client = client;
	ask->opened = opened;
	ask->arg = arg;
	j->fd = fd;
	j->done = open_done;
	j->arg = ask;
	rs->opening++;
	recall_file_open(j);
}

/* ---- fetch ---- */

/* One that goes on where the last one ended gets more each time. */
static void reader_ahead(struct recall_reader *x, uint64_t first, uint64_t end)
{
	struct recall *r = x->r;
	uint64_t to;

	if (x->seq_next != 0 && first + 1 == x->seq_next && end == x->seq_next) {
		return; /* more of the same extent */
	}
	if (x->seq_next != 0 && first >= x->seq_next && first <= x->ahead_end) {
		x->window = x->window ? x->window * 2 : 1;
		x->window = x->window > RECALL_AHEAD_MAX ? RECALL_AHEAD_MAX : x->window;
	} else {
		x->window = 0; /* the head of a file is all that many want */
	}
	x->seq_next = end;
	x->ahead_end = end;
	if (x->window == 0) {
		return;
	}
	to = end + x->window < r->extents ? end + x->window : r->extents;
	x->ahead_end = to;
	if (r->ahead_by == NULL || r->ahead_at >= r->ahead_end || end < r->ahead_at) {
		r->ahead_at = end;
	}
	r->ahead_by = x;
	r->ahead_end = to;
}

void recall_fetch(struct recalls *rs, uint64_t request_id, uint64_t open_id, uint64_t offset,
		uint64_t length, bool whole, recall_done done, void *arg)
{
	struct recall_reader *x = reader_find(rs, open_id);
	struct recall_wait *w, **pp;
	struct recall *r;
	uint64_t first, end;

	if (x == NULL) {
		done(-EBADF, "no such open file", arg);
		return;
	}
	r = x->r;
	if (r->state == RECALL_DEAD) {
		done(r->dead_status, r->dead_message, arg);
		return;
	}
	if (r->state == RECALL_PLAIN || (!whole && (length == 0 || offset >= r->size))) {
		done(0, NULL, arg);
		return;
	}
	r->whole_first = r->whole_first || (r->filled == 0 && r->size <= RECALL_WHOLE_BYTES && recall_may_verify(r));
	x->whole = x->whole || whole;
	if (whole || r->whole_first) {
		first = 0;
		end = r->extents;
	} else {
		if (length > r->size - offset) {
			length = r->size - offset;
		}
		first = offset >> RECALL_EXTENT_SHIFT;
		end = ((offset + length - 1) >> RECALL_EXTENT_SHIFT) + 1;
	}
	w = talloc_zero(r, struct recall_wait);
	w->client = recall_client_again(x->client);
	w->since_ns = clock_now_ns(rs->v->clock);
	w->request_id = request_id;
	w->open_id = open_id;
	w->first = w->at = w->here = first;
	w->end = end;
	w->whole = whole;
	w->done = done;
	w->arg = arg;
	for (pp = &r->waits; *pp != NULL; pp = &(*pp)->next) {
	}
	*pp = w;
	if (!whole && !r->whole_first) {
		reader_ahead(x, first, end);
	}
	recall_go(r);
}

/* ---- discard ---- */

/* Empty and dirty from now on, whether or not the client lives to say so. */
static void discard_tell(struct volume *v, const struct ofs_oid *oid)
{
	struct row *row = index_get(v->index, oid);

	if (v->reconcile != NULL && row != NULL) {
		reconcile_touch(v->reconcile, row);
	} else if (v->reconcile != NULL) {
		reconcile_rescan(v->reconcile); /* its directory is marked */
	}
}

static void discard_done(struct recall_file_job *j)
{
	struct recall *r = j->r;
	recall_done done = r->discarded;
	void *arg = r->discarded_arg;
	int status = j->status;

	free(j);
	r->discarded = NULL;
	recall_hold(r);
	if (status == 0) {
		discard_tell(r->rs->v, &r->oid);
		evict_note_gone(r->rs->v->evictor, &r->oid);
		/* Others who read it find the end of the file. */
		recall_give_all(r);
		recall_became_plain(r);
		done(0, NULL, arg);
	} else if (status == -ETIMEDOUT) { /* a lock: nothing has happened */
		r->state = RECALL_FILLING;
		done(status, "the file's record is locked", arg);
	} else {
		recall_kill(r, status, "the file cannot be emptied");
		done(status, "the file cannot be emptied", arg);
	}
	recall_go(r);
	recall_unhold(r);
}

bool recall_is_discarding(const struct recalls *rs)
{
	const struct recall *r;

	for (r = rs->list; r != NULL; r = r->next) {
		if (r->state == RECALL_DISCARDING) {
			return true;
		}
	}
	return false;
}

/* From recall_go, once no GET writes into the file. */
void recall_discard_now(struct recall *r)
{
	struct recall_file_job *j = recall_file_job_new(r->rs, r);

	j->done = discard_done;
	recall_bits_clear(r); /* should we die within it, nobody takes its hole for data */
	recall_file_discard(j);
}

void recall_discard(struct recalls *rs, uint64_t request_id, uint64_t open_id, recall_done done,
		void *arg)
{
	struct recall_reader *x = reader_find(rs, open_id);
	struct recall *r;

	(void)request_id;
	if (x == NULL) {
		done(-EBADF, "no such open file", arg);
		return;
	}
	r = x->r;
	if (r->state == RECALL_PLAIN) {
		done(0, NULL, arg); /* the caller truncates it as any other */
		return;
	}
	if (r->state == RECALL_DEAD) {
		done(r->dead_status, r->dead_message, arg);
		return;
	}
	if (r->discarded != NULL || r->state != RECALL_FILLING) {
		/* It becomes plain anyway, or is being looked at: wait for all of it. */
		recall_fetch(rs, request_id, open_id, 0, 0, true, done, arg);
		return;
	}
	r->discarded = done;
	r->discarded_arg = arg;
	r->state = RECALL_DISCARDING;
	recall_cancel_gets(r);
	recall_go(r);
}
