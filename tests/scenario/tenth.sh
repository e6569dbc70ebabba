#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 240
# A minute at a cache of a tenth of the data; long/tenth takes an hour.
exec "$TESTS/long/tenth.py" "${1:-60}" "${2:-7}" "${3:-640}"
