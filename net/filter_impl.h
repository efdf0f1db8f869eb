/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a filter share: filter.c and filter_lanes.c. */
#ifndef NET_FILTER_IMPL_H
#define NET_FILTER_IMPL_H

#include "net/filter.h"
#include "net/link_ops.h"
#include "net/tls.h"

enum filter_state {
	FILTER_OPEN,
	FILTER_CLOSING, /* what is held on the way out still goes */
	FILTER_CLOSED,	/* the inner link is ending */
};

struct held {
	struct held *next;
	uint64_t due_us;
	size_t bytes;
	struct frame_buf *buf; /* out */
	struct frame frame;    /* in: its payload follows */
	uint8_t payload[];
};

struct lane {
	struct held *head;
	struct held **end;
	unsigned int count;
};

struct filter {
	struct link link;
	struct loop *loop;
	struct drill *drill;
	struct drill_member member;
	struct link *inner; /* NULL: down */
	const struct link_events *events;
	void *arg;
	enum filter_state state;
	struct loop_timer work;
	uint64_t deadline_us; /* of closing */

	struct lane urgent, bulk, in;
	uint64_t random[DRILL_WAYS];
	uint64_t free_us[DRILL_WAYS]; /* when the rate lets the next one pass */
	size_t out_bytes, in_bytes;
	struct frame_buf *dropped; /* to be released, not inside a call */
	bool above_low;
	bool user_paused, full;

	/* How it ended. */
	bool down;
	uint64_t down_due_us;
	int err;
	char why[TLS_ERROR_BYTES];
	char peer_name[80], peer_address[64];
	uint64_t bytes_sent, bytes_received;
};

/* ---- filter.c ---- */

/* Drops all that is held and ends the inner link; `down` follows. */
void filter_end(struct filter *f, int err, const char *why);

/* ---- filter_lanes.c ---- */

/* Looks what may pass at this time, or before. */
void filter_work_at(struct filter *f, uint64_t at_us);
/* Gives a frame back to its owner, soon. */
void filter_drop(struct filter *f, struct frame_buf *b);
void filter_drop_out(struct filter *f, struct lane *l);
void filter_drop_in(struct filter *f);
void filter_release_dropped(struct filter *f);
/* Nothing is done to frames of this direction. */
bool filter_straight(const struct filter *f, enum drill_way way);
void filter_hold_out(struct filter *f, struct frame_buf *b);
void filter_hold_in(struct filter *f, const struct frame *frame);
/* Lets pass what is due; lowers *wake_us to when the next will be. */
void filter_pass_out(struct filter *f, uint64_t now_us, uint64_t *wake_us);
void filter_pass_in(struct filter *f, uint64_t now_us, uint64_t *wake_us);
/* Tells that the queue has become short, where it has. */
void filter_check_drained(struct filter *f);
/* Reads from the inner link or not. */
void filter_pace(struct filter *f);

#endif
