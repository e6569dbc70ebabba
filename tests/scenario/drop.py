#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
"""Stubs of a directory that nobody uses leave the mirror, and come back with all they were: by a listing, by a name,
after a kill at every step. What is open, pinned, here, or was used lately stays; nothing is deleted in the store.
"""

import os
import random
import signal
import threading
import time

import smb2
from local import counter, is_out, local_path
from smb import SmbError, Testbed, check, check_same, step, wait_until
from tracer import HELD, Tracer

MIB = 1 << 20
LISTING_AGE_S = 1
ACL = "D:P(A;;0x1f01ff;;;WD)(A;;0x1200a9;;;S-1-5-21-11-22-33-1000)"
TIMES = {"create": 131234567890123456, "access": 131234568190123456, "write": 131234568090123457,
         "change": 131234568090123457}


def data_of(name, size):
    return random.Random(name).randbytes(size)


def build(client):
    client.mkdir("cold")
    client.put("cold/plain", data_of("plain", 70000))
    client.put("cold/all", data_of("all", MIB + 5), sddl=ACL, eas={"user.e": b"1"},
               streams={"s": b"a stream"}, attributes=smb2.ATTR_HIDDEN | smb2.ATTR_ARCHIVE, times=TIMES)
    client.put("cold/large acl", b"x", sddl="D:P" + "".join(
        f"(A;;0x1200a9;;;S-1-5-21-11-22-33-{1000 + one})" for one in range(80)) + "(A;;0x1f01ff;;;WD)")
    client.put("cold/empty", b"", attributes=smb2.ATTR_READONLY, times=TIMES)
    client.put("cold/hollow", directory=True, attributes=smb2.ATTR_HIDDEN | 0x10)
    client.mkdir("cold/below")
    client.put("cold/below/deep", data_of("deep", 3000))
    for one in range(60):
        client.put(f"cold/below/{one:02}", data_of(str(one), 100 + one))
    client.mkdir("warm")
    client.put("warm/here", data_of("here", 5000))
    # of one, only the log knows the rights
    client.put("cold/logged", data_of("logged", 2000))


def files(bed, path):
    return sorted(name for _, _, names in os.walk(local_path(bed, path)) for name in names)


def out(bed, path="cold"):
    bed.flush()
    wait_until(lambda: bed.ctl("evict", path, may_fail=True)[0] == 0, 30, "all are stubs")


def drop(bed, path="cold"):
    out(bed, path)
    wait_until(lambda: bed.ctl("drop", path, may_fail=True)[0] == 0, 30, "all go")
    check(files(bed, path) == [], f"left: {files(bed, path)}")


def round_trip(bed, before):
    step("they go, and a listing brings them back with all they were")
    here = len(files(bed, "cold"))
    deletes = counter(bed, "deletes")
    drop(bed)
    check(counter(bed, "stubs_dropped") == here, f"{counter(bed, 'stubs_dropped')} of {here}")
    check(files(bed, "warm") == ["here"] and not is_out(bed, "warm/here"), "others went, too")
    check_same(before, bed.manifest("cold"), "after a listing")
    step("by name: one file comes back, the others do not")
    drop(bed)
    with bed.client() as client:
        check(client.get("cold/below/deep") == data_of("deep", 3000), "other bytes")
        check(files(bed, "cold") == ["deep"], f"here: {files(bed, 'cold')}")
        step("by change: names are renamed, written and deleted without having been listed")
        client.rename("cold/below/07", "cold/moved")
        client.put("cold/below/08", b"written")
        client.unlink("cold/below/09")
        names = {entry[0] for entry in client.list("cold/below")}
        check(names == {"deep", *(f"{one:02}" for one in range(60) if one not in (7, 9))}, f"{names}")
        bed.flush()
        check(counter(bed, "deletes") - deletes in (1, 2), "other objects were deleted")
        client.rename("cold/moved", "cold/below/07")
        client.put("cold/below/08", data_of("8", 108))
        client.put("cold/below/09", data_of("9", 109))


def stays_listed(bed):
    """False where all went after twice the age of a listing, on a machine that slow."""
    began = time.monotonic()
    bed.ctl("refresh", "cold")
    code, text = bed.ctl("drop", "cold", may_fail=True)
    if code == 0 and time.monotonic() - began >= 2 * LISTING_AGE_S:
        out(bed)
        return False
    check(code == 1 and "was used lately" in text, f"drop: exit {code}: {text}")
    return True


