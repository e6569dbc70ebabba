#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
"""objectfsctl as an administrator types it: every command, as text and as JSON; wrong words and a daemon
that is away, with exit status and a line that says what to do; what the answers say while things are
under way, held by a proxy; bars on a terminal and nowhere else; a support bundle without secrets."""

import glob
import json
import os
import pty
import re
import select
import subprocess
import tarfile
import threading
import time

from local import counter
from proxy import Proxy
from smb import ROOT, Testbed, bed_path, check, fail, step, wait_until
from smb2 import READ_DATA

MIB = 1 << 20
PASSWORD = "kn0wn-hunter2"
NAME = "Gehaltsliste Quarkbrot.txt"  # words that no program uses


def run(bed, *argv, **kwargs):
    """(exit status, standard output, standard error)"""
    done = subprocess.run([*bed.env["OBJECTFSCTL_ARGV"], *argv], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False, timeout=60, **kwargs)
    return done.returncode, done.stdout, done.stderr


def good(bed, *argv):
    code, out, err = run(bed, *argv)
    if "drop" in argv:  # somebody has just listed it: it stays, and that is said
        check(code == 1 and "used lately" in err, f"drop: exit status {code}, {err}")
        return out
    check(code == 0 and not err, f"{' '.join(argv)}: exit status {code}, {out[-300:]}{err}")
    return out


def commands():
    with open(f"{ROOT}/cached/admin/command_table.h", encoding="utf-8") as file:
        text = file.read()
    table, local = text.split("#define OFS_LOCAL_COMMAND_TABLE")
    name = r'\bC\("([^"]+)",'
    return re.findall(name, table), re.findall(name, local)


class Terminal:
    """objectfsctl with a terminal of its own at standard error, or everywhere."""

    def __init__(self, bed, *argv, everywhere=False):
        self.master, slave = pty.openpty()
        self.text = ""
        where = slave if everywhere else subprocess.PIPE
        self.process = subprocess.Popen(
            [*bed.env["OBJECTFSCTL_ARGV"], *argv], stdin=slave if everywhere else subprocess.DEVNULL,
            stdout=where, stderr=slave, start_new_session=True)
        os.close(slave)

    def read(self, wanted, deadline_s=20):
        """Until the text has it; None: until the end."""
        end = time.monotonic() + deadline_s
        while wanted is None or not re.search(wanted, self.text):
            if not select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
                fail(f"no {wanted!r} on the terminal: {self.text!r}")
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other end is closed
                data = b""
            if not data:
                check(wanted is None, f"no {wanted!r} on the terminal: {self.text!r}")
                return self.text
            self.text += data.decode(errors="replace")
        return self.text

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self):
        """(exit status, standard output)"""
        self.read(None)
        out = self.process.stdout.read().decode() if self.process.stdout else ""
        code = self.process.wait(60)
        os.close(self.master)
        return code, out


def forms(bed):
    step("every command, as text and as JSON")
    asked, local = commands()
    check(len(asked) > 15 and len(local) == 4, f"commands: {asked} {local}")
    words = {"log": ["notice"], "stat": ["d/one"], "refresh": ["d"], "accept-removals": ["d"], "flush": ["--wait"],
             "evict": ["d/two"], "drop": ["d"], "warm": ["d/two"], "pin": ["d/one"],
             "unpin": ["d/one"]}
    for name in asked:
        if name == "forget-node":
            continue  # no other node is there: scenario/nodes
        out = good(bed, name, *words.get(name, []))
        check(out.strip(), f"{name} says nothing")
        for argv in (("--json", name, *words.get(name, [])), (name, *words.get(name, []), "--json")):
            check(isinstance(json.loads(good(bed, *argv)), dict), f"{argv}: no JSON object")
    good(bed, "help")
    good(bed, "--version")


