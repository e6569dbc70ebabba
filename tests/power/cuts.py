# SPDX-License-Identifier: GPL-3.0-or-later
"""The power goes while clients work on a share, again and again, and what is there afterwards is judged.

    record_and_cut("ext4", seed=1, operations=60, cuts=20)      # durability: level="local" or "s3"

One life of a share (load.py) on a disk that remembers (disk.py). Then for each cut: what the disk may
hold after it, and the store as it was then; daemon and smbd start on them and send what is to be sent.
What is judged is what docs/SEMANTICS.md says of a machine that loses power:

1. What was flushed is there (with durability `s3`: or closed): name, bytes, rights, attributes. What was
   not is in one of the states it had since, or on the way between two, sector by sector, as a plain share
   would keep it; no byte is there that nobody wrote.
2. A name that was there all the time is there; nothing is there twice, or as a conflict with ourselves.
3. All is sent: what is in the bucket is what the share shows, and docs/FORMAT.md holds of it.
4. Each object that was in the bucket at a cut was one state of one file.
"""

import hashlib
import os
import random
import shutil

from bucket_reader import load_dir, read_bed
from disk import DISK_BYTES, FLUSH, MARK, SECTOR, WRITE, Disk, Log, Replay, leave_namespace, missing
from load import Load
from procs import Missing
from smb2 import SmbError
from smb import Testbed, bed_path, check, compare, fail, skip, step

PROGRAM = os.path.join(os.environ.get("BUILD", "build"), "tests/power_disk")
HOWS = ["none"] * 4 + ["all"] * 3 + ["prefix"] * 3 + ["some"] * 5 + ["torn"] * 5
GIVE_UP = int(os.environ.get("POWER_GIVE_UP", "1"))
BLOCK = 4096
OTHER_BOOT = "11111111-2222-3333-4444-555555555555\n"


class Wrong(Exception):
    """What a cut has broken."""


class Cut:
    """position in the log; moment: the store as it was; what the log's marks say there; how what was
    not flushed is lost."""

    def __init__(self, position, moment, sent, acked):
        self.position, self.moment, self.sent, self.acked = position, moment, sent, acked
        self.how = None


