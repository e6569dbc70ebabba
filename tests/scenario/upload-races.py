#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 180
"""What a client does to a file while its upload hangs in the network: write, change the metadata, rename,
unlink, replace. The upload is under a lease: it protects bytes and never metadata; nothing of what the
client did may be lost, nothing old may come back, and the client does not wait for the network. And what another program
does while its object is compared with the file.
"""

import os
import subprocess

from proxy import Proxy
from smb import Testbed, bed_path, check, step, wait_until
from smb2 import ATTR_HIDDEN

MIB = 1 << 20


def counter(bed, name):
    return bed.ctl_json("status")["counters"][name]


def body(bed, key):
    return bed.s3().get_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + key)["Body"].read()


class Race:
    def __init__(self, bed, client, proxy):
        self.bed, self.client, self.proxy = bed, client, proxy

    def begin(self, name, data, flushing):
        """The file's first upload hangs; returns the process that waits for the flush."""
        self.proxy.hold("PUT", "/" + name)
        self.client.put(name, data)
        flush = subprocess.Popen([*self.bed.OBJECTFSCTL.split(), "flush", "--wait"],
                                 stdout=subprocess.DEVNULL) if flushing else None
        check(self.proxy.stalled.wait(60), f"{name}: no upload began")
        return flush

    def end(self, flush=None):
        self.proxy.release()
        if flush is not None:
            check(flush.wait(60) == 0, "flush --wait failed")
        self.bed.flush()

    def write(self):
        step("written while it is sent")
        broken = counter(self.bed, "upload_broken")
        old, new = os.urandom(3 * MIB), os.urandom(2 * MIB)
        self.begin("written", old, False)
        self.client.put("written", new)
        wait_until(lambda: counter(self.bed, "upload_broken") > broken, what="the lease is broken")
        self.end()
        check(body(self.bed, "written") == new, "the object has other bytes")

    def metadata(self):
        step("metadata changed while it is sent")
        data = os.urandom(MIB)
        flush = self.begin("meta", data, True)
        with_acl = "D:P(A;;0x1f01ff;;;WD)(A;;0x1200a9;;;S-1-5-21-1-2-3-4)"
        file = self.client.create("meta")
        self.client.set_sddl(file, with_acl)
        self.client.set_basic(file, attributes=ATTR_HIDDEN)
        self.client.set_eas(file, {"late": b"yes"})
        self.client.close(file)
        self.end(flush)
        check(body(self.bed, "meta") == data, "the object has other bytes")

    def rename(self):
        step("renamed while it is sent")
        data = os.urandom(MIB)
        flush = self.begin("before", data, True)
        self.client.rename("before", "after")
        self.end(flush)
        check(body(self.bed, "after") == data, "the object has other bytes")

    def unlink(self):
        step("unlinked while it is sent")
        flush = self.begin("unlinked", os.urandom(MIB), True)
        self.client.unlink("unlinked")
        self.end(flush)

    def replace(self):
        step("replaced by another file while it is sent")
        old, new = os.urandom(MIB), os.urandom(MIB)
        self.client.put("newer", new)
        self.bed.flush()
        flush = self.begin("replaced", old, True)
        self.client.rename("newer", "replaced", replace=True)
        self.end(flush)
        check(body(self.bed, "replaced") == new, "the object has other bytes")

    def compare(self):
        step("another program writes twice while its object is compared with the file")
        s3, where = self.bed.s3(), {"Bucket": self.bed.S3_BUCKET, "Key": self.bed.S3_PREFIX + "compared"}
        ours, other = os.urandom(5 * MIB), os.urandom(5 * MIB)
        self.client.put("compared", b"before")
        self.bed.flush()
        s3.put_object(Body=ours[:4 * MIB] + other[4 * MIB:], **where)
        self.proxy.hold("GET", "/compared", 1)  # the second of two reads
        self.client.put("compared", ours)
        check(self.proxy.stalled.wait(60), "it was not compared")
        theirs = other[:4 * MIB] + ours[4 * MIB:]
        s3.put_object(Body=theirs, **where)
        self.end()
        beside = [key for key in self.bed.keys() if key.startswith("compared (conflict ")]
        check(len(beside) == 1 and body(self.bed, beside[0]) == ours, f"ours is not in the store: {self.bed.keys()}")
        check(body(self.bed, "compared") == theirs, "what another program had written is gone")
        wait_until(lambda: "compared" in {entry[0] for entry in self.client.list("")}, what="theirs is on the share")
        return {"compared", beside[0]}


def main():
    path = bed_path()
    proxy = Proxy(path)
    with Testbed(store="rgw", path=path,
                 set=[f"endpoint={proxy.url}", "settle time=100ms"]) as bed:
        with bed.client() as client:
            race = Race(bed, client, proxy)
            for part in (race.write, race.metadata, race.rename, race.unlink, race.replace):
                part()
            both = race.compare()
            before = client.manifest()
        expected = {"written", "meta", "after", "replaced"} | both
        wait_until(lambda: {k for k in bed.keys() if not k.endswith("/")} == expected, 20,
                   f"the bucket to hold {sorted(expected)} (it holds {sorted(bed.keys())})")
        step("the disk is lost")
        bed.wipe()
        with bed.client() as client:
            after = client.manifest()
        for name in expected:
            for field in ("size", "sha256", "attributes", "sd", "eas"):
                check(before[name].get(field) == after[name].get(field),
                      f"{name}: {field} {before[name].get(field)} became {after[name].get(field)}")
        check("late" in str(after["meta"]["eas"]).lower(), f"no late EA: {after['meta']}")


if __name__ == "__main__":
    main()
