/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link filter.
 *
 * Happy path: where its drill asks for nothing, a frame goes straight through.
 * Otherwise it is held in a lane (filter_lanes.c) until it is due, and the
 * `work` timer lets it pass.
 *
 * Memory is bounded: what is held on the way out counts as queued, for which
 * its sender waits, and heartbeats beyond some are not held; what is held on
 * the way in stops the reading below.
 *
 * The end: the inner link's `down` is held like a frame behind those that came
 * before it; an abort or a cut drops them all.  The filter frees itself after
 * its user's `down`.
 *
 * On the loop's thread; callbacks come from the loop's turn alone.
 */
#include "config.h"

#include "net/filter_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"

static struct filter *filter_of(const struct link *l)
{
	return (struct filter *)(uintptr_t)l;
}

/* ---- the end ---- */

static void finish(struct filter *f)
{
	filter_drop_out(f, &f->urgent);
	filter_drop_out(f, &f->bulk);
	filter_drop_in(f);
	filter_release_dropped(f);
	f->state = FILTER_CLOSED;
	drill_leave(f->drill, &f->member);
	f->events->down(f->arg, &f->link, f->err, f->why);
	filter_release_dropped(f);
	loop_timer_stop(f->loop, &f->work);
	free(f);
}

/* What is to be told at the end, unless something was before. */
static void give_reason(struct filter *f, int err, const char *why)
{
	if (f->why[0])
		return;
	f->err = err;
	snprintf(f->why, sizeof(f->why), "%s", why);
}

static void drop_all(struct filter *f)
{
	f->state = FILTER_CLOSED;
	filter_drop_out(f, &f->urgent);
	filter_drop_out(f, &f->bulk);
	filter_drop_in(f);
	filter_work_at(f, 0);
}

void filter_end(struct filter *f, int err, const char *why)
{
	if (f->state == FILTER_CLOSED && f->why[0])
		return;
	if (f->down) /* ended below, not yet told */
		f->why[0] = '\0';
	give_reason(f, err, why);
	f->down_due_us = 0;
	drop_all(f);
	if (f->inner)
		link_abort(f->inner, why);
}

/* ---- the turn ---- */

/* Closing: all is sent, or it takes too long. */
static void settle(struct filter *f, uint64_t now_us, uint64_t *wake_us)
{
	if (f->state != FILTER_CLOSING)
		return;
	if (!f->urgent.head && !f->bulk.head) {
		f->state = FILTER_CLOSED;
		if (f->inner)
			link_close(f->inner);
	} else if (now_us >= f->deadline_us) {
		filter_end(f, -ETIMEDOUT,
			   "the peer did not take all that was queued");
	} else if (f->deadline_us < *wake_us) {
		*wake_us = f->deadline_us;
	}
}

static void work(void *arg)
{
	struct filter *f = arg;
	uint64_t now_us = clock_now_us(), wake_us = UINT64_MAX;

	filter_release_dropped(f);
	filter_pass_out(f, now_us, &wake_us);
	filter_pass_in(f, now_us, &wake_us);
	settle(f, now_us, &wake_us);
	filter_check_drained(f);
	if (f->down && (f->state != FILTER_OPEN || !f->in.head)) {
		if (f->state != FILTER_OPEN || now_us >= f->down_due_us) {
			finish(f);
			return;
		}
		if (f->down_due_us < wake_us)
			wake_us = f->down_due_us;
	}
	if (wake_us != UINT64_MAX)
		filter_work_at(f, wake_us);
}

/* ---- what the inner link tells ---- */

static void inner_up(void *arg, struct link *inner)
{
	struct filter *f = arg;

	if (f->state != FILTER_OPEN)
		return;
	snprintf(f->peer_name, sizeof(f->peer_name), "%s",
		 link_peer_name(inner));
	f->events->up(f->arg, &f->link);
}

static void inner_frame(void *arg, struct link *inner,
			const struct frame *frame)
{
	struct filter *f = arg;

	(void)inner;
	if (f->state != FILTER_OPEN)
		return;
	if (filter_straight(f, DRILL_IN) && !f->in.head && !f->user_paused)
		f->events->frame(f->arg, &f->link, frame);
	else
		filter_hold_in(f, frame);
}

/* Held frames tell it themselves, when they pass. */
static void inner_alive(void *arg, struct link *inner)
{
	struct filter *f = arg;

	(void)inner;
	if (f->state == FILTER_OPEN && filter_straight(f, DRILL_IN) &&
	    !f->in.head && f->events->alive)
		f->events->alive(f->arg, &f->link);
}

static void inner_drained(void *arg, struct link *inner)
{
	(void)inner;
	filter_check_drained(arg);
}

static void inner_down(void *arg, struct link *inner, int err, const char *why)
{
	struct filter *f = arg;

	f->bytes_sent = link_bytes_sent(inner);
	f->bytes_received = link_bytes_received(inner);
	f->inner = NULL;
	f->down = true;
	give_reason(f, err, why);
	f->down_due_us =
		clock_now_us() + drill_effects(f->drill, DRILL_IN)->delay_us;
	if (f->state != FILTER_OPEN ||
	    (!f->in.head && !drill_effects(f->drill, DRILL_IN)->delay_us))
		finish(f);
	else
		filter_work_at(f, f->in.head ? f->in.head->due_us
					     : f->down_due_us);
}

