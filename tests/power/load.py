# SPDX-License-Identifier: GPL-3.0-or-later
"""A client whose every request, and what it was answered, stands in the log of the disk.

    load = Load(bed, disk, random.Random(seed), directory, "local")
    load.prepare()
    load.run(operations)
    load.states_at(sent, acknowledged)      # {File: what it may be after a cut there}

Around each request are two marks, `sent N` and `acked N`. A *moment* is a mark too, with a copy of the
store as it was then; the daemon stands still while it is taken.
"""

import contextlib
import ctypes
import os
import shutil
import stat
import struct

import smb2
from procs import threads, wait_until
from smb import fail
from smb2 import SmbError

NAMES = 14
EVERYONE = "(A;;0x1f01ff;;;WD)"
PIECE = 65536


class State:
    """What a file is from one request on. meta None: not known."""

    def __init__(self, step, name, data, meta):
        self.step, self.name, self.data, self.meta = step, name, data, meta


class File:
    def __init__(self, number):
        self.number = number
        self.states = []
        self.promises = []      # (step, index of the state that is on the disk once it is answered)

    @property
    def now(self):
        return self.states[-1]

    def possible(self, sent, acked):
        """The states that it may be in, after a cut between requests."""
        low = max((index for step, index in self.promises if step <= acked), default=0)
        return [state for index, state in enumerate(self.states)
                if index >= low and state.step <= sent]


class Moment:
    def __init__(self, store, seen, trap):
        self.store, self.seen = store, seen     # a copy of the store, and what tells two states of it apart
        self.trap = trap


