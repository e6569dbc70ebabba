#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 25 min; root: smb/torture with all of its tests; then with each file evicted before its last close is answered
"$TESTS/smb/torture.py" --all "$@"
first=$?
"$TESTS/smb/torture.py" --all --evict "$@" && exit $first
