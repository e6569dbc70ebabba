#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 2 min; root: the unit under a real systemd, on a copy of this machine
"""The unit under a real systemd, which is process 1 of a copy of this machine: started, used through
smbd with recall and eviction, reloaded, hung, upgraded, stopped. Everything that the unit takes from
the daemon is taken here: mounts, capabilities, system calls."""

import os
import subprocess
import sys

from machine import PASSWORD, USER, WORK, Machine, enter, is_inside, run
from smb import check, fail, skip, step

REPORT = f"{WORK}/report"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
PORT = 4455  # of a network of its own
CHECK = f"""#!/bin/bash
exec >/report/out 2>&1
trap 'echo "exit $?" >/report/end; systemctl exit --force --force' EXIT
PATH=/usr/sbin:/usr/bin:/sbin:/bin
set -eu
of() {{ systemctl show -p "$1" --value objectfs-cached; }}
client() {{ smbclient -p {PORT} //127.0.0.1/projects -U {USER}%{PASSWORD} -c "$1"; }}
wait_for() {{ for i in $(seq 100); do if eval "$1"; then return; fi; sleep 0.1; done; echo "never: $1"; exit 1; }}

echo "-- started: it serves when systemctl returns, with what the unit leaves it"
systemctl start objectfs-cached
objectfsctl version
grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/$(of MainPID)/status
grep -q '^CapEff:.*102000df$' /proc/$(of MainPID)/status
grep -q '^Seccomp:.*2$' /proc/$(of MainPID)/status
of StatusText

echo "-- used"
chmod 777 /var/cache/objectfs/projects/tree
smbd --daemon
head -c 3000000 /dev/urandom >/tmp/in
wait_for 'client ls >/dev/null 2>&1'
client 'mkdir d; put /tmp/in d/file; put /tmp/in other'
objectfsctl flush --wait
objectfsctl evict d
objectfsctl stat d/file | grep -q stub
client 'get d/file /tmp/out; del other; rename d e; put /tmp/in third'
cmp /tmp/in /tmp/out
objectfsctl flush --wait
[ -e /srv/store/objects/e/file%o ] && [ ! -e /srv/store/objects/other%o ]

echo "-- local readers are guarded, and stay so while the daemon is killed and started again"
tree=/var/cache/objectfs/projects/tree
grep -q 'local programs that open stubs wait for data' /var/log/objectfs/cached.log
objectfsctl evict e
cmp /tmp/in $tree/e/file
objectfsctl evict e
objectfsctl stat e/file | grep -q stub
before=$(of MainPID)
kill -KILL $before
[ "$(of NFileDescriptorStore)" -gt 0 ]
cmp /tmp/in $tree/e/file
wait_for '[ "$(of ActiveState)" = active ]'
[ "$(of MainPID)" != $before ]
objectfsctl --json status | grep -q '"kept": true'

echo "-- a volume whose credentials a program gives, named in the home of root"
mkdir -p /root/.aws
printf '%s\\n' '[default]' 'credential_process = /root/give "two words"' >/root/.aws/config
printf '%s\\n' '#!/bin/sh' '[ "$1" = "two words" ] && cat /root/keys' >/root/give
printf '%s\\n' '{{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "S"}}' >/root/keys
chmod 700 /root/give
cp /etc/objectfs/objectfs.conf /tmp/conf
printf '%s\\n' '[volume far]' 'store = s3' 'endpoint = http://127.0.0.1:9' 'bucket = far' \
    >>/etc/objectfs/objectfs.conf
systemctl restart objectfs-cached
wait_for 'objectfsctl --json status | grep -q credential_process'
cp /tmp/conf /etc/objectfs/objectfs.conf
systemctl restart objectfs-cached

echo "-- log rotated"
logrotate --force --state /tmp/state /etc/logrotate.d/objectfs
wait_for '[ -s /var/log/objectfs/cached.log ]'
[ -s /var/log/objectfs/cached.log.1 ]

echo "-- hung: started again"
mkdir -p /run/systemd/system/objectfs-cached.service.d
printf '[Service]\\nWatchdogSec=2\\n' >/run/systemd/system/objectfs-cached.service.d/w.conf
systemctl daemon-reload
systemctl restart objectfs-cached
before=$(of MainPID)
kill -STOP $before
wait_for '[ "$(of NRestarts)" = 1 ] && [ "$(of ActiveState)" = active ]'
[ "$(of MainPID)" != $before ]
client 'get e/file /tmp/out'
cmp /tmp/in /tmp/out

echo "-- upgraded: another process; stopped: what smbd has mapped stays"
before=$(of MainPID)
dpkg -i /deb2/*.deb
[ "$(of MainPID)" != $before ] && [ "$(of ActiveState)" = active ]
client 'put /tmp/in fourth; get fourth /tmp/out'
cmp /tmp/in /tmp/out
systemctl stop objectfs-cached
[ "$(of Result)" = success ]
[ -e /run/objectfs/projects.shm ]
echo passed
"""