def wrong(bed):
    step("wrong words: status 2, and what to do")
    for argv, wanted in (
            ((), "usage:"), (("nonsense",), "help"), (("--nonsense", "ls"), "usage:"),
            (("stat",), "usage: objectfsctl stat PATH"),
            (("stat", "a", "b"), "one word too many"), (("status", "x"), "one word too many"),
            (("flush", "--soon"), "there is no option --soon"),
            (("flush", "--timeout"), "needs SECONDS"), (("flush", "--timeout", "soon"), "not soon"),
            (("ls", "--limit", "-1"), "needs NUMBER"), (("ls", "--limit", "1.5"), "needs NUMBER"),
            (("ls", "--from", "here"), "--from"), (("top", "--interval", "0"), "needs SECONDS"),
            (("doctor", "x"), "usage: objectfsctl doctor"), (("log",), "usage: objectfsctl log"),
            (("log", "loud"), "error warning"), (("stat", "/etc/passwd"), "not below"),
            (("ls", "d/../.."), "..")):
        code, out, err = run(bed, *argv)
        check(code == 2 and wanted in err and not out, f"{argv}: status {code}, {out}{err}")
    for argv, wanted in ((("stat", "none"), "refresh"), (("ls", "none"), "refresh"),
                         (("-v", "none", "status"), "there are: test")):
        code, out, err = run(bed, *argv)
        check(code == 1 and wanted in err and not out, f"{argv}: status {code}, {out}{err}")
    code, out, _ = run(bed, "--json", "stat", "none")
    check(code == 1 and json.loads(out)["message"], f"an error as JSON: {out}")


def entries(bed, path):
    return {entry["name"]: entry for entry in bed.ctl_json("ls", path)["entries"]}


def listed(bed, proxy):
    step("ls: what is here of each, and what S3 has")
    with bed.client() as client:
        client.mkdir("ls")
        for name in ("resident", "pinned", "stub", "partial"):
            client.put(f"ls/{name}", b"x" * (5 * MIB if name == "partial" else 1000))
        client.mkdir("ls/sub")
        bed.flush()
        for name in ("stub", "partial"):
            bed.ctl("evict", f"ls/{name}")
        bed.ctl("pin", "ls/pinned")
        file = client.create("ls/partial", READ_DATA)
        client.read(file, 0, 10)
        proxy.hold("PUT", "/ls/new")
        client.put("ls/new", b"new")
        check(proxy.stalled.wait(60), "nothing is sent")
        found = entries(bed, "ls")
        check({name: (e["state"], e["in_s3"], e["pinned"]) for name, e in found.items()} == {
            "resident": ("resident", "same", False), "pinned": ("resident", "same", True),
            "stub": ("stub", "same", False), "partial": ("partial", "same", False),
            "new": ("dirty", "?", False), "sub": ("listed", "same", False)}, f"{found}")
        check(found["stub"]["size"] == 1000 and 0 < found["partial"]["here"] < 5 * MIB, f"{found}")
        check(abs(found["stub"]["mtime"] - time.time()) < 100, f"time of a stub: {found['stub']}")
        text = good(bed, "ls", f"{bed.mirror}/ls")
        check(text.startswith("STATE") and re.search(r"^resident +same +pinned +1000 .* pinned$", text, re.M)
              and re.search(r"^listed +same +- .* sub/$", text, re.M), text)
        check(text.split("\n")[1:-1] == sorted(text.split("\n")[1:-1], key=lambda line: line[59:]), text)
        check(list(entries(bed, "ls/stub")) == ["stub"], "ls of a file")
        check("test:ls/pinned\n" == good(bed, "pins"), "pins")
        proxy.release()
        client.close(file)
    bed.flush()
    bed.ctl("unpin", "ls/pinned")
    check("nothing is pinned" in good(bed, "pins"), "pins of nothing")


def pages(bed):
    step("ls: a large directory comes in parts, each once")
    where = os.path.join(bed.mirror, "large")
    with bed.client() as client:
        client.mkdir("large")
    names = {f"{number:04}" for number in range(2300)} | {"odd\x1b[2J"}
    for name in names:
        os.close(os.open(os.path.join(where, name), os.O_CREAT | os.O_WRONLY, 0o600))
    os.close(os.open(os.fsencode(where) + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY, 0o600))
    got, start, answers = [], [], 0
    while answers < 10:
        answer = bed.ctl_json("ls", *start, "large")
        got += [entry["name"] for entry in answer["entries"]]
        answers += 1
        check(len(answer["entries"]) <= 1000 and not answer["sorted"], "an answer is too large")
        if answer["next"] is None:
            break
        start = ["--from", answer["next"]]
    check(answers == 3 and len(got) == len(set(got)) == 2302 and names <= set(got),
          f"{answers} answers with {len(got)} names")
    text = good(bed, "ls", "large").split("\n")
    check(len(text) == 2302 + 2 and sum("STATE" in line for line in text) == 1, f"{len(text)} lines")
    check("\x1b" not in "".join(text), "a name reaches the terminal as it is")
    check(len(good(bed, "ls", "--limit", "7", "large").split("\n")) == 7 + 2, "--limit")
    check(len(bed.ctl_json("ls", "--limit", "100000", "large")["entries"]) == 2000, "beyond the most")
    for name in os.listdir(os.fsencode(where)):
        os.unlink(os.fsencode(where) + b"/" + name)


