#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
# alone: how long the kernel waits for a lease is set for the whole machine
"""The daemon holds a lease, stands still for longer than the kernel waits for it, and others get in by force: when it
wakes it must not believe that it still has it. Clients and local programs, with O_NONBLOCK and without, at each
phase of an upload, an eviction, a change, a removal and a drop; metadata by O_PATH, which breaks no lease.
Nothing is clean that was changed, nothing is emptied that somebody has open, S3 has one state.

usage: leases.py                 some openers at each phase
       leases.py ROUNDS [SEED]   each opener at each phase, ROUNDS times, in an order and at offsets by seed
"""

import contextlib
import fcntl
import mmap
import os
import random
import signal
import sys
import threading
import time

from copychunk import Copy
from local import is_marked, local_path
from smb import SmbError, Testbed, check, fail, step, wait_until
from smb2 import FILE_OVERWRITE_IF, MAXIMUM_ALLOWED, READ_ATTRIBUTES, READ_DATA, WRITE_DATA
from tracer import HELD, Tracer

MIB = 1 << 20
BREAK_TIME = "/proc/sys/fs/lease-break-time"
AT, NEW = 70000, b"written meanwhile"


def content(name, size=3 * MIB + 77):
    return random.Random(name).randbytes(size)


def changed(data):
    return data[:AT] + NEW + data[AT + len(NEW):]


