#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 180
"""objectfsctl fsck: each damage that a bucket can have is told; --repair mends what can be mended, loses
nothing, and says of the rest what to do. What nobody names goes after two looks, and only then.
"""

import hashlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import dirstore
from bucket_reader import read_bed
from bucket_values import Value, meta_of
from smb import Testbed, check, check_same, step, wait_until

UPLOADS = 101  # more than a page
EVERYONE = "(A;OICI;0x1f01ff;;;WD)"


def many_aces(count):
    return "D:P" + "".join(f"(A;;0x1200a9;;;S-1-5-21-11-22-33-{1000 + number})"
                           for number in range(count)) + EVERYONE


def node(serving):
    return json.dumps({"format": "objectfs node 1", "node": "ef" * 16, "host": "far", "place": "ef" * 16,
                       "version": "1", "log": 0, "serving": serving}).encode()


def counter(bed, name):
    return bed.ctl_json("status")["counters"][name]


class Store:
    """As other programs have it."""

    def __init__(self, bed):
        self.bed = bed

    def key(self, key):
        return self.bed.s3_prefix + key if self.bed.s3_bucket else key

    def put(self, key, data, meta=None):
        if self.bed.s3_bucket:
            self.bed.s3().put_object(Bucket=self.bed.s3_bucket, Key=self.key(key), Body=data,
                                     Metadata=meta or {})
        else:
            dirstore.put_object(self.bed, key, data, meta=meta, etag=hashlib.md5(data).hexdigest())

    def delete(self, key):
        if self.bed.s3_bucket:
            self.bed.s3().delete_object(Bucket=self.bed.s3_bucket, Key=self.key(key))
        else:
            dirstore.delete_object(self.bed, key)

    def get(self, key):
        return read_bed(self.bed).objects[self.key(key)].body()

    def keys(self):
        skip = len(self.bed.s3_prefix) if self.bed.s3_bucket else 0
        return {key[skip:] for key in read_bed(self.bed).objects}


found = 0


def fsck(bed, *argv):
    """(exit status, {kind: [key]}, the whole answer)"""
    global found
    code, output = bed.ctl("--json", "fsck", *argv, may_fail=True)
    check("}" in output, f"{argv}: {code} {output[-1000:]}")
    answer = json.loads(output[:output.rindex("}") + 1])
    kinds = {}
    for one in answer.get("findings", []):
        kinds.setdefault(one["kind"], []).append(one["key"])
    check(answer.get("wrong", 0) == sum(len(keys) for keys in kinds.values()), f"{answer}")
    found += answer.get("wrong", 0)
    return code, kinds, answer


def ours(manifest):
    """Without the directories that only others' objects imply: no time of theirs is kept."""
    return {path: entry for path, entry in manifest.items() if path.split("/")[0] != "deep"}


def sound(bed, share_before):
    """Nothing is wrong in the bucket, by the document's own reader, and a new disk has all."""
    share = read_bed(bed)
    check(not share.problems, f"the reader finds {share.problems}")
    bed.wipe()
    with bed.client() as client:
        step("what a directory that was never listed lacks is not missed")
        client.list("")
        Store(bed).put("never/other", b"x")
        code, kinds, answer = fsck(bed, "--older", "1")
        check(code == 0 and not kinds and answer["complete"], f"{answer}")
        Store(bed).delete("never/other")
        check_same(ours(share_before), ours(client.manifest()), "mended, and the disk was lost")


def build(bed):
    with bed.client() as client:
        for name, aces in (("damaged", 30), ("lost", 40), ("plain", 0), ("fine", 50)):
            client.put(name, name.encode() * 100, sddl=many_aces(aces))
        client.mkdir("never")
        client.put("never/seen", b"x")
        client.list("")
        bed.flush()
        for number in range(2):
            file = client.create("plain")
            client.set_basic(file, times={"write": 133000000000000000 + number})
            client.close(file)
            bed.flush()
        return client.manifest()


