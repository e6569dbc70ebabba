#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""trust metadata = signed. Who may write to the bucket, and does not have the key, gives nobody a right: by the
metadata of objects, of directories and the root, by the log, bases and the volume record, made up or copied from
where they were right. A new host with the key has every right as it was; without it nobody is let in. A volume
that was not signed loses nothing when it is."""

import base64
import json
import os
import shutil
import time

from bucket_reader import load_s3, read
from smb import SmbError, Testbed, bed_path, check, check_same, configure, ready, step, volume, wait_until

ALL = "0x001f01ff"
OPEN = f"D:P(A;OICI;{ALL};;;WD)"
MANY = "".join(f"(A;;0x1200a9;;;S-1-5-21-11-22-33-{1000 + number})" for number in range(40))
NAME, PROOF = "objectfs", "objectfs-proof"
NOBODY = "ab" * 16  # a node that never was


def key_file(path, *keys, until=None):
    """until: since this time what the last one signs counts no more."""
    lines = [base64.b64encode(key).decode() for key in keys]
    if until is not None:
        lines[-1] += time.strftime(" %Y-%m-%dT%H:%M:%SZ", time.gmtime(until))
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
    return path


def lose_disk(bed, while_away=lambda: None, **options):
    """The local disk is lost; `while_away` happens to the bucket meanwhile."""
    bed.stop("cached")
    configure(bed, **options)
    shutil.rmtree(os.path.dirname(bed.mirror))
    while_away()
    bed.start("cached")


def held(bed, why):
    wait_until(lambda: why in (volume(bed)["why"] or ""), 20, f"the volume is not used: {why}")
    try:
        with bed.client(user="admin"):
            pass
    except SmbError:
        return
    check(False, "somebody is let in")


def may_read(bed, path):
    """Does user 2, to whom none of it belongs, read the file?"""
    try:
        with bed.client(user=2) as client:
            client.get(path)
    except SmbError:
        return False
    return True


def rights(bed, path=""):
    """As an administrator sees them, whom no ACL keeps out."""
    return bed.manifest(path, user="admin")


def set_acl(bed, path, sddl):
    with bed.client() as client:
        handle = client.create(path)
        client.set_sddl(handle, sddl)
        client.close(handle)


def fill(bed):
    """What one user keeps to himself, and what all may read; everything that writes metadata is done once."""
    with bed.client() as client:
        client.mkdir("closed")
        me = client.manifest("closed", content=False)[""]["sd"].split("O:")[1].split("G:")[0]
    mine = f"D:P(A;OICI;{ALL};;;{me})"
    set_acl(bed, "closed", mine)
    with bed.client() as client:
        client.mkdir("open")
        client.mkdir("closed/below")
        for number in range(6):
            client.put(f"open/{number}", b"secret")
            client.put(f"closed/{number}", b"secret", eas={"k": b"v"})
        client.put("closed/blob", b"secret", sddl=mine + MANY)
        client.put("closed/below/inner", b"secret", streams={"s": b"S" * 999})
        client.put("closed/large", os.urandom(9 << 20))
        client.put("closed/logged", b"secret", sddl=OPEN)
        client.put("closed/empty", b"")
    set_acl(bed, "open", OPEN)
    set_acl(bed, "open/0", OPEN)
    bed.flush(60)
    set_acl(bed, "closed/logged", mine)  # in the log alone
    with bed.client() as client:
        client.rename("closed/1", "closed/one")
        client.rename("closed/large", "closed/big")
        client.rename("closed/below", "closed/under")
        client.put("closed/2", b"changed")
        client.unlink("closed/3")
    bed.flush(60)
    return mine


class Bucket:
    """What somebody may do who has the bucket's credentials, and no key."""

    def __init__(self, bed, prefix):
        self.s3, self.bucket, self.prefix = bed.s3(), bed.s3_bucket, prefix

    def head(self, key):
        return self.s3.head_object(Bucket=self.bucket, Key=self.prefix + key)

    def meta(self, key):
        return self.head(key)["Metadata"]

    def body(self, key):
        return self.s3.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()

    def put(self, key, body, meta=None):
        self.s3.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=body, Metadata=meta or {})

    def delete(self, key):
        self.s3.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def keep(self, key):
        """A function that puts it back as it is now."""
        body, meta = self.body(key), self.meta(key)
        return lambda: self.put(key, body, meta)

    def describe(self, key, meta):
        """Other metadata, the same bytes."""
        self.put(key, self.body(key), meta)

    def keys(self, below):
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix + below)
        return [item["Key"][len(self.prefix):] for page in pages for item in page.get("Contents", [])]


