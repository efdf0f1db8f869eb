/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a plug is marked and when it is released (see gate.h and plug.h).
 *
 * A plug keeps one mark.  So an epoch that ends before the last marked one has
 * been released is not marked: what was sent in it stays in the heap behind the
 * mark, and goes with the next epoch that is.  That it is late is all.
 */
#include "config.h"

#include "net/gate.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

enum mode { OPEN, CLOSED, DROPPING };

enum {
	/* Between two looks whether an interface passes frames again. */
	PASS_LOOK_US = 5 * 1000,
	/* Between two counts of what is held and dropped. */
	COUNT_US = 1000 * 1000,
	/* Between two lines about what was dropped. */
	WARN_US = 10 * 1000 * 1000,
};

struct gated {
	struct plug *plug;
	bool closed;
	/*
	 * What is before the mark leaves with this epoch.  There is one, too,
	 * in a plug that was found: nobody knows what it holds before its mark.
	 */
	bool marked;
	bool due; /* and acknowledged: it waits until the interface passes it */
	uint64_t epoch;
};

/* What has been ordered and not been done.  The last of these is what counts.
 */
struct orders {
	bool release, let, drop, end;
	uint64_t epoch;
};

struct gate {
	pthread_t thread;
	pthread_cond_t ordered;
	pthread_mutex_t orders_mutex; /* held for no more than a look */
	struct orders orders;
	struct plug_counts seen;

	pthread_mutex_t mutex; /* of all that follows */
	char what[64];
	uint32_t limit_bytes;
	uint64_t counted_us, warned_us, warned_frames;
	enum mode mode;
	bool found_closed;
	struct gated at[GATE_PLUGS_MAX];
	size_t count;
};

/* --- orders -----------------------------------------------------------------
 */

static void let(struct gated *p)
{
	if (plug_let(p->plug))
		return;
	p->marked = p->due = p->closed = false;
}

static void release_due(struct gated *p)
{
	if (p->due && plug_passes(p->plug) && !plug_release(p->plug))
		p->marked = p->due = false;
}

static void release(struct gated *p, uint64_t epoch)
{
	p->due |= p->marked && epoch >= p->epoch;
	release_due(p);
}

static void carry_out(struct gate *g, const struct orders *o)
{
	if (o->drop)
		g->mode = DROPPING;
	else if (o->let && g->mode == CLOSED)
		g->mode = OPEN;
	for (size_t i = 0; i < g->count; i++) {
		struct gated *p = &g->at[i];

		if (o->drop)
			plug_drop(p->plug);
		else if (o->let && g->mode == OPEN)
			let(p);
		else if (o->release && g->mode == CLOSED)
			release(p, o->epoch);
	}
}

/* With the mutex.  Whoever looks at the plugs finds all orders carried out. */
static void take_orders(struct gate *g)
{
	struct orders o;

	pthread_mutex_lock(&g->orders_mutex);
	o = g->orders;
	g->orders = (struct orders){ .end = o.end };
	pthread_mutex_unlock(&g->orders_mutex);
	carry_out(g, &o);
}

/* For so long at most. */
static bool wait_for_orders(struct gate *g, uint64_t us)
{
	AUTO_LOCK(&g->orders_mutex);
	struct orders *o = &g->orders;
	uint64_t until_us = clock_now_us() + us;
	const struct timespec until = {
		.tv_sec = (time_t)(until_us / 1000000),
		.tv_nsec = (long)(until_us % 1000000 * 1000),
	};
	int err = 0;

	while (!o->release && !o->let && !o->drop && !o->end && !err)
		err = pthread_cond_timedwait(&g->ordered, &g->orders_mutex,
					     &until);
	return !o->end;
}

/* True: there is something that waits for its interface. */
static bool look_again(struct gate *g)
{
	bool waits = false;

	for (size_t i = 0; i < g->count && g->mode == CLOSED; i++) {
		release_due(&g->at[i]);
		waits |= g->at[i].due;
	}
	return waits;
}

static void warn_of_drops(struct gate *g, const struct plug_counts *c,
			  uint64_t now_us)
{
	if (c->dropped_frames <= g->warned_frames ||
	    (g->warned_us && now_us < g->warned_us + WARN_US))
		return;
	log_warn("%s: %llu frames of its output were dropped: more was held "
		 "than --gate-limit",
		 g->what,
		 (unsigned long long)(c->dropped_frames - g->warned_frames));
	g->warned_frames = c->dropped_frames;
	g->warned_us = now_us;
}

static int count(struct gate *g, struct plug_counts *out)
{
	struct plug_counts one;
	int err = 0, e;

	*out = (struct plug_counts){ 0 };
	for (size_t i = 0; i < g->count; i++) {
		e = plug_count(g->at[i].plug, &one);
		if (e) {
			err = e;
			continue;
		}
		out->held_frames += one.held_frames;
		out->held_bytes += one.held_bytes;
		out->passed_frames += one.passed_frames;
		out->passed_bytes += one.passed_bytes;
		out->dropped_frames += one.dropped_frames;
	}
	pthread_mutex_lock(&g->orders_mutex);
	g->seen = *out;
	pthread_mutex_unlock(&g->orders_mutex);
	return err;
}

static void count_now_and_then(struct gate *g)
{
	uint64_t now_us = clock_now_us();
	struct plug_counts c;

	if (now_us < g->counted_us + COUNT_US)
		return;
	g->counted_us = now_us;
	if (!count(g, &c) && g->mode == CLOSED)
		warn_of_drops(g, &c, now_us);
}

