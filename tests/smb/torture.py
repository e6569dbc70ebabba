#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 600
# alone: its tests give smbd some 100 ms to tell one connection what another one does
"""smbtorture on the share and on the plain share of one testbed, at the same time, test by test.

usage: torture.py [--all] [--evict [--offline]] [--fs FS] [--out FILE] [NAME ...]       (PYTHONPATH=tests/lib)

Without --all the gating part runs, two and a half minutes: suites.gate, all of each suite but what
it leaves out for its time. With it, eight minutes. A NAME is a suite or a test.
Fails on: a different result of a test of the suites in EXACT; a different result of another test
that is not in differences.txt (the test, a tab, the cause); a line there whose test does not
differ; a panic of smbd; a daemon that ended, or that cannot bring to the store what the tests left.
With --evict every file is in the store, and gone from the local disk, before its last close is answered, and
no attribute says so; with --offline too it does: three tests that compare attributes as a whole differ then
(durable-open.alloc-size, durable-open.read-only, streams.attributes2), and nothing else.
--out writes every test: suite, test, both results, both times, both details, tab-separated.
"""

import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

from smb import Testbed, fail, skip, step

HERE = os.path.dirname(os.path.realpath(__file__))
SUITES = ("lease oplock notify timestamps create dir rename ioctl durable-open lock acls streams "
          "getinfo setinfo read rw connect").split()
EXACT = tuple(f"smb2.{name}" for name in "rename dir create read rw streams".split())

# What smbtorture expects of any Samba (selftest/target/Samba3.pm): its own fsctls, and times that
# are written late enough to be seen late.
SMB = ["global.smbd:FSCTL_SMBTORTURE=yes", "global.smbd:validate_oplock_types=yes",
       "global.smbd:sharedelay=100000", "global.smbd:writetimeupdatedelay=500000",
       "global.check parent directory delete on close=yes", "dos filemode=yes",
       "strict rename=yes"]
# The daemon uploads while the tests still use the files.
SET = ["settle time=1s"]
SET_EVICT = ["settle time=0", "evict at close=yes"]
SMB_EVICT = ["objectfs:durability=s3"]
SMB_SILENT = ["objectfs:offline=no"]
SUITE_TIMEOUT_S = 400
TEST_TIMEOUT_S = 100
DRAIN_TIMEOUT_S = 60

# Tests that name their own share; it is made for one of the two shares after the other.
NAMED = {
    "smb2.acls.ACCESSBASED": ("hideunread", {"hide unreadable": "yes",
                                             "access based share enum": "yes"}),
    "smb2.lease.dynamic_share": ("dynamic_share", {"path": "{path}/dynamic-%t",
                                                   "root preexec": "mkdir -p -m 0777 %P"}),
}

RESULT = re.compile(r"^(success|successful|failure|error|skip|xfail|uxsuccess): (\S.*?)"
                    r"( \[(?: multipart)?)?$")
START = re.compile(r"^test(?:ing)?:? (\S.*)$")

Outcome = collections.namedtuple("Outcome", "result seconds detail")


def names_of(suite):
    """The tests of a suite as smbtorture calls them in its results."""
    done = subprocess.run(["smbtorture", "-s", "/dev/null", "--list", suite], check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True)
    names = []
    for line in done.stdout.split("\n"):
        parts = line.strip().split(".")
        # listed as suite.test.test, and by prefix: smb2.create gives smb2.create_no_streams too
        if len(parts) > 2 and parts[-1] == parts[-2]:
            parts.pop()
        name = ".".join(parts)
        if (name == suite or name.startswith(suite + ".")) and name not in names:
            names.append(name)
    return names


