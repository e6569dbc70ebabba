#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""Uploads in parts go on where they were: the daemon is killed between two parts, the store goes away, Complete answers
200 with an error inside: no part that is there is sent again, and the object is the file, every byte of every part
(mlcommons/storage #593: parts dropped, sizes right). Changed meanwhile it is sent anew, and of one state; its metadata
set while its parts are sent are its metadata (s3fs PR #1345). What nobody goes on with is ended: no upload is left in the store.
"""

import datetime
import glob
import os
import struct
import time

from smb import Testbed, check, step, wait_until
from smb2 import ATTR_HIDDEN, READ_DATA, WRITE_DATA

MIB = 1 << 20
SIZE = 66 * MIB + 7
PARTS = 9
THERE = 5  # of them, when the daemon is killed
HEAD_BYTES = 114  # upload/begun.c: all before the key


def noted(bed):
    """What the daemon has written down of each upload: [(id or None, number of parts)]."""
    uploads = []
    for name in glob.glob(os.path.join(os.path.dirname(bed.mirror), "uploads", "*")):
        with open(name, "rb") as file:
            data = file.read()
        size, each = struct.unpack_from("<qq", data, 88)
        (key,) = struct.unpack_from("<H", data, HEAD_BYTES - 2)
        at = HEAD_BYTES + key + (-(-size // each) + 7) // 8 + 32
        found, parts = None, set()
        while at + 36 < len(data):
            kind, number = struct.unpack_from("<HH", data, at)
            (first,) = struct.unpack_from("<H", data, at + 36)
            (second,) = struct.unpack_from("<H", data, at + 38 + first)
            if kind == 1:
                found = data[at + 38:at + 38 + first].decode()
            else:
                parts.add(number)
            at += 40 + first + second + 8
        uploads.append((found, len(parts)))
    return uploads


def left(bed):
    return bed.s3().list_multipart_uploads(Bucket=bed.S3_BUCKET).get("Uploads", [])


def in_store(bed, key):
    return bed.s3().get_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + key)["Body"].read()


class Counted:
    """Requests about a key that begin from now on, those whose success was heard. One that was held for a daemon that is
    dead may end later."""

    def __init__(self, bed, name):
        self.log, self.key = f"{bed.dir}/store/requests", f"{bed.S3_BUCKET}/{bed.S3_PREFIX}{name}"
        self.since = time.time()

    def begun(self, words):
        took = next(word for word in words if word.startswith("us="))
        return datetime.datetime.fromisoformat(words[0]).timestamp() - int(took[3:]) / 1e6 >= self.since

    def made(self, op):
        with open(self.log, encoding="utf-8") as file:
            words = [line.split() for line in file if " broken-off " not in line]
        words = [line for line in words if self.begun(line)]
        return sum(word[2] == op and int(word[3]) < 300 and word[-1].split("?")[0].endswith(self.key) for word in words)

    def check(self, **want):
        for op, number in want.items():
            wait_until(lambda o=op, n=number: self.made(o) >= n, 60, "what was answered is in the log")
            check(self.made(op) == number, f"{self.made(op)} {op} where {number} were to be")


def all_there(bed, name, data):
    bed.flush()
    check(in_store(bed, name) == data, f"{name}: the object is not the file")
    wait_until(lambda: not left(bed), 150, "no upload is left in the store")
    wait_until(lambda: not noted(bed), 60, "nothing is noted of an upload that is over")
    check(bed.ctl_json("status")["counters"]["conflicts"] == 0, "a conflict with itself")


def killed_between(bed, sim, client, name):
    """A new large file, and a daemon that was killed when it had sent THERE parts of it."""
    data = os.urandom(SIZE)
    counted = Counted(bed, name)
    sim.fault("UploadPart", f"{bed.S3_PREFIX}{name}", "stall", skip=THERE, count=-1, ms=-1)
    client.put(name, data)
    wait_until(lambda: [parts for _, parts in noted(bed)] == [THERE], 60, "some parts are there, and noted")
    bed.stop("cached", kill=True)
    counted.check(CreateMultipartUpload=1, UploadPart=THERE)
    return data


def goes_on(bed, sim, client):
    step("killed between two parts: the others are sent")
    data = killed_between(bed, sim, client, "on")
    sim.clear()
    counted = Counted(bed, "on")
    bed.start("cached")
    all_there(bed, "on", data)
    counted.check(CreateMultipartUpload=0, UploadPart=PARTS - THERE, CompleteMultipartUpload=1, AbortMultipartUpload=0)
    counters = bed.ctl_json("status")["counters"]
    check(counters["parts_resumed"] == THERE and counters["uploads_resumed"] == 1, "it was not gone on with")
    check(counters["upload_bytes"] == SIZE - THERE * 8 * MIB, "what was not sent again is counted")


def rewritten(bed, sim, client):
    step("rewritten while the daemon is dead: sent anew, of one state")
    data = killed_between(bed, sim, client, "new")
    file = client.create("new", READ_DATA | WRITE_DATA)
    client.write(file, 9 * MIB, b"another state")
    client.close(file)
    data = data[:9 * MIB] + b"another state" + data[9 * MIB + 13:]
    sim.clear()
    counted = Counted(bed, "new")
    bed.start("cached")
    all_there(bed, "new", data)
    counted.check(CreateMultipartUpload=1, CompleteMultipartUpload=1, AbortMultipartUpload=1)


def vanished(bed, sim, client):
    step("the store has lost the upload")
    data = killed_between(bed, sim, client, "lost")
    sim.clear()
    for upload in left(bed):
        bed.s3().abort_multipart_upload(Bucket=bed.S3_BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    counted = Counted(bed, "lost")
    bed.start("cached")
    all_there(bed, "lost", data)
    counted.check(CreateMultipartUpload=1, UploadPart=PARTS, CompleteMultipartUpload=1)


def deleted(bed, sim, client):
    step("deleted while the daemon is dead: its upload is ended")
    killed_between(bed, sim, client, "gone")
    sim.clear()
    client.unlink("gone")
    counted = Counted(bed, "gone")
    bed.start("cached")
    wait_until(lambda: not left(bed) and not noted(bed), 150, "the upload is ended")
    counted.check(AbortMultipartUpload=1, CreateMultipartUpload=0)
    check(bed.ctl_json("status")["counters"]["uploads_ended"] == 1, "that is not counted")


def away(bed, sim, client):
    step("the store is away between two parts")
    data = os.urandom(SIZE)
    counted = Counted(bed, "away")
    sim.fault("UploadPart", f"{bed.S3_PREFIX}away", "stall", skip=THERE, count=-1, ms=-1)
    client.put("away", data)
    wait_until(lambda: [parts for _, parts in noted(bed)] == [THERE], 60, "some parts are there")
    sim.clear()
    bed.stop("store")
    bed.start("store")
    all_there(bed, "away", data)
    counted.check(CreateMultipartUpload=1, CompleteMultipartUpload=1, AbortMultipartUpload=0)


def completes(bed, sim, client):
    for when in ("before", "after"):
        step(f"Complete answers 200 and an error inside, {'not done' if when == 'before' else 'done'}")
        name, data = f"inside-{when}", os.urandom(SIZE)
        counted = Counted(bed, name)
        sim.fault("CompleteMultipartUpload", f"{bed.S3_PREFIX}{name}", "inside", when=when)
        client.put(name, data)
        all_there(bed, name, data)
        check(sim.hits() == [1], "the fault was not met")
        sim.clear()
        counted.check(CreateMultipartUpload=1, UploadPart=PARTS, AbortMultipartUpload=0)


def metadata(bed, sim, client):
    step("its attributes are set while its parts are sent")
    data = os.urandom(SIZE)
    sim.fault("UploadPart", f"{bed.S3_PREFIX}meta", "stall", skip=THERE, count=-1, ms=-1)
    client.put("meta", data)
    wait_until(lambda: sim.hits() != [0], 60, "a part is held")
    file = client.create("meta")
    client.set_basic(file, attributes=ATTR_HIDDEN)
    client.close(file)
    sim.clear()
    all_there(bed, "meta", data)
    return data


def on(fence):
    with Testbed(store="s3sim", fence=fence, set=["settle time=100ms"]) as bed:
        sim = bed.sim()
        with bed.client() as client:
            goes_on(bed, sim, client)
            rewritten(bed, sim, client)
            if fence != "f3":
                return
            vanished(bed, sim, client)
            deleted(bed, sim, client)
            away(bed, sim, client)
            completes(bed, sim, client)
            data = metadata(bed, sim, client)
        bed.wipe()
        with bed.client() as client:
            check(client.get("meta") == data, "other bytes on a new disk")
            hidden = client.manifest(content=False)["meta"]["attributes"]
            check(hidden & ATTR_HIDDEN, "the attribute is lost")


if __name__ == "__main__":
    for each in ("f3", "f1"):
        on(each)
