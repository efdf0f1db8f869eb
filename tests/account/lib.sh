# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the account test needs: two hosts that die and come back, a ledger that
# runs on one of them, and clients that keep what it has promised.
#
# A host, a or b, is a process group with a run directory of its own; its first
# process starts the others, and killing the host is killing the group.  The
# ledger's port belongs to whichever host it runs on.
#
# With COLOD_ACCOUNT_DISK_MIB the ledger has a second copy of its chain on a
# replicated disk of that size (26,214 payments a MiB): each host has a storage of
# its own, and serves it from its first moment on.
#
# `run` is the host that the guest runs on as far as is known, `other` the one
# that holds the standby.  rounds.sh does harm and lets recover() find out what
# became of it.
#
# Every wait has an end, and what ends it is never the slowness of the machine
# alone: $slow says how much more time a program under a sanitizer is given.  A
# test that failed keeps its folder, names it, and prints the end of its logs.

set -u
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=$(basename "$0" | sed 's/\.[a-z]*$//')
colod=${COLOD:-${abs_top_builddir:-.}/colod}
account_clients=${ACCOUNT_CLIENTS:-${abs_top_builddir:-.}/tests/account/account-clients}
slow=1
! ldd "$colod" 2>/dev/null | grep -qE 'lib[at]san' || slow=4
patience=${COLOD_ACCOUNT_PATIENCE:-$((120 * slow))} # seconds, for what takes one
keep=${COLOD_ACCOUNT_KEEP:-}
# A host that is silent for so long is dead.  Where a busy machine makes one
# late, that is one more takeover and no failure; but before the first
# protection, or on top of what the test does, it would be one.
timing=(--heartbeat=20 --lost-after="${COLOD_ACCOUNT_LOST_AFTER:-$((25 * slow))}")
# A frame that a drill drops is missed by time alone.  It is also all that a
# secondary has for building the first standby: a new process, and the proof of
# its tracker.  A primary whose first image is late ends for good.
ack_timeout=${COLOD_ACCOUNT_ACK_TIMEOUT:-$((3000 * slow))}
interval=${COLOD_ACCOUNT_INTERVAL:-20}
guest_options=mem=32M # further KEY=VALUE of the guest
disk_mib=${COLOD_ACCOUNT_DISK_MIB:-0} # 0: no disk
run=a
other=b
clients_pid=
declare -A fault=([a]='' [b]='') # COLOD_FAULT for the next colod there
declare -A colod_pid=([a]='' [b]='')
declare -A serve_pid=([a]='' [b]='') # who serves the disk
starts=0
declare -A init=([a]='' [b]='')	 # the first process of a host
declare -A init_fd=([a]='' [b]='')

say() { echo "$name: $*"; }

fail() {
	echo "$name: FAILED: $*" >&2
	exit 1
}

skip() {
	echo "$name: SKIP: $*"
	exit 77
}

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/../within.sh"

# --- hosts -----------------------------------------------------------------

