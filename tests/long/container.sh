#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 45 min; root, network, debootstrap, 10 GB: the same as root in a plain container
# Arguments are those of bare-machine.sh.
exec "$(dirname "$0")/bare-machine.sh" --container "$@"
