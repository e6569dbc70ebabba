#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The object store's contract on s3sim: conditions as on AWS (F3), by path and by virtual host, with and without versions;
# and what the probe finds where it honours less.
. "${TESTS:-$(dirname "$0")/..}/lib/contract.sh"

export S3_COPY_JOINS=1 S3_FENCE=0

run()	# fence, and what contract takes
{
	step "$*"
	store_up --store s3sim --fence "$1"
	shift
	contract "$@"
	bed_down
}

run f3 'F3: .*Delete yes; parts from a source pinned by ETag yes, by version no; unversioned$' test_delete_if_match \
	S3_PREFIX='deep er/ü/'
run f2 'F2: .*PUT if-match yes, if-none-match yes; Complete no, no; .*Delete no' test_put_if_match S3_ONLY='test_p*'
run f1 'F1: .*if-none-match no; .*by version yes; versioned$' test_probe S3_ONLY='test_p*'
run f0 'F0: .*if-none-match no; .*; unversioned$' test_probe S3_ONLY='test_p*'

step "f3 with versions, virtual host"
store_up --store s3sim
/usr/bin/python3 - <<-'X'
	import os
	from rgw import VERSIONED, Rgw
	port = os.environ["S3_ENDPOINT"].rsplit(":", 1)[1]
	Rgw("", {"port": port}).put("/" + os.environ["S3_BUCKET"], os.environ["S3_ACCESS_KEY"],
	                            os.environ["S3_SECRET_KEY"], "versioning=", VERSIONED)
X
contract 'F3: .*by version yes; versioned$' test_versions S3_STYLE=virtual \
	S3_ENDPOINT="${S3_ENDPOINT/127.0.0.1/s3.localhost}"
