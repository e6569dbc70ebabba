#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""What a file is besides its bytes, over the loss of the disk. "The round trip keeps: bytes, SMB
times, DOS attributes, NT ACL (beyond 2 KiB too), EAs, streams to 65,535 bytes (on a mirror that holds
them), empty directories, Unicode names, 255-byte components, 1,024-byte keys." And "a metadata-only
change never rewrites the object": it is in the node's log, and survives as well.
"""

import os
import sys

from smb import Testbed, check, check_same, compare, step, wait_until
from smb2 import (ATTR_ARCHIVE, ATTR_HIDDEN, ATTR_NORMAL, ATTR_READONLY, ATTR_SYSTEM,
                  FILE_OVERWRITE_IF, SmbError)

FULL = "0x1f01ff"
EVERYONE = f"(A;;{FULL};;;WD)"
KEY_MAX_BYTES = 1024


def many_aces(count):
    return "D:P" + "".join(f"(A;;0x1200a9;;;S-1-5-21-11-22-33-{1000 + number})"
                           for number in range(count)) + EVERYONE


def path_of(length):
    """A path of so many bytes."""
    parts = []
    while length > 200:
        parts.append("p" * 150)
        length -= 151
    return "/".join(parts + ["p" * length])


def make_dirs(client, path):
    done = ""
    for part in path.split("/")[:-1]:
        done = f"{done}/{part}" if done else part
        try:
            client.mkdir(done)
        except SmbError as error:
            if error.name != "NT_STATUS_OBJECT_NAME_COLLISION":
                raise


def build(client, large):
    """Every kind of metadata once."""
    for top in ("attributes", "times", "acls", "eas", "streams", "empty", "names"):
        client.mkdir(top)
    for number, value in enumerate((
            ATTR_NORMAL, ATTR_READONLY, ATTR_HIDDEN, ATTR_SYSTEM, ATTR_ARCHIVE,
            ATTR_READONLY | ATTR_HIDDEN | ATTR_SYSTEM | ATTR_ARCHIVE)):
        client.put(f"attributes/{number}", b"x" * number, attributes=value)
        client.put(f"attributes/d{number}", attributes=value | 0x10, directory=True)

    for number, start in enumerate((119600064000000001, 131234567890123456, 152000000000000007)):
        times = {"create": start, "access": start + 300000000, "write": start + 200000001,
                 "change": start + 200000001}
        client.put(f"times/{number}", b"time", times=times)
        client.put(f"times/empty{number}", times=times)
        client.put(f"times/d{number}", times=times, directory=True)

    client.put("acls/small", b"s", sddl="D:P" + EVERYONE)
    client.put("acls/large", b"l", sddl=many_aces(60))
    client.put("acls/d", sddl=f"D:P(A;OICI;{FULL};;;WD)(A;OICI;0x1200a9;;;S-1-5-21-11-22-33-7)",
               directory=True)
    client.put("acls/d/heir", b"h")
    client.put("acls/dlarge", sddl=many_aces(50), directory=True)

    client.put("eas/some", b"e", eas={"one": b"1", "TWO": b"\0\xff\x80" * 20, "three": b"t" * 255})
    client.put("eas/empty", eas={"of": b"an empty file"})
    client.put("eas/d", eas={"of": b"a directory"}, directory=True)

    client.put("streams/small", b"s", streams={"a": b"A" * 10, "Zone.Identifier": b"[Z]\r\n" * 9})
    client.put("streams/empty", streams={"of": b"an empty file"})
    client.put("streams/d", directory=True)
    write_stream(client, "streams/d:of", b"a directory")
    if large:
        client.put("streams/large", b"l", streams={
            "a": os.urandom(10000), "b": os.urandom(65535), "c": os.urandom(257)})
        client.put("acls/larger", b"l", sddl=many_aces(300))

    client.put("empty/plain", directory=True)
    client.put("empty/hidden", directory=True, attributes=ATTR_HIDDEN | 0x10,
               sddl="D:P(A;OICI;0x1301bf;;;WD)")
    client.put("empty/outer", directory=True)
    client.put("empty/outer/inner", directory=True, sddl=many_aces(3))
    client.put("empty/file", b"")

    for name in ("caf\u00e9", "cafe\u0301", "\U0001f4be\U0001f1e9\U0001f1ea", "\u65e5\u672c\u8a9e",
                 "\u0420\u0443\u0441", "a" * 255, "\u65e5" * 85, ".dot", "sp ace", "p%20c#?t".replace(
                     "?", "+"), "amp&\u2018q\u2019'", "x;=@,!$(){}[]^~`", "\U0001f4be" * 30):
        client.put(f"names/{name}", name.encode())
    client.put("names/\u00c4rger", directory=True)
    client.put("names/\u00c4rger/\u00df", b"sz")


def write_stream(client, path, data):
    stream = client.create(path, disposition=FILE_OVERWRITE_IF)
    try:
        client.write(stream, 0, data)
    finally:
        client.close(stream)


def change_metadata(client):
    """Only metadata of files; returns their paths."""
    file = client.create("attributes/4")
    client.set_basic(file, attributes=ATTR_HIDDEN | ATTR_ARCHIVE)
    client.close(file)
    file = client.create("times/1")
    client.set_basic(file, times={"create": 133000000000000001, "access": 133000000000000003,
                                  "write": 133000000000000005})
    client.close(file)
    file = client.create("acls/small")
    client.set_sddl(file, many_aces(40))
    client.close(file)
    file = client.create("eas/some")
    client.set_eas(file, {"one": b"", "two": b"changed", "four": b"new"})
    client.close(file)
    write_stream(client, "streams/small:a", b"another")
    write_stream(client, "streams/small:b", b"B" * 300)
    client.unlink("streams/small:Zone.Identifier")


def fences(bed):
    """{key: (ETag, LastModified)} of all files' objects."""
    found = {}
    pages = bed.s3().get_paginator("list_objects_v2").paginate(
        Bucket=bed.s3_bucket, Prefix=bed.s3_prefix)
    for page in pages:
        for item in page.get("Contents", []):
            if not item["Key"].startswith(bed.s3_prefix + ".objectfs/") \
                    and not item["Key"].endswith("/"):
                found[item["Key"]] = (item["ETag"], item["LastModified"])
    return found


