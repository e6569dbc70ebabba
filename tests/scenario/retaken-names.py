#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""Files that nobody has seen go (a local program removed them), and others under their names: before it
is asked who has a key, a scan looks where the old file might be. One scan for all, not one each.
"""

import os

from smb import Testbed, check, step

DIRS = 20


def main():
    with Testbed(set=["settle time=100ms"]) as bed:
        with bed.client() as client:
            step(f"{DIRS} directories with a file, which go unseen")
            for number in range(DIRS):
                client.mkdir(f"d{number}")
                client.put(f"d{number}/file", b"before")
            bed.flush()
            before = bed.ctl_json("status")["counters"]["dirs_scanned"]
            for number in range(DIRS):
                os.unlink(os.path.join(bed.mirror, f"d{number}/file"))

            step("others have their names")
            with bed.unheard():  # or each is scanned for as it comes
                for number in range(DIRS):
                    client.put(f"d{number}/file", b"after")
            bed.flush()
            counters = bed.ctl_json("status")["counters"]
            scans = counters["dirs_scanned"] - before
            check(counters["conflicts"] == DIRS, f"{counters['conflicts']} conflicts")
            check(DIRS <= scans <= 3 * (DIRS + 1), f"{scans} scans of {DIRS} directories")


main()
