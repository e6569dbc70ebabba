#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""The bucket has other users. "Objects put by boto3 appear with right size and times; objects we wrote
read back byte-identical with it. A change in the bucket shows when the listing's age ends, or at once
after `objectfsctl refresh PATH`." "Object replaced between listing and reading, object deleted under a
stub: clear message, right NT status, nothing lost." "Keys that are no legal path appear under a
reversible escape, counted, never silently dropped."
"""

import base64
import glob
import os
import signal
import sys
from multiprocessing.pool import ThreadPool

from local import counter, is_resident
from smb import Testbed, check, fail, nt_time, refused, step, unix_time, wait_until
from smb2 import ATTR_DIRECTORY, ATTR_READONLY, SmbError

HOSTILE = ("a//b", "../x", "./y", "e/../f", "/lead", "long/" + "n" * 300, "both", "both/below", "x ",
           "dot.", "co:lon", "st*ar", "back\\slash", "que?ry", "qu\"ote", "pi|pe", "<angle>",
           "new\nline", "bell\x07", "CON", "aux.txt", "nul", "%41", "dir./in", "dir /in", "tail//",
           "c:/windows", "..", "...", " ", "caf\u00e9", "per%2fcent", "\u202eevil")


class Bucket:
    """The store as another tool sees it."""

    def __init__(self, bed):
        self.bed = bed
        self.s3 = bed.s3()

    def put(self, key, data, **options):
        self.s3.put_object(Bucket=self.bed.s3_bucket, Key=self.bed.s3_prefix + key, Body=data,
                           **options)

    def edit(self, key, data):
        """Other bytes, and the object's metadata kept: as s3fs does, and a restore from a backup."""
        head = self.s3.head_object(Bucket=self.bed.s3_bucket, Key=self.bed.s3_prefix + key)
        self.put(key, data, Metadata=head["Metadata"])

    def head(self, key):
        return self.s3.head_object(Bucket=self.bed.s3_bucket, Key=self.bed.s3_prefix + key)

    def get(self, key):
        return self.s3.get_object(Bucket=self.bed.s3_bucket,
                                  Key=self.bed.s3_prefix + key)["Body"].read()

    def has(self, key):
        return "Contents" in self.s3.list_objects_v2(Bucket=self.bed.s3_bucket, Prefix=self.bed.s3_prefix + key)

    def tombstone(self, key):
        """The metadata of the zero bytes that stand for a deleted file for a moment (objmeta.c)."""
        value = bytes([1, 1]) + os.urandom(16) + bytes(16) + os.urandom(48)
        return {"objectfs": base64.b64encode(value).decode()}

    def delete(self, key):
        self.s3.delete_object(Bucket=self.bed.s3_bucket, Key=self.bed.s3_prefix + key)

    def modified(self, key):
        return self.s3.head_object(Bucket=self.bed.s3_bucket, Key=self.bed.s3_prefix + key)[
            "LastModified"].timestamp()


def names(client, path):
    return {entry[0]: entry for entry in client.list(path)}


def sizes_and_times(bed, bucket, client):
    bucket.put("they/plain", b"put by another tool")
    bucket.put("they/zero", b"")
    bucket.put("they/rclone", b"r" * 1000, Metadata={"mtime": "1500000000.25"})
    bucket.put("they/rfc", b"r", Metadata={"mtime": "2017-07-14T02:40:00.5Z"})
    bucket.put("they/large", os.urandom(3 << 20))
    bucket.put("they/dir/", b"")
    bucket.put("they/sub/deep/file", b"implied directories")
    found = names(client, "they")
    check(set(found) == {"plain", "zero", "rclone", "rfc", "large", "dir", "sub"},
          f"listed: {sorted(found)}")
    for name, size in (("plain", 19), ("zero", 0), ("rclone", 1000), ("large", 3 << 20)):
        check(found[name][2] == size, f"{name}: {found[name][2]} bytes")
    check(found["dir"][1] & found["sub"][1] & ATTR_DIRECTORY, "a directory is a file")
    check(found["rclone"][5] == nt_time(1500000000) + 2500000,
          f"rclone's time: {unix_time(found['rclone'][5])}")
    check(found["rfc"][5] == nt_time(1500000000) + 5000000, f"RFC 3339: {unix_time(found['rfc'][5])}")
    for name in ("plain", "zero", "large"):
        differs = unix_time(found[name][5]) - bucket.modified(f"they/{name}")
        check(abs(differs) < 1.5, f"{name}: write time is off by {differs} s")
        check(found[name][3] <= found[name][5], f"{name}: created after it was written")
    for name in ("plain", "zero", "large", "rclone", "sub/deep/file"):
        check(client.get(f"they/{name}") == bucket.get(f"they/{name}"), f"{name}: other bytes")
    check(names(client, "they")["large"][5] == found["large"][5], "reading it changed its time")

    data = {"we/small": b"w" * 100, "we/empty": b"", "we/large": os.urandom((9 << 20) + 5)}
    client.mkdir("we")
    for path, content in data.items():
        client.put(path, content)
    bed.flush()
    for path, content in data.items():
        check(bucket.get(path) == content, f"{path}: boto3 reads other bytes")


