#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 60 min; 2 cores: each short sequence of operations, cut at each point of it (sim/sequences)
"$TESTS/ledger" sequences 1 2 &
"$TESTS/ledger" sequences 2 2
second=$?
wait $! && exit $second
