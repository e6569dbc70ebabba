/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Any bytes as head and first slots of a ring file, once as they are and once with the checksum of
 * slot 1 made right: the daemon's reader, then a module taking the ring over.
 */
/* Covers: shared/ring.c */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "shared/ring.h"

#define HEAD_TAKEN 192u /* bytes of the input that go to the head, the rest to the slots */
#define SLOTS_TAKEN 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sound(const struct ofs_hint *h)
{
	if (h->kind == 0 || h->kind >= OFS_HINT_KIND_MAX ||
			strnlen(h->name, sizeof(h->name)) == sizeof(h->name) ||
			strnlen(h->old_name, sizeof(h->old_name)) == sizeof(h->old_name) ||
			strchr(h->name, '/') != NULL || strchr(h->old_name, '/') != NULL) {
		abort();
	}
}

static void read_all(int fd)
{
	struct ofs_ring_head head = {0};
	struct ofs_hint hint;

	(void)ofs_ring_read_head(fd, &head);
	for (uint64_t seq = 0; seq <= SLOTS_TAKEN; seq++) {
		if (ofs_ring_read(fd, seq, &hint) == 1) {
			sound(&hint);
		}
	}
	if (ofs_ring_read(fd, head.tail + 1, &hint) == 1) {
		sound(&hint);
	}
}

static void take_over(int fd)
{
	struct ofs_hint hint = {.kind = OFS_HINT_CREATED, .name = "n"};
	struct ofs_ring_writer w;
	int own = dup(fd);

	if (ofs_ring_writer_init(&w, own) != 0) {
		close(own);
		return;
	}
	(void)ofs_ring_write(&w, &hint, 0);
	ofs_ring_writer_fini(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[OFS_RING_HEAD_BYTES + SLOTS_TAKEN * OFS_RING_SLOT_BYTES];
	uint8_t *slot = file + OFS_RING_HEAD_BYTES;
	size_t head = size < HEAD_TAKEN ? size : HEAD_TAKEN;
	size_t rest = size - head;
	uint32_t crc;
	int fd;

	fd = memfd_create("ring", MFD_CLOEXEC);
	if (fd < 0) {
		return 0;
	}
	memset(file, 0, sizeof(file));
	memcpy(file, data, head);
	memcpy(slot, data + head, rest < sizeof(file) - OFS_RING_HEAD_BYTES
					? rest
					: sizeof(file) - OFS_RING_HEAD_BYTES);
	if (pwrite(fd, file, sizeof(file), 0) != (ssize_t)sizeof(file)) {
		abort();
	}
	read_all(fd); /* short: a truncated ring */
	if (ftruncate(fd, OFS_RING_HEAD_BYTES + OFS_RING_SLOTS * OFS_RING_SLOT_BYTES) != 0) {
		abort();
	}
	read_all(fd);
	memcpy(slot, "\x01\0\0\0\0\0\0", 8);
	crc = ofs_crc32c(ofs_crc32c(0, slot, 8), slot + 12, OFS_RING_SLOT_BYTES - 12);
	memcpy(slot + 8, &crc, sizeof(crc));
	if (pwrite(fd, slot, OFS_RING_SLOT_BYTES, OFS_RING_HEAD_BYTES) < 0) {
		abort();
	}
	read_all(fd);
	take_over(fd);
	read_all(fd);
	close(fd);
	return 0;
}
