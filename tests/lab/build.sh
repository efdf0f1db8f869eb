#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes what the two-host Xen lab boots, into the cache folder:
#
#	xen.elf		the hypervisor; xen-shadow.elf: see shadow-xen.sh
#	kernel/		Debian's kernel, of dom0 and of the guest, and its modules
#	headers/	what modules for it are built with
#	colod-guest.ko	the guest module (resume/guest-linux)
#	dom0.cpio	dom0: busybox, Xen's tools, drivers, the lab's agent
#	colod.cpio	a second small archive, appended at boot: colod, nbdkit
#			with colod's plugin, the libraries they need besides,
#			certificates
#	hvm.cpio	a third, for labs with HVM guests: their device model
#	servers.cpio	another, for labs with servers in the guest
#			(COLOD_LAB_SERVERS=1): /guest/redis.cpio, which a scenario
#			appends to the guest's own archive
#	bin/		the lab's own programs for this machine
#	qemu/		the emulator, mended (mend-qemu.py), where that can be
#
# A part is made again only when what it is made of has changed, so a new colod
# costs a second.  Sourced by lib.sh; lab_build is the entry.  The kernel's
# packages are fetched with apt and unpacked, never installed.

lab_src=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lab_top=$(cd "$lab_src/../.." && pwd)

lab_modules="xen-evtchn xen-privcmd xen-gntdev xen-gntalloc xenfs xen-blkback
	xen-netback loop bridge virtio_pci virtio_net virtio_console
	virtio_blk nbd ifb tun crc32c_generic ext4
	sch_plug act_mirred act_gact cls_matchall sch_ingress"
# Of a guest with an emulated disk and network card, and of one with a file system.
lab_emulated_modules="ata_piix sd_mod e1000"
lab_fs_modules="crc32c_generic ext4"
# What guests there are: pvh, pv, hvm, pure, which is an HVM guest that knows
# nothing of Xen, or half, which does, and has no device of Xen's.
lab_type=${COLOD_LAB_TYPE:-pvh}
# Debian's hypervisor, or xen-shadow, which can track what PV guests write.
lab_hypervisor=${COLOD_LAB_HYPERVISOR:-xen}
lab_model=/usr/libexec/xen-qemu-system-i386
lab_xen_tools="xl xenstored xenconsoled xenconsole xen-init-dom0
	libxl-save-helper"

# shellcheck source-path=SCRIPTDIR
. "$lab_src/shadow-xen.sh"

# Its guests have a device model.
lab_emulates() {
	[ "$lab_type" = hvm ] || [ "$lab_type" = pure ] || [ "$lab_type" = half ]
}

# Its guests have servers (a scenario says so, and has a lab of its own).
lab_serves() { [ "${COLOD_LAB_SERVERS:-0}" = 1 ]; }
# Its hosts keep what is in /var/lib/colod (as above).
lab_stores() { [ "${COLOD_LAB_STORES:-0}" = 1 ]; }

# Exit status 77: this machine lacks something.  One sentence says what.
lab_lacks() {
	echo "SKIP: $*" >&2
	exit 77
}

lab_find_colod() {
	local f
	for f in "${COLOD:-}" ./colod "$lab_top/colod" "$lab_top/build/colod"; do
		if [ -n "$f" ] && [ -x "$f" ]; then
			COLOD=$(realpath "$f")
			return
		fi
	done
	lab_lacks "colod is not built: run make first, or set COLOD to it."
}

