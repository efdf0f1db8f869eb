/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exhaustive exploration: from a world, every order of what may happen next,
 * with a bounded number of faults in between, to a depth.
 *
 * Any item may come next, however late the others are by then; of the timers
 * of one host the earliest.  So a process that stands still is one whose items
 * come last, and a fence command that hangs one that fails late.  It may
 * succeed or fail, and an image may have to wait for the peer to take of it. As
 * long as faults are left: either process dies or is stopped by its operator,
 * either host loses power, either direction is cut, the connection breaks for
 * either side or both, a frame is corrupted, a job fails, the guest suspends
 * late or a fence command lies. A dead colod may be started, and a cut mended,
 * at any time.  From one state in 16 the world is healed (run.h), and the guest
 * must come to run.
 *
 * Only the random exploration has guests that end, epochs of several rounds, a
 * kill within a checkpoint, other settings, drifting clocks.
 */
#ifndef TESTS_SIM_EXPLORE_H
#define TESTS_SIM_EXPLORE_H

#include "tests/sim/world.h"

enum { EXPLORE_DEPTH_MAX = 64, EXPLORE_TEXT = 100 };

struct explore {
	struct world *world; /* is as at the start again afterwards */
	unsigned int depth;
	unsigned int faults;

	uint64_t states; /* different ones that were reached */
	uint64_t moves;	 /* made, from one to the next */
	uint64_t healed; /* how many of the states came to a good end */
	/* Of a violation: what led to it. */
	unsigned int path_length;
	char path[EXPLORE_DEPTH_MAX][EXPLORE_TEXT];
	char violation[160];
};

/* Equal for worlds that go the same ways. */
uint64_t canon_hash(const struct world *of, unsigned int faults);

/* False: a violation.  Aborts where there is no memory for the states. */
bool explore(struct explore *x);

#endif
