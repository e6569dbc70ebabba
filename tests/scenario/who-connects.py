#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""Who may ask the daemon what. A local user reaches none of what it keeps beside the mirror, and not its socket; the
group of `group =` reaches objectfsctl's commands, and no message of the module's; who may connect, and sends rubbish,
descriptors without end, or nothing at all, is no trouble to anybody else, and leaves nothing behind."""

import array
import grp
import os
import re
import socket
import struct
import subprocess
import sys

from procs import wait_until
from smb import Testbed, check, step

MAGIC, MAJOR = 0x3153464F, 1
HELLO, LIST, CTL = 1, 3, 32
MANY = 1500
PROBE = r"""
import os, socket, sys
top = sys.argv[1:3]
found = []
for place in top:
    for directory, dirs, names in os.walk(place):
        if os.path.basename(directory) == "tree":
            dirs.clear()  # that is the share's, and its rights are the users'
            continue
        for name in names:
            for mode in (os.O_RDONLY, os.O_WRONLY):
                try:
                    os.close(os.open(os.path.join(directory, name), mode | os.O_NONBLOCK))
                    found.append(os.path.join(directory, name))
                except OSError:
                    pass
        for name in (*dirs, "."):
            path = os.path.join(directory, name)
            if os.access(path, os.W_OK) and os.path.basename(path) != "tree":
                found.append(path + "/")
with socket.socket(socket.AF_UNIX) as sock:
    try:
        sock.connect(sys.argv[3])
        found.append("the socket")
    except OSError:
        pass
print("\n".join(sorted(set(found))))
"""


def frame(op, body, length=None, flags=0):
    return struct.pack("<IIHHIQ", MAGIC, 24 + len(body) if length is None else length, MAJOR, op, flags, 7) + body


def string(words):
    return struct.pack("<H", len(words)) + words + b"\0"


def hello(bed):
    return frame(HELLO, struct.pack("<IQI", 1, 0, os.getpid()) + string(b"test") + string(os.fsencode(bed.mirror)) +
                 string(b"4"))


def ctl(*words):
    joined = b"\0".join(words)
    return frame(CTL, struct.pack("<I", len(joined)) + joined)


def connect(bed):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(bed.socket)  # blocks while too many wait
    sock.settimeout(60)
    return sock


def answer(sock):
    """The status of one answer; None: the daemon has closed."""
    data = b""
    while len(data) < 28:
        try:
            more = sock.recv(65536)
        except ConnectionResetError:
            return None
        if not more:
            return None
        data += more
    return struct.unpack_from("<i", data, 24)[0]


def descriptors(bed):
    return len(os.listdir(f"/proc/{bed.cached_pid}/fd"))


def as_user(uid, gids, *argv):
    done = subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={gids[0]}",
                           f"--groups={','.join(map(str, gids))}", "--inh-caps=-all", *argv],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout.strip()


def strangers(bed, group):
    step("a local user")
    cache = os.path.dirname(os.path.dirname(bed.mirror))
    places = os.path.join(bed.dir, "run/objectfs"), cache
    code, output = as_user(65534, [65534], sys.executable, "-c", PROBE, *places, bed.socket)
    # the node's id is in the bucket, for all who read there
    check(code == 0 and output == f"{cache}/node-id", f"a local user reaches: {output}")
    check(len(os.listdir(places[0])) >= 2 and os.path.exists(os.path.join(cache, "test/index.db")),
          "nothing is there to be reached")
    step("a member of the group: commands, and no message of the module's")
    member = as_user(65534, [group, 65534], bed.env["OBJECTFSCTL_ARGV"][0], "-s", bed.socket, "status")
    check(member[0] == 0, f"objectfsctl as a member: {member[1]}")
    message = hello(bed).hex()
    code, output = as_user(65534, [65534, group], sys.executable, "-c", "import socket, sys\n"
                           "sock = socket.socket(socket.AF_UNIX)\nsock.connect(sys.argv[1])\n"
                           "sock.sendall(bytes.fromhex(sys.argv[2]))\nprint(len(sock.recv(100)))", bed.socket, message)
    check(code == 0 and output == "0", f"HELLO of a member: {output}")
    check("may not send HELLO" in bed.log(), "the log does not say so")


def rubbish(bed):
    step("half a frame, no frame, frames too long, descriptors that nobody wants")
    before = descriptors(bed)
    slow = [connect(bed) for _ in range(50)]
    for number, sock in enumerate(slow):
        sock.sendall(ctl(b"status")[:number % 30])
    for bytes_ in (b"x" * 64, frame(CTL, b"", length=23), frame(CTL, b"", length=(4 << 20) + 1), frame(99, b""),
                   frame(LIST, b"\0\0\0\0"), frame(CTL, struct.pack("<I", 1 << 31) + b"x"), frame(17, b"", flags=1),
                   frame(HELLO, b"")):
        with connect(bed) as sock:
            sock.sendall(bytes_)
            check(answer(sock) is None, f"{bytes_[:30]} was answered")
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(200)]
    with connect(bed) as sock:
        sock.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))])
        check(answer(sock) is None, "200 descriptors were taken")
    outside = os.open("/", os.O_RDONLY)
    with connect(bed) as sock:
        sock.sendall(hello(bed))
        check(answer(sock) == 0, "HELLO")
        sock.sendmsg([frame(LIST, b"\0\0\0\0")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [outside]))])
        check(answer(sock) == -22, "a directory outside the mirror was taken")
    for file in (*files, outside):
        os.close(file)
    bed.ctl("status")
    step(f"{MANY} connections, and one that asks without end and reads nothing")
    many = [connect(bed) for _ in range(MANY)]
    greedy = connect(bed)
    greedy.setblocking(False)
    sent = 0
    try:
        while sent < 64 << 20:
            sent += greedy.send(ctl(b"status") * 100)
    except BlockingIOError:
        pass
    check(sent < 64 << 20, "requests are taken in without end")
    bed.ctl("status")
    with bed.client() as client:
        client.put("file", b"as ever")
        check(client.get("file") == b"as ever", "a client is served")
    for sock in (*slow, *many, greedy):
        sock.close()
    wait_until(lambda: descriptors(bed) <= before + 10, 60, "the descriptors are given back")


def main():
    group = grp.getgrnam("users").gr_gid
    with Testbed(set=["global.group=users"]) as bed:
        os.chmod(os.path.join(bed.dir, "run"), 0o755)
        strangers(bed, group)
        rubbish(bed)
        step("without a group, the socket is root's")
        with open(bed.conf, encoding="utf-8") as file:
            text = re.sub(r"(?m)^\s*group = users\n", "", file.read())
        with open(bed.conf, "w", encoding="utf-8") as file:
            file.write(text)
        bed.restart("cached")
        check(os.stat(bed.socket).st_mode & 0o777 == 0o600, "its mode")


main()
