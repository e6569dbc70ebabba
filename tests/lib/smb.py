# SPDX-License-Identifier: GPL-3.0-or-later
"""What scenario tests in Python start from: a testbed, smbclient, the control tool, manifests.

    from smb import Testbed, compare, fail, skip, wait_until

    with Testbed(store="rgw", set=["settle time=1s"]) as bed:
        rc, output = bed.smbclient("put /etc/hosts hosts; ls")
        with bed.client() as client:             # smb2.Client: exact times, ACLs, EAs, streams
            client.put("a", b"data", eas={"e": b"1"})
            before = client.manifest()
        bed.ctl("flush", "--wait")
        bed.wipe()
        with bed.client() as client:
            differences = compare(before, client.manifest())
"""

import atexit
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading

from procs import Failure, listens, wait_until  # noqa: F401  (for the tests)
from s3sim import Control
from smb2 import Client, SmbError, nt_time, unix_time  # noqa: F401  (for the tests)

LIB = os.path.dirname(os.path.realpath(__file__))
TESTS = os.path.dirname(LIB)
ROOT = os.path.dirname(TESTS)
TESTBED = os.path.join(TESTS, "testbed")

COMPARED = ("type", "size", "sha256", "create", "write", "attributes", "sd", "eas", "streams")


THREADS_FAILED = []


def thread_failed(ended):
    """Python lets a program go on, and end well, whose thread has ended by an exception, or by fail()."""
    if ended.exc_type is not SystemExit:
        threading.__excepthook__(ended)
        print(f"FAIL: {ended.exc_type.__name__}: {ended.exc_value}", flush=True)
    THREADS_FAILED.append(ended.thread)


def fail_with_threads():
    if THREADS_FAILED:
        sys.stdout.flush()
        os._exit(1)


threading.excepthook = thread_failed
atexit.register(fail_with_threads)


def fail(reason):
    """End the test, from whichever of its threads: it failed."""
    print(f"FAIL: {reason}", flush=True)
    sys.exit(1)


def skip(reason):
    """End the test: this machine cannot do it."""
    print(reason, flush=True)
    sys.exit(77)


def check(condition, reason):
    if not condition:
        fail(reason)


def refused(what, call, *statuses):
    """Fails, with one of these NT statuses; none: with any."""
    try:
        call()
    except SmbError as error:
        check(not statuses or error.name in statuses, f"{what}: {error.name}, not {' or '.join(statuses)}")
        return
    fail(f"{what}: was acknowledged")


def step(text):
    """Progress, for the log."""
    print(f"-- {text}", flush=True)


def bed_path():
    """The path of a testbed to be, for what must know it before: Testbed(path=...). Its parent is the test's, too, and
    goes with it, unless something is left there."""
    parent = tempfile.mkdtemp(prefix="bed-", dir=os.environ.get("TMPDIR"))
    os.chmod(parent, 0o755)
    atexit.register(remove_empty, parent)
    return os.path.join(parent, "t")


def remove_empty(directory):
    with contextlib.suppress(OSError):
        os.rmdir(directory)


