#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a scenario needs: `. lib.sh; begin NAME`, then the words below.
#
# Each scenario makes a lab of its own, unless COLOD_LAB_DIR names one that run.sh
# made for several: then it only switches on the hosts that the scenario before
# has killed.  Exit status 0 passed, 1 failed, 77 this machine lacks something.
# What a failed scenario leaves (with COLOD_LAB_KEEP=1, any scenario) is copied
# to a folder of its own, which the last line names.
#
# shellcheck disable=SC2034 # variables for the scenarios

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/build.sh"
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/host.sh"
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/witness.sh"
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/disks.sh"
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/../within.sh"

# Generous: under emulation on a busy machine a host may be late by half a
# second.  (Both hosts idle and a third load on two cores: 180 ms at most.)
heartbeat=${COLOD_LAB_HEARTBEAT:-100}
lost_after=${COLOD_LAB_LOST_AFTER:-15}
loss_ms=$((heartbeat * lost_after))

say() { echo "$test_name: $*"; }

fail() {
	echo "$test_name: FAILED: $*" >&2
	exit 1
}

# --- beginning and end -----------------------------------------------------

begin() {	# name [hosts]
	local host hosts=${2:-a b}
	test_name=$1
	lab_find_tools
	lab_find_colod
	cache=${COLOD_LAB_CACHE:-$(dirname "$COLOD")/lab-cache}
	# A lab that is there already has no device models, and less memory,
	# no servers, and hosts without a disk of their own.
	[ "$lab_type" = pvh ] || COLOD_LAB_DIR=""
	! lab_serves && ! lab_stores || COLOD_LAB_DIR=""
	[ -n "${COLOD_LAB_DIR:-}" ] || lab_build || exit
	# Slow, but it does not crash; host.sh says why.
	if [ "${COLOD_LAB_VCPUS:-1}" -gt 1 ] && [ -z "${COLOD_LAB_CPUS:-}" ] &&
		! lab_mended; then
		say "QEMU is not mended: hosts with one processor"
		lab_cpus=1
		COLOD_LAB_DIR=""
	fi
	trap test_end EXIT
	trap 'echo "$test_name: interrupted" >&2; exit 1' INT TERM HUP
	test_deadline "${COLOD_LAB_TIMEOUT:-1800}" $$ &
	disown
	lab_dir=${COLOD_LAB_DIR:-}
	if [ -n "$lab_dir" ]; then
		lab_new_logs
	else
		lab_up || exit
	fi
	for host in $hosts; do
		host_alive "$host" || host_on "$host" || exit
	done
	for host in $hosts; do
		host_wait "$host" || fail "host $host did not boot"
	done
	begun=$(now)
}

