#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""Another program has put the very same bytes there in which a file was changed here: that is no conflict. Its object
stays as it is, what was set on the file here goes to the log and is there after the disk is lost. Where one byte is other,
or the file is larger than `compare limit`, both are kept.
"""

import os

from dirstore import get_object, object_etag, object_keys, put_object
from smb import Testbed, check, step
from smb2 import ATTR_HIDDEN, READ_ATTRIBUTES, READ_DATA, WRITE_ATTRIBUTES, WRITE_DATA

MIB = 1 << 20
THEIRS = "7" * 32 + "-2"  # an ETag that tells nothing of the bytes


def overwrite(client, path, data, hidden=False):
    """In one go, so that it is sent once."""
    file = client.create(path, READ_DATA | WRITE_DATA | READ_ATTRIBUTES | WRITE_ATTRIBUTES)
    try:
        for at in range(0, len(data), MIB):
            client.write(file, at, data[at:at + MIB])
        if hidden:
            client.set_basic(file, attributes=ATTR_HIDDEN)
    finally:
        client.close(file)


def conflicts(bed):
    return {key for key in object_keys(bed) if "conflict" in key}


def main():
    size = 5 * MIB + 7  # more than is compared at a time
    with Testbed(store="dir", set=["settle time=100ms", "compare limit=6M"]) as bed:
        with bed.client() as client:
            for name, length in (("same", size), ("other", size), ("large", 7 * MIB), ("shorter", size)):
                client.put(name, os.urandom(length))
            bed.flush()
            step("the same bytes, by another program")
            data = os.urandom(size)
            put_object(bed, "same", data, etag=THEIRS)
            overwrite(client, "same", data, hidden=True)
            bed.flush()
            check(bed.ctl_json("status")["counters"]["rebased"] == 1, "it was not compared")
            check(object_etag(bed, "same") == THEIRS, "its object was written again")
            check(not conflicts(bed), f"a conflict: {conflicts(bed)}")
            step("written again: over theirs")
            data = data[:-1] + b"x" if data[-1:] != b"x" else data[:-1] + b"y"
            overwrite(client, "same", data)
            bed.flush()
            check(get_object(bed, "same") == data and not conflicts(bed), "the next write was taken for a conflict")
            step("once more, and the disk is lost")
            data = os.urandom(size)
            put_object(bed, "same", data, etag=THEIRS)
            overwrite(client, "same", data)
            bed.flush()
            check(bed.ctl_json("status")["counters"]["rebased"] == 2, "it was not compared")
            before = client.manifest()["same"]
            check(before["attributes"] & ATTR_HIDDEN, "the attribute is lost")
        bed.wipe()
        with bed.client() as client:
            after = client.manifest()["same"]
            for field in ("size", "sha256", "attributes", "write", "sd"):
                check(before[field] == after[field], f"{field}: {before[field]}, now {after[field]}")
            step("the last byte is other, or missing; too large to be compared")
            for number, (name, length) in enumerate((("other", size), ("shorter", size), ("large", 7 * MIB))):
                client.get(name)
                ours = os.urandom(length)
                theirs = {"other": ours[:-1] + bytes([ours[-1] ^ 1]), "shorter": ours[:-1], "large": ours}[name]
                put_object(bed, name, theirs)
                overwrite(client, name, ours)
                bed.flush()
                check(get_object(bed, name) == theirs, f"{name}: what another program had written is gone")
                check(len(conflicts(bed)) == number + 1, f"{name}: {conflicts(bed)}")
                check(any(get_object(bed, key) == ours for key in conflicts(bed)), f"{name}: ours is gone")


if __name__ == "__main__":
    main()
