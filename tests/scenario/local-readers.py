#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
"""Local programs that read the mirror. Guarded: sha256sum, cp -a, rsync -X and tar --xattrs of stubs get the
right bytes, also while the file leaves the disk, and when the daemon dies under them and a service manager
(a socket of ours) starts it again; an I/O error when S3 does not give them. Not guarded: zeros, and status
and doctor say so. Into the mirror: new files reach S3, copies of stubs are never believed."""

import errno
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading

from local import MARKER, counter, evict, is_marked, is_resident, local_path
from proxy import Proxy
from smb import SmbError, Testbed, check, fail, skip, step, wait_until
from tracer import HELD, Tracer, call_of, numbers

MIB = 1 << 20
PATIENCE_S = 4  # where it is tested; elsewhere it is longer than anything takes


def data_of(name):
    return random.Random(name).randbytes(3 * MIB + 77)


def guard(bed):
    return bed.ctl_json("status")["volumes"][0]["guard"]


def stubs(bed, *names):
    """Files of a client that only S3 has."""
    with bed.client() as client:
        for name in names:
            client.put(name, data_of(name))
    bed.flush()
    for name in names:
        wait_until(lambda n=name: evict(bed, n)[0] == 0 and is_marked(bed, n), 20, f"{name} leaves the disk")


def right(path, name, what):
    with open(path, "rb") as file:
        got = file.read()
    check(got == data_of(name), f"{what}: {len(got)} bytes, {got[:8]!r}..., are not those of {name}")


def run(*argv, **kwargs):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", check=False, timeout=60, **kwargs)
    check(done.returncode == 0, f"{argv}: {done.returncode}: {done.stdout}")
    return done.stdout


def aside(argv):
    """A local program in the background."""
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def waits(bed, count=1):
    wait_until(lambda: guard(bed)["waiting"] == count, 20, f"{count} local programs wait")


# --- reading ----------------------------------------------------------------------------------------
def reads(bed):
    step("a stub is read by a local program, and by smbd")
    stubs(bed, "sum", "smb")
    before = counter(bed, "guard_waits")
    check(run("sha256sum", local_path(bed, "sum")).split()[0] == hashlib.sha256(
        data_of("sum")).hexdigest(), "sha256sum read something else")
    check(is_resident(bed, "sum"), "it was read, and is not here")
    check(counter(bed, "guard_waits") == before + 1, "it did not wait once")
    right(local_path(bed, "sum"), "sum", "once more")
    check(counter(bed, "guard_waits") == before + 1, "a file that is here was asked about")
    passed = counter(bed, "guard_passed")
    with bed.client() as client:
        check(client.get("smb") == data_of("smb"), "smbd: other bytes")
    check(counter(bed, "guard_waits") == before + 1, "smbd waited like a local program")
    check(counter(bed, "guard_passed") > passed, "smbd was not seen")
    stubs(bed, "written")
    with open(local_path(bed, "written"), "r+b") as file:
        file.seek(MIB)
        file.write(b"local")
    with open(local_path(bed, "written"), "rb") as file:
        want = data_of("written")
        check(file.read() == want[:MIB] + b"local" + want[MIB + 5:], "a local write into a stub")


def other_disk(bed):
    """A directory on another file system than the mirror: cp then asks for holes before it reads."""
    if os.stat("/dev/shm").st_dev == os.stat(bed.mirror).st_dev:
        skip("/dev/shm is no file system of its own")
    return tempfile.TemporaryDirectory(dir="/dev/shm")


def backups(bed):
    step("cp -a, rsync -aX, tar --xattrs out of the mirror and back")
    tools = {
        "cp": lambda path, to: run("cp", "-a", path, to),
        "rsync": lambda path, to: run("rsync", "-aX", path, to + "/"),
        "tar": lambda path, to: run("sh", "-c", 'tar --xattrs --xattrs-include="*" -C "$1" -cf - "$2" | '
                                    'tar --xattrs --xattrs-include="*" -C "$3" -xf -', "sh",
                                    os.path.dirname(path), os.path.basename(path), to)}
    # of a directory: what a client has made there, and what is only in S3
    stubs(bed, *(f"of {tool}" for tool in tools))
    with other_disk(bed) as away:
        for tool, copy in tools.items():
            copy(local_path(bed, f"of {tool}"), away)
            right(f"{away}/of {tool}", f"of {tool}", tool)
            check(is_resident(bed, f"of {tool}"), f"{tool}: the file is not here")
        back(bed, tools, away)


