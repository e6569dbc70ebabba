#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""What is moved, replaced and deleted in the share is so in the bucket: after each drain the bucket
holds exactly the expected keys with the expected bytes. "File renames; directory renames with an
intent that survives loss of the disk; deletes." "rename and back = no request; a swap goes through a
staging key."
"""

import hashlib
import sys
from urllib.parse import quote

import bucket_reader
import dirstore
from proxy import Proxy
from smb import Testbed, bed_path, check, fail, step, wait_until
from smb2 import (DELETE, DELETE_ON_CLOSE, DIRECTORY_FILE, MAXIMUM_ALLOWED, READ_ATTRIBUTES,
                  SmbError, nt_time)

MANY = 300
CRASHED = 500
HALF = 100
GONE = ("NT_STATUS_OBJECT_NAME_NOT_FOUND", "NT_STATUS_OBJECT_PATH_NOT_FOUND")


class Share:
    """The share, and what it should contain."""

    def __init__(self, bed, proxy):
        self.bed = bed
        self.proxy = proxy
        self.s3 = bed.s3()
        self.files = {}
        self.directories = set()
        self.client = bed.client()

    def reconnect(self):
        self.client.sock.close()
        self.client = self.bed.client()

    def put(self, path, data):
        self.client.put(path, data)
        self.files[path] = data

    def mkdir(self, path):
        self.client.mkdir(path)
        self.directories.add(path)

    def unlink(self, path):
        self.client.unlink(path)
        del self.files[path]

    def rmdir(self, path):
        self.client.rmdir(path)
        self.directories.remove(path)

    def rename(self, path, target, replace=False):
        self.client.rename(path, target, replace)
        self.moved(path, target)

    def moved(self, path, target):
        def new(name):
            below = name == path or name.startswith(path + "/")
            return target + name[len(path):] if below else name
        if path in self.files:
            self.files[target] = self.files.pop(path)
        else:
            self.files = {new(name): data for name, data in self.files.items()}
            self.directories = {new(name) for name in self.directories}

    def tree(self, top, count, data=b""):
        """A directory with sub-directories and so many files."""
        self.mkdir(top)
        for number in range(10):
            self.mkdir(f"{top}/d{number}")
        self.mkdir(f"{top}/d0/deep")
        self.mkdir(f"{top}/d0/empty")
        for number in range(count):
            below = "/d0/deep" if number % 20 == 0 else f"/d{number % 10}" if number % 3 else ""
            self.put(f"{top}{below}/f{number}", b"%d of %s " % (number, top.encode()) + data)

    def internal(self, room):
        answer = self.s3.list_objects_v2(Bucket=self.bed.s3_bucket,
                                         Prefix=f"{self.bed.s3_prefix}.objectfs/{room}/")
        return [item["Key"] for item in answer.get("Contents", [])]

    def count(self, top):
        """Keys below a directory, at most 1,000."""
        answer = self.s3.list_objects_v2(Bucket=self.bed.s3_bucket,
                                         Prefix=f"{self.bed.s3_prefix}{top}/")
        return answer["KeyCount"]

    def verify(self, what):
        """Drain, then compare bucket and expectation."""
        self.bed.flush()
        # an item that has become needless may take one more look
        wait_until(lambda: not self.bed.ctl_json("pending")["pending"], 20,
                   f"{what}: nothing is pending after the drain")
        found, markers = {}, set()
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bed.s3_bucket, Prefix=self.bed.s3_prefix)
        for page in pages:
            for item in page.get("Contents", []):
                key = item["Key"][len(self.bed.s3_prefix):]
                if key.endswith("/"):
                    markers.add(key[:-1])
                elif not key.startswith(".objectfs/"):
                    found[key] = item["ETag"].strip('"')
        expected = {path: hashlib.md5(data).hexdigest() for path, data in self.files.items()}
        wrong = sorted(key for key in set(found) | set(expected)
                       if found.get(key) != expected.get(key))
        if wrong:
            fail(f"{what}: {len(wrong)} keys differ:\n  " + "\n  ".join(
                f"{key}: {'other bytes' if key in found and key in expected else 'too many' if key in found else 'missing'}"  # noqa: E501 pylint: disable=line-too-long
                for key in wrong[:20]))
        check(markers == self.directories, f"{what}: directory markers: "
              f"too many {sorted(markers - self.directories)[:10]}, "
              f"missing {sorted(self.directories - markers)[:10]}")
        for room in ("rename", "stage"):
            check(not self.internal(room), f"{what}: left in .objectfs/: {self.internal(room)}")

    def verify_share(self, what):
        """The share shows the same."""
        manifest = self.client.manifest()
        files = {path: entry["sha256"] for path, entry in manifest.items()
                 if entry["type"] == "file"}
        expected = {path: hashlib.sha256(data).hexdigest() for path, data in self.files.items()}
        wrong = sorted(path for path in set(files) | set(expected)
                       if files.get(path) != expected.get(path))
        check(not wrong, f"{what}: {len(wrong)} files differ in the share: {wrong[:10]}")
        directories = {path for path, entry in manifest.items() if entry["type"] == "dir"} - {""}
        check(directories == self.directories, f"{what}: directories in the share: "
              f"{sorted(directories ^ self.directories)[:10]}")


def changes(bed):
    """Requests that move objects; the directory's write time is another matter."""
    counters = bed.ctl_json("status")["counters"]
    return {name: counters[name] for name in ("copies", "s3_copy", "s3_delete", "upload_bytes")}