def live(bed, bucket, mine):
    step("while the mirror is there")
    bucket.put("closed/blob", b"other bytes", bucket.meta("open/0"))
    bed.ctl("refresh", "closed")

    def arrived():
        with bed.client() as client:
            return client.get("closed/blob") == b"other bytes"

    wait_until(arrived, 30, "another program's bytes are there")
    check(not may_read(bed, "closed/blob"), "its rights are believed")
    node = volume(bed)["node"]
    key = f".objectfs/log/{node}/{len(bucket.keys(f'.objectfs/log/{node}/')) + 1:016x}"
    bed.flush(40)  # the rights that the disk has kept
    while key in bucket.keys(f".objectfs/log/{node}/"):
        key = f"{key[:-16]}{int(key[-16:], 16) + 1:016x}"
    bucket.put(key, b"what is next in the log")
    set_acl(bed, "closed/logged", mine + "(A;;0x00120089;;;S-1-5-21-11-22-33-1)")
    bed.flush(40)
    check(PROOF in bucket.meta(key) and bucket.body(key).startswith(b"objectfs-log"), "not replaced")


def recover(bed, conf):
    """What it says of the volume; nobody says yes."""
    keys = os.path.join(bed.dir, "keys")
    with open(keys, "w", encoding="ascii") as file:
        file.write(f"[default]\naws_access_key_id = {bed.s3_access_key}\n"
                   f"aws_secret_access_key = {bed.s3_secret_key}\n")
    return bed.inside(f"{bed.testbed_build}/objectfsctl", "-c", conf, "recover", "--name", "test", "--endpoint",
                      bed.s3_endpoint, "--credentials", keys, "--smb-conf", bed.smb_conf, "--no-start",
                      f"s3://{bed.s3_bucket}/{bed.s3_prefix.rstrip('/')}", may_fail=True)


def forge(bucket):
    """Every way to say `everybody may read it`. The keys."""
    given = bucket.meta("open/0")
    own = {key: bucket.meta(f"closed/{key}") for key in ("0", "2", "4", "5", "one")}
    bucket.describe("closed/0", given)  # another object's, with its proof
    bucket.describe("closed/2", {NAME: given[NAME]})  # unsigned
    mixed = base64.b64decode(own["4"][NAME])[:91] + base64.b64decode(given[NAME])[91:]
    bucket.describe("closed/4", dict(own["4"], **{NAME: base64.b64encode(mixed).decode()}))
    bucket.describe("closed/5", dict(own["5"], **{PROOF: given[PROOF]}))
    bucket.put("closed/one", b"other bytes", own["one"])  # a tool that keeps metadata
    bucket.describe("closed/under/", bucket.meta("open/"))
    segment(bucket, oid_of(bucket, "closed/logged"))
    heads = [key for key in bucket.keys(".objectfs/dir/") if key.endswith("/head")]
    for key in heads:
        bucket.describe(key, {})
    check(heads, "no base was written")
    return len(heads) + 1,  {"closed/" + key for key in ("0", "2", "4", "5", "one", "under/")}


def segment(bucket, oid):
    """A log of a node that nobody knows: this object is open."""
    snapshot = base64.b64encode(base64.b64decode(bucket.meta("open/0")[NAME])[91:]).decode()
    uuid = json.loads(bucket.body(".objectfs/volume"))["uuid"]
    text = f"objectfs-log 1 {uuid} {NOBODY} 1\nM {oid} 999999999 1 {snapshot}\n"
    crc = 0xffffffff
    for byte in text.encode():
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    bucket.put(f".objectfs/log/{NOBODY}/{1:016x}", f"{text}end 1 {crc ^ 0xffffffff:08x}\n".encode())


def oid_of(bucket, key):
    return base64.b64decode(bucket.meta(key)[NAME])[2:18].hex()