def changes(bucket, client, look):
    """look(path) makes the share look at the bucket anew."""
    before = names(client, "they")
    check(set(names(client, "they/sub")) == {"deep"}, "they/sub holds something else")
    bucket.put("they/plain", b"changed by another tool, and longer")
    bucket.put("they/added", b"added")
    bucket.delete("they/rfc")
    bucket.put("they/sub/second", b"2")
    look("they", lambda: names(client, "they").get("plain", before["plain"])[2] == 35)
    found = names(client, "they")
    check("added" in found and found["added"][2] == 5, f"a new object does not show: {sorted(found)}")
    check("rfc" not in found, "a deleted object still shows")
    check(client.get("they/plain") == b"changed by another tool, and longer", "old bytes")
    refused("open of what was deleted", lambda: client.get("they/rfc"),
            "NT_STATUS_OBJECT_NAME_NOT_FOUND")
    look("they/sub", lambda: "second" in names(client, "they/sub"))
    bucket.put("they/rfc", b"r")
    bucket.delete("they/added")
    bucket.delete("they/sub/second")
    bucket.put("they/plain", b"put by another tool")
    look("they", lambda: "added" not in names(client, "they"))
    look("they/sub", lambda: "second" not in names(client, "they/sub"))


def under_a_stub(bed, bucket, client):
    for name in ("replaced", "same", "shrunk", "deleted", "deleted2"):
        bucket.put(f"stub/{name}", name.encode() * 1000)
    bed.ctl("refresh", bed.mirror)
    check(len(names(client, "stub")) == 5, "stubs are missing")
    bucket.put("stub/replaced", b"other" * 5000)
    bucket.put("stub/same", b"emas" * 1000)
    bucket.put("stub/shrunk", b"s")
    bucket.delete("stub/deleted")
    bucket.delete("stub/deleted2")
    check(client.get("stub/same") == b"emas" * 1000, "replaced by one of its size: other bytes")
    for name, content in (("replaced", b"other" * 5000), ("shrunk", b"s")):
        # opened with the old size: an error once, never bytes of two versions
        refused(f"{name}: read of an object of another size", lambda n=name: client.get(f"stub/{n}"),
                "NT_STATUS_IO_DEVICE_ERROR")
        check(client.get(f"stub/{name}") == content, f"{name}: other bytes at the next open")
    refused("read of an object that is gone", lambda: client.get("stub/deleted"),
            "NT_STATUS_OBJECT_NAME_NOT_FOUND", "NT_STATUS_FILE_DELETED", "NT_STATUS_NOT_FOUND")
    bed.ctl("refresh", "stub")
    found = names(client, "stub")
    check(set(found) == {"replaced", "same", "shrunk"}, f"after the refresh: {sorted(found)}")
    check(client.get("stub/replaced") == b"other" * 5000, "lost")
    check(counter(bed, "remote_changes") >= 5, "what others did is not counted")


