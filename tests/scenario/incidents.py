#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""How others lost data, each once more, against this daemon: incidents.py [CASE ...], cases by the name of the report.

Each case is a short form of what stands in the other scenarios; what happened there is its first line. The mutants
(tests/mutants/) are builds in which it would happen here: there the case must fail.
"""

import glob
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time

import smb2
from local import evict, is_out, is_resident
from smb import SmbError, Testbed, check, fail, ready, step, wait_until

MIB = 1 << 20
PARTS = 66 * MIB  # is sent in parts
CACHE = 64 * MIB
TRIES = 3  # that fail; each is later than the one before
SECOND_S = 30  # in which a second daemon has ended
ATTRIBUTES = smb2.READ_ATTRIBUTES | smb2.WRITE_ATTRIBUTES | smb2.READ_EA | smb2.WRITE_EA
CASES = {}  # name: (function, with a short disk)


def incident(name, short=False):
    def note(function):
        CASES[name] = (function, short)
        return function
    return note


def noise(seed, size):
    return random.Random(seed).randbytes(size)


class Store:
    """The bucket, and what goes wrong with it, for the files of one case."""

    def __init__(self, bed, case):
        self.bed, self.sim, self.dir = bed, bed.sim(), case

    def fault(self, op, name, do, **order):
        self.sim.fault(op, f"{self.bed.S3_PREFIX}{self.dir}/{name}", do, **order)

    def fails(self, *ops):
        """Of all files, until it is told otherwise."""
        for op in ops:
            self.sim.fault(op, f"{self.bed.S3_PREFIX}{self.dir}*" if op != "ListObjectsV2" else "*", "error", count=-1)

    def get(self, name):
        """None: there is none."""
        s3 = self.bed.s3()
        try:
            return s3.get_object(Bucket=self.bed.S3_BUCKET, Key=f"{self.bed.S3_PREFIX}{self.dir}/{name}")["Body"].read()
        except s3.exceptions.NoSuchKey:
            return None

    def put(self, name, data, **more):
        self.bed.s3().put_object(Bucket=self.bed.S3_BUCKET, Key=f"{self.bed.S3_PREFIX}{self.dir}/{name}", Body=data,
                                 **more)

    def restore(self, name):
        self.bed.s3().restore_object(Bucket=self.bed.S3_BUCKET, Key=f"{self.bed.S3_PREFIX}{self.dir}/{name}",
                                     RestoreRequest={"Days": 1})

    def has(self, name, data, what="in S3"):
        found = self.get(name)
        check(found is not None, f"{name}: no object")
        check(found == data, f"{name}: other bytes {what} ({len(found)} of {len(data)}, {found.count(0)} zeros)")

    def met(self):
        check(0 not in self.sim.hits(), f"a fault was not met: {self.sim.hits()}")
        self.sim.clear()


def pending(bed, path):
    return [item for item in bed.ctl_json("pending")["pending"] if item["path"] == path]


def reads(client, path, data, what="by the client"):
    found = client.get(path)
    check(found == data, f"{path}: other bytes {what} ({len(found)} of {len(data)}, {found.count(0)} zeros)")


def reads_right_or_not(client, path, data):
    """Right bytes, or an error; never anything else."""
    try:
        reads(client, path, data, "while the store fails")
        return True
    except SmbError:
        return False


def begins_right_or_not(client, path, data):
    """As above, of one read: nobody reads on, and nothing is whole that could be compared."""
    file = client.create(path, smb2.READ_DATA)
    try:
        found = client.read(file, 0, 65536)
    except SmbError:
        return False
    finally:
        client.close(file)
    check(found == data[:65536], f"{path}: begins with other bytes ({found.count(0)} zeros of {len(found)})")
    return True


def both_killed(bed):
    bed.stop("cached", kill=True)
    bed.stop("smbd", kill=True)


def both_started(bed):
    bed.start("cached")
    bed.start("smbd")
    ready(bed)


def leaves(bed, path):
    wait_until(lambda: evict(bed, path)[0] == 0 and is_out(bed, path), what=f"{path} leaves the disk")


# --- rclone -----------------------------------------------------------------------------------------
@incident("rclone-4293")
def upload_fails_unsaid(bed, store):
    """A browser's download, renamed when it was whole: its upload failed, a line on a terminal said so, nobody tried
    again, and after the next mount the file was gone."""
    data = noise("4293", 3 * MIB)
    store.fails("PutObject")
    with bed.client() as client:
        client.put("rclone-4293/x.crdownload", data)
        client.rename("rclone-4293/x.crdownload", "rclone-4293/x.pdf")
    wait_until(lambda: any(item["failures"] > 0 and "InternalError" in item["reason"]
                           for item in pending(bed, "rclone-4293/x.pdf")),
               what="pending names the file, and why it is not sent")
    check(bed.ctl("flush", "--wait", "--timeout", "1", may_fail=True)[0] != 0, "flush says that all is in S3")
    bed.restart("cached")
    with bed.client() as client:
        reads(client, "rclone-4293/x.pdf", data, "after a restart")
    store.met()
    bed.flush()
    store.has("x.pdf", data)


@incident("rclone-2382")
def retries_end(bed, store):
    """What could not be uploaded was deleted from the cache when its number of tries was used up."""
    data = noise("2382", MIB)

    def tries():
        return max((item["failures"] for item in pending(bed, "rclone-2382/kept")), default=0)

    store.fault("PutObject", "kept", "error", count=-1)
    with bed.client() as client:
        client.put("rclone-2382/kept", data)
        bed.ctl("flush")
        wait_until(lambda: tries() >= TRIES or not pending(bed, "rclone-2382/kept"), what="it is tried again and again")
        check(pending(bed, "rclone-2382/kept"), "nobody tries any more")
        sent = sum(store.sim.hits())
        check(sent <= 2 * (TRIES + 1), f"it was sent {sent} times in a moment: {TRIES} tries")
        check(evict(bed, "rclone-2382/kept")[0] != 0, "it was evicted")
        reads(client, "rclone-2382/kept", data)
    store.met()
    bed.flush()
    store.has("kept", data)


@incident("rclone-9530")
def cannot_reach(bed, store):
    """A remote that could not be asked was taken for one that had the file no more: the cached file was truncated."""
    here, away = noise("here", MIB), noise("away", MIB)
    with bed.client() as client:
        client.put("rclone-9530/here", here)
        client.put("rclone-9530/away", away)
        bed.flush()
        leaves(bed, "rclone-9530/away")
    for asked, restarted in ((["ListObjectsV2"], False), (["ListObjectsV2", "HeadObject", "GetObject"], False),
                             (["ListObjectsV2", "HeadObject", "GetObject"], True)):
        store.fails(*asked)
        if restarted:
            bed.restart("cached")
        else:  # a daemon that has not reached S3 yet lets who asks for it wait
            check(bed.ctl("refresh", "rclone-9530", may_fail=True)[0] != 0, "the listing did not fail")
        if len(asked) > 1:
            check(evict(bed, "rclone-9530/here")[0] != 0, "it was evicted though nobody knows that S3 has it")
        with bed.client() as client:
            names = {entry[0]: entry[2] for entry in client.list("rclone-9530")}
            check(names == {"here": MIB, "away": MIB}, f"while S3 cannot be asked: {names}")
            reads(client, "rclone-9530/here", here, "while S3 cannot be asked")
            if len(asked) > 1 and not restarted:
                check(not reads_right_or_not(client, "rclone-9530/away", away), "nothing failed")
        store.sim.clear()
    with bed.client() as client:
        bed.ctl("refresh", "rclone-9530")
        reads(client, "rclone-9530/away", away, "afterwards")
        reads(client, "rclone-9530/here", here, "afterwards")


@incident("rclone-9876")
def recovered_reads_empty(bed, store):
    """A new file whose upload was made up for after a restart read as empty, as the directory's listing was older;
    its removal said it had been done, and the object stayed."""
    data = noise("9876", MIB + 42)
    with bed.client() as client:
        client.put("rclone-9876/old", b"old")
        bed.flush()
        client.list("rclone-9876")
        bed.stop("cached", kill=True)
        client.put("rclone-9876/new", data)
        client.put("rclone-9876/removed", data)
    both_killed(bed)
    both_started(bed)
    with bed.client() as client:
        reads(client, "rclone-9876/new", data, "after a restart")
        bed.flush()
        store.has("new", data)
        store.has("removed", data)
        client.unlink("rclone-9876/removed")
        bed.flush()
        check(store.get("removed") is None, "its object outlives it")
        check(sorted(entry[0] for entry in client.list("rclone-9876")) == ["new", "old"], "its name outlives it")
        reads(client, "rclone-9876/new", data, "after its upload")
        leaves(bed, "rclone-9876/new")
        reads(client, "rclone-9876/new", data, "after it came back")


@incident("rclone-2227")
def second_daemon(bed, store):
    """Two processes had one cache directory: one removed what the other was uploading."""
    with open(bed.conf, encoding="utf-8") as file:
        lines = file.read().splitlines()
    mine = {"socket": f"{bed.dir}/second.socket", "run directory": f"{bed.dir}/second.run",
            "log file": f"{bed.dir}/second.log", "http listen": ""}
    conf = f"{bed.dir}/second.conf"
    with open(os.open(conf, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
        for line in lines:
            if line.split("=")[0].strip() not in mine:
                file.write(line + "\n")
            if line.strip() == "[global]":
                file.writelines(f"\t{key} = {value}\n" for key, value in mine.items())
    os.makedirs(mine["run directory"], exist_ok=True)
    child = subprocess.Popen([*shlex.split(bed.env["INSIDE"]), f"{os.environ['BUILD']}/objectfs-cached", "-c", conf,
                              "--foreground"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        said = child.communicate(timeout=SECOND_S)[0]
    except subprocess.TimeoutExpired:
        fail("a second daemon serves the same cache directory")
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if os.path.exists(mine["log file"]):
        with open(mine["log file"], encoding="utf-8") as file:
            said += file.read()
    check(child.returncode != 0 and "in use by another objectfs-cached" in said, f"{child.returncode}: {said}")
    with bed.client() as client:
        client.put("rclone-2227/first", b"goes on")
    bed.flush()
    store.has("first", b"goes on")


# --- JuiceFS ----------------------------------------------------------------------------------------
@incident("juicefs-6161", short=True)
def eviction_eats_staged(bed, store):
    """Uploads were late, and the cleaner of a full disk met the staged blocks first: they were gone, or it waited."""
    old, new = noise("old", 2 * MIB), noise("new", 2 * MIB)
    others = {f"juicefs-6161/other{number}": noise(number, 8 * MIB) for number in range(12)}
    with bed.client() as client:
        client.put("juicefs-6161/staged", old)
        for path, data in others.items():
            client.put(path, data)
        bed.flush()
    wait_until(lambda: bed.ctl("evict", "juicefs-6161", may_fail=True)[0] == 0, what="all leaves the disk")
    with bed.client() as client:
        reads(client, "juicefs-6161/staged", old)
        store.fault("PutObject", "staged", "error", count=-1)
        client.put("juicefs-6161/staged", new)
        wait_until(lambda: any(item["state"] == "retry" and item["failures"] > 1
                               for item in pending(bed, "juicefs-6161/staged")), what="it waits to be sent")
        code, said = evict(bed, "juicefs-6161/staged")
        check(code != 0 and not is_out(bed, "juicefs-6161/staged"), f"what S3 does not have was evicted: {code}: {said}")
        for path, data in others.items():
            reads(client, path, data, "while the disk is short and it cannot be sent")
        reads(client, "juicefs-6161/staged", new)
        store.met()
        bed.flush()
        store.has("staged", new)
        reads(client, "juicefs-6161/staged", new)


@incident("juicefs-5038")
def zeros_for_data(bed, store):
    """Blocks that could not be read, or were not there yet, were given out as zeros."""
    data = noise("5038", 5 * MIB + 11)
    path = "juicefs-5038/log"
    with bed.client() as client:
        client.put(path, data)
        bed.flush()
        for do, order in (("truncate", {"bytes": 4096}), ("reset", {"when": "after"}), ("truncate", {"bytes": 0})):
            leaves(bed, path)
            store.fault("GetObject", "log", do, count=-1, **order)
            check(not begins_right_or_not(client, path, data), "nothing failed")
            check(not reads_right_or_not(client, path, data), "nothing failed")
            check(not is_resident(bed, path), "it is called whole")
            store.met()
            reads(client, path, data, f"after {do}")
            wait_until(lambda: is_resident(bed, path), what="it is whole")
        leaves(bed, path)
    # one extent is held, the others are here; then nothing of it is believed any more
    store.fault("GetObject", "log", "stall", ms=-1, skip=2)
    with bed.client() as client:
        waiting = threading.Thread(target=reads_right_or_not, args=(client, path, data))
        waiting.start()
        wait_until(lambda: sum(store.sim.hits()) > 0, what="a read is held")
        bed.stop("cached", kill=True)
        store.sim.clear()
        bed.start("cached")
        waiting.join(120)
        check(not waiting.is_alive(), "the reader waits for ever")
    with bed.client() as client:
        reads(client, path, data, "after the daemon was killed")


@incident("juicefs-6551")
def staged_file_moves(bed, store):
    """The uploader opened a staged block by its old path, and there was none: an error in the log, for ever."""
    data = {name: noise(name, MIB) for name in ("one", "two", "three")}
    store.fault("PutObject", "d/one", "stall", ms=-1)
    with bed.client() as client:
        client.mkdir("juicefs-6551/d")
        client.put("juicefs-6551/d/one", data["one"])
        wait_until(lambda: sum(store.sim.hits()) > 0, what="its upload is held")
        client.put("juicefs-6551/d/two", data["two"])
        with bed.unheard():
            client.put("juicefs-6551/d/three", data["three"])
            client.rename("juicefs-6551/d/three", "juicefs-6551/3")
            client.rename("juicefs-6551/d/two", "juicefs-6551/d/2")
            client.rename("juicefs-6551/d/one", "juicefs-6551/d/1")
            client.rename("juicefs-6551/d", "juicefs-6551/e")
        store.sim.clear()
        bed.flush()
        for name, key in (("one", "e/1"), ("two", "e/2"), ("three", "3")):
            store.has(key, data[name])
            reads(client, f"juicefs-6551/{key}", data[name])
        check(store.get("d/one") is None and store.get("d/two") is None, "an object outlives its name")
    wait_until(lambda: not bed.ctl_json("pending")["pending"], what="nothing is pending")


@incident("juicefs-3143")
def staged_forgotten(bed, store):
    """Staged blocks of a former run were not taken up: what had been written before a restart never reached the store.
    (Its text could not be had any more; this is what the list it stands in says.)"""
    files = {f"f{number}": noise(number, 100000 + number) for number in range(20)}
    names = list(files)
    bed.flush()  # the directory is no news
    store.fails("PutObject")
    with bed.client() as client:
        for name in names[:10]:
            client.put(f"juicefs-3143/{name}", files[name])
        bed.ctl("flush")
        wait_until(lambda: any(item["failures"] for item in bed.ctl_json("pending")["pending"]), what="they cannot be sent")
        bed.stop("cached", kill=True)
        for name in names[10:]:
            client.put(f"juicefs-3143/{name}", files[name])
        client.rename("juicefs-3143/f0", "juicefs-3143/f0 renamed")
        files["f0 renamed"] = files.pop("f0")
    bed.stop("smbd", kill=True)
    rings = glob.glob(f"{bed.dir}/run/objectfs/*.rings/*.ring")
    check(rings, "there is no ring to lose")
    for ring in rings:  # as in a power cut
        os.unlink(ring)
    store.sim.clear()
    both_started(bed)
    # a flush would look for them by itself
    wait_until(lambda: {f"juicefs-3143/{name}" for name in files} <= set(bed.keys()), what="all of it is in S3")
    check(bed.ctl_json("status")["counters"]["hints"] == 0, "it was told after all")
    bed.flush()
    for name, data in files.items():
        store.has(name, data)


# --- s3fs -------------------------------------------------------------------------------------------
@incident("s3fs-1542", short=True)
def larger_than_the_disk(bed, store):
    """A file larger than the temporary disk, not in parts: flushed on the way, it had other bytes from its first on."""
    data, name = b"", "s3fs-1542/large"
    with bed.client() as client:
        file = client.create(name, smb2.READ_DATA | smb2.WRITE_DATA, disposition=smb2.FILE_CREATE)
        try:
            while len(data) < 2 * CACHE:
                piece = noise(len(data), 4 * MIB)
                client.write(file, len(data), piece)
                data += piece
                if len(data) == 16 * MIB:
                    bed.flush()
                    store.has("large", data)
        except SmbError as error:
            check(error.name == "NT_STATUS_DISK_FULL", f"{error}")
        check(MIB < len(data) < 2 * CACHE, f"{len(data)} bytes were taken")
        client.close(file)
        bed.flush()
        kept = store.get("large")
        # of the refused write a part may be there
        check(kept[:len(data)] == data, f"other bytes than were acknowledged: {kept[:len(data)].count(0)} zeros")
        reads(client, name, kept)
        client.unlink(name)
    bed.flush()


@incident("s3fs-2621", short=True)
def zero_filled_heads(bed, store):
    """Two large files at a time and a short disk: the first 15 of 20 GB were zeros, as the local file had been emptied
    while its end was still being written."""
    data = {name: noise(name, 24 * MIB) for name in ("one", "two")}
    with bed.client() as client:
        for name, whole in data.items():
            client.put(f"s3fs-2621/{name}", whole[:20 * MIB])
        bed.flush()
        for name in data:
            leaves(bed, f"s3fs-2621/{name}")

        def end(name, peer):
            file = peer.create(f"s3fs-2621/{name}", smb2.READ_DATA | smb2.WRITE_DATA)
            peer.write(file, 20 * MIB, data[name][20 * MIB:])
            peer.close(file)

        with bed.client() as other:
            side = threading.Thread(target=end, args=("two", other))
            side.start()
            end("one", client)
            side.join(120)
            check(not side.is_alive(), "it does not end")
        for name, whole in data.items():
            reads(client, f"s3fs-2621/{name}", whole)
        bed.flush()
        for name, whole in data.items():
            store.has(name, whole)
            client.unlink(f"s3fs-2621/{name}")
    bed.flush()


@incident("s3fs-435")
def zeros_in_the_middle(bed, store):
    """Eight of 31,500 files had the right size, and blocks of NUL among their bytes: written while they were sent."""
    data = noise("435", 6 * MIB)
    store.fault("PutObject", "gaps", "stall", ms=-1)
    with bed.client() as client:
        file = client.create("s3fs-435/gaps", smb2.READ_DATA | smb2.WRITE_DATA, disposition=smb2.FILE_CREATE)
        for at in (0, 2 * MIB, 5 * MIB):
            client.write(file, at, data[at:at + MIB])
        bed.ctl("flush")
        wait_until(lambda: sum(store.sim.hits()) > 0, what="it is being sent, with its gaps")
        for at in (MIB, 3 * MIB, 4 * MIB):
            client.write(file, at, data[at:at + MIB])
        client.close(file)
        store.sim.clear()
        store.fault("PutObject", "gaps", "reset", when="mid", bytes=3 * MIB)
        bed.flush()
        store.met()
        store.has("gaps", data)
        # and closed while it is sent: under a lease, not from a copy
        store.fault("PutObject", "gaps", "stall", when="before", ms=-1)
        client.put("s3fs-435/gaps", data[::-1])
        wait_until(lambda: sum(store.sim.hits()) > 0, what="it is being sent")
        file = client.create("s3fs-435/gaps", smb2.READ_DATA | smb2.WRITE_DATA)
        client.write(file, 2 * MIB, data[:MIB])
        client.close(file)
        store.sim.clear()
        bed.flush()
        store.has("gaps", data[::-1][:2 * MIB] + data[:MIB] + data[::-1][3 * MIB:])
        leaves(bed, "s3fs-435/gaps")
        reads(client, "s3fs-435/gaps", data[::-1][:2 * MIB] + data[:MIB] + data[::-1][3 * MIB:])


@incident("s3fs-1017")
def empty_stays(bed, store):
    """One of a thousand files copied by SMB was empty: an empty object is made first, and what came after it failed."""
    data = noise("1017", 3 * MIB)
    with bed.client() as client:
        file = client.create("s3fs-1017/file", smb2.READ_DATA | smb2.WRITE_DATA, disposition=smb2.FILE_CREATE)
        bed.flush()
        store.has("file", b"")
        store.fault("PutObject", "file", "error", count=2)
        store.fault("PutObject", "file", "reset", when="mid", bytes=MIB)
        client.write(file, 0, data)
        bed.flush()
        store.met()
        store.has("file", data, "of the open file")
        client.write(file, MIB, b"late")
        client.close(file)
        bed.flush()
        store.has("file", data[:MIB] + b"late" + data[MIB + 4:])


@incident("s3fs-1345")
def metadata_races_parts(bed, store):
    """While its parts were sent the time of a file was set, by a copy of the empty object onto itself: which came last,
    stayed."""
    data = noise("1345", PARTS)
    times = {"write": smb2.nt_time(1400000000)}
    store.fault("UploadPart", "moved in", "stall", ms=-1)
    with bed.client() as client:
        client.put("s3fs-1345/moved in", data)
        wait_until(lambda: sum(store.sim.hits()) > 0, what="its parts are being sent")
        file = client.create("s3fs-1345/moved in", ATTRIBUTES)  # which breaks no lease
        client.set_basic(file, attributes=smb2.ATTR_HIDDEN, times=times)
        client.set_eas(file, {"late": b"yes"})
        client.close(file)
        store.sim.clear()
        bed.flush()
        store.has("moved in", data)
        before = client.manifest("s3fs-1345", content=False)["moved in"]
        check(before["write"] == times["write"] and before["eas"], f"{before}")
    bed.wipe()
    with bed.client() as client:
        after = client.manifest("s3fs-1345", content=False)["moved in"]
        for field in ("size", "write", "attributes", "eas", "sd"):
            check(before[field] == after[field], f"{field}: {before[field]} became {after[field]}")
        reads(client, "s3fs-1345/moved in", data, "on a new disk")
        client.unlink("s3fs-1345/moved in")


# --- others -----------------------------------------------------------------------------------------
@incident("mlcommons-593")
def parts_are_dropped(bed, store):
    """One object of 6,000 lacked whole parts; its size was right, and the reads of it broke off."""
    data = noise("593", PARTS)
    store.fault("UploadPart", "npz", "error", count=2)
    store.fault("UploadPart", "npz", "reset", when="mid", bytes=MIB, skip=1)
    store.fault("UploadPart", "npz", "reset", when="after", skip=1)
    store.fault("UploadPart", "npz", "corrupt", when="mid", bytes=2 * MIB, skip=2)
    with bed.client() as client:
        client.put("mlcommons-593/npz", data)
        bed.flush()
        store.met()
        store.has("npz", data)
        leaves(bed, "mlcommons-593/npz")
        reads(client, "mlcommons-593/npz", data, "after it came back")
        client.unlink("mlcommons-593/npz")
    bed.flush()


@incident("file-gateway-invalid-object-state")
def invalid_object_state(bed, store):
    """File Gateway: what it had evicted was overwritten in the bucket and renamed on the share, or moved to an archive by
    a rule: InvalidObjectState, and the file could neither be read nor sent nor got rid of."""
    ours, theirs, later = noise("ours", MIB), noise("theirs", MIB + 5), noise("later", 1000)
    with bed.client() as client:
        client.put("file-gateway-invalid-object-state/A.txt", ours)
        client.put("file-gateway-invalid-object-state/cold", ours)
        bed.flush()
        leaves(bed, "file-gateway-invalid-object-state/A.txt")
        store.put("A.txt", theirs)
        client.rename("file-gateway-invalid-object-state/A.txt", "file-gateway-invalid-object-state/B.txt")
        bed.flush()
        bed.ctl("refresh", "file-gateway-invalid-object-state")
        store.has("B.txt", theirs)
        reads(client, "file-gateway-invalid-object-state/B.txt", theirs)
        check(store.get("A.txt") is None, "it has two names")

        path = "file-gateway-invalid-object-state/cold"
        metadata = bed.s3().head_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + path)["Metadata"]
        store.put("cold", ours, StorageClass="GLACIER", Metadata=metadata)
        bed.ctl("refresh", "file-gateway-invalid-object-state")
        wait_until(lambda: is_resident(bed, path) or reads_right_or_not(client, path, ours) is False, what="it is looked at")
        if is_resident(bed, path):
            check(evict(bed, path)[0] != 0 and not is_out(bed, path), "what S3 does not give out was evicted")
            reads(client, path, ours)
        else:
            store.restore("cold")
            wait_until(lambda: reads_right_or_not(client, path, ours), what="it is restored, and read")
        client.put(path, later)
        bed.flush()
        store.has("cold", later)
        reads(client, path, later)
        client.unlink(path)
        bed.flush()
        check(store.get("cold") is None, "it cannot be got rid of")
    check(not bed.ctl_json("pending")["pending"], "something is left pending")


def run(names, short):
    if not names:
        return
    begin = time.monotonic()
    with Testbed(store="s3sim", set=["settle time=100ms", "read patience=1s", *([f"cache size={CACHE}"] * short)]) as bed:
        for name in names:
            function = CASES[name][0]
            step(f"{name} ({time.monotonic() - begin:.0f} s)")
            with bed.client() as client:
                client.mkdir(name)
            function(bed, Store(bed, name))
            bed.sim().clear()


def main():
    names = sys.argv[1:] or list(CASES)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        sys.exit(f"incidents.py: no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    for short in (False, True):
        run([name for name in names if CASES[name][1] == short], short)


if __name__ == "__main__":
    main()