def refused(bed):
    def stays(why, path="cold"):
        code, text = bed.ctl("drop", path, may_fail=True)
        check(code == 1 and why in text, f"drop: exit {code}: {text}")

    out(bed)
    with bed.client() as client:
        step("a directory that was listed a moment ago stays")
        client.list("cold")
        wait_until(lambda: stays_listed(bed), what="a drop within a listing's age")
        step("so does one with a file that is open, that is here, or pinned")
        file = client.create("cold/plain", smb2.READ_DATA)
        here = files(bed, "cold/below")
        wait_until(lambda: bed.ctl("drop", "cold/below", may_fail=True)[0] == 0, 30, "the other goes")
        check(here and not files(bed, "cold/below"), "it did not")
        stays("was used lately")
        client.close(file)
        bed.ctl("pin", "cold")
        wait_until(lambda: "pinned" in bed.ctl("drop", "cold", may_fail=True)[1], 20, "the pin is told")
        bed.ctl("unpin", "cold")
        stays("has data here", "warm")
        check(bed.ctl("drop", "cold/plain", may_fail=True)[0] == 1, "a single file was dropped")
        step("who has one open for its attributes alone is told, and nothing is lost")
        file = client.create("cold/plain", smb2.READ_ATTRIBUTES | smb2.WRITE_ATTRIBUTES | 0xE0000)
        drop(bed)
        for change in (lambda: client.set_basic(file, smb2.ATTR_HIDDEN), lambda: client.set_sddl(file, ACL)):
            try:
                change()
                check(False, "something was set on a file that has gone")
            except SmbError as error:
                step(f"it is told: {error}")
        client.close(file)


def waits(bed, before):
    step("who lists it meanwhile waits, and misses nothing")
    check_same(before, bed.manifest("cold"), "after nobody's change")
    out(bed)
    seen = []

    def look():
        with bed.client() as client:
            seen.extend(entry[0] for entry in client.list("cold/below"))

    with Tracer(int(bed.cached_pid), "renameat2", f"delay_exit={HELD}:when=30",
                local_path(bed, "cold/below")) as tracer:
        dropping = threading.Thread(target=lambda: wait_until(
            lambda: bed.ctl("drop", "cold/below", may_fail=True)[0] == 0, 60, "all go"), daemon=True)
        dropping.start()
        wait_until(lambda: tracer.stands() and len(files(bed, "cold/below")) == 61 - 30, 40,
                   "it stands in the middle")
        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        looking.join(1)
        check(not seen, "a listing was answered in the middle")
    looking.join(60)
    dropping.join(60)
    check(len(seen) == 61, f"{len(seen)} names were seen")
    check_same(before, bed.manifest("cold"), "after a drop that was met")


def killed(bed, before):
    for call, when, path in (("fsetxattr", "delay_exit", "cold/below"),
                             ("renameat2", "delay_enter", "cold/below"),
                             ("renameat2", "delay_exit", "cold/below"),
                             ("unlinkat", "delay_exit", "../limbo")):
        step(f"the daemon is killed at {call}, {when}")
        out(bed)
        path = os.path.normpath(local_path(bed, path))
        with Tracer(int(bed.cached_pid), call, f"{when}={HELD}:when=1", path) as tracer:
            thread = threading.Thread(target=lambda: wait_until(
                lambda: bed.ctl("drop", "cold/below", may_fail=True)[0] in (0, 2), 60, "a drop"),
                daemon=True)
            thread.start()
            tracer.wait(40)
            os.kill(int(bed.cached_pid), signal.SIGKILL)
        bed.restart("cached", kill=True)
        thread.join(60)
        after = bed.manifest("cold")
        after["below"]["write"] = before["below"]["write"]  # the daemon was to put it back
        check_same(before, after, f"killed at {call}")
    bed.flush()
    check(counter(bed, "deletes") == 0, "objects were deleted")


def aged(bed):
    step("by age: what nobody uses goes by itself")
    with bed.client() as client:
        client.mkdir("old")
        for one in range(20):
            client.put(f"old/{one}", data_of(str(one), 1000))
        out(bed, "old")
        wait_until(lambda: not files(bed, "old"), 60, "it goes")
        for one in range(20):
            check(client.get(f"old/{one}") == data_of(str(one), 1000), "other bytes")


def main():
    with Testbed(set=["settle time=100ms", f"listing age={LISTING_AGE_S}s", "log flush=1s"]) as bed:
        with bed.client() as client:
            build(client)
            bed.flush()
            file = client.create("cold/logged")
            client.set_sddl(file, ACL)
            client.close(file)
        bed.flush()
        before = bed.manifest("cold")
        round_trip(bed, before)
        bed.flush()
        before = bed.manifest("cold")
        refused(bed)
        waits(bed, before)
        killed(bed, before)
        bed.flush()
        bed.wipe()
        check_same(before, bed.manifest("cold"), "after the loss of the disk")
    with Testbed(set=["settle time=100ms", "listing age=1s", "drop age=3s"]) as bed:
        aged(bed)


if __name__ == "__main__":
    main()