# --- the kernel's patience --------------------------------------------------------------------------
@contextlib.contextmanager
def short_patience():
    """How long the kernel waits is settled when somebody comes: it is short for that moment alone."""
    with open(BREAK_TIME, "rb+", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another run of this would keep what we have set
        before = file.read()
        try:
            os.pwrite(file.fileno(), b"1", 0)
            yield
        finally:
            os.pwrite(file.fileno(), before, 0)


def leases(bed):
    """{inode: is it being broken?} of the leases that the daemon has."""
    found = {}
    with open("/proc/locks", encoding="ascii") as file:
        for words in map(str.split, file):
            if words[1] == "LEASE" and words[4] == bed.cached_pid:
                found[int(words[5].split(":")[2])] = words[2] == "BREAKING"
    return found


def inode(bed, name):
    return os.stat(local_path(bed, name)).st_ino


class Opener(threading.Thread):
    """Comes to a file while the daemon stands still, and gets in. woke: the daemon goes on."""

    def __init__(self, bed, name, function):
        super().__init__(daemon=True)
        self.bed, self.name_of, self.function = bed, name, function
        self.client = bed.client() if function in OF_CLIENTS else None  # a new one would ask the daemon
        self.inside, self.woke = threading.Event(), threading.Event()
        self.wanted = self.error = None
        self.failed = False

    def run(self):
        try:
            self.wanted = self.function(self, self.name_of)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error
        except SystemExit:  # of check()
            self.failed = True
        if self.client is not None:
            self.client.disconnect()

    def came(self):
        return not self.is_alive() or leases(self.bed).get(self.ino, True)

    def is_in(self):
        """It says so, or waits for the daemon and no more for the kernel."""
        return not self.is_alive() or self.inside.is_set() or not leases(self.bed).get(self.ino)

    def path(self):
        return local_path(self.bed, self.name_of)

    def by_force(self):
        """It comes, and the kernel takes the lease away from who does not give it up."""
        self.ino = os.stat(self.path()).st_ino
        with short_patience():
            self.start()
            wait_until(self.came, what="somebody comes to the file")
        # a lease is looked at, and found to have expired, by the next one who comes
        wait_until(self.is_in, what="somebody is in")

    def end(self):
        """What the file is to hold, if it was not refused."""
        self.woke.set()
        self.join(100)
        check(not self.is_alive(), f"{self.name_of}: the opener does not end")
        if self.failed:
            sys.exit(1)
        if self.error is not None:
            check(isinstance(self.error, SmbError), f"{self.name_of}: {self.error!r}")
            print(f"   refused: {self.error}")
        return self.wanted


# --- who comes: each returns what the file is to hold afterwards --------------------------------------
def smb_write(opener, name):
    file = opener.client.create(name, READ_DATA | WRITE_DATA)
    opener.client.write(file, AT, NEW)
    opener.client.close(file)
    return changed(content(name))


def smb_overwrite(opener, name):
    file = opener.client.create(name, MAXIMUM_ALLOWED, FILE_OVERWRITE_IF)
    opener.client.write(file, 0, NEW)
    opener.client.close(file)
    return NEW


def smb_set_size(opener, name):
    file = opener.client.create(name, WRITE_DATA)
    opener.client.set_size(file, AT)
    opener.client.close(file)
    return content(name)[:AT]


def smb_read(opener, name):
    check(opener.client.get(name) == content(name), f"{name}: a client reads other bytes")
    return content(name)


def local_open(path, flags):
    """As programs do that must not sleep: EWOULDBLOCK, and later once more."""
    end = time.monotonic() + 60
    while True:
        try:
            return os.open(path, flags)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def local_write(opener, name, more=0):
    file = local_open(opener.path(), os.O_RDWR | more)
    os.pwrite(file, NEW, AT)
    os.close(file)
    return changed(content(name))


def local_nonblock(opener, name):
    try:
        os.close(os.open(opener.path(), os.O_RDWR | os.O_NONBLOCK))
    except BlockingIOError:
        return local_write(opener, name, os.O_NONBLOCK)
    raise SmbError(0, "nobody had a lease on it")


def local_mapped(opener, name):
    file = local_open(opener.path(), os.O_RDWR)
    with mmap.mmap(file, 0) as memory:
        os.close(file)
        memory[AT:AT + len(NEW)] = NEW
    return changed(content(name))


def local_emptied(opener, _):
    file = local_open(opener.path(), os.O_RDWR | os.O_TRUNC)
    os.write(file, NEW)
    os.close(file)
    return NEW


def local_truncated(opener, name):
    os.truncate(opener.path(), AT)
    return content(name)[:AT]


def local_read(opener, name):
    file = local_open(opener.path(), os.O_RDONLY)
    opener.woke.wait()  # it has it open while the daemon goes on
    data = os.pread(file, 2 * len(content(name)), 0)
    os.close(file)
    check(data == content(name), f"{name}: a local program reads other bytes")
    return content(name)


def local_held(opener, name):
    """Opened before the daemon goes on, and there afterwards."""
    file = local_open(opener.path(), os.O_RDWR)
    opener.woke.wait()
    check(os.fstat(file).st_nlink == 1, f"{name} was removed under a program that has it open")
    os.close(file)
    return content(name)


def by_path(opener, name):
    """Metadata alone, through a descriptor that breaks no lease; its name goes away, and comes back."""
    path = opener.path()
    file = os.open(path, os.O_PATH)
    proc = f"/proc/self/fd/{file}"
    os.chmod(proc, os.stat(path).st_mode & 0o1777 ^ 0o010)
    os.setxattr(proc, "user.meanwhile", b"1")
    os.removexattr(proc, "user.meanwhile")
    os.rename(path, path + ".away")
    os.rename(path + ".away", path)
    os.link(path, path + ".link")
    os.unlink(path + ".link")
    os.close(file)
    return content(name)


def held_read(opener, name):
    """Open before the daemon goes on, read after it."""
    file = opener.client.create(name, READ_DATA | READ_ATTRIBUTES)
    opener.inside.set()
    opener.woke.wait()
    data = read_all(opener.client, file)
    opener.client.close(file)
    check(data in (content(name), content("new " + name)),
          f"{name}: {len(data)} bytes, {sum(byte == 0 for byte in data)} of them zero, are no version of the file")
    return data


def read_at_once(opener, name):
    """As one who may write: the kernel leaves nothing of the lease."""
    file = opener.client.create(name, READ_DATA | WRITE_DATA)
    opener.inside.set()
    data = read_all(opener.client, file)
    opener.client.close(file)
    check(data == content("new " + name), f"{name}: {len(data)} bytes, {sum(byte == 0 for byte in data)} of them zero")
    return data


def held_write(opener, name):
    file = opener.client.create(name, READ_DATA | WRITE_DATA)
    opener.woke.wait()
    opener.client.write(file, AT, NEW)
    opener.client.close(file)
    return changed(content(name))


def held_copy(opener, name):
    file = opener.client.create(name, READ_DATA | READ_ATTRIBUTES)
    opener.woke.wait()
    data = read_all(opener.client, file)
    opener.client.close(file)
    check(data == content("source"), f"{len(data)} bytes, {sum(byte == 0 for byte in data)} zero, are not those of the copy")
    return data


def read_all(client, file):
    return b"".join(iter(lambda at=iter(range(0, 1 << 40, MIB)): client.read(file, next(at), MIB), b""))


OF_CLIENTS = (smb_write, smb_overwrite, smb_set_size, smb_read, held_read, read_at_once, held_write, held_copy)
WRITERS = (smb_write, local_nonblock, smb_overwrite, local_mapped, smb_set_size, local_write, local_emptied,
           local_truncated)


# --- where the daemon stands ----------------------------------------------------------------------------
class Stalled:
    """A request to the store that is not answered; as a Tracer."""

    def __init__(self, bed, op, name, when):
        self.sim = bed.sim()
        self.sim.fault(op, f"*{name}", "stall", when=when, ms=-1)

    def wait(self):
        wait_until(lambda: self.sim.hits()[0] > 0, what="the request")

    def end(self):
        self.sim.clear()


def at_call(bed, name, call, action="delay_enter", when=1, path=None):
    return Tracer(int(bed.cached_pid), call, f"{action}={HELD}:when={when}", path or local_path(bed, name))


def leased(bed, name):
    return os.stat(local_path(bed, name)).st_ino in leases(bed)


@contextlib.contextmanager
def standing(bed, held, name):
    """At one call, with a lease, and then all of it; it goes on at the end of `with`."""
    held.wait()
    wait_until(lambda: leased(bed, name), what="the daemon has a lease")
    os.kill(int(bed.cached_pid), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(int(bed.cached_pid), signal.SIGCONT)
        held.end()


def aside(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def forced(bed, name, function, held, begin):
    """begin() brings the daemon to where it is held; what the opener says that the file holds, or None."""
    opener = Opener(bed, name, function)
    thread = aside(begin)
    try:
        with standing(bed, held, name):
            opener.by_force()
    finally:
        held.end()
    wanted = opener.end()
    thread.join(100)
    return wanted


# --- the outcome ------------------------------------------------------------------------------------------
def get(bed, name):
    with bed.client() as client:
        return client.get(name)


def stored(bed, name):
    return bed.s3().get_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + name)["Body"].read()


def put_remote(bed, name, data):
    bed.s3().put_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + name, Body=data)


def settled(bed, name, wanted):
    """It is in S3 as it is here, and goes, and comes back."""
    def out():
        bed.flush()
        return bed.ctl("evict", name, may_fail=True)[0] == 0 and is_marked(bed, name)
    here = get(bed, name)
    check(here in wanted, f"{name}: {len(here)} bytes, {here[:40]}, not those that were acknowledged")
    wait_until(out, what=f"{name} leaves the disk")
    check(stored(bed, name) == here, f"{name}: other bytes in S3 than here")
    check(get(bed, name) == here, f"{name}: others come back")


def flush(bed):
    bed.ctl("flush", "--wait", may_fail=True)


def forced_and_settled(bed, name, function, held, begin):
    wanted = forced(bed, name, function, held, begin)
    settled(bed, name, [wanted if wanted is not None else content(name)])


# --- an upload ----------------------------------------------------------------------------------------------
UPLOADS = {
    "before the first byte is read": lambda bed, name: at_call(bed, name, "fsync,fdatasync"),
    "while it is read": lambda bed, name: at_call(bed, name, "pread64", when=5),
    "after the last byte": lambda bed, name: Stalled(bed, "PutObject", name, "before"),
    "when S3 has it": lambda bed, name: Stalled(bed, "PutObject", name, "after"),
    "before it is marked clean": lambda bed, name: at_call(bed, name, "fsetxattr"),
}


def upload(bed, phase, function):
    name = f"{phase}, {function.__name__}"
    step(f"upload: {name}")
    with bed.client() as client:
        client.put(name, b"the version before")  # so that its record is written once more, at the end
        bed.flush()
        client.put(name, content(name))
    forced_and_settled(bed, name, function, UPLOADS[phase](bed, name), lambda: flush(bed))


# --- an eviction ------------------------------------------------------------------------------------------
EVICTIONS = {
    "before the record says stub": ("fsetxattr", "delay_enter"),
    "before the marker": ("fchmod", "delay_enter"),
    "before it is on the disk": ("fsync", "delay_enter"),
    "within the bytes": ("fallocate", "delay_exit"),
}
UNMARKED = tuple(EVICTIONS)[:2]


def eviction(bed, phase, function):
    name = f"{phase}, {function.__name__}"
    step(f"eviction: {name}")
    with bed.client() as client:
        client.put(name, content(name))
    bed.flush()
    forced_and_settled(bed, name, function, at_call(bed, name, *EVICTIONS[phase]),
                       lambda: bed.ctl("evict", name, may_fail=True))


# --- somebody else's change -----------------------------------------------------------------------------------
CHANGES = {
    "before the record is the new one's": ("fsetxattr", "delay_enter"),
    "before the new one's marker": ("fchmod", "delay_enter"),
    "before the old bytes go": ("ftruncate", "delay_enter"),
    "when the old bytes are gone": ("ftruncate", "delay_exit"),
}


def beside(bed, name):
    """Bytes of all objects of a directory."""
    return [stored(bed, key) for key in bed.keys() if key.startswith(os.path.dirname(name) + "/")
            and not key.endswith("/")]


def change(bed, phase, function):
    directory = f"{phase}, {function.__name__}"
    name = f"{directory}/file"
    step(f"a change in the bucket: {directory}")
    with bed.client() as client:
        client.mkdir(directory)
        client.put(name, content(name))
        bed.flush()
        put_remote(bed, name, content("new " + name))
        wanted = forced(bed, name, function, at_call(bed, name, *CHANGES[phase]), lambda: bed.ctl("refresh", directory))
        both = [content(name), content("new " + name)]
        if function is held_write and wanted is not None:
            bed.flush()
            both = [changed(data) for data in both]
            check(any(data in both for data in beside(bed, name)), f"{name}: what a client wrote is not in S3")
            both.append(content("new " + name))
        bed.ctl("refresh", directory)
        settled(bed, name, both)
        client.mkdir(directory + "/others are here still")


def recalled_meanwhile(bed):
    step("a change in the bucket: a reader comes in by force before the old bytes go, and does not get them emptied")
    name = "meanwhile/file"
    with bed.client() as client:
        client.mkdir("meanwhile")
        client.put(name, content(name))
        bed.flush()
    put_remote(bed, name, content("new " + name))
    opener = Opener(bed, name, read_at_once)
    with at_call(bed, name, "ftruncate") as held:
        thread = aside(bed.ctl, "refresh", "meanwhile")
        held.wait()
        opener.by_force()
        opener.join(3)  # it waits, but for a daemon that lets it read
    check(opener.end() is not None, "it does not get the new bytes")
    thread.join(100)
    settled(bed, name, [content("new " + name)])


# --- names that go --------------------------------------------------------------------------------------------
def removal(bed, function):
    directory = f"removed, {function.__name__}"
    name = f"{directory}/file"
    step(f"a removal in the bucket: {directory}")
    with bed.client() as client:
        client.mkdir(directory)
        client.put(name, content(name))
        client.put(directory + "/another", b"stays")
        bed.flush()
        bed.s3().delete_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + name)
        wanted = forced(bed, name, function, at_call(bed, name, "renameat2", path=local_path(bed, directory)),
                        lambda: bed.ctl("refresh", directory))
        bed.flush()
        if function is held_write and wanted is not None:
            check(wanted in beside(bed, name), "what a client wrote is not in S3")
        else:
            bed.ctl("refresh", directory)
            wait_until(lambda: not os.path.exists(local_path(bed, name)), what="the name goes")


