#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""What others change in the bucket, under the eyes of clients: those that watch hear of each change once,
and never of the daemon's own work; those that have a file open keep its bytes until they close it, and cache
nothing that is no longer true.
"""

import os
import signal
import stat
import tempfile

from dirstore import delete_object, get_object, object_keys, put_object
from smb import Testbed, bed_path, check, step, wait_until
from smb2 import ADDED, DIRECTORY_FILE, MODIFIED, READ_ATTRIBUTES, READ_DATA, REMOVED, WRITE_DATA
from smbconf import read_fragment, write_sections

MIB = 1 << 20
MANY = 1200


def local(bed, name):
    return os.path.join(bed.mirror, name)


def content(bed, name):
    # a durable handle does not come back to a file with another access time
    fd = os.open(local(bed, name), os.O_RDONLY | os.O_NOATIME)
    try:
        return os.read(fd, MIB)
    finally:
        os.close(fd)


def is_stub(bed, name):
    return bool(os.stat(local(bed, name)).st_mode & stat.S_ISVTX)


def limbo(bed):
    return os.listdir(os.path.join(os.path.dirname(bed.mirror), "limbo"))


def counters(bed):
    return bed.ctl_json("status")["counters"]


def processes(bed):
    """Of clients: each has a ring of the daemon's mapped."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/maps", encoding="utf-8", errors="replace") as file:
                if any(bed.dir in line and ".ring" in line for line in file):
                    found.add(int(name))
        except OSError:
            continue
    return found


def shows(bed, name, data):
    """A client that opens it anew gets these bytes. It stays, so that the listing finds whom to ask."""
    with bed.client() as other:
        wait_until(lambda: other.get(name) == data, 20, f"{name} shows what is in the bucket")


class Watcher:
    """A client that watches a directory of a share. prefix: of names in d, as it sees them."""

    def __init__(self, bed, what, path, prefix, share=None, recursive=True):
        before = processes(bed)
        self.what, self.prefix, self.recursive = what, prefix, recursive
        self.client = bed.client(share=share)
        self.file = self.client.create(path, READ_DATA | READ_ATTRIBUTES, options=DIRECTORY_FILE)
        self.pid = (processes(bed) - before).pop()
        self.ask()

    def ask(self):
        self.asked = self.client.send_notify(self.file, self.recursive)

    def until(self, name):
        """[(action, name)] before the first news of a name; None among them: look again."""
        found = []
        while True:
            news = self.client.end_notify(self.asked)
            self.ask()
            if news is None:
                found.append(None)
                continue
            names = [event[1] for event in news]
            if self.prefix + name in names:
                return found + news[:names.index(self.prefix + name)]
            found += news


class Watch:
    """All who watch, and a client that works."""

    def __init__(self, bed, watchers, client):
        self.bed, self.watchers, self.client = bed, watchers, client
        self.marks = 0
        self.told = 0  # as often as smbd was given something to tell

    def all_heard(self):
        mark = f"mark{self.marks}"
        self.marks += 1
        self.client.mkdir(f"d/{mark}")  # smbd tells of it itself, after all that was before
        return [(watcher, watcher.until(mark)) for watcher in self.watchers]

    def skip(self):
        """What was heard so far is of no concern."""
        self.all_heard()
        self.told = counters(self.bed)["notifies_sent"]

    def heard(self, expected, when):
        """Each has heard that of names in d, and nothing else."""
        self.told += len(expected)
        wait_until(lambda: counters(self.bed)["notifies_sent"] >= self.told, 20, f"{when}: it is told")
        for watcher, found in self.all_heard():
            wanted = [event and (event[0], watcher.prefix + event[1]) for event in expected]
            check(sorted(found, key=str) == sorted(wanted, key=str),
                  f"{when}: {watcher.what} hears {found}, not {wanted}")
        found = counters(self.bed)["notifies_sent"]
        check(found == self.told, f"{when}: told {found} times in all, not {self.told}")

    def put(self, name, data):
        """By the client that works, and it is in S3."""
        self.client.put(name, data)
        self.bed.flush()
        self.all_heard()

    def remote(self, name, data):
        """By somebody else; None: deleted. The mirror is told to look."""
        if data is None:
            delete_object(self.bed, name)
        else:
            put_object(self.bed, name, data)
        self.bed.ctl("refresh", "d")


# --- who watches ----------------------------------------------------------------------------------
def own_work(watch):
    bed, client = watch.bed, watch.client
    step("a name looked up, a directory listed for the first time: nobody hears of it")
    client.get("d/looked up")
    check({entry[0] for entry in client.list("d")} >= {"one", "two", "looked up"}, "not listed")
    watch.heard([], "a first listing")

    step("recall, eviction, upload, listing again: nobody hears of it")
    check(client.get("d/one") == b"one" * 1000, "other bytes")
    wait_until(lambda: not is_stub(bed, "d/one"), 20, "it is here")
    watch.heard([], "a recall")
    bed.ctl("evict", "d/one")
    check(is_stub(bed, "d/one"), "it has not left")
    watch.heard([], "an eviction")
    bed.flush()
    watch.heard([], "an upload")
    bed.ctl("refresh", "d")
    watch.heard([], "a listing without news")


