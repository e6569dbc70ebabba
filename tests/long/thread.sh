#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 20 min; 2 cores, 1 GB below build/: units, and scenarios with daemon and module, with ThreadSanitizer
# Simulations are one thread. thread.sh [NAME ...]: of tests, instead of these.
export SANITIZER=thread
[ $# -gt 0 ] || set -- unit/ scenario/recall scenario/upload scenario/evict scenario/held-open scenario/copies scenario/verify \
	scenario/local-readers
make -j"$(nproc)" all tests && exec tests/run "$@"
