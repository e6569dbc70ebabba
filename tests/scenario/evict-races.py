#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""What meets an eviction: the daemon dies between record, marker, fsync and punch; clients read, write, rename
and delete the file while its bytes go, or while S3 is asked whether it has them. The daemon is held there by
strace, the question by a proxy. The bytes are right afterwards, whatever has happened.
"""

import os
import signal
import threading
import time

import smb2
from dirstore import get_object, object_etag
from local import counter, evict, has_data, is_out, is_resident, local_path
from proxy import Proxy
from smb import SmbError, Testbed, bed_path, check, step, wait_until
from tracer import HELD, Tracer

MIB = 1 << 20
BYTES = 40 * MIB + 3  # three steps of a punch
STEPS = ("fsetxattr", "fchmod", "fsync", "fallocate")
BEFORE_BYTES_GO = STEPS[:2]
OPEN_TRIES_S = 0.5  # the daemon's own, for a recall


class Aside(threading.Thread):
    """What a client does meanwhile, on a connection of its own."""

    def __init__(self, bed, function, *arguments):
        super().__init__(daemon=True)
        self.bed, self.function, self.arguments = bed, function, arguments
        self.result = self.error = None
        self.start()

    def run(self):
        try:
            with self.bed.client(timeout_s=100) as client:
                self.result = self.function(client, *self.arguments)
        except (OSError, SmbError, EOFError) as error:
            self.error = error

    def end(self, what):
        self.join(100)
        check(not self.is_alive() and self.error is None, f"{what}: {self.error or 'does not end'}")
        return self.result


def content(name):
    """Different in every block, and for every name."""
    block = name.encode().ljust(16, b".")
    return b"".join(block + number.to_bytes(8, "little") for number in range(BYTES // 24 + 1))[:BYTES]


def clean_file(bed, name):
    data = content(name)
    with bed.client() as client:
        client.put(name, data)
    bed.flush()
    return data


class Held(Tracer):
    """The daemon has done this call on the file, in an eviction; it goes on at the end of `with`."""

    def __init__(self, bed, name, call):
        super().__init__(int(bed.cached_pid), call, f"delay_exit={HELD}:when=1", local_path(bed, name))
        self.bed, self.name, self.told = bed, name, None
        self.ctl = threading.Thread(target=self._evict, daemon=True)

    def _evict(self):
        self.told = evict(self.bed, self.name)

    def is_wanted(self):
        """Somebody waits for the daemon to give the file free."""
        with open("/proc/locks", encoding="ascii") as file:
            return any(words[1:3] == ["LEASE", "BREAKING"] and words[4] == str(self.pid)
                       for words in map(str.split, file))

    def __enter__(self):
        self.ctl.start()
        self.wait()
        return self

    def __exit__(self, *arguments):
        super().__exit__(*arguments)
        self.ctl.join(60)


def killed(bed):
    for call in STEPS:
        step(f"the daemon is killed after {call}")
        name = f"killed after {call}"
        data = clean_file(bed, name)
        inode, etag = os.stat(local_path(bed, name)).st_ino, object_etag(bed, name)
        with Held(bed, name, call):
            os.kill(int(bed.cached_pid), signal.SIGKILL)
        check(call == "fallocate" or has_data(bed, name), "bytes went before they were told to")
        bed.restart("cached", kill=True)
        with bed.client() as client:
            check(client.get(name) == data, "other bytes")
        bed.flush()
        check(os.stat(local_path(bed, name)).st_ino == inode, "another inode")
        check(object_etag(bed, name) == etag, "it was sent again")
        wait_until(lambda path=name: is_resident(bed, path), 20, "it is resident after it was read")
        check(evict(bed, name)[0] == 0 and is_out(bed, name), "it does not go another time")


def change(client, name):
    file = client.create(name, smb2.READ_DATA | smb2.WRITE_DATA)
    client.write(file, 20 * MIB, b"CHANGED")
    client.close(file)


def opened(bed):
    for call in STEPS:
        for function in (smb2.Client.get, change):
            step(f"a client opens it after {call}: {function.__name__}")
            name = f"{function.__name__} {call}"
            data = clean_file(bed, name)
            recalls = counter(bed, "recalls")
            with Held(bed, name, call) as held:
                aside = Aside(bed, function, name)
                wait_until(held.is_wanted, 20, "the client comes to the file")
                check(aside.is_alive() and held.stands(), "the client did not wait")
            result = aside.end("the client")
            check(held.told[0] == 1, "the eviction went on while a client waited")
            if function is change:
                data = data[:20 * MIB] + b"CHANGED" + data[20 * MIB + 7:]
                bed.flush()
                check(get_object(bed, name) == data, "other bytes in S3")
            else:
                check(result == data, "other bytes were read")
            if call in BEFORE_BYTES_GO:
                check(counter(bed, "recalls") == recalls, "it was not put back as it was")
            with bed.client() as client:
                check(client.get(name) == data, "other bytes afterwards")
    check("lease breaks" not in bed.log(), "breaks that nobody need be told of are told")


def meanwhile(bed):
    step("renamed, deleted, its attributes changed while its bytes go")
    earlier = smb2.nt_time(1400000000)
    data = {name: clean_file(bed, name) for name in ("renamed", "deleted", "attributes")}
    with bed.client() as client:
        with Held(bed, "renamed", "fallocate"):
            client.rename("renamed", "elsewhere")
        with Held(bed, "deleted", "fallocate"):
            client.unlink("deleted")
            client.put("deleted", b"a new one")
        with Held(bed, "attributes", "fallocate"):
            file = client.create("attributes", smb2.WRITE_ATTRIBUTES)
            client.set_basic(file, smb2.ATTR_HIDDEN, {"write": earlier})
            client.close(file)
        bed.flush()
        check(is_out(bed, "elsewhere"), "a renamed file was not emptied")
        check(client.get("elsewhere") == data["renamed"], "other bytes after a rename")
        check(get_object(bed, "elsewhere") == data["renamed"], "other bytes in S3 after a rename")
        check(client.get("deleted") == get_object(bed, "deleted") == b"a new one", "the new file's bytes")
        check(client.get("attributes") == data["attributes"], "other bytes after new attributes")
        entry = client.list("", "attributes")[0]
        check(entry[5] == earlier and entry[1] & smb2.ATTR_HIDDEN, f"attributes were lost: {entry}")
        bed.flush()
        check(get_object(bed, "attributes") == data["attributes"], "other bytes in S3")


def warmed(bed):
    step("fetched by objectfsctl while its bytes go")
    data = clean_file(bed, "warmed")
    with Held(bed, "warmed", "fallocate"):
        thread = threading.Thread(target=bed.ctl, args=("warm", "warmed"), daemon=True)
        thread.start()
        wait_until(lambda: bed.ctl_json("tasks")["tasks"][0]["task"] == "warm", 20, "warm is under way")
        time.sleep(2 * OPEN_TRIES_S)
    thread.join(60)
    check(is_resident(bed, "warmed"), "it was not fetched")
    with bed.client() as client:
        check(client.get("warmed") == data, "other bytes")


def disk_fails(bed):
    step("the disk does not take record, marker or fsync: the bytes stay, and are right")
    for call in ("fsetxattr", "fsync", "fallocate"):
        name = f"fails {call}"
        data = clean_file(bed, name)
        with Tracer(int(bed.cached_pid), call, "error=EIO", local_path(bed, name)):
            check(evict(bed, name)[0] == 1, "it was told that all is well")
        check(has_data(bed, name), "bytes are gone all the same")
        with bed.client() as client:
            check(client.get(name) == data, "other bytes")
        wait_until(lambda path=name: evict(bed, path)[0] == 0, 30, "it goes when the disk is well")


def asked():
    step("written, deleted, made anew while S3 is asked whether it has the bytes")
    path = bed_path()
    proxy = Proxy(path)
    with Testbed(store="rgw", path=path, set=[f"endpoint={proxy.url}", "settle time=30s"]) as bed:
        with bed.client() as client:
            for name in ("written", "made-anew", "opened"):
                client.put(name, b"old content" * 1000)
            bed.flush()
            wanted = {}
            for name in ("written", "made-anew", "opened"):
                proxy.hold("HEAD", f"/{name}")
                done = []
                thread = threading.Thread(target=lambda key=name, result=done: result.append(evict(bed, key)))
                thread.start()
                check(proxy.stalled.wait(60), f"{name}: S3 was not asked")
                wanted[name] = client.get(name)
                file = None
                if name == "written":
                    file = client.create(name, smb2.WRITE_DATA)
                    client.write(file, 0, b"NEW")
                    client.close(file)
                    wanted[name] = b"NEW" + wanted[name][3:]
                elif name == "made-anew":
                    client.unlink(name)
                    client.put(name, b"made anew")
                    wanted[name] = b"made anew"
                else:
                    file = client.create(name, smb2.READ_DATA)
                proxy.release()
                thread.join(60)
                check(done and (done[0][0] == 1 or name == "made-anew"), f"{name}: evict said {done}")
                check(is_resident(bed, name) and has_data(bed, name), f"{name} has lost its data")
                check(client.get(name) == wanted[name], f"{name}: other bytes")
                if name == "opened":
                    client.close(file)
            bed.flush()
        bed.wipe()
        with bed.client() as client:
            for name, data in wanted.items():
                check(client.get(name) == data, f"{name}: other bytes in S3")


def main():
    with Testbed(set=["settle time=30s"]) as bed:
        for part in (killed, opened, meanwhile, warmed, disk_fails):
            part(bed)
    asked()


if __name__ == "__main__":
    main()