class Load:
    def __init__(self, bed, disk, rng, directory, level):
        self.bed, self.disk, self.rng, self.directory = bed, disk, rng, directory
        self.level = level      # objectfs:durability
        self.client = None
        self.files = []
        self.step = 0
        self.serial = 0
        self.syncs = [0]        # steps that left nothing in memory
        self.moments = []
        self.held = False       # the daemon stands, for longer than a moment
        self.trail = {}         # step: what it was
        self.libc = ctypes.CDLL(None, use_errno=True)

    # --- the log ----------------------------------------------------------------------------------
    def request(self, what, function, change=None, promise=None):
        """One request. change: (file, State fields) as it is sent; promise: files it makes durable."""
        self.step += 1
        self.trail[self.step] = what
        for file, fields in change or ():
            if not file.states:
                file.states.append(State(0, None, b"", None))
            before = file.now
            file.states.append(State(self.step, fields.get("name", before.name),
                                     fields.get("data", before.data),
                                     fields.get("meta", before.meta)))
        self.disk.mark(f"sent {self.step}")
        try:
            result = function()
        except SmbError as error:
            fail(f"{what}: {error}")
        for file in promise or ():
            file.promises.append((self.step, len(file.states) - 1))
        self.disk.mark(f"acked {self.step}")
        return result

    def moment(self, trap=False):
        """Everything stands; what is in the store goes with what is on the disk."""
        pid = int(self.bed.cached_pid)
        with contextlib.ExitStack() as stack:
            if not self.held:
                stack.enter_context(self.bed.unheard())
            wait_until(lambda: stands(pid), 60, "the daemon stands", 0.001)
            self.disk.mark(f"moment {len(self.moments)}")
            seen = fingerprint(self.bed.store_dir)
            if self.moments and self.moments[-1].seen == seen:
                store = self.moments[-1].store
            else:
                store = f"{self.directory}/store.{len(self.moments)}"
                shutil.copytree(self.bed.store_dir, store, copy_function=link)
            self.moments.append(Moment(store, seen, trap))

    # --- the start --------------------------------------------------------------------------------
    def prepare(self):
        """Files that are in S3, some of them there alone; nothing is left in memory."""
        with self.bed.client("admin") as admin:
            root = admin.create("")
            admin.set_sddl(root, "D:P(A;OICI;0x1f01ff;;;WD)")
            admin.close(root)
        self.client = self.bed.client()
        for _ in range(NAMES):
            file = self.add()
            file.states = [State(0, self.free_name(), self.content(), None)]
            self.client.put(file.now.name, file.now.data)
        self.bed.flush()
        for file in self.files:
            handle = self.client.create(file.now.name)
            file.states[0].meta = self.meta(handle)
            self.client.close(handle)
        self.bed.ctl("evict", *(file.now.name for file in self.files[::4]), may_fail=True)
        self.sync()
        self.moment()

    def add(self):
        self.files.append(File(len(self.files)))
        return self.files[-1]

    def content(self, size=None):
        """Bytes without a zero, so that zeros that are seen are the disk's."""
        self.serial += 1
        if size is None:
            size = self.rng.choice((100, 3000, 4096, 9000, 40000, 150000))
        head = f"content {self.serial} ".encode()
        noise = self.rng.randbytes(4096).replace(b"\0", b"\1")
        return (head + noise * (size // 4096 + 1))[:size]

    def free_name(self):
        taken = {file.now.name for file in self.files if file.states}
        while True:
            name = f"name{self.rng.randrange(100)}"
            if name not in taken:
                return name

    def living(self):
        return [file for file in self.files if file.now.name is not None]

    def meta(self, handle):
        client = self.client
        attributes = struct.unpack_from("<QQQQI", client.query(handle, smb2.INFO_FILE, 4))[4]
        return client.sddl(handle), bool(attributes & smb2.ATTR_HIDDEN)

    # --- operations -------------------------------------------------------------------------------
    def open(self, file, disposition=smb2.FILE_OPEN, **change):
        return self.request(
            f"open {file.now.name if file.states else change['name']}", lambda: self.client.create(
                change.get("name") or file.now.name, smb2.MAXIMUM_ALLOWED, disposition,
                smb2.NON_DIRECTORY_FILE), [(file, change)] if change else None)

    def piece(self, file, handle, at, data):
        """What, function and change of a request that writes."""
        old = file.now.data
        new = old[:at].ljust(at, b"\0") + data + old[at + len(data):]
        return (f"write {file.now.name} {at}+{len(data)}",
                lambda: self.client.end_write(self.client.send_write(handle, at, data)),
                [(file, {"data": new})])

    def write(self, file, handle, offset, data):
        for start in range(0, len(data), PIECE):
            self.request(*self.piece(file, handle, offset + start, data[start:start + PIECE]))
        if self.rng.random() < 0.6:
            self.press(file)
        if self.rng.random() < 0.5:
            self.moment()
        if self.rng.random() < 0.3:
            self.flush(file, handle)

    def press(self, file):
        """Memory is short: the kernel writes the file's pages, and nothing else of it."""
        fd = os.open(os.path.join(self.bed.mirror, file.now.name), os.O_RDONLY | os.O_NOATIME)
        try:
            self.libc.sync_file_range(fd, ctypes.c_long(0), ctypes.c_long(0), 7)
        finally:
            os.close(fd)

    def flush(self, file, handle):
        self.request(f"flush {file.now.name}", lambda: self.client.flush(handle), promise=[file])
        if self.rng.random() < 0.5:
            self.moment()

    def close(self, file, handle):
        self.request(f"close {file.now.name}", lambda: self.client.close(handle),
                     promise=[file] if self.level == "s3" else None)

    def patch(self):
        """In place, the size stays."""
        file = self.rng.choice([file for file in self.living() if len(file.now.data) > 200])
        handle = self.open(file)
        for _ in range(self.rng.choice((1, 1, 2))):
            size = min(self.rng.choice((20, 600, 5000)), len(file.now.data))
            self.write(file, handle, self.rng.randrange(len(file.now.data) - size + 1),
                       self.content(size))
        self.close(file, handle)

    def trap(self):
        """The same of a clean file, nothing else being written: neither journal nor dirty mark, only the
        bytes; unless they were made to wait for a note of it."""
        self.drain()
        files = [file for file in self.living() if len(file.now.data) > 200
                 and not os.stat(os.path.join(self.bed.mirror, file.now.name)).st_mode & stat.S_ISVTX]
        if not files:
            return
        file = self.rng.choice(files)
        with self.bed.unheard():
            self.held = True
            handle = self.open(file)
            size = self.rng.choice((20, 150))
            self.request(*self.piece(file, handle, self.rng.randrange(len(file.now.data) - size + 1),
                                     self.content(size)))
            self.press(file)
            self.moment(trap=True)
            if self.level == "local":   # else it waits for who stands still
                self.close(file, handle)
            self.moment()
            self.held = False
        if self.level != "local":
            self.close(file, handle)

    def append(self):
        file = self.rng.choice(self.living())
        handle = self.open(file)
        self.write(file, handle, len(file.now.data), self.content(self.rng.choice((50, 5000))))
        self.close(file, handle)

    def create(self):
        file = self.add()
        handle = self.open(file, smb2.FILE_CREATE, name=self.free_name(), data=b"")
        self.write(file, handle, 0, self.content())
        self.close(file, handle)
        return file

    def overwrite(self):
        # a hidden one is refused, as on Windows
        file = self.rng.choice([file for file in self.living()
                                if not (file.now.meta and file.now.meta[1])])
        handle = self.open(file, smb2.FILE_OVERWRITE_IF, data=b"", meta=None)
        self.write(file, handle, 0, self.content())
        self.close(file, handle)

    def truncate(self):
        file = self.rng.choice(self.living())
        size = len(file.now.data) // 2
        handle = self.open(file)
        self.request(f"truncate {file.now.name} to {size}", lambda: self.client.set_size(
            handle, size), [(file, {"data": file.now.data[:size]})])
        self.close(file, handle)

    def save(self):
        """As programs do it: a new file, flushed, takes the name of the old one."""
        target = self.rng.choice(self.living())
        file = self.add()
        handle = self.open(file, smb2.FILE_CREATE, name=self.free_name(), data=b"")
        self.write(file, handle, 0, self.content())
        self.flush(file, handle)
        self.close(file, handle)
        self.rename_to(file, target.now.name, target)

    def rename(self):
        self.rename_to(self.rng.choice(self.living()), self.free_name(), None)

    def rename_to(self, file, name, victim):
        changes = [(file, {"name": name})] + ([(victim, {"name": None})] if victim else [])
        self.request(f"rename {file.now.name} to {name}",
                     lambda old=file.now.name: self.client.rename(old, name, victim is not None),
                     changes)

    def delete(self):
        if len(self.living()) > NAMES - 4:
            file = self.rng.choice(self.living())
            self.request(f"delete {file.now.name}", lambda name=file.now.name:
                         self.client.unlink(name), [(file, {"name": None})])

    def rights(self):
        """Rights or an attribute; what they are now is asked for."""
        file = self.rng.choice(self.living())
        handle = self.open(file)
        before = self.meta(handle)
        file.now.meta = file.now.meta or before
        number, hidden = self.rng.randrange(1000, 9000), not before[1]
        aces = f"(A;;0x1200a9;;;S-1-5-21-11-22-33-{number})" + EVERYONE

        def change():
            if self.rng.random() < 0.6:
                self.client.set_sddl(handle, "D:P" + aces)
            else:
                self.client.set_basic(handle, smb2.ATTR_HIDDEN if hidden else smb2.ATTR_ARCHIVE)

        # unknown until it is answered
        self.request(f"rights of {file.now.name}", change, [(file, {"meta": None})])
        after = self.meta(handle)
        file.states[-1].meta = after
        if self.rng.random() < 0.4:
            self.flush(file, handle)
        self.close(file, handle)

    def evict(self):
        names = [file.now.name for file in self.rng.sample(self.living(), 4)]
        self.request(f"evict {' '.join(names)}", lambda: self.bed.ctl("evict", *names, may_fail=True))

    def read(self):
        file = self.rng.choice(self.living())
        data = self.request(f"read {file.now.name}", lambda: self.client.get(file.now.name))
        if data != file.now.data:
            fail(f"read of {file.now.name} gave other bytes")

    def drain(self):
        self.request("drain", self.bed.flush)

    def sync(self):
        """Nothing is left in memory."""
        fd = os.open(self.disk.mount, os.O_RDONLY)
        try:
            self.request("sync", lambda: self.libc.syncfs(fd), promise=self.files)
        finally:
            os.close(fd)
        self.syncs.append(self.step)

    def run(self, operations):
        kinds = [self.patch] * 5 + [self.trap] * 4 + [self.append] * 2 + [self.create] * 3 + [self.overwrite] * 2 \
            + [self.truncate] + [self.save] * 3 + [self.rename] * 2 + [self.delete] * 2 \
            + [self.rights] * 2 + [self.evict] * 3 + [self.read] * 2 + [self.drain] * 5 + [self.sync]
        self.trap()
        for _ in range(operations):
            self.rng.choice(kinds)()
            if self.rng.random() < 0.6:
                self.moment()
        self.moment()
        self.client.disconnect()

    # --- what is to be judged -----------------------------------------------------------------------
    def states_at(self, sent, acked):
        found = {file: file.possible(sent, acked) for file in self.files}
        return {file: states for file, states in found.items() if states}

    def names_kept(self, sent, acked):
        """Names that somebody had at every step that a cut may go back to."""
        low = max(step for step in self.syncs if step <= acked)
        taken = None
        for step in range(low, sent + 1):
            names = set()
            for file in self.files:
                states = [state for state in file.states if state.step <= step]
                if states and states[-1].name is not None:
                    names.add(states[-1].name)
            taken = names if taken is None else taken & names
        return taken

    def versions(self):
        """All bytes that a file ever had."""
        return {state.data for file in self.files for state in file.states
                if state.name is not None}


def stands(pid):
    """Each thread of a process that is there."""
    states = {state for _, state in threads(pid)}
    return bool(states) and states <= set("TtD")


def fingerprint(store):
    """What is in a `dir` store: its files are never changed, but replaced."""
    found = {}
    for part in ("objects", "versions"):
        for directory, _, names in os.walk(f"{store}/{part}"):
            for name in names:
                path = os.path.join(directory, name)
                try:
                    entry = os.lstat(path)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(entry.st_mode):
                    found[path] = (entry.st_ino, entry.st_mtime_ns, entry.st_size)
    return found


def link(source, target):
    try:
        os.link(source, target)
    except FileNotFoundError:
        pass    # somebody's scratch
