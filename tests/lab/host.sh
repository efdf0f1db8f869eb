#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The two hosts a and b, each a QEMU process that runs Xen in software
# emulation, and the wire between them.  Sourced by lib.sh.
#
#	lab_up			makes the lab's folder and the wire; hosts are off
#	host_on HOST		switches one on (returns at once)
#	on HOST SCRIPT		runs a shell script in its dom0 (waits for the boot)
#	host_kill HOST		kill -9: a true loss of a machine
#	wire_cut, wire_mend	the cable between the two
#	lab_down		ends what this lab started, and nothing else
#
# A lab's folder ($lab_dir) holds sockets, process ids, and under log/ what
# each host says: HOST.console (Xen and dom0), HOST.colod (its log), HOST.guest
# (the consoles of its guests), each line with the time of its arrival here.

# shellcheck disable=SC2154 # cache is set by lab_build
lab_cpu=${COLOD_LAB_CPU:-qemu64,+svm,+npt,+rdrand,+ssse3,+sse4.1,+sse4.2,+aes,+pclmulqdq}
# One for domain 0 and one for its guests.  Where they share one, each request of
# a guest to domain 0 costs two changes of the domain, with all that an emulator
# forgets at each: a slow epoch took 5 s instead of 0.9.  A guest of several
# processors does not live on such a host, with colod or without, unless QEMU is
# mended (mend-qemu.py has the reason); where it is not, lib.sh gives it a host
# with one.
lab_cpus=${COLOD_LAB_CPUS:-2}

# One clock for all that happens: seconds with microseconds.
now() { echo "$EPOCHREALTIME"; }

lab_up() {
	lab_dir=$(mktemp -d "${TMPDIR:-/tmp}/colod-lab.XXXXXX") || return
	mkdir "$lab_dir/log"
	# A host that is switched on again is the one that was killed, whatever
	# has been built meanwhile.
	cat "$cache/dom0.cpio" "$cache/colod.cpio" >"$lab_dir/initrd"
	! lab_emulates || cat "$cache/hvm.cpio" >>"$lab_dir/initrd"
	! lab_serves || cat "$cache/servers.cpio" >>"$lab_dir/initrd"
	cp "$cache/$lab_hypervisor.elf" "$lab_dir/xen.elf" || return
	cp "$cache/kernel/vmlinux" "$lab_dir/" || return
	truncate -s 4M "$lab_dir/shared.img" || return
	! lab_stores || lab_make_stores || return
	"$cache/bin/wire" "$lab_dir/ports" 2>"$lab_dir/wire.err" &
	echo $! >"$lab_dir/wire.pid"
	lab_wait_file "$lab_dir/ports" || return
	lab_watch_owner $$ &
	disown -a
}

# A disk of each host's own, with a file system, which outlives it.
lab_make_stores() {
	local host
	for host in a b; do
		truncate -s 160M "$lab_dir/$host.store" &&
			PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F \
				"$lab_dir/$host.store" || return
	done
}

lab_wait_file() {
	local i
	for ((i = 0; i < 200; i++)); do
		[ -s "$1" ] || [ -S "$1" ] && return
		sleep 0.02
	done
	echo "lab: $1 did not appear" >&2
	return 1
}

# Signals a process of this lab (0: is it alive?).  Numbers are used again by
# the system: a process of the lab has the lab's folder among its arguments.
lab_signal() {	# signal, name of its .pid file
	local pid
	pid=$(cat "$lab_dir/$2.pid" 2>/dev/null) &&
		grep -q -s -F "$lab_dir/" "/proc/$pid/cmdline" &&
		kill "-$1" "$pid" 2>/dev/null
}

# Where the lab's owner is killed with SIGKILL, this ends its hosts.
lab_watch_owner() {
	trap '' INT
	while [ -d "$lab_dir" ]; do
		kill -0 "$1" 2>/dev/null || lab_down
		sleep 1
	done
}

