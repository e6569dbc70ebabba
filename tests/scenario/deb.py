#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 280
"""The Debian packages, on a copy of this machine (an overlay, in namespaces of its own): installed,
used as standalone.conf has it, upgraded under a client that goes on working, met by another Samba,
removed, purged and installed again; nothing is lost. And `make uninstall`.

There is no systemd in here: deb-systemd-invoke is a script that does what systemd would."""

import glob
import hashlib
import os
import re
import subprocess
import sys
import threading

from machine import PASSWORD, ROOT, USER, WORK, Machine, enter, is_inside, make, run, text_of
from procs import answers, free_ports
from smb import SmbError, check, step, wait_until
from smb2 import Client

FILES = 40
INVOKE = """#!/bin/sh
echo "$@" >>/run/invoked
pid=/run/objectfs-cached.pid
if [ "$1" != start ] && [ -e $pid ]; then
	kill $(cat $pid) 2>/dev/null
	while [ -e /proc/$(cat $pid)/exe ]; do sleep 0.05; done
	rm $pid
fi
if [ "$1" != stop ] && [ -e /etc/objectfs/objectfs.conf ]; then
	objectfs-cached --foreground >>/var/log/cached.out 2>&1 &
	echo $! >$pid
fi
"""


def serve(copy, port):
    """Daemon and smbd, as an administrator sets them up."""
    copy.configure(port, "settle time = 1h\nsettle limit = 1h\n")
    copy.inside("deb-systemd-invoke", "start", "objectfs-cached.service")
    wait_until(lambda: copy.exists("/run/objectfs/cached.sock"), 20, "the daemon serves")
    os.chmod(f"{copy.root}/var/cache/objectfs/projects/tree", 0o777)
    log = open(f"{WORK}/smbd.out", "wb")  # pylint: disable=consider-using-with
    smbd = subprocess.Popen(["chroot", copy.root, "smbd", "--foreground", "--no-process-group"],
                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                            start_new_session=True)
    wait_until(lambda: answers("127.0.0.1", port), 20, "smbd serves")
    return smbd


def connect(port):
    return Client("127.0.0.1", port, USER, PASSWORD, "projects", 60)


def content(number):
    return hashlib.sha256(str(number).encode()).digest() * 500


def under_upgrade(copy, port, debs):
    """A client writes, renames, reads and deletes while the packages are replaced."""
    going, errors, rounds = threading.Event(), [], []

    def work():
        try:
            with connect(port) as client:
                while not going.is_set():
                    number = 1000 + len(rounds)
                    client.put("new", content(number))
                    client.rename("new", f"during{number}")
                    check(client.get(f"during{number}") == content(number), "other bytes")
                    client.get("file7")
                    rounds.append(number)
        except (SmbError, OSError, SystemExit) as error:
            errors.append(error)

    with connect(port) as held:
        file = held.create("held", disposition=3)
        held.write(file, 0, b"before ")
        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: len(rounds) > 2 or errors, 30, "the client works")
        before = len(rounds)
        output = copy.inside("dpkg", "-i", *debs)
        wait_until(lambda: len(rounds) > before + 10 or errors, 60, "the client works on")
        going.set()
        thread.join()
        held.write(file, 7, b"after")
        held.close(file)
    check(not errors, f"a client noticed: {errors}\n{output}")
    print(f"   {len(rounds)} files were made meanwhile")
    return rounds


