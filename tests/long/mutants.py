#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 35 min; root, 1 GB in /var/tmp: each build of tests/mutants, and the test that must notice
"""Builds that are broken on purpose, and the tests that must notice.

usage: mutants.py [NAME ...]            those of tests/mutants/, all or by a part of their names
       mutants.py --list | --check      what there is; whether each still applies, and each incident and rule has one
       mutants.py --generate FILE[:FUNCTION] ... [--count N] [--seed S] [--skip OPERATOR] [--layers unit,sim]
                  [--within SECONDS] [--again LOG]
                                        N of those that can be made of these sources, some of each file, against the
                                        tests of ROOMS, or those of these layers that take no longer than that here;
                                        again: those that LOG says survived

A copy of the tree, as it stands, is built; each test must pass there. Then one mutant after the other is applied and
built, and its test must fail. A generated mutant that no test notices is printed: a test is missing, or it changes
nothing. DIR (/var/tmp) is where the copy is: 400 MB; /dev/shm, for it and for TMPDIR, is faster. Half an hour for all
that are written. Of a generated one first those tests run that cost little and have noticed others of its file: some
5 s, or, if it survives units and simulations, two minutes. What has survived is in tests/mutants/SURVIVORS.md, with why.

tests/mutants/ has a file for the incidents, one for the rules of docs/ARCHITECTURE.md:

    [NAME] what is so in this build
    rule NUMBER                          one of the rules that it breaks; none: an incident alone
    test LAYER/NAME [ARGUMENT ...]       what must fail
    file PATH
    -what stands there, once in the file; one line or several
    +what stands instead, or nothing
"""

import glob
import importlib.machinery
import importlib.util
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
LEFT_OUT = (".git", "build/test-logs", "build/deb", "build/fuzzer", "build/corpus", "build/address-undefined", "build/thread",
            "build/coverage")
# What is asked about a generated mutant: simulations of any room, then what is of its own.
SIMS = ("sim/core 24", "sim/others 16", "sim/between", "sim/conflicts", "sim/renames", "sim/unseen", "sim/covered",
        "sim/forgotten", "sim/nodes", "sim/evict", "sim/idle", "sim/sequences", "sim/disk", "sim/nth")
ROOMS = {
    "cached/reconcile": SIMS + ("unit/fenced", "unit/metalog", "unit/index", "unit/index_file", "unit/whose", "unit/names",
                                "unit/sure", "unit/nodes", "unit/session_ask", "scenario/incidents",
                                "scenario/upload-races", "scenario/held-open", "scenario/marks", "scenario/wrong-bucket",
                                "scenario/durability-s3"),
    "cached/upload": SIMS + ("unit/upload", "unit/begun", "unit/blobs", "unit/s3_sums", "scenario/incidents",
                             "scenario/delta", "scenario/uploads", "scenario/properties", "scenario/s3sim-faults",
                             "scenario/fences"),
    "cached/recall": SIMS + ("unit/recall", "unit/session", "scenario/incidents", "scenario/recall",
                             "scenario/recall-fair", "scenario/evicted-open", "scenario/foreign", "scenario/leases",
                             "scenario/s3sim-faults"),
    "cached/evict": SIMS + ("unit/keep", "scenario/incidents", "scenario/evict", "scenario/evict-races",
                            "scenario/evict-space", "scenario/drop", "scenario/verify"),
    "cached/mirror": SIMS + ("unit/mirror", "unit/mirror_names", "unit/flat", "unit/walk", "unit/base", "unit/bases",
                             "unit/base_write", "unit/snapshot", "unit/objmeta", "unit/ntacl", "unit/absent", "unit/brake",
                             "unit/trust", "unit/accounts", "scenario/incidents", "scenario/foreign",
                             "scenario/remote-changes", "scenario/wrong-bucket", "scenario/metadata",
                             "scenario/bases"),
}
# A build whose programs have the daemon's parts from a library: of a generated mutant one object is made, and that.
SHARED = ("CFLAGS=-O1 -g -fPIC", "test_libs=build/libtests.a build/libcached.so")
MEMORY_BYTES = 8 << 30  # of any process of a broken build
FIRST_S, SLOWER = 10, 4  # a generated one has failed when a test takes so much longer than before


class Broken(Exception):
    """What a person must mend before anything can be said."""


class Mutant:
    def __init__(self, name, about):
        self.name, self.about, self.rule, self.test, self.edits = name, about, None, None, []

    def apply(self, root):
        """{path: text before}"""
        before, after = {}, {}
        for path, old, new in self.edits:
            where = os.path.join(root, path)
            if path not in after:
                try:
                    with open(where, encoding="utf-8") as file:
                        before[path] = after[path] = file.read()
                except FileNotFoundError:
                    raise Broken(f"{self.name}: no file {path}") from None
            count = after[path].count(old)
            if count != 1:
                raise Broken(f"{self.name}: stands {count} times in {path}, not once: {old.strip()}")
            after[path] = after[path].replace(old, new)
        return before, after