def files(share):
    for name in ("plain", "over", "under", "left", "right", "Case", "there", "reborn", "kind",
                 "document"):
        share.put(name, b"this is " + name.encode())
    share.put("kept", b"k")
    share.verify("new files")

    share.rename("plain", "renamed")
    share.rename("over", "under", replace=True)
    share.rename("left", "t")
    share.rename("right", "left")
    share.rename("t", "right")
    share.rename("Case", "case")
    share.verify("rename, rename over, swap, case")

    before = changes(share.bed)
    check(before["copies"] >= 6, f"{before['copies']} copies for six renames")
    with share.bed.unheard():
        share.rename("there", "and")
        share.rename("and", "there")
    share.verify("rename and back")
    check(changes(share.bed) == before,
          f"rename and back took requests: {before} became {changes(share.bed)}")

    share.unlink("reborn")
    share.put("reborn", b"another life, another length")
    share.unlink("kind")
    share.mkdir("kind")
    share.put("kind/file", b"below what was a file")
    share.verify("deleted and made again, file to directory")
    share.unlink("kind/file")
    share.rmdir("kind")
    share.put("kind", b"a file again")
    share.put("document.tmp", b"the document's new text")
    share.rename("document", "document.bak")
    share.rename("document.tmp", "document")
    share.unlink("document.bak")
    share.verify("directory to file, save dance")

    for path, known in (("kept", True), ("fresh", False)):
        if not known:
            share.put(path, b"n")
        handle = share.client.create(path)
        share.unlink(path)
        share.client.write(handle, 0, b"bytes that go nowhere")
        share.client.close(handle)
    # three names in a ring, and one that leaves it
    for name in ("ring1", "ring2", "ring3"):
        share.put(name, name.encode())
    share.verify("unlinked while open")
    share.rename("ring1", "tmp")
    share.rename("ring3", "ring1")
    share.rename("ring2", "ring3")
    share.rename("tmp", "ring2")
    share.put("ring2", b"and written")
    share.verify("a ring of names")


def directories(share):
    share.tree("tree", MANY)
    share.verify("a tree")
    share.rename("tree", "moved tree")
    share.verify("directory rename")
    share.rename("moved tree", "second")
    share.rename("second", "third")
    share.rename("third/d1", "third/d0/deep/d1")
    share.rename("third/d2/f2", "loose")
    share.put("third/added", b"after the rename")
    share.unlink("third/d4/f4")
    share.verify("directory renamed twice, and changed")

    step("directories swapped")
    for name in ("one", "two"):
        share.mkdir(name)
        share.put(f"{name}/file", b"in " + name.encode())
        share.put(f"{name}/only in {name}", b"x")
    share.verify("two directories")
    share.rename("one", "t")
    share.rename("two", "one")
    share.rename("t", "two")
    share.rename("third/d3", "third/D3")
    share.verify("directories swapped, case of a directory")

    step("renamed while its files are being sent")
    share.proxy.hold("PUT", "/sent/", 15)
    share.tree("sent", 60, b"x" * 200000)
    share.bed.ctl("flush")
    check(share.proxy.stalled.wait(60), "no file is sent")
    share.rename("sent", "resent")
    share.put("resent/late", b"l")
    share.rename("resent", "sent again")
    share.proxy.release()
    share.verify("renamed while its files were being sent")
    share.verify_share("after all renames")