def conflict(bed, bucket, client):
    client.mkdir("conflict")
    client.put("conflict/report.doc", b"first")
    bed.flush()
    # theirs first: ours could be sent before they come
    bucket.put("conflict/report.doc", b"theirs, changed there")
    client.put("conflict/report.doc", b"ours, changed here")
    bucket.put("conflict/new", b"theirs is new")
    client.put("conflict/new", b"ours is new")
    bed.flush()
    wait_until(lambda: len(names(client, "conflict")) == 4, 20, "four names after two conflicts")
    found = sorted(names(client, "conflict"))
    check("report.doc" in found and "new" in found and
          sum(name.startswith("report (conflict ") and name.endswith(").doc") for name in found) == 1
          and sum(name.startswith("new (conflict ") for name in found) == 1, f"names: {found}")
    for stem, ours, theirs in (("report", b"ours, changed here", b"theirs, changed there"),
                               ("new", b"ours is new", b"theirs is new")):
        for name in found:
            if name.startswith(stem):
                expected = ours if "(conflict" in name else theirs
                check(client.get(f"conflict/{name}") == expected, f"{name}: wrong side in the share")
                check(bucket.get(f"conflict/{name}") == expected, f"{name}: wrong side in S3")
    check(bed.ctl_json("status")["counters"]["conflicts"] == 2, "conflicts are not counted")
    told = {entry["path"]: entry["copy"] for entry in bed.ctl_json("conflicts")["conflicts"]}
    check(set(told) == {"conflict/report.doc", "conflict/new"} and
          {f"conflict/{name}" for name in found} == set(told) | set(told.values()), f"conflicts are told as {told}")
    text = bed.ctl("conflicts", "conflict")
    check(all(name in text for name in (*told, *told.values())), text)
    check("no conflicts" in bed.ctl("conflicts", "elsewhere"), "conflicts elsewhere")
    advice = [entry for entry in bed.ctl_json("health")["components"] if entry.get("id") == "conflicts-made"]
    check(len(advice) == 1 and advice[0]["reason"].startswith("2 within"), f"finding: {advice}")


def edited(bed, bucket, client):
    """What others change is theirs, whatever its metadata says."""
    client.mkdir("edited")
    for name in ("same-size", "other-size", "deleted", "renamed"):
        client.put(f"edited/{name}", b"first")
    bed.flush()
    bucket.edit("edited/same-size", b"THEIR")
    bucket.edit("edited/other-size", b"theirs is longer")
    bucket.edit("edited/deleted", b"THEIR")
    bucket.edit("edited/renamed", b"THEIR")
    client.put("edited/same-size", b"ours!")
    client.put("edited/other-size", b"ours, too")
    client.unlink("edited/deleted")
    client.rename("edited/renamed", "edited/moved")
    bed.flush()
    for name, ours, theirs in (("same-size", b"ours!", b"THEIR"),
                               ("other-size", b"ours, too", b"theirs is longer")):
        check(bucket.get(f"edited/{name}") == theirs, f"{name}: somebody's version was overwritten")
        wait_until(lambda n=name: any(one.startswith(f"{n} (conflict ") for one in names(client, "edited")), 20,
                   f"{name}: a conflict copy")
        copy = next(one for one in names(client, "edited") if one.startswith(f"{name} (conflict "))
        check(client.get(f"edited/{copy}") == ours and bucket.get(f"edited/{copy}") == ours, f"{copy}: not ours")
    check(bucket.get("edited/deleted") == b"THEIR", "somebody's version was deleted")
    check(client.get("edited/moved") in (b"first", b"THEIR"), "the renamed file has other bytes")
    everything = [bucket.get(f"edited/{name}") for name in ("renamed", "moved") if bucket.has(f"edited/{name}")]
    check(b"THEIR" in everything, f"of a renamed file somebody's version is lost: {everything}")
    bucket.put("edited/tombstone", b"with content", Metadata=bucket.tombstone("edited/tombstone"))
    bed.ctl("refresh", "edited")
    check(client.get("edited/tombstone") == b"with content", "an object that says it is deleted, and has content")
    check(bucket.get("edited/tombstone") == b"with content", "it was deleted")


