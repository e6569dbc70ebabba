# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents as what a person types: their fenced commands, on a copy of this machine with a
network, a disk and an S3 server (RGW) of its own.

    if not machine.is_inside():
        sys.exit(machine.enter("--net"))
    server = Server()
    guide = Document("docs/QUICKSTART.md")
    server.type(guide["1. Install"])
    server.all_typed(guide)

Commands are typed as they stand, but for PLACEHOLDERS and what the store is called; what a program
asks for is in ANSWERS. The test becomes a process of the copy: no path of the machine is left.
"""

import fcntl
import os
import re
import shutil
import socket
import struct
import subprocess
import time

from machine import ROOT, WORK, Machine, run
from procs import tail, wait_until
from rgw import REGION, Rgw
from smb import check, fail, skip
from smb2 import Client

KEY, SECRET = "EXAMPLEKEY", "EXAMPLESECRET"  # the store's user has these very ones
PASSWORD = "Wonderland9"
# What the documents tell the reader to replace, and what it is here. The store is added by Server.
PLACEHOLDERS = {"/dev/vdb1": None, "https://s3.example.com": None, "s3.example.com": None,
                "use_https = True": "use_https = False"}
# What is typed at a program's prompt.
ANSWERS = {"objectfsctl recover ": f"yes\n{PASSWORD}\n{PASSWORD}\n",
           "smbpasswd ": f"{PASSWORD}\n{PASSWORD}\n", "smbclient ": f"{PASSWORD}\n"}
# Exit statuses besides 0 that the documents speak of.
STATUSES = {"objectfsctl doctor": (0, 1), "fsck ": (0, 1), "curl -sS ": (0, 7)}
# Commands that cannot be typed here, and why.
NOT_HERE = {
    "make test": "this is one of its tests",
    "make demo": "long/bare-machine types it; here the demo is shown on a bucket",
}
DISK_BYTES = 3 << 30
STAND_INS = ("systemctl", "deb-systemd-invoke", "journalctl", "timedatectl")


class Section:
    def __init__(self, title):
        self.title, self.text, self.blocks = title, "", []


class Document:
    """A Markdown file by its headings; blocks are those fenced as sh, or indented by four. What is fenced as json is
    no command."""

    def __init__(self, path):
        self.path = path
        self.sections = [Section("")]
        with open(f"{ROOT}/{path}", encoding="utf-8") as file:
            lines = file.read().splitlines()
        fence, typed = None, False
        for line in lines:
            section = self.sections[-1]
            if fence is None and re.match("#+ ", line):
                self.sections.append(Section(line.lstrip("# ")))
            elif fence is None and line.startswith("```"):
                check(line in ("```sh", "```json"), f"{path}: {line}: a fence of another kind")
                fence, typed = [], line == "```sh"
            elif line == "```":
                section.blocks += ["\n".join(fence)] if typed else []
                fence = None
            elif fence is not None:
                fence.append(line)
            elif line.startswith("    "):
                section.blocks.append(line.strip())
            else:
                section.text += line + "\n"
        check(fence is None, f"{path}: a fence is not closed")

    def __getitem__(self, title):
        for section in self.sections:
            if section.title == title:
                return section
        return fail(f"{self.path} has no section {title!r}")


def commands(block):
    """The commands of a block: lines, joined where one goes on, here-documents in one piece."""
    found, end = [], None
    for line in block.splitlines():
        if end is not None:
            found[-1] += "\n" + line
            end = None if line == end else end
            continue
        if found and found[-1].endswith("\\"):
            found[-1] = found[-1][:-1] + line.strip()
        elif line.strip() and not line.startswith("#"):
            found.append(line)
        here = re.search(r"<<'(\w+)'", line)
        end = here[1] if here else None
    return found


def bare(command):
    """Without what a shell takes for itself: sudo, a comment at its end."""
    return re.sub(r"\s+#.*", "", re.sub(r"^sudo (-E )?", "", command))


class Server:
    """The copy of this machine, which this process lives on from here on."""

    def __init__(self):
        self.typed = []
        self.become(Machine())
        self.rgw = Rgw(f"{WORK}/rgw", {})
        os.mkdir(f"{WORK}/rgw")
        self.rgw.create(False, KEY, SECRET, "another-bucket")
        self.image, self.disk = f"/before{WORK}/disk", None
        self.loop()
        endpoint = self.rgw.endpoint()
        self.placeholders = dict(PLACEHOLDERS)
        self.placeholders.update({
            "/dev/vdb1": self.disk, "https://s3.example.com": endpoint,
            "s3.example.com": endpoint.split("//")[1]})

    def become(self, copy):
        """Its root is ours; its network has only itself."""
        run("mount", "-t", "sysfs", "sysfs", f"{copy.root}/sys")
        os.mkdir(f"{copy.root}/before")
        run("pivot_root", copy.root, f"{copy.root}/before")
        os.chdir(ROOT)
        with socket.socket() as sock:
            up = struct.pack("16sh14x", b"lo", 1)  # IFF_UP
            fcntl.ioctl(sock, 0x8914, up)  # SIOCSIFFLAGS
        for name in STAND_INS:
            if os.path.lexists(f"/usr/bin/{name}"):
                os.unlink(f"/usr/bin/{name}")
            os.symlink(f"{ROOT}/tests/lib/systemctl.py", f"/usr/bin/{name}")
        with open(os.open("/usr/local/sbin/sudo", os.O_WRONLY | os.O_CREAT, 0o755), "w",
                  encoding="ascii") as file:
            file.write('#!/bin/sh\n[ "$1" != -E ] || shift\nexec "$@"\n')
        for path in ("/run/systemd/system", "/run/samba", "/etc/samba"):
            os.makedirs(path, exist_ok=True)
        shutil.copy("/usr/share/samba/smb.conf", "/etc/samba/smb.conf")
        # small machines leave documentation out; installing is quick without what nobody looks at
        with open("/etc/dpkg/dpkg.cfg.d/zz-test", "w", encoding="ascii") as file:
            file.write("path-include=/usr/share/doc/objectfs/*\nforce-unsafe-io\n")
        if os.path.exists("/var/lib/man-db/auto-update"):
            os.unlink("/var/lib/man-db/auto-update")

    def loop(self):
        with open(self.image, "wb") as file:
            file.truncate(DISK_BYTES)
        done = subprocess.run(["losetup", "--find", "--show", self.image], capture_output=True,
                              text=True, check=False)
        if done.returncode != 0:
            skip(f"no loop device here: {done.stderr.strip()}")
        self.disk = done.stdout.strip()

    def close(self):
        """What the end of the namespaces does not end."""
        self.run("systemctl stop smbd objectfs-cached")
        subprocess.run(["umount", "/var/cache/objectfs"], check=False)
        subprocess.run(["losetup", "--detach", self.disk], check=False)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            print(tail("/var/log/objectfs/cached.log"), tail("/var/log/samba/log.smbd"))
        self.close()

    # --- typing --------------------------------------------------------------------------------
    def run(self, command, statuses=(0,), timeout_s=120):
        """A command in a shell of its own, its placeholders replaced; its output."""
        for name, value in self.placeholders.items():
            command = command.replace(name, value)
        answer = next((text for start, text in ANSWERS.items() if command.startswith(start)), "")
        done = subprocess.run(
            ["bash", "-c", command], input=answer, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", timeout=timeout_s, check=False, cwd=ROOT,
            start_new_session=True,  # no terminal: passwords are read from standard input
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                 "HOME": "/root", "USER": "root", "LC_ALL": "C.UTF-8",
                 "DEBIAN_FRONTEND": "noninteractive", "DEMO_FILES": "200",
                 "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
                 "AWS_DEFAULT_REGION": REGION})
        check(done.returncode in statuses,
              f"{command}: exit {done.returncode}: {done.stdout.strip()[-2000:]}")
        return done.stdout

    def type(self, section, blocks=slice(None)):
        """A section's blocks as they stand; what they said."""
        check(section.blocks[blocks], f"{section.title}: no commands")
        output = ""
        for block in section.blocks[blocks]:
            for command in commands(block):
                output += self.type_one(command)
        return output

    def type_one(self, command):
        self.typed.append(bare(command))
        if bare(command) in NOT_HERE:
            print(f"   not here: {command}: {NOT_HERE[bare(command)]}")
            return ""
        began = time.monotonic()
        output = self.run(command, next((some for start, some in STATUSES.items()
                                         if command.startswith(start)), (0,)))
        print(f"   $ {command.splitlines()[0]}    # {time.monotonic() - began:.1f} s", flush=True)
        return output

    def all_typed(self, *documents):
        """Fail if a document holds a command that was not typed, in a block or in its text."""
        for document in documents:
            for section in document.sections:
                for command in (bare(c) for block in section.blocks for c in commands(block)):
                    check(command in self.typed, f"{document.path}: never typed: {command}")
                for span in re.findall(r"`([^`\n]+)`", section.text):
                    if " " in span and shutil.which(span.split()[0]):
                        check(any(command.startswith(span) for command in self.typed),
                              f"{document.path}: never typed: {span}")

    # --- a client --------------------------------------------------------------------------------
    def client(self):
        return Client("127.0.0.1", 445, "alice", PASSWORD, "projects", 60)

    def smbclient(self, words):
        """What a person sees; the exit status is his."""
        return self.run(f"smbclient //localhost/projects -U alice -c '{words}'", range(256))

    def manifest(self):
        """Of all the share; files are made in its root meanwhile."""
        with self.client() as client:
            found = client.manifest("")
        del found[""]["write"]
        return found

    def pid(self, unit):
        with open(f"/run/services/{unit}.pid", encoding="ascii") as file:
            return int(file.read())

    def well(self):
        """doctor finds nothing but advice, soon."""
        wait_until(lambda: "nothing is wrong" in self.run("objectfsctl doctor", (0, 1)), 30,
                   "doctor finds nothing wrong")
