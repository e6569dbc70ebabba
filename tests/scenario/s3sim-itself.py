#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""s3sim itself, as far as the store's contract does not see it: who comes first, limits, quirks, encryption, checksums,
archive classes, and input that is none."""

import base64
import hashlib
import http.client
import random
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from rgw import sign
from smb import Testbed, check, step, wait_until

OTHER = '"0123456789abcdef0123456789abcdef"'


class Http:
    """Signed requests, each on a connection of its own."""

    def __init__(self, bed):
        self.bed = bed
        self.host = bed.S3_ENDPOINT[len("http://"):]

    def __call__(self, method, key, body=b"", query="", **headers):
        """(status, headers in lower case, body); an underscore in a header's name is a hyphen."""
        path = f"/{self.bed.S3_BUCKET}" + (f"/{key}" if key else "")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        signed = sign(method, self.host, path, query, body, self.bed.S3_ACCESS_KEY, self.bed.S3_SECRET_KEY, named)
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            connection.request(method, f"{path}?{query}" if query else path, body, signed)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def expect(self, status, *arguments, **headers):
        answer = self(*arguments, **headers)
        check(answer[0] == status, f"{arguments} {headers}: {answer[0]} {answer[2][:300]}, not {status}")
        return answer


def versioning(ask, status):
    ask.expect(200, "PUT", "", f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>".encode(),
               "versioning=")


def held(sim, do, meanwhile):
    """What `do` is answered, if `meanwhile` happens before it takes effect."""
    found = []
    thread = threading.Thread(target=lambda: found.append(do()))
    thread.start()
    wait_until(lambda: sim.hits() == [1], 60, "it is held")
    meanwhile()
    sim.clear()
    thread.join()
    return found[0]


def conditions(ask, sim):
    step("conditions")
    etag = ask.expect(200, "PUT", "c", b"1", if_none_match="*")[1]["etag"]
    ask.expect(412, "PUT", "c", b"2", if_none_match="*")
    ask.expect(501, "PUT", "c", b"2", if_none_match=etag)
    ask.expect(412, "PUT", "c", b"2", if_match=OTHER)
    ask.expect(200, "PUT", "c", b"1", if_match=etag)
    check(b"NoSuchKey" in ask.expect(404, "PUT", "none", b"2", if_match=etag)[2], "another error")
    ask.expect(404, "DELETE", "none", if_match=etag)
    ask.expect(412, "DELETE", "c", if_match=OTHER)
    ask.expect(304, "GET", "c", if_none_match=etag)
    ask.expect(412, "GET", "c", if_match=OTHER)
    source = f"/{ask.bed.S3_BUCKET}/c"
    ask.expect(412, "PUT", "d", x_amz_copy_source=source, x_amz_copy_source_if_match=OTHER)
    ask.expect(200, "PUT", "d", x_amz_copy_source=source, if_none_match="*")
    ask.expect(412, "PUT", "d", x_amz_copy_source=source, if_none_match="*")
    ask.expect(400, "PUT", "c", x_amz_copy_source=source)  # to itself

    step("conditions, and others at the same time")
    sim.fault("PutObject", "c", "stall", ms=-1)
    check(held(sim, lambda: ask("PUT", "c", b"3", if_match=etag)[0], lambda: ask("DELETE", "c")) == 404, "deleted meanwhile")
    sim.fault("PutObject", "c", "stall", ms=-1)
    check(held(sim, lambda: ask("PUT", "c", b"3", if_none_match="*")[0], lambda: ask("PUT", "c", b"4")) == 412,
          "written meanwhile")
    ask.expect(204, "DELETE", "c", if_match="*")

    ask.expect(200, "PUT", "e/1", b"1")
    sim.fault("PutObject", "e/1", "stall", ms=-1)
    check(held(sim, lambda: ask("PUT", "e/1", b"3", if_none_match="*")[0], lambda: ask("DELETE", "e/1")) == 409, "no conflict")

    step("conditions on versions")
    versioning(ask, "Enabled")
    etag = ask.expect(200, "PUT", "v", b"1")[1]["etag"]
    marker = ask.expect(204, "DELETE", "v")[1]
    check(marker["x-amz-delete-marker"] == "true", "no marker")
    ask.expect(404, "PUT", "v", b"2", if_match=etag)
    ask.expect(405, "GET", "v", query=f"versionId={marker['x-amz-version-id']}")
    ask.expect(200, "PUT", "v", b"2", if_none_match="*")
    versioning(ask, "Suspended")
    check(ask.expect(200, "PUT", "v", b"3")[1]["x-amz-version-id"] == "null", "a version of its own")
    ask.expect(200, "PUT", "v", b"4")
    listed = ask.expect(200, "GET", "", query="prefix=v&versions=")[2].decode()
    check(re.findall("<VersionId>(null)", listed) == ["null"] and listed.count("<VersionId>") == 4, listed)