# The logs of the scenario before go; the stampers open new ones.
lab_new_logs() {
	local f
	rm -rf "$lab_dir/log"
	mkdir "$lab_dir/log"
	for f in "$lab_dir"/*.stamp.pid; do
		lab_signal HUP "$(basename "$f" .pid)"
	done
}

test_deadline() {	# seconds, process
	local end=$((SECONDS + $1))
	while [ $SECONDS -lt $end ]; do
		kill -0 "$2" 2>/dev/null || return
		sleep 1
	done
	echo "$test_name: over its time of $1 s" >&2
	kill -TERM "$2"
}

test_end() {
	local status=$?
	trap '' INT TERM HUP
	[ $status -eq 0 ] || [ $status -eq 77 ] || keep_logs
	[ $status -ne 0 ] || [ -z "${COLOD_LAB_KEEP:-}" ] || keep_logs
	if [ -n "${COLOD_LAB_DIR:-}" ]; then
		hosts_clean
	else
		lab_down
	fi
	exit $status
}

keep_logs() {
	local kept host
	[ -d "${lab_dir:-}/log" ] || return
	kept=$(mktemp -d "${TMPDIR:-/tmp}/$test_name.XXXXXX") || return
	cp -r "$lab_dir"/log/. "$lab_dir"/*.qemu "$kept/"
	for host in a b; do
		# shellcheck disable=SC2016 # for dom0's shell
		host_alive $host && on_seconds=20 on $host '
			xl list -v; xl vcpu-list; colod status --json; ps
			losetup -a; brctl show; ip link show
			tail -n 20 /run/lab.*.log
			dmesg; xl dmesg | tail -n 100
			xenstore-ls -fp; tail -n 30 /var/log/xen/*.log' \
			>"$kept/$host.state" 2>&1
	done
	for host in a b; do
		[ -s "$kept/$host.colod" ] || continue
		echo "--- the end of the log of colod on $host:" >&2
		tail -n 6 "$kept/$host.colod" >&2
	done
	echo "$test_name: consoles and logs are kept in $kept" >&2
}

# Back to two hosts without a guest or a colod, for the next scenario.  A host
# on which that fails is switched off.
hosts_clean() {
	local host
	wire_mend
	for host in a b; do
		host_alive $host || continue
		# shellcheck disable=SC2016 # for dom0's shell
		on_seconds=30 on $host '
			for f in /run/lab.*.pid; do
				[ -e "$f" ] && kill -9 "$(cat "$f")"
			done
			for d in $(xl list | awk "NR > 2 { print \$2 }"); do
				xl destroy $d
			done
			kill -9 $(pidof nbdkit)
			i=0
			while pidof colod colod-guard && [ $((i += 1)) -lt 50 ]; do
				usleep 100000
			done
			for p in /sys/class/net/plug*; do
				[ ! -e "$p" ] || ip link del "${p##*/}"
			done
			rm -rf /run/lab.* /run/colod /tmp/* /var/lib/colod/*
			[ "$(xl list | wc -l)" = 2 ] && ! pidof colod colod-guard' \
			>/dev/null 2>&1 || host_kill $host
	done
}

# --- waiting ---------------------------------------------------------------

# Seconds from $1 to $2 (default now), with three digits.
elapsed() {
	awk -v a="$1" -v b="${2:-$(now)}" 'BEGIN { printf "%.3f", b - a }'
}

# Seconds are those of a quiet machine; a slow one has three times as many.
wait_until() {	# seconds, what for, command...
	local seconds=$(($1 * ${COLOD_LAB_PATIENCE:-3})) what=$2
	shift 2
	within $seconds "$@" || fail "waited in vain for $what"
}

# The first line of LOG (such as a.colod) after its mark that matches: $found,
# and the time of its arrival $found_at.
find_log() {	# log, pattern
	found=$(tail -n "+$((${log_mark[$1]:-0} + 1))" "$lab_dir/log/$1" \
		2>/dev/null | grep -m 1 -E -e "$2") || return
	found_at=${found%% *}
}

wait_log() {	# seconds, log, pattern
	wait_until "$1" "\"$3\" in the log $2" find_log "$2" "$3"
}

# From here on, LOG is looked at only after what it holds now.
declare -A log_mark
mark() {
	log_mark[$1]=0
	[ ! -e "$lab_dir/log/$1" ] || log_mark[$1]=$(wc -l <"$lab_dir/log/$1")
}

no_log() {	# log, pattern
	! find_log "$1" "$2" || fail "unexpected in the log $1: $found"
}

# Brings a file into a host: in parts, for a command has a limit.
bring() {	# host, file, its path there
	local part
	on "$1" "rm -f /tmp/brought"
	while read -r part; do
		on "$1" "echo $part >>/tmp/brought" || return
	done < <(gzip -9 <"$2" | base64 -w 60000 && echo)
	on "$1" "base64 -d /tmp/brought | gunzip >$3 && rm /tmp/brought"
}

# Brings a program of the build into a host, as /bin/NAME.
carry() {	# host, file, name
	strip -o "$lab_dir/carried" "$2" || fail "$2 cannot be stripped"
	{ bring "$1" "$lab_dir/carried" "/bin/$3" && on "$1" "chmod 755 /bin/$3"; } ||
		fail "$3 cannot be carried to $1"
}

# --- colod -----------------------------------------------------------------

declare -A colod_starts # how often, by host and role

# Starts `colod ROLE` in the background of a host, with the lab's certificates
# and timing; more options and operands follow.  Its log goes to HOST.colod, its
# exit status too.  With $colod_env, in that environment.  On a busy machine a
# guest's drivers may take seconds to come back: a primary is patient, unless its
# arguments say otherwise.  What becomes of b a test knows, for it does it itself: so
# a primary that loses b need not wait for an operator.
colod_start() {	# host, role, arguments...
	local host=$1 role=$2 certs=${colod_certs:-/certs}
	shift 2
	colod_starts[$host.$role]=$((${colod_starts[$host.$role]:-0} + 1))
	# An emulated domain 0 takes a millisecond to come by a page: 37 s before it
	# connects with two arenas of 64 MiB.  Epochs here have 6 MiB.
	[ "$role" != primary ] ||
		set -- --suspend-timeout=10000 --arena=16 --unsafe-no-fence "$@"
	set -- --disk-dir=/var/lib/colod "$@"
	on "$host" "echo 'lab: starting colod $role $*' >/run/colod.log
		setsid sh -c 'env ${colod_env:-} colod $role \
			--cert $certs/$host.crt --key $certs/$host.key \
			--ca $certs/ca.crt --heartbeat=$heartbeat \
			--lost-after=$lost_after $* >/run/colod.log 2>&1 &
			echo \$! >/run/lab.$role.pid
			wait \$!
			echo \"lab: colod $role ended with status \$?\" \
				>/run/colod.log' </dev/null >/dev/null 2>&1 &
		i=0
		until [ -s /run/lab.$role.pid ] || [ \$((i += 1)) -gt 100 ]; do
			usleep 20000
		done" || fail "colod $role could not be started on $host"
}

colod_signal() {	# host, role, signal
	on "$1" "kill -$3 \$(cat /run/lab.$2.pid)"
}

# Host b was seen not to answer for five seconds after a domain had been removed
# from it, and a primary that nobody answers gives up.
b_answers() {
	wait_until 60 "an answer of b" on a "ping -c 1 -w 5 10.9.0.2 >/dev/null"
}

# A secondary on b, a primary on a for the guest; returns when it is protected.
protect() {	# with $secondary_options and $primary_options
	# shellcheck disable=SC2086 # several words
	colod_start b secondary ${secondary_options:-}
	wait_log 30 b.colod "listening on"
	b_answers
	# shellcheck disable=SC2086 # several words
	colod_start a primary ${primary_options:-$(kind_options)} guest 10.9.0.2
	wait_protected
}

# What a primary must be told of the lab's kind of guests.
kind_options() {
	case $lab_type-$lab_hypervisor in
	pure-*) echo "--interval=300 --suspend=toolstack" ;;
	pv-xen) echo "--interval=500 --full-scan" ;;
	*) echo "--interval=300" ;;
	esac
}

# All that were started have ended.  One whose host died has not said so.
primary_over() {
	[ "$(grep -c "lab: colod primary ended" "$lab_dir/log/a.colod")" -ge \
		"${colod_starts[a.primary]}" ]
}

protected_or_over() { find_log a.colod "-> protected" || primary_over; }

wait_protected() {
	wait_until 600 "protection" protected_or_over
	find_log a.colod "-> protected" ||
		fail "the primary ended: $(tail -n 4 "$lab_dir/log/a.colod")"
}

# Runs a primary that is expected to refuse: $said is all it said, $ended its
# exit status.  It touches its arenas before it connects, page by page, which
# takes a loaded host a minute.
primary_refuses() {	# arguments...
	ended=0
	said=$(on_seconds=260 on a "timeout 240 colod primary --arena=16 \
		--cert ${colod_certs:-/certs}/a.crt \
		--key ${colod_certs:-/certs}/a.key \
		--ca ${colod_certs:-/certs}/ca.crt $* 2>&1") || ended=$?
}

said_has() {	# pattern
	grep -q -E -e "$1" <<<"$said" ||
		fail "expected \"$1\", but colod said: $said"
}

# Of a guest whose colod on a was killed nothing leaves, for b might take it over.
# Here it does not: its secondary has no fence command.
guest_let_out() {
	on a "colod release --alone --disk-dir=/var/lib/colod guest" || fail "colod release failed"
}

# Waits for the end of a colod and checks the status it ended with.
colod_ended() {	# host, role, status
	wait_log 60 "$1.colod" "lab: colod $2 ended"
	[ "${found##* }" = "$3" ] ||
		fail "colod $2 on $1 ended with status ${found##* }, not $3"
}

status_json() { on "$1" "colod status --json" | tr -d '\n'; }

# A number or word of the status, the first of its name: those of its parts, as of
# disks, come behind its own.
json_field() {	# json, key
	grep -o "\"$2\": *\"\{0,1\}[^\",}]*" <<<"$1" | sed -n '1s/.*: *"\{0,1\}//p'
}

status() { json_field "$(status_json "$1")" "$2"; }

state_is() { [ "$(status "$1" state)" = "$2" ]; }

wait_state() {	# seconds, host, state
	wait_until "$1" "state $3 on $2" state_is "$2" "$3"
}

# The domains of a host but domain 0, in one line.
domains() { on "$1" "xl list" | awk 'NR > 2 { print $1 }' | xargs; }

domains_are() { [ "$(domains "$1")" = "${2:-}" ]; }

# Does Xen record which pages the guest on this host writes?
log_dirty() {
	on "$1" "xl debug-keys q; xl dmesg -c" |
		awk -v id="$(on "$1" "xl domid guest")" '
			/General information for domain/ {
				mine = ($NF + 0 == id) }
			mine && /paging assistance/ && /log_dirty/ { yes = 1 }
			END { exit !yes }'
}

# --- the guest -------------------------------------------------------------

# What the guest is; a scenario sets what it wants otherwise.
guest_vcpus=1
guest_memory=128
guest_vif=yes		# or empty: no network
guest_disk=own		# or shared, the one both hosts see; replicated, see
			# disk_serve; or empty: none
guest_backend=kernel	# of that disk; or qemu, in an HVM guest's device model
# Its witness, guest-check: MiB, pages rewritten a second, microseconds a turn.
# With 16, 500 and 8000 it took seven tenths of an emulated processor that was
# slow, with these three.
check_mib=8 check_rate=200 check_turn=${COLOD_LAB_TURN:-25000}
guest_words=""		# for guest-init, such as order=1 net=1, and the kernel
guest_ramdisk=guest.cpio # in /guest; or servers.cpio, by guest_with_servers

# Without Xen's platform device: its disk and network card stay emulated.
lab_unplugged() { [ "$lab_type" = pure ] || [ "$lab_type" = half ]; }
# One that knows nothing of Xen has an emulated serial line for a console.
lab_serial() { [ "$lab_type" = pure ]; }
# A line of the witness takes two seconds there, character by character, and a block
# to an emulated disk one: else it would do nothing else.
check_report=25
! lab_unplugged || check_mib=2
! lab_serial || check_report=200

guest_config() {
	local words kernel=vmlinux type=$lab_type vif
	words="console=hvc0 quiet loglevel=2 mitigations=off"
	case $lab_type in
	# What is not there is not looked for: the guest was up 7 s earlier.
	pvh | pv) words+=" pci=off 8250.nr_uarts=0" ;;
	hvm) kernel=vmlinuz ;;
	pure | half)
		kernel=vmlinuz type=hvm
		! lab_serial ||
			words="console=ttyS0 tty=ttyS0 quiet loglevel=2 nopv"
		;;
	esac
	words+=" check_mib=$check_mib check_rate=$check_rate check_turn=$check_turn"
	words+=" check_report=$check_report"
	! lab_unplugged || words+=" emulated=$([ -n "$guest_disk" ] && echo sda || echo none)"
	# The second cure of netfront's lost memory needs this (colod(8)).
	words+=" grant_table.free_per_iteration=0 $guest_words"
	cat <<-END
		name="guest"
		type="$type"
		kernel="/guest/$kernel"
		ramdisk="/guest/$guest_ramdisk"
		memory=$guest_memory
		vcpus=$guest_vcpus
		cpus="$((lab_cpus - 1))"
		extra="$words"
	END
	! lab_emulates || cat <<-END
		vnc=0
		sdl=0
		vga="none"
		usb=0
		serial="pty"
	END
	! lab_unplugged || cat <<-END
		xen_platform_pci=0
	END
	vif="type=vif,"
	! lab_unplugged || vif="type=ioemu,model=e1000,"
	vif+="mac=00:16:3e:09:00:10,bridge=br0,script=lab-vif"
	[ -z "$guest_vif" ] || echo "vif=[\"$vif\"]"
	guest_config_disks
}

guest_config_disks() {
	local disk="script=lab-disk" name device=xvd letter list="" targets=()
	[ "$guest_backend" != qemu ] || disk="backendtype=qdisk"
	! lab_unplugged || disk="backendtype=qdisk" device=hd
	case $guest_disk in
	own) targets=(/guest/disk.img) ;;
	shared) targets=(/dev/vda) ;;
	replicated) for name in $disk_names; do targets+=("/dev/colod/$name"); done ;;
	esac
	for letter in a b c; do
		[ ${#targets[@]} -gt 0 ] || break
		list+="\"$disk,format=raw,access=rw,vdev=$device$letter"
		list+=",target=${targets[0]}\","
		targets=("${targets[@]:1}")
	done
	[ -z "$list" ] || echo "disk=[${list%,}]"
}

# Where a guest's console is, below its folder in xenstore.
guest_tty() {
	lab_serial && echo serial/0/tty || echo console/tty
}

# xenconsoled does not write what an emulated serial line says.
guest_listen() {	# host, domain
	! lab_serial || on "$1" "cat \
		\$(xenstore-read /local/domain/\$(xl domid $2)/$(guest_tty)) \
		>>/var/log/xen/console/guest-guest.log 2>/dev/null </dev/null &"
}

# The guest has the programs of servers.cpio; a lab with COLOD_LAB_SERVERS=1.
guest_with_servers() {	# host
	guest_ramdisk=servers.cpio
	on "$1" "cd /guest && cat guest.cpio redis.cpio >servers.cpio" ||
		fail "no programs for the guest on $1"
}

# Makes the guest on a host and waits for its witness.
guest_start() {	# host
	on "$1" "echo '$(guest_config)' >/root/guest.cfg
		xl create /root/guest.cfg" >/dev/null 2>"$lab_dir/xl.err" ||
		fail "the guest could not be created: $(cat "$lab_dir/xl.err")"
	guest_listen "$1" guest
	wait_log 180 "$1.guest" "check line="
}

# The last line of the guest's witness on this host, or a field of it.
guest_last() { grep ' check line=' "$lab_dir/log/$1.guest" | tail -n 1; }
line_field() { sed -n "s/.* $2=\([0-9]*\).*/\1/p" <<<"$1"; }
guest_field() { line_field "$(guest_last "$1")" "$2"; }