lab_find_tools() {
	local missing=""
	[ "$(uname -m)" = x86_64 ] ||
		lab_lacks "the Xen lab runs on x86-64 machines only."
	type qemu-system-x86_64 >/dev/null 2>&1 || missing+=" qemu-system-x86"
	xen_gz=$(find /boot -maxdepth 1 -name 'xen-4.*-amd64.gz' 2>/dev/null |
		sort -V | tail -n 1)
	[ -n "$xen_gz" ] || missing+=" xen-hypervisor-4.17-amd64"
	xen_bin=$(find /usr/lib -maxdepth 1 -name 'xen-4.*' 2>/dev/null |
		sort -V | tail -n 1)/bin
	[ -x "$xen_bin/xl" ] || missing+=" xen-utils-4.17"
	[ -x /usr/bin/xenstore-read ] || missing+=" xenstore-utils"
	busybox=$(PATH=/bin:/usr/bin type -p busybox) && ! ldd "$busybox" \
		>/dev/null 2>&1 || missing+=" busybox-static"
	type cpio >/dev/null 2>&1 || missing+=" cpio"
	type xz >/dev/null 2>&1 || missing+=" xz-utils"
	type depmod >/dev/null 2>&1 || missing+=" kmod"
	type "${CC:-gcc}" >/dev/null 2>&1 || missing+=" gcc"
	type make >/dev/null 2>&1 || missing+=" make"
	lab_e2fsck=$(PATH=/usr/sbin:/sbin:/usr/bin:/bin type -p e2fsck) ||
		missing+=" e2fsprogs"
	lab_nbdkit=$(PATH=/usr/sbin:/usr/bin:/sbin:/bin type -p nbdkit) ||
		missing+=" nbdkit"
	[ -e /usr/include/xenctrl.h ] || missing+=" libxen-dev"
	[ -z "$missing" ] || lab_lacks "the Xen lab needs more packages:" \
		"apt-get install$missing"
}

# Is $1 newer than all other arguments (files or folders of files)?
lab_fresh() {
	local made=$1
	shift
	[ -e "$made" ] && [ -z "$(find "$@" -newer "$made" -print -quit)" ]
}

