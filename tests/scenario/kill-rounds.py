#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 420
"""kill -9 of anything at any time is survived: 200 seeded rounds, judged by a log of what was
acknowledged.

In each round a client works while, at a random moment, the daemon, its smbd, both, every smbd or the
store is killed. What was acknowledged must be there when the round ends; the one request in flight may
have happened or not. Every 40 rounds, and at the end, all is drained, the local disk is lost, and the
same must come back from the store alone. No operation may fail, except by the end of the connection.

usage: kill-rounds.py [ROUNDS [SEED [dir|rgw]]]
"""

import collections
import os
import random
import signal
import subprocess
import sys
import threading
import time

import smb2
from procs import PATIENCE_S, Failure, Proc, tail, wait_until
from smb import Testbed, check, fail, step
from smb2 import SmbError

WIPE_EVERY = 40
FILES_MAX = 70
NAMES = ["report.doc", "data", "Brief an Müller.txt", "a b c", "x", "log.1", "naïve", "photo.jpeg",
         "日本語.txt", "README", "copy of copy", "t" * 120]
DIRS = ["docs", "Projekte", "2026", "tmp", "deep", "été"]
KINDS = {"dir": ["cached"] * 8 + ["client"] * 6 + ["both"] * 5 + ["smbd"],
         "rgw": ["cached", "client", "both", "store", "store", "store+cached"]}


class InFlight(Exception):
    """The connection ended within an operation."""


class Model:
    """What the share must hold: {path: bytes, or None for a directory}."""

    def __init__(self):
        self.entries = {}
        # what the request in flight may have made of it; None: nothing in flight
        self.maybe = None
        # (path, old, new) of a write in flight
        self.torn = None
        self.touched = set()

    def children(self, path):
        return [name for name in self.entries if name.startswith(path + "/")]

    def dirs(self):
        return [""] + [path for path, data in self.entries.items() if data is None]

    def files(self):
        return [path for path, data in self.entries.items() if data is not None]


