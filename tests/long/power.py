#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 60 min; root, /dev/fuse, loop devices: scenario/power with many seeds, both durabilities
"""scenario/power with many seeds, on ext4 and XFS, with durability `local` and, every third seed, `s3`.
Some two seconds a cut: an hour for 15 seeds of 50 cuts on each.

usage: power.py [SEEDS [CUTS [FIRST [ext4|xfs]]]]
"""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../power"))

# pylint: disable=wrong-import-position
from cuts import record_and_cut

OPERATIONS = 80


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seeds, cuts, first = (int(word) for word in [*sys.argv[1:4], *("15", "50", "1")[len(sys.argv) - 1:]])
    for seed in range(first, first + seeds):
        for fs in sys.argv[4:] or ("ext4", "xfs"):
            record_and_cut(fs, seed, OPERATIONS, cuts, "s3" if seed % 3 == 0 else "local")


if __name__ == "__main__":
    main()
