# SPDX-License-Identifier: GPL-3.0-or-later
"""s3sim (tests/s3sim) for a testbed: an S3 server of our own, in memory, there at once.

To stop it is to close its port and all connections: what it has in memory stays for the next start.
"""

import os
import signal

from procs import Failure, Missing, Proc, answers, free_ports, signal_pid, tail, wait_until

DNS = "s3.localhost"


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
        self.state["port"] = free_ports()
        self.proc.start(
            [program, "--listen", f"127.0.0.1:{self.state['port']}", "--key", f"{access_key}:{secret_key}",
             "--bucket", bucket, "--fence", fence or "f3", "--domain", DNS, "--log", f"{self.path}/requests",
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