def taken(share):
    """Another tool has the new name of one of three, and what it does under the old one is its own."""
    step("a child's new name is taken")
    share.mkdir("way")
    for name in ("one", "two", "three"):
        share.put(f"way/{name}", b"number " + name.encode())
    share.verify("a directory of three")
    share.proxy.hold("HEAD", "/new%20way/")
    share.rename("way", "new way")
    share.bed.ctl("flush")
    check(share.proxy.stalled.wait(60), "the rename does not begin")
    for name in ("new way/two", "way/later"):
        share.s3.put_object(Bucket=share.bed.s3_bucket, Key=share.bed.s3_prefix + name,
                            Body=b"another tool's " + name.encode())
        share.files[name] = b"another tool's " + name.encode()
    share.proxy.release()
    share.bed.flush()
    names = [row[0] for row in share.client.list("new way") if row[0].startswith("two (conflict ")]
    check(len(names) == 1, f"conflict copies: {names}")
    share.files["new way/" + names[0]] = b"number two"
    share.verify("a new name was taken")
    share.bed.ctl("refresh", share.bed.mirror)
    # what came under the old name is a directory there, implied by what is in it
    share.directories.add("way")
    share.verify_share("a new name was taken")
    share.s3.delete_object(Bucket=share.bed.s3_bucket, Key=share.bed.s3_prefix + "way/later")

    def gone():
        share.bed.ctl("refresh", share.bed.mirror)
        return "way" not in [entry[0] for entry in share.client.list("")]

    wait_until(gone, what="it goes, once nobody has it open")
    del share.files["way/later"]
    share.directories.remove("way")
    share.verify_share("what another tool had made is gone")


def unlisted(share):
    share.bed.wipe()
    share.reconnect()
    try:
        share.rmdir("two")
        fail("a directory with content in the bucket was removed")
    except SmbError as error:
        check(error.name == "NT_STATUS_DIRECTORY_NOT_EMPTY", f"rmdir: {error}")
    # this way smbd says nothing, and nothing must happen
    share.client.close(share.client.create("one", DELETE, options=DIRECTORY_FILE | DELETE_ON_CLOSE))
    # stubs are moved without their bytes
    share.rename("two/file", "two/stub moved")
    share.rename("sent again/d5", "two/d5")
    counters = share.bed.ctl_json("status")["counters"]
    check(counters["recall_bytes"] == 0, f"a rename fetched {counters['recall_bytes']} bytes")
    share.verify("stubs renamed")
    share.verify_share("stubs renamed")


def crash(share, target, method, lose_disk):
    """kill -9 while the store is at the requests of one kind, then start again on what is left."""
    source = max((path for path in share.directories if "/" not in path), key=lambda path: sum(
        name.startswith(path + "/") for name in share.files))
    what = f"killed while it {'copied' if method == 'PUT' else 'deleted'}" + \
        ", disk lost" * lose_disk
    step(what)
    whole = share.count(source)
    share.proxy.hold(method, f"/{quote(target if method == 'PUT' else source)}/", HALF)
    share.rename(source, target)
    share.bed.ctl("flush")
    check(share.proxy.stalled.wait(60), f"{what}: the moment did not come")
    # copies come before deletes, and so many of the one or the other are done
    wanted = (whole, HALF) if method == "PUT" else (whole - HALF, whole)
    wait_until(lambda: (share.count(source), share.count(target)) == wanted, 60,
               f"{what}: {wanted} objects in the old place and the new one")
    check(share.internal("rename"), f"{what}: no intent in the bucket")
    share.bed.stop("cached", kill=True)
    share.proxy.release()
    check(share.internal("rename"), f"{what}: the intent went with the daemon")
    check((share.count(source), share.count(target)) == wanted, f"{what}: it went on without it")
    if lose_disk:
        found = bucket_reader.read(bucket_reader.load_s3(
            share.s3, share.bed.s3_bucket, share.bed.s3_prefix), share.bed.s3_prefix, content=False)
        check(not found.problems and any(f"{target}/' " in note + " " and "becomes" in note for note in found.notes),
              f"{what}: the reader finds {found.problems[:5]}, {found.notes[:5]}")
        share.bed.wipe()
    else:
        share.bed.start("cached")
    share.reconnect()
    wait_until(lambda: share.bed.ctl_json("status")["volumes"][0]["state"] == "ready", 60,
               "the volume is ready")
    share.verify(what)
    share.verify_share(what)