def removed_tree(bed):
    step("a directory's removal in the bucket: nobody gets in between the look at a file and its end")
    name = "tree/file"
    with bed.client() as client:
        client.mkdir("tree")
        client.put(name, content(name))
        bed.flush()
    file = os.open(local_path(bed, name), os.O_PATH)
    for key in [key for key in bed.keys() if key.startswith("tree")]:
        bed.s3().delete_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + key)
    with Tracer(int(bed.cached_pid), "unlinkat", f"delay_enter={HELD}") as held:
        thread = aside(bed.ctl, "refresh", ".")
        wait_until(lambda: not os.path.exists(local_path(bed, "tree")), what="the directory goes")
        held.wait()
        try:
            os.close(os.open(f"/proc/self/fd/{file}", os.O_RDWR | os.O_NONBLOCK))
            fail("it is opened, and then removed")
        except BlockingIOError:
            pass
    os.close(file)
    thread.join(100)


def dropped(bed, function):
    directory = f"dropped, {function.__name__}"
    name = f"{directory}/file"
    step(f"stubs that leave the mirror: {directory}")
    with bed.client() as client:
        client.mkdir(directory)
        client.put(name, content(name))
    bed.flush()
    bed.ctl("evict", directory)
    with at_call(bed, name, "renameat2", path=local_path(bed, directory)) as held:
        end = threading.Event()

        def drop():
            while not end.is_set() and bed.ctl("drop", directory, may_fail=True)[0] != 0:
                time.sleep(0.2)
        opener = Opener(bed, name, function)
        thread = aside(drop)
        with standing(bed, held, name):
            end.set()
            opener.by_force()
    thread.join(100)
    wanted = opener.end()
    settled(bed, name, [wanted if wanted is not None else content(name)])


