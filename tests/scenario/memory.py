#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon gets no more memory: it says so and ends, clients write on, and the next one loses nothing."""

import os
import resource
import subprocess

from smb import Testbed, check, skip, step, wait_until


def limit(pid):
    """To what it has."""
    with open(f"/proc/{pid}/status") as status:
        kib = next(int(line.split()[1]) for line in status if line.startswith("VmSize"))
    resource.prlimit(pid, resource.RLIMIT_AS, (kib * 1024, kib * 1024))


def ended(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def main():
    if os.environ.get("SANITIZER"):
        skip("a sanitizer has an allocator of its own")
    with Testbed() as bed:
        with bed.client() as client:
            client.put("before", b"before")
        bed.flush()
        pid = int(bed.cached_pid)
        step("no more memory")
        limit(pid)
        with bed.client() as client:
            for number in range(400):
                client.put(f"f{number}", f"file {number}".encode())
            wait_until(lambda: ended(pid), 60, "the daemon ends")
            said = subprocess.run(["grep", "-rhc", "out of memory (.*): ending", f"{bed.dir}/log"],
                                  capture_output=True, text=True).stdout.split()
            check(sum(map(int, said)) == 1, f"the log says it so often: {said}")
            client.put("after", b"after")
        bed.restart("cached")
        bed.flush()
        with bed.client() as client:
            for number in range(400):
                check(client.get(f"f{number}") == f"file {number}".encode(), f"f{number}")
            check(client.get("after") == b"after", "what was written while it was away")


main()
