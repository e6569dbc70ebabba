#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 280
"""The bucket is not what it was: another one answers, it was emptied, it is an earlier state of itself, all of it is
archived, or gone. At a start of the daemon, and under one that runs: nothing is removed or changed here, what is here is
read, what is not is an error, changes wait, it is said once, in words; with the right bucket back all is as if nothing
had been. Where it never comes back, what is here is put into another one.

Each case is tried on a directory with a file in each state: here, a stub, overwritten, made, renamed, deleted, and one
that nobody has listed.
"""

import json
import os
import random
import shutil

from local import is_out
from smb import Testbed, check, refused, skip, step, volume, wait_until

AWAY = {"NT_STATUS_IO_DEVICE_ERROR", "NT_STATUS_IO_TIMEOUT"}
OWN = ".objectfs/"


def noise(seed, size=3000):
    return random.Random(seed).randbytes(size)


class Bucket:
    """All of it, as another tool sees it."""

    def __init__(self, bed):
        self.bed = bed
        self.s3 = bed.s3()

    def save(self):
        """{key: (bytes, metadata)}, the prefix in the key."""
        saved = {}
        for key in self.bed.keys(internal=True):
            got = self.s3.get_object(Bucket=self.bed.S3_BUCKET, Key=self.bed.S3_PREFIX + key)
            saved[key] = (got["Body"].read(), got["Metadata"])
        return saved

    def load(self, saved, **options):
        """Nothing but this."""
        self.empty([key for key in self.bed.keys(internal=True) if key not in saved])
        for key, (data, meta) in saved.items():
            self.put(key, data, Metadata=meta, **options)

    def restore(self, saved):
        """What is archived can be read again."""
        for key in self.bed.keys(internal=True):
            head = self.s3.head_object(Bucket=self.bed.S3_BUCKET, Key=self.bed.S3_PREFIX + key)
            if head.get("StorageClass") == "GLACIER" and key in saved:
                self.put(key, saved[key][0], Metadata=saved[key][1])

    def epoch(self):
        """What the daemon says in it, with its first change after a start, or an hour after the last time."""
        return max((json.loads(self.get(key))["epoch"] for key in self.bed.keys(internal=True)
                    if key.startswith(OWN + "nodes/")), default=0)

    def put(self, key, data, **options):
        self.s3.put_object(Bucket=self.bed.S3_BUCKET, Key=self.bed.S3_PREFIX + key, Body=data, **options)

    def get(self, key):
        return self.s3.get_object(Bucket=self.bed.S3_BUCKET, Key=self.bed.S3_PREFIX + key)["Body"].read()

    def empty(self, keys=None):
        for key in self.bed.keys(internal=True) if keys is None else keys:
            self.s3.delete_object(Bucket=self.bed.S3_BUCKET, Key=self.bed.S3_PREFIX + key)


# --- what is wrong with it: does it to the bucket, returns what it is called ---------------------------

def emptied(bucket, _saved):
    bucket.empty()
    return "store-held", "wrong or emptied bucket"


def emptied_from_below(bucket, _saved):
    """rm -r, interrupted before it came to the volume record."""
    bucket.empty([key for key in bucket.bed.keys(internal=True) if key != OWN + "volume"])
    return "store-held", "an earlier state of itself, or not all of it"


def expired(bucket, saved):
    """A rule deletes what is oldest."""
    bucket.empty([OWN + "volume", *(key for key in saved if key.endswith("/here"))])
    return "store-held", "wrong or emptied bucket"


def other_record(saved):
    text = saved[OWN + "volume"][0].split(b'"uuid": "', 1)
    return text[0] + b'"uuid": "' + b"0123456789abcdef" * 2 + text[1][32:], {}


def foreign(bucket, saved):
    """Another volume's, with the same names, and bytes of its own."""
    other = {key: (noise("theirs" + key), {}) for key in saved if not key.startswith(OWN) and not key.endswith("/")}
    other[OWN + "volume"] = other_record(saved)
    bucket.load(other)
    return "store-held", "wrong bucket: this mirror belongs to volume"


def archived(bucket, saved):
    """A rule moves everything where it cannot be read at once."""
    bucket.load(saved, StorageClass="GLACIER")
    return None, None


def no_bucket(bucket, _saved):
    bucket.bed.sim().fault("*", "*", "error", code="NoSuchBucket", count=-1)
    return "bucket-gone", None


