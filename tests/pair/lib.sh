# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What a test of a pair needs: `. lib.sh`, then the words below.
#
# Host a is the primary, host b the secondary: each one process of colod-fake
# with a run directory, a log and a status file of its own in $dir.  Nothing
# waits for a fixed time where it can wait for something to happen; every wait
# has an end, which is far away, and the daemons' own time-outs are $slow times
# as long where a sanitizer makes the programs slow.  Whatever way the test ends, the processes it started are gone,
# by their ids; a test that failed prints the logs and keeps the folder.
#
# COLOD_PAIR_KEEP=1 keeps the folder in any case.

set -u
export LC_ALL=C

# shellcheck disable=SC2034 # variables for the tests

name=$(basename "$0" .test)
colod=${COLOD_FAKE:-${abs_top_builddir:-.}/tests/pair/colod-fake}
sanitized() { ldd "$colod" | grep -qE "lib[at]san"; }

slow=1
! sanitized || slow=3
patience=${COLOD_PAIR_PATIENCE:-$((60 * slow))} # seconds, for what should take none
dir=
port=
peer_port= # where a primary finds the secondary, if not there
declare -A pid=([a]='' [b]='')
declare -a others=() # helpers and orphaned guards

# A busy machine may hold up a process for some hundred milliseconds, which is
# not what these tests are about.
silence() {	# heartbeat in ms, how many are missed: that is a loss
	timing=(--heartbeat="$1" --lost-after=$(($2 * slow)))
}
silence 50 40

say() { echo "$name: $*"; }

fail() {
	echo "$name: FAILED: $*" >&2
	exit 1
}

skip() {
	echo "$name: SKIP: $*"
	exit 77
}

needs() {
	local tool
	for tool; do
		command -v "$tool" >/dev/null || skip "no $tool on this machine"
	done
}

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/../within.sh"

# --- what a host says ------------------------------------------------------

status() {	# host
	"$colod" status --run-dir "$dir/$1" --json 2>>"$dir/$1.status.log"
}

# $found: the first value of this name in its status, or nothing.
find_value() {	# host key
	local json expression="\"$2\": *\"?([^\",}]*)"
	json=$(status "$1")
	found=
	[[ "\"role\"${json##*\"role\"}" =~ $expression ]] &&
		found=${BASH_REMATCH[1]}
	return 0
}

value() {	# host key
	find_value "$1" "$2"
	[ -z "$found" ] || echo "$found"
}

state_is() {	# host state...
	local host=$1
	shift
	find_value "$host" state
	case " $* " in *" $found "*) return 0 ;; esac
	return 1
}

at_least() {	# host key number
	find_value "$1" "$2"
	[ -n "$found" ] && [ "$found" -ge "$3" ]
}

logged() {	# host pattern: in its log
	grep -q -e "$2" "$dir/$1.log"
}

logged_times() {	# host count pattern
	[ "$(grep -c -e "$3" "$dir/$1.log")" -ge "$2" ]
}

# What is said of a thing comes at the same time, so perhaps a moment later.
said() {	# host pattern
	within "$patience" logged "$1" "$2" || fail "host $1 has not said: $2"
}

# --- processes -------------------------------------------------------------

alive() {	# pid: not even a zombie is
	[ -n "$1" ] && kill -0 "$1" 2>/dev/null &&
		grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null
}

gone() { ! alive "$1"; }

guard_of() {	# pid: of a primary
	tr ' ' '\n' <"/proc/$1/task/$1/children" 2>/dev/null | sed -n 1p
}

run_host() {	# host command options and operands
	local host=$1
	shift
	FAKE_STATUS=$dir/status.$host "$colod" "$@" </dev/null \
		>>"$dir/$host.log" 2>&1 3>&- &
	pid[$host]=$!
}

listens_or_ended() {	# how often it has been said that it listens
	logged_times b "$1" 'listening on' || gone "${pid[b]}"
}

# A port below those that the kernel gives to clients, until one is free.
secondary() {	# options
	local count wanted=$port
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		[ -n "$wanted" ] ||
			port=$((15000 + (RANDOM * 32768 + RANDOM) % 17000))
		count=$(grep -c 'listening on' "$dir/b.log")
		run_host b secondary "${cert_b[@]}" --run-dir "$dir/b" \
			--listen "127.0.0.1:$port" "${timing[@]}" "$@"
		until_true listens_or_ended $((count + 1))
		alive "${pid[b]}" && return 0
		logged b 'Address already in use' || break
	done
	fail "the secondary does not start"
}

primary() {	# options
	run_host a primary "${cert_a[@]}" --run-dir "$dir/a" \
		"${timing[@]}" --interval=20 --retry=200 "$@" \
		fake "127.0.0.1:${peer_port:-$port}"
}

drill() {	# host spec
	"$colod" drill --run-dir "$dir/$1" "$2" >>"$dir/$1.drill" ||
		fail "host $1 does not obey: drill $2"
}

# The usual beginning: both, and epochs flow.
pair() {	# options of the primary
	primary "$@"
	protected
}

# The number is that of the last protection until the next one has begun.
protected() {	# number
	until_true state_is a protected
	until_true at_least a number "${1:-3}"
}

# It has to end by itself; its status must be among those given.
ends() {	# host status...
	local host=$1 is=0
	shift
	within "$patience" gone "${pid[$host]}" ||
		fail "host $host does not end"
	wait "${pid[$host]}" || is=$?
	pid[$host]=''
	case " $* " in
	*" $is "*) ;;
	*) fail "host $host ended with status $is, not $*" ;;
	esac
}

stop() {	# host status...: SIGTERM
	kill -TERM "${pid[$1]}"
	ends "$@"
}

