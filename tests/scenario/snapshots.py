#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""Previous Versions by shadow_copy2 from a snapshot of the mirror's file system, made as LVM makes them:
a frozen file system, its blocks copied, mounted beside it. What the disk had then is there, as it was;
what it had not is an error, never zeros and never absent; nothing of it is sent, nothing is changed."""

import os
import subprocess
import tempfile

from dirstore import object_keys, put_object
from local import evict, is_out
from smb import ROOT, Testbed, bed_path, check, step

VERSION = "@GMT-2026.01.02-03.04.05"
OLD, NEW = os.urandom(300000), os.urandom(200000)


def run(*argv, bed=None):
    """In the mount namespace of a testbed, which a snapshot is for."""
    with open(f"{bed.testbed_dir}/run/namespace.pid", encoding="ascii") as file:
        space = f"/proc/{file.read().split()[0]}/ns/mnt"
    done = subprocess.run(["nsenter", f"--mount={space}", "--", *argv], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    check(done.returncode == 0, f"{' '.join(argv)}: {done.stdout}")


def snapshot(bed):
    top = f"{bed.testbed_dir}/snapshots/{VERSION}"
    os.makedirs(top)
    mirror = f"{bed.testbed_dir}/mnt"
    subprocess.run(["sync", "-f", mirror], check=True)
    subprocess.run(["fsfreeze", "-f", mirror], check=True)
    try:
        subprocess.run(["cp", "--sparse=always", f"{bed.testbed_dir}/disk.img",
                        f"{bed.testbed_dir}/snapshot.img"], check=True)
    finally:
        subprocess.run(["fsfreeze", "-u", mirror], check=True)
    run("mount", "-o", "loop,ro,nouuid,norecovery", f"{bed.testbed_dir}/snapshot.img", top, bed=bed)


def say(bed, commands, wanted):
    """smbclient says it, and nothing else went wrong."""
    _, output = bed.smbclient(commands)
    check(wanted in output, f"{commands}: {output}")
    if not wanted.startswith("NT_STATUS"):
        check("NT_STATUS" not in output, f"{commands}: {output}")


def fetched(bed, path):
    target = tempfile.mktemp()
    say(bed, f'get "{path}" {target}', "getting file")
    with open(target, "rb") as file:
        return file.read()


def main():
    path = bed_path()
    share = [f"shadow:snapdir={path}/snapshots", "shadow:snapsharepath=cache/test/tree"]
    with Testbed(path=path, fs="xfs", set=["settle time=0"], smb=share,
                 fragment=f"{ROOT}/smb.conf.d/snapshots.conf") as bed:
        step("a file that is here, one that is not, a folder that nobody has listed; a snapshot")
        put_object(bed, "unseen/file", OLD)
        with bed.client() as client:
            client.mkdir("deep")
            client.put("deep/here", OLD, streams={"more": b"beside"})
            client.put("deep/out", OLD)
            client.put("deep/goes", OLD)
            client.list("")
        bed.flush()
        check(evict(bed, "deep/out")[0] == 0 and is_out(bed, "deep/out"), "it is still here")
        snapshot(bed)
        keys = object_keys(bed)

        step("what was here is there as it was")
        with bed.client() as client:
            client.put("deep/here", NEW)
            client.unlink("deep/goes")
        check(fetched(bed, "deep/here") == NEW, "the file itself is another")
        say(bed, "allinfo deep/here", VERSION)
        for name in ("here", "goes"):
            check(fetched(bed, f"{VERSION}/deep/{name}") == OLD, f"{name}: other bytes")
        check(fetched(bed, f"{VERSION}/deep/here:more") == b"beside", "the stream is another")
        say(bed, f"ls {VERSION}/deep/*", "goes")

        step("what was not is an error")
        say(bed, f"get {VERSION}/deep/out /dev/null", "NT_STATUS_IO_DEVICE_ERROR")
        # smbd says the same here, and smbclient something else
        say(bed, f"ls {VERSION}/unseen/*", "NT_STATUS_")
        check("had not been listed then" in bed.log("smbd"), "the listing failed for another reason")
        say(bed, f"get {VERSION}/deep/nothing /dev/null", "NT_STATUS_OBJECT_NAME_NOT_FOUND")
        check("in a snapshot?" in bed.log("smbd"), "the reason is not in smbd's log")

        step("it is as it was; a file is brought back from it")
        say(bed, f"put /etc/hostname {VERSION}/deep/here", "NT_STATUS_MEDIA_WRITE_PROTECTED")
        say(bed, f"scopy {VERSION}/deep/here deep/back", "")
        check(fetched(bed, "deep/back") == OLD, "brought back: other bytes")
        check(is_out(bed, "deep/out") and fetched(bed, "deep/out") == OLD, "the mirror is another")
        bed.flush()
        check(object_keys(bed) == keys - {"deep/goes"} | {"deep/back"},
              f"in the store: {object_keys(bed) ^ keys}")


main()
