# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# The account test: faults at named points of the program (base/fault.h).
#
# A fault round restarts one of the two colods with COLOD_FAULT set, makes the
# point be passed where that takes an accident of the peer, waits for the fault
# to strike, and leaves the rest to recover().

# shellcheck disable=SC2154 # variables of lib.sh

struck=0
not_struck= # the last one, where it was not passed in time, or somebody was faster

# POINT SIDE, from the program, so that none is forgotten.
fault_points() {
	"$colod" check --verbose |
		sed -n 's/^ok  *fault \([^ ]*\) *\([a-z]*\)\(, disk\)\{0,1\}: .*/\1 \2/p' |
		if [ "$disk_mib" = 0 ]; then grep -v '^disk-'; else cat; fi
}

# By then the guest's own host is dead: who dies here, too, takes the guest
# along, which no pair of hosts survives.
second_death() { # point action
	case $1:$2 in
	after-fence:error | before-activate:error | mid-activate:error | \
		disk-before-*:error) return 1 ;;
	after-fence:* | before-activate:* | mid-activate:* | \
		disk-before-*) return 0 ;;
	esac
	return 1
}

# POINT:ACTION:run|other.  Nothing where colod was built without faults.
fault_rounds() {
	local point side action where
	while read -r point side; do
		for action in kill stop hang error short; do
			case $action:$point in
			short:read | short:write) ;;
			short:*) continue ;;
			esac
			for where in run other; do
				case $where:$side in
				run:secondary | other:primary) continue ;;
				other:*) ! second_death "$point" $action ||
					continue ;;
				esac
				echo "$point:$action:$where"
			done
		done
	done < <(fault_points)
}

shuffled() {
	awk -v seed=$RANDOM 'BEGIN { srand(seed) }
		{ print rand() "\t" $0 }' | sort -n | cut -f 2
}

# At which passage: a later one of those that come by many times, after protection.
passage() { # point
	case $1 in
	*-image | image-sent | *-build | *-fence | *-activate | disk-before-* | \
		connect | accept | handshake) echo 1 ;;
	*) echo $((2 + RANDOM % 30)) ;;
	esac
}

has_struck() { # host lines-before point
	tail -n "+$(($2 + 1))" "$dir/$1.log" | grep -q "fault: [a-z]* at $3"
}

# Or another end: a peer that has had enough of a host that is slow, or a colod
# without the fault in the place of one that was refused.
strikes_or_ended() { # host lines-before point pid
	has_struck "$@" || ! colod_lives "$1" || [ "${colod_pid[$1]}" != "$4" ]
}

# What has to happen for the point to be passed at all.
accident() { # point run|other
	case $1:$2 in
	*-fence:run) harm kill-host "$other" ;;
	*-fence:other) harm kill-colod "$run" ;;
	*-activate:other | disk-before-*:other) harm kill-host "$run" ;;
	accept:*) status_of "${!2}" >/dev/null ;;
	esac
}

fault_round() { # POINT:ACTION:run|other
	local point action side host lines from armed was=$takeovers is=struck
	IFS=: read -r point action side <<<"$1"
	host=${!side}
	from=$(now_ms)
	echo mark >&"$clients_in"
	lines=$(wc -l <"$dir/$host.log")
	stop_colod "$host"
	fault[$host]=$point:$action:$(passage "$point")
	if [ "$side" = run ]; then
		primary "$host"
	else
		secondary "$host"
	fi
	armed=${colod_pid[$host]}
	case $point in
	*-fence | *-activate | disk-before-*) recover || return 1 ;;
	esac
	accident "$point" "$side"
	within "$patience" strikes_or_ended "$host" "$lines" \
		"$point" "$armed"
	not_struck=''
	if has_struck "$host" "$lines" "$point"; then
		struck=$((struck + 1))
	else
		is="not struck"
		not_struck=$1
	fi
	case $action in
	stop | hang)
		# The peer may have it fenced; else an operator ends it.
		[ $action = hang ] ||
			within 1 eval "! host_lives $host"
		kill_colod "$host"
		;;
	esac
	recover
	local served=$?
	say "$1 on $host: $is, $((takeovers - was)) takeovers," \
		"silent for $longest_ms ms, $(($(now_ms) - from)) ms in all"
	return $served
}
