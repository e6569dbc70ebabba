#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""The daemon as a service: what it says to a service manager and when (a socket of ours stands for
systemd's), and the files of packaging/ as systemd, logrotate and strace judge them."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import confined
from smb import Testbed, check, fail, step, wait_until

ROOT = os.environ["ROOT"]
BUILD = os.environ["BUILD"]
WORK = os.environ["TMPDIR"]
WATCHDOG_S = 0.6
DEADLINE_S = 60
EXPOSURE = 40  # tenths; systemd calls up to 4.9 "OK"
PTRACE_ATTACH, PTRACE_DETACH = 16, 17


class Manager:
    """A datagram socket in the place of systemd's."""

    def __init__(self, name):
        self.name = name
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + name[1:] if name.startswith("@") else name)

    def next(self, deadline_s=DEADLINE_S):
        """One message as lines, or [] at the deadline."""
        self.sock.settimeout(max(deadline_s, 0.001))
        try:
            return self.sock.recv(4096).decode().split("\n")
        except TimeoutError:
            return []

    def until(self, line):
        """Messages up to the one with this line."""
        seen = []
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            seen.append(self.next(end - time.monotonic()))
            if any(said.startswith(line) for said in seen[-1]):
                return seen
        return fail(f"the daemon never said {line}: {seen}")

    def drain(self):
        while self.next(0.01):
            pass


class Daemon:
    """start=False: it is not started yet."""

    def __init__(self, notify=None, watchdog=True, pid=None, before=(), start=True):
        self.dir = tempfile.mkdtemp(dir=WORK)
        self.socket = f"{self.dir}/sock"
        self.log = f"{self.dir}/log"
        self.conf = f"{self.dir}/conf"
        with open(self.conf, "w", encoding="utf-8") as file:
            file.write(f"[global]\nsocket = {self.socket}\nrun directory = {self.dir}/run\n"
                       f"cache directory = {self.dir}/cache\nlog file = {self.log}\n"
                       f"[volume one]\nstore = dir\ndirectory = {self.dir}/store\n")
        os.mkdir(f"{self.dir}/store")
        self.env = dict(os.environ)
        if notify:
            self.env["NOTIFY_SOCKET"] = notify
        self.before, self.script = before, ""
        if watchdog:
            self.script = f"export WATCHDOG_USEC={int(WATCHDOG_S * 1e6)} WATCHDOG_PID={pid or '$$'}\n"
        if start:
            self.start()

    def start(self):
        self.child = subprocess.Popen(
            ["sh", "-c", self.script + 'exec "$@"', "sh", *self.before, f"{BUILD}/objectfs-cached", "-c",
             self.conf, "--foreground"], stdin=subprocess.DEVNULL, env=self.env)

    def serves(self):
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(self.socket)
            except OSError:
                return False
        return True

    def wait_serves(self):
        end = time.monotonic() + DEADLINE_S
        while not self.serves():
            check(time.monotonic() < end and self.child.poll() is None, "the daemon does not serve")
            time.sleep(0.02)

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        code = self.child.wait(DEADLINE_S)
        check(code == 0, f"the daemon ended with {code}")


def life():
    step("READY once it serves, WATCHDOG as often as asked, RELOADING, STOPPING")
    manager = Manager(f"{WORK}/notify")
    daemon = Daemon(manager.name)
    try:
        manager.until("READY=1")
        check(daemon.serves(), "READY before the socket accepts")
        pings = manager.until("WATCHDOG=1")
        begin = time.monotonic()
        manager.drain()  # some may have come while nobody looked
        for _ in range(5):
            pings += manager.until("WATCHDOG=1")
        check(time.monotonic() - begin > WATCHDOG_S, "more pings than asked for")
        check(any("STATUS=1 volume, 0 pending" in said for said in pings), f"status: {pings}")

        os.rename(daemon.log, daemon.log + ".1")
        daemon.child.send_signal(signal.SIGHUP)
        said = manager.until("RELOADING=1")[-1]
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        stamp = [int(line[15:]) for line in said if line.startswith("MONOTONIC_USEC=")]
        check(stamp and 0 <= now - stamp[0] < DEADLINE_S * 1e6, f"no time of the reload: {said}")
        manager.until("READY=1")
        check(os.path.exists(daemon.log), "the log was not opened anew")

        stuck(manager, daemon)
        daemon.child.send_signal(signal.SIGTERM)
        manager.until("STOPPING=1")
        check(daemon.child.wait(DEADLINE_S) == 0, "it did not end well")
        check("READY=1" not in sum(iter(lambda: manager.next(0.01), []), []), "READY at the end")
    finally:
        daemon.child.kill()