def renamed(bed, proxy):
    step("renames: from, to, how far")
    with bed.client() as client:
        client.mkdir("old")
        client.mkdir("old/sub")
        for number in range(5):
            client.put(f"old/sub/{number}", b"content")
        bed.flush()
        check("nothing is being renamed" in good(bed, "renames"), "renames of nothing")
        proxy.hold("PUT", "/young/", 2)
        client.rename("old", "young")
        check(proxy.stalled.wait(60), "nothing is copied")
        wait_until(lambda: bed.ctl_json("renames")["renames"][0].get("copied", 0) >= 2, 20, "two copies")
        found = bed.ctl_json("renames")["renames"]
        check(len(found) == 1 and found[0]["type"] == "directory" and found[0]["phase"] == "copying" and
              found[0]["from"].endswith("old/") and found[0]["to"].endswith("young/") and
              2 <= found[0]["copied"] < found[0]["objects"] >= 5 and found[0]["path"] == "young", f"{found}")
        client.rename("young/sub", "young/below")
        text = wait_until(lambda: [text for text in [good(bed, "renames")] if "waits for young" in text], 20,
                          "what waits is shown")[0]
        check(re.search(r"copying: \d of \d objects", text) and "from  " in text, text)
        proxy.release()
    bed.flush()
    check("nothing is being renamed" in good(bed, "renames"), "renames have ended")


def config(bed):
    step("config: where each option comes from; no secret; what the file says by now")
    with open(bed.conf, encoding="utf-8") as file:
        lines = file.read()
    found = {(one["section"], one["key"]): one for one in bed.ctl_json("config")["options"]}
    one = found["volume test", "settle time"]
    number = lines[:re.search(r"^\s*settle time", lines, re.M).start()].count("\n") + 1
    check((one["value"], one["source"]) == ("200ms", f"{bed.conf}:{number}"), f"{one}")
    check((found["global", "workers"]["value"], found["global", "workers"]["source"]) == ("8", "default"),
          "a default")
    check(found["volume test", "secret key"]["value"] == "(set, not shown)", "the secret key")
    for text in (good(bed, "config"), good(bed, "config", "--json"), good(bed, "config", "--check")):
        check(bed.s3_secret_key not in text, "config shows the secret key")
    check(f"settle time        = 200ms    # {bed.conf}:{number}" in good(bed, "config"), good(bed, "config"))
    for old, new, wanted in (("settle time = 200ms", "settle time = 9s", "[volume test] settle time"),
                             (bed.s3_secret_key, "another", "[volume test] secret key"),
                             ("settle time", "settling time", "unknown key")):
        check(old in lines, f"the testbed's configuration has no {old}")
        with open(bed.conf, "w", encoding="utf-8") as file:
            file.write(lines.replace(old, new))
        check(wanted in good(bed, "config"), f"config does not say {wanted}")
        code, out, err = run(bed, "config", "--check")
        check(code == 1 and wanted in out and err, f"--check: {code} {out[-200:]} {err}")
    with open(bed.conf, "w", encoding="utf-8") as file:
        file.write(lines)


def used(bed):
    step("sessions, top, counters of what needed nobody")
    names = ("opens_here", "opens_away", "reads_here", "reads_away", "names_here", "names_asked",
             "lists_here", "lists_asked", "client_read_bytes", "client_write_bytes")
    bed.wipe()
    before = {name: counter(bed, name) for name in names}
    with bed.client() as client:
        client.get("d/one")
        client.list("d")
        asked = {name: counter(bed, name) - before[name] for name in names}
        check(asked["opens_away"] >= 1 and asked["reads_away"] >= 1 and asked["names_asked"] >= 1 and
              asked["lists_asked"] >= 1 and asked["client_read_bytes"] == 100000, f"{asked}")
        check(counter(bed, "lookups") >= 1, "lookups")
        wait_until(lambda: entries(bed, "d")["one"]["state"] == "resident", 20, "it is here")
        middle = {name: counter(bed, name) for name in names}
        client.get("d/one")
        file = client.create("d/one", READ_DATA)
        for at, got in ((0, 100000), (99999, 1), (100000, 0)):  # what was given, not what was asked for
            check(len(client.read(file, at, MIB)) == got, f"a read of a MiB at {at}")
        client.close(file)
        client.list("d")
        client.put("d/written", b"w" * 5000)
        here = {name: counter(bed, name) - middle[name] for name in names}
        check(here["opens_here"] == 2 and here["client_read_bytes"] == 200001 and here["reads_here"] >= 1 and here["names_here"] >= 1 and
              here["lists_here"] >= 1 and here["client_write_bytes"] == 5000, f"{here}")
        check(not any(here[name] for name in names if "away" in name or "asked" in name), f"{here}")
        mine = [one for one in bed.ctl_json("sessions")["sessions"] if one["client_write_bytes"] == 5000]
        check(len(mine) == 1 and mine[0]["user"] == bed.user1 and mine[0]["address"] == "127.0.0.1" and
              mine[0]["requests"] > 1 and mine[0]["volume"] == "test", f"{mine}")
        check(re.search(rf"{bed.user1} +127.0.0.1 ", good(bed, "sessions")), good(bed, "sessions"))
        tops(bed, client)
        total = counter(bed, "opens_here")
        client.get("d/one")
    wait_until(lambda: not glob.glob(f"{bed.dir}/run/objectfs/test.rings/*.ring"), 20, "the ring is gone")
    check(counter(bed, "opens_here") == total + 1, "what a client did last is forgotten when it goes")
    check("nobody is connected" in good(bed, "sessions"), "sessions of nobody")


