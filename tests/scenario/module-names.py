#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
"""Names and attributes through the module: names met before their directory is listed, absence and
the lack of an answer told apart, removals and replacements, what is refused, what is hidden, what a
client must not see move."""

import os
import re
import subprocess
import time

from dirstore import get_object, put_object
from smb import SmbError, Testbed, check, refused, step, wait_until
from smb2 import ATTR_PLACE, FILE_CREATE, INFO_FS, MAXIMUM_ALLOWED, READ_DATA, WRITE_DATA

COLLISION = "NT_STATUS_OBJECT_NAME_COLLISION"
NOT_FOUND = "NT_STATUS_OBJECT_NAME_NOT_FOUND"


def counter(bed, name):
    return bed.ctl_json("status")["counters"][name]


def fill(client):
    for path in ("one", "one/two", "one/two/three", "full", "bare", "other", "quiet"):
        client.mkdir(path)
    client.put("one/two/three/deep", b"deep", eas={"color": b"blue"},
               streams={"notes": b"a stream"})
    client.put("full/file", b"1")
    client.put("other/target", b"target")
    client.put("other/source", b"source")
    client.put("top", b"top of the tree" * 1000)
    client.put("quiet/file", b"2")


def unlisted(bed):
    step("a deep path at once, no directory listed")
    with bed.client() as client:
        check(client.get("one/two/three/deep") == b"deep", "content of the deep file")
        check(client.get("one/two/three/deep:notes") == b"a stream", "its stream")
        check(counter(bed, "listings") == 0, "a path cost a listing")

        step("what is only in the store collides like what is here")
        refused("mkdir", lambda: client.mkdir("other"), COLLISION)
        refused("create", lambda: client.create("other/target", disposition=FILE_CREATE), COLLISION)
        client.put("new", b"new")
        refused("rename", lambda: client.rename("new", "other/target"), COLLISION)

        step("rename over it, when asked to")
        client.rename("new", "other/target", replace=True)
        check(client.get("other/target") == b"new", "the replacing file")

        step("rmdir of a directory never listed asks the store")
        refused("rmdir", lambda: client.rmdir("full"), "NT_STATUS_DIRECTORY_NOT_EMPTY")
        client.rmdir("bare")
        client.unlink("other/source")
        refused("open", lambda: client.create("nothing"), NOT_FOUND)
    bed.flush()
    bed.wipe()
    with bed.client() as client:
        names = sorted(entry[0] for entry in client.list(""))
        check(names == ["full", "one", "other", "quiet", "top"], f"names after it: {names}")
        check(client.get("other/target") == b"new", "the replacing file in the store")
        refused("open", lambda: client.create("other/source"), NOT_FOUND)


def absent(bed):
    step("an absent name costs the store one question; what is made there is there at once")
    bed.wipe()
    with open(bed.smb_conf, encoding="utf-8") as file:
        section = re.search(r"^\[test\]\n(?:\t.*\n)+", file.read(), re.MULTILINE).group(0)
    with open(bed.smb_conf, "a", encoding="utf-8") as file:  # smbd lists for names of another case otherwise
        file.write(section.replace("[test]", "[exact]") + "\tcase sensitive = yes\n")
    bed.restart("smbd")

    def missing(who, name):
        refused("open", lambda: who.create(name), NOT_FOUND)

    def asked():
        return counter(bed, "s3_head") + counter(bed, "s3_list")

    with bed.client(share="exact") as client, bed.client(share="exact") as other:
        check(client.get("quiet/file") == b"2", "another file there")
        missing(client, "quiet/absent")
        before, known = asked(), counter(bed, "names_absent_known")
        for who in (client, other) * 3:
            missing(who, "quiet/absent")
        check(asked() == before and counter(bed, "names_absent_known") >= known + 6,
              f"{asked() - before} questions, {counter(bed, 'names_absent_known') - known} known")
        put_object(bed, "quiet/absent", b"by another tool")
        missing(client, "quiet/absent")
        other.put("quiet/made", b"made")
        check(client.get("quiet/absent") == b"by another tool", "S3 is asked again once a name was made there")
        missing(client, "quiet/late")
        put_object(bed, "quiet/late", b"late")
        missing(other, "quiet/late")
        bed.ctl("refresh", "quiet")
        check(client.get("quiet/late") == b"late", "after a refresh")
        for name in ("late", "absent", "made"):
            client.unlink(f"quiet/{name}")
    bed.flush()


def no_answer(bed):
    step("daemon gone: what is here is served, what is not known is an error, not absence")
    with bed.client() as client:
        client.list("")
        client.get("top")
        bed.stop("cached", kill=True)
        check(client.get("top") == b"top of the tree" * 1000, "a resident file")
        client.put("made", b"while the daemon is away")
        refused("open in a directory not listed", lambda: client.create("quiet/file"), "NT_STATUS_IO_TIMEOUT")
        refused("list", lambda: client.list("quiet"), "NT_STATUS_IO_TIMEOUT")
        code, output = bed.smbclient("ls")
        check(code != 0 and "UNSUCCESSFUL" in output, f"a new connection: {output}")
        check("no objectfs-cached answers" in bed.log("smbd"), "the log does not say why")
        bed.start("cached")
        check(client.get("quiet/file") == b"2", "after the daemon has come back")
    bed.flush()
    check(bed.ctl_json("stat", "test:made")["row"]["in_s3"], "the hint did not outlive the daemon")