def told_once(watch):
    bed = watch.bed
    step("added, changed, removed: once each, for everyone who watches")
    put_object(bed, "d/new", b"new")
    put_object(bed, "d/one", b"another one")
    delete_object(bed, "d/two")
    watch.remote("d/dir/below", b"below")
    watch.heard([(ADDED, "new"), (MODIFIED, "one"), (REMOVED, "two"), (ADDED, "dir")],
                "a remote change of each kind")
    check(watch.client.get("d/one") == b"another one", "old bytes")
    bed.ctl("refresh", "d")
    watch.heard([], "the same listing again")

    step("more than anybody wants to hear one by one: look again")
    for number in range(MANY):
        put_object(bed, f"d/many {number}", b"m")
    bed.ctl("refresh", "d", timeout_s=200)
    watch.heard([None], f"{MANY} new files")


# --- who has a file open --------------------------------------------------------------------------
def leased(watch):
    bed = watch.bed
    step("a client that caches what it reads: its lease is broken, it keeps its bytes, and then sees the new ones")
    watch.put("d/leased", b"before")
    before = counters(bed)
    with bed.client(user=2) as reader:
        key = os.urandom(16)
        file = reader.create_leased("d/leased", key)
        check(reader.read(file, 0, 100) == b"before", "other bytes")
        watch.remote("d/leased", b"after that")
        wait_until(lambda: reader.lease_breaks().get(key) == 0, 10, "its lease is broken")
        check(reader.read(file, 0, 100) == b"before", "the bytes of an open file have changed")
        check(content(bed, "d/leased") == b"before", "an open file was changed")
        bed.ctl("refresh", "d")  # behind all questions of before: its process may not have come to them
        told = counters(bed)["breaks_sent"]
        bed.ctl("refresh", "d")
        watch.heard([], "while it is open")
        reader.close(file)
        shows(bed, "d/leased", b"after that")
        check(len(reader.breaks) == 1, f"it was told {len(reader.breaks)} times")
    watch.heard([(MODIFIED, "leased")], "it was closed")
    after = counters(bed)
    check(after["breaks_sent"] == told > before["breaks_sent"],
          f"breaks: {before['breaks_sent']}, then {told}, then {after['breaks_sent']}")
    check(after["remote_deferred"] == before["remote_deferred"] + 1, "not counted as waiting")


def deleted(watch):
    bed = watch.bed
    step("deleted in the bucket while a client reads it: the name goes, the client reads on")
    watch.put("d/read", b"r" * MIB)
    with bed.client(user=2) as reader:
        file = reader.create("d/read", READ_DATA)
        watch.remote("d/read", None)
        check("read" not in os.listdir(local(bed, "d")), "the name is still there")
        watch.heard([(REMOVED, "read")], "it was deleted")
        check(reader.read(file, 0, MIB) == b"r" * MIB, "other bytes")
        check(len(limbo(bed)) == 1, f"limbo holds {limbo(bed)}")
        reader.close(file)
        wait_until(lambda: not limbo(bed), 20, "what nobody has open any more is gone")

    step("deleted in the bucket while a client writes it: what it wrote stays")
    watch.put("d/written", b"w" * 100)
    with bed.client(user=2) as writer:
        file = writer.create("d/written", READ_DATA | WRITE_DATA)
        watch.remote("d/written", None)
        writer.write(file, 0, b"W")
        writer.close(file)
    bed.flush()
    wait_until(lambda: [key for key in object_keys(bed) if key.startswith("d/written") and
                        get_object(bed, key) == b"W" + b"w" * 99], 20, "it is in the bucket again")
    watch.skip()


class Away:
    """A client whose connection broke while it had a file open, by a durable handle."""

    def __init__(self, bed, name):
        self.name, self.guid, self.key = name, os.urandom(16), os.urandom(16)
        before = processes(bed)
        client = bed.client(guid=self.guid)
        self.file = client.create_durable(name, self.key, READ_DATA | READ_ATTRIBUTES)
        pid = (processes(bed) - before).pop()
        client.sock.close()
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 20, "smbd sees the connection break")

    def back(self, bed, data):
        with bed.client(guid=self.guid) as client:
            file = client.end_create(client.send_reconnect(self.name, self.key, self.file), self.name)
            check(client.read(file, 0, 100) == data, f"{self.name}: its bytes have changed meanwhile")
            client.close(file)