class Worker:
    """Random operations through one client, each noted before it is sent and when it is answered."""

    def __init__(self, bed, rng):
        self.bed = bed
        self.rng = rng
        self.model = Model()
        self.client = None
        self.process = None
        self.serial = 0
        self.torn = 0  # how often Samba has said so
        self.count = collections.Counter()
        self.trail = collections.deque(maxlen=60)
        self.log = open(os.path.join(bed.dir, "log", "acknowledged"), "w", encoding="utf-8")

    # --- connection -----------------------------------------------------------------------------
    def connect(self):
        parent = int(self.bed.smbd_pid)
        before = children(parent)
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.client = self.bed.client(timeout_s=90)
                break
            except (OSError, SmbError) as error:
                if time.monotonic() > end:
                    fail(f"no connection after a restart: {error}")
                time.sleep(0.05)
        new = children(parent) - before
        check(new, "no process of smbd for the connection")
        self.process = max(new)

    def drop(self):
        if self.client is not None:
            self.client.sock.close()
        self.client = None

    def note(self, text):
        print(f"{time.time():.6f} {text}", file=self.log, flush=True)

    def send(self, what, after, function, torn=None):
        """One request that turns the model's entries into `after`."""
        model = self.model
        model.maybe, model.torn = after, torn
        if not (torn and self.trail and self.trail[-1].startswith(f"write {torn[0]} ")):
            self.trail.append(what)
        try:
            result = function()
        except (ConnectionError, TimeoutError, OSError) as error:
            if isinstance(error, TimeoutError):
                fail(f"{what}: no answer for 90 s")
            self.trail.append("  connection ended")
            self.note(f"{what}: connection ended")
            raise InFlight from None
        except SmbError as error:
            fail(f"{what}: {error}\nbefore:\n  " + "\n  ".join(self.trail))
        model.entries, model.maybe, model.torn = after, None, None
        self.note(what)
        return result

    def same(self, what, function):
        """A request that changes nothing the model knows of."""
        return self.send(what, self.model.entries, function)

    def changed(self, **changes):
        """Entries with some replaced; value False: gone."""
        after = dict(self.model.entries)
        for path, data in changes.items():
            if data is False:
                after.pop(path, None)
            else:
                after[path] = data
            self.model.touched.add(path)
        return after

    # --- operations -------------------------------------------------------------------------------
    def content(self):
        self.serial += 1
        size = self.rng.choice([0, 1, 40, 700, 5000, 5000, 20000, 60000])
        if self.rng.random() < 0.03:
            size = 2_500_000 + self.rng.randrange(100000)
        head = f"content {self.serial} ".encode()
        return (head + self.rng.randbytes(size))[:max(size, len(head))]

    def free_name(self, names):
        parent = self.rng.choice(self.model.dirs())
        if len(parent) > 300:
            parent = ""
        taken = {path.lower() for path in self.model.entries}
        for number in range(100):
            name = self.rng.choice(names) + (f" {number}" if number else "")
            path = f"{parent}/{name}" if parent else name
            if path.lower() not in taken:
                return path
        return f"{parent}/n{self.serial}"

    def write(self, path, handle, data, offset=0):
        for start in range(0, len(data), 65536):
            piece = data[start:start + 65536]
            old = self.model.entries[path]
            at = offset + start
            new = old[:at] + bytes(max(0, at - len(old))) + piece + old[at + len(piece):]
            self.send(f"write {path} {at}+{len(piece)}", self.changed(**{path: new}),
                      lambda p=piece, a=at: self.client.end_write(
                          self.client.send_write(handle, a, p)), torn=(path, old, new))

    def create(self):
        if len(self.model.files()) > FILES_MAX:
            return self.unlink()
        path = self.free_name(NAMES)
        data = self.content()
        handle = self.send(f"create {path}", self.changed(**{path: b""}),
                           lambda: self.client.create(path, disposition=smb2.FILE_CREATE,
                                                      options=smb2.NON_DIRECTORY_FILE))
        self.write(path, handle, data)
        self.same(f"close {path}", lambda: self.client.close(handle))

    def overwrite(self):
        path = self.rng.choice(self.model.files())
        data = self.content()
        handle = self.send(f"overwrite {path}", self.changed(**{path: b""}),
                           lambda: self.client.create(path, disposition=smb2.FILE_OVERWRITE_IF,
                                                      options=smb2.NON_DIRECTORY_FILE))
        self.write(path, handle, data)
        self.same(f"close {path}", lambda: self.client.close(handle))

    def patch(self):
        path = self.rng.choice(self.model.files())
        data = self.content()[:3000]
        old = self.model.entries[path]
        handle = self.same(f"open {path}", lambda: self.client.create(
            path, smb2.READ_DATA | smb2.WRITE_DATA, options=smb2.NON_DIRECTORY_FILE))
        self.write(path, handle, data, self.rng.randrange(len(old) + 1))
        if self.rng.random() < 0.3:
            self.same(f"flush {path}", lambda: self.client.flush(handle))
        self.same(f"close {path}", lambda: self.client.close(handle))

    def set_name(self, path, target, after, replace=False):
        handle = self.same(f"open {path}", lambda: self.client.create(
            path, smb2.DELETE | smb2.READ_ATTRIBUTES))
        name = target.replace("/", "\\").encode("utf-16-le")
        self.send(f"rename {path} -> {target}", after, lambda: self.client.set(
            handle, smb2.INFO_FILE, 10,
            bytes([replace]) + bytes(15) + len(name).to_bytes(4, "little") + name))
        self.same(f"close {target}", lambda: self.client.close(handle))

    def rename(self):
        path = self.rng.choice(self.model.files())
        replace = self.rng.random() < 0.3
        target = self.rng.choice(self.model.files()) if replace else self.free_name(NAMES)
        if target != path:
            self.set_name(path, target, self.changed(
                **{path: False, target: self.model.entries[path]}), replace)

    def rename_dir(self):
        dirs = self.model.dirs()[1:]
        if not dirs:
            return self.mkdir()
        path = self.rng.choice(dirs)
        target = self.free_name(DIRS)
        if f"{target}/".startswith(f"{path}/") or len(target) > 300:
            return None
        changes = {path: False, target: None}
        for child in self.model.children(path):
            changes[child] = False
            changes[target + child[len(path):]] = self.model.entries[child]
        return self.set_name(path, target, self.changed(**changes))

    def unlink(self):
        path = self.rng.choice(self.model.files())
        self.send(f"unlink {path}", self.changed(**{path: False}),
                  lambda: self.client.unlink(path))

    def mkdir(self):
        if len(self.model.dirs()) > 14:
            return self.rmdir()
        path = self.free_name(DIRS)
        return self.send(f"mkdir {path}", self.changed(**{path: None}),
                         lambda: self.client.mkdir(path))

    def rmdir(self):
        empty = [path for path in self.model.dirs()[1:] if not self.model.children(path)]
        if empty:
            path = self.rng.choice(empty)
            self.send(f"rmdir {path}", self.changed(**{path: False}),
                      lambda: self.client.close(self.client.create(
                          path, smb2.DELETE,
                          options=smb2.DELETE_ON_CLOSE | smb2.DIRECTORY_FILE)))

    def read(self):
        path = self.rng.choice(self.model.files())
        data = self.same(f"read {path}", lambda: self.client.get(path))
        check(data == self.model.entries[path], f"read of {path} gave other bytes")

    def one(self):
        kinds = [self.create] * 6 + [self.mkdir] * 2 + [self.rmdir]
        if self.model.files():
            kinds += [self.overwrite] * 3 + [self.patch] * 4 + [self.rename] * 4 \
                + [self.rename_dir] * 3 + [self.unlink] * 2 + [self.read] * 2
        operation = self.rng.choice(kinds)
        operation()
        self.count[operation.__name__] += 1

    # --- judging ----------------------------------------------------------------------------------
    def untorn(self, function):
        """An smbd that is killed while it stores what a file is open for leaves half of it in Samba's locking.tdb, on
        a plain share too: nobody can open the file, as all smbds say, until Samba is started anew."""
        try:
            return function()
        except SmbError as error:
            said = self.bed.log("smbd").count("Could not get share mode lock for")
            if error.name != "NT_STATUS_SHARING_VIOLATION" or said == self.torn:
                raise
        self.count["torn share modes"] += 1
        self.drop()
        self.bed.restart("smbd")
        self.connect()
        self.torn = self.bed.log("smbd").count("Could not get share mode lock for")
        return function()

    def judge(self, when, everything):
        """Compare the share with the log; settles what was in flight."""
        model = self.model
        found = self.untorn(lambda: walk(self.client))
        wrong = differences(model.entries, found)
        torn = None
        if model.maybe is not None:
            if model.torn is not None and found.keys() == model.entries.keys():
                torn = model.torn[0]
                wrong = differences(model.entries, found, torn)
                check(found[torn] in (len(model.torn[1]), len(model.torn[2]))
                      or len(model.torn[1]) < found[torn] < len(model.torn[2]),
                      f"{when}: {torn} has {found[torn]} bytes")
            elif wrong and not differences(model.maybe, found):
                model.entries = model.maybe
                wrong = []
        if wrong:
            fail(f"{when}: the share is not what was acknowledged:\n  " + "\n  ".join(wrong)
                 + "\nlast operations:\n  " + "\n  ".join(self.trail))
        files = set(model.files())
        if not everything:
            files &= model.touched | set(self.rng.sample(sorted(files), min(6, len(files))))
        for path in sorted(files):
            try:
                data = self.untorn(lambda p=path: self.client.get(p))
            except SmbError as error:
                fail(f"{when}: read of {path}: {error}\nlast operations:\n  "
                     + "\n  ".join(self.trail))
            if path == torn:
                _, old, new = model.torn
                longest = max(len(old), len(new))
                pad = [data.ljust(longest, b"\0"), old.ljust(longest, b"\0"),
                       new.ljust(longest, b"\0")]
                check(all(byte in (one, two) for byte, one, two in zip(*pad)),
                      f"{when}: {path}: neither old nor new bytes")
                model.entries[path] = data
            elif data != model.entries[path]:
                fail(f"{when}: {path}: {len(data)} bytes, not those that were acknowledged ("
                     f"{data[:24]!r} for {model.entries[path][:24]!r})\nlast operations:\n  "
                     + "\n  ".join(self.trail))
        model.maybe = model.torn = None
        model.touched = set()
        self.trail.append(f"{when}: agreed")
        self.note(f"{when}: agreed")


