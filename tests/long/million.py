#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 60 min; root, 2 GB: scenario/million with a million names, a base and a new disk
"""A directory of a million objects: listed by a client, all names and sizes right, in memory that is so many bytes a
name, while the core thread never works long on one thing; then what others changed in it, its base, and a new disk
that is listed with it, without a HEAD for each. Figures are printed; time is not judged.

usage: million.py [NAMES [short]]       a million: 1.5 GB below TMPDIR, and an hour; short: without base and new disk, as in
                                        scenario/million
"""

import os
import re
import sys
import time
import urllib.request

import dirstore
from smb import SmbError, Testbed, check, fail, step

NAMES = int(sys.argv[1]) if len(sys.argv) > 1 else 1000000
SOURCE_NAMES = 50000    # of one inode: ext4 allows 65,000
NAME_BYTES = 700        # of the daemon's memory, at most, for each name: rows, and a listing under way
FIXED_BYTES = 64 << 20
CLIENT_BYTES = 64 << 20  # an smbd, whatever the directory is
TURN_S = 0.25           # the core thread, for one thing: its processor time
LISTING_S = 6000
SHORT = sys.argv[2:] == ["short"]
SANITIZER = os.environ.get("SANITIZER")  # what it needs itself is not judged


def object_name(number):
    return f"report {number:07d}.txt"


def fill(bed):
    """As another program would; many names of one inode cost a place in a directory each."""
    directory = os.path.join(bed.store_dir, "objects", "many")
    os.makedirs(directory)
    for number in range(NAMES):
        if number % SOURCE_NAMES == 0:
            key = f"source/{number}"
            dirstore.put_object(bed, key, b"x" * (number // SOURCE_NAMES + 1))
        os.link(dirstore.object_path(bed, key), os.path.join(directory, object_name(number) + "%o"))
    return {object_name(number): number // SOURCE_NAMES + 1 for number in range(NAMES)}


def memory(pid):
    """Bytes that a process had at most, from then on anew."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        peak = int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1)) << 10
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    return peak


def clients_memory(bed):
    """Of the smbd that needed most."""
    peaks = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"smbd" in file.read() and os.getpgid(int(pid)) == os.getpgid(int(bed.smbd_pid)):
                    peaks.append(memory(pid))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it went meanwhile
    return max(peaks)


def longest_turn(bed):
    """Bound of the core thread's longest, in seconds of its processor time."""
    with urllib.request.urlopen(f"http://{bed.http}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    buckets = re.findall(r'^objectfs_core_seconds_bucket\{.*le="([^"]+)"\} (\d+)', text, re.MULTILINE)
    check(buckets, "no core_turn on the metrics page")
    return next(float(bound) for bound, count in buckets if count == buckets[-1][1])


def counted(bed):
    return bed.ctl_json("status")["counters"]


def seen(bed):
    """{name: size}; a client that waited too long asks again, and joins the listing that goes on."""
    deadline = time.monotonic() + LISTING_S
    while True:
        try:
            with bed.client(timeout_s=600) as client:
                return {name: size for name, _, size, *_ in client.list("many")}, clients_memory(bed)
        except SmbError as error:
            if time.monotonic() > deadline:
                fail(f"no listing within {LISTING_S} s: {error}")


def listed(bed, names, what):
    """One listing: all names and no other; what it cost."""
    before, begin = counted(bed), time.monotonic()
    memory(bed.cached_pid)
    found, client = seen(bed)
    daemon, turn = memory(bed.cached_pid), longest_turn(bed)
    spent = {name: value - before[name] for name, value in counted(bed).items()}
    print(f"   {what}: {len(found)} names in {time.monotonic() - begin:.0f} s; the daemon {daemon >> 20} MiB at most, "
          f"{daemon / NAMES:.0f} bytes a name, smbd {client >> 20} MiB; core turns up to {turn * 1000:.1f} ms; "
          f"{spent['s3_list']} LIST, {spent['s3_head']} HEAD, {spent['base_names']} by base", flush=True)
    if found != names:
        missing, other = sorted(names.keys() - found.keys()), sorted(found.keys() - names.keys())
        fail(f"{what}: {len(missing)} missing {missing[:3]}, {len(other)} unknown {other[:3]}, or other sizes")
    if SANITIZER:
        return spent
    check(daemon <= FIXED_BYTES + NAMES * NAME_BYTES, f"{what}: the daemon had {daemon} bytes")
    check(client <= CLIENT_BYTES, f"{what}: an smbd had {client} bytes")
    check(turn <= TURN_S, f"{what}: the core thread worked up to {turn} s on one thing")
    return spent


def others_change(bed, names):
    """One name goes, one comes, one is another object."""
    dirstore.delete_object(bed, "many/" + object_name(NAMES // 2))
    del names[object_name(NAMES // 2)]
    for name, size in (("a new one", 77), (object_name(NAMES // 3), 78)):
        dirstore.put_object(bed, "many/" + name, size=size)
        names[name] = size


def base_written(bed, times):
    deadline = time.monotonic() + LISTING_S
    while counted(bed)["bases_written"] < times:
        if time.monotonic() > deadline:
            fail("no base is written")
        time.sleep(0.5)


def main():
    pages = NAMES // 1000 + 2
    with Testbed(store="dir", set=["base quiet=0s" if SHORT else "base quiet=1s", "listing age=1d"]) as bed:
        step(f"{NAMES} objects")
        names = fill(bed)

        step("the first listing")
        spent = listed(bed, names, "cold")
        check(spent["stubs_made"] == NAMES, f"{spent['stubs_made']} stubs")

        if not SHORT:
            step("its base is written")
            base_written(bed, 1)

        step("others change three of them; listed anew")
        others_change(bed, names)
        before = counted(bed)
        bed.ctl("refresh", "many", timeout_s=LISTING_S)
        spent = {name: value - before[name] for name, value in counted(bed).items()}
        check(spent["s3_list"] <= 3 * pages and spent["s3_head"] <= 10,
              f"{spent['s3_list']} LIST and {spent['s3_head']} HEAD for three changes")
        spent = listed(bed, names, "known")
        check(spent["lists_asked"] == 0, "a directory that is listed was asked for")

        if not SHORT:
            step("a new disk, with the base")
            bed.wipe()
            spent = listed(bed, names, "by its base")
            check(spent["s3_head"] <= 10 and spent["base_names"] >= len(names) - 2, "the base was not used")

        step("the daemon starts again")
        bed.restart("cached")
        spent = listed(bed, names, "after a restart")
        check(spent["listings"] == 0, "S3 was asked again")


main()
