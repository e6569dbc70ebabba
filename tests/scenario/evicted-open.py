#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
# alone: how long the kernel waits for a lease is set for the whole machine
"""Files that leave the disk, or come back, while a client looks at them or is about to: times do not move,
an open waits and does not sleep, a durable handle comes back."""

import os
import random
import signal
import stat
import struct
import subprocess
import threading
import time

from dirstore import get_object, put_object
from smb import SmbError, Testbed, check, fail, step, wait_until
from smb2 import INFO_FILE, MAXIMUM_ALLOWED, READ_DATA, nt_time
from tracer import HELD, Tracer, call_of, client_pid, numbers

MIB = 1 << 20
ALLOCATION = 19
WRITTEN = nt_time(1500000000)


def data_of(name, size=3 * MIB + 77):
    return random.Random(name).randbytes(size)


def local(bed, name):
    return os.path.join(bed.mirror, name)


def is_stub(bed, name):
    return bool(os.stat(local(bed, name)).st_mode & stat.S_ISVTX)


def evict(bed, name):
    bed.flush()
    wait_until(lambda: bed.ctl("evict", name, may_fail=True)[0] == 0 and is_stub(bed, name), 30,
               f"{name} leaves the disk")


def evicted(bed, name):
    """A stub whose inode has other times than its record."""
    with bed.client() as client:
        client.put(name, data_of(name), times={"write": WRITTEN})
    evict(bed, name)
    check(os.stat(local(bed, name)).st_mtime != 1500000000, "the inode's time has not moved")


def aside(function, *arguments):
    """In a thread; its result in a list."""
    result = []

    def run():
        try:
            result.append(function(*arguments))
        except (OSError, SmbError) as error:
            result.append(error)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, result


# --- what a client sees ---------------------------------------------------------------------------
def times_stay(bed):
    """smbd looks at an entry of a listing by its name and (4.17: another time) by a descriptor."""
    def listed(client):
        return {entry[0]: entry[5] for entry in client.list("")}["stays"]

    for look in (1, 2):
        step(f"a file comes back while it is listed, look {look}")
        evicted(bed, "stays")
        with bed.client() as client:
            with Tracer(client_pid(bed), "fgetxattr", f"delay_enter={HELD}:when={look}",
                        local(bed, "stays")) as tracer:
                thread, seen = aside(listed, client)
                wait_until(lambda: tracer.stands() or not thread.is_alive(), 20, "smbd looks at it")
                if look > 1 and not thread.is_alive():
                    check(seen == [WRITTEN], f"written {WRITTEN}, shown {seen}")
                    print("   it is not looked at again")
                    return
                bed.ctl("warm", "stays")
                wait_until(lambda: not is_stub(bed, "stays"), 30, "the file comes back")
                check(tracer.stands(), "the client's process did not wait")
            thread.join(60)
            check(seen == [WRITTEN], f"written {WRITTEN}, shown {seen}")


def allocated(bed):
    step("space is set aside for a stub: nothing is fetched")
    with bed.client() as client:
        client.put("space", data_of("space"))
    evict(bed, "space")
    before = bed.ctl_json("status")["counters"]["recall_bytes"]
    with bed.client() as client:
        file = client.create("space", MAXIMUM_ALLOWED)
        client.set(file, INFO_FILE, ALLOCATION, struct.pack("<Q", 8 * MIB))
        client.close(file)
        check(is_stub(bed, "space"), "it is here")
        check(bed.ctl_json("status")["counters"]["recall_bytes"] == before, "bytes of it were fetched")
        check(client.get("space") == data_of("space"), "other bytes")


# --- durable handles ------------------------------------------------------------------------------
class Durable:
    """A client whose connection breaks, with a file open."""

    def __init__(self, bed, name, data):
        self.bed, self.name = bed, name
        self.guid, self.key = os.urandom(16), os.urandom(16)
        client = bed.client(guid=self.guid)
        client.put(name, b"")
        self.file = client.create_durable(name, self.key)
        client.write(self.file, 0, data)
        pid = client_pid(bed)
        client.sock.close()
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 20, "smbd sees the connection break")

    def back(self, client):
        return client.end_create(client.send_reconnect(self.name, self.key, self.file), self.name)


