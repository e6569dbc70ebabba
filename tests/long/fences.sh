#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 5 min; root: scenario/fences with two hundred operations of each writer
# fences.sh [OPERATIONS]
FENCES_ROUNDS=${1:-200} exec "$TESTS/scenario/fences.py"
