#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""A share that begins below the mirror's root: its directory made by a root preexec, behind the
module's back; after the loss of the disk it comes from the store before the preexec looks for it."""

from smb import Testbed, bed_path, check, check_same, step

BELOW = "projects/one"


def manifest(client):
    """Without the top: SMB has not made it, so that it has no creation time of its own."""
    found = client.manifest()
    del found[""]
    return found


def main():
    path = bed_path()
    with Testbed(store="rgw", path=path, set=["settle time=1s"], smb=[
            f"path={path}/cache/test/tree/{BELOW}",
            "root preexec=/bin/mkdir -p -m 0777 %P"]) as bed:
        step("the preexec made the directory")
        with bed.client() as client:
            client.mkdir("deep")
            client.put("deep/file", b"below", streams={"s": b"stream"})
            client.put("file", b"at the top")
            before = manifest(client)
        bed.flush()
        wanted = {f"{BELOW}/deep/", f"{BELOW}/deep/file", f"{BELOW}/file"}
        check(wanted <= set(bed.keys()), f"in the bucket: {bed.keys()}")

        step("the disk is lost")
        bed.wipe()
        with bed.client() as client:
            check_same(before, manifest(client), "after the loss of the disk")
            client.put("new", b"new")
        bed.flush()
        check(f"{BELOW}/new" in bed.keys(), f"in the bucket: {bed.keys()}")
        check(len([key for key in bed.keys() if key.endswith("one/")]) <= 1,
              f"two directories: {bed.keys()}")


main()