def stuck(manager, daemon):
    """Only the core thread is held; all the others run."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(PTRACE_ATTACH, daemon.child.pid, None, None) != 0:
        print("   a thread cannot be held here (no ptrace)")
        return
    os.waitpid(daemon.child.pid, 0)
    manager.drain()
    said = manager.next(3 * WATCHDOG_S)
    libc.ptrace(PTRACE_DETACH, daemon.child.pid, None, None)
    check(not said, f"the core stands still, and the daemon says {said}")
    manager.until("WATCHDOG=1")


def other_managers():
    step("an abstract socket; a watchdog of another process; a manager that is not there; none")
    manager = Manager("@objectfs-test-%d" % os.getpid())
    daemon = Daemon(manager.name, pid=1)
    manager.until("READY=1")
    check(not manager.next(3 * WATCHDOG_S), "pings for another process")
    daemon.end()
    for name in (f"{WORK}/nobody", "vsock:2:1234", None):
        daemon = Daemon(name)
        daemon.wait_serves()
        daemon.end()
        with open(daemon.log, encoding="utf-8") as file:
            warned = file.read().count("the service manager is not reached")
        check(warned == (1 if name else 0), f"{name}: {warned} warnings")


def crashes():
    step("a daemon that dies over and over begins later and later, and at once after an ordinary end")
    manager = Manager(f"{WORK}/crashes")
    daemon = Daemon(manager.name)
    starts = f"{daemon.dir}/run/starts"
    waits = lambda: open(daemon.log, encoding="utf-8").read().count("each within a minute of its start")
    for kills in range(6):  # the first start makes the directory, and is not counted
        manager.until("READY=1")
        check(waits() == max(kills - 3, 0), f"{kills} kills: {waits()} starts have waited")
        daemon.child.kill()
        daemon.child.wait()
        daemon.start()
    manager.until("READY=1")
    daemon.end()
    manager.until("STOPPING=1")
    check(not os.path.exists(starts), "an ordinary end counts")
    step("it can be stopped while it waits")
    with open(starts, "w", encoding="ascii") as file:
        file.write(f"50 {time.clock_gettime_ns(time.CLOCK_BOOTTIME)}\n")
    daemon.start()
    manager.until("STATUS=has ended 51 times; begins in 30.00 s")
    daemon.end()
    check(not daemon.serves() and not manager.next(0.01), "it has served")
    step("what the file cannot mean makes nobody wait")
    for text in ("", "x", "7", "7 -1", f"7 {1 << 62}", "4294967295 1", "9" * 70):
        with open(starts, "w", encoding="ascii") as file:
            file.write(text)
        daemon.start()
        said = manager.until("READY=1")
        check(not any("has ended" in line for line in sum(said, [])), f"{text!r}: {said}")
        daemon.end()
        manager.until("STOPPING=1")


# --- the files of packaging/ ------------------------------------------------------------------------

def run(*argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False,
                          env=dict(os.environ, SYSTEMD_LOG_LEVEL="notice"))
    return done.returncode, done.stdout


def unit():
    step("the unit: no complaint of systemd-analyze, little exposure, the capabilities the daemon keeps")
    with open(f"{ROOT}/packaging/objectfs-cached.service.in", encoding="utf-8") as file:
        text = file.read()
    path = f"{WORK}/objectfs-cached.service"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("@sbindir@", BUILD).replace("man:", "https://example.com/"))
    code, output = run("systemd-analyze", "verify", "--recursive-errors=no", path)
    check(code == 0 and not output.strip(), f"systemd-analyze verify: {output}")
    code, output = run("systemd-analyze", "security", "--offline=true",
                       f"--threshold={EXPOSURE}", path)
    print("  ", output.strip().splitlines()[-1])
    check(code == 0, f"exposed more than {EXPOSURE / 10}: {output[-400:]}")
    with open(f"{ROOT}/cached/core/privs.c", encoding="utf-8") as file:
        kept = set(re.findall(r"CAP_\w+", re.search(r"kept\[\] = \{(.*?)\n\};", file.read(),
                                                     re.DOTALL).group(1)))
    named = set(re.search(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE).group(1).split())
    check(named == kept, f"the unit's capabilities and the daemon's: {named ^ kept}")
    return path


def traced(path):
    """System calls that strace counted."""
    with open(path, encoding="utf-8") as file:
        return {line.split()[1] for line in file if re.match(r"\s*\d+ \w+$", line)} - {"total"}


def tracer_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"^TracerPid:\s*(\d+)$", file.read(), re.MULTILINE).group(1))


STRACE = ["strace", "-f", "-qq", "-c", "-U", "calls,name", "-o"]


def filtered(unit_path):
    step("every system call of a life is one that the unit allows")
    daemon = Daemon(before=[*STRACE, f"{WORK}/start"])
    daemon.wait_serves()
    with open(f"/proc/{daemon.child.pid}/task/{daemon.child.pid}/children",
              encoding="ascii") as file:
        os.kill(int(file.read().split()[0]), signal.SIGTERM)
    daemon.child.wait(DEADLINE_S)
    with Testbed(store="rgw", set=["settle time=0", "part size=5M"]) as bed:
        strace = subprocess.Popen([*STRACE, f"{WORK}/life", "-p", bed.cached_pid],
                                  stdin=subprocess.DEVNULL)
        wait_until(lambda: tracer_of(bed.cached_pid) == strace.pid, DEADLINE_S, "strace attaches")
        with bed.client() as client:
            client.mkdir("deep")
            client.put("deep/large", os.urandom(12 << 20), sddl="D:(A;;FA;;;WD)")
            client.put("small", b"x", eas={"e": b"1"}, streams={"s": b"stream"})
        bed.flush()
        bed.ctl("evict", "deep")
        bed.ctl("stat", "deep/large")
        with bed.client() as client:
            check(len(client.get("deep/large")) == 12 << 20, "it did not come back")
            client.rename("deep", "deeper")
            client.unlink("small")
        bed.flush()
        strace.send_signal(signal.SIGINT)
        strace.wait(DEADLINE_S)
    used = traced(f"{WORK}/start") | traced(f"{WORK}/life")
    for name in ("capset", "sendto", "fallocate"):
        check(name in used, f"{name} is not in the trace: {sorted(used)}")
    print(f"   {len(used)} system calls")
    check(not used - confined.allowed_calls(unit_path), f"not allowed: {used - confined.allowed_calls(unit_path)}")


def confined_life(unit_path):
    step("with the unit's capabilities and system calls and no others it does its work")
    if os.uname().machine != "x86_64":
        print("   (the filter is made for x86-64 only)")
        return
    daemon = Daemon(before=[sys.executable, confined.__file__, unit_path])
    try:
        daemon.wait_serves()
        with open(f"/proc/{daemon.child.pid}/status", encoding="ascii") as file:
            status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
        check(status["Seccomp"] == "2" and status["NoNewPrivs"] == "1", f"it is not confined: {status}")
        tree = f"{daemon.dir}/cache/one/tree"
        os.mkdir(f"{tree}/d")
        with open(f"{tree}/d/file", "wb") as file:
            file.write(os.urandom(3 << 20))
        os.chown(f"{tree}/d/file", 65534, 65534)

        def ctl(*words):
            code, output = run(f"{BUILD}/objectfsctl", "-s", daemon.socket, *words)
            check(code == 0, f"objectfsctl {words}: {output}")
            return output

        for words in (("refresh", "."), ("refresh", "d"), ("flush", "--wait"), ("evict", "d/file")):
            ctl(*words)
        check("stub" in ctl("stat", "d/file"), "it has not left")
        ctl("warm", "d/file")
        check("stub" not in ctl("stat", "d/file"), "it has not come back")
        check("Operation not permitted" not in open(daemon.log, encoding="utf-8").read(), "something was not permitted")
        daemon.end()
    finally:
        daemon.child.kill()


def others():
    step("tmpfiles, sysusers, logrotate")
    root = f"{WORK}/root"
    for name in ("etc", "run", "var/cache", "var/log"):
        os.makedirs(f"{root}/{name}")
    for name in ("passwd", "group"):
        shutil.copy(f"/etc/{name}", f"{root}/etc/{name}")
    code, output = run("systemd-sysusers", f"--root={root}", f"{ROOT}/packaging/objectfs.sysusers")
    with open(f"{root}/etc/group", encoding="utf-8") as file:
        check(code == 0 and re.search("^objectfs:", file.read(), re.MULTILINE),
              f"systemd-sysusers: {output}")
    os.mkdir(f"{root}/tmpfiles")
    code, output = run("systemd-tmpfiles", f"--root={root}", "--create",
                       f"{ROOT}/packaging/objectfs.tmpfiles")
    check(code == 0, f"systemd-tmpfiles: {output}")
    for name, mode in (("run/objectfs", 0o755), ("var/cache/objectfs", 0o755),
                       ("var/log/objectfs", 0o750)):
        check(os.stat(f"{root}/{name}").st_mode & 0o7777 == mode, f"{name}: mode")
    code, output = run("logrotate", "--debug", f"{ROOT}/packaging/objectfs.logrotate")
    check(code == 0 and "error" not in output.lower(), f"logrotate: {output}")


life()
crashes()
other_managers()
path = unit()
filtered(path)
confined_life(path)
others()
