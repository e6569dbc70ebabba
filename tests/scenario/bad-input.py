#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 280
"""Bad input: unknown share or volume, wrong credentials, bucket missing, endpoint down at start, daemon
not running, wrong protocol version, malformed frames and ring records, unreadable configuration, a
mirror that cannot hold xattrs, second daemon on one cache directory, the wrong or an emptied bucket,
object replaced between listing and reading, object deleted under a stub, records copied by cp -a and
rsync -X. Each: clear message, right NT status, nothing lost.
"""

import glob
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time

import smb2
from dirstore import delete_object, get_object, object_keys, put_object
from smb import SmbError, Testbed, check, fail, refused, step, volume, wait_until


def counters(bed):
    return bed.ctl_json("status")["counters"]


def log_says(bed, part, pattern, what):
    """A line of the log, newer or older, that a person can act on."""
    found = re.findall(f"^.*(?:{pattern}).*$", bed.log(part), re.MULTILINE)
    check(found, f"{what}: the log of {part} says nothing like {pattern!r}")
    print(f"   {found[-1].strip()[:180]}")


def is_stub(bed, path):
    return bool(os.stat(os.path.join(bed.mirror, path)).st_mode & 0o1000)


def rewrite(path, *replacements):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for old, new in replacements:
        text = re.sub(old, new, text, flags=re.MULTILINE)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def daemon(bed, *argv):
    """(exit code, output) of another daemon that must not come to serve."""
    try:
        done = subprocess.run([f"{bed.testbed_build}/objectfs-cached", *argv], timeout=60,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
    except subprocess.TimeoutExpired:
        return fail(f"objectfs-cached {' '.join(argv)} runs")
    return done.returncode, done.stdout


# --- shares ---------------------------------------------------------------------------------------
def shares(bed):
    step("unknown share, unknown volume, wrong path, no daemon")
    with open(bed.smb_conf, encoding="utf-8") as file:
        section = re.search(r"^\[test\]\n(?:\t.*\n)+", file.read(), re.MULTILINE).group(0)
    with open(bed.smb_conf, "a", encoding="utf-8") as file:
        file.write(section.replace("[test]", "[badvolume]")
                   .replace("objectfs:volume = test", "objectfs:volume = nosuch"))
        file.write(section.replace("[test]", "[badpath]")
                   .replace(f"path = {bed.mirror}", f"path = {bed.dir}"))
        file.write(section.replace("[test]", "[badsocket]")
                   .replace(bed.socket, bed.socket + ".not"))
    bed.restart("smbd")
    refused("unknown share", lambda: bed.client(share="nosuch"), "NT_STATUS_BAD_NETWORK_NAME")
    # smbd's word for every module that refuses a connect
    gone = "NT_STATUS_UNSUCCESSFUL"
    refused("unknown volume", lambda: bed.client(share="badvolume"), gone)
    log_says(bed, "smbd", "badvolume.*refuses volume nosuch", "unknown volume")
    refused("path of no volume", lambda: bed.client(share="badpath"), gone)
    log_says(bed, "smbd", "badpath.*refuses volume test", "wrong path")
    refused("no daemon there", lambda: bed.client(share="badsocket"), gone)
    log_says(bed, "smbd", "badsocket.*no objectfs-cached answers", "no daemon")
    with bed.client() as client:
        client.put("kept", b"kept")
    bed.flush()


def no_daemon(bed):
    step("daemon not running")
    bed.stop("cached")
    code, output = bed.ctl("status", may_fail=True)
    check(code == 3, f"objectfsctl without a daemon: exit {code}")
    check(bed.socket in output, f"objectfsctl without a daemon says: {output}")
    print(f"   {output.strip()[:180]}")
    bed.start("cached")


# --- the socket -------------------------------------------------------------------------------------
MAGIC = 0x3153464f


def frame(length=24, major=1, op=1, magic=MAGIC, flags=0, body=b""):
    return struct.pack("<IIHHIQ", magic, length, major, op, flags, 7) + body


def talk(bed, data, hang_up=False):
    """What a daemon answers to raw bytes until it closes."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(bed.socket)
        answer = b""
        try:
            sock.sendall(data)
            if hang_up:
                return b""
            sock.shutdown(socket.SHUT_WR)
            while chunk := sock.recv(65536):
                answer += chunk
        except (ConnectionError, BrokenPipeError):
            pass
        except TimeoutError:
            fail(f"the daemon neither answers {data[:40]!r} nor closes")
        return answer


def frames(bed):
    step("wrong protocol version, malformed frames")
    with bed.client() as client:
        client.put("before", b"before")
        answer = talk(bed, frame(major=99))
        check(b"protocol version 99" in answer, f"to version 99 the answer is {answer!r}")
        log_says(bed, "cached", "protocol version 99", "wrong version")
        bad = [os.urandom(64), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", frame(magic=1), frame(length=3),
               frame(length=1 << 31), frame(length=24 + 4, op=1, body=b"\xff" * 4),
               frame(op=60000), frame(op=1, flags=1),
               frame(length=24 + 300, op=32, body=b"\xff" * 300), frame(op=2), frame(op=5),
               frame(length=24 + 12, op=4, body=b"\0" * 12)]
        before = counters(bed)["bad_frames"]
        for data in bad:
            talk(bed, data)
        for data in (b"", frame()[:10], frame(length=4000, op=1, body=b"x" * 10)):
            talk(bed, data, hang_up=True)
        ended = counters(bed)["bad_frames"] - before
        check(ended >= 8, f"{ended} bad frames were counted of {len(bad)}")
        log_says(bed, "cached", "malformed frame", "malformed frames")
        check(client.get("before") == b"before", "another connection suffered")
        client.put("after", b"after")
    bed.flush()
    check(get_object(bed, "after") == b"after", "what followed did not reach the store")


def rings(bed):
    step("malformed ring records")
    with bed.client() as client:
        client.mkdir("ring")
        client.put("ring/first", b"first")
        bed.flush()
        before = counters(bed)
        os.kill(int(bed.cached_pid), signal.SIGSTOP)
        for number in range(20):
            client.put(f"ring/file{number}", f"file {number}".encode())
        paths = glob.glob(f"{bed.dir}/run/objectfs/*.rings/*.ring")
        check(paths, "no ring")
        for path in paths:
            with open(path, "r+b") as file:
                for slot in range(1024):
                    file.seek(4096 + slot * 640 + 16)
                    file.write(os.urandom(100))
        os.kill(int(bed.cached_pid), signal.SIGCONT)
        wait_until(lambda: counters(bed)["hints_bad"] > before["hints_bad"], 20,
                   "damaged hints are counted")
        bed.flush()
        lost = [n for n in range(20) if get_object(bed, f"ring/file{n}") != f"file {n}".encode()]
        check(not lost, f"files {lost} did not reach the store")
        log_says(bed, "cached", "hints were lost or damaged", "damaged hints")

        step("a ring that is no ring any more")
        for path in paths:
            with open(path, "r+b") as file:
                file.truncate(100)
        try:
            client.put("ring/later", b"later")
        except (SmbError, OSError) as error:
            # its own mapping was pulled from under it: that process may end, the next one goes on
            print(f"   that client: {error}")
        check(counters(bed)["messages"] > 0, "the daemon lives")
    with bed.client() as client:
        client.put("ring/at last", b"at last")
    bed.flush()
    check(get_object(bed, "ring/at last") == b"at last", "a new connection's file")


# --- configuration --------------------------------------------------------------------------------------
def configuration(bed):
    step("configuration: file, line and reason")
    good = open(bed.conf, encoding="utf-8").read()
    path = os.path.join(bed.dir, "bad.conf")

    def verdict(text, *words):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        code, output = daemon(bed, "-c", path, "--check-config")
        check(code != 0, f"accepted: {words}")
        for word in (path, *words):
            check(word in output, f"{word!r} is not in {output!r}")
        check("Traceback" not in output and len(output) < 1000, f"unclear: {output}")
        print(f"   {output.strip().splitlines()[0][-120:]}")

    lines = good.count("\n")
    code, output = daemon(bed, "-c", bed.conf, "--check-config")
    check(code == 0, f"a good configuration: {output}")
    verdict(good + "\tsetle time = 3s\n", f":{lines + 1}:", "setle time")
    verdict(good + "\tparallel uploads = many\n", f":{lines + 1}:", "parallel uploads")
    verdict(good + "\tparallel uploads = 1000000\n", f":{lines + 1}:", "parallel uploads")
    verdict(good + "[volum x]\n", f":{lines + 1}:", "volum x")
    verdict(good + "nonsense\n", f":{lines + 1}:")
    verdict(good + "\tbucket = some\n", "bucket")
    verdict(re.sub(r"\tstore = dir\n", "", good), "store")
    verdict(re.sub(r"\tdirectory = .*\n", "", good), "directory")
    os.unlink(path)
    code, output = daemon(bed, "-c", path, "--check-config")
    check(code != 0 and path in output and "No such file" in output, f"missing: {output!r}")
    code, output = daemon(bed, "-c", bed.dir, "--check-config")
    check(code != 0 and bed.dir in output, f"a directory: {output!r}")
    code, output = daemon(bed, "-c", path, "--foreground")
    check(code != 0 and path in output, f"a daemon without configuration: {output!r}")
    secret = good.replace("store = dir", "store = s3").replace("\tdirectory", "\tbucket = b\n\t#")
    with open(path, "w", encoding="utf-8") as file:
        file.write(secret + "\taccess key = AK\n\tsecret key = sEcReT\n\tsetle = 1\n")
    code, output = daemon(bed, "-c", path, "--check-config")
    check(code != 0 and "sEcReT" not in output, f"the secret is shown: {output!r}")


def second_daemon(bed):
    step("a second daemon on one cache directory, or one socket")
    path = os.path.join(bed.dir, "second.conf")
    shutil.copy(bed.conf, path)
    rewrite(path, (r"^\tsocket = .*", f"\tsocket = {bed.dir}/run/second.sock"),
            (r"^\tlog file = .*\n", ""))
    code, output = daemon(bed, "-c", path, "--foreground")
    check(code != 0 and "in use by another objectfs-cached" in output, f"it says: {output!r}")
    print(f"   {output.strip()[-180:]}")
    other = os.path.join(bed.dir, "other")
    os.mkdir(other)
    shutil.copy(bed.conf, path)
    rewrite(path, (r"^\tcache directory = .*", f"\tcache directory = {other}"),
            (r"^\tlog file = .*\n", ""))
    code, output = daemon(bed, "-c", path, "--foreground")
    check(code != 0 and bed.socket in output, f"on the same socket it says: {output!r}")
    check(volume(bed)["state"] == "ready", "the first daemon suffered")


def no_xattrs(bed):
    step("a mirror that cannot hold xattrs")
    where = os.path.join(bed.dir, "ramfs")
    os.mkdir(where)
    if subprocess.run(["mount", "-t", "ramfs", "ramfs", where], check=False,
                      stderr=subprocess.DEVNULL).returncode != 0:
        print("   not tried: no ramfs can be mounted here")
        return
    try:
        path = os.path.join(bed.dir, "ramfs.conf")
        shutil.copy(bed.conf, path)
        rewrite(path, (r"^\tsocket = .*", f"\tsocket = {bed.dir}/run/ramfs.sock"),
                (r"^\trun directory = .*", f"\trun directory = {bed.dir}/run/ramfs"),
                (r"^\tcache directory = .*", f"\tcache directory = {where}"),
                (r"^\tlog file = .*\n", ""))
        code, output = daemon(bed, "-c", path, "--foreground")
        check(code != 0 and "no extended attributes" in output, f"it says: {output!r}")
        print(f"   {output.strip()[-180:]}")
    finally:
        subprocess.run(["umount", where], check=True)


# --- the bucket ---------------------------------------------------------------------------------------
def buckets(bed):
    step("an emptied bucket: nothing is removed locally")
    with bed.client() as client:
        client.mkdir("b")
        for number in range(5):
            client.put(f"b/{number}", f"number {number}".encode())
    bed.flush()
    names = {f"b/{number}" for number in range(5)}
    objects = os.path.join(bed.store_dir, "objects")
    bed.stop("cached")
    os.rename(objects, objects + ".away")
    os.mkdir(objects)
    held(bed, names, "wrong or emptied bucket")
    step("the wrong bucket")
    with Testbed(smbd=False) as other:
        with open(other.conf, encoding="utf-8") as file:
            check("store" in file.read(), "no store")
        wait_until(lambda: volume(other)["state"] == "ready", 20, "the other volume is ready")
        other.stop("cached")
        shutil.rmtree(objects)
        shutil.copytree(os.path.join(other.store_dir, "objects"), objects, symlinks=True)
    held(bed, names, "wrong bucket: this mirror belongs to volume")
    step("its own bucket again")
    shutil.rmtree(objects)
    os.rename(objects + ".away", objects)
    bed.start("cached")
    wait_until(lambda: volume(bed)["state"] == "ready", 20, "the volume is ready again")
    bed.flush()
    for name in ("b/while held", "b/3"):
        check(get_object(bed, name) == b"written while held", f"{name} did not reach the bucket")
    check(names <= object_keys(bed), "objects are missing")


def held(bed, names, why):
    before = object_keys(bed)
    bed.start("cached")
    wait_until(lambda: volume(bed)["state"] == "held", 20, "the volume is held")
    check(why in volume(bed)["why"], f"status says {volume(bed)['why']!r}")
    check(why in bed.ctl("status"), "objectfsctl status does not say why")
    log_says(bed, "cached", why, "held")
    with bed.client() as client:
        found = {f"b/{entry[0]}" for entry in client.list("b")}
        check(names <= found, f"only {sorted(found)} are left of the mirror")
        check(client.get("b/2") == b"number 2", "other bytes")
        client.put("b/while held", b"written while held")
        client.put("b/3", b"written while held")
    bed.ctl("refresh", "b", may_fail=True)
    code, _ = bed.ctl("flush", "--wait", "--timeout", "1", may_fail=True)
    check(code != 0, "flush --wait says that all is in a bucket that is not ours")
    check(object_keys(bed) == before, "objects were written to a bucket that is not ours")
    check(os.path.exists(os.path.join(bed.mirror, "b/1")), "files were removed")
    bed.stop("cached")


class Own:
    """A daemon without smbd, of volumes {name: (directory, prefix)}; entered: their states are what is wanted."""

    def __init__(self, bed, name, wanted, **volumes):
        self.where, self.wanted, self.build = f"{bed.dir}/{name}", wanted, bed.testbed_build
        os.makedirs(f"{self.where}/run")
        self.conf = f"{self.where}/objectfs.conf"
        with open(self.conf, "w", encoding="utf-8") as file:
            file.write(f"[global]\nsocket = {self.where}/s\nrun directory = {self.where}/run\n"
                       f"cache directory = {self.where}/cache\nhttp listen =\n")
            for volume_name, (directory, prefix) in volumes.items():
                file.write(f"[volume {volume_name}]\nstore = dir\ndirectory = {directory}\nprefix = {prefix}\n")
        os.mkdir(f"{self.where}/cache")

    def volumes(self):
        done = subprocess.run([f"{self.build}/objectfsctl", "-c", self.conf, "--json", "status"], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return {v["name"]: (v["state"], v["why"]) for v in json.loads(done.stdout)["volumes"]} \
            if done.returncode == 0 else {}

    def __enter__(self):
        self.process = subprocess.Popen([f"{self.build}/objectfs-cached", "-c", self.conf, "-F"],
                                        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: sorted(state for state, _ in self.volumes().values()) == self.wanted, 20,
                   f"{self.wanted}, not {self.volumes()}")
        return self.volumes()

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def nested(bed):
    step("a volume within another's prefix, or around it; one volume twice in a daemon")
    store = f"{bed.dir}/shared"
    with Own(bed, "first", ["ready"], v=(store, "a/b")):
        pass
    for name, prefix in (("within", "a/b/c"), ("deep", "a/b/c/d/e"), ("around", "a"), ("all", "")):
        with Own(bed, name, ["held"], v=(store, prefix)) as found:
            check("must not lie within each other" in found["v"][1] and '"a/b/"' in found["v"][1], f"{found}")
    for name, prefix in (("beside", "a/bc"), ("above", "c")):
        with Own(bed, name, ["ready"], v=(store, prefix)):
            pass
    check(sorted(glob.glob(f"{store}/objects/**/volume%o", recursive=True, include_hidden=True)) == [
        f"{store}/objects/{prefix}/.objectfs/volume%o" for prefix in ("a/b", "a/bc", "c")], "a record was written")
    shutil.copytree(store, f"{store}.copy")
    with Own(bed, "twin", ["held", "ready"], one=(store, "c"), two=(f"{store}.copy", "c")) as found:
        check(any("of this daemon is the same one" in (why or "") for _, why in found.values()), f"{found}")


def unreadable(bed):
    step("a volume record that asks more of readers: nothing is read or sent, what is here is served")
    with bed.client() as client:
        client.put("here", b"here")
        bed.flush()
    record, before = get_object(bed, ".objectfs/volume"), object_keys(bed)
    for change in ((b'"features": []', b'"features": ["new"]'), (b'"read_version": 1', b'"read_version": 2')):
        bed.stop("cached")
        put_object(bed, ".objectfs/volume", record.replace(*change))
        bed.start("cached")
        wait_until(lambda: volume(bed)["state"] == "held", 20, "the volume is held")
        check("newer version of this program to be read" in volume(bed)["why"], volume(bed)["why"])
        with bed.client() as client:
            check(client.get("here") == b"here", "what is here is not served")
    check(object_keys(bed) == before, f"written: {object_keys(bed) ^ before}")
    bed.stop("cached")
    put_object(bed, ".objectfs/volume", record)
    bed.start("cached")
    wait_until(lambda: volume(bed)["state"] == "ready", 20, "ready")


def read_only(bed):
    step("a volume record that asks more of writers: names and recalls go on, nothing is changed or sent")
    with bed.client() as client:
        client.mkdir("ro")
        client.put("ro/here", b"here")
        client.put("ro/away", b"away" * 5000)
        bed.flush()
        bed.ctl("evict", "ro/away")
        bed.stop("cached")
        client.put("ro/waits", b"written before anybody knew")
    record = get_object(bed, ".objectfs/volume")
    put_object(bed, ".objectfs/volume", record.replace(b'"features": []', b'"features": ["write-new"]'))
    put_object(bed, "ro/theirs", b"by another tool")
    before = object_keys(bed)
    bed.start("cached")
    wait_until(lambda: volume(bed)["state"] == "ready", 20, "the volume is ready, to read")
    check("write-new" in volume(bed)["read_only"] and "READ ONLY" in bed.ctl("status"), f"status: {volume(bed)}")
    log_says(bed, "cached", "READ ONLY.*write-new", "read-only")
    check("read-only" in bed.ctl("doctor", "--smb-conf", bed.smb_conf, may_fail=True)[1], "doctor")
    denied = "NT_STATUS_MEDIA_WRITE_PROTECTED"
    with bed.client() as client:
        bed.ctl("refresh", "ro")
        check({entry[0] for entry in client.list("ro")} == {"here", "away", "waits", "theirs"}, "names")
        check(client.get("ro/away") == b"away" * 5000 and client.get("ro/theirs") == b"by another tool" and
              client.get("ro/waits") == b"written before anybody knew", "bytes")
        for what, call in (
                ("create", lambda: client.put("ro/new", b"x")), ("mkdir", lambda: client.mkdir("ro/d")),
                ("open to write", lambda: client.create("ro/here", smb2.READ_DATA | smb2.WRITE_DATA)),
                ("overwrite", lambda: client.put("ro/here", b"x")), ("delete", lambda: client.unlink("ro/here")),
                ("open for all that is allowed", lambda: client.create("ro/here", smb2.MAXIMUM_ALLOWED)),
                ("rename", lambda: client.rename("ro/here", "ro/there")), ("rmdir", lambda: client.rmdir("ro")),
                ("set rights", lambda: client.create("ro/here", smb2.WRITE_DAC)),
                ("set times", lambda: client.create("ro/here", smb2.WRITE_ATTRIBUTES))):
            refused(what, call, denied)
        check(client.get("ro/here") == b"here" and len(client.list("ro")) == 4, "something was changed")
    code, text = bed.ctl("flush", "--wait", "--timeout", "1", may_fail=True)
    check(code == 1 and "read-only" in text, f"flush --wait: {code} {text}")
    check(object_keys(bed) == before, f"written: {object_keys(bed) ^ before}")
    step("the record as it was: what waits is sent")
    bed.stop("cached")
    put_object(bed, ".objectfs/volume", record)
    bed.start("cached")
    wait_until(lambda: volume(bed)["state"] == "ready" and volume(bed)["read_only"] is None, 20, "ready")
    bed.flush()
    check(get_object(bed, "ro/waits") == b"written before anybody knew", "it was not sent")
    with bed.client() as client:
        client.put("ro/new", b"x")
    bed.flush()


def replaced(bed):
    step("object replaced between listing and reading, deleted under a stub")
    put_object(bed, "x/replaced", b"old " * 500000)
    put_object(bed, "x/deleted", b"gone " * 1000)
    put_object(bed, "x/half", b"first" * 1000000)
    bed.ctl("refresh", bed.mirror)
    with bed.client() as client:
        check({entry[0] for entry in client.list("x")} == {"replaced", "deleted", "half"},
              "foreign objects are not listed")
        half = client.create("x/half", smb2.READ_DATA)
        check(client.read(half, 0, 5) == b"first", "half: other bytes")
        put_object(bed, "x/replaced", b"new " * 400000)
        put_object(bed, "x/half", b"SECOND" * 1000000)
        delete_object(bed, "x/deleted")

        try:
            data = client.get("x/replaced")
            check(data in (b"new " * 400000,), f"{len(data)} bytes {data[:8]!r}: no state it had")
        except SmbError as error:
            print(f"   replaced: {error.name}")
        try:
            data = client.read(half, 3000000, 60)
            check(data == (b"first" * 12), f"a mix of two states: {data[:12]!r}")
        except SmbError as error:
            print(f"   replaced while it is read: {error.name}")
        client.close(half)
        refused("a stub whose object is gone", lambda: client.get("x/deleted"), "NT_STATUS_OBJECT_NAME_NOT_FOUND")
        bed.ctl("refresh", "x")

        def settled():
            try:
                return client.get("x/replaced") == b"new " * 400000 and \
                    client.get("x/half") == b"SECOND" * 1000000 and \
                    {entry[0] for entry in client.list("x")} == {"replaced", "half"}
            except SmbError:
                return False

        wait_until(settled, 20, "after a refresh the share is what the bucket is")
    check(get_object(bed, "x/half") == b"SECOND" * 1000000, "another tool's object was changed")


# --- copies within the mirror ----------------------------------------------------------------------------
def copies(bed):
    step("records copied by cp -a and rsync -X")
    with bed.client() as client:
        client.mkdir("c")
        client.put("c/resident", b"resident" * 100)
        client.put("c/sent", b"sent" * 100)
    bed.flush()
    put_object(bed, "c/stub", b"stub" * 5000)
    bed.ctl("refresh", "c")
    with bed.client() as client:
        wait_until(lambda: "stub" in {entry[0] for entry in client.list("c")}, 20, "the stub shows")
        check(is_stub(bed, "c/stub"), "it is no stub")
    here = os.path.join(bed.mirror, "c")
    tools = {"cp": ["cp", "-a"], "rsync": ["rsync", "-aX"]}
    for tool, argv in list(tools.items()):
        if shutil.which(tool) is None:
            print(f"   not tried: {tool}")
            del tools[tool]
            continue
        for name in ("resident", "stub"):
            subprocess.run([*argv, f"{here}/{name}", f"{here}/{tool} of {name}"], check=True)
    # seen when a client next comes by
    with bed.client() as client:
        for tool in tools:
            check(client.get(f"c/{tool} of resident") == b"resident" * 100,
                  f"{tool} of resident: other bytes")
            file = client.create(f"c/{tool} of resident", smb2.READ_DATA | smb2.WRITE_DATA)
            client.write(file, 0, b"RESIDENT")
            client.close(file)
            refused(f"a stub's copy by {tool}", lambda t=tool: client.get(f"c/{t} of stub"),
                    "NT_STATUS_IO_DEVICE_ERROR")
    bed.flush()
    for tool in tools:
        check(get_object(bed, f"c/{tool} of resident") == b"RESIDENT" + b"resident" * 99,
              f"the copy by {tool} is not an object of its own")
        check(get_object(bed, f"c/{tool} of stub") is None, f"zeros were uploaded for {tool} of stub")
    log_says(bed, "smbd", "of stub.*a copy of a stub", "copied stubs")
    check(get_object(bed, "c/resident") == b"resident" * 100, "the original's object was changed")
    check(get_object(bed, "c/stub") == b"stub" * 5000, "the stub's object was changed")
    with bed.client() as client:
        check(client.get("c/stub") == b"stub" * 5000, "the original stub has other bytes")
        check(client.get("c/resident") == b"resident" * 100, "the original has other bytes")


# --- S3 -----------------------------------------------------------------------------------------------
def s3_fails(bed, what, pattern):
    """Shares are up, stubs say so, resident data is served."""
    wait_until(lambda: volume(bed)["state"] != "ready" and re.search(
        pattern, volume(bed)["why"] or "", re.IGNORECASE), 20, f"{what}: status says why")
    print(f"   {volume(bed)['state']}: {volume(bed)['why'][:170]}")
    secret = bed.s3_secret_key
    check(secret not in bed.log() + bed.ctl("status"), "the secret key is shown")
    with bed.client(timeout_s=60) as client:
        check(client.get("resident") == b"resident", f"{what}: resident data")
        client.put(f"written, {what}", what.encode())
        begin = time.monotonic()
        refused(f"a stub, {what}", lambda: client.get("stub"),
                "NT_STATUS_IO_TIMEOUT", "NT_STATUS_FILE_IS_OFFLINE", "NT_STATUS_NETWORK_BUSY",
                "NT_STATUS_HOST_UNREACHABLE", "NT_STATUS_ACCESS_DENIED",
                "NT_STATUS_UNEXPECTED_NETWORK_ERROR", "NT_STATUS_IO_DEVICE_ERROR",
                "NT_STATUS_RETRY", "NT_STATUS_MEDIA_WRITE_PROTECTED",
                "NT_STATUS_UNEXPECTED_IO_ERROR")
        check(time.monotonic() - begin < 45, "the refusal took very long")


def s3():
    with Testbed(store="rgw", set=["settle time=100ms", "settle limit=2s", "retries=1",
                                   "request timeout=2s"],
                 smb=["objectfs:request timeout=3", "objectfs:reconnect timeout=3"]) as bed:
        with bed.client() as client:
            client.put("stub", b"stub")
        bed.flush()
        bed.wipe()
        with bed.client() as client:
            client.put("resident", b"resident")
            client.list("")
        bed.flush()
        good = open(bed.conf, encoding="utf-8").read()

        def restore():
            with open(bed.conf, "w", encoding="utf-8") as file:
                file.write(good)

        for what, change, pattern in (
                ("wrong secret key", (r"^\tsecret key = .*", "\tsecret key = wrong"),
                 "secret key .* does not belong"),
                ("unknown access key", (r"^\taccess key = .*", "\taccess key = NOBODY"),
                 "does not know the access key"),
                ("bucket missing", (r"^\tbucket = .*", "\tbucket = no-such-bucket"),
                 "bucket .* does not exist")):
            step(what)
            rewrite(bed.conf, change)
            bed.restart("cached")
            s3_fails(bed, what, pattern)
            restore()
        step("endpoint down at start")
        bed.stop("store")
        bed.restart("cached")
        s3_fails(bed, "endpoint down", "cannot be reached")
        bed.start("store")
        wait_until(lambda: volume(bed)["state"] == "ready", 40, "it is tried again")
        with bed.client() as client:
            check(client.get("stub") == b"stub", "the stub when the store was back")
        bed.flush()
        keys = bed.keys()
        for what in ("wrong secret key", "unknown access key", "bucket missing", "endpoint down"):
            check(keys.get(f"written, {what}") == len(what), f"written, {what}: not in S3 in the end")


def main():
    with Testbed(set=["settle time=100ms", "settle limit=2s"],
                 smb=["objectfs:reconnect timeout=5"]) as bed:
        shares(bed)
        no_daemon(bed)
        frames(bed)
        rings(bed)
        configuration(bed)
        second_daemon(bed)
        no_xattrs(bed)
        nested(bed)
        unreadable(bed)
        read_only(bed)
        replaced(bed)
        copies(bed)
        buckets(bed)
    s3()


if __name__ == "__main__":
    main()