def empty(bed, bucket, client):
    """All empty objects have one ETag: who has put this one, its metadata tell."""
    client.mkdir("empty")
    client.mkdir("empty/dir")
    for name in ("written", "deleted", "renamed", "mine", "gone", "onto"):
        client.put(f"empty/{name}", b"")
    bed.flush()
    before = counter(bed, "markers_replaced")
    for name in ("written", "deleted", "renamed"):
        bucket.put(f"empty/{name}", b"", Metadata={"by": "them"})
    client.put("empty/written", b"ours")
    client.put("empty/mine", b"ours")
    client.unlink("empty/deleted")
    client.unlink("empty/gone")
    client.rename("empty/renamed", "empty/moved")
    bucket.put("empty/taken", b"", Metadata={"by": "them"})
    client.rename("empty/onto", "empty/taken")
    value = bytearray(base64.b64decode(bucket.head("empty/dir/")["Metadata"]["objectfs"]))
    value[34:66] = os.urandom(32)  # node and wid
    bucket.put("empty/dir/", b"", Metadata={"objectfs": base64.b64encode(value).decode()})
    client.put("empty/dir/file", b"its times change")
    bed.flush()
    for name in ("written", "deleted", "taken"):
        check(bucket.head(f"empty/{name}")["Metadata"] == {"by": "them"}, f"{name}: somebody's is gone")
    check(bucket.get("empty/mine") == b"ours" and not bucket.has("empty/gone"), "nobody else had touched them")
    for name in ("written", "taken"):
        wait_until(lambda n=name: any(one.startswith(f"{n} (conflict ") for one in names(client, "empty")), 20,
                   f"{name}: a conflict copy")
    bed.flush()
    moved = next(one for one in names(client, "empty") if one.startswith("taken (conflict "))
    check("objectfs" in bucket.head(f"empty/{moved}")["Metadata"], "a renamed empty file has lost its rights")
    theirs = [name for name in ("renamed", "moved") if bucket.has(f"empty/{name}") and
              bucket.head(f"empty/{name}")["Metadata"].get("by") == "them"]
    check(theirs, "of a renamed empty file somebody's is lost")
    check(counter(bed, "markers_replaced") == before + 1, "whose rights a directory has was not said")

    step("a directory's marker of a later version")
    value[0] = 3
    later = {"objectfs": base64.b64encode(value).decode()}
    bucket.put("empty/later/", b"", Metadata=later)
    client.mkdir("empty/later")
    client.put("empty/later/file", b"goes on")
    wait_until(lambda: bucket.has("empty/later/file") and any(
        "marker in S3 is left alone" in (entry.get("reason") or "") for entry in bed.ctl_json("pending")["pending"]),
               20, "it is said why the directory waits")
    check(bucket.head("empty/later/")["Metadata"] == later, "it was overwritten")
    bucket.delete("empty/later/")
    bed.flush()
    check("objectfs" in bucket.head("empty/later/")["Metadata"], "its marker does not follow")


def many_conflicts(bed, bucket, client):
    """The 101st conflict within an hour stops the sending of files."""
    client.mkdir("many-conflicts")
    bed.flush()
    before = counter(bed, "conflicts")
    files = [f"many-conflicts/{number}" for number in range(101)]
    for path in files:
        bucket.put(path, b"theirs")
    # all at once: the listing after the first conflict would bring the others' as stubs
    os.kill(int(bed.cached_pid), signal.SIGSTOP)
    try:
        for path in files:
            client.put(path, b"ours")
    finally:
        os.kill(int(bed.cached_pid), signal.SIGCONT)
    wait_until(lambda: any(entry.get("id") == "conflicts-many" for entry in
                           bed.ctl_json("health")["components"]), 60, "a finding")
    check(counter(bed, "conflicts") <= before + 100, f"{counter(bed, 'conflicts') - before} conflict copies were made")
    client.put("many-conflicts/later", b"waits")
    wait_until(lambda: any("accept-conflicts" in (entry.get("reason") or "") and entry["path"].endswith("later")
                           for entry in bed.ctl_json("pending")["pending"]), 20, "it is said why a file waits")
    bed.restart("cached")
    wait_until(lambda: any("accept-conflicts" in (entry.get("reason") or "")
                           for entry in bed.ctl_json("pending")["pending"]), 20, "and after a restart")
    check(not bucket.has("many-conflicts/later"), "it was sent")
    check(bed.ctl_json("accept-conflicts")["volumes"] == 1, "nothing was held")
    wait_until(lambda: bucket.has("many-conflicts/later"), 30, "it is sent at once, without a flush")
    bed.flush()
    check(all(bucket.get(path) == b"theirs" for path in files), "somebody's version is lost")
    found = names(client, "many-conflicts")
    check(sum("(conflict " in name for name in found) == len(files), f"{len(found)} names: some of ours are lost")
    check(bucket.get("many-conflicts/later") == b"waits", "what had waited is not sent")