# --- a copy in S3 that becomes a stub ---------------------------------------------------------------------------
def copied(bed):
    step("a copy that becomes a stub under a reader who comes in by force")
    size = len(content("source"))
    with bed.client() as client:
        client.put("source", content("source"))
        bed.flush()
        bed.ctl("evict", "source")
        copy = Copy(client, "source", "copied")
        reader = Opener(bed, "copied", held_copy)
        with at_call(bed, "copied", "fcntl", "delay_exit", 2) as held:  # F_SETSIG, F_SETLEASE
            thread = aside(copy.whole, size)
            with standing(bed, held, "copied"):
                reader.by_force()
        thread.join(100)
        copy.close()
    reader.end()
    settled(bed, "copied", [content("source")])


# --- oplocks -------------------------------------------------------------------------------------------------------
def unanswered(bed):
    step("a client that caches all of a file does not answer when it is told to stop: the file waits, others do not")
    with bed.client() as client, bed.client(user=2) as silent:
        client.mkdir("cached")
        client.put("cached/file", content("cached/file"))
        client.put("cached/other", b"other")
        bed.flush()
        file = silent.create_leased("cached/file", os.urandom(16), 7, READ_DATA | WRITE_DATA | READ_ATTRIBUTES)
        put_remote(bed, "cached/file", b"theirs")
        put_remote(bed, "cached/other", b"changed by others")
        before = bed.ctl_json("status")["counters"]["breaks_sent"]
        for _ in range(2):
            bed.ctl("refresh", "cached")
        wait_until(lambda: bed.ctl_json("status")["counters"]["breaks_sent"] == before + 1, what="it is told, once")
        check(client.get("cached/other") == b"changed by others", "another file waits")
        check(bed.ctl("evict", "cached/file", may_fail=True)[0] != 0, "it leaves the disk, open")
        silent.write(file, AT, NEW)  # what it had cached
        silent.close(file)
        bed.flush()
        found = beside(bed, "cached/file")
        check(changed(content("cached/file")) in found and b"theirs" in found, f"{len(found)} objects, not both versions")