def size_of(client, path):
    """In its directory's listing; None: it is not there."""
    directory, name = path.rsplit("/", 1)
    return {row[0]: row[2] for row in client.list(directory)}.get(name)


def changed(share):
    """Another tool has replaced or deleted a stub's object before the rename comes to it."""
    step("the object of a renamed stub is replaced, or deleted")
    share.mkdir("stubs")
    for name in ("replaced", "deleted", "kept"):
        share.put(f"stubs/{name}", b"the first " + name.encode())
    share.verify("to be stubs")
    share.bed.wipe()
    share.reconnect()
    check(len(share.client.list("stubs")) == 3, "the stubs")  # else a rename asks for its new name
    newer = b"another tool's, and longer than it was"
    for name, change in (("replaced", lambda key: share.s3.put_object(
            Bucket=share.bed.s3_bucket, Key=key, Body=newer)), ("deleted", lambda key: share.s3.delete_object(
            Bucket=share.bed.s3_bucket, Key=key))):
        share.proxy.hold("HEAD", f"/stubs/{name}%20newly")
        share.rename(f"stubs/{name}", f"stubs/{name} newly")
        share.bed.ctl("flush")
        check(share.proxy.stalled.wait(60), "the rename does not begin")
        change(f"{share.bed.s3_prefix}stubs/{name}")
        share.proxy.release()
        if name == "replaced":
            share.files["stubs/replaced newly"] = newer
        else:
            del share.files["stubs/deleted newly"]
        share.verify(f"a stub's object was {name}")
        wanted = len(newer) if name == "replaced" else None
        wait_until(lambda n=name, want=wanted: size_of(share.client, f"stubs/{n} newly") == want, 30,
                   f"the share shows that it was {name}")
    share.verify_share("stubs whose objects were changed")


def changed_before(bed):
    """The same where nothing waits in between: the mirror knows nothing of it yet."""
    prefix = bed.s3_prefix
    names = ("replaced", "edited", "deleted", "dated")
    with bed.client() as client:
        client.mkdir("stubs")
        for name in names:
            client.put(f"stubs/{name}", b"the first " + name.encode())
        bed.flush()
    bed.wipe()
    with bed.client() as client:
        check(len(client.list("stubs")) == len(names), "the stubs")
        conflicts = bed.ctl_json("status")["counters"]["conflicts"]
        for name, data, meta in (("replaced", b"another tool's", None),
                                 ("edited", b"edited, and its metadata kept",
                                  dirstore.object_meta(bed, prefix + "stubs/edited"))):
            dirstore.put_object(bed, f"{prefix}stubs/{name}", data, meta=meta,
                                etag=hashlib.md5(data).hexdigest())
        for name in ("deleted", "dated"):
            dirstore.delete_object(bed, prefix + "stubs/" + name)
        for name in names:
            client.rename(f"stubs/{name}", f"stubs/{name} 2")
        file = client.create("stubs/dated 2", MAXIMUM_ALLOWED)
        client.set_basic(file, times={"write": nt_time(1600000000)})
        client.close(file)
        bed.flush()
        wait_until(lambda: not bed.ctl_json("pending")["pending"], 20, "nothing waits for ever")
        wait_until(lambda: {row[0] for row in client.list("stubs")} == {"replaced 2", "edited 2"}, 30,
                   "what was deleted is gone")
        wait_until(lambda: size_of(client, "stubs/edited 2") == 29 and
                   size_of(client, "stubs/replaced 2") == 14, 30, "what was changed shows")
        check(client.get("stubs/replaced 2") == b"another tool's" and
              client.get("stubs/edited 2") == b"edited, and its metadata kept", "other bytes")
        found = {key[len(prefix):] for key in dirstore.object_keys(bed) if "stubs/" in key}
        check(found == {"stubs/", "stubs/replaced 2", "stubs/edited 2"}, f"keys: {found}")
        check(bed.ctl_json("status")["counters"]["conflicts"] == conflicts, "conflict copies were made")


