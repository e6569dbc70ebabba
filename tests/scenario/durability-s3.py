#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
"""objectfs:durability = s3: after close, and after SMB2 FLUSH on an open handle, the object is in S3.
With the store away the close fails, says so, and the file stays dirty and pending; it arrives later.
"""

import threading

from botocore.exceptions import ClientError

import smb2
from smb import Testbed, check, refused, step

TIMEOUT_S = 60
AWAY_TIMEOUT_S = 6  # where it is waited for in vain


def content(name, size=100000):
    return (f"{name} ".encode() * (size // (len(name) + 1) + 1))[:size]


def stored(bed, key, s3=None):
    """Bytes of an object, or None."""
    try:
        return (s3 or bed.s3()).get_object(Bucket=bed.s3_bucket, Key=bed.s3_prefix + key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchKey", "404"):
            raise
        return None


def pending(bed):
    return {entry["path"] for entry in bed.ctl_json("pending")["pending"]}


def at_once(bed, client):
    step("close: the object is there")
    client.mkdir("d")
    for number in range(3):
        data = content(f"one{number}")
        client.put("d/one", data)
        check(stored(bed, "d/one") == data, f"close {number}: the object is not what was written")
    for number in range(12):
        # the daemon may hear of the file before it has looked at the directory
        client.mkdir(f"d/new{number}")
        client.put(f"d/new{number}/one", content("young"))
        check(stored(bed, f"d/new{number}/one") == content("young"),
              f"new directory {number}: the object is not what was written")
    client.put("d/nothing")
    check(stored(bed, "d/nothing") == b"", "the empty file has no object after close")
    large = content("large", 20 << 20)
    client.put("d/large", large)
    check(stored(bed, "d/large") == large, "large: the object is not what was written")

    step("FLUSH on an open handle: the object is there")
    file = client.create("d/open", disposition=smb2.FILE_CREATE)
    client.write(file, 0, content("first"))
    client.flush(file)
    check(stored(bed, "d/open") == content("first"), "after the first FLUSH")
    client.write(file, 50000, b"CHANGED")
    client.flush(file)
    changed = bytearray(content("first"))
    changed[50000:50007] = b"CHANGED"
    check(stored(bed, "d/open") == changed, "after the second FLUSH")
    client.close(file)
    check(stored(bed, "d/open") == changed, "after close")

    step("reading sends nothing")
    before = bed.ctl_json("status")["counters"]["uploads"]
    check(client.get("d/one") == content("one2"), "other bytes")
    check(bed.ctl_json("status")["counters"]["uploads"] == before, "a reader's close uploaded")


def away(bed, client):
    client.mkdir("d")
    client.put("d/one", content("one"))
    step("the store is away: close and FLUSH fail")
    bed.stop("store", kill=True)
    file = client.create("d/one", smb2.READ_DATA | smb2.WRITE_DATA)
    client.write(file, 0, b"while it was away")
    refused("flush of an old file", lambda: client.flush(file))
    refused("close of an old file", lambda: client.close(file))
    file = client.create("d/new", disposition=smb2.FILE_CREATE)
    client.write(file, 0, content("new"))
    refused("close of a new file", lambda: client.close(file))
    check({"d/one", "d/new"} <= pending(bed), f"pending is only {sorted(pending(bed))}")
    check(client.get("d/new") == content("new"), "what was written is gone from the share")

    step("it comes back: all arrives")
    bed.start("store")
    bed.flush()
    check(not pending(bed), f"pending after the drain: {sorted(pending(bed))}")
    check(stored(bed, "d/new") == content("new"), "new: not what was written")
    check(stored(bed, "d/one")[:17] == b"while it was away", "one: not what was written")


def together(bed):
    step("many clients close at once")
    failed = []

    def work(number, client, s3):
        try:
            for turn in range(4):
                name = f"d/c{number}.{turn}"
                client.put(name, content(name))
                if stored(bed, name, s3) != content(name):
                    failed.append(f"{name} is not in S3 after close")
        except (SmbError, OSError, ClientError) as error:
            failed.append(f"client {number}: {error}")

    # boto3 does not make clients in several threads at once
    clients = [(bed.client(), bed.s3()) for _ in range(4)]
    threads = [threading.Thread(target=work, args=(number, *pair))
               for number, pair in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client, _ in clients:
        client.disconnect()
    check(not failed, "; ".join(failed))


def main():
    late = ["settle time=1h", "settle limit=1h"]
    durable = "objectfs:durability=s3"
    with Testbed(store="rgw", set=late,
                 smb=[durable, f"objectfs:request timeout={TIMEOUT_S}"]) as bed:
        with bed.client() as client:
            at_once(bed, client)
        together(bed)
    with Testbed(store="rgw", set=[*late, "retries=1", "request timeout=2s"],
                 smb=[durable, f"objectfs:request timeout={AWAY_TIMEOUT_S}"]) as bed:
        with bed.client() as client:
            away(bed, client)


if __name__ == "__main__":
    main()
