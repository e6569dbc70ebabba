#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
"""Nobody who can write below the mirror, by SMB or as a local user, makes the daemon or the module touch what lies
outside: directories of the mirror are exchanged against symlinks to a tree outside, again and again, while files are
listed, read, written, evicted, fetched, dropped, scanned and checked there. What is outside is watched: neither
daemon nor smbd opens it, nothing of it changes, and nothing of it comes into the bucket or out of the share.
PLANTED_ROUNDS: more of it.
"""

import ctypes
import os
import struct
import subprocess
import threading

from smb import Testbed, check, step, wait_until
from smb2 import SmbError

SECRET = b"what lies outside is nobody's of the share"
ROUNDS = int(os.environ.get("PLANTED_ROUNDS", "4"))
NAMES = ("one", "two", "three")
RENAME_EXCHANGE = 2
AT_FDCWD = -100
LIBC = ctypes.CDLL(None, use_errno=True)
# fanotify(7): who opens, reads or changes what
FAN_CLASS_NOTIF, FAN_CLOEXEC, FAN_NONBLOCK = 0, 1, 2
FAN_MARK_ADD, FAN_EVENT_ON_CHILD, FAN_ONDIR = 1, 0x08000000, 0x40000000
FAN_ACCESS, FAN_MODIFY, FAN_OPEN = 1, 2, 0x20
EVENT = struct.Struct("=IBBHQii")


class Watch:
    """Which processes open, read or write a directory or what is in it."""

    def __init__(self, *paths):
        self.fd = LIBC.fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK, os.O_RDONLY)
        check(self.fd >= 0, "fanotify_init: " + os.strerror(ctypes.get_errno()))
        for path in paths:
            mask = ctypes.c_uint64(FAN_ACCESS | FAN_MODIFY | FAN_OPEN | FAN_ONDIR | FAN_EVENT_ON_CHILD)
            check(LIBC.fanotify_mark(self.fd, FAN_MARK_ADD, mask, AT_FDCWD, os.fsencode(path)) == 0,
                  f"fanotify_mark {path}: " + os.strerror(ctypes.get_errno()))

    def seen(self):
        """Processes but this one, since the last call."""
        found = set()
        while True:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                return found - {os.getpid()}
            while data:
                length, _, _, _, _, fd, pid = EVENT.unpack_from(data)
                os.close(fd)
                found.add(pid)
                data = data[length:]


def exchange(one, two):
    return LIBC.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(two), RENAME_EXCHANGE) == 0


class Planter(threading.Thread):
    """Exchanges each directory against a symlink to the outside until told to stop."""

    def __init__(self, pairs):
        super().__init__(daemon=True)
        self.pairs = pairs
        self.over = threading.Event()
        self.count = 0

    def run(self):
        while not self.over.wait(0.0005):
            for one, two in self.pairs:
                self.count += exchange(one, two)

    def stop(self):
        """The directories are back under their names, but for those that the daemon took for renamed meanwhile."""
        self.over.set()
        self.join()
        for one, two in self.pairs:
            if os.path.islink(one):
                exchange(one, two)


def inventory(top):
    """All that can be seen of a tree without reading it."""
    found = {}
    for directory, dirs, names in os.walk(top):
        for name in [".", *dirs, *names]:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            found[path] = (st.st_ino, st.st_mode, st.st_uid, st.st_nlink, st.st_size, st.st_blocks,
                           st.st_mtime_ns, st.st_ctime_ns, tuple(os.listxattr(path, follow_symlinks=False)))
    return found


def quiet(call, *arguments):
    """What a client or an administrator tries while directories are exchanged may fail, if it says so."""
    try:
        return call(*arguments)
    except (SmbError, TimeoutError):
        return None


def work(bed, client, number):
    """One round of all that goes into the directories by their paths."""
    for name in NAMES:
        path = f"{name}/file"
        quiet(client.list, name)
        data = quiet(client.get, path)
        check(data is None or SECRET not in data, f"{path}: a client has read what lies outside")
        quiet(client.put, f"{name}/new{number % 3}", os.urandom(3000))
        for words in (("refresh", name), ("evict", name), ("warm", path), ("ls", name), ("stat", path),
                      ("drop", name), ("pending", name), ("flush", name)):
            bed.ctl(*words, may_fail=True)
        quiet(client.unlink, f"{name}/new{(number + 1) % 3}")
        quiet(client.rename, f"{name}/new{number % 3}", f"{name}/moved{number % 3}", True)
    if number % 4 == 0:
        bed.ctl("fsck", "--repair", may_fail=True)
        bed.ctl("evict", ".", may_fail=True)
        bed.ctl("refresh", ".", may_fail=True)