def differences(wanted, found, ignore=None):
    lines = [f"missing: {path}" for path in wanted if path not in found]
    lines += [f"unexpected: {path}" for path in found if path not in wanted]
    for path, data in wanted.items():
        size = None if data is None else len(data)
        if path in found and found[path] != size and path != ignore:
            lines.append(f"{path}: size {found[path]}, acknowledged {size}")
    return lines[:20]


def walk(client):
    """{path: size, or None for a directory}"""
    found = {}
    pending = [""]
    while pending:
        path = pending.pop()
        for name, attributes, size, *_ in client.list(path):
            child = f"{path}/{name}" if path else name
            if attributes & smb2.ATTR_DIRECTORY:
                found[child] = None
                pending.append(child)
            else:
                found[child] = size
    return found


def children(parent):
    """Living child processes."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] not in "ZX":
                found.add(int(name))
    return found


class Killer(threading.Thread):
    """Kills at a moment of its own choice, and starts again what does not come back by itself."""

    def __init__(self, bed, kind, rng, process):
        super().__init__()
        self.bed, self.kind, self.process = bed, kind, process
        self.delay_s = rng.uniform(0, 0.3)
        self.away_s = rng.choice([0, 0, rng.uniform(0, 0.15)])
        self.error = None
        self.over = threading.Event()

    def run(self):
        try:
            self.work()
        except ProcessLookupError:
            self.error = "what was to be killed had ended by itself:\n" \
                + tail(os.path.join(self.bed.dir, "log/cached.out")) + tail(self.bed.smbd_log)
        except (SystemExit, OSError, Failure) as error:
            self.error = repr(error)
        self.over.set()

    def work(self):
        time.sleep(self.delay_s)
        if self.kind in ("client", "both"):
            os.kill(self.process, signal.SIGKILL)
        if self.kind in ("cached", "both", "store+cached"):
            os.kill(int(self.bed.cached_pid), signal.SIGKILL)
        if self.kind == "smbd":
            self.bed.restart("smbd", kill=True)
        if self.kind in ("store", "store+cached"):
            self.bed.stop("store", kill=True)
        time.sleep(self.away_s)
        if self.kind in ("cached", "both", "store+cached"):
            daemon = Proc(os.path.join(self.bed.dir, "run/cached.pid"))
            wait_until(lambda: daemon.pid() is None, 20, "the killed daemon is gone", 0.002)
        if self.kind in ("store", "store+cached"):
            self.bed.start("store")
        if self.kind in ("cached", "both", "store+cached"):
            self.bed.start("cached")


def drain(bed):
    try:
        code, output = bed.ctl("flush", "--wait", timeout_s=120, may_fail=True)
    except subprocess.TimeoutExpired:
        code, output = 1, "no answer in 120 s"
    if code != 0:
        fail(f"not drained: {output}\n{bed.ctl('pending')}")


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    store = sys.argv[3] if len(sys.argv) > 3 else "dir"
    print(f"{rounds} rounds, seed {seed}, store {store}", flush=True)
    rng = random.Random(seed)
    kinds = collections.Counter()
    with Testbed(store=store, set=["settle time=50ms", "settle limit=1s"]) as bed:
        worker = Worker(bed, rng)
        worker.connect()
        for number in range(1, rounds + 1):
            kind = rng.choice(KINDS[store])
            kinds[kind] += 1
            worker.trail.append(f"round {number}, {kind}")
            killer = Killer(bed, kind, rng, worker.process)
            killer.start()
            try:
                while not killer.over.is_set():
                    worker.one()
            except InFlight:
                pass
            killer.join()
            if killer.error is not None:
                fail(f"round {number} ({kind}), seed {seed}: {killer.error}")
            if kind in ("client", "both", "smbd"):
                worker.drop()
                worker.connect()
            worker.judge(f"round {number} ({kind}), seed {seed}", False)
            if number % WIPE_EVERY == 0 or number == rounds:
                drain(bed)
                worker.drop()
                if store == "rgw":
                    # killed within a delete, it lists keys that are gone until it was asked once
                    bed.keys(internal=True)
                bed.sound()
                bed.wipe()
                worker.connect()
                worker.judge(f"disk lost after round {number}, seed {seed}", number == rounds)
                step(f"{number} rounds: {len(worker.model.entries)} names came back")
        conflicts = bed.ctl_json("status")["counters"]["conflicts"]
        check(conflicts == 0, f"{conflicts} conflict copies, and nobody else writes")
        worker.client.disconnect()
    print(f"kills: {dict(kinds)}; operations: {dict(worker.count)}")


if __name__ == "__main__":
    main()
