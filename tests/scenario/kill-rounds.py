#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 420
"""kill -9 of anything at any time is survived: 200 seeded rounds, judged by a log of what was
acknowledged (tests/lib/acknowledged.py): names, bytes, attributes, times, rights, EAs, streams.

In each round a client works while, at a random moment, the daemon, its smbd, both, every smbd or the
store is killed (s3sim: its port and connections are closed). What was acknowledged must be there when
the round ends; the one request in flight may have happened or not. While there is no daemon another
client reads what is on the local disk: the next daemon is not started before it has. Every 40 rounds,
and at the end, all is drained, the local disk is lost, and the same must come back from the store alone.
No operation may fail, except by the end of the connection.

usage: kill-rounds.py [ROUNDS [SEED [dir|rgw|s3sim [FENCE]]]]
"""

import collections
import hashlib
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time

import smb2
from acknowledged import Entry, Model, stream_of, walk
from procs import PATIENCE_S, Failure, Proc, tail, wait_until
from smb import Testbed, check, fail, step
from smb2 import SmbError

WIPE_EVERY = 40
FILES_MAX = 70
NAMES = ["report.doc", "data", "Brief an Müller.txt", "a b c", "x", "log.1", "naïve", "photo.jpeg",
         "日本語.txt", "README", "copy of copy", "t" * 120]
DIRS = ["docs", "Projekte", "2026", "tmp", "deep", "été"]
WITH_STORE = ["cached", "client", "both", "store", "store", "store+cached"]
KINDS = {"dir": ["cached"] * 8 + ["client"] * 6 + ["both"] * 5 + ["smbd"], "rgw": WITH_STORE, "s3sim": WITH_STORE}
STEADY = "steady"   # what is only read
DESCRIBED = 32      # names that are looked at with one exchange
ATTRIBUTES = (smb2.ATTR_NORMAL, smb2.ATTR_ARCHIVE, smb2.ATTR_HIDDEN, smb2.ATTR_SYSTEM | smb2.ATTR_ARCHIVE)
AS_HIDDEN = smb2.ATTR_HIDDEN | smb2.ATTR_SYSTEM  # who overwrites such a file must say so


