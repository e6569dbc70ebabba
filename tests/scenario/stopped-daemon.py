#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""With the daemon stopped (SIGSTOP) create-write-close-rename-unlink in a listed directory still
completes, and a counter shows no socket message. With no daemon at all, resident data is read and
written, hints wait in the ring; what needs an answer waits for reconnection up to a limit, then fails.
"""

import os
import signal
import threading
import time

from smb import SmbError, Testbed, check, fail, step, wait_until

RING_SLOTS = 1024  # OFS_RING_SLOTS
RECONNECT_S = 10  # in which a daemon starts


def counters(bed):
    return bed.ctl_json("status")["counters"]


def content(name):
    return (f"{name} ".encode() * 700)[:4096]


def is_stub(bed, path):
    """Marked: the daemon is asked before it is read."""
    return bool(os.stat(os.path.join(bed.mirror, path)).st_mode & 0o1000)


def cycle(client):
    """Everything a client does to files, in a directory whose listing is complete."""
    client.put("d/kept", content("kept"))
    client.put("d/renamed", content("renamed"))
    client.rename("d/renamed", "d/new name")
    client.put("d/gone", content("gone"))
    client.unlink("d/gone")
    client.put("d/old", content("overwritten"))
    client.mkdir("d/sub")
    client.put("d/sub/inner", content("inner"))
    client.rename("d/sub", "d/sub2")
    check(sorted(entry[0] for entry in client.list("d")) == ["kept", "new name", "old", "sub2"],
          "the listing is not what was made")
    check(client.get("d/sub2/inner") == content("inner"), "inner: other bytes")


EXPECTED = {"d/kept": "kept", "d/new name": "renamed", "d/old": "overwritten",
            "d/sub2/inner": "inner"}


def stopped(bed):
    step("daemon stopped by SIGSTOP")
    with bed.client(timeout_s=30) as client:
        client.mkdir("d")
        client.put("d/old", content("old"))
        client.list("d")
        bed.flush()
        before = counters(bed)["messages"]
        pid = int(bed.cached_pid)
        os.kill(pid, signal.SIGSTOP)
        try:
            cycle(client)
        except (SmbError, OSError) as error:
            fail(f"with the daemon stopped: {error}")
        finally:
            os.kill(pid, signal.SIGCONT)
        after = counters(bed)["messages"]
        # the one message is the second question itself
        check(after == before + 1, f"{after - before - 1} messages were sent to the stopped daemon")
        bed.flush()
        check(counters(bed)["hints_lost"] == 0, "hints were lost")


def overflow(bed):
    step("more is done with the daemon stopped than its ring holds: counted, and found all the same")
    with bed.client(timeout_s=60) as client:
        pid = int(bed.cached_pid)
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(RING_SLOTS // 2 + 1):
                client.mkdir("d/fills the ring")
                client.rmdir("d/fills the ring")
            client.put("d/unheard of", content("unheard of"))
        except (SmbError, OSError) as error:
            fail(f"with the ring full: {error}")
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: counters(bed)["hints_lost"] > 0, 60, "lost hints are counted")
        bed.flush()
    EXPECTED["d/unheard of"] = "unheard of"


def away(bed):
    step("no daemon: resident data is served, hints wait in the ring")
    with bed.client(timeout_s=30) as client:
        check(client.get("d/kept") == content("kept"), "kept: other bytes")
        bed.stop("cached", kill=True)
        try:
            check(client.get("d/kept") == content("kept"), "kept: other bytes without a daemon")
            client.put("d/away", content("away"))
            client.rename("d/kept", "d/kept still")
            client.unlink("d/old")
        except (SmbError, OSError) as error:
            fail(f"without a daemon: {error}")
        bed.start("cached")
        wait_until(lambda: counters(bed)["hints"] >= 3, 20, "the hints in the ring arrive")
        bed.flush()
    EXPECTED["d/away"] = "away"
    EXPECTED["d/kept still"] = EXPECTED.pop("d/kept")
    del EXPECTED["d/old"]


def lost(bed):
    step("what was done meanwhile is in S3")
    bed.wipe()
    with bed.client() as client:
        before = counters(bed)["messages"]
        found = {f"d/{entry[0]}" for entry in client.list("d")} - {"d/sub2"} | \
            {f"d/sub2/{entry[0]}" for entry in client.list("d/sub2")}
        check(counters(bed)["messages"] > before + 1, "the counter of messages does not count")
        check(found == set(EXPECTED), f"after the loss of the disk: {sorted(found)}")


def stubs(bed):
    step("a stub's reader waits for the daemon")
    path, other = sorted(EXPECTED)[:2]
    with bed.client(timeout_s=60) as client:
        check(is_stub(bed, path) and is_stub(bed, other), "no stubs after the loss of the disk")
        bed.stop("cached", kill=True)
        result = []

        def read():
            try:
                result.append(client.get(path))
            except (SmbError, OSError) as error:
                result.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        reader.join(1)
        check(reader.is_alive(), f"the read of a stub without a daemon gave {result}")
        bed.start("cached")
        reader.join(60)
        check(not reader.is_alive(), "the read did not end although the daemon is back")
        check(result[0] == content(EXPECTED[path]), f"the stub's reader got {result[0]!r:.80}")

        step("and fails when the daemon does not come")
        bed.stop("cached", kill=True)
        begin = time.monotonic()
        try:
            data = client.get(other)
            fail(f"a stub was read without a daemon: {data[:20]!r}")
        except SmbError as error:
            print(f"   {error}, after {time.monotonic() - begin:.1f} s")
            check(error.name in ("NT_STATUS_IO_TIMEOUT", "NT_STATUS_FILE_IS_OFFLINE",
                                 "NT_STATUS_NETWORK_NAME_DELETED", "NT_STATUS_HOST_UNREACHABLE",
                                 "NT_STATUS_CONNECTION_DISCONNECTED"), f"unclear: {error}")
        except OSError as error:
            fail(f"the connection ended instead of an answer: {error}")
        try:
            check(client.get(path) == content(EXPECTED[path]), f"{path}: other bytes")
        except SmbError as error:
            fail(f"resident data after the time-out: {error}")
        bed.start("cached")
        try:
            check(client.get(other) == content(EXPECTED[other]), f"{other}: other bytes")
        except SmbError as error:
            fail(f"{other} when the daemon was back: {error}")


def main():
    with Testbed(set=["settle time=100ms"],
                 smb=[f"objectfs:reconnect timeout={RECONNECT_S}"]) as bed:
        stopped(bed)
        overflow(bed)
        away(bed)
        lost(bed)
        stubs(bed)


if __name__ == "__main__":
    main()
