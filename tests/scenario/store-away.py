#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""The store is away, in each way a network can make it so: the share works on what is here, what is not here is an
error and never an absence, changes wait until there is no more room for them, and are in S3 afterwards. It is said once,
in words, however many requests fail.

Ways: its port is closed; its name does not resolve; its certificate is expired, or another's; its clock is half an
hour off, either way (which the daemon reckons with: nothing is away).
"""

import os
import random
import subprocess
import time

from http_proxy import HttpProxy
from smb import SmbError, Testbed, bed_path, check, configure, ready, refused, skip, step, volume, wait_until

AWAY = {"NT_STATUS_IO_DEVICE_ERROR", "NT_STATUS_IO_TIMEOUT"}
FOUND = {"store-failing", "store-away"}     # the latter of a daemon that has not reached it yet
FILES = 40
SIZE = 20000
LINES_MOST = 8      # of warnings in an outage, with so many files waiting and clients asking


def noise(seed, size=SIZE):
    return random.Random(seed).randbytes(size)


def findings(bed):
    return {item["id"]: item["reason"] for item in bed.ctl_json("health")["components"] if "id" in item}


def errors(bed):
    return bed.ctl_json("status")["counters"]["s3_errors"]


def tries(bed):
    return sum(item["failures"] for item in bed.ctl_json("pending")["pending"])


def tried_rarely(bed):
    """Once nothing at all has succeeded for a while, one item a second finds out whether the store is back."""
    wait_until(lambda: any("cannot be reached" in item["reason"] for item in bed.ctl_json("pending")["pending"]), 60,
               "they wait for the store")
    began, before = time.monotonic(), tries(bed)
    wait_until(lambda: tries(bed) >= before + 20, 120, "it is tried again")
    seconds = time.monotonic() - began
    check(20 <= seconds + 10, f"20 tries in {seconds:.0f} s: each file by itself")    # 8 of them were under way


def told(bed, since):
    return [line for line in bed.log()[since:].splitlines()
            if any(f" {level} " in line for level in ("ERROR", "WARNING", "NOTICE"))]


def put_theirs(bed, key):
    bed.s3().put_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + key, Body=noise(key))


def judge(bed, files):
    bed.flush()
    stored = {key for key in bed.keys() if not key.endswith("/")}
    check(stored == set(files), f"in S3, and not to be, or not: {sorted(stored ^ set(files))[:10]}")
    with bed.client() as client:
        for name, data in files.items():
            check(client.get(name) == data, f"{name}: other bytes on the share")
            body = bed.s3().get_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + name)["Body"].read()
            check(body == data, f"{name}: other bytes in S3")
    check(bed.ctl_json("status")["counters"]["conflicts"] == 0, "a conflict with nobody")


def outage(bed, way, files, begin, end):
    """begin() takes the store away, end() brings it back; files: what is there, and will be."""
    step(way)
    with bed.client() as client:
        out = f"{way}-out"
        files[out] = noise(out)
        client.put(out, files[out])
        bed.flush()
        bed.ctl("evict", f"{bed.mirror}/{out}")
        put_theirs(bed, f"{way}-unseen/theirs")
        bed.ctl("refresh", bed.mirror)
        since = len(bed.log())
        begin()
        for number in range(FILES):
            name = f"{way}-{number}"
            files[name] = noise(name)
            client.put(name, files[name])
            if number % 4 == 1:
                client.rename(name, f"{name} renamed")
                files[f"{name} renamed"] = files.pop(name)
            if number % 4 == 2:
                client.unlink(name)
                del files[name]
        wait_until(lambda: FOUND & set(findings(bed)), 60, "it is found")
        check(client.get("here") == files["here"], "what is here")
        refused("a read of what is away", lambda: client.get(out), *AWAY)
        if volume(bed)["state"] == "ready":     # else each of these waits for it, to the same end
            refused("a first listing", lambda: client.list(f"{way}-unseen"), *AWAY)
            refused("a name below it", lambda: client.get(f"{way}-unseen/theirs"), *AWAY)
            wait_until(lambda: all(item["reason"] for item in bed.ctl_json("pending")["pending"]), 60,
                       "of all that waits it is said why")
            if way == "port":
                tried_rarely(bed)
        wait_until(lambda: "the store cannot be used" in bed.log()[since:], 60, "it is told")
        lines = told(bed, since)
        said = [line for line in lines if "the store cannot be used" in line]
        check(len(said) == 1 and len(lines) <= LINES_MOST, f"{len(lines)} lines:\n  " + "\n  ".join(lines[:20]))
        check(volume(bed)["pending"] >= FILES // 2, "what waits is not told")
        end()
        files[f"{way}-unseen/theirs"] = noise(f"{way}-unseen/theirs")
        wait_until(lambda: "can be used again" in bed.log()[since:], 60, "the end is told")
    judge(bed, files)
    check(not FOUND & set(findings(bed)), "still found")


def expired(bed, files):
    step("the credentials have expired")
    sim, since = bed.sim(), len(bed.log())
    with bed.client() as client:
        sim.key(bed.S3_ACCESS_KEY, error="ExpiredToken")
        for number in range(FILES):
            name = f"expired-{number}"
            files[name] = noise(name)
            client.put(name, files[name])
        wait_until(lambda: "store-denied" in findings(bed), 60, "it is found")
        wait_until(lambda: sum(item["failures"] > 1 for item in bed.ctl_json("pending")["pending"]) > 5, 60,
                   "sending is tried")
        lines = told(bed, since)
        check(0 < len(lines) <= LINES_MOST, f"{len(lines)} lines:\n  " + "\n  ".join(lines[:20]))
        sim.key(bed.S3_ACCESS_KEY, error=None)
        judge(bed, files)


def no_room(bed, files):
    """Until nothing more can wait."""
    step("... and no room is left for what waits")
    bed.stop("store")
    with bed.client() as client:
        written = {}
        for number in range(128):
            name = f"much-{number}"
            try:
                client.put(name, noise(name, 1 << 20))
            except SmbError as error:
                check(error.name == "NT_STATUS_DISK_FULL", f"{error.name} where no room is left")
                break
            written[name] = noise(name, 1 << 20)
        check(32 < len(written) < 64, f"{len(written)} MiB were taken, of 64")
        wait_until(lambda: "cache-full" in findings(bed), 60, "it is found")
        bed.start("store")
        wait_until(lambda: "cache-full" not in findings(bed), 60, "writers go on")
        bed.flush()
        for entry in client.list(""):
            if entry[0].startswith("much-") and entry[0] not in written:
                client.unlink(entry[0])     # the refused one, empty or in part
    files.update(written)
    judge(bed, files)


def skewed(bed, files):
    for seconds in (1800, -1800):
        step(f"the store's clock is {seconds} s off")
        bed.sim().set(clock_s=seconds)
        with bed.client() as client:
            for name in ("here", f"skewed {seconds}"):
                files[name] = noise(f"{name} {seconds}")
                client.put(name, files[name])
            wait_until(lambda: "clock-off" in findings(bed), 60, "it is found")
        bed.flush()
        bed.sim().set(clock_s=0)
    judge(bed, files)


def names(bed, files):
    """A name in the daemon's own /etc/hosts that comes and goes."""
    hosts = os.path.join(bed.dir, "hosts")

    def resolve(on):
        with open(hosts, "w", encoding="ascii") as file:
            file.write("127.0.0.1 localhost\n" + "127.0.0.1 store.objectfs.test\n" * on)

    resolve(True)
    if not bed.env["INSIDE"]:
        return      # the machine's own is left alone
    bed.inside("mount", "--bind", hosts, "/etc/hosts")
    configure(bed, endpoint=bed.S3_ENDPOINT.replace("127.0.0.1", "store.objectfs.test"))
    bed.restart("cached")
    ready(bed)

    def gone():
        resolve(False)
        bed.restart("cached", kill=True)    # libcurl remembers an address for a minute

    outage(bed, "name", files, gone, lambda: resolve(True))


