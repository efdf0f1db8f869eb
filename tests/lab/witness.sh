#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a scenario asks the guest's witnesses, besides guest-check (lib.sh), and
# the devices.  Sourced by lib.sh.
#
#	order_*		guest-order, with order=1 in $guest_words
#	net_*		numbered, with net=1 and net_start on a host
#	beacon_*	beacon, with beacon=US and beacon_watch on a host
#	client_*	clients, in labs with servers
#	frontends, kernel_count
#			how the guest's drivers came over a suspend
#
# shellcheck disable=SC2154 # variables of lib.sh

order_last() { grep ' order line=' "$lab_dir/log/$1.guest" | tail -n 1; }
order_field() { line_field "$(order_last "$1")" "$2"; }

# Nothing is wrong with what the witness saw; it may have seen content that the
# guest did not write, `ahead' or `blank', only where named.
order_sound() {	# host [ahead] [blank]
	local line name
	line=$(order_last "$1")
	! grep -q 'order ERROR' "$lab_dir/log/$1.guest" ||
		fail "$(grep -m 1 'order ERROR' "$lab_dir/log/$1.guest")"
	for name in stale torn lost failed ahead blank; do
		case " $* " in
		*" $name "*) continue ;;
		esac
		[ "$(line_field "$line" $name)" = 0 ] || fail "requests: $line"
	done
}

# Two sweeps of all blocks follow, and nothing is wrong.
order_goes_on() {	# host [ahead] [blank]
	local sweeps
	sweeps=$(order_field "$1" sweeps)
	wait_until 120 "the guest on $1 to read all of its disk twice" \
		order_swept "$1" $((${sweeps:-0} + 2))
	order_sound "$@"
}

order_swept() {
	local sweeps
	sweeps=$(order_field "$1" sweeps)
	[ "${sweeps:-0}" -ge "$2" ]
}

# Numbered datagrams to the guest, twenty a second, from this host.
net_start() {	# host
	on "$1" "numbered send 10.9.0.10 7000 50 </dev/null >/run/lab.net.log \
		2>&1 & echo \$! >/run/lab.net.pid" >/dev/null
}

net_last() { grep ' net line=' "$lab_dir/log/$1.guest" | tail -n 1; }
net_field() { line_field "$(net_last "$1")" "$2"; }

# Datagrams arrive, none of them from the past.
net_goes_on() {	# host
	local seen
	seen=$(net_field "$1" seen)
	wait_until 60 "datagrams to reach the guest on $1" \
		net_reached "$1" $((${seen:-0} + 5))
	[ "$(net_field "$1" late)" = 0 ] ||
		fail "datagrams out of the past: $(net_last "$1")"
}

net_reached() {
	local seen
	seen=$(net_field "$1" seen)
	[ "${seen:-0}" -ge "$2" ]
}

# Watches for the guest's beacon what a host's bridge passes up, which is all that
# is to everybody, whether it came by the wire or from a guest there.
beacon_watch() {	# host
	on "$1" "[ ! -e /run/lab.beacon.pid ] || kill \$(cat /run/lab.beacon.pid)
		beacon watch br0 </dev/null >/run/lab.beacon.log 2>&1 &
		echo \$! >/run/lab.beacon.pid" >/dev/null
}

beacon_last() { on "$1" "grep 'beacon seen' /run/lab.beacon.log | tail -n 1"; }

# The highest count that was seen of all kinds, or, with `most', of any.
beacon_count() {	# host [most]
	beacon_last "$1" | awk -v most="${2:-}" -F '[ =]' '{
		n = $4
		for (i = 6; i <= NF; i += 2)
			if (most ? $i > n : $i < n)
				n = $i
		print n + 0 }'
}

beacon_reached() {	# host, count
	local count
	count=$(beacon_count "$1")
	[ "${count:-0}" -ge "$2" ]
}

beacon_goes_on() {	# host, how many more counts
	local from
	from=$(beacon_count "$1" most)
	wait_until 60 "$2 counts more of the beacon on $1" \
		beacon_reached "$1" $((${from:-0} + $2))
}

# What was seen first to go back, of all kinds or of that one.
beacon_back() {	# host [kind]
	on "$1" "grep -m 1 'beacon BACK.*kind=${2:-}' /run/lab.beacon.log"
}

