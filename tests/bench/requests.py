#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the store for what clients do: counted, so the same on any machine.

    tests/bench/requests.py [--store dir|rgw] [--files 1000] [--renamed 10000] [--json FILE] [--check]

--check: fail where a count is not what docs/COSTS.md says of a store of class F3 (`dir` is one).
"""

import argparse
import json
import os
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from bucket_reader import read_bed  # noqa: E402
from procs import wait_until  # noqa: E402
from smb import Testbed, fail  # noqa: E402

KINDS = ("put", "copy", "delete", "list", "get", "head", "other")
CHANGES = ("put", "copy", "delete")
LISTED = 1000   # names of a page of LIST
PART = 8 << 20
LARGE = 9 * PART
START = {"put": 9, "copy": 6, "delete": 7, "list": 4, "head": 3, "other": 12}  # the probe, mostly
SHOWN = ("PUT", "COPY", "DELETE", "LIST", "GET", "HEAD", "OTHER", "of log")


def counters(bed, name=None):
    have = bed.ctl_json("status")["counters"]
    return have[name] if name else {kind: have[f"s3_{kind}"] for kind in KINDS} | \
        {"segments": have["log_segments"]}


class Table:
    """Rows of (what, requests), one after the other on one testbed; nothing is sent but when it is
    flushed, so that what happens in between is one change."""

    def __init__(self, bed):
        self.bed, self.rows, self.wrong = bed, [], []
        self.hourly = 1  # PUT of nodes/ with the epoch, some time after the first change

    def row(self, what, run, fresh=False, flush=True, **expected):
        """expected: requests of each kind, 0 where none is said: so many that change the bucket, at most so
        many others; segments of the log at most, each another PUT, and one of nodes/ for one or some of them."""
        before = dict.fromkeys((*KINDS, "segments"), 0) if fresh else counters(self.bed)
        run()
        if flush:
            self.bed.flush()
        found = {kind: value - before[kind] for kind, value in counters(self.bed).items()}
        wanted = dict.fromkeys((*KINDS, "segments"), 0) | expected
        wanted["put"] += found["segments"]
        said = found["put"] - wanted["put"]
        if 0 < said <= found["segments"] + self.hourly:
            self.hourly -= said > found["segments"]
            wanted["put"] += said
        if any(found[kind] != wanted[kind] if kind in CHANGES else found[kind] > wanted[kind]
               for kind in wanted):
            self.wrong.append(f"{what}: {found}, not {wanted}")
        self.rows.append((what, found))
        print(f"{what:40}" + "".join(f"{found[kind] or '-':>8}" for kind in (*KINDS, "segments")),
              flush=True)


def many(bed, path, count):
    with bed.client() as client, bed.unheard():
        for number in range(count):
            client.put(f"{path}/{number:05}", b"%d" % number)


def save_dance(bed):
    """As office programs save: a new file beside it, two renames, a removal."""
    with bed.client() as client, bed.unheard():
        client.put("dance.tmp", b"new" * 100)
        client.rename("dance", "dance.bak")
        client.rename("dance.tmp", "dance")
        client.unlink("dance.bak")


def acls(bed, path, count):
    with bed.client() as client:
        for number in range(count):
            handle = client.create(f"{path}/{number:05}")
            client.set_sddl(handle, "D:P(A;;0x1f01ff;;;WD)")
            client.close(handle)


def rename(bed, *pairs):
    with bed.client() as client:
        for one, two in pairs:
            client.rename(one, two)


def put(bed, path, data):
    with bed.client() as client:
        client.put(path, data)


def mkdir(bed, path):
    with bed.client() as client:
        client.mkdir(path)


def lists(bed, path):
    with bed.client() as client:
        return len(client.list(path))


def reads(bed, path):
    with bed.client() as client:
        return len(client.get(path))


def removes(bed, path, count):
    with bed.client() as client:
        for number in range(count):
            client.unlink(f"{path}/{number:05}")


def restart(bed):
    bed.restart("cached")
    wait_until(lambda: bed.ctl_json("status")["volumes"][0]["state"] == "ready", 60, "it is ready")


def rights(bed, path, count):
    """They go to the log by themselves, as on any day; a flush would write it bit by bit."""
    before = counters(bed, "log_entries")
    acls(bed, path, count)

    def written():
        queued = bed.ctl_json("status")["volumes"][0]["log_queued"]
        return queued == 0 and counters(bed, "log_entries") >= before + count

    wait_until(written, 120, "the log has them")


def look(bed):
    """As monitors and people do."""
    for words in ("status", "health", "pending", "renames", "nodes"):
        bed.ctl(words)
    bed.ctl("doctor", "--smb-conf", bed.smb_conf, may_fail=True)
    bed.ctl("support-bundle", "--smb-conf", bed.smb_conf, f"{bed.dir}/bundle.tar.gz")
    with urllib.request.urlopen(f"http://{bed.http}/metrics", timeout=30) as page:
        page.read()


def begun(bed):
    """What is noted in the volume record once is there: the first client, and that there is a root."""
    mkdir(bed, "first")
    bed.flush()

    def noted():
        share = read_bed(bed, content=False)
        record = json.loads(share.objects[share.own + "volume"].body())
        return record.get("root") and record.get("machine_sid")

    wait_until(noted, 30, "the record says what it says once")


def measure(bed, opt):
    """In the order of docs/COSTS.md, whose arithmetic this is."""
    table = Table(bed)
    n, m, mib = opt.files, opt.renamed, LARGE >> 20
    print(f"{'':40}" + "".join(f"{kind:>8}" for kind in SHOWN))
    row = table.row
    begun(bed)
    row("a directory made", lambda: mkdir(bed, "many"), put=2, head=1)
    row("a file made", lambda: put(bed, "dance", b"old"), put=2, head=1)
    row(f"{n} files made", lambda: many(bed, "many", n), put=n + 1, head=1)
    row("a file saved by an office program", lambda: save_dance(bed), put=2, head=1)
    row(f"rights of {n} files changed", lambda: rights(bed, "many", n), flush=False, segments=n // 10)
    row("a file renamed", lambda: rename(bed, ("dance", "moved")), copy=1, delete=1, head=3, put=1,
        segments=1)
    row(f"a file of {mib} MiB made", lambda: put(bed, "large", os.urandom(LARGE)), put=LARGE // PART + 1,
        other=2, head=1)
    row("a warm listing, a warm read", lambda: (lists(bed, "many"), reads(bed, "moved")))
    mkdir(bed, "tree")
    many(bed, "tree", m)
    bed.flush()
    row(f"a directory of {m} renamed and back", lambda: rename(
        bed, ("tree", "there"), ("there", "tree")), put=1, head=1)
    row(f"a directory of {m} renamed", lambda: rename(bed, ("tree", "there")),
        put=2, copy=m + 1, delete=m + 2, head=2 * (m + 1) + 1, list=3 * (1 + m // LISTED))
    row(f"{opt.idle:g} idle seconds", lambda: time.sleep(opt.idle))
    row("looking at all of it", lambda: look(bed), flush=False)
    row("a directory listed anew", lambda: bed.ctl("refresh", "many"), list=1 + n // LISTED)
    row("a file evicted", lambda: bed.ctl("evict", "large"), head=1)
    row(f"{mib} MiB read from the bucket", lambda: reads(bed, "large"), get=mib)
    segments = sum(found["segments"] for _, found in table.rows)
    row("the daemon started", lambda: restart(bed), fresh=True, **START, get=4 + segments)
    bed.wipe()
    row("the daemon started on a new disk", lambda: None, fresh=True, **START | {"put": 11}, get=4 + segments)
    row("the first listing of the root", lambda: lists(bed, ""), list=1, head=5)
    row(f"the first listing of {n} names", lambda: lists(bed, "many"), list=1 + n // LISTED, head=n)
    row("the same again", lambda: lists(bed, "many"))
    row(f"{n} files removed", lambda: removes(bed, "many", n), delete=n, put=1, head=1)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--store", default="dir")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--renamed", type=int, default=10000)
    parser.add_argument("--idle", type=float, default=60)
    parser.add_argument("--json")
    parser.add_argument("--check", action="store_true")
    opt = parser.parse_args()
    with Testbed(store=opt.store, set=["settle time=5s", "settle limit=1h", "log flush=1s"]) as bed:
        table = measure(bed, opt)
    if opt.json:
        with open(opt.json, "w", encoding="utf-8") as file:
            json.dump(table.rows, file, indent=1)
    if opt.check and table.wrong:
        fail("\n  ".join(table.wrong))


main()
