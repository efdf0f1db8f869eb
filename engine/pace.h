/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the next checkpoint starts: a pure function of how the last ones went.
 *
 * A guest that works has the shortest interval within the bounds that keeps the
 * share of its time that it is paused, and the bytes that are sent, within
 * their targets.  A guest that does next to nothing has the longest that lets
 * its output out in time.  Where targets contradict each other, the guest's own
 * time comes first, and the age of what its output waits for last.
 */
#ifndef ENGINE_PACE_H
#define ENGINE_PACE_H

#include <stdint.h>

struct pace_config {
	uint64_t min_us; /* between the starts of two checkpoints */
	uint64_t max_us; /* the same as min_us: nothing is adapted */
	/* Targets; 0: none. */
	unsigned int overhead_percent; /* of the guest's time, paused */
	uint64_t latency_us; /* from an output to its epoch's acknowledgement */
	uint64_t bytes_per_s;
};

/* What decided; in the words of `colod status`. */
#define PACE_RULES(X)           \
	X(FIXED, "fixed")       \
	X(MIN, "shortest")      \
	X(OVERHEAD, "overhead") \
	X(RATE, "rate")         \
	X(IDLE, "idle")         \
	X(LATENCY, "latency")

enum pace_rule {
#define X(name, text) PACE_##name,
	PACE_RULES(X)
#undef X
};

const char *pace_rule_text(enum pace_rule rule);

/* One epoch, acknowledged. */
struct pace_epoch {
	uint64_t paused_us; /* in all of its rounds */
	uint64_t pages;
	uint64_t span_us; /* since the start of the one before; 0: the first */
	uint64_t bytes;	  /* sent */
	uint64_t commit_us; /* from its start to the acknowledgement */
};

struct pace {
	uint64_t interval_us; /* what to wait from one start to the next */
	enum pace_rule rule;
	struct pace_epoch mean; /* of the last epochs, newer ones count more */
	uint64_t epochs;	/* since pace_start() */
};

struct pace pace_start(const struct pace_config *cfg);
/* The pace after `seen`, where it was `before`. */
struct pace pace_next(const struct pace_config *cfg, const struct pace *before,
		      const struct pace_epoch *seen);

#endif
