#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The fence command of the account test:
#
#	fence.sh DIR/OWN/ PEER
#
# Kills all processes of host PEER and says so only when none is left.  Where
# both hosts call it at once, one of them is first, and the other is dead by
# then: an arbiter that two switches of one power strip would be.  colod runs it
# in a group of its own, so it outlives its host: it names the host's folder,
# that host_off() waits for its end.  Else it could find the host back and kill
# the other one, which has fenced it.

dir=${1%/*/} peer=$2
own=${1#"$dir"/}
own=${own%/}

group_lives() {	# the id of a process group
	local stat state group
	for stat in /proc/[0-9]*/stat; do
		# The name, in parentheses, may hold anything.
		read -r stat 2>/dev/null <"$stat" || continue
		read -r state _ group _ <<<"${stat##*) }"
		[ "$group" = "$1" ] && [ "$state" != Z ] && return 0
	done
	return 1
}

exec 9>"$dir/arbiter"
flock 9
[ ! -e "$dir/$own.dead" ] || exit 1
read -r group <"$dir/$peer.group" || exit 1
: >"$dir/$peer.dead"
kill -KILL -- "-$group" 2>/dev/null
for ((i = 0; i < 500; i++)); do
	group_lives "$group" || exit 0
	sleep 0.01
done
exit 1
