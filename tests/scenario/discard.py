#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""A stub that a client empties is not recalled: the daemon makes it plain, empty and dirty. Between the client's
open and the word of its smbd either may die: the file is the stub it was, or its new content reaches S3.
"""

import glob
import os
import signal
import threading

import smb2
from dirstore import get_object, put_object
from smb import SmbError, Testbed, check, step, wait_until
from tracer import Tracer, client_pid

OLD = b"old content " * 1000
HELD_S = 9  # longer than the daemon needs to miss a dead client and to clear marks
STUB, DATA_DIRTY, MARKED = 1 << 1, 1 << 2, 1 << 6  # OFS_REC_* in shared/record.h
INTENT_BYTES = 64


def record(path):
    """(flags, id) in an inode's record; the layout is shared/record.h's."""
    for name in ("security.objectfs", "user.objectfs"):
        try:
            data = os.getxattr(path, name)
        except OSError:
            continue
        return int.from_bytes(data[8:12], "little"), data[24:40]
    return check(False, f"{path} has no record")


def flags(path):
    return record(path)[0]


def intents(bed):
    """Ids of the files in the intent file."""
    with open(os.path.join(os.path.dirname(bed.mirror), "intent"), "rb") as file:
        data = file.read()
    return [data[at + 8:at + 24] for at in range(0, len(data), INTENT_BYTES)]


def empty(client, path):
    client.create(path, smb2.READ_DATA | smb2.WRITE_DATA, disposition=smb2.FILE_OVERWRITE)


def aside(function, *arguments):
    """In a thread; a connection that dies with its smbd is no failure."""
    def run():
        try:
            function(*arguments)
        except (OSError, SmbError, EOFError):
            pass
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def kill(bed, pid):
    """The client's smbd, and the daemon; hints are lost with them."""
    os.kill(pid, signal.SIGKILL)
    os.kill(int(bed.cached_pid), signal.SIGKILL)
    bed.stop("smbd", kill=True)
    for path in glob.glob(os.path.join(bed.dir, "run/objectfs/*.rings/*.ring")):
        os.unlink(path)


def stub(bed, client, name):
    """Listed, clean, and no mark anywhere."""
    client.list("d")
    path = os.path.join(bed.mirror, "d", name)
    check(flags(path) & STUB, f"{name} is no stub")
    bed.flush()
    wait_until(lambda: not flags(os.path.dirname(path)) & MARKED, 20, "the marks are cleared")
    return path


def asked_for_nothing(bed):
    step("smbd dies between mark, intent and its request: the stub is what it was")
    with bed.client() as client:
        path = stub(bed, client, "one")
        pid = client_pid(bed)
        with Tracer(pid, "fdatasync", "delay_exit=4s") as tracer:
            thread = aside(empty, client, "d/one")
            tracer.wait()
            check(flags(path) & STUB, "it was emptied before the intent was on the disk")
            check(flags(os.path.dirname(path)) & MARKED, "its directory is not marked")
            check(record(path)[1] in intents(bed), "there is no intent of it")
            os.kill(pid, signal.SIGKILL)
            thread.join(60)
    bed.flush()
    check(get_object(bed, "d/one") == OLD, "the object has changed")
    with bed.client() as client:
        check(client.get("d/one") == OLD, "other bytes")


def emptied_and_both_dead(bed):
    step("the daemon has emptied it, and dies with smbd before anybody says so")
    with bed.client() as client:
        path = stub(bed, client, "two")
        pid = client_pid(bed)
        with Tracer(int(bed.cached_pid), "fchmod", "delay_exit=4s", path) as tracer:
            thread = aside(empty, client, "d/two")
            tracer.wait()
            check(flags(path) & DATA_DIRTY, "its record is not dirty")
            kill(bed, pid)
            thread.join(60)
    bed.restart("cached", kill=True)
    bed.start("smbd")
    bed.flush()
    check(get_object(bed, "d/two") == b"", "S3 was not told that it is empty")


def client_dead_while_emptied(bed):
    step("smbd dies while the daemon empties it: the mark stays until that is known")
    with bed.client() as client:
        path = stub(bed, client, "three")
        pid = client_pid(bed)
        with Tracer(int(bed.cached_pid), "ftruncate", f"delay_enter={HELD_S}s:when=1",
                    path) as tracer:
            thread = aside(empty, client, "d/three")
            tracer.wait()
            os.kill(pid, signal.SIGKILL)
            thread.join(60)
            scanned = bed.ctl_json("status")["counters"]["dirs_scanned"]
            wait_until(lambda: bed.ctl_json("status")["counters"]["dirs_scanned"] > scanned, 20,
                       "the daemon misses the client")
            wait_until(lambda: not tracer.stands() or not flags(os.path.dirname(path)) & MARKED,
                       30, "the file is emptied")
            check(flags(os.path.dirname(path)) & MARKED, "the mark was cleared too early")
    bed.flush()
    check(get_object(bed, "d/three") == b"", "S3 was not told that it is empty")


def main():
    with Testbed(set=["settle time=100ms"]) as bed:
        for name in ("one", "two", "three"):
            put_object(bed, f"d/{name}", OLD)
        for part in (asked_for_nothing, emptied_and_both_dead, client_dead_while_emptied):
            part(bed)


if __name__ == "__main__":
    main()
