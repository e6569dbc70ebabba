#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What other tools set on objects - headers, user metadata, tags, storage class, encryption - is there after a
client has overwritten, replaced or renamed them; objects of our own cost no request for it. What cannot be
kept is told, or makes the file wait, by setting. Ceph RGW, and a `dir` store for the settings."""

import json

import dirstore
from rgw import KMS, Rgw
from smb import Testbed, check, step, wait_until

HEADERS = {"ContentType": "text/html; charset=utf-8", "CacheControl": "max-age=60, public",
           "ContentDisposition": 'attachment; filename="a b.html"', "ContentLanguage": "de-CH",
           "ContentEncoding": "identity", "Expires": "Wed, 21 Oct 2099 07:28:00 GMT",
           "StorageClass": "STANDARD_IA", "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KMS[1]}
TAGS = {"class": "a/b c", "empty": ""}
META = {"author": "M. Muster", "review": "=?UTF-8?B?w7w=?="}
LARGE = 6 << 20
WEB = "web/"  # all is in a directory that a client made, whose rights it has


class Web:
    """The client, in that directory."""

    def __init__(self, client):
        self.client = client
        client.mkdir(WEB[:-1])

    def put(self, name, data):
        self.client.put(WEB + name, data)

    def get(self, name):
        return self.client.get(WEB + name)

    def mkdir(self, name):
        self.client.mkdir(WEB + name)

    def rename(self, name, target, replace=False):
        self.client.rename(WEB + name, WEB + target, replace)


class Bucket:
    def __init__(self, bed):
        self.bed, self.s3 = bed, bed.s3()

    def at(self, name):
        return {"Bucket": self.bed.s3_bucket, "Key": self.bed.s3_prefix + WEB + name}

    def put(self, name, data=b"<p>", tags=True, **more):
        arguments = dict(HEADERS, Metadata=META)
        if tags:
            arguments["Tagging"] = "&".join(f"{k}={v}" for k, v in TAGS.items()).replace(" ", "%20")
        arguments.update(more)
        self.s3.put_object(Body=data, **self.at(name), **arguments)

    def tags(self, name):
        return {tag["Key"]: tag["Value"] for tag in
                self.s3.get_object_tagging(**self.at(name))["TagSet"]}

    def verify(self, name, data, what, tags=None, meta=None, headers=None):
        answer = self.s3.get_object(**self.at(name))
        check(answer["Body"].read() == data, f"{what}: other bytes")
        for header, value in (HEADERS if headers is None else headers).items():
            found = answer["ResponseMetadata"]["HTTPHeaders"]["expires"] if header == "Expires" \
                else answer.get(header)
            check(found == value, f"{what}: {header} is {found!r}")
        for key, value in (META if meta is None else meta).items():
            check(answer["Metadata"].get(key) == value, f"{what}: metadata {answer['Metadata']}")
        check("objectfs" in answer["Metadata"], f"{what}: {answer['Metadata']} without ours")
        found = self.tags(name)
        check(found == (TAGS if tags is None else tags), f"{what}: tags {found}")
        return answer


def counters(bed):
    return bed.ctl_json("status")["counters"]


def grown(bed, before, *names):
    after = counters(bed)
    return tuple(after[name] - before[name] for name in names)


def overwrites(bed, bucket, client):
    bucket.put("page")
    bucket.put("replaced")
    bucket.put("replaced late")
    bucket.put("renamed", Metadata=dict(META, md5chksum="of the old bytes"))
    of_bytes = {"md5chksum": "of the old bytes", "file-mtime": "5000000000ns", "ctime": "5"}
    bucket.put("page 2", Metadata=dict(META, **of_bytes))
    bed.ctl("refresh", "web")
    step("overwritten")
    before = counters(bed)
    for name in ("page", "page 2"):
        client.put(name, b"new")
    bed.flush()
    bucket.verify("page", b"new", "overwritten")
    answer = bucket.verify("page 2", b"new", "overwritten")
    check(not set(of_bytes) & set(answer["Metadata"]), f"of the old bytes, put on the new ones: {answer['Metadata']}")
    check(grown(bed, before, "properties_kept", "properties_lost") == (2, 0), "not counted")
    step("replaced by a rename")
    client.put("tmp", b"saved")
    client.rename("tmp", "replaced", replace=True)
    bed.flush()
    bucket.verify("replaced", b"saved", "replaced")
    client.put("tmp", b"saved late")
    bed.flush()
    client.rename("tmp", "replaced late", replace=True)
    bed.flush()
    bucket.verify("replaced late", b"saved late", "replaced by what had been sent")
    client.put("replaced late", b"again")
    bed.flush()
    bucket.verify("replaced late", b"again", "and overwritten")
    step("renamed")
    client.rename("renamed", "renamed 2")
    bed.flush()
    answer = bucket.s3.head_object(**bucket.at("renamed 2"))
    check(answer["Metadata"]["md5chksum"] == "of the old bytes", "renamed: the same bytes, no sum")
    client.put("renamed 2", b"r")
    bed.flush()
    bucket.verify("renamed 2", b"r", "renamed and overwritten")
    client.mkdir("dir")
    client.rename("page", "dir/page")
    bed.flush()
    client.rename("dir", "folder")
    bed.flush()
    bucket.verify("folder/page", b"new", "renamed with its directory")


def large(bed, bucket, client):
    """Above `copy limit`: through this machine, or sent anew."""
    step("renamed above the copy limit")
    data = bytes(LARGE)
    for name in ("large", "large here"):
        bucket.put(name, data)
    bed.ctl("refresh", "web")
    check(client.get("large here") == data, "read")
    client.rename("large", "large 2")
    client.rename("large here", "large here 2")
    bed.flush()
    for name in ("large 2", "large here 2"):
        answer = bucket.s3.head_object(**bucket.at(name))
        check(answer["ContentType"] == HEADERS["ContentType"], f"{name}: {answer}")
        check(answer["StorageClass"] == "STANDARD_IA" and answer["SSEKMSKeyId"] == KMS[1] and
              answer["Metadata"]["author"] == META["author"], f"{name}: {answer}")
        check(bucket.tags(name) == TAGS, f"{name}: tags {bucket.tags(name)}")


def own(bed, bucket, client):
    step("objects of our own")
    for i in range(4):
        client.put(f"own {i}", b"1")
    bed.flush()
    before = counters(bed)
    with bed.unheard():
        for i in range(4):
            client.put(f"own {i}", b"2")
    bed.flush()
    with bed.unheard():
        client.put("tmp", b"3")
        client.rename("tmp", "own 0", replace=True)
    bed.flush()
    extra = grown(bed, before, "s3_head", "s3_other")
    # The directory's marker is looked at before it is written: once for each flush.
    check(extra[0] <= 2 and extra[1] == 0, f"requests for objects of our own: {extra}")
    step("what another tool sets on them later")
    bucket.s3.put_object_tagging(**bucket.at("own 1"), Tagging={"TagSet": [
        {"Key": "k", "Value": "v"}]})
    bed.ctl("evict", WEB + "own 1")
    bed.ctl("refresh", "web")  # says when ours were written
    source = bucket.at("own 2")
    metadata = bucket.s3.head_object(**source)["Metadata"]
    wait_until(lambda: bucket.s3.copy_object(
        **source, CopySource=source, MetadataDirective="REPLACE", Metadata=metadata,
        ContentType="text/plain")["CopyObjectResult"]["LastModified"].timestamp() >
        bucket.s3.head_object(**bucket.at("own 1"))["LastModified"].timestamp() + 1, 10,
        "another second")
    bed.ctl("refresh", "web")
    for name in ("own 1", "own 2"):
        client.put(name, b"4")
    bed.flush()
    bucket.verify("own 1", b"4", "tagged", tags={"k": "v"}, meta={}, headers={})
    bucket.verify("own 2", b"4", "typed", tags={}, meta={}, headers={"ContentType": "text/plain"})


def rights(bed, bucket, client):
    step("tags that may not be read")
    bucket.put("tagged")
    bed.ctl("refresh", "web")
    bucket.s3.put_bucket_policy(Bucket=bed.s3_bucket, Policy=json.dumps({
        "Version": "2012-10-17", "Statement": [{
            "Effect": "Deny", "Principal": {"AWS": ["arn:aws:iam:::user/objectfs"]},
            "Action": ["s3:GetObjectTagging"], "Resource": [f"arn:aws:s3:::{bed.s3_bucket}/*"]}]}))
    client.put("tagged", b"waits")

    def said():
        return [text for text in bed.ctl_json("status")["volumes"][0]["denied"]
                if "s3:GetObjectTagging is missing" in text]

    wait_until(said, 20, "the right is named")
    wait_until(lambda: [item for item in bed.ctl_json("pending")["pending"]
                        if "s3:GetObjectTagging" in (item.get("reason") or "")], what="pending names it")
    bucket.s3.delete_bucket_policy(Bucket=bed.s3_bucket)
    bed.flush()
    bucket.verify("tagged", b"waits", "when it may")
    wait_until(lambda: not said(), 20, "nothing is refused any more")


def too_much(setting):
    """Metadata for which there is no room, in a `dir` store."""
    step(f"no room, foreign properties = {setting}")
    with Testbed(store="dir", set=["settle time=200ms", f"foreign properties={setting}"]) as bed, \
            bed.client() as client:
        dirstore.put_object(bed, "full", b"1", meta={"note": "x" * 1900, "short": "s"})
        bed.ctl("refresh", ".")
        client.put("full", b"2")
        if setting == "refuse":
            wait_until(lambda: [item for item in bed.ctl_json("pending")["pending"]
                                if "note (no room" in (item.get("reason") or "")], 20, "it waits")
            check(dirstore.get_object(bed, "full") == b"1", "it was sent all the same")
            return
        bed.flush()
        check(dirstore.get_object(bed, "full") == b"2", "not sent")
        check(counters(bed)["properties_lost"] == 1 and "note (no room" in bed.log(), "not told")
        with open(dirstore.object_path(bed, "full"), "rb") as file:
            head = file.read(dirstore.HEAD_BYTES)
        check(b"\nmeta short s\n" in head and b"\nmeta note" not in head, head)


def main():
    with Testbed(store="rgw", set=["settle time=200ms", "copy limit=5M", "part size=5M"]) as bed:
        Rgw(f"{bed.dir}/store", {}).add_class("STANDARD_IA")
        bed.restart("store")
        bucket = Bucket(bed)
        with bed.client() as connection:
            client = Web(connection)
            bed.flush()
            overwrites(bed, bucket, client)
            large(bed, bucket, client)
            own(bed, bucket, client)
            rights(bed, bucket, client)
    for setting in ("keep", "refuse"):
        too_much(setting)


main()
