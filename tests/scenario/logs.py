#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 150
"""Logs: JSON lines that any parser takes, whatever names a client gives; one request has one id in smbd's
log, the daemon's and the store's access log; the level changes at run time, for one volume too; SIGHUP
opens a rotated log anew."""

import json
import os
import re
import signal
import subprocess

from proxy import Proxy
from smb import Testbed, check, fail, listens, other_daemon, step, wait_until

LEVELS = ("error", "warning", "notice", "info", "debug")


def lines(bed):
    """Every line of the daemon's log, parsed; but for one that is just being written."""
    found = []
    for line in bed.log().split("\n")[:-1]:
        try:
            entry = json.loads(line)
        except ValueError:
            fail(f"no JSON: {line!r}")
        found.append(entry)
        check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"]), f"time: {entry}")
        check(entry["level"] in LEVELS and entry["room"] and isinstance(entry["message"], str),
              f"a field is missing: {entry}")
        check(set(entry) <= {"time", "level", "room", "volume", "request", "message"}, f"{entry}")
    return found


def one_request(bed, proxy):
    """From smbd to S3: the recall of a file."""
    bed.smbclient("put /etc/services it")
    bed.flush()
    bed.wipe()
    bed.ctl("log", "debug")
    bed.smbclient("ls")
    proxy.heads = []
    code, output = bed.smbclient("get it /dev/null")
    check(code == 0, output)
    heads = [head for head in proxy.heads if head.startswith(b"GET ") and b"/it " in head]
    check(heads, f"no GET was seen: {proxy.heads}")
    proxy.heads = None
    agent = re.search(rb"(?i)\r\nuser-agent: ([^\r]*)", heads[0])[1].decode()
    number = re.search(r" req/(\d+)", agent)
    check(number, f"the GET names no request: {agent}")
    node = next(node["node"] for node in bed.ctl_json("nodes")["nodes"] if node["here"])
    check(f"node/{node[:8]} " in agent, f"the GET names no node: {agent}")
    number = number[1]
    check(re.search(rf"request {number} FETCH sent", bed.log("smbd")),
          f"smbd's log has no request {number}")
    wait_until(lambda: any(entry.get("request") == int(number) and entry["room"] == "store" and
                           "GET" in entry["message"] and "the store's request" in entry["message"]
                           for entry in lines(bed)), 10,
               "the daemon's log has the request and the store's id")
    check(any(entry.get("request") == int(number) and entry["room"] == "core" and
              "FETCH" in entry["message"] for entry in lines(bed)), "the daemon does not log the question")
    bed.smbclient("put /etc/hosts more")
    bed.flush()
    # what was done for the volume says so, on the core, on workers and in the store's thread
    rooms = {entry["room"] for entry in lines(bed) if entry.get("volume") == "test"}
    check({"core", "store", "reconcile"} <= rooms, f"rooms that name the volume: {rooms}")
    check(not any(entry["room"] in ("store", "reconcile", "mirror", "recall", "upload")
                  and "volume" not in entry for entry in lines(bed)), "work for no volume")
    process = int(number) >> 24
    check(process > 1, f"no process in {number}")


def odd_names(bed):
    names = ('quote"s', "b\\slash", "\x01\x1f", "\x7f", "ä\U0001f600", "x" * 250)
    for name in names:
        path = os.path.join(bed.mirror, name.replace("\\", "_"))
        with open(path, "wb"):
            pass
    with open(os.path.join(os.fsencode(bed.mirror), b"\xff\xfe"), "wb"):
        pass
    bed.ctl("log", "debug")
    for word in ('no"such', "\x01\x02", "ä"):
        bed.ctl("refresh", word, may_fail=True)
    bed.smbclient("put /etc/hosts \"ä'ö\"")
    bed.flush()
    check(any("ä'ö" in entry["message"] for entry in lines(bed)), "UTF-8 has been changed")


def count(bed, level, volume):
    return sum(entry["level"] == level and entry.get("volume") == volume for entry in lines(bed))


def levels(bed):
    bed.ctl("log", "notice")
    before = {name: count(bed, "debug", name) for name in ("test", "other")}
    check(bed.ctl_json("log", "debug", "other") == {"log_level": "debug", "volume": "other"}, "log")
    bed.ctl("-v", "other", "refresh", ".")
    bed.ctl("-v", "test", "refresh", ".")
    wait_until(lambda: count(bed, "debug", "other") > before["other"], 10, "debug of the other volume")
    check(count(bed, "debug", "test") == before["test"], "debug of both volumes")
    status = {v["name"]: v["log_level"] for v in bed.ctl_json("status")["volumes"]}
    check(status == {"test": "notice", "other": "debug"}, f"status: {status}")
    bed.ctl("log", "default", "other")
    now = count(bed, "debug", "other")
    bed.ctl("-v", "other", "refresh", ".")
    check(count(bed, "debug", "other") == now, "debug goes on")
    for argv in (("loud",), ("debug", "none"), ("default",), ("debug", "test", "x"), ()):
        code, output = bed.ctl("log", *argv, may_fail=True)
        check(code == (1 if "none" in argv else 2) and output, f"log {argv}: {code} {output}")


def rotated(bed):
    os.rename(bed.cached_log, bed.cached_log + ".1")
    os.kill(int(bed.cached_pid), signal.SIGHUP)
    wait_until(lambda: os.path.exists(bed.cached_log) and
               any("reopened" in entry["message"] for entry in lines(bed)), 10, "the log is opened anew")
    bed.ctl("log", "info")
    check(any("log level" in entry["message"] for entry in lines(bed)), "the new file is not written")


def option(bed):
    """--log-format wins over the file."""
    where, conf = other_daemon(bed, "own", "log format = json")
    program = f"{bed.testbed_build}/objectfs-cached"
    for argv, wanted in (([], True), (["--log-format", "text"], False)):
        with open(where + "/log", "wb") as log:
            process = subprocess.Popen([program, "-c", conf, "-F", *argv], stderr=log)
        try:
            wait_until(lambda: listens(where + "/s"), 20, "the daemon serves")
        finally:
            process.terminate()
            process.wait()
        with open(where + "/log", encoding="utf-8") as file:
            for line in file:
                check(line.startswith("{") == wanted, f"{argv}: {line}")
                check(wanted or re.match(r"\S+Z (NOTICE|INFO|WARNING) \w+(/v)? ", line),
                      f"text: {line}")
    done = subprocess.run([program, "-c", conf, "--log-format", "xml"], capture_output=True,
                          text=True, check=False)
    check(done.returncode == 2 and "log-format" in done.stderr, f"xml: {done}")


def main():
    path = os.path.join(os.environ["TMPDIR"], "bed")
    proxy = Proxy(path)
    with Testbed(store="rgw", path=path, smb=["global.log level=1 vfs:5"],
                 set=[f"endpoint={proxy.url}", "settle time=500ms", "global.log format=json"]) as bed:
        step("one request")
        one_request(bed, proxy)
        step("odd names")
        odd_names(bed)
        step("levels")
        with open(bed.conf, "a", encoding="utf-8") as file:
            file.write(f"[volume other]\n\tstore = dir\n\tdirectory = {bed.dir}/other-store\n")
        bed.restart("cached")
        levels(bed)
        step("rotated")
        rotated(bed)
        step("the option")
        option(bed)


main()