CASES = (emptied, emptied_from_below, expired, foreign, archived, no_bucket)


# --- one case ------------------------------------------------------------------------------------------

def found(bed):
    return {item["id"]: item["reason"] for item in bed.ctl_json("health")["components"] if "id" in item}


def told(bed, since, words):
    return [line for line in bed.log()[since:].splitlines()
            if words in line and any(f" {level} " in line for level in ("ERROR", "WARNING", "NOTICE"))]


def begun(bed, bucket):
    """The epoch of a daemon that was started and has changed nothing."""
    bed.flush()
    bed.restart("cached")
    wait_until(lambda: volume(bed)["state"] == "ready", what="it is ready")
    return bucket.epoch()


def fill(bed, client, bucket, top):
    """{name: bytes} of what is there, with the stub out and one directory that nobody has listed."""
    epoch = begun(bed, bucket)
    files = {f"{top}/{name}": noise(top + name) for name in ("here", "second", "stub", "over", "away", "gone")}
    client.mkdir(top)
    for name, data in files.items():
        client.put(name, data)
    bed.flush()
    bed.ctl("evict", f"{top}/stub")
    wait_until(lambda: is_out(bed, f"{top}/stub"), what="the stub is out")
    bucket.put(f"{top}-unseen/theirs", noise("theirs"))
    bed.ctl("refresh", bed.mirror)
    wait_until(lambda: bucket.epoch() > epoch, what="the epoch goes on")
    return files


def changes(client, files, top):
    """What clients do meanwhile."""
    for name in ("over", "made"):
        files[f"{top}/{name}"] = noise(top + name + " written")
        client.put(f"{top}/{name}", files[f"{top}/{name}"])
    client.rename(f"{top}/away", f"{top}/moved")
    files[f"{top}/moved"] = files.pop(f"{top}/away")
    client.unlink(f"{top}/gone")
    del files[f"{top}/gone"]


def stays(client, files, top):
    """Nothing has gone, and no byte is another's."""
    names = {f"{top}/{entry[0]}" for entry in client.list(top)}
    check(names == set(files), f"{sorted(names ^ set(files))} came, or went")
    for name, data in files.items():
        if not name.endswith("/stub"):
            check(client.get(name) == data, f"{name}: other bytes")


def judge(bed, bucket, client, files, top):
    bed.flush()
    stays(client, files, top)
    stored = {key for key in bed.keys() if key.startswith(f"{top}/") and not key.endswith("/")}
    check(stored == set(files), f"in S3, and not to be, or not: {sorted(stored ^ set(files))}")
    for name, data in files.items():
        check(client.get(name) == data and bucket.get(name) == data, f"{name}: other bytes")
    check(client.get(f"{top}-unseen/theirs") == noise("theirs"), "what nobody had listed")
    check(bed.ctl_json("status")["counters"]["conflicts"] == 0, "a conflict with nobody")


def case(bed, bucket, wrong, at_start):
    top = wrong.__name__ + (" start" if at_start else "")
    step(f"{wrong.__name__}, {'at a start' if at_start else 'under a daemon that runs'}")
    with bed.client() as client:
        files = fill(bed, client, bucket, top)
        saved = bucket.save()
        if at_start:
            bed.stop("cached")
        finding, words = wrong(bucket, saved)
        before = bed.keys(internal=True) if finding == "store-held" else None
        since = len(bed.log())
        if at_start:
            bed.start("cached")
        else:
            # all it lacks is seen by a listing; the second one says nothing more
            bed.ctl("refresh", top, may_fail=True)
        if finding == "store-held":
            wait_until(lambda: volume(bed)["state"] == "held", what="it is held")
            check(words in volume(bed)["why"] and words in bed.ctl("status"), f"status: {volume(bed)['why']}")
        changes(client, files, top)
        code, output = bed.ctl("refresh", top, may_fail=True)
        check(code != 0 or wrong in (archived,), f"a listing of it is believed: {output}")
        stays(client, files, top)
        refused("a read of the stub", lambda: client.get(f"{top}/stub"), *AWAY)
        if finding is not None:
            refused("a name that nobody knows", lambda: client.get(f"{top}-unseen/theirs"), *AWAY)
            wait_until(lambda: finding in found(bed), what=f"{finding} is found")
        if words is not None:
            wait_until(lambda: told(bed, since, words), what="the log says it")
            bed.ctl("refresh", top, may_fail=True)
            bed.ctl("evict", f"{top}/here", may_fail=True)
            check(len(told(bed, since, words)) == 1, "\n".join(told(bed, since, words)))
            lines = told(bed, since, "volume ")
            check(len(lines) <= 6, f"{len(lines)} lines:\n  " + "\n  ".join(lines))
        if finding == "store-held":
            check(bed.keys(internal=True) == before, "it was written to")
        if finding == "store-held":
            wait_until(lambda: sum(words in item["reason"] for item in bed.ctl_json("pending")["pending"]) >= 3,
                       what="what waits says why")
        bed.stop("cached")
        bed.sim().clear()
        if wrong is archived:
            bucket.restore(saved)
        else:
            bucket.load(saved)
        bed.start("cached")
        wait_until(lambda: volume(bed)["state"] == "ready", what=f"it is ready again: {volume(bed)}")
        judge(bed, bucket, client, files, top)
        check(not {"store-held", "bucket-gone"} & set(found(bed)), f"still found: {found(bed)}")


