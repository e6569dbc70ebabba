# SPDX-License-Identifier: GPL-3.0-or-later
"""Directory bases as docs/FORMAT.md, section 11, has them; for bucket_reader.py.

    check_bases(share)      damages, and rows that say what neither object nor log say, into
                            share.problems; share.bases = {directory's oid: {name: Row}}
"""

import base64
import hashlib
import json
import re
import subprocess

from bucket_values import NO_OID, Cursor, Snapshot, Wrong, foreign_mtime_ns

ROWS_MAX, CHUNKS_MAX, RAW_MAX_BYTES, INLINE_BYTES = 50000, 4096, 32 << 20, 2048
FOREIGN, PLAIN = 1, 2


class Row:
    """What is said of one version of a file."""

    def __init__(self, cursor, attributes):
        self.name = cursor.take(cursor.number("H"))
        self.etag = cursor.take(cursor.number("B")).decode()
        self.size, self.listed_ns = cursor.number("q"), cursor.number("q")
        self.version = cursor.take(cursor.number("H"))
        flags = cursor.number("B")
        self.oid, self.wid = cursor.take(16), cursor.take(16)
        self.data_gen, self.meta_gen = cursor.number("Q"), cursor.number("Q")
        self.plain = bool(flags & PLAIN)
        self.snapshot, self.mtime_ns = None, None
        if flags & ~(FOREIGN | PLAIN):
            raise Wrong(f"flags {flags:#x}")
        if not self.name or b"/" in self.name or b"\0" in self.name or len(self.name) > 1024:
            raise Wrong(f"the name {self.name!r}")
        if not self.etag or self.size < 0 or self.oid == NO_OID:
            raise Wrong(f"the row {self.name!r}")
        if flags & FOREIGN:
            self.mtime_ns = cursor.number("q")
            return
        packed = b"\1" + cursor.take(36)
        count = cursor.number("H")
        packed += count.to_bytes(2, "little")
        for _ in range(count):
            number = cursor.number("I")
            if number >= len(attributes):
                raise Wrong(f"{self.name!r} has attribute {number} of {len(attributes)}")
            packed += attributes[number]
        self.snapshot = Snapshot.unpack(packed)
        if b"" in self.snapshot.xattrs:
            raise Wrong(f"{self.name!r} has a bundle")


def _attribute(cursor):
    begin = cursor.at
    cursor.take(cursor.number("B"))
    kind = cursor.number("B")
    if kind > 1:
        raise Wrong(f"an attribute of kind {kind}")
    if kind == 0:
        if cursor.number("I") > INLINE_BYTES:
            raise Wrong("an attribute that should be a blob")
        cursor.at -= 4
    cursor.take(36 if kind else cursor.number("I"))
    return cursor.data[begin:cursor.at]


def chunk_rows(stored, uuid, directory):
    """The rows of a chunk's bytes."""
    unpacked = subprocess.run(["zstd", "-dcq"], input=stored, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, check=False)
    if unpacked.returncode != 0 or len(unpacked.stdout) > RAW_MAX_BYTES:
        raise Wrong("no zstd frame, or too large a one")
    cursor = Cursor(unpacked.stdout)
    if cursor.take(8) != b"OFSBASE1" or cursor.take(16) != uuid or cursor.take(16) != directory:
        raise Wrong("of another kind, volume or directory")
    attributes, rows = cursor.number("I"), cursor.number("I")
    attributes = [_attribute(cursor) for _ in range(attributes)]
    rows = [Row(cursor, attributes) for _ in range(rows)]
    if cursor.rest():
        raise Wrong("bytes behind the rows")
    return rows


def _chunks(share, key, directory):
    """(key, entry of the head) of each chunk."""
    def once(pairs):
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a member twice")
        return dict(pairs)

    head = json.loads(share.objects[key].body(), object_pairs_hook=once)
    if head["format"] != "objectfs base 1" or head["uuid"] != share.uuid.hex() or \
            head["directory"] != directory.hex() or len(head["chunks"]) > CHUNKS_MAX:
        raise Wrong("of another version, volume or directory")
    last = b""
    for chunk in head["chunks"]:
        chunk["first"], chunk["last"] = (base64.b64decode(chunk[name], validate=True)
                                         for name in ("first", "last"))
        if not re.fullmatch("[0-9a-f]{32}", chunk["id"]) or not last < chunk["first"] <= chunk["last"]:
            raise Wrong(f"the chunk {chunk['id']}")
        last = chunk["last"]
        yield f"{key[:-4]}{chunk['id']}", chunk