class InFlight(Exception):
    """The connection ended within an operation."""


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
        self.longest_s = 0  # that a request took
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

    def send(self, what, after, function, torn=None, going=None):
        """One request that turns the model's entries into `after`."""
        model = self.model
        model.maybe, model.torn, model.going = after, torn, going
        if not (torn and self.trail and self.trail[-1].startswith(f"write {torn[0]} ")):
            self.trail.append(what)
        begin = time.monotonic()
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
        self.longest_s = max(self.longest_s, time.monotonic() - begin)
        model.entries, model.maybe, model.torn, model.going = after, None, None, None
        self.note(what)
        return result

    def same(self, what, function):
        """A request that changes nothing the model knows of."""
        return self.send(what, self.model.entries, function)

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
            entry = self.model.entries[path]
            old, at = entry.data, offset + start
            new = old[:at] + bytes(max(0, at - len(old))) + piece + old[at + len(piece):]
            self.send(f"write {path} {at}+{len(piece)}", self.model.changed({path: entry.written(new)}),
                      lambda p=piece, a=at: self.client.end_write(
                          self.client.send_write(handle, a, p)), torn=(path, old, new))

    def create(self):
        if len(self.model.files()) > FILES_MAX:
            return self.unlink()
        path = self.free_name(NAMES)
        data = self.content()
        handle = self.send(f"create {path}", self.model.changed({path: Entry(b"", {"eas": {}, "streams": {}})}),
                           lambda: self.client.create(path, disposition=smb2.FILE_CREATE,
                                                      options=smb2.NON_DIRECTORY_FILE))
        self.write(path, handle, data)
        self.same(f"close {path}", lambda: self.client.close(handle))

    def overwrite(self):
        path = self.rng.choice(self.model.files())
        data = self.content()
        handle = self.send(f"overwrite {path}", self.model.changed({path: self.model.entries[path].overwritten()}),
                           lambda: self.client.create(path, disposition=smb2.FILE_OVERWRITE_IF,
                                                      options=smb2.NON_DIRECTORY_FILE, attributes=AS_HIDDEN))
        self.write(path, handle, data)
        self.same(f"close {path}", lambda: self.client.close(handle))

    def patch(self):
        path = self.rng.choice(self.model.files())
        data = self.content()[:3000]
        old = self.model.entries[path].data
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
            # a file that was renamed is to be archived
            self.set_name(path, target, self.model.changed(
                {path: None, target: self.model.entries[path].without("attributes")}), replace)

    def rename_dir(self):
        dirs = self.model.dirs()[1:]
        if not dirs:
            return self.mkdir()
        path = self.rng.choice(dirs)
        target = self.free_name(DIRS)
        if f"{target}/".startswith(f"{path}/") or len(target) > 300:
            return None
        changes = {path: None, target: self.model.entries[path]}
        for child in self.model.children(path):
            changes[child] = None
            changes[target + child[len(path):]] = self.model.entries[child]
        return self.set_name(path, target, self.model.changed(changes))

    def unlink(self):
        path = self.rng.choice(self.model.files())
        self.send(f"unlink {path}", self.model.changed({path: None}),
                  lambda: self.client.unlink(path), going=path)

    def mkdir(self):
        if len(self.model.dirs()) > 14:
            return self.rmdir()
        path = self.free_name(DIRS)
        return self.send(f"mkdir {path}", self.model.changed({path: Entry(None, {"eas": {}, "streams": {}})}),
                         lambda: self.client.mkdir(path))

    def rmdir(self):
        empty = [path for path in self.model.dirs()[1:] if not self.model.children(path)]
        if empty:
            path = self.rng.choice(empty)
            self.send(f"rmdir {path}", self.model.changed({path: None}),
                      lambda: self.client.close(self.client.create(
                          path, smb2.DELETE,
                          options=smb2.DELETE_ON_CLOSE | smb2.DIRECTORY_FILE)), going=path)

    def read(self):
        path = self.rng.choice(self.model.files())
        data = self.same(f"read {path}", lambda: self.client.get(path))
        check(data == self.model.entries[path].data, f"read of {path} gave other bytes")

    def evict(self):
        """By an administrator: what goes comes back when it is wanted. Refused where it waits, or there is no daemon."""
        self.bed.ctl("evict", self.rng.choice(self.model.files()), may_fail=True)

    # --- what a name has besides bytes ---
    def set_about(self):
        """One of its attributes, times, rights, EAs and streams changes."""
        path = self.rng.choice(sorted(self.model.entries))
        what = self.rng.choice([self.set_basic, self.set_dacl, self.set_ea, self.set_stream])
        handle = self.same(f"open {path}", lambda: self.client.create(path))
        what(path, handle, self.model.entries[path])
        self.same(f"close {path}", lambda: self.client.close(handle))

    def set_basic(self, path, handle, entry):
        attributes = self.rng.choice(ATTRIBUTES)
        times = {name: smb2.nt_time(self.rng.randrange(10**9, 2 * 10**9)) + self.rng.randrange(10**7)
                 for name in ("create", "write")}
        if entry.data is None:
            attributes = attributes & ~smb2.ATTR_NORMAL | smb2.ATTR_DIRECTORY
            del times["write"]
        self.send(f"attributes {path} {attributes:x} {times}",
                  self.model.changed({path: entry.knowing(attributes=attributes, **times)}),
                  lambda: self.client.set_basic(handle, attributes, times))

    def set_dacl(self, path, handle, entry):
        dacl = f"D:P(A;;0x001200a9;;;S-1-5-21-11-22-33-{self.rng.randrange(1000, 9999)})(A;;0x001f01ff;;;WD)"
        self.send(f"rights {path} {dacl}", self.model.changed({path: entry.knowing(dacl=dacl)}),
                  lambda: self.client.set_sddl(handle, dacl))

    def set_ea(self, path, handle, entry):
        name, value = self.rng.choice(("ONE", "TWO")), self.rng.randbytes(self.rng.choice((0, 1, 60)))
        eas = dict(entry.about["eas"]) if "eas" in entry.about else None
        if eas is not None:
            eas.pop(name, None)
            eas.update({name: value.hex()} if value else {})
            entry = entry.knowing(eas=eas)
        self.send(f"EA {path} {name} {len(value)}", self.model.changed({path: entry}),
                  lambda: self.client.set_eas(handle, {name: value}))

    def set_stream(self, path, _, entry):
        """Emptied, then written: two requests."""
        name, data = self.rng.choice(("a", "Zone.Identifier")), self.rng.randbytes(self.rng.choice((1, 200)))
        entry = entry.without("write", "attributes")
        streams = entry.about.get("streams")

        def holding(content):
            return entry if streams is None else entry.knowing(streams={**streams, name: stream_of(content)})

        handle = self.send(f"stream {path}:{name}", self.model.changed({path: holding(b"")}),
                           lambda: self.client.create(f"{path}:{name}", disposition=smb2.FILE_OVERWRITE_IF,
                                                      attributes=AS_HIDDEN))
        self.send(f"stream {path}:{name} {len(data)}", self.model.changed({path: holding(data)}),
                  lambda: self.client.end_write(self.client.send_write(handle, 0, data)))
        self.same(f"close {path}:{name}", lambda: self.client.close(handle))

    def one(self):
        kinds = [self.create] * 6 + [self.mkdir] * 2 + [self.rmdir]
        if self.model.files():
            kinds += [self.overwrite] * 3 + [self.patch] * 4 + [self.rename] * 4 \
                + [self.rename_dir] * 3 + [self.unlink] * 2 + [self.read] * 2 + [self.set_about] * 6 + [self.evict]
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

    def judge(self, when, everything, killed=False):
        """Compare the share with the log; settles what was in flight."""
        model = self.model
        found = self.untorn(lambda: walk(self.client, (STEADY,)))
        entries, torn = self.names(when, found)
        looked = set(entries)
        if not everything:
            looked &= model.touched | set(self.rng.sample(sorted(looked), min(6, len(looked))))
        described = self.describe(sorted(looked), found)
        data = {}
        for path, fields in described.items():
            found[path] = {**found[path], **fields}
        wrong = [line for path, fields in sorted(found.items()) for line in model.differences_about(path, fields)]
        for path, fields in described.items():
            if path == torn:
                data[path] = self.judge_torn(when, path)
            elif fields["type"] == "file" and fields["sha256"] != hashlib.sha256(entries[path].data).hexdigest():
                wrong.append(self.other_bytes(path, entries[path].data))
        self.agreed(when, wrong)
        model.settle(entries, found, data, killed)
        self.trail.append(f"{when}: agreed")
        self.note(f"{when}: agreed")

    def agreed(self, when, wrong):
        if wrong:
            fail(f"{when}: the share is not what was acknowledged:\n  " + "\n  ".join(wrong[:20])
                 + "\nlast operations:\n  " + "\n  ".join(self.trail))

    def names(self, when, found):
        """The entries, before or after the request in flight, that the share has; and the file that was being written."""
        model = self.model
        wrong = model.differences(model.entries, found)
        if wrong and model.torn is not None and found.keys() == model.entries.keys():
            path, old, new = model.torn
            size = found[path]["size"]
            if size == len(new) or len(old) < size < len(new):
                wrong = model.differences(model.entries, found, path)
        elif wrong and model.maybe is not None and not model.differences(model.maybe, found):
            return model.maybe, None
        self.agreed(when, wrong)
        return model.entries, model.torn[0] if model.torn else None

    def describe(self, paths, found):
        described = {}
        for start in range(0, len(paths), DESCRIBED):
            wanted = [(path, found[path]["type"] == "dir", found[path]["size"] or 0)
                      for path in paths[start:start + DESCRIBED]]
            described.update(self.untorn(lambda w=wanted: list(self.client.describe("", w))))
        return described

    def judge_torn(self, when, path):
        """Each byte of a write in flight is the old or the new one."""
        _, old, new = self.model.torn
        data = self.untorn(lambda: self.client.get(path))
        longest = max(len(old), len(new))
        pad = [bytes.ljust(longest, b"\0") for bytes in (data, old, new)]
        check(all(byte in (one, two) for byte, one, two in zip(*pad)),
              f"{when}: {path}: neither old nor new bytes")
        return data

    def other_bytes(self, path, wanted):
        data = self.untorn(lambda: self.client.get(path))
        return f"{path}: {len(data)} bytes, not those that were acknowledged ({data[:24]!r} for {wanted[:24]!r})"