# kill -9.  The primary's guard rescues the guest and then ends.
dies() {	# host
	local guard
	guard=$(guard_of "${pid[$1]}")
	[ -z "$guard" ] || others+=("$guard")
	kill -KILL "${pid[$1]}"
	{ wait "${pid[$1]}"; } 2>/dev/null
	pid[$1]=''
	[ -z "$guard" ] || until_true gone "$guard"
}

# A wire between the two, for `echo WORD >&3` (see peer.py).
wire() {	# bytes-a-second when slow
	needs python3
	mkfifo "$dir/wire.in"
	python3 "$(dirname "$0")/peer.py" forward "$port" "$1" \
		<"$dir/wire.in" >"$dir/wire.out" 2>"$dir/wire.log" 3>&- &
	wire_pid=$!
	others+=("$wire_pid")
	exec 3>"$dir/wire.in"
	until_true has_port "$dir/wire.out"
}

# A helper has told where it listens.
has_port() { read -r peer_port <"$1"; } 2>/dev/null

# --- the guest -------------------------------------------------------------

fate() {	# host word, or none
	rm -f "$dir/status.$1"
	[ $# -lt 2 ] || echo "$2" >"$dir/status.$1"
}

results() { cat "$dir/result" 2>/dev/null; }

# The guest's own sum of this moment, and its longest standstill in ms.
pulse() {
	local sum still
	read -r sum still <"$dir/pulse"
	echo "$((10#$sum)) $((10#$still / 1000))"
}

runs_on() {	# sum: of a moment before
	local now
	now=$(pulse)
	[ "${now% *}" -gt "$1" ]
}

# The last takeover: whole, of just the instant that its epoch was captured at,
# and of no epoch older than the one given.
took_over_from() {	# epoch: the last whose acknowledgement was seen
	local line epoch sum captured
	line=$(results | tail -n 1)
	[[ $line =~ ^OK\ sum=([0-9]+) ]] || fail "the guest is '$line'"
	sum=${BASH_REMATCH[1]}
	epoch=$(sed -n 's/.*running from epoch \([0-9]*\),.*/\1/p' \
		"$dir/b.log" | tail -n 1)
	[ "$epoch" -ge "$1" ] ||
		fail "epoch $1 was acknowledged, but $epoch runs"
	captured=$(awk -v n="$epoch" '$1 == n { s = $2 } END { print s }' \
		"$dir/sums")
	[ "$sum" = "$captured" ] ||
		fail "epoch $epoch was $captured, but $sum runs"
	say "runs from epoch $epoch ($1 was seen acknowledged)"
}

# --- many pairs at once ----------------------------------------------------

run_one() {	# program operands
	local log
	log=$(mktemp "$dir/XXXXXX.out")
	if ! "$@" >"$log" 2>&1; then
		echo "${*:2}" >>"$dir/failed"
		{
			echo "=== ${*:2}"
			cat "$log"
		} >&2
	fi
}

# Runs PROGRAM once for each line of operands on standard input.  They mostly
# wait, so there may be more of them than processors; under a sanitizer they
# work, and would make each other late.
many() {	# program
	local words running=0 jobs=14
	! sanitized || jobs=5
	while read -r words; do
		if [ $running -ge "${COLOD_PAIR_JOBS:-$jobs}" ]; then
			wait -n
			running=$((running - 1))
		fi
		# shellcheck disable=SC2086 # several words
		run_one "$1" $words </dev/null &
		running=$((running + 1))
	done
	wait
	[ ! -e "$dir/failed" ] ||
		fail "these: $(paste -sd, "$dir/failed")"
}

# --- beginning and end -----------------------------------------------------

# An invariant or a sanitizer that spoke up, in whichever process.
complaints() {
	{
		grep -E 'broken invariant|runtime error:|Sanitizer' "$dir"/*.log
		results | grep BAD
	} | grep .
}

show_logs() {
	local f
	for f in "$dir"/*.log "$dir"/result; do
		[ ! -s "$f" ] || {
			echo "--- $f"
			tail -n 150 "$f"
		}
	done >&2
}

pair_end() {
	local status=$? p
	trap - EXIT HUP INT TERM
	for p in "${pid[@]}"; do
		[ -z "$p" ] || others+=("$(guard_of "$p")" "$p")
	done
	disown -a
	for p in "${others[@]}"; do
		! alive "$p" || kill -KILL "$p"
	done
	for p in "${others[@]}"; do
		within 30 gone "$p"
	done
	if [ $status = 0 ] && complaints; then
		status=1
	fi
	[ $status = 0 ] || [ $status = 77 ] || show_logs
	if [ -z "${COLOD_PAIR_KEEP:-}" ] &&
		{ [ $status = 0 ] || [ $status = 77 ]; }; then
		rm -rf "$dir"
	else
		echo "$name: see $dir" >&2
	fi
	exit $status
}

[ -x "$colod" ] || skip "there is no $colod: make check builds it"
dir=$(mktemp -d "${TMPDIR:-/tmp}/pair.XXXXXX") || exit 1
trap pair_end EXIT
trap 'echo "$name: interrupted" >&2; exit 1' HUP INT TERM
mkdir "$dir/a" "$dir/b"
touch "$dir/a.log" "$dir/b.log" "$dir/sums"
export FAKE_RESULT=$dir/result FAKE_SUMS=$dir/sums FAKE_PULSE=$dir/pulse
export FAKE_RESCUED=$dir/rescued
certs=$dir/certs
"$colod" certs "$certs" a=127.0.0.1 b=127.0.0.1 >/dev/null ||
	fail "no certificates"
ca=(--ca "$certs/ca.crt")
cert_a=("${ca[@]}" --cert "$certs/a.crt" --key "$certs/a.key")
cert_b=("${ca[@]}" --cert "$certs/b.crt" --key "$certs/b.key")