def durable(watch):
    bed = watch.bed
    step("a durable handle whose client is away: nobody has the file open, and it keeps its bytes")
    watch.put("d/durable", b"before")
    away = Away(bed, "d/durable")
    watch.remote("d/durable", b"after that")
    check(content(bed, "d/durable") == b"before", "it was changed")
    watch.remote("d/durable", None)
    check(content(bed, "d/durable") == b"before", "it was deleted")
    away.back(bed, b"before")
    wait_until(lambda: not os.path.exists(local(bed, "d/durable")), 20, "then it goes")
    watch.heard([(REMOVED, "durable")], "a file that was held is deleted")


def nobody(bed):
    step("nobody to ask, and a durable handle may wait: it keeps its bytes")
    with bed.client() as client:
        client.put("d/alone", b"before")
    bed.flush()
    away = Away(bed, "d/alone")
    wait_until(lambda: counters(bed)["sessions"] == 0, 20, "no client is there")
    put_object(bed, "d/alone", b"after that")
    bed.ctl("refresh", "d")
    check(content(bed, "d/alone") == b"before", "it was changed")
    away.back(bed, b"before")
    shows(bed, "d/alone", b"after that")


def waits_for_the_listing(bed):
    step("who could say who has a file open waits for the listing that asks")
    put_object(bed, "e/seen", b"before")
    with bed.client() as client:
        client.connect_tree(bed.smb_host, "spelled")  # asked is the first one, of the same process
        wait_until(lambda: counters(bed)["sessions"] == 2, 10, "one process has two connections")
        check(client.get("e/seen") == b"before", "other bytes")
        put_object(bed, "e/seen", b"after that")
        before = counters(bed)["remote_changes"]
        check([entry[2] for entry in client.list("e")] == [len(b"after that")], "an old size is listed")
        check(counters(bed)["remote_changes"] == before + 1, "no change is counted")
    check("does not answer" not in bed.log(), "the daemon gave up a module that waited for it")


# --- who dies -------------------------------------------------------------------------------------
def deaths(watch):
    bed = watch.bed
    step("the smbd that is to tell dies before it could: another one tells")
    chosen = watch.watchers.pop(0)  # the oldest connection is asked first
    os.kill(chosen.pid, signal.SIGSTOP)
    watch.remote("d/killed", b"k")
    check("killed" in os.listdir(local(bed, "d")), "the tree waits for who is to tell of it")
    os.kill(chosen.pid, signal.SIGKILL)
    watch.heard([(ADDED, "killed")], "its smbd was killed")

    step("the daemon is killed: the tree has the change, and idle clients hear of the next one")
    watch.put("d/waits", b"before")
    reader = bed.client(user=2)
    file = reader.create("d/waits", READ_DATA)
    watch.remote("d/waits", b"after that")
    watch.remote("d/daemon", b"d")
    bed.stop("cached", kill=True)
    bed.start("cached")
    wait_until(lambda: counters(bed)["remote_deferred"] == 1, 20, "what has to wait is found again")
    check(reader.read(file, 0, 100) == b"before", "the bytes of an open file have changed")
    reader.disconnect()
    shows(bed, "d/waits", b"after that")
    wait_until(lambda: counters(bed)["notifies_sent"] == 1, 20, "it is told")
    wait_until(lambda: counters(bed)["sessions"] == len(watch.watchers) + 1, 20,
               "smbds whose clients do nothing connect again")
    check("daemon" in os.listdir(local(bed, "d")), "the change is lost")
    watch.skip()
    watch.remote("d/later", b"l")
    watch.heard([(ADDED, "later")], "after the daemon was killed")
    check(counters(bed)["notifies_dropped"] == 0, "something was not told")


def shares(bed, path, link):
    """One below the first one, and one of the same directory by another name."""
    first = read_fragment(os.path.join(bed.dir, "smb.conf"))[bed.share(False)]
    write_sections(path, {"below": {**first, "path": f"{bed.mirror}/d"},
                          "spelled": {**first, "path": link}})
    os.symlink(bed.mirror, link)
    bed.restart("smbd")


def main():
    path = bed_path()
    aside = tempfile.mkdtemp(dir=os.path.dirname(path))
    os.chmod(aside, 0o755)
    with Testbed(path=path, set=["settle time=200ms", "listing age=0"],
                 smb=[f"global.include={aside}/shares"]) as bed:
        shares(bed, f"{aside}/shares", f"{aside}/link")
        for name in ("one", "two", "looked up"):
            put_object(bed, f"d/{name}", name.encode() * 1000)
        watchers = [Watcher(bed, "who also watches the directory", "d", ""),
                    Watcher(bed, "who watches the root", "", "d/"),
                    Watcher(bed, "who watches the directory", "d", "", recursive=False),
                    Watcher(bed, "who watches a share below", "", "", share="below"),
                    Watcher(bed, "who watches a share of another name", "", "d/", share="spelled")]
        with bed.client() as client:
            watch = Watch(bed, watchers, client)
            for part in (own_work, told_once, leased, deleted, durable, deaths):
                part(watch)
            for watcher in watch.watchers:
                watcher.client.disconnect()
        waits_for_the_listing(bed)
        nobody(bed)


if __name__ == "__main__":
    main()
