/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a filter holds: in which order, until when, and what becomes of it.
 *
 * Out there are two lanes, since heartbeats overtake bulk here as they do on
 * the way below; in there is one.  The order of a lane is kept whatever the
 * effects: nothing passes before the one in front of it, due or not.
 */
#include "config.h"

#include "net/filter_impl.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

enum {
	/* Held on the way in before reading stops, and goes on. */
	IN_PAUSE_BYTES = 4 * 1024 * 1024,
	IN_RESUME_BYTES = 2 * 1024 * 1024,
	BEATS_MAX = 1024,
};

void filter_work_at(struct filter *f, uint64_t at_us)
{
	if (!f->work.armed || f->work.at_us > at_us)
		loop_timer_start(f->loop, &f->work, at_us);
}

/* ---- lanes ---- */

static void lane_put(struct lane *l, struct held *h)
{
	h->next = NULL;
	if (!l->head)
		l->end = &l->head;
	*l->end = h;
	l->end = &h->next;
	l->count++;
}

static struct held *lane_take(struct lane *l)
{
	struct held *h = l->head;

	l->head = h->next;
	l->count--;
	return h;
}

void filter_drop(struct filter *f, struct frame_buf *b)
{
	b->next = f->dropped;
	f->dropped = b;
	filter_work_at(f, 0);
}

void filter_drop_out(struct filter *f, struct lane *l)
{
	while (l->head) {
		struct held *h = lane_take(l);

		f->out_bytes -= h->bytes;
		filter_drop(f, h->buf);
		free(h);
	}
}

void filter_drop_in(struct filter *f)
{
	while (f->in.head)
		free(lane_take(&f->in));
	f->in_bytes = 0;
}

void filter_release_dropped(struct filter *f)
{
	while (f->dropped) {
		struct frame_buf *b = f->dropped;

		f->dropped = b->next;
		b->release(b);
	}
}

/* ---- effects ---- */

static bool chance(struct filter *f, enum drill_way way, uint64_t part)
{
	return part && (drill_random(&f->random[way]) >> 32) < part;
}

/*
 * Only what has a checksum before it is used: everywhere else TLS is what keeps
 * bits from flipping, and a drill shall not prove what cannot happen.
 */
static bool is_checked(uint16_t type, uint64_t epoch)
{
	return type == WIRE_IMAGE || type == WIRE_IMAGE_END ||
	       type == WIRE_PAGES || type == WIRE_STATE ||
	       (type == WIRE_DISK && epoch) || type == WIRE_EPOCH_END;
}

static void flip_a_bit(struct filter *f, enum drill_way way, uint8_t *payload,
		       uint32_t length)
{
	uint64_t bit = drill_random(&f->random[way]) % (length * UINT64_C(8));

	payload[bit / 8] ^= (uint8_t)(1 << bit % 8);
}

static uint64_t due(struct filter *f, enum drill_way way)
{
	const struct drill_effects *e = drill_effects(f->drill, way);
	uint64_t at = clock_now_us() + e->delay_us;

	if (e->jitter_us)
		at += drill_random(&f->random[way]) % (2 * e->jitter_us + 1) -
		      e->jitter_us;
	return at;
}

/* Nothing is done to frames of this direction, and nothing is held. */
bool filter_straight(const struct filter *f, enum drill_way way)
{
	const struct drill_effects *e = drill_effects(f->drill, way);

	return !e->delay_us && !e->rate_bytes && !e->drop && !e->corrupt &&
	       !e->stall_for_us;
}

/* When the next frame of this direction may pass: 0 for now. */
static uint64_t barred_until(const struct filter *f, enum drill_way way,
			     uint64_t now_us)
{
	uint64_t stall = drill_stalled_until(f->drill, way, now_us);

	if (stall)
		return stall;
	return f->free_us[way] > now_us ? f->free_us[way] : 0;
}

static void occupy(struct filter *f, enum drill_way way, uint64_t now_us,
		   size_t bytes)
{
	uint64_t rate = drill_effects(f->drill, way)->rate_bytes;

	if (rate)
		f->free_us[way] = now_us + (bytes + WIRE_HEADER_BYTES) *
						   UINT64_C(1000000) / rate;
}

