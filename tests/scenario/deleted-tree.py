#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""A directory deleted with all in it before the daemon looks: nothing stays pending, nothing stays in
the store, whether the files had reached it or not; nor where the directory was renamed first."""

import os
import signal

from smb import Testbed, check, step, wait_until

FILES = ("top", "d/one", "d/two", "d/e/three")


def fill(client):
    client.mkdir("d")
    client.mkdir("d/e")
    for path in FILES:
        client.put(path, path.encode() * 10)


def deltree_unseen(bed, one, two, renamed):
    """Files by one client, directories by another, whose ring the daemon reads first."""
    root = "d"
    os.kill(int(bed.cached_pid), signal.SIGSTOP)
    try:
        if renamed:
            two.rename("d", "moved")
            root = "moved"
        for path in ("one", "two", "e/three"):
            one.unlink(f"{root}/{path}")
        two.rmdir(f"{root}/e")
        two.rmdir(root)
    finally:
        os.kill(int(bed.cached_pid), signal.SIGCONT)


def seen(bed):
    """The daemon knows every file: each waits as a change of its own, not as a name to look at; or
    has been sent by now."""
    waiting = {change["path"] for change in bed.ctl_json("pending")["pending"]
               if change["kind"] != "look"}
    return set(FILES) <= waiting | set(bed.keys())


def main():
    with Testbed(store="rgw", set=["settle time=3s"]) as bed, bed.client() as two, \
            bed.client() as one:
        for known in (False, True):
            for renamed in (False, True):
                step(f"{'in the store' if known else 'known to the daemon'}, "
                     f"{'renamed and ' if renamed else ''}deleted unseen")
                fill(one)
                if known:
                    bed.flush(timeout_s=60)
                    check(set(FILES) <= set(bed.keys()), f"in the bucket: {bed.keys()}")
                else:
                    wait_until(lambda: seen(bed), 20, "the daemon has seen the files")
                deltree_unseen(bed, one, two, renamed)
                bed.flush(timeout_s=60)
                check(list(bed.keys()) == ["top"], f"left in the bucket: {bed.keys()}")
                check("top" not in bed.ctl("pending") and "d" not in one.manifest(),
                      "something is left")


main()
