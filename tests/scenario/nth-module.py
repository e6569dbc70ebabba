#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""The Nth call of the module fails, in real smbds, or that of smbd on a file of the share: open, read, write, fsync,
truncate, rename, unlink, attributes, stat, mmap, the socket to the daemon, memory; alone, and from then on until it is over. And the
Nth of the daemon's, with all its threads. A client gets an error or what it asked for, never other bytes; what was
acknowledged is there afterwards, and in S3; nothing is clean that S3 does not have; nothing stays broken; no process ends.

usage: nth-module.py                        some of them
       nth-module.py STRIDE [FIRST]         every STRIDEth call of each kind and way; 1: all
       nth-module.py smbd|cached KIND N HOW HELD   one of them, as a failure prints it
sim/nth fails the daemon's calls one by one, without threads, sockets and other processes; what only this sees: the module's, a client whose
request meets both, and the daemon's answers while its calls fail.
"""

import contextlib
import errno
import os
import random
import sys

from copychunk import Copy
from dirstore import get_object, object_keys
from nth import KINDS, Calls
from smb import SmbError, Testbed, bed_path, check, fail, step
from smb2 import (ATTR_DIRECTORY, ATTR_HIDDEN, FILE_CREATE, FILE_OVERWRITE_IF, MAXIMUM_ALLOWED, READ_ATTRIBUTES, READ_DATA, WRITE_DATA,
                  nt_time)

SIZE, AT = 70000, 33000
BROKEN = (OSError, SmbError, EOFError)
STRIDES = {"smbd": 61, "cached": 151}
FILES = ("over", "stub", "stub written", "cut", "emptied", "from", "newer", "older", "gone", "meta", "source")
STUBS = ("stub", "stub written", "source")


def content(name, size=SIZE):
    return random.Random(name).randbytes(size)


class File:
    """What a name may hold by what clients were told: one of `versions`, or, after an error, any mixture of them, and as much
    of it as there is. None: it may be absent."""

    def __init__(self, *versions):
        self.versions, self.mixed = list(versions), False

    def becomes(self, data, sure):
        """An acknowledged write leaves nothing of before; one that failed may have done part of it."""
        if sure:
            self.versions, self.mixed = [data], False
        else:
            self.versions.append(data)
            self.mixed = True

    def allows(self, data):
        if data in self.versions:
            return True
        whole = [version for version in self.versions if version is not None]
        if data is None or not self.mixed or len(data) > max(map(len, whole), default=0):
            return False
        return all(any(data[at] == version[at] for version in whole if at < len(version)) or data[at] == 0
                   and any(at >= len(version) for version in whole) for at in range(len(data)))


class Life:
    """A fixed life of a client in one directory, and what the directory may hold afterwards."""

    def __init__(self, bed, place):
        self.bed, self.place, self.client = bed, place, None
        self.files = {name: File(content(name)) for name in FILES}
        self.errors, self.refused = [], 0

    def path(self, name):
        return f"{self.place}/{name}"

    def prepare(self, client):
        client.mkdir(self.place)
        for name in FILES:
            client.put(self.path(name), content(name))

    def out(self):
        for name in STUBS:
            self.bed.ctl("evict", self.path(name))

    # --- what it does ---
    def do(self, work, *outcomes):
        """outcomes: (name, what it holds if it is done). After an error it is open."""
        sure = True
        try:
            if self.client is None and self.refused < 2:
                self.client = self.bed.client(timeout_s=30)
        except BROKEN as error:
            self.refused += 1
            self.errors.append(str(error))
        if self.client is None:
            return  # nothing was asked
        try:
            work(self.client)
        except BROKEN as error:
            sure = False
            self.errors.append(str(error))
            if not isinstance(error, SmbError):
                self.client.sock.close()
                self.client = None
        for name, data in outcomes:
            self.files.setdefault(name, File(None)).becomes(data, sure)

    def write_at(self, client, name, offset, data, *disposition):
        file = client.create(self.path(name), READ_DATA | WRITE_DATA | READ_ATTRIBUTES, *disposition)
        if client.end_write(client.send_write(file, offset, data)) != len(data):
            raise SmbError(0, "less was written")
        client.flush(file)
        client.close(file)

    def set_size(self, client):
        file = client.create(self.path("cut"), WRITE_DATA)
        client.set_size(file, AT)
        client.close(file)

    def describe(self, client):
        file = client.create(self.path("meta"), MAXIMUM_ALLOWED)
        client.set_basic(file, ATTR_HIDDEN, {"write": nt_time(1500000000)})
        client.set_eas(file, {"ea": b"value"})
        client.set_sddl(file, "D:P(A;;0x1f01ff;;;WD)")
        client.close(file)

    def copy(self, client):
        copy = Copy(client, self.path("source"), self.path("copied"))
        copy.whole(SIZE)
        copy.close()

    def run(self):
        new = content("new", 5000)
        path, do, write_at = self.path, self.do, self.write_at

        def read(client):
            check(client.get(path("stub")) == content("stub"), "other bytes of a stub were read")

        def changed(name):
            return name, content(name)[:AT] + b"changed" + content(name)[AT + 7:]
        do(lambda client: client.mkdir(path("dir")))
        do(lambda client: write_at(client, "made", 0, new, FILE_OVERWRITE_IF), ("made", new))
        do(lambda client: write_at(client, "over", AT, b"changed"), changed("over"))
        do(read)
        do(lambda client: write_at(client, "stub written", AT, b"changed"), changed("stub written"))
        do(self.set_size, ("cut", content("cut")[:AT]))
        self.files["emptied"].versions.append(b"")
        do(lambda client: write_at(client, "emptied", 0, new, FILE_OVERWRITE_IF), ("emptied", new))
        do(lambda client: client.rename(path("from"), path("to")), ("to", content("from")), ("from", None))
        do(lambda client: client.rename(path("newer"), path("older"), replace=True),
           ("older", content("newer")), ("newer", None))
        do(lambda client: client.unlink(path("gone")), ("gone", None))
        do(self.describe)
        do(self.copy, ("copied", content("source")))
        do(lambda client: client.list(self.place))
        if self.client is not None:
            with contextlib.suppress(*BROKEN):
                self.client.disconnect()

    def daemons_part(self, waits):
        """What was changed is sent, and files leave the disk, or not."""
        self.bed.ctl("flush", *["--wait"] * waits, may_fail=True)
        for name in ("meta", "older"):
            self.bed.ctl("evict", self.path(name), may_fail=True)

    # --- what is there ---
    def here(self):
        """{name: bytes} as a client sees it."""
        with self.bed.client() as client:
            return {entry[0]: client.get(self.path(entry[0])) for entry in client.list(self.place)
                    if not entry[1] & ATTR_DIRECTORY}

    def verify(self):
        here = self.here()
        for name, file in self.files.items():
            data = here.get(name)
            check(file.allows(data), f"{name}: {'not there' if data is None else f'{len(data)} bytes, {data[:8]!r}'}, "
                  f"not what a client was told; errors: {self.errors}")
        for name in here:
            check(name in self.files, f"{name}: nobody made it")
        return here

    def sent(self, here):
        """S3 has what is here, and the share goes on."""
        self.bed.flush()
        for name, data in here.items():
            check(get_object(self.bed, self.path(name)) == data, f"{name}: S3 has other bytes, and nothing waits")
        keys = {key for key in object_keys(self.bed) if key.startswith(self.place + "/") and not key.endswith("/")}
        check({self.path(name) for name in here} | {self.path("dir")} >= keys, f"in S3 alone: {keys}")
        with self.bed.client() as client:
            for name in here:
                file = client.create(self.path(name), READ_DATA | WRITE_DATA)
                client.write(file, 0, b"afterwards")
                client.close(file)
            client.put(self.path("after"), b"afterwards")


class Trial:
    def __init__(self, part):
        self.part = part
        path = bed_path()
        self.calls = Calls("objectfs.so" if part == "smbd" else "objectfs-cached",
                           os.path.join(os.path.realpath(path), "cache/test/tree"))
        self.bed = Testbed(path=path, preload=f"{part}={self.calls.library}", set=["settle time=100ms"],
                           smb=["objectfs:request timeout=4", "objectfs:reconnect timeout=4"])
        self.done = self.met = 0
        self.client = None  # of act()

    def lives(self, count):
        """Prepared, all at once."""
        made = [Life(self.bed, f"life{self.done + number}") for number in range(count)]
        with self.bed.client() as client:
            for life in made:
                life.prepare(client)
        self.bed.flush()
        for life in made:
            life.out()
        self.done += count
        return made

    def live(self, life, waits):
        life.run()
        if self.part == "cached":
            life.daemons_part(waits)

    def count(self):
        life, = self.lives(1)
        self.calls.arm()
        self.live(life, True)
        counts = self.calls.counts()
        self.calls.lift()
        check(not life.errors, f"nothing fails, and yet: {life.errors}")
        life.sent(life.verify())
        return counts

    def cell(self, life, kind, n, how, held):
        name = f"{self.part} '{kind}' {n} {how} {int(held)}"
        print(name, flush=True)
        try:
            self.calls.arm(kind, n, how, held)
            self.live(life, not held)
            self.met += self.calls.failed() > 0
            self.calls.lift()
            here = life.verify()
            life.sent(here)
            panics = [entry for entry in os.listdir(f"{self.bed.dir}/log") if entry.startswith("PANIC")]
            check(not panics, "smbd ended")
            check(os.path.exists(f"/proc/{self.bed.cached_pid}/fd"), "the daemon ended")
        except BaseException:
            self.calls.lift()
            print(f"errors: {life.errors}")
            print(f"FAIL: nth-module.py {name}", flush=True)
            raise

    def act(self, change, name, cell):
        """Is a client told that it is done?"""
        if self.client is None:
            self.client = self.bed.client()
            self.client.list(os.path.dirname(name))
        self.calls.arm(*cell)
        try:
            change(self.client, name)
            return True
        except SmbError:
            return False
        except BROKEN:
            self.client.sock.close()
            self.client = None
            return False
        finally:
            self.calls.lift()

    def each(self, what, change):
        """Each call of one change of a name: what is there afterwards is in S3, and nothing else, told or not."""
        self.calls.lift()
        with self.bed.client() as client:
            client.mkdir(what)
            client.put(f"{what}/first", b"first")
            check(self.act(change, f"{what}/first", ()), f"{what}: nothing fails, and yet it does")
            found = [(kind, n, KINDS[kind][0], True) for kind, count in self.calls.counts().items()
                     for n in range(1, count + 1)]
            for number in range(len(found)):
                client.put(f"{what}/{number}", b"%d" % number)
        step(f"{what}: each of {len(found)} calls fails")
        self.bed.flush()
        told = sum(self.act(change, f"{what}/{number}", cell) for number, cell in enumerate(found))
        self.bed.flush()
        with self.bed.client() as client:
            names = {f"{what}/{entry[0]}" + "/" * bool(entry[1] & ATTR_DIRECTORY) for entry in client.list(what)}
            keys = {key for key in object_keys(self.bed) if key.startswith(what + "/") and key != what + "/"}
            different = {name: found[int("".join(filter(str.isdigit, name)))] for name in names ^ keys}
            check(not different, f"here or in S3, and not in both: {different}")
            for name in names:
                check(name.endswith("/") or client.get(name) == get_object(self.bed, name), f"{name}: other bytes in S3")
        check(0 < told < len(found), f"{what}: {told} of {len(found)} were told that it was done")

    def cells(self, stride, first):
        """Each way of each kind in turn, alone and held."""
        found, number = [], first
        for kind, count in self.count().items():
            if self.part == "cached" and kind == "memory":
                continue  # its end, by intent (cached/allocate.c)
            hows = KINDS[kind]
            if self.part == "cached" and kind == "sync":
                hows = (errno.ENOSPC,)  # after EIO a file waits until it is written again (scenario/sick-disk)
            ways = [(how, held) for how in hows for held in (False, True)]
            if stride == 1:
                found += [(kind, n, *way) for n in range(1, count + 1) for way in ways]
                continue
            for n in range(1 + first % max(1, min(stride, count)), count + 1, stride):
                found.append((kind, n, *ways[number % len(ways)]))
                number += 1
        return found

    def run(self, cells):
        step(f"{self.part}: {len(cells)} calls fail")
        for at in range(0, len(cells), 20):
            some = cells[at:at + 20]
            for life, cell in zip(self.lives(len(some)), some):
                self.cell(life, *cell)
        check(self.met >= len(cells) // 2, f"{self.met} of {len(cells)} came to it: it is not counted right")


NAMES = {
    "create": lambda client, name: client.close(client.create(name + "new", WRITE_DATA, FILE_CREATE)),
    "make a directory": lambda client, name: client.mkdir(name + "new"),
    "rename": lambda client, name: client.rename(name, name + "new"),
    "delete": lambda client, name: client.unlink(name),
}


def main():
    words = sys.argv[1:]
    if os.environ.get("SANITIZER"):
        print("a sanitizer has calls of its own")
        sys.exit(77)
    for part in ("smbd", "cached"):
        if len(words) == 5 and words[0] != part:
            continue
        trial = Trial(part)
        with trial.bed:
            if len(words) == 5:
                trial.run([(words[1], int(words[2]), int(words[3]), words[4] == "1")])
            else:
                for what, change in NAMES.items() if part == "smbd" else ():
                    trial.each(what, change)
                trial.run(trial.cells(int(words[0]) if words else STRIDES[part], int(words[1]) if len(words) > 1 else 7))


if __name__ == "__main__":
    if len(sys.argv) not in (1, 2, 3, 6):
        fail("see its head")
    main()
