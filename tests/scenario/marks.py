#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""After kill -9 the directories scanned are the marked ones, and what happened in them is found even
if every hint is lost (a power cut takes the rings): dirs_scanned is the root and the marked ones.
"""

import glob
import os
import signal
import struct

from smb import Testbed, check, fail, step, wait_until

DIRS = 50
CHANGED = (7, 31)
MARKED = 1 << 6  # OFS_REC_MARKED in shared/record.h


def flags(path):
    """The flags in an inode's record; the layout is shared/record.c's."""
    for name in ("security.objectfs", "user.objectfs"):
        try:
            return struct.unpack_from("<I", os.getxattr(path, name), 8)[0]
        except OSError:
            continue
    return fail(f"{path} has no record")


def marked(bed):
    """Directories with a mark, relative to the mirror."""
    return {os.path.relpath(path, bed.mirror) for path, _, _ in os.walk(bed.mirror)
            if flags(path) & MARKED}


def power_cut(bed):
    """The daemon dies, and what lies in /run with it."""
    os.kill(int(bed.cached_pid), signal.SIGKILL)
    bed.stop("smbd", kill=True)
    rings = glob.glob(os.path.join(bed.dir, "run/objectfs/*.rings/*.ring"))
    for path in rings:
        os.unlink(path)
    return len(rings)


def main():
    with Testbed(set=["settle time=100ms"]) as bed:
        step(f"{DIRS} directories with files")
        with bed.client() as client:
            for number in range(DIRS):
                client.mkdir(f"d{number}")
                for name in ("one", "two", "three"):
                    client.put(f"d{number}/{name}", f"{number} {name}".encode())
            bed.flush()
            wait_until(lambda: not marked(bed), 20, "the marks are cleared when all is in S3")

            step("changes that the daemon does not see")
            os.kill(int(bed.cached_pid), signal.SIGSTOP)
            first, second = CHANGED
            client.put(f"d{first}/two", b"changed in place")
            client.put(f"d{first}/new", b"new")
            client.unlink(f"d{second}/one")
            client.rename(f"d{second}/two", f"d{second}/renamed")
        wanted = {".", *(f"d{number}" for number in CHANGED)}
        check(marked(bed) == wanted, f"marked are {sorted(marked(bed))}")
        check(power_cut(bed) > 0, "there was no ring to lose")

        step("start, and what is scanned")
        bed.restart("cached", kill=True)
        bed.flush()
        counters = bed.ctl_json("status")["counters"]
        check(counters["hints"] == 0, "hints were there after all")
        check(counters["dirs_scanned"] == len(wanted),
              f"{counters['dirs_scanned']} directories were scanned, not {len(wanted)}")
        check(counters["s3_put"] < DIRS, f"{counters['s3_put']} objects were written anew")

        step("the changes are in S3")
        bed.start("smbd")
        bed.wipe()
        with bed.client() as client:
            names = {number: sorted(entry[0] for entry in client.list(f"d{number}"))
                     for number in (*CHANGED, 8)}
            check(names[first] == ["new", "one", "three", "two"], f"d{first} has {names[first]}")
            check(names[second] == ["renamed", "three"], f"d{second} has {names[second]}")
            check(names[8] == ["one", "three", "two"], f"d8 has {names[8]}")
            check(client.get(f"d{first}/two") == b"changed in place", "the overwrite was lost")
            check(client.get(f"d{first}/new") == b"new", "the new file was lost")
            check(client.get(f"d{second}/renamed") == f"{second} two".encode(), "other bytes")

        step("after a clean stop, nothing but the root is scanned")
        bed.flush()
        wait_until(lambda: not marked(bed), 20, "the marks are cleared")
        bed.restart("cached")
        scanned = bed.ctl_json("status")["counters"]["dirs_scanned"]
        check(scanned <= 1, f"{scanned} directories were scanned after a clean stop")


if __name__ == "__main__":
    main()