def other_samba(copy):
    step("a package with another Samba's smbd: its trigger warns")
    build = f"{WORK}/samba"
    for path, text, mode in (
            ("DEBIAN/control", "Package: another-samba\nVersion: 4.18.1\nArchitecture: all\n"
             "Maintainer: nobody <nobody@localhost>\nDescription: another Samba\n", 0o644),
            ("usr/sbin/smbd", "#!/bin/sh\necho Version 4.18.1-Debian\n", 0o755)):
        os.makedirs(os.path.dirname(f"{build}/{path}"), exist_ok=True)
        with open(f"{build}/{path}", "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(f"{build}/{path}", mode)
    run("dpkg-deb", "--root-owner-group", "-b", build, f"{copy.root}/samba.deb")
    version = copy.inside("smbd", "-V").split()[1].split("-")[0]
    copy.inside("cp", "-a", "/usr/sbin/smbd", "/smbd")
    output = copy.inside("dpkg", "-i", "--force-overwrite", "/samba.deb")
    check(re.search(rf"WARNING: .* built for Samba {version}, .* 4\.18\.1 now", output),
          f"no warning: {output}")
    copy.inside("dpkg", "--purge", "another-samba")
    copy.inside("cp", "-a", "/smbd", "/usr/sbin/smbd")
    output = copy.inside("sh", "-c", "dpkg-trigger --by-package=samba /usr/sbin/smbd; dpkg --configure -a")
    check("WARNING" not in output, f"a warning about the same Samba: {output}")


def manifest(port):
    with connect(port) as client:
        return {name: client.get(name) for name, *_ in client.list("")}


def removed(copy, smbd, debs):
    step("removed and purged: configuration, mirror and what is pending stay")
    pending = copy.inside("objectfsctl", "pending")
    check("file0" in pending, f"nothing was pending: {pending}")
    output = copy.inside("dpkg", "--remove", "samba-vfs-objectfs", "objectfs")
    check("not all is in the object store yet" in output, f"removed without a word: {output}")
    smbd.terminate()
    smbd.wait()
    check(not copy.exists("/run/objectfs-cached.pid"), "the daemon was not stopped")
    output = copy.inside("dpkg", "--purge", "samba-vfs-objectfs", "objectfs")
    check("/var/cache/objectfs stays" in output and "/etc/objectfs stays" in output,
          f"purged without a word: {output}")
    for path in ("/etc/objectfs/objectfs.conf", "/var/cache/objectfs/projects/tree/file0"):
        check(copy.exists(path), f"{path} was removed")
    for path in ("/usr/sbin/objectfs-cached", "/etc/logrotate.d/objectfs",
                 "/usr/lib/systemd/system/objectfs-cached.service"):
        check(not copy.exists(path), f"{path} was left")
    copy.inside("dpkg", "-i", *debs)


def uninstalled(copy):
    step("make uninstall refuses while something is pending, and without an answer")

    here = f"DESTDIR={copy.root}"
    make("install", here)
    # a script in the place of objectfsctl; the mirror is there and no daemon runs
    ctl = "/usr/local/sbin/objectfsctl"
    for answer, refuses in (("echo 'nothing is pending'", False), ("exit 1", True),
                            ("exec /usr/sbin/objectfsctl $@", True),
                            ("echo 'VOLUME SECONDS'", True)):
        copy.write(ctl, f"#!/bin/sh\n{answer}\n", 0o755)
        code, output = copy.inside(f"{ROOT}/packaging/build/pending", ctl, may_fail=True)
        check(code == (1 if refuses else 0), f"{answer}: exit {code}: {output}")
    code, output = make("uninstall", here, may_fail=True)
    check(code != 0 and copy.exists(ctl), f"make uninstall: {output}")
    code, output = make("uninstall", here, "FORCE=1", may_fail=True)
    left = glob.glob(f"{copy.root}/usr/local/**/*objectfs*", recursive=True)
    check(code == 0 and not left, f"FORCE=1: {output}, left: {left}")


def main():
    step("made, and installed without a configuration")
    copy = Machine()
    os.makedirs(f"{copy.root}/run/systemd/system")
    copy.write("/usr/bin/deb-systemd-invoke", INVOKE, 0o755)
    copy.write("/usr/bin/systemctl", "#!/bin/sh\n", 0o755)
    first, second = copy.packages(1), copy.packages(2)
    output = copy.inside("dpkg", "-i", *first)
    check("write /etc/objectfs/objectfs.conf" in output, f"installed without a word: {output}")
    check("WARNING" not in output, f"a warning: {output}")
    check("objectfs" in copy.inside("getent", "group", "objectfs"), "no group")
    copy.write("/example.conf", text_of("packaging/objectfs.conf.example"))
    copy.inside("objectfs-cached", "-c", "/example.conf", "--check-config")

    step("in use")
    port = free_ports()
    smbd = serve(copy, port)
    with connect(port) as client:
        for number in range(FILES):
            client.put(f"file{number}", content(number))

    step("upgraded under a working client")
    rounds = under_upgrade(copy, port, second)
    version = copy.inside("dpkg-query", "-W", "-f", "${Version}", "objectfs")
    check(version.endswith("-2"), f"version {version}")
    with open(f"{copy.root}/run/invoked", encoding="utf-8") as file:
        check(file.read().splitlines()[-1] == "restart objectfs-cached.service",
              "the daemon was not started again")
    before = manifest(port)
    check(before.get("held") == b"before after", f"held: {before.get('held')}")
    for name, number in [(f"file{n}", n) for n in range(FILES)] + [(f"during{n}", n) for n in rounds]:
        check(before.get(name) == content(number), f"{name} is not what was written")

    other_samba(copy)
    removed(copy, smbd, second)

    step("installed again: all of it is there, and goes to the store")
    wait_until(lambda: copy.exists("/run/objectfs/cached.sock"), 20, "the daemon serves")
    copy.inside("objectfsctl", "flush", "--wait")
    check("nothing is pending" in copy.inside("objectfsctl", "pending"), "something is pending")
    stored = {os.path.basename(path)[:-2] for path in
              glob.glob(f"{copy.root}/srv/store/objects/**/*%o", recursive=True)}
    check(set(before) <= stored, f"not in the store: {set(before) - stored}")
    copy.inside("deb-systemd-invoke", "stop", "objectfs-cached.service")
    uninstalled(copy)


if not is_inside():
    sys.exit(enter())
main()
