#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 180
"""What must stay closed: the volume's own names for every client, a restricted folder for objects that
another tool puts into it, and the names of a directory while its rename is on its way in S3.
"""

import os

from smb import SmbError, Testbed, check, step, wait_until

ADMIN_ONLY = "D:P(A;OICI;0x1f01ff;;;{})"


def refused(what, call, *names):
    try:
        call()
    except SmbError as error:
        check(not names or error.name in names, f"{what}: {error.name}")
        return
    check(False, f"{what} is allowed")


def reserved(bed):
    step("the volume's own name")
    with bed.client() as client:
        denied = ("NT_STATUS_ACCESS_DENIED",)
        refused("mkdir .objectfs", lambda: client.mkdir(".objectfs"), *denied)
        refused("put .objectfs", lambda: client.put(".objectfs", b"x"), *denied)
        refused("put below", lambda: client.put(".objectfs/rename/00", b"x"))
        client.mkdir("plain")
        refused("rename to .objectfs", lambda: client.rename("plain", ".objectfs"), *denied)
        refused("read the volume record", lambda: client.get(".objectfs/volume"))
        check(".objectfs" not in [entry[0] for entry in client.list("")], "it is listed")
    step("a local program makes it: nothing of it goes to S3")
    before = {k for k in bed.keys(internal=True)}
    os.makedirs(os.path.join(bed.MIRROR, ".objectfs", "rename"))
    with open(os.path.join(bed.MIRROR, ".objectfs", "rename", "a" * 32), "w",
              encoding="ascii") as file:
        file.write("{}")
    bed.restart("cached", kill=True)
    bed.ctl("flush", "--wait", "--timeout", "5", may_fail=True)
    after = {k for k in bed.keys(internal=True)}
    check(not any(k.startswith(".objectfs/rename/") for k in after - before),
          f"new keys: {sorted(after - before)}")


def foreign(bed):
    step("an object put into a restricted folder by another tool")
    with bed.client(user="admin") as admin:
        file_sid = admin.manifest("", content=False)[""]["sd"].split("O:")[1].split("G:")[0]
        admin.mkdir("hr")
        handle = admin.create("hr")
        admin.set_sddl(handle, ADMIN_ONLY.format(file_sid if file_sid.startswith("S-") else "BA"))
        admin.close(handle)
    bed.flush()
    bed.s3().put_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + "hr/foreign.txt", Body=b"secret")
    bed.ctl("refresh", "hr")
    with bed.client() as client:
        refused("reading it as another user", lambda: client.get("hr/foreign.txt"))


def moving(bed):
    step("listings while a directory's rename is on its way in S3")
    names = {f"f{number:03}" for number in range(300)}
    with bed.client() as client:
        client.mkdir("old")
        for name in names:
            client.put(f"old/{name}", name.encode())
        bed.flush()
        client.rename("old", "new")
        for _ in range(1000):
            bed.ctl("refresh", "new", may_fail=True)
            seen = {entry[0] for entry in client.list("new")} - {".", ".."}
            check(seen == names, f"{len(names - seen)} names are gone")
            status = bed.ctl_json("status")
            if status["counters"]["renames_dir"] >= 1:
                break
        wait_until(lambda: bed.ctl_json("status")["counters"]["renames_dir"] >= 1, 60,
                   "the rename to be done in S3")
        check({entry[0] for entry in client.list("new")} - {".", ".."} == names, "names are gone")


def main():
    with Testbed(store="rgw", set=["settle time=100ms"]) as bed:
        foreign(bed)
        moving(bed)
        reserved(bed)


if __name__ == "__main__":
    main()
