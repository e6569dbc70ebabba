#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Some ten thousand objects in one directory; long/million takes a million.
exec "$TESTS/long/million.py" "${1:-8000}" short
