#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
"""A client's server-side copy of a whole stub is a copy in S3 and a new stub: no byte of it passes
through this machine, by any client's habits (smbclient; a target that is given its size first; chunks
in flight together; over an existing file). A copy of a part is a part, whatever was begun; what cannot
be copied in S3 is copied here. A stop at any moment leaves what was acknowledged."""

import hashlib
import os
import random
import signal
import sys
import threading

import dirstore
from copychunk import Copy
from proxy import Proxy
from smb import Testbed, bed_path, check, fail, step, wait_until
from smb2 import FILE_OVERWRITE_IF, OK, READ_DATA, WRITE_DATA

MIB = 1 << 20
SIZE = 20 * MIB + 12345


def data_of(name, size=SIZE):
    return random.Random(name).randbytes(size)


def counters(bed):
    return bed.ctl_json("status")["counters"]


def is_stub(bed, path):
    return bed.ctl_json("stat", path)["state"] == "stub"


def get_object(bed, key):
    if not bed.env["S3_BUCKET"]:
        return dirstore.get_object(bed, key)
    s3 = bed.s3()
    try:
        return s3.get_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None


class Same:
    """Within `with`, no file content is fetched or sent, and so many objects are copied whole."""

    def __init__(self, bed, what, whole=1):
        self.bed, self.what, self.whole = bed, what, whole

    def __enter__(self):
        self.before = counters(self.bed)

    def __exit__(self, kind, *_):
        if kind is not None:
            return
        self.bed.flush()
        after = counters(self.bed)
        for name in ("recall_bytes", "upload_bytes"):
            check(after[name] == self.before[name],
                  f"{self.what}: {name}: {after[name] - self.before[name]}")
        done = after["copies_whole"] - self.before["copies_whole"]
        check(done == self.whole, f"{self.what}: {done} objects copied whole")


def verify(bed, path, data, what):
    bed.flush()
    wait_until(lambda: not bed.ctl_json("pending")["pending"], 20, f"{what}: nothing is pending")
    found = get_object(bed, path)
    check(found == data, f"{what}: other bytes in the store: "
          f"{None if found is None else len(found)} of {len(data)}")
    with bed.client() as client:
        check(client.get(path) == data, f"{what}: other bytes in the share")


def fresh(bed, *names, size=SIZE):
    """Stubs of these names."""
    with bed.client() as client:
        for name in names:
            client.put(name, data_of(name, size))
    bed.flush()
    bed.wipe()
    with bed.client() as client:
        client.list("")
    for name in names:
        check(is_stub(bed, name), f"{name} is no stub")


def wholes(bed):
    data = data_of("source")
    copies = {}

    step("smbclient's scopy")
    with Same(bed, "scopy"):
        rc, output = bed.smbclient("scopy source scopied")
        check(rc == 0 and "NT_STATUS" not in output, f"scopy: {output}")
    copies["scopied"] = data

    with bed.client() as client:
        step("the target has its size before; times are set at the end")
        with Same(bed, "a sized target"):
            copy = Copy(client, "source", "sized", sized=SIZE)
            copy.whole(SIZE)
            client.set_basic(copy.target, times={"write": 132000000000000000})
            copy.close()
        step("chunks in flight together")
        with Same(bed, "chunks together"):
            copy = Copy(client, "source", "together")
            copy.whole(SIZE, together=True)
            copy.close()
        step("into a directory made just now, one chunk")
        with Same(bed, "a small file in a new directory"):
            client.mkdir("new")
            copy = Copy(client, "small", "new/small")
            copy.whole(len(data_of("small", 1000)))
            copy.close()
        step("over a stub")
        with Same(bed, "over a stub"):
            copy = Copy(client, "source", "over", FILE_OVERWRITE_IF)
            copy.whole(SIZE)
            copy.close()
        step("a copy of the copy, renamed while it is open, before and within")
        with Same(bed, "a copy of a copy"):
            copy = Copy(client, "sized", "a")
            client.rename("a", "again")
            copy.chunks((0, 0, MIB))
            client.rename("again", "renamed")
            copy.whole(SIZE)
            copy.close()
    copies.update({"sized": data, "together": data, "new/small": data_of("small", 1000),
                   "over": data, "renamed": data})
    for name in copies:
        check(is_stub(bed, name), f"{name} is no stub")
        check(hashlib.sha256(get_object(bed, name)).digest() ==
              hashlib.sha256(copies[name]).digest(), f"{name}: other bytes in the store")
    check(get_object(bed, "again") is None, "the renamed copy's first key is still there")

    step("the copies are files of their own")
    with bed.client() as client:
        client.unlink("scopied")
        client.put("over", b"other content")
        file = client.create("together", READ_DATA | WRITE_DATA)
        client.write(file, MIB, b"changed")
        client.close(file)
    changed = data[:MIB] + b"changed" + data[MIB + 7:]
    verify(bed, "together", changed, "a changed copy")
    check(get_object(bed, "scopied") is None, "a deleted copy is still in the store")
    check(get_object(bed, "source") == data, "the source has other bytes")
    before = bed.manifest()
    check("scopied" not in before, "a deleted copy is still there")
    bed.wipe()
    after = bed.manifest()
    for path in ("source", "sized", "renamed", "new/small", "together", "over"):
        for field in ("size", "sha256", "write", "sd"):
            check(before[path].get(field) == after[path].get(field), f"{path} after the loss of "
                  f"the disk: {field}: {before[path].get(field)} became {after[path].get(field)}")