def index_lost(bed, bucket, client):
    """What the index knew is lost; the inodes know which objects they were made of."""
    client.mkdir("lost")
    for name in ("mine", "edited", "replaced", "dance", "deleted", "deleted-edited", "stub", "older"):
        client.put(f"lost/{name}", b"first")
    bucket.put("lost/theirs", b"theirs")
    bed.flush()
    older = bucket.head("lost/older")
    client.put("lost/older", b"FIRST")
    bed.flush()
    bed.ctl("refresh", "lost")
    bed.ctl("evict", "lost/stub")
    client.list("lost")
    check(client.get("lost/theirs") == b"theirs", "theirs: other bytes")
    wait_until(lambda: is_resident(bed, "lost/theirs"), what="theirs: here")
    bed.stop("cached", kill=True)
    for name in ("mine", "edited", "replaced", "theirs", "older"):
        client.put(f"lost/{name}", b"ours!")
    client.put("lost/new", b"ours!")
    client.unlink("lost/dance")
    client.rename("lost/new", "lost/dance")
    client.unlink("lost/deleted")
    client.unlink("lost/deleted-edited")
    for name in ("edited", "dance", "deleted-edited", "stub"):
        bucket.edit(f"lost/{name}", b"THEIR")
    bucket.put("lost/replaced", b"THEIR")
    bucket.put("lost/older", b"first", Metadata=older["Metadata"])
    for path in glob.glob(os.path.join(os.path.dirname(bed.mirror), "index.db*")):
        os.unlink(path)
    bed.start("cached")
    bed.flush()
    bed.ctl("refresh", "lost")  # meets what was deleted
    bed.flush()
    bed.ctl("refresh", "lost")  # and what was left
    for name in ("mine", "theirs"):
        check(bucket.get(f"lost/{name}") == b"ours!", f"{name}: nobody else had changed it, and it was not sent")
    for name in ("edited", "replaced", "dance", "older"):
        theirs = b"first" if name == "older" else b"THEIR"
        check(bucket.get(f"lost/{name}") == theirs, f"{name}: overwritten after the loss of the index")
        wait_until(lambda n=name: any(one.startswith(f"{n} (conflict ") for one in names(client, "lost")), 20,
                   f"{name}: a conflict copy")
        copy = next(one for one in names(client, "lost") if one.startswith(f"{name} (conflict "))
        check(client.get(f"lost/{copy}") == b"ours!" and bucket.get(f"lost/{copy}") == b"ours!", f"{copy}: not ours")
        check(client.get(f"lost/{name}") == theirs, f"{name}: the share has other bytes")
    check(bucket.get("lost/deleted-edited") == b"THEIR", "somebody's version was deleted")
    wait_until(lambda: "lost/deleted" not in bed.keys(), 20, "a deleted file's object goes")
    check("deleted" not in names(client, "lost"), "a deleted file is back")
    check(client.get("lost/stub") == b"THEIR", "a stub has the bytes of a version that is gone")
    found = [name for name in names(client, "lost") if "(conflict " in name]
    check(len(found) == 4, f"conflict copies without a reason: {found}")


def outside(bed):
    """Everything in the cache directory that is not below the tree."""
    top = os.path.dirname(bed.mirror)
    found = set()
    for room in (os.path.dirname(top), top):
        found |= {os.path.join(room, name) for name in os.listdir(room)}
    return {path for path in found if not os.path.basename(path).startswith(("index.db", "intent"))}