def back(bed, tools, away):
    """The record and the marker come along, and belong to other inodes."""
    new = os.path.join(away, "new")
    os.mkdir(new)
    with open(f"{new}/plain", "wb") as file:
        file.write(data_of("plain"))
    os.chmod(f"{new}/plain", 0o666)
    with bed.client() as client:
        client.mkdir("in")
    for tool, copy in tools.items():
        os.mkdir(local_path(bed, f"in/{tool}"))
        os.chmod(local_path(bed, f"in/{tool}"), 0o777)
        copy(f"{new}/plain", local_path(bed, f"in/{tool}"))
        copy(f"{away}/of {tool}", local_path(bed, f"in/{tool}"))
    held = [tool for tool in tools if os.stat(local_path(bed, f"in/{tool}/of {tool}")).st_mode & MARKER]
    print(f"   with the marker of the stub: {held}")
    bed.ctl("refresh", "in")
    bed.flush()
    for tool in tools:
        check(sent(bed, f"in/{tool}/plain") == data_of("plain"), f"{tool}: plain is not in S3")
        if tool not in held:
            check(sent(bed, f"in/{tool}/of {tool}") == data_of(f"of {tool}"), f"{tool}: not in S3")
    with bed.client() as client:
        for tool in tools:
            check(client.get(f"in/{tool}/plain") == data_of("plain"), f"{tool}: plain")
        for tool in held:
            refused(bed, client, f"in/{tool}/of {tool}")
    check(held, "no tool brings the marker along: nothing was tried")
    os.chmod(local_path(bed, f"in/{held[0]}/of {held[0]}"), 0o666)
    bed.ctl("refresh", f"in/{held[0]}")
    bed.flush()
    check(sent(bed, f"in/{held[0]}/of {held[0]}") == data_of(f"of {held[0]}"), "not after chmod -t")


def sent(bed, name):
    """The object's bytes."""
    return bed.s3().get_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + name)["Body"].read()


def refused(bed, client, name):
    try:
        client.get(name)
        fail(f"{name}: marked as a stub, without a record of its own, and was read")
    except SmbError as error:
        check(error.name == "NT_STATUS_IO_DEVICE_ERROR", f"{name}: {error.name}")
    check(name not in bed.keys(), f"{name} was sent")
    check(f"{name} is a copied stub" in bed.log(), f"nothing in the log of {name}")


# --- while a file leaves --------------------------------------------------------------------------------
def leaving(bed):
    step("a program opens a file at the moment its data goes")
    with bed.client() as client:
        client.put("leaving", data_of("leaving"))
    bed.flush()
    path = local_path(bed, "leaving")
    with Tracer(int(bed.cached_pid), "fallocate", f"delay_enter={HELD}:when=1", path) as tracer:
        thread = threading.Thread(target=lambda: evict(bed, "leaving"))
        thread.start()
        tracer.wait()
        reader = aside(["sha256sum", path])
        wait_until(lambda: in_kernel(reader.pid), 20, "the program opens it")
    out, err = reader.communicate(timeout=60)
    check(out.split()[:1] == [hashlib.sha256(data_of("leaving")).hexdigest().encode()],
          f"sha256sum: {out!r} {err!r}")
    thread.join(60)