def durable(bed):
    for recalled in (False, True):  # not read by another client: that ends it on any share
        step("a durable handle, its file sent and evicted" + ", and fetched again" * recalled)
        name = f"durable {recalled}"
        lost = Durable(bed, name, data_of(name))
        evict(bed, name)
        if recalled:
            bed.ctl("warm", name)
            wait_until(lambda: not is_stub(bed, name), 20, "the file comes back")
        with bed.client(guid=lost.guid) as client:
            file = lost.back(client)
            check(client.read(file, MIB, 1000) == data_of(name)[MIB:MIB + 1000], "other bytes")
            client.write(file, 0, b"again")
            client.close(file)
        bed.flush()
        with bed.client() as client:
            check(client.get(name) == b"again" + data_of(name)[5:], "other bytes after a write")


def flags_of(pid, path):
    """Of the descriptors that a process has of a file's data."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        if os.readlink(f"/proc/{pid}/fd/{name}") == path:
            with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii") as file:
                flags = int(file.read().split("flags:")[1].split()[0], 8)
            if not flags & os.O_PATH:
                found.append(flags)
    return found


def reopened_within(bed):
    step("a durable handle comes back while its file is being evicted")
    lost = Durable(bed, "within", data_of("within"))
    bed.flush()
    with bed.client(guid=lost.guid) as client:
        pid = client_pid(bed)
        with Tracer(int(bed.cached_pid), "fallocate", f"delay_enter={HELD}",
                    local(bed, "within")) as tracer:
            thread, _ = aside(bed.ctl, "evict", "within")
            tracer.wait()
            reopen, file = aside(lost.back, client)
            calls = []
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                calls.append(call_of(f"/proc/{pid}"))
                time.sleep(0.02)
            check(tracer.stands(), "the eviction did not wait")
            check(not file, f"it did not wait for the eviction: {file}")
            asleep = numbers("openat,openat2")
            check(not all(call in asleep for call in calls[len(calls) // 2:]),
                  "smbd sleeps in the kernel, with the file's share modes locked")
        reopen.join(60)
        thread.join(60)
        check(file and isinstance(file[0], bytes), f"the handle is lost: {file}")
        flags = flags_of(pid, local(bed, "within"))
        check(flags and not any(each & os.O_NONBLOCK for each in flags),
              f"the file is open with {[oct(each) for each in flags]}")
        check(client.read(file[0], 0, MIB) == data_of("within")[:MIB], "other bytes")
        client.close(file[0])


# --- another daemon -------------------------------------------------------------------------------
def another_daemon(bed):
    step("a client reads on after the daemon has been replaced, and the object too")
    old, new = data_of("old", 6 * MIB + 77), data_of("new", 5 * MIB + 1000)  # more than is fetched at once
    with bed.client() as client:
        client.put("both", old)
    evict(bed, "both")
    with bed.client() as client:
        pid = client_pid(bed)
        file = client.create("both", READ_DATA)
        check(client.read(file, 0, MIB) == old[:MIB], "other bytes")
        os.kill(pid, signal.SIGSTOP)  # it has not seen the daemon go when it reads again
        bed.restart("cached", kill=True)
        put_object(bed, "both", new)

        def anew():  # the first one to come upon it is told so
            with bed.client(user=2) as other:
                try:
                    return other.read(other.create("both", READ_DATA), 5 * MIB, MIB)
                except SmbError:
                    return None
        wait_until(lambda: anew() == new[5 * MIB:], 20, "another client reads what is there now")
        message = client.send_read(file, 0, MIB)
        os.kill(pid, signal.SIGCONT)
        check(client.end_read(message) == new[:MIB], "bytes that a daemon had fetched that is no more")
        client.close(file)


# --- out of the tree ------------------------------------------------------------------------------
def mount(bed, *argv):
    """In smbd's mount namespace, if that is its own."""
    spaces = {os.readlink(f"/proc/{pid}/ns/mnt") for pid in ("self", bed.smbd_pid)}
    return len(spaces) == 2 and subprocess.run(["nsenter", "-t", bed.smbd_pid, "-m", *argv],
                                               check=False).returncode == 0