def links(bed):
    step("hard links, symbolic links: refused")
    _, output = bed.smbclient("hardlink top linked")
    check("NT_STATUS_NOT_SUPPORTED" in output, f"hard link: {output}")
    check(not os.path.lexists(os.path.join(bed.mirror, "linked")), "a link was made")


def hidden(bed):
    step("the record is hidden and out of reach, other EAs are not")
    with bed.client() as client:
        manifest = client.manifest("one/two/three")
        check(set(manifest["deep"]["eas"]) == {"COLOR"} or set(manifest["deep"]["eas"]) == {"color"},
              f"EAs: {manifest['deep']['eas']}")
        file = client.create("top", MAXIMUM_ALLOWED)
        refused("forging a record", lambda: client.set_eas(file, {"objectfs": b"forged"}), "NT_STATUS_ACCESS_DENIED")
        client.close(file)
    check("user.objectfs" not in os.listxattr(os.path.join(bed.mirror, "top")) or
          bed.ctl_json("status")["volumes"][0]["record_xattr"] == "user.objectfs",
          "the xattr of a record was set")
    state = bed.ctl_json("stat", "test:top")
    check(state["record"]["oid"], f"the record of top is gone: {state}")


def steady(bed):
    step("recall, upload: no time, size or attribute moves; free space is the volume's")
    bed.wipe()
    with bed.client() as client:
        before = {entry[0]: entry for entry in client.list("")}["top"]
        client.get("top")
        wait_until(lambda: bed.ctl_json("stat", "test:top")["state"] == "resident", 20)
        after = {entry[0]: entry for entry in client.list("")}["top"]
        # name, size, create, write, change, attributes but where it is; not the time of access
        check(before[:1] + before[2:4] + before[5:] == after[:1] + after[2:4] + after[5:] and
              before[1] & ~ATTR_PLACE == after[1], f"{before} became {after}")
        mode = os.stat(os.path.join(bed.mirror, "top")).st_mode
        check(mode & 0o1000 == 0, "the marker is still there")
        root = client.create("", READ_DATA)
        space = client.query(root, INFO_FS, 3)
        client.close(root)
    total = int.from_bytes(space[:8], "little") * int.from_bytes(space[16:20], "little") * \
        int.from_bytes(space[20:24], "little")
    check(total == 7 << 30, f"size of the volume: {total}")


def copies(bed):
    step("a stub copied behind our back with its xattrs is not data")
    bed.wipe()
    with bed.client() as client:
        client.list("")
        top = os.path.join(bed.mirror, "top")
        subprocess.run(["cp", "-a", top, top + ".copy"], check=True)
        xattr = bed.ctl_json("status")["volumes"][0]["record_xattr"]
        os.setxattr(top + ".copy", xattr, os.getxattr(top, xattr))
        refused("open of the copied stub", lambda: client.create(
            "top.copy", READ_DATA | WRITE_DATA), "NT_STATUS_IO_DEVICE_ERROR")
        client.unlink("top.copy")


def expiry():
    step("a change in the bucket shows when the listing has aged")
    with Testbed(set=["settle time=0s", "listing age=1s"]) as bed:
        with bed.client() as client:
            client.put("old", b"old")
            bed.flush()
            client.list("")
            path = os.path.join(bed.store_dir, "objects")
            found = [name for name in os.listdir(path) if name.startswith("old")]
            with open(os.path.join(path, found[0]), "rb") as file:
                raw = file.read()
            with open(os.path.join(path, found[0].replace("old", "fresh", 1)), "wb") as file:
                file.write(raw)

            def shown():
                try:
                    return client.get("fresh") == b"old"
                except SmbError:
                    return False
            wait_until(shown, 20)


def locked(bed):
    step("the kernel says who may remove: what it refuses leaves nothing in the trash, and nothing to do")
    trash = os.path.join(os.path.dirname(bed.mirror), "trash")
    with bed.client() as client:
        client.mkdir("locked")
        handle = client.create("locked")
        client.set_sddl(handle, "D:P(A;OICI;0x1f01ff;;;WD)")  # smbd lets pass what the kernel is to refuse
        client.close(handle)
        client.put("locked/file", b"stays")
        client.put("locked.new", b"new")
        bed.flush()
        os.chown(f"{bed.mirror}/locked", 0, 0)
        os.chmod(f"{bed.mirror}/locked", 0o755)
        # acl_xattr unlinks as root what the NT ACL allows; a rename is the kernel's to refuse
        for what, action in (("rename over it", lambda: client.rename("locked.new", "locked/file", replace=True)),
                             ("rename", lambda: client.rename("locked/file", "elsewhere"))):
            refused(what, action, "NT_STATUS_ACCESS_DENIED")
            check(not os.listdir(trash), f"{what}: in the trash: {os.listdir(trash)}")
        bed.flush()
        check(client.get("locked/file") == b"stays" and get_object(bed, "locked/file") == b"stays" and
              get_object(bed, "locked.new") == b"new", "something was removed all the same")


def main():
    started = time.monotonic()
    with Testbed(set=["settle time=0s", "capacity=7G"],
                 smb=["objectfs:reconnect timeout=3"]) as bed:
        with bed.client() as client:
            fill(client)
        bed.flush()
        bed.wipe()
        unlisted(bed)
        no_answer(bed)
        links(bed)
        hidden(bed)
        steady(bed)
        copies(bed)
        absent(bed)
        locked(bed)
    expiry()
    step(f"{time.monotonic() - started:.1f} s")


main()
