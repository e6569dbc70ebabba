# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of this machine to install packages on: an overlay of its root, in namespaces of its own, so
that nothing of it is left, nor anything changed here.

    if not machine.is_inside():
        sys.exit(machine.enter())
    copy = Machine()
    copy.inside("dpkg", "-i", *copy.packages(1))
"""

import glob
import os
import subprocess
import sys

from smb import check, skip

ROOT = os.environ["ROOT"]
WORK = os.environ["TMPDIR"]
MAKE = os.environ.get("MAKE") or "make"
MARK = "OBJECTFS_TEST_MACHINE"


def is_inside():
    return MARK in os.environ


def enter(*more):
    """The test once more, in mount and process namespaces; its exit code. more: options of unshare."""
    if os.environ.get("SANITIZER"):
        skip("packages are of the ordinary build")
    options = ["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", *more]
    if subprocess.run(["unshare", *options, "true"], stderr=subprocess.DEVNULL,
                      check=False).returncode != 0:
        skip("no namespaces of its own on this machine")
    return subprocess.run(["unshare", *options, sys.executable, os.path.realpath(sys.argv[0])],
                          env={**os.environ, MARK: "1"}, check=False).returncode


def run(*argv, may_fail=False, **options):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", timeout=90,
                          check=False, **options)
    check(may_fail or done.returncode == 0,
          f"{' '.join(argv)}: exit {done.returncode}: {done.stdout.strip()[-2000:]}")
    return (done.returncode, done.stdout) if may_fail else done.stdout


def make(target, *more, **options):
    return run(MAKE, "-s", "--no-print-directory", "-C", ROOT, target, *more, **options)


def text_of(path):
    """A file of the sources: some machines install no documentation."""
    with open(f"{ROOT}/{path}", encoding="utf-8") as file:
        return file.read()


class Machine:
    """Mirrors and store are on a real disk, as they are used. What the packages bring is not there,
    whatever this machine has."""

    def __init__(self):
        self.root = f"{WORK}/root"
        os.makedirs(f"{WORK}/upper")
        run("mount", "-t", "tmpfs", "tmpfs", f"{WORK}/upper")
        for name in ("changes", "work"):
            os.mkdir(f"{WORK}/upper/{name}")
        os.mkdir(self.root)
        code, output = run(
            "mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={WORK}/upper/changes,"
            f"workdir={WORK}/upper/work", self.root, may_fail=True)
        if code != 0:
            skip(f"no overlay of this machine's root can be mounted: {output.strip()}")
        run("mount", "-t", "proc", "proc", f"{self.root}/proc")
        run("mount", "--rbind", "/dev", f"{self.root}/dev")
        run("mount", "-t", "tmpfs", "tmpfs", f"{self.root}/run")
        for path in ("/var/cache/objectfs", "/srv/store"):
            os.makedirs(WORK + path)
            os.makedirs(self.root + path, exist_ok=True)
            run("mount", "--bind", WORK + path, self.root + path)
        self.inside("dpkg", "--purge", "samba-vfs-objectfs", "objectfs", may_fail=True)
        run("rm", "-rf", f"{self.root}/etc/objectfs", f"{self.root}/etc/samba/smb.conf")

    def inside(self, *argv, **options):
        """A command on the copy."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive",
                       "LC_ALL": "C.UTF-8"}
        return run("chroot", self.root, *argv, env=environment, **options)

    def write(self, path, text, mode=0o644):
        path = self.root + path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)

    def exists(self, path):
        return os.path.exists(self.root + path)

    def packages(self, revision):
        """Made, and put there; their paths on the copy."""
        out = f"{WORK}/deb{revision}"
        make("deb", f"DEB_REVISION={revision}", f"DEB_OUT={out}")
        found = sorted(os.path.basename(path) for path in glob.glob(f"{out}/*.deb"))
        check([name.split("_")[0] for name in found] == ["objectfs", "samba-vfs-objectfs"],
              f"made: {found}")
        os.makedirs(f"{self.root}/deb{revision}", exist_ok=True)
        run("cp", *(f"{out}/{name}" for name in found), f"{self.root}/deb{revision}")
        return [f"/deb{revision}/{name}" for name in found]

    def configure(self, port, extra=""):
        """A share as standalone.conf has it, with a store of kind dir and one user."""
        self.inside("useradd", "-M", USER)
        self.write("/etc/objectfs/objectfs.conf", "[global]\nlog level = info\n"
                   "log file = /var/log/objectfs/cached.log\ngroup = objectfs\n"
                   f"[volume projects]\nstore = dir\ndirectory = /srv/store\n{extra}")
        self.write("/etc/samba/smb.conf", text_of("smb.conf.d/standalone.conf").replace(
            "[global]\n", f"[global]\n\tsmb ports = {port}\n\tinterfaces = 127.0.0.1\n"
            "\tbind interfaces only = yes\n\tdisable netbios = yes\n\tlogging = file\n"
            "\tlog file = /var/log/smbd.log\n\tload printers = no\n\tdisable spoolss = yes\n"
            "\tacl_xattr:security_acl_name = user.NTACL\n", 1))
        os.makedirs(f"{self.root}/run/samba", exist_ok=True)
        subprocess.run(["chroot", self.root, "smbpasswd", "-a", "-s", USER], text=True, check=True,
                       input=f"{PASSWORD}\n{PASSWORD}\n", stdout=subprocess.DEVNULL)


USER, PASSWORD = "objectfs1", "Wonderland9"