lives() {	# pid
	local stat
	[ -n "$1" ] && read -r stat 2>/dev/null <"/proc/$1/stat" &&
		[[ ${stat##*) } != Z* ]]
}

gone() { ! lives "$1"; }

# In whichever group: a guard has one of its own.  One process looks at all; one
# for each of them took half a minute on a busy machine.
pids_of() {	# folder: all processes that name it
	local f
	# shellcheck disable=SC2013,SC2062 # numbers, and files
	for f in $(grep -lsaF -f - /proc/[0-9]*/cmdline <<<"$1"); do
		f=${f#/proc/}
		! lives "${f%/cmdline}" || echo "${f%/cmdline}"
	done
}

none_of() { [ -z "$(pids_of "$dir/$1/")" ]; }
none_left() { [ -z "$(pids_of "$dir/")" ]; }

host_on() {	# host
	local fd
	rm -f "$dir/$1.dead" "$dir/$1.console"
	mkfifo "$dir/$1.console"
	: >>"$dir/$1.log" # not only once its shell has got that far
	# shellcheck disable=SC2016 # for the host's own shell
	setsid bash -c 'while IFS= read -r line; do eval "$line"; done' host \
		<"$dir/$1.console" >>"$dir/$1.log" 2>&1 &
	init[$1]=$!
	disown # or the shell tells that it was killed
	echo "${init[$1]}" >"$dir/$1.group"
	# For both, so that to write to a dead host is no error.
	exec {fd}<>"$dir/$1.console"
	init_fd[$1]=$fd
	serve_disk "$1"
}

host_lives() { [ ! -e "$dir/$1.dead" ] && lives "${init[$1]}"; }

# Runs nothing any more; what came after a kill -9 by a fence is cleared away.
host_off() {	# host
	local fd
	: >"$dir/$1.dead"
	[ -z "${init[$1]}" ] ||
		kill -KILL -- "-${init[$1]}" 2>/dev/null
	[ -z "${init[$1]}" ] || until_true gone "${init[$1]}"
	init[$1]=''
	kill_nbdkit "$1"
	fd=${init_fd[$1]}
	[ -z "$fd" ] || exec {fd}>&-
	init_fd[$1]=''
	# The guard of a primary finds its guest gone, and ends.
	within "$patience" none_of "$1" || fail "processes of host $1 were left"
}

signal_host() {	# signal host
	kill "-$1" -- "-${init[$2]}" 2>/dev/null
}

# A colod runs in the background of the host's shell, which notes its pid and
# how it ended.
launch() {	# host words: $launched is its pid
	local note=$dir/$1.pid.$((starts += 1))
	printf '%s\n' "(echo '=== $2'; $2 </dev/null & \
echo \$! >$note.new; mv $note.new $note; \
wait \$!; echo \$? >>$dir/$1.ends) 2>&1 &" >&"${init_fd[$1]}"
	until_true started "$1" "$note"
	launched=$(cat "$note" 2>/dev/null)
}

start() {	# host role words...
	local host=$1 role=$2 words
	shift 2
	printf -v words '%q ' "$colod" "$role" --run-dir "$dir/$host/run" \
		--disk-dir "$dir/$host/disks" --ca "$certs/ca.crt" --cert "$certs/$host.crt" \
		--key "$certs/$host.key" "${timing[@]}" \
		--fence "exec 2>&1; bash $here/fence.sh $dir/$host/ $(peer "$host")" \
		"$@"
	# A ledger writes too little for that to be sent ahead by itself.
	[ "$role" = secondary ] || [ $((RANDOM % 2)) = 0 ] ||
		fault[$host]+=${fault[$host]:+,}ahead:error:1+
	[ -z "${fault[$host]}" ] ||
		words="COLOD_FAULT=${fault[$host]} $words"
	fault[$host]=''
	colod_pid[$host]=''
	launch "$host" "$words"
	colod_pid[$host]=$launched
}

started() { [ -e "$2" ] || ! host_lives "$1"; } # host note

colod_lives() { lives "${colod_pid[$1]}"; }
peer() { [ "$1" = a ] && echo b || echo a; }

# What has become of a secondary that was started: it listens, or a fault has
# kept it from that.
has_begun() {	# host times
	[ "$(grep -c 'listening on\|fault: [a-z]* at' "$dir/$1.log")" -gt "$2" ] ||
		! colod_lives "$1"
}

secondary() {	# host
	local times
	times=$(grep -c 'listening on\|fault: [a-z]* at' "$dir/$1.log")
	start "$1" secondary --listen "127.0.0.1:${link_port[$1]}"
	# A primary that finds nobody there ends.
	until_true has_begun "$1" "$times"
}

primary() {	# host
	local disk=''
	[ "$disk_mib" = 0 ] || disk=,disk=ledger
	# Reconnecting at every checkpoint is not what clients are promised.
	start "$1" primary --interval="$interval" --retry=100 \
		--ack-timeout="$ack_timeout" --resume=fast \
		"embedded:ledger,port=$ledger_port,$guest_options$disk" \
		"127.0.0.1:${link_port[$(peer "$1")]}"
}

stop_colod() {	# host: in order; the guest runs on
	local pid
	pid=${colod_pid[$1]}
	[ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null
	within "$patience" gone "$pid" || fail "colod on host $1 does not end"
}

status_of() {	# host
	colod_lives "$1" && timeout 10 "$colod" status --json \
		--run-dir "$dir/$1/run" 2>/dev/null
}

state_of() {	# host: role-state
	status_of "$1" | sed -n \
		's/.*"role":"\([a-z]*\)".*"state":"\([a-z]*\)".*/\1-\2/p'
}

# --- the disk --------------------------------------------------------------

disk() {	# host verb words...
	local host=$1
	shift
	timeout 20 "$colod" disk "$@" --disk-dir "$dir/$host/disks" \
		--run-dir "$dir/$host/run"
}

make_disk() {	# host
	mkdir -p "$dir/$1/run" "$dir/$1/disks"
	[ "$disk_mib" = 0 ] || [ -e "$dir/$1/storage" ] || {
		truncate -s "${disk_mib}M" "$dir/$1/storage" &&
			disk "$1" create ledger "$dir/$1/storage"
	} || fail "there is no disk on host $1"
}

times_served() { grep -c '^[^=]*disk ledger: served at' "$dir/$1.log"; }

served_or_ended() {	# host times
	[ "$(times_served "$1")" -gt "$2" ] || ! lives "${serve_pid[$1]}"
}

serve_disk() {	# host
	local words times
	make_disk "$1"
	[ "$disk_mib" != 0 ] || return 0
	times=$(times_served "$1")
	printf -v words '%q ' "$colod" disk serve ledger --no-device \
		--disk-dir "$dir/$1/disks" --run-dir "$dir/$1/run"
	launch "$1" "$words"
	serve_pid[$1]=$launched
	until_true served_or_ended "$1" "$times"
}

serve_lives() { [ "$disk_mib" = 0 ] || lives "${serve_pid[$1]}"; }

# It is in a group of its own, and goes on where its `serve` was killed.
kill_nbdkit() {	# host
	local p
	[ "$disk_mib" != 0 ] || return 0
	for p in $(pids_of "$dir/$1/"); do
		! grep -qs '^nbdkit$' "/proc/$p/comm" ||
			kill -KILL "$p" 2>/dev/null
	done
}

# Both have run alone, and the other one's data is that of the clients: of a host
# that is off.
give_up_disk() {	# host
	[ "$disk_mib" != 0 ] || return 0
	! disk "$1" list --json | grep -q '"alone":true' ||
		disk "$1" forget ledger >>"$dir/$1.log" 2>&1 ||
		fail "the disk of host $1 cannot be forgotten"
}

# The ledger compares it with its memory, and did so at each takeover.
disk_agrees() {
	local says
	[ "$disk_mib" != 0 ] || return 0
	says=$("$account_clients" --check --drain=$((patience * 1000)) \
		"127.0.0.1:$ledger_port") || fail "of the disk it says: $says"
}

# --- the clients -----------------------------------------------------------

clients_start() {	# options
	[ "$disk_mib" = 0 ] || set -- --disk "$@"
	coproc CLIENTS {
		exec "$account_clients" --control --record="$dir/record" -v \
			"$@" "127.0.0.1:$ledger_port" 2>"$dir/clients.log"
	}
	# shellcheck disable=SC2153 # coproc sets it
	clients_pid=$CLIENTS_PID
	clients_out=${CLIENTS[0]}
	clients_in=${CLIENTS[1]}
}

# acknowledged N open N refused N silent_ms N longest_ms N
ask_clients() {
	local line
	echo status >&"$clients_in" &&
		read -r -t "$patience" line <&"$clients_out" ||
		fail "the clients are gone"
	# shellcheck disable=SC2086 # ten words
	set -- $line
	acknowledged=$2
	refused=$6
	silent_ms=$8
	longest_ms=${10}
}

acknowledges() {	# more than this
	ask_clients
	[ "$acknowledged" -gt "$1" ] || [ "$refused" -gt 0 ]
}

# New payments are acknowledged, and none was forgotten.
served() {
	ask_clients
	until_true acknowledges $((acknowledged + 20))
	[ "$refused" -eq 0 ]
}

# The clients' own verdict, in $verdict; their exit status is ours.
clients_verify() {
	echo verify >&"$clients_in"
	read -r -t $((2 * patience)) verdict <&"$clients_out" || verdict="no verdict"
	wait "$clients_pid"
	local is=$?
	clients_pid=''
	return $is
}

# --- beginning and end -----------------------------------------------------

free_port() {	# one that nothing listens on, below the clients' range
	local port
	for _ in 1 2 3 4 5 6 7 8 9; do
		port=$((15000 + (RANDOM * 32768 + RANDOM) % 17000))
		(: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo $port
}

# What must never be said or happen, whoever says it.
complaints() {
	grep -hE 'broken invariant|runtime error:|Sanitizer' \
		"$dir"/*.log && return
	# By a signal other than SIGKILL (137).
	grep -hE '^1(2[89]|3[0-68-9]|[4-9].)$' "$dir"/*.ends 2>/dev/null |
		sed 's/^/a colod ended with status /' | grep .
}

show_logs() {
	local f
	for f in a.log b.log a.ends b.ends clients.log; do
		[ -s "$dir/$f" ] || continue
		echo "--- the end of $f"
		tail -n 30 "$dir/$f"
	done
	echo "---"
} >&2

account_end() {
	local status=$? p host
	trap - EXIT
	trap '' HUP INT TERM # another Ctrl-C would leave what is not yet ended
	case $status in 0 | 77 | 130) ;; *) show_logs ;; esac
	[ -z "$clients_pid" ] || kill -KILL "$clients_pid" 2>/dev/null
	for host in a b; do
		[ -z "${init[$host]}" ] ||
			kill -KILL -- "-${init[$host]}" 2>/dev/null
	done
	for p in $(pids_of "$dir/"); do
		kill -KILL "$p" 2>/dev/null
	done
	wait 2>/dev/null
	within 30 none_left || echo "$name: processes were left" >&2
	if complaints >&2; then
		echo "$name: FAILED: see the line above" >&2
		status=1
	fi
	if [ -z "$keep" ] && case $status in 0 | 77 | 130) ;; *) false ;; esac; then
		rm -rf "$dir"
	else
		echo "$name: seed $seed; see $dir" >&2
	fi
	exit $status
}

# Both hosts up, the ledger protected, the clients paying; not before, since a
# guest that cannot be protected ends with its primary, and what it has promised
# until then went out through an open gate.
account_begin() {	# options of the clients
	host_on a
	host_on b
	secondary b
	primary a
	settle
	clients_start "$@"
	served || fail "promises were broken at once"
}

[ "$disk_mib" = 0 ] || command -v nbdkit >/dev/null || {
	say "without a disk, for there is no nbdkit on this machine"
	disk_mib=0
}
[ -x "$colod" ] || skip "there is no $colod: make check builds it"
seed=${COLOD_ACCOUNT_SEED:-$((RANDOM * 32768 + RANDOM))}
dir=$(mktemp -d "${TMPDIR:-/tmp}/account.XXXXXX") || exit 1
trap account_end EXIT
trap 'echo "$name: interrupted" >&2; exit 1' HUP INT TERM
ledger_port=$(free_port)
declare -A link_port
link_port[a]=$(free_port)
link_port[b]=$(free_port)
RANDOM=$((seed % 32768))
certs=$dir/certs
"$colod" certs "$certs" a=127.0.0.1 b=127.0.0.1 >/dev/null ||
	fail "no certificates"

# shellcheck source-path=SCRIPTDIR
. "$here/rounds.sh"
# shellcheck source-path=SCRIPTDIR
. "$here/faults.sh"
