#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""Objects above the largest that a store copies by itself are renamed all the same: alone, in a
directory, swapped, foreign ones too, without their files becoming resident. The limit, 5 GiB for S3,
is set to 1 MiB here. A stop in between loses nothing and leaves one copy."""

import hashlib
import random
import sys

import dirstore
from smb import Testbed, check, step, wait_until
from smb2 import WRITE_DATA

BYTES = 20 << 20
COPIED = "copies_passed"


def data_of(name, size=BYTES):
    return random.Random(name).randbytes(size)


def contents(bed):
    """{key: SHA-256} of all objects but the volume's own; directories' markers aside."""
    if bed.env["S3_BUCKET"]:
        s3 = bed.s3()
        return {key: hashlib.sha256(s3.get_object(
            Bucket=bed.s3_bucket, Key=bed.s3_prefix + key)["Body"].read()).hexdigest()
                for key in bed.keys() if not key.endswith("/")}
    return {key: hashlib.sha256(dirstore.get_object(bed, key)).hexdigest()
            for key in dirstore.object_keys(bed) if not key.endswith("/")}


def put_foreign(bed, key, data):
    if bed.env["S3_BUCKET"]:
        bed.s3().put_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + key, Body=data,
                            ContentType="text/x-large", Metadata={"whose": "another tool's"})
    else:
        dirstore.put_object(bed, key, data)


def counters(bed):
    return bed.ctl_json("status")["counters"]


def verify(bed, expected, what):
    bed.flush()
    wait_until(lambda: not bed.ctl_json("pending")["pending"], 20, f"{what}: nothing is pending")
    found = contents(bed)
    wanted = {key: hashlib.sha256(data).hexdigest() for key, data in expected.items()}
    check(found == wanted, f"{what}: " + "; ".join(
        f"{key}: {'other bytes' if key in found and key in wanted else 'too many' if key in found else 'missing'}"  # noqa: E501 pylint: disable=line-too-long
        for key in sorted(set(found) | set(wanted)) if found.get(key) != wanted.get(key)))


def verify_share(bed, expected, what):
    manifest = bed.manifest()
    found = {path: entry["sha256"] for path, entry in manifest.items() if entry["type"] == "file"}
    wanted = {path: hashlib.sha256(data).hexdigest() for path, data in expected.items()}
    check(found == wanted, f"{what}: the share differs in "
          f"{sorted(k for k in set(found) | set(wanted) if found.get(k) != wanted.get(k))}")


def moved(expected, path, target):
    return {target + key[len(path):] if key == path or key.startswith(path + "/") else key: data
            for key, data in expected.items()}


def rename(bed, expected, path, target):
    with bed.client() as client:
        client.rename(path, target)
    return moved(expected, path, target)


def run(bed):
    expected = {"one": data_of("one"), "two": data_of("two", BYTES + 12345), "small": b"small"}
    expected["tree/foreign"] = data_of("foreign")
    with bed.client() as client:
        client.mkdir("tree")
        put_foreign(bed, "tree/foreign", expected["tree/foreign"])
        bed.ctl("refresh", "tree")
        for path, data in list(expected.items()):
            if "/" not in path:
                client.put(path, data)
        client.mkdir("tree/deep")
        for path in ("tree/deep/large", "tree/little"):
            expected[path] = data_of(path, BYTES if "large" in path else 1000)
            client.put(path, expected[path])
    verify(bed, expected, "new files")

    step("resident files renamed")
    before = counters(bed)
    expected = rename(bed, expected, "one", "uno")
    expected = rename(bed, expected, "small", "piccolo")
    verify(bed, expected, "a large and a small file renamed")
    after = counters(bed)
    check(after["copies"] - before["copies"] == 1, "the small one is copied by the store")
    check(after["upload_bytes"] - before["upload_bytes"] == BYTES and
          after["s3_bytes_in"] - before["s3_bytes_in"] < BYTES,
          "a resident large one is sent from here")
    with bed.client() as client:
        file = client.create("two", WRITE_DATA)
        client.write(file, 1000, b"changed")
        client.close(file)
        client.rename("two", "dos")
        client.rename("dos", "two 2")
        file = client.create("uno", WRITE_DATA)
        client.rename("uno", "eins")
        client.rename("eins", "uno 2")
        bed.ctl("flush")
        client.write(file, 2000, b"while it is open")
        client.close(file)
    data = expected.pop("two")
    expected["two"] = data[:1000] + b"changed" + data[1007:]
    data = expected.pop("uno")
    expected["uno"] = data[:2000] + b"while it is open" + data[2016:]
    expected = moved(moved(expected, "two", "two 2"), "uno", "uno 2")
    verify(bed, expected, "large files changed and renamed")
    check(counters(bed)[COPIED] == 0, "resident files passed through this machine")
    for path in ("two", "uno"):
        expected = rename(bed, expected, path + " 2", path)
    with bed.client() as client:
        client.put("in the way", b"a small one")
        client.rename("piccolo", "small")
        client.unlink("in the way")
        client.rename("two", "in the way")
    expected = moved(moved(expected, "piccolo", "small"), "two", "in the way")
    verify(bed, expected, "renamed to the name of a deleted file")
    expected = rename(bed, expected, "in the way", "two")
    verify(bed, expected, "and back")

    step("everything is a stub")
    bed.wipe()
    with bed.client() as client:
        client.list("")
        client.list("tree")
        client.list("tree/deep")
    before = counters(bed)
    expected = rename(bed, expected, "uno", "un")
    verify(bed, expected, "a large stub renamed")
    check(counters(bed)[COPIED] > before[COPIED], "it did not pass through this machine")
    expected = rename(bed, expected, "tree", "baum")
    verify(bed, expected, "a directory with large files renamed")
    check(counters(bed)[COPIED] == before[COPIED] + 3, "three large objects pass")
    with bed.client() as client:
        for path, target in (("un", "t"), ("two", "un"), ("t", "two")):
            client.rename(path, target)
    expected["un"], expected["two"] = expected["two"], expected["un"]
    verify(bed, expected, "two large stubs swapped")
    check(counters(bed)["recall_bytes"] == 0, "a rename filled files")
    if bed.env["S3_BUCKET"]:
        head = bed.s3().head_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + "baum/foreign")
        check(head["ContentType"] == "text/x-large" and
              head["Metadata"].get("whose") == "another tool's",
              f"a foreign object's headers: {head['ContentType']}, {head['Metadata']}")
    verify_share(bed, expected, "after all renames")

    step("daemon killed in between")
    for lose_disk in (False, True):
        top = "baum" if lose_disk else "arbre"
        before = counters(bed)["s3_bytes_out"]
        expected = rename(bed, expected, "arbre" if lose_disk else "baum", top)
        bed.ctl("flush")
        wait_until(lambda: counters(bed)["s3_bytes_out"] - before > BYTES // 3, 30,
                   "parts are sent", 0.01)
        bed.stop("cached", kill=True)
        if lose_disk:
            bed.wipe()
        else:
            bed.start("cached")
        wait_until(lambda: bed.ctl_json("status")["volumes"][0]["state"] == "ready", 60,
                   "the volume is ready")
        verify(bed, expected, f"killed, disk lost: {lose_disk}")
        verify_share(bed, expected, f"killed, disk lost: {lose_disk}")


def main():
    for store in ("rgw", "dir"):
        step(f"store {store}")
        with Testbed(store=store, set=["settle time=1s", "copy limit=1M"]) as bed:
            run(bed)
            bed.sound(content=False)


if __name__ == "__main__":
    sys.exit(main())