def forged(bed, bucket, was):
    step("forged objects, directories, logs and bases")
    mark, done = len(bed.log()), []
    lose_disk(bed, lambda: done.append(forge(bucket)))  # while nobody writes a base
    ready(bed)
    (others, keys), = done
    keys |= {"closed/blob"}  # since before, and its rights are in the log
    now = rights(bed)
    changed = {key.rstrip("/") for key in keys}
    for path, entry in was.items():
        check(path in now, f"{path} is not there")
        if path not in changed:
            check(entry["sd"] == now[path]["sd"], f"{path} has other rights")
    for path in changed | {"closed/logged"}:
        check("WD" not in now[path]["sd"].split("D:")[1], f"{path}: {now[path]['sd']}")
    check(not may_read(bed, "closed/0") and not may_read(bed, "closed/logged") and may_read(bed, "open/0"),
          "other rights than those that were signed")
    count = len(keys) + others
    check(volume(bed)["unproven"] == count, f"{volume(bed)['unproven']} not believed, {count} forged")
    check(bed.ctl_json("status")["counters"]["metadata_unproven"] == count, "not counted")
    bed.ctl("refresh", "closed")
    rights(bed)
    lines = [line for line in bed.log()[mark:].splitlines() if "taken for another program's" in line]
    check(len(lines) == len(keys), f"{len(lines)} lines: {lines}")
    code, text = bed.ctl("doctor", may_fail=True)
    check(code == 1 and "metadata-unproven" in text and f"{count} objects" in text, text)
    text = bed.ctl("fsck", may_fail=True)[1]
    check(all(text.count(f"{bucket.prefix}{key}") > 0 for key in keys) and "not signed" in text, text)


def closed(bed, bucket, what, key, why, change):
    step(what)
    back = bucket.keep(key)
    lose_disk(bed, lambda: change(key))
    held(bed, why)
    back()


def shut(bed, bucket, was, mine, other):
    bed.ctl("flush", "--wait")
    node = [key for key in bucket.keys(".objectfs/log/") if NOBODY not in key]
    closed(bed, bucket, "a forged segment of a node", node[-1], "not signed with",
           lambda key: bucket.put(key, bucket.body(key)))
    closed(bed, bucket, "forged rights of the root", ".objectfs/root", "not signed with",
           lambda key: bucket.describe(key, bucket.meta("open/")))
    closed(bed, bucket, "a volume record of somebody else's", ".objectfs/volume", "is not signed",
           lambda key: bucket.put(key, bucket.body(key)))
    step("without the key")
    lose_disk(bed, trust_metadata="all", signing_key_file=None)
    held(bed, "there is no key here")
    said = recover(bed, os.path.join(bed.dir, "new.conf"))
    check("nothing was changed" in said and "there is no key here" in said, said)
    lose_disk(bed, trust_metadata="signed", signing_key_file=other)
    held(bed, "another key")
    check("not signed with a key of" in recover(bed, bed.conf), "recover takes another key")
    step("with it")
    lose_disk(bed, signing_key_file=mine)
    said = recover(bed, bed.conf)
    check("signed" not in said and "key here" not in said and "serve" in said, said)
    ready(bed)
    now = rights(bed, "open")
    check(all(entry["sd"] == was[f"open/{path}".rstrip("/")]["sd"] for path, entry in now.items()),
          "other rights")


def rotated(bed, bucket, path, old, new):
    step("a new key, and the one before it")
    for forgery in bucket.keys(f".objectfs/log/{NOBODY}/") + bucket.keys(".objectfs/dir/"):
        bucket.delete(forgery)
    key_file(path, new, old)
    bed.restart("cached")
    ready(bed)
    before = bucket.meta("open/1")[PROOF]
    with bed.client() as client:
        client.put("open/1", b"anew!")
    bed.flush(40)
    check(bucket.meta("open/1")[PROOF][:5] != before[:5] and
          bucket.meta("open/2")[PROOF][:5] == before[:5], "signed with the other key")
    was = rights(bed, "open")
    lose_disk(bed)
    ready(bed)
    check_same(was, rights(bed, "open"), "signed with either key")
    check(volume(bed)["unproven"] == 0, "a key is not accepted")
    step("that one became known")
    check(bucket.meta("open/4")[PROOF][:5] == before[:5], "signed anew")
    until = int(time.time()) + 1
    key_file(path, new, old, until=until)
    wait_until(lambda: time.time() > until + 1, 10, "its time is over")
    bucket.describe("open/4", bucket.meta("open/4"))  # rightly signed, as who has the key could
    lose_disk(bed)
    ready(bed)
    now = rights(bed, "open")
    check(volume(bed)["unproven"] == 1, f"{volume(bed)['unproven']} objects are not believed")
    check("open/4: its metadata are signed with another key, or one that counts no more" in bed.log(), "it is not said")
    check_same({name: entry for name, entry in was.items() if name != "4"},
               {name: entry for name, entry in now.items() if name != "4"}, "signed while nobody knew it")


