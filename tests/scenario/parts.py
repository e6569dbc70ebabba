#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""Objects that were sent in parts change their ETag whenever they are copied, and with it the fence: a rename,
of a resident file, of a stub, of one that is half read, of the directory above, keeps bytes, metadata and the
condition of the next write. Nobody takes the new ETag for somebody else's work.
"""

import os

from dirstore import get_object, object_etag, object_keys
from smb import Testbed, check, check_same, step
from smb2 import ATTR_HIDDEN, READ_DATA, WRITE_DATA

MIB = 1 << 20
SIZE = 64 * MIB + 5  # up to 64 MiB go in one piece


def no_conflicts(bed):
    check(bed.ctl_json("status")["counters"]["conflicts"] == 0, "a copy was taken for a conflict")
    check(not [key for key in object_keys(bed) if "conflict" in key], "there are conflict copies")


def overwrite(client, path, offset, data):
    file = client.create(path, READ_DATA | WRITE_DATA)
    try:
        client.write(file, offset, data)
    finally:
        client.close(file)


def moved(bed, key, data):
    """It is there, as one object of its own."""
    check(get_object(bed, key) == data, f"{key} has other bytes in the store")
    check("-" not in object_etag(bed, key), f"{key}: the store has kept the ETag of a copy")


def main():
    data = {name: os.urandom(SIZE) for name in ("file", "in", "stub", "half")}
    with Testbed(store="dir", set=["settle time=100ms"]) as bed:
        step("files in parts")
        with bed.client() as client:
            client.mkdir("dir")
            for name, path in (("file", "file"), ("in", "dir/in"), ("stub", "stub"),
                               ("half", "half")):
                client.put(path, data[name])
            bed.flush()
            check(object_etag(bed, "file").endswith("-9"), "not sent in nine parts")
            file = client.create("file")
            client.set_basic(file, attributes=ATTR_HIDDEN)
            client.close(file)
            bed.flush()

            step("renamed")
            client.rename("file", "renamed")
            client.rename("dir", "other")
            bed.flush()
            moved(bed, "renamed", data["file"])
            moved(bed, "other/in", data["in"])

            step("written afterwards")
            overwrite(client, "other/in", MIB, b"anew")
            data["in"] = data["in"][:MIB] + b"anew" + data["in"][MIB + 4:]
            bed.flush()
            check(get_object(bed, "other/in") == data["in"], "the write after the rename is lost")
            no_conflicts(bed)
            before = client.manifest()

        step("the disk is lost; stubs are renamed, one of them half read and open")
        bed.wipe()
        with bed.client() as client:
            check_same(before, client.manifest(content=False), "after the wipe",
                       ("type", "size", "attributes", "sd"))
            client.rename("stub", "stub2")
            half = client.create("half", READ_DATA)
            check(client.read(half, 0, 4096) == data["half"][:4096], "other bytes at the beginning")
            client.close(half)
            client.rename("half", "half2")
            client.rename("other", "third")
            bed.flush()
            moved(bed, "stub2", data["stub"])
            moved(bed, "half2", data["half"])
            check(get_object(bed, "third/in") == data["in"], "third/in has other bytes in the store")
            for name, path in (("stub", "stub2"), ("half", "half2"), ("file", "renamed"),
                               ("in", "third/in")):
                check(client.get(path) == data[name], f"{path} has other bytes")
            overwrite(client, "stub2", 0, b"anew")
            client.unlink("half2")
            bed.flush()
            check(get_object(bed, "half2") is None, "a renamed file's object outlives the file")
            check(get_object(bed, "stub2") == b"anew" + data["stub"][4:], "the write is lost")
            no_conflicts(bed)


if __name__ == "__main__":
    main()
