#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""First figures: this share against a plain share of the same smbd, in one run.

    tests/bench/bench.py [--pairs 5] [--only NAME,NAME] [--json FILE] [--mib 1024] [--set KEY=VALUE]

Pairs are interleaved (plain, objectfs, objectfs, plain, ...), the ratio is taken pair by pair, the
median is printed with the spread. 1.00 is as fast as plain Samba; above is faster. A second plain
directory runs as control: what differs there is the machine's noise.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from smb import ROOT, Testbed  # noqa: E402

FLUSH_S = 1800  # thousands of small objects, on a store that shares the processors


def timed(call):
    start = time.monotonic()
    call()
    return time.monotonic() - start


class Bench:
    def __init__(self, opt, work):
        self.opt, self.work = opt, work
        self.bed = None
        self.big = os.path.join(work, "big")
        with open(self.big, "wb") as file:
            for _ in range(opt.mib):
                file.write(os.urandom(1 << 20))
        self.small = os.path.join(work, "small")
        os.mkdir(self.small)
        for number in range(1000):
            with open(os.path.join(self.small, f"f{number:04}"), "wb") as file:
                file.write(os.urandom(4096))
        self.serial = 0

    def smb(self, side, commands):
        rc, output = self.bed.smbclient(commands, plain=side != "objectfs")
        if rc != 0 or "NT_STATUS" in output:
            raise SystemExit(f"bench: {commands}: {output[-500:]}")
        return output

    def fresh(self, side):
        """A new directory on that side."""
        self.serial += 1
        name = f"{side}{self.serial}"
        self.smb(side, f"mkdir {name}")
        return name

    # Each measure: prepare(side) -> state, run(side, state); the time of run counts.
    def put_big(self, side):
        where = self.fresh(side)
        return lambda: self.smb(side, f"put {self.big} {where}/big")

    def get_big(self, side):
        where = self.fresh(side)
        self.smb(side, f"put {self.big} {where}/big")
        return lambda: self.smb(side, f"get {where}/big /dev/null")

    def mput(self, side):
        where = self.fresh(side)
        return lambda: self.smb(side, f"prompt OFF; lcd {self.small}; cd {where}; mput *")

    def mget(self, side):
        where = self.fresh(side)
        self.smb(side, f"prompt OFF; lcd {self.small}; cd {where}; mput *")
        back = tempfile.mkdtemp(dir=self.work)
        return lambda: self.smb(side, f"prompt OFF; lcd {back}; cd {where}; mget *")

    def list_10000(self, side):
        where = self.listed[side]
        return lambda: self.smb(side, f"ls {where}/*")

    def prepare_list(self):
        """The 10,000 files are made once; each listing reads them all."""
        self.listed = {}
        for side in ("plain", "control", "objectfs"):
            where = self.listed[side] = self.fresh(side)
            with self.bed.client(plain=side != "objectfs") as client:
                for number in range(10000):
                    client.put(f"{where}/entry{number:05}", b"")

    def rename_dir(self, side):
        where = self.fresh(side)
        self.smb(side, f"prompt OFF; lcd {self.small}; cd {where}; mput *")
        return lambda: self.smb(side, f"rename {where} {where}-renamed")

    def cycle(self, side, clients=4):
        where = self.fresh(side)
        share = self.bed.PLAIN_SHARE if side != "objectfs" else self.bed.SHARE
        url = f"smb://{self.bed.SMB_HOST}:{self.bed.SMB_PORT}/{share}/{where}"

        def run():
            output = subprocess.run(
                [os.path.join(ROOT, "build", "bench", "smbcycle"), url, self.bed.USER1,
                 self.bed.PASS1, str(clients), "2"], capture_output=True, text=True, check=False)
            if output.returncode != 0:
                raise SystemExit(f"bench: smbcycle: {output.stderr[-500:]}")
            return 1.0 / float(re.search(r"=([0-9.]+)", output.stdout).group(1))
        run.gives_time = True
        return run

    MEASURES = ("put_big", "get_big", "mput", "mget", "list_10000", "rename_dir", "cycle")

    def once(self, name, side):
        run = getattr(self, name)(side)
        return run() if getattr(run, "gives_time", False) else timed(run)

    def measure(self, name):
        if name == "list_10000":
            self.prepare_list()
        self.once(name, "plain")
        self.once(name, "objectfs")
        ratios, controls, times = [], [], []
        for pair in range(self.opt.pairs):
            order = ("plain", "objectfs", "control")
            seconds = {side: self.once(name, side)
                       for side in (order if pair % 2 == 0 else reversed(order))}
            ratios.append(seconds["plain"] / seconds["objectfs"])
            controls.append(seconds["plain"] / seconds["control"])
            times.append(seconds["objectfs"])
        result = {"measure": name, "ratio": round(statistics.median(ratios), 3),
                  "ratio_min": round(min(ratios), 3), "ratio_max": round(max(ratios), 3),
                  "control": round(statistics.median(controls), 3),
                  "control_min": round(min(controls), 3),
                  "control_max": round(max(controls), 3),
                  "objectfs_s": round(statistics.median(times), 4)}
        print("{measure:<12} {ratio:>6.2f}x plain  ({ratio_min:.2f} to {ratio_max:.2f})   "
              "control {control:.2f}x ({control_min:.2f} to {control_max:.2f})   "
              "{objectfs_s} s".format(**result), end="", flush=True)
        result["flush_s"] = round(timed(lambda: self.bed.flush(FLUSH_S)), 1)
        print("; uploads ended {flush_s} s later".format(**result), flush=True)
        return result

    def cold_get(self):
        """The big file from the store alone, into the mirror and out to the client; and the same
        object by curl, one GET that goes nowhere and one into a file beside the mirror."""
        self.smb("objectfs", f"put {self.big} cold")
        self.bed.flush(FLUSH_S)
        local = os.path.join(self.bed.dir, "curl")
        ways = {"objectfs": lambda: self.smb("objectfs", "get cold /dev/null")}
        if self.bed.S3_ENDPOINT:
            ways["curl"] = lambda: self.curl("cold", "/dev/null")
            ways["curl_to_file"] = lambda: self.curl("cold", local)
        times = {way: [] for way in ways}
        for _ in range(3):
            self.bed.wipe()
            for way, call in ways.items():
                times[way].append(timed(call))
            if os.path.exists(local):
                os.unlink(local)
        result = {"measure": "cold_get"}
        for way, seconds in times.items():
            median = statistics.median(seconds)
            result[f"{way}_s"] = round(median, 3)
            result[f"{way}_mib_per_s"] = round(self.opt.mib / median, 1)
        print("cold_get    " + ";".join(f" {way} {result[way + '_s']} s, "
                                        f"{result[way + '_mib_per_s']} MiB/s" for way in ways),
              flush=True)
        return result

    def curl(self, key, target):
        """One plain GET of the object."""
        url = self.bed.s3().generate_presigned_url("get_object", Params={
            "Bucket": self.bed.S3_BUCKET, "Key": self.bed.S3_PREFIX + key})
        done = subprocess.run(
            ["curl", "-sSf", *(["--cacert", self.bed.S3_CA] if self.bed.S3_CA else []),
             "-o", target, "-w", "%{size_download}", url],
            capture_output=True, text=True, check=False)
        if done.returncode != 0 or int(done.stdout) != self.opt.mib << 20:
            raise SystemExit(f"bench: curl: {done.stdout} {done.stderr[-500:]}")


def build():
    os.makedirs(os.path.join(ROOT, "build", "bench"), exist_ok=True)
    subprocess.run(["cc", "-O2", "-Wall", "-o", os.path.join(ROOT, "build", "bench", "smbcycle"),
                    os.path.join(HERE, "smbcycle.c"), "-I/usr/include/samba-4.0",
                    "-lsmbclient"], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--only", default="")
    parser.add_argument("--store", default="rgw")
    parser.add_argument("--json")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="of the volume, as of tests/testbed: 'cache size=4G' and files leave")
    opt = parser.parse_args()
    names = [n for n in opt.only.split(",") if n] or list(Bench.MEASURES) + ["cold_get"]
    build()
    results = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as work:
        bench = Bench(opt, work)
        for name in names:
            # One for each: rgw keeps all objects in memory, and takes two bytes for one.
            with Testbed(store=opt.store, plain=True, set=opt.set) as bench.bed:
                results.append(bench.cold_get() if name == "cold_get" else bench.measure(name))
    if opt.json:
        with open(opt.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
