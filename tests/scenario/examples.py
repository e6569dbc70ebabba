#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 280
"""Every example of smb.conf.d, as a share: smbclient puts, lists and gets, the disk is lost, and it is
all there; and what each is for: Macs' metadata, exact spelling, few writers, nothing acknowledged that
is not in S3."""

import ctypes
import glob
import os
import subprocess
import tempfile
import time

from dirstore import object_keys
from local import is_resident
from smb import SmbError, Testbed, check, fail, step, wait_until

ROOT = os.environ["ROOT"]
EXAMPLES = ("standalone", "macos", "large-directory", "read-mostly", "archive", "snapshots")
PAYLOAD = os.urandom(3 << 20)
IO_URING_SETUP = 425
NEEDED = "# What every share needs"
SNAPSHOTS = tempfile.mkdtemp()
os.chmod(SNAPSHOTS, 0o755)


def text_of(name):
    with open(f"{ROOT}/smb.conf.d/{name}.conf", encoding="utf-8") as file:
        return file.read()


def settings(text):
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def texts():
    step("what every share needs is in every example, and Samba knows every word")
    check(text_of("standalone").startswith("# Local programs see zeros in stubs"),
          "standalone.conf does not begin with the warning")
    needed = settings(text_of("standalone").split(NEEDED)[1].split("\n", 1)[1])
    check(len(needed) > 10, f"needed: {needed}")
    for name in EXAMPLES:
        check(settings(text_of(name).split(NEEDED)[1].split("\n", 1)[1]) == needed,
              f"{name}.conf lacks some of {needed}")
    whole = tempfile.mktemp(prefix="smb.conf-")
    with open(whole, "w", encoding="utf-8") as file:
        file.write("\n".join(text_of(name) for name in EXAMPLES))
    done = subprocess.run(["testparm", "-s", whole], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    for word in ("nknown parameter", "gnoring", "rror", "found in service section"):
        check(done.returncode == 0 and word not in done.stdout, f"testparm says: {done.stdout}")


def smbclient(bed, commands, may_fail=False, **options):
    code, output = bed.smbclient(commands, **options)
    check(may_fail or (code == 0 and "NT_STATUS_" not in output), f"{commands}: {output}")
    return output


def round_trip(bed, name):
    """In and out by smbclient, before and after the loss of the disk."""
    work = tempfile.mkdtemp()
    with open(f"{work}/payload", "wb") as file:
        file.write(PAYLOAD)
    smbclient(bed, "mkdir deep; cd deep; put payload; put payload again; rename again other",
              cwd=work)
    for _ in range(2):
        check("other" in smbclient(bed, "ls deep/*"), f"{name}: the listing lacks a name")
        smbclient(bed, "get deep/other back", cwd=work)
        with open(f"{work}/back", "rb") as file:
            check(file.read() == PAYLOAD, f"{name}: other bytes came back")
        bed.flush()
        bed.wipe()


def standalone(_bed):
    pass


def macos(bed):
    step("a Mac's metadata, resource fork and names survive the loss of the disk")
    info = b"AFP\0\0\0\1\0" + bytes(8) + b"TEXTttxt" + bytes(36)
    fork = os.urandom(200000)
    name = "12\uf02230 notes"
    with bed.client() as client:
        client.put(name, b"noon", streams={"AFP_AfpInfo": info, "AFP_Resource": fork})
    bed.flush()
    check(any(key.split("/")[-1].startswith("._") for key in object_keys(bed)),
          f"the resource fork has no object: {object_keys(bed)}")
    bed.wipe()
    with bed.client() as client:
        names = {entry[0] for entry in client.list("")}
        check(name in names and not any(entry.startswith("._") for entry in names),
              f"names after the loss: {names}")
        check(client.get(name) == b"noon", "the data is another")
        check(client.get(f"{name}:AFP_AfpInfo") == info, "Finder's metadata is another")
        check(client.get(f"{name}:AFP_Resource") == fork, "the resource fork is another")
        client.unlink(name)
    bed.flush()
    check(not [key for key in object_keys(bed) if "notes" in key],
          f"left in the store: {object_keys(bed)}")


def large_directory(bed):
    step("names are taken as they are spelled")
    with bed.client() as client:
        client.put("Report", b"one")
        client.put("report", b"two")
        check(client.get("Report") + client.get("report") == b"onetwo", "one name for two files")
        try:
            client.get("REPORT")
            fail("a name in another spelling was searched for")
        except SmbError as error:
            check(error.name == "NT_STATUS_OBJECT_NAME_NOT_FOUND", f"another spelling: {error}")


def read_mostly(bed):
    step("only the writers write")
    output = smbclient(bed, "put /etc/hostname mine", may_fail=True, user=2)
    check("NT_STATUS_ACCESS_DENIED" in output, f"a reader writes: {output}")
    check("payload" in smbclient(bed, "ls deep/*", user=2), "a reader cannot read")


def archive(bed):
    step("what was closed is in the store; what is deleted goes to a folder; both are logged")
    with bed.client() as client:
        client.put("contract", b"signed")
        check("contract" in object_keys(bed), "closed, and not in the store")
        client.unlink("contract")
        check(client.get(".recycle/objectfs1/contract") == b"signed", "deleted without a trace")
    bed.flush()
    bed.wipe()
    with bed.client() as client:
        check(client.get(".recycle/objectfs1/contract") == b"signed", "gone with the disk")
    log = bed.log("smbd")
    for operation in ("create_file", "renameat"):
        check(f"|{operation}|ok|" in log, f"{operation} is not in the audit log")


def snapshots(bed):
    step("Previous Versions: what was here, and an error for what was not")
    version = f"@GMT-{time.strftime('%Y.%m.%d-%H.%M.%S', time.gmtime())}"
    work = tempfile.mkdtemp()
    smbclient(bed, "ls deep/*; get deep/other back", cwd=work)
    wait_until(lambda: is_resident(bed, "deep/other"), what="all of it is here")
    os.makedirs(f"{SNAPSHOTS}/{version}/versions")
    subprocess.run(["cp", "-a", "--reflink=auto", bed.mirror,
                    f"{SNAPSHOTS}/{version}/versions/tree"], check=True)
    smbclient(bed, "put /etc/hostname deep/other")
    smbclient(bed, f"get {version}/deep/other back", cwd=work)
    with open(f"{work}/back", "rb") as file:
        check(file.read() == PAYLOAD, "other bytes than there were")
    output = smbclient(bed, f"get {version}/deep/payload none", may_fail=True, cwd=work)
    check("NT_STATUS_IO_DEVICE_ERROR" in output and not os.path.exists(f"{work}/none"),
          f"a stub of a snapshot: {output}")


# What an example needs to be tested: more of [volume] and of the share.
SPECIAL = {
    "standalone": (standalone, [], []),
    "macos": (macos, [], []),
    "large-directory": (large_directory, ["listing age=1d"], []),
    "read-mostly": (read_mostly, ["listing age=5m"], ["write list=objectfs1"]),
    "archive": (archive, ["settle time=1h", "settle limit=1h"], ["full_audit:syslog=no"]),
    "snapshots": (snapshots, [], [f"shadow:snapdir={SNAPSHOTS}"]),
}


def has_io_uring():
    """Containers often switch it off."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(IO_URING_SETUP, 1, ctypes.create_string_buffer(120))
    if fd >= 0:
        os.close(fd)
    return fd >= 0


texts()
found = sorted(os.path.basename(path)[:-5] for path in glob.glob(f"{ROOT}/smb.conf.d/*.conf"))
check(found == sorted(EXAMPLES), f"examples: {found}")
for example in EXAMPLES:
    step(f"{example}.conf: in, out, the disk lost, out")
    function, volume, share = SPECIAL[example]
    if "io_uring" in text_of(example) and not has_io_uring():
        print("   without io_uring, which this machine does not allow")
        share = share + ["vfs objects=acl_xattr streams_xattr objectfs"]
    with Testbed(set=volume, smb=share, fragment=f"{ROOT}/smb.conf.d/{example}.conf") as testbed:
        round_trip(testbed, example)
        function(testbed)