static const struct link_events inner_events = {
	.up = inner_up,
	.frame = inner_frame,
	.alive = inner_alive,
	.drained = inner_drained,
	.down = inner_down,
};

/* ---- what net/link.h offers ---- */

static void filter_setup_timeout(struct link *l, uint64_t us)
{
	if (filter_of(l)->inner)
		link_setup_timeout(filter_of(l)->inner, us);
}

static void filter_congestion(struct link *l, const char *name)
{
	if (filter_of(l)->inner)
		link_congestion(filter_of(l)->inner, name);
}

static void filter_max_rate(struct link *l, uint64_t bytes_per_s)
{
	if (filter_of(l)->inner)
		link_max_rate(filter_of(l)->inner, bytes_per_s);
}

static void filter_send(struct link *link, struct frame_buf *b)
{
	struct filter *f = filter_of(link);

	if (f->state != FILTER_OPEN || !f->inner)
		filter_drop(f, b);
	else if (filter_straight(f, DRILL_OUT) && !f->urgent.head &&
		 !f->bulk.head)
		link_send(f->inner, b);
	else
		filter_hold_out(f, b);
	if (link_queued(link) > LINK_QUEUE_LOW)
		f->above_low = true;
}

static size_t filter_queued(const struct link *link)
{
	const struct filter *f = filter_of(link);

	return f->out_bytes + (f->inner ? link_queued(f->inner) : 0);
}

static void filter_pause(struct link *link, bool paused)
{
	struct filter *f = filter_of(link);

	f->user_paused = paused;
	filter_pace(f);
	if (!paused)
		filter_work_at(f, 0);
}

static void filter_close(struct link *link)
{
	struct filter *f = filter_of(link);

	if (f->state != FILTER_OPEN)
		return;
	f->state = FILTER_CLOSING;
	f->deadline_us = clock_now_us() + LINK_CLOSE_TIMEOUT_US;
	filter_drop_in(f);
	/* What came is thrown away, but the end has to be seen. */
	if (f->inner)
		link_pause(f->inner, false);
	filter_work_at(f, 0);
}

static void filter_abort(struct link *link, const char *why)
{
	filter_end(filter_of(link), -ECONNABORTED, why);
}

static const char *filter_peer_name(const struct link *link)
{
	const struct filter *f = filter_of(link);

	return f->inner ? link_peer_name(f->inner) : f->peer_name;
}

static const char *filter_peer_address(const struct link *link)
{
	const struct filter *f = filter_of(link);

	return f->inner ? link_peer_address(f->inner) : f->peer_address;
}

static uint64_t filter_bytes_sent(const struct link *link)
{
	const struct filter *f = filter_of(link);

	return f->inner ? link_bytes_sent(f->inner) : f->bytes_sent;
}

static uint64_t filter_bytes_received(const struct link *link)
{
	const struct filter *f = filter_of(link);

	return f->inner ? link_bytes_received(f->inner) : f->bytes_received;
}

static const struct link_ops filter_ops = {
	.setup_timeout = filter_setup_timeout,
	.congestion = filter_congestion,
	.max_rate = filter_max_rate,
	.send = filter_send,
	.queued = filter_queued,
	.pause = filter_pause,
	.close = filter_close,
	.abort = filter_abort,
	.peer_name = filter_peer_name,
	.peer_address = filter_peer_address,
	.bytes_sent = filter_bytes_sent,
	.bytes_received = filter_bytes_received,
};

/* ---- beginning ---- */

static void drill_changed(struct drill_member *m, bool cut)
{
	struct filter *f =
		(void *)((char *)m - offsetof(struct filter, member));

	if (cut) {
		filter_end(f, -ECONNRESET, "connection lost: cut by a drill");
		return;
	}
	f->random[DRILL_OUT] = drill_random_source(f->drill);
	f->random[DRILL_IN] = drill_random_source(f->drill);
	f->free_us[DRILL_OUT] = f->free_us[DRILL_IN] = 0;
	filter_work_at(f, 0);
}

struct link *filter_new(struct loop *loop, struct drill *drill,
			const struct link_events **events, void **arg)
{
	struct filter *f = memory_zeroed(sizeof(*f));

	if (!f)
		return NULL;
	f->link.ops = &filter_ops;
	f->loop = loop;
	f->drill = drill;
	f->member.changed = drill_changed;
	f->random[DRILL_OUT] = drill_random_source(drill);
	f->random[DRILL_IN] = drill_random_source(drill);
	f->events = *events;
	f->arg = *arg;
	f->work = (struct loop_timer){ .fn = work, .arg = f };
	drill_join(drill, &f->member);
	*events = &inner_events;
	*arg = f;
	return &f->link;
}

void filter_over(struct link *filter, struct link *inner)
{
	struct filter *f = filter_of(filter);

	f->inner = inner;
	if (!inner) {
		drill_leave(f->drill, &f->member);
		loop_timer_stop(f->loop, &f->work);
		free(f);
		return;
	}
	snprintf(f->peer_address, sizeof(f->peer_address), "%s",
		 link_peer_address(inner));
	if (drill_is_cut(f->drill, clock_now_us()))
		filter_end(f, -ECONNREFUSED, "no connection: cut by a drill");
}
