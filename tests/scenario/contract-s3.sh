#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The object store's contract (tests/lib/objstore_contract.c) on a real Ceph RGW: over HTTP by path,
# over TLS by virtual host, and on a versioned bucket, whose fences the probe must find wanting.
. "${TESTS:-$(dirname "$0")/..}/lib/scenario.sh"

BUILD=${BUILD:-$TESTS/../build}
PROGRAM=$BUILD/tests/contract_s3
[ -x "$PROGRAM" ] || fail "$PROGRAM is not built"

run()	# name [NAME=VALUE ...]
{
	local name=$1
	shift
	step "$name"
	env "$@" "$PROGRAM" || fail "the contract does not hold: $name"
}

bed_up --store rgw --no-objectfs --no-smbd
set -a
. "$BED/env"
set +a
run "HTTP, path style, a prefix with a blank and an umlaut" S3_PREFIX='deep er/ü/'

bed_down

step "a versioned bucket"
bed_up --store rgw --fence f1 --no-objectfs --no-smbd
set -a
. "$BED/env"
set +a
log=$(mktemp)
env S3_FENCE=1 "$PROGRAM" >"$log" 2>&1 || { cat "$log"; fail "versioned bucket"; }
grep -q 'fence class F1: .*; versioned$' "$log" || fail "versioned bucket: class not found to be F1"
grep -q 'OK ] test_versions$' "$log" || { cat "$log"; fail "versioned bucket: its versions were not looked at"; }
bed_down

bed_up --store rgw --tls --no-objectfs --no-smbd
set -a
. "$BED/env"
set +a
run "TLS with a private authority, virtual host" S3_STYLE=virtual S3_ENDPOINT="${S3_ENDPOINT/127.0.0.1/s3.localhost}"
