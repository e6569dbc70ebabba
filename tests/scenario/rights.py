#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/IAM.md: with the policy on that page a share works end to end; without one of its rights the daemon
says which, in status, doctor and log, nothing is lost, and all goes on when the right is back. A second
user of a real Ceph RGW, whom the bucket's owner grants what the page says.
"""

import json
import os
import re
import shutil

from rgw import Rgw
from smb import ROOT, SmbError, Testbed, check, check_same, step, volume, wait_until

KEY, SECRET = "RIGHTSKEY", "rightssecret"
SMALL, LARGE = b"small " * 1000, os.urandom(3 << 20)


def documented(bed):
    """{Sid: statement} of the page, about this bucket."""
    with open(f"{ROOT}/docs/IAM.md", encoding="utf-8") as file:
        blocks = re.findall(r"```json\n(.*?)```", file.read(), re.DOTALL)
    found = [json.loads(block.replace("example-bucket", bed.s3_bucket)
                        .replace("projects/", bed.s3_prefix)) for block in blocks]
    statements = found[0]["Statement"] + [item for item in found[1:] if isinstance(item, dict)]
    return {statement["Sid"]: statement for statement in statements}


class Bucket:
    """The bucket, as its owner sees it."""

    def __init__(self, bed):
        self.bed = bed
        self.s3 = bed.s3()
        owner = dict(bed.env)
        bed.env.update(S3_ACCESS_KEY=KEY, S3_SECRET_KEY=SECRET)
        self.gateway = bed.s3()  # an object is its writer's: the owner may list it, and not read it
        bed.env.update(owner)
        self.statements = documented(bed)

    def grant(self, *denied, listing="ListCeph", more=()):
        """What the page says, without these rights."""
        statements = [dict(self.statements[name]) for name in ("Objects", listing, "Never", *more)]
        if denied:  # an object's writer could read it all the same
            statements.append({"Effect": "Deny", "Action": list(denied), "Resource": [
                f"arn:aws:s3:::{self.bed.s3_bucket}", f"arn:aws:s3:::{self.bed.s3_bucket}/*"]})
        for statement in statements:
            statement["Principal"] = {"AWS": ["arn:aws:iam:::user/gateway"]}
        self.s3.put_bucket_policy(Bucket=self.bed.s3_bucket, Policy=json.dumps(
            {"Version": "2012-10-17", "Statement": statements}))

    def get(self, name):
        return self.gateway.get_object(Bucket=self.bed.s3_bucket,
                                       Key=self.bed.s3_prefix + name)["Body"].read()


def findings(bed):
    """[(id, reason)] of what doctor finds of the store, apart from advice."""
    _, output = bed.ctl("--json", "doctor", "--smb-conf", bed.smb_conf, may_fail=True)
    return [(item["id"], item["reason"]) for item in json.loads(output)["findings"]
            if item["component"] == "store" and item["level"] != "advice"]


def says(bed, right, finding="store-denied"):
    """Status, doctor and log name this right, and no other."""
    wanted = f"{right} is missing"
    wait_until(lambda: any(wanted in text for text in volume(bed)["denied"]), 20,
               f"status says that {wanted}")
    denied = volume(bed)["denied"]
    check(len(denied) == 1, f"more than one sentence: {denied}")
    check(denied[0] in bed.ctl("status"), "status in text does not say so")
    check(findings(bed) == [(finding, denied[0])], f"doctor: {findings(bed)}")
    check(wanted in bed.log(), f"the log does not say that {wanted}")


def nothing_denied(bed):
    wait_until(lambda: volume(bed)["state"] == "ready" and not volume(bed)["denied"], 20,
               "nothing is refused any more")
    check(not findings(bed), f"doctor: {findings(bed)}")


def restart(bed):
    bed.restart("cached")
    nothing_denied(bed)


def all_of_it(bed):
    with bed.client() as client:
        client.mkdir("dir")
        client.mkdir("dir/below")
        for name, data in (("dir/small", SMALL), ("dir/below/large", LARGE), ("moved", b"moved"),
                           ("gone", b"gone")):
            client.put(name, data, eas={"k": name.encode()})
        bed.flush()
        client.rename("dir", "folder")
        client.rename("moved", "folder/moved")
        client.unlink("gone")
        bed.flush()
        bed.ctl("evict", "folder")
        check(client.get("folder/below/large") == LARGE, "recalled: other bytes")
        before = client.manifest()
    names = {"folder/small": len(SMALL), "folder/below/large": len(LARGE), "folder/moved": 5}
    wait_until(lambda: {key: size for key, size in bed.keys().items() if key[-1] != "/"} == names, 20,
               "the bucket has what the share has")
    for part in ("smbd", "cached"):
        bed.stop(part)
    shutil.rmtree(os.path.dirname(bed.mirror))
    for part in ("cached", "smbd"):
        bed.start(part)
    check_same(before, bed.manifest(), "after the loss of the disk")
    nothing_denied(bed)


def put(bed, bucket):
    with bed.client() as client:
        bucket.grant("s3:PutObject")
        client.put("late", LARGE)
        says(bed, "s3:PutObject")
        check(client.get("late") == LARGE, "what cannot be sent is not here")
    check("late" not in bed.keys(), "it was sent all the same")
    bucket.grant()
    bed.flush()
    check(bucket.get("late") == LARGE, "sent late: other bytes")
    nothing_denied(bed)


def delete(bed, bucket):
    bucket.grant("s3:DeleteObject")
    with bed.client() as client:
        client.unlink("late")
        says(bed, "s3:DeleteObject")
        check("late" in bed.keys(), "it was deleted all the same")
        check("late" not in [entry[0] for entry in client.list("")], "it is back")
    bucket.grant()
    bed.flush()
    wait_until(lambda: "late" not in bed.keys(), 20, "the object goes when the right is back")
    nothing_denied(bed)


def get(bed, bucket):
    bed.ctl("evict", "folder")
    bucket.grant("s3:GetObject")
    with bed.client() as client:
        try:
            check(client.get("folder/below/large") is None, "it was read all the same")
        except SmbError as error:
            check(error.name == "NT_STATUS_ACCESS_DENIED", error.name)
        says(bed, "s3:GetObject")
        client.rename("folder/moved", "folder/again")
        wait_until(lambda: any("denied" in (item.get("reason") or "") for item
                               in bed.ctl_json("pending")["pending"]), 20, "the rename waits")
        says(bed, "s3:GetObject")
        bucket.grant()
        check(client.get("folder/below/large") == LARGE, "read late: other bytes")
    bed.flush()
    wait_until(lambda: "folder/again" in bed.keys() and "folder/moved" not in bed.keys(), 20,
               "the rename is done when the right is back")
    check(bucket.get("folder/again") == b"moved", "renamed late: other bytes")
    nothing_denied(bed)


def listing(bed, bucket):
    with bed.client() as client:
        bucket.grant("s3:ListBucket")
        bed.ctl("refresh", "folder", may_fail=True)
        try:
            client.list("folder")
        except SmbError:
            pass
        says(bed, "s3:ListBucket")
    before = bed.keys()
    for denied, statement in (["s3:ListBucket"], "ListCeph"), ([], "List"):
        bucket.grant(*denied, listing=statement)
        bed.restart("cached")
        wait_until(lambda: "s3:ListBucket is missing" in (volume(bed)["why"] or ""), 20,
                   "found at the start")
        why = volume(bed)["why"]
        check(volume(bed)["state"] == "connecting" and not volume(bed)["denied"], f"{volume(bed)}")
        check(findings(bed) == [("store-denied", why)], f"doctor: {findings(bed)}")
        check(why in bed.log() and why in bed.ctl("status"), f"not said: {why}")
        check(bed.keys() == before, "the bucket was changed")
        for name in before:
            check(os.path.exists(os.path.join(bed.mirror, name)), f"{name} was removed")
    bucket.grant()
    restart(bed)


def abort(bed, bucket):
    bucket.grant("s3:AbortMultipartUpload")
    bed.restart("cached")
    says(bed, "s3:AbortMultipartUpload", "parts-left")
    with bed.client() as client:
        client.put("folder/without", b"abort")
    bed.flush()
    check(bucket.get("folder/without") == b"abort", "the share does not work")
    bucket.grant()
    restart(bed)


def versions(bed, bucket):
    """A versioned bucket, whose PUTs have no conditions here: nothing but its versions tells writers apart."""
    bucket.s3.put_bucket_versioning(Bucket=bed.s3_bucket, VersioningConfiguration={"Status": "Enabled"})
    bed.restart("cached")
    wait_until(lambda: volume(bed)["state"] == "held", 20, "the volume is held")
    why = volume(bed)["why"]
    check("s3:ListBucketVersions is missing" in why and "F1" in why, f"why: {why}")
    check(findings(bed) == [("store-held", why)], f"doctor: {findings(bed)}")
    bucket.grant(more=("Versions",))
    restart(bed)
    check(volume(bed)["fence"]["class"] == 1, f"{volume(bed)['fence']}")
    with bed.client() as client:
        client.put("folder/versioned", b"one")
        bed.flush()
        client.put("folder/versioned", b"other")
        bed.flush()
        check(bucket.get("folder/versioned") == b"other", "overwritten: other bytes")
        client.rename("folder/versioned", "folder/renamed")
        bed.flush()
        client.unlink("folder/renamed")
        bed.flush()
    check(not [key for key in bed.keys() if "versioned" in key or "renamed" in key], f"left: {bed.keys()}")
    nothing_denied(bed)


def main():
    with Testbed(store="rgw", set=["settle time=200ms", "retries=1"]) as bed:
        step("with what the page says")
        Rgw(f"{bed.dir}/store", {}).admin("user", "create", "--uid=gateway", "--display-name=gateway",
                                         f"--access-key={KEY}", f"--secret-key={SECRET}")
        bucket = Bucket(bed)
        bucket.grant()
        with open(bed.conf, encoding="utf-8") as file:
            text = file.read()
        for key, value in (("access key", KEY), ("secret key", SECRET)):
            text = re.sub(rf"(?m)^\t{key} = .*$", f"\t{key} = {value}", text)
        with open(bed.conf, "w", encoding="utf-8") as file:
            file.write(text)
        restart(bed)
        all_of_it(bed)
        with bed.client() as client:
            kept = client.manifest("folder")
        for without in (put, delete, get, listing, abort):
            step(f"without the right to {without.__name__}")
            without(bed, bucket)
        with bed.client() as client:
            after = client.manifest("folder")
        kept, after = ({path: entry for path, entry in names.items()
                        if re.search("(small|large)$", path)} for names in (kept, after))
        check(len(kept) == 2, f"{sorted(kept)}")
        check_same(kept, after, "after all of it")
        step("with versions")
        versions(bed, bucket)


main()
