#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs Xen scenarios in one lab, which boots once; a host that a scenario killed
# is switched on again for the next one.
#
#	run.sh SCENARIO...	files tests/xen/xen-*.test
#
# Prints a line for each, and last "N passed, N failed, N skipped".  Exit status
# 0 when none failed.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/build.sh"
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/host.sh"

passed=0 failed=0 skipped=0

run_one() {
	local name started=$SECONDS status=0
	name=$(basename "$1" .test)
	"$(realpath "$1")" >"$lab_dir/$name.out" 2>&1 || status=$?
	case $status in
	0)
		passed=$((passed + 1))
		echo "PASS $name ($((SECONDS - started)) s)"
		;;
	77)
		skipped=$((skipped + 1))
		echo "SKIP $name"
		;;
	*)
		failed=$((failed + 1))
		echo "FAIL $name ($((SECONDS - started)) s)"
		;;
	esac
	sed 's/^/    /' "$lab_dir/$name.out"
}

# What the machine lacks is said once and skips all.
prepare() {
	(
		lab_find_tools
		lab_find_colod
		lab_build
	)
}

prepare
status=$?
if [ $status -ne 0 ]; then
	[ $status -eq 77 ] && skipped=$# || failed=$#
	echo "$passed passed, $failed failed, $skipped skipped"
	[ $status -eq 77 ]
	exit
fi
lab_find_tools
lab_find_colod
cache=${COLOD_LAB_CACHE:-$(dirname "$COLOD")/lab-cache}
trap lab_down EXIT
trap 'echo "interrupted"; exit 1' INT TERM HUP
lab_up || exit 1
export COLOD COLOD_LAB_DIR=$lab_dir
for scenario in "$@"; do
	run_one "$scenario"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