def write(root, texts):
    for path, text in texts.items():
        with open(os.path.join(root, path), "w", encoding="utf-8") as file:
            file.write(text)


def parse(path):
    """[Mutant] of a file."""
    found, source = [], None
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            word, _, rest = line.rstrip("\n").partition(" ")
            if line[0] in "-+":
                kind, text = line[0], line[1:]
                if kind == "-" and (not found[-1].edits or found[-1].edits[-1][2] is not None):
                    found[-1].edits.append([source, "", None])
                if kind == "-":
                    found[-1].edits[-1][1] += text
                else:
                    found[-1].edits[-1][2] = (found[-1].edits[-1][2] or "") + text
            elif not line.strip() or line.startswith("#"):
                continue
            elif word.startswith("["):
                name, _, about = line.strip()[1:].partition("] ")
                found.append(Mutant(name, about))
            elif word in ("rule", "test"):
                setattr(found[-1], word, rest)
            elif word == "file":
                source = rest
                if found[-1].edits and found[-1].edits[-1][2] is None:
                    found[-1].edits[-1][2] = ""
            else:
                raise Broken(f"{path}:{number}: {line.strip()}")
    for mutant in found:
        mutant.edits = [(source, old, new or "") for source, old, new in mutant.edits]
        if not mutant.test or not mutant.edits:
            raise Broken(f"{path}: {mutant.name} has no test, or changes nothing")
    return found


def written():
    found = [mutant for path in sorted(glob.glob(f"{ROOT}/tests/mutants/*.mutants")) for mutant in parse(path)]
    names = [mutant.name for mutant in found]
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise Broken(f"two of one name: {', '.join(double)}")
    return found


def check():
    """Each applies; none is missing."""
    found = written()
    for mutant in found:
        mutant.apply(ROOT)
    with open(f"{ROOT}/tests/scenario/incidents.py", encoding="utf-8") as file:
        cases = re.findall(r'(?m)^@incident\("([^"]*)"', file.read())
    with open(f"{ROOT}/docs/ARCHITECTURE.md", encoding="utf-8") as file:
        rules = re.findall(r"(?m)^(\d+)\. ", file.read().partition("\n## Rules")[2].partition("\n## ")[0])
    tests = {mutant.test for mutant in found}
    missing = [f"incident {case}" for case in cases if f"scenario/incidents {case}" not in tests]
    missing += [f"rule {rule}" for rule in rules if rule not in {mutant.rule for mutant in found}]
    if missing or not cases or not rules:
        raise Broken(f"no mutant of {', '.join(missing) or 'anything'}")


# --- the copy ---------------------------------------------------------------------------------------
def goals_of(test):
    layer, _, name = test.split()[0].partition("/")
    return {"unit": [f"build/tests/test_{name}"], "sim": [f"build/tests/sim/sim_{name}"],
            "scenario": ["all", "build/s3sim"]}.get(layer, ["all", "tests"])


