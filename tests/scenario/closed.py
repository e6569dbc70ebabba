#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 180
"""What must stay closed: the volume's own names for every client, a restricted folder for objects that
another tool puts into it, the names of a directory while its rename is on its way in S3, and the root
of a new disk until S3 has said who may come in.
"""

import os

from smb import Testbed, check, refused, step, wait_until

ADMIN_ONLY = "D:P(A;OICI;0x1f01ff;;;{})"


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


def new_disk(bed):
    step("a new disk while S3 is away: nobody is let in")
    with bed.client() as client:
        client.put("mine", b"mine")
        found = client.manifest("", content=False)
        me = found["mine"]["sd"].split("O:")[1].split("G:")[0]
        created = found[""]["create"]
    with bed.client(user="admin") as admin:
        handle = admin.create("")
        admin.set_sddl(handle, ADMIN_ONLY.format(me))
        admin.close(handle)
    bed.flush()
    bed.stop("store")
    bed.wipe()
    for user in (1, 2, "admin"):
        refused("a tree connect", lambda u=user: bed.client(user=u), "NT_STATUS_UNSUCCESSFUL")
    check("the disk is new and the rights of the root" in bed.log("smbd"), "smbd's log does not say why")
    check(bed.ctl_json("status")["counters"]["hello_closed"] >= 3, "not counted")
    step("nor after a restart")
    bed.restart("cached", kill=True)
    refused("a tree connect", lambda: bed.client(user=2), "NT_STATUS_UNSUCCESSFUL")
    step("S3 is back: who is meant to may come in, others may not")
    bed.start("store")
    wait_until(lambda: bed.ctl_json("status")["volumes"][0]["state"] == "ready", 60, "S3 is reached")
    with bed.client(user=2) as other:
        refused("a listing", lambda: other.list(""), "NT_STATUS_ACCESS_DENIED")
        refused("a new file", lambda: other.put("theirs"), "NT_STATUS_ACCESS_DENIED")
    with bed.client() as client:
        check(client.get("mine") == b"mine", "other bytes")
        found = client.manifest("", content=False)[""]["create"]
        check(found == created, f"the root was created at {created}, now {found}")
    step("a known disk while S3 is away: those may come in who might before")
    bed.stop("store")
    bed.restart("cached")
    with bed.client() as client:
        check(client.get("mine") == b"mine", "other bytes")
    with bed.client(user=2) as other:
        refused("a listing", lambda: other.list(""), "NT_STATUS_ACCESS_DENIED")
    bed.start("store")


def lost_root(bed):
    step("the root's rights are gone from the bucket: nobody is let in on a new disk")
    s3, place = bed.s3(), {"Bucket": bed.S3_BUCKET, "Key": bed.S3_PREFIX + ".objectfs/root"}
    kept = s3.get_object(**place)
    s3.delete_object(**place)

    def state():
        return bed.ctl_json("status")["volumes"][0]

    bed.stop("store")
    bed.wipe()
    bed.start("store")
    wait_until(lambda: state()["state"] == "held", 60, "held")
    check("rights of the share's root are lost" in state()["why"], f"status: {state()['why']}")
    for user in (1, 2, "admin"):
        refused("a tree connect", lambda u=user: bed.client(user=u), "NT_STATUS_UNSUCCESSFUL")
    s3.put_object(**place, Body=b"", Metadata={"other": "tool"})
    bed.restart("cached")
    wait_until(lambda: state()["state"] == "held", 30, "held, with another tool's object there")
    refused("a tree connect", lambda: bed.client(user=2), "NT_STATUS_UNSUCCESSFUL")
    step("they are restored")
    s3.put_object(**place, Body=kept["Body"].read(), Metadata=kept["Metadata"])
    bed.restart("cached")
    wait_until(lambda: state()["state"] == "ready", 30, "ready")
    with bed.client() as client:
        check(client.get("mine") == b"mine", "other bytes")
    with bed.client(user=2) as other:
        refused("a listing", lambda: other.list(""), "NT_STATUS_ACCESS_DENIED")


def main():
    with Testbed(store="rgw", set=["settle time=100ms"]) as bed:
        foreign(bed)
        moving(bed)
        reserved(bed)
    with Testbed(store="rgw", set=["settle time=100ms"]) as bed:
        new_disk(bed)
        lost_root(bed)


if __name__ == "__main__":
    main()
