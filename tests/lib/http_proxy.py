# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy in front of a testbed's store that reads HTTP, and does to requests and answers what networks and sick stores
do: the same to whatever store is behind it.

    way = HttpProxy(PATH)
    with Testbed(store="rgw", path=PATH, set=[f"endpoint={way.url}"]) as bed:
        way.faults = [Fault("answer", status=503, code="SlowDown")]  # of all requests from now on
        way.faults = [Fault("lost", methods=("PUT",), every=2)]      # of every second PUT
        way.faults = []

| do | what |
|---|---|
| answer | the store hears nothing; status and code (an error's document), or what is in `html` |
| reset, half | the connection is reset: the store has heard nothing, or half of the body |
| lost | the store has done it; the connection is reset in the answer's place |
| failed | the store has done it; its answer is status and code |
| inside | the store has done it; 200, and an error in the document. With `before`: it has heard nothing |
| cut, broken | the answer ends in the middle of its body, by an end or a reset of the connection |
| flip, flipped | a byte of the answer's body, or of the request's, is another one |
| etag | the answer has another ETag |
| slow | the answer comes in small pieces |

With tls=(certificate, key), files, it is the store's TLS; they are read for each connection.
"""

import http.client
import json
import os
import socket
import ssl
import struct
import threading
import time

ERROR = '<?xml version="1.0"?><Error><Code>{0}</Code><Message>{0}, says the way</Message>' \
    '<RequestId>way</RequestId></Error>'


class Fault:
    def __init__(self, do, methods=None, every=1, key="", bodies=False, **more):
        """Of requests with these methods (None: all) and `key` in key or prefix, the first, then every so many;
        bodies: only of those with an object's bytes."""
        self.do, self.methods, self.every, self.key, self.bodies = do, methods, every, key, bodies
        self.status, self.code = more.get("status", 500), more.get("code", "InternalError")
        self.html, self.before = more.get("html"), more.get("before", False)
        self.met = self.hits = 0

    def meets(self, method, target, body):
        if (self.methods and method not in self.methods) or self.key not in target:
            return False
        if self.bodies and ("?" in target or method not in ("GET", "PUT") or (method == "PUT" and not body)):
            return False
        self.met += 1
        if (self.met - 1) % self.every:
            return False
        self.hits += 1
        return True


class HttpProxy:
    def __init__(self, path, tls=None):
        """`path`: the directory of the testbed, whose store is looked up there."""
        self.path, self.tls = path, tls
        self.faults = []    # the first that meets a request is its
        self.lock = threading.Lock()
        self.clients = set()
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.socket.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self.socket.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*self.tls)
                client = context.wrap_socket(client, server_side=True)
            self.clients.add(client)
            exchange = Exchange(self, client)
            while exchange.one():
                pass
        except (OSError, http.client.HTTPException, ValueError):
            pass
        finally:
            self.clients.discard(client)
            client.close()

    def drop(self):
        """All connections that are there end."""
        for client in list(self.clients):
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass    # it has

    def store(self):
        with open(os.path.join(self.path, "testbed.json"), encoding="utf-8") as file:
            state = json.load(file)
        server = socket.create_connection(("127.0.0.1", state[state["store"]]["port"]), timeout=60)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server

    def fault_of(self, method, target, body):
        with self.lock:
            return next((fault for fault in self.faults if fault.meets(method, target, body)), None)


class Exchange:
    """A connection's requests, one after the other, each with a connection of its own to the store."""

    def __init__(self, proxy, client):
        self.proxy, self.client = proxy, client
        self.reader = client.makefile("rb")

    def reset(self):
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def one(self):
        """A request and its answer. False: the connection has ended."""
        line = self.reader.readline()
        if not line:
            return False
        head, length, chunked = [line], 0, False
        while (line := self.reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"expect":
                self.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                continue
            length = int(value) if name.lower() == b"content-length" else length
            chunked = chunked or (name.lower() == b"transfer-encoding" and b"chunked" in value)
            if name.lower() != b"connection":
                head.append(line)
        body = self.chunks() if chunked else self.reader.read(length)
        method, target = head[0].decode().split(" ")[:2]
        return self.act(method, b"".join(head) + b"Connection: close\r\n\r\n", body,
                        self.proxy.fault_of(method, target, body))

    def chunks(self):
        """As they came."""
        body = b""
        while True:
            line = self.reader.readline()
            size = int(line.split(b";")[0], 16)
            body += line + self.reader.read(size + 2 if size else 0)
            if size == 0:
                while line not in (b"\r\n", b""):
                    line = self.reader.readline()
                    body += line
                return body

    def act(self, method, head, body, fault):
        do = fault.do if fault else "pass"
        if do == "answer" or (do == "inside" and fault.before):
            return self.refuse(method, fault)
        if do == "reset":
            return self.reset()
        if do == "flipped" and body:
            at = len(body) // 2
            body = body[:at] + bytes((body[at] ^ 0x20,)) + body[at + 1:]
        with self.proxy.store() as server:
            if do == "half":
                server.sendall(head + body[:len(body) // 2])
                return self.reset()
            server.sendall(head + body)
            answer = http.client.HTTPResponse(server, method=method)
            answer.begin()
            text = answer.read()
        if do == "lost":
            return self.reset()
        if do in ("failed", "inside"):
            return self.refuse(method, fault)
        return self.reply(method, answer, text, do)

    def refuse(self, method, fault):
        text = (fault.html or ERROR.format(fault.code)).encode() if method != "HEAD" else b""
        status = 200 if fault.do == "inside" else fault.status
        kind = "text/html" if fault.html else "application/xml"
        length = len(fault.html) if fault.html and method == "HEAD" else len(text)
        number = "" if fault.html else "x-amz-request-id: way\r\n"
        self.client.sendall(f"HTTP/1.1 {status} So\r\nContent-Type: {kind}\r\n{number}Content-Length: {length}\r\n\r\n"
                            .encode() + text)
        return True

    def reply(self, method, answer, text, do):
        head = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        for name, value in answer.getheaders():
            low = name.lower()
            if low in ("transfer-encoding", "connection") or (low == "content-length" and method != "HEAD"):
                continue
            if low == "etag" and do == "etag":
                value = '"' + "0123456789abcdef" * 2 + '"'
            head.append(f"{name}: {value}")
        if method != "HEAD" and answer.status not in (204, 304):
            head.append(f"Content-Length: {len(text)}")
        if do == "flip" and text:
            at = len(text) // 2
            text = text[:at] + bytes((text[at] ^ 0x20,)) + text[at + 1:]
        self.client.sendall("\r\n".join([*head, "", ""]).encode("latin-1"))
        if do in ("cut", "broken") and text:
            self.client.sendall(text[:len(text) // 2])
            if do == "broken":
                self.reset()
            return False
        for at in range(0, len(text), 4096) if do == "slow" else ():
            self.client.sendall(text[at:at + 4096])
            time.sleep(0.01)
        if do != "slow":
            self.client.sendall(text)
        return True
