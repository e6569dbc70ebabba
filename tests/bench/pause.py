#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long clients stand still when the daemon is killed: the longest operation of each client around each kill,
and, as control, around a moment at which nothing happens.

    tests/bench/pause.py [--kills 20] [--delay SECONDS] [--set KEY=VALUE]

The daemon is started again `delay` after it is gone: as the unit does (RestartSec=) if not said. An operation that
fails is a fault, and ends it. Not a test: the figures are this machine's.
"""

import argparse
import os
import random
import re
import statistics
import sys
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import smb2  # noqa: E402
from procs import Proc, wait_until  # noqa: E402
from smb import ROOT, Testbed, check, fail, step  # noqa: E402

UNIT = os.path.join(ROOT, "packaging", "objectfs-cached.service.in")
WINDOW_S = 3    # around a moment
SIZE = 4096
NAMES = 200


def body(name):
    return (name.encode() * SIZE)[:SIZE]


class Client(threading.Thread):
    """One connection that does one thing over and over, and notes when each began and ended."""

    def __init__(self, bed):
        super().__init__(daemon=True)
        self.bed, self.spans, self.error, self.over = bed, [], None, threading.Event()
        self.rng = random.Random(self.kind)

    def run(self):
        try:
            with self.bed.client(timeout_s=60) as self.client:
                self.prepare()
                while not self.over.is_set():
                    begin = time.monotonic()
                    self.one()
                    self.spans.append((begin, time.monotonic()))
        except Exception as error:  # pylint: disable=broad-except
            self.error = f"{self.kind}: {type(error).__name__}: {error}"

    def prepare(self):
        pass

    def longest(self, begin, end):
        """Of the operations that touch this time, in seconds."""
        return max((stop - start for start, stop in list(self.spans) if stop > begin and start < end), default=0)


class Reads(Client):
    kind = "read, resident"

    def prepare(self):
        self.file = self.client.create("here/0", smb2.READ_DATA)

    def one(self):
        check(self.client.read(self.file, 0, SIZE) == body("0"), "other bytes")


class Opens(Client):
    kind = "open and read, resident"

    def one(self):
        name = str(self.rng.randrange(NAMES))
        check(self.client.get(f"here/{name}") == body(name), "other bytes")


class Cycle(Client):
    kind = "create, write, close, rename, unlink"

    def one(self):
        self.client.put("work/new", body("new"))
        self.client.rename("work/new", "work/other")
        self.client.unlink("work/other")


class Lists(Client):
    kind = "list, known"

    def one(self):
        check(len(self.client.list("here")) == NAMES, "names are missing")


class Recalls(Client):
    kind = "read of stubs"

    def one(self):
        name = str(self.rng.randrange(NAMES))
        check(self.client.get(f"away/{name}") == body(name), "other bytes")


KINDS = (Reads, Opens, Cycle, Lists, Recalls)


def restart_s():
    with open(UNIT, encoding="utf-8") as file:
        number, unit = re.search(r"^RestartSec=([\d.]+)(ms)?$", file.read(), re.M).groups()
    return float(number) / (1000 if unit else 1)


def fill(bed):
    with bed.client() as client:
        for where in ("here", "away", "work"):
            client.mkdir(where)
        for where in ("here", "away"):
            for number in range(NAMES):
                client.put(f"{where}/{number}", body(str(number)))
        for where in ("here", "away", "work"):
            client.list(where)
    bed.flush()


def moment(bed, clients, kills, delay):
    """Around one moment: {kind: the longest operation}."""
    bed.ctl("evict", "away", may_fail=True)
    time.sleep(WINDOW_S)
    begin = time.monotonic()
    if kills:
        daemon = Proc(os.path.join(bed.dir, "run/cached.pid"))
        os.kill(int(bed.cached_pid), 9)
        wait_until(lambda: daemon.pid() is None, 20, "the killed daemon is gone", 0.002)
        time.sleep(delay)
        bed.start("cached")
    time.sleep(WINDOW_S)
    end = time.monotonic()
    for client in clients:
        check(client.error is None, client.error)
    return {client.kind: client.longest(begin, end) for client in clients}


def main():
    opt = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    opt.add_argument("--kills", type=int, default=20)
    opt.add_argument("--delay", type=float, default=restart_s())
    opt.add_argument("--set", action="append", default=[])
    opt = opt.parse_args()
    with Testbed(set=opt.set) as bed:
        fill(bed)
        clients = [kind(bed) for kind in KINDS]
        for client in clients:
            client.start()
        found = {True: [], False: []}
        for number in range(2 * opt.kills):
            kills = number % 4 in (1, 2)
            found[kills].append(moment(bed, clients, kills, opt.delay))
        for client in clients:
            client.over.set()
        for client in clients:
            client.join(60)
            if client.error or client.is_alive():
                fail(client.error or f"{client.kind}: does not end")
        step(f"the longest operation in ms around {opt.kills} kills (started again after {opt.delay * 1000:.0f} ms), "
             "and around nothing; median, worst")
        for client in clients:
            killed, control = ([1000 * one[client.kind] for one in found[kills]] for kills in (True, False))
            print(f"{client.kind:40} {statistics.median(killed):7.1f} {max(killed):7.1f}   "
                  f"{statistics.median(control):7.1f} {max(control):7.1f}")


if __name__ == "__main__":
    main()
