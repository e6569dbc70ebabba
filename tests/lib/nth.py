# SPDX-License-Identifier: GPL-3.0-or-later
"""The Nth call of a process fails: what tests/nth/preload.c, loaded into it, is told.

    calls = Calls("objectfs.so", tree)          # before the testbed: it is told by the environment
    with Testbed(path=path, preload=f"smbd={calls.library}") as bed:
        calls.arm("write", 3, errno.EIO)        # the third; counts begin anew
        ...
        calls.lift()
"""

import errno
import mmap
import os
import struct
import tempfile

SHORT = -1  # half of what was asked for
# In the order of `enum kind` in tests/nth/preload.c; how each can fail.
KINDS = {
    "open": (errno.EMFILE, errno.EIO), "read": (errno.EIO, SHORT), "write": (errno.EIO, errno.ENOSPC, SHORT),
    "sync": (errno.EIO,), "truncate": (errno.EIO,), "allocate": (errno.ENOSPC,),
    "name": (errno.EIO, errno.ENOSPC), "unlink": (errno.EIO,), "xattr get": (errno.EIO,),
    "xattr set": (errno.EIO, errno.ENOSPC), "stat": (errno.EIO,), "mode": (errno.EIO,),
    "copy": (errno.EIO, SHORT), "map": (errno.ENOMEM,), "socket": (errno.EPIPE, errno.ENOMEM),
    "lease": (errno.EAGAIN,), "memory": (errno.ENOMEM,)}
PAGE = struct.Struct(f"<III i II {len(KINDS)}I")  # struct page
FAILED, COUNTS = 5, 6  # of its fields


class Calls:
    def __init__(self, caller, tree):
        """caller: the object whose calls these are; and everybody's on files below tree."""
        self.library = os.path.join(os.environ["BUILD"], "tests/nth_preload.so")
        file, self.path = tempfile.mkstemp(prefix="calls-", dir=os.environ.get("TMPDIR"))
        os.ftruncate(file, PAGE.size)
        self.page = mmap.mmap(file, PAGE.size)
        os.close(file)
        os.environ.update(NTH_CONTROL=self.path, NTH_CALLER=caller, NTH_TREE=tree)

    def arm(self, kind=None, n=0, how=0, held=False):
        """Count; the nth of a kind fails, and each later one if held."""
        self.lift()
        number = list(KINDS).index(kind) if kind is not None else 0
        self.page[4:PAGE.size] = PAGE.pack(0, number, n, how, held, 0, *[0] * len(KINDS))[4:]
        self.page[0:4] = struct.pack("<I", 1)

    def lift(self):
        """From now on all goes well, and nothing is counted."""
        self.page[0:4] = struct.pack("<I", 0)

    def failed(self):
        return PAGE.unpack(self.page[:])[FAILED]

    def counts(self):
        """{kind: how many}"""
        return dict(zip(KINDS, PAGE.unpack(self.page[:])[COUNTS:]))
