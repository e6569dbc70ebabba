#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
"""Data leaves the local disk and comes back, and a client sees nothing of it. What is in use, newer than S3,
pinned, or not in S3 as it is here stays, and objectfsctl says why.
"""

import hashlib
import os
import re
import struct

import smb2
from dirstore import delete_object, get_object, object_path, put_object
from local import (counter, evict, has_data, is_marked, is_out, is_resident, local_path)
from smb import Testbed, check, check_same, step, wait_until
from smb2 import nt_time
from samba.dcerpc import xattr
from samba.ndr import ndr_unpack
from tracer import Tracer, client_pid

MIB = 1 << 20
FSCTL_SET_SPARSE, ATTR_SPARSE = 0x900C4, 0x200
EARLIER = nt_time(1400000000) + 1234567
SEEN = ("type", "size", "create", "access", "write", "change", "attributes", "sd", "eas", "streams")
SDDL = "D:PAI(A;;FA;;;WD)(A;;FR;;;BU)"


def body(path, size):
    """Other bytes for every path."""
    return (hashlib.sha256(path.encode()).digest() * (size // 32 + 1))[:size]


def fill(client, top):
    """Files with all they can have: {path: bytes}."""
    client.put(top, directory=True)
    client.put(f"{top}/sub", directory=True)
    contents = {f"{top}/{name}": body(name, size) for name, size in (
        ("large", 5 * MIB + 77), ("block", 4096), ("one", 1), ("sub/rights", 100000),
        ("sub/readonly", 70000), ("sub/näme.txt", 12345))}
    for path, data in contents.items():
        client.put(path, data, eas={"k": path.encode()}, streams={"s": b"stream of " + path.encode()},
                   sddl=SDDL if path.endswith("rights") else None,
                   attributes=smb2.ATTR_READONLY | smb2.ATTR_HIDDEN if path.endswith("only")
                   else None,
                   times={"write": EARLIER, "create": EARLIER - 5, "access": EARLIER + 99})
    return contents


def ids(bed, client, paths):
    """What tells one file from another, for clients and for the kernel."""
    found = {}
    for path in paths:
        file = client.create(path, smb2.READ_ATTRIBUTES)
        found[path] = (struct.unpack("<Q", client.query(file, smb2.INFO_FILE, 6))[0],
                       os.stat(local_path(bed, path)).st_ino)
        client.close(file)
    return found


def allinfo(bed, path):
    """As smbclient shows it, without the attributes: they say where the bytes are."""
    return [line for line in bed.smbclient(f'allinfo "{path}"')[1].split("\n")
            if not line.startswith("attributes:")]


def stored_attributes(bed, path):
    return ndr_unpack(xattr.DOSATTRIB, os.getxattr(local_path(bed, path), "user.DOSATTRIB")).info.attrib


def offline_share(bed):
    """A second share of the volume, on which nothing is said of where the bytes are."""
    with open(bed.smb_conf, encoding="utf-8") as file:
        section = re.search(r"^\[test\]\n(?:\t.*\n)+", file.read(), re.MULTILINE).group(0)
    with open(bed.smb_conf, "a", encoding="utf-8") as file:
        file.write(section.replace("[test]", "[silent]") + "\tobjectfs:offline = no\n")
    bed.restart("smbd")


def says_where(bed):
    step("clients are told which files are not here; that is stored nowhere")
    place = smb2.ATTR_OFFLINE | smb2.ATTR_RECALL_ON_DATA_ACCESS
    hidden = smb2.ATTR_HIDDEN | ATTR_SPARSE
    offline_share(bed)
    with bed.client() as client, bed.client(share="silent") as silent:
        client.mkdir("say")
        client.put("say/out", b"x" * 5000)
        client.put("say/in", b"x" * 5000)
        client.put("say/empty", b"")
        bed.flush()
        bed.ctl("evict", "say/out")

        def shown(of=client):
            return {entry[0]: entry[1] for entry in of.list("say")}

        def opened(path, of=client):
            file = of.create(path, smb2.READ_ATTRIBUTES)
            try:
                return struct.unpack_from("<I", of.query(file, smb2.INFO_FILE, 4), 32)[0]
            finally:
                of.close(file)

        usual = {"out": smb2.ATTR_ARCHIVE, "in": smb2.ATTR_ARCHIVE, "empty": smb2.ATTR_ARCHIVE}
        check(shown() == {**usual, "out": smb2.ATTR_ARCHIVE | place}, f"listed: {shown()}")
        check(shown(silent) == usual, f"listed where it is switched off: {shown(silent)}")
        check(opened("say/out") == smb2.ATTR_ARCHIVE | place and opened("say/in") == smb2.ATTR_ARCHIVE and
              opened("say") == smb2.ATTR_DIRECTORY and opened("say/out", silent) == smb2.ATTR_ARCHIVE, "opened")
        for where, bit in ((client, 0x100), (silent, 0)):
            root = where.create("", smb2.READ_ATTRIBUTES)
            check(struct.unpack_from("<I", where.query(root, smb2.INFO_FS, 5))[0] & 0x100 == bit,
                  "the file system's attributes")
            where.close(root)
        # set, read and set back, and stored again with the time of creation
        for path in ("say/out", "say/in"):
            file = client.create(path, smb2.READ_ATTRIBUTES | smb2.WRITE_ATTRIBUTES)
            client.set_basic(file, attributes=smb2.ATTR_HIDDEN | place)
            client.set_basic(file, times={"create": nt_time(1500000000)})
            check(stored_attributes(bed, path) == smb2.ATTR_HIDDEN, f"{path}: {stored_attributes(bed, path):x}")
            client.fsctl(file, FSCTL_SET_SPARSE)  # smbd stores all it was told
            client.close(file)
            check(stored_attributes(bed, path) == hidden, f"{path}: {stored_attributes(bed, path):x}")
        check(is_out(bed, "say/out"), "it was fetched for that")
        check(shown() == {"out": hidden | place, "in": hidden, "empty": smb2.ATTR_ARCHIVE},
              f"then: {shown()}")
        bed.flush()
    bed.wipe()
    with bed.client() as client:
        check(shown(client) == {"out": hidden | place, "in": hidden | place, "empty": smb2.ATTR_ARCHIVE}, f"after the disk was lost: {shown(client)}")
        check(client.get("say/out") == b"x" * 5000, "other bytes")
        wait_until(lambda: shown(client)["out"] == hidden, 20, "it is here, and that is seen")


def out_and_in(bed):
    step("out: nothing that a client can see has changed; in again: the same bytes")
    with bed.client() as client:
        contents = fill(client, "d")
        client.put("d/empty", b"")
        bed.flush()
        before = client.manifest("d")
        seen, known = client.manifest("d", content=False), ids(bed, client, contents)
        shown = allinfo(bed, "d/large")
        done = bed.ctl_json("evict", "d")
        check(done["files"] == len(contents) and done["stay"] == 0, f"evict did {done}")
        check(done["bytes"] == sum(map(len, contents.values())), f"evict tells of {done['bytes']} bytes")
        for path in contents:
            check(is_out(bed, path), f"{path} has data, or no marker")
        check(is_resident(bed, "d/empty"), "a file without bytes was made a stub")
        check_same(seen, client.manifest("d", content=False), "after eviction", SEEN)
        check(allinfo(bed, "d/large") == shown, f"allinfo: {shown}, then {allinfo(bed, 'd/large')}")
        check(ids(bed, client, contents) == known, "files have other ids or inodes")
        check(all(is_out(bed, path) for path in contents), "asking for metadata brought data")
        check("nothing_to_do" in bed.ctl("--json", "evict", "d"), "a second time")
        for path, data in contents.items():
            check(client.get(path) == data, f"{path}: other bytes after recall")
        check_same(before, client.manifest("d"), "after recall")
        check(ids(bed, client, contents) == known, "ids after recall")
        for path in contents:
            wait_until(lambda name=path: is_resident(bed, name), 20, f"{path} is resident")
        check(counter(bed, "pending") == 0, "an eviction made work for S3")


def stays(bed, path, why):
    """It does not go, for this reason, and nothing of it has changed."""
    code, text = evict(bed, path)
    check(code == 1 and why in text, f"evict {path}: exit {code}, {text.strip()!r}, not {why!r}")
    check(is_resident(bed, path) and has_data(bed, path), f"{path} has lost data")


def in_use(bed):
    step("open, or newer than S3: stays")
    with bed.client() as client:
        client.put("busy", body("busy", MIB))
        check("objectfsctl flush" in evict(bed, "busy")[1], "of a new file it does not say what to do")
        bed.flush()
        for access in (smb2.READ_DATA, smb2.READ_DATA | smb2.WRITE_DATA):
            file = client.create("busy", access)
            stays(bed, "busy", "it is open")
            client.close(file)
        file = client.create("busy", smb2.READ_ATTRIBUTES)  # no use of its data
        check(evict(bed, "busy")[0] == 0 and is_out(bed, "busy"), "attributes keep it here")
        client.close(file)
        file = client.create("busy", smb2.READ_DATA | smb2.WRITE_DATA)
        client.write(file, 10, b"NEWER")
        client.close(file)
        stays(bed, "busy", "S3 does not have it")
        file = client.create("busy", smb2.WRITE_ATTRIBUTES)
        bed.flush()
        client.set_basic(file, times={"write": EARLIER})
        client.close(file)
        stays(bed, "busy", "S3 does not have it")
        bed.flush()
        check(evict(bed, "busy")[0] == 0, "clean and closed, it does not go")
        wanted = bytearray(body("busy", MIB))
        wanted[10:15] = b"NEWER"
        check(client.get("busy") == wanted, "other bytes")
        check(client.list("", "busy")[0][5] == EARLIER, "its time was lost")


def pinned(bed):
    step("pinned, itself or above, and through renames: stays")
    with bed.client() as client:
        client.put("p", directory=True)
        client.put("p/q", directory=True)
        for path in ("p/one", "p/q/two", "three"):
            client.put(path, body(path, 50000))
        bed.flush()
        bed.ctl("pin", "three")
        stays(bed, "three", "pinned")
        client.rename("three", "p/3")
        bed.flush()
        stays(bed, "p/3", "pinned")
        bed.ctl("pin", "p")
        stays(bed, "p/q/two", "pinned")
        client.rename("p", "r")
        bed.flush()
        stays(bed, "r/q/two", "pinned")
        bed.restart("cached", kill=True)
        bed.flush()
        stays(bed, "r/q/two", "pinned")
        bed.ctl("unpin", "r")
        code, text = evict(bed, "r")
        check(code == 1 and is_out(bed, "r/q/two") and is_out(bed, "r/one"),
              f"what is not pinned any more stays: {text}")
        stays(bed, "r/3", "pinned")
        bed.ctl("unpin", "r/3")
        check(evict(bed, "r/3")[0] == 0, "what nothing pins stays")


def partial(bed):
    step("a recall that was given up: its blocks are freed")
    size = 64 * MIB
    put_object(bed, "part", size=size, pieces=[(0, b"first"), (size - 4, b"last")])
    bed.ctl("refresh", ".")
    with bed.client() as client:
        client.list("")
        file = client.create("part", smb2.READ_DATA)
        check(client.read(file, 0, 5) == b"first", "the first bytes")
        check(is_marked(bed, "part") and has_data(bed, "part"), "not a part of it is here")
        code, text = evict(bed, "part")
        check(code == 1 and "open" in text, f"evicted while it is read: {text}")
        client.close(file)
        before = counter(bed, "cache_bytes")
        wait_until(lambda: evict(bed, "part")[0] == 0, 30, "it goes when nobody has read it for a while")
        check(is_out(bed, "part"), "blocks of it are left")
        check(client.get("part")[-4:] == b"last", "the last bytes")
        return before


def behind(bed):
    step("deleted, replaced, damaged in the bucket: what is here stays")
    changes = (("gone", delete_object, ()), ("other", put_object, (body("x", 50000),)),
               ("same size", put_object, (body("y", 60000),)), ("cut", cut, ()))
    with bed.client() as client:
        client.put("b", directory=True)
        for name, _, _ in changes:
            client.put(f"b/{name}", body(name, 60000))
        bed.flush()
        for name, change, arguments in changes:
            path, refused = f"b/{name}", counter(bed, "evict_refused")
            change(bed, path, *arguments)
            stays(bed, path, "S3 does not have, or give out" if name != "cut" else "S3")
            check(name == "cut" or counter(bed, "evict_refused") == refused + 1, f"{path}: not counted")
            check(client.get(path) == body(name, 60000), f"{path}: other bytes")
        check("it stays" in bed.log(), "the log does not say so")


def cut(bed, key):
    """A damaged object."""
    with open(object_path(bed, key), "r+b") as file:
        file.truncate(2000)


def below(bed):
    step("changed below the share: sent to S3, not lost")
    with bed.client() as client:
        for name, size in (("grown", 70000), ("changed", 60000)):
            client.put(name, body(name, 60000))
            bed.flush()
            data = body("below " + name, size)
            with open(local_path(bed, name), "r+b") as file:
                file.write(data)
            stays(bed, name, "S3 does not have it")
            bed.flush()
            wait_until(lambda key=name, wanted=data: bed.flush() or get_object(bed, key) == wanted, 20,
                       f"{name} is sent")
            check(evict(bed, name)[0] == 0, f"{name} does not go")
            check(client.get(name) == data, f"{name}: other bytes")


def warm(bed):
    step("warm: a tree that was never listed is fetched, after the disk was lost")
    with bed.client() as client:
        contents = fill(client, "w")
        bed.flush()
    bed.wipe()
    with bed.client() as client:
        client.list("")
    done = bed.ctl_json("warm", "w")
    check(done["files"] == len(contents) and done["stay"] == 0, f"warm did {done}")
    for path in contents:
        check(is_resident(bed, path), f"{path} is not here")
    before = counter(bed, "recall_bytes")
    with bed.client() as client:
        for path, data in contents.items():
            check(client.get(path) == data, f"{path}: other bytes")
    check(counter(bed, "recall_bytes") == before, "reading fetched it again")


def missing(bed):
    step("no such path")
    for command in ("evict", "warm", "pin", "unpin"):
        code, text = bed.ctl(command, "no/such", may_fail=True)
        check(code == 1 and "not known" in text, f"{command}: exit {code}: {text}")


def on_rgw():
    with Testbed(store="rgw", set=["settle time=30s"]) as bed:
        out_and_in(bed)
        says_where(bed)
        step("deleted and replaced in the bucket, on an S3 server")
        with bed.client() as client:
            for path in ("gone", "other"):
                client.put(path, body(path, 60000))
            bed.flush()
            s3 = bed.s3()
            s3.delete_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + "gone")
            s3.put_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + "other", Body=b"theirs")
            for path in ("gone", "other"):
                stays(bed, path, "S3 does not have, or give out")
                check(client.get(path) == body(path, 60000), f"{path}: other bytes")


