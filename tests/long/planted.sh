#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 10 min; root: scenario/planted with two hundred rounds
PLANTED_ROUNDS=${1:-200} exec "$TESTS/scenario/planted.py"
