#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""After kill -9 of the daemon every directory is scanned once, however many of them have moved and told
so: hints of directories above each other do not scan what lies below again and again.
"""

import os
import signal

from smb import Testbed, check, step

DEPTH = 60


def path(names):
    return "/".join(names)


def main():
    with Testbed(set=["settle time=100ms"]) as bed:
        with bed.client() as client:
            step(f"{DEPTH} directories, one in the other")
            names = [f"d{number}" for number in range(DEPTH)]
            for number in range(DEPTH):
                client.mkdir(path(names[:number + 1]))
            client.put(path(names) + "/file", b"at the bottom")
            bed.flush()

            step("all renamed while the daemon is stopped, the lowest first")
            os.kill(int(bed.cached_pid), signal.SIGSTOP)
            for number in reversed(range(DEPTH)):
                above = names[:number]
                client.rename(path(above + [f"d{number}"]), path(above + [f"e{number}"]))
            os.kill(int(bed.cached_pid), signal.SIGKILL)

            step("started again; the rings are still there")
            bed.restart("cached", kill=True)
            names = [f"e{number}" for number in range(DEPTH)]
            check(client.get(path(names) + "/file") == b"at the bottom", "the file is not there")
            bed.flush()
            counters = bed.ctl_json("status")["counters"]
            print(counters)
            check(counters["hints"] >= DEPTH, f"only {counters['hints']} hints were read")
            check(DEPTH < counters["dirs_scanned"] <= DEPTH + 5,
                  f"{counters['dirs_scanned']} scans of {DEPTH} directories")
        step("all is in S3")
        bed.wipe()
        with bed.client() as client:
            check(client.get(path(names) + "/file") == b"at the bottom", "not in S3")


main()