def tops(bed, client):
    busy = threading.Event()

    def work():
        while not busy.is_set():
            client.get("d/one")

    worker = threading.Thread(target=work)
    worker.start()
    try:
        sample = json.loads(good(bed, "top", "--interval", "0.5", "--json"))
        text = good(bed, "top", "--interval", "0.5")
        terminal = Terminal(bed, "top", everywhere=True)
        terminal.read(r"(?s)from here .*from here ")
        terminal.type("q")
        check(terminal.end()[0] == 0, "top ends otherwise than with 0")
    finally:
        busy.set()
        worker.join()
    check(sample["rates"]["opens_here"] > 1 and sample["here"]["opens"] == 1 and
          sample["here"]["lists"] is None and sample["seconds"] < 5, f"{sample}")
    check(sample["sessions"][0]["read_bytes"] > 100000 and sample["volumes"][0]["name"] == "test", f"{sample}")
    check("opens 100.0%" in text and bed.user1 in text and "\x1b" not in text, text)


def bars(bed, proxy):
    step("bars on a terminal, and nowhere else; tasks")
    with bed.client() as client:
        client.mkdir("bar")
        for number in range(4):
            client.put(f"bar/{number}", b"b" * 1000)
        bed.flush()
        bed.ctl("evict", "bar")
        for argv, other, held, key in (
                (("warm", "bar"), ("warm", "bar"), "GET", "/bar/"),
                (("flush", "--wait"), ("flush", "--wait", "last"), "PUT", "/last"),
                (("evict", "bar"), ("evict", "d"), "HEAD", "/")):
            proxy.hold(held, key)
            if held == "PUT":
                client.put("last", b"x")
            piped = subprocess.Popen([*bed.env["OBJECTFSCTL_ARGV"], *other], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            terminal = Terminal(bed, *argv)
            terminal.read(rf"{argv[0]} \[[#.]+\] +\d+%  \d+ of \d+")
            tasks = bed.ctl_json("tasks")["tasks"]
            check({one["task"] for one in tasks} == {argv[0]} and
                  len({one["request"] for one in tasks}) == 2, f"{tasks}")
            check(f"{argv[0]} " in good(bed, "tasks"), "tasks as text")
            proxy.release()
            code, out = terminal.end()
            check(code == 0 and out.strip() and "[" not in out, f"{argv}: {code} {out}")
            check(terminal.text.endswith("\r\x1b[K"), f"the bar stays: {terminal.text!r}")
            out, err = piped.communicate(timeout=60)
            check(piped.returncode == 0 and "\x1b" not in out + err and "%" not in err, f"{out}{err}")
        check("nothing is under way" in good(bed, "tasks"), "tasks of nothing")


def unpacked(bed, *argv):
    """{file: text} of a support bundle, what was said of it, its path."""
    path = os.path.join(bed.dir, f"bundle{len(os.listdir(bed.dir))}.tar.gz")
    code, out, err = run(bed, "support-bundle", "--smb-conf", bed.smb_conf, *argv, path)
    check(code == 0, f"support-bundle: {code} {out} {err}")
    check(os.stat(path).st_mode & 0o777 == 0o600 and os.stat(path).st_uid == 0, "others may read it")
    with tarfile.open(path) as tar:
        check(all(member.mode & 0o77 == 0 for member in tar), "others may read what is in it")
        files = {os.path.basename(member.name): tar.extractfile(member).read().decode()
                 for member in tar if member.isfile()}
    return files, out, path


def bundles(bed, proxy):
    step("support-bundle: what helps, no secret, no name")
    with bed.client() as client:
        bed.ctl("log", "debug")
        client.put(NAME, b"secret content")
        bed.flush()
        proxy.hold("PUT", "/Ordner")
        client.mkdir("Ordner")
        client.put(f"Ordner/{NAME}", b"secret content")
        bed.ctl("flush")
        with open(bed.cached_log, "a", encoding="utf-8") as file:  # should it ever say such a thing
            file.write(f"the key is ({bed.s3_secret_key}), {bed.s3_secret_key}\n")
        files, out, path = unpacked(bed)
        named, _, _ = unpacked(bed, "--names", "--lines", "100000")
        proxy.release()
    bed.ctl("log", "notice")
    check("Gehaltsliste" in bed.log(), "no name is in the log: nothing is tried here")
    wanted = {"README.txt", "status.json", "health.json", "pending.json", "renames.json", "conflicts.json", "tasks.json",
              "pins.json", "sessions.json", "config.json", "doctor.json", "log.txt", "smb.conf.txt",
              "system.txt"}
    check(set(files) == wanted and all(name in out for name in wanted), f"{sorted(files)}")
    for name, text in files.items():
        check(text.strip(), f"{name} is empty")
        check(name == "README.txt" or name in files["README.txt"], f"README.txt does not name {name}")
        for word in (bed.s3_secret_key, PASSWORD, bed.pass1):
            check(word not in text and word not in named[name], f"a secret is in {name}")
        for word in ("Gehaltsliste", "Quarkbrot", "Ordner"):
            check(word not in text, f"{name} has a file's name: {word}")
    check("add user script = (not shown)" in files["smb.conf.txt"], files["smb.conf.txt"])
    check("objectfs:volume = test" in files["smb.conf.txt"], "the share is missing")
    for name, key in (("status", "counters"), ("config", "options"), ("pending", "pending"),
                      ("doctor", "findings"), ("health", "components"), ("sessions", "sessions")):
        check(json.loads(files[f"{name}.json"])[key], f"{name}.json has no {key}")
    check(json.loads(files["pending.json"])["pending"][0]["path"].count("~") >= 1, "no name is replaced")
    check(any(f"Ordner/{NAME}" == item["path"] for item in json.loads(named["pending.json"])["pending"]),
          "--names replaces names")
    check("the key is ((secret)), (secret)" in named["log.txt"], "a secret is not called one")
    check("Gehaltsliste" in named["log.txt"] and "log level" in named["log.txt"], "--names, the log")
    lines = files["log.txt"].split("\n")
    check(any("from session" in line for line in lines) and len(lines) <= 1001, "the daemon's own words go")
    check("Linux" in files["system.txt"] and "Max open files" in files["system.txt"], "no facts")
    code, _, err = run(bed, "support-bundle", path)
    check(code == 1 and "say another FILE" in err, f"over a file: {code} {err}")


def away(bed):
    step("no daemon: status 3, and what to do")
    words = {"log": ["notice"], "stat": ["d"], "refresh": ["d"], "evict": ["d"], "drop": ["d"], "warm": ["d"],
             "pin": ["d"], "unpin": ["d"], "forget-node": ["00"]}
    bed.stop("cached")
    for name in (*commands()[0], "top"):
        code, out, err = run(bed, name, *words.get(name, []))
        check(code == 3 and "systemctl start objectfs-cached" in err and not out, f"{name}: {code} {out}{err}")
    check(run(bed, "doctor", "--smb-conf", bed.smb_conf)[0] == 1, "doctor")
    files, _, _ = unpacked(bed)
    check("daemon-away" in files["doctor.json"] and json.loads(files["config.json"])["options"] and
          bed.s3_secret_key not in "".join(files.values()), "a bundle without a daemon")
    check("error" in json.loads(files["status.json"]), "what could not be had is not said")
    bed.start("cached")


def main():
    path = bed_path()
    proxy = Proxy(path)
    with Testbed(store="rgw", path=path, set=["settle time=200ms", f"endpoint={proxy.url}"],
                 smb=[f"global.add user script=/bin/false --password={PASSWORD}"]) as bed:
        with bed.client() as client:
            client.mkdir("d")
            client.put("d/one", b"1" * 100000)
            client.put("d/two", b"2" * 1000)
        bed.flush()
        forms(bed)
        wrong(bed)
        listed(bed, proxy)
        pages(bed)
        renamed(bed, proxy)
        config(bed)
        used(bed)
        bars(bed, proxy)
        bundles(bed, proxy)
        away(bed)


main()
