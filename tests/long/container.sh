#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 7200
# The README's commands as root in a plain container; arguments are those of bare-machine.sh.
exec "$(dirname "$0")/bare-machine.sh" --container "$@"
