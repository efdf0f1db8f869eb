#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make bench-xen`: the same guest with the same load under `xl remus' and under colod,
# one after the other in one lab.  For each interval and each of the ways it is
# protected, watched for a while, and loses its host.
#
#	COLOD_BENCH_INTERVALS	milliseconds (200 50 20)
#	COLOD_BENCH_WAYS	remus, fast, slow: `xl remus', colod by either resume
#	COLOD_BENCH_SECONDS	to watch each (30)
#	COLOD_BENCH_PAGES	that the guest rewrites a second (1000)
#
# Writes bench-xen.json into the working folder, and the same as a table for README.
# Times are those of emulated hosts: only what they are to each other means anything.
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
COLOD_LAB_TIMEOUT=${COLOD_LAB_TIMEOUT:-7200}
COLOD_LAB_TURN=${COLOD_LAB_TURN:-8000}
. "$(dirname "$0")/../lab/lib.sh"
begin bench-xen

intervals=${COLOD_BENCH_INTERVALS:-200 50 20}
ways=${COLOD_BENCH_WAYS:-remus fast slow}
seconds=${COLOD_BENCH_SECONDS:-30}
check_rate=${COLOD_BENCH_PAGES:-1000}
never=60 # seconds, and then it is said not to come
out=$PWD/bench-xen.json
relay_port=7000

# --- what is read -----------------------------------------------------------

wire_bytes() { on a "cat /sys/class/net/eth0/statistics/tx_bytes"; }
dom0_seconds() { on "$1" "xl list" | awk '$1 == "Domain-0" { print $NF }'; }
suspends() { guest_field a suspends; }

# Median, 99th percentile and maximum of lines of microseconds, in ms.
quantiles() {
	sort -n | awk '{ v[NR] = $1 / 1000 }
		function rank(p,   n) {
			n = int((NR * p + 99) / 100)
			return v[n ? n : 1]
		}
		END {
			if (NR)
				printf "{\"median\":%.1f,\"p99\":%.1f,\"worst\":%.1f}",
					rank(50), rank(99), v[NR]
			else
				printf "null"
		}'
}

# How long it stood still, of one suspend in each line of the guest's: its own
# getting ready and waking up are not in it.
stops() {	# from, to
	awk -v from="$1" -v to="$2" '
		/ check line=/ && $1 >= from && $1 <= to {
			sub(/.*stopped_us=/, "")
			print $1
		}' "$lab_dir/log/a.guest"
}

# --- the ways ---------------------------------------------------------------

checkpoints_flow() { [ "$(suspends)" -ge $(($1 + 5)) ]; }

remus_begin() {	# interval
	local before
	on b "setsid relay listen $relay_port xl migrate-receive -r \
		</dev/null >/run/remus.log 2>&1 & echo \$! >/run/lab.relay.pid"
	before=$(suspends)
	on a "setsid xl remus -Fnd -i $1 -s '' guest \
		'relay connect 10.9.0.2 $relay_port' \
		</dev/null >/run/remus.log 2>&1 &"
	wait_until 300 "checkpoints of xl remus: $(on a 'tail -n 2 /run/remus.log')" \
		checkpoints_flow "$before"
}

colod_begin() {	# interval, resume
	secondary_options=--fence=true
	primary_options="--interval=$1 --resume=$2"
	protect
	guest_listen b guest--standby
	wait_until 60 "checkpoints" checkpoints_flow "$(suspends)"
}

# Milliseconds from the kill until the guest says something on b, or "null".
takeover_ms() {
	local killed_at=$1
	within $never find_log b.guest "check line=" || {
		echo null
		return
	}
	awk -v a="$killed_at" -v b="$found_at" 'BEGIN { printf "%.0f", (b - a) * 1000 }'
}

# Colod's own word for it, without the detection and the guest's first line.
activated_ms() {	# way, killed at
	if [ "$1" = remus ] || ! within 30 find_log b.colod "runs here as domain"; then
		echo null
		return
	fi
	shift
	awk -v a="$1" -v b="$found_at" -v loss="$loss_ms" \
		'BEGIN { printf "%.0f", (b - a) * 1000 - loss }'
}