def out_of_the_tree(bed):
    step("the mirror is unmounted under open files: what would be lost is refused")
    with bed.client() as client:
        client.put("outside", b"outside", times={"write": WRITTEN})
        bed.flush()
    if not mount(bed, "mount", "--bind", bed.mirror, bed.mirror):
        print("not here: smbd has no mount namespace of its own")
        return
    with bed.client() as client:
        file = client.create("outside", MAXIMUM_ALLOWED)
        check(mount(bed, "umount", "-l", bed.mirror), "umount fails")
        for what, change in (
                ("a time", lambda: client.set_basic(file, times={"write": WRITTEN + 10000000})),
                ("bytes", lambda: client.write(file, 0, b"changed"))):
            try:
                change()
            except SmbError as error:
                check(error.name == "NT_STATUS_IO_DEVICE_ERROR", f"{what}: {error}")
            else:
                fail(f"{what}: acknowledged, and nobody knows of it")
    with bed.client() as client:
        check(client.get("outside") == b"outside", "it was changed")
    check(os.stat(local(bed, "outside")).st_mtime == 1500000000, "its time was changed")
    check("belongs to the mirror" in bed.log("smbd"), "nothing in the log")


def snapshot():
    """A copy of the whole file system has files of the same inode numbers, times of birth and records."""
    step("a stub in a snapshot of the mirror")
    with Testbed(fs="ext4", set=["settle time=1s"]) as bed:
        with bed.client() as client:
            client.mkdir("snap")
            client.put("file", data_of("file"))
        evict(bed, "file")
        top = subprocess.run(["findmnt", "-n", "-o", "TARGET", "-T", bed.mirror], check=True,
                             stdout=subprocess.PIPE, text=True).stdout.strip()
        image, copy = os.path.join(bed.dir, "disk.img"), os.path.join(bed.dir, "copy.img")
        os.sync()
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        there = os.path.join(bed.dir, "copy")
        os.mkdir(there)
        if not mount(bed, "mount", "-o", "loop", copy, there) or not mount(
                bed, "mount", "--bind", os.path.join(there, os.path.relpath(bed.mirror, top)),
                local(bed, "snap")):
            print("not here: the copy cannot be mounted")
            return
        with bed.client() as client:
            file = client.create("file", READ_DATA)
            check(client.read(file, 0, MIB) == data_of("file")[:MIB], "other bytes")
            try:
                client.read(client.create("snap/file", READ_DATA), 0, MIB)
            except SmbError as error:
                check("lies on another file system" in bed.log("smbd"), f"not for that: {error}")
            else:
                fail("a stub of the snapshot is read as the live file")
            check(client.get("file") == data_of("file"), "other bytes")


# --- by force -------------------------------------------------------------------------------------
BREAK_TIME = "/proc/sys/fs/lease-break-time"
STUB = 2  # OFS_REC_STUB


def record_flags(bed, name):
    return int.from_bytes(os.getxattr(local(bed, name), "security.objectfs")[8:12], "little")


def opened_by_force(bed):
    step("a client gets in by force, the daemon stores STUB all the same and dies")
    with open(BREAK_TIME, encoding="ascii") as file:
        seconds = file.read()
    try:
        with open(BREAK_TIME, "w", encoding="ascii") as file:
            file.write("1")
    except OSError as error:
        print(f"not here: {error}")
        return
    try:
        forced(bed)
    finally:
        with open(BREAK_TIME, "w", encoding="ascii") as file:
            file.write(seconds)


def forced(bed):
    data = data_of("forced")
    with bed.client() as client:
        client.put("forced", data)
        bed.flush()
        with Tracer(int(bed.cached_pid), "fsetxattr", f"delay_enter=8s:delay_exit={HELD}:when=1",
                    local(bed, "forced")) as tracer:
            aside(lambda: bed.ctl("evict", "forced", may_fail=True))
            tracer.wait()
            file = client.create("forced", MAXIMUM_ALLOWED)
            check(not record_flags(bed, "forced") & STUB, "it was a stub when it was opened")
            wait_until(lambda: record_flags(bed, "forced") & STUB, 20, "the daemon stores STUB")
            os.kill(int(bed.cached_pid), signal.SIGKILL)
        bed.restart("cached", kill=True)
        client.write(file, 5, b"again")
        client.close(file)
    bed.flush()
    wait_until(lambda: get_object(bed, "forced") == data[:5] + b"again" + data[10:], 20,
               "what was written reaches S3")
    with bed.client() as client:
        check(client.get("forced") == data[:5] + b"again" + data[10:], "older bytes than were written")


def main():
    with Testbed(set=["settle time=1s"], smb=["strict allocate=yes"]) as bed:
        for part in (times_stay, allocated, durable, reopened_within, another_daemon, out_of_the_tree,
                     opened_by_force):
            part(bed)
    snapshot()


if __name__ == "__main__":
    main()