def sent_elsewhere(bed, bucket):
    """Before anybody noticed, files went into the other bucket."""
    step("sent to another bucket before it was noticed")
    with bed.client() as client:
        files = fill(bed, client, bucket, "elsewhere")
        saved = bucket.save()
        copy = dict(saved)      # a replica that was given to another volume: nothing in it is missing, or other
        copy[OWN + "volume"] = other_record(saved)
        bucket.load(copy)
        made = {f"elsewhere/new-{number}": noise(f"new {number}") for number in range(5)}
        for name, data in made.items():
            client.put(name, data)
        bed.flush()
        check(set(made) <= set(bed.keys()), "they are not in the other one")
        files.update(made)
        bed.restart("cached", kill=True)
        wait_until(lambda: volume(bed)["state"] == "held", what="it is held")
        bed.stop("cached", kill=True)
        bucket.load(saved)
        bed.start("cached")
        wait_until(lambda: volume(bed)["state"] == "ready", what="it is ready again")
        bed.ctl("refresh", "elsewhere")
        judge(bed, bucket, client, files, "elsewhere")


def start_anew(bed):
    """TROUBLESHOOTING.md, The bucket is not what it was: the bucket as it is counts, and what is here is put there."""
    top = os.path.dirname(bed.mirror)
    bed.stop("smbd")
    bed.stop("cached")
    os.rename(top, top + ".before")
    bed.start("cached")
    wait_until(lambda: volume(bed)["state"] == "ready", what="it is ready")
    bed.start("smbd")
    with bed.client() as client:
        client.manifest(content=False)  # all of it is listed
    bed.stop("smbd")
    bed.inside("sh", "-c", f"cd {top}.before/tree && find . -mindepth 1 '(' -type d -o -type f ! -perm -1000 ')' -print0 |"
               f"rsync -aX --filter='-x security.objectfs' --from0 --files-from=- --modify-window=-1 --backup --suffix=.restored . {bed.mirror}/")
    bed.restart("cached")
    wait_until(lambda: not volume(bed)["cache"]["census"], what="all that is on the disk is found")
    bed.flush()
    bed.start("smbd")
    shutil.rmtree(top + ".before")