measure() {	# way, interval
	local from to bytes count cpu_a cpu_b killed_at json stop pause dirty
	cpu_a=$(dom0_seconds a) cpu_b=$(dom0_seconds b)
	bytes=$(wire_bytes) count=$(suspends) from=$(now)
	sleep "$seconds"
	to=$(now)
	bytes=$(($(wire_bytes) - bytes)) count=$(($(suspends) - count))
	cpu_a=$(elapsed "$cpu_a" "$(dom0_seconds a)")
	cpu_b=$(elapsed "$cpu_b" "$(dom0_seconds b)")
	# Each suspend is a pause, and longer than what else the guest waits for.
	pause=$(guest_pauses a "$from" "$to" | sort -rn | head -n "$count" |
		quantiles)
	stop=$(stops "$from" "$to" | quantiles)
	dirty=null
	[ "$1" = remus ] || dirty=$(status a dirty_pages)
	guest_sound a
	mark b.guest
	mark b.colod
	killed_at=$(now)
	host_kill a
	json="{\"way\":\"$1\",\"interval_ms\":$2,\"seconds\":$(elapsed "$from" "$to")"
	json+=",\"checkpoints\":$count,\"pause_ms\":$pause,\"stopped_ms\":$stop"
	json+=",\"wire_bytes\":$bytes,\"dirty_pages\":$dirty"
	json+=",\"dom0_cpu_s\":{\"a\":$cpu_a,\"b\":$cpu_b}"
	json+=",\"runs_again_ms\":$(takeover_ms "$killed_at")"
	json+=",\"activated_ms\":$(activated_ms "$1" "$killed_at"),\"waited_s\":$never}"
	runs+=("$json")
	say "$json"
}

# --- the table --------------------------------------------------------------

table() {
	python3 - "$out" <<-'END'
		import json, sys
		bench = json.load(open(sys.argv[1]))
		runs = bench["runs"]
		print("| interval, ms | | checkpoints a second | pause the guest saw, ms: "
		      "median, 99 %, worst | stood still, ms: median | KiB a second on the "
		      "wire | KiB a checkpoint | CPU of domain 0, a + b | host lost: runs "
		      "after, says so after, ms |")
		print("|---|---|---|---|---|---|---|---|---|")
		def three(q):
		    return "%(median).0f %(p99).0f %(worst).0f" % q if q else "-"
		def again(r):
		    if not r["runs_again_ms"]:
		        return "never (waited %d s)" % r["waited_s"]
		    if r["activated_ms"] is None:
		        return "?, %d" % r["runs_again_ms"]
		    return "%d, %d" % (r["activated_ms"] + bench["loss_ms"],
		                       r["runs_again_ms"])
		for r in runs:
		    s = r["seconds"]
		    print("| %d | %s | %.1f | %s | %s | %.0f | %.0f | %.0f + %.0f %% | %s |" % (
		        r["interval_ms"],
		        {"remus": "`xl remus`"}.get(r["way"], "colod, " + r["way"]),
		        r["checkpoints"] / s, three(r["pause_ms"]),
		        "%.1f" % r["stopped_ms"]["median"] if r["stopped_ms"] else "-",
		        r["wire_bytes"] / s / 1024,
		        r["wire_bytes"] / max(r["checkpoints"], 1) / 1024,
		        100 * r["dom0_cpu_s"]["a"] / s, 100 * r["dom0_cpu_s"]["b"] / s,
		        again(r)))
	END
}

runs=()
for interval in $intervals; do
	for way in $ways; do
		mark a.guest
		mark a.colod
		mark b.colod
		[ "$way" != remus ] || {
			carry a "$cache/bin/relay" relay
			carry b "$cache/bin/relay" relay
		}
		guest_start a
		if [ "$way" = remus ]; then
			remus_begin "$interval"
		else
			colod_begin "$interval" "$way"
		fi
		measure "$way" "$interval"
		hosts_clean
		host_on a
		host_wait a || fail "host a did not boot again"
	done
done
{
	printf '{"seconds":%d,"pages_a_second":%d,"memory_mib":%d,"loss_ms":%d,"runs":[' \
		"$seconds" "$check_rate" "$guest_memory" "$loss_ms"
	(IFS=, && echo "${runs[*]}]}")
} >"$out"
table
