# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes, ports and private mount namespaces of a testbed.

A process is known by its pid and its start time, both in a pid file, so that a reused pid is never
signalled. Every process is the leader of a session of its own; ending it ends its process group.
Standard library only: `make demo` runs this on a machine without the test packages.
"""

import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from stat import S_ISDIR


class Failure(Exception):
    """Something a person must know; printed without a traceback."""


class Missing(Failure):
    """This machine cannot do it (no privilege, no tool): a test may skip."""


PATIENCE_S = 60  # the least that is waited for anything: machines are busy, and what comes is not waited for


def wait_until(condition, deadline_s=PATIENCE_S, what="condition", interval_s=0.05):
    """Poll until condition() is true; returns its value, raises Failure at the deadline."""
    deadline_s = max(deadline_s, PATIENCE_S)
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise Failure(f"{what}: not so after {deadline_s:g} s")
        time.sleep(interval_s)


def proc_stat(pid):
    """(state, pgid, start time) of a process, or None. Its first thread may have ended before the
    others: what they hold, a lock or a listening socket, is held until the last one is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    ending = fields[0] == "Z" and int(fields[17]) > 1
    return "R" if ending else fields[0], int(fields[2]), int(fields[19])


def threads(pid):
    """[(/proc/..., state letter)] of a process's threads; none: it has ended."""
    found = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        tasks = []
    for task in tasks:
        task = f"/proc/{pid}/task/{task}"
        try:
            with open(task + "/stat", encoding="ascii", errors="replace") as file:
                found.append((task, file.read().rsplit(")", 1)[1].split()[0]))
        except OSError:
            pass    # it has just ended
    return found


