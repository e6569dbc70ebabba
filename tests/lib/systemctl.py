#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemctl, deb-systemd-invoke, journalctl and timedatectl of a copy of this machine (typist.py):
no systemd runs there. Services are started as their units say and must say READY=1; they are
stopped with all their processes; what they print is kept. The daemon's clock there is a file."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time

RUN = "/run/services"
UNITS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
CLOCK, CLOCK_LIBRARY = "/run/clock", "/run/clock.so"  # a preloaded library reads the offset there
READY_S = STOP_S = 60
ALIVE = "RSDTtI"


def settings(unit):
    """{key: [values]} of a unit."""
    for directory in UNITS:
        path = f"{directory}/{unit}.service"
        if os.path.exists(path):
            break
    else:
        sys.exit(f"Unit {unit}.service could not be found.")
    found = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            key, equals, value = line.strip().partition("=")
            if equals and not key.startswith("#"):
                found.setdefault(key, []).append(value)
    return found


def processes(unit):
    """The living ones: their session is the main one's."""
    try:
        with open(f"{RUN}/{unit}.pid", encoding="ascii") as file:
            session = file.read()
    except OSError:
        return []
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[3] == session and fields[0] in ALIVE:
            found.append(int(pid))
    return found


def start(unit):
    conf = settings(unit)
    if processes(unit):
        return
    for path in conf.get("ConditionPathExists", ()):
        if not os.path.exists(path):
            print(f"{unit} was not started: there is no {path}", file=sys.stderr)
            return
    os.makedirs(RUN, exist_ok=True)
    notify = f"{RUN}/{unit}.notify"
    if os.path.exists(notify):
        os.unlink(notify)
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ready.bind(notify)
    ready.settimeout(0.1)
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                   "NOTIFY_SOCKET": notify}
    if unit == "objectfs-cached" and os.path.exists(CLOCK_LIBRARY):
        environment["LD_PRELOAD"] = CLOCK_LIBRARY
    argv = [word for word in shlex.split(conf["ExecStart"][0]) if not word.startswith("$")]
    with open(f"{RUN}/{unit}.log", "ab") as log:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                                 env=environment, start_new_session=True)
    with open(f"{RUN}/{unit}.pid", "w", encoding="ascii") as file:
        file.write(str(child.pid))
    end = time.monotonic() + READY_S
    while time.monotonic() < end and child.poll() is None:
        try:
            if b"READY=1" in ready.recv(4096):
                return
        except TimeoutError:
            pass
    sys.exit(f"Job for {unit}.service failed.\nSee \"journalctl -u {unit}\" for details.")


def stop(unit):
    end = time.monotonic() + STOP_S
    number = signal.SIGTERM
    while living := processes(unit):
        for pid in living:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        number = signal.SIGKILL if time.monotonic() > end else 0
        time.sleep(0.02)


def systemctl(words):
    verb, *units = [word for word in words if not word.startswith("-")]
    units = [unit.removesuffix(".service") for unit in units]
    for unit in units:
        if verb in ("stop", "restart"):
            stop(unit)
        elif verb == "disable":
            settings(unit)
            if "--now" in words:
                stop(unit)
        elif verb in ("reload", "kill"):
            os.kill(min(processes(unit)), signal.SIGHUP)
    for unit in units:
        if verb in ("start", "restart") or (verb == "enable" and "--now" in words):
            start(unit)
        elif verb == "enable":
            settings(unit)
        elif verb == "status":
            print(f"{unit}: {'running' if processes(unit) else 'dead'}")


def journalctl(words):
    try:
        with open(f"{RUN}/{words[words.index('-u') + 1]}.log", encoding="utf-8") as file:
            print(file.read(), end="")
    except OSError:
        print("-- No entries --")


def timedatectl(words):
    if words == ["set-ntp", "true"]:
        with open(CLOCK, "r+b") as file:
            file.write(bytes(8))


if __name__ == "__main__":
    called = os.path.basename(sys.argv[0])
    {"journalctl": journalctl, "timedatectl": timedatectl}.get(called, systemctl)(sys.argv[1:])
