/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run: a configuration and a list of deeds, each at its virtual time.
 *
 * A run says all there is to say: the same run ends the same way, to the
 * letter.  Random runs are made from a seed; a run that breaks an invariant is
 * shrunken (shrink.c) and printed as text, which run_read() takes back.
 *
 * After the last deed the world is healed: the network is whole, processes are
 * started again, fences are honest, operators do what the manual says.  From
 * there the guest must come to run with its output flowing on one host, or be
 * known to be dead.
 */
#ifndef TESTS_SIM_RUN_H
#define TESTS_SIM_RUN_H

#include <stdio.h>

#include "tests/sim/world.h"

/* name, what the numbers mean */
#define SIM_DEEDS(X)                                                  \
	X(CUT, "cut")	  /* what HOST sends is held */               \
	X(MEND, "mend")	  /* the same, no more */                     \
	X(BREAK, "break") /* HOST, or both (2), after us */           \
	X(CRASH, "crash") /* kill -9 */                               \
	X(START, "start") /* colod */                                 \
	X(STOP, "stop")	  /* SIGSTOP */                               \
	X(CONT, "cont")	  /* SIGCONT */                               \
	X(OFF, "off")	  /* the host loses power */                  \
	X(ON, "on")                                                   \
	X(FENCE, "fence")	/* MODE of those that start now */    \
	X(FAIL, "fail")		/* the next JOB, with errno */        \
	X(SLOW, "slow")		/* the next JOB, by us more */        \
	X(PARTIAL, "partial")	/* N rounds more of the next epoch */ \
	X(LATE, "late")		/* the guest suspends, us too late */ \
	X(CORRUPT, "corrupt")	/* the next bulk frame */             \
	X(DIE, "die")		/* at POINT of the next capture */    \
	X(GUEST, "guest")	/* ends by itself, STATUS */          \
	X(FAILOVER, "failover") /* by an operator who has looked */   \
	X(SIGTERM, "sigterm")

enum deed_kind {
#define X(name, text) DEED_##name,
	SIM_DEEDS(X)
#undef X
		DEED_KINDS
};

struct deed {
	uint64_t at_us;
	enum deed_kind kind;
	unsigned int host;
	uint32_t what;
	uint32_t number;
};

enum { DEEDS_MAX = 24 };

struct run {
	struct sim_config cfg;
	unsigned int count;
	struct deed deeds[DEEDS_MAX];
	uint64_t heal_us;
};

void run_from_seed(struct run *r, uint64_t seed);
/* From here on nothing disturbs it; else a violation. */
void run_heal(struct world *w);
/* False: w->violation says what does not hold. */
bool run_execute(struct world *w, const struct run *r);
void run_print(FILE *out, const struct run *r);
/* False: a line that is not understood; *line is its number. */
bool run_read(FILE *in, struct run *r, unsigned int *line);
/* Does the deed now. */
void run_deed(struct world *w, const struct deed *d);
/* Deeds and settings that are not needed for the violation are removed. */
void run_shrink(struct world *w, struct run *r);

#endif
