#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 180
"""What happens between two system calls: a client's process dies between a change and what it was about to
say of it, an unlink meets the first upload of its file, the disk refuses the data of a file on its way to S3.
smbd and the daemon are held there by strace.
"""

import os
import signal
import threading

from dirstore import get_object, object_keys
from procs import proc_stat
from smb import Testbed, check, step, wait_until
from smb2 import SmbError, nt_time
from tracer import HELD, Tracer, client_pid

LATER = 1500000000  # seconds


def files(bed):
    return {key for key in object_keys(bed) if not key.endswith("/")}


def aside(function, *arguments, **keywords):
    """In a thread; a connection that dies with its smbd is no failure."""
    def run():
        try:
            function(*arguments, **keywords)
        except (OSError, SmbError, EOFError):
            pass
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def killed_after(bed, call, function, *arguments, **keywords):
    """A client's process dies when this call has been made, before it knows."""
    with bed.client() as client:
        pid = client_pid(bed)
        with Tracer(pid, call, f"delay_exit={HELD}") as tracer:
            thread = aside(function, client, *arguments, **keywords)
            tracer.wait()
            os.kill(pid, signal.SIGKILL)
        thread.join(60)
    wait_until(lambda: (proc_stat(pid) or "X")[0] in "ZX", 20, "the process is gone", 0.01)


def renamed_without_hint(bed):
    step("a client's process dies between a rename and its hint")
    with bed.client() as client:
        client.put("before", b"renamed")
        bed.flush()
    hints = bed.ctl_json("status")["counters"]["hints"]
    killed_after(bed, "renameat", lambda client: client.rename("before", "after"))
    check(os.path.exists(os.path.join(bed.mirror, "after")), "it died before the rename")
    check(bed.ctl_json("status")["counters"]["hints"] == hints, "it had sent its hint")
    bed.flush()
    check(files(bed) == {"after"}, "a flush was done, and the rename is not in S3")


def set_time(client, path):
    file = client.create(path)
    client.set_basic(file, times={"write": nt_time(LATER)})
    client.close(file)


def metadata_without_word(bed):
    step("a client's process dies between a change of metadata and what it says of it")
    with bed.client() as client:
        client.put("meta", b"metadata")
        bed.flush()
    killed_after(bed, "utimensat", set_time, "meta")
    check(os.stat(os.path.join(bed.mirror, "meta")).st_mtime == LATER, "it died before the change")
    logged = bed.ctl_json("status")["counters"]["log_entries"]
    bed.flush()
    check(bed.ctl_json("status")["counters"]["log_entries"] > logged,
          "a flush was done, and the change is not in S3")


def unlink_begun_before_upload(bed):
    step("an unlink begins before the first upload and ends after it")
    with bed.client() as client:
        client.put("first", b"first")
        with Tracer(client_pid(bed), "unlinkat", f"delay_enter={HELD}") as tracer:
            thread = aside(client.unlink, "first")
            tracer.wait()
            bed.flush()
            check("first" in files(bed), "it was not sent")
            check(tracer.stands(), "the unlink did not wait")
        thread.join(60)
        check(not thread.is_alive(), "the unlink does not end")
        wait_until(lambda: bed.flush() or "first" not in files(bed), 20,
                   "the object of the unlinked file goes")


def upload_begun_before_unlink(bed):
    step("a first upload has opened its file, and the client unlinks it")
    with bed.client() as client:
        client.put("second", b"second")
        path = os.path.join(bed.mirror, "second")
        with Tracer(int(bed.cached_pid), "fcntl", f"delay_enter={HELD}:when=1", path) as tracer:
            thread = aside(bed.ctl, "flush", may_fail=True)
            tracer.wait()
            client.unlink("second")
            check(tracer.stands(), "the upload did not wait")
        thread.join(60)
        bed.flush()
        check("second" not in files(bed), "a file that was unlinked has been sent")


def data_not_on_disk(bed):
    step("the disk refuses a file's data: it is not sent")
    with bed.client() as client:
        path = os.path.join(bed.mirror, "synced")
        with Tracer(int(bed.cached_pid), "fsync,fdatasync", "error=EIO", path):
            client.put("synced", b"on the disk first")
            aside(bed.ctl, "flush", may_fail=True)
            wait_until(lambda: "did not take" in bed.ctl("pending"), 20, "the failure is shown")
        check("synced" not in files(bed), "S3 is ahead of the disk")
        # what the disk has of that is not known: what is written next is
        client.put("synced", b"on the disk by now")
        bed.flush()
        check(get_object(bed, "synced") == b"on the disk by now", "it was not sent afterwards")


def main():
    with Testbed(set=["settle time=30s"]) as bed:
        for part in (renamed_without_hint, metadata_without_word, unlink_begun_before_upload,
                     upload_begun_before_unlink, data_not_on_disk):
            part(bed)
        bed.flush()
        step("the disk is lost: nothing that was deleted is there again")
        bed.wipe()
        with bed.client() as client:
            after = client.manifest()
        check(set(after) - {""} == {"after", "meta", "synced"}, f"there are {sorted(after)}")
        check(after["meta"]["write"] == nt_time(LATER), f"the time was lost: {after['meta']}")


if __name__ == "__main__":
    main()
