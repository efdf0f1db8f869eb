#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A hypervisor that can track what a PV guest writes: Debian's own source with shadow
# paging, in the cache as xen-shadow.elf.  Two minutes on one processor.  Sourced by
# build.sh.

# The machine's own archives, as sources, with lists of our own.
lab_source_apt() {	# folder, tool, arguments...
	local work=$1 tool=$2
	shift 2
	"$tool" -qq -o Dir::Etc::SourceList="$work/apt/sources.list" \
		-o Dir::Etc::SourceParts="$work/apt/parts" \
		-o Dir::State::Lists="$work/apt/lists" \
		-o APT::Sandbox::User=root "$@"
}

lab_source_lists() {	# folder
	local f
	mkdir -p "$1"/apt/{parts,lists/partial}
	sed -n 's/^deb /deb-src /p' /etc/apt/sources.list \
		>"$1/apt/sources.list" 2>/dev/null
	for f in /etc/apt/sources.list.d/*.sources; do
		[ ! -e "$f" ] || sed 's/^Types: .*/Types: deb-src/' "$f" \
			>"$1/apt/parts/${f##*/}"
	done
	lab_source_apt "$1" apt-get update >/dev/null 2>&1
}

# An archive may list a version that it has not any more.
lab_fetch_xen() {	# folder
	local version
	lab_source_lists "$1" || return
	for version in $(lab_source_apt "$1" apt-cache showsrc xen 2>/dev/null |
		sed -n 's/^Version: //p' | sort -rV | uniq); do
		(cd "$1" && lab_source_apt "$1" apt-get source --download-only \
			"xen=$version") >/dev/null 2>&1 || continue
		echo "Building the hypervisor $version with shadow paging ..." >&2
		(cd "$1" && dpkg-source --no-check -x xen_*.dsc tree) \
			>/dev/null 2>&1 && return
	done
	return 1
}

# shellcheck disable=SC2154 # cache: of build.sh
lab_build_shadow() {
	local made=$cache/xen-shadow.elf work t missing=""
	[ ! -e "$made" ] || return 0
	for t in flex bison dpkg-source python3; do
		type $t >/dev/null 2>&1 || missing+=" $t"
	done
	[ -z "$missing" ] || lab_lacks "a hypervisor with shadow paging needs" \
		"these to be built:$missing (apt-get install flex bison dpkg-dev)"
	work=$(mktemp -d "$cache/shadow.XXXXXX")
	lab_fetch_xen "$work" || {
		rm -rf "$work"
		lab_lacks "the sources of Debian's package xen cannot be fetched"
	}
	cp "$work/tree/debian/xen-kconfig" "$work/tree/xen/.config"
	echo CONFIG_SHADOW_PAGING=y >>"$work/tree/xen/.config"
	for t in olddefconfig build; do
		make -C "$work/tree/xen" XEN_TARGET_ARCH=x86_64 debug=n \
			-j"$(nproc)" $t >"$work/make.log" 2>&1 || {
			tail -n 5 "$work/make.log" >&2
			rm -rf "$work"
			return 1
		}
	done
	gunzip -c "$work/tree/xen/xen.gz" >"$made.new" && mv "$made.new" "$made"
	rm -rf "$work"
}