lab_down() {
	local f
	[ -d "${lab_dir:-}" ] || return 0
	for f in "$lab_dir"/*.pid; do
		lab_signal KILL "$(basename "$f" .pid)"
	done
	rm -rf "$lab_dir"
}

host_alive() { lab_signal 0 "$1"; }

host_on() {
	local host=$1 d=$lab_dir port mac qemu=() name i memory=1344 dom0=864
	# A device model's libraries, and what it maps; a PV guest's copy.
	[ "$lab_type" = pvh ] || memory=2048 dom0=1200
	read -r port i <"$d/ports"
	mac=52:54:00:00:00:01
	if [ "$host" = b ]; then
		port=$i
		mac=52:54:00:00:00:02
	fi
	rm -f "$d/$host".{ready,call,console,colod,guest}*
	"$cache/bin/stamp" "$d/$host.console=$d/log/$host.console" \
		"$d/$host.colod=$d/log/$host.colod" \
		"$d/$host.guest=$d/log/$host.guest" >"$d/$host.ready" &
	echo $! >"$d/$host.stamp.pid"
	disown
	lab_wait_file "$d/$host.ready" || return
	for name in colod guest; do
		qemu+=(-chardev "socket,id=$name,path=$d/$host.$name"
			-device "virtserialport,chardev=$name,name=log.$name")
	done
	for i in 0 1 2 3; do
		qemu+=(-chardev
			"socket,id=call$i,path=$d/$host.call.$i,server=on,wait=off"
			-device "virtserialport,chardev=call$i,name=call.$i")
	done
	# Both hosts' /dev/vda.  What one has written is in this machine's memory,
	# where the other reads it, also after kill -9; nothing needs to be flushed.
	qemu+=(-drive "if=none,id=shared,file=$d/shared.img,format=raw,cache=unsafe,file.locking=off"
		-device "virtio-blk-pci,drive=shared,share-rw=on")
	# What a host has not made stable is lost with it, in its own memory.
	! lab_stores || qemu+=(-drive
		"if=none,id=store,file=$d/$host.store,format=raw,cache=unsafe"
		-device "virtio-blk-pci,drive=store")
	"$(lab_qemu)" -nodefaults -no-user-config -display none -no-reboot \
		-accel tcg,thread=multi -cpu "$lab_cpu" -smp "$lab_cpus" -m "$memory" \
		-kernel "$d/xen.elf" \
		-append "console=com1 com1=115200 noreboot dom0_mem=${dom0}M dom0_max_vcpus=1 dom0_vcpus_pin spec-ctrl=no xpti=no pv-l1tf=no ${COLOD_LAB_XEN:-}" \
		-initrd "$d/vmlinux console=hvc0 quiet mitigations=off lab=$host,$d/initrd" \
		-chardev "socket,id=console,path=$d/$host.console" \
		-serial chardev:console \
		-netdev "socket,id=n0,connect=127.0.0.1:$port" \
		-device "virtio-net-pci,netdev=n0,mac=$mac,host_mtu=9000" \
		-device virtio-serial-pci,max_ports=16 "${qemu[@]}" \
		</dev/null >"$d/$host.qemu" 2>&1 &
	echo $! >"$d/$host.pid"
	disown
	lab_wait_file "$d/$host.call.3"
}

# Waits for the boot and puts the host's clock to this machine's, so that
# colod's own time stamps can be compared with the lab's.
host_wait() {
	"$cache/bin/call" "${2:-300}" "$lab_dir/$1.call" : &&
		"$cache/bin/call" 10 "$lab_dir/$1.call" --clock
}

host_kill() { lab_signal KILL "$1"; }

# Runs a script in a dom0; its status is the result: 124 no answer within
# $on_seconds, 255 the host is off.
on() {
	"$cache/bin/call" "${on_seconds:-180}" "$lab_dir/$1.call" "$2"
}

wire_cut() { lab_signal USR1 wire; }
wire_mend() { lab_signal USR2 wire; }