def limited(bed):
    """What is too large, dear, or archived, is not begun in S3 before it is allowed; below it all goes on."""
    prefix = bed.s3_prefix

    def keys(top):
        return {key[len(prefix):] for key in dirstore.object_keys(bed) if key.startswith(f"{prefix}{top}/")}

    def held(reason):
        return [row for row in bed.ctl_json("renames")["renames"] if row["state"] == "held" and reason in row["reason"]]

    def is_found():
        return any(entry.get("id") == "renames-held" for entry in bed.ctl_json("health")["components"])

    with bed.client() as client:
        client.mkdir("lots")
        for number in range(8):
            client.put(f"lots/{number}", b"%d" % number)
        client.mkdir("cold")
        for name in ("one", "two"):
            client.put(f"cold/{name}", name.encode())
        bed.flush()
        for name in ("one", "two"):
            dirstore.set_class(bed, f"{prefix}cold/{name}", "GLACIER")
        client.rename("lots", "many")
        wait_until(lambda: held("more than 5 objects"), 60, "it is held, and says why")
        check(held("")[0]["at_least"] >= 6 and "at least" in bed.ctl("renames"), f"{held('')}")
        check(bed.ctl_json("status")["counters"]["renames_held"] == 1, "it is not counted")
        check(is_found(), "health says nothing of it")
        client.put("many/0", b"newer")
        client.put("many/new", b"new")
        wait_until(lambda: dirstore.get_object(bed, prefix + "lots/new") == b"new" and
                   dirstore.get_object(bed, prefix + "lots/0") == b"newer", 60, "what is below it is sent")
        bed.restart("cached")
        wait_until(lambda: held("more than 5 objects"), 60, "it is held after a restart")
        check(not keys("many") and len(keys("lots")) == 10, f"it has begun: {keys('many')}, {keys('lots')}")
        check(bed.ctl_json("renames", "--allow", "elsewhere")["allowed"] == 0, "another path")
        check(bed.ctl_json("renames", "--allow", "many")["allowed"] == 1, "it is not allowed")
        wait_until(lambda: not bed.ctl_json("pending")["pending"], 60, "it is done")
        check(not keys("lots") and len(keys("many")) == 10, f"{keys('lots')}, {keys('many')}")
        step("a rename of what is archived, and back")
        client.rename("cold", "colder")
        wait_until(lambda: held("more than 1 archived"), 60, "it is held for what is archived")
        client.rename("colder", "cold")
        wait_until(lambda: not bed.ctl_json("pending")["pending"], 60, "it is over")
        check(not is_found() and len(keys("cold")) == 3, f"{keys('cold')}")
        step("a rename that is dear")
        client.mkdir("dear")
        bed.flush()
        dirstore.put_object(bed, prefix + "dear/huge", size=100 << 30)  # 0.03 dollars for each GiB
        dirstore.set_class(bed, prefix + "dear/huge", "GLACIER_IR")
        client.rename("dear", "dearer")
        wait_until(lambda: held("more than $1"), 60, "it is held for what it costs")
        check(not keys("dearer") and len(keys("dear")) == 2, f"it has begun: {keys('dearer')}")
        check(held("")[0]["cost_usd"] > 3 and "archived; requests for some $3" in bed.ctl("renames"), f"{held('')}")
        client.rename("dearer", "dear")
        wait_until(lambda: not bed.ctl_json("pending")["pending"], 60, "it is over")
        dirstore.delete_object(bed, prefix + "dear/huge")
        client.rmdir("dear")
        for path in [f"many/{name}" for name in ("new", *range(8))] + ["cold/one", "cold/two"]:
            client.unlink(path)
        client.rmdir("many")
        client.rmdir("cold")
        bed.flush()


