# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# What a test of the command line needs: `. lib.sh`, then
#
#	run WORDS...		one colod; its output is in $out, its errors in
#				$err, its exit status in $status
#	expect STATUS		...and no more than it is meant to say there
#	says FILE WORDS		WORDS are somewhere in FILE
#	one_line FILE		it is one line, not more
#
# Each test has a folder of its own, $dir, and leaves nothing.

set -u
export LC_ALL=C

name=$(basename "$0" .test)
colod=${COLOD:-${abs_top_builddir:-.}/colod}
dir=$(mktemp -d "${TMPDIR:-/tmp}/colod-cli-XXXXXX") || exit 1
out=$dir/out
err=$dir/err
what=
status=
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM

fail() {
	echo "$name: FAILED: $*" >&2
	if [ -n "$what" ]; then
		echo "--- $what: exit status $status; output, errors:" >&2
		cat "$out" "$err" >&2
	fi
	exit 1
}

skip() {
	echo "$name: SKIP: $*"
	exit 77
}

# No command of these tests takes longer than a moment, on an idle machine.
run() {
	what="colod $*"
	timeout 120 "$colod" "$@" >"$out" 2>"$err" </dev/null
	status=$?
}

expect() {
	[ "$status" -eq "$1" ] || fail "exit status $status instead of $1"
}

says() {
	grep -qF -e "$2" "$1" || fail "does not say: $2"
}

silent() {
	[ ! -s "$1" ] || fail "says more than it should"
}

one_line() {
	[ "$(wc -l <"$1")" -eq 1 ] || fail "not one line"
}

# Refused with this exit status and one line that says so.
refused() {	# status words
	expect "$1"
	silent "$out"
	one_line "$err"
	says "$err" "$2"
}

# Certificates of alpha and beta (127.0.0.1) in $dir/certs, for $identity.
make_certs() {
	run certs "$dir/certs" alpha=127.0.0.1 beta=127.0.0.1
	expect 0
}

no_xen() {
	[ ! -e /dev/xen/privcmd ] || skip "this is a Xen host"
}
