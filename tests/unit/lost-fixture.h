/* SPDX-License-Identifier: Apache-2.0 */
/* A primary under a script, on its way to having lost its peer. */
#ifndef TESTS_UNIT_LOST_FIXTURE_H
#define TESTS_UNIT_LOST_FIXTURE_H

#include <string.h>

#include "tests/unit/engine-script.h"

/* The capture that to_protected() started ends, so that no job is left. */
static inline void to_protected_idle(struct script *s)
{
	to_protected(s);
	one_epoch(s, 1);
	expect(s, "encode 1");
}

/* The link breaks at 20 ms, the last sign of life was at 10 ms. */
static inline void to_lost_primary(struct script *s)
{
	to_protected_idle(s);
	run_until(s, 10 * MS);
	simple(s, EVENT_ALIVE);
	run_until(s, 20 * MS);
	link_down(s, "reset");
	expect(s, "");
	expect_state(s, "lost");
}

/* No attempt to connect works. */
static inline void refuse_until(struct script *s, uint64_t elapsed_us)
{
	while (elapsed(s) < elapsed_us) {
		run_for(s, 10 * MS);
		if (strcmp(script_state(s), "connecting") == 0) {
			expect(s, "connect");
			link_down(s, "connection refused");
		}
	}
}

static inline void to_fencing(struct script *s)
{
	script_primary(s);
	s->primary.cfg.fence = true;
	to_lost_primary(s);
	refuse_until(s, 310 * MS);
	expect(s, "fence");
	expect_state(s, "fencing");
}

static inline void to_unprotected(struct script *s)
{
	script_primary(s);
	to_lost_primary(s);
	refuse_until(s, 310 * MS);
	expect(s, "");
	expect_state(s, "unprotected");
}

static inline void released(struct script *s, const char *finish)
{
	done(s, ENV_JOB_RELEASE, 0, 0, NULL);
	expect(s, finish);
	expect_state(s, "ended");
}

#endif