def boot():
    """Become systemd."""
    copy = Machine()
    root = copy.root
    first, second = copy.packages(1), copy.packages(2)
    check(len(second) == 2, "two packages")
    copy.inside("dpkg", "-i", *first)
    run("umount", "-R", f"{root}/dev")
    for kind, path, options in (("sysfs", "sys", "ro"), ("cgroup2", "sys/fs/cgroup", "rw"),
                                ("tmpfs", "dev", "rw"), ("tmpfs", "tmp", "rw")):
        run("mount", "-t", kind, "-o", options, kind, f"{root}/{path}")
    # nothing of the kernel that is everybody's is changed
    run("mount", "--bind", f"{root}/proc/sys", f"{root}/proc/sys")
    run("mount", "-o", "remount,ro,bind", f"{root}/proc/sys")
    for name in DEVICES:
        copy.write(f"/dev/{name}", "")
        run("mount", "--bind", f"/dev/{name}", f"{root}/dev/{name}")
    for name in ("shm", "pts", "mqueue", "hugepages"):
        os.mkdir(f"{root}/dev/{name}")
    run("mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts", f"{root}/dev/pts")
    os.symlink("pts/ptmx", f"{root}/dev/ptmx")
    copy.configure(PORT, "settle time = 0\n")
    run("rm", "-rf", f"{root}/etc/systemd/system")
    units = "/etc/systemd/system"
    for name in ("sysinit", "basic", "network", "network-online", "nss-user-lookup", "multi-user"):
        copy.write(f"{units}/{name}.target", "[Unit]\nDefaultDependencies=no\n")
    copy.write(f"{units}/check.service",
               "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/report/check\n")
    copy.write(f"{units}/check.target",
               "[Unit]\nDefaultDependencies=no\nWants=check.service\n")
    os.makedirs(f"{root}/report")
    run("mount", "--bind", REPORT, f"{root}/report")
    copy.write("/report/check", CHECK, 0o755)
    os.makedirs(f"{root}/before")
    os.chdir(root)
    os.execve("/bin/sh", ["sh", "-c", "pivot_root . before && cd / && umount -l /before && "
                          "exec /lib/systemd/systemd --system --unit=check.target"],
              {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "container": "other"})


def cgroup():
    """A group of our own in the unified hierarchy, where there is one; this process in it."""
    for top in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        if os.path.exists(f"{top}/cgroup.procs"):
            path = f"{top}/objectfs-test-{os.getpid()}"
            try:
                os.mkdir(path)
                with open(f"{path}/cgroup.procs", "w", encoding="ascii") as file:
                    file.write(str(os.getpid()))
            except OSError as error:
                skip(f"no control group of its own: {error}")
            return top, path
    return skip("no unified control groups")


def main():
    if not os.path.exists("/lib/systemd/systemd"):
        skip("no systemd is installed")
    os.mkdir(REPORT)
    step("a copy of this machine, with the packages, is started")
    top, path = cgroup()
    try:
        code = enter("--cgroup", "--ipc", "--uts", "--net")
    finally:
        with open(f"{top}/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
        subprocess.run(["find", path, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"],
                       check=False)
    if code == 77:
        sys.exit(77)
    text = ""
    if os.path.exists(f"{REPORT}/out"):
        with open(f"{REPORT}/out", encoding="utf-8", errors="replace") as file:
            text = file.read()
    print(text)
    check(text.endswith("passed\n"), f"it ended with: {text[-500:]}" if text else
          fail(f"systemd did not start what it was to start (exit {code})"))


if is_inside():
    boot()
main()
