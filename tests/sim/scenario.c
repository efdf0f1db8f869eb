/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/sim/scenario.h"

#include <stdlib.h>

enum { LIMIT_US = 300 * SEC };

struct world scenario_world;

int scenario_setup(void **state)
{
	*state = &scenario_world;
	sim_traces = getenv("SIM_TRACE") != NULL;
	return 0;
}

static void holds(const struct world *w)
{
	if (w->violation[0])
		fail_msg("at %llu us: %s", (unsigned long long)w->now_us,
			 w->violation);
}

void scenario(struct world *w, const struct sim_config *cfg)
{
	sim_init(w, cfg);
	sim_start(w, B);
	sim_start(w, A);
}

void up_to(struct world *w, uint64_t us)
{
	assert_true(us >= w->now_us);
	sim_run_until(w, us);
	holds(w);
}

void deed(struct world *w, enum deed_kind kind, unsigned int host,
	  uint32_t what, uint32_t number)
{
	run_deed(w, &(struct deed){ .kind = kind,
				    .host = host,
				    .what = what,
				    .number = number });
	holds(w);
}

uint64_t when(struct world *w, bool (*is)(const struct world *w))
{
	while (!is(w)) {
		if (!sim_step(w, LIMIT_US))
			fail_msg("it never comes to pass");
		holds(w);
	}
	return w->now_us;
}

void scenario_at(uint64_t got_us, double wanted_ms, const char *file, int line)
{
	if (got_us == (uint64_t)(wanted_ms * 1000 + 0.5))
		return;
	print_error("wanted: %.3f ms\ngot:    %.3f ms\n", wanted_ms,
		    (double)got_us / 1000);
	_fail(file, line);
}

static enum primary_state wanted_a;
static enum secondary_state wanted_b;

static bool a_is(const struct world *w)
{
	return w->host[A].colod && w->primary.state == wanted_a;
}

static bool b_is(const struct world *w)
{
	return w->host[B].colod && w->secondary.state == wanted_b;
}

uint64_t when_a(struct world *w, enum primary_state s)
{
	wanted_a = s;
	return when(w, a_is);
}

uint64_t when_b(struct world *w, enum secondary_state s)
{
	wanted_b = s;
	return when(w, b_is);
}

/* Only where clocks do not drift. */
uint64_t alive_a(const struct world *w)
{
	return w->primary.alive_us - (uint64_t)w->host[A].offset_us;
}

uint64_t alive_b(const struct world *w)
{
	return w->secondary.alive_us - (uint64_t)w->host[B].offset_us;
}
