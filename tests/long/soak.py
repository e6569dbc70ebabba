#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 65 min; root, 2 GB: everything at once for an hour; what is held stays flat
"""Hours of everything at once: clients as in long/tenth, another tool that writes to the bucket, a store that fails
now and then and is away now and then, a cache of a tenth. Every byte is compared, and what the daemon and the smbds
hold stays what it was: memory, descriptors, threads, index, cache.

usage: soak.py [SECONDS [SEED]]         an hour; below ten minutes nothing is said of what is held
"""

import collections
import hashlib
import os
import random
import statistics
import sys
import threading
import time

from smb import SmbError, Testbed, check, fail, step, wait_until
from tenth import CLIENTS, MIB, Worker, counters, read_all

DATA = 640 * MIB
CACHE = DATA // 10
SAMPLE_S = 5
LEAST_S = 600       # shorter ones have not settled
OTHERS = 200        # names of the other tool
# (operation, key, what, order); bytes that are not the object's are an error to who has read some: the other tool's alone,
# as the clients' own reads may not fail
FAULTS = (("GetObject", "*", "reset", {"when": "mid", "bytes": 1000}), ("GetObject", "*", "truncate", {"bytes": 500}),
          ("GetObject", "*other/*", "corrupt", {"bytes": 100}),
          ("PutObject", "*", "reset", {"when": "after"}),
          ("PutObject", "*", "error", {"code": "InternalError", "when": "after"}),
          ("*", "*", "error", {"code": "SlowDown", "when": "before"}),
          ("UploadPart", "*", "reset", {"when": "mid", "bytes": 70000}),
          ("CompleteMultipartUpload", "*", "inside", {"code": "InternalError", "when": "before"}),
          ("CopyObject", "*", "reset", {"when": "after"}), ("DeleteObject", "*", "reset", {"when": "after"}),
          ("ListObjectsV2", "*", "truncate", {"bytes": 300}))
# what may be added to the first settled quarter's median: a share of it, and so much
SLACK = {"daemon_kib": (0.15, 8192), "daemon_fds": (0.0, 32), "daemon_threads": (0.0, 4), "smbd_kib": (0.15, 8192),
         "smbd_fds": (0.0, 32), "index_kib": (0.25, 2048)}


def digest(data):
    return hashlib.sha256(data).digest()


class Other(threading.Thread):
    """Puts, replaces and deletes objects of a directory that no client writes to, and looks at them as a client."""

    def __init__(self, bed, seed, until):
        super().__init__(daemon=True)
        self.bed, self.rng, self.until = bed, random.Random(seed), until
        # digests: what a name may have now, None if nothing; and all that was ever begun to be put there
        self.has, self.put = {}, collections.defaultdict(set)
        self.error, self.count = None, collections.Counter()

    def run(self):
        try:
            with self.bed.client(timeout_s=120) as client:
                while time.monotonic() < self.until:
                    self.act()
                    if self.rng.randrange(20) == 0:
                        self.look(client)
                    time.sleep(0.2)
        except Exception as error:  # pylint: disable=broad-except
            self.error = f"other tool: {type(error).__name__}: {error}"

    def act(self):
        s3, name = self.bed.s3(), f"o{self.rng.randrange(OTHERS)}"
        where = {"Bucket": self.bed.s3_bucket, "Key": f"{self.bed.s3_prefix}other/{name}"}
        try:
            if name in self.has and self.rng.randrange(3) == 0:
                self.has[name] = self.has.get(name, set()) | {None}
                s3.delete_object(**where)
                self.has[name] = {None}
            else:
                data = self.rng.randbytes(self.rng.choice((0, 10, 5000, 300000)))
                self.put[name].add(digest(data))
                self.has[name] = self.has.get(name, {None}) | {digest(data)}
                s3.put_object(Body=data, **where)
                self.has[name] = {digest(data)}
            self.count["acts"] += 1
        except Exception:  # pylint: disable=broad-except
            self.count["refused"] += 1  # the store is away, or had the fault: either may be so

    def look(self, client):
        """A name that a listing shows has bytes that were put there once."""
        try:
            names = [entry[0] for entry in client.list("other")]
            if names:
                name = self.rng.choice(names)
                if digest(client.get(f"other/{name}")) not in self.put[name]:
                    raise AssertionError(f"other/{name}: bytes that nobody put there")
            self.count["looks"] += 1
        except SmbError as error:
            if error.name not in ("NT_STATUS_OBJECT_NAME_NOT_FOUND", "NT_STATUS_OBJECT_PATH_NOT_FOUND",
                                  "NT_STATUS_IO_DEVICE_ERROR", "NT_STATUS_DEVICE_NOT_READY",
                                  "NT_STATUS_UNEXPECTED_NETWORK_ERROR", "NT_STATUS_NETWORK_UNREACHABLE"):
                raise
            self.count[error.name] += 1  # deleted meanwhile, or the store is away

    def judge(self, client):
        found = {entry[0] for entry in client.list("other")} if self.has else set()
        for name, may in sorted(self.has.items()):
            if name not in found:
                check(None in may, f"other/{name} is missing")
            else:
                check(digest(client.get(f"other/{name}")) in may, f"other/{name}: other bytes")
        check(found <= set(self.has), f"never put: {found - set(self.has)}")