def hostile(bed, bucket, client):
    before = outside(bed)
    for key in HOSTILE:
        bucket.put(f"bad/{key}", key.encode())
    escaped = counter(bed, "names_escaped")
    # in the root of the volume as well
    for key in ("../up", "a//b", "co:lon", ".objectfs2", "."):
        bucket.put(key, key.encode())
    bed.ctl("refresh", bed.mirror)
    manifest = client.manifest("bad", content=False)
    shown = {}
    for path, entry in manifest.items():
        if entry["type"] == "file":
            try:
                shown[client.get(f"bad/{path}").decode()] = path
            except SmbError as error:
                fail(f"{path!r} is listed but cannot be read: {error.name}")
    for path in manifest:
        for part in path.split("/"):
            check(part not in (".", "..") and len(part.encode()) <= 255 and not set(part) & set(
                '\\:*?"<>|') and not any(ord(char) < 32 for char in part),
                  f"{path!r} is no name for SMB")
    check(manifest.get("tail/%~%", {}).get("type") == "dir", "the directory without a name is missing")
    hidden = set(HOSTILE) - set(shown) - {"tail//"}
    check(not hidden, f"not shown: {sorted(hidden)}")
    # of a file and a directory with one name the directory has it
    check(shown["both"] == "%~both%file" and shown["both/below"] == "both/below", "two of one name")
    escaped = counter(bed, "names_escaped") - escaped
    check(escaped >= 19, f"{escaped} escapes are counted")
    check(outside(bed) == before, f"made outside the tree: {outside(bed) - before}")
    names(client, "")

    # an escaped name is as good as any: read, changed, renamed, deleted
    path = f"bad/{shown['co:lon']}"
    client.put(path, b"changed through the share")
    bed.flush()
    check(bucket.get("bad/co:lon") == b"changed through the share", "the change has another key")
    with bed.client("admin") as admin:  # a foreign object belongs to who owns its directory
        admin.rename(path, "bad/harmless")
        admin.unlink(f"bad/{shown['x ']}")
    bed.flush()
    check(bucket.get("bad/harmless") == b"changed through the share", "renamed: other bytes")
    keys = bed.keys()
    check("bad/co:lon" not in keys and "bad/x " not in keys, "old keys are still there")
    check(set(f"bad/{key}" for key in HOSTILE) - set(keys) == {"bad/co:lon", "bad/x "},
          "a key vanished")
    client.put("bad/fine", b"the share still works")
    bed.flush()
    check(bucket.get("bad/fine") == b"the share still works", "the share does not work any more")


def twins(bed, bucket, client):
    """Keys that differ by case alone: each spelling is its own file, another spelling is one of them."""
    spellings = ("Report.txt", "report.TXT", "REPORT.txt")
    for name in spellings:
        bucket.put(f"twins/{name}", name.encode())
    bed.ctl("refresh", "twins")
    check(set(names(client, "twins")) == set(spellings), f"shown: {sorted(names(client, 'twins'))}")
    for name in spellings:
        check(client.get(f"twins/{name}") == name.encode(), f"{name}: another's bytes")
    check(client.get("twins/rePort.txt").decode() in spellings, "a spelling that is none of them")
    client.put("twins/report.TXT", b"written")
    with bed.client("admin") as admin:
        admin.rename("twins/REPORT.txt", "twins/other")
    bed.flush()
    seen = {name: bucket.get(f"twins/{name}") for name in ("Report.txt", "report.TXT", "other")}
    check(seen == {"Report.txt": b"Report.txt", "report.TXT": b"written", "other": b"REPORT.txt"}, f"then: {seen}")
    check(not bucket.has("twins/REPORT.txt"), "the renamed one is there still")
    before = set(key for key in bed.keys() if key.startswith("twins/"))
    client.put("twins/REPORT.TXT", b"to one of the two")  # no third one
    bed.flush()
    check(set(key for key in bed.keys() if key.startswith("twins/")) == before, "a third one was made")
    written = [name for name in ("Report.txt", "report.TXT") if bucket.get(f"twins/{name}") == b"to one of the two"]
    check(len(written) == 1, f"written: {written}")


def modes(bed, bucket, client):
    """As s3fs, rclone and AWS's gateways leave it: times and READONLY; no link, no device, no rights."""
    stamp = 1595002920
    for name, meta in (
            ("s3fs", {"mode": "33060", "uid": "0", "gid": "0", "mtime": str(stamp)}),
            ("rclone", {"mode": "0100644", "mtime": "2020-07-17T16:22:00Z"}),
            ("gateway", {"file-permissions": "0100444", "file-owner": "0", "file-group": "0",
                         "file-acl": "AAAA", "file-mtime": f"{stamp}000000000ns"}),
            ("link", {"mode": "41471"}), ("device", {"mode": "0020666"}), ("fifo", {"mode": "0010666"}),
            ("encoded", {"title": "=?UTF-8?B?w6TDtg==?=", "mtime": "=?UTF-8?B?MQ==?="})):
        bucket.put(f"modes/{name}", b"/etc/passwd", Metadata=meta)
    bed.ctl("refresh", "modes")
    found = client.manifest("modes", content=False)
    for name in ("s3fs", "rclone", "gateway", "link", "device", "fifo", "encoded"):
        check(found[name]["type"] == "file" and client.get(f"modes/{name}") == b"/etc/passwd", f"{name}: {found[name]}")
        check(bool(found[name]["attributes"] & ATTR_READONLY) == (name in ("s3fs", "gateway")),
              f"{name}: attributes {found[name]['attributes']:x}")
        check(name not in ("s3fs", "rclone", "gateway") or found[name]["write"] == nt_time(stamp), f"{name}: time")
    check(len({found[name]["sd"] for name in found if found[name]["type"] == "file"}) == 1, "rights differ")