class Testbed:
    """A testbed of its own. Keywords: store, fs, plain, tls, set, smb (lists of KEY=VALUE),
    fragment (a file), fence ("f0" to "f3"), disk (a mountpoint), preload ("smbd=FILE"), objectfs=False, smbd=False.
    Up at once; down at the end of `with`."""

    def __init__(self, store="dir", fs="here", plain=False, tls=False, set=(), smb=(),
                 objectfs=True, smbd=True, path=None, fragment=None, fence=None, disk=None, preload=None):
        # pylint: disable=redefined-builtin
        self.env = {}
        self.up_done = False
        self.dir = path = path or bed_path()
        argv = ["up", path, "--store", store, "--fs", fs]
        for option, wanted in (("--plain", plain), ("--tls", tls), ("--no-objectfs", not objectfs),
                               ("--no-smbd", not smbd)):
            if wanted:
                argv.append(option)
        for option, values in (("--set", set), ("--smb", smb),
                               ("--fragment", [fragment] if fragment else []),
                               ("--fence", [fence] if fence else []),
                               ("--disk", [disk] if disk else []),
                               ("--preload", [preload] if preload else [])):
            for value in values:
                argv += [option, value]
        self._testbed(*argv)
        self.up_done = True

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.down()
        except SystemExit:
            # the first failure is the one to report
            if kind is None:
                raise

    def _testbed(self, *argv):
        done = subprocess.run([TESTBED, *argv], stdin=subprocess.DEVNULL, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace")
        if done.returncode == 77:
            skip(done.stdout.strip())
        if done.returncode != 0:
            fail(f"testbed {argv[0]}: {done.stdout.strip()}")
        if argv[0] != "down":
            self.read_env()

    def read_env(self):
        """Variables of DIR/env, also as attributes in lower case: bed.smb_port."""
        with open(os.path.join(self.dir, "env"), encoding="utf-8") as file:
            for line in file:
                name, _, value = line.rstrip("\n").partition("=")
                self.env[name] = "".join(shlex.split(value))
        for name in ("OBJECTFSCTL",):
            self.env[name + "_ARGV"] = shlex.split(self.env[name])

    def __getattr__(self, name):
        env = self.__dict__.get("env", {})
        if name.upper() in env:
            return env[name.upper()]
        raise AttributeError(name)

    def down(self):
        if self.up_done:
            self.up_done = False
            self._testbed("down", self.dir)

    def inside(self, *argv, text="", may_fail=False):
        """What a program says that sees users and Samba's configuration as smbd does; of Samba's own
        (net, pdbedit) it is the configuration by -s."""
        done = subprocess.run([*shlex.split(self.env["INSIDE"]), *argv], input=text, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0 and not may_fail:
            fail(f"{' '.join(argv)}: {done.stdout.strip()}")
        return done.stdout

    def restart(self, part, kill=False):
        self._testbed("restart", self.dir, part, *["--kill"] * kill)

    def stop(self, part, kill=False):
        self._testbed("stop", self.dir, part, *["--kill"] * kill)

    def start(self, part):
        self._testbed("start", self.dir, part)

    @contextlib.contextmanager
    def unheard(self):
        """What is done within `with` the daemon hears of all at once, however long it took."""
        pid = int(self.env["CACHED_PID"])
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def wipe(self, new_host=False):
        self._testbed("wipe", self.dir, *["--new-host"] * new_host)

    # --- clients ---------------------------------------------------------------------------------
    def user(self, number):
        """(name, password) of user 1, 2 or "admin"."""
        if number == "admin":
            return self.env["ADMIN_USER"], self.env["ADMIN_PASS"]
        return self.env[f"USER{number}"], self.env[f"PASS{number}"]

    def share(self, plain):
        return self.env["PLAIN_SHARE" if plain else "SHARE"]

    def smbclient(self, commands, user=1, plain=False, share=None, options=(), timeout_s=250,
                  cwd=None):
        """(exit code, output) of smbclient; commands may be many lines, one command each."""
        name, password = self.user(user)
        done = subprocess.run(
            ["smbclient", "-s", "/dev/null", "-t", "120", "-p", self.env["SMB_PORT"], *options,
             f"//{self.env['SMB_HOST']}/{share or self.share(plain)}",
             *(["-c", commands] if "\n" not in commands else [])],
            input=commands if "\n" in commands else "",
            env=dict(os.environ, USER=name, PASSWD=password), cwd=cwd,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            timeout=timeout_s, check=False)
        return done.returncode, done.stdout

    def client(self, user=1, plain=False, share=None, timeout_s=60, guid=None):
        """A connection of smb2.Client."""
        name, password = self.user(user)
        return Client(self.env["SMB_HOST"], int(self.env["SMB_PORT"]), name, password,
                      share or self.share(plain), timeout_s, guid)

    def manifest(self, path="", user=1, plain=False, content=True):
        with self.client(user, plain) as client:
            return client.manifest(path, content)

    # --- daemon and store ---------------------------------------------------------------------------
    def ctl(self, *argv, timeout_s=120, may_fail=False):
        """Output of objectfsctl; a failure fails the test unless may_fail, then (code, output)."""
        done = subprocess.run([*self.env["OBJECTFSCTL_ARGV"], *argv], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=timeout_s, check=False)
        if may_fail:
            return done.returncode, done.stdout
        if done.returncode != 0:
            fail(f"objectfsctl {' '.join(argv)}: {done.stdout.strip()}")
        return done.stdout

    def ctl_json(self, *argv, timeout_s=120):
        """The JSON document of objectfsctl --json."""
        output = self.ctl("--json", *argv, timeout_s=timeout_s)
        try:
            return json.loads(output)
        except ValueError:
            return fail(f"objectfsctl {' '.join(argv)}: not JSON: {output[:500]}")

    def flush(self, timeout_s=250):
        """Everything pending now is in the store afterwards."""
        self.ctl("flush", "--wait", timeout_s=timeout_s)

    def sound(self, content=True):
        """What is in the store now is as docs/FORMAT.md says, by the reader that was written from it. content=False:
        but for the bytes of files."""
        from bucket_reader import read_bed  # pylint: disable=import-outside-toplevel
        self.flush()
        problems = read_bed(self, content).problems
        check(not problems, "the reader finds in the bucket:\n  " + "\n  ".join(problems[:20]))

    def s3(self):
        """A boto3 client of the testbed's S3 store."""
        import boto3  # pylint: disable=import-outside-toplevel
        from botocore.config import Config  # pylint: disable=import-outside-toplevel
        return boto3.client(
            "s3", endpoint_url=self.env["S3_ENDPOINT"] or None,
            aws_access_key_id=self.env["S3_ACCESS_KEY"] or None,
            aws_secret_access_key=self.env["S3_SECRET_KEY"] or None,
            region_name=self.env["S3_REGION"] or None, verify=self.env["S3_CA"] or None,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 3}))

    def sim(self):
        """The testbed's s3sim, to be told what goes wrong."""
        return Control(self.env["S3SIM_CONTROL"])

    def keys(self, internal=False):
        """{key without the volume's prefix: size} of the S3 store."""
        found = {}
        prefix = self.env["S3_PREFIX"]
        pages = self.s3().get_paginator("list_objects_v2").paginate(
            Bucket=self.env["S3_BUCKET"], Prefix=prefix)
        for page in pages:
            for item in page.get("Contents", []):
                key = item["Key"][len(prefix):]
                if internal or not key.startswith(".objectfs/"):
                    found[key] = item["Size"]
        return found

    def log(self, part="cached"):
        """Text of a log: cached or smbd."""
        path = self.env["CACHED_LOG" if part == "cached" else "SMBD_LOG"]
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def mirror_bytes(self):
        """Bytes of data the mirror's regular files occupy."""
        total = 0
        for directory, _, names in os.walk(self.env["MIRROR"]):
            for name in names:
                try:
                    total += os.lstat(os.path.join(directory, name)).st_blocks * 512
                except FileNotFoundError:
                    pass  # it went meanwhile
        return total


