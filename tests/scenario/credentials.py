#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials that come from elsewhere, on a real S3 server whose real keys a fake instance metadata
service, a fake container's agent, a fake STS and programs hand out: in AWS's order, renewed before they
expire under a client's work, found anew when the store refuses them, with clear words when there are none.
"""

import contextlib
import json
import os
import re
import subprocess
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from smb import SmbError, Testbed, check, fail, step, wait_until

ROLE = "gate-role"
ARN = "arn:aws:iam::123456789012:role/files"
TOKEN = "imds-token-0123456789"
STS = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<AssumedRoleUser><Arn>x</Arn></AssumedRoleUser><Credentials><AccessKeyId>{AccessKeyId}</AccessKeyId>
<SecretAccessKey>{SecretAccessKey}</SecretAccessKey><SessionToken></SessionToken>
<Expiration>{Expiration}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""
STS_ERROR = """<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>
<Message>not allowed to assume</Message></Error></ErrorResponse>"""


class Fake(ThreadingHTTPServer):
    """All that hands out keys, on one port; `asked` is what came, `broken` what it answers instead."""
    daemon_threads = True

    def __init__(self, keys):
        super().__init__(("127.0.0.1", 0), Handler)
        self.keys, self.lifetime_s, self.broken, self.asked = keys, 3600, None, []
        self.hold = threading.Event()
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def document(self):
        return {"Code": "Success", "AccessKeyId": self.keys[0], "SecretAccessKey": self.keys[1],
                "Token": "", "Expiration": time.strftime(
                    "%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.lifetime_s))}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass

    def answer(self, status, body):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(data)

    def handle_any(self):
        fake = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        fake.asked.append((self.command, self.path, dict(self.headers), body))
        if fake.broken == "silent":
            fake.hold.wait(30)
        elif fake.broken:
            self.answer(*fake.broken)
        elif self.path == "/latest/api/token":
            self.answer(200 if self.command == "PUT" else 405, TOKEN)
        elif self.path.startswith("/latest/") and \
                self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self.answer(401, "")
        elif self.path.endswith("/security-credentials/"):
            self.answer(200, ROLE)
        elif self.path.endswith(ROLE) or self.path == "/agent":
            self.answer(200, json.dumps(fake.document()))
        elif self.path == "/" and self.command == "POST":
            self.answer(200, STS.format(**fake.document()))
        else:
            self.answer(404, "")

    do_GET = do_PUT = do_POST = handle_any


class Server:
    """The testbed, its keys, and a daemon that is started with other variables each time."""

    def __init__(self, bed):
        self.bed = bed
        self.first = (bed.s3_access_key, bed.s3_secret_key)
        self.fake = Fake(self.first)
        with open(bed.conf, encoding="utf-8") as file:
            self.conf = re.sub(r"^\t(access|secret) key = .*\n", "", file.read(), flags=re.MULTILINE)
        self.home = os.path.join(bed.dir, "home")
        os.makedirs(f"{self.home}/.aws")

    def admin(self, *words):
        env = dict(os.environ, CEPH_CONF=f"{self.bed.dir}/store/ceph.conf", CEPH_ARGS="")
        done = subprocess.run(["radosgw-admin", *words, "--uid=objectfs"], env=env, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        check(done.returncode == 0, f"radosgw-admin {words}: {done.stdout}")

    def new_key(self, name):
        keys = (name, "secret" + name * 3)
        self.admin("key", "create", "--key-type=s3", f"--access-key={keys[0]}",
                   f"--secret-key={keys[1]}")
        return keys

    def revoke(self, keys):
        self.admin("key", "rm", "--key-type=s3", f"--access-key={keys[0]}")

    def restart(self, variables, *settings):
        """The daemon with these variables, its home an empty directory but for what was put there."""
        self.bed.stop("cached")
        with open(self.bed.conf, "w", encoding="utf-8") as file:
            file.write(self.conf + "".join(f"\t{line}\n" for line in settings))
        before = dict(os.environ)
        os.environ.update({"HOME": self.home, "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.fake.endpoint},
                          **variables)
        self.fake.asked.clear()
        try:
            self.bed.start("cached")
        finally:
            os.environ.clear()
            os.environ.update(before)

    def status(self):
        return self.bed.ctl_json("status")

    def volume(self):
        return self.status()["volumes"][0]

    def counter(self, name):
        return self.status()["counters"][name]

    def ready(self, source):
        wait_until(lambda: self.volume()["state"] == "ready", 30, f"ready by {source}")
        login = self.volume()["login"]
        check(source in login["source"] and not login["error"], f"credentials: {login}")

    def profile(self, config, credentials=""):
        for name, text in (("config", config), ("credentials", credentials)):
            with open(f"{self.home}/.aws/{name}", "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(file.name, 0o600)

    def no_secrets(self):
        with open(f"{self.bed.dir}/log/cached.log", encoding="utf-8") as file:
            log = file.read()
        for word in (self.fake.keys[1], self.first[1], TOKEN, "jwt.of.the.gate"):
            check(word not in log, f"the log holds {word}")


class Traffic(threading.Thread):
    """A client that writes, reads back what has left the disk, and counts."""

    def __init__(self, bed):
        super().__init__()
        self.bed, self.done, self.rounds, self.error = bed, threading.Event(), 0, None
        self.revoked = False

    def read(self, client, name):
        """To a request whose key goes while Ceph looks at it, it says now and then that a right is missing."""
        for _ in range(10):
            try:
                return client.get(name)
            except SmbError as error:
                if not self.revoked or error.name != "NT_STATUS_ACCESS_DENIED" or \
                        "was denied (AccessDenied)" not in self.bed.log():
                    raise
                time.sleep(0.2)
        return client.get(name)

    def run(self):
        try:
            with self.bed.client() as client:
                while not self.done.is_set():
                    name = f"traffic-{self.rounds}"
                    client.put(name, name.encode() * 1000)
                    self.bed.flush()
                    self.bed.ctl("evict", f"test:{name}", may_fail=True)
                    if self.read(client, name) != name.encode() * 1000:
                        raise ValueError(f"{name} has other bytes")
                    self.rounds += 1
        except BaseException as error:  # pylint: disable=broad-except
            self.error = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join(60)
        if self.error:
            fail(f"a client noticed: {self.error!r}")

    def goes_on(self, rounds=2):
        seen = self.rounds
        wait_until(lambda: self.error or self.rounds >= seen + rounds, 30, "the client's work goes on")


def instance(server):
    fake = server.fake
    step("the instance's role, by IMDSv2")
    fake.lifetime_s = 6
    server.restart({})
    server.ready(f"the instance's role {ROLE}")
    check(server.volume()["login_expires"] > time.time(), "they do not expire")
    check([method for method, *_ in fake.asked[:3]] == ["PUT", "GET", "GET"] and
          all(headers.get("X-aws-ec2-metadata-token") == TOKEN
              for method, _, headers, _ in fake.asked if method == "GET"), f"asked: {fake.asked[:3]}")
    with Traffic(server.bed) as traffic:
        step("renewed before they expire, under a client's work")
        second = server.new_key("SECONDKEY")
        before = server.counter("creds_renewals")
        fake.keys = second
        wait_until(lambda: server.counter("creds_renewals") > before, 10, "renewed")
        check(server.counter("creds_failures") == 0, "a search failed")
        server.revoke(server.first)
        traffic.goes_on()
        step("a search that fails: the old ones are used, and it is said")
        for broken in ((500, "oops"), "silent"):
            failures = server.counter("creds_failures")
            fake.broken = broken
            wait_until(lambda before=failures: server.counter("creds_failures") > before, 12,
                       "it failed")
            text = server.bed.ctl("doctor", may_fail=True)[1]
            check("[credentials-old]" in text and "instance metadata service" in text, text)
            fake.broken = None
            wait_until(lambda: not server.volume()["login"]["error"], 12, "it is mended")
        traffic.goes_on()
        step("revoked in mid-traffic: the next ones are found at once")
        fake.lifetime_s = 3600
        wait_until(lambda: server.volume()["login_expires"] > time.time() + 60, 12, "an hour")
        third = server.new_key("THIRDKEY")
        fake.keys = third
        before = server.counter("creds_renewals")
        traffic.revoked = True
        server.revoke(second)
        wait_until(lambda: server.counter("creds_renewals") > before, 12, "found")
        traffic.goes_on()
    server.first = third  # what all others hand out
    check("credentials" in server.bed.ctl("status"), "status does not name the credentials")
    server.no_secrets()


def container(server):
    step("a container's agent")
    token = os.path.join(server.bed.dir, "agent-token")
    with open(token, "w", encoding="utf-8") as file:
        file.write("Bearer of-the-gate\n")
    server.restart({"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{server.fake.endpoint}/agent",
                    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token})
    server.ready("the container's agent")
    check([path for _, path, _, _ in server.fake.asked] == ["/agent"] and
          server.fake.asked[0][2]["Authorization"] == "Bearer of-the-gate", f"{server.fake.asked}")


def web_identity(server):
    step("a web identity")
    token = os.path.join(server.bed.dir, "jwt")
    with open(token, "w", encoding="utf-8") as file:
        file.write("jwt.of.the.gate")
    server.restart({"AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": ARN,
                    "AWS_ENDPOINT_URL_STS": server.fake.endpoint})
    server.ready(ARN)
    form = dict(urllib.parse.parse_qsl(server.fake.asked[0][3]))
    check(form["Action"] == "AssumeRoleWithWebIdentity" and form["RoleArn"] == ARN and
          form["WebIdentityToken"] == "jwt.of.the.gate" and form["Version"] == "2011-06-15" and
          "Authorization" not in server.fake.asked[0][2], f"STS was asked {server.fake.asked[0]}")
    server.no_secrets()


def signed_by(asked, access, secret):
    """Is this request to STS signed with these keys?"""
    _, path, headers, body = asked
    request = AWSRequest("POST", f"http://{headers['Host']}{path}", data=body,
                         headers={"Content-Type": headers["Content-Type"]})
    request.context["timestamp"] = headers["X-Amz-Date"]
    request.headers["X-Amz-Date"] = headers["X-Amz-Date"]
    auth = SigV4Auth(Credentials(access, secret), "sts", "us-east-1")
    return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)),
                          request) in headers["Authorization"]


def profiles(server):
    step("a program of a profile")
    program = os.path.join(server.bed.dir, "a program")
    with open(program, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\necho hello {server.first[1]} >&2\necho '"
                   + json.dumps(dict(server.fake.document(), Version=1)) + "'\n")
    os.chmod(program, 0o700)
    server.profile(f'[profile gate]\ncredential_process = "{program}" word\n')
    server.restart({"AWS_PROFILE": "gate"})
    server.ready("credential_process")
    check(not server.fake.asked, "somebody else was asked")
    server.no_secrets()
    step("a role, by another profile's keys")
    server.profile(f"[profile far]\nrole_arn = {ARN}\nsource_profile = near\nexternal_id = ex/1\n",
                   "[near]\naws_access_key_id = NEARKEY\naws_secret_access_key = near/secret\n")
    server.restart({"AWS_ENDPOINT_URL_STS": server.fake.endpoint}, "profile = far")
    server.ready(ARN)
    form = dict(urllib.parse.parse_qsl(server.fake.asked[0][3]))
    check(form["Action"] == "AssumeRole" and form["ExternalId"] == "ex/1", f"STS was asked {form}")
    check(signed_by(server.fake.asked[0], "NEARKEY", "near/secret"), "the signature is another")
    step("a role that is not given")
    server.fake.broken = (403, STS_ERROR)
    server.restart({"AWS_ENDPOINT_URL_STS": server.fake.endpoint}, "profile = far")
    wait_until(lambda: "AccessDenied: not allowed to assume" in (server.volume()["why"] or ""), 20,
               "the refusal is told")
    server.fake.broken = None


def none(server):
    step("none at all")
    server.profile("")
    server.restart({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"})
    wait_until(lambda: "Tried: objectfs.conf" in (server.volume()["why"] or ""), 20,
               "what was tried is told")
    why = server.volume()["why"]
    for word in ("AWS_ACCESS_KEY_ID", f"{server.home}/.aws/config", "a container's agent",
                 "http://127.0.0.1:1", "give the machine a role"):
        check(word in why, f"{word} is not in: {why}")


def changed_file(server):
    step("a file that changes: it is read again when the store refuses what it said")
    text = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    server.profile("", text.format(*server.first))
    server.restart({})
    server.ready("the credentials file")
    fourth = server.new_key("FOURTHKEY")
    server.profile("", text.format(*fourth))
    server.revoke(server.first)
    server.bed.env.update(zip(("S3_ACCESS_KEY", "S3_SECRET_KEY"), fourth))
    with server.bed.client() as client:
        client.put("by-the-fourth", b"key")
    server.bed.flush()
    check("by-the-fourth" in server.bed.keys(), "what was written then is not in S3")
    check(not server.fake.asked, "somebody else was asked")


def main():
    with Testbed(store="rgw", set=["settle time=100ms", "settle limit=1s"]) as bed:
        server = Server(bed)
        try:
            for part in (instance, container, web_identity, profiles, none, changed_file):
                began = time.monotonic()
                part(server)
                print(f"   {time.monotonic() - began:.1f} s", flush=True)
        finally:
            server.fake.hold.set()


if __name__ == "__main__":
    main()
