#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make bench-output`: what it costs that the world sees nothing that the standby does
# not have.  Pairs of colod on this machine with an embedded guest, each figure with
# and without in one run:
#
#	requests	one after the other, each at any time of an epoch: how long to the
#			answer, at intervals of 20, 50 and 100 ms
#	payments	as many as can be, eight connections with 64 open each
#	disk		writes to a disk served by nbdkit alone, by `colod disk', and by
#			that while it is replicated
#
#	COLOD_BENCH_REQUESTS	of each kind (300)
#
# Writes bench-output.json into the working folder, and a table for README.
tests=$(cd "$(dirname "$0")/../tests/pair" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/pair/embedded.sh
. "$tests/embedded.sh"

needs nbdkit python3
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd here"
count=${COLOD_BENCH_REQUESTS:-300}
clients=${abs_top_builddir:-.}/tests/account/account-clients
out=$PWD/bench-output.json
disk_mib=512
declare -a rows=()

member() {	# json, key
	python3 -c 'import json, sys
print(json.loads(sys.argv[1])[sys.argv[2]])' "$1" "$2"
}

# A guest with its pair, until `unpair'.
pair_up() {	# options of the primary
	free_ledger_port
	guest=ledger,mem=64M,port=$ledger_port
	secondary --fence=true "${secondary_disk[@]}"
	primary --resume=fast "${primary_disk[@]}" "$@"
	protected 3
	until_true serves
}
secondary_disk=() primary_disk=()

# The guest runs on, and nothing of it is held.
unprotect() {
	"$colod" stop --run-dir "$dir/a" "$(guest_name)" >>"$dir/a.log" 2>&1
	ends a 0
}

unpair() {
	kill -KILL "$(guest_value a pid)"
	stop b 0
	until_true no_guest a
}

# The median time from an epoch's beginning to its acknowledgement.
commit_us() {
	sed -n 's/.*"end": *"acknowledged".*"commit_us": *\([0-9]*\).*/\1/p' \
		"$dir/epochs" | sort -n |
		awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

ask_often() {	# interval
	python3 "$here/output.py" requests "$ledger_port" "$count" "$1" ||
		fail "no figures at $1 ms"
}

requests() {	# interval
	local with without commit
	rm -f "$dir/epochs"
	pair_up --interval="$1" --epoch-log="$dir/epochs"
	with=$(ask_often "$1") || exit
	commit=$(commit_us)
	[ -n "$commit" ] || fail "no epoch was acknowledged"
	unprotect
	without=$(ask_often "$1") || exit
	unpair
	rows+=("{\"what\":\"requests\",\"interval_ms\":$1,\"commit_us\":$commit,\"with\":$with,\"without\":$without}")
	awk -v i="$1" -v c="$commit" -v m="$(member "$with" median_us)" \
		-v p="$(member "$with" p99_us)" \
		-v n="$(member "$without" median_us)" 'BEGIN {
			printf "| a request at %d ms: median, 99 %% | %.1f, %.1f ms | %.1f ms | half an interval and a commit: %.1f ms |\n",
				i, m / 1000, p / 1000, n / 1000, i / 2 + c / 1000 }'
}

paid() {	# first client: how many in five seconds
	local verdict
	verdict=$("$clients" --clients=8 --first-client="$1" --pipeline=64 --for=5 --json \
		--drain=60000 "127.0.0.1:$ledger_port" 2>>"$dir/clients.log") ||
		fail "the clients say: $verdict"
	member "$verdict" acknowledged
}

payments() {	# interval
	local with without
	pair_up --interval="$1"
	with=$(paid 1) || exit
	unprotect
	without=$(paid 9) || exit
	unpair
	rows+=("{\"what\":\"payments\",\"interval_ms\":$1,\"with\":$with,\"without\":$without}")
	echo "| payments a second at $1 ms, 512 open | $((with / 5)) | $((without / 5)) | |"
}

# --- a disk -----------------------------------------------------------------

measure_disk() {	# socket
	/usr/bin/python3 "$here/output.py" disk "$1" $((disk_mib * 512 * 1024)) \
		$((disk_mib * 512 * 1024 - 65536)) || fail "no figures of $1"
}

serve() {	# host
	"$colod" disk serve root --no-device --run-dir "$dir/$1" \
		--disk-dir "$dir/$1.disks" </dev/null >>"$dir/$1.log" 2>&1 3>&- &
	others+=("$!")
	disown
	until_true logged "$1" 'disk root: served at'
	others+=("$(sed -n 's/.*disk root: served .*, by process //p' \
		"$dir/$1.log" | tail -n 1)")
}

make_disk() {	# host
	mkdir "$dir/$1.disks"
	truncate -s ${disk_mib}M "$dir/$1.storage"
	"$colod" disk create root "$dir/$1.storage" \
		--disk-dir "$dir/$1.disks" --run-dir "$dir/$1" ||
		fail "there is no disk on host $1"
	serve "$1"
}

socket_of() { sed -n 's/.*disk root: served at \([^,]*\).*/\1/p' "$dir/$1.log" | tail -n 1; }

disk_row() {	# what, key, divisor, unit, three results
	local what=$1 key=$2 by=$3 unit=$4
	awk -v w="$what" -v u="$unit" -v d="$by" -v a="$(member "$5" "$key")" \
		-v b="$(member "$6" "$key")" -v c="$(member "$7" "$key")" \
		'BEGIN { printf "| %s | %.1f %s | %.1f %s | nbdkit alone: %.1f %s |\n",
			w, c / d, u, b / d, u, a / d, u }'
}

disks() {
	local plain marked replicated plain_pid
	truncate -s ${disk_mib}M "$dir/plain.storage"
	nbdkit -f -U "$dir/plain.sock" file "$dir/plain.storage" \
		</dev/null >>"$dir/plain.log" 2>&1 3>&- &
	plain_pid=$!
	others+=("$plain_pid")
	until_true test -S "$dir/plain.sock"
	plain=$(measure_disk "$dir/plain.sock") || exit
	kill "$plain_pid"
	make_disk a
	make_disk b
	marked=$(measure_disk "$(socket_of a)") || exit
	free_ledger_port
	guest=ledger,mem=64M,port=$ledger_port,disk=root
	secondary --fence=true --disk-dir "$dir/b.disks"
	primary --resume=fast --interval=50 --disk-dir "$dir/a.disks"
	protected 3
	replicated=$(measure_disk "$(socket_of a)") || exit
	state_is a protected || fail "it is not protected any more"
	rows+=("{\"what\":\"disk\",\"nbdkit\":$plain,\"without\":$marked,\"with\":$replicated}")
	disk_row "disk, 64 KiB writes in order" sequential_bytes_s 1048576 MiB/s \
		"$plain" "$marked" "$replicated"
	disk_row "disk, 4 KiB writes at random" random_bytes_s 1048576 MiB/s \
		"$plain" "$marked" "$replicated"
	disk_row "disk, a 4 KiB write and a flush" write_and_flush_us 1000 ms \
		"$plain" "$marked" "$replicated"
}

echo "| | with | without | |"
echo "|---|---|---|---|"
for interval in 20 50 100; do
	requests $interval
done
for interval in 20 100; do
	payments $interval
done
disks
(
	IFS=,
	echo "[${rows[*]}]"
) >"$out"
