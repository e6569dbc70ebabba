#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""The local disk fails under a working share, in each way it can: some bytes cannot be read, or not be written; no
room, no inodes, and not by the daemon's own reckoning; in the end nothing can be written at all.

Each time: a client gets an error before an acknowledgement, never wrong bytes; what was acknowledged is kept, and is
in S3 once the disk is well; what the disk may have lost is never sent; the daemon lives, says which and what to do,
and not again and again. The disk is a loop device on tests/power/power_disk.c.
"""

import os
import random
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../power"))

# pylint: disable=wrong-import-position
from disk import Disk, leave_namespace, missing
from procs import Missing
from smb import SmbError, Testbed, bed_path, check, refused, skip, step, wait_until
import smb2

PROGRAM = os.path.join(os.environ.get("BUILD", "build"), "tests/power_disk")
SIZE = 300000
BLOCK = 4096
REFUSALS = {"NT_STATUS_IO_DEVICE_ERROR", "NT_STATUS_MEDIA_WRITE_PROTECTED", "NT_STATUS_UNEXPECTED_IO_ERROR"}
LINES_MOST = 8      # of the log's warnings and errors in one outage, however long it is, and none twice


def noise(seed):
    return random.Random(seed).randbytes(SIZE)


class Rig:
    """A share on a disk that is told to fail, and what is to be in it: files, acknowledged."""

    def __init__(self):
        self.directory = os.path.join(os.path.dirname(bed_path()), "sick")
        os.makedirs(self.directory, 0o755)
        os.chmod(self.directory, 0o755)
        self.disk = Disk(PROGRAM, self.directory, "ext4", record=True)
        self.files, self.bed = {}, None
        try:
            os.chmod(self.disk.mount, 0o755)
            self.bed = Testbed(store="s3sim", disk=self.disk.mount, set=["settle time=100ms", "cache free=1M"])
        except BaseException:
            self.close()
            raise
        self.spaces = self.disk.copied(self.bed)
        self.seen = 0

    def close(self):
        if self.bed is not None:
            self.disk.heal()
            for part in ("smbd", "cached"):
                self.bed.stop(part, kill=True)
        try:
            self.disk.close()
        finally:
            if self.bed is not None:
                self.bed.down()

    def again(self):
        """The machine is started again, with its disk repaired."""
        for part in ("smbd", "cached"):
            self.bed.stop(part, kill=True)
        self.disk.close()
        check(subprocess.run(["e2fsck", "-p", self.disk.image], check=False).returncode in (0, 1), "e2fsck")
        self.disk = Disk(PROGRAM, self.directory, "ext4", spaces=self.spaces)
        self.bed.start("cached")
        self.bed.start("smbd")

    def path(self, name):
        return os.path.join(self.bed.mirror, name)

    def put(self, client, name, seed):
        self.files[name] = noise(seed)
        client.put(name, self.files[name])

    def findings(self):
        return {item["id"]: item["reason"] for item in self.bed.ctl_json("health")["components"] if "id" in item}

    def stored(self, name):
        key = self.bed.S3_PREFIX + name
        return self.bed.s3().get_object(Bucket=self.bed.S3_BUCKET, Key=key)["Body"].read()

    def tried(self, name):
        """The daemon tries to send it again and again."""
        def failures():
            items = [item for item in self.bed.ctl_json("pending")["pending"] if item["path"] == name]
            check(items, f"{name} does not wait any more")
            return items[0]["failures"]

        wait_until(lambda: failures() > 2, 60, f"{name} is tried again, and the more rarely")

    def told(self, what):
        """What the log has for an administrator since the last call is not much, and is said once."""
        lines = [line for line in self.bed.log()[self.seen:].splitlines() if " WARNING " in line or " ERROR " in line]
        self.seen = len(self.bed.log())
        said = [re.sub(r" \(failure \d+\)", "", line.split(" ", 1)[1]) for line in lines]
        check(len(said) == len(set(said)) <= LINES_MOST, f"{what}: in the log:\n  " + "\n  ".join(lines[:30]))

    def whole(self, what):
        """All that was acknowledged is on the share, and in S3; nothing else is."""
        self.bed.flush()
        with self.bed.client() as client:
            for name, data in self.files.items():
                check(client.get(name) == data, f"{what}: {name} has other bytes on the share")
                check(self.stored(name) == data, f"{what}: {name} has other bytes in S3")
        keys = {key for key in self.bed.keys() if not key.endswith("/")}
        check(keys == set(self.files), f"{what}: in S3 are {sorted(keys ^ set(self.files))} too, or not")
        check(not {"disk-fails", "mirror-full", "mirror-bad"} & set(self.findings()), f"{what}: {self.findings()}")


def unreadable_clean(rig):
    step("bytes of a file that S3 has cannot be read")
    rig.bed.sim().fault("PutObject", "*clean", "stall", ms=1, count=-1)
    rig.disk.fail("read", *rig.disk.extents(rig.path("clean")))
    rig.disk.forget(rig.path("clean"))
    with rig.bed.client() as client:
        refused("a read of it", lambda: client.get("clean"), *REFUSALS)
        check(client.get("other") == rig.files["other"], "another file")
        rig.bed.ctl("evict", rig.path("clean"))
        check(client.get("clean") == rig.files["clean"], "from S3: other bytes")
    rig.disk.heal()
    check(rig.bed.sim().hits() == [0], "it was sent")
    rig.bed.sim().clear()
    rig.whole("unreadable, clean")


def unreadable_dirty(rig):
    step("... of a file that S3 does not have")
    with rig.bed.client() as client:
        with rig.bed.unheard():
            rig.put(client, "dirty", "dirty")
            rig.disk.fail("read", *rig.disk.extents(rig.path("dirty")))
            rig.disk.forget(rig.path("dirty"))
        wait_until(lambda: rig.findings().get("disk-fails") == "dirty", 60, "it is told with its name")
        rig.put(client, "beside", "beside")
        wait_until(lambda: "beside" in rig.bed.keys(), 60, "other files are sent")
        rig.tried("dirty")
        check("dirty" not in rig.bed.keys(), "it was sent")
        rig.told("unreadable")
    rig.disk.heal()
    rig.whole("unreadable, dirty")


def unwritable(rig):
    step("bytes that were acknowledged cannot be written")
    name = "clean"
    before = rig.files[name]
    with rig.bed.client() as client:
        bad = rig.disk.extents(rig.path(name))
        with rig.bed.unheard():
            file = client.create(name)
            client.write(file, BLOCK, b"new" * 1000)
            client.close(file)
            rig.disk.fail("write", *bad)
        wait_until(lambda: rig.findings().get("disk-fails") == name, 60, "it is told")
        # what the kernel does when it needs the memory; and the disk is well again
        rig.disk.heal()
        rig.disk.forget(rig.path(name))
        rig.tried(name)
        check(rig.stored(name) == before, "what the disk had lost was sent")
        rig.told("unwritable")
        rig.put(client, name, "written again")
    rig.whole("unwritable")


def fill(rig):
    """Not a block is left, for root neither."""
    filler = os.path.join(rig.disk.mount, "filler")
    with open(filler, "wb") as file:
        fs = os.statvfs(filler)
        size = fs.f_bfree * fs.f_frsize
        while size >= fs.f_frsize:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
            except OSError:
                size //= 2
    return filler


def full(rig):
    step("the disk is full before the daemon knows")
    said = {"NT_STATUS_DISK_FULL"}
    with rig.bed.client() as client:
        with rig.bed.unheard():
            rig.files["growing"] = noise("growing")[:5 * BLOCK]
            file = client.create("growing", disposition=smb2.FILE_CREATE)
            client.write(file, 0, rig.files["growing"])
            client.flush(file)
            filler = fill(rig)
            refused("more of it", lambda: client.write(file, 5 * BLOCK, noise("more")), *said)
            client.close(file)
            refused("a new file", lambda: client.put("none", noise("none")), *said)
            # within what it has: the disk has room for that, or the client is told
            file = client.create("other")
            try:
                client.write(file, 0, b"changed")
                rig.files["other"] = b"changed" + rig.files["other"][7:]
            except SmbError as error:
                check(error.name in said, f"within a file: {error.name}")
            client.close(file)
        wait_until(lambda: "mirror-full" in rig.findings(), 60, "it is told")
        check(client.get("clean") == rig.files["clean"], "reading what is here")
        rig.told("full")
        os.unlink(filler)
        # of the refused one an empty file may be there, as on any disk
        for name, *_ in client.list(""):
            if name == "none":
                client.unlink(name)
    rig.whole("full")


def no_inodes(rig):
    step("no inode is left")
    where = os.path.join(rig.disk.mount, "many")
    os.mkdir(where)
    count = 0
    try:
        while True:
            os.close(os.open(f"{where}/{count}", os.O_CREAT | os.O_WRONLY))
            count += 1
    except OSError:
        pass
    rig.bed.s3().put_object(Bucket=rig.bed.S3_BUCKET, Key=rig.bed.S3_PREFIX + "d/theirs", Body=noise("theirs"))
    with rig.bed.client() as client:
        refused("a new file", lambda: client.put("one more", b"1"), "NT_STATUS_DISK_FULL")
        wait_until(lambda: "no inodes" in rig.findings().get("mirror-full", ""), 60, "it is told")
        file = client.create("other")
        client.write(file, 0, b"CHANGED")
        rig.files["other"] = b"CHANGED" + rig.files["other"][7:]
        client.close(file)
        rig.told("no inodes")
        for number in range(count):
            os.unlink(f"{where}/{number}")
        rig.bed.ctl("refresh", rig.bed.mirror)
        rig.files["d/theirs"] = noise("theirs")
    rig.whole("no inodes")


def read_only(rig):
    step("nothing can be written: the file system goes read-only")
    with rig.bed.client() as client:
        with rig.bed.unheard():
            for name in ("flushed", "clean"):
                rig.files[name] = noise(f"{name} at last")
                file = client.create(name, disposition=smb2.FILE_OVERWRITE_IF)
                client.write(file, 0, rig.files[name])
                client.flush(file)
                client.close(file)
            rig.disk.fail("write")
            file = client.create("other")
            try:
                client.write(file, 0, b"lost?")
                client.flush(file)
                check(False, "a flush was acknowledged")
            except SmbError as error:
                check(error.name in REFUSALS, f"flush: {error.name}")
        wait_until(lambda: "mirror-bad" in rig.findings(), 60, "it is told")
        refused("a new file", lambda: client.put("refused", b"1"), "NT_STATUS_ACCESS_DENIED", *REFUSALS)
        check(client.get("beside") == rig.files["beside"], "reading what is here")
        check(client.get("flushed") == rig.files["flushed"], "reading what was flushed")
        rig.tried("flushed")
        rig.told("read-only")
    check(os.path.exists(f"/proc/{rig.bed.cached_pid}"), "the daemon has ended")
    rig.disk.heal()
    rig.again()
    with rig.bed.client() as client:
        # it was not flushed: what a plain share would have of it
        data = client.get("other")
        check(data in (rig.files["other"], b"lost?" + rig.files["other"][5:]), "of what was not flushed: other bytes")
        rig.files["other"] = data
    rig.whole("read-only")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    reason = missing(PROGRAM)
    if reason:
        skip(reason)
    try:
        leave_namespace()
        rig = Rig()
    except Missing as reason:
        skip(str(reason))
    try:
        with rig.bed.client() as client:
            for name in ("clean", "other"):
                rig.put(client, name, name)
        rig.whole("well")
        for case in (unreadable_clean, unreadable_dirty, unwritable, full, no_inodes, read_only):
            case(rig)
    finally:
        rig.close()


if __name__ == "__main__":
    main()
