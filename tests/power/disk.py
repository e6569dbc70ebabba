# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk whose every write is known in its order, and what may be on it after the power was cut; or one that
fails where it is told to.

    disk = Disk(program, directory, "ext4", record=True)    # a loop device on power_disk.c, made and mounted
    disk.mark("flushed 17")                                 # a line in the log, between the writes
    disk.fail("read", *disk.extents(path))                  # the bytes of this file cannot be read any more
    disk.close()

    replay = Replay(Log(disk.log_path), durable, DISK_BYTES["ext4"])    # what was flushed, in a file
    replay.image(position, rng, "some", path)               # what may be on it when the power went there

A disk may lose any part of what it was given since its last flush, sector by sector, and keep the
rest: a write that is later in the log may be there without an earlier one. Two writes of one sector
are never in flight together, so in what is there the later one counts; any subset in the log's order
is every reordering.
"""

import ctypes
import fcntl
import mmap
import os
import shlex
import struct
import subprocess

from procs import Failure, Missing, Proc, run, wait_until

DISK_BYTES = {"ext4": 192 << 20, "xfs": 320 << 20}
MKFS = {
    # nothing is left for the kernel to do later in its own time
    "ext4": ["mkfs.ext4", "-q", "-F", "-I", "1024", "-O", "ea_inode", "-N", "4096", "-J", "size=16",
             "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-K", "-i", "size=1024", "-m", "reflink=1"],
}
OPTIONS = {"ext4": "data=ordered,noatime", "xfs": "noatime,nouuid"}
WRITE, FLUSH, ZERO, MARK = 1, 2, 3, 4
ENTRY = struct.Struct("<IIQQ")
SECTOR = 512
FS_IOC_FIEMAP = 0xC020660B
FIEMAP = struct.Struct("<QQIIII")       # of linux/fiemap.h
EXTENT = struct.Struct("<QQQ2QI3I")
EXTENTS_MOST = 32
CLONE_NEWNS = 0x20000


def missing(program):
    """Why this machine cannot do it, or None."""
    if os.geteuid() != 0:
        return "needs root: it makes block devices and mounts"
    for path, what in (("/dev/fuse", "FUSE"), ("/dev/loop-control", "loop devices")):
        if not os.path.exists(path):
            return f"no {what} here ({path})"
    if not os.path.exists(program):
        return f"{program} is not built: libfuse3-dev, then 'make tests'"
    return None


def leave_namespace():
    """This process mounts for itself and what it starts: others that make a mount namespace meanwhile would
    have a copy of each mount, and keep its disk busy."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        raise Missing("no mount namespace may be made here")
    run(["mount", "--make-rprivate", "/"])


class Disk:
    """One disk, mounted at `directory`/mnt; with record=True a new one whose log begins with mkfs."""

    def __init__(self, program, directory, fs, record=False, spaces=()):
        self.fs, self.spaces = fs, spaces
        self.image, self.log_path = f"{directory}/image", f"{directory}/log"
        self.fuse, self.mount = f"{directory}/fuse", f"{directory}/mnt"
        self.loop = None
        self.mounted = []       # namespaces where it is, as words before a command
        self.served = []        # ... and the file below it
        self.marks = -1
        self.faults = []        # lines for power_disk.c
        os.makedirs(self.fuse, exist_ok=True)
        os.makedirs(self.mount, exist_ok=True)
        if record:
            with open(self.image, "wb") as file:
                file.truncate(DISK_BYTES[fs])
        self.process = Proc(f"{directory}/disk.pid")
        try:
            self._open(program, directory, record)
        except BaseException:
            self.close()
            raise

    def _open(self, program, directory, record):
        self.process.start([program, self.image, self.log_path if record else "-", self.fuse],
                           f"{directory}/disk.out")
        wait_until(lambda: self.process.exited() or os.path.exists(f"{self.fuse}/disk"), 30,
                   "the disk is there", 0.01)
        if self.process.exited():
            with open(f"{directory}/disk.out", encoding="utf-8", errors="replace") as file:
                raise Missing(f"no file system by FUSE here: {file.read().strip()}")
        self.served.append([])
        self.marks = os.open(f"{self.fuse}/mark", os.O_WRONLY)
        try:
            self.loop = run(["losetup", "--find", "--show", "--direct-io=on",
                             f"{self.fuse}/disk"]).strip()
        except Failure as failure:
            raise Missing(f"no loop device: {failure}") from None
        if record:
            run([*MKFS[self.fs], self.loop])
        for inside in ([], *self.spaces):
            run([*inside, "mount", "-t", self.fs, "-o", OPTIONS[self.fs], self.loop, self.mount])
            self.mounted.append(inside)

    def copied(self, bed):
        """The mount namespace that a testbed has made since has it too. As Disk takes `spaces`."""
        inside = shlex.split(bed.env["INSIDE"])
        spaces = [inside] if inside else []
        self.mounted += spaces
        self.served += spaces
        return spaces

    def mark(self, text):
        """Between what was written before and what is written from now on."""
        os.write(self.marks, text.encode())

    def fail(self, what, *ranges):
        """From now on what is "read" or "write" there answers EIO, besides what does so already. ranges:
        (offset, length) on the disk; none: all of it."""
        self.faults += [f"{what} {offset} {length}" for offset, length in ranges or [(0, DISK_BYTES[self.fs])]]
        self._tell_faults()

    def heal(self):
        """Nothing fails any more."""
        self.faults = []
        self._tell_faults()

    def _tell_faults(self):
        with open(f"{self.fuse}/faults", "wb", buffering=0) as file:
            file.write("".join(f"{line}\n" for line in self.faults or [""]).encode())

    @staticmethod
    def extents(path):
        """Where a file's bytes are on the disk: [(offset, length)]. They are written there first."""
        fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
        try:
            os.fsync(fd)
            found = bytearray(FIEMAP.pack(0, 1 << 62, 1, 0, EXTENTS_MOST, 0).ljust(
                FIEMAP.size + EXTENTS_MOST * EXTENT.size, b"\0"))
            fcntl.ioctl(fd, FS_IOC_FIEMAP, found)
            count = FIEMAP.unpack_from(found)[3]
            each = [EXTENT.unpack_from(found, FIEMAP.size + number * EXTENT.size) for number in range(count)]
            return [(physical, length) for _, physical, length, *_ in each]
        finally:
            os.close(fd)

    @staticmethod
    def forget(path):
        """What memory has of a file's bytes: who reads it asks the disk. They are there already."""
        fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    def flushes(self):
        """Does a flush of the file system arrive as one?"""
        with open(f"/sys/block/{os.path.basename(self.loop)}/queue/write_cache",
                  encoding="ascii") as file:
            return file.read().strip() == "write back"

    def close(self):
        """Nobody may have anything open on it. Its image and its log stay."""
        umount(self.mounted, self.mount)
        if self.loop:
            run(["losetup", "-d", self.loop])
            self.loop = None
        if self.marks >= 0:
            os.close(self.marks)
            self.marks = -1
        # the loop driver lets go of the file a moment after losetup has said so
        umount(self.served, self.fuse)
        wait_until(self.process.exited, 60, "the disk ends", 0.01)