def configure(bed, **options):
    """Change lines of the volume's section; None: takes one out."""
    with open(bed.conf, encoding="utf-8") as file:
        text = file.read()
    for key, value in options.items():
        key = key.replace("_", " ")
        text = re.sub(rf"(?m)^\t{key} = .*\n", "", text)
        if value is not None:
            text = re.sub(r"(?m)^(\[volume .*\n)", rf"\1\t{key} = {value}\n", text)
    with open(bed.conf, "w", encoding="utf-8") as file:
        file.write(text)


def volume(bed):
    """The status of the only one."""
    return bed.ctl_json("status")["volumes"][0]


def ready(bed):
    wait_until(lambda: volume(bed)["state"] == "ready", 20, "the volume is ready")


def other_daemon(bed, name, *lines):
    """(directory, configuration) of another daemon beside a testbed's, with a store, a socket `s` and a
    volume `v` of its own; not started. lines: of its [global]."""
    where = os.path.join(bed.dir, name)
    for part in ("", "/store", "/run", "/cache"):
        os.mkdir(where + part)
    conf = os.path.join(where, "objectfs.conf")
    with open(conf, "w", encoding="utf-8") as file:
        file.write("\n".join((
            "[global]", f"socket = {where}/s", f"run directory = {where}/run",
            f"cache directory = {where}/cache", "http listen =", *lines,
            "[volume v]", "store = dir", f"directory = {where}/store", "")))
    return where, conf


def compare(one, two, fields=COMPARED, limit=20):
    """Differences of two manifests as lines of text; none: []."""
    lines = []
    for path in sorted(set(one) | set(two)):
        if path not in two:
            lines.append(f"{path!r}: only in the first")
        elif path not in one:
            lines.append(f"{path!r}: only in the second")
        else:
            for field in fields:
                before, after = one[path].get(field), two[path].get(field)
                if before != after:
                    lines.append(f"{path!r}: {field}: {before!r} became {after!r}")
    if len(lines) > limit:
        lines[limit:] = [f"and {len(lines) - limit} more"]
    return lines


def check_same(one, two, what, fields=COMPARED):
    """End the test if two manifests differ."""
    differences = compare(one, two, fields)
    if differences:
        fail(f"{what}:\n  " + "\n  ".join(differences))