# The guest goes on: a line arrives that is newer than this moment, and it has
# seen all of its memory twice since, without a fault, and used its disk: one
# that hangs counts no error.
guest_goes_on() {	# host
	local line passes disk
	line=$(guest_last "$1")
	passes=$(line_field "$line" passes)
	disk=$(line_field "$line" disk)
	wait_until 120 "the guest on $1 to verify its memory twice" \
		guest_passed "$1" $((passes + 2))
	[ -z "$guest_disk" ] || [[ $guest_words == *fs=1* ]] ||
		wait_until 30 "the guest on $1 to use its disk" \
		guest_wrote "$1" $((disk + 2))
	guest_sound "$1"
}

guest_passed() { [ "$(guest_field "$1" passes)" -ge "$2" ]; }
guest_wrote() { [ "$(guest_field "$1" disk)" -ge "$2" ]; }

guest_sound() {	# host
	local line
	line=$(guest_last "$1")
	! grep -q 'check ERROR' "$lab_dir/log/$1.guest" ||
		fail "$(grep -m 1 'check ERROR' "$lab_dir/log/$1.guest")"
	[ "$(line_field "$line" errors)" = 0 ] || fail "memory errors: $line"
	[ "$(line_field "$line" disk_errors)" = 0 ] || fail "disk errors: $line"
}

