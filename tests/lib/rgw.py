# SPDX-License-Identifier: GPL-3.0-or-later
"""A private Ceph RGW, a real S3 server: one monitor, one OSD in memory, one gateway.

State lives under one directory; the data only in the OSD's memory, which survives a restart of the
gateway. Ready in about three seconds. Packages: radosgw ceph-mon ceph-osd ceph-common ceph-base.
"""

import datetime
import hashlib
import hmac
import http.client
import os
import shutil
import uuid

from procs import Failure, Missing, Proc, answers, free_ports, run, tail, wait_until

DNS = "s3.localhost"
REGION = "us-east-1"
KMS = ("key-1", "key-2")  # ids of keys that SSE-KMS knows
KMS_KEY = "YSBrZXkgb2YgMzIgYnl0ZXMgb2Ygbm8gc2VjcmVjeS4="

CONF = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon},v1:127.0.0.1:{mon1}]
mon initial members = a
public addr = 127.0.0.1
public network = 127.0.0.0/8
auth cluster required = none
auth service required = none
auth client required = none
run dir = {dir}/run
admin socket = {dir}/run/$cluster-$name.asok
pid file =
log file = {dir}/log/$name.log
crash dir = {dir}/log
max open files = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
mon warn on pool no redundancy = false
mon data avail warn = 1
mon data avail crit = 1
mon cluster log file = {dir}/log/cluster.log
ms type = async+posix
ms async op threads = 2
ms crc data = false
ms mon client mode = crc
ms client mode = crc
ms mon service mode = crc
debug ms = 0
[mon]
mon data = {dir}/mon
paxos propose interval = 0.05
paxos min wait = 0.01
mon election timeout = 1
[osd]
osd data = {dir}/osd
osd objectstore = memstore
memstore device bytes = {size}
memstore page size = 65536
memstore page set = true
osd op num shards = 2
osd op num threads per shard = 2
osd max object name len = 2048
osd heartbeat grace = 60
osd scrub load threshold = 0.01
osd class load list = *
osd class default list = *
[client.rgw]
ms mon client mode = crc
rgw data = {dir}/rgwdata
rgw frontends = beast {frontends} tcp_nodelay=1
rgw dns name = {dns}
rgw thread pool size = 32
rgw max concurrent requests = 128
rgw enable usage log = false
rgw enable ops log = false
rgw gc obj min wait = 30
rgw gc processor period = 30
rgw gc processor max time = 30
rgw override bucket index max shards = 1
rgw dynamic resharding = false
rgw multipart min part size = 5242880
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = {kms}
debug rgw = {debug}
[client]
rgw override bucket index max shards = 1
debug client = 0
"""


VERSIONED = b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">' \
    b"<Status>Enabled</Status></VersioningConfiguration>"


def sign(method, host, path, query, body, access_key, secret_key, headers=None):
    """Headers of a request (AWS, "Authenticating Requests (AWS Signature Version 4)"), those in `headers` among
    them; path and query encoded, the query in order of its names."""
    def mac(key, text):
        return hmac.new(key, text.encode(), hashlib.sha256).digest()

    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
    payload = hashlib.sha256(body).hexdigest()
    all_headers = {name.lower(): value for name, value in (headers or {}).items()}
    all_headers.update({"host": host, "x-amz-content-sha256": payload, "x-amz-date": stamp})
    signed = ";".join(sorted(all_headers))
    lines = "".join(f"{name}:{all_headers[name]}\n" for name in sorted(all_headers))
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{signed}\n{payload}"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n" \
        + hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = mac(key, part)
    return {
        **all_headers, "Content-Length": str(len(body)),
        "Authorization": f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, "
                         f"SignedHeaders={signed}, Signature={mac(key, text).hex()}"}


class Rgw:
    """One RGW under `path`. `state` is a dictionary of the caller that keeps ports and keys."""

    def __init__(self, path, state):
        self.path = path
        self.state = state
        self.procs = {name: Proc(f"{path}/run/{name}.pid") for name in ("mon", "osd", "gateway")}

    def endpoint(self):
        scheme, port = ("https", "tls_port") if self.state["tls"] else ("http", "port")
        return f"{scheme}://127.0.0.1:{self.state[port]}"

    def ca(self):
        return f"{self.path}/cert.pem" if self.state["tls"] else ""

    def _env(self):
        return dict(os.environ, CEPH_CONF=f"{self.path}/ceph.conf", CEPH_ARGS="")

    def _run(self, *argv):
        return run(list(argv), env=self._env(), cwd="/")

    def admin(self, *words, program=("radosgw-admin",)):
        """What a command says that speaks to the cluster itself."""
        return self._run(*program, *words)

    def create(self, tls, access_key, secret_key, bucket, fence=None):
        """Make and start everything, with one user and one bucket."""
        for tool in ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool"):
            if shutil.which(tool) is None:
                raise Missing(f"{tool} is not installed; run 'make deps'")
        for name in ("mon", "osd", "run", "log", "rgwdata"):
            os.makedirs(f"{self.path}/{name}")
        state = self.state
        state.update(tls=bool(tls), port=free_ports(), tls_port=free_ports(), mon=free_ports(2))
        frontends = f"endpoint=127.0.0.1:{state['port']}"
        if tls:
            run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650",
                 "-keyout", f"{self.path}/key.pem", "-out", f"{self.path}/cert.pem",
                 "-subj", f"/CN={DNS}", "-addext",
                 f"subjectAltName=DNS:{DNS},DNS:*.{DNS},DNS:localhost,IP:127.0.0.1"])
            frontends += f" ssl_endpoint=127.0.0.1:{state['tls_port']} " \
                f"ssl_certificate={self.path}/cert.pem ssl_private_key={self.path}/key.pem"
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        with open(f"{self.path}/ceph.conf", "w", encoding="ascii") as file:
            file.write(CONF.format(
                fsid=fsid, dir=self.path, mon=state["mon"], mon1=state["mon"] + 1, dns=DNS,
                kms=" ".join(f"{name}={KMS_KEY}" for name in KMS), size=16 << 30, frontends=frontends, debug=os.environ.get("RGW_DEBUG", "0")))
        monmap = f"{self.path}/monmap"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a",
                  f"[v2:127.0.0.1:{state['mon']},v1:127.0.0.1:{state['mon'] + 1}]", monmap)
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
        self._start("mon", "ceph-mon", "-i", "a", "-f")
        self._run("ceph", "--connect-timeout", "20", "osd", "new", osd, "0")
        with open(f"{self.path}/osd/fsid", "w", encoding="ascii") as file:
            file.write(osd + "\n")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._start("osd", "ceph-osd", "-i", "0", "-f")
        # Waits for the OSD by itself: its pools need it.
        self._run("timeout", "60", "radosgw-admin", "user", "create", "--uid=objectfs",
                  "--display-name=objectfs", f"--access-key={access_key}",
                  f"--secret-key={secret_key}")
        self.start_gateway()
        self.put(f"/{bucket}", access_key, secret_key)
        if fence == "f1":
            self.put(f"/{bucket}", access_key, secret_key, "versioning=", VERSIONED)

    def _start(self, name, *argv):
        self.procs[name].start(list(argv), f"{self.path}/log/{name}.out", env=self._env())

    def serves(self):
        return self.procs["gateway"].pid() is not None

    def start_gateway(self):
        self._start("gateway", "radosgw", "-n", "client.rgw", "-f")
        proc = self.procs["gateway"]

        def ready():
            if proc.exited():
                raise Failure("radosgw ended:\n" + tail(f"{self.path}/log/gateway.out"))
            return answers("127.0.0.1", self.state["port"])

        wait_until(ready, 60, "radosgw serves")

    def add_class(self, name):
        """A storage class, known once the gateway has been started anew."""
        target = ["placement", "add", "--placement-id=default-placement", f"--storage-class={name}"]
        self.admin("zonegroup", *target)
        self.admin("zone", *target, "--data-pool=default.rgw.buckets.data")

    def put(self, path, access_key, secret_key, query="", body=b""):
        host = f"127.0.0.1:{self.state['port']}"

        def done():
            headers = sign("PUT", host, path, query, body, access_key, secret_key)
            connection = http.client.HTTPConnection(host, timeout=10)
            try:
                connection.request("PUT", f"{path}?{query}", body, headers)
                return connection.getresponse().status == 200
            except OSError:
                return False
            finally:
                connection.close()

        wait_until(done, 20, f"PUT {path}?{query} is done", 0.2)

    def stop_gateway(self, kill=False):
        self.procs["gateway"].stop(kill, 10)

    def stop(self):
        for name in ("gateway", "osd", "mon"):
            # Nothing here is kept: no reason to let the OSD write its memory out.
            self.procs[name].stop(kill=name != "gateway", deadline_s=5)