def at_close():
    with Testbed(set=["settle time=0", "evict at close=yes", "log flush=1h"],
                 smb=["objectfs:durability=s3", "objectfs:request timeout=15"]) as bed, bed.client() as client:
        step("evict at close: what was written is out when its close is answered, what was read soon after")
        for path in ("one", "two", "three"):
            client.put(path, body(path, 70000))
            check(is_out(bed, path), f"{path} is here after its close")
        for path in ("one", "two", "three"):
            check(client.get(path) == body(path, 70000), f"{path}: other bytes")
            wait_until(lambda path=path: is_out(bed, path), 10, f"{path} leaves again")
        step("on its way out before the flush comes: the close waits all the same")
        with Tracer(client_pid(bed), "sendmsg", "delay_enter=100ms"), \
                Tracer(int(bed.cached_pid), "fsync", "delay_enter=400ms", local_path(bed, "three")):
            client.put("three", body("anew", 70000))
            check(is_out(bed, "three"), "three is here after its close")
        step("not while somebody else has it open")
        other = client.create("two", smb2.READ_DATA)
        client.put("two", body("two", 5000))
        check(is_resident(bed, "two"), "it went")
        client.close(other)
        wait_until(lambda: is_out(bed, "two"), 10, "it leaves")
        step("rights that wait for the log's segment do not hold up a close")
        file = client.create("late", smb2.READ_ATTRIBUTES | smb2.WRITE_ATTRIBUTES, smb2.FILE_CREATE)
        bed.flush()  # also the rights that came when the empty object was already under way
        check(bed.ctl_json("status")["volumes"][0]["pending"] == 0, "it is sent, empty")
        client.set_basic(file, smb2.ATTR_HIDDEN)
        wait_until(lambda: bed.ctl_json("status")["volumes"][0]["log_queued"] == 1, 10, "they wait")
        client.close(file)
        check(bed.ctl_json("status")["volumes"][0]["log_queued"] == 0, "they wait still")


def main():
    at_close()
    with Testbed(set=["settle time=30s"]) as bed:
        for part in (out_and_in, in_use, pinned, partial, behind, below, missing, warm):
            part(bed)
    on_rgw()


if __name__ == "__main__":
    main()
