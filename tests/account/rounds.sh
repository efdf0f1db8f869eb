# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# The account test: what is done to a protected ledger, and the way back.
#
# harm KIND does one thing to one of the hosts and does not wait for what
# comes of it.  recover() looks, again and again, at what is there, and takes
# the one step that an operator would take, until the ledger is protected again
# and serves: so it need not know what was done, and a machine that is slow
# only makes it take other steps.

# shellcheck disable=SC2154 # variables of lib.sh

takeovers=0

# --- the way back ----------------------------------------------------------

# The standby has taken over: its host becomes the primary's, and the other one
# comes back to life as the secondary's.
swap() {
	host_off "$run"
	run=$other
	other=$(peer "$run")
	takeovers=$((takeovers + 1))
	give_up_disk "$other"
	host_on "$other"
	secondary "$other"
	stop_colod "$run"
	primary "$run"
}

# The colod that took over died of it, and left a guest that runs.
adopt() {
	guest_runs "$other" || fail "the guest is gone: so is the secondary"
	swap
}

guest_runs() { # host
	timeout 20 "$colod" guest list --run-dir "$dir/$1/run" |
		grep -q '^ledger: ledger, running'
}

# What could be running a guest, or about to.
may_take_over() { # state of the secondary
	case $1 in
	secondary-standby | secondary-lost | secondary-fencing | \
		secondary-activating) return 0 ;;
	esac
	return 1
}

# Where one that waits for its operator is not helped by its peer, the operator
# sees to it that the peer is dead, and says so.
operator() {
	local host=$run
	[ -n "$waits_since" ] || waits_since=$(now_ms)
	[ $(($(now_ms) - waits_since)) -gt 2000 ] || return 0
	[ "$other_state" != secondary-waiting ] || host=$other
	host_off "$(peer "$host")"
	timeout 20 "$colod" failover --run-dir "$dir/$host/run" \
		>>"$dir/$host.log" 2>&1
}

# A primary ends if it finds nobody: its last deed may have been to fence.
protect_anew() {
	if ! host_lives "$other"; then
		host_off "$other"
		host_on "$other"
	fi
	colod_lives "$other" || secondary "$other"
	primary "$run"
}

step() {
	local run_state other_state host
	for host in a b; do
		! host_lives $host || serve_lives $host || serve_disk $host
	done
	other_state=$(state_of "$other")
	run_state=$(state_of "$run")
	if [ "$other_state" = secondary-active ]; then
		swap
		return
	fi
	case "$run_state $other_state" in
	*-waiting*)
		operator
		return
		;;
	esac
	waits_since=''
	last_seen="$run ${run_state:-silent}, $other ${other_state:-silent}"
	if ! host_lives "$run"; then
		may_take_over "$other_state" || [ -z "$other_state" ] ||
			fail "the guest is gone: $other is $other_state"
		colod_lives "$other" || adopt
	elif ! colod_lives "$run"; then
		may_take_over "$other_state" || protect_anew
	elif ! host_lives "$other"; then
		case $run_state in primary-unprotected | primary-connecting)
			host_off "$other"
			host_on "$other"
			secondary "$other"
			;;
		esac
	elif ! colod_lives "$other"; then
		case $run_state in primary-unprotected | primary-connecting)
			secondary "$other"
			;;
		esac
	elif [ "$run_state $other_state" = \
		"primary-protected secondary-standby" ]; then
		flows && recovered=1
		return 0
	fi
	flowed=''
}

# A loss may have happened that nobody has noticed yet, and another on top of
# it is more than a pair promises to survive: epochs are being acknowledged now.
flows() {
	local now
	now=$(status_of "$run" |
		sed -n 's/.*"acknowledged":\([0-9]*\).*/\1/p')
	[ -n "$now" ] || return 1
	[ -n "$flowed" ] || flowed=$now
	[ "$now" -ge $((flowed + 3)) ]
}

# The ledger is protected again.
settle() {
	local end=$(($(now_ms) + patience * 1000))
	local recovered='' last_seen='' waits_since='' flowed=''
	until [ -n "$recovered" ]; do
		[ "$(now_ms)" -lt $end ] ||
			fail "not protected again in $patience s: $last_seen"
		step
		[ -n "$recovered" ] || sleep 0.02
	done
}

recover() {
	settle
	served || return 1
	disk_agrees
	# Longer than an operator of this test takes: somebody wants to know why.
	[ "$longest_ms" -lt $((5000 * slow)) ] || keep=1
}

# --- harm ------------------------------------------------------------------

moment() { sleep "0.$(printf '%03d' $((RANDOM % 200)))"; }

kill_colod() { # host
	kill -KILL "${colod_pid[$1]}" 2>/dev/null
}

# Until its peer has had enough of it.
stop_until_fenced() { # host
	until_true eval "! host_lives $1"
}

# The link only; both hosts live, and which of them is fenced is open.
drill() { # host spec
	timeout 20 "$colod" drill --run-dir "$dir/$1/run" "$2" \
		>>"$dir/$1.log" 2>&1
}

harm() { # kind host
	local host=$2 pid
	pid=${colod_pid[$host]}
	case $1 in
	kill-host) host_off "$host" ;;
	kill-colod) kill -KILL "$pid" ;;
	stop-host)
		signal_host STOP "$host"
		stop_until_fenced "$host"
		;;
	stop-colod)
		kill -STOP "$pid"
		stop_until_fenced "$host"
		;;
	pause-colod) # too short to be missed
		kill -STOP "$pid"
		sleep 0.1
		kill -CONT "$pid"
		;;
	kill-nbdkit) kill_nbdkit "$host" ;;
	kill-serve) kill -KILL "${serve_pid[$host]}" ;;
	cut) drill "$host" cut=0:1 ;;
	stall) drill "$host" stall=0:2 ;;
	noise) # what a drill does to frames must never be taken for a death
		drill "$host" "drop=2,corrupt=2,delay=5~5,seed=$RANDOM"
		sleep 0.5
		drill "$host" off
		;;
	*) fail "no harm is called $1" ;;
	esac
}

harms="kill-host kill-colod stop-host stop-colod pause-colod cut stall noise"
[ "$disk_mib" = 0 ] || harms+=" kill-nbdkit kill-serve"

# One thing at a random moment, and the way back from it.
round() { # kind, run|other
	local host=${!2} was=$takeovers from
	from=$(now_ms)
	echo mark >&"$clients_in"
	moment
	harm "$1" "$host"
	recover
	local is=$?
	say "$1 $host ($2): $((takeovers - was)) takeovers," \
		"silent for $longest_ms ms, $acknowledged acknowledged," \
		"$(($(now_ms) - from)) ms in all"
	return $is
}
