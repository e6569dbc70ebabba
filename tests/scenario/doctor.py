#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
"""objectfsctl doctor: each thing that can be wrong is named with a remedy and makes the exit status 1;
what is well is not complained about. Real daemon, store and testparm; a Samba of another version is
played by a script in its place."""

import json
import os
import re
import shutil
import subprocess
import tempfile

from proxy import Proxy
from smb import ROOT, Testbed, check, fail, listens, other_daemon, step, wait_until


class Doctor:
    """Where the testbed's daemon is, and sees what it sees."""

    def __init__(self, bed):
        self.bed = bed
        self.path = None  # programs found here come first

    def run(self, *argv, conf=None, smb_conf=None):
        """(exit status, findings)"""
        bed = self.bed
        env = dict(os.environ)
        if self.path:
            env["PATH"] = self.path + ":" + env["PATH"]
        done = subprocess.run([*self.words(conf, smb_conf), *argv], capture_output=True, text=True,
                              check=False, env=env, timeout=60)
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            fail(f"doctor: {done.returncode}: {done.stdout} {done.stderr}")
        for item in answer["findings"]:
            check(item["what"] and item["remedy"], f"no remedy: {item}")
        check((done.returncode == 0) == (answer["state"] == "ok"),
              f"exit status {done.returncode} with state {answer['state']}")
        return done.returncode, answer["findings"]

    def words(self, conf=None, smb_conf=None):
        bed = self.bed
        return [*self.inside(), f"{bed.testbed_build}/objectfsctl", "-c", conf or bed.conf, "doctor",
                "--json", "--smb-conf", smb_conf or bed.smb_conf]

    def pid(self):
        """A process in the namespace that the daemon's restarts do not end."""
        return self.bed.smbd_pid

    def inside(self):
        """The words before a command that is to see the same mounts."""
        space = f"/proc/{self.pid()}/ns/mnt"
        own = os.readlink(space) == os.readlink("/proc/self/ns/mnt")  # as in plain containers
        return [] if own else ["nsenter", f"--mount={space}", "--"]

    def reasons(self, wanted, **kwargs):
        """The reasons of a finding, which must be there, and make the status 1 unless it is advice."""
        status, found = self.run(**kwargs)
        mine = [item for item in found if item["id"] == wanted]
        check(mine, f"doctor does not find {wanted}: {found}")
        check(status == 1 or mine[0]["level"] == "advice", f"{wanted}: exit status {status}")
        return [item["reason"] for item in mine]

    def absent(self, *unwanted, **kwargs):
        _, found = self.run(**kwargs)
        check(not any(item["id"] in unwanted for item in found), f"{unwanted}: {found}")


NEWER = "smb3 directory leases"  # from Samba 4.22 on


def settings_of_the_example():
    """{key: value} that the example explains, besides what differs from share to share."""
    with open(f"{ROOT}/smb.conf.d/standalone.conf", encoding="utf-8") as file:
        lines = [line.strip() for line in file if not line.startswith("#")]
    pairs = [line.split(" = ", 1) for line in lines if " = " in line and line[0] != "#"]
    own = ("path", "vfs objects", "read only", "server role", "server min protocol",
           "map to guest", "objectfs:volume", "objectfs:socket", "objectfs:durability")
    return {key: value for key, value in pairs if key not in own}


