/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named scenarios: a world with usual settings, and the exact virtual time at
 * which things come to pass.
 *
 * Usual: a heartbeat each 100 ms, lost after 3 of them, a checkpoint each 50
 * ms, 0.5 ms one way, a fence command that takes 1 s (SIM_NUMBERS in world.h).
 */
#ifndef TESTS_SIM_SCENARIO_H
#define TESTS_SIM_SCENARIO_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/run.h"

/* Both colods run, from time 0. */
void scenario(struct world *w, const struct sim_config *cfg);
/* Up to this time; all invariants hold. */
void up_to(struct world *w, uint64_t us);
/* When A or B comes to this state. */
uint64_t when_a(struct world *w, enum primary_state s);
uint64_t when_b(struct world *w, enum secondary_state s);
/* When this becomes true. */
uint64_t when(struct world *w, bool (*is)(const struct world *w));
void deed(struct world *w, enum deed_kind kind, unsigned int host,
	  uint32_t what, uint32_t number);

/* The last sign of life that this side has had of its peer, in world time. */
uint64_t alive_a(const struct world *w);
uint64_t alive_b(const struct world *w);

#define at_ms(us, ms) scenario_at((us), (ms), __FILE__, __LINE__)
void scenario_at(uint64_t got_us, double wanted_ms, const char *file, int line);

extern struct world scenario_world;
int scenario_setup(void **state);
#define SCENARIO(f) cmocka_unit_test_setup(f, scenario_setup)

#endif
