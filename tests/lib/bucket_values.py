# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, packed values and checksums of docs/FORMAT.md, both ways. Pure functions.

A section number in a comment is FORMAT.md's.
"""

import base64
import binascii
import hashlib
import re
import struct
from datetime import datetime, timezone
from fractions import Fraction

NO_OID = bytes(16)
VALUE_MAX_CHARS = 8192
BLOB_MAX_BYTES = 64 << 20


class Wrong(Exception):
    """Bytes that are not as the document says."""


# --- names (1) ---------------------------------------------------------------------------------

REFUSED = frozenset(range(0x20)) | frozenset(b'\\/:*?"<>|')


def _pieces(raw):
    """The characters of a component, each with: may it stand?"""
    at = 0
    while at < len(raw):
        for length in (1, 2, 3, 4):
            piece = raw[at:at + length]
            try:
                piece.decode("utf-8")
            except UnicodeDecodeError:
                continue
            break
        else:
            yield raw[at:at + 1], False
            at += 1
            continue
        yield piece, piece[0] not in REFUSED
        at += length


def _legal(raw):
    return 1 <= len(raw) <= 255 and raw not in (b".", b"..") and all(ok for _, ok in _pieces(raw))


def _escape(raw):
    if not raw:
        return b"%~%"
    dots = raw in (b".", b"..")
    return b"%~" + b"".join(
        piece if ok and piece != b"%" and not dots else b"".join(b"%%%02X" % byte for byte in piece)
        for piece, ok in _pieces(raw))


def _unescape(name):
    """The component whose escape by rules 1 and 2 this is, or None."""
    if name == b"%~%":
        return b""
    if not name.startswith(b"%~"):
        return None
    raw = re.sub(b"%([0-9A-F]{2})", lambda match: bytes.fromhex(match.group(1).decode()), name[2:])
    return raw if _escape(raw) == name and b"\0" not in raw else None


def name_means(name, is_dir=False):
    """The component for which a name stands by the rules, or None: for itself."""
    raw = _unescape(name)
    if raw is None:
        if is_dir or not name.endswith(b"%file"):
            return None
        return _unescape(name[:-5]) if len(name) > 7 else None
    if _legal(raw) and name_means(raw) is None:
        return None
    return raw


def name_of(raw, beside=False):
    """What clients see of a component; beside: a file with a directory of its name."""
    if not beside and _legal(raw) and name_means(raw) is None:
        return raw
    tail = b"%file" if beside else b""
    escaped = _escape(raw)
    if len(escaped) + len(tail) <= 255:
        return escaped + tail
    cut = b""
    for piece, _ in _pieces(escaped):
        if len(cut) + len(piece) > 255 - 34 - len(tail):
            break
        cut += piece
    return cut + b"%~" + hashlib.sha256(raw).hexdigest()[:32].encode() + tail


# --- packed values (3, 4) -------------------------------------------------------------------------

class Cursor:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        if count > len(self.data) - self.at:
            raise Wrong("it ends too soon")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize(form)))[0]

    def rest(self):
        return self.take(len(self.data) - self.at)


def from_base64(text):
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Wrong("no base64") from error
    if not text or base64.b64encode(data).decode() != text:
        raise Wrong("not the one base64 text of its value")
    return data


class Snapshot:
    """Section 4. xattrs: {name: bytes, or (sha256, length) of a blob}."""

    def __init__(self, mode=0, uid=0, gid=0, mtime_ns=0, atime_ns=0, btime_ns=0, xattrs=None):
        self.mode, self.uid, self.gid = mode, uid, gid
        self.mtime_ns, self.atime_ns, self.btime_ns = mtime_ns, atime_ns, btime_ns
        self.xattrs = xattrs or {}

    def pack(self):
        data = struct.pack("<BIIIqqqH", 1, self.mode, self.uid, self.gid, self.mtime_ns,
                           self.atime_ns, self.btime_ns, len(self.xattrs))
        for name, value in sorted(self.xattrs.items()):
            data += bytes([len(name)]) + name
            if isinstance(value, tuple):
                data += b"\1" + value[0] + struct.pack("<I", value[1])
            else:
                data += b"\0" + struct.pack("<I", len(value)) + value
        return data

    @classmethod
    def unpack(cls, data):
        cursor = Cursor(data)
        version = cursor.number("B")
        if version != 1:
            raise Wrong(f"a snapshot of version {version}")
        made = cls(*(cursor.number(form) for form in "IIIqqq"))
        before = None
        for _ in range(cursor.number("H")):
            name = cursor.take(cursor.number("B"))
            kind = cursor.number("B")
            if not (_snapshot_name(name) if name else kind == 1):
                raise Wrong(f"an attribute {name!r} of kind {kind}")
            if before is not None and name <= before:
                raise Wrong(f"the attribute {name!r} is not in its place")
            if kind == 0:
                made.xattrs[name] = cursor.take(cursor.number("I"))
            elif kind == 1:
                made.xattrs[name] = (cursor.take(32), cursor.number("I"))
                if made.xattrs[name][1] > BLOB_MAX_BYTES:
                    raise Wrong(f"the attribute {name!r} is too large")
            else:
                raise Wrong(f"an attribute of kind {kind}")
            before = name
        if b"" in made.xattrs and len(made.xattrs) != 1:
            raise Wrong("a bundle that is not alone")
        if cursor.rest():
            raise Wrong("bytes behind the snapshot")
        return made


def _snapshot_name(name):
    if b"\0" in name or name in (b"user.", b"user.objectfs"):
        return False
    return name.startswith(b"user.") or name in (
        b"security.NTACL", b"system.posix_acl_access", b"system.posix_acl_default")


class Value:
    """Section 3: the packed value of `objectfs`."""

    def __init__(self, oid, data_gen=1, meta_gen=1, node=NO_OID, wid=NO_OID, snapshot=None, size=0):
        self.oid, self.data_gen, self.meta_gen = oid, data_gen, meta_gen
        self.node, self.wid, self.parent = node, wid, NO_OID
        self.size = size  # None: version 1, which does not say
        self.proof = b""
        self.snapshot = snapshot  # None: a tombstone

    def text(self):
        data = struct.pack(
            "<BB16sQQ16s16s16s", 1 if self.size is None else 2, 0 if self.snapshot else 1, self.oid,
            self.data_gen, self.meta_gen, self.node, self.wid, self.parent)
        if self.size is not None:
            data += struct.pack("<QB", self.size, len(self.proof)) + self.proof
        return base64.b64encode(data + (self.snapshot.pack() if self.snapshot else b"")).decode()

    @classmethod
    def parse(cls, text):
        if len(text) > VALUE_MAX_CHARS:
            raise Wrong("too long")
        cursor = Cursor(from_base64(text))
        version, flags = cursor.number("B"), cursor.number("B")
        if version not in (1, 2) or flags & ~1:
            raise Wrong(f"version {version}, flags {flags:#x}")
        made = cls(cursor.take(16), cursor.number("Q"), cursor.number("Q"), cursor.take(16),
                   cursor.take(16))
        made.parent = cursor.take(16)
        made.size = cursor.number("Q") if version == 2 else None
        made.proof = cursor.take(cursor.number("B")) if version == 2 else b""
        if len(made.proof) > 64 or (made.size or 0) > 2**63 - 1:
            raise Wrong(f"size {made.size}, {len(made.proof)} bytes of proof")
        if made.oid == NO_OID:
            raise Wrong("no object id")
        rest = cursor.rest()
        if flags & 1:
            if rest:
                raise Wrong("bytes behind a tombstone")
        else:
            made.snapshot = Snapshot.unpack(rest)
        return made


def meta_of(value):
    """All user metadata of an object with this packed value, as section 3 has it."""
    found = {"objectfs": value.text()}
    snapshot = value.snapshot
    if snapshot is not None:
        seconds, part = divmod(abs(snapshot.mtime_ns), 10**9)
        found["mtime"] = ("-" if snapshot.mtime_ns < 0 else "") + str(seconds) \
            + (f".{part:09d}" if part else "")
        for name in ("mode", "uid", "gid"):
            found[name] = str(getattr(snapshot, name))
    return found


def foreign_mtime_ns(meta, mtime_ns):
    """The write time of an object without a packed value (9)."""
    text = meta.get("mtime", "")
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        return int(Fraction(text) * 10**9)
    match = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)", text)
    if match is None:
        match = re.fullmatch(r"(-?[0-9]+)(ns)?", meta.get("file-mtime", ""))
        return int(match.group(1)) * (1 if match.group(2) else 10**6) if match else mtime_ns
    zone = "+00:00" if match.group(4) in "Zz" else match.group(4)
    when = datetime.fromisoformat(f"{match.group(1)}T{match.group(2)}{zone}")
    return int((when - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds()) * 10**9 \
        + int(Fraction("0" + (match.group(3) or ".0")) * 10**9)


def foreign_readonly(meta):
    """Does the mode of an object without a packed value let nobody write (9)? As s3fs writes it, it is decimal
    and has the file's type."""
    text, octal = meta.get("mode") or meta.get("file-permissions", ""), True
    if meta.get("mode") and re.fullmatch("[1-9][0-9]*", text):
        octal = int(text) >> 12 not in (1, 2, 4, 6, 8, 10, 12)
    if not re.fullmatch("[0-7]+" if octal else "[0-9]+", text):
        return False
    return int(text, 8 if octal else 10) & 0o222 == 0


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ crc >> 8
    return crc ^ 0xffffffff


def _crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = _crc_table()
assert crc32c(b"123456789") == 0xe3069283
