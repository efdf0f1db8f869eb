/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random exploration, see tests/sim/run.h.
 *
 *	sim-random [--seeds N] [--from SEED]   N runs (10,000)
 *	sim-random --seed SEED                 this one, narrated
 *	sim-random --replay FILE               the run in this text, narrated
 *
 * Exit status 1 where an invariant does not hold: the seed, the shrunken run
 * and what was broken are printed.
 */
#include "config.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/run.h"

enum { SEEDS = 10000 };

static struct world world;

static int narrate(struct run *r)
{
	sim_traces = true;
	run_print(stdout, r);
	if (run_execute(&world, r)) {
		printf("all invariants hold\n");
		return 0;
	}
	printf("FAIL: %s\n", world.violation);
	return 1;
}

static int replay(const char *path)
{
	FILE *in = fopen(path, "r");
	unsigned int line;
	struct run r;
	bool good;

	if (!in) {
		perror(path);
		return 2;
	}
	good = run_read(in, &r, &line);
	fclose(in);
	if (!good) {
		fprintf(stderr, "%s: line %u is not understood\n", path, line);
		return 2;
	}
	return narrate(&r);
}

static void report(uint64_t seed, struct run *r)
{
	printf("FAIL: seed %" PRIu64 ": %s\n", seed, world.violation);
	run_shrink(&world, r);
	printf("# seed %" PRIu64 ", shrunken; sim-random --replay FILE\n",
	       seed);
	run_print(stdout, r);
	printf("# %s at %" PRIu64 " us, step %" PRIu64 "\n", world.violation,
	       world.now_us, world.steps);
}

/* Runs that never leave the door, or all end the same way, prove nothing. */
static bool is_varied(const uint64_t *ends)
{
	bool good = true;
	unsigned int i;

	for (i = PRIMARY_CONNECTING; i < PRIMARY_ENDED; i++)
		if (!(sim_seen[A] & (UINT32_C(1) << i))) {
			printf("never seen: a %s\n", primary_state_text(i));
			good = false;
		}
	for (i = 0; i < SECONDARY_ENDED; i++)
		if (!(sim_seen[B] & (UINT32_C(1) << i))) {
			printf("never seen: b %s\n", secondary_state_text(i));
			good = false;
		}
	printf("in the end the guest runs on a %" PRIu64 ", on b %" PRIu64
	       ", nowhere %" PRIu64 "\n",
	       ends[A], ends[B], ends[HOSTS]);
	return good && ends[A] && ends[B] && ends[HOSTS];
}

static int explore(uint64_t from, uint64_t seeds, unsigned int failures_max)
{
	uint64_t seed, steps = 0, ends[HOSTS + 1] = { 0 };
	unsigned int failures = 0;
	struct run r;

	for (seed = from; seed < from + seeds; seed++) {
		run_from_seed(&r, seed);
		if (!run_execute(&world, &r)) {
			report(seed, &r);
			if (++failures == failures_max)
				break;
		}
		steps += world.steps;
		ends[guest_runs(&world.host[A])	  ? A
		     : guest_runs(&world.host[B]) ? B
						  : HOSTS]++;
	}
	if (failures)
		return 1;
	if (seeds >= SEEDS && !is_varied(ends)) {
		printf("FAIL: the runs are too much alike\n");
		return 1;
	}
	printf("PASS: %" PRIu64 " runs from seed %" PRIu64 ", %" PRIu64
	       " events: all invariants hold\n",
	       seeds, from, steps);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t from = 1, seeds = SEEDS;
	unsigned int failures = 1;
	struct run r;
	int i;

	for (i = 1; i + 1 < argc; i += 2) {
		uint64_t n = strtoull(argv[i + 1], NULL, 10);

		if (!strcmp(argv[i], "--seeds")) {
			seeds = n;
		} else if (!strcmp(argv[i], "--from")) {
			from = n;
		} else if (!strcmp(argv[i], "--failures")) {
			failures = (unsigned int)n;
		} else if (!strcmp(argv[i], "--seed")) {
			run_from_seed(&r, n);
			return narrate(&r);
		} else if (!strcmp(argv[i], "--replay")) {
			return replay(argv[i + 1]);
		} else {
			break;
		}
	}
	if (i < argc) {
		fprintf(stderr,
			"usage: sim-random [--seeds N] [--from SEED] "
			"[--failures N] | --seed SEED | --replay FILE\n");
		return 2;
	}
	return explore(from, seeds, failures);
}