def disturb(bed, rng):
    """Some faults, or the store is away for a while."""
    sim = bed.sim()
    if rng.randrange(10) == 0:
        bed.stop("store")
        time.sleep(rng.uniform(0.5, 8))
        bed.start("store")
        return "outage"
    sim.clear()
    for op, key, do, order in rng.sample(FAULTS, 3):
        sim.fault(op, key, do, skip=rng.randrange(30), count=rng.randrange(1, 4), **order)
    return "faults"


def held(pid):
    """(KiB, descriptors, threads) of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        status = dict(line.split(":", 1) for line in file.read().splitlines())
    return int(status["VmRSS"].split()[0]), len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"])


def sample(bed):
    daemon, smbd = held(bed.cached_pid), (0, 0)
    with open(f"/proc/{bed.smbd_pid}/task/{bed.smbd_pid}/children", encoding="ascii") as file:
        for pid in file.read().split():
            try:
                kib, fds, _ = held(pid)
            except (OSError, KeyError):
                continue
            smbd = (max(smbd[0], kib), max(smbd[1], fds))
    index = sum(os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(os.path.dirname(bed.mirror))
                for name in names if name.startswith("index.db") and top == os.path.dirname(bed.mirror))
    return {"daemon_kib": daemon[0], "daemon_fds": daemon[1], "daemon_threads": daemon[2], "smbd_kib": smbd[0],
            "smbd_fds": smbd[1], "index_kib": index // 1024, "cache": counters(bed)["cache_bytes"]}


def watch(bed, workers, other, rng, begin, until):
    samples, done, next_at = [], collections.Counter(), 0
    while any(worker.is_alive() for worker in (*workers, other)):
        for worker in (*workers, other):
            check(worker.error is None, worker.error)
        now = time.monotonic()
        samples.append((now - begin, sample(bed)))
        check(samples[-1][1]["cache"] <= CACHE, f"{samples[-1][1]['cache']} bytes in the cache")
        if next_at < now < until:
            done[disturb(bed, rng)] += 1
            next_at = now + rng.uniform(2, 20)
        if now >= until:
            bed.sim().clear()
        time.sleep(SAMPLE_S)
    bed.sim().clear()
    return samples, done


def flat(samples, seconds):
    """The last quarter is no more than the second was, but for the slack."""
    wrong = []
    for what, (part, more) in SLACK.items():
        quarters = [statistics.median([one[what] for at, one in samples if low * seconds <= at < (low + 0.25) * seconds])
                    for low in (0.25, 0.75)]
        print(f"   {what}: {quarters[0]:.0f} -> {quarters[1]:.0f}")
        if quarters[1] > quarters[0] * (1 + part) + more:
            wrong.append(f"{what} grew from {quarters[0]:.0f} to {quarters[1]:.0f}")
    return wrong


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3600
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    step(f"{seconds:g} s, seed {seed}, {DATA >> 20} MiB of data, {CACHE >> 20} MiB of cache")
    rng = random.Random(seed)
    with Testbed(store="s3sim", set=["settle time=200ms", f"cache size={CACHE}", "cache high=80", "cache low=70",
                                     "listing age=2s", "part size=5M"]) as bed:
        begin = time.monotonic()
        until = begin + seconds
        other = Other(bed, seed, until)
        workers = [Worker(bed, number, seed, DATA // CLIENTS, until) for number in range(CLIENTS)]
        for worker in (*workers, other):
            worker.start()
        samples, done = watch(bed, workers, other, rng, begin, until)
        for worker in (*workers, other):
            check(worker.error is None, worker.error)
        count = sum((worker.count for worker in workers), collections.Counter())
        step(f"{dict(done)}; other tool: {dict(other.count)}; {dict(count)}")
        bed.flush()
        wait_until(lambda: counters(bed)["pending"] == 0, 60, "all is in S3")
        bed.ctl("refresh", "other", may_fail=True)
        with bed.client() as client:
            other.judge(client)
        check(counters(bed)["conflicts"] == 0, "conflict copies, and nobody else writes there")
        left = bed.s3().list_multipart_uploads(Bucket=bed.s3_bucket).get("Uploads", [])
        step(f"{len(left)} multipart uploads left")
        step("the disk is lost: all is there again")
        bed.sound(content=False)
        bed.wipe()
        read_all(bed, workers)
        with bed.client() as client:
            other.judge(client)
        step("what is held")
        if seconds >= LEAST_S:
            wrong = flat(samples, seconds)
            if wrong:
                fail("; ".join(wrong))


if __name__ == "__main__":
    main()
