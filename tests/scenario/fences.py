#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
"""Eight foreign writers against a share that creates, overwrites, renames and deletes the same names, on stores
of every class that is let in. Whoever replaces a version names it (conditions, where the store has them); in the
end every version that a writer was told of is current, beside it under a conflict name, or was replaced by one
who had named it; no object is built of two.

FENCES_ROUNDS=N: so many operations of each writer (default 12); FENCES=f3,f2,f1,rgw: only these.
"""

import os
import random
import struct
import threading
import time
import urllib.parse
import xml.etree.ElementTree

import botocore.exceptions

import dirstore
from proxy import Proxy
from smb import Testbed, bed_path, check, step, wait_until
from smb2 import DIRECTORY_FILE, FILE_CREATE, INFO_FILE, READ_ATTRIBUTES, WRITE_DAC, SmbError

NAMES = [f"d/n{number:02d}" for number in range(20)]
WRITERS = 8
ROUNDS = int(os.environ.get("FENCES_ROUNDS", "12"))
BODY_BYTES = 6000
CONF = ["settle time=50ms", "settle limit=500ms", "listing age=1s"]
READ_WRITE = 0x0012019F  # FILE_GENERIC_READ | FILE_GENERIC_WRITE
READ_DELETE = 0x00130089  # FILE_GENERIC_READ | DELETE
DIR_RULES = {"f3": "conditions put complete copy delete\nversions no\n",
             "f2": "conditions put\nversions no\n", "f1": "conditions\nversions yes\n"}


