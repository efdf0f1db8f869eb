/* SPDX-License-Identifier: Apache-2.0 */
/* Random runs: a seed is a configuration and deeds that come in bursts. */
#include "config.h"

#include "tests/sim/run.h"

static uint64_t state;

/* Marsaglia's xorshift64. */
static uint64_t any(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 20) % below;
}

static bool one_in(unsigned int n)
{
	return any(n) == 0;
}

static int64_t between(int64_t low, int64_t high)
{
	return low + (int64_t)any((uint64_t)(high - low + 1));
}

/* Small ones are as likely as large ones. */
static int64_t spread(int64_t low, int64_t high)
{
	int64_t top = low + 1;

	while (top < high && !one_in(4))
		top *= 2;
	return between(low, top < high ? top : high);
}

static void configuration(struct sim_config *c)
{
	*c = sim_usual;
	c->fence_a = !one_in(4);
	c->fence_b = !one_in(4);
	c->unsafe_a = one_in(20);
	c->unsafe_b = one_in(16);
	c->gate = !one_in(16);
	c->inflight = between(1, 4);
	c->inflight_b = between(1, 4);
	c->cancel_is_late = one_in(2);
	c->image_blocks = one_in(2);
	c->ahead = one_in(2);
	c->heartbeat_us = between(1, 3) * 100 * MS;
	c->interval_us = between(4, 25) * 10 * MS;
	c->retry_us = between(2, 12) * 100 * MS;
	c->ack_timeout_us = one_in(4) ? 0 : between(3, 60) * 100 * MS;
	c->delay_us = spread(100, 60 * MS);
	c->bulk_us = spread(100, 30 * MS);
	c->suspend_us = spread(500, 40 * MS);
	c->pause_us = spread(500, 20 * MS);
	c->image_us = spread(10 * MS, 400 * MS);
	c->encode_us = spread(200, 80 * MS);
	c->decode_us = spread(200, 80 * MS);
	c->build_us = spread(5 * MS, 300 * MS);
	c->apply_us = spread(500, 150 * MS);
	c->activate_us = spread(5 * MS, 200 * MS);
	c->fence_us = spread(20 * MS, 2 * SEC);
	c->fence_timeout_us = 3 * SEC;
	c->guard_us = spread(10 * MS, 400 * MS);
	c->drift_a_ppm = between(-20, 20) * 1000;
	c->drift_b_ppm = between(-20, 20) * 1000;
}

static enum deed_kind any_kind(void)
{
	static const unsigned char weights[DEED_KINDS] = {
		[DEED_CUT] = 6,	    [DEED_MEND] = 5,  [DEED_BREAK] = 6,
		[DEED_CRASH] = 4,   [DEED_START] = 6, [DEED_STOP] = 3,
		[DEED_CONT] = 4,    [DEED_OFF] = 1,   [DEED_ON] = 1,
		[DEED_FENCE] = 4,   [DEED_FAIL] = 4,  [DEED_SLOW] = 4,
		[DEED_PARTIAL] = 3, [DEED_LATE] = 5,  [DEED_CORRUPT] = 2,
		[DEED_DIE] = 3,	    [DEED_GUEST] = 2, [DEED_FAILOVER] = 2,
		[DEED_SIGTERM] = 2,
	};
	unsigned int sum = 0, kind;
	uint64_t at;

	for (kind = 0; kind < DEED_KINDS; kind++)
		sum += weights[kind];
	at = any(sum);
	for (kind = 0; at >= weights[kind]; kind++)
		at -= weights[kind];
	return kind;
}

static void deed(struct deed *d, uint64_t at_us)
{
	d->at_us = at_us;
	d->kind = any_kind();
	d->host = one_in(2) ? A : B;
	d->what = (uint32_t)any(12);
	d->number = (uint32_t)spread(0, 800 * MS);
	if (d->kind == DEED_PARTIAL || d->kind == DEED_DIE)
		d->what = 1 + d->what % 4;
	if (d->kind == DEED_BREAK)
		d->what = one_in(3) ? 0 : 2;
	if (d->kind == DEED_FENCE) /* lies excuse too much to be frequent */
		d->what = one_in(12) ? FENCE_LIES : d->what % FENCE_LIES;
	if (d->kind == DEED_FAIL)
		d->number %= 4;
}

void run_from_seed(struct run *r, uint64_t seed)
{
	uint64_t at_us;
	unsigned int i;

	state = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
	for (i = 0; i < 8; i++)
		any(2);
	configuration(&r->cfg);
	r->count = 1 + (unsigned int)any(14);
	at_us = (uint64_t)between(0, 1500 * MS);
	for (i = 0; i < r->count; i++) {
		deed(&r->deeds[i], at_us);
		at_us += (uint64_t)(one_in(4) ? between(0, 1200 * MS)
					      : spread(0, 300 * MS));
	}
	r->heal_us = at_us + (uint64_t)(one_in(3) ? between(0, 5 * SEC)
						  : between(0, 800 * MS));
}