def earlier(bed, bucket, running):
    """Restored from a copy: of some files an older version is there, others are not, deleted ones are."""
    top = "running" if running else "earlier"
    step(f"an earlier state of itself, {'under a daemon that runs' if running else 'at a start'}")
    with bed.client() as client:
        epoch = begun(bed, bucket)
        client.mkdir(top)
        for name in ("same", "changed", "stub", "deleted"):
            client.put(f"{top}/{name}", noise(f"{top} first {name}"))
        bed.flush()
        wait_until(lambda: bucket.epoch() == epoch + 1, what="the epoch goes on")
        copy = bucket.save()
        bed.restart("cached")   # or an hour later
        wait_until(lambda: volume(bed)["state"] == "ready", what="it is ready")
        files = {f"{top}/same": noise(f"{top} first same")}
        for name in ("changed", "stub", "made"):
            files[f"{top}/{name}"] = noise(f"{top} then {name}")
            client.put(f"{top}/{name}", files[f"{top}/{name}"])
        client.unlink(f"{top}/deleted")
        bed.flush()
        wait_until(lambda: bucket.epoch() == epoch + 2, what="the epoch goes on")
        bed.ctl("evict", f"{top}/stub")
        since = len(bed.log())
        now = bucket.save()
        if not running:
            bed.stop("cached")
        bucket.load(copy)
        if not running:
            bed.start("cached")
        else:
            bed.ctl("refresh", top, may_fail=True)
        wait_until(lambda: volume(bed)["state"] == "held", what="it is held")
        check("an earlier state of itself" in volume(bed)["why"], volume(bed)["why"])
        check(len(told(bed, since, "an earlier state of itself")) == 1, "it is told more than once")
        check("store-held" in found(bed), f"{found(bed)}")
        check(bed.keys(internal=True) == {key: len(data) for key, (data, _) in copy.items()}, "it was written to")
        stays(client, files, top)
        refused("a read of the stub", lambda: client.get(f"{top}/stub"), *AWAY)
        if running:
            bed.stop("cached")
            bucket.load(now)
            bed.start("cached")
            wait_until(lambda: volume(bed)["state"] == "ready", what="it is ready again")
            bed.flush()
            check(client.get(f"{top}/stub") == files[f"{top}/stub"], "the stub: other bytes")
            stays(client, files, top)
    if not running:
        step("... and it is all there is")
        start_anew(bed)
        with bed.client() as client:
            here = {entry[0]: client.get(f"{top}/{entry[0]}") for entry in client.list(top)}
        for name, data in here.items():
            check(bucket.get(f"{top}/{name}") == data, f"{name}: other bytes in S3")
        check(set(here) == {"same", "made", "changed", "changed.restored", "stub", "deleted"}, f"{sorted(here)}")
        for name in ("same", "made", "changed"):
            check(here[name] == files[f"{top}/{name}"], f"{name}: other bytes than were here")
        for name, of in (("changed.restored", "changed"), ("stub", "stub"), ("deleted", "deleted")):
            check(here[name] == noise(f"{top} first {of}"), f"{name}: not what the copy has")


def all_again(bed, bucket):
    """The bucket is gone for good: what is here is put into an empty one."""
    step("everything that is here is put into an emptied bucket")
    with bed.client() as client:
        files = fill(bed, client, bucket, "again")
        client.mkdir("again/deep")
        files["again/deep/empty"] = b""
        client.put("again/deep/empty", b"", sddl="D:P(A;;0x1f01ff;;;SY)(A;;0x1f01ff;;;WD)(A;;0x1200a9;;;S-1-5-32-546)")
        bed.flush()
        bed.stop("cached")
        bucket.empty()
        bed.start("cached")
        wait_until(lambda: volume(bed)["state"] == "held", what="it is held")
        changes(client, files, "again")
        before = client.manifest("again", content=False)
        lost = bed.inside("find", f"{bed.mirror}/again", "-type", "f", "-perm", "-1000").split()
        check(lost == [f"{bed.mirror}/again/stub"], f"only in the bucket that is gone: {lost}")
    start_anew(bed)
    del files["again/stub"], before["stub"]
    for wiped in (False, True):
        with bed.client() as client:
            after = client.manifest("again", content=False)
            check(set(before) == set(after), f"{set(before) ^ set(after)}")
            for name, entry in before.items():
                for field in ("type", "size", "sd", "attributes", "eas", "streams"):
                    check(entry.get(field) == after[name].get(field),
                          f"{name}: {field}: {entry.get(field)}, now {after[name].get(field)}")
            check(set(files) <= set(bed.keys()), f"not in S3: {sorted(set(files) - set(bed.keys()))}")
            for name, data in files.items():
                check(client.get(name) == data and bucket.get(name) == data, f"{name}: other bytes")
        if not wiped:
            bed.sound()
            bed.wipe()


def main():
    if os.geteuid() != 0:
        skip("needs root")
    with Testbed(store="s3sim", set=["settle time=100ms", "retries=2", "read patience=1s"],
                 smb=["objectfs:request timeout=5"]) as bed:
        bucket = Bucket(bed)
        for wrong in [case for case in CASES if case.__name__ in os.environ.get("ONLY", case.__name__)]:
            for at_start in (False, True):
                case(bed, bucket, wrong, at_start)
        sent_elsewhere(bed, bucket)
        for running in (True, False):
            earlier(bed, bucket, running)
        all_again(bed, bucket)


if __name__ == "__main__":
    main()
