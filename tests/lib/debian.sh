# SPDX-License-Identifier: GPL-3.0-or-later
# A bare Debian machine, for tests that are to find nothing but what they install: debootstrap's
# smallest tree with make in it, in namespaces of its own, and this checkout in /usr/src/objectfs.
# Sourced by scripts of tests/long:
#
#   debian_machine SUITE FUNCTION [--container] [--keep] [DIR [NAME ...]]
#
# FUNCTION runs there as root, with NAME ... and the checkout as its directory; it may use type_one and
# left from here. --container: as in `docker run`, with its default capabilities, everything on an
# overlay. DIR: below it the machine's tree, some 10 GB, is made, and removed in the end unless --keep;
# logs of tests that failed stay. BASE=TREE in the environment: one that debootstrap made before.
# The machine has mounts, processes and /dev/shm of its own; network, apt's sources (those of this
# machine's Debian, with the suite's name) and proxies are this one's.

# Docker's defaults, https://docs.docker.com/engine/containers/run/, "Runtime privilege and Linux
# capabilities".
capabilities="chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw
	sys_chroot mknod audit_write setfcap"

fail()
{
	echo "FAIL: $*"
	exit 1
}
# Everything but the logs of tests that failed.
remove()	# exit code
{
	local logs
	for logs in "$dir"/{machine,upper}/usr/src/objectfs/build/test-logs; do
		if [ "$1" != 0 ] && [ -d "$logs" ]; then
			mv "$logs" "$dir/test-logs"
			echo "-- logs: $dir/test-logs"
		fi
	done
	rm -rf --one-file-system "$dir"/{machine,base,upper,work}
	rmdir --ignore-fail-on-non-empty "$dir"
}

# --- what a person finds ---------------------------------------------------------------------------
sources()
{
	local here
	here=$(. /etc/os-release && echo "${VERSION_CODENAME:-none}")
	apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' 'Origin: Debian' | sed -n "s/ $here/ $suite/p" | sort -u
}
archive()	# of the suite
{
	local here
	here=$(sources | awk -v suite="$suite" '$3 == suite && !found++ { print $2 }')
	echo "${here:-http://deb.debian.org/debian/}"
}
make_base()	# directory
{
	local mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	mirror=$(archive)
	echo "-- debootstrap $suite from $mirror"
	debootstrap --variant=minbase --keyring=$keyring --include=make,ca-certificates \
		"$suite" "$1" "$mirror" >"$dir/debootstrap.log" 2>&1 || {
		tail -n 20 "$dir/debootstrap.log"
		fail "debootstrap"
	}
	rm "$dir/debootstrap.log"
	rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*
}
configure_apt()	# of the tree
{
	[ -z "$(sources)" ] || sources >"$1/etc/apt/sources.list"
	{
		apt-config dump | grep -E '^Acquire::(https?::|Check-)' || true
		for scheme in http https; do
			proxy=${scheme}_proxy
			[ -z "${!proxy:-}" ] || echo "Acquire::$scheme::Proxy \"${!proxy}\";"
		done
	} >"$1/etc/apt/apt.conf.d/90host"
}

