#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""Who serves a volume: each cache directory says so in the bucket. A store that keeps nobody apart has
one at a time; what a living node left half way is left to it; a log that ends too soon is noticed on a
new disk too.
"""

import json
import os
import subprocess
import sys

import dirstore
from bucket_reader import load_dir
from proxy import Proxy
from smb import Testbed, bed_path, check, listens, other_daemon, step, wait_until

FAR = "ffeeddccbbaa99887766554433221100"


class Second:
    """Another daemon on the testbed's store."""

    def __init__(self, bed):
        self.bed = bed
        self.where, self.conf = other_daemon(bed, "second")
        with open(self.conf, encoding="utf-8") as file:
            text = file.read().replace(f"{self.where}/store", bed.store_dir)
        with open(self.conf, "w", encoding="utf-8") as file:
            file.write(text + "guard = no\n")

    def __enter__(self):
        with open(self.where + "/log", "ab") as log:
            self.process = subprocess.Popen(
                [f"{self.bed.testbed_build}/objectfs-cached", "-c", self.conf, "-F"], stderr=log)
        wait_until(lambda: listens(self.where + "/s"), 20, "the second daemon serves")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def ctl(self, *argv):
        done = subprocess.run([f"{self.bed.testbed_build}/objectfsctl", "-c", self.conf, "--json", *argv],
                              capture_output=True, text=True, check=False)
        check(done.returncode == 0, f"{argv}: {done.stdout} {done.stderr}")
        return json.loads(done.stdout)

    def state(self, wanted):
        wait_until(lambda: self.volume()["state"] == wanted, 20, f"the second daemon is {wanted}")
        return self.volume()["why"]

    def volume(self):
        return self.ctl("status")["volumes"][0]


def state(bed, wanted):
    wait_until(lambda: bed.ctl_json("status")["volumes"][0]["state"] == wanted, 20, wanted)
    return bed.ctl_json("status")["volumes"][0]["why"]


def nodes(bed):
    return {node["node"]: node for node in bed.ctl_json("nodes")["nodes"]}


def one_at_a_time():
    step("a store that keeps nobody apart")
    with Testbed(store="dir", fence="f0", set=["settle time=100ms"]) as bed:
        bed.smbclient("put /etc/hosts a; put /etc/hosts b; rm b; mkdir d; rename a d/a")
        bed.flush()
        first = next(iter(nodes(bed)))
        check(nodes(bed)[first]["here"] and nodes(bed)[first]["serving"], f"{nodes(bed)}")
        check("here" in bed.ctl("nodes"), bed.ctl("nodes"))
        step("its disk is lost: the same place, another cache directory")
        bed.wipe()
        code, output = bed.smbclient("get d/a /dev/null")
        check(code == 0, output)
        seen = nodes(bed)
        check(len(seen) == 2 and not seen[first]["serving"], f"{seen}")
        node = next(node for node in seen if seen[node]["here"])
        step("a second one")
        with Second(bed) as second:
            why = second.state("held")
            check(f"forget-node {node}" in why, why)
            code, output = bed.ctl("forget-node", node, may_fail=True)
            check(code == 1 and "the node that you ask" in output, output)
            code, output = bed.ctl("forget-node", FAR, may_fail=True)
            check(code == 1 and "no node" in output, output)
            bed.stop("cached")
            second.ctl("forget-node", node)
        with second:
            second.state("ready")
        bed.start("cached")
        why = state(bed, "held")
        check("forget-node" in why, why)


