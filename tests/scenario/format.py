#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""docs/FORMAT.md says what is in the bucket: a reader written from it alone (lib/bucket_reader.py)
sees there what clients see in the share, finds nothing that contradicts the document, and finds each
damage; a file that another program writes as the document says is what a client then sees.
"""

import base64
import hashlib
import json
import os
import stat
import struct
import sys

import dirstore
from bucket_reader import Stored, load_dir, read, read_bed
from bucket_values import NO_OID, Snapshot, Value, crc32c, meta_of
from samba.dcerpc import security, xattr
from samba.ndr import ndr_pack
from smb import Testbed, check, check_same, compare, fail, step, wait_until
from smb2 import ATTR_ARCHIVE, ATTR_HIDDEN, ATTR_READONLY, EPOCH, FILE_OVERWRITE_IF

EVERYONE = "(A;OICI;0x1f01ff;;;WD)"
LONG = "l" * 300


def many_aces(count):
    return "D:P" + "".join(f"(A;;0x1200a9;;;S-1-5-21-11-22-33-{1000 + number})"
                           for number in range(count)) + EVERYONE


def put(bed, key, data, meta=None):
    """As another program does."""
    if bed.s3_bucket:
        bed.s3().put_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + key, Body=data,
                            Metadata=meta or {})
    else:
        dirstore.put_object(bed, key, data, meta=meta, etag=hashlib.md5(data).hexdigest())


def write_stream(client, path, data):
    stream = client.create(path, disposition=FILE_OVERWRITE_IF)
    client.write(stream, 0, data)
    client.close(stream)


def build(bed, client):
    """Every kind of name and of metadata."""
    with bed.client("admin") as admin:
        root = admin.create("")
        admin.set_sddl(root, "D:P" + EVERYONE)
        admin.close(root)
    for top in ("rich", "old", "old/inner", "old/inner/empty", "gone", "empty", "names"):
        client.mkdir(top)
    for number, when in enumerate((119600064000000001, 131234567890123456, 152000000000000007)):
        client.put(f"rich/t{number}", b"time" * number, attributes=ATTR_HIDDEN, times={
            "create": when, "access": when + 30, "write": when + 21, "change": when + 21})
    client.put("rich/readonly", b"r", attributes=ATTR_READONLY)
    client.put("rich/acl", b"small", sddl="D:P" + EVERYONE)
    client.put("rich/large-acl", b"large", sddl=many_aces(60))
    client.put("rich/eas", b"e", eas={"one": b"1", "TWO": b"\0\xff\x80" * 20, "large": b"l" * 255})
    client.put("rich/streams", streams={"a": b"A" * 10, "Zone.Identifier": b"[Z]\r\n" * 9,
                                        "large": os.urandom(600)})
    client.put("rich/bundle", b"b", streams={f"{number:02d}" + "n" * 60: b"s" * number
                                             for number in range(1, 17)})
    client.put("rich/dir", directory=True, sddl=many_aces(40), attributes=ATTR_HIDDEN | 0x10,
               eas={"of": b"a directory"})
    write_stream(client, "rich/dir:stream", b"of a directory")
    for name in ("caf\u00e9", "\U0001f4be\u65e5", "\u65e5" * 85, "n" * 255, ".dot",
                 "x;=@,!$(){}[]^~`", "%~x", "50% & more"):
        client.put(f"names/{name}", name.encode())
    for name in ("a", "b", "inner/c", "inner/d"):
        client.put(f"old/{name}", name.encode(), eas={"was": name.encode()})
        client.put(f"gone/{name[-1]}", b"gone")
    bed.flush()
    put(bed, "names/12:30.log", b"a time stamp")
    put(bed, "names/both", b"a file", {"mtime": "1700000000.25"})
    put(bed, "names/both/x", b"below", {"mtime": "2020-02-03T04:05:06.5+01:00"})
    put(bed, "names/implied/y", b"below no marker")
    put(bed, "foreign", b"of another program", {"file-mtime": "1595002920000000123ns", "mode": "33060"})
    put(bed, "names/gateway's", b"its modes are octal", {"file-mtime": "1595002920123",
                                                         "file-permissions": "0100444"})
    put(bed, "names/rclone's", b"so are its", {"mtime": "2020-07-17T16:22:00Z", "mode": "0100644"})
    if bed.s3_bucket:
        put(bed, f"names/{LONG}", b"long")
        put(bed, "names/%~%2E", b"reads like an escape")
        put(bed, "names/../x", b"below two dots")
    bed.ctl("refresh", ".")
    bed.ctl("refresh", "names")


def change(bed, client):
    """Names and metadata; what only the log knows is in three segments."""
    client.rename("old/a", "rich/a, renamed")
    client.rename("old/b", "rich/acl", replace=True)
    client.rename("old", "new")
    for name in ("a", "b", "c"):
        client.unlink(f"gone/{name}")
    client.unlink("gone/d")
    client.rmdir("gone")
    bed.flush()
    for number, sddl in enumerate((many_aces(2), many_aces(50), many_aces(3))):
        file = client.create("rich/eas")
        client.set_sddl(file, sddl)
        client.set_eas(file, {"one": b"", f"new{number}": b"n" * (number + 1)})
        client.close(file)
        file = client.create(f"rich/t{number}")
        client.set_basic(file, attributes=ATTR_ARCHIVE,
                         times={"write": 133000000000000000 + number})
        client.close(file)
        bed.flush()
    file = client.create("rich/t1")  # folded into its object
    client.write(file, 0, b"content")
    client.close(file)
    write_stream(client, "rich/bundle:one more", b"in the log")
    client.rename("rich/dir", "rich/DIR")
    bed.flush()


def sound(share, when):
    if share.problems:
        fail(f"{when}: the reader finds:\n  " + "\n  ".join(share.problems))
    unfinished = [note for note in share.notes if "nothing refers to it" not in note]
    check(not unfinished, f"{when}: {unfinished}")


def same(seen, share, when):
    """What a client sees is what the reader has."""
    seen = dict(seen)
    attributes = {path: entry["attributes"] for path, entry in seen.items()}
    for path, entry in share.files.items():
        if path in seen and entry["source"] in ("foreign", "implied"):
            # what the object does not say the share has from elsewhere
            seen[path] = {field: value for field, value in seen[path].items() if field in entry}
            check("readonly" not in entry or
                  entry["readonly"] == bool(attributes[path] & ATTR_READONLY), f"{when}: {path} is READONLY, or not")
    check_same(seen, share.files, f"{when}, share and bucket")


def everything(share):
    """The tree was rich enough to mean something."""
    kinds = {entry["source"].split(" ")[0].rsplit("/", 2)[0] for entry in share.files.values()}
    log = share.own + "log"
    check({"object", "foreign", "implied"} <= kinds and any(kind.startswith(log) for kind in kinds),
          f"only {kinds}")
    check(len([key for key in share.objects if key.startswith(log)]) >= 4, "too few log segments")
    check(len(share.blobs) >= 5, f"only {len(share.blobs)} blobs")
    bundles = 0
    for stored in share.objects.values():
        if "objectfs" in stored.meta:
            value = Value.parse(stored.meta["objectfs"])
            check(value.text() == stored.meta["objectfs"], "packed again a value is another")
            bundles += value.snapshot is not None and b"" in value.snapshot.xattrs
    check(bundles, "no bundle")
    names = {"%~12%3A30.log", "%~both%file"}
    if share.prefix:
        names |= {"%~%25~%252E", "%~%2E%2E/x", "%~" + "l" * 219 + "%~"
                  + hashlib.sha256(LONG.encode()).hexdigest()[:32]}
    check({f"names/{name}" for name in names} <= set(share.files),
          f"escapes: {sorted(share.files)}")


def damages(share):
    """(what, key, text the reader must say of it, objects) of a damaged copy each."""
    def copy(**changes):
        return dict(share.objects, **changes)

    def flipped(key, at=-1):
        body = bytearray(share.objects[key].body())
        body[at if at >= 0 else len(body) // 2] ^= 4
        return copy(**{key: share.objects[key].but(bytes(body))})

    def without(key):
        return {other: stored for other, stored in share.objects.items() if other != key}

    def valued(key, text):
        return copy(**{key: share.objects[key].but(objectfs=text)})

    def repacked(key, edit):
        data = bytearray(base64.b64decode(share.objects[key].meta["objectfs"]))
        return valued(key, base64.b64encode(edit(data)).decode())

    def patched(data, at, value):
        data[at] = value
        return data

    def segment(key, edit):
        lines = share.objects[key].body().decode().split("\n")[:-2]
        text = "\n".join(edit(lines)) + "\n"
        text += f"end {len(lines) - 1} {crc32c(text.encode()):08x}\n"
        return copy(**{key: share.objects[key].but(text.encode())})

    log = sorted(key for key in share.objects if key.startswith(share.own + "log/"))
    blob = next(f"{share.own}blob/{value[0].hex()}" for entry in share.log.values()
                for value in entry.snapshot.xattrs.values() if isinstance(value, tuple))
    volume = share.own + "volume"
    node = next(key for key in share.objects if key.startswith(share.own + "nodes/"))
    file, other = (share.files[path]["key"] for path in ("new/inner/c", "new/inner/d"))
    marker = share.files["new/inner"]["key"]
    record = share.objects[volume]
    stray = share.own + "dir/0"
    yield "a flipped byte in a segment", log[1], "checksum", flipped(log[1])
    yield "a flipped byte in a segment's first line", log[0], "checksum", flipped(log[0], 12)
    yield "a segment missing", log[1], "missing", without(log[1])
    yield "the first segment missing", log[0], "missing", without(log[0])
    yield "the last segment missing", log[-1], "missing", without(log[-1])
    yield "a node that is another", node, "is another", copy(
        **{node: share.objects[node].but(share.objects[node].body().replace(b"node 1", b"node 2"))})
    yield "a segment under another number", log[2], "begins with", \
        copy(**{log[2]: share.objects[log[1]]})
    yield "a segment of a later version", log[0], "begins with", segment(
        log[0], lambda lines: [lines[0].replace("log 1", "log 2")] + lines[1:])
    yield "a segment with an unknown entry", log[0], "no entry", segment(
        log[0], lambda lines: lines[:1] + ["X" + lines[1][1:]] + lines[2:])
    yield "a segment with a line too few", log[0], "entries", segment(
        log[0], lambda lines: lines[:-1])
    yield "a segment cut short", log[0], "last line", copy(
        **{log[0]: share.objects[log[0]].but(share.objects[log[0]].body()[:-20])})
    yield "a blob missing", blob, "missing", without(blob)
    yield "a flipped byte in a blob", blob, "not those of its name", flipped(blob)
    yield "a snapshot cut short", file, "too soon", repacked(file, lambda data: data[:-3])
    yield "a snapshot with a byte too many", file, "behind", repacked(file, lambda data: data + b"\0")
    yield "a value of a later version", file, "version 3", repacked(
        file, lambda data: patched(data, 0, 3))
    yield "a snapshot of a later version", file, "version 2", repacked(
        file, lambda data: patched(data, 91, 2))
    yield "an unknown flag", file, "flags", repacked(file, lambda data: patched(data, 1, 2))
    yield "a value that is no base64", file, "base64", valued(file, "?")
    yield "an attribute that is none of ours", file, "attribute", repacked(
        file, lambda data: data.replace(b"user.", b"root.", 1))
    yield "metadata of another file", other, "has the object id of", copy(
        **{other: share.objects[other].but(**share.objects[file].meta)})
    yield "the metadata of a file on a directory", marker, "mode", valued(
        marker, share.objects[file].meta["objectfs"])
    yield "other bytes", file, "MD5", flipped(file)
    yield "bytes in a marker", marker, "with 1 bytes", copy(
        **{marker: share.objects[marker].but(b"x")})
    yield "no volume record", volume, "missing", without(volume)
    yield "a volume of a later version", volume, "versions", copy(
        **{volume: record.but(record.body().replace(b'"read_version": 1', b'"read_version": 2'))})
    yield "a volume with a feature", volume, "features", copy(
        **{volume: record.but(record.body().replace(b"[]", b'["write-new"]'))})
    yield "an unknown key", stray, "no key of this format", copy(**{stray: record})
    yield from control_damages(share, copy)


def control_damages(share, copy):
    """The same of what is JSON, and of keys and metadata of few objects."""
    def text(key, data):
        return key, copy(**{key: Stored(data if isinstance(data, bytes) else json.dumps(data).encode())})

    record = json.loads(share.objects[share.own + "volume"].body())
    machine = {"machine_sid": "S-1-5-21-1-2-3", "accounts": {"S-1-5-21-1-2-3-1000": "somebody"}}
    for what, said, changes in (
            ("of another format", "format", {"format": "objectfs"}), ("without a uuid", "uuid", {"uuid": "0" * 32}),
            ("for later writers", "versions", {"write_version": 2}),
            ("signed, and not so named", "do not go together", {"signed": {"since": 0}}),
            ("of a machine that is none", "machine_sid", {"machine_sid": "S-"}),
            ("with accounts of a domain", "accounts of no machine", machine | {"domain": True}),
            ("with an account that is none", "account", machine | {"accounts": {"somebody": "S-1-1"}})):
        key, objects = text(share.own + "volume", record | changes)
        yield f"a volume {what}", key, said, objects
    key, objects = text(share.own + "volume", b'{"uuid": "1", ' + json.dumps(record)[1:].encode())
    yield "a member twice", key, "twice", objects
    far = "ab" * 16
    node = {"format": "objectfs node 1", "node": far, "host": "far", "place": far, "version": "1", "log": 0,
            "serving": False}
    intent = {"format": "objectfs rename 2", "node": far, "from": f"{share.prefix}x/",
              "to": f"{share.prefix}y/", "cutoff": 1}
    sweep = {"format": "objectfs sweep 1", "node": far, "blobs": {"ef" * 32: 1}}
    for name, good, changes in (
            (f"nodes/{far}", node, (("log", "0", "log is"), ("serving", 1, "serving is"), ("node", far[1:], "another"))),
            (f"rename/{far}", intent, (("format", "objectfs rename 3", "format"), ("cutoff", None, "cut-off"),
                                       ("to", share.own + "volume", "no key of a client"), ("from", 1, "damaged"),
                                       ("stays", "archived", "its name says"))),
            (f"rename/{far}.stays", intent | {"stays": "archived"}, (("stays", 1, "its name says"),)),
            ("sweep", sweep, (("format", "sweep 2", "format"), ("blobs", {"x": 1}, "format")))):
        key, objects = text(share.own + name, good)
        check(not read(objects, share.prefix).problems, f"{name}: {read(objects, share.prefix).problems}")
        for member, value, said in changes:
            key, objects = text(share.own + name, good | {member: value})
            yield f"{name} with another {member}", key, said, objects
        key, objects = text(share.own + name, b"{")
        yield f"{name} cut short", key, "damaged", objects
    key, objects = text(share.own + "log/1", b"")
    yield "a segment without a number", key, "no name", objects
    for path, oid, said in (("", bytes(range(16)), "the root is called"),
                            ("new/inner/c", b"objectfs-root\0\0\1", "an object id of ours")):
        key = share.files[path]["key"]
        value = Value.parse(share.objects[key].meta["objectfs"])
        value.oid = oid
        yield f"the object id of {path!r}", key, said, copy(
            **{key: share.objects[key].but(objectfs=value.text())})
    value = Value.parse(share.objects[key].meta["objectfs"])
    value.size, value.parent = None, far.encode()[:16]
    yield "a parent in version 1", key, "a parent", copy(**{key: share.objects[key].but(objectfs=value.text())})
    yield "another owner beside it", key, "uid is", copy(**{key: share.objects[key].but(uid="4711")})
    yield "too much metadata", key, "bytes of metadata", copy(**{key: share.objects[key].but(more="m" * 2000)})


def find_damages(share):
    count = 0
    for what, key, text, objects in damages(share):
        found = read(objects, share.prefix).problems
        check(any(line.startswith(key + ":") and text in line for line in found),
              f"{what}: the reader does not find it: {found}")
        count += 1
    return count


def foreign_writer(bed, client):
    """A file written as the document says, blob and all."""
    sd = security.descriptor.from_sddl("O:S-1-5-21-1-2-3-4G:S-1-5-21-1-2-3-5" + many_aces(30),
                                       security.dom_sid("S-1-5-21-1-2-3"))
    acl = xattr.NTACL()
    acl.version, acl.info = 1, sd
    blob = ndr_pack(acl)
    digest = hashlib.sha256(blob)
    # xattr_DOSATTRIB, version 5: attributes and creation time
    create = 131000000000000000
    attributes = struct.pack("<HHHHIIQ", 0, 5, 5, 0, 0x11, ATTR_HIDDEN, create)
    snapshot = Snapshot(stat.S_IFREG | 0o644, 0, 0, 1600000000123456700, 1600000001 * 10**9, 0, {
        b"security.NTACL": (digest.digest(), len(blob)), b"user.DOSATTRIB": attributes,
        b"user.colour": b"blue", b"user.DosStream.more:$DATA": b"a stream\0"})
    put(bed, f".objectfs/blob/{digest.hexdigest()}", blob)
    for version, size in ((1, None), (2, 26)):
        value = Value(os.urandom(16), 1, 1, os.urandom(16), os.urandom(16), snapshot, size)
        put(bed, f"native {version}", b"written by another program", meta_of(value))
    bed.ctl("refresh", ".")
    seen = client.manifest()
    wanted = {"type": "file", "size": 26, "create": create, "attributes": ATTR_HIDDEN,
              "write": 16000000001234567 + EPOCH * 10**7, "eas": {"colour": b"blue".hex()},
              "streams": {"more": [8, hashlib.sha256(b"a stream").hexdigest()]}, "sd": sd.as_sddl()}
    differences = compare(dict.fromkeys(("native 1", "native 2"), wanted),
                          {name: seen[name] for name in ("native 1", "native 2")}, tuple(wanted))
    check(not differences, f"written as the document says: {differences}")


def fold(bed):
    """The log is folded: fewer segments, of which none may be missing, and nothing is lost with the disk."""
    with open(bed.conf, encoding="utf-8") as file:
        text = file.read()
    with open(bed.conf, "w", encoding="utf-8") as file:
        file.write(text.replace("settle time =", "log fold = 12\n\tsettle time ="))
    before = sorted(key for key in read_bed(bed).objects if ".objectfs/log/" in key)
    bed.restart("cached")
    with bed.client() as client:
        file = client.create("rich/t0")  # folded into its object
        client.write(file, 0, b"content")
        client.close(file)
        for number in range(13 - len(before)):
            file = client.create("rich/t2")
            client.set_basic(file, times={"write": 134000000000000000 + number})
            client.close(file)
            bed.flush()
        wait_until(lambda: bed.ctl_json("status")["counters"]["log_segments_folded"] >= 12 and
                   bed.ctl_json("status")["volumes"][0]["log_segments"] < 3, 30, "a folded log")
        seen = client.manifest()
    share = read_bed(bed)
    after = sorted(key for key in share.objects if ".objectfs/log/" in key)
    check(len(after) < 3 and not set(before) & set(after), f"{before} became {after}")
    check(bed.ctl_json("status")["counters"]["log_entries_dropped"] >= 1,
          "rich/t0 was written after its metadata had changed; its entry is there still")
    sound(share, "folded")
    same(seen, share, "folded")
    lost = {key: stored for key, stored in share.objects.items() if key != after[0]}
    lost[after[0][:-1] + "f"] = share.objects[after[0]]
    check(any("missing" in line or "begins with" in line for line in read(lost, share.prefix).problems),
          "a folded log under another number is taken for whole")
    bed.wipe()
    with bed.client() as client:
        same(client.manifest(), share, "folded, and the disk was lost")


def older(bed):
    """The bucket as earlier releases left it: values of version 1, a volume record with what it had then, no
    nodes, and a rename under way. It is the same share, and goes on as one."""
    step("the version before")
    with bed.client() as client:
        client.mkdir("half")
        client.put("half/file", b"way", eas={"of": b"a file"})
        bed.flush()
    share = read_bed(bed)
    share.files = {path.replace("half", "whole"): entry for path, entry in share.files.items()}
    bed.stop("smbd")
    bed.stop("cached")
    count = 0
    for key, stored in load_dir(bed.store_dir).items():
        if "objectfs" in stored.meta:
            value = Value.parse(stored.meta["objectfs"])
            value.size, value.parent = None, NO_OID
            dirstore.set_meta(stored.path, "objectfs", value.text())
            count += 1
        elif key.startswith(".objectfs/nodes/"):
            dirstore.delete_object(bed, key)
    record = json.loads(dirstore.get_object(bed, ".objectfs/volume"))
    for member in ("root", "domain", "accounts", "machine_sid"):
        record.pop(member, None)
    put(bed, ".objectfs/volume", json.dumps(record).encode())
    put(bed, ".objectfs/rename/" + "12" * 16, json.dumps(
        {"format": "objectfs rename 1", "node": "ef" * 16, "from": "half/", "to": "whole/"}).encode())
    bed.wipe()
    with bed.client() as client:
        same(client.manifest(), share, "the version before")
        file = client.create("rich/acl")
        client.set_sddl(file, many_aces(4))
        client.close(file)
        client.put("rich/t2", b"newer than that")
        client.rename("rich/eas", "rich/eas 2")
        client.rename("new", "newer")
        client.unlink("rich/t1")
        bed.flush()
        seen = client.manifest()
    share = read_bed(bed)
    sound(share, "the version before, changed")
    same(seen, share, "the version before, changed")
    old = sum("objectfs" in stored.meta and Value.parse(stored.meta["objectfs"]).size is None
              for stored in share.objects.values())
    check(count > 20 and 10 < old < count, f"{old} of {count} are as they were")
    bed.wipe()
    with bed.client() as client:
        same(client.manifest(), share, "the version before, changed, and the disk was lost")


def main():
    for store in ("dir", "rgw"):
        step(f"store {store}")
        with Testbed(store=store, set=["settle time=200ms", "listing age=1d"],
                     smb=["hide dot files=no"]) as bed:
            with bed.client() as client:
                build(bed, client)
                change(bed, client)
                seen = client.manifest()
                share = read_bed(bed)
                sound(share, "after changes")
                same(seen, share, "after changes")
                everything(share)
                step("another program writes")
                foreign_writer(bed, client)
                share = read_bed(bed)
                sound(share, "after another program has written")
                same(client.manifest(), share, "after another program has written")
            step(f"{len(share.files)} names; {find_damages(share)} damages found")
            fold(bed)
            if store == "dir":
                older(bed)


if __name__ == "__main__":
    sys.exit(main())
