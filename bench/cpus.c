/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processors of a bench: one for the primary with its guest, one for the
 * secondary, and the same two for the limits.  Threads that wander between
 * processors in one run and not in the next are not comparable.
 *
 * The two are the first that this process may use, whatever the machine has;
 * where it may use but one, nothing is bound.
 */
#include "config.h"

#include "bench/bench.h"

#include <sched.h>

void bench_cpus(int cpu[BENCH_SIDES])
{
	cpu_set_t may;
	int i, n = 0;

	for (i = 0; i < BENCH_SIDES; i++)
		cpu[i] = -1;
	if (sched_getaffinity(0, sizeof(may), &may) ||
	    CPU_COUNT(&may) < BENCH_SIDES)
		return;
	for (i = 0; n < BENCH_SIDES; i++)
		if (CPU_ISSET(i, &may))
			cpu[n++] = i;
}

void bench_pin(int cpu)
{
	cpu_set_t one;

	if (cpu < 0)
		return;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}
