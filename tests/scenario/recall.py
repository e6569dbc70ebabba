#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""Reading, writing and copying files whose bytes are still in S3.

The first 4 KiB of a 1 GiB stub fetch < 2 MiB; while one recall hangs, another file of the same client
answers; a killed daemon does not spoil a recall; a stub that is truncated fetches nothing, one that is
written to is made whole first; 0-byte and 5 GiB+ objects.
"""

import array
import os
import random
import signal
import socket
import threading
import time

import smb2
from dirstore import get_object, put_object
from proxy import Proxy
from smb import SmbError, Testbed, bed_path, check, fail, step

MIB = 1 << 20
GIB = 1 << 30
PATTERN_BYTES = 96 * MIB
KILLED_AT = 5 * MIB


def pattern():
    """Every 8 bytes say where they are."""
    return array.array("Q", range(PATTERN_BYTES // 8)).tobytes()


def counter(bed, name="recall_bytes"):
    return bed.ctl_json("status")["counters"][name]


def is_stub(bed, path):
    return bool(os.stat(os.path.join(bed.mirror, path)).st_mode & 0o1000)


def size_of(client, path):
    parent, _, name = path.rpartition("/")
    sizes = {entry[0]: entry[2] for entry in client.list(parent)}
    check(name in sizes, f"{path} is not listed")
    return sizes[name]


# --- scenes -----------------------------------------------------------------------------------------
def first_bytes(bed, client):
    step("the first 4 KiB of 1 GiB")
    check(size_of(client, "r/gib") == GIB, f"1 GiB is listed as {size_of(client, 'r/gib')}")
    before = counter(bed), counter(bed, "s3_bytes_in")
    file = client.create("r/gib", smb2.READ_DATA)
    data = client.read(file, 0, 4096)
    check(data == b"begin" + bytes(4091), "the first 4 KiB are other bytes")
    fetched = max(counter(bed) - before[0], counter(bed, "s3_bytes_in") - before[1])
    check(0 < fetched < 2 * MIB, f"{fetched} bytes were fetched for 4 KiB")
    check(client.read(file, GIB - 3, 100) == b"end", "the last bytes")
    client.close(file)
    check(is_stub(bed, "r/gib"), "the file is resident after 4 KiB of it were read")


def huge(bed, client):
    step("5 GiB and a byte")
    size = 5 * GIB + 1
    check(size_of(client, "r/huge") == size, f"listed with {size_of(client, 'r/huge')} bytes")
    before = counter(bed)
    file = client.create("r/huge", smb2.READ_DATA)
    check(client.read(file, 0, 5) == b"first", "the first bytes")
    check(client.read(file, size - 4, 100) == b"last", "the last bytes")
    check(client.read(file, 4 * GIB - 2, 4) == b"\x01\x02\x03\x04", "bytes across 4 GiB")
    client.close(file)
    check(counter(bed) - before < 64 * MIB, "much of it was fetched for a few bytes")


def empty(bed, client):
    step("no bytes at all")
    check(size_of(client, "r/empty") == 0, "listed with bytes")
    check(client.get("r/empty") == b"", "bytes came out of it")
    client.put("r/empty", b"now some")
    bed.flush()
    check(get_object(bed, "r/empty") == b"now some", "what was written to it is not in the store")


def random_reads(bed, client, rng):
    step("random reads within a stub")
    wanted = pattern()
    file = client.create("r/random", smb2.READ_DATA)
    for _ in range(40):
        offset, length = rng.randrange(PATTERN_BYTES), rng.choice([1, 7, 4096, 70000, 300000])
        data = client.read(file, offset, length)
        check(data == wanted[offset:offset + length],
              f"{length} bytes at {offset}: {len(data)} bytes, not those")
    client.close(file)
    check(client.get("r/random") == wanted, "the whole after random reads is not right")


def written(bed, client):
    step("a write into a stub")
    wanted = bytearray(pattern())
    file = client.create("r/written", smb2.READ_DATA | smb2.WRITE_DATA)
    for offset in (50 * MIB + 5, 3):
        wanted[offset:offset + 6] = b"CHANGE"
        client.write(file, offset, b"CHANGE")
    check(not is_stub(bed, "r/written"), "it was written to while bytes were missing")
    client.close(file)
    check(client.get("r/written") == wanted, "other bytes than were there and were written")
    bed.flush()
    check(get_object(bed, "r/written") == wanted, "other bytes in the store")


def truncated(bed, client):
    step("truncation of a stub to nothing")
    before = counter(bed)
    file = client.create("r/overwritten", smb2.READ_DATA | smb2.WRITE_DATA,
                         disposition=smb2.FILE_OVERWRITE)
    client.write(file, 0, b"new content")
    client.close(file)
    file = client.create("r/truncated", smb2.READ_DATA | smb2.WRITE_DATA)
    client.set(file, smb2.INFO_FILE, 20, bytes(8))
    client.write(file, 0, b"anew")
    client.close(file)
    check(counter(bed) == before, f"{counter(bed) - before} bytes were fetched to be thrown away")
    check(client.get("r/overwritten") == b"new content", "overwritten: other bytes")
    check(client.get("r/truncated") == b"anew", "truncated: other bytes")
    bed.flush()
    check(get_object(bed, "r/overwritten") == b"new content", "overwritten: other bytes in the store")
    check(get_object(bed, "r/truncated") == b"anew", "truncated: other bytes in the store")

    step("truncation of a stub to a part")
    file = client.create("r/shortened", smb2.READ_DATA | smb2.WRITE_DATA)
    client.set(file, smb2.INFO_FILE, 20, (5 * MIB + 3).to_bytes(8, "little"))
    client.close(file)
    check(client.get("r/shortened") == pattern()[:5 * MIB + 3], "shortened: other bytes")


def copied(bed, client):
    step("server-side copy of a stub")
    check(is_stub(bed, "r/source"), "the source is no stub")
    rc, output = bed.smbclient("scopy r/source r/copy")
    check(rc == 0 and "NT_STATUS" not in output, f"scopy: {output}")
    check(client.get("r/copy") == pattern(), "the copy has other bytes")
    check(client.get("r/source") == pattern(), "the source has other bytes")
    bed.flush()
    check(get_object(bed, "r/copy") == pattern(), "the copy in the store has other bytes")


def interrupted(bed):
    step("the daemon is killed within a recall")
    wanted = pattern()
    with bed.client() as client:
        file = client.create("r/interrupted", smb2.READ_DATA)
        result = []
        killed = threading.Event()

        def read():
            try:
                for offset in range(0, PATTERN_BYTES, MIB):
                    waiting = client.send_read(file, offset, MIB)
                    if offset == KILLED_AT:
                        # it reads ahead, not all of it
                        os.kill(int(bed.cached_pid), signal.SIGKILL)
                        killed.set()
                    result.append(client.end_read(waiting) == wanted[offset:offset + MIB])
            except (SmbError, OSError) as error:
                result.append(error)
                killed.set()

        reader = threading.Thread(target=read)
        reader.start()
        check(killed.wait(60), "the reader does not come so far")
        check(is_stub(bed, "r/interrupted"), "nothing was missing when the daemon was killed")
        bed.restart("cached", kill=True)
        reader.join(60)
        check(not reader.is_alive(), "the reader waits for ever")
        bad = [item for item in result if item is not True]
        check(not bad, f"reads gave {bad[:3]}")
        check(len(result) == PATTERN_BYTES // MIB, f"{len(result)} pieces were read")
        client.close(file)
        check(client.get("r/interrupted") == wanted, "other bytes in the end")


def greeting(bed):
    step("the daemon goes between a client's HELLO and its answer")
    wanted = pattern()
    with bed.client() as client:
        file = client.create("r/greeting", smb2.READ_DATA)
        check(client.read(file, 0, MIB) == wanted[:MIB], "the first piece")
        bed.stop("cached", kill=True)
        listener = socket.socket(socket.AF_UNIX)
        if os.path.exists(bed.socket):
            os.unlink(bed.socket)
        listener.bind(bed.socket)
        listener.listen()
        listener.settimeout(60)
        at = PATTERN_BYTES - MIB
        result = []

        def read():
            try:
                result.append(client.read(file, at, MIB) == wanted[at:])
            except (SmbError, OSError) as error:
                result.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        peer, _ = listener.accept()
        check(peer.recv(4096), "no HELLO")
        time.sleep(0.5)
        peer.close()
        listener.close()
        os.unlink(bed.socket)
        bed.start("cached")
        reader.join(60)
        check(result == [True], f"the read gave {result}")
        client.close(file)


# --- a store that does not answer ---------------------------------------------------------------------
def hanging():
    step("one recall hangs: another file of the same client answers")
    path = bed_path()
    proxy = Proxy(path)
    slow, fast = os.urandom(6 * MIB), os.urandom(3 * MIB)
    with Testbed(store="rgw", path=path, set=[f"endpoint={proxy.url}",
                                              "settle time=0"]) as bed:
        with bed.client() as client:
            client.put("slow", slow)
            client.put("fast", fast)
            client.put("written", fast)
            bed.flush()
        bed.wipe()
        with bed.client(timeout_s=25) as client:
            client.list("")
            proxy.hold("GET", "/slow")
            file = client.create("slow", smb2.READ_DATA)
            waiting = client.send_read(file, 0, 65536)
            check(proxy.stalled.wait(60), "the read of the stub asked the store for nothing")
            try:
                check(client.get("fast") == fast, "fast: other bytes")
                client.put("made meanwhile", b"made")
                check({entry[0] for entry in client.list("")} ==
                      {"slow", "fast", "written", "made meanwhile"}, "the listing meanwhile")
            except TimeoutError:
                fail("nothing is answered while another recall hangs")
            check(waiting not in client.answers, "the stalled read was answered")
            proxy.release()
            check(client.end_read(waiting) == slow[:65536], "slow: other bytes in the end")
            client.close(file)
            check(client.get("slow") == slow, "slow: other bytes")


def main():
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    with Testbed(set=["settle time=100ms", "settle limit=1s"]) as bed:
        put_object(bed, "r/gib", size=GIB, pieces=[(0, b"begin"), (GIB - 3, b"end")])
        put_object(bed, "r/huge", size=5 * GIB + 1, pieces=[
            (0, b"first"), (4 * GIB - 2, b"\x01\x02\x03\x04"), (5 * GIB - 3, b"last")])
        put_object(bed, "r/empty")
        for name in ("random", "written", "overwritten", "truncated", "shortened", "source",
                     "interrupted", "greeting"):
            put_object(bed, f"r/{name}", pattern())
        with bed.client() as client:
            first_bytes(bed, client)
            huge(bed, client)
            empty(bed, client)
            random_reads(bed, client, random.Random(seed))
            truncated(bed, client)
            written(bed, client)
            copied(bed, client)
        interrupted(bed)
        greeting(bed)
    hanging()


if __name__ == "__main__":
    main()
