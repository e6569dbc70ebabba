#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
# kill-rounds on a real S3 server, which is killed too.
exec "$TESTS/scenario/kill-rounds.py" "${1:-10}" "${2:-$RANDOM}" rgw
