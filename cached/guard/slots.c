/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what a daemon that dies leaves to the next one of those who wait.
 * Way: the guard's thread writes before the core hears of an event; guard_open reads.
 * Thread: take: the guard's thread alone; give: core, and that thread; adopt, refuse: core,
 *         without thread.
 * Owns: the memory's mapping; the service manager has a descriptor of it.
 * Holds: 1. The number of an event is a descriptor's. While one of an earlier daemon waits, its
 *           number is kept from use here: an answer would else mean either of two. Where that
 *           cannot be, it is refused.
 *        2. Nothing in this memory is believed that could harm: handles are opened in the mirror's
 *           file system, as path only, and recall checks what they are.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOTS_MAGIC 0x3164726175676f00ULL
#define NUMBERS_BEYOND 1024 /* of events that died with the daemon before they were noted */

union slot_handle {
	struct file_handle h;
	uint8_t room[sizeof(struct file_handle) + GUARD_HANDLE_BYTES];
};

int guard_slots_open(struct guard *g, int kept_fd)
{
	struct stat st;
	bool is_new = kept_fd < 0;
	void *p;

	g->kept_fd = is_new ? memfd_create("objectfs-guard", MFD_CLOEXEC) : kept_fd;
	if (g->kept_fd < 0 || (is_new && ftruncate(g->kept_fd, sizeof(*g->kept)) != 0) ||
			fstat(g->kept_fd, &st) != 0) {
		return -errno;
	}
	if (st.st_size != (off_t)sizeof(*g->kept)) {
		return -EBADMSG;
	}
	p = mmap(NULL, sizeof(*g->kept), PROT_READ | PROT_WRITE, MAP_SHARED, g->kept_fd, 0);
	if (p == MAP_FAILED) {
		return -errno;
	}
	g->kept = p;
	if (is_new) {
		g->kept->magic = SLOTS_MAGIC;
	}
	return g->kept->magic == SLOTS_MAGIC ? 0 : -EBADMSG;
}

void guard_slots_close(struct guard *g)
{
	if (g->kept != NULL) {
		munmap(g->kept, sizeof(*g->kept));
		g->kept = NULL;
	}
	if (g->kept_fd >= 0) {
		close(g->kept_fd);
		g->kept_fd = -1;
	}
}

void guard_slots_note(struct guard *g, int fd)
{
	if (fd > atomic_load(&g->kept->highest)) {
		atomic_store(&g->kept->highest, fd);
	}
}

int guard_slot_take(struct guard *g, int fd)
{
	union slot_handle handle = {.h.handle_bytes = GUARD_HANDLE_BYTES};
	struct guard_slot *s;
	unsigned i = 0;
	int mount_id;

	while (i < GUARD_SLOTS && atomic_load(&g->kept->slot[i].number) != 0) {
		i++;
	}
	if (i == GUARD_SLOTS) {
		return -1;
	}
	s = &g->kept->slot[i];
	s->bytes = 0;
	if (name_to_handle_at(fd, "", &handle.h, &mount_id, AT_EMPTY_PATH) == 0) {
		s->type = handle.h.handle_type;
		s->bytes = handle.h.handle_bytes;
		memcpy(s->handle, handle.h.f_handle, s->bytes);
	}
	atomic_store(&s->number, fd + 1);
	return (int)i;
}

void guard_slot_give(struct guard *g, int slot)
{
	if (slot >= 0) {
		atomic_store(&g->kept->slot[slot].number, 0);
	}
}

/* A descriptor of the inode under just this number, or -errno. */
static int slot_open(struct guard *g, const struct guard_slot *s, int number)
{
	union slot_handle handle = {.h.handle_bytes = s->bytes, .h.handle_type = s->type};
	int fd, same;

	if (s->bytes == 0 || s->bytes > GUARD_HANDLE_BYTES) {
		return -ESTALE;
	}
	memcpy(handle.h.f_handle, s->handle, s->bytes);
	fd = open_by_handle_at(g->v->tree_fd, &handle.h, O_PATH | O_CLOEXEC);
	if (fd < 0 || fd == number) {
		return fd < 0 ? -errno : fd;
	}
	same = fcntl(fd, F_DUPFD_CLOEXEC, number);
	close(fd);
	if (same >= 0 && same != number) {
		close(same);
		same = -1;
	}
	return same >= 0 ? same : -EBUSY;
}

static void number_refuse(struct guard *g, int number)
{
	struct fanotify_response r = {.fd = number, .response = FAN_DENY_ERRNO(EIO)};

	(void)!write(g->fd, &r, sizeof(r)); /* mostly nobody is there */
}

void guard_slots_adopt(struct guard *g)
{
	int highest = atomic_load(&g->kept->highest);

	for (unsigned i = 0; i < GUARD_SLOTS; i++) {
		int number = atomic_load(&g->kept->slot[i].number) - 1;
		int fd = number < 0 ? -1 : slot_open(g, &g->kept->slot[i], number);

		if (fd >= 0) {
			guard_wait_add(g, fd, (int)i, 0, true);
		} else if (number >= 0) {
			stats_add(guard_errors, 1);
			log_warning("guard",
					"who waited for an earlier daemon gets an error: %s",
					strerror(-fd));
			guard_slot_give(g, (int)i); /* and its answer below */
		}
	}
	for (int number = 0; number <= highest + NUMBERS_BEYOND; number++) {
		if (!guard_wait_has(g, number)) {
			number_refuse(g, number);
		}
	}
}

void guard_slots_refuse(struct guard *g)
{
	for (unsigned i = 0; i < GUARD_SLOTS; i++) {
		int number = atomic_load(&g->kept->slot[i].number) - 1;

		if (number >= 0) {
			number_refuse(g, number);
			guard_slot_give(g, (int)i);
		}
	}
}
