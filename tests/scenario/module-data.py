#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
"""Bytes of stubs through every door of the module: read (asynchronous, sendfile), write, recvfile,
truncate, zero, allocated ranges, copy within the server; durability at close and flush."""

import os
import random
import struct

from smb import Testbed, check, step
from smb2 import (FILE_OPEN_IF, INFO_FILE, IOCTL, OK, READ_ATTRIBUTES, READ_DATA,
                  WRITE_DATA)

MIB = 1 << 20
SIZE = 3 * MIB + 12345
QUERY_ALLOCATED_RANGES = 0x000940CF
REQUEST_RESUME_KEY = 0x00140078
COPYCHUNK = 0x001440F2
SET_SPARSE = 0x000900C4
SET_ZERO_DATA = 0x000980C8
NAMES = ("read", "tail", "write", "empty", "shorter", "ranges", "source", "target", "zero")


def counter(bed, name):
    return bed.ctl_json("status")["counters"][name]


def ioctl(client, file, code, data=b"", size=65536):
    body = struct.pack("<HHI16sIIIIIIII", 57, 0, code, file, 64 + 56, len(data), 0, 0, 0, size, 1,
                       0)
    status, answer = client.call(IOCTL, body + (data or b"\0"))
    offset, length = struct.unpack_from("<II", answer, 32) if status == OK else (64, 0)
    return status, answer[offset - 64:offset - 64 + length]


def read_all(client, file, size, piece=65536):
    """Many reads in flight at once."""
    sent = [client.send_read(file, at, min(piece, size - at)) for at in range(0, size, piece)]
    return b"".join(client.end_read(message) for message in sent)


def stubs(bed, content):
    """Everything in the store, nothing on the disk."""
    with bed.client() as client:
        client.mkdir("d")
        for name, data in content.items():
            client.put(f"d/{name}", data)
    bed.flush()
    bed.wipe()


def through(bed, content):
    stubs(bed, content)
    with bed.client() as client:
        sizes = {entry[0]: entry[2] for entry in client.list("d")}
        check(all(sizes[name] == SIZE for name in NAMES), f"sizes of stubs: {sizes}")
        check(counter(bed, "recall_bytes") == 0, "listing fetched file content")

        step("read: the first bytes of a stub, then all of it with many reads in flight")
        file = client.create("d/read", READ_DATA | READ_ATTRIBUTES)
        check(client.read(file, 0, 4096) == content["read"][:4096], "first bytes differ")
        check(read_all(client, file, SIZE) == content["read"], "content differs")
        check(client.read(file, SIZE, 10) == b"", "bytes beyond the end")
        client.close(file)

        step("read: only the tail, past the end of the file")
        file = client.create("d/tail", READ_DATA | READ_ATTRIBUTES)
        check(client.read(file, SIZE - 100, 4096) == content["tail"][-100:], "tail differs")
        client.close(file)

        step("write into the middle of a stub")
        file = client.create("d/write", READ_DATA | WRITE_DATA)
        client.write(file, MIB + 17, b"x" * 200000)
        client.close(file)
        expected = bytearray(content["write"])
        expected[MIB + 17:MIB + 17 + 200000] = b"x" * 200000
        check(client.get("d/write") == bytes(expected), "written stub differs")

        step("truncate a stub to nothing: no recall")
        before = counter(bed, "recall_bytes")
        client.put("d/empty", b"small")
        check(client.get("d/empty") == b"small", "overwritten stub differs")
        check(counter(bed, "recall_bytes") == before, "truncating to nothing fetched bytes")

        step("truncate a stub to a shorter length")
        file = client.create("d/shorter", READ_DATA | WRITE_DATA | 0x180)
        client.set(file, INFO_FILE, 20, struct.pack("<Q", MIB + 5))
        client.close(file)
        check(client.get("d/shorter") == content["shorter"][:MIB + 5], "shortened stub differs")

        step("allocated ranges of a stub: all of it")
        file = client.create("d/ranges", READ_DATA | WRITE_DATA | READ_ATTRIBUTES | 0x100)
        status, _ = ioctl(client, file, SET_SPARSE)
        check(status == OK, f"set sparse: {status:#x}")
        status, answer = ioctl(client, file, QUERY_ALLOCATED_RANGES, struct.pack("<QQ", 0, SIZE))
        check(status == OK and struct.unpack("<QQ", answer) == (0, SIZE),
              f"allocated ranges: {status:#x} {answer!r}")
        client.close(file)

        step("zero a range of a stub")
        file = client.create("d/zero", READ_DATA | WRITE_DATA)
        status, _ = ioctl(client, file, SET_ZERO_DATA, struct.pack("<QQ", 1000, MIB + 1000))
        check(status == OK, f"set zero data: {status:#x}")
        client.close(file)
        expected = bytearray(content["zero"])
        expected[1000:MIB + 1000] = bytes(MIB)
        check(client.get("d/zero") == bytes(expected), "zeroed stub differs")

        step("copy within the server: the middle of a stub into a stub")
        source = client.create("d/source", READ_DATA | READ_ATTRIBUTES)
        target = client.create("d/target", READ_DATA | WRITE_DATA)
        _, key = ioctl(client, source, REQUEST_RESUME_KEY)
        chunk = struct.pack("<24sIIQQII", key[:24], 1, 0, MIB - 50, 100, 500000, 0)
        status, _ = ioctl(client, target, COPYCHUNK, chunk)
        check(status == OK, f"server-side copy: {status:#x}")
        client.close(source)
        client.close(target)
        expected = bytearray(content["target"])
        expected[100:100 + 500000] = content["source"][MIB - 50:MIB - 50 + 500000]
        check(client.get("d/target") == bytes(expected), "server-side copy differs")

        step("one connection: stubs, and files that have become plain")
        check(client.get("d/read") == content["read"], "content differs the second time")
    bed.flush()
    bed.wipe()
    with bed.client() as client:
        check(client.get("d/target") == bytes(expected), "the copy did not reach the store")
        check(client.get("d/empty") == b"small", "the overwritten file did not reach the store")


def durability(bed):
    with bed.client() as client:
        step("durability = s3: in the store when close answers, in spite of the settle time")
        client.put("closed", b"content")
        row = bed.ctl_json("stat", "test:closed")["row"]
        check(row is not None and row["in_s3"] and row["size"] == 7, f"after close: {row}")
        step("durability = s3: in the store when FLUSH answers, the handle still open")
        file = client.create("flushed", READ_DATA | WRITE_DATA, FILE_OPEN_IF)
        client.write(file, 0, b"flushed content")
        client.flush(file)
        row = bed.ctl_json("stat", "test:flushed")["row"]
        check(row is not None and row["in_s3"] and row["size"] == 15, f"after FLUSH: {row}")
        client.close(file)


def main():
    seed = int(os.environ.get("SEED", "1"))
    content = {name: random.Random(f"{seed}{name}").randbytes(SIZE) for name in NAMES}
    with Testbed(set=["settle time=0s"]) as bed:
        through(bed, content)
    step("the same with sendfile and recvfile")
    with Testbed(set=["settle time=0s"], smb=["use sendfile=yes",
                                              "global.min receivefile size=16384"]) as bed:
        through(bed, content)
    with Testbed(set=["settle time=60s"], smb=["objectfs:durability=s3"]) as bed:
        durability(bed)


main()