# Starts a client (clients.c) on a host; its log stays there.
client_start() {	# host, redis or udp, name, address, port
	on "$1" "clients $2 $3 $4 $5 </dev/null >/run/lab.client.$3.log 2>&1 &
		echo \$! >/run/lab.client.$3.pid" >/dev/null
}

client_last() {	# host, name
	on "$1" "grep sent= /run/lab.client.$2.log | tail -n 1"
}
client_field() { line_field "$(client_last "$1" "$2")" "$3"; }

# It lives, and nothing that it saw is wrong.
client_sound() {	# host, name
	on "$1" "! grep ERROR /run/lab.client.$2.log &&
		kill -0 \$(cat /run/lab.client.$2.pid)" >"$lab_dir/client" 2>&1 ||
		fail "client $2: $(cat "$lab_dir/client")"
}

client_counted() {	# host, name, field, number
	local number
	client_sound "$1" "$2"
	number=$(client_field "$1" "$2" "$3")
	[ "${number:-0}" -ge "$4" ]
}

# So many numbers more are confirmed to it.
client_goes_on() {	# host, name, how many
	local from
	from=$(client_field "$1" "$2" confirmed)
	wait_until 120 "$3 more confirmations to the client $2" \
		client_counted "$1" "$2" confirmed $((${from:-0} + $3))
}

# Asks by a second connection whether the server has what was confirmed.
client_asks() {	# host, name
	local asked
	asked=$(client_field "$1" "$2" asked)
	on "$1" "kill -USR1 \$(cat /run/lab.client.$2.pid)" ||
		fail "the client $2 has ended"
	wait_until 120 "an answer to the client $2" \
		client_counted "$1" "$2" asked $((${asked:-0} + 1))
}

# The rings and event channels of all PV devices of the guest, a line each.
frontends() {	# host
	on "$1" "xenstore-ls -f /local/domain/\$(xl domid guest)/device" |
		grep -E '/(vbd|vif)/.*(ring-ref|event-channel)' | sort
}

# How often the guest's kernel passed a function of guest-init's list.
kernel_count() {	# host, function
	guest_run "$1" "cat /sys/kernel/tracing/kprobe_profile" ||
		fail "the guest does not answer: ${ran:-nothing}"
	awk -v f="$2" '$1 == f { print $2 }' <<<"$ran"
}

# --- epochs ----------------------------------------------------------------

# Waits until so many epochs more than now have been acknowledged.
more_epochs() {	# host, count [, seconds]
	local end=$(($(status "$1" acknowledged) + $2))
	wait_until "${3:-240}" "$2 more epochs" acknowledged "$1" "$end"
}

acknowledged() {
	local count
	count=$(status "$1" acknowledged)
	[ "${count:-0}" -ge "$2" ]
}

# The medians of an epoch log in domain 0, of all that were captured, in
# milliseconds: "suspend 21.0, ..."
phases() {	# host, file
	on "$1" "cat $2" | awk '
		/"paused_us": *[1-9]/ {
			epochs++
			sub(/"time_us": *[0-9]+/, "")
			while (match($0, /"[a-z]+_us": *[0-9]+/)) {
				split(substr($0, RSTART, RLENGTH), part, /": */)
				name = substr(part[1], 2)
				if (!(name in seen))
					order[++names] = name
				value[name, ++seen[name]] = part[2]
				$0 = substr($0, RSTART + RLENGTH)
			}
		}
		function median(name, n, i, j, t) {
			n = seen[name]
			for (i = 1; i <= n; i++)
				v[i] = value[name, i] + 0
			for (i = 2; i <= n; i++)
				for (j = i; j > 1 && v[j - 1] > v[j]; j--) {
					t = v[j]
					v[j] = v[j - 1]
					v[j - 1] = t
				}
			return v[int((n + 1) / 2)] / 1000
		}
		END {
			for (i = 1; i <= names; i++)
				if (median(order[i]) > 0)
					printf "%s %.1f, ",
						substr(order[i], 1,
							length(order[i]) - 3),
						median(order[i])
			printf "ms in the median of %d epochs\n", epochs
		}'
}
