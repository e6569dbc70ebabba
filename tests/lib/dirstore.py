# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of a testbed's `dir` store, as another tool would put, read and delete them.

The format is cached/objstore/dir/head.c's; keys are plain names here. Sparse objects cost nothing. Where the
store keeps versions (rules.c), so do these.
"""

import contextlib
import fcntl
import os
import random

HEAD_BYTES = 4096


def _fnv1a(data):
    value = 0xcbf29ce484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return value


def object_path(bed, key):
    return os.path.join(bed.store_dir, "objects", key + "%o")


def versions_path(bed, key):
    return os.path.join(bed.store_dir, "versions", key + "%o")


def keeps_versions(bed):
    try:
        with open(os.path.join(bed.store_dir, "store"), encoding="ascii") as file:
            return "versions yes" in file.read()
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def key_lock(bed, key):
    """What decides about the key is held (cached/objstore/dir/stage.c)."""
    value = 2166136261
    for byte in key.encode():
        value = (value ^ byte) * 16777619 & 0xffffffff
    with open(os.path.join(bed.store_dir, f"locks/{(value ^ value >> 16) % 256:02x}"), "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _next_version(bed, key):
    try:
        names = os.listdir(versions_path(bed, key))
    except FileNotFoundError:
        names = []
    return f"{max((int(name[:16], 16) for name in names), default=0) + 1:016x}"


def _write(path, lines, size, pieces):
    head = f"objectfs-object 1 {HEAD_BYTES} {_fnv1a(lines):016x}".encode().ljust(63) + b"\n" + lines
    with open(path, "wb") as file:
        file.write(head.ljust(HEAD_BYTES, b"\0"))
        for offset, piece in pieces:
            file.seek(HEAD_BYTES + offset)
            file.write(piece)
        file.truncate(HEAD_BYTES + size)


def _publish(old, new, link):
    """The directory may be removed by whoever empties it."""
    while True:
        os.makedirs(os.path.dirname(new), exist_ok=True)
        try:
            (os.link if link else os.rename)(old, new)
            return
        except FileNotFoundError:
            if not os.path.exists(old):
                raise


def put_object(bed, key, data=b"", size=None, pieces=(), meta=None, etag=None, if_match=None):
    """All of data; or `size` bytes, zeros but for pieces: [(offset, bytes)]. meta: user metadata.
    The ETag is always another, unless it is given, and no MD5 of the bytes: as of what came in parts. if_match: an ETag, or "" for none at all. The new
    ETag; None: it is another."""
    if size is None:
        size, pieces = len(data), [(0, data)]
    etag = etag or f"{random.randrange(1 << 128):032x}-2"
    new = os.path.join(bed.store_dir, f"tmp/{random.randrange(1 << 64):016x}")
    os.makedirs(os.path.dirname(new), exist_ok=True)
    with key_lock(bed, key):
        if if_match is not None and (object_etag(bed, key) or "") != if_match:
            return None
        lines = f"etag {etag}\nsize {size}\nmtime 1700000000123456789\n".encode()
        version = _next_version(bed, key) if keeps_versions(bed) else None
        if version:
            lines += f"version {version}\n".encode()
        for name, value in (meta or {}).items():
            lines += f"meta {name} {value}\n".encode()
        _write(new, lines + b"end\n", size, pieces)
        if version:
            _publish(new, os.path.join(versions_path(bed, key), version), True)
        _publish(new, object_path(bed, key), False)
    return etag


def _edit_head(path, kind, line):
    """The line that begins so is this one; it is longer by no more than the head has room for."""
    with open(path, "r+b") as file:
        bytes_of_head = int(file.read(64).split()[2])
        lines = file.read(bytes_of_head - 64).rstrip(b"\0").split(b"\n")
        lines = [other for other in lines if not other.startswith(kind)]
        lines.insert(3, line)
        text = b"\n".join(lines)
        head = f"objectfs-object 1 {bytes_of_head} {_fnv1a(text):016x}".encode().ljust(63) + b"\n"
        file.seek(0)
        file.write((head + text).ljust(bytes_of_head, b"\0"))


def set_class(bed, key, name):
    """GLACIER, DEEP_ARCHIVE: archived; STANDARD: restored."""
    with key_lock(bed, key):
        _edit_head(object_path(bed, key), b"class ", b"class " + name.encode())


def set_meta(path, name, value):
    """Other user metadata of the object in a file, and nothing else, as no store would have it. The daemon is
    stopped."""
    _edit_head(path, f"meta {name} ".encode(), f"meta {name} {value}".encode())


def get_object(bed, key):
    """Content of an object, or None."""
    try:
        with open(object_path(bed, key), "rb") as file:
            head = file.read(64)
            file.seek(int(head.split()[2]))
            return file.read()
    except FileNotFoundError:
        return None


def delete_object(bed, key):
    with key_lock(bed, key):
        if keeps_versions(bed):
            marker = os.path.join(versions_path(bed, key), _next_version(bed, key) + "m")
            os.makedirs(os.path.dirname(marker), exist_ok=True)
            with open(marker, "xb"):
                pass
        os.unlink(object_path(bed, key))


def object_keys(bed):
    """Keys of all objects but our own below .objectfs/; directories' markers end in "/"."""
    found = set()
    root = os.path.join(bed.store_dir, "objects")
    for directory, _, names in os.walk(root):
        for name in names:
            if name.endswith("%o"):
                key = os.path.relpath(os.path.join(directory, name), root)[:-2]
                found.add(key[:-2] if key.endswith("/%e") else key)
    return {key for key in found if not key.startswith(".objectfs")}


def object_meta(bed, key):
    """User metadata of an object."""
    with open(object_path(bed, key), "rb") as file:
        lines = file.read(int(file.read(64).split()[2]) - 64).rstrip(b"\0").decode().split("\n")
    return dict(line[5:].split(" ", 1) for line in lines if line.startswith("meta "))


def object_etag(bed, key):
    """ETag of an object, or None."""
    try:
        with open(object_path(bed, key), "rb") as file:
            for line in file.read(HEAD_BYTES).split(b"\n"):
                if line.startswith(b"etag "):
                    return line[5:].decode()
    except FileNotFoundError:
        pass
    return None