def long_keys(bed, client):
    """1,024 bytes of key are stored; one more is said to be too long, and lost is nothing."""
    fits = path_of(KEY_MAX_BYTES - len(bed.s3_prefix))
    beyond = fits + "q"
    make_dirs(client, fits)
    client.put(fits, b"fits")
    client.put(beyond, b"beyond")
    bed.ctl("flush")

    def stuck():
        pending = bed.ctl_json("pending")["pending"]
        return [item["path"] for item in pending] == [beyond] and \
            "1,024 bytes" in pending[0]["reason"]

    wait_until(stuck, 60, "only the file with the long key is pending")
    code, output = bed.ctl("flush", "--wait", "--timeout", "2", may_fail=True)
    check(code == 1 and "1,024" in output, f"flush of a key too long: exit {code}: {output}")
    check(client.get(beyond) == b"beyond", "the file with the long key cannot be read")
    client.rename(beyond, beyond.rsplit("/", 1)[0] + "/shorter")
    bed.flush()


def look(bed):
    """Everything but bytes. Reading bytes moves access times, and listing a directory its."""
    found = bed.manifest(content=False)
    for entry in found.values():
        if entry["type"] == "dir":
            del entry["access"]
    return found


def round_trip(bed, what, before, access=None):
    """Drain, lose the disk, compare. `before` was looked at before the drain. access: {path: time},
    where files were read meanwhile, which moves access times here and writes nothing to S3."""
    bed.flush()
    check(not bed.ctl_json("pending")["pending"], "something is pending after the drain")
    content = bed.manifest()
    bed.wipe()
    fields = ("type", "size", "create", "access", "write", "attributes", "sd", "eas", "streams")
    after = look(bed)
    if access is not None:
        fields = [field for field in fields if field != "access"]
        for path, when in access.items():
            check(after[path]["access"] == when, f"{path}: access time {after[path]['access']}")
    check_same(before, after, f"{bed.store}: {what}", fields)
    check_same(content, bed.manifest(), f"{bed.store}: {what}: bytes",
               ("type", "size", "sha256", "attributes", "sd", "eas", "streams"))


def scenario(bed, large):
    with bed.client() as client:
        build(client, large)
        long_keys(bed, client)
        with bed.client("admin") as admin:
            file = admin.create("")
            admin.set_sddl(file, many_aces(30))
            admin.close(file)
    before = look(bed)
    check(len(before) > 60, f"only {len(before)} names")
    step("a first loss of the disk")
    round_trip(bed, "after the first loss of the disk", before)

    step("metadata only")
    s3 = fences(bed) if bed.s3_bucket else {}
    uploads = bed.ctl_json("status")["counters"]["uploads"]
    with bed.client() as client:
        change_metadata(client)
    changed = look(bed)
    check(len(compare(before, changed)) > 6, "the changes do not show")
    bed.flush()
    counters = bed.ctl_json("status")["counters"]
    check(counters["uploads"] == uploads,
          f"{counters['uploads'] - uploads} objects written for metadata only")
    check(counters["log_segments"] > 0 and counters["log_entries"] >= 5,
          f"log: {counters['log_segments']} segments, {counters['log_entries']} entries")
    if bed.s3_bucket:
        check(fences(bed) == s3, "objects were rewritten for metadata only")
        check(any(key.startswith(".objectfs/log/") for key in bed.keys(internal=True)),
              "no log segment in the bucket")
    round_trip(bed, "metadata changed later", changed, {"times/1": 133000000000000003})

    step("content after the log: the newer metadata wins")
    with bed.client() as client:
        file = client.create("eas/some")
        client.write(file, 0, b"new content")
        client.set_eas(file, {"two": b"newer", "five": b"5"})
        client.close(file)
        file = client.create("attributes/4")
        client.set_basic(file, attributes=ATTR_SYSTEM)
        client.close(file)
    changed = look(bed)
    round_trip(bed, "content changed after the log", changed, {})


def bed_of(store, fs):
    """(testbed, whether its file system holds large attributes)"""
    code = None
    try:
        return Testbed(store=store, fs=fs), True
    except SystemExit as end:
        code = end.code
    if code != 77:
        sys.exit(code)
    print(f"{store}: large streams and ACLs are left out: no {fs} can be mounted here", flush=True)
    return Testbed(store=store), False


def main():
    for store, fs in (("dir", "xfs"), ("rgw", "ext4")):
        step(f"store {store}")
        bed, large = bed_of(store, fs)
        with bed:
            scenario(bed, large)
            bed.sound()


if __name__ == "__main__":
    sys.exit(main())
