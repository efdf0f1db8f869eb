# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Waiting for something to happen, in the tests of daemons.  until_true() needs
# $patience, in seconds, and fail().
#
# To look costs processes, and where dozens of tests look at once the machine
# soon does nothing else.  So a look is followed by a rest of five times as long
# as it took, and the rest needs no process of its own.

exec {rest_fd}<> <(:) # nothing ever comes from it

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }

within() {	# seconds command...: until it succeeds
	local from rest end=$((${EPOCHREALTIME/./} + $1 * 1000000))
	shift
	while from=${EPOCHREALTIME/./} && ! "$@"; do
		[ "$from" -lt $end ] || return 1
		rest=$(((${EPOCHREALTIME/./} - from) * 5))
		[ $rest -ge 20000 ] || rest=20000
		printf -v rest '%d.%06d' $((rest / 1000000)) $((rest % 1000000))
		read -r -t "$rest" -u "$rest_fd"
	done
	return 0
}

# shellcheck disable=SC2154
until_true() {	# command...
	within "$patience" "$@" || fail "waited in vain for: $*"
}
