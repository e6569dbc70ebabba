#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 15 min; 2 cores, 1 GB below build/: units, replay and simulations with AddressSanitizer and UBSAN
export SANITIZER=address,undefined
make -j"$(nproc)" tests && exec tests/run unit replay sim
