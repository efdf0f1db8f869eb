/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/pace.h"

#include <stdbool.h>

#include "base/bounds.h"

enum {
	/* A new epoch counts one in this many of the mean. */
	MEAN_OF = 4,
	/*
	 * What a guest writes that has nothing to do: the suspend and the
	 * resume themselves, and its timers.
	 */
	IDLE_PAGES = 256,
	IDLE_PAGES_A_SECOND = 1000,
	/* By a part of itself at most: one odd epoch is no change of load. */
	LONGER_BY = 4,
};

static const char *const rules[] = {
#define X(name, text) [PACE_##name] = text,
	PACE_RULES(X)
#undef X
};

const char *pace_rule_text(enum pace_rule rule)
{
	return rules[rule];
}

/* 0 where b is; the most there is where it would be more. */
static uint64_t parts_of(uint64_t a, uint64_t scale, uint64_t b)
{
	uint64_t product;

	if (!b)
		return 0;
	if (__builtin_mul_overflow(a, scale, &product))
		return UINT64_MAX;
	return product / b;
}

static uint64_t mean(uint64_t before, uint64_t seen)
{
	return before - before / MEAN_OF + seen / MEAN_OF;
}

static struct pace_epoch mean_of(const struct pace *before,
				 const struct pace_epoch *seen)
{
	const struct pace_epoch *m = &before->mean;

	if (!before->epochs)
		return *seen;
	return (struct pace_epoch){
		.paused_us = mean(m->paused_us, seen->paused_us),
		.pages = mean(m->pages, seen->pages),
		.bytes = mean(m->bytes, seen->bytes),
		.commit_us = mean(m->commit_us, seen->commit_us),
	};
}

/* The least that the guest and the link bear. */
static uint64_t shortest(const struct pace_config *cfg,
			 const struct pace_epoch *m, enum pace_rule *rule)
{
	uint64_t overhead = parts_of(m->paused_us, 100, cfg->overhead_percent);
	uint64_t rate = parts_of(m->bytes, 1000000, cfg->bytes_per_s);
	uint64_t us = at_least(cfg->min_us, at_least(overhead, rate));

	*rule = us == cfg->min_us ? PACE_MIN
		: us == overhead  ? PACE_OVERHEAD
				  : PACE_RATE;
	return at_most(us, cfg->max_us);
}

/* By what has passed: an epoch may wait for its guest's devices, or the peer.
 */
static bool idle(const struct pace_epoch *seen)
{
	uint64_t pages = parts_of(seen->span_us, IDLE_PAGES_A_SECOND, 1000000);

	return seen->pages < at_least(IDLE_PAGES, pages);
}

/* The most that output may wait for, and then for its acknowledgement. */
static uint64_t longest(const struct pace_config *cfg,
			const struct pace_epoch *m, enum pace_rule *rule)
{
	uint64_t us = cfg->latency_us > m->commit_us
			      ? cfg->latency_us - m->commit_us
			      : 0;

	*rule = PACE_IDLE;
	if (!cfg->latency_us || us >= cfg->max_us)
		return cfg->max_us;
	*rule = PACE_LATENCY;
	return us;
}

struct pace pace_start(const struct pace_config *cfg)
{
	return (struct pace){
		.interval_us = cfg->min_us,
		.rule = cfg->min_us == cfg->max_us ? PACE_FIXED : PACE_MIN,
	};
}

struct pace pace_next(const struct pace_config *cfg, const struct pace *before,
		      const struct pace_epoch *seen)
{
	struct pace next = *before;
	enum pace_rule rule;
	uint64_t most;

	if (cfg->min_us == cfg->max_us)
		return next;
	next.mean = mean_of(before, seen);
	next.epochs++;
	next.interval_us = shortest(cfg, &next.mean, &next.rule);
	if (idle(seen)) {
		most = longest(cfg, &next.mean, &rule);
		if (most > next.interval_us) {
			next.interval_us = most;
			next.rule = rule;
		}
	}
	next.interval_us = at_most(next.interval_us,
				   before->interval_us +
					   before->interval_us / LONGER_BY + 1);
	return next;
}
