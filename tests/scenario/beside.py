#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""An object `a` and objects `a/b`: the directory is called a and the file %~a%file, whichever came first.
Each is read, written, renamed and deleted by its name and the other one is not touched; both are there
again after the loss of the index and of the disk; a file that is open keeps its name until it is closed.
"""

import glob
import json
import os
import sys

from local import is_resident
from smb import SmbError, Testbed, check, check_same, fail, step, wait_until
from smb2 import ATTR_DIRECTORY, MAXIMUM_ALLOWED

READ_ATTRIBUTES, WRITE_ATTRIBUTES, ATTR_HIDDEN = 0x80, 0x100, 2


# objects of other tools have no times but those of their last copy
SAME = ("type", "size", "sha256", "eas", "streams")


def escape(name):
    return f"%~{name}%file"


class Room:
    """The directory `room` as the share and as the bucket have it."""

    def __init__(self, bed, client):
        self.bed = bed
        self.client = client
        self.s3 = bed.s3()

    def put(self, key, data):
        self.s3.put_object(Bucket=self.bed.s3_bucket, Key=f"{self.bed.s3_prefix}room/{key}", Body=data)

    def body(self, key):
        return self.s3.get_object(Bucket=self.bed.s3_bucket,
                                  Key=f"{self.bed.s3_prefix}room/{key}")["Body"].read()

    def delete(self, key):
        self.s3.delete_object(Bucket=self.bed.s3_bucket, Key=f"{self.bed.s3_prefix}room/{key}")

    def keys(self):
        return {key[5:] for key in self.bed.keys() if key.startswith("room/") and key != "room/"}

    def files(self):
        """All keys but the markers of directories, which come with their times."""
        return {key for key in self.keys() if not key.endswith("/")}

    def refresh(self):
        self.bed.ctl("refresh", "room")

    def shown(self):
        """{name: is it a directory}"""
        return {entry[0]: bool(entry[1] & ATTR_DIRECTORY) for entry in self.client.list("room")}

    def expect_both(self, name, text, when):
        shown = self.shown()
        check(shown.get(name) is True, f"{when}: {name} is not the directory: {shown}")
        check(shown.get(escape(name)) is False, f"{when}: the file {escape(name)} is missing: {shown}")
        check(self.client.get(f"room/{escape(name)}") == text, f"{when}: {escape(name)}: other bytes")
        check(self.client.get(f"room/{name}/x") == b"below " + name.encode(),
              f"{when}: {name}/x: other bytes")


def orders(bed, room):
    step("whichever comes first")
    before = bed.ctl_json("status")["counters"]["files_beside"]
    room.put("both", b"file both")
    room.put("both/x", b"below both")
    room.put("early", b"file early")
    room.put("late/x", b"below late")
    room.refresh()
    check(room.client.get("room/early") == b"file early", "a file alone is not called by its name")
    wait_until(lambda: is_resident(bed, "room/early"), what="early is here, and in use no more")
    room.put("early/x", b"below early")
    room.put("late", b"file late")
    room.refresh()
    for name in ("both", "early", "late"):
        room.expect_both(name, b"file " + name.encode(), "in order")
    check(bed.ctl_json("status")["counters"]["files_beside"] == before + 3, "not counted")


def changes(bed, room):
    step("each is changed alone, under its own key")
    tag = room.s3.head_object(Bucket=bed.s3_bucket, Key=f"{bed.s3_prefix}room/both/x")["ETag"]
    room.client.put(f"room/{escape('both')}", b"file both, changed")
    bed.flush()
    check(room.body("both") == b"file both, changed", "the change has another key")
    check(tag == room.s3.head_object(Bucket=bed.s3_bucket, Key=f"{bed.s3_prefix}room/both/x")["ETag"],
          "the other was written")
    room.client.put("room/both/y", b"another")
    bed.flush()
    check(room.body("both/y") == b"another" and room.body("both") == b"file both, changed",
          "the other was written")
    check(not any("%" in key for key in room.keys()), f"an escape is a key: {room.keys()}")
    room.put("late", b"file late, changed by another tool")
    room.refresh()
    room.expect_both("late", b"file late, changed by another tool", "changed in the bucket")
    room.put("late", b"file late")
    room.refresh()

    step("saved as Windows programs save: a new file takes the name")
    room.client.put("room/save.tmp", b"file both, saved")
    room.client.rename("room/save.tmp", f"room/{escape('both')}", replace=True)
    bed.flush()
    check(room.body("both") == b"file both, saved" and "save.tmp" not in room.keys(),
          f"saved elsewhere: {room.keys()}")


def while_open(bed, room):
    step("a file that is open keeps its name, and what is written to it is not lost")
    client = room.client
    client.put("room/open", b"file open")
    bed.flush()
    file = client.create("room/open", MAXIMUM_ALLOWED)
    room.put("open/x", b"below open")
    room.refresh()
    check(room.shown().get("open") is False, f"renamed while it was open: {room.shown()}")
    check("is not called" in bed.log(), "the log does not say what waits")
    client.write(file, 0, b"FILE")
    check(client.read(file, 0, 100) == b"FILE open", "other bytes through the open handle")
    client.close(file)
    bed.flush()
    check(room.body("open") == b"FILE open", "what was written to the open file is lost")
    room.refresh()
    room.expect_both("open", b"FILE open", "after the close")


def attributes(bed, room):
    step("attributes set through a handle that does not keep the file open")
    client = room.client
    client.put("room/attr", b"file attr")
    bed.flush()
    file = client.create("room/attr", READ_ATTRIBUTES | WRITE_ATTRIBUTES)
    room.put("attr/x", b"below attr")
    room.refresh()
    room.expect_both("attr", b"file attr", "a handle for attributes")
    client.set_basic(file, attributes=ATTR_HIDDEN)
    client.close(file)
    bed.flush()
    state = bed.ctl_json("stat", f"test:room/{escape('attr')}")
    check("dirty" not in json.dumps(state["record"]["flags"]), f"not sent: {state}")


def moves(bed, room):
    step("the file is renamed, the directory is renamed")
    client = room.client
    client.rename(f"room/{escape('early')}", "room/moved")
    client.rename("room/late", "room/elsewhere")
    bed.flush()
    keys = room.keys()
    check("early" not in keys and room.body("moved") == b"file early", f"file: {keys}")
    check("early/x" in keys, "the directory went with the file")
    check("late/x" not in keys and "elsewhere/x" in keys, f"directory: {keys}")
    check(room.body("late") == b"file late", "the file went with the directory")
    room.refresh()
    shown = room.shown()
    check(shown.get("early") is True and shown.get("late") is False and escape("late") not in shown,
          f"a file alone has its name again: {shown}")
    client.rename("room/moved", f"room/{escape('early')}")
    client.rename("room/late", f"room/elsewhere/{escape('x')}")
    bed.flush()
    keys = room.keys()
    check(room.body("early") == b"file early" and "moved" not in keys, f"back: {keys}")
    # x is a file there: the key is taken, so both stay
    check(room.body("elsewhere/x") == b"below late", "another file's object was overwritten")
    check(any(key.startswith("elsewhere/x (conflict ") and room.body(key) == b"file late"
              for key in keys), f"the file of the taken key is lost: {keys}")


def deletes(bed, room):
    step("each is deleted alone")
    client = room.client
    for name in ("df", "dd"):
        room.put(name, b"file " + name.encode())
        room.put(f"{name}/x", b"below " + name.encode())
    room.refresh()
    room.expect_both("df", b"file df", "before")
    room.expect_both("dd", b"file dd", "before")
    client.unlink(f"room/{escape('df')}")
    client.unlink("room/dd/x")
    client.rmdir("room/dd")
    bed.flush()
    keys = room.keys()
    check("df" not in keys and "df/x" in keys, f"the file is deleted: {keys}")
    check("dd" in keys and not any(key.startswith("dd/") for key in keys), f"the directory: {keys}")

    def plain_again():
        room.refresh()
        return room.shown().get("dd") is False

    # at a listing after the directory's own deletion is over
    wait_until(plain_again, 20, "the file has its plain name again")
    shown = room.shown()
    check(shown.get("df") is True and escape("df") not in shown, f"the file is deleted: {shown}")
    check(shown.get("dd") is False and client.get("room/dd") == b"file dd", f"the directory: {shown}")
    # a file becomes a directory, and a directory a file, at once
    client.unlink("room/dd")
    client.mkdir("room/dd")
    client.put("room/dd/new", b"new")
    client.unlink("room/df/x")
    client.rmdir("room/df")
    client.put("room/df", b"df is a file")
    bed.flush()
    keys = room.keys()
    check("dd" not in keys and "dd/new" in keys and room.body("df") == b"df is a file" and
          not any(key.startswith("df/") for key in keys), f"turned: {keys}")


def invented(bed, room):
    step("such names given by a client")
    client = room.client
    client.mkdir("room/inv")
    client.put("room/inv/x", b"below inv")
    client.put(f"room/{escape('inv')}", b"file inv")
    client.mkdir(f"room/{escape('dir')}")
    client.put(f"room/{escape('dir')}/x", b"x")
    client.put("room/two", b"plain")
    bed.flush()
    client.put(f"room/{escape('two')}", b"escaped")
    bed.flush()
    keys = room.keys()
    check(room.body("inv") == b"file inv" and "inv/x" in keys, f"made beside a directory: {keys}")
    check(f"{escape('dir')}/x" in keys, f"a directory of such a name: {keys}")
    wait_until(lambda: any(key.startswith("two (conflict ") for key in room.keys()), 20,
               "two names of one key: a conflict copy")
    check(sorted(room.body(key) for key in room.keys() if key.startswith("two")) ==
          [b"escaped", b"plain"], "two names of one key: one is lost")


def main():
    with Testbed(store="rgw", set=["settle time=500ms", "listing age=1d"]) as bed:
        with bed.client() as client:
            client.mkdir("room")
            bed.flush()
            room = Room(bed, client)
            orders(bed, room)
            changes(bed, room)
            while_open(bed, room)
            attributes(bed, room)
            moves(bed, room)
            deletes(bed, room)
            invented(bed, room)
            room.refresh()
            client.put(f"room/{escape('open')}", b"FILE open, last")
            bed.flush()
            before = client.manifest("room")
            check(escape("open") in before and escape("early") in before, f"{sorted(before)}")
            objects = room.files()

        step("the index is lost: the same names, the same keys")
        bed.stop("cached", kill=True)
        for path in glob.glob(os.path.join(os.path.dirname(bed.mirror), "index.db*")):
            os.unlink(path)
        bed.start("cached")
        with bed.client() as client:
            room.client = client
            room.refresh()
            check_same(before, client.manifest("room"), "after the loss of the index",
                       SAME)
            client.put(f"room/{escape('open')}", b"after the index")
            client.put("room/open/x", b"below too")
            bed.flush()
            check(room.body("open") == b"after the index" and room.body("open/x") == b"below too",
                  "after the loss of the index: other keys")
            check(room.files() == objects, f"{room.files() ^ objects}")
            client.put(f"room/{escape('open')}", b"FILE open, last")
            client.put("room/open/x", b"below open")
            bed.flush()
            before = client.manifest("room")

        step("the disk is lost")
        bed.wipe()
        with bed.client() as client:
            room.client = client
            try:
                check(client.get(f"room/{escape('open')}") == b"FILE open, last", "by its name")
                check(client.get("room/early/x") == b"below early", "by its name")
            except SmbError as error:
                fail(f"by its name, before any listing: {error}")
            # a directory of such a name has an escape of its own
            again = {path.replace("%~%25~dir%25file", escape("dir")): entry
                     for path, entry in client.manifest("room").items()}
            check_same(before, again, "after the loss of the disk", SAME)
            check(again[escape("attr")]["attributes"] & ATTR_HIDDEN, "an attribute is lost")
            check(room.files() == objects, f"{room.files() ^ objects}")
        bed.sound()


if __name__ == "__main__":
    sys.exit(main())
