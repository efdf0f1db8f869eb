#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make bench-stream`: how fast a guest sends a stream to another machine by TCP:
# unprotected, protected, and protected without its output being held.
#
#	COLOD_BENCH_INTERVALS	milliseconds (100 300)
#	COLOD_BENCH_MIB		to send each time (2)
#
# Prints a table for README.  Times are those of emulated hosts: only what they are to
# each other means anything.
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
COLOD_LAB_TIMEOUT=${COLOD_LAB_TIMEOUT:-3600}
. "$(dirname "$0")/../lab/lib.sh"
begin bench-stream

intervals=${COLOD_BENCH_INTERVALS:-100 300}
mib=${COLOD_BENCH_MIB:-2}
secondary_options=--fence=true
guest_seconds=200

# $rate: MiB a second from the guest to b's dom0, the better one of two times.
stream() {
	local begun now
	rate=0
	for _ in 1 2; do
		# With an input that ends it would not wait for the stream's end.
		on b "sleep $guest_seconds | nc -l -p 9000 >/dev/null &
			echo \$! >/run/lab.nc.pid" >/dev/null
		begun=$(now)
		guest_run a "head -c ${mib}m /dev/zero | nc 10.9.0.2 9000" ||
			fail "no stream: ${ran:-nothing}"
		on b "while kill -0 \$(cat /run/lab.nc.pid) 2>/dev/null; do
			usleep 20000
		done"
		now=$(elapsed "$begun")
		rate=$(awk -v b="$rate" -v s="$now" -v m="$mib" \
			'BEGIN { r = m / s; printf "%.2f", (r > b ? r : b) }')
	done
}

protected_stream() {	# interval, options
	primary_options="--interval=$1 --resume=fast ${2:-}"
	mark a.colod
	mark b.colod
	protect
	more_epochs a 5
	stream
	on a "colod stop guest" >/dev/null || fail "colod stop failed"
	colod_ended a primary 0
	colod_signal b secondary 15
}

guest_start a
stream
alone=$rate
echo "| interval | held | not held | unprotected |"
echo "|---|---|---|---|"
for interval in $intervals; do
	protected_stream "$interval"
	held=$rate
	protected_stream "$interval" --no-net-gate
	echo "| $interval ms | $held MiB/s | $rate MiB/s | $alone MiB/s |"
done