def certificate(directory, name, *more):
    """(certificate, key), signed by the CA that is made in the directory first."""
    def openssl(*argv):
        subprocess.run(["openssl", *argv], check=True, cwd=directory, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    if not os.path.exists(f"{directory}/ca.pem"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj",
                "/CN=test", "-days", "10")
    host, days = more or ("127.0.0.1", ("-days", "10"))
    with open(f"{directory}/{name}.ext", "w", encoding="ascii") as file:
        file.write(f"subjectAltName=IP:{host}\n")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=store")
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
            f"{name}.pem", "-extfile", f"{name}.ext", *days)
    return f"{directory}/{name}.pem", f"{directory}/{name}.key"


def tls():
    path = bed_path()
    directory = os.path.dirname(path)
    good = certificate(directory, "good")
    # expired, and of another host
    bad = [certificate(directory, "expired", "127.0.0.1", ("-days", "-1")),
           certificate(directory, "other", "127.0.0.9", ("-days", "10"))]
    way = HttpProxy(path, tls=good)
    with Testbed(store="s3sim", path=path, set=[f"endpoint={way.url}", f"ca file={directory}/ca.pem",
                                                "settle time=100ms", "retries=2"]) as bed:
        files = {"here": noise("here")}
        with bed.client() as client:
            client.put("here", files["here"])
        def show(pair):
            way.tls = pair
            way.drop()

        def end():
            for pair in bad:
                failed = errors(bed)
                show(pair)
                wait_until(lambda: errors(bed) > failed + 3, 60, "it is tried")     # pylint: disable=cell-var-from-loop
            show(good)

        outage(bed, "certificate", files, lambda: show(bad[0]), end)


def main():
    if os.geteuid() != 0:
        skip("needs root")
    with Testbed(store="s3sim", set=["settle time=100ms", "retries=2", "cache size=64M", "cache free=1M"],
                 smb=["objectfs:request timeout=5"]) as bed:
        files = {"here": noise("here")}
        with bed.client() as client:
            client.put("here", files["here"])
        outage(bed, "port", files, lambda: bed.stop("store"), lambda: bed.start("store"))
        expired(bed, files)
        no_room(bed, files)
        skewed(bed, files)
        names(bed, files)
    tls()


if __name__ == "__main__":
    main()