def body_of(token):
    return (token.encode() * (BODY_BYTES // len(token) + 1))[:BODY_BYTES]


def token_of(data, where):
    """Of a whole state; an object of two is a failure."""
    token = bytes(data[:16]).decode()
    check(bytes(data) == body_of(token), f"{where} is built of two states: {data[:40]} ... {data[-40:]}")
    return token


class Ledger:
    """What each writer was told, and what it named as replaced."""

    def __init__(self):
        self.lock = threading.Lock()
        self.told = {}  # token: where
        self.named = set()
        self.number = 0

    def token(self, who):
        with self.lock:
            self.number += 1
            return f"{who}-{self.number:0{15 - len(who)}d}"

    def add(self, token, where, replaced):
        with self.lock:
            self.told[token] = where
            if replaced:
                self.named.add(replaced)

    def perhaps(self, replaced):
        if replaced:
            with self.lock:
                self.named.add(replaced)


class DirStore:
    def __init__(self, bed):
        self.bed = bed

    def get(self, key):
        """(bytes, ETag) of one state, or (None, "")."""
        while True:
            etag = dirstore.object_etag(self.bed, key)
            data = dirstore.get_object(self.bed, key)
            if etag == dirstore.object_etag(self.bed, key):
                return (data, etag) if etag else (None, "")

    def put(self, key, data, if_match):
        return dirstore.put_object(self.bed, key, data, if_match=if_match) is not None

    def current(self):
        return {key: self.get(key)[0] for key in dirstore.object_keys(self.bed) if not key.endswith("/")}

    def history(self, key):
        """Newest first: bytes, None for a delete."""
        path = dirstore.versions_path(self.bed, key)
        found = []
        for name in sorted(os.listdir(path), reverse=True) if os.path.isdir(path) else []:
            with open(os.path.join(path, name), "rb") as file:
                found.append(None if name.endswith("m") else file.read()[dirstore.HEAD_BYTES:])
        return found


class S3Store:
    def __init__(self, bed):
        self.bed, self.s3 = bed, bed.s3()
        self.here = threading.local()
        self.where = {"Bucket": bed.S3_BUCKET}
        self.s3.meta.events.register("before-call.s3.PutObject", self._condition)
        self.s3.meta.events.register("after-call.s3.ListObjectVersions", self._listed)

    def _condition(self, params, **_):
        if_match = getattr(self.here, "if_match", None)
        if if_match == "":
            params["headers"]["If-None-Match"] = "*"
        elif if_match:
            params["headers"]["If-Match"] = if_match  # as this store wants it: without quotes

    def _listed(self, http_response, **_):
        self.here.listed = http_response.content  # botocore tells versions and markers apart, and so loses their order

    def _key(self, key):
        return self.bed.S3_PREFIX + key

    def get(self, key):
        try:
            answer = self.s3.get_object(Key=self._key(key), **self.where)
        except self.s3.exceptions.NoSuchKey:
            return None, ""
        return answer["Body"].read(), answer["ETag"].strip('"')

    def put(self, key, data, if_match):
        self.here.if_match = if_match
        try:
            self.s3.put_object(Key=self._key(key), Body=data, **self.where)
            return True
        except botocore.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                return False
            raise
        finally:
            self.here.if_match = None

    def current(self):
        return {key: self.get(key)[0] for key in self.bed.keys() if not key.endswith("/")}

    def history(self, key):
        """In the store's order: by Last-Modified, which is taken before a version has its place, two that come at the
        same time may stand the other way round."""
        self.s3.list_object_versions(Prefix=self._key(key), **self.where)
        rows = [{field.tag.rpartition("}")[2]: field.text for field in row}
                for row in xml.etree.ElementTree.fromstring(self.here.listed)]
        rows = [row for row in rows if urllib.parse.unquote(row.get("Key", "")) == self._key(key)]
        return [self.s3.get_object(Key=self._key(key), VersionId=row["VersionId"], **self.where)["Body"].read()
                if "ETag" in row else None for row in rows]


def foreign(store, ledger, number, fenced):
    rng = random.Random(number)
    for _ in range(ROUNDS):
        key, token = rng.choice(NAMES), ledger.token(f"w{number}")
        data, etag = store.get(key)
        if data == b"":
            continue  # a delete is under way
        replaced = token_of(data, f"what {key} holds") if data else None
        try:
            if store.put(key, body_of(token), etag if fenced else None):
                ledger.add(token, key, replaced)
        except botocore.exceptions.ClientError:
            ledger.perhaps(replaced)
        time.sleep(rng.random() * 0.05)


class Share:
    def __init__(self, bed, client, ledger):
        self.bed, self.client, self.ledger = bed, client, ledger
        self.rng = random.Random(99)
        self.done = dict.fromkeys(("create", "overwrite", "rename", "delete"), 0)

    def _opened(self, name, access):
        """The handle stays open: what it has read is what it replaces."""
        file = self.client.create(name, access)
        try:
            data = self.client.read(file, 0, BODY_BYTES)
            return file, token_of(data, f"{name} on the share")
        except BaseException:
            self.client.close(file)
            raise

    def create(self, name):
        token = self.ledger.token("s")
        file = self.client.create(name, READ_WRITE, FILE_CREATE)
        self.client.write(file, 0, body_of(token))
        self.client.close(file)
        self.ledger.add(token, name, None)

    def overwrite(self, name):
        token = self.ledger.token("s")
        file, before = self._opened(name, READ_WRITE)
        self.client.write(file, 0, body_of(token))
        self.client.close(file)
        self.ledger.add(token, name, before)

    def delete(self, name):
        file, before = self._opened(name, READ_DELETE)
        self.ledger.perhaps(before)
        self.client.set(file, INFO_FILE, 13, b"\1")
        self.client.close(file)

    def rename(self, name):
        target = self.rng.choice(NAMES)
        file, _ = self._opened(name, READ_DELETE)
        try:
            raw = target.replace("/", "\\").encode("utf-16-le")
            self.client.set(file, INFO_FILE, 10, struct.pack("<B7xQI", False, 0, len(raw)) + raw)
        finally:
            self.client.close(file)

    def go(self):
        number = 0
        while number < ROUNDS * 5 or (min(self.done.values()) == 0 and number < ROUNDS * 50):
            number += 1
            what = self.rng.choice(("create", "overwrite", "overwrite", "rename", "delete"))
            try:
                getattr(self, what)(self.rng.choice(NAMES))
                self.done[what] += 1
            except SmbError:
                pass  # there is none, there is one, it is being replaced
            if number % 8 == 0:
                self.client.list("d")
            time.sleep(self.rng.random() * 0.04)


def settled(bed):
    bed.flush()
    volume = bed.ctl_json("status")["volumes"][0]
    if os.path.isdir(volume["mirror"] + "/d"):
        bed.ctl("refresh", volume["mirror"] + "/d")
    return bed.ctl_json("status")["volumes"][0]["pending"] == 0


def covered_by_foreigners(store, ledger):
    """Where writers cannot name what they replace, each answers for what its own version lies on."""
    for name in NAMES:
        history = store.history(name)
        for above, below in zip(history, history[1:]):
            if above and below and not above.startswith(b"s"):
                ledger.perhaps(below[:16].decode())


def open_directory(client):
    """Where anybody may delete what others' tools have made."""
    client.mkdir("d")
    file = client.create("d", WRITE_DAC | READ_ATTRIBUTES, options=DIRECTORY_FILE)
    client.set_sddl(file, "D:P(A;OICI;0x1f01ff;;;WD)")
    client.close(file)


def race(bed, store, title, fence_class):
    step(title)
    fence = bed.ctl_json("status")["volumes"][0]["fence"]
    check(fence["class"] == fence_class, f"class: {fence}")
    check(f"F{fence_class}" in bed.ctl("status"), "status does not show the class")
    ledger = Ledger()
    with bed.client() as client:
        open_directory(client)
        share = Share(bed, client, ledger)
        writers = [threading.Thread(target=foreign, args=(store, ledger, number, fence_class > 1))
                   for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        share.go()
        for writer in writers:
            writer.join()
        check(min(share.done.values()) > 0, f"not all was tried: {share.done}")
        wait_until(lambda: settled(bed), 60, "all is in the bucket")
        current = {token_of(data, key): key for key, data in store.current().items() if data}
        if fence_class == 1:
            covered_by_foreigners(store, ledger)
        lost = {token: where for token, where in ledger.told.items()
                if token not in current and token not in ledger.named}
        check(not lost, f"lost without a trace: {lost}\n{bed.log()[-6000:]}")
        listed = {"d/" + entry[0] for entry in client.list("d")}
        check({key for key in current.values()} <= listed, f"not on the share: {set(current.values()) - listed}")
        counters = bed.ctl_json("status")["counters"]
        print(f"   {len(ledger.told)} versions told, share {share.done}, {counters['conflicts']} conflict copies, "
              f"{counters['fence_windows']} windows")
        bed.sound(content=False)
        for name in listed:
            client.unlink(name)
        client.rmdir("d")
    wait_until(lambda: settled(bed), 60, "all is gone")


class Held:
    """Class F1, one request of the daemon's held: what another writer does between its look and its write."""

    def __init__(self, bed, proxy, client, store):
        self.bed, self.proxy, self.client, self.store = bed, proxy, client, store

    def _between(self, what, method, key, do):
        step(f"versioned: {what} meets another writer")
        token = "foreign-" + what[:7].ljust(8, "-")
        before = self.bed.ctl_json("status")["counters"]["conflicts"]
        self.proxy.hold(method, "/" + key)
        do()
        check(self.proxy.stalled.wait(60), "no such request")
        check(self.store.put("d/" + key, body_of(token), None), "the other writer was refused")
        self.proxy.release()
        wait_until(lambda: settled(self.bed), 60, "all is in the bucket")
        check(self.bed.ctl_json("status")["counters"]["conflicts"] == before + 1, "not counted")
        found = {key: token_of(data, key) for key, data in self.store.current().items() if data}
        listed = {"d/" + entry[0] for entry in self.client.list("d")}
        check(set(found) <= listed, f"not on the share: {set(found) - listed}")
        where = [key for key, has in found.items() if has == token]
        check(len(where) == 1, f"the other writer's version is {where} of {found}")
        return found, where[0]

    def go(self):
        share = Share(self.bed, self.client, Ledger())
        open_directory(self.client)
        share.create("d/held")
        wait_until(lambda: settled(self.bed), 60, "all is in the bucket")
        found, where = self._between("overwrite", "PUT", "held", lambda: share.overwrite("d/held"))
        check(found["d/held"].startswith("s") and where.startswith("d/held (conflict "), f"{found}")
        found, where = self._between("rename", "PUT", "to", lambda: self.client.rename("d/held", "d/to"))
        check(found["d/to"].startswith("s") and where.startswith("d/to (conflict "), f"{found}")
        check("d/held" not in found, f"the old name is there: {found}")
        found, where = self._between("delete", "DELETE", "to", lambda: self.client.unlink("d/to"))
        check(where == "d/to", f"what was deleted unseen did not come back: {found}")
        check(self.client.get("d/to") == self.store.get("d/to")[0], "other bytes on the share")
        for entry in self.client.list("d"):
            self.client.unlink("d/" + entry[0])
        self.client.rmdir("d")
        wait_until(lambda: settled(self.bed), 60, "all is gone")


def rules(bed, fence):
    bed.stop("cached")
    with open(os.path.join(bed.store_dir, "store"), "w", encoding="ascii") as file:
        file.write("objectfs-store 1\n" + DIR_RULES[fence])
    bed.start("cached")
    wait_until(lambda: bed.ctl_json("status")["volumes"][0]["state"] == "ready", 20, "the volume is ready")


def main():
    wanted = os.environ.get("FENCES", "f3,f2,f1,rgw").split(",")
    if set(wanted) & set(DIR_RULES):
        with Testbed(set=CONF) as bed:
            for fence in [fence for fence in ("f3", "f2", "f1") if fence in wanted]:
                if fence != "f3":
                    rules(bed, fence)
                race(bed, DirStore(bed), f"directory store, {fence.upper()}", int(fence[1]))
    if "rgw" in wanted:
        path = bed_path()
        proxy = Proxy(path)
        with Testbed(store="rgw", path=path, set=[*CONF, f"endpoint={proxy.url}"]) as bed:
            race(bed, S3Store(bed), "Ceph RGW", 2)
            step("versioning is switched on while the daemon runs")
            bed.s3().put_bucket_versioning(Bucket=bed.S3_BUCKET, VersioningConfiguration={"Status": "Enabled"})
            bed.smbclient("put /etc/hosts switched")
            wait_until(lambda: bed.ctl_json("status")["volumes"][0]["fence"]["class"] == 1, 20,
                       "the daemon has seen it")
            bed.smbclient("rm switched")
            race(bed, S3Store(bed), "Ceph RGW, versioned", 1)
            with bed.client() as client:
                Held(bed, proxy, client, S3Store(bed)).go()


if __name__ == "__main__":
    main()
