#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""Bits that flip on the local disk: objectfsctl verify finds each, in files sent whole, in parts, by another tool, and on
a new disk; what is newer than S3 or in use is left alone; --repair fetches it again, and the bucket never sees a wrong
byte. A daemon that is killed within a repair leaves a stub. By itself it looks, and mends nothing."""

import hashlib
import json
import os
import random
import signal
import threading

import smb2
from local import counter, has_data, is_marked, is_resident, local_path
from smb import Testbed, check, step, wait_until

MIB = 1 << 20
SIZES = {"v/small": 5000, "v/mid": 3 * MIB + 5, "v/parts": 66 * MIB + 77, "v/foreign": 2 * MIB + 1}


def data_of(name):
    return random.Random(name).randbytes(SIZES.get(name, MIB + 9))


def flip(bed, path, at):
    """One bit, as a disk does it: no time says so."""
    name = local_path(bed, path)
    times = os.stat(name)
    file = os.open(name, os.O_RDWR)
    try:
        byte = os.pread(file, 1, at)[0] ^ 4
        os.pwrite(file, bytes([byte]), at)
        os.fsync(file)
    finally:
        os.close(file)
    os.utime(name, ns=(times.st_atime_ns, times.st_mtime_ns))


def verify(bed, *argv):
    """(exit status, answer)"""
    code, text = bed.ctl("--json", "verify", *argv, may_fail=True)
    try:
        return code, json.loads(text[:text.rindex("}") + 1])
    except ValueError:
        return code, {"text": text}


def all_right(bed, files, path="v"):
    code, answer = verify(bed, path)
    check(code == 0 and answer["files"] == files and answer["damaged"] == 0 and answer["untold"] == 0 and
          answer["failed"] == 0 and answer["stay"] == 0, f"exit {code}: {answer}")


def found(bed, paths, *argv):
    code, answer = verify(bed, *argv)
    names = sorted(each["path"] for each in answer.get("found", []))
    check(names == sorted(paths), f"exit {code}, found {names}, not {sorted(paths)}: {answer}")
    return code, answer


def state_of(bed):
    """{key: (ETag, time)}"""
    listed = bed.s3().list_objects_v2(Bucket=bed.S3_BUCKET, Prefix=bed.S3_PREFIX + "v/")
    return {each["Key"]: (each["ETag"], each["LastModified"]) for each in listed["Contents"]}


def has_finding(bed, what):
    return any(item.get("id") == what for item in bed.ctl_json("health")["components"])


def build(bed):
    with bed.client() as client:
        client.mkdir("v")
        for name in SIZES:
            if name != "v/foreign":
                client.put(name, data_of(name))
        bed.flush()
        bed.s3().put_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + "v/foreign", Body=data_of("v/foreign"))
        bed.ctl("refresh", "v")
        check(client.get("v/foreign") == data_of("v/foreign"), "another tool's object")
    wait_until(lambda: is_resident(bed, "v/foreign"), 20, "it is resident")


def damaged(bed, why):
    step(f"a bit flips in each of them: {why}")
    all_right(bed, len(SIZES))
    before, uploads = state_of(bed), counter(bed, "uploads")
    compared, told = counter(bed, "verify_bytes"), counter(bed, "verify_damaged")
    for name, size in SIZES.items():
        flip(bed, name, random.randrange(size))
    code, answer = found(bed, SIZES, "v")
    check(code == 1 and answer["damaged"] == len(SIZES) and answer["mended"] == 0, f"exit {code}: {answer}")
    check(has_finding(bed, "file-damaged"), "health does not tell of it")
    check(counter(bed, "verify_damaged") >= told + len(SIZES) and
          counter(bed, "verify_bytes") >= compared + sum(SIZES.values()), "it is not counted")
    with bed.client() as client:
        step("what a client changes of their metadata sends no byte of theirs")
        file = client.create("v/mid", smb2.READ_ATTRIBUTES | smb2.WRITE_ATTRIBUTES)
        client.set_basic(file, smb2.ATTR_HIDDEN)
        client.close(file)
        bed.flush()
        check(counter(bed, "uploads") == uploads and state_of(bed) == before, "something was sent")
        step("one is open: it stays as it is, and its reader reads on")
        file = client.create("v/small", smb2.READ_DATA)
        code, answer = found(bed, SIZES, "--repair")
        stays = {each["path"]: each["stays"] for each in answer["found"] if not each["mended"]}
        check(code == 1 and list(stays) == ["v/small"] and "open" in stays["v/small"], f"exit {code}: {answer}")
        check(len(client.read(file, 0, 5000)) == 5000, "it cannot be read")
        client.close(file)
        for name in SIZES:
            if name != "v/small":
                check(client.get(name) == data_of(name), f"{name} is not what it was")
    step("it is closed, and pinned: it is mended")
    bed.ctl("pin", "v/small")
    wait_until(lambda: verify(bed, "--repair", "v")[0] == 0, 30, "the last one is mended")
    bed.ctl("unpin", "v/small")
    with bed.client() as client:
        check(client.get("v/small") == data_of("v/small"), "v/small is not what it was")
    all_right(bed, len(SIZES))
    check(not has_finding(bed, "file-damaged"), "health still tells of it")
    check(counter(bed, "uploads") == uploads and state_of(bed) == before, "something was sent")


def left_alone(bed, sim):
    step("what is newer than S3, and what is open to be written, is left alone")
    with bed.client() as client:
        client.put("v/newer", data_of("v/newer"))
        bed.flush()
        sim.fault("PutObject", f"{bed.S3_PREFIX}v/newer", "stall", ms=-1)
        client.put("v/newer", b"other bytes by now" * 1000)
        file = client.create("v/mid", smb2.READ_DATA | smb2.WRITE_DATA)
        client.write(file, 100, b"CHANGED")
        code, answer = verify(bed, "--repair", "v")
        check(code == 0 and answer["stay"] == 2 and answer["damaged"] == 0, f"exit {code}: {answer}")
        client.write(file, 100, data_of("v/mid")[100:107])
        client.close(file)
        sim.clear()
        bed.flush()
        check(client.get("v/newer") == b"other bytes by now" * 1000, "what was newer")
        client.unlink("v/newer")
    bed.flush()
    all_right(bed, len(SIZES))


def killed(bed, sim):
    step("the daemon is killed within a repair: a stub is left, and the right bytes come")
    flip(bed, "v/mid", 12345)
    sim.fault("GetObject", f"{bed.S3_PREFIX}v/mid", "stall", ms=-1, count=-1)
    thread = threading.Thread(target=verify, args=(bed, "--repair", "v/mid"), daemon=True)
    thread.start()
    wait_until(lambda: sim.hits()[0] > 0, 30, "the repair stands at its GET")
    check(is_marked(bed, "v/mid") and not has_data(bed, "v/mid"), "it is no stub")
    os.kill(int(bed.cached_pid), signal.SIGKILL)
    bed.restart("cached", kill=True)
    thread.join(60)
    sim.clear()
    with bed.client() as client:
        check(client.get("v/mid") == data_of("v/mid"), "other bytes")
    wait_until(lambda: is_resident(bed, "v/mid"), 20, "it is resident")
    all_right(bed, len(SIZES))


def nothing_to_mend_with(bed, sim):
    step("S3 cannot be asked, or has nothing: what is here stays here")
    name = "v/last"
    with bed.client() as client:
        client.put(name, data_of("v/parts"))
    bed.flush()
    flip(bed, name, 44 * MIB)
    sim.fault("HeadObject", f"{bed.S3_PREFIX}{name}", "error", code="SlowDown", count=-1)
    code, answer = found(bed, [name], "--repair", name)
    check(code == 1 and "cannot be asked" in answer["found"][0]["stays"], f"exit {code}: {answer}")
    sim.clear()
    bed.s3().delete_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + name)
    code, answer = found(bed, [name], "--repair", name)
    check(code == 1 and "does not have it" in answer["found"][0]["stays"], f"exit {code}: {answer}")
    check(is_resident(bed, name), "it went, and nobody has it")


def renamed(bed):
    step("a rename that sends the file again, for its size, sends what S3 has")
    flip(bed, "v/mid", 77)
    passed = counter(bed, "copies_passed")
    with bed.client() as client:
        client.rename("v/mid", "v/moved")
        client.rename("v/foreign", "v/foreign too")
    bed.flush()
    for name, old in (("v/moved", "v/mid"), ("v/foreign too", "v/foreign")):
        body = bed.s3().get_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + name)["Body"].read()
        check(body == data_of(old), f"S3 has other bytes of {old} under its new name")
    check(counter(bed, "copies_passed") == passed + 1, "what is right was not sent from here, or what is wrong was")
    check(verify(bed, "--repair", "v/moved")[0] == 0, "it is not mended")
    with bed.client() as client:
        client.rename("v/moved", "v/mid")
        client.rename("v/foreign too", "v/foreign")
    bed.flush()


def on_s3sim():
    with Testbed(store="s3sim", set=["settle time=100ms", "retries=2", "verify rate=0", "copy limit=1M"]) as bed:
        sim = bed.sim()
        build(bed)
        gets = counter(bed, "s3_get")
        damaged(bed, "as they were sent")
        check(counter(bed, "s3_get") > gets, "nothing was fetched")
        left_alone(bed, sim)
        killed(bed, sim)
        step("a new disk knows what the store says of them")
        bed.flush()
        bed.wipe()
        bed.ctl("refresh", "v")
        bed.ctl("warm", "v")
        damaged(bed, "on a new disk")
        renamed(bed)
        nothing_to_mend_with(bed, sim)


def by_itself():
    step("in the background: what is damaged is found, and told, and nothing more")
    with Testbed(set=["settle time=100ms", "verify age=1s"]) as bed:
        with bed.client() as client:
            client.mkdir("v")
            for name in ("v/small", "v/mid"):
                client.put(name, data_of(name))
        bed.flush()
        flip(bed, "v/mid", 2 * MIB)
        wait_until(lambda: has_finding(bed, "file-damaged"), 30, "it is found")
        check(is_resident(bed, "v/mid") and counter(bed, "verify_mended") == 0, "it was mended by itself")
        bed.restart("cached", kill=True)
        wait_until(lambda: has_finding(bed, "file-damaged"), 30, "it is found after a restart")
        check(verify(bed, "--repair", "v")[0] == 0, "it is not mended")
        before = counter(bed, "verify_files")
        wait_until(lambda: counter(bed, "verify_files") > before + 3, 30, "the next passes")
        check(not has_finding(bed, "file-damaged"), "health still tells of it")


def on_rgw():
    step("Ceph RGW, which knows no checksums")
    name = "twenty"
    data = random.Random(name).randbytes(20 * MIB)
    with Testbed(store="rgw", set=["settle time=100ms"]) as bed:
        with bed.client() as client:
            client.put(name, data)
        bed.flush()
        bed.wipe()
        bed.ctl("refresh", ".")
        bed.ctl("warm", name)
        all_right(bed, 1, name)
        flip(bed, name, 15 * MIB + 3)
        code, _ = found(bed, [name])
        check(code == 1, "exit status 0")
        check(verify(bed, "--repair", name)[0] == 0, "it is not mended")
        with open(local_path(bed, name), "rb") as file:
            check(hashlib.sha256(file.read()).digest() == hashlib.sha256(data).digest(), "other bytes")
        check(counter(bed, "recalls_untold") == 0, "of a recall nothing was known")


def main():
    on_s3sim()
    by_itself()
    on_rgw()


if __name__ == "__main__":
    main()
