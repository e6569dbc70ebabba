#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 900
"""The main job on a real S3 server with real input: the Samba source tree (more than 10,000 files) in by
smbclient, drained, the disk lost, before the first read no data in the mirror, out again; compared by a
full SMB manifest (bytes, allinfo, security descriptor, EAs, streams), objects counted in the bucket."""

import glob
import hashlib
import os
import sys
import tempfile

from smb import Testbed, check, check_same, compare, fail, step

FILES_MIN = 10000
RICH = "source3/smbd"  # files of this directory get everything a file can have
ACL = "D:P(A;;0x1f01ff;;;SY)(A;;0x1f01ff;;;WD)(A;;0x1200a9;;;S-1-5-32-546)"


def source():
    """The source tree that the build unpacked."""
    root = os.environ.get("ROOT") or os.path.dirname(os.path.dirname(os.path.dirname(
        os.path.realpath(__file__))))
    found = sorted(glob.glob(f"{root}/build/samba-*/tree/source3"))
    check(found, "no build/samba-*/tree: remove build/samba-* and run make")
    return os.path.dirname(found[-1])


def digests(top):
    """({path: (size, sha256)}, directories) of a tree; a link is what it points to."""
    files, directories = {}, 0
    for directory, _, names in os.walk(top):
        directories += directory != top
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                data = file.read()
            files[os.path.relpath(path, top)] = (len(data), hashlib.sha256(data).hexdigest())
    return files, directories


def smbclient(bed, commands, cwd):
    code, output = bed.smbclient(commands, cwd=cwd, timeout_s=600)
    wrong = [line for line in output.splitlines()
             if line.startswith("NT_STATUS_") or " NT_STATUS_" in line]
    if code != 0 or wrong:
        fail(f"smbclient: exit {code}: " + "\n".join(wrong[:10] or output.splitlines()[-10:]))
    return output


def enrich(bed):
    """ACLs, EAs, streams, attributes and times on some of the files."""
    with bed.client() as client:
        names = sorted(entry[0] for entry in client.list(RICH))
        check(len(names) > 30, f"{RICH} has only {len(names)} names")
        for number, name in enumerate(names):
            path = f"{RICH}/{name}"
            file = client.create(path)
            if number % 3 == 0:
                client.set_eas(file, {"user": name.encode(), "number": b"%d" % number})
            if number % 4 == 1:
                client.set_sddl(file, ACL)
            client.close(file)
            if number % 5 == 2:
                stream = client.create(f"{path}:notes", disposition=5)
                client.write(stream, 0, b"on " + name.encode())
                client.close(stream)
            if number % 2 == 0:
                file = client.create(path)
                client.set_basic(file, attributes=0x22 if number % 6 else 0x21, times={
                    "create": 131000000000000000 + number * 10000019,
                    "write": 132000000000000000 + number * 10000019})
                client.close(file)
        return client.manifest(RICH)


def data_in(bed):
    """Files of the cache directory that hold data, beside the daemon's own."""
    found = []
    stubs = 0
    for room in ("tree", "trash", "limbo"):
        for directory, _, names in os.walk(os.path.join(os.path.dirname(bed.mirror), room)):
            for name in names:
                path = os.path.join(directory, name)
                fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
                try:
                    if os.fstat(fd).st_size > 0:
                        stubs += 1
                        os.lseek(fd, 0, os.SEEK_DATA)
                        found.append(path)
                except OSError:
                    pass  # ENXIO: no data
                finally:
                    os.close(fd)
    return stubs, found


def main():
    tree = source()
    expected, directories = digests(tree)
    check(len(expected) > FILES_MIN, f"{tree} has only {len(expected)} files")
    check(len({path.lower() for path in expected}) == len(expected),
          "names that differ in case only: not one share's content")
    filled = sum(size > 0 for size, _ in expected.values())

    with Testbed(store="rgw", set=["global.log level=notice"]) as bed, \
            tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as back:
        step(f"{len(expected)} files in {directories} directories in")
        output = smbclient(bed, "recurse\nprompt\nmput *\n", tree)
        check(output.count("putting file ") == len(expected), "smbclient did not put every file")
        before = enrich(bed)

        step("drain")
        bed.ctl("flush", "--wait", timeout_s=600)
        check(not bed.ctl_json("pending")["pending"], "something is pending after the drain")
        keys = bed.keys()
        objects = {key: size for key, size in keys.items() if not key.endswith("/")}
        wrong = sorted(set(objects) ^ set(expected))
        check(not wrong, f"{len(wrong)} keys are missing or too many: {wrong[:10]}")
        wrong = [key for key, size in objects.items() if size != expected[key][0]]
        check(not wrong, f"objects of another size: {wrong[:10]}")
        check(len(keys) - len(objects) <= directories, "more directory markers than directories")

        step("the disk is lost")
        bed.wipe()
        smbclient(bed, "recurse\nls\n", None)
        stubs, found = data_in(bed)
        check(not found, f"data before the first read: {found[:10]}")
        check(stubs == filled, f"{stubs} stubs for {filled} files")
        counters = bed.ctl_json("status")["counters"]
        check(counters["recall_bytes"] == 0, f"{counters['recall_bytes']} bytes before any read")

        step("out again")
        output = smbclient(bed, "recurse\nprompt\nmget *\n", back)
        check(output.count("getting file ") == len(expected), "smbclient did not get every file")
        got, _ = digests(back)
        wrong = sorted(path for path in set(got) | set(expected)
                       if got.get(path) != expected.get(path))
        check(not wrong, f"{len(wrong)} files differ: {wrong[:10]}")
        with bed.client() as client:
            after = client.manifest(RICH)
        check(compare(before, {}), "an empty manifest")
        check_same(before, after, f"{RICH} after the loss")
        check(not any(entry["offline"] for entry in after.values()), "read, and still a stub")

        left = [line for line in bed.log().splitlines() if "not shown" in line]
        check(not left, "names were left out:\n" + "\n".join(left[:10]))
        step("counters: " + ", ".join(
            f"{name} {value}" for name, value in bed.ctl_json("status")["counters"].items()
            if value and name.startswith(("s3_", "recall", "list"))))


if __name__ == "__main__":
    sys.exit(main())
