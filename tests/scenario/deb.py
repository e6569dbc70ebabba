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
import tempfile
import threading

from procs import answers, free_ports
from smb import SmbError, check, skip, step, wait_until
from smb2 import Client

ROOT = os.environ["ROOT"]
WORK = os.environ["TMPDIR"]
MAKE = os.environ.get("MAKE") or "make"
CHROOT = f"{WORK}/root"
FILES = 40
USER, PASSWORD = "objectfs1", "Wonderland9"
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


def run(*argv, may_fail=False, **options):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", timeout=90,
                          check=False,
                          **options)
    check(may_fail or done.returncode == 0,
          f"{' '.join(argv)}: exit {done.returncode}: {done.stdout.strip()[-2000:]}")
    return (done.returncode, done.stdout) if may_fail else done.stdout


def inside(*argv, **options):
    """A command on the copy of the machine."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive",
                   "LC_ALL": "C.UTF-8"}
    return run("chroot", CHROOT, *argv, env=environment, **options)


def write(path, text, mode=0o644):
    path = CHROOT + path
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


def text_of(path):
    """A file of the sources: some machines install no documentation."""
    with open(f"{ROOT}/{path}", encoding="utf-8") as file:
        return file.read()


def exists(path):
    return os.path.exists(CHROOT + path)


def prepare():
    """The copy; what the packages bring is not in it, whatever this machine has."""
    os.makedirs(f"{WORK}/upper")
    run("mount", "-t", "tmpfs", "tmpfs", f"{WORK}/upper")
    for name in ("changes", "work"):
        os.mkdir(f"{WORK}/upper/{name}")
    os.mkdir(CHROOT)
    code, output = run("mount", "-t", "overlay", "overlay", "-o",
                       f"lowerdir=/,upperdir={WORK}/upper/changes,workdir={WORK}/upper/work",
                       CHROOT, may_fail=True)
    if code != 0:
        skip(f"no overlay of this machine's root can be mounted: {output.strip()}")
    run("mount", "-t", "proc", "proc", f"{CHROOT}/proc")
    run("mount", "--rbind", "/dev", f"{CHROOT}/dev")
    run("mount", "-t", "tmpfs", "tmpfs", f"{CHROOT}/run")
    # data on a real disk, as it is used
    for path in ("/var/cache/objectfs", "/srv/store"):
        os.makedirs(WORK + path)
        os.makedirs(CHROOT + path, exist_ok=True)
        run("mount", "--bind", WORK + path, CHROOT + path)
    os.makedirs(f"{CHROOT}/run/systemd/system")
    write("/usr/bin/deb-systemd-invoke", INVOKE, 0o755)
    write("/usr/bin/systemctl", "#!/bin/sh\n", 0o755)
    inside("dpkg", "--purge", "samba-vfs-objectfs", "objectfs", may_fail=True)
    for path in glob.glob(f"{CHROOT}/etc/objectfs") + glob.glob(f"{CHROOT}/etc/samba/smb.conf"):
        run("rm", "-rf", path)


def packages(revision):
    out = f"{WORK}/deb{revision}"
    run(MAKE, "-s", "--no-print-directory", "-C", ROOT, "deb", f"DEB_REVISION={revision}",
        f"DEB_OUT={out}")
    found = sorted(os.path.basename(path) for path in glob.glob(f"{out}/*.deb"))
    check([name.split("_")[0] for name in found] == ["objectfs", "samba-vfs-objectfs"],
          f"made: {found}")
    os.makedirs(f"{CHROOT}/deb{revision}", exist_ok=True)
    run("cp", *(f"{out}/{name}" for name in found), f"{CHROOT}/deb{revision}")
    return [f"/deb{revision}/{name}" for name in found]


def serve(port):
    """Daemon and smbd, as an administrator sets them up."""
    inside("useradd", "-M", USER)
    write("/etc/objectfs/objectfs.conf", "[global]\nlog level = info\n[volume projects]\nstore = dir\n"
          "directory = /srv/store\nsettle time = 1h\nsettle limit = 1h\n")
    write("/etc/samba/smb.conf", text_of("smb.conf.d/standalone.conf").replace(
        "[global]\n", f"[global]\n\tsmb ports = {port}\n\tinterfaces = 127.0.0.1\n"
        "\tbind interfaces only = yes\n\tdisable netbios = yes\n\tlog file = /var/log/smbd.log\n"
        "\tlogging = file\n\tload printers = no\n\tdisable spoolss = yes\n"
        "\tacl_xattr:security_acl_name = user.NTACL\n", 1))
    subprocess.run(["chroot", CHROOT, "smbpasswd", "-a", "-s", USER], text=True, check=True,
                   input=f"{PASSWORD}\n{PASSWORD}\n", stdout=subprocess.DEVNULL)
    inside("deb-systemd-invoke", "start", "objectfs-cached.service")
    wait_until(lambda: exists("/run/objectfs/cached.sock"), 20, "the daemon serves")
    os.chmod(f"{CHROOT}/var/cache/objectfs/projects/tree", 0o777)
    os.makedirs(f"{CHROOT}/run/samba", exist_ok=True)
    log = open(f"{WORK}/smbd.out", "wb")  # pylint: disable=consider-using-with
    smbd = subprocess.Popen(["chroot", CHROOT, "smbd", "--foreground", "--no-process-group"],
                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                            start_new_session=True)
    wait_until(lambda: answers("127.0.0.1", port), 20, "smbd serves")
    return smbd


def connect(port):
    return Client("127.0.0.1", port, USER, PASSWORD, "projects", 60)


def content(number):
    return hashlib.sha256(str(number).encode()).digest() * 500


def under_upgrade(port, debs):
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
        output = inside("dpkg", "-i", *debs)
        wait_until(lambda: len(rounds) > before + 10 or errors, 60, "the client works on")
        going.set()
        thread.join()
        held.write(file, 7, b"after")
        held.close(file)
    check(not errors, f"a client noticed: {errors}\n{output}")
    print(f"   {len(rounds)} files were made meanwhile")
    return rounds


def other_samba():
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
    run("dpkg-deb", "--root-owner-group", "-b", build, f"{CHROOT}/samba.deb")
    version = inside("smbd", "-V").split()[1].split("-")[0]
    inside("cp", "-a", "/usr/sbin/smbd", "/smbd")
    output = inside("dpkg", "-i", "--force-overwrite", "/samba.deb")
    check(re.search(rf"WARNING: .* built for Samba {version}, .* 4\.18\.1 now", output),
          f"no warning: {output}")
    inside("dpkg", "--purge", "another-samba")
    inside("cp", "-a", "/smbd", "/usr/sbin/smbd")
    output = inside("sh", "-c", "dpkg-trigger --by-package=samba /usr/sbin/smbd; dpkg --configure -a")
    check("WARNING" not in output, f"a warning about the same Samba: {output}")


def manifest(port):
    with connect(port) as client:
        return {name: client.get(name) for name, *_ in client.list("")}


def removed(smbd, debs):
    step("removed and purged: configuration, mirror and what is pending stay")
    pending = inside("objectfsctl", "pending")
    check("file0" in pending, f"nothing was pending: {pending}")
    output = inside("dpkg", "--remove", "samba-vfs-objectfs", "objectfs")
    check("not all is in the object store yet" in output, f"removed without a word: {output}")
    smbd.terminate()
    smbd.wait()
    check(not exists("/run/objectfs-cached.pid"), "the daemon was not stopped")
    output = inside("dpkg", "--purge", "samba-vfs-objectfs", "objectfs")
    check("/var/cache/objectfs stays" in output and "/etc/objectfs stays" in output,
          f"purged without a word: {output}")
    for path in ("/etc/objectfs/objectfs.conf", "/var/cache/objectfs/projects/tree/file0"):
        check(exists(path), f"{path} was removed")
    for path in ("/usr/sbin/objectfs-cached", "/etc/logrotate.d/objectfs",
                 "/usr/lib/systemd/system/objectfs-cached.service"):
        check(not exists(path), f"{path} was left")
    inside("dpkg", "-i", *debs)


def uninstalled():
    step("make uninstall refuses while something is pending, and without an answer")

    def make(target, *more):
        return run(MAKE, "-s", "--no-print-directory", "-C", ROOT, target, f"DESTDIR={CHROOT}", *more,
                   may_fail=True)

    code, output = make("install")
    check(code == 0, f"make install: {output}")
    # a script in the place of objectfsctl; the mirror is there and no daemon runs
    ctl = "/usr/local/sbin/objectfsctl"
    for answer, refuses in (("echo 'nothing is pending'", False), ("exit 1", True),
                            ("exec /usr/sbin/objectfsctl $@", True),
                            ("echo 'VOLUME SECONDS'", True)):
        write(ctl, f"#!/bin/sh\n{answer}\n", 0o755)
        code, output = inside(f"{ROOT}/packaging/build/pending", ctl, may_fail=True)
        check(code == (1 if refuses else 0), f"{answer}: exit {code}: {output}")
    code, output = make("uninstall")
    check(code != 0 and exists(ctl), f"make uninstall: {output}")
    code, output = make("uninstall", "FORCE=1")
    left = glob.glob(f"{CHROOT}/usr/local/**/*objectfs*", recursive=True)
    check(code == 0 and not left, f"FORCE=1: {output}, left: {left}")


def main():
    step("made, and installed without a configuration")
    prepare()
    first, second = packages(1), packages(2)
    output = inside("dpkg", "-i", *first)
    check("write /etc/objectfs/objectfs.conf" in output, f"installed without a word: {output}")
    check("WARNING" not in output, f"a warning: {output}")
    check("objectfs" in inside("getent", "group", "objectfs"), "no group")
    write("/example.conf", text_of("packaging/objectfs.conf.example"))
    inside("objectfs-cached", "-c", "/example.conf", "--check-config")

    step("in use")
    port = free_ports()
    smbd = serve(port)
    with connect(port) as client:
        for number in range(FILES):
            client.put(f"file{number}", content(number))

    step("upgraded under a working client")
    rounds = under_upgrade(port, second)
    version = inside("dpkg-query", "-W", "-f", "${Version}", "objectfs")
    check(version.endswith("-2"), f"version {version}")
    with open(f"{CHROOT}/run/invoked", encoding="utf-8") as file:
        check(file.read().splitlines()[-1] == "restart objectfs-cached.service",
              "the daemon was not started again")
    before = manifest(port)
    check(before.get("held") == b"before after", f"held: {before.get('held')}")
    for name, number in [(f"file{n}", n) for n in range(FILES)] + [(f"during{n}", n) for n in rounds]:
        check(before.get(name) == content(number), f"{name} is not what was written")

    other_samba()
    removed(smbd, second)

    step("installed again: all of it is there, and goes to the store")
    wait_until(lambda: exists("/run/objectfs/cached.sock"), 20, "the daemon serves")
    inside("objectfsctl", "flush", "--wait")
    check("nothing is pending" in inside("objectfsctl", "pending"), "something is pending")
    stored = {os.path.basename(path)[:-2] for path in
              glob.glob(f"{CHROOT}/srv/store/objects/**/*%o", recursive=True)}
    check(set(before) <= stored, f"not in the store: {set(before) - stored}")
    inside("deb-systemd-invoke", "stop", "objectfs-cached.service")
    uninstalled()


if os.environ.get("DEB_INSIDE"):
    main()
else:
    if os.environ.get("SANITIZER"):
        skip("packages are of the ordinary build")
    if subprocess.run(["unshare", "-mp", "--fork", "true"], stderr=subprocess.DEVNULL,
                      check=False).returncode != 0:
        skip("no namespaces of its own on this machine")
    sys.exit(subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
         sys.executable, os.path.realpath(__file__)], check=False,
        env=dict(os.environ, DEB_INSIDE="1")).returncode)