void filter_hold_out(struct filter *f, struct frame_buf *b)
{
	const struct drill_effects *e = drill_effects(f->drill, DRILL_OUT);
	struct lane *l = link_is_urgent(b->type) ? &f->urgent : &f->bulk;
	struct held *h;

	if (chance(f, DRILL_OUT, e->drop) ||
	    (b->type == WIRE_HEARTBEAT && l->count >= BEATS_MAX)) {
		filter_drop(f, b);
		return;
	}
	h = memory_zeroed(sizeof(*h));
	if (!h) {
		filter_drop(f, b);
		filter_end(f, -ENOMEM, "no memory to hold a frame");
		return;
	}
	if (b->length && is_checked(b->type, b->epoch) &&
	    chance(f, DRILL_OUT, e->corrupt))
		flip_a_bit(f, DRILL_OUT, frame_payload(b), b->length);
	h->buf = b;
	h->bytes = b->length;
	h->due_us = due(f, DRILL_OUT);
	lane_put(l, h);
	f->out_bytes += h->bytes;
	filter_work_at(f, l->head->due_us);
}

void filter_hold_in(struct filter *f, const struct frame *frame)
{
	const struct drill_effects *e = drill_effects(f->drill, DRILL_IN);
	struct held *h;

	if (chance(f, DRILL_IN, e->drop))
		return;
	h = memory_new(sizeof(*h) + frame->length);
	if (!h) {
		filter_end(f, -ENOMEM, "no memory to hold a frame");
		return;
	}
	*h = (struct held){ .frame = *frame, .bytes = frame->length };
	if (frame->length)
		memcpy(h->payload, frame->payload, frame->length);
	if (frame->length && is_checked(frame->type, frame->epoch) &&
	    chance(f, DRILL_IN, e->corrupt))
		flip_a_bit(f, DRILL_IN, h->payload, frame->length);
	h->due_us = due(f, DRILL_IN);
	lane_put(&f->in, h);
	f->in_bytes += sizeof(*h) + h->bytes;
	if (f->in_bytes > IN_PAUSE_BYTES && !f->full)
		filter_pace(f);
	filter_work_at(f, f->in.head->due_us);
}

void filter_check_drained(struct filter *f)
{
	if (!f->above_low || f->state != FILTER_OPEN ||
	    link_queued(&f->link) > LINK_QUEUE_LOW)
		return;
	f->above_low = false;
	if (f->events->drained)
		f->events->drained(f->arg, &f->link);
}

/* The lane whose turn it is, or none; then *wake_us is when to look again. */
static struct lane *next_out(struct filter *f, uint64_t now_us,
			     uint64_t *wake_us)
{
	struct lane *lanes[] = { &f->urgent, &f->bulk };
	uint64_t barred = barred_until(f, DRILL_OUT, now_us);

	for (size_t i = 0; i < 2; i++) {
		uint64_t at =
			lanes[i]->head ? lanes[i]->head->due_us : UINT64_MAX;

		if (at == UINT64_MAX)
			continue;
		if (at <= now_us && !barred)
			return lanes[i];
		if (at < barred)
			at = barred;
		if (at < *wake_us)
			*wake_us = at;
	}
	return NULL;
}

void filter_pass_out(struct filter *f, uint64_t now_us, uint64_t *wake_us)
{
	struct lane *l;

	while (f->inner && f->state != FILTER_CLOSED &&
	       (l = next_out(f, now_us, wake_us))) {
		struct held *h = lane_take(l);
		struct frame_buf *b = h->buf;

		f->out_bytes -= h->bytes;
		occupy(f, DRILL_OUT, now_us, h->bytes);
		free(h);
		link_send(f->inner, b);
	}
}

void filter_pace(struct filter *f)
{
	if (f->in_bytes > IN_PAUSE_BYTES)
		f->full = true;
	else if (f->in_bytes < IN_RESUME_BYTES)
		f->full = false;
	if (f->inner)
		link_pause(f->inner, f->full || f->user_paused);
}

static void deliver(struct filter *f, const struct frame *frame)
{
	if (f->events->alive)
		f->events->alive(f->arg, &f->link);
	if (f->state == FILTER_OPEN)
		f->events->frame(f->arg, &f->link, frame);
}

void filter_pass_in(struct filter *f, uint64_t now_us, uint64_t *wake_us)
{
	bool passed = false;

	while (f->in.head && f->state == FILTER_OPEN && !f->user_paused) {
		uint64_t at = barred_until(f, DRILL_IN, now_us);
		struct held *h = f->in.head;

		if (at < h->due_us)
			at = h->due_us;
		if (at > now_us) {
			if (at < *wake_us)
				*wake_us = at;
			break;
		}
		lane_take(&f->in);
		f->in_bytes -= sizeof(*h) + h->bytes;
		occupy(f, DRILL_IN, now_us, h->bytes);
		h->frame.payload = h->payload;
		deliver(f, &h->frame);
		free(h);
		passed = true;
	}
	if (passed && f->full)
		filter_pace(f);
}
