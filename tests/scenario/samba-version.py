#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""What hangs on Samba's version: a module built for another one is refused, and says so; the names that
smbd 4.22 gives directories until they are complete are nobody else's."""

import os
import re
import shutil

from dirstore import object_keys
from smb import SmbError, Testbed, check, fail, step

BUILT_FOR = b"objectfs.so was built for Samba "
DIRS = 30


def refused(bed):
    step("built for another series of Samba: refused, with what to do; put right: it serves at once")
    module = f"{bed.testbed_dir}/modules/objectfs.so"
    if not os.path.exists(module):
        print("   not where Samba's own modules would have to be touched")
        return
    shutil.copy(module, module + ".good")
    with open(module, "rb") as file:
        data = file.read()
    at = data.index(BUILT_FOR) + len(BUILT_FOR)
    series = re.match(rb"4\.(\d+)\.", data[at:])
    other = b"4.%02d." % (int(series[1]) - 1)
    with open(module + ".new", "wb") as file:
        file.write(data[:at] + other + data[at + len(other):])
    os.rename(module + ".new", module)
    try:
        with bed.client():
            fail("a module for another Samba serves")
    except SmbError as error:
        print(f"   {error}")
    wanted = f"{(BUILT_FOR + other).decode()}[0-9.]+ and this is Samba 4.*: build it again"
    check(re.search(wanted, bed.log("smbd")), f"not in smbd's log: {wanted}")
    os.rename(module + ".good", module)
    with bed.client() as client:
        client.put("served", b"again")


def made(bed):
    step("new directories are announced under their names alone")
    with bed.client() as client:
        for number in range(DIRS):
            client.mkdir(f"d{number}")
            client.mkdir(f"d{number}/below")
        try:
            client.mkdir("d0/below")
            fail("one directory was made twice")
        except SmbError as error:
            check(error.name == "NT_STATUS_OBJECT_NAME_COLLISION", f"made twice: {error}")
    bed.flush()
    keys = {f"d{number}/{below}" for number in range(DIRS) for below in ("", "below/")}
    check(keys <= object_keys(bed), f"not in the store: {keys - object_keys(bed)}")
    counters = bed.ctl_json("status")["counters"]
    for name in ("copies", "deletes", "renames_dir"):
        check(counters[name] == 0, f"{counters[name]} {name}")


def left(bed):
    step("what a killed smbd has left of one stays here")
    with bed.client() as client:
        bed.stop("cached", kill=True)
        client.mkdir("d0/more")
    os.mkdir(os.path.join(bed.mirror, "d0", ".::TMPNAME:D:4711%815:left"))
    bed.start("cached")
    bed.flush()
    check(bed.ctl_json("status")["counters"]["dirs_scanned"] > 0, "nothing was scanned")
    check("d0/more/" in object_keys(bed), "what is whole is not in the store")
    for what, text in (("the store", str(object_keys(bed))), ("the daemon's log", bed.log())):
        check("TMPNAME" not in text, f"a name of smbd's own is in {what}")


with Testbed(set=["settle time=0", "global.log level=debug"]) as testbed:
    refused(testbed)
    made(testbed)
    left(testbed)