class Reader:
    """The lines of --format=subunit (version 1, text)."""

    def __init__(self):
        self.outcomes = {}
        self.running = None
        self.since = 0.0
        self.ending = None      # (result, test) of a result whose detail is being read
        self.detail = []

    def feed(self, line):
        if self.ending:
            if line == "]":
                self.finish(*self.ending)
            elif line.strip():
                self.detail.append(line.strip())
            return
        match = RESULT.match(line)
        if match:
            result, test, has_detail = match.groups()
            result = {"successful": "success", "xfail": "failure"}.get(result, result)
            if has_detail:
                self.ending = (result, test)
            else:
                self.finish(result, test)
            return
        match = START.match(line)
        if match:
            self.running, self.since = match.group(1), time.monotonic()

    def finish(self, result, test):
        seconds = time.monotonic() - self.since if test == self.running else 0.0
        self.outcomes[test] = Outcome(result, seconds, " | ".join(self.detail))
        self.running, self.ending, self.detail = None, None, []

    def lost(self, result, detail):
        """The program ended in the middle of a test: its name, or None."""
        test = self.ending[1] if self.ending else self.running
        if test is not None:
            self.outcomes[test] = Outcome(result, time.monotonic() - self.since, detail)
        return test


class Lane(threading.Thread):
    """One share: its suites, one after the other, in processes of their own."""

    def __init__(self, bed, share, work, scratch):
        super().__init__()
        self.bed, self.share, self.work, self.scratch = bed, share, work, scratch
        self.logs = os.environ.get("OBJECTFS_TESTBED_LOGS") or scratch
        os.makedirs(self.logs, exist_ok=True)
        self.outcomes = {}
        self.error = None

    def run(self):
        try:
            for suite, tests in self.work:
                begin = time.monotonic()
                self.run_suite(suite, tests)
                step(f"{self.share}: {suite}: {len(tests)} tests, "
                     f"{time.monotonic() - begin:.1f} s")
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def run_suite(self, suite, tests):
        """After a crash or at a time limit, what is left of the suite runs in a new process. What hangs
        runs once more: some tests change on one connection what they asked on another one to be
        told of, and wait for ever if the change is served first."""
        todo = list(tests)
        hung = set()
        deadline = time.monotonic() + SUITE_TIMEOUT_S
        while todo:
            reader, code = self.run_once(suite, todo, deadline - time.monotonic())
            last = reader.lost("timeout" if code is None else "error", f"smbtorture ended: {code}")
            if last is None and not set(todo) & set(reader.outcomes):
                # it did not even begin
                reader.outcomes[todo[0]] = Outcome("error", 0.0, f"smbtorture ended: {code}")
            if last is not None and code is None and last not in hung:
                step(f"{self.share}: {last} hangs: once more")
                hung.add(last)
                del reader.outcomes[last]
            self.outcomes.update(reader.outcomes)
            todo = [test for test in todo if test not in reader.outcomes]
            if todo and time.monotonic() > deadline:
                for test in todo:
                    self.outcomes[test] = Outcome("timeout", 0.0, "not begun")
                return

    def run_once(self, suite, tests, timeout_s):
        """(reader, exit code; None: it took too long)"""
        env = self.bed.env
        with tempfile.TemporaryDirectory(prefix="torture-", dir=self.scratch) as directory:
            auth, names = f"{directory}/auth", f"{directory}/names"
            with open(auth, "w", encoding="ascii") as file:
                file.write(f"username = {env['USER1']}\npassword = {env['PASS1']}\n")
            with open(names, "w", encoding="utf-8") as file:
                file.writelines(f"{test}\n" for test in tests)
            child = subprocess.Popen(
                ["smbtorture", f"//{env['SMB_HOST']}/{self.share}", "-p", env["SMB_PORT"],
                 "-s", "/dev/null", "-A", auth, "--format=subunit", "--fullname",
                 "--target=samba3", f"--basedir={directory}", f"--load-list={names}",
                 "--option=torture:progress=no", f"--option=torture:share={self.share}",
                 f"--option=torture:user2name={env['USER2']}",
                 f"--option=torture:user2password={env['PASS2']}", suite],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace")
            expired = threading.Event()
            ends = time.monotonic() + max(timeout_s, 1)
            reader = Reader()
            with open(f"{self.logs}/smbtorture-{self.share}.log", "a", encoding="utf-8") as log:
                while True:
                    timer = threading.Timer(
                        max(min(TEST_TIMEOUT_S, ends - time.monotonic()), 0.1),
                        lambda: (expired.set(), child.kill()))
                    timer.start()
                    line = child.stdout.readline()
                    timer.cancel()
                    if not line:
                        break
                    log.write(line)
                    reader.feed(line.rstrip("\n"))
            code = child.wait()
            return reader, None if expired.is_set() else code


def gate():
    """{suite: names left out} of suites.gate: a suite, then the tests it does without; one with a
    question mark need not exist."""
    suites = {}
    with open(f"{HERE}/suites.gate", encoding="ascii") as file:
        for line in file:
            words = line.split("#")[0].split()
            if words:
                suites[words[0]] = {f"{words[0]}.{word}" for word in words[1:]}
    return suites


def known_differences():
    """{test: cause} of differences.txt."""
    known = {}
    with open(f"{HERE}/differences.txt", encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                test, tab, cause = line.rstrip("\n").partition("\t")
                if not tab or not cause.strip():
                    fail(f"differences.txt: {line.strip()!r} names no cause")
                if test.rsplit(".", 1)[0] in EXACT or test in EXACT:
                    fail(f"differences.txt: {test} may not differ")
                known[test] = cause.strip()
    return known


def plan(options):
    """[(suite, tests)] to run."""
    wanted = {f"smb2.{name}": set() for name in SUITES} if options.all else gate()
    work = []
    for suite, without in wanted.items():
        names = [name for name in options.names if f"{name}.".startswith(f"{suite}.")]
        if options.names and not names:
            continue
        tests = names_of(suite)
        unknown = {name for name in without if not name.endswith("?")} - set(tests)
        if not tests or unknown:
            fail(f"smbtorture does not know {unknown or suite}")
        work.append((suite, [test for test in tests if not {test, f"{test}?"} & without
                             and (not names or suite in names or test in names)]))
    if not any(tests for _, tests in work):
        fail(f"no such tests here: {options.names}")
    return work


def run_lanes(lanes):
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
        if lane.error is not None:
            raise lane.error


def named_shares(bed, work, scratch, outcomes):
    """The tests of NAMED: their shares for objectfs's tree, then for the plain directory."""
    chosen = [(suite, test) for suite, tests in work for test in tests if test in NAMED]
    with open(bed.smb_conf, encoding="utf-8") as file:
        shipped = file.read()
    for share, path in ((bed.env["SHARE"], bed.mirror), (bed.plain_share, bed.plain_dir)):
        text = shipped
        for _, test in chosen:
            name, settings = NAMED[test]
            text += f"[{name}]\n\tcopy = {share}\n"
            text += "".join(f"\t{key} = {value.format(path=path)}\n"
                            for key, value in settings.items())
        with open(bed.smb_conf, "w", encoding="utf-8") as file:
            file.write(text)
        bed.restart("smbd")
        lane = Lane(bed, share, [(suite, [test]) for suite, test in chosen], scratch)
        run_lanes([lane])
        outcomes[share].update(lane.outcomes)


def once_more(bed, work, scratch, outcomes):
    """What came out otherwise than on the plain share, on one share after the other: many tests give smbd a moment
    to tell one connection of another, and a busy machine takes it from either share."""
    known = known_differences()
    one, two = (outcomes[share] for share in (bed.env["SHARE"], bed.plain_share))
    again = [(suite, [test for test in tests if test not in NAMED and test not in known and
                      test in one and test in two and one[test].result != two[test].result])
             for suite, tests in work]
    again = [(suite, tests) for suite, tests in again if tests]
    for suite, tests in again:
        step(f"{suite}: once more: {' '.join(tests)}")
    for share in (bed.env["SHARE"], bed.plain_share) if again else ():
        lane = Lane(bed, share, again, scratch)
        run_lanes([lane])
        outcomes[share].update(lane.outcomes)


def report(rows, out):
    with open(out, "w", encoding="utf-8") as file:
        for suite, test, one, two in rows:
            cells = [suite, test, one.result, two.result, f"{one.seconds:.2f}",
                     f"{two.seconds:.2f}", one.detail, two.detail]
            file.write("\t".join(re.sub(r"[\t\r\n]+", " ", cell) for cell in cells) + "\n")


def judge(rows):
    """Complaints about the results, as text."""
    known = known_differences()
    complaints = []
    same = different = 0
    for suite, test, one, two in rows:
        if one.result == two.result:
            same += 1
            if test in known:
                complaints.append(f"{test}: in differences.txt, but {one.result} on both")
            continue
        different += 1
        text = (f"{test}: {one.result} ({one.detail[:300]}); "
                f"plain: {two.result} ({two.detail[:300]})")
        if suite not in EXACT and test in known:
            print(f"different: {text}: {known[test]}", flush=True)
        else:
            complaints.append(text)
    both = sum(one.result == two.result == "success" for _, _, one, two in rows)
    print(f"{len(rows)} tests: {same} same ({both} success on both), {different} different, "
          f"{len(complaints)} complaints", flush=True)
    return complaints


def drained(bed):
    """Complaints about the daemon: it must live, and bring to the store what the tests left."""
    if not os.path.exists(f"/proc/{bed.cached_pid}"):
        return ["objectfs-cached ended"]
    try:
        code, text = bed.ctl("flush", "--wait", timeout_s=DRAIN_TIMEOUT_S, may_fail=True)
    except subprocess.TimeoutExpired:
        return ["flush does not end: " + bed.ctl("pending")[:2000] + bed.ctl("status")]
    return [f"flush after the tests: {text.strip()[-2000:]}"] if code != 0 else []


def evicted(bed):
    """Complaints if files with data are left; smbd's scavenger closes those of durable handles late."""
    counters = bed.ctl_json("status")["counters"]
    step(f"{counters['uploads']} uploads, {counters['evictions']} evictions, {counters['recalls']} recalls")
    left = bed.ctl_json("status")["volumes"][0]["cache"]["files"]
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while left and time.monotonic() < deadline:
        time.sleep(0.5)
        left = bed.ctl_json("status")["volumes"][0]["cache"]["files"]
    return [f"{left} files have data here, and nobody has them open"] if left else []


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--evict", action="store_true")
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("--fs", default="xfs")
    parser.add_argument("--out")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    work = plan(options)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as scratch, make_bed(options) as bed:
        plain_work = [(suite, [test for test in tests if test not in NAMED])
                      for suite, tests in work]
        lanes = [Lane(bed, share, plain_work, scratch)
                 for share in (bed.env["SHARE"], bed.plain_share)]
        run_lanes(lanes)
        outcomes = {lane.share: lane.outcomes for lane in lanes}
        once_more(bed, work, scratch, outcomes)
        if any(test in NAMED for _, tests in work for test in tests):
            named_shares(bed, work, scratch, outcomes)
        step(f"smbtorture took {time.monotonic() - begin:.0f} s")
        missing = Outcome("missing", 0.0, "")
        rows = [(suite, test, *(outcomes[lane.share].get(test, missing) for lane in lanes))
                for suite, tests in work for test in tests]
        if options.out:
            report(rows, options.out)
        complaints = judge(rows) + drained(bed)
        if options.evict:
            complaints += evicted(bed)
        for complaint in complaints:
            print(complaint, flush=True)
        # a panic of smbd fails in down(), which looks for it
    if complaints:
        fail(f"{len(complaints)} complaints; the first: {complaints[0][:300]}")
    return 0


def make_bed(options):
    """On the file system asked for, where this machine can mount one."""
    done = subprocess.run(["unshare", "-m", "true"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, check=False)
    fs = options.fs
    if done.returncode != 0 or not os.path.exists("/dev/loop-control"):
        fs = "here"
    evict = SMB_EVICT + (SMB_SILENT if not options.offline else []) if options.evict else []
    return Testbed(plain=True, fs=fs, smb=SMB + evict,
                   set=SET_EVICT if options.evict else SET)


if __name__ == "__main__":
    try:
        subprocess.run(["smbtorture", "--version"], stdout=subprocess.DEVNULL, check=True)
    except OSError:
        skip("smbtorture is not installed (samba-testsuite)")
    sys.exit(main())
