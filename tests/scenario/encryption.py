#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption in the store: what a share writes is encrypted as the volume says, reads and renames work, other tools'
objects keep theirs. A customer's key that is not the volume's is refused before anything is written with
it; an object that nobody here can read hides only itself. Ceph RGW: SSE-KMS, SSE-C."""

import os
import shutil

from rgw import KMS
from smb import Testbed, check, check_same, configure, ready, step, volume, wait_until

LARGE = os.urandom(6 << 20)
ALGORITHM = "SSECustomerAlgorithm"


def refused(bed):
    wait_until(lambda: "another key" in (volume(bed)["why"] or ""), 20, "the key is refused")
    check(volume(bed)["state"] == "held", f"{volume(bed)}")


def key_file(bed, name, data):
    path = os.path.join(bed.dir, name)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    return path


def fill(bed):
    """Files made, changed, renamed, recalled; the share's manifest."""
    with bed.client() as client:
        client.mkdir("d")
        for name, data in (("d/small", b"small"), ("d/large", LARGE), ("d/moved", b"moved"),
                           ("d/empty", b"")):
            client.put(name, data, eas={"k": b"v" * 3000})  # a blob, too
        bed.flush()
        client.put("d/small", b"changed")
        client.rename("d/moved", "d/again")
        client.rename("d/large", "d/big")
        bed.flush()
        client.rename("d", "e")
        bed.flush()
        bed.ctl("evict", "e")
        check(client.get("e/big") == LARGE and client.get("e/again") == b"moved", "other bytes")
        return client.manifest()


def wipe(bed):
    """As testbed does, and the configuration stays."""
    for part in ("smbd", "cached"):
        bed.stop(part)
    shutil.rmtree(os.path.dirname(bed.mirror))
    for part in ("cached", "smbd"):
        bed.start(part)


def all_of_it(bed, prefix, seen):
    """Every object of the volume is encrypted: seen(HEAD) is true."""
    s3 = bed.s3()
    keys = [item["Key"] for item in s3.list_objects_v2(
        Bucket=bed.s3_bucket, Prefix=prefix)["Contents"]]
    check(any("/blob/" in key for key in keys), f"no blob: {keys}")
    for key in keys:
        check(seen(s3, key), f"{key} is not encrypted as it should be")


def kms(bed):
    step("SSE-KMS")
    before = fill(bed)
    all_of_it(bed, bed.s3_prefix, lambda s3, key: s3.head_object(
        Bucket=bed.s3_bucket, Key=key).get("SSEKMSKeyId") == KMS[0])
    wipe(bed)
    check_same(before, bed.manifest(), "after the loss of the disk")


def customer(bed):
    step("a customer's key")
    s3 = bed.s3()
    key = os.urandom(32)
    mine, other = key_file(bed, "key", key), key_file(bed, "other", os.urandom(32))
    configure(bed, encryption="customer", kms_key=None, prefix="own/", customer_key_file=mine)
    wipe(bed)
    ready(bed)
    completes = [asked for asked in volume(bed)["probe"] if asked["step"] == "COMPLETE-MULTIPART" and
                 asked["condition"] == "If-None-Match: *" and asked["expected"] == "ok"]
    check([asked["got"] for asked in completes] == ["ok"], f"uploads in parts: {completes}")
    before = fill(bed)
    with_key = {ALGORITHM: "AES256", "SSECustomerKey": key}
    all_of_it(bed, "own/", lambda s3, name: s3.head_object(
        Bucket=bed.s3_bucket, Key=name, **with_key).get(ALGORITHM) == "AES256")
    step("objects of other tools")
    s3.put_object(Bucket=bed.s3_bucket, Key="own/e/plain", Body=b"plain", ContentType="text/plain")
    s3.put_object(Bucket=bed.s3_bucket, Key="own/e/kms", Body=b"kms", SSEKMSKeyId=KMS[1],
                  ServerSideEncryption="aws:kms")
    s3.put_object(Bucket=bed.s3_bucket, Key="own/e/hidden", Body=b"hidden",
                  **{ALGORITHM: "AES256", "SSECustomerKey": os.urandom(32)})
    bed.ctl("refresh", "e")
    with bed.client() as client:
        check(client.get("e/plain") == b"plain" and client.get("e/kms") == b"kms", "other bytes")
        names = [entry[0] for entry in client.list("e")]
        check("hidden" not in names and "plain" in names, f"{names}")
        client.put("e/plain", b"mine now")
        bed.flush()
    answer = s3.head_object(Bucket=bed.s3_bucket, Key="own/e/plain", **with_key)
    check(answer[ALGORITHM] == "AES256" and answer["ContentType"] == "text/plain", f"{answer}")
    step("a bucket that is not the volume's")
    configure(bed, prefix="elsewhere/")
    bed.restart("cached")
    wait_until(lambda: "belongs to volume" in str(volume(bed)["why"]), 30, "it is refused")
    strangers = s3.list_objects_v2(Bucket=bed.s3_bucket, Prefix="elsewhere/").get("Contents", [])
    check(not strangers, f"something was written there: {strangers}")
    configure(bed, prefix="own/")
    bed.restart("cached")
    ready(bed)
    step("another key")
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bed.s3_bucket)["Contents"]]
    configure(bed, customer_key_file=other)
    bed.restart("cached")
    refused(bed)
    with bed.client() as client:
        check(client.get("e/plain") == b"mine now", "what is here is not served")
    bed.stop("smbd")
    bed.stop("cached")
    shutil.rmtree(os.path.dirname(bed.mirror))
    bed.start("cached")
    refused(bed)
    check(keys == [item["Key"] for item in s3.list_objects_v2(Bucket=bed.s3_bucket)["Contents"]],
          "something was written with it")
    configure(bed, customer_key_file=mine)
    bed.restart("cached")
    ready(bed)
    bed.start("smbd")
    after = bed.manifest()
    for name in ("e/plain", "e/kms"):
        after.pop(name)
    for entry in (before, after):
        entry["e"].pop("write", None)
    check_same(before, after, "with the right key again")


def main():
    with Testbed(store="rgw", set=["settle time=200ms", "encryption=kms",
                                   f"kms key={KMS[0]}"]) as bed:
        kms(bed)
        customer(bed)


main()
