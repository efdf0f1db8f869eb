/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exhaustive exploration of a pair, see tests/sim/explore.h, from several
 * points of a protection's life.
 *
 *	sim-exhaustive [--depth N] [--faults N] [--from POINT]
 *
 * Work takes no time here, so that timers are all that moves the clock, by
 * multiples of a heartbeat: few different times are few states.
 */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/explore.h"

enum { FAULTS = 2, STEPS_MAX = 5000 };

#ifdef __SANITIZE_THREAD__
enum { DEPTH = 5 }; /* it has one thread: minutes that find nothing */
#else
enum { DEPTH = 6 };
#endif

static struct world world;

static bool epoch_on_its_way(const struct world *w)
{
	unsigned int i;

	for (i = 0; i < w->message_count; i++)
		if (w->messages[i].type == WIRE_EPOCH_END &&
		    w->messages[i].epoch == 2)
			return true;
	return false;
}

static bool ack_on_its_way(const struct world *w)
{
	unsigned int i;

	for (i = 0; i < w->message_count; i++)
		if (w->messages[i].type == WIRE_ACK &&
		    w->messages[i].epoch == 2)
			return true;
	return false;
}

/* An apply under way when the next epoch is there. */
static bool applying_and_next(const struct world *w)
{
	return w->host[B].colod && w->host[B].job_count && w->stored_us;
}

/* A checkpoint under way, and no epoch in flight besides. */
static bool capturing(const struct world *w)
{
	return w->host[A].colod && w->primary.capturing &&
	       w->primary.epoch_count == 1;
}

static bool told_busy(const struct world *w)
{
	unsigned int i;

	for (i = 0; i < w->message_count; i++)
		if (w->messages[i].type == WIRE_BYE && w->messages[i].from == B)
			return true;
	return false;
}

static bool image_on_its_way(const struct world *w)
{
	return w->primary.syncing && w->host[B].link >= 0;
}

static bool a_is(const struct world *w, enum primary_state s)
{
	return w->host[A].colod && w->primary.state == s;
}

static bool b_is(const struct world *w, enum secondary_state s)
{
	return w->host[B].colod && w->secondary.state == s;
}

static bool both_lost(const struct world *w)
{
	return a_is(w, PRIMARY_LOST) && b_is(w, SECONDARY_LOST);
}

static bool both_fencing(const struct world *w)
{
	return a_is(w, PRIMARY_FENCING) && b_is(w, SECONDARY_FENCING);
}

static bool both_waiting(const struct world *w)
{
	return a_is(w, PRIMARY_WAITING) && b_is(w, SECONDARY_WAITING);
}

static bool activating(const struct world *w)
{
	return b_is(w, SECONDARY_ACTIVATING);
}

static bool active(const struct world *w)
{
	return b_is(w, SECONDARY_ACTIVE);
}

static bool discarding(const struct world *w)
{
	return b_is(w, SECONDARY_DISCARDING) && w->secondary.rebuild;
}

static bool unprotected(const struct world *w)
{
	return a_is(w, PRIMARY_UNPROTECTED);
}

static bool ending(const struct world *w)
{
	return a_is(w, PRIMARY_ENDING);
}

static bool resync(const struct world *w)
{
	return w->primary.resync_asked;
}

static void start(struct world *w)
{
	sim_start(w, B);
	sim_start(w, A);
}

static void nothing(struct world *w)
{
	(void)w;
}

static void broken(struct world *w)
{
	link_break(w, true, true, 0);
}

static void a_notices(struct world *w)
{
	link_break(w, true, false, 0);
}

static void slow_apply(struct world *w)
{
	w->spoil[B][ENV_JOB_APPLY].us = 2 * SEC;
}

static void cut(struct world *w)
{
	w->cut[A] = w->cut[B] = true;
}

static void a_dies(struct world *w)
{
	sim_power_off(w, A);
}

static void b_dies(struct world *w)
{
	sim_crash(w, B);
}

static void stopped(struct world *w)
{
	sim_operator(w, A, EVENT_STOP);
}

static void stale(struct world *w)
{
	w->spoil[A][ENV_JOB_CAPTURE].err = -116; /* ESTALE */
}

static void a_dies_early(struct world *w)
{
	w->spoil[B][ENV_JOB_APPLY].us = 2 * SEC;
	sim_power_off(w, A);
}

static void corrupted(struct world *w)
{
	w->corrupt_next = true;
}

static bool activating_behind_apply(const struct world *w)
{
	return activating(w) && w->host[B].job_count == 2;
}

static bool complaining(const struct world *w)
{
	return b_is(w, SECONDARY_WAITING) && w->host[B].link >= 0;
}

/* The second image after an unprotected time. */
static bool image_again(const struct world *w)
{
	return image_on_its_way(w) && w->primary.was_protected;
}

static void b_comes_again(struct world *w)
{
	sim_crash(w, B);
	sim_start(w, B);
}

static void fenced(struct sim_config *c)
{
	c->fence_a = c->fence_b = 1;
}

static void no_fence(struct sim_config *c)
{
	(void)c;
}

static void unsafe(struct sim_config *c)
{
	c->unsafe_b = 1;
}