def choose(load, log, count, rng):
    """`count` cuts in the log's order, one of them in a trap, most where writes were not flushed. Between
    two moments at which the store was the same it was so all the time; else a cut is made at the moment
    itself."""
    points, traps, sent, acked, last = [], [], 0, 0, None
    since = []
    for position, (kind, *_) in enumerate(log.entries):
        if last is not None:
            since.append(Cut(position, last, sent, acked))
        if kind != MARK:
            continue
        word, number = log.data(log.entries[position]).decode().split(" ")
        if word == "sent":
            sent = int(number)
        elif word == "acked":
            acked = int(number)
        elif word == "moment":
            moment = load.moments[int(number)]
            if last is not None and last.seen == moment.seen:
                points += rng.sample(since, min(2, len(since)))
            points.append(Cut(position, moment, sent, acked))
            traps += points[-1:] if moment.trap else []
            last, since = moment, []
    # what was under way is worth more than what had come to rest
    busy = [cut for cut in points if log.pending(cut.position) and cut not in traps]
    chosen = rng.sample(busy, min(count * 2 // 3, len(busy))) + traps[:1]
    rest = [cut for cut in points if cut not in chosen]
    chosen += rng.sample(rest, min(count - len(chosen), len(rest)))
    for cut in chosen:
        cut.how = "all" if cut in traps else rng.choice(HOWS)
    return sorted(chosen, key=lambda cut: cut.position)


# --- what is judged ---------------------------------------------------------------------------------
def like(found, at, versions):
    """Is a sector of one of the versions? Beyond an older end, in that end's block, it may be zeros: ext4
    writes the new size with the next journal entry, and waits for bytes only where they need a new block."""
    sector = found[at:at + SECTOR]
    return any(version[at:at + SECTOR].startswith(sector) or (
        at < len(version) + -len(version) % BLOCK
        and version[at:at + SECTOR].ljust(len(sector), b"\0") == sector) for version in versions)


def between(found, versions):
    """Is it one of the versions, or on the way between some, sector by sector?"""
    sizes = [len(version) for version in versions]
    if not sizes or not min(sizes) <= len(found) <= max(sizes):
        return False
    return all(like(found, at, versions) for at in range(0, len(found), SECTOR))


def explain(found, versions):
    at = next((at for at in range(0, len(found), SECTOR) if not like(found, at, versions)), 0)
    end = len(found[at:at + SECTOR].rstrip(b"\0"))
    return f"{len(found)} bytes for {sorted({len(version) for version in versions})}, first wrong " \
        f"sector {at}: {found[at:at + 24]!r}, zeros from {at + end} on"


def judge_promises(load, cut, found, metas):
    """found: {name: bytes}; metas: {name: (sd, hidden)}"""
    owners, names_of = {}, {}
    for file, states in load.states_at(cut.sent, cut.acked).items():
        names = {state.name for state in states}
        versions = [state.data for state in states if state.name is not None]
        here = [name for name in names if name in found and between(found[name], versions)]
        names_of[file] = here
        for name in here:
            owners.setdefault(name, []).append(file)
        if None in names:
            continue
        if not here:
            said = "; ".join(f"{name}: " + (explain(found[name], versions) if name in found
                                            else "not there") for name in names)
            raise Wrong(f"file {file.number} is lost or wrong: {said}")
        wanted = {state.meta for state in states}
        if None not in wanted and not any(metas[name] in wanted for name in here):
            raise Wrong(f"{here[0]} has {metas[here[0]]}, not one of {sorted(wanted)}")
    for name in found:
        if name not in owners:
            raise Wrong(f"{name} is nobody's: {found[name][:24]!r}")
    for file, names in names_of.items():
        names = [name for name in names if owners[name] == [file]]
        if len(names) > 1:
            raise Wrong(f"file {file.number} is there twice: {names}")
    lost = sorted(load.names_kept(cut.sent, cut.acked) - set(found))
    if lost:
        raise Wrong(f"always there, and gone: {lost}")


def judge_bucket(bed, manifest):
    """What is in S3 is what clients see, and is as it should be."""
    share = read_bed(bed)
    if share.problems:
        raise Wrong("in the bucket: " + "; ".join(share.problems[:5]))
    seen = {}
    for path, entry in manifest.items():
        fields = dict(entry)
        for name in ("sd", "attributes", "create"):
            if path in share.files and name not in share.files[path]:
                del fields[name]    # the cut came before it was set: it follows from mode and times
        if entry["type"] == "dir":
            # when a name in it last changed is told by who changed it
            fields["write"] = share.files.get(path, entry).get("write")
        seen[path] = fields
    differences = compare(seen, share.files)
    if differences:
        raise Wrong("the share and the bucket: " + "; ".join(differences[:5]))


def judge_objects(load):
    """At no moment was there an object of two states."""
    known = {hashlib.sha256(version).digest() for version in load.versions()}
    done = set()
    for moment in load.moments:
        if moment.store in done:
            continue
        done.add(moment.store)
        for key, stored in load_dir(moment.store).items():
            if not key.startswith(".objectfs/") and not key.endswith("/") and key:
                body = stored.body()
                check(hashlib.sha256(body).digest() in known,
                      f"the object {key} was no state of a file: {body[:40]!r}")


# --- a cut ------------------------------------------------------------------------------------------
class Rig:
    """A testbed whose disk is pulled and put back."""

    def __init__(self, directory, fs, level):
        self.directory, self.fs = directory, fs
        self.disk = Disk(PROGRAM, directory, fs, record=True)
        self.bed = None
        try:
            check(self.disk.flushes(), "the loop device takes no flushes")
            os.chmod(self.disk.mount, 0o755)
            self.bed = Testbed(disk=self.disk.mount, set=["settle time=100ms", "cache free=1M"],
                               smb=[f"objectfs:durability={level}"])
        except BaseException:
            self.close()
            raise
        self.spaces = self.disk.copied(self.bed)

    def stop(self):
        """The machine stands still: what is in memory is gone, and what lies in /run."""
        for part in ("smbd", "cached"):
            self.bed.stop(part, kill=True)
        self.disk.close()
        for name in ("run/objectfs", "samba/lock"):
            shutil.rmtree(os.path.join(self.bed.dir, name), ignore_errors=True)
        os.mkdir(os.path.join(self.bed.dir, "run/objectfs"))

    def boot(self, store):
        """With the image as it is, and this store."""
        shutil.rmtree(self.bed.store_dir)
        shutil.copytree(store, self.bed.store_dir)
        self.disk = Disk(PROGRAM, self.directory, self.fs, spaces=self.spaces)
        boot = os.path.join(self.bed.cache_dir, "test/boot-id")
        if os.path.exists(boot):
            with open(boot, "w", encoding="ascii") as file:
                file.write(OTHER_BOOT)
        self.bed.start("cached")
        self.bed.start("smbd")

    def close(self):
        if self.bed is None:
            self.disk.close()
            return
        try:
            self.bed.stop("smbd", kill=True)
            self.bed.stop("cached", kill=True)
            self.disk.close()
        finally:
            self.bed.down()


def judge(rig, load, cut, early):
    """early: clients read before all is sent, too."""
    with rig.bed.client() as client:
        def names():
            return [entry[0] for entry in client.list("")]
        if early:
            judge_promises(load, cut, {name: client.get(name) for name in names()}, {
                name: (entry["sd"], bool(entry["attributes"] & 2))
                for name, entry in client.manifest(content=False).items()})
        rig.bed.flush()
        manifest = client.manifest()
        found = {name: client.get(name) for name in names()}
        judge_promises(load, cut, found, {
            name: (entry["sd"], bool(entry["attributes"] & 2)) for name, entry in manifest.items()})
        rig.bed.flush()
        judge_bucket(rig.bed, manifest)


def tell(rig, load, cut):
    """What there is to see of a cut that went wrong."""
    last = "\n  ".join(f"{number} {text}" for number, text in load.trail.items()
                       if cut.sent - 25 < number <= cut.sent)
    here = "\n  ".join(f"{entry.name}: inode {entry.inode()}, {entry.stat().st_size} bytes, mode "
                       f"{entry.stat().st_mode:o}" for entry in os.scandir(rig.bed.mirror))
    there = "\n  ".join(f"{key}: {stored.size} bytes, {stored.meta}" for key, stored in
                        load_dir(rig.bed.store_dir).items() if not key.startswith(".objectfs/"))
    then = "\n  ".join(f"{key}: {stored.size} bytes, {stored.etag}" for key, stored in
                       load_dir(cut.moment.store).items() if not key.startswith(".objectfs/"))
    log = rig.bed.log()
    return f"last requests:\n  {last}\nin the mirror:\n  {here}\nin the bucket:\n  {there}\n" \
        f"at the cut:\n  {then}\n{log[log.rfind('records in security.objectfs'):]}"


def record_and_cut(fs, seed, operations, cuts, level="local"):
    """Ends the test at the first cut that is judged wrong, or after as many as POWER_GIVE_UP says."""
    reason = missing(PROGRAM)
    if reason:
        skip(reason)
    directory = os.path.join(os.path.dirname(bed_path()), "power")
    os.makedirs(directory, 0o755)
    os.chmod(directory, 0o755)
    rng = random.Random(seed)
    try:
        leave_namespace()
        rig = Rig(directory, fs, level)
    except Missing as reason:
        skip(str(reason))
    try:
        step(f"{fs}, seed {seed}, durability {level}: {operations} operations")
        load = Load(rig.bed, rig.disk, rng, directory, level)
        load.prepare()
        load.run(operations)
        rig.stop()
        judge_objects(load)
        log_path = f"{directory}/recorded"
        os.rename(rig.disk.log_path, log_path)
        log = Log(log_path)
        writes = sum(entry[0] == WRITE for entry in log.entries)
        flushes = sum(entry[0] == FLUSH for entry in log.entries)
        points = choose(load, log, cuts, rng)
        step(f"{writes} writes, {flushes} flushes, {len(load.moments)} moments with "
             f"{len({moment.store for moment in load.moments})} states of the store; {len(points)} cuts")
        failed = []
        replay = Replay(log, f"{directory}/durable", DISK_BYTES[fs])
        for number, cut in enumerate(points, 1):
            early = rng.random() < 0.3
            pending, kept = replay.image(cut.position, random.Random(f"{seed} {number}"), cut.how,
                                         rig.disk.image)
            what = f"cut {number} at {cut.position} of {len(log.entries)} ({cut.how}: {kept} of {pending} " \
                f"writes; answered {cut.acked}, sent {cut.sent})"
            rig.boot(cut.moment.store)
            try:
                judge(rig, load, cut, early)
            except (Wrong, SmbError) as wrong:
                print(f"WRONG: {fs}, seed {seed}, {what}: {wrong}\n{tell(rig, load, cut)}", flush=True)
                failed.append(number)
                if len(failed) == GIVE_UP:
                    break
            rig.stop()
            print(f"   {what}", flush=True)
        replay.close()
        if failed:
            fail(f"{fs}, seed {seed}: cuts {failed} of {number}")
    finally:
        rig.close()
