# SPDX-License-Identifier: GPL-3.0-or-later
"""What a testbed's local disk has of a file, seen from below the share."""

import errno
import os

MARKER = 0o1000  # OFS_MARKER_MODE in shared/record.h


def local_path(bed, path):
    return os.path.join(bed.mirror, path)


def is_marked(bed, path):
    """The sticky bit: a stub, or on its way to or from one."""
    return bool(os.stat(local_path(bed, path)).st_mode & MARKER)


def has_data(bed, path):
    """Any block of it, seen without opening it as a client would: a hole is none."""
    file = os.open(local_path(bed, path), os.O_RDONLY | os.O_NOATIME)
    try:
        os.lseek(file, 0, os.SEEK_DATA)
        return True
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False
    finally:
        os.close(file)


def is_out(bed, path):
    """A stub without any data."""
    return is_marked(bed, path) and not has_data(bed, path)


def is_resident(bed, path):
    return not is_marked(bed, path)


def counter(bed, name):
    return bed.ctl_json("status")["counters"][name]


def evict(bed, path):
    """(exit code, what objectfsctl says)"""
    return bed.ctl("evict", path, may_fail=True)
