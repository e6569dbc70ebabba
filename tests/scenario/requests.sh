#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
# docs/COSTS.md: what clients do costs as many requests as it says, on a store of class F3.
set -eu
exec /usr/bin/python3 "$TESTS/bench/requests.py" --files 50 --renamed 60 --idle 1 --check
