#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
"""A directory's base: written when the directory is quiet, with few requests; on a new disk it spares a HEAD
for each file, and everything is as it was, rights too. What another program has written since, or what only
the log knows, is newer. Without it, or with a damaged one, the same costs a HEAD each.

BASE_FILES=N in the environment: so many files (the gate has 400).
"""

import json
import os
import time

from bucket_reader import read_bed
from smb import Testbed, check, check_same, fail, step
from smb2 import FILE_OPEN

FILES = int(os.environ.get("BASE_FILES", "400"))
QUIET_S = 1  # 7 s are the least: objects younger than 5 s do not go into a base
EVERYONE = "(A;;0x1f01ff;;;WD)"
KINDS = ["D:P" + EVERYONE, "D:P(A;;0x1200a9;;;S-1-5-32-546)" + EVERYONE,
         "D:P" + "".join(f"(A;;0x1200a9;;;S-1-5-21-11-22-33-{1000 + n})" for n in range(40)) + EVERYONE]
COUNTED = ("s3_head", "s3_get", "s3_list", "s3_put", "s3_delete", "base_names", "bases_written",
           "bases_unusable")


def counters(bed):
    found = bed.ctl_json("status")["counters"]
    return {name: found[name] for name in COUNTED}


def since(bed, before):
    return {name: value - before[name] for name, value in counters(bed).items()}


def base_keys(bed):
    return sorted(key for key in bed.keys(internal=True) if key.startswith(".objectfs/dir/"))


def base_rows(bed):
    """What the heads say."""
    rows = 0
    for key in base_keys(bed):
        if key.endswith("/head"):
            head = bed.s3().get_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + key)["Body"].read()
            rows += json.loads(head)["rows"] if head else 0
    return rows


def written(bed, rows):
    """Wait until the base has so many rows."""
    deadline = time.monotonic() + 90
    while base_rows(bed) != rows:
        if time.monotonic() > deadline:
            fail(f"{base_rows(bed)} rows in bases, not {rows}: {counters(bed)}")
        time.sleep(0.3)


def new_disk(bed):
    """The disk is lost; what it costs to have the directory as it was."""
    bed.wipe()
    with bed.client() as client:
        client.list("")
        before = counters(bed)
        begin = time.monotonic()
        client.list("many")
        took = time.monotonic() - begin
        spent = since(bed, before)
        manifest = client.manifest("many", content=False)
    print(f"   listed in {took:.1f} s: {spent}", flush=True)
    return spent, manifest


def fill(bed):
    with bed.client() as client:
        client.mkdir("many")
        for number in range(FILES):
            client.put(f"many/f{number:05d}", b"" if number % 7 == 0 else b"bytes %d" % number,
                       sddl=KINDS[number % len(KINDS)],
                       eas={"mine": b"%d" % number} if number % 50 == 0 else None,
                       streams={"s": b"x" * 900} if number % 100 == 1 else None)
    bed.flush()


def sound(bed, rows):
    share = read_bed(bed, content=False)
    if share.problems:
        fail("the reader finds:\n  " + "\n  ".join(share.problems[:10]))
    found = sum(len(base) for base in share.bases.values())
    check(found == rows, f"{found} rows in bases, not {rows}")
    return share


def main():
    with Testbed(store="rgw", set=[f"base quiet={QUIET_S}s", "settle time=1s"]) as bed:
        step(f"{FILES} files; the base comes when all is quiet")
        fill(bed)
        before = counters(bed)
        written(bed, FILES)
        spent = since(bed, before)
        print(f"   {FILES} files in S3, then {spent}", flush=True)
        pages, times = -(-FILES // 1000), spent["bases_written"]
        # a file whose time is not certain is asked for: one here and there
        check(times <= 2 and spent["s3_head"] <= FILES // 50 and spent["s3_list"] <= pages * times and
              spent["s3_put"] <= 2 * times and spent["s3_get"] <= 2 * times, f"the base cost {spent}")
        check(len(base_keys(bed)) == 2, f"{base_keys(bed)}")
        whole = bed.manifest("many", content=False)
        sound(bed, FILES)

        step("a new disk")
        spent, seen = new_disk(bed)
        check_same(seen, whole, "with the base")
        check(spent["s3_head"] <= 2 and spent["base_names"] == FILES and
              spent["s3_list"] <= pages + 1, f"it cost {spent}")

        step("rights that only the log knows; equal bytes of another program; a new file")
        with bed.client() as client:
            file = client.create("many/f00001", disposition=FILE_OPEN)
            client.set_sddl(file, KINDS[2])
            client.close(file)
        bed.flush()
        changed = bed.manifest("many", content=False)
        s3 = bed.s3()
        place = {"Bucket": bed.s3_bucket, "Key": f"{bed.s3_prefix}many/f00002"}
        body = s3.get_object(**place)["Body"].read()
        s3.put_object(Body=body, **place)
        s3.put_object(Bucket=bed.s3_bucket, Key=f"{bed.s3_prefix}many/new", Body=b"new")
        spent, seen = new_disk(bed)
        check("new" in seen, "a new object is not shown")
        check(seen["f00002"]["sd"] != whole["f00002"]["sd"], "rights of an object that is no more")
        check(spent["s3_head"] <= 4, f"two objects are other: it cost {spent}")
        for manifest in (seen, changed):
            for name in ("new", "f00002", ""):
                manifest.pop(name, None)
        check_same(seen, changed, "with other objects")
        sound(bed, FILES)

        step("a damaged chunk, then no base: the same for a HEAD each")
        chunk = [key for key in base_keys(bed) if not key.endswith("/head")][0]
        s3.put_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + chunk, Body=b"damaged")
        spent, seen = new_disk(bed)
        check(spent["s3_head"] >= FILES and spent["bases_unusable"] == 1, f"it cost {spent}")
        for name in ("new", "f00002", ""):
            seen.pop(name, None)
        check_same(seen, changed, "with a damaged base")
        written(bed, FILES + 1)
        sound(bed, FILES + 1)

        step("a directory that goes takes its base along")
        with bed.client() as client:
            for name, *_ in client.list("many"):
                client.unlink(f"many/{name}")
            client.rmdir("many")
        bed.flush()
        deadline = time.monotonic() + 30
        while base_keys(bed):
            if time.monotonic() > deadline:
                fail(f"left: {base_keys(bed)}")
            time.sleep(0.3)


main()