def _read(share, key, directory, named):
    rows = {}
    for place, chunk in _chunks(share, key, directory):
        named.add(place)
        if place not in share.objects:
            share.wrong(place, f"missing; {key} names it")
            continue
        stored = share.objects[place].body()
        if len(stored) != chunk["bytes"] or hashlib.sha256(stored).hexdigest() != chunk["sha256"]:
            share.wrong(place, "not the bytes that its head speaks of")
            continue
        try:
            found = chunk_rows(stored, share.uuid, directory)
        except Wrong as wrong:
            share.wrong(place, str(wrong))
            continue
        names = [row.name for row in found]
        if names != sorted(set(names)) or not 1 <= len(names) == chunk["rows"] <= ROWS_MAX or \
                (names[0], names[-1]) != (chunk["first"], chunk["last"]):
            share.wrong(place, "its rows are not those that its head speaks of")
        rows.update((row.name, row) for row in found)
    return rows


def _same(share, where, one, other):
    """Two snapshots of one generation; when it was read last, and the local inode, do not count."""
    values = [share._blobs_of(where, snapshot) for snapshot in (one, other)]
    return values[0] == values[1] and None not in values and all(
        getattr(one, name) == getattr(other, name) for name in ("mode", "uid", "gid", "mtime_ns"))


def _compare(share, key, row, value):
    """A row of the version that is there."""
    stored = share.objects[key]
    entry = share.log.get(row.oid)
    if row.snapshot is None:
        if value is not None or row.oid != share._foreign_oid(key) or \
                row.mtime_ns // 1000 != foreign_mtime_ns(stored.meta, stored.mtime_ns) // 1000 and \
                "mtime" in stored.meta:
            share.wrong(key, "its directory's base takes it for another program's")
        return
    generation = value.meta_gen if value else 0
    if row.oid != (value.oid if value else share._foreign_oid(key)) or \
            row.wid not in (NO_OID, value.wid if value else NO_OID):
        share.wrong(key, "its directory's base is of another object")
    elif row.meta_gen < generation:
        share.wrong(key, f"metadata of {generation}, its directory's base has {row.meta_gen}")
    elif row.meta_gen == generation and not _same(share, key, row.snapshot, value.snapshot):
        share.wrong(key, "its directory's base has other metadata")
    elif row.meta_gen > generation:
        if entry is None or entry.meta_gen < row.meta_gen:
            share.wrong(key, f"only its directory's base has metadata of {row.meta_gen}")
        elif entry.meta_gen == row.meta_gen and not _same(share, key, row.snapshot, entry.snapshot):
            share.wrong(key, "its directory's base has other metadata than the log")


def check_bases(share):
    place = share.own + "dir/"
    share.bases, named = {}, set()
    for key in sorted(share.objects):
        match = re.fullmatch("([0-9a-f]{32})/head", key[len(place):]) if key.startswith(place) else None
        if match is None:
            continue
        directory = bytes.fromhex(match.group(1))
        named.add(key)
        try:
            rows = share.bases[directory] = _read(share, key, directory, named)
        except (ValueError, KeyError, TypeError, Wrong) as error:
            share.wrong(key, f"damaged ({error})")
            continue
        prefix = share.directories.get(directory)
        if prefix is None:
            share.notes.append(f"{key}: nothing refers to it, its directory is gone")
            continue
        for name, row in rows.items():
            at = prefix + name.decode("utf-8", "surrogateescape")
            stored = share.objects.get(at)
            if stored is not None and stored.etag == row.etag and stored.size == row.size and \
                    stored.listed_ns == row.listed_ns:
                _compare(share, at, row, share.values.get(at))
    for key in share.objects:
        if key.startswith(place) and key not in named:
            share.notes.append(f"{key}: nothing refers to it")