def quirks(ask, sim):
    step("what other stores do")
    etag = ask.expect(200, "PUT", "q", b"1")[1]["etag"]
    sim.set(bare_etags=1)
    ask.expect(412, "PUT", "q", b"1", if_match=etag)
    ask.expect(200, "PUT", "q", b"1", if_match=etag.strip('"'))
    sim.set(bare_etags=0, silent_complete=1)
    upload = re.search("<UploadId>(.*)</UploadId>", ask.expect(200, "POST", "q", query="uploads=")[2].decode())[1]
    part = ask.expect(200, "PUT", "q", b"part", f"partNumber=1&uploadId={upload}")[1]["etag"]
    document = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{part}</ETag></Part></CompleteMultipartUpload>"
    check(b"<ETag></ETag>" in ask.expect(200, "POST", "q", document.encode(), f"uploadId={upload}")[2], "it tells an ETag")
    ask.expect(404, "POST", "q", document.encode(), f"uploadId={upload}")
    sim.set(silent_complete=0, fence="f2")
    ask.expect(204, "DELETE", "q", if_match=OTHER)
    sim.set(fence="f3")


def objects(ask, sim):
    step("checksums, encryption, metadata, ranges")
    data = b"123456789"
    for name, value in (("crc32", "y/Q5Jg=="), ("crc32c", "4waSgw=="), ("crc64nvme", "rosUhgp5mIg="),
                        ("sha1", base64.b64encode(hashlib.sha1(data).digest()).decode()),
                        ("sha256", base64.b64encode(hashlib.sha256(data).digest()).decode())):
        header = f"x_amz_checksum_{name}"
        ask.expect(400, "PUT", "o", data + b"0", **{header: value})
        ask.expect(200, "PUT", "o", data, **{header: value})
        told = ask.expect(200, "HEAD", "o", x_amz_checksum_mode="ENABLED")[1]
        check(told[header.replace("_", "-")] == value, f"{name}: {told}")
    check(ask.expect(206, "GET", "o", range="bytes=-3")[2] == b"789", "the last bytes")
    ask.expect(416, "GET", "o", range="bytes=9-")
    ask.expect(400, "PUT", "o", data, content_md5="AAAAAAAAAAAAAAAAAAAAAA==")
    ask.expect(200, "PUT", "o", data, x_amz_meta_a="x" * 2047)
    ask.expect(400, "PUT", "o", data, x_amz_meta_a="x" * 2048)
    keys = [bytes([n]) * 32 for n in (1, 2)]
    sealed = [{f"x_amz_server_side_encryption_customer_{name}": value for name, value in (
        ("algorithm", "AES256"), ("key", base64.b64encode(key).decode()),
        ("key_MD5", base64.b64encode(hashlib.md5(key).digest()).decode()))} for key in keys]
    ask.expect(200, "PUT", "o", data, **sealed[0])
    ask.expect(400, "GET", "o")
    ask.expect(403, "GET", "o", **sealed[1])
    check(ask.expect(200, "GET", "o", **sealed[0])[2] == data, "other bytes")

    step("archived")
    sim.set(restore_ms=300)
    ask.expect(200, "PUT", "cold", data, x_amz_storage_class="GLACIER")
    check(b"<StorageClass>GLACIER<" in ask.expect(403, "GET", "cold")[2], "not the class")
    ask.expect(403, "PUT", "copy", x_amz_copy_source=f"/{ask.bed.S3_BUCKET}/cold")
    ask.expect(202, "POST", "cold", b"<RestoreRequest><Days>1</Days></RestoreRequest>", "restore=")
    wait_until(lambda: ask("GET", "cold")[2] == data, 60, "it is restored")
    ask.expect(200, "PUT", "copy", x_amz_copy_source=f"/{ask.bed.S3_BUCKET}/cold")


