#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 65 min; root, 2 GB: scenario/tenth for an hour
"""A share that is ten times as large as its cache: clients read, write, rename and delete at random, and every byte
that comes back is compared with what was written; the cache keeps its size by the daemon's own counter, and no
client sees an error. Now and then the daemon is killed.

usage: tenth.py [SECONDS [SEED [DATA_MIB]]]         an hour of 640 MiB; the gate: scenario/tenth, one minute
"""

import collections
import hashlib
import json
import random
import sys
import threading
import time

import smb2
from smb import Testbed, check, fail, step

MIB = 1 << 20
CLIENTS = 4
KILL_EVERY_S = 25
SIZES = (1, 4096, 50000, 300000, MIB, 2 * MIB + 17, 5 * MIB)
WEIGHTS = (2, 4, 6, 6, 4, 3, 2)
HOT = 8  # of ten reads go to a tenth of the files


def body(seed, size):
    """Cheap, and no two are alike in any KiB."""
    block = hashlib.shake_256(str(seed).encode()).digest(1000)
    return b"".join(block + number.to_bytes(8, "little") for number in range(size // 1008 + 1))[:size]


class Worker(threading.Thread):
    """One client with a directory of its own, of which it knows what must be in it: {path: (seed, changes, size)};
    the bytes are made anew for each comparison."""

    def __init__(self, bed, number, seed, share_bytes, until):
        super().__init__(daemon=True)
        self.bed, self.top, self.rng = bed, f"c{number}", random.Random(f"{seed}.{number}")
        self.share_bytes, self.until = share_bytes, until
        self.files, self.total, self.serial = {}, 0, 0
        self.count = collections.Counter()
        self.error = None

    def run(self):
        try:
            with self.bed.client(timeout_s=120) as self.client:
                self.client.mkdir(self.top)
                while self.total < self.share_bytes:
                    self.make()
                while time.monotonic() < self.until:
                    self.one()
                for path in sorted(self.files):
                    self.read_whole(path)
        except Exception as error:  # pylint: disable=broad-except
            self.error = f"{self.top}: {type(error).__name__}: {error}"

    # --- what must be there ---
    def data(self, path):
        seed, changes, size = self.files[path]
        data = bytearray(body(seed, size))
        for offset, number, length in changes:
            data[offset:offset + length] = body(number, length)
        return bytes(data)

    def note(self, path, entry):
        self.total += entry[2] - (self.files[path][2] if path in self.files else 0)
        self.files[path] = entry

    def pick(self):
        names = sorted(self.files)
        return self.rng.choice(names[:len(names) // 10 + 1] if self.rng.randrange(10) < HOT else names)

    def new_path(self):
        self.serial += 1
        return f"{self.top}/{self.serial:06}"

    # --- what a client does ---
    def one(self):
        action = self.rng.choices(
            ("read_whole", "read_ranges", "write", "replace", "rename", "delete", "listed"),
            (30, 30, 12, 8, 8, 8, 4))[0]
        self.count[action] += 1
        if action == "listed":
            self.listed()
        else:
            getattr(self, action)(self.pick())

    def make(self):
        size = self.rng.choices(SIZES, WEIGHTS)[0]
        path = self.new_path()
        seed = f"{path}.{self.serial}"
        self.client.put(path, body(seed, size))
        self.note(path, (seed, (), size))

    def read_whole(self, path):
        wanted, found = self.data(path), self.client.get(path)
        if found != wanted:
            raise ValueError(f"{path}: {len(found)} bytes, {len(wanted)} wanted, other bytes")

    def read_ranges(self, path):
        wanted = self.data(path)
        file = self.client.create(path, smb2.READ_DATA)
        for _ in range(self.rng.randrange(1, 6)):
            offset, length = self.rng.randrange(len(wanted)), self.rng.choice((1, 4096, 70000, 400000))
            found = self.client.read(file, offset, length)
            if found != wanted[offset:offset + length]:
                raise ValueError(f"{path}: other bytes at {offset}")
        self.client.close(file)

    def write(self, path):
        seed, changes, size = self.files[path]
        file = self.client.create(path, smb2.READ_DATA | smb2.WRITE_DATA)
        for _ in range(self.rng.randrange(1, 4)):
            self.serial += 1
            offset, length = self.rng.randrange(size), self.rng.choice((1, 777, 65536))
            self.client.write(file, offset, body(self.serial, length))
            size = max(size, offset + length)
            changes += ((offset, self.serial, length),)
            # what lies between an old end and the offset would be zeros: offsets are within the file
            self.note(path, (seed, changes, size))
        self.client.close(file)

    def replace(self, path):
        self.serial += 1
        seed, size = f"again {self.serial}", self.rng.choices(SIZES, WEIGHTS)[0]
        self.client.put(path, body(seed, size))
        self.note(path, (seed, (), size))

    def rename(self, path):
        target = self.new_path()
        self.client.rename(path, target)
        self.files[target] = self.files.pop(path)

    def delete(self, path):
        self.client.unlink(path)
        self.total -= self.files.pop(path)[2]
        while self.total < self.share_bytes:
            self.make()

    def listed(self):
        found = {f"{self.top}/{entry[0]}": entry[2] for entry in self.client.list(self.top)}
        wanted = {path: entry[2] for path, entry in self.files.items()}
        if found != wanted:
            raise ValueError(f"listing: {set(found.items()) ^ set(wanted.items())}")


def counters(bed):
    """Of a daemon that may be on its way up."""
    code, text = bed.ctl("--json", "status", may_fail=True)
    if code != 0:
        return None
    return json.loads(text)["counters"]


def watch(bed, workers, cache, rng):
    """Until all clients have ended: the cache's size, and kills. The most that was here."""
    most, kill_at, sums = 0, time.monotonic() + KILL_EVERY_S, collections.Counter()
    while any(worker.is_alive() for worker in workers):
        now = counters(bed)
        if now is not None:
            most = max(most, now["cache_bytes"])
            if now["cache_bytes"] > cache:
                fail(f"{now['cache_bytes'] / MIB:.1f} MiB are in the cache, {bed.mirror_bytes() / MIB:.1f} on "
                     f"the disk: {bed.ctl('--json', 'status')}")
        check(not any(worker.error for worker in workers),
              next((worker.error for worker in workers if worker.error), ""))
        if time.monotonic() > kill_at:
            for name in ("evictions", "recalls", "uploads", "cache_full"):
                sums[name] += (now or {}).get(name, 0)
            bed.restart("cached", kill=True)
            sums["kills"] += 1
            kill_at = time.monotonic() + KILL_EVERY_S * rng.uniform(0.5, 1.5)
        time.sleep(0.2)
    for name in ("evictions", "recalls", "uploads", "cache_full"):
        sums[name] += counters(bed).get(name, 0)
    return most, sums


def read_all(bed, workers):
    """Every name and byte of theirs."""
    for worker in workers:
        with bed.client() as worker.client:
            worker.listed()
            for path in sorted(worker.files):
                worker.read_whole(path)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3600
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    data = (int(sys.argv[3]) if len(sys.argv) > 3 else 640) * MIB
    cache = max(data // 10, 64 * MIB)
    step(f"{seconds:g} s, seed {seed}, {data >> 20} MiB of data, {cache >> 20} MiB of cache")
    rng = random.Random(seed)
    with Testbed(set=["settle time=200ms", f"cache size={cache}", "cache high=80", "cache low=70"]) as bed:
        until = time.monotonic() + seconds
        workers = [Worker(bed, number, seed, data // CLIENTS, until) for number in range(CLIENTS)]
        for worker in workers:
            worker.start()
        most, sums = watch(bed, workers, cache, rng)
        for worker in workers:
            if worker.error:
                fail(worker.error)
        step(f"at most {most >> 20} MiB in the cache; {dict(sums)}; "
             f"{dict(sum((worker.count for worker in workers), collections.Counter()))}")
        check(sums["evictions"] > 0 and sums["recalls"] > 0, "nothing left the disk")
        check(sums["cache_full"] == 0, "writers were refused")
        bed.flush()
        step("the disk is lost: all is there again")
        bed.wipe()
        read_all(bed, workers)


if __name__ == "__main__":
    main()
