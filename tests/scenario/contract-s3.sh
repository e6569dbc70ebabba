#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The object store's contract on a real Ceph RGW: over HTTP by path, over TLS by virtual host, and on a versioned bucket,
# whose fences the probe must find wanting.
. "${TESTS:-$(dirname "$0")/..}/lib/contract.sh"

step "HTTP, path style, a prefix with a blank and an umlaut"
store_up --store rgw
contract F2 test_put_if_match S3_PREFIX='deep er/ü/'
bed_down

step "a versioned bucket"
store_up --store rgw --fence f1
contract 'F1: .*; versioned$' test_versions S3_FENCE=1
bed_down

step "TLS with a private authority, virtual host"
store_up --store rgw --tls
contract F2 test_put_if_match S3_STYLE=virtual S3_ENDPOINT="${S3_ENDPOINT/127.0.0.1/s3.localhost}"