class Steady:
    """Another client, that reads what is on the local disk while there is no daemon: from an open file, and of one
    that it opens."""

    def __init__(self, bed):
        self.bed, self.data, self.longest_s, self.count = bed, os.urandom(200000), 0, 0
        with bed.client() as client:
            client.mkdir(STEADY)
            for name in ("held", "opened"):
                client.put(f"{STEADY}/{name}", self.data)
        self.connect()

    def connect(self):
        """Whatever was lost is here afterwards."""
        self.client = self.bed.client(timeout_s=PATIENCE_S)
        for name in ("held", "opened"):
            check(self.client.get(f"{STEADY}/{name}") == self.data, f"{STEADY}/{name}: other bytes")
        self.held = self.client.create(f"{STEADY}/held", smb2.READ_DATA)

    def drop(self):
        self.client.sock.close()

    def look(self):
        begin = time.monotonic()
        try:
            check(self.client.read(self.held, 70000, 65536) == self.data[70000:135536], "other bytes of an open file")
            check(self.client.get(f"{STEADY}/opened") == self.data, "other bytes")
        except (SmbError, OSError) as error:
            raise Failure(f"a read of what is on the local disk, without a daemon: {error or repr(error)}") from None
        self.longest_s = max(self.longest_s, time.monotonic() - begin)
        self.count += 1


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

    def __init__(self, bed, kind, rng, process, steady):
        super().__init__()
        self.bed, self.kind, self.process, self.steady = bed, kind, process, steady
        self.delay_s = rng.uniform(0, 0.3)
        self.looks = rng.choice([True, False])
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
            if self.looks:
                self.steady.look()
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


