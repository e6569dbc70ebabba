#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""As root in a plain container: the capabilities that docker gives by default, everything on an overlay
mount. Records go to user.objectfs, NT ACLs to user.NTACL, leases are taken with the owner's fsuid; the
round trip keeps what it keeps elsewhere.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile

from dirstore import put_object
from smb import Testbed, check, check_same, refused, skip, step
from smb2 import ATTR_HIDDEN, ATTR_READONLY

KEPT = """chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot
mknod audit_write setfcap""".split()


def others():
    """Every other capability of this process, as capsh wants them."""
    text = subprocess.run(["capsh", "--print"], capture_output=True, text=True, check=True).stdout
    line = next(l for l in text.splitlines() if l.startswith("Bounding set ="))
    names = line.split("=", 1)[1].split(",")
    return ",".join(n for n in names if n and n[len("cap_"):] not in KEPT)


def fill(client):
    client.mkdir("d")
    for number in range(60):
        client.put(f"d/f{number}", os.urandom(number * 997), eas={"kind": b"test"},
                   streams={"notes": b"n" * number},
                   sddl="D:P(A;;0x1f01ff;;;WD)" if number % 2 else None,
                   attributes=ATTR_HIDDEN | ATTR_READONLY if number % 5 == 0 else None)


def is_admin():
    """Is CAP_SYS_ADMIN there?"""
    with open("/proc/self/status", encoding="ascii") as file:
        effective = next(line for line in file if line.startswith("CapEff:")).split()[1]
    step(f"capabilities {effective}")
    return int(effective, 16) & (1 << 21) != 0


def inside():
    """In the container: fill, drain, lose the disk, compare."""
    check(not is_admin(), "CAP_SYS_ADMIN is still there")
    with Testbed(store="dir") as bed:
        with bed.client() as client:
            fill(client)
            before = client.manifest("d")
        names = os.listxattr(os.path.join(bed.MIRROR, "d", "f1"))
        check("user.objectfs" in names and "user.NTACL" in names, f"xattrs are {names}")
        check("records-user" in {item.get("id") for item in bed.ctl_json("health")["components"]}, "nobody is told")
        with bed.client() as client:
            client.mkdir("closed")
            handle = client.create("closed")
            client.set_sddl(handle, "D:P(A;OICI;0x1f01ff;;;{})".format(
                before[""]["sd"].split("O:")[1].split("G:")[0]))
            client.close(handle)
        bed.flush()
        step("what another program puts into a closed directory")
        put_object(bed, "closed/put", b"secret")
        bed.ctl("refresh", "closed")
        with bed.client() as client, bed.client(user=2) as other:
            check(client.get("closed/put") == b"secret", "its owner reads other bytes")
            refused("another user's read of it", lambda: other.get("closed/put"), "NT_STATUS_ACCESS_DENIED")
        step("the disk is lost")
        bed.wipe()
        with bed.client() as client:
            check_same(before, client.manifest("d"), "after the loss of the disk")


def overlay(base):
    """A mount point of an overlay below `base`, or None; and how to undo it."""
    mount = ctypes.CDLL(None, use_errno=True).mount
    for name in ("lower", "upper", "merged"):
        os.makedirs(os.path.join(base, name))
    if mount(b"none", f"{base}/upper".encode(), b"tmpfs", 0, b"") != 0:
        return None
    for name in ("u", "w"):
        os.mkdir(os.path.join(base, "upper", name))
    options = f"lowerdir={base}/lower,upperdir={base}/upper/u,workdir={base}/upper/w,userxattr"
    if mount(b"overlay", f"{base}/merged".encode(), b"overlay", 0, options.encode()) != 0:
        return None
    os.chmod(os.path.join(base, "merged"), 0o755)
    return os.path.join(base, "merged")


def main():
    if os.geteuid() != 0 or shutil.which("capsh") is None:
        skip("needs root and capsh (libcap2-bin)")
    if not is_admin():
        step("this is a plain container")
        inside()
        return
    base = tempfile.mkdtemp()
    os.chmod(base, 0o755)
    merged = overlay(base)
    step(f"everything on {'an overlay' if merged else base}")
    try:
        done = subprocess.run(
            ["capsh", f"--drop={others()}", "--", "-c", f'exec "{os.path.realpath(__file__)}" inside'],
            env={**os.environ, "TMPDIR": merged or base}, check=False)
        check(done.returncode == 0, f"in the container: exit {done.returncode}")
    finally:
        for name in ("merged", "upper"):
            subprocess.run(["umount", os.path.join(base, name)], check=False,
                           stderr=subprocess.DEVNULL)
    check(merged is not None, "no overlay could be mounted")


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        inside()
    else:
        main()