def scenario(bed):
    global found
    found = 0
    store = Store(bed)
    before = build(bed)
    code, kinds, answer = fsck(bed)
    check(code == 0 and not kinds and answer["complete"] and answer["objects"] >= 4, f"a sound bucket: {answer}")
    check("0 found" in bed.ctl("fsck", "test"), "text")
    if not bed.s3_bucket:
        uploads = os.path.join(bed.store_dir, "multipart")
        os.rename(uploads, uploads + "-away")
        code, kinds, answer = fsck(bed)
        os.rename(uploads + "-away", uploads)
        check(code != 0 and not kinds and not answer["complete"], f"what cannot be listed is a finding: {answer}")

    step("damages")
    share = read_bed(bed)
    blob = {}
    for name in ("damaged", "lost"):
        value = Value.parse(share.objects[share.files[name]["key"]].meta["objectfs"])
        blob[name] = next(".objectfs/blob/" + x[0].hex() for x in value.snapshot.xattrs.values()
                          if isinstance(x, tuple))
    store.put(blob["damaged"], b"other bytes")
    store.delete(blob["lost"])
    orphan = b"named by nobody" * 100
    orphan_key = ".objectfs/blob/" + hashlib.sha256(orphan).hexdigest()
    store.put(orphan_key, orphan)
    log = sorted(key for key in store.keys() if key.startswith(".objectfs/log/"))
    segment = bytearray(store.get(log[0]))
    segment[len(segment) // 2] ^= 4
    store.put(log[0], bytes(segment))
    store.delete("plain")
    store.put("grave", b"", meta_of(Value(os.urandom(16))))
    probe = ".objectfs/probe/0123456789abcdef/a"
    parked = ".objectfs/stage/" + "ab" * 16
    stray = ".objectfs/stray"
    for key in (probe, parked, stray):
        store.put(key, b"x")
    hidden = "hidden ä"
    for key in (hidden, "deep/er/one", "deep/two"):
        store.put(key, b"nobody here has heard of it")
    if bed.s3_bucket:
        for _ in range(UPLOADS):
            bed.s3().create_multipart_upload(Bucket=bed.s3_bucket, Key=store.key("given up"))

    step("they are told, and nothing else; nothing is touched")
    keys = store.keys()
    wanted = {"blob": {blob["damaged"], blob["lost"]}, "orphan": {orphan_key}, "log": {".objectfs/log/"},
              "object-missing": {"plain"}, "tombstone": {"grave"}, "probe": {probe},
              "stage": {parked}, "unknown": {stray}, "row-missing": {hidden, "deep/er/one"}}
    if bed.s3_bucket:
        wanted["upload"] = {"given up"}
    count = sum(len(some) for some in wanted.values()) + (UPLOADS - 1 if bed.s3_bucket else 0)
    wait_until(lambda: fsck(bed, "--older", "1")[2]["wrong"] == count, 20, f"all {count} are a second old")
    before_look = counter(bed, "fsck_found")
    code, kinds, answer = fsck(bed, "--older", "1")
    check(answer["wrong"] == count and counter(bed, "fsck_found") == before_look + count,
          f"{answer['wrong']} found, not {count}")
    for kind, some in wanted.items():
        if kind == "log":
            check(any(log[0] in one["detail"] for one in answer["findings"]), f"log: {answer}")
        else:
            check(set(kinds.get(kind, [])) == {store.key(key) for key in some}, f"{kind}: {kinds}")
    check(set(kinds) == set(wanted) and code == 1 and answer["mended"] == 0, f"{answer}")
    check(store.keys() == keys, "a look changed something")
    young = fsck(bed)[1] if bed.s3_bucket else {}  # dirstore.put_object's are old
    check("orphan" not in young and "tombstone" not in young and "probe" not in young and
          "row-missing" not in young and "upload" not in young, f"what is young counts: {young}")

    step("mended")
    before = counter(bed, "fsck_mended")
    code, kinds, answer = fsck(bed, "--repair", "--older", "1")
    check(code == 1 and set(kinds) == set(wanted), f"{answer}")
    check(0 < answer["mended"] == counter(bed, "fsck_mended") - before, f"{answer['mended']} mended, another number counted")
    bed.flush()
    keys = store.keys()
    check(orphan_key in keys, "swept at first sight")
    if not bed.s3_bucket:  # it is years old there: of the two looks the second came too soon
        check(fsck(bed, "--repair", "--older", "700000")[2]["swept"] == 0 and orphan_key in store.keys(), "so soon")
    check({"plain", blob["lost"], parked, stray} <= keys and not {"grave", probe, log[0]} & keys, f"{keys}")
    check(hashlib.sha256(store.get(blob["damaged"])).hexdigest() == blob["damaged"][-64:], "the blob")
    with bed.client() as client:
        names = {entry[0] for entry in client.list("")}
        check({hidden, "deep"} <= names and client.get("deep/er/one") and client.get("deep/two"), f"{names}")
    step("a node that came since: it may name what nothing named")
    other = ".objectfs/nodes/" + "ef" * 16
    store.put(other, node(True))
    wait_until(lambda: "it stays" in str(fsck(bed, "--repair", "--older", "1")[2]), 20, "the other is heard of")
    check(fsck(bed, "--repair", "--older", "1")[2]["swept"] == 0 and orphan_key in store.keys(), "it is swept")
    store.put(other, node(False))
    step("it goes at a later look")
    wait_until(lambda: fsck(bed, "--repair", "--older", "1")[2]["swept"] == 1, 20, "a later look sweeps")
    check(orphan_key not in store.keys(), "it is not swept")
    check(set(fsck(bed, "--older", "1")[1]) == {"stage", "unknown"}, "what is left")
    for key in (parked, stray):
        store.delete(key)
    code, kinds, answer = fsck(bed, "--repair", "--older", "1")
    check(code == 0 and not kinds, f"{answer}")
    counters = bed.ctl_json("status")["counters"]
    check(counters["blobs_swept"] == 1 and counters["fsck_found"] == found, f"{found} found: {counters}")

    step("a value that nobody names is written again while its deletion is under way, or named in between")
    with bed.client() as client:
        file = client.create("fine")
        client.set_sddl(file, many_aces(31))
        client.close(file)
        bed.flush()
        file = client.create("fine")
        client.write(file, 0, b"content")  # nothing names the first ACL any more
        client.close(file)
        bed.flush()
        fsck(bed, "--repair", "--older", "1")
        file = client.create("fine")
        client.set_sddl(file, many_aces(50))
        client.close(file)
        bed.flush()
        fsck(bed, "--repair", "--older", "1")
        before = client.manifest()
    sound(bed, before)


def came_meanwhile():
    """Another node comes while fsck goes through the objects: it may name what nobody named when that began."""
    with Testbed(store="s3sim", set=["settle time=100ms", "listing age=0"]) as bed:
        store, sim = Store(bed), bed.sim()
        with bed.client() as client:
            client.put("file", b"content")
        bed.flush()
        orphan = b"named by nobody" * 100
        key, other = ".objectfs/blob/" + hashlib.sha256(orphan).hexdigest(), ".objectfs/nodes/" + "ef" * 16
        store.put(key, orphan)

        def mends():
            return [one["mend"] for one in fsck(bed, "--older", "1")[2]["findings"] if one["kind"] == "orphan"]

        wait_until(lambda: mends() != [], 20, "it is a second old")
        fsck(bed, "--repair", "--older", "1")
        wait_until(lambda: mends() == ["deleted"], 20, "the next look would sweep it")
        sim.fault("HeadObject", "*file", "stall", ms=-1)
        with ThreadPoolExecutor(1) as thread:
            look = thread.submit(fsck, bed, "--repair", "--older", "1")
            wait_until(lambda: sim.hits() == [1], 60, "it goes through the objects")
            store.put(other, node(True))
            sim.clear()
            check(look.result()[2]["swept"] == 0 and key in store.keys(), "it is swept all the same")
        store.put(other, node(False))
        wait_until(lambda: fsck(bed, "--repair", "--older", "1")[2]["swept"] == 1, 20, "the other one has gone")


def main():
    step("a node that comes meanwhile")
    came_meanwhile()
    for store in ("dir", "rgw"):
        step(f"store {store}")
        with Testbed(store=store, set=["settle time=100ms", "listing age=0"]) as bed:
            scenario(bed)


if __name__ == "__main__":
    sys.exit(main())