def parts(bed):
    """What is copied is what was asked for, although the whole was begun."""
    data = data_of("part")
    cases = {
        "first chunk": ([(0, 0, MIB)], None, data[:MIB]),
        "first chunk, sized": ([(0, 0, MIB)], SIZE, data[:MIB] + bytes(SIZE - MIB)),
        "with a gap": ([(0, 0, MIB), (3 * MIB, 3 * MIB, 2 * MIB)], None,
                       data[:MIB] + bytes(2 * MIB) + data[3 * MIB:5 * MIB]),
        "shifted": ([(0, 0, MIB), (MIB, 7 * MIB, MIB)], None,
                    data[:MIB] + bytes(6 * MIB) + data[MIB:2 * MIB]),
        "not at 0": ([(5, 0, MIB)], None, data[5:5 + MIB]),
        "odd": ([(0, 0, MIB), (MIB, MIB, 1000)], None, data[:MIB + 1000]),
    }
    fresh(bed, "part")
    with bed.client() as client:
        for name, (chunks, sized, expected) in cases.items():
            step(f"a part: {name}")
            check(is_stub(bed, "part"), "the source is no stub any more")
            copy = Copy(client, "part", name, sized=sized)
            for chunk in chunks:
                copy.chunks((chunk[0], chunk[1], min(chunk[2], MIB)))
                if chunk[2] > MIB:
                    copy.chunks((chunk[0] + MIB, chunk[1] + MIB, chunk[2] - MIB))
            copy.close()
            verify(bed, name, expected, f"a part: {name}")
    step("a part, then a write, then the rest")
    with bed.client() as client:
        copy = Copy(client, "part", "written")
        copy.chunks((0, 0, MIB))
        client.write(copy.target, MIB // 2, b"in between")
        copy.whole(SIZE)
        client.write(copy.target, 3 * MIB, b"at the end")
        copy.close()
    verify(bed, "written", data[:3 * MIB] + b"at the end" + data[3 * MIB + 10:], "written")
    step("given up: deleted while it was copied")
    fresh(bed, "part")
    with bed.client() as client:
        copy = Copy(client, "part", "deleted")
        copy.chunks((0, 0, MIB))
        client.unlink("deleted")
        copy.close()
        bed.flush()
        check(get_object(bed, "deleted") is None, "a deleted copy is in the store")
        check(counters(bed)["recall_bytes"] == 0, "a deleted copy was fetched")


def refused(bed):
    """What cannot be copied in S3 is copied here."""
    step("somebody else has the target open, or its bytes")
    fresh(bed, "one", "two")
    with bed.client() as client, bed.client(user=1) as other:
        copy = Copy(client, "one", "shared")
        reader = other.create("shared", READ_DATA)
        copy.whole(SIZE)
        check(other.read(reader, 5 * MIB, 1000) == data_of("one")[5 * MIB:5 * MIB + 1000],
              "who had the copy open reads other bytes")
        other.close(reader)
        copy.close()
        verify(bed, "shared", data_of("one"), "a copy open elsewhere")

        step("the source is written while it is copied")
        copy = Copy(client, "two", "moving")
        copy.chunks((0, 0, MIB))
        file = other.create("two", READ_DATA | WRITE_DATA)
        other.write(file, 9 * MIB, b"newer")
        other.close(file)
        copy.whole(SIZE)
        copy.close()
        newer = data_of("two")[:9 * MIB] + b"newer" + data_of("two")[9 * MIB + 5:]
        verify(bed, "moving", newer, "a source that was written")
        verify(bed, "two", newer, "the source")

    step("the object was replaced in the bucket")
    fresh(bed, "gone")
    if bed.env["S3_BUCKET"]:
        bed.s3().put_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + "gone", Body=data_of("else"))
    else:
        dirstore.put_object(bed, "gone", data_of("else"))
    before = counters(bed)["copies_whole"]
    rc, output = bed.smbclient("scopy gone went")
    check(counters(bed)["copies_whole"] == before, "another version was copied")
    bed.flush()
    found = get_object(bed, "went")
    check(found in (None, b"", data_of("else")) or "NT_STATUS" in output,
          f"scopy of a replaced object: {rc} {output}, {len(found)} bytes")

    step("larger than the store copies")
    fresh(bed, "large", size=SIZE + 2 * MIB)
    before = counters(bed)
    rc, output = bed.smbclient("scopy large larger")
    check(rc == 0 and "NT_STATUS" not in output, f"scopy: {output}")
    check(counters(bed)["copies_whole"] == before["copies_whole"], "it was copied in S3")
    verify(bed, "larger", data_of("large", SIZE + 2 * MIB), "larger than the store copies")