def limits(ask, sim):
    step("limits")
    data = random.Random(1).randbytes(1 << 20)
    begin = time.monotonic()
    sim.set(rtt_us=200000)
    ask.expect(200, "PUT", "l", data)
    check(time.monotonic() - begin >= 0.2, "no round trip")
    sim.set(rtt_us=0, bytes_s=2 << 20)
    begin = time.monotonic()
    check(ask.expect(200, "GET", "l")[2] == data, "other bytes")
    check(time.monotonic() - begin >= 0.4, "as fast as ever")
    begin = time.monotonic()
    ask.expect(200, "PUT", "l", data)
    check(time.monotonic() - begin >= 0.4, "as fast as ever")
    check(sim.ask("GET", "/settings")["bytes_s"] == 2 << 20, "another setting is told")
    sim.set(bytes_s=0, all_bytes_s=2 << 20)
    begin = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: ask.expect(200, "GET", "l")[2], range(4)))
    check(found == [data] * 4, "other bytes")
    check(time.monotonic() - begin >= 1.6, "four at once are faster than all may be")
    sim.set(all_bytes_s=0, requests_s=1)
    found = {ask("HEAD", "l")[0] for _ in range(20)}
    check(503 in found, f"never slowed: {found}")
    sim.set(requests_s=0, clock_s=3600)
    check(b"RequestTimeTooSkewed" in ask.expect(403, "GET", "l")[2], "it has another clock, and says nothing")
    sim.set(clock_s=0)


def raw(host, data):
    name, port = host.split(":")
    with socket.create_connection((name, int(port)), timeout=10) as sock:
        try:
            sock.sendall(data)
            sock.settimeout(0.05)
            while sock.recv(65536):
                pass
        except OSError:
            pass


def bad_input(ask):
    step("input that is none")
    rng = random.Random(5)
    heads = [b"GET /b?a%zz=1 HTTP/1.1\r\nHost: a\r\n\r\n", b"PUT /b/%00 HTTP/1.1\r\nHost: .s3.localhost\r\nContent-Length: 5\r\n\r\nabcde",
             b"GET * HTTP/1.1\r\n\r\n", b"\0\1\2", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 40000]
    for head in heads:
        raw(ask.host, head)
    for _ in range(20):
        head = bytearray(rng.choice(heads[:3]))
        for _ in range(4):
            head[rng.randrange(len(head))] = rng.randrange(256)
        raw(ask.host, bytes(head))
    queries = ["tagging=", "uploads=", "partNumber=1&uploadId=x", "uploadId=x", "delete=", "versioning=", "restore=", "acl=",
               "list-type=2&max-keys=-1", "continuation-token=k0&list-type=2", "versionId=x", "versions=&version-id-marker=x", ""]
    headers = [{}, {"range": "bytes=99999999999999999999-"}, {"if_match": '"'}, {"x_amz_copy_source": "%zz"},
               {"x_amz_copy_source": "/b"}, {"x_amz_tagging": "&&=&a&a"}, {"x_amz_storage_class": "X"},
               {"x_amz_server_side_encryption_customer_key": "z"}, {"x_amz_checksum_crc32": "", "x_amz_checksum_sha1": ""},
               {"x_amz_checksum_algorithm": "SHA256", "x_amz_checksum_type": "FULL_OBJECT"}]
    bodies = [b"", b"<a>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", b"<a>" * 50, b"\0" * 99,
              b"<CompleteMultipartUpload><Part/></CompleteMultipartUpload>"]
    for _ in range(300):
        method, key = rng.choice(("GET", "PUT", "POST", "DELETE")), rng.choice(("", "bad"))
        if (method, key) != ("DELETE", ""):
            ask(method, key, rng.choice(bodies), rng.choice(queries), **rng.choice(headers))
    ask.expect(200, "PUT", "last", b"last")
    check(ask.expect(200, "GET", "last")[2] == b"last", "other bytes")


def main():
    with Testbed(store="s3sim", objectfs=False, smbd=False) as bed:
        ask, sim = Http(bed), bed.sim()
        conditions(ask, sim)
        quirks(ask, sim)
        objects(ask, sim)
        limits(ask, sim)
        bad_input(ask)


if __name__ == "__main__":
    main()