# --- all of them ----------------------------------------------------------------------------------------------------
def gate(bed):
    for phase, function in zip(UPLOADS, WRITERS):
        upload(bed, phase, function)
    upload(bed, "after the last byte", by_path)
    for phase, function in zip(EVICTIONS, (local_read, smb_write, smb_read, smb_overwrite)):
        eviction(bed, phase, function)
    for phase, function in zip(list(CHANGES)[::2], (held_read, held_write)):
        change(bed, phase, function)
    for cell in SINGLE:
        cell(bed)


SINGLE = (recalled_meanwhile, lambda bed: removal(bed, held_write), removed_tree, copied, unanswered)


def every(bed):
    """In any order."""
    cells = [(upload, phase, function) for phase in UPLOADS for function in (*WRITERS, by_path)]
    # in a stub local programs that are not guarded read zeros, and what they write there is nobody's
    cells += [(eviction, phase, function) for phase in EVICTIONS for function in (*WRITERS, smb_read, local_read, by_path)
              if phase in UNMARKED or not function.__name__.startswith("local")]
    cells += [(change, phase, function) for phase in CHANGES for function in (held_read, held_write)]
    random.shuffle(cells)
    for cell, phase, function in cells:
        cell(bed, phase, function)
    removal(bed, held_read)
    for single in SINGLE:
        single(bed)


def main():
    global AT  # pylint: disable=global-statement
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 31)
    try:
        with open(BREAK_TIME, "r+", encoding="ascii"):
            pass
    except OSError as error:
        print(f"how long the kernel waits for a lease cannot be set here: {error}")
        sys.exit(77)
    for number in range(max(rounds, 1)):
        with Testbed(store="s3sim", set=["settle time=30s", "settle limit=60s"]) as bed:
            if rounds == 0:
                gate(bed)
            else:
                print(f"seed {seed + number}")
                random.seed(seed + number)
                AT = random.randrange(3 * MIB)
                every(bed)
    with Testbed(store="s3sim", set=["settle time=1s", "listing age=1s"]) as bed:
        dropped(bed, local_held)


if __name__ == "__main__":
    main()
