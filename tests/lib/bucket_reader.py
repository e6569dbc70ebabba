# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a volume's bucket, read as docs/FORMAT.md says and with none of the product's code.

    objects = load_s3(client, bucket, prefix)       # or load_dir(store_dir); {key: Stored}
    share = read(objects, prefix)                   # both for a testbed: read_bed(bed)
    share.files       {path: fields of smb2.Client.manifest(), and key, oid, meta_gen, source}
    share.problems    what contradicts the document, a line each; share.notes: what is unfinished

A section number in a comment is FORMAT.md's.
"""

import base64
import hashlib
import hmac
import json
import os
import re

from bucket_base import check_bases
from bucket_values import (NO_OID, Snapshot, Value, Wrong, crc32c, foreign_mtime_ns, foreign_readonly,
                           from_base64, meta_of, name_of)

EPOCH_NS = 11644473600 * 10**9  # 1601 to 1970
ROOT_OID = b"objectfs-root\0\0\1"
STAGE_OID = b"objectfs-stage\0\1"
KEY_MAX_BYTES = 1024
META_MAX_BYTES = 2048
# of the head of a `dir` store's objects
PROPERTIES = ("sum", "type", "cache-control", "disposition", "encoding", "language", "expires", "redirect",
              "class", "sse", "sse-key", "bucket-key", "tags")
HEX32 = re.compile("[0-9a-f]{32}")
SID = re.compile(r"S-1(-[0-9]+)+")
ATTR_DIRECTORY, ATTR_NORMAL = 0x10, 0x80


class Stored:
    """One object: head, and a way to its bytes."""

    def __init__(self, body, meta=None, etag=None, mtime_ns=0, size=None, listed_ns=None):
        self._body = body
        self.meta = meta or {}
        self.etag = etag
        self.mtime_ns = mtime_ns
        self.listed_ns = mtime_ns if listed_ns is None else listed_ns  # Last-Modified as LIST says
        self.size = len(body) if size is None else size
        self.path = None  # in a `dir` store: its file

    def body(self):
        if callable(self._body):
            self._body = self._body()
        return self._body

    def but(self, body=None, **meta):
        """The same with other bytes, or with metadata added."""
        return Stored(self._body if body is None else body, dict(self.meta, **meta), self.etag,
                      self.mtime_ns, None if body is not None else self.size, self.listed_ns)


# --- stores -----------------------------------------------------------------------------------

def _ns_of(when):
    return int(when.replace(microsecond=0).timestamp()) * 10**9 + when.microsecond * 1000


def load_s3(client, bucket, prefix):
    """All objects below a prefix; bytes are fetched when they are asked for."""
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            key = item["Key"]
            try:
                head = client.head_object(Bucket=bucket, Key=key)
            except client.exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    continue  # it went meanwhile
                raise
            found[key] = Stored(
                lambda key=key: client.get_object(Bucket=bucket, Key=key)["Body"].read(),
                {name.lower(): value for name, value in head["Metadata"].items()},
                head["ETag"].strip('"'), int(head["LastModified"].timestamp()) * 10**9,
                head["ContentLength"], _ns_of(item["LastModified"]))
    return found


def _fnv1a(data):
    value = 0xcbf29ce484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return value


def load_dir(store, problems=None):
    """All objects of a store of kind `dir` (10)."""
    found = {}
    top = os.path.join(store, "objects")
    for directory, _, names in os.walk(os.fsencode(top)):
        for name in names:
            path = os.path.join(directory, name)
            try:
                key = _dir_key(os.path.relpath(path, os.fsencode(top)))
                found[key] = _dir_object(path)
            except Wrong as wrong:
                if problems is None:
                    raise
                problems.append(f"{os.fsdecode(path)}: {wrong}")
    return found


def _dir_key(path):
    if not path.endswith(b"%o"):
        raise Wrong("no name of an object")
    components = [b""]
    for part in path[:-2].split(b"/"):
        more = part.endswith(b"%+")
        part = part[:-2] if more else part
        if part != b"%e" and re.search(b"%(?![0-9A-F]{2})", part):
            raise Wrong("no name of an object")
        if part != b"%e":
            components[-1] += re.sub(b"%([0-9A-F]{2})", lambda match: bytes.fromhex(
                match.group(1).decode()), part)
        if not more:
            components.append(b"")
    return b"/".join(components[:-1]).decode("utf-8", "surrogateescape")


def _dir_object(path):
    with open(path, "rb") as file:
        match = re.fullmatch(rb"objectfs-object 1 (\d+) ([0-9a-f]{16}) *\n", file.read(64))
        if match is None:
            raise Wrong("no head")
        length = int(match.group(1))
        lines = file.read(length - 64).rstrip(b"\0")
    if _fnv1a(lines) != int(match.group(2), 16) or not lines.endswith(b"\nend\n"):
        raise Wrong("the head's checksum is wrong")
    fields, meta = {}, {}
    for line in lines[:-5].decode().split("\n"):
        name, _, value = line.partition(" ")
        if name == "meta":
            name, _, value = value.partition(" ")
            meta[name] = value
        elif name in ("etag", "size", "mtime", "version", *PROPERTIES):
            fields[name] = value
        else:
            raise Wrong(f"a line {name!r} in its head")

    def body():
        with open(path, "rb") as file:
            file.seek(length)
            return file.read()

    size = int(fields["size"])
    if os.path.getsize(path) != length + size:
        raise Wrong(f"{os.path.getsize(path) - length} bytes, its head says {size}")
    stored = Stored(body, meta, fields["etag"], int(fields["mtime"]), size)
    stored.path = path
    return stored


# --- the volume ------------------------------------------------------------------------------

class Entry:
    """A line of the log."""

    def __init__(self, where, meta_gen, snapshot):
        self.where, self.meta_gen, self.snapshot = where, meta_gen, snapshot


class Share:
    """A volume as read; see the top."""

    def __init__(self, objects, prefix, content=True, keys=()):
        self.objects, self.prefix, self.content = objects, prefix, content
        self.since_s = None  # the volume is signed
        self.files, self.problems, self.notes = {}, [], []
        self.uuid = None
        self.machine_sid, self.domain, self.accounts = "", False, {}
        self.log = {}        # oid: Entry
        self.blobs = set()   # that something refers to
        self.owners = {}     # oid: key
        self.stays = {}      # key: what it is called
        self.moves = []      # (from, to) of renames under way
        self.values = {}     # key: packed value
        self.directories = {}  # oid: prefix of its files
        self.bases = {}      # oid of a directory: rows by name
        self.own = prefix + ".objectfs/"
        self._volume()
        self.said = {}       # node: the last segment it says its log has
        self._nodes()
        self._log()
        self._internal()
        self._tree()
        check_bases(self)
        self._unused()
        if self.since_s is not None:
            self._proofs(keys)

    def wrong(self, key, text):
        self.problems.append(f"{key}: {text}")

    # --- what the volume keeps for itself -------------------------------------------------------
    def _volume(self):
        key = self.own + "volume"
        if key not in self.objects:
            self.wrong(key, "missing")
            return

        def once(pairs):
            if len(dict(pairs)) != len(pairs):
                raise ValueError("a member twice")
            return dict(pairs)

        try:
            record = json.loads(self.objects[key].body(), object_pairs_hook=once)
            if record["format"] != "objectfs volume":
                raise Wrong("its format is another")
            if not HEX32.fullmatch(record["uuid"]) or set(record["uuid"]) == {"0"}:
                raise Wrong("no uuid")
            if record["read_version"] != 1 or record["write_version"] != 1:
                raise Wrong(f"versions {record['read_version']} and {record['write_version']}")
            if record.get("features", []) not in ([], ["signed"]):
                raise Wrong(f"features {record['features']}")
            if ("signed" in record) != bool(record.get("features")):
                raise Wrong("feature and member `signed` do not go together")
            if "signed" in record:
                self.since_s = record["signed"]["since"]
            self.uuid = bytes.fromhex(record["uuid"])
            self.machine_sid, self.domain = record.get("machine_sid", ""), record.get("domain", False)
            self.accounts = record.get("accounts", {})
            if self.machine_sid and not SID.fullmatch(self.machine_sid):
                raise Wrong(f"machine_sid {self.machine_sid}")
            if self.accounts and (self.domain or not self.machine_sid):
                raise Wrong("accounts of no machine")
            for sid, name in self.accounts.items():
                if not SID.fullmatch(sid) or not name:
                    raise Wrong(f"account {sid} {name!r}")
        except (ValueError, KeyError, TypeError) as error:
            self.wrong(key, f"damaged ({error})")
        except Wrong as wrong:
            self.wrong(key, str(wrong))

    def _nodes(self):
        place = self.own + "nodes/"
        for key, stored in self.objects.items():
            if not key.startswith(place):
                continue
            try:
                record = json.loads(stored.body())
                wanted = {"format": str, "node": str, "host": str, "place": str, "version": str,
                          "log": int, "serving": bool}
                for name, kind in wanted.items():
                    if not isinstance(record[name], kind):
                        raise Wrong(f"{name} is {record[name]!r}")
                if record["format"] != "objectfs node 1" or record["node"] != key[len(place):] or \
                        not HEX32.fullmatch(record["node"]) or not HEX32.fullmatch(record["place"]):
                    raise Wrong("its format, node or place is another")
                self.said[record["node"]] = record["log"]
            except (ValueError, KeyError, TypeError) as error:
                self.wrong(key, f"damaged ({error})")
            except Wrong as wrong:
                self.wrong(key, str(wrong))

    def _log(self):
        place = self.own + "log/"
        segments = {}
        for key in self.objects:
            if key.startswith(place):
                match = re.fullmatch("([0-9a-f]{32})/([0-9a-f]{16})", key[len(place):])
                if match is None:
                    self.wrong(key, "no name of a log segment")
                else:
                    segments.setdefault(match.group(1), []).append(int(match.group(2), 16))
        for node, last in self.said.items():
            if last > max(segments.get(node, [0])):
                self.wrong(f"{place}{node}/{last:016x}", "missing: its node says that it was there")
        for node, found in segments.items():
            base = 1
            for seq in sorted(found):
                key = f"{place}{node}/{seq:016x}"
                try:
                    base = max(base, self._segment(key, node, seq))
                except Wrong as wrong:
                    self.wrong(key, str(wrong))
            for seq in sorted(set(range(base, max(found) + 1)) - set(found)):
                self.wrong(f"{place}{node}/{seq:016x}", "missing")
            if min(found) < base:
                self.notes.append(f"{place}{node}/{min(found):016x}: a fold is not finished")

    def _segment(self, key, node, seq):
        """Its entries; the segment from which on the node's log is whole, as far as this one says."""
        body = self.objects[key].body()
        start = body[:-1].rfind(b"\n") + 1
        match = re.fullmatch(rb"end ([0-9]+) ([0-9a-f]{8})\n", body[start:])
        if match is None:
            raise Wrong("no last line")
        if crc32c(body[:start]) != int(match.group(2), 16):
            raise Wrong("its checksum is wrong")
        head, *lines = body[:start].decode("ascii").split("\n")[:-1]
        uuid = self.uuid.hex() if self.uuid else head.split(" ")[2]
        base = 1
        if head.startswith("objectfs-log 2 "):
            base = int((re.search(" ([1-9][0-9]*)$", head) or [0, 0])[1])
            head = head.rpartition(" ")[0].replace("log 2", "log 1")
        if head != f"objectfs-log 1 {uuid} {node} {seq}" or not 1 <= base <= seq:
            raise Wrong(f"it begins with {head!r}")
        if len(lines) != int(match.group(1)):
            raise Wrong(f"{len(lines)} entries, not {int(match.group(1))}")
        for number, line in enumerate(lines, 2):
            match = re.fullmatch("M ([0-9a-f]{32}) ([0-9]+) ([0-9]+) ([^ ]+)", line)
            if match is None:
                raise Wrong(f"line {number} is no entry")
            try:
                snapshot = Snapshot.unpack(from_base64(match.group(4)))
            except Wrong as wrong:
                raise Wrong(f"line {number}: {wrong}") from wrong
            self._entry(f"{key} line {number}", bytes.fromhex(match.group(1)),
                        int(match.group(2)), snapshot)
        return base

    def _entry(self, where, oid, meta_gen, snapshot):
        before = self.log.get(oid)
        self._blobs_of(where, snapshot)
        if before is not None and before.meta_gen == meta_gen and \
                before.snapshot.pack() != snapshot.pack():
            self.wrong(where, f"another entry with generation {meta_gen} is at {before.where}")
        if before is None or before.meta_gen < meta_gen:
            self.log[oid] = Entry(where, meta_gen, snapshot)

    def _blobs_of(self, where, snapshot):
        """Fill in the blobs and unfold a bundle; None: the snapshot cannot be had."""
        whole = dict(snapshot.xattrs)
        for name, value in whole.items():
            if not isinstance(value, tuple):
                continue
            key = f"{self.own}blob/{value[0].hex()}"
            self.blobs.add(key)
            if key not in self.objects:
                self.wrong(key, f"missing; it has {name.decode(errors='replace')!r} of {where}")
                return None
            whole[name] = self.objects[key].body()
            if len(whole[name]) != value[1]:
                self.wrong(key, f"{len(whole[name])} bytes; {where} says {value[1]}")
                return None
        if b"" not in whole:
            return whole
        try:
            inner = Snapshot.unpack(whole[b""]).xattrs
            if any(isinstance(value, tuple) for value in inner.values()):
                raise Wrong("a blob in a bundle")
            return inner
        except Wrong as wrong:
            self.wrong(where, f"its bundle: {wrong}")
            return None

    def _internal(self):
        """Every other key below .objectfs/."""
        for key, stored in self.objects.items():
            if not key.startswith(self.own):
                continue
            name = key[len(self.own):]
            if re.fullmatch("blob/[0-9a-f]{64}", name):
                if hashlib.sha256(stored.body()).hexdigest() != name[5:]:
                    self.wrong(key, "its bytes are not those of its name")
            elif re.fullmatch("rename/[0-9a-f]{32}", name):
                self._intent(key, stored, False)
            elif re.fullmatch("rename/[0-9a-f]{32}[.]stays", name):
                self._intent(key, stored, True)
            elif re.fullmatch("stage/[0-9a-f]{32}(/.*)?", name, re.S):
                parked = f"{self.own}rename/{name[6:38]}" in self.objects
                self.notes.append(f"{key}: " + ("names are being exchanged" if parked
                                                else "left by a move that is over"))
            elif re.fullmatch("probe/[0-9a-f]{16}/[a-z]", name):
                self.notes.append(f"{key}: left by a daemon that died as it started")
            elif name == "sweep":
                self._sweep(key, stored)
            elif re.fullmatch("dir/[0-9a-f]{32}/(head|[0-9a-f]{32})", name):
                pass  # check_bases
            elif name not in ("volume", "root") and not name.startswith(("log/", "nodes/")):
                self.wrong(key, "no key of this format")

    def _sweep(self, key, stored):
        try:
            notes = json.loads(stored.body())
            if notes["format"] != "objectfs sweep 1" or not HEX32.fullmatch(notes["node"]) or any(
                    not re.fullmatch("[0-9a-f]{64}", blob) or not isinstance(since, int)
                    for blob, since in notes["blobs"].items()):
                raise Wrong("its format is another")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.wrong(key, f"damaged ({error})")
        except Wrong as wrong:
            self.wrong(key, str(wrong))

    def _intent(self, key, stored, stays):
        try:
            intent = json.loads(stored.body())
            source, target = intent["from"], intent["to"]
            if intent["format"] not in ("objectfs rename 1", "objectfs rename 2") or \
                    not HEX32.fullmatch(intent["node"]):
                raise Wrong("its format is another")
            if intent["format"].endswith("2") and not isinstance(intent["cutoff"], int):
                raise Wrong("its cut-off is no number")
            if stays != isinstance(intent.get("stays"), str):
                raise Wrong("its name says otherwise than its members")
            parked = source.startswith(self.own + "stage/")
            for place in () if stays else (target,) if parked else (source, target):
                if not place.startswith(self.prefix) or \
                        place[len(self.prefix):].startswith(".objectfs"):
                    raise Wrong(f"{place!r} is no key of a client")
            if stays:
                self.stays[source] = target
            else:
                self.moves.append((source, target))
                self.notes.append(f"{key}: {source!r} becomes {target!r}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.wrong(key, f"damaged ({error})")
        except Wrong as wrong:
            self.wrong(key, str(wrong))

    def _unused(self):
        for key in self.objects:
            if key.startswith(self.own + "blob/") and key not in self.blobs:
                self.notes.append(f"{key}: nothing refers to it")

    # --- what clients see ----------------------------------------------------------------------
    def _tree(self):
        """Files, directories and those that are implied, by name."""
        directories, files = {b"": self.own + "root"}, {}
        for key in self.objects:
            raw = self.stays.get(key, key).encode("utf-8", "surrogateescape")
            if len(raw) > KEY_MAX_BYTES:
                self.wrong(key, "the key is too long")
            raw = raw[len(self.prefix.encode()):]
            if not raw or raw == b".objectfs" or raw.startswith(b".objectfs/"):
                continue
            parts = raw.split(b"/")
            for depth in range(1, len(parts)):
                directories.setdefault(b"/".join(parts[:depth]) + b"/", None)
            if parts[-1] or len(parts) == 1:
                files[raw] = key
            else:
                directories[raw] = key
        names = {b"": ""}
        for raw in sorted(directories):
            if raw and directories[raw] is None:
                directories[raw] = self.prefix + raw.decode("utf-8", "surrogateescape")
            self._object(self._path(names, raw, False), directories[raw], True, raw == b"")
        for raw, key in sorted(files.items()):
            self._object(self._path(names, raw, raw + b"/" in directories), key, False, False)

    def _path(self, names, raw, beside):
        """Path of a component below directories that are in names already."""
        if raw in names:
            return names[raw]
        is_dir = raw.endswith(b"/")
        above, slash, last = (raw[:-1] if is_dir else raw).rpartition(b"/")
        above = self._path(names, above + slash, False)
        path = above + ("/" if above else "") + name_of(last, beside).decode()
        if is_dir:
            names[raw] = path
        return path

    def _object(self, path, key, is_dir, is_root):
        stored = self.objects.get(key)
        value = None
        if stored is not None:
            self._check_stored(key, stored, is_dir)
            try:
                value = Value.parse(stored.meta["objectfs"]) if "objectfs" in stored.meta else None
            except Wrong as wrong:
                self.wrong(key, f"its metadata: {wrong}")
                return
        if value is not None and value.snapshot is None:
            self.notes.append(f"{key}: a tombstone")
            if not is_dir:
                return
            value = stored = None
        oid = value.oid if value else self._foreign_oid(key)
        if is_root and value is not None and oid != ROOT_OID:
            self.wrong(key, f"the root is called {oid.hex()}")
        if (oid == ROOT_OID) != (is_root and value is not None) or oid == STAGE_OID:
            self.wrong(key, f"an object id of ours, {oid.hex()}")
        if value is not None:
            self.values[key] = value
            self._check_value(key, stored, value, is_dir)
        if is_dir:
            self.directories[ROOT_OID if is_root else oid] = self.prefix if is_root else key
        self._describe(path, key, is_dir, oid, value, stored)

    def _proofs(self, keys):
        """Section 12; without keys: only that there are proofs."""
        for key, stored in self.objects.items():
            name = key.removeprefix(self.own) if key.startswith(self.own) else ""
            control = name in ("volume", "sweep") or name.startswith(("nodes/", "log/", "rename/")) or \
                re.fullmatch("dir/[0-9a-f]{32}/head", name)
            proof = stored.meta.get("objectfs-proof")
            if proof is None:
                if (control or "objectfs" in stored.meta) and stored.mtime_ns >= self.since_s * 10**9:
                    self.wrong(key, "not signed")
                continue
            if not control and "objectfs" not in stored.meta:
                self.wrong(key, "a proof of nothing")
                continue
            signed = stored.body() if control else stored.meta["objectfs"].encode()
            uuid = bytes(16) if name == "volume" else self.uuid
            text = "\n".join(("objectfs proof 1", "control" if control else "object", uuid.hex(),
                              hashlib.sha256(signed).hexdigest(), key)).encode("utf-8", "surrogateescape")
            right = [base64.b64encode(hmac.digest(one, b"objectfs key", "sha256")[:4] +
                                      hmac.digest(one, text, "sha256")).decode() for one in keys]
            if keys and proof not in right:
                self.wrong(key, "its proof is wrong")

    def _foreign_oid(self, key):
        data = (self.uuid or b"") + key.encode("utf-8", "surrogateescape")
        return hashlib.sha256(data).digest()[:16]

    def _check_stored(self, key, stored, is_dir):
        used = sum(len(name) + len(value) for name, value in stored.meta.items())
        if used > META_MAX_BYTES:
            self.wrong(key, f"{used} bytes of metadata")
        if is_dir and stored.size:
            self.wrong(key, f"a directory's marker with {stored.size} bytes")
        if not self.content:
            return
        body = stored.body()
        if len(body) != stored.size:
            self.wrong(key, f"{len(body)} bytes, its head says {stored.size}")
        if re.fullmatch("[0-9a-f]{32}", stored.etag or "") and \
                hashlib.md5(body).hexdigest() != stored.etag:
            self.wrong(key, f"its ETag is not the MD5 of its {len(body)} bytes")

    def _check_value(self, key, stored, value, is_dir):
        if value.size is None and value.parent != NO_OID:
            self.wrong(key, "a parent, which version 1 does not write")
        if value.size not in (None, stored.size):
            self.notes.append(f"{key}: other bytes, of another tool that kept the metadata")
        if (value.snapshot.mode & 0o170000 == 0o040000) != is_dir:
            self.wrong(key, f"mode {value.snapshot.mode:o}")
        for name, text in meta_of(value).items():
            said = foreign_mtime_ns({name: stored.meta.get(name, "")}, None)
            if said not in (None, value.snapshot.mtime_ns):
                value.snapshot.mtime_ns = said
                self.notes.append(f"{key}: a time that another tool has set")
            elif stored.meta.get(name) != text:
                self.wrong(key, f"{name} is {stored.meta.get(name)!r}, not {text!r}")
        if value.oid in self.owners and not self._is_copy(self.owners[value.oid], key):
            self.wrong(key, f"has the object id of {self.owners[value.oid]}")
        self.owners[value.oid] = key

    def _is_copy(self, one, other):
        """Is one what a rename under way has made of the other?"""
        return any(one.startswith(source) and other == target + one[len(source):] or
                   other.startswith(source) and one == target + other[len(source):]
                   for source, target in self.moves)

    def _describe(self, path, key, is_dir, oid, value, stored):
        snapshot, meta_gen = (value.snapshot, value.meta_gen) if value else (None, 0)
        source = "object" if value else "foreign" if stored else "implied"
        entry = self.log.get(oid)
        if entry is not None and entry.meta_gen > meta_gen:
            snapshot, meta_gen, source = entry.snapshot, entry.meta_gen, entry.where
        found = {"type": "dir" if is_dir else "file", "key": key, "oid": oid.hex(),
                 "meta_gen": meta_gen, "source": source, "eas": {}, "streams": {}}
        if not is_dir:
            found["size"] = stored.size
            if self.content:
                found["sha256"] = hashlib.sha256(stored.body()).hexdigest()
        if snapshot is not None:
            xattrs = self._blobs_of(key, snapshot)
            if xattrs is None:
                return
            found["write"] = (snapshot.mtime_ns + EPOCH_NS) // 100
            found["access"] = (snapshot.atime_ns + EPOCH_NS) // 100
            self._samba(key, xattrs, found)
        elif stored is not None:
            found["write"] = (foreign_mtime_ns(stored.meta, stored.mtime_ns) + EPOCH_NS) // 100
            found["readonly"] = not is_dir and foreign_readonly(stored.meta)
        self.files[path] = found

    def _samba(self, key, xattrs, found):
        """What Samba keeps in attributes."""
        from samba.dcerpc import security, xattr  # pylint: disable=import-outside-toplevel
        from samba.ndr import ndr_pack, ndr_unpack  # pylint: disable=import-outside-toplevel
        for name, value in xattrs.items():
            try:
                if name == b"security.NTACL":
                    sd = ndr_unpack(xattr.NTACL, value).info
                    sd = sd if isinstance(sd, security.descriptor) else sd.sd
                    found["sd"], found["sd_bytes"] = sd.as_sddl(), ndr_pack(sd)
                elif name == b"user.DOSATTRIB":
                    info = ndr_unpack(xattr.DOSATTRIB, value).info
                    found["create"] = info.create_time
                    found["attributes"] = info.attrib | ATTR_DIRECTORY \
                        if found["type"] == "dir" else info.attrib or ATTR_NORMAL
                elif name.startswith(b"user.DosStream."):
                    stream = re.fullmatch(rb"user\.DosStream\.(.+):\$DATA", name, re.S)
                    if stream is None or not value.endswith(b"\0"):
                        raise ValueError("not a stream")
                    found["streams"][stream.group(1).decode()] = [
                        len(value) - 1, hashlib.sha256(value[:-1]).hexdigest()]
                elif name.startswith(b"user."):
                    found["eas"][name[5:].decode()] = value.hex()
            except (RuntimeError, ValueError) as error:
                self.wrong(key, f"the attribute {name.decode(errors='replace')!r}: {error}")


def read(objects, prefix="", content=True, keys=()):
    """A Share. content=False: bytes of files are not looked at. keys: of a signed volume."""
    return Share(objects, prefix, content, keys)


def read_bed(bed, content=True):
    """A Share of what a testbed's store has."""
    if bed.s3_bucket:
        return read(load_s3(bed.s3(), bed.s3_bucket, bed.s3_prefix), bed.s3_prefix, content)
    return read(load_dir(bed.store_dir), "", content)
