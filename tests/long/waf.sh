#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 25 min; root, network, debootstrap, 10 GB: the module built inside Samba's source tree
# waf-wscript: the module built inside the source tree of the Samba that Debian 12 has, by Samba's build,
# in the least configuration, on a machine of its own. As root:
#
#   waf.sh [--container] [--keep] [DIR]
#
# The rest: tests/lib/debian.sh.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/../.." && pwd)
. "$ROOT/tests/lib/debian.sh"

in_tree()
{
	local module options
	logged()
	{
		"$@" >/tmp/log 2>&1 || { tail -n 40 /tmp/log; return 1; }
	}
	type_one make deps-run
	type_one make module
	type_one logged apt-get -q -y --no-install-recommends install flex bison libgnutls28-dev \
		libkrb5-dev libpopt-dev libtasn1-6-dev libtasn1-bin libacl1-dev libattr1-dev \
		libtdb-dev libldb-dev zlib1g-dev python3-dev
	cp -a build/samba-*/tree build/waf
	mkdir build/waf/source3/modules/objectfs
	cp -r vfs_objectfs shared build/waf/source3/modules/objectfs
	cat waf-wscript >>build/waf/source3/modules/wscript_build
	cd build/waf
	options="--disable-python --without-ad-dc --without-ads --without-ldap --without-pam
		--without-winbind --without-json --without-libarchive --without-gpgme --without-quotas
		--without-utmp --without-systemd --without-regedit --without-ldb-lmdb --disable-cups
		--disable-iprint --disable-glusterfs --disable-cephfs --disable-spotlight
		--disable-avahi --with-system-mitkrb5"
	export CFLAGS=-O0	# nobody runs it
	# shellcheck disable=SC2086
	type_one logged ./configure $options --with-shared-modules='!DEFAULT,!FORCED,vfs_objectfs'
	type_one logged env PYTHONHASHSEED=1 python3 buildtools/bin/waf build --jobs="$(nproc)" --targets=vfs_objectfs
	echo "-- $(grep -c 'Compiling' /tmp/log || true) files compiled"
	module=$(find bin/default/source3 -name '*objectfs*.so*' -type f | head -n 1)
	if ! nm -D --defined-only "$module" | grep ' T samba_init_module' ||
		! strings "$module" | grep 'objectfs.so was built for Samba 4'; then
		echo "FAIL: '$module' is no module for Samba 4"
		failed=1
	fi
	return $failed
}

debian_machine bookworm in_tree "$@"
