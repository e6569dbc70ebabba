# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP proxy in front of a testbed's store that can hold requests back, keep conditions from it, and answer with a
wrong clock.

    proxy = Proxy(PATH)
    with Testbed(store="rgw", path=PATH, set=[f"endpoint={proxy.url}"]) as bed:
        proxy.hold("PUT", "/name")    # requests whose first line begins so and has this in its key
        ...
        proxy.stalled.wait(10)        # one is being held
        proxy.release()               # those whose sender lives go on

    proxy.hold("PUT", "/name", 20)    # after twenty such
"""

import email.utils
import json
import os
import re
import socket
import threading
import time


class Proxy:
    def __init__(self, path):
        """`path`: the directory of the testbed, whose store is looked up there."""
        self.path = path
        self.rule = None
        self.lock = threading.Lock()
        self.passing = 0
        self.heads = None  # a list: what comes from the daemon is noted there
        self.versioned = False  # answers name a version, as a versioned bucket's do
        self.unconditional = False  # the store hears of no condition on a write
        self.skew_s = 0  # what is added to the store's Date
        self.open = threading.Event()
        self.open.set()
        self.stalled = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, method, key, passing=0):
        self.stalled.clear()
        self.open.clear()
        self.passing = passing
        self.rule = (f"{method} ".encode(), key.encode())

    def release(self):
        self.rule = None
        self.open.set()

    def _store(self):
        with open(os.path.join(self.path, "testbed.json"), encoding="utf-8") as file:
            state = json.load(file)
            return ("127.0.0.1", state[state["store"]]["port"])

    def _accept(self):
        while True:
            client, _ = self.socket.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        for _ in range(100):
            try:
                server = socket.create_connection(self._store())
                break
            except (OSError, KeyError, ValueError):
                time.sleep(0.1)
        else:
            client.close()
            return
        for one, two, watch in ((client, server, True), (server, client, False)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pump, args=(one, two, watch), daemon=True).start()

    def _is_held(self, data):
        rule = self.rule
        if not rule or not data.startswith(rule[0]) or rule[1] not in data.split(b"\r\n", 1)[0]:
            return False
        with self.lock:
            self.passing -= 1
            return self.passing < 0

    @staticmethod
    def _is_gone(sender):
        try:
            return not sender.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False  # alive, and it waits
        except OSError:
            return True

    def _late(self, match):
        when = email.utils.parsedate_to_datetime(match[0].decode()).timestamp() + self.skew_s
        return email.utils.formatdate(when, usegmt=True).encode()

    def _pump(self, source, target, watch):
        try:
            while data := source.recv(1 << 18):
                if watch and self.heads is not None:
                    self.heads.append(data[:8192])
                if watch and self._is_held(data):
                    self.stalled.set()
                    self.open.wait()
                    if self._is_gone(source):
                        break
                if self.unconditional and watch and data.startswith((b"PUT ", b"POST ", b"DELETE ")):
                    head, end, body = data.partition(b"\r\n\r\n")
                    data = re.sub(rb"(?i)\r\nif-(none-)?match:[^\r\n]*", b"", head) + end + body
                if self.skew_s and not watch:
                    data = re.sub(rb"(?<=\r\nDate: )[^\r\n]{29}", self._late, data)
                if self.versioned and not watch and data.startswith(b"HTTP/1.1 200 "):
                    data = data.replace(b"\r\n", b"\r\nx-amz-version-id: v1\r\n", 1)
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
