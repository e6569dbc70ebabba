#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 150
"""A walker through 300 directories that no client has seen (smbclient's recurse) costs the pages of one LIST of all
that is in them, not a LIST for each; names and sizes are right, also once others have put and deleted objects.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor

from smb import Testbed, check, configure, fail, step

TOPS, DIRS, FILES = 10, 30, 2
OWN = 40    # LISTs beside the pages: the top, those before the walk is seen, once more if the machine is slow
COUNTED = ("s3_list", "s3_head", "listings", "walks", "walk_pages", "walk_dirs")


def counted(bed):
    found = bed.ctl_json("status")["counters"]
    return {name: found[name] for name in COUNTED}


def every(bed, action, keys):
    s3 = bed.s3()
    with ThreadPoolExecutor(8) as workers:
        list(workers.map(lambda key: getattr(s3, action)(
            Bucket=bed.s3_bucket, Key=f"{bed.s3_prefix}tree/{key}",
            **({"Body": key.encode()} if action == "put_object" else {})), keys))


def walk(bed):
    """({path below tree: size}, what it cost)."""
    before = counted(bed)
    code, output = bed.smbclient("cd tree; recurse; ls")
    check(code == 0, output)
    found, at = {}, ""
    for line in output.splitlines():
        if line.startswith("\\tree"):
            at = line[len("\\tree"):].strip().lstrip("\\").replace("\\", "/")
        name = re.match(r"  (file \d+\S*) +\S+ +(\d+)  ", line)
        if name is not None:
            found[f"{at}/{name.group(1)}"] = int(name.group(2))
    spent = {name: value - before[name] for name, value in counted(bed).items()}
    print(f"   {spent}", flush=True)
    return found, spent


def same(found, keys, what):
    wanted = {key: len(key) for key in keys}
    if found != wanted:
        missing, other = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
        fail(f"{what}: {len(missing)} missing {missing[:3]}, {len(other)} that are no more {other[:3]}, or other sizes")


def main():
    keys = {f"top {top}/dir {number:02d}/file {file}" for top in range(TOPS)
            for number in range(DIRS) for file in range(FILES)}
    pages = len(keys) // 1000 + 1
    with Testbed(store="rgw", set=["base quiet=0s", "listing age=1d", "listing growth=1"]) as bed:
        every(bed, "put_object", keys)

        step("a walk through what nobody has seen")
        found, spent = walk(bed)
        same(found, keys, "cold")
        check(spent["listings"] == TOPS * DIRS + TOPS + 1, "so many directories were listed")
        check(spent["walks"] >= 1 and spent["walk_dirs"] >= TOPS * DIRS - OWN, "no walk was seen")
        check(spent["walk_pages"] <= pages + OWN and spent["s3_list"] - spent["walk_pages"] <= OWN,
              f"{spent['s3_list']} LIST for {pages} pages")
        # its name in S3 says that a directory has no object: but for those that were listed by themselves
        check(spent["s3_head"] <= len(keys) + DIRS * OWN // 10 + TOPS + 5, f"{spent['s3_head']} HEAD")

        step("others put and delete; what is known is over its age")
        gone = {key for key in keys if key.startswith("top 3/") and key.endswith("1")}
        new = {f"top {top}/dir 07/file {FILES}" for top in range(TOPS)} | {"top 0/new dir/file 1"}
        every(bed, "delete_object", gone)
        every(bed, "put_object", new)
        found, spent = aged(bed)
        same(found, (keys - gone) | new, "known")
        check(spent["walks"] >= 1 and spent["s3_head"] <= 2 * len(new), f"it cost {spent}")


def aged(bed):
    """A walk when all that is known is over its age."""
    bed.stop("cached")
    configure(bed, listing_age="1s")
    time.sleep(1.1)
    bed.start("cached")
    return walk(bed)


main()