def migrated(bed, mine):
    step("a volume that was not signed")
    lose_disk(bed, prefix="own/", trust_metadata="all", signing_key_file=None)
    ready(bed)
    fill(bed)
    bucket = Bucket(bed, "own/")
    check(PROOF not in bucket.meta("closed/0"), "signed without a key")
    lose_disk(bed, trust_metadata="signed", signing_key_file=mine)
    held(bed, "never was signed")
    lose_disk(bed, trust_metadata="all", signing_key_file=None)
    ready(bed)
    rights(bed, "open")
    configure(bed, trust_metadata="signed", signing_key_file=mine)
    bed.restart("cached")
    ready(bed)
    with bed.client() as client:
        client.rename("closed/0", "closed/zero")
    bed.flush(40)
    check(PROOF in bucket.meta("closed/zero"), "what is moved is not signed")
    with bed.client() as client:
        client.rename("closed/zero", "closed/0")
    bed.flush(40)
    was = rights(bed)
    lose_disk(bed)
    ready(bed)
    check_same(was, rights(bed), "signed since")
    check(volume(bed)["unproven"] == 0, "what was there before is not believed")
    back = bucket.keep("closed/2")
    time.sleep(1)   # the store dates to the second: what is forged is younger than the first signed one
    bucket.describe("closed/2", {NAME: bucket.meta("open/0")[NAME]})
    lose_disk(bed)
    ready(bed)
    readable = may_read(bed, "closed/2")
    check(not readable and volume(bed)["unproven"] == 1, f"unsigned, and believed: read {readable}, unproven {volume(bed)['unproven']}")
    step("the key is lost for good: the record says so as RECOVERY has it")
    back()
    record = json.loads(bucket.body(".objectfs/volume"))
    record["features"].remove("signed")
    del record["signed"]
    lose_disk(bed, lambda: bucket.put(".objectfs/volume", json.dumps(record).encode()),
              trust_metadata="all", signing_key_file=None)
    ready(bed)
    check_same(was, rights(bed), "signed no more")


def main():
    old, new = os.urandom(32), os.urandom(32)
    path = bed_path()
    mine = key_file(os.path.join(os.path.dirname(path), "key"), old)
    other = key_file(os.path.join(os.path.dirname(path), "other"), new)
    with Testbed(store="rgw", path=path, set=[
            "settle time=200ms", "log flush=200ms", "base quiet=1s", "base names=2",
            "trust metadata=signed", f"signing key file={mine}"]) as bed:
        bucket = Bucket(bed, bed.s3_prefix)
        mine_only = fill(bed)
        was = rights(bed)
        wait_until(lambda: any(key.endswith("/head") for key in bucket.keys(".objectfs/dir/")), 40,
                   "a base is written")
        share = read(load_s3(bucket.s3, bucket.bucket, bucket.prefix), bucket.prefix, keys=[old])
        check(not share.problems, "\n".join(share.problems))
        step("a new disk")
        lose_disk(bed)
        ready(bed)
        check_same(was, rights(bed), "after the loss of the disk")
        check(volume(bed)["unproven"] == 0 and volume(bed)["trust"] == "signed", f"{volume(bed)}")
        live(bed, bucket, mine_only)
        forged(bed, bucket, rights(bed))
        shut(bed, bucket, was, mine, other)
        rotated(bed, bucket, mine, old, new)
        migrated(bed, mine)


main()