def umount(spaces, path):
    while spaces:
        wait_until(lambda: subprocess.run(
            [*spaces[-1], "umount", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False).returncode == 0, 60, f"{path} is unmounted")
        spaces.pop()


class Log:
    """Entries of a log: [(kind, offset, length, where its bytes are)]."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self.entries = []
        at = 0
        while at < len(self.bytes):
            kind, _, offset, length = ENTRY.unpack_from(self.bytes, at)
            at += ENTRY.size
            self.entries.append((kind, offset, length, at))
            if kind in (WRITE, MARK):
                at += length

    def pending(self, position):
        """Is there anything that was written and not flushed?"""
        for kind, *_ in reversed(self.entries[:position]):
            if kind != MARK:
                return kind != FLUSH
        return False

    def data(self, entry):
        return self.bytes[entry[3]:entry[3] + entry[2]]


class Replay:
    """Images of one log, position after position."""

    def __init__(self, log, path, size):
        self.log, self.path = log, path
        self.position = 0
        self.pending = []   # since the last flush
        with open(path, "wb") as file:
            file.truncate(size)
        self.fd = os.open(path, os.O_RDWR)

    def close(self):
        os.close(self.fd)
        os.unlink(self.path)

    def _advance(self, position):
        if position < self.position:
            raise Failure("a log is replayed forwards")
        for entry in self.log.entries[self.position:position]:
            if entry[0] in (WRITE, ZERO):
                self.pending.append(entry)
            elif entry[0] == FLUSH:
                for done in self.pending:
                    self._apply(self.fd, done, None, 0)
                self.pending = []
        self.position = position

    def _apply(self, fd, entry, rng, chance):
        """All of it; with rng each sector by chance."""
        kind, offset, length, _ = entry
        if rng is None:
            pieces = [(0, length)]
        else:
            pieces = [(at, min(SECTOR, length - at)) for at in range(0, length, SECTOR)
                      if rng.random() < chance]
        for at, size in pieces:
            if kind == ZERO:
                run_zero(fd, offset + at, size)
            else:
                where = entry[3] + at
                os.pwrite(fd, self.log.bytes[where:where + size], offset + at)

    def image(self, position, rng, how, path):
        """What the disk may hold when the power goes at `position`, which only grows. how: none, all,
        prefix, some (whole writes), torn (sectors). Returns (writes that could be lost, kept)."""
        self._advance(position)
        run(["cp", "--sparse=always", self.path, path])
        chance = rng.choice((0.1, 0.5, 0.9))
        kept = self.pending if how in ("all", "torn") else [] if how == "none" else \
            self.pending[:rng.randrange(len(self.pending) + 1)] if how == "prefix" else \
            [entry for entry in self.pending if rng.random() < chance]
        fd = os.open(path, os.O_RDWR)
        try:
            for entry in kept:
                # a discard may be of gigabytes: it is whole or not there
                torn = how == "torn" and entry[0] == WRITE
                self._apply(fd, entry, rng if torn else None, chance)
        finally:
            os.close(fd)
        return len(self.pending), len(kept)


def run_zero(fd, offset, size):
    """A hole; the file keeps its size."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, 3, ctypes.c_long(offset), ctypes.c_long(size)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")