def said(longest_s):
    if not longest_s:
        return "none"
    return f"{len(longest_s)}, the longest request of each: median {1000 * statistics.median(longest_s):.0f} ms, " \
        f"worst {1000 * max(longest_s):.0f} ms"


def lose_disk(bed, worker, steady, when, everything):
    """What was drained comes back from the store."""
    drain(bed)
    worker.drop()
    steady.drop()
    if bed.store == "rgw":
        # killed within a delete, it lists keys that are gone until it was asked once
        bed.keys(internal=True)
    bed.sound()
    bed.wipe()
    worker.connect()
    worker.judge(when, everything)
    steady.connect()


def one_round(bed, worker, steady, kind, when):
    worker.trail.append(when)
    worker.longest_s = 0
    killer = Killer(bed, kind, worker.rng, worker.process, steady)
    killer.start()
    try:
        while not killer.over.is_set():
            worker.one()
    except InFlight:
        pass
    killer.join()
    if killer.error is not None:
        fail(f"{when}: {killer.error}")
    killed = kind in ("client", "both", "smbd")
    if killed:
        worker.drop()
        worker.connect()
    if kind == "smbd":
        steady.drop()
        steady.connect()
    worker.judge(when, False, killed)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    store = sys.argv[3] if len(sys.argv) > 3 else "dir"
    fence = sys.argv[4] if len(sys.argv) > 4 else None
    print(f"{rounds} rounds, seed {seed}, store {store} {fence or ''}", flush=True)
    rng = random.Random(seed)
    kinds, longest_s = collections.Counter(), []
    with Testbed(store=store, fence=fence, set=["settle time=50ms", "settle limit=1s"]) as bed:
        steady = Steady(bed)
        worker = Worker(bed, rng)
        worker.connect()
        for number in range(1, rounds + 1):
            kind = rng.choice(KINDS[store])
            kinds[kind] += 1
            one_round(bed, worker, steady, kind, f"round {number} ({kind}), seed {seed}")
            if kind == "cached":
                longest_s.append(worker.longest_s)
            if number % WIPE_EVERY == 0 or number == rounds:
                lose_disk(bed, worker, steady, f"disk lost after round {number}, seed {seed}", number == rounds)
                step(f"{number} rounds: {len(worker.model.entries)} names came back")
        conflicts = bed.ctl_json("status")["counters"]["conflicts"]
        check(conflicts == 0, f"{conflicts} conflict copies, and nobody else writes")
        worker.client.disconnect()
        steady.client.disconnect()
    print(f"kills: {dict(kinds)}; operations: {dict(worker.count)}")
    print(f"deaths of the daemon alone: {said(longest_s)}; looks at the local disk without one: {steady.count}, "
          f"the longest {1000 * steady.longest_s:.0f} ms")


if __name__ == "__main__":
    main()