# The guest's own pauses of two and a half turns and more between two times, in
# microseconds, one a line.
guest_pauses() {	# host, from [, to]
	awk -v from="$2" -v to="${3:-9e9}" '
		/ check line=/ && $1 >= from && $1 <= to {
			sub(/.*gaps_us=/, "")
			n = split($0, gap, ",")
			for (i = 1; i <= n; i++)
				print gap[i]
		}' "$lab_dir/log/$1.guest"
}

# "median 48.1 ms, worst 93.0 ms of 57" of the numbers on standard input.
summary_ms() {
	sort -n | awk '{ v[NR] = $1 / 1000 }
		END {
			if (NR == 0)
				print "none"
			else
				printf "median %.1f ms, worst %.1f ms of %d\n",
					v[int((NR + 1) / 2)], v[NR], NR
		}'
}

# Tells the guest to power off, reboot or crash, over its console.
guest_tell() {	# host, word
	on "$1" "echo $2 >\$(xenstore-read \
		/local/domain/\$(xl domid guest)/$(guest_tty))"
}

# Runs a command of one line in the guest, by its shell: $ran is its output, the
# status its own, 124 when it does not end within $guest_seconds of a quiet machine.
guest_run() {	# host, command
	local log=$lab_dir/log/$1.guest from ended
	[[ $2 != *$'\n'* ]] || fail "the guest is told a line at a time: $2"
	from=$(($(wc -l <"$log") + 1))
	on "$1" "printf '%s\\n' $(printf '%q' "run $2") \
		>\$(xenstore-read /local/domain/\$(xl domid guest)/$(guest_tty))"
	within $((${guest_seconds:-30} * ${COLOD_LAB_PATIENCE:-3})) \
		guest_ran "$log" "$from" || return 124
	ended=${ran##* }
	ran=$(sed '$d' <<<"$ran")
	return "$ended"
}

guest_ran() {	# log, line
	ran=$(tail -n "+$2" "$1" | sed -n 's/^[^ ]* .*\<run: //p')
	[[ $'\n'$ran == *$'\nended with status'* ]]
}

# The guest with colod's module, with the parameters $2 (commas between them).
guest_start_module() {	# host [, parameters]
	[ -e "$cache/colod-guest.ko" ] ||
		lab_lacks "no guest module: the headers of the lab's kernel are" \
			"not in its cache and could not be fetched."
	guest_words+=" module=1${2:+ module_args=$2}"
	guest_start "$1"
}

# What the guest's module counts; its names are in colod-guest(4).
guest_module() {	# host, name
	guest_run "$1" "cat /sys/module/colod_guest/parameters/$2" && echo "$ran"
}

# A node of the guest, by its name below the guest's own folder.
guest_node() {	# host, name
	on "$1" "xenstore-read /local/domain/\$(xl domid guest)/$2" 2>/dev/null
}

# Through a file and into a new domain: the guest sees return code 0.
guest_reincarnate() {	# host
	local line
	line=$(guest_field "$1" line)
	on_seconds=240 on "$1" "xl save guest /tmp/image && xl restore ${2:-} /tmp/image
		status=\$?; rm -f /tmp/image; exit \$status" \
		>"$lab_dir/xl.err" 2>&1 ||
		fail "save and restore: $(tail -n 3 "$lab_dir/xl.err")"
	guest_listen "$1" guest
	[ "${2:-}" = -p ] || wait_until 60 "the restored guest to report" \
		guest_said_after "$1" "$line"
}

guest_said_after() { [ "$(guest_field "$1" line)" -gt $(($2 + 3)) ]; }

# An answer waits for its epoch, of which a PV guest's takes more than a second.
guest_answers_ping() {	# from host
	on "$1" "ping -c 1 -W 10 10.9.0.10" >/dev/null
}