def found(client, name, path):
    """A file that was below `name`, which may be called otherwise by now, as may be what is below it."""
    for place in (f"{top}/{below}" for top in (name, name + ".swap")
                  for below in (path, path.replace("below", "below.swap"))):
        data = quiet(client.get, place)
        if data is not None:
            return data
    return None


def outside_make(bed):
    top = os.path.join(bed.dir, "outside")
    os.mkdir(top)
    os.mkdir(f"{top}/below")
    for name in ("file", "lost", "new0", "moved1", "below/deep"):
        with open(f"{top}/{name}", "wb") as file:
            file.write(SECRET)
        os.chmod(f"{top}/{name}", 0o600)
    return top


def stored(bed):
    """All bytes of all objects."""
    for key in bed.keys(internal=True):
        yield key, bed.s3().get_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + key)["Body"].read()


def main():
    with Testbed(store="s3sim", set=["settle time=50ms", "listing age=1s", "drop age=1s"]) as bed:
        outside = outside_make(bed)
        with bed.client() as client:
            for name in NAMES:
                client.mkdir(name)
                client.mkdir(f"{name}/below")
                client.put(f"{name}/file", name.encode() * 1000)
                client.put(f"{name}/below/deep", b"deep")
            client.put("one/lost", b"its object goes")
            bed.flush()
            step("symlinks that lead outside are there, with no race at all")
            os.symlink(outside, f"{bed.mirror}/link")
            os.symlink(f"{outside}/file", f"{bed.mirror}/one/link")
            os.link(f"{outside}/below/deep", f"{bed.mirror}/one/hard")
            with open(f"{bed.mirror}/one/names", "wb") as file:
                file.write(b"a local program's")
            os.link(f"{bed.mirror}/one/names", f"{bed.mirror}/one/two-names")
            before = inventory(outside)
            watch = Watch(outside, f"{outside}/below")
            for words in (("refresh", "link"), ("evict", "link/file"), ("warm", "link"), ("ls", "link"),
                          ("stat", "link/file"), ("drop", "link"), ("pin", "link/file"), ("evict", "one/link"),
                          ("refresh", "."), ("refresh", "one"), ("evict", ".")):
                bed.ctl(*words, may_fail=True)
            for path in ("link/file", "one/link"):
                data = quiet(client.get, path)
                check(data is None, f"{path} was read")
            check(inventory(outside) == before, "outside has changed")
            check(not watch.seen(), "somebody has opened what lies outside")
            for name in ("hard", "names"):
                wait_until(lambda n=name: f"one/{n} has another hard link" in bed.log(), what=f"the log tells of one/{name}")
            os.unlink(f"{bed.mirror}/one/two-names")
            bed.ctl("refresh", "one")
            bed.flush()
            check("one/names" in bed.keys() and "one/hard" not in bed.keys(), "what is sent: " + str(bed.keys()))
            subprocess.run(["cat", f"{outside}/file"], stdout=subprocess.DEVNULL, check=True)
            check(watch.seen(), "the watch does not see who opens it")

            step("fsck asks the mirror about a file whose object is gone")
            one, swap = os.path.join(bed.mirror, "one"), os.path.join(bed.mirror, "one.swap")
            os.symlink(outside, swap)
            bed.s3().delete_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + "one/lost")
            exchange(one, swap)
            code, output = bed.ctl("fsck", may_fail=True)
            exchange(one, swap)
            check("object-missing" in output, f"fsck ({code}) says nothing of it: {output}")
            check(not watch.seen(), "somebody has opened what lies outside")

            step(f"directories are exchanged against them, {ROUNDS} rounds")
            pairs = []
            for name in NAMES:
                swap = os.path.join(bed.mirror, f"{name}.swap")
                if name != "one":
                    os.symlink(outside, swap)
                pairs.append((os.path.join(bed.mirror, name), swap))
                below = os.path.join(bed.mirror, name, "below")
                os.symlink(f"{outside}/below", below + ".swap")
                pairs.append((below, below + ".swap"))
            planter = Planter(pairs)
            planter.start()
            seen = set()
            for number in range(ROUNDS):
                work(bed, client, number)
                seen |= watch.seen()
            planter.stop()
            print(f"exchanged {planter.count} times")
            check(planter.count > 100, f"only {planter.count} exchanges")
            check(inventory(outside) == before, "outside has changed")
            check(not seen, f"processes {seen} have opened what lies outside")

            step("nothing is lost, and nothing of the outside is in the bucket")
            bed.ctl("refresh", ".")
            for name in NAMES:
                check(found(client, name, "file") == name.encode() * 1000, f"{name}/file is not what it was")
                check(found(client, name, "below/deep") == b"deep", f"{name}/below/deep is lost")
            bed.flush()
            for key, data in stored(bed):
                check(SECRET not in data, f"{key} has what lies outside")
            check(inventory(outside) == before, "outside has changed")
            check(not watch.seen(), "somebody has opened what lies outside")


main()