def smb_conf_with(bed, changes, drop_share=False):
    """A copy of smb.conf with settings of the share changed."""
    with open(bed.smb_conf, encoding="utf-8") as file:
        head, _, share = file.read().partition(f"[{bed.share_name}]\n")
    lines = share.splitlines()
    for key, value in changes.items():
        if key in ("kernel change notify", NEWER):
            head = re.sub(rf"{key} = .*", f"{key} = {value}", head)
            continue
        kept = [line for line in lines if not line.strip().startswith(key + " =")]
        lines = kept + [f"\t{key} = {value}"]
    path = tempfile.mktemp(dir=bed.dir, suffix=".conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(head if drop_share else head + f"[{bed.share_name}]\n" + "\n".join(lines) + "\n")
    return path


def shares(bed, doctor):
    example = settings_of_the_example()
    check(len(example) > 12, f"the example has not been understood: {example}")
    with open(bed.smb_conf, encoding="utf-8") as file:
        if NEWER in file.read():
            example[NEWER] = "no"
    opposite = {"yes": "no", "no": "yes", "0777": "0700"}
    wrong = smb_conf_with(bed, {key: opposite[value] for key, value in example.items()})
    reasons = doctor.reasons("share-setting", smb_conf=wrong)
    for key in example:
        check(any(f" {key} = " in text for text in reasons), f"{key} is not missed: {reasons}")
    check(len(reasons) == len(example), f"more than is wrong: {reasons}")
    for key, value, wanted in (
            ("objectfs:volume", "other", "share-volume"), ("path", "/usr", "share-volume"),
            ("objectfs:socket", "/run/other.sock", "share-volume"),
            ("vfs objects", "objectfs acl_xattr", "share-setting"),
            ("vfs objects", "streams_xattr objectfs", "share-setting")):
        reasons = doctor.reasons(wanted, smb_conf=smb_conf_with(bed, {key: value}))
        check(any(key in text and value in text for text in reasons), f"{key} = {value}: {reasons}")
    doctor.absent("share-setting", "share-volume", smb_conf=smb_conf_with(
        bed, {"vfs objects": "acl_xattr objectfs io_uring"}))
    doctor.reasons("share-none", smb_conf=smb_conf_with(bed, {}, drop_share=True))
    doctor.reasons("samba-conf", smb_conf="/nonexistent/smb.conf")


def other_samba(bed, doctor):
    modules = subprocess.run(["smbd", "-b"], capture_output=True, text=True,
                             check=True).stdout
    modules = re.search(r"MODULESDIR: *(\S+)", modules)[1]
    doctor.path = os.path.join(bed.dir, "bin")
    os.mkdir(doctor.path)
    smbd = os.path.join(doctor.path, "smbd")
    for version, directory, wanted in (("4.99.1-Debian", modules, "module-other"),
                                       ("4.99.1-Debian", "/nonexistent", "module-missing")):
        with open(smbd, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n[ $1 = -V ] && echo Version {version} || "
                       f"echo '   MODULESDIR: {directory}'\n")
        os.chmod(smbd, 0o755)
        reasons = doctor.reasons(wanted)
        check(directory in reasons[0], f"{reasons}")
        if wanted == "module-other":
            check(version in reasons[0], f"{reasons}")
    doctor.path = None


def conf_with(bed, name, *changes):
    """A copy of objectfs.conf with lines replaced: (key, value); value None: taken out."""
    with open(bed.conf, encoding="utf-8") as file:
        text = file.read()
    for key, value in changes:
        text = re.sub(rf"(?m)^\t{key} = .*$", f"\t{key} = {value}", text)
    path = os.path.join(bed.dir, name)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w",
              encoding="utf-8") as file:
        file.write(text)
    return path


def daemon(bed, doctor, proxy):
    """What the daemon knows."""
    bed.smbclient("put /etc/hosts hosts")
    bed.flush()
    bed.wipe()
    code, output = bed.smbclient("ls")
    check(code == 0 and "hosts" in output, output)
    reasons = doctor.reasons("readers-unguarded")
    check("hosts" in reasons[0], f"{reasons}")
    for skew, word in ((400, "behind"), (-400, "ahead")):
        proxy.skew_s = skew
        bed.smbclient(f"put /etc/hosts h{skew}")
        bed.flush()
        reasons = doctor.reasons("clock-off")
        check(word in reasons[0], f"a store {skew} s off: {reasons}")
    proxy.skew_s = 0
    bed.smbclient("put /etc/hosts again")
    bed.flush()
    doctor.absent("clock-off")
    with open(bed.conf, encoding="utf-8") as file:
        good = file.read()
    shutil.copyfile(conf_with(bed, "denied.conf", ("secret key", "x" * 40)), bed.conf)
    bed.restart("cached")
    wait_until(lambda: any(item["id"] == "store-denied" for item in doctor.run()[1]), 20,
               "doctor says that the store refuses the credentials")
    with open(bed.conf, "w", encoding="utf-8") as file:
        file.write(good)
    proxy.versioned = True
    bed.restart("cached")
    wait_until(lambda: any(item["id"] == "versions-kept" for item in doctor.run()[1]), 20,
               "doctor says that the bucket keeps versions")
    check("class F2; COPY, source If-Match: another ETag: expected" in doctor.reasons("fence-less")[0],
          f"what the store lacks: {doctor.reasons('fence-less')}")
    fence = bed.ctl_json("status")["volumes"][0]
    check(fence["fence"]["class"] == 2 and fence["fence"]["versioned"], f"class: {fence['fence']}")
    check(any(line["step"] == "DELETE" and line["expected"] == "precondition failed" and line["got"] == "ok"
              for line in fence["probe"]), f"the probe's transcript: {fence['probe']}")
    check("F2, versioned" in bed.ctl("status"), "status does not show the class")
    # versioning is switched while the daemon runs: seen by the next PUT
    proxy.versioned = False
    bed.smbclient("put /etc/hosts unversioned")
    bed.flush()
    wait_until(lambda: not bed.ctl_json("status")["volumes"][0]["fence"]["versioned"], 20,
               "the daemon sees that versions are not kept any more")
    doctor.absent("versions-kept")
    bed.smbclient("put /etc/hosts goes-on")
    bed.flush()
    bed.stop("cached")
    check(bed.socket in doctor.reasons("daemon-away")[0], "the socket is not named")
    bed.start("cached")


