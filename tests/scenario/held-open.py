#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 150
"""A file that a client holds open is sent to S3 from a copy, once for every change: not again at each settle
limit, not at a flush, not at the close. What is written while the copy is on its way is sent as well. A large one
waits longer.
"""

import os
import tempfile

import smb2
from proxy import Proxy
from smb import Testbed, check, step, wait_until
from smb2 import ATTR_HIDDEN

MIB = 1 << 20
LOOKS = 3  # each comes 2 s after the last one; the settle limit is 1 s


def counters(bed):
    return bed.ctl_json("status")["counters"]


def body(bed, key):
    return bed.s3().get_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + key)["Body"].read()


class Held:
    """A file that stays open, and how often it was sent."""

    def __init__(self, bed, client, name, data):
        self.bed, self.client, self.name = bed, client, name
        self.data = bytearray(data)
        self.before = counters(bed)["upload_bytes"]
        self.file = client.create(name, smb2.READ_DATA | smb2.WRITE_DATA | smb2.DELETE |
                                  smb2.READ_ATTRIBUTES | smb2.WRITE_ATTRIBUTES,
                                  disposition=smb2.FILE_CREATE)
        client.write(self.file, 0, data)

    def write(self, offset, data):
        self.client.write(self.file, offset, data)
        self.data[offset:offset + len(data)] = data

    def sent(self):
        """How often; nothing else has content meanwhile."""
        return (counters(self.bed)["upload_bytes"] - self.before) / len(self.data)

    def sent_to(self, times, when):
        """It was sent so often in all, and the bucket has it as it is."""
        wait_until(lambda: self.sent() >= times, 20, f"{self.name} is sent {when}")
        wait_until(lambda: body(self.bed, self.name) == self.data, 5, f"{when}: the object has its bytes")
        check(self.sent() == times, f"{when}: {self.sent()} uploads, not {times}")

    def looked_at(self):
        before = counters(self.bed)["uploads_spared"]
        wait_until(lambda: counters(self.bed)["uploads_spared"] >= before + LOOKS, 30,
                   "it is looked at again")

    def clean(self):
        return self.bed.ctl_json("status")["counters"]["pending"] == 0


def once_for_each_change(bed, client):
    step("held open for several settle limits: sent once")
    before = counters(bed)["uploads_open"]
    held = Held(bed, client, "held", os.urandom(2 * MIB))
    held.sent_to(1, "at the first limit")
    held.looked_at()
    held.sent_to(1, "after several limits")
    bed.flush()
    held.sent_to(1, "after a flush")

    step("written again by the same handle: once more")
    held.write(MIB, b"CHANGED")
    held.sent_to(2, "after a write")
    held.looked_at()
    held.sent_to(2, "after several limits more")
    held.write(5, b"for the flush")
    bed.flush()
    held.sent_to(3, "after a write and a flush")

    step("its metadata change: it is not sent for them")
    client.set_basic(held.file, attributes=ATTR_HIDDEN)
    bed.flush()
    held.sent_to(3, "after a change of attributes")
    wait_until(lambda: counters(bed)["uploads_open"] == before + 3, 10, "all three are counted as open")

    step("closed: clean, without another upload")
    client.close(held.file)
    wait_until(held.clean, 20, "nothing is pending")
    held.sent_to(3, "after the close")


def written_on_the_way(bed, client, proxy):
    step("written while the copy is on its way")
    proxy.hold("PUT", "/late")
    held = Held(bed, client, "late", os.urandom(2 * MIB))
    check(proxy.stalled.wait(60), "no upload began")
    held.write(17, b"on the way")
    proxy.release()
    held.sent_to(2, "after the write")

    step("written on the way, and closed")
    proxy.hold("PUT", "/late")
    held.write(MIB, b"first")
    check(proxy.stalled.wait(60), "no upload began")
    held.write(99, b"and last")
    client.close(held.file)
    proxy.release()
    wait_until(held.clean, 20, "nothing is pending")
    held.sent_to(4, "after the close")


def large(bed, client):
    step("so large a file is not sent at each limit")
    held = Held(bed, client, "large", b"begin")
    held.sent_to(1, "while it is small")
    client.set_size(held.file, 300 * MIB)
    wait_until(lambda: any("each 31 s" in entry["reason"] for entry in bed.ctl_json("pending")["pending"]), 20,
               "it is said when it is sent")
    held.sent_to(1, "several limits later")
    client.set_size(held.file, len(held.data))
    held.write(0, b"BEGIN")
    client.close(held.file)
    wait_until(held.clean, 20, "nothing is pending")
    held.sent_to(2, "after the close")


def main():
    parent = tempfile.mkdtemp()
    os.chmod(parent, 0o755)
    path = os.path.join(parent, "t")
    proxy = Proxy(path)
    with Testbed(store="rgw", path=path, set=[f"endpoint={proxy.url}", "settle time=200ms",
                                              "settle limit=1s"]) as bed:
        with bed.client() as client:
            once_for_each_change(bed, client)
            written_on_the_way(bed, client, proxy)
            large(bed, client)
            before = client.manifest()
        bed.wipe()
        with bed.client() as client:
            after = client.manifest()
        for name in ("held", "late", "large"):
            for field in ("size", "sha256", "attributes", "write"):
                check(before[name].get(field) == after[name].get(field),
                      f"{name}: {field} {before[name].get(field)} became {after[name].get(field)}")


if __name__ == "__main__":
    main()