def archived():
    """One of a directory's objects cannot be copied; disk and daemon are lost meanwhile."""
    with Testbed(store="dir", set=["settle time=200ms", "rename limit=5", "rename limit archived=1",
                                    "rename limit cost=1"]) as bed:
        step("a rename is too large")
        limited(bed)
        step("a stub's object is another, or gone, and it is renamed")
        changed_before(bed)
        step("a child is archived")
        prefix = bed.s3_prefix

        def keys():
            return {key[len(prefix):] for key in dirstore.object_keys(bed)} - {""}

        def stays():
            return [row for row in bed.ctl_json("renames")["renames"] if row["state"] == "stays"]

        with bed.client() as client:
            client.mkdir("year")
            client.mkdir("year/old")
            client.put("year/file", b"plain")
            client.put("year/old/report", b"archived bytes")
            bed.flush()
        dirstore.set_class(bed, prefix + "year/old/report", "GLACIER")
        bed.wipe()  # stubs
        with bed.client() as client:
            client.rename("year", "archive")
            bed.flush()
            check({"archive/file", "year/old/report"} <= keys() and "archive/old/report" not in keys(),
                  f"keys after the rename: {keys()}")
            found = stays()
            check(len(found) == 1 and found[0]["from"].endswith("year/old/report") and
                  found[0]["to"].endswith("archive/old/report") and "archived" in found[0]["reason"],
                  f"renames: {found}")
            check("stays" in bed.ctl("renames"), "objectfsctl renames says nothing of it")
            client.rename("archive/old/report", "archive/old/report 2")
            client.rename("archive/old", "archive/older")
            bed.flush()
        step("the disk is lost: the names are the same, the old ones are not there")
        bed.wipe()
        with bed.client() as client:
            # by its name, in directories that nobody has listed
            listings = bed.ctl_json("status")["counters"]["listings"]
            client.close(client.create("archive/older/report 2", READ_ATTRIBUTES))
            check(bed.ctl_json("status")["counters"]["listings"] == listings, "it was found by a listing")
            for path in ("archive/old/report", "year/old/report"):
                try:
                    client.close(client.create(path, READ_ATTRIBUTES))
                    fail(f"{path} is there still")
                except SmbError as error:
                    check(error.name in GONE, f"{path}: {error.name}")
            check({row[0] for row in client.list("")} == {"archive", "stubs"}, f"{client.list('')}")
            check([row[0] for row in client.list("archive/older")] == ["report 2"], "the archived file")
            try:
                client.get("archive/older/report 2")
                fail("an archived object was read")
            except SmbError:
                pass
            try:
                client.rmdir("archive/older")
                fail("a directory with an archived file in it was removed")
            except SmbError as error:
                check(error.name == "NT_STATUS_DIRECTORY_NOT_EMPTY", f"rmdir: {error}")
            share = bucket_reader.Share(bucket_reader.load_dir(bed.store_dir), prefix)
            check("archive/older/report 2" in share.files and not share.problems, f"{share.problems}")
            step("it is restored")
            dirstore.set_class(bed, prefix + "year/old/report", "STANDARD")
            check(client.get("archive/older/report 2") == b"archived bytes", "other bytes")
            bed.stop("cached")
            bed.start("cached")
            wait_until(lambda: not stays() and "archive/older/report 2" in keys(), 30, "it is moved")
            bed.flush()
            check(not [key for key in keys() if key.startswith("year")], f"left behind: {keys()}")


def main():
    archived()
    path = bed_path()
    proxy = Proxy(path)
    with Testbed(store="rgw", path=path, set=[f"endpoint={proxy.url}", "settle time=1s"]) as bed:
        share = Share(bed, proxy)
        step("files")
        files(share)
        step("directories")
        directories(share)
        taken(share)
        step("after the loss of the disk")
        unlisted(share)
        changed(share)
        step("daemon killed in the middle of a directory rename")
        share.tree("big", CRASHED)
        share.verify("a big tree")
        crash(share, "big 2", "PUT", True)
        crash(share, "big 3", "DELETE", True)
        crash(share, "big 4", "PUT", False)
        crash(share, "big 5", "DELETE", False)


if __name__ == "__main__":
    sys.exit(main())