def in_kernel(pid):
    """In an open that does not return."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            sleeps = file.read().rsplit(")", 1)[1].split()[0] in ("S", "D")
        return sleeps and call_of(f"/proc/{pid}") in numbers("openat")
    except (OSError, IndexError):
        return False


def race(bed):
    step("programs read a file that leaves the disk again and again")
    stubs(bed, "race")
    stop = threading.Event()
    wrong = []

    def reader():
        want = hashlib.sha256(data_of("race")).hexdigest()
        while not stop.is_set():
            done = subprocess.run(["sha256sum", local_path(bed, "race")], capture_output=True, text=True,
                                  check=False, timeout=60)
            if done.stdout.split()[:1] != [want]:
                wrong.append(done)
                return

    thread = threading.Thread(target=reader)
    thread.start()
    gone = counter(bed, "evictions")
    wait_until(lambda: bool(evict(bed, "race")) and (counter(bed, "evictions") >= gone + 10 or bool(wrong)),
               60, "it has left ten times")
    stop.set()
    thread.join(60)
    check(not wrong, f"zeros, or an error: {wrong}")


# --- failures and restarts ------------------------------------------------------------------------------
def configure(bed, text):
    """The daemon with this configuration, all stubs guarded."""
    with open(bed.conf, "w", encoding="utf-8") as file:
        file.write(text)
    bed.restart("cached")
    guarded(bed)


def guarded(bed):
    wait_until(lambda: guard(bed)["state"] == "on", what="all is guarded")


def patience(bed, proxy):
    step("S3 does not answer: an I/O error, in time, and a line in the log")
    stubs(bed, "held")
    with open(bed.conf, encoding="utf-8") as file:
        text = file.read()
    configure(bed, text.replace("guard patience = 60s", f"guard patience = {PATIENCE_S}s"))
    errors = counter(bed, "guard_errors")
    proxy.hold("GET", "held")
    try:
        with open(local_path(bed, "held"), "rb") as file:
            fail(f"a stub was opened: {file.read(8)!r}")
    except OSError as error:
        check(error.errno == errno.EIO, f"{error}")
    finally:
        proxy.release()
    check(counter(bed, "guard_errors") == errors + 1, "the error is not counted")
    wait_until(lambda: "/held: process" in bed.log() and "I/O error instead of zeros" in bed.log(), what="the log says so")
    configure(bed, text)
    right(local_path(bed, "held"), "held", "later")


class Manager:
    """In the place of systemd: starts the daemon, keeps its descriptors, gives them to the next one."""

    def __init__(self, bed):
        self.bed = bed
        self.path = tempfile.mktemp(dir=os.environ["TMPDIR"])
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(60)
        self.kept = {}
        self.child = None

    def inside(self):
        space = f"/proc/{self.bed.smbd_pid}/ns/mnt"
        own = os.readlink(space) == os.readlink("/proc/self/ns/mnt")
        return [] if own else ["nsenter", f"--mount={space}", "--"]

    def start(self):
        script = f"exec env NOTIFY_SOCKET={self.path} "
        if self.kept:
            script += f"LISTEN_PID=$$ LISTEN_FDS={len(self.kept)} LISTEN_FDNAMES={':'.join(self.kept)} "
        script += '"$@" ' + " ".join(f"{3 + n}<&{fd} {fd}<&-" for n, fd in enumerate(self.kept.values()))
        self.child = subprocess.Popen(
            [*self.inside(), "bash", "-c", script, "sh", f"{self.bed.testbed_build}/objectfs-cached", "-c",
             self.bed.conf, "--foreground"], stdin=subprocess.DEVNULL, pass_fds=list(self.kept.values()))
        while True:
            message, fds, _, _ = socket.recv_fds(self.sock, 4096, 4)
            said = dict(line.split("=", 1) for line in message.decode().split("\n"))
            if said.get("FDSTORE") == "1":
                self.kept[said["FDNAME"]] = fcntl_high(fds[0])
            elif said.get("FDSTOREREMOVE") == "1":
                os.close(self.kept.pop(said["FDNAME"]))
            elif said.get("READY") == "1":
                return

    def damage(self):
        """As one of another release would have left them."""
        name = next(name for name in self.kept if "waits" in name)
        os.close(self.kept[name])
        self.kept[name] = fcntl_high(os.memfd_create("other"))

    def kill(self):
        self.child.send_signal(signal.SIGKILL)
        self.child.wait(60)

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        check(self.child.wait(60) == 0, "the daemon did not end well")
        while self.kept:
            os.close(self.kept.popitem()[1])


def fcntl_high(fd):
    """Away from the numbers under which the daemon gets them."""
    import fcntl  # pylint: disable=import-outside-toplevel
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100)
    os.close(fd)
    return high


def restarts(bed, proxy):
    step("the daemon dies while programs wait, and is started again")
    stubs(bed, "waiting", "coming", "other")
    bed.stop("cached", kill=True)
    manager = Manager(bed)
    manager.start()
    try:
        guarded(bed)
        check(len(manager.kept) == 2 and guard(bed)["kept"], f"kept: {list(manager.kept)}")
        proxy.hold("GET", "waiting")
        reader = aside(["cat", local_path(bed, "waiting")])
        waits(bed)
        manager.kill()
        comer = aside(["cat", local_path(bed, "coming")])
        wait_until(lambda: in_kernel(comer.pid), 20, "a program comes while there is no daemon")
        check(reader.poll() is None, "the kernel let the first one pass")
        proxy.release()
        manager.start()
        for name, process in (("waiting", reader), ("coming", comer)):
            out, err = process.communicate(timeout=60)
            check(out == data_of(name), f"{name}: {len(out)} bytes {out[:8]!r}..., {err!r}")
        guarded(bed)
        right(local_path(bed, "other"), "other", "a stub of before")
        step("what an earlier daemon left cannot be used: nobody waits for it")
        stubs(bed, "other")
        manager.kill()
        manager.damage()
        manager.start()
        guarded(bed)
        check(len(manager.kept) == 2 and guard(bed)["kept"], f"kept: {list(manager.kept)}")
        run("cmp", "-n1", local_path(bed, "other"), local_path(bed, "other"))  # has a limit
        right(local_path(bed, "other"), "other", "a stub of before")
        step("a daemon that ends with nobody to keep its guard refuses who waits")
    finally:
        manager.end()
    bed.start("cached")


def unkept(bed, proxy):
    stubs(bed, "refused")
    proxy.hold("GET", "refused")
    reader = aside(["cat", local_path(bed, "refused")])
    waits(bed)
    bed.stop("cached")
    out, err = reader.communicate(timeout=60)
    proxy.release()
    check(reader.returncode == 1 and not out and b"Input/output error" in err, f"{out[:8]!r} {err!r}")
    bed.start("cached")
    guarded(bed)


# --- what is said -----------------------------------------------------------------------------------------
def findings(bed):
    done = subprocess.run([*bed.env["OBJECTFSCTL_ARGV"], "doctor", "--json"], capture_output=True,
                          text=True, check=False)
    return [item["reason"] for item in json.loads(done.stdout)["findings"]
            if item["id"] == "readers-unguarded"]


def said(bed, words):
    lines = bed.ctl("status").splitlines()
    at = [number for number, line in enumerate(lines) if line.startswith("volume test")][0]
    check(words in lines[at + 1], f"status: {lines[at:at + 2]}")


def unguarded(bed, proxy):
    step("not guarded: zeros, and status and doctor say so")
    stubs(bed, "zeros", "more")
    check(not findings(bed), "doctor complains of what is guarded")
    said(bed, "  locally      guarded: ")
    with open(bed.conf, encoding="utf-8") as file:
        text = file.read()
    for change, words in (("guard = no", "NOT GUARDED: programs read zeros from stubs (guard = no)"),
                          ("guard limit = 1", "PARTLY GUARDED: programs read zeros from ")):
        with open(bed.conf, "w", encoding="utf-8") as file:
            file.write(text.replace("guard = auto", change))
        bed.restart("cached")
        wait_until(lambda: guard(bed)["state"] != "marking", 20, "the stubs are counted")
        said(bed, words)
        check(findings(bed), f"doctor says nothing of {change}")
        if change == "guard = no":
            with open(local_path(bed, "zeros"), "rb") as file:
                check(file.read() == bytes(3 * MIB + 77), "no zeros: is it guarded, or no stub?")
            run("cp", "-a", local_path(bed, "zeros"), local_path(bed, "copy of zeros"))
            for mode in (0o1666, 0o666):  # chmod -t does not make bytes of them
                os.chmod(local_path(bed, "copy of zeros"), mode)
                bed.ctl("refresh", bed.mirror)
                bed.flush()
                with bed.client() as client:
                    refused(bed, client, "copy of zeros")
            os.unlink(local_path(bed, "copy of zeros"))
    configure(bed, text)
    right(local_path(bed, "zeros"), "zeros", "guarded again")


def main():
    path = os.path.join(os.environ["TMPDIR"], "bed")
    proxy = Proxy(path)
    with Testbed(store="rgw", path=path, set=[f"endpoint={proxy.url}", "settle time=100ms", "retries=1",
                                              "guard=auto", "guard patience=60s"]) as bed:
        if guard(bed)["state"] == "unable":
            why = guard(bed)["why"]
            said(bed, f"NOT GUARDED: programs read zeros from stubs ({why})")
            skip(f"local readers cannot be guarded here: {why}")
        guarded(bed)
        reads(bed)
        backups(bed)
        leaving(bed)
        race(bed)
        patience(bed, proxy)
        restarts(bed, proxy)
        unkept(bed, proxy)
        unguarded(bed, proxy)


if __name__ == "__main__":
    main()
