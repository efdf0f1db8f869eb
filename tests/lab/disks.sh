#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a scenario does with replicated disks, and asks of a file system on one.
# Sourced by lib.sh.
#
# shellcheck disable=SC2154 # variables of lib.sh

disk_names=web		# the guest's, as xvda and so on
disk_mib=4		# of each, as the guest's own disk has

# Makes the guest's replicated disks on a host and serves them; one that is there is
# as it was left.
disk_serve() {	# host [name]
	local name
	mark "$1.colod"
	for name in ${2:-$disk_names}; do
		on "$1" "[ -e /var/lib/colod/$name.disk ] || {
				mkdir -p /var/lib/colod
				truncate -s ${disk_mib}M /var/lib/colod/$name.img
				colod disk create --disk-dir=/var/lib/colod \
					$name /var/lib/colod/$name.img
			} || exit
			setsid sh -c 'colod disk serve --disk-dir=/var/lib/colod \
				$name >/run/colod.log 2>&1 &
				echo \$! >/run/lab.disk.$name.pid
				wait \$!' </dev/null >/dev/null 2>&1 &" ||
			fail "the disk $name could not be made on $1"
		wait_log 30 "$1.colod" "disk $name: /dev/colod/$name is"
	done
}

# --- a file system, with fs=1 in $guest_words -------------------------------

# Before the disk is served there: an empty one, made by this machine.
disk_format() {	# host
	{
		truncate -s "${disk_mib}M" "$lab_dir/web.img" &&
			PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F \
				"$lab_dir/web.img" &&
			bring "$1" "$lab_dir/web.img" /var/lib/colod/web.img
	} || fail "no file system for $1"
}

records_last() { grep ' records line=' "$lab_dir/log/$1.guest" | tail -n 1; }
records_field() { line_field "$(records_last "$1")" "$2"; }
records_reached() {	# host, number
	local number
	number=$(records_field "$1" stable)
	[ "${number:-0}" -ge "$2" ]
}

# The guest brings so many records more to its disk, and nothing is wrong.
records_go_on() {	# host, how many
	local from
	from=$(records_field "$1" stable)
	wait_until 120 "$2 records more on $1" \
		records_reached "$1" $((${from:-0} + $2))
	! grep -q 'records ERROR' "$lab_dir/log/$1.guest" ||
		fail "$(grep -m 1 'records ERROR' "$lab_dir/log/$1.guest")"
}

# Somebody on this host asks the guest what is stable.
told_start() {	# host
	on "$1" "records ask 10.9.0.10 7200 </dev/null >/run/lab.told.log 2>&1 &
		echo \$! >/run/lab.told.pid" >/dev/null
}

# $told: the number of the last record of which it knows.
ask_told() {	# host
	local line
	line=$(on "$1" "tail -n 1 /run/lab.told.log")
	[[ $line != *ERROR* ]] || fail "$line"
	told=$(line_field "$line" told)
}

told_reached() {	# host, number
	ask_told "$1"
	[ "${told:-0}" -ge "$2" ]
}

# It is told of so many records more.
told_goes_on() {	# host, how many
	ask_told "$1"
	wait_until 120 "records of which $1 is told" \
		told_reached "$1" $((${told:-0} + $2))
}

# What is on the disk as the guest stands still for a moment, as after a loss of power:
# its journal is replayed, nothing is wrong with it, and records up to that number are
# there.
disk_proven() {	# host, number
	on "$1" "xl pause guest && sleep 1 &&
		cp /var/lib/colod/web.img /tmp/web.img
		status=\$?
		xl unpause guest && [ \$status = 0 ] || exit 1
		loop=\$(losetup -f) && losetup \$loop /tmp/web.img &&
			mkdir -p /tmp/web && mount -t ext4 \$loop /tmp/web &&
			records check /tmp/web $2 && umount /tmp/web &&
			e2fsck -fn \$loop
		status=\$?
		losetup -d \$loop
		rm -f /tmp/web.img
		exit \$status" >"$lab_dir/proven" 2>&1 ||
		fail "the disk on $1: $(tail -n 8 "$lab_dir/proven")"
}
