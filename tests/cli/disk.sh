# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# What a test of `colod disk' needs, behind lib.sh:
#
#	disk WORDS...		run disk WORDS, with the folders of this test
#	serve NAME		starts `colod disk serve', $server, and waits for it
#	io NAME write|check OFFSET LETTER	4 KiB of it, by its socket
#	may_io ...		the same, which may fail
#	hold NAME, let_go	a client that stays
#	await WHAT COMMAND...	until it succeeds

runs=$dir/run
plugin=$(dirname "$colod")/nbdkit-colod-plugin.so
server=
client=
listener=

for tool in nbdkit /usr/bin/python3; do
	command -v $tool >/dev/null || skip "no $tool on this machine"
done
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd here"

# A plugin with a sanitizer wants its library to be there first.
preload=$(ldd "$plugin" 2>/dev/null | awk '/lib[at]san/ { print $3; exit }')

# The lock of a disk says which its nbdkit is.
end_all() {
	for pid in $server $client $listener \
		$(cut -s -d ' ' -f 1 "$runs"/disks/*.lock 2>/dev/null); do
		kill -KILL "$pid" 2>/dev/null
	done
	wait
	rm -rf "$dir"
}
trap end_all EXIT

disk() {
	run disk --disk-dir "$dir/disks" --run-dir "$runs" "$@"
}

await() {
	awaited=$1
	shift
	i=0
	until "$@" >/dev/null 2>&1; do
		i=$((i + 1))
		[ $i -lt 1200 ] || fail "never: $awaited"
		sleep 0.05
	done
}

# Where systemd would listen; what it is told is in $dir/notified.
listen_for_ready() {
	/usr/bin/python3 - "$dir/notify" >"$dir/notified" <<-'END' &
		import socket, sys
		s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		s.bind(sys.argv[1])
		print(s.recv(100).decode(), flush=True)
	END
	listener=$!
	await "the listener is there" test -S "$dir/notify"
	NOTIFY_SOCKET=$dir/notify
	export NOTIFY_SOCKET
}

serve() {
	rm -f "$dir/$1.log"
	LD_PRELOAD=$preload "$colod" disk serve --no-device \
		--disk-dir "$dir/disks" --run-dir "$runs" "$1" \
		>"$dir/$1.log" 2>&1 &
	server=$!
	i=0
	until grep -qs "disk $1: served at" "$dir/$1.log"; do
		i=$((i + 1))
		if [ $i -ge 1200 ] || ! kill -0 $server 2>/dev/null; then
			fail "not served: $(cat "$dir/$1.log")"
		fi
		sleep 0.05
	done
}

may_io() {
	head -c 4096 /dev/zero | tr '\0' "$4" >"$dir/$4"
	/usr/bin/python3 - "$runs/disks/$1.nbd" "$2" "$3" "$dir/$4" <<-'END'
		import nbd, sys
		path, what, offset, file = sys.argv[1:]
		data = open(file, "rb").read()
		h = nbd.NBD()
		h.connect_unix(path)
		if what == "write":
		    h.pwrite(data, int(offset))
		    h.flush()
		elif h.pread(len(data), int(offset)) != data:
		    sys.exit("other bytes than %s at %s" % (file, offset))
		h.shutdown()
	END
}

io() {
	may_io "$@" || fail "no io $*"
}

hold() {
	rm -f "$dir/held" "$dir/go"
	mkfifo "$dir/go"
	/usr/bin/python3 - "$runs/disks/$1.nbd" "$dir" <<-'END' &
		import nbd, sys
		path, dir = sys.argv[1:]
		h = nbd.NBD()
		h.connect_unix(path)
		open(dir + "/held", "w").close()
		open(dir + "/go").read()
	END
	client=$!
	await "a client is connected" test -e "$dir/held"
}

let_go() {
	: >"$dir/go"
	wait "$client"
	client=
}

child() { tr -d ' ' <"/proc/$1/task/$1/children"; }
group() { cut -d ' ' -f 5 "/proc/$1/stat"; }
# Whether anybody has waited for it is not ours to say.
gone() { [ ! -e "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status"; }

another_child() {
	another=$(child "$1")
	[ -n "$another" ] && [ "$another" != "$2" ]
}

nothing_left() {
	for file in nbd control lock; do
		[ ! -e "$runs/disks/$1.$file" ] || fail "left behind: $1.$file"
	done
}
