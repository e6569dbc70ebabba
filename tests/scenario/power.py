#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""The power is cut while clients work: what was flushed is there, what is held for clean is what S3
has, and all that is there reaches S3 as it is. A few cuts on each file system, with one seed; many:
long/power. The judge and its rules: tests/power/cuts.py.

usage: power.py [CUTS [SEED [ext4|xfs]]]
"""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../power"))

# pylint: disable=wrong-import-position
from cuts import record_and_cut

OPERATIONS = 30


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cuts, seed = (int(word) for word in [*sys.argv[1:3], *("2", "1")[len(sys.argv) - 1:]])
    for fs in sys.argv[3:] or ("ext4", "xfs"):
        record_and_cut(fs, seed, OPERATIONS, cuts)


if __name__ == "__main__":
    main()
