#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 280
"""README, QUICKSTART, OPERATIONS, COSTS and IAM: every command in them is typed as it stands, on a copy of this
machine with an S3 server of its own; what they promise is so. TROUBLESHOOTING: breakages.py."""

import os
import re
import sys

from machine import enter, is_inside
from procs import wait_until
from smb import check, check_same, step
from typist import Document, Server

STOPPED = "demo: stopped"


def demo(server, document):
    step("README: the demo, on a directory and in the bucket")
    section = document["ObjectFS"]
    for number in range(len(section.blocks)):
        output = server.type(section, slice(number, number + 1))
        if output:
            check("all of them the same, byte for byte" in output, f"the demo says: {output}")
            check(STOPPED in server.type_one("make demo-stop"), "the demo was not stopped")


def readme(server, document):
    step("README: build, install")
    server.type(document["Building"])
    check(os.path.exists("/usr/local/sbin/objectfs-cached"), "make install did not install")
    check(any(name.endswith(".deb") for name in os.listdir("build/deb")), "make deb made none")


def without_packages(server, guide, operations):
    step("QUICKSTART, OPERATIONS: without packages")
    server.type(guide["Without packages"])
    server.run("/usr/local/sbin/objectfsctl --version")
    server.type(operations["Removing"], slice(1, None))
    check(not os.path.exists("/usr/local/sbin/objectfs-cached"), "make uninstall left the daemon")


def quickstart(server, guide):
    step("QUICKSTART")
    for number in ("1. Install", "2. A disk for the cache", "3. The bucket", "4. The daemon"):
        server.type(guide[number])
    # who types slower than this finds it so
    wait_until(lambda: "volume projects: ready" in server.run("objectfsctl status"), 30, "it is ready")
    output = server.type(guide["5. The share"])
    check("nothing is wrong" in output, f"doctor, after the quick start: {output}")
    output = server.type(guide["6. Try it"])
    check("s3://example-bucket/projects/README.md" in output, f"not in the bucket: {output}")


def operations_typed(server, document, costs):
    step("OPERATIONS")
    output = server.type(document["Every day"])
    check("nothing is wrong" in output and "nothing is pending" in output, output)
    output = server.type(document["Monitoring"])
    for name in ("volume_ready", "volume_backlog_age_seconds", "cache_full_total",
                 "conflicts_total"):
        check(f"objectfs_{name}" in document["Monitoring"].text and f"objectfs_{name}" in output,
              f"objectfs_{name} is not on the page, or not in the document")
    counted = re.findall(r"`(s3_\w+|log_segments)`", costs.sections[1].text)
    check(len(counted) == 8, f"COSTS speaks of {counted}")
    for name in (*counted, "s3_retries"):
        check(f"\nobjectfs_{name}_total " in output, f"COSTS speaks of {name}, /metrics does not")
    server.type(document["Size of the cache"], slice(0, 1))
    server.well()
    server.type(document["Size of the cache"], slice(1, None))
    server.type(document["Backup"])
    copied = server.run("s3cmd ls --recursive s3://example-backup")
    check("projects/README.md" in copied and "projects/.objectfs/volume" in copied, copied)
    before = server.pid("objectfs-cached")
    server.type(document["Upgrade"])
    check(server.pid("objectfs-cached") != before, "the daemon was not started again")
    server.type(document["Others who write to the bucket"])
    check(server.run("stat -c %a:%s /etc/objectfs/projects.key").strip() == "600:45", "no key that only root reads")
    before = server.manifest()
    server.type(document["Another machine"])
    # it is the other one from here on
    server.run("systemctl enable --now objectfs-cached; systemctl start smbd")
    check_same(before, server.manifest(), "after the move")
    server.type(document["Removing"], slice(0, 1))
    check(os.path.exists("/var/cache/objectfs/projects/tree/README.md") and
          os.path.exists("/etc/objectfs/objectfs.conf"), "removed, and with it what is to stay")


def main():
    documents = [Document(path) for path in (
        "README.md", "docs/QUICKSTART.md", "docs/OPERATIONS.md", "docs/COSTS.md", "docs/IAM.md")]
    with Server() as server:
        readme(server, documents[0])
        without_packages(server, *documents[1:3])
        quickstart(server, documents[1])
        demo(server, documents[0])
        operations_typed(server, *documents[2:4])
        server.all_typed(*documents)


if not is_inside():
    sys.exit(enter("--net"))
main()
