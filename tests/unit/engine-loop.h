/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real event loop for a test: it turns until a condition holds, or fails
 * after a few seconds.
 */
#ifndef TESTS_UNIT_ENGINE_LOOP_H
#define TESTS_UNIT_ENGINE_LOOP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "net/loop.h"

enum { LOOP_PATIENCE_US = 30 * 1000 * 1000, LOOP_LOOK_US = 500 };

struct looking {
	struct loop *loop;
	struct loop_timer timer;
	bool (*holds)(void *arg);
	void *arg;
	uint64_t give_up_us;
	bool held;
};

static inline void look(void *arg)
{
	struct looking *k = arg;

	k->held = k->holds(k->arg);
	if (k->held || clock_now_us() > k->give_up_us)
		loop_stop(k->loop);
	else
		loop_timer_start(k->loop, &k->timer,
				 clock_now_us() + LOOP_LOOK_US);
}

#define loop_until(loop, holds, arg)                     \
	do {                                             \
		if (!loop_until_(loop, holds, arg))      \
			fail_msg("in vain: %s", #holds); \
	} while (0)

static inline bool loop_until_(struct loop *loop, bool (*holds)(void *arg),
			       void *arg)
{
	struct looking k = { .loop = loop, .holds = holds, .arg = arg };

	k.timer.fn = look;
	k.timer.arg = &k;
	k.give_up_us = clock_now_us() + LOOP_PATIENCE_US;
	loop_timer_start(loop, &k.timer, clock_now_us());
	assert_int_equal(loop_run(loop), 0);
	return k.held;
}

static inline bool time_has_come(void *arg)
{
	return clock_now_us() >= *(uint64_t *)arg;
}

static inline void loop_for(struct loop *loop, uint64_t us)
{
	uint64_t at = clock_now_us() + us;

	loop_until(loop, time_has_come, &at);
}

#endif
