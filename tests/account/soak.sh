#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The account test at length: FAILOVERS takeovers in a row (200), by whatever
# may befall the hosts, with a fault at every point of either side in between.
# One ledger and the same clients survive all of it.
#
#	make check-soak
#	FAILOVERS=1000 make check-soak
#	FAILOVERS=20 COLOD_ACCOUNT_SEED=7 tests/account/soak.sh
#	COLOD_ACCOUNT_DISK_MIB=0 ...	without a disk
#
# One line a round.  Exit status 0: nothing was lost.

name=soak
: "${COLOD_ACCOUNT_DISK_MIB:=48}"
. "${abs_top_srcdir:-.}/tests/account/lib.sh"

failovers=${FAILOVERS:-200}
guest_options=mem=64M
# Payments a second: all of them have to fit the disk and the memory.
rate=$((200 * 1000 / failovers))
[ $rate -lt 1000 ] || rate=1000
begun=$(now_ms)
say "seed $seed, $failovers takeovers; see $dir"
account_begin --clients=8 --pipeline=4 --rate="$rate"

read -r -a kinds <<<"$harms"
read -r -a faults <<<"$(fault_rounds | shuffled | tr '\n' ' ')"
# A host that was late was killed before its fault was due, which is seldom.
declare -A missed
strike_later() {
	missed[$not_struck]=$((${missed[$not_struck]:-0} + 1))
	[ "${missed[$not_struck]}" -lt 4 ] || fail "never passed: $not_struck"
	faults+=("$not_struck")
}

# All faults are had by the time that the takeovers are.
rounds=0
rounds_max=$((failovers * 4 + ${#faults[@]} * 4))
while [ "$takeovers" -lt "$failovers" ] || [ ${#faults[@]} -gt 0 ]; do
	[ $((rounds += 1)) -le $rounds_max ] ||
		fail "only $takeovers takeovers in $rounds rounds"
	if [ ${#faults[@]} -gt 0 ] && [ $((rounds % 3)) -eq 0 ]; then
		fault_round "${faults[0]}" || break
		faults=("${faults[@]:1}")
		[ -z "$not_struck" ] || strike_later
		continue
	fi
	kind=${kinds[RANDOM % ${#kinds[@]}]}
	side=run
	[ $((RANDOM % 4)) -gt 0 ] || side=other
	round "$kind" $side || break
done
clients_verify
is=$?
say "$takeovers takeovers in $rounds rounds, $struck faults struck," \
	"$((($(now_ms) - begun) / 1000)) s: $verdict"
[ $is -eq 0 ] || {
	cat "$dir/clients.log" >&2
	fail "promises were broken"
}
