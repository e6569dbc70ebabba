# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold a process at a system call, or let the call fail: strace, for moments that no signal hits.

    with Tracer(pid, "renameat", f"delay_exit={HELD}") as tracer:
        ...                     # in a thread: what makes the process come there
        tracer.wait()           # it stands there now: the call is done, the process does not know it yet
        os.kill(pid, signal.SIGKILL)
    ...                         # at the end of `with` what lives goes on
"""

import os
import signal
import subprocess
import time

from procs import PATIENCE_S, Failure, threads
from smb import fail, skip, wait_until

# numbers of x86-64 and of the generic table, as /proc/PID/syscall shows them
NUMBERS = {"renameat": (264, 38), "unlinkat": (263, 35), "fcntl": (72, 25),
           "utimensat": (280, 88), "fdatasync": (75, 83),
           "fchmod": (91, 52), "ftruncate": (77, 46), "fsync": (74, 82),
           "fallocate": (285, 47), "fgetxattr": (193, 10), "fsetxattr": (190, 7),
           "pread64": (17, 67), "pwrite64": (18, 68), "openat": (257, 56), "sendmsg": (46, 211), "openat2": (437, 437),
           "renameat2": (316, 276)}


HELD = "300s"  # longer than a test waits


def numbers(calls):
    """As text, of names with commas."""
    table = 0 if os.uname().machine == "x86_64" else 1
    return {str(NUMBERS[name][table]) for name in calls.split(",")}


def call_of(task):
    """The number of the system call that a process or thread (/proc/...) is in, as text."""
    with open(task + "/syscall", encoding="ascii") as file:
        return file.read().split()[0]


class Tracer:
    def __init__(self, pid, calls, action, path=None):
        """calls: names with commas; action: of strace's inject; path: calls on this file alone."""
        self.pid = pid
        self.numbers = numbers(calls)
        argv = ["strace", "-f", "-q", "-o", "/dev/null", "-e", f"trace={calls}",
                "-e", f"inject={calls}:{action}", "-p", str(pid)]
        if path is not None:
            argv += ["-P", path]
        try:
            self.strace = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                           text=True)
        except FileNotFoundError:
            skip("strace is not installed; run 'make deps'")
        wait_until(lambda: self._attached() or self.strace.poll() is not None, 10, "strace attaches")
        if self.strace.poll() is not None:
            text = self.strace.stderr.read()
            if "not permitted" in text:
                skip(f"processes cannot be traced here: {text.strip()}")
            fail(f"strace: {text.strip()}")

    def _attached(self):
        for task, _ in threads(self.pid):
            try:
                with open(task + "/status", encoding="ascii", errors="replace") as file:
                    if f"TracerPid:\t{self.strace.pid}\n" not in file.read():
                        return False
            except OSError:  # a thread that has just ended
                continue
        return True

    def stands(self):
        """Does a thread of it stand at one of the calls?"""
        for task, state in threads(self.pid):
            try:
                if state == "t" and call_of(task) in self.numbers:
                    return True
            except OSError:
                continue
        return False

    def wait(self, deadline_s=PATIENCE_S):
        end = time.monotonic() + deadline_s
        while not self.stands():
            if time.monotonic() > end:
                fail("the process did not come to the system call")
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """What it holds goes on; once is enough."""
        if self.strace.stderr.closed:
            return
        self.strace.send_signal(signal.SIGTERM)
        try:
            self.strace.wait(5)
        except subprocess.TimeoutExpired:
            self.strace.kill()  # it waits for threads of a process that was killed; others go on
            self.strace.wait(20)
        self.strace.stderr.close()


def client_pid(bed):
    """The smbd of the only client: it has a ring of the daemon's mapped. One that was there before may be
    about to end."""
    found = []

    def only():
        found[:] = _client_pids(bed)
        return len(found) == 1
    try:
        wait_until(only, what="one client's process")
    except Failure:
        fail(f"there are {len(found)} clients' processes, not one")
    return found[0]


def _client_pids(bed):
    found = []
    denied = False
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/maps", encoding="utf-8", errors="replace") as file:
                if any(bed.dir in line and ".ring" in line for line in file):
                    found.append(int(name))
        except PermissionError:
            denied = True
        except OSError:
            continue
    if denied and not found:
        skip("the smbd of a client cannot be traced here (CAP_SYS_PTRACE)")
    return found