lab_build_programs() {
	local p more
	mkdir -p "$cache/bin"
	for p in guest-check guest-order numbered beacon clients records agent \
		follow call stamp wire relay; do
		more=()
		[ $p != guest-order ] ||
			more=("$lab_src/order.c" "$lab_src/order-prove.c")
		lab_fresh "$cache/bin/$p" "$lab_src/$p.c" "${more[@]}" \
			"$lab_src"/*.h ||
			"${CC:-gcc}" -std=gnu11 -O2 -Wall -Wextra -D_GNU_SOURCE \
				-static -o "$cache/bin/$p" "$lab_src/$p.c" \
				"${more[@]}" || return
	done
	lab_fresh "$cache/bin/evtchn" "$lab_src/evtchn.c" ||
		"${CC:-gcc}" -std=gnu11 -O2 -Wall -Wextra -D_GNU_SOURCE \
			-o "$cache/bin/evtchn" "$lab_src/evtchn.c" \
			-lxenevtchn -lxenguest -lxenctrl -lxenstore
}

# Two levels below the cache it finds its modules and its firmware as it does in
# /usr.  One that cannot be mended is no failure: lib.sh does without.
lab_build_qemu() {
	local made=$cache/qemu/bin/qemu-system-x86_64 from
	from=$(type -p qemu-system-x86_64)
	lab_fresh "$made" "$from" "$lab_src/mend-qemu.py" && return
	rm -rf "$cache/qemu"
	mkdir -p "$cache/qemu/bin" && ln -s /usr/lib /usr/share "$cache/qemu/" ||
		return
	if "$lab_src/mend-qemu.py" "$from" "$made.new"; then
		chmod 755 "$made.new" && mv "$made.new" "$made"
	fi
}

lab_mended() { [ -x "$cache/qemu/bin/qemu-system-x86_64" ]; }

lab_qemu() {
	if lab_mended; then
		echo "$cache/qemu/bin/qemu-system-x86_64"
	else
		type -p qemu-system-x86_64
	fi
}

# Fetches packages and unpacks them below the folder's all/; what apt says about
# a failure is in its apt.log.
lab_fetch() {	# folder, package...
	local work=$1 deb
	shift
	echo "Fetching $* ..." >&2
	chmod 755 "$work"
	(cd "$work" && apt-get -qq download "$@" 2>apt.log) || return
	for deb in "$work"/*.deb; do
		dpkg -x "$deb" "$work/all" || return
	done
}

# The kernel and, of its modules, those that the lab loads.
lab_build_kernel() {
	[ -e "$cache/kernel/vmlinuz" ] || lab_fetch_kernel || return
	# A cache of an older lab lacks a module; without a network it does as it is.
	[ "$(cat "$cache/kernel/wanted" 2>/dev/null)" = \
		"$lab_modules $lab_emulated_modules" ] ||
		(lab_fetch_kernel) || [ -e "$cache/kernel/version" ]
}

lab_fetch_kernel() {
	local package work kernel why
	package=$(apt-cache depends linux-image-amd64 2>/dev/null |
		awk '/Depends: linux-image/ { print $2; exit }')
	[ -n "$package" ] || lab_lacks "apt knows no linux-image-amd64:" \
		"run apt-get update."
	work=$(mktemp -d "$cache/kernel.XXXXXX")
	lab_fetch "$work" "$package" || {
		why=$(grep '^E:' "$work/apt.log" | head -n 1)
		rm -rf "$work"
		lab_lacks "$package cannot be fetched: $why"
	}
	kernel=$(basename "$work"/all/lib/modules/*)
	depmod -b "$work/all" "$kernel" || return
	mkdir -p "$work/kernel"
	# A device model starts nothing else.
	cp "$work/all/boot/vmlinuz-$kernel" "$work/kernel/vmlinuz"
	lab_unpack_kernel "$work/all/boot/vmlinuz-$kernel" \
		"$work/kernel/vmlinux"
	lab_copy_modules "$work/all" "$kernel" "$work/kernel" || return
	cp "$work/all/lib/modules/$kernel"/modules.{order,builtin}* \
		"$work/kernel/lib/modules/$kernel/"
	depmod -b "$work/kernel" "$kernel" || return
	echo "$lab_modules $lab_emulated_modules" >"$work/kernel/wanted"
	echo "$kernel" >"$work/kernel/version"
	rm -rf "$cache/kernel"
	mv "$work/kernel" "$cache/kernel"
	rm -rf "$work"
}

# What is needed to build modules for exactly that kernel.  A kernel that was
# cached long ago may have left the archive: then the newest, with its own.
# Without a network and without headers in the cache the lab works all the same,
# but for the guest module, and the tests of that say so.
lab_build_headers() {
	lab_headers_fit || lab_fetch_headers ||
		{ (lab_fetch_kernel) && lab_fetch_headers; } ||
		echo "lab: no headers of the kernel, so no guest module" >&2
}

lab_headers_fit() {
	cmp -s "$cache/headers/version" "$cache/kernel/version"
}

lab_fetch_headers() {
	local kernel work kbuild tree
	kernel=$(cat "$cache/kernel/version")
	kbuild=$(apt-cache depends "linux-headers-$kernel" 2>/dev/null |
		awk '/Depends: linux-kbuild/ { print $2; exit }')
	[ -n "$kbuild" ] || return
	work=$(mktemp -d "$cache/headers.XXXXXX")
	lab_fetch "$work" "linux-headers-$kernel" \
		"linux-headers-${kernel%-amd64}-common" "$kbuild" || {
		grep '^E:' "$work/apt.log" >&2
		rm -rf "$work"
		return 1
	}
	# Its only absolute path.
	tree=$work/all/usr/src/linux-headers-$kernel
	# shellcheck disable=SC2016 # for make
	sed -i 's,^include /usr/src/,include $(dir $(lastword $(MAKEFILE_LIST)))../,' \
		"$tree/Makefile"
	echo "$kernel" >"$work/all/version"
	rm -rf "$cache/headers"
	mv "$work/all" "$cache/headers"
	rm -rf "$work"
}

# colod's module for guests, and one for tests.
lab_build_modules() {
	lab_build_module "$lab_top/resume/guest-linux" colod-guest &&
		lab_build_module "$lab_src/stuck" lab-stuck
}

lab_build_module() {	# source folder, name
	local work=$cache/$2.work made=$cache/$2.ko kernel
	lab_headers_fit || {
		rm -f "$made"
		return 0
	}
	lab_fresh "$made" "$1" "$cache/headers/version" && return
	kernel=$(cat "$cache/kernel/version")
	rm -rf "$work"
	mkdir "$work"
	cp "$1"/*.[ch] "$1/Kbuild" "$1/Makefile" "$work/"
	# The caller may be make itself, with variables of its own.
	env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS -u CC -u CFLAGS -u LDFLAGS \
		make -C "$work" KDIR="$(realpath "$cache")/headers/usr/src/linux-headers-$kernel" \
		>"$work/log" 2>&1 || {
		cat "$work/log" >&2
		return 1
	}
	strip --strip-debug -o "$made" "$work/$2.ko" && rm -rf "$work"
}

# The kernel as an ELF file, out of its bzImage, whose header says where it is
# packed (Linux, Documentation/arch/x86/boot.rst).  An emulated host would take
# 10 s to unpack it, for each guest and at each boot.
lab_unpack_kernel() {	# bzImage, ELF
	local sectors offset length
	sectors=$(od -An -tu1 -j $((0x1f1)) -N 1 "$1")
	offset=$(od -An -tu4 -j $((0x248)) -N 4 "$1")
	length=$(od -An -tu4 -j $((0x24c)) -N 4 "$1")
	# The last four bytes are not xz's: the length when unpacked.
	tail -c "+$(((sectors + 1) * 512 + offset + 1))" "$1" |
		head -c $((length - 4)) | xz -dc >"$2"
}

lab_copy_modules() {	# from, kernel version, to
	local m f
	for m in $lab_modules $lab_emulated_modules xen-blkfront xen-netfront; do
		modprobe -d "$1" -S "$2" --show-depends "$m" |
			awk '$1 == "insmod" { print $2 }'
	done | sort -u | while read -r f; do
		mkdir -p "$3$(dirname "${f#"$1"}")"
		cp "$f" "$3${f#"$1"}" || return
	done
}

# Copies programs and the libraries they load to the same paths under $1.
lab_copy_programs() {
	local root=$1 f
	shift
	for f in "$@"; do
		echo "$f"
		ldd "$f" | awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }'
	done | sort -u | while read -r f; do
		[ -e "$root$f" ] && continue
		mkdir -p "$root$(dirname "$f")"
		cp -L "$f" "$root$f" || return
	done
}

lab_busybox() {	# root
	local applet
	mkdir -p "$1"/{bin,sbin,proc,sys,dev,tmp,run,root}
	cp "$busybox" "$1/bin/busybox"
	for applet in $("$busybox" --list); do
		[ -e "$1/bin/$applet" ] || ln -s busybox "$1/bin/$applet"
	done
}

lab_pack() {	# root, archive
	(cd "$1" && find . | cpio -o -H newc -R 0:0 --quiet) >"$2.new" &&
		mv "$2.new" "$2"
}

# Numbered in the order in which they can be loaded.
lab_copy_numbered() {	# folder, modules...
	local folder=$1 m f n=10
	shift
	mkdir "$folder"
	for m in "$@"; do
		modprobe -d "$cache/kernel" -S "$(cat "$cache/kernel/version")" \
			--show-depends "$m" | awk '$1 == "insmod" { print $2 }'
	done | awk '!seen[$0]++' | while read -r f; do
		cp "$f" "$folder/$((n++))-${f##*/}" || return
	done
}

