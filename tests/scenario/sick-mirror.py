#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""The mirror's file system is full, or broken: /health and /ready say so, with a remedy, and that it is
over."""

import fcntl
import json
import os
import struct
import threading
import urllib.error
import urllib.request

from smb import SmbError, Testbed, check, step, wait_until

EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32); 2: at once, without a last flush


def get(bed, path):
    try:
        with urllib.request.urlopen(f"http://{bed.http}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def mirror(bed):
    return [item.get("id") for item in json.loads(get(bed, "/health")[1])["components"]
            if item["component"] == "mirror" and item["state"] == "failed"]


def write(bed, said, enough):
    """A program that does not take no for an answer."""
    with bed.client() as client:
        while not enough.is_set():
            try:
                client.put("w", bytes(8 << 20))
                said.add("NT_STATUS_OK")
            except SmbError as error:
                said.add(error.name)


def main():
    with Testbed(fs="ext4") as bed:
        check(get(bed, "/ready")[0] == 200 and mirror(bed) == [], "not well from the start")
        step("full")
        filler = os.path.join(os.path.dirname(bed.cache_dir), "filler")
        with open(filler, "wb") as file:
            fs = os.statvfs(filler)
            os.posix_fallocate(file.fileno(), 0, fs.f_bavail * fs.f_frsize - (4 << 20))
        check(mirror(bed) == ["mirror-full"], f"a full disk: {mirror(bed)}")
        status, text = get(bed, "/ready")
        check(status == 503 and "mirror of volume test" in text, f"/ready: {status} {text}")
        said, enough = set(), threading.Event()
        writer = threading.Thread(target=write, args=(bed, said, enough))
        writer.start()
        try:
            wait_until(lambda: "cache-full" in get(bed, "/health")[1], 40, "writers are refused")
        finally:
            enough.set()
            writer.join()
        check(said == {"NT_STATUS_DISK_FULL"}, f"a writer on a full disk: {said}")
        os.unlink(filler)
        wait_until(lambda: "cache-full" not in get(bed, "/health")[1], 20, "writers go on")
        wait_until(lambda: mirror(bed) == [] and get(bed, "/ready")[0] == 200, 20, "well again")
        step("broken")
        fd = os.open(bed.cache_dir, os.O_RDONLY)
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", 2))
        os.close(fd)
        check(mirror(bed) == ["mirror-bad"], f"a broken disk: {mirror(bed)}")
        check(get(bed, "/ready")[0] == 503, "ready with a broken disk")
        check(get(bed, "/live")[0] == 200, "/live needs the disk")


main()
