#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""What a real store hardly shows, on s3sim, with the real daemon: each fault is met, and every byte is right at the end.

Faults of writes (refused, lost before, in the middle of and after it has happened, changed on the way, answered with
another ETag, errors inside a 200), of reads (cut short, changed, broken off, slow), of listings and deletes; another
writer between a rename's copy, or a delete, and its condition; archived objects; credentials that expire or may nothing.
"""

import random
import threading

from smb import SmbError, Testbed, check, fail, step, wait_until

MIB = 1 << 20
SMALL = 3 * MIB + 17
LARGE = 66 * MIB  # comes in parts
# of PutObject, one file each
WRITES = {
    "refused-500": {"do": "error", "count": 2},
    "refused-503": {"do": "error", "code": "SlowDown", "count": 2},
    "refused-400": {"do": "error", "code": "RequestTimeout"},
    "refused-409": {"do": "error", "code": "ConditionalRequestConflict"},
    "done-500": {"do": "error", "when": "after"},
    "reset-before": {"do": "reset", "count": 2},
    "reset-mid": {"do": "reset", "when": "mid", "bytes": MIB},
    "reset-after": {"do": "reset", "when": "after"},
    "changed": {"do": "corrupt", "when": "mid", "bytes": 2 * MIB},
    "other-etag": {"do": "etag", "when": "after"},
    "slow": {"do": "stall", "ms": 300},
}
# of GetObject, one file each; what comes in one piece is held against its checksum
WHOLE = 600000
READS = {
    "refused-500": {"do": "error", "count": 2},
    "refused-503": {"do": "error", "code": "SlowDown"},
    "reset-before": {"do": "reset"},
    "reset-instead": {"do": "reset", "when": "after"},
    "changed": {"do": "corrupt", "bytes": 300000},
    "cut": {"do": "truncate", "bytes": 300000},
    "empty": {"do": "truncate", "bytes": 0},
    "slow": {"do": "trickle", "bytes": 4 * MIB},
}
# of CompleteMultipartUpload
COMPLETES = {
    "inside-not-done": {"do": "inside"},
    "inside-done": {"do": "inside", "when": "after"},
    "reset-after": {"do": "reset", "when": "after"},
}


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def met(sim, count):
    hits = sim.hits()
    check(len(hits) == count and 0 not in hits, f"not every fault was met: {hits}")
    sim.clear()


def put(bed, key, data, **more):
    return bed.s3().put_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + key, Body=data, **more)


def in_store(bed, key):
    return bed.s3().get_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + key)["Body"].read()


def same_in_store(bed, files):
    for key, data in files.items():
        check(in_store(bed, key) == data, f"{key} has other bytes in the store")
    check({key for key in bed.keys() if not key.endswith("/")} == set(files), f"other objects: {sorted(bed.keys())}")


def writes(bed, sim, client):
    step("writes")
    files = {f"w/{name}": noise(name, SMALL) for name in WRITES}
    files.update({f"r/{name}": noise(name, WHOLE) for name in READS})
    files.update({f"large/{name}": noise(name, LARGE) for name in COMPLETES})
    for name, order in WRITES.items():
        sim.fault("PutObject", f"{bed.S3_PREFIX}w/{name}", **order)
    for name, order in COMPLETES.items():
        sim.fault("CompleteMultipartUpload", f"{bed.S3_PREFIX}large/{name}", **order)
    for directory in ("w", "r", "large"):
        client.mkdir(directory)
    for name, data in files.items():
        client.put(name, data)
    bed.flush()
    met(sim, len(WRITES) + len(COMPLETES))
    same_in_store(bed, files)
    uploads = bed.s3().list_multipart_uploads(Bucket=bed.S3_BUCKET).get("Uploads", [])
    check(not uploads, f"parts were left: {[upload['Key'] for upload in uploads]}")
    check(bed.ctl_json("status")["counters"]["conflicts"] == 0, "our own write was taken for somebody else's")
    return files


def reads(bed, sim, files):
    step("reads, on a new disk")
    bed.wipe()
    for name, order in READS.items():
        sim.fault("GetObject", f"{bed.S3_PREFIX}r/{name}", **order)
    sim.fault("GetObject", f"{bed.S3_PREFIX}w/slow", "truncate", bytes=MIB // 2, skip=1)
    sim.fault("ListObjectsV2", "", "truncate", bytes=100)
    sim.fault("ListObjectsV2", "", "error", code="SlowDown")
    # a range of a small file, of which nothing is given out before all is right, and of a large one
    sim.fault("GetObject", f"{bed.S3_PREFIX}w/reset-mid", "corrupt", bytes=1000, skip=2)
    sim.fault("GetObject", f"{bed.S3_PREFIX}large/reset-after", "corrupt", bytes=1000, skip=5)
    with bed.client() as client:
        for name, data in files.items():
            try:
                got = client.get(name)
            except SmbError as error:
                check(name == "large/reset-after", f"{name}: {error}")
                step(f"{name}, of which a byte came wrong: {error}")
                got = client.get(name)
            check(got == data, f"{name}: other bytes")
        met(sim, len(READS) + 5)
    counters = bed.ctl_json("status")["counters"]
    check(counters["recalls_wrong"] == 2, f"wrong bytes were noticed {counters['recalls_wrong']} times")
    check(counters["recalls_untold"] == 0, f"of {counters['recalls_untold']} files nothing was known")


def between(bed, sim, client, files):
    step("another writer, while a rename's copy is on its way")
    name, other = "w/slow", noise("other", 1000)
    sim.fault("CopyObject", f"{bed.S3_PREFIX}w/moved", "stall", ms=-1)
    client.rename(name, "w/moved")
    wait_until(lambda: sim.hits() == [1], 60, "the copy is held")
    put(bed, name, other)
    sim.clear()
    bed.flush()
    check(in_store(bed, "w/moved") in (files[name], other), "the copy is neither")
    kept = {key: in_store(bed, key) for key in bed.keys() if key.startswith("w/") and not key.endswith("/")}
    check(files[name] in kept.values(), f"what was renamed is nowhere: {sorted(kept)}")
    check(other in kept.values(), f"what the other one wrote is nowhere: {sorted(kept)}")

    step("another writer, while a delete is on its way")
    sim.fault("DeleteObject", f"{bed.S3_PREFIX}w/changed", "stall", ms=-1)
    client.unlink("w/changed")
    wait_until(lambda: sim.hits() == [1], 60, "the delete is held")
    put(bed, "w/changed", other)
    sim.clear()
    bed.flush()
    check(in_store(bed, "w/changed") == other, "what the other one wrote was deleted")
    refused = sim.requests("DeleteObject").get(412, 0) + sim.requests("CopyObject").get(412, 0)
    check(refused > 0, "nothing was refused for its condition")
    bed.ctl("refresh", f"{bed.MIRROR}/w")
    check(client.get("w/changed") == other, "it is not on the share")


def archived(bed, sim, client):
    step("an archived object, and its restore")
    data = noise("cold", SMALL)
    put(bed, "w/cold", data, StorageClass="DEEP_ARCHIVE")
    bed.ctl("refresh", f"{bed.MIRROR}/w")
    check("w/cold" in bed.keys(), "it is not listed")
    try:
        client.get("w/cold")
        fail("an archived object was read")
    except SmbError:
        pass
    check(sim.requests("GetObject").get(403, 0) > 0, "it was not tried")
    bed.s3().restore_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + "w/cold", RestoreRequest={"Days": 1})

    def readable():
        try:
            return client.get("w/cold") == data
        except SmbError:
            return False

    wait_until(readable, 60, "it is restored and read")


def credentials(bed, sim, client):
    step("credentials that expire, and that may nothing")
    for error in ("ExpiredToken", "AccessDenied", "InvalidAccessKeyId"):
        sim.key(bed.S3_ACCESS_KEY, error=error)
        before = sum(sim.requests("PutObject").values())
        client.put(f"w/during {error}", error.encode() * 100)
        wait_until(lambda: sum(sim.requests("PutObject").values()) > before, 60, "it is tried")  # pylint: disable=cell-var-from-loop
        sim.key(bed.S3_ACCESS_KEY, error=None)
        bed.flush()
        check(in_store(bed, f"w/during {error}") == error.encode() * 100, f"after {error}: other bytes")


def outage(bed, client):
    step("the store is away for a moment: written on, and readers wait for it")
    client.put("w/stub", noise("stub", 5000))
    bed.flush()
    bed.ctl("evict", "w/stub")
    bed.stop("store")
    found = []

    def read():
        with bed.client() as other:
            found.append(other.get("w/stub"))
    reader = threading.Thread(target=read)
    reader.start()
    wait_until(lambda: "w/stub: attempt 8 failed" in bed.log(), what="it is asked for more often than `retries` says")
    check(not found, "bytes, and nobody was there to give them")
    client.put("w/away", b"away")
    bed.start("store")
    reader.join(60)
    check(found == [noise("stub", 5000)], "the reader has not got its bytes")
    bed.flush()
    check(in_store(bed, "w/away") == b"away", "what was written while the store was away")


def main():
    with Testbed(store="s3sim", set=["settle time=200ms", "read patience=2m"]) as bed:
        sim = bed.sim()
        check(bed.ctl_json("status")["volumes"][0]["fence"]["class"] == 3, "not F3")
        with bed.client() as client:
            files = writes(bed, sim, client)
        reads(bed, sim, files)
        with bed.client() as client:
            between(bed, sim, client, files)
            archived(bed, sim, client)
            credentials(bed, sim, client)
            outage(bed, client)


if __name__ == "__main__":
    main()
