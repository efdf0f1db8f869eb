# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# `./run-demo`: a ledger on host a, clients that keep whatever it acknowledges,
# and the sudden death of host a.  Hosts are groups of processes here, so it
# needs neither Xen nor root, and takes a quarter of a minute.

# shellcheck disable=SC2154 # variables of run-demo and of tests/account/lib.sh

ACCOUNT_CLIENTS=$COLOD_DEMO_BUILD/tests/account/account-clients
COLOD_ACCOUNT_LOST_AFTER=${COLOD_ACCOUNT_LOST_AFTER:-10} # heartbeats of 20 ms
COLOD_ACCOUNT_ACK_TIMEOUT=${COLOD_ACCOUNT_ACK_TIMEOUT:-60000} # no frame is lost
# shellcheck source=tests/account/lib.sh
. tests/account/lib.sh
trap 'exit 130' HUP INT TERM

interval=20
guest_options=mem=64M

now() { echo "$EPOCHREALTIME"; }

elapsed() {	# from [until]
	awk -v a="$1" -v b="${2:-$EPOCHREALTIME}" \
		'BEGIN { printf "%.3f", b - a }'
}

field() {	# status name: the first number or word of this name
	local value=${1#*\""$2"\":}
	[ "$value" != "$1" ] || return 0
	value=${value#\"}
	echo "${value%%[\",\}]*}"
}

host_line() {	# host status
	local role
	if ! host_lives "$1"; then
		echo "DEAD"
		return
	fi
	role=$(field "$2" role)
	echo "running${role:+; colod $role: $(field "$2" state)}"
}

# One command substitution at a time: where there are two in one command, bash
# 5.2 can fail to parse a trap that is due in between, and the signal is lost.
show() {
	local a="" b="" seen at_a at_b captured stored pause most dirty
	local sent raw lag
	a=$(status_of a)
	b=$(status_of b)
	[ -z "$a" ] || last_a=$a
	seen=$last_a
	ask_clients
	at_a=$(host_line a "$a")
	at_b=$(host_line b "$b")
	captured=$(field "$seen" captured)
	stored=$(field "$b" stored)
	pause=$(ms "$(field "$seen" pause_us)")
	most=$(ms "$(field "$seen" pause_max_us)")
	dirty=$(field "$seen" dirty_pages)
	sent=$(mib "$(field "$seen" sent)")
	raw=$(mib "$(field "$seen" raw)")
	lag=$(ms "$(field "$seen" commit_us)")
	if [ -z "$terminal" ]; then
		echo "          a: $at_a | b: $at_b |" \
			"$acknowledged payments, $captured copies," \
			"pause $pause, $dirty dirty pages, $sent sent, lag $lag"
		return
	fi
	wipe_table
	printf '\n'
	printf '          %-8s %s\n' "host a" "$at_a" "host b" "$at_b" \
		clients "$acknowledged payments acknowledged; the last answer \
$silent_ms ms ago" \
		epochs "$captured copies taken, $stored stored on b" \
		pause "$pause for the last copy; at most $most" \
		dirty "$dirty pages written since the copy before" \
		bytes "$sent sent for $raw of memory written" \
		lag "b had the last copy $lag after it was taken"
	table_lines=9
}

show_for() {	# seconds
	local end=$(($(now_ms) + $1 * 1000))
	while [ "$(now_ms)" -lt $end ]; do
		show
		sleep "${terminal:+0.1}${terminal:-1.5}"
	done
}

state_is() { [ "$(state_of "$1")" = "$2" ]; }

# Where the machine was too busy for the first copy, the primary has ended, and
# its guest, which has promised nothing yet, with it.
protected() {
	colod_lives a || primary a
	state_is a primary-protected
}

story() {
	tell "Two hosts, a and b: here they are two groups of processes."
	host_on a
	host_on b
	mkdir -p "$dir/a/run" "$dir/b/run"
	secondary b
	primary a
	tell "On a runs a guest, a ledger; colod copies it to b every" \
		"$interval ms."
	until_true protected
	tell "Protected: b holds a paused twin that follows."
	clients_start --clients=8 --pipeline=2 --rate=500 --patience=500
	tell "Eight clients pay.  An answer leaves a only when b has what it" \
		"promises."
	show_for 6

	echo mark >&"$clients_in"
	host_off a
	tell "Host a is killed, without a warning (kill -9 of all its" \
		"processes)."
	until_true state_is b secondary-active
	tell "b heard nothing for $((${timing[0]#*=} * ${timing[1]#*=})) ms, made sure" \
		"that a is dead, and lets the twin run."
	served || fail "b does not know what a had promised"
	tell "The clients pay on.  They had no answer for $longest_ms ms."
	show_for 4
}

# What the clients say at the end is what counts.
verdict() {
	local is
	[ -z "$terminal" ] || table_lines=0
	tell "Now every payment that was ever acknowledged is looked for in" \
		"the ledger."
	clients_verify
	is=$?
	printf '\n%s.\n' "$verdict"
	if [ $is -ne 0 ]; then
		cat "$dir/clients.log"
		fail "a promise was broken"
	fi
	echo "The host died, and all that it had promised was kept."
}

last_a=""
begun=$EPOCHREALTIME
name=run-demo
story
verdict