def waited_for(bed, doctor, proxy):
    """False where a busy machine has not connected in time, which doctor then says."""
    proxy.hold("PUT", "")
    bed.restart("cached")
    check(bed.ctl_json("health")["state"] == "failed", "a volume without its store is said to be well")
    with subprocess.Popen(doctor.words(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waits:
        check("waiting, 5 s at most" in waits.stderr.readline(), "it does not say that it waits")
        proxy.release()
        answer = json.loads(waits.communicate(timeout=60)[0])
    if answer["state"] != "ok":
        reasons = [item["reason"] for item in answer["findings"] if item["id"] == "store-away"]
        check(waits.returncode == 1 and reasons == ["not yet connected"], f"{answer}")
        return False
    check(waits.returncode == 0, f"exit status {waits.returncode}: {answer}")
    return True


def connecting(bed, doctor, proxy):
    """Just after a start the store has not answered yet: doctor waits, monitoring does not."""
    wait_until(lambda: waited_for(bed, doctor, proxy), what="a store that answers within the 5 s that doctor waits")
    proxy.hold("PUT", "")
    bed.restart("cached")
    reasons = doctor.reasons("store-away")
    check(reasons == ["not yet connected"], f"{reasons}")
    proxy.release()
    wait_until(lambda: bed.ctl_json("health")["state"] == "ok", 20, "the volume is ready")


def unsuitable(bed, doctor):
    """A file system that cannot carry a mirror; a configuration that cannot be used."""
    where = os.path.join(bed.dir, "ram")
    os.mkdir(where)
    conf = conf_with(bed, "ram.conf", ("cache directory", where),
                     ("socket", os.path.join(bed.dir, "none.sock")))
    mount = doctor.inside()
    if subprocess.run([*mount, "mount", "-t", "ramfs", "ramfs", where], check=False,
                      stderr=subprocess.DEVNULL).returncode == 0:
        try:
            reasons = doctor.reasons("mirror-unsuitable", conf=conf)
            check(where in reasons[0], f"{reasons}")
        finally:
            subprocess.run([*mount, "umount", where], check=True)
    else:
        step("no ramfs can be mounted here: not tried")
    conf = conf_with(bed, "wrong.conf", ("settle time", "soon"))
    check("wrong.conf:" in doctor.reasons("config-bad", conf=conf)[0], "the line is not named")


def few_rights(bed, doctor):
    """A daemon of its own with capabilities taken away."""
    for drop, wanted in (("cap_chown", "rights-missing"), ("cap_lease", "rights-few")):
        where, conf = other_daemon(bed, drop)
        process = subprocess.Popen(
            ["capsh", f"--drop={drop}", "--", "-c",
             f"exec {bed.testbed_build}/objectfs-cached -c {conf} --foreground"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: listens(f"{where}/s") or process.poll() is not None, 20,
                       "the daemon serves")
            check(process.poll() is None, "the daemon has ended")
            reasons = doctor.reasons(wanted, conf=conf)
            check(drop.upper() in reasons[0], f"{reasons}")
        finally:
            process.terminate()
            process.wait()


def main():
    path = os.path.join(os.environ["TMPDIR"], "bed")
    proxy = Proxy(path)
    with Testbed(store="rgw", path=path, set=[f"endpoint={proxy.url}", "settle time=500ms",
                                              "retries=1"]) as bed:
        doctor = Doctor(bed)
        bed.share_name = bed.share(False)
        step("well")
        status, found = doctor.run()
        check(status == 0, f"well, and: {found}")
        done = subprocess.run([*bed.env["OBJECTFSCTL_ARGV"], "doctor", "--nonsense"],
                              capture_output=True, text=True, check=False)
        check(done.returncode == 2 and "--nonsense" in done.stderr, f"{done}")
        step("shares")
        shares(bed, doctor)
        step("another Samba")
        other_samba(bed, doctor)
        step("what the daemon knows")
        daemon(bed, doctor, proxy)
        step("a daemon that was started just now")
        connecting(bed, doctor, proxy)
        step("unsuitable")
        unsuitable(bed, doctor)
        step("few rights")
        few_rights(bed, doctor)


main()
