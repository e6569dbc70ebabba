#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# scenario/fences for longer: tests/long/fences.sh [ROUNDS], so many operations of each writer, default 200.
exec env FENCES_ROUNDS="${1:-200}" PYTHONPATH="$(dirname "$0")/../lib" /usr/bin/python3 "$(dirname "$0")/../scenario/fences.py"