# --- in its own namespaces ---------------------------------------------------------------------------
# The process that this makes is the machine's first: when it ends, all others end, and all mounts.
enter()	# function, its arguments
{
	set -euo pipefail
	if [ -n "$container" ]; then
		mount -t overlay -o "lowerdir=$base,upperdir=$dir/upper,workdir=$dir/work" \
			overlay "$machine"
	else
		mount --bind "$machine" "$machine"
	fi
	configure_apt "$machine"
	cp -L /etc/resolv.conf "$machine/etc/resolv.conf"
	printf '127.0.0.1 localhost bare\n' >"$machine/etc/hosts"
	hostname bare
	git clone -q --no-hardlinks "$ROOT" "$machine/usr/src/objectfs"
	cd "$machine"
	mount -t proc proc proc
	if [ -n "$container" ]; then
		mount -t sysfs -o ro sysfs sys
		mount -t tmpfs -o mode=755,size=64k dev dev
		local name
		for name in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
			mknod -m 666 dev/${name/ / c }
		done
		ln -s /proc/self/fd dev/fd
		for name in 0:stdin 1:stdout 2:stderr; do
			ln -s "/proc/self/fd/${name%:*}" "dev/${name#*:}"
		done
		mkdir dev/shm dev/pts
		mount -t tmpfs -o nosuid,nodev,noexec,size=64m shm dev/shm
	else
		mount -t sysfs sysfs sys
		mount -t devtmpfs dev dev
		mkdir -p dev/shm dev/pts
		mount -t tmpfs shm dev/shm
	fi
	mount -t devpts -o newinstance,mode=620,ptmxmode=666 devpts dev/pts
	[ -z "$container" ] || ln -s pts/ptmx dev/ptmx
	pivot_root . .
	umount -l .
	cd /usr/src/objectfs
	local kept=-all drop=() name
	for name in $capabilities; do
		kept+=",+$name"
	done
	[ -z "$container" ] || drop=(setpriv --bounding-set "$kept" --inh-caps -all)
	exec "${drop[@]}" env -i HOME=/root TERM=dumb \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		bash -c "$(declare -f type_one left "$1"); failed=0; $1"' "${@:2}"' machine "$@"
}

# For the function: a command as a person types it; failed=1 if it fails.
type_one()
{
	local begin=$SECONDS
	echo "$ $*"
	"$@" </dev/null || { echo "FAIL: $*: exit $?"; failed=1; }
	echo "-- $*: $(((SECONDS - begin) / 60)) min $(((SECONDS - begin) % 60)) s"
}
# For the function: the command lines of other processes.
left()
{
	local process
	for process in /proc/[0-9]*; do
		if [ "$process" != /proc/$$ ] && [ "$process" != "/proc/$BASHPID" ]; then
			tr '\0' ' ' <"$process/cmdline" 2>/dev/null || true
		fi
	done
}

debian_machine()	# see above
{
	local typed=$2 keep=
	suite=$1 container=
	shift 2
	while [[ ${1:-} == --* ]]; do
		case $1 in
		--container) container=1 ;;
		--keep) keep=1 ;;
		*)
			echo "usage: ${0##*/} [--container] [--keep] [DIR [NAME ...]]" >&2
			exit 2
			;;
		esac
		shift
	done
	export PATH=$PATH:/usr/sbin:/sbin
	local tool
	for tool in debootstrap unshare pivot_root git; do
		command -v $tool >/dev/null || { echo "needs $tool"; exit 77; }
	done
	[ "$(id -u)" = 0 ] || { echo "needs root: it makes mounts"; exit 77; }
	dir=$(realpath -m "${1:-${TMPDIR:-/var/tmp}}")
	shift || true
	case $dir/ in
	"$ROOT"/*) fail "$dir is inside the checkout" ;;
	esac
	mkdir -p "$dir"
	dir=$(mktemp -d "$dir/$suite.XXXXXX")
	chmod 755 "$dir"
	machine=$dir/machine
	if [ -n "$keep" ]; then
		echo "-- everything stays in $dir"
	else
		trap 'remove $?' EXIT
	fi
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	/usr/lib/apt/apt-helper -o Acquire::Retries=1 download-file "$(archive)dists/$suite/Release" \
		"$dir/Release" >/dev/null 2>&1 || { echo "needs $(archive), which does not answer"; exit 77; }
	rm "$dir/Release"
	base=$(realpath -m "${BASE:-$dir/base}")
	[ -e "$base/etc/debian_version" ] || make_base "$base"
	if [ -n "$container" ]; then
		mkdir -p "$machine" "$dir/upper" "$dir/work"
	else
		cp -a --reflink=auto "$base" "$machine"
	fi
	export container base dir machine suite ROOT capabilities
	unshare --mount --propagation private --pid --fork --kill-child --ipc --uts \
		bash -c "$(declare -f sources configure_apt enter type_one left "$typed"); enter \"\$@\"" \
		enter "$typed" "$@"
}
