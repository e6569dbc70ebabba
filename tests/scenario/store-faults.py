#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 300
"""Whatever goes wrong on the way to the store, or in it: nothing is lost, nothing is there twice, nothing is torn; who
reads meanwhile gets the right bytes or an error. One table, the same on s3sim and on Ceph RGW.

Each row of FAULTS has a directory of its own, whose requests meet it while clients create, overwrite, rename, delete,
read and list there. Then the store is well, all is sent, and every name and byte, here and in S3, is the model's.

usage: store-faults.py [s3sim|rgw [NAME ...]]      of these rows only

What is not in the table, and where it is: a multipart upload's Complete with an error inside its 200, and parts
(s3sim-faults); credentials that expire (s3sim-faults, credentials); the store away for long (store-away).
"""

import random
import sys
import threading

from http_proxy import Fault, HttpProxy
from smb import SmbError, Testbed, bed_path, check, step, wait_until

PORTAL = "<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please log in.</body></html>"
WRITES = ("PUT", "POST", "DELETE")
HITS = 4    # a row's fault is met so often before it is over
FAULTS = {
    "err-500": {"do": "answer"},
    "err-503": {"do": "answer", "status": 503, "code": "SlowDown"},
    "400-timeout": {"do": "answer", "status": 400, "code": "RequestTimeout"},
    "err-403": {"do": "answer", "status": 403, "code": "AccessDenied"},
    "403-key": {"do": "answer", "status": 403, "code": "InvalidAccessKeyId"},
    "400-token": {"do": "answer", "status": 400, "code": "ExpiredToken"},
    "404-bucket": {"do": "answer", "status": 404, "code": "NoSuchBucket"},
    "portal": {"do": "answer", "status": 200, "html": PORTAL},
    "portal-302": {"do": "answer", "status": 302, "html": PORTAL},
    "portal-404": {"do": "answer", "status": 404, "html": PORTAL},
    "reset": {"do": "reset"},
    "reset-in-body": {"do": "half"},
    "lost": {"do": "lost", "methods": WRITES},
    "lost-half": {"do": "lost", "methods": WRITES, "every": 2},
    "500-done": {"do": "failed", "methods": WRITES, "every": 2},
    "inside": {"do": "inside", "methods": ("PUT",), "before": True},
    "inside-done": {"do": "inside", "methods": ("PUT",), "every": 2},
    "cut": {"do": "cut", "methods": ("GET",)},
    "broken": {"do": "broken", "methods": ("GET",)},
    "etag": {"do": "etag", "methods": ("PUT", "GET"), "bodies": True, "every": 2},
    "slow": {"do": "slow"},
    "flip": {"do": "flip", "methods": ("GET",), "bodies": True},
    "flipped": {"do": "flipped", "methods": ("PUT",), "bodies": True},
}
SIZE = 40000


def noise(seed):
    return random.Random(seed).randbytes(SIZE)


class Row:
    """One fault, its directory, and what is to be there at the end."""

    def __init__(self, name):
        self.where = f"{name}.d"   # in no other one's
        self.fault = Fault(key=self.where, **FAULTS[name])
        self.files = {name: noise(f"{self.where} {name}")
                      for name in ("kept", "over", "gone", "named", "out", "sub/one", "sub/two")}
        self.least = 2 if self.fault.bodies else HITS
        self.said = []      # what a reader was told

    def path(self, name):
        return f"{self.where}/{name}"

    def fill(self, client):
        for directory in ("", "sub"):
            client.mkdir(self.path(directory).rstrip("/"))
        for name, data in self.files.items():
            client.put(self.path(name), data)

    def change(self, client):
        """What no client waits for: it is answered whatever the store does."""
        for name in ("new", "over"):
            self.files[name] = noise(f"{self.where} {name} again")
            client.put(self.path(name), self.files[name])
        client.unlink(self.path("gone"))
        del self.files["gone"]
        for old, new in (("named", "called"), ("sub", "below")):
            client.rename(self.path(old), self.path(new))
        self.files = {name.replace("named", "called").replace("sub/", "below/"): data
                      for name, data in self.files.items()}

    def look(self, bed):
        """What S3 alone has: the right bytes, all names, or an error."""
        with bed.client() as client:
            for _ in range(2):
                try:
                    self.said.append(client.get(self.path("out")) == self.files["out"])
                except SmbError:
                    pass
            try:
                self.said.append([entry[0] for entry in client.list(self.path("unseen"))] == ["theirs"])
            except SmbError:
                pass


def refresh(bed, rows):
    for row in rows:
        bed.ctl("refresh", f"{bed.mirror}/{row.where}")


def judge(bed, rows):
    """Every name and byte is the model's, on the share and in the store; nothing else is there."""
    wanted = {row.path(name): data for row in rows for name, data in row.files.items()}
    for row in rows:
        wanted[row.path("unseen/theirs")] = noise(f"{row.where} theirs")
    keys = {key for key in bed.keys() if not key.endswith("/")}
    check(keys == set(wanted), f"in S3, and not to be, or not: {sorted(keys ^ set(wanted))}")
    with bed.client() as client:
        manifest = client.manifest(content=False)
        names = {path for path, entry in manifest.items() if entry["type"] != "dir"}
        check(names == set(wanted), f"on the share, and not to be, or not: {sorted(names ^ set(wanted))}")
        for path, data in wanted.items():
            check(client.get(path) == data, f"{path}: other bytes on the share")
            stored = bed.s3().get_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + path)["Body"].read()
            check(stored == data, f"{path}: other bytes in S3")
    check(bed.ctl_json("status")["counters"]["conflicts"] == 0, "a conflict with nobody")
    bed.sound()


def run(store, names):
    step(f"{store}: {len(names)} faults")
    path = bed_path()
    way = HttpProxy(path)
    with Testbed(store=store, path=path, set=[f"endpoint={way.url}", "settle time=100ms", "retries=2"]) as bed:
        rows = [Row(name) for name in names]
        with bed.client() as client:
            for row in rows:
                row.fill(client)
            bed.flush()
            for row in rows:
                bed.ctl("evict", f"{bed.mirror}/{row.path('out')}")
                bed.s3().put_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + row.path("unseen/theirs"),
                                    Body=noise(f"{row.where} theirs"))
            refresh(bed, rows)
            way.faults = [row.fault for row in rows]
            readers = [threading.Thread(target=row.look, args=(bed,)) for row in rows]
            for thread in readers:
                thread.start()
            for row in rows:
                row.change(client)
            wait_until(lambda: all(row.fault.hits >= row.least for row in rows), 60,
                       f"each fault is met: {[(row.where, row.fault.hits) for row in rows]}")
            for thread in readers:
                thread.join(200)
        way.faults = []
        for row in rows:
            check(all(row.said), f"{row.where}: a reader was told other bytes or names")
        bed.flush()
        refresh(bed, rows)
        judge(bed, rows)


def main():
    for store in sys.argv[1:2] or ("s3sim", "rgw"):
        run(store, sys.argv[2:] or list(FAULTS))


if __name__ == "__main__":
    main()
