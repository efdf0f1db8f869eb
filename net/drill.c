/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A drill under way: its clock, its chance, and those who take part.
 *
 * It only says what holds at a moment; the filters do it.  On the loop's
 * thread alone.
 */
#include "config.h"

#include "net/drill.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

struct drill {
	struct loop *loop;
	struct drill_spec spec;
	uint64_t start_us;
	uint64_t seed;
	uint64_t sources; /* given out since the start */
	struct drill_member *members;
	struct loop_timer cut;
	struct loop_timer stall[DRILL_WAYS];
};

static void tell(struct drill *d, bool cut)
{
	struct drill_member *m, *next;

	for (m = d->members; m; m = next) {
		next = m->next;
		m->changed(m, cut);
	}
}

static void cut_now(void *arg)
{
	struct drill *d = arg;

	log_warn("drill: the connection is cut%s",
		 d->spec.cut_for_us ? ", and there is no other for a while"
				    : "");
	tell(d, true);
}

static void stalls(void *arg)
{
	const struct drill_effects *e = arg;

	log_warn("drill: nothing passes for %.1f s",
		 (double)e->stall_for_us / 1e6);
}

struct drill *drill_new(struct loop *loop)
{
	struct drill *d = memory_zeroed(sizeof(*d));
	int w;

	if (!d)
		return NULL;
	d->loop = loop;
	d->cut = (struct loop_timer){ .fn = cut_now, .arg = d };
	for (w = 0; w < DRILL_WAYS; w++)
		d->stall[w] = (struct loop_timer){ .fn = stalls,
						   .arg = &d->spec.way[w] };
	return d;
}

static void stop_timers(struct drill *d)
{
	int w;

	loop_timer_stop(d->loop, &d->cut);
	for (w = 0; w < DRILL_WAYS; w++)
		loop_timer_stop(d->loop, &d->stall[w]);
}

void drill_free(struct drill *d)
{
	if (!d)
		return;
	stop_timers(d);
	free(d);
}

void drill_start(struct drill *d, const struct drill_spec *spec)
{
	int w;

	stop_timers(d);
	d->spec = *spec;
	d->start_us = clock_now_us();
	d->seed = spec->seeded ? spec->seed : d->start_us;
	d->sources = 0;
	if (spec->cut)
		loop_timer_start(d->loop, &d->cut,
				 d->start_us + spec->cut_at_us);
	for (w = 0; w < DRILL_WAYS; w++)
		if (spec->way[w].stall_for_us)
			loop_timer_start(d->loop, &d->stall[w],
					 d->start_us +
						 spec->way[w].stall_at_us);
	tell(d, false);
}

uint64_t drill_seed(const struct drill *d)
{
	return d->seed;
}

void drill_join(struct drill *d, struct drill_member *m)
{
	m->next = d->members;
	d->members = m;
}

void drill_leave(struct drill *d, struct drill_member *m)
{
	struct drill_member **at = &d->members;

	while (*at != m)
		at = &(*at)->next;
	*at = m->next;
}

const struct drill_effects *drill_effects(const struct drill *d,
					  enum drill_way way)
{
	return &d->spec.way[way];
}

static bool within(const struct drill *d, uint64_t at_us, uint64_t for_us,
		   uint64_t now_us)
{
	return now_us >= d->start_us + at_us &&
	       now_us < d->start_us + at_us + for_us;
}

uint64_t drill_stalled_until(const struct drill *d, enum drill_way way,
			     uint64_t now_us)
{
	const struct drill_effects *e = &d->spec.way[way];

	if (!within(d, e->stall_at_us, e->stall_for_us, now_us))
		return 0;
	return d->start_us + e->stall_at_us + e->stall_for_us;
}

bool drill_is_cut(const struct drill *d, uint64_t now_us)
{
	return d->spec.cut &&
	       within(d, d->spec.cut_at_us, d->spec.cut_for_us, now_us);
}

/* splitmix64 (Steele, Lea, Flood 2014) */
uint64_t drill_random(uint64_t *source)
{
	uint64_t x = *source += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

uint64_t drill_random_source(struct drill *d)
{
	uint64_t source = d->seed + ++d->sources;

	return drill_random(&source);
}
