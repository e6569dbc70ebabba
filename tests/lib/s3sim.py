# SPDX-License-Identifier: GPL-3.0-or-later
"""s3sim (tests/s3sim) for a testbed: an S3 server of our own, in memory, there at once.

To stop it is to close its port and all connections: what it has in memory stays for the next start.
"""

import http.client
import json
import os
import signal

from procs import Failure, Missing, Proc, answers, free_ports, signal_pid, tail, wait_until

DNS = "s3.localhost"


class Control:
    """What is changed and asked while it runs (tests/s3sim/control.c, fault.h)."""

    def __init__(self, port):
        self.port = int(port)

    def ask(self, method, path, document=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, None if document is None else json.dumps(document))
            answer = connection.getresponse()
            found = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise Failure(f"s3sim: {method} {path} {document}: {found}")
        return found

    def set(self, **settings):
        self.ask("PUT", "/settings", settings)

    def fault(self, op, key, do, **order):
        """The requests of that operation and key, patterns both, meet it: once, if no count says otherwise."""
        self.ask("POST", "/faults", {"op": op, "key": key, "do": do, **order})

    def hits(self):
        """How many requests met each fault, in the order in which they were ordered."""
        return [fault["hits"] for fault in self.ask("GET", "/faults")]

    def clear(self):
        self.ask("DELETE", "/faults")

    def key(self, access, **what):
        self.ask("PUT", f"/keys/{access}", what)

    def requests(self, op):
        """{status: how many} of an operation."""
        return {int(status): number for status, number in self.ask("GET", "/counts")["requests"].get(op, {}).items()}


class S3Sim:
    """One s3sim under `path`. `state` is a dictionary of the caller that keeps its port."""

    def __init__(self, path, state, build):
        self.path = path
        self.state = state
        self.build = build
        self.proc = Proc(f"{path}/s3sim.pid")

    def endpoint(self):
        return f"http://127.0.0.1:{self.state['port']}"

    def ca(self):
        return ""

    def create(self, tls, access_key, secret_key, bucket, fence=None):
        program = f"{self.build}/s3sim"
        if tls:
            raise Missing("s3sim has no TLS")
        if not os.path.exists(program):
            raise Failure(f"{program} is not built; run 'make tests'")
        os.makedirs(self.path)
        port = free_ports(2)
        self.state.update(port=port, control=port + 1)
        self.proc.start(
            [program, "--listen", f"127.0.0.1:{self.state['port']}", "--control", str(self.state["control"]),
             "--key", f"{access_key}:{secret_key}", "--bucket", bucket,
             "--fence", fence or "f3", "--domain", DNS, "--log", f"{self.path}/requests",
             *["--versioned"] * (fence == "f1")], f"{self.path}/out")
        wait_until(self._ready, 20, "s3sim serves")

    def _ready(self):
        if self.proc.exited():
            raise Failure("s3sim ended:\n" + tail(f"{self.path}/out"))
        return self.serves()

    def serves(self):
        return answers("127.0.0.1", self.state["port"])

    def start_gateway(self):
        if self.proc.pid() is None:
            raise Failure("s3sim has ended, and what it had with it:\n" + tail(f"{self.path}/out"))
        signal_pid(self.proc.pid(), signal.SIGUSR2)
        wait_until(self._ready, 20, "s3sim serves again")

    def stop_gateway(self, kill=False):  # pylint: disable=unused-argument
        signal_pid(self.proc.pid(), signal.SIGUSR1)
        wait_until(lambda: not self.serves(), 20, "s3sim is away")

    def stop(self):
        self.proc.stop(deadline_s=5)
