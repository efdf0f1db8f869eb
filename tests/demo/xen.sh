# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# `./run-demo --xen`: two Xen hosts in software emulation, a guest that checks
# its own memory, and the sudden death of the host it runs on.

# shellcheck disable=SC2154 # variables of run-demo and of tests/lab/lib.sh

host_line() {	# host, its role, its state
	if ! host_alive "$1"; then
		echo "DEAD"
	elif [ -z "$3" ]; then
		echo "running"
	else
		echo "running; colod $2: $3"
	fi
}

guest_line() {
	local host=a line
	[ -s "$lab_dir/log/b.guest" ] && [ -n "$(guest_last b)" ] && host=b
	line=$(guest_last $host)
	if [ -z "$line" ]; then
		echo "-"
	elif ! host_alive $host; then
		echo "silent; the last it said was $(line_field "$line" count)"
	else
		echo "runs on $host, counts $(line_field "$line" count)," \
			"memory checked $(line_field "$line" passes) times," \
			"$(line_field "$line" errors) errors"
	fi
}

show() {
	local a="" b=""
	host_alive a && a=$(status_json a 2>/dev/null)
	host_alive b && b=$(status_json b 2>/dev/null)
	[ -n "$a" ] && last_a=$a
	local rows=(
		"host a" "$(host_line a primary "$(json_field "$a" state)")"
		"host b" "$(host_line b secondary "$(json_field "$b" state)")"
		"guest" "$(guest_line)"
		"copies" "$(json_field "$last_a" captured) taken,$(:
			) $(json_field "$b" stored) stored on b; the last stopped$(:
			) the guest for $(ms "$(json_field "$last_a" pause_us)")"
		"sent" "$(mib "$(json_field "$last_a" sent)") for$(:
			) $(mib "$(json_field "$last_a" raw)") of memory written"
	)
	if [ -z "$terminal" ]; then
		printf '          a: %s | b: %s | guest %s\n' "${rows[1]}" \
			"${rows[3]}" "${rows[5]}"
		return
	fi
	wipe_table
	printf '\n'
	printf '          %-8s %s\n' "${rows[@]}"
	table_lines=6
}

# Shows on until LOG has a line that matches.
show_until() {	# seconds, log, pattern
	local end=$((SECONDS + $1))
	until find_log "$2" "$3"; do
		[ $SECONDS -lt $end ] || fail "waited in vain for \"$3\""
		show
		sleep "${terminal:+0}${terminal:-2}"
	done
	show
}

show_for() {	# seconds
	local end=$((SECONDS + $1))
	while [ $SECONDS -lt $end ]; do
		show
		sleep "${terminal:+0}${terminal:-2}"
	done
}

# --- the story -------------------------------------------------------------

story() {
	tell "Two Xen hosts have booted: a (10.9.0.1) and b (10.9.0.2)."
	guest_start a
	tell "A guest runs on a. It fills memory with patterns and checks them."
	colod_start b secondary --fence=true
	wait_log 30 b.colod "listening on"
	colod_start a primary --interval=300 guest 10.9.0.2
	tell "colod primary on a copies the guest to colod secondary on b."
	show_until 240 a.colod "-> protected"
	tell "Protected: b holds a paused twin and gets what the guest writes."
	show_for 15

	local line
	line=$(guest_last a)
	host_kill a
	killed_at=$(now)
	tell "Host a is killed, without a warning (kill -9 of the machine)."
	show_until 60 b.guest "check line="
	first=$found
	first_at=$found_at
	find_log b.colod "-> lost" && lost_at=$found_at
	tell "The guest speaks again, on b."
	wait_until 10 "the guest to answer a ping" guest_answers_ping b
	tell "It answers at the same network address."
	show_for 8
	passes=$(guest_field b passes)
	until guest_passed b $((passes + 1)); do
		show
		sleep 1
	done
	guest_sound b
	said=$(line_field "$line" count)
}

verdict() {
	[ -z "$terminal" ] || table_lines=0
	printf '\nThe host died; %s s later b had noticed, and %s s after its' \
		"$(elapsed "$killed_at" "${lost_at:-$killed_at}")" \
		"$(elapsed "$killed_at" "$first_at")"
	printf ' death the guest ran on,\nfrom count %s (it had last said %s),' \
		"$(line_field "$first" count)" "$said"
	printf ' with %s pages checked since the start and 0 errors.\n' \
		"$(guest_field b verified)"
}

export COLOD_LAB_CACHE=${COLOD_LAB_CACHE:-$top/build/lab-cache}
echo "Making and booting two Xen hosts in software emulation ..."
# shellcheck source=tests/lab/lib.sh
. tests/lab/lib.sh
last_a=""
begin run-demo
story
verdict