lab_build_guest() {
	local root=$cache/guest.root made=$cache/guest.cpio how modules=()
	[ ! -e "$cache/colod-guest.ko" ] ||
		modules=("$cache/colod-guest.ko" "$cache/lab-stuck.ko")
	lab_fresh "$made" \
		"$cache/bin/"{guest-check,guest-order,numbered,beacon,clients,records} \
		"$lab_src/guest-init" "$cache/kernel/version" \
		"${modules[@]}" && return
	rm -rf "$root"
	lab_busybox "$root"
	mkdir -p "$root/modules"
	find "$cache/kernel/lib" \( -name xen-blkfront.ko -o \
		-name xen-netfront.ko \) -exec cp -t "$root/modules" {} +
	[ ${#modules[@]} -eq 0 ] || cp "${modules[@]}" "$root/modules/"
	# shellcheck disable=SC2086 # several words
	lab_copy_numbered "$root/modules/emulated" $lab_emulated_modules &&
		lab_copy_numbered "$root/modules/fs" $lab_fs_modules || return
	cp "$cache/bin/"{guest-check,guest-order,numbered,beacon,clients,records} \
		"$root/bin/"
	install -m 755 "$lab_src/guest-init" "$root/init"
	for how in poweroff reboot; do
		printf '#!/bin/sh\nexec /bin/busybox %s -f\n' $how >"$root/sbin/$how"
	done
	printf '#!/bin/sh\necho c >/proc/sysrq-trigger\n' >"$root/sbin/crash"
	chmod 755 "$root"/sbin/*
	lab_pack "$root" "$made" && rm -rf "$root"
}

lab_build_dom0() {
	local root=$cache/dom0.root made=$cache/dom0.cpio t tools=()
	lab_fresh "$made" "$cache/guest.cpio" "$cache/bin/agent" \
		"$cache/bin/"{follow,numbered,beacon,clients,records,evtchn} \
		"$lab_src/dom0-init" "$lab_src/hotplug" \
		"$xen_bin/xl" "$lab_src/build.sh" && return
	rm -rf "$root"
	lab_busybox "$root"
	mkdir -p "$root"/{guest,etc/xen/scripts,var/log,var/lib}
	mkdir -p "$root"/var/{log/xen/console,lib/xen,lib/xenstored}
	for t in $lab_xen_tools; do
		tools+=("$xen_bin/$t")
		ln -sf "$xen_bin/$t" "$root/bin/$t"
	done
	for t in ls read write rm list watch chmod; do
		[ -x "/usr/bin/xenstore-$t" ] || continue
		tools+=("/usr/bin/xenstore-$t")
		ln -sf "/usr/bin/xenstore-$t" "$root/bin/xenstore-$t"
	done
	t=$(realpath "$cache/bin/evtchn")
	lab_copy_programs "$root" "${tools[@]}" "$t" "$lab_e2fsck" || return
	mv "$root$t" "$root/bin/"
	ln -sf "$lab_e2fsck" "$root/bin/e2fsck"
	# Found by name at run time: pthread_cancel needs it.
	t=$("${CC:-gcc}" -print-file-name=libgcc_s.so.1)
	cp -L "$t" "$root$(dirname "$(ldd "$xen_bin/xl" |
		awk '/libc\.so/ { print $3 }')")/"
	cp -R "$cache/kernel/lib" "$root/"
	cp "$cache/kernel/vmlinux" "$cache/guest.cpio" "$root/guest/"
	cp "$cache/bin/"{agent,follow,numbered,beacon,clients,records} "$root/bin/"
	install -m 755 "$lab_src/hotplug" "$root/etc/xen/scripts/lab-vif"
	install -m 755 "$lab_src/hotplug" "$root/etc/xen/scripts/lab-disk"
	install -m 755 "$lab_src/dom0-init" "$root/init"
	: >"$root/etc/xen/xl.conf"
	(cd "$root" && find . -type f | sed 's/^\.//') >"$cache/dom0.files"
	lab_pack "$root" "$made" && rm -rf "$root"
}

# QEMU as Xen's device model, and what it looks for at these paths.
lab_build_hvm() {
	local root=$cache/hvm.root made=$cache/hvm.cpio f
	[ -x "$lab_model" ] || lab_lacks "HVM guests in the lab need another" \
		"package: apt-get install qemu-system-xen"
	lab_fresh "$made" "$lab_model" "$cache/dom0.cpio" && return
	rm -rf "$root"
	mkdir -p "$root"
	lab_copy_programs "$root" "$lab_model" || return
	mkdir -p "$root/guest"
	cp "$cache/kernel/vmlinuz" "$root/guest/" || return
	for f in "${xen_bin%/bin}/boot/hvmloader" \
		/usr/share/seabios/bios-256k.bin \
		/usr/share/qemu/{linuxboot,linuxboot_dma,kvmvapic,pvh}.bin \
		/usr/lib/ipxe/qemu/efi-e1000.rom \
		/usr/share/qemu/keymaps/en-us; do
		mkdir -p "$root${f%/*}"
		cp -L "$f" "$root$f" || return
	done
	lab_not_twice "$root"
	lab_pack "$root" "$made" && rm -rf "$root"
}

# What dom0.cpio has already.
lab_not_twice() {	# root
	local f
	while read -r f; do
		rm -f "$1$f"
	done <"$cache/dom0.files"
}

# Made once: a host that is switched on after colod was built anew must still
# know the other.
lab_certs() {	# folder
	[ -e "$1/b.key" ] || "$COLOD" certs "$1" a=10.9.0.1 b=10.9.0.2 >/dev/null
}

# Redis, for a guest: Debian's, with what it loads.
lab_build_servers() {
	local root=$cache/servers.root made=$cache/servers.cpio redis
	redis=$(realpath "$(type -p redis-server)" 2>/dev/null) ||
		lab_lacks "servers in the lab's guests need another package:" \
			"apt-get install redis-server"
	lab_fresh "$made" "$redis" "$lab_src/build.sh" && return
	rm -rf "$root"
	mkdir -p "$root"/{redis/bin,all/guest}
	lab_copy_programs "$root/redis" "$redis" || return
	mv "$root/redis$redis" "$root/redis/bin/redis-server"
	lab_pack "$root/redis" "$root/all/guest/redis.cpio" || return
	lab_pack "$root/all" "$made" && rm -rf "$root"
}

# Of iproute2, where this machine has it: busybox's can only show.
lab_tc() {
	local tc
	tc=$(PATH=$PATH:/usr/sbin:/sbin type -p tc) && realpath "$tc"
}

# colod with certificates of two authorities: /certs, and /other-certs for the
# tests in which the peer is a stranger.
lab_build_colod() {
	local root=$cache/colod.root made=$cache/colod.cpio tc
	local plugin=${COLOD%/*}/nbdkit-colod-plugin.so
	lab_fresh "$made" "$COLOD" "$plugin" "$cache/dom0.cpio" && return
	rm -rf "$root"
	mkdir -p "$root/bin"
	tc=$(lab_tc)
	# shellcheck disable=SC2086 # none or one
	lab_copy_programs "$root" "$COLOD" "$plugin" "$lab_nbdkit" $tc || return
	mv "$root$COLOD" "$root$plugin" "$root$lab_nbdkit" "$root/bin/"
	[ -z "$tc" ] || mv "$root$tc" "$root/bin/tc"
	lab_not_twice "$root"
	lab_certs "$cache/certs" && lab_certs "$cache/other-certs" || return
	cp -R "$cache/certs" "$cache/other-certs" "$root/"
	lab_pack "$root" "$made" && rm -rf "$root"
}

# Two labs may be built at once from one cache: one waits.
lab_build() {
	cache=${COLOD_LAB_CACHE:-$(dirname "$COLOD")/lab-cache}
	mkdir -p "$cache"
	(
		flock 9
		lab_build_programs && lab_build_qemu && lab_build_kernel &&
			lab_build_headers && lab_build_modules &&
			lab_build_guest && lab_build_dom0 &&
			lab_build_colod || exit
		! lab_emulates || lab_build_hvm || exit
		! lab_serves || lab_build_servers || exit
		[ "$lab_hypervisor" = xen ] || lab_build_shadow || exit
		lab_fresh "$cache/xen.elf" "$xen_gz" ||
			gunzip -c "$xen_gz" >"$cache/xen.elf"
	) 9>"$cache/lock"
}
