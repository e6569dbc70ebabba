#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""A refresh shows what was in the bucket when it was asked for, also while an older listing of the same
directory is still under way.
"""

import subprocess

from proxy import Proxy
from smb import Testbed, bed_path, check, step


def put(bed, name):
    bed.s3().put_object(Bucket=bed.S3_BUCKET, Key=f"{bed.S3_PREFIX}room/{name}", Body=name.encode())


def refresh(bed):
    return subprocess.Popen([*bed.OBJECTFSCTL.split(), "refresh", "room"], stdout=subprocess.DEVNULL)


def main():
    path = bed_path()
    proxy = Proxy(path)
    with Testbed(store="rgw", path=path, set=[f"endpoint={proxy.url}", "listing age=1d"]) as bed, \
         bed.client() as client:
        client.mkdir("room")
        bed.flush()
        step("a listing that has all its pages waits for a HEAD")
        put(bed, "first")
        proxy.hold("HEAD", "room/first")
        older = refresh(bed)
        check(proxy.stalled.wait(60), "no listing began")
        step("what comes into the bucket now is there after the next refresh")
        put(bed, "second")
        younger = [refresh(bed), refresh(bed)]
        proxy.release()
        check([one.wait(60) for one in (older, *younger)] == [0, 0, 0], "a refresh failed")
        shown = sorted(entry[0] for entry in client.list("room"))
        check(shown == ["first", "second"], f"shown: {shown}")


if __name__ == "__main__":
    main()