static void *run(void *arg)
{
	struct gate *g = arg;
	uint64_t us = COUNT_US;

	while (wait_for_orders(g, us)) {
		AUTO_LOCK(&g->mutex);

		take_orders(g);
		us = look_again(g) ? PASS_LOOK_US : COUNT_US;
		count_now_and_then(g);
	}
	return NULL;
}

void gate_release(struct gate *g, uint64_t epoch)
{
	AUTO_LOCK(&g->orders_mutex);

	if (!g->orders.release || epoch > g->orders.epoch)
		g->orders.epoch = epoch;
	g->orders.release = true;
	pthread_cond_signal(&g->ordered);
}

void gate_let(struct gate *g)
{
	AUTO_LOCK(&g->orders_mutex);

	g->orders.let = true;
	pthread_cond_signal(&g->ordered);
}

void gate_drop(struct gate *g)
{
	AUTO_LOCK(&g->orders_mutex);

	g->orders.drop = true;
	pthread_cond_signal(&g->ordered);
}

/* --- interfaces and epochs --------------------------------------------------
 */

int gate_new(const char *what, uint32_t limit_bytes, struct gate **out)
{
	struct gate *g = calloc(1, sizeof(*g));
	pthread_condattr_t by_clock;
	int err;

	if (!g)
		return -ENOMEM;
	snprintf(g->what, sizeof(g->what), "%s", what);
	pthread_mutex_init(&g->mutex, NULL);
	pthread_mutex_init(&g->orders_mutex, NULL);
	pthread_condattr_init(&by_clock);
	pthread_condattr_setclock(&by_clock, CLOCK_MONOTONIC);
	pthread_cond_init(&g->ordered, &by_clock);
	pthread_condattr_destroy(&by_clock);
	g->limit_bytes = limit_bytes;
	err = pthread_create(&g->thread, NULL, run, g);
	if (err) {
		free(g);
		return -err;
	}
	pthread_setname_np(g->thread, "colod-gate");
	*out = g;
	return 0;
}

static int mark(struct gated *p, uint64_t epoch)
{
	int err = p->marked ? 0 : plug_mark(p->plug);

	if (p->marked || err)
		return p->closed ? 0 : err;
	p->closed = p->marked = true;
	p->epoch = epoch;
	return 0;
}

static int close_all(struct gate *g, uint64_t epoch)
{
	int err = 0, e;

	for (size_t i = 0; i < g->count; i++) {
		/* Numbers begin anew: what is held is older than all of them.
		 */
		if (epoch == 0)
			g->at[i].epoch = 0;
		e = mark(&g->at[i], epoch);
		if (e)
			err = e;
	}
	return err;
}

/* The others' state: where they are closed, it begins within some epoch. */
static int join(struct gate *g, struct gated *p)
{
	if (plug_found_closed(p->plug)) {
		p->closed = p->marked = true;
		if (g->mode == OPEN) {
			g->mode = CLOSED;
			g->found_closed = true;
			return close_all(g, 0);
		}
	}
	if (g->mode == DROPPING)
		return plug_drop(p->plug);
	if (g->mode == OPEN || p->closed)
		return 0;
	/* Nothing is before this mark, and the next barrier makes another. */
	if (plug_mark(p->plug))
		return -EIO;
	p->closed = true;
	return 0;
}

int gate_add(struct gate *g, const char *ifname)
{
	AUTO_LOCK(&g->mutex);
	struct gated *p = &g->at[g->count];
	int err;

	take_orders(g);
	for (size_t i = 0; i < g->count; i++)
		if (!strcmp(plug_ifname(g->at[i].plug), ifname))
			return 0;
	if (g->count == GATE_PLUGS_MAX)
		return -ENOSPC;
	*p = (struct gated){ 0 };
	err = g->limit_bytes ? plug_open(ifname, g->limit_bytes, &p->plug)
			     : plug_find(ifname, &p->plug);
	if (err == -ENOENT)
		return 0;
	if (err)
		return err;
	g->count++;
	return join(g, p);
}

void gate_forget(struct gate *g)
{
	AUTO_LOCK(&g->mutex);

	take_orders(g);
	for (size_t i = 0; i < g->count; i++) {
		plug_remove(g->at[i].plug);
		plug_close(g->at[i].plug);
	}
	g->count = 0;
}

bool gate_found_closed(struct gate *g)
{
	AUTO_LOCK(&g->mutex);

	return g->found_closed;
}

int gate_barrier(struct gate *g, uint64_t epoch)
{
	AUTO_LOCK(&g->mutex);

	take_orders(g);
	if (epoch == 0 && g->mode == OPEN)
		g->mode = CLOSED;
	return g->mode == CLOSED ? close_all(g, epoch) : 0;
}

int gate_count(struct gate *g, struct plug_counts *out)
{
	AUTO_LOCK(&g->mutex);

	take_orders(g);
	return count(g, out);
}

void gate_seen(struct gate *g, struct plug_counts *out)
{
	AUTO_LOCK(&g->orders_mutex);

	*out = g->seen;
}

static void end_thread(struct gate *g)
{
	pthread_mutex_lock(&g->orders_mutex);
	g->orders.end = true;
	pthread_cond_signal(&g->ordered);
	pthread_mutex_unlock(&g->orders_mutex);
	pthread_join(g->thread, NULL);
}

void gate_close(struct gate *g)
{
	if (!g)
		return;
	end_thread(g);
	take_orders(g);
	for (size_t i = 0; i < g->count; i++) {
		if (g->mode == OPEN)
			plug_remove(g->at[i].plug);
		plug_close(g->at[i].plug);
	}
	pthread_cond_destroy(&g->ordered);
	pthread_mutex_destroy(&g->orders_mutex);
	pthread_mutex_destroy(&g->mutex);
	free(g);
}