class Copy:
    """A tree of its own, with its build."""

    def __init__(self, parent, flags=()):
        self.flags = flags
        self.dir = tempfile.mkdtemp(prefix="mutants-", dir=parent)
        os.chmod(self.dir, 0o755)
        self.root = f"{self.dir}/src"
        skip = {os.path.join(ROOT, path) for path in LEFT_OUT}
        shutil.copytree(ROOT, self.root, symlinks=True,
                        ignore=lambda where, names: [name for name in names if os.path.join(where, name) in skip])
        loader = importlib.machinery.SourceFileLoader("run", f"{self.root}/tests/run")
        self.run = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", loader))
        loader.exec_module(self.run)
        os.makedirs(self.run.LOGS, exist_ok=True)

    def build(self, test):
        """Of what a test needs. None, or what the compiler says."""
        return self.make(*goals_of(test))

    def make(self, *goals):
        done = subprocess.run(["make", "-j2", "-C", self.root, "EXTRA_CFLAGS=-Wno-error", *self.flags, *goals],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        return done.stdout if done.returncode != 0 else None

    def outcome(self, test):
        """("ok" | "not ok" | "skip", reason, seconds)"""
        words = test.split()
        for layer, name, argv in self.run.tests():
            if f"{layer}/{name}" == words[0]:
                return self.run.run_one(layer, name, argv[:1] + words[1:] if words[1:] else argv)[:3]
        raise Broken(f"there is no test {words[0]}")

    def fails(self, test):
        """Why, or None. A broken build may also stand for ever: that is a failure, too."""
        said = self.build(test)
        if said is not None:
            raise Broken(f"{test}: does not build:\n{said[-1500:]}")
        outcome, reason, seconds = self.outcome(test)
        if outcome == "skip":
            raise Broken(f"{test} is skipped here: {reason}")
        return f"{reason} ({seconds:.0f} s)" if outcome == "not ok" else None

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def unbroken(copy, tests):
    for test in dict.fromkeys(tests):
        why = copy.fails(test)
        if why is not None:
            raise Broken(f"{test} fails without any mutant: {why}")
        print(f"passes unbroken: {test}", flush=True)


def run_written(copy, names):
    chosen = [mutant for mutant in written() if not names or any(name in mutant.name for name in names)]
    if not chosen:
        raise Broken(f"no such mutant: {' '.join(names)}")
    unbroken(copy, [mutant.test for mutant in chosen])
    survived = []
    for mutant in chosen:
        before, after = mutant.apply(copy.root)
        write(copy.root, after)
        try:
            why = copy.fails(mutant.test)
        finally:
            write(copy.root, before)
        print(f"{'noticed' if why else 'SURVIVED'}: {mutant.name}: {mutant.test}{': ' + why if why else ''}", flush=True)
        if why is None:
            survived.append(mutant.name)
    print(f"{len(chosen)} mutants, {len(survived)} survived {' '.join(survived)}".rstrip())
    return 1 if survived else 0


# --- generated ones -----------------------------------------------------------------------------------
SAID = r"(?:log_\w+|stats_add|times_add|talloc_free|TALLOC_FREE|free|json_\w+|\w+_free|va_\w+|memset|snprintf|close|assert)"
OPERATORS = (
    ("negate", r"(?m)^(\t+(?:\} else )?if \()((?:[^{};\"]|\"[^\"]*\")*?)(\) \{)$",
     lambda m: f"{m[1]}!({m[2]}){m[3]}"),
    ("drop", rf"(?m)^(\t+)(?!{SAID}\()(\w+\((?:[^{{}};\"]|\"[^\"]*\")*\);)$", lambda m: f"{m[1]};"),
    ("or", r" && ", lambda m: " || "),
    ("and", r" \|\| ", lambda m: " && "),
    ("equal", r" == (?!NULL)", lambda m: " != "),
    ("differ", r" != (?!NULL)", lambda m: " == "),
    ("more", r" (?:>|<) (?=\w)", lambda m: m[0].rstrip() + "= "),
    ("least", r" (?:>|<)= ", lambda m: m[0].replace("=", "")),
    ("true", r"(?<== )true;", lambda m: "false;"),
    ("false", r"(?<== )false;", lambda m: "true;"),
    ("yes", r"return true;", lambda m: "return false;"),
    ("no", r"return false;", lambda m: "return true;"),
    ("well", r"return -E[A-Z]+;", lambda m: "return 0;"),
    ("flag", r"\|= ", lambda m: "&= ~(uint32_t)"),
)


def blanked(text):
    """Comments and strings become spaces: nothing in them is code."""
    return re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def function_at(text, at):
    names = re.findall(r"(?m)^(?!\t|static const|struct|enum|#)[a-z][^;={}#]*?\b(\w+)\([^;{}]*\)\n\{", text[:at])
    return names[-1] if names else ""


def sites(path, only, skip):
    """[Mutant] of all that can be changed in one place of a file."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        text = file.read()
    code, found = blanked(text), []
    for operator, pattern, change in OPERATORS:
        if operator in skip:
            continue
        for match in re.finditer(pattern, code):
            start, end = match.span()
            function = function_at(text, start)
            if not function or (only and only != function):
                continue
            real = re.match(pattern, text[start:end])
            new = change(real if real else match)
            at = start + len(match[0]) - len(match[0].lstrip())
            line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
            first, last = text.rfind("\n", 0, at) + 1, text.find("\n", end - 1)
            mutant = Mutant(f"{path}:{line}:{column} {function} {operator}",
                            " ".join((text[first:start] + new + text[end:last]).split()))
            mutant.whole = (path, text, text[:start] + new + text[end:])
            found.append(mutant)
    return found


def sample(sources, seed, skip):
    """All there are, in a random order in which each file has its share from the first on."""
    drawn, by_file = random.Random(seed), {}
    for source in sources:
        path, _, only = source.partition(":")
        by_file.setdefault(path, []).extend(sites(path, only, skip))
    order = []
    for found in by_file.values():
        drawn.shuffle(found)
        order += [(i / len(found), drawn.random(), mutant) for i, mutant in enumerate(found)]
    return [mutant for _, _, mutant in sorted(order, key=lambda row: row[:2])]


class Judges:
    """The tests of the rooms, how long each takes, and what it has noticed."""

    def __init__(self, copy, tests, within_s):
        self.copy, self.seconds, self.noticed = copy, {}, {}
        if within_s is not None:
            copy.run.timeout_of = lambda *_: within_s
        copy.run.SLOWEST = 1
        why = copy.make(*dict.fromkeys(goal for test in tests for goal in goals_of(test)))
        if why is not None:
            raise Broken(f"does not build:\n{why[-1500:]}")
        for test in dict.fromkeys(tests):
            outcome, reason, seconds = copy.outcome(test)
            if outcome == "ok":
                self.seconds[test] = seconds
                print(f"passes unbroken: {test} ({seconds:.1f} s)", flush=True)
            elif within_s is None or seconds < within_s:
                raise Broken(f"{test} without any mutant: {outcome}, {reason}")
            else:
                print(f"takes too long: {test}", flush=True)

    def cost(self, test, path):
        room = os.path.dirname(path)
        of_file, of_room = self.noticed.get((test, path), 0), self.noticed.get((test, room), 0)
        return test.startswith("scenario/"), (0.2 + self.seconds[test]) / (1 + 4 * of_file + of_room)

    def about(self, mutant):
        """The test that notices it, and why; (None, None); or ("compiler", what it says)."""
        path, built = mutant.whole[0], None
        for test in sorted((test for test in ROOMS[os.path.dirname(path)] if test in self.seconds),
                           key=lambda test: self.cost(test, path)):
            goals = ("all",) if test.startswith("scenario/") else ("build/libcached.so",)
            said = self.copy.make(*goals) if goals != built else None
            if said is not None:
                return "compiler", said[-200:]
            built, limit = goals, FIRST_S + SLOWER * self.seconds[test]
            self.copy.run.timeout_of = lambda *_, limit=limit: limit
            outcome, reason, seconds = self.copy.outcome(test)
            if outcome == "not ok":
                for key in ((test, path), (test, os.path.dirname(path))):
                    self.noticed[key] = self.noticed.get(key, 0) + 1
                return test, f"{reason.splitlines()[0]} ({seconds:.0f} s)"
        return None, None


def run_generated(copy, sources, count, seed, skip, layers, within_s, again):
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    found = sample(sources, seed, skip)
    if again:
        with open(again, encoding="utf-8") as file:
            left = set(re.findall(r"(?m)^SURVIVED: (\S+ \w+ \w+):", file.read()))
        found = [mutant for mutant in found if mutant.name in left]
    rooms = dict.fromkeys(os.path.dirname(mutant.whole[0]) for mutant in found)
    judges = Judges(copy, [test for room in rooms for test in ROOMS[room] if test.partition("/")[0] in layers],
                    within_s)
    print(f"{min(count, len(found))} of {len(found)}, seed {seed}", flush=True)
    survived = tried = 0
    for mutant in found:
        path, before, after = mutant.whole
        write(copy.root, {path: after})
        try:
            test, why = judges.about(mutant)
        finally:
            write(copy.root, {path: before})
        if test == "compiler":
            continue
        tried += 1
        survived += test is None
        print(f"{'noticed by ' + test if test else 'SURVIVED'}: {mutant.name}: {mutant.about}"
              f"{': ' + why if why else ''}", flush=True)
        if tried == count:
            break
    print(f"{tried} mutants, {survived} survived")
    return 0


def option(words, name, default):
    if name not in words:
        return default
    at = words.index(name)
    value = words[at + 1]
    del words[at:at + 2]
    return value


def main():
    words = sys.argv[1:]
    if "--list" in words:
        for mutant in written():
            print(f"{mutant.name:40} {'rule ' + mutant.rule if mutant.rule else '':8} {mutant.test}: {mutant.about}")
        return 0
    if "--check" in words:
        check()
        return 0
    generate = "--generate" in words
    count, seed = int(option(words, "--count", "20")), int(option(words, "--seed", str(int(time.time()))))
    skip, again = option(words, "--skip", "").split(","), option(words, "--again", None)
    layers, within = option(words, "--layers", "unit,sim,scenario").split(","), option(words, "--within", None)
    names = [word for word in words if word != "--generate"]
    copy = Copy(os.environ.get("DIR", "/var/tmp"), SHARED if generate else ())
    try:
        if generate:
            return run_generated(copy, names, count, seed, skip, layers, within and float(within), again)
        return run_written(copy, names)
    finally:
        copy.remove()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as broken:
        sys.exit(f"FAIL: {broken}")