def left_to_its_node():
    step("a rename that another node has begun")
    with Testbed(store="dir", set=["settle time=100ms"]) as bed:
        record = {"format": "objectfs node 1", "node": FAR, "host": "far", "place": "0" * 32,
                  "version": "1", "log": 0, "serving": True}
        intent = {"format": "objectfs rename 1", "node": FAR, "from": "x/", "to": "y/"}
        bed.smbclient("ls")
        bed.stop("cached")
        dirstore.put_object(bed, f".objectfs/nodes/{FAR}", json.dumps(record).encode())
        dirstore.put_object(bed, ".objectfs/rename/" + "12" * 16, json.dumps(intent).encode())
        dirstore.put_object(bed, "x/f", b"half way")
        bed.start("cached")
        state(bed, "ready")
        check("x/f" in sorted(load_dir(bed.store_dir)) and "y/f" not in sorted(load_dir(bed.store_dir)), f"another's rename was done: {sorted(load_dir(bed.store_dir))}")
        bed.ctl("forget-node", FAR)
        bed.restart("cached")
        state(bed, "ready")
        check("y/f" in sorted(load_dir(bed.store_dir)) and "x/f" not in sorted(load_dir(bed.store_dir)), f"a dead node's was not: {sorted(load_dir(bed.store_dir))}")

        step("the end of the log is missing, and the disk is one that never knew")
        for name in ("one", "two"):
            with bed.client() as client:
                client.put(name, b"x")
            bed.flush()
            with bed.client() as client:
                file = client.create(name)
                client.set_basic(file, times={"write": 133000000000000000})
                client.close(file)
            bed.flush()
        log = sorted(key for key in load_dir(bed.store_dir) if key.startswith(".objectfs/log/"))
        node = log[-1].split("/")[2]
        wait_until(lambda: nodes_object(bed, node)["log"] == len(log), 20, "the node says how far it is")
        path = dirstore.object_path(bed, log[-1])
        os.rename(path, path + ".away")
        with Second(bed) as second:
            why = second.state("held")
            check(log[-1] in why and "missing" in why, why)
            os.rename(path + ".away", path)
        with second:
            second.state("ready")
            check(len(second.ctl("nodes")["nodes"]) == 3, "not all nodes are known")


def nodes_object(bed, node):
    with open(dirstore.object_path(bed, f".objectfs/nodes/{node}"), "rb") as file:
        return json.loads(file.read()[4096:])


def one_at_a_time_again():
    step("versions are switched off while two serve: nobody is kept apart any more")
    path = bed_path()
    proxy = Proxy(path)
    proxy.unconditional = True
    with Testbed(store="rgw", path=path, set=["settle time=100ms", f"endpoint={proxy.url}"]) as bed:
        def fence(wanted):
            wait_until(lambda: bed.ctl_json("status")["volumes"][0]["fence"]["class"] == wanted, 60, f"F{wanted}")

        def versions(status):
            bed.s3().put_bucket_versioning(Bucket=bed.S3_BUCKET, VersioningConfiguration={"Status": status})

        fence(0)
        versions("Enabled")
        bed.smbclient("put /etc/hosts a")
        fence(1)
        node = next(iter(nodes(bed)))
        key = f"{bed.S3_PREFIX}.objectfs/nodes/"
        record = json.loads(bed.s3().get_object(Bucket=bed.S3_BUCKET, Key=key + node)["Body"].read())
        record.update(node=FAR, place=FAR)
        bed.s3().put_object(Bucket=bed.S3_BUCKET, Key=key + FAR, Body=json.dumps(record))
        versions("Suspended")
        bed.smbclient("put /etc/hosts b")
        wait_until(lambda: bed.ctl_json("status")["volumes"][0]["state"] == "held", 60, "held")
        why = bed.ctl_json("status")["volumes"][0]["why"]
        check(f"forget-node {FAR}" in why, why)
        before = bed.s3().head_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + "b")["ETag"]
        bed.smbclient("put /etc/passwd b")
        bed.ctl("forget-node", FAR)
        check(before == bed.s3().head_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + "b")["ETag"],
              "what changed was sent, although another node serves")
        bed.restart("cached")
        bed.flush(60)
        check(before != bed.s3().head_object(Bucket=bed.S3_BUCKET, Key=bed.S3_PREFIX + "b")["ETag"], "not sent")


def main():
    one_at_a_time()
    one_at_a_time_again()
    left_to_its_node()


if __name__ == "__main__":
    sys.exit(main())
