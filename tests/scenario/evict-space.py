#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 280
"""A cache smaller than the data: it keeps its size while five times as much is written and read; files that nobody
opens leave it; warm stops when it is full; `cache free` is kept free. All that is pending counts, however many
files it is; when room is short nothing settles. With S3 away writers are slowed, then refused before anything is
acknowledged; what is here goes on, and all goes on by itself when S3 is back.
"""

import hashlib
import os
import threading
import time

import smb2
from local import counter, is_out, is_resident
from smb import SmbError, Testbed, check, step, wait_until
from tracer import HELD, Tracer, client_pid

MIB = 1 << 20
EVICT_AGE_S = 4
CACHE = 64 * MIB
HIGH = CACHE * 9 // 10
SIZES = (300000, MIB, 3 * MIB, 8 * MIB + 5)
FULL = "NT_STATUS_DISK_FULL"


def body(name, size):
    block = hashlib.sha256(name.encode()).digest() * 2048
    return (block * (size // len(block) + 1))[:size]


def cache(bed):
    return bed.ctl_json("status")["volumes"][0]["cache"]


class Watch(threading.Thread):
    """The most that was here within `with`, by the daemon's counter and by the disk."""

    def __init__(self, bed):
        super().__init__(daemon=True)
        self.bed, self.counted, self.blocks, self.ended = bed, 0, 0, False

    def run(self):
        while not self.ended:
            self.counted = max(self.counted, counter(self.bed, "cache_bytes"))
            self.blocks = max(self.blocks, self.bed.mirror_bytes())
            time.sleep(0.05)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        self.join()
        print(f"   at most {self.counted >> 20} MiB counted, {self.blocks >> 20} MiB on the disk", flush=True)

    def check(self, what):
        check(0 < self.counted <= CACHE, f"{what}: {self.counted >> 20} MiB by counter")
        # the tree is not walked in one moment: a file that goes and one that comes may both be seen
        check(self.blocks <= CACHE + max(SIZES), f"{what}: {self.blocks >> 20} MiB on the disk")


def five_times(bed):
    step("five times the cache is written: it keeps its size")
    names = [f"f{number:03}-{SIZES[number % 4]}" for number in range(5 * CACHE // sum(SIZES) * 4 + 4)]
    contents = {f"five/{name}": body(name, int(name.split("-")[1])) for name in names}
    check(sum(map(len, contents.values())) >= 5 * CACHE, "too little")
    with bed.client() as client:
        client.mkdir("five")
        with Watch(bed) as watch:
            for path, data in contents.items():
                client.put(path, data)
        watch.check("while it is written")
        step("and read: every byte is right, and the cache keeps its size")
        with Watch(bed) as watch:
            for path, data in contents.items():
                check(client.get(path) == data, f"{path}: other bytes")
        watch.check("while it is read")
    wait_until(lambda: counter(bed, "cache_bytes") <= HIGH, 20, "it is below the high mark")
    check(counter(bed, "evictions") > len(contents), "few files went")
    check(counter(bed, "evicted_bytes") > 4 * CACHE, "few bytes went")
    check(counter(bed, "cache_full") == 0, "writers were refused while S3 took everything")
    return contents


def warm_stops(bed):
    step("warm stops when the cache is full")
    code, text = bed.ctl("warm", "five", may_fail=True)
    check(code == 1 and "cache is full" in text, f"warm: exit {code}: {text}")
    check(counter(bed, "cache_bytes") <= CACHE, "warm filled more than the cache")
    wait_until(lambda: bed.ctl("evict", "five", may_fail=True)[0] == 0, 30, "all goes")
    wait_until(lambda: counter(bed, "cache_bytes") < MIB, 20, "nothing is left")


def nothing_settles(bed):
    step("nothing was looked at yet: all of it counts")
    number = 1300
    with bed.client() as client:
        client.mkdir("many")
        for one in range(number):
            client.put(f"many/{one:04}", body("many", 8192))
        here = bed.mirror_bytes()
        check(here >= number * 8192, "the files have no blocks yet")
        wait_until(lambda: counter(bed, "cache_bytes") >= here, 20, "every file is counted")
        check(counter(bed, "uploads") == 0, "it was sent before the settle time")
        step("more than the cache is written within the settle time: what is here is sent, nobody is refused")
        for one in range(2 * CACHE // MIB):
            client.put(f"large{one}", body(f"large{one}", MIB))
        check(counter(bed, "cache_full") == 0, "writers were refused while S3 took everything")
        for one in range(0, 2 * CACHE // MIB, 9):
            check(client.get(f"large{one}") == body(f"large{one}", MIB), "other bytes")


def fill_one(client, file):
    """Until a write is refused; what was acknowledged."""
    data = b""
    try:
        while len(data) < 2 * CACHE:
            piece = body(f"larger{len(data)}", MIB)
            client.write(file, len(data), piece)
            data += piece
    except SmbError as error:
        check(error.name == FULL, f"{error}")
        return data
    return check(False, f"{len(data)} bytes of unsent data were taken")


def larger_than_the_cache(bed):
    step("a file larger than the cache, held open: refused, and what was acknowledged is there; what has been on its "
         "way for long has its room")
    late = [body(f"late{number}", MIB) for number in range(4)]
    with bed.client() as slow:
        late_file = slow.create("late", smb2.WRITE_DATA, disposition=smb2.FILE_CREATE)
        with Tracer(client_pid(bed), "pwrite64", f"delay_enter={HELD}") as tracer, bed.client() as client:
            sent = [slow.send_write(late_file, number * MIB, data) for number, data in enumerate(late)]
            tracer.wait()
            file = client.create("larger", smb2.READ_DATA | smb2.WRITE_DATA, disposition=smb2.FILE_CREATE)
            data = fill_one(client, file)
            check(len(data) > CACHE // 2, f"refused after {len(data)} bytes")
            tracer.end()
            for message in sent:
                slow.end_write(message)
            here = bed.mirror_bytes()
            check(here <= CACHE, f"{here / MIB:.1f} MiB are here")
            check(client.read(file, len(data) - MIB, MIB) == data[-MIB:], "reads do not go on")
            client.close(file)
            wait_until(lambda: writes(client, "small"), 60, "writers go on when it is sent")
            check(client.get("larger") == data, "other bytes than were acknowledged")
            slow.close(late_file)
            check(client.get("late") == b"".join(late), "other bytes than were acknowledged")


def writes(client, name):
    try:
        client.put(name, b"small")
        return True
    except SmbError as error:
        check(error.name == FULL, f"{error}")
        return False


def fill(bed, client, top, contents):
    """Until a write is refused; what was acknowledged goes to contents. The waits a writer was told of."""
    waits = set()
    for number in range(2 * CACHE // MIB):
        path = f"{top}{number}"
        data = body(path, MIB)
        try:
            client.put(path, data)
        except SmbError as error:
            check(error.name == FULL, f"{error}")
            # made before its bytes were refused
            client.unlink(path)
            return waits | {cache(bed)["slow_us_per_mib"]}
        contents[path] = data
        waits.add(cache(bed)["slow_us_per_mib"])
    return check(False, "nothing was refused")


def store_away(bed):
    contents = {}
    with bed.client() as client:
        client.put("resident", body("resident", 5 * MIB))
        client.put("out", body("out", MIB))
        bed.flush()
        check(bed.ctl("evict", "out", may_fail=True)[0] == 0, "a clean file does not go")
        contents["resident"] = body("resident", 5 * MIB)
        step("S3 is away: writers are slowed, then refused")
        bed.stop("store")
        waits = fill(bed, client, "a", contents)
        used = bed.mirror_bytes()
        check(CACHE // 2 < used <= CACHE, f"refused with {used >> 20} MiB here")
        check(max(waits) > 0, "writers are not slowed")
        check(counter(bed, "cache_full") == 1 and cache(bed)["full"], "it is not counted")
        step("what is here goes on: reads, renames, deletes, truncation")
        for path, data in contents.items():
            check(client.get(path) == data, f"{path}: other bytes")
        client.rename("a0", "renamed")
        contents["renamed"] = contents.pop("a0")
        client.create("a1", smb2.WRITE_DATA, disposition=smb2.FILE_OVERWRITE)
        contents["a1"] = b""
        check(not writes(client, "refused"), "a write was taken")
        check(client.get("refused") == b"", "bytes of a refused write are there")
        client.unlink("refused")
        for number in range(2, 14):
            client.unlink(f"a{number}")
            del contents[f"a{number}"]
        wait_until(lambda: writes(client, "room"), 20, "deletes make room")
        contents["room"] = b"small"
        fill(bed, client, "b", contents)
    step("S3 is back: it recovers by itself, and nothing that was acknowledged is missing")
    bed.start("store")
    with bed.client() as client:
        wait_until(lambda: writes(client, "back"), 90, "writers go on")
        contents["back"] = b"small"
        bed.flush()
        contents["out"] = body("out", MIB)
        for path, data in contents.items():
            check(client.get(path) == data, f"{path}: other bytes")
    bed.wipe()
    with bed.client() as client:
        check(set(contents) == {entry[0] for entry in client.list("")}, "other names in S3")
        for path, data in contents.items():
            check(client.get(path) == data, f"{path}: other bytes in S3")


def age(bed):
    step("what nobody opens leaves; what is opened, and what is pinned, stays")
    with bed.client() as client:
        names = [f"old{number}" for number in range(40)]
        for name in (*names, "used", "pinned"):
            client.put(name, body(name, 50000))
        bed.flush()
        bed.ctl("pin", "pinned")

        opened, gap = time.monotonic(), 0

        def all_out():
            nonlocal opened, gap
            client.close(client.create("used", smb2.READ_DATA))
            opened, gap = time.monotonic(), max(gap, time.monotonic() - opened)
            return all(is_out(bed, name) for name in names)

        wait_until(all_out, 30, "old files leave", interval_s=0.3)
        check(is_resident(bed, "pinned"), "what is pinned left, too")
        # on a machine that slow, it was not in use for so long
        check(is_resident(bed, "used") or gap >= EVICT_AGE_S / 2, "what is in use left, too")
        check(client.get("old7") == body("old7", 50000), "other bytes")


def keeps_free(bed):
    step("cache free: clean files go while the file system has less; reads go on")
    names = [f"clean{number}" for number in range(5)]
    with bed.client() as client:
        for name in names:
            client.put(name, body(name, 50000))
    bed.flush()
    check(all(is_resident(bed, name) for name in names), "they went without need")
    fs = os.statvfs(bed.mirror)
    with open(bed.conf, "a", encoding="utf-8") as file:
        file.write(f"\tcache free = {(fs.f_bavail * fs.f_frsize >> 30) + 64}G\n")
    bed.restart("cached")
    wait_until(lambda: all(is_out(bed, name) for name in names), 20, "clean files leave")
    with bed.client() as client:
        check(client.get("clean0") == body("clean0", 50000), "other bytes")


def main():
    with Testbed(set=["settle time=100ms", "cache size=64M"]) as bed:
        for part in (five_times, warm_stops, larger_than_the_cache, keeps_free):
            part(bed)
    with Testbed(set=["settle time=1h", "settle limit=1h", "cache size=64M"]) as bed:
        nothing_settles(bed)
    with Testbed(store="rgw", set=["settle time=100ms", "cache size=64M"]) as bed:
        store_away(bed)
    with Testbed(set=["settle time=100ms", f"evict age={EVICT_AGE_S}s"]) as bed:
        age(bed)


if __name__ == "__main__":
    main()
