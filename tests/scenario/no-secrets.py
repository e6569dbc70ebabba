#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""Where the keys to the bucket are: in the daemon's memory while they count and nowhere else. Not on its command line,
in its environment, in files that others may read, in its log, on its pages, in what objectfsctl says; not in its memory
once they were replaced; and not in a core dump, for there is none unless `core dumps = yes` asks for them."""

import glob
import mmap
import os
import re
import resource
import signal
import stat
import urllib.request

from procs import wait_until
from smb import Testbed, check, ready, skip, step

FIRST = ("FIRSTKEY", "first-secret-4711-of-nobody-else", "first-token-" + "0815" * 30)
SECOND = ("SECONDKEY", "second-secret-" + os.urandom(16).hex(), "second-token-" + "0816" * 30)


PAGES = "/metrics", "/health", "/ready", "/live"
NAME = "a-name-that-is-nobodys-business"


def profile(path, keys):
    text = ("[default]\naws_access_key_id = {}\naws_secret_access_key = {}\naws_session_token = {}\n").format(*keys)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(text)


def restart(bed, credentials, **settings):
    """With credentials from a file, and these settings of [global]."""
    bed.stop("cached")
    with open(bed.conf, encoding="utf-8") as file:
        text = re.sub(r"^\t?(access key|secret key|credentials file|core dumps) *=.*\n", "", file.read(), flags=re.M)
    text = text.replace("[global]\n", "[global]\n" + "".join(f"{key.replace('_', ' ')} = {value}\n"
                                                             for key, value in settings.items()))
    with open(bed.conf, "w", encoding="utf-8") as file:
        file.write(text + f"credentials file = {credentials}\n")
    bed.start("cached")
    ready(bed)


def holds(pid, words):
    """Which of the words are in the process's memory."""
    found = set()
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            if not rights.startswith("rw") or line.rstrip().endswith(("[vvar]", "[vsyscall]")):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                data = memory.read(end - start)
            except OSError:
                continue
            found |= {word for word in words if word.encode() in data}
    return found


def outside(bed):
    """What everybody, or every administrator, may look at."""
    pid = int(bed.cached_pid)
    for name in ("cmdline", "environ"):
        with open(f"/proc/{pid}/{name}", "rb") as file:
            yield f"/proc/PID/{name}", file.read()
    for path in PAGES:
        with urllib.request.urlopen(f"http://{bed.http}{path}", timeout=30) as page:
            yield path, page.read()
    for words in (("status",), ("--json", "status"), ("config",), ("--json", "config"), ("health",), ("sessions",)):
        yield f"objectfsctl {' '.join(words)}", bed.ctl(*words).encode()
    yield "the log", bed.log().encode()
    for top in (os.path.join(bed.dir, "run"), os.path.dirname(os.path.dirname(bed.mirror))):
        for directory, _, names in os.walk(top):
            for name in names:
                path = os.path.join(directory, name)
                if stat.S_ISREG(os.lstat(path).st_mode):
                    with open(path, "rb") as file:
                        yield path, file.read()


def work(bed, name):
    with bed.client() as client:
        client.mkdir(name)
        for number in range(30):
            client.put(f"{name}/{number}", os.urandom(number * 9973))
        client.put(f"{name}/{NAME}", os.urandom(20 << 20))
        bed.flush()
        bed.ctl("evict", name)
        for number in range(30):
            client.get(f"{name}/{number}")
        client.get(f"{name}/{NAME}")
        client.rename(f"{name}/0", f"{name}/moved")
        client.unlink(f"{name}/1")
        bed.flush()


def is_ours(path):
    """Is it a core of this daemon? Others may leave theirs in the same place."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(SECOND[1].encode()) >= 0
    except (OSError, ValueError):
        return False


def dumped(bed):
    """The mode of the core of a daemon that is killed as by a fault of its own, or None."""
    pid = int(bed.cached_pid)
    resource.prlimit(pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    cwd = os.readlink(f"/proc/{pid}/cwd")
    os.kill(pid, signal.SIGSEGV)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}/exe"), 60, "the daemon ends")
    for path in glob.glob(f"{cwd}/core*"):
        if is_ours(path):
            mode = stat.S_IMODE(os.stat(path).st_mode)
            os.unlink(path)
            return mode
    return None


def main():
    with open("/proc/sys/kernel/core_pattern", encoding="ascii") as file:
        plain_cores = file.read().strip() == "core"
    sanitized = os.environ.get("SANITIZER", "")
    with Testbed(store="s3sim", set=["settle time=100ms"]) as bed:
        credentials = os.path.join(bed.dir, "credentials")
        profile(credentials, FIRST)
        bed.sim().key(FIRST[0], secret=FIRST[1], token=FIRST[2])
        restart(bed, credentials)

        step("they are nowhere but in memory")
        work(bed, "one")
        for what, data in outside(bed):
            check(what not in PAGES or NAME.encode() not in data, f"{what} names a file")
            check(not any(word.encode() in data for word in FIRST[1:]), f"{what} has a secret")
        check(holds(bed.cached_pid, FIRST[1:]) == set(FIRST[1:]), "the daemon's memory cannot be read")

        step("replaced, they are not there any more")
        bed.sim().key(SECOND[0], secret=SECOND[1], token=SECOND[2])
        profile(credentials, SECOND)
        bed.sim().key(FIRST[0], error="ExpiredToken")
        work(bed, "two")
        if not sanitized:  # freed memory is kept for a while there
            left = holds(bed.cached_pid, FIRST[1:])
            check(not left, f"the daemon's memory still has {left}")
        check(holds(bed.cached_pid, SECOND[1:]) == set(SECOND[1:]), "the second keys are not in use")

        step("no core")
        if sanitized or not plain_cores:
            skip("cores are not files here, or a sanitizer needs them: all else was good")
        check(dumped(bed) is None, "a core was left")
        bed.start("cached")
        restart(bed, credentials, core_dumps="yes")
        mode = dumped(bed)
        check(mode is not None, "no core although it was asked for")
        check(mode & 0o077 == 0, "others may read the core")
        bed.start("cached")
        work(bed, "three")


main()
