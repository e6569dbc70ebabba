#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 280
"""TROUBLESHOOTING: a share is set up by QUICKSTART on an S3 server, broken in each way that the
document lists, and mended with nothing but what it, doctor and status say. Every time: a client sees
what the table has for it, doctor names the finding with its remedy, the section's commands are typed
as they stand, and afterwards every file has its bytes, times and rights.

ONLY=TITLE in the environment: of one section."""

import glob
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

from machine import enter, is_inside
from procs import wait_until
from smb import SmbError, check, check_same, fail, nt_time, step
from typist import SECRET, Document, Server, commands

STATUS = re.compile(r"NT_STATUS_\w+")
STUBS = ("stub.bin", "damaged.bin")
TREE = "/var/cache/objectfs/projects/tree"
CREDENTIALS = "/etc/objectfs/credentials"
CLOCK_AHEAD_S = 3600
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static const int64_t *offset;
static int (*real)(clockid_t, struct timespec *);
__attribute__((constructor)) static void begin(void)
{
	real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	offset = mmap(NULL, 8, PROT_READ, MAP_SHARED, open("/run/clock", O_RDONLY), 0);
}
int clock_gettime(clockid_t id, struct timespec *t)
{
	int ret;

	if (!offset) {
		begin();
	}
	ret = real(id, t);
	t->tv_sec += id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE ? *offset : 0;
	return ret;
}
time_t time(time_t *t)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return t ? (*t = now.tv_sec) : now.tv_sec;
}
int gettimeofday(struct timeval *t, void *zone)
{
	struct timespec now;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	t->tv_sec = now.tv_sec;
	t->tv_usec = now.tv_nsec / 1000;
	return 0;
}
"""


# --- The ways to break it. At the first yield it is broken, and a client has looked; between the two
# --- the cause was shown, and the world outside may change; after the second it is mended.

def daemon_ended(server):
    os.kill(server.pid("objectfs-cached"), signal.SIGKILL)
    yield server.smbclient("ls")
    yield


def store_away(server):
    server.rgw.stop_gateway()
    yield read_stub(server)
    said = server.smbclient("put README.md late")
    check(not STATUS.search(said), f"writing while the store is away: {said}")
    server.rgw.start_gateway()
    yield


def bucket_gone(server):
    server.run("objectfsctl flush --wait")
    server.run("s3cmd sync --delete-removed s3://example-bucket/ s3://example-backup/")
    server.rgw.admin("bucket", "rm", "--bucket=example-bucket", "--purge-objects")
    yield read_stub(server)
    yield


def bucket_other(server):
    """A copy is put back after which something was changed."""
    server.run("objectfsctl flush --wait")
    server.run("s3cmd sync --delete-removed s3://example-bucket/ s3://example-backup/")
    server.run("systemctl restart objectfs-cached")

    def said_by_nodes():
        return server.run("s3cmd ls s3://example-bucket/projects/.objectfs/nodes/ | while read -r day hour size key; do "
                          "s3cmd --quiet get $key -; done")

    before = said_by_nodes()
    said = server.smbclient("put README.md late")
    check(not STATUS.search(said), said)
    server.run("objectfsctl flush --wait")
    wait_until(lambda: said_by_nodes() != before, 60, "the bucket is a later state")
    server.run("s3cmd sync --delete-removed s3://example-backup/ s3://example-bucket/")
    server.run("systemctl restart objectfs-cached")
    yield read_stub(server)
    yield


def denied(server):
    with open(CREDENTIALS, "r+", encoding="utf-8") as file:
        text = file.read().replace(SECRET, "S" * len(SECRET))
        file.seek(0)
        file.write(text)
    server.run("systemctl restart objectfs-cached")
    yield read_stub(server)
    yield


def clock_off(server):
    with open("/run/clock", "r+b") as file:
        file.write(struct.pack("q", CLOCK_AHEAD_S))
    said = read_stub(server)
    check(not STATUS.search(said), f"with a clock that is off: {said}")
    yield said
    yield


def disk_full(server):
    with open("/var/cache/objectfs/core", "wb") as file:
        for size in (1 << 20, 1 << 12):  # all of it, but for less than a block
            try:
                while True:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size << 6)
            except OSError:
                pass
    yield server.smbclient("put build/objectfs-cached large")
    yield


def read_only(server):
    with server.client() as client:
        with open(f"/sys/fs/ext4/{os.path.basename(server.disk)}/trigger_fs_error", "w",
                  encoding="ascii") as file:
            file.write("an error of the test\n")
        said = ""
        try:
            client.put("late", b"x")
        except SmbError as error:
            said = error.name
    yield said + " " + server.smbclient("ls")
    yield


def damaged(server):
    """Behind the S3 server: of what RADOS has of the object, the end is lost. It is sent anew
    before, because the copy in the other bucket would share it."""
    rados = ("rados", "-p", "default.rgw.buckets.data")
    before = set(server.rgw.admin("ls", program=rados).split())
    with server.client() as client:
        put(client, "damaged.bin")
    server.run("objectfsctl flush --wait; objectfsctl evict projects:damaged.bin")
    ends = [name for name in server.rgw.admin("ls", program=rados).split()
            if name not in before and "shadow" in name]
    check(len(ends) == 1, f"in RADOS: {ends}")
    server.rgw.admin("rm", *ends, program=rados)
    yield read_stub(server, "damaged.bin")
    yield


def rotten(server):
    """A bit flips on the disk, and no time says so."""
    server.run("objectfsctl warm projects:large.bin")
    with open(f"{TREE}/large.bin", "r+b") as file:
        times = os.fstat(file.fileno())
        byte = os.pread(file.fileno(), 1, 7 << 20)[0] ^ 16
        os.pwrite(file.fileno(), bytes([byte]), 7 << 20)
        os.utime(file.fileno(), ns=(times.st_atime_ns, times.st_mtime_ns))
    server.run("objectfsctl verify projects:large.bin", (1,))
    yield ""
    yield


def read_locally(server):
    """Where the guard is not: an older kernel, or the option."""
    server.run("sed -i '/^\\[volume /a guard = no' /etc/objectfs/objectfs.conf; "
               "systemctl restart objectfs-cached")
    with open(f"{TREE}/stub.bin", "rb") as file:
        zeros = not any(file.read())
    check(zeros, "nothing was wrong")
    yield ""
    yield
    with open(f"{TREE}/stub.bin", "rb") as one, open("/tmp/stub.bin", "rb") as two:
        check(one.read() == two.read() == FILES["stub.bin"], "other bytes")


def samba_upgraded(server):
    """The installed module is one that was built for the Samba before."""
    path = glob.glob("/usr/lib/*/samba/vfs/objectfs.so")[0]
    version = server.run("smbd -V").split()[1].split("-")[0]
    with open(path, "rb") as file:
        module = file.read()
    older = version.replace("4.", "3.", 1).encode()
    check(module.count(version.encode()) > 0, f"{path} does not name {version}")
    with open(path + ".new", "wb") as file:
        file.write(module.replace(version.encode(), older))
    os.rename(path + ".new", path)
    server.run("systemctl restart smbd")
    yield server.smbclient("ls")
    yield


def rebuilt(server):
    """Another disk, a Samba as the distribution has it, and of the old machine nothing."""
    server.run("systemctl stop smbd objectfs-cached; umount /var/cache/objectfs; "
               "dpkg --purge objectfs samba-vfs-objectfs; sed -i /objectfs/d /etc/fstab; "
               "userdel alice; wipefs --all /dev/vdb1")
    server.run("rm -rf /etc/objectfs /root/.s3cfg /run/objectfs /var/cache/samba/* "
               "/var/lib/samba/private/* /var/lib/samba/*.tdb")
    shutil.copy("/usr/share/samba/smb.conf", "/etc/samba/smb.conf")
    server.run("useradd --no-create-home --system somebody; systemctl start smbd")
    said = server.smbclient("ls")
    began = time.monotonic()
    server.type_one(commands(RECOVERY["Recovery"].blocks[0])[0])
    server.type(GUIDE["2. A disk for the cache"])
    yield said
    yield
    check("stub.bin" in server.smbclient("ls"), "the first listing")
    print(f"   from nothing to the first listing: {time.monotonic() - began:.1f} s", flush=True)


BREAKAGES = {
    "The daemon has ended": daemon_ended,
    "The store is not reached": store_away,
    "The bucket is gone": bucket_gone,
    "The bucket is not what it was": bucket_other,
    "The store refuses the credentials": denied,
    "The clock is off": clock_off,
    "The disk is full": disk_full,
    "The disk is read-only": read_only,
    "An object is damaged": damaged,
    "A file on the disk is damaged": rotten,
    "A local program reads zeros": read_locally,
    "Samba was upgraded": samba_upgraded,
    "The server was rebuilt": rebuilt,
}

# --- what is there, and a client that reads ------------------------------------------------------

FILES = {name: os.urandom(size) for name, size in (
    ("stub.bin", 300000), ("damaged.bin", 6 << 20), ("large.bin", 20 << 20), ("empty.txt", 0),
    ("deep/below/ümläut.txt", 5000), *((f"deep/{n}.txt", 100 * n) for n in range(1, 20)))}
SDDL = "D:P(A;;0x1f01ff;;;SY)(A;;0x1f01ff;;;WD)(A;;0x1200a9;;;S-1-5-32-546)"


def fill(server):
    with server.client() as client:
        for directory in ("deep", "deep/below"):
            client.mkdir(directory)
        for name in FILES:
            put(client, name)


def put(client, name):
    client.put(name, FILES[name], eas={"note": name.encode()},
               sddl=SDDL if name.startswith("deep/1") else None,
               times={"create": nt_time(1500000000), "write": nt_time(1600000000)})


def read_stub(server, name="stub.bin"):
    return server.smbclient(f"get {name} /tmp/got")


def table(document):
    """{section: (statuses, finding)} of the table at the top."""
    rows = re.findall(r"^\| (.+?) \| `([\w-]+)` \| \[([^]]+)\]", document.sections[1].text,
                      re.MULTILINE)
    found, before = {}, ""
    for seen, finding, title in rows:
        before = before if seen == "the same" else seen
        found[title] = (STATUS.findall(before), finding)
    return found


def remedies():
    """{finding: remedy} of the table in the sources."""
    with open("cached/admin/findings_table.h", encoding="utf-8") as file:
        text = re.sub(r'"\s+"', "", re.sub(r"\s*\\\n\s*", " ", file.read()))
    return dict(re.findall(r'D\([A-Z_]+, "([^"]+)",[^"]*"[^"]+", "[^"]*", "([^"]*)"\)', text))


def one(server, section, statuses, finding, before):
    began = time.monotonic()
    step(f"{section.title}: {finding}")
    breakage = BREAKAGES[section.title](server)
    said = next(breakage)
    seen = STATUS.findall(said)
    check(bool(seen) == bool(statuses) and set(seen) <= set(statuses),
          f"a client sees {said.strip()}, not {statuses}")
    wait_until(lambda: f"[{finding}]" in server.run("objectfsctl doctor", (0, 1)), 20,
               f"doctor finds {finding}")
    shown = server.type(section, slice(0, 1))
    check(f"[{finding}]" in shown and f"do: {remedies()[finding]}" in shown,
          f"{finding} and its remedy are not shown: {shown}")
    next(breakage)
    server.type(section, slice(1, None))
    for _ in breakage:
        fail("a breakage goes on")
    server.well()
    server.run("rm -f /tmp/got /tmp/stub.bin")
    with server.client() as client:
        for name in [entry[0] for entry in client.list("") if entry[0] in ("late", "large")]:
            client.unlink(name)
    check_same(before, server.manifest(), f"after {section.title}")
    server.run("objectfsctl flush --wait")
    for name in STUBS: # smbd may be about to close it
        wait_until(lambda n=name: re.search("^stay +0$", server.run(f"objectfsctl evict projects:{n}", (0, 1)),
                                            re.MULTILINE), 20, f"{name} leaves the disk")
    print(f"   {time.monotonic() - began:.1f} s", flush=True)


def main():
    document, operations = Document("docs/TROUBLESHOOTING.md"), Document("docs/OPERATIONS.md")
    rows = table(document)
    titles = [section.title for section in document.sections[2:]]
    check(set(rows) == set(titles) == set(BREAKAGES),
          f"table, sections and breakages differ: {set(rows) ^ set(titles) ^ set(BREAKAGES)}")
    with Server() as server:
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", "/run/clock.so", "-x", "c", "-"],
                       input=CLOCK, text=True, check=True)
        with open("/run/clock", "wb") as file:
            file.write(bytes(8))
        step("set up by the quick start")
        for section in GUIDE.sections:
            if re.match(r"\d\. ", section.title):
                server.type(section)
        fill(server)
        server.type(operations["Backup"])
        for name in STUBS:
            server.run(f"objectfsctl evict projects:{name}")
        before = server.manifest()
        for name in STUBS:
            server.run(f"objectfsctl evict projects:{name}")
        chosen = [title for title in titles if os.environ.get("ONLY", title) == title]
        for section in document.sections[2:]:
            if section.title in chosen:
                one(server, section, *rows[section.title], before)
        if chosen == titles:
            server.all_typed(document, RECOVERY)


GUIDE, RECOVERY = Document("docs/QUICKSTART.md"), Document("docs/RECOVERY.md")
if not is_inside():
    sys.exit(enter("--net"))
main()
