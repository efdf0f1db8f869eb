# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Pairs of the real program with an embedded guest: `. embedded.sh` instead of
# lib.sh, whose words it brings, with these differences.
#
# A host is a process group, its colod and its guests; killing the host is
# killing the group.  $guest says what is protected.  The guests' own words
# (count, pause, late ones) come from `colod guest list`.

COLOD_FAKE=${COLOD:-${abs_top_builddir:-.}/colod}
# shellcheck source=tests/pair/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# shellcheck disable=SC2034 # variables for the tests

guest=dirty,mem=8M,rate=5000
trap embedded_end EXIT

# setsid does not fork here, so the group's id is colod's pid.
run_host() {	# host command options and operands
	local host=$1
	shift
	setsid "$colod" "$@" </dev/null >>"$dir/$host.log" 2>&1 3>&- &
	pid[$host]=$!
	echo "$!" >"$dir/$host.group"
}

primary() {	# options
	run_host a primary "${cert_a[@]}" --run-dir "$dir/a" \
		"${timing[@]}" --interval=20 --retry=200 "$@" \
		"embedded:$guest" "127.0.0.1:${peer_port:-$port}"
}

guest_name() {
	local words=,$guest,
	case $words in *,name=*) words=${words#*,name=} ;;
	*) words=${words#,} ;; esac
	echo "${words%%,*}"
}

# The name of a guest on this host as a line of JSON; nothing where none is.
guest_on() {	# host [standby]
	local standby=false
	[ $# -lt 2 ] || standby=true
	"$colod" guest list --json --run-dir "$dir/$1" |
		tr '{' '\n' | grep '"standby":'$standby |
		grep "\"name\":\"$(guest_name)\""
}

guest_value() {	# host key
	guest_on "$1" | sed -n 's/.*"'"$2"'":"\{0,1\}\([^",}]*\).*/\1/p'
}

guest_is() {	# host state
	[ "$(guest_value "$1" state)" = "$2" ]
}

guest_at_least() {	# host key number
	local is
	is=$(guest_value "$1" "$2")
	[ -n "$is" ] && [ "$is" -ge "$3" ]
}

# It takes further steps.
guest_runs() {	# host
	local steps
	steps=$(guest_value "$1" steps)
	[ -n "$steps" ] || fail "there is no guest on host $1"
	until_true guest_at_least "$1" steps $((steps + 1))
}

no_guest() {	# host
	[ "$("$colod" guest list --json --run-dir "$dir/$1")" = '[]' ]
}

order() {	# host verb words
	local host=$1 verb=$2
	shift 2
	"$colod" guest "$verb" --run-dir "$dir/$host" "$(guest_name)" "$@" \
		>>"$dir/$host.log" 2>&1 || fail "$verb $* is not obeyed"
}

host_dies() {	# host [pid of a guest from another group]: all of it
	local guard
	guard=$(guard_of "${pid[$1]}")
	[ -z "$guard" ] || others+=("$guard")
	kill -KILL -- "-${pid[$1]}" "${@:2}"
	{ wait "${pid[$1]}"; } 2>/dev/null
	pid[$1]=''
	[ -z "$guard" ] || until_true gone "$guard"
}

# A fence command: says that the group is dead once it is.
fence_group() {	# host
	cat >"$dir/fence.$1" <<-END
		#!/bin/bash
		group=\$(cat '$dir/$1.group')
		kill -KILL -- "-\$group" 2>/dev/null
		for ((i = 0; i < 300; i++)); do
			grep -lqs "^[0-9]* ([^)]*) [^Z] [0-9]* \$group " \\
				/proc/[0-9]*/stat || exit 0
			sleep 0.1
		done
		exit 1
	END
	chmod +x "$dir/fence.$1"
	echo "$dir/fence.$1"
}

# One connection to the ledger for all lines; the answers, as many.
ask() {	# lines...
	exec 4<>"/dev/tcp/127.0.0.1/$ledger_port" || return 1
	printf '%s\n' "$@" >&4
	timeout "$patience" head -n $# <&4
	exec 4>&-
}

serves() { (ask SUM) >/dev/null 2>&1; }

free_ledger_port() {
	ledger_port=$((15000 + (RANDOM * 32768 + RANDOM) % 17000))
	while (: <"/dev/tcp/127.0.0.1/$ledger_port") 2>/dev/null; do
		ledger_port=$((ledger_port + 1))
	done
}

embedded_end() {
	local status=$? host p
	for host in a b; do
		for p in $("$colod" guest list --json --run-dir "$dir/$host" \
			2>/dev/null | grep -o '"pid":[0-9]*'); do
			others+=("${p#*:}")
		done
		# What a guest that was killed has left to say.
		for p in "$dir/$host"/guest-*.log; do
			[ ! -s "$p" ] || mv "$p" "$dir/$host.$(basename "$p")"
		done
	done
	(exit $status)
	pair_end
}