def raced():
    """The object is replaced between the look at it and the copy: the copy is not believed."""
    step("the source is replaced while S3 copies it")
    path = bed_path()
    proxy = Proxy(path)
    with Testbed(store="rgw", path=path, set=[f"endpoint={proxy.url}", "settle time=1s"]) as bed:
        fresh(bed, "race")
        proxy.hold("PUT", "/raced")
        output = []
        client = threading.Thread(target=lambda: output.append(bed.smbclient("scopy race raced")))
        client.start()
        check(proxy.stalled.wait(60), "the store was not asked for a copy")
        bed.s3().put_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + "race", Body=data_of("other"))
        proxy.release()
        client.join(100)
        check(output, "the client waits for ever")
        check(counters(bed)["copies_whole"] == 0, "another version was taken for the copy")
        bed.flush()
        found = get_object(bed, "raced")
        check("NT_STATUS" in output[0][1] or found == data_of("other"),
              f"scopy: {output[0]}, {None if found is None else len(found)} bytes")
        check(found in (None, b"", data_of("other")), "a copy of an unknown version stays")


def abandoned():
    """A source that is closed while its bytes, or its copy in S3, are waited for: the copy ends."""
    path = bed_path()
    proxy = Proxy(path)
    with Testbed(store="rgw", path=path, set=[f"endpoint={proxy.url}", "settle time=1s"]) as bed:
        for what, method, chunk in (("its bytes", "GET", (MIB, 0, MIB)),
                                    ("its copy in S3", "PUT", (0, 0, MIB))):
            step(f"the source is closed while the copy waits for {what}")
            name = "left" if method == "GET" else "leaving"
            fresh(bed, name)
            proxy.hold(method, "/" + (name if method == "GET" else "target"))
            with bed.client(timeout_s=30) as client:
                copy = Copy(client, name, "target " + method)
                message = copy.send([chunk])
                check(proxy.stalled.wait(60), "the store was not asked")
                client.close(copy.source)
                if method == "PUT":
                    proxy.release()
                status = client.wait(message)[0]
                check(status != OK, f"a chunk of a closed file was copied: {status:x}")
                proxy.release()
                client.close(copy.target)
                check(client.get(name) == data_of(name), "the source has other bytes")
        step("nothing of it is left open in the daemon: both can go")
        bed.flush()
        for name in ("left", "leaving"):
            wait_until(lambda: bed.ctl("evict", name, may_fail=True)[0] == 0 and is_stub(bed, name),
                       20, f"{name} leaves the disk")


def stopped(bed):
    """kill -9 of the daemon, or of the client's smbd, after some chunks."""
    data = data_of("stop")
    for who in ("cached", "smbd", "both"):
        step(f"killed after the first chunks: {who}")
        fresh(bed, "stop")
        name = f"stopped {who}"
        client = bed.client()
        copy = Copy(client, "stop", name)
        copy.chunks((0, 0, MIB), (MIB, MIB, MIB))
        if who in ("cached", "both"):
            os.kill(int(bed.cached_pid), signal.SIGKILL)
        if who in ("smbd", "both"):
            bed.stop("smbd", kill=True)
        if who in ("cached", "both"):
            bed.restart("cached", kill=True)
        if who in ("smbd", "both"):
            bed.start("smbd")
        wait_until(lambda: bed.ctl_json("status")["volumes"][0]["state"] == "ready", 60,
                   "the volume is ready")
        if who == "cached":
            copy.whole(SIZE)
            copy.close()
            verify(bed, name, data, f"killed: {who}")
        else:
            bed.flush()
            found = get_object(bed, name)
            check(found is not None and found[:2 * MIB] == data[:2 * MIB] and
                  data.startswith(found), f"killed: {who}: what was acknowledged is not there")
            verify(bed, name, found, f"killed: {who}")


def main():
    for store in ("dir", "rgw"):
        step(f"store {store}")
        with Testbed(store=store, set=["settle time=10s", f"copy limit={SIZE}"]) as bed:
            with bed.client() as client:
                client.put("small", data_of("small", 1000))
                client.put("over", b"to be replaced")
            fresh(bed, "source")
            wholes(bed)
            refused(bed)
            if store == "dir":
                parts(bed)
                stopped(bed)
    raced()
    abandoned()


if __name__ == "__main__":
    sys.exit(main() if len(sys.argv) == 1 else fail("no arguments"))
