# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of a testbed's `dir` store, as another tool would put, read and delete them.

The format is cached/objstore/dir/head.c's; keys are plain names here. Sparse objects cost nothing.
"""

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


def put_object(bed, key, data=b"", size=None, pieces=(), meta=None, etag=None):
    """All of data; or `size` bytes, zeros but for pieces: [(offset, bytes)]. meta: user metadata.
    The ETag is always another, unless it is given."""
    if size is None:
        size, pieces = len(data), [(0, data)]
    lines = f"etag {etag or f'{random.randrange(1 << 128):032x}'}\nsize {size}\n" \
        f"mtime 1700000000123456789\n".encode()
    for name, value in (meta or {}).items():
        lines += f"meta {name} {value}\n".encode()
    lines += b"end\n"
    head = f"objectfs-object 1 {HEAD_BYTES} {_fnv1a(lines):016x}".encode().ljust(63) + b"\n" + lines
    path = object_path(bed, key)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "wb") as file:
        file.write(head.ljust(HEAD_BYTES, b"\0"))
        for offset, piece in pieces:
            file.seek(HEAD_BYTES + offset)
            file.write(piece)
        file.truncate(HEAD_BYTES + size)
    os.rename(path + ".new", path)


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
