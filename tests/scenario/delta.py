#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
"""Of a large file only what has changed is sent; the store copies the rest from the version before. The object is
the file, byte for byte: after writes in the middle, at the end, after it was cut, over a daemon that was killed.
Where another tool has written meanwhile nothing is mixed: what is there stays, ours goes beside, and no upload is left
open. On a store that holds copies to an ETag, and on one that keeps versions and takes no notice of an ETag.
"""

import os
import struct

from dirstore import get_object, object_etag, object_keys, put_object, set_class
from procs import wait_until
from proxy import Proxy
from smb import Testbed, bed_path, check, step
from smb2 import INFO_FILE, READ_DATA, WRITE_DATA

MIB = 1 << 20
SIZE = 68 * MIB + 5
BLOCK = 8 * MIB
END_OF_FILE = 20  # FileEndOfFileInformation


class File:
    """A large file on the share, and what it is to be."""

    def __init__(self, bed, client, name, fetch):
        self.bed, self.client, self.name, self.fetch = bed, client, name, fetch
        self.data = bytearray(os.urandom(SIZE))
        self.count = bed.ctl_json("status")["counters"]
        client.put(name, bytes(self.data))
        self.same()
        check(self.since("deltas") == 0, "a new file is sent in part")

    def since(self, name):
        return self.bed.ctl_json("status")["counters"][name] - self.count[name]

    def write(self, offset, data):
        self.count = self.bed.ctl_json("status")["counters"]
        file = self.client.create(self.name, READ_DATA | WRITE_DATA)
        try:
            for at in range(0, len(data), MIB):
                self.client.write(file, offset + at, data[at:at + MIB])
        finally:
            self.client.close(file)
        self.data[offset:offset + len(data)] = data

    def cut(self, size):
        self.count = self.bed.ctl_json("status")["counters"]
        file = self.client.create(self.name, READ_DATA | WRITE_DATA)
        self.client.set(file, INFO_FILE, END_OF_FILE, struct.pack("<Q", size))
        self.client.close(file)
        del self.data[size:]

    def same(self):
        self.bed.flush()
        check(self.fetch(self.name) == bytes(self.data), f"{self.name} has other bytes in the store")

    def sent(self, most):
        """It is there, and no more than this was sent."""
        self.same()
        check(self.since("deltas") == 1, "it was not sent in part")
        check(0 < self.since("upload_bytes") <= most, f"{self.since('upload_bytes')} bytes were sent")
        check(self.since("upload_bytes") + self.since("delta_bytes") == len(self.data), "not all is counted")


def edits(file):
    step("where two blocks meet; at the end; cut")
    file.write(2 * BLOCK - 3, b"across")
    file.sent(2 * BLOCK)
    file.write(len(file.data), os.urandom(3 * MIB))
    file.sent(BLOCK)
    file.cut(66 * MIB - 7)
    file.sent(BLOCK)


def noted(bed):
    """Of so many files the daemon knows what their objects are made of."""
    return len(os.listdir(os.path.join(os.path.dirname(bed.mirror), "blocks")))


def beside(bed, file, theirs, keys):
    """Another tool has written: theirs keeps the name, ours is beside."""
    bed.flush()
    check(file.fetch(file.name) == theirs, "what another tool had written is gone")
    names = [name for name in keys() if "conflict" in name]
    check(len(names) == 1 and file.fetch(names[0]) == bytes(file.data), f"ours is not beside: {keys()}")


def on_dir():
    with Testbed(store="dir", set=["settle time=100ms"]) as bed, bed.client() as client:
        file = File(bed, client, "disk.vhdx", lambda key: get_object(bed, key))
        step("a mebibyte in the middle")
        file.write(41 * MIB, os.urandom(MIB))
        file.sent(BLOCK)
        check(object_etag(bed, file.name).endswith("-3"), "what follows on each other was not copied as one")
        edits(file)
        step("the daemon is killed and starts again")
        bed.restart("cached", kill=True)
        file.write(5, b"after the restart")
        file.sent(BLOCK)
        step("the store does not copy what is archived by now: all is sent")
        set_class(bed, file.name, "GLACIER")
        file.write(7, b"whole")
        file.same()
        check(file.since("delta_refused") == 1 and file.since("deltas") == 0 and
              file.since("upload_bytes") >= len(file.data), "it was not sent whole, or is not counted")
        set_class(bed, file.name, "STANDARD")
        step("what is too small, and what is small by now")
        file.cut(60 * MIB)
        file.same()
        check(file.since("deltas") == 0 and file.since("upload_bytes") == 60 * MIB, "a small file was sent in part")
        file.write(60 * MIB, os.urandom(20 * MIB))
        file.same()
        check(file.since("deltas") == 0, "there is nothing to compare with")
        step("another tool replaces it, and nobody here knows")
        theirs = os.urandom(70 * MIB)
        put_object(bed, file.name, theirs)
        file.write(MIB, b"ours")
        beside(bed, file, theirs, lambda: object_keys(bed))
        check(not os.listdir(os.path.join(bed.store_dir, "multipart")), "an upload is left open")
        step("it is deleted, and what was noted of it goes")
        check(noted(bed) == 1, "nothing is noted of a large file")
        client.unlink(next(name for name in object_keys(bed) if "conflict" in name))
        bed.flush()
        wait_until(lambda: noted(bed) == 0, what="what was noted of a deleted file to go")


def on_versions():
    path = bed_path()
    proxy = Proxy(path)
    with Testbed(store="rgw", fence="f1", path=path, set=["settle time=100ms", f"endpoint={proxy.url}"]) as bed, \
            bed.client() as client:
        s3 = bed.s3()

        def fetch(key):
            return s3.get_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + key)["Body"].read()

        file = File(bed, client, "mail.pst", fetch)
        step("a mebibyte in the middle; killed between the parts")
        proxy.hold("PUT", "partNumber=2")
        file.write(41 * MIB, os.urandom(MIB))
        check(proxy.stalled.wait(60), "no second part was sent")
        bed.stop("cached", kill=True)
        proxy.release()
        bed.start("cached")
        file.count = dict.fromkeys(file.count, 0)
        file.sent(BLOCK)
        check(file.since("uploads_resumed") == 1, "the upload was not gone on with")
        check(not s3.list_multipart_uploads(Bucket=bed.s3_bucket).get("Uploads"), "an upload is left open")
        step("another tool writes between the parts")
        proxy.hold("PUT", "partNumber=2")
        file.write(30 * MIB, b"ours")
        check(proxy.stalled.wait(60), "no second part was sent")
        s3.put_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + file.name, Body=b"theirs")
        proxy.release()
        beside(bed, file, b"theirs", bed.keys)
        check(not s3.list_multipart_uploads(Bucket=bed.s3_bucket).get("Uploads"), "an upload is left open")
        step("another tool deletes it, and what was noted of it goes")
        check(noted(bed) == 1, "nothing is noted of a large file")
        s3.delete_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + next(key for key in bed.keys() if "conflict" in key))
        bed.ctl("refresh", bed.mirror)
        wait_until(lambda: noted(bed) == 0, what="what was noted of a file that is gone to go")


if __name__ == "__main__":
    on_dir()
    on_versions()