def signal_pid(pid, number):
    """A process that has just ended needs no signal."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Proc:
    """One process of a testbed, by its pid file."""

    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path)
        if self.name.endswith(".pid"):
            self.name = self.name[:-4]

    def read(self):
        """(pid, start time), or None without a pid file."""
        try:
            with open(self.path, encoding="ascii") as file:
                pid, start = file.read().split()
                return int(pid), int(start)
        except (OSError, ValueError):
            return None

    def pid(self):
        """The pid while the process lives, else None. A zombie does not live."""
        known = self.read()
        if known is None:
            return None
        stat = proc_stat(known[0])
        if stat is None or stat[2] != known[1] or stat[0] in "ZX":
            return None
        return known[0]

    def members(self):
        """Living pids of the process group."""
        known = self.read()
        if known is None:
            return []
        leader, start = known
        stat = proc_stat(leader)
        # A pid is not given out again while its process group has members.
        if stat is not None and stat[2] != start:
            return []
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                stat = proc_stat(int(name))
                if stat is not None and stat[1] == leader and stat[0] not in "ZX":
                    found.append(int(name))
        return found

    def start(self, argv, log, env=None, cwd="/", stdin=None):
        """Start as a session of its own; output goes to the file log."""
        with open(log, "ab") as out:
            child = subprocess.Popen(
                argv, stdin=stdin or subprocess.DEVNULL, stdout=out, stderr=out,
                env=env, cwd=cwd, start_new_session=True)
        stat = proc_stat(child.pid)
        start = stat[2] if stat else 0
        temporary = self.path + ".new"
        with open(temporary, "w", encoding="ascii") as file:
            file.write(f"{child.pid} {start}\n")
        os.rename(temporary, self.path)
        self.child = child
        return child.pid

    def exited(self):
        """True once the process has ended (reaps it if it is ours)."""
        child = getattr(self, "child", None)
        if child is not None:
            return child.poll() is not None
        return self.pid() is None

    def signal_group(self, number):
        for pid in self.members():
            signal_pid(pid, number)

    def stop(self, kill=False, deadline_s=20.0):
        """End the process and its group: SIGTERM to the leader first, SIGKILL in the end."""
        child = getattr(self, "child", None)

        def gone():
            if child is not None:
                child.poll()
            return not self.members()

        if kill:
            self.signal_group(signal.SIGKILL)
        else:
            leader = self.pid()
            if leader is not None:
                signal_pid(leader, signal.SIGTERM)
                signal_pid(leader, signal.SIGCONT)
                end = time.monotonic() + deadline_s
                while self.pid() is not None and time.monotonic() < end:
                    if child is not None:
                        child.poll()
                    time.sleep(0.02)
            if not gone():
                self.signal_group(signal.SIGTERM)
                self.signal_group(signal.SIGCONT)
                end = time.monotonic() + 3.0
                while not gone() and time.monotonic() < end:
                    time.sleep(0.02)
            if not gone():
                self.signal_group(signal.SIGKILL)
        wait_until(gone, 10.0, f"{self.name} ends")
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass


def pids_with_argument(argument):
    """Living processes that have exactly this string among their arguments."""
    wanted = argument.encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                arguments = file.read().split(b"\0")
        except OSError:
            continue
        if wanted in arguments and int(name) != os.getpid():
            found.append(int(name))
    return found


def kill_pids(pids, number=signal.SIGTERM, deadline_s=3.0):
    """Signal processes just found by pids_with_argument, SIGKILL after the deadline."""
    known = {pid: proc_stat(pid) for pid in pids}

    def living():
        left = []
        for pid, stat in known.items():
            now = proc_stat(pid)
            if stat and now and now[2] == stat[2] and now[0] not in "ZX":
                left.append(pid)
        return left

    def send(number):
        for pid in living():
            signal_pid(pid, number)

    send(number)
    end = time.monotonic() + deadline_s
    while living() and time.monotonic() < end:
        time.sleep(0.02)
    send(signal.SIGKILL)


PORTS_DIR = f"/tmp/objectfs-ports.{os.getuid()}"
PORTS_KEPT_S = 60  # by then somebody listens there, or never will


def _reserve(port):
    """Nobody else of these tests has been given it a moment ago; what is given out is not bound at once."""
    try:
        os.close(os.open(f"{PORTS_DIR}/{port}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        return True
    except FileExistsError:
        return False


def _forget_ports():
    os.makedirs(PORTS_DIR, 0o700, exist_ok=True)
    there = os.lstat(PORTS_DIR)
    if not S_ISDIR(there.st_mode) or there.st_uid != os.getuid():
        raise Failure(f"{PORTS_DIR} is somebody else's: remove it")
    for name in filter(str.isdigit, os.listdir(PORTS_DIR)):
        path = os.path.join(PORTS_DIR, name)
        try:
            if time.time() - os.lstat(path).st_mtime > PORTS_KEPT_S:
                os.unlink(path)
        except FileNotFoundError:
            pass


def free_ports(count=1, host="127.0.0.1"):
    """The first of `count` consecutive free TCP ports, below the ephemeral range."""
    _forget_ports()
    for _ in range(200):
        first = random.SystemRandom().randrange(20000, 32000 - count)
        held = []
        try:
            for port in range(first, first + count):
                sock = socket.socket()
                held.append(sock)
                sock.bind((host, port))
        except OSError:
            continue
        finally:
            for sock in held:
                sock.close()
        if all([_reserve(port) for port in range(first, first + count)]):
            return first
    raise Failure("no free port found")


def answers(host, port):
    """Does someone accept TCP connections there?"""
    try:
        socket.create_connection((host, port), timeout=1).close()
        return True
    except OSError:
        return False


def listens(path):
    """Does someone accept connections at this Unix socket?"""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(path)
        except OSError:
            return False
    return True


def run(argv, what=None, **options):
    """Run a command to its end; Failure with its output if it fails. Returns its stdout."""
    options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
    if options["stdin"] is None:
        del options["stdin"]
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, errors="replace", check=False, **options)
    except FileNotFoundError:
        raise Missing(f"{argv[0]} is not installed; run 'make deps'") from None
    if done.returncode != 0:
        raise Failure(f"{what or os.path.basename(argv[0])} failed ({done.returncode}): "
                      f"{(done.stderr + done.stdout).strip()}")
    return done.stdout


def can_unshare():
    """May this process make a mount namespace and bind-mount in it?"""
    with tempfile.NamedTemporaryFile() as one, tempfile.NamedTemporaryFile() as two:
        done = subprocess.run(
            ["unshare", "-m", "--propagation", "private", "mount", "--bind", one.name, two.name],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False)
    return done.returncode == 0


def in_namespace(binds, argv):
    """argv that runs `argv` in a private mount namespace with (source, target) bound."""
    if not binds:
        return argv
    script = 'set -e\nwhile [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done\nshift\n' \
        'exec "$@"'
    flat = [path for pair in binds for path in pair]
    return ["unshare", "-m", "--propagation", "private", "/bin/sh", "-c", script, "sh",
            *flat, "--", *argv]


def tail(path, lines=30):
    """Last lines of a log, or nothing."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-lines:])
    except OSError:
        return ""