/* A peer that allows less than we would. */
static void limited(struct sim_config *c)
{
	fenced(c);
	c->inflight_b = 1;
}

/* From the start to `ready`, then `deed`, then to `at`. */
static const struct point {
	const char *name;
	void (*settings)(struct sim_config *c);
	bool (*ready)(const struct world *w);
	void (*deed)(struct world *w);
	bool (*at)(const struct world *w);
} points[] = {
	{ "start", fenced, NULL, nothing, NULL },
	{ "image", fenced, image_on_its_way, nothing, NULL },
	{ "epoch", fenced, epoch_on_its_way, nothing, NULL },
	{ "epoch-no-fence", no_fence, epoch_on_its_way, nothing, NULL },
	{ "limited", limited, epoch_on_its_way, nothing, NULL },
	{ "ack", fenced, ack_on_its_way, nothing, NULL },
	{ "capturing", fenced, ack_on_its_way, nothing, capturing },
	{ "applying", fenced, epoch_on_its_way, slow_apply, applying_and_next },
	{ "lost", fenced, ack_on_its_way, broken, both_lost },
	{ "busy", fenced, ack_on_its_way, a_notices, told_busy },
	{ "fencing", fenced, epoch_on_its_way, cut, both_fencing },
	{ "waiting", no_fence, ack_on_its_way, cut, both_waiting },
	{ "activating", fenced, epoch_on_its_way, a_dies, activating },
	{ "behind-apply", fenced, epoch_on_its_way, a_dies_early,
	  activating_behind_apply },
	{ "taken-over", unsafe, epoch_on_its_way, cut, active },
	{ "complaining", no_fence, epoch_on_its_way, corrupted, complaining },
	{ "again", fenced, epoch_on_its_way, b_comes_again, image_again },
	{ "returning", fenced, ack_on_its_way, broken, discarding },
	{ "unprotected", fenced, epoch_on_its_way, b_dies, unprotected },
	{ "ending", fenced, epoch_on_its_way, stopped, ending },
	{ "resync", fenced, ack_on_its_way, stale, resync },
};

static const struct sim_config at_once = {
	.gate = true,
	.inflight = 2,
	.inflight_b = 2,
	.cancel_is_late = true,
	.ahead = true,
	.heartbeat_us = 100 * MS,
	.lost_after = 3,
	.interval_us = 100 * MS,
	.retry_us = 200 * MS,
	.ack_timeout_us = 300 * MS,
	.suspend_timeout_us = 100 * MS,
	.fence_us = 200 * MS,
	.fence_timeout_us = 1 * SEC,
};

static bool reach(struct world *w, bool (*is)(const struct world *w))
{
	unsigned int i;

	for (i = 0; is && !is(w) && i < STEPS_MAX; i++)
		if (!sim_step(w, 60 * SEC) || w->violation[0])
			break;
	return !w->violation[0] && (!is || is(w));
}

static bool go_to(struct world *w, const struct point *p)
{
	struct sim_config cfg = at_once;

	p->settings(&cfg);
	sim_init(w, &cfg);
	start(w);
	if (!reach(w, p->ready))
		return false;
	p->deed(w);
	return reach(w, p->at);
}

static bool explore_point(const struct point *p, struct explore *x)
{
	unsigned int i;

	if (!go_to(&world, p)) {
		printf("FAIL: %s is not reached: %s\n", p->name,
		       world.violation);
		return false;
	}
	if (explore(x)) {
		printf("%-16s %9" PRIu64 " states, %10" PRIu64
		       " moves, %7" PRIu64 " healed\n",
		       p->name, x->states, x->moves, x->healed);
		return true;
	}
	printf("FAIL: from %s: %s\n", p->name, x->violation);
	for (i = 0; i < x->path_length; i++)
		printf("  %2u  %s\n", i + 1, x->path[i]);
	return false;
}

int main(int argc, char **argv)
{
	unsigned int depth = DEPTH, faults = FAULTS, i;
	uint64_t states = 0, moves = 0, healed = 0;
	const char *from = NULL;
	bool good = true;
	int k;

	for (k = 1; k + 1 < argc; k += 2) {
		if (!strcmp(argv[k], "--depth"))
			depth = (unsigned int)atoi(argv[k + 1]);
		else if (!strcmp(argv[k], "--faults"))
			faults = (unsigned int)atoi(argv[k + 1]);
		else if (!strcmp(argv[k], "--from"))
			from = argv[k + 1];
		else
			break;
	}
	if (k < argc || depth > EXPLORE_DEPTH_MAX) {
		fprintf(stderr, "usage: sim-exhaustive [--depth N] "
				"[--faults N] [--from POINT]\n");
		return 2;
	}
	for (i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
		struct explore x = { .world = &world,
				     .depth = depth,
				     .faults = faults };

		if (from && strcmp(from, points[i].name))
			continue;
		good = explore_point(&points[i], &x) && good;
		states += x.states;
		moves += x.moves;
		healed += x.healed;
	}
	printf("%s: depth %u, %u faults: %" PRIu64 " states, %" PRIu64
	       " moves, %" PRIu64 " healed\n",
	       good ? "PASS" : "FAIL", depth, faults, states, moves, healed);
	return good ? 0 : 1;
}
