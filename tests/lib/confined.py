#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a unit of systemd leaves to its service, without systemd: confined.py UNIT COMMAND ... runs it with the unit's
capabilities and system calls (SystemCallFilter=, SystemCallErrorNumber=EPERM), no new privileges. x86-64 only.
"""

import ctypes
import os
import re
import struct
import subprocess
import sys

HEADER = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
AUDIT_ARCH_X86_64 = 0xC000003E
ALLOW, ERRNO_EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000
BPF_LD_W_ABS, BPF_JEQ, BPF_RET = 0x20, 0x15, 0x06


def setting(unit_path, name):
    with open(unit_path, encoding="utf-8") as file:
        return re.search(rf"^{name}=(.*)$", file.read(), re.MULTILINE).group(1).split()


def allowed_calls(unit_path):
    """Names of all system calls in the unit's SystemCallFilter=."""
    output = subprocess.run(["systemd-analyze", "syscall-filter"], stdout=subprocess.PIPE, text=True,
                            check=True).stdout
    sets, name = {}, ""
    for line in output.splitlines():
        if line.startswith("@"):
            name = line.strip()
            sets[name] = set()
        elif line.startswith("    ") and not line.strip().startswith("#"):
            sets[name].add(line.strip())

    def members(word):
        return set().union(*map(members, sets[word])) if word.startswith("@") else {word}

    return set().union(*map(members, setting(unit_path, "SystemCallFilter")))


def numbers():
    """{name: number} of this machine's system calls."""
    with open(HEADER, encoding="ascii") as file:
        return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", file.read())}


def program(allowed):
    """Of classic BPF: each allowed one is let through, all others get EPERM."""
    def step(code, value, yes=0, no=0):
        return struct.pack("=HBBI", code, yes, no, value)

    steps = [step(BPF_LD_W_ABS, 4), step(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0), step(BPF_RET, KILL),
             step(BPF_LD_W_ABS, 0)]
    for number in sorted(allowed):
        steps += [step(BPF_JEQ, number, 0, 1), step(BPF_RET, ALLOW)]
    return steps + [step(BPF_RET, ERRNO_EPERM)]


def confine(unit_path):
    libc = ctypes.CDLL(None, use_errno=True)
    known = numbers()
    steps = program({known[name] for name in allowed_calls(unit_path) if name in known})
    code = ctypes.create_string_buffer(b"".join(steps))
    filter_ = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                      (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter_), 0, 0)):
        if libc.prctl(*arguments) != 0:
            sys.exit(f"prctl {arguments[0]}: {os.strerror(ctypes.get_errno())}")


def main():
    unit_path, *command = sys.argv[1:]
    if not os.environ.pop("CONFINED", None):
        kept = ",".join("+" + name[len("CAP_"):].lower() for name in setting(unit_path, "CapabilityBoundingSet"))
        os.environ["CONFINED"] = "1"
        os.execvp("setpriv", ["setpriv", f"--bounding-set=-all,{kept}", f"--inh-caps=-all,{kept}", sys.executable,
                              os.path.realpath(__file__), unit_path, *command])
    confine(unit_path)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