def removed(bed, bucket, client):
    """A tree of many small directories is emptied: it stops at 1,000, and asks."""
    dirs, files = 33, 32
    keys = [f"many/{d:02}/{n:02}" for d in range(dirs) for n in range(files)]
    with ThreadPool(8) as pool:
        pool.map(lambda key: bucket.put(key, b"x"), keys)
    bed.ctl("refresh", "many")

    def left():
        count = 0
        for d in range(dirs):
            bed.ctl("refresh", f"many/{d:02}")
            count += len(names(client, f"many/{d:02}"))
        return count

    check(left() == len(keys), "not all are shown")
    for at in range(0, len(keys), 1000):
        bucket.s3.delete_objects(Bucket=bed.s3_bucket, Delete={"Objects": [
            {"Key": bed.s3_prefix + key} for key in keys[at:at + 1000]]})
    stays = left()
    check(len(keys) - 1000 <= stays < len(keys), f"{stays} are left here")
    bed.restart("cached")
    wait_until(lambda: bed.ctl_json("status")["volumes"][0]["state"] == "ready", 30, "ready again")
    check(left() == stays, "a restart let some go")
    volume = bed.ctl_json("status")["volumes"][0]
    check((volume["removals_held"], volume["removals_below"]) == (stays, "many"), f"status: {volume}")
    check(f"{stays} names are gone from the bucket and kept here, below many" in bed.ctl("status"), "status")
    found = [c for c in bed.ctl_json("health")["components"] if c.get("id") == "removals-held"]
    check(found and f"{stays} names below many" in found[0]["reason"] and "accept-removals" in
          found[0]["remedy"], f"health: {found}")
    check("removals-held" in bed.ctl("doctor", "--smb-conf", bed.smb_conf, may_fail=True)[1], "doctor")
    answer = bed.ctl_json("accept-removals", "many")
    check(answer["names"] == stays and left() == 0, f"accepted: {answer}")
    check(bed.ctl_json("status")["volumes"][0]["removals_held"] == 0, "still held")


def main():
    step("listings age")
    with Testbed(store="rgw", set=["settle time=500ms", "listing age=2s", "listing growth=1"]) as bed, \
            bed.client() as client:
        bucket = Bucket(bed)
        sizes_and_times(bed, bucket, client)
        changes(bucket, client, lambda path, seen: wait_until(seen, 20, f"{path}: the change shows"))

    step("listings do not age; refresh")
    with Testbed(store="rgw", set=["settle time=500ms", "listing age=1d"]) as bed, \
            bed.client() as client:
        bucket = Bucket(bed)
        sizes_and_times(bed, bucket, client)

        def refresh(path, seen):
            check(not seen(), f"{path}: shows before the refresh")
            bed.ctl("refresh", path)
            check(seen(), f"{path}: does not show after the refresh")

        changes(bucket, client, refresh)
        step("objects replaced and deleted under stubs")
        under_a_stub(bed, bucket, client)
        step("conflicts")
        conflict(bed, bucket, client)
        step("objects changed with our metadata kept")
        edited(bed, bucket, client)
        step("keys that differ by case alone")
        twins(bed, bucket, client)
        step("what other tools say of modes")
        modes(bed, bucket, client)
        step("much is removed")
        removed(bed, bucket, client)
        step("empty objects")
        empty(bed, bucket, client)
        step("the index is lost")
        index_lost(bed, bucket, client)
        step("many conflicts")
        many_conflicts(bed, bucket, client)
        step("hostile keys")
        hostile(bed, bucket, client)
        bed.wipe()
        with bed.client() as again:
            check(again.get("bad/fine") == b"the share still works", "after the loss of the disk")
            again.manifest()


if __name__ == "__main__":
    sys.exit(main())
