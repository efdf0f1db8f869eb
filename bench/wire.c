/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit of a commit: the same number of raw pages through the same TLS,
 * with the code of the product's own link, from the first byte until the other
 * end has said that it has them all; and what a round trip of 64 bytes takes.
 *
 * Two threads of a helper process with an event loop each:
 *   - the sink listens, throws pages away, and answers each small frame and
 *     each end of a transfer with a small frame;
 *   - the source connects, plays ball, then sends pages again and again.
 * It is measured twice, with the two threads bound to the processors of the two
 * sides and with none, and the limit is the faster of the two: which one that
 * is depends on the machine.  On one with two processors that had other work to
 * do, 9200 pages took 50 ms unbound, 104 bound, a round trip 24 and 62 us
 * (medians of 12 each, in turns; unbound was faster in 11): a thread that
 * sleeps while it has nothing to do wakes where there is room.
 *
 * Frames are of full size and filled in advance: to copy pages into frames is
 * not part of the limit.
 */
#include "config.h"

#include "bench/bench.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "net/link.h"
#include "net/loop.h"

enum {
	SMALL_BYTES = 64 - WIRE_HEADER_BYTES,
	END_BYTES = 16, /* IMAGE_END's: what ends a transfer */
	FRAME_PAGES = WIRE_PAYLOAD_MAX / WIRE_PAGE_BYTES,
	FRAMES = 16,
	PINGS = 300,
	TRANSFERS_MIN = 7,
	TRANSFERS_MAX = 60,
	TRANSFERS_US = 500 * 1000,
	GIVE_UP_US = 60 * 1000 * 1000,
};

struct wire {
	const struct bench *b;
	uint64_t pages;
	int cpu[BENCH_SIDES]; /* -1: bound to none */
	struct tls_identity *ids[2];

	/* the sink's, until `ready` is posted */
	uint16_t port;
	int sink_err;
	pthread_mutex_t lock;
	pthread_cond_t ready;
	bool is_ready;
	struct loop *sink_loop;
	struct link_listener *listener;

	/* the source's */
	struct loop *loop;
	struct link *link;
	struct loop_timer deadline;
	struct frame_buf *free_frames;
	uint64_t left; /* pages of this transfer still to be queued */
	uint64_t began_us, first_us;
	size_t pings, transfers;
	double ping_us[PINGS], transfer_us[TRANSFERS_MAX];
	bool done;
};

static void release_heap(struct frame_buf *b)
{
	free(b);
}

static void send_small(struct link *l, uint16_t type, uint32_t bytes)
{
	struct frame_buf *f = frame_buf_new(type, 0, bytes);

	if (!f)
		abort(); /* in a helper: the bench says that it failed */
	memset(frame_payload(f), 0, bytes);
	f->length = bytes;
	f->release = release_heap;
	link_send(l, f);
}

/* --- the sink ------------------------------------------------------------- */

static void nothing(void *arg, struct link *l)
{
	(void)arg;
	(void)l;
}

static void sink_frame(void *arg, struct link *l, const struct frame *f)
{
	(void)arg;
	if (f->type == WIRE_IMAGE_END || f->length == SMALL_BYTES)
		send_small(l, WIRE_IMAGE, SMALL_BYTES);
}

static void sink_down(void *arg, struct link *l, int err, const char *why)
{
	struct wire *w = arg;

	(void)l;
	(void)err;
	(void)why;
	link_listener_close(w->listener);
	loop_stop(w->sink_loop);
}

static const struct link_events *sink_accepted(void *arg, struct link *l,
					       void **link_arg)
{
	static const struct link_events events = {
		.up = nothing,
		.frame = sink_frame,
		.down = sink_down,
	};

	(void)l;
	*link_arg = arg;
	return &events;
}

static void *sink_main(void *arg)
{
	struct wire *w = arg;
	int err;

	bench_pin(w->cpu[BENCH_SECONDARY]);
	err = loop_open(&w->sink_loop);
	if (!err)
		err = link_listen(w->sink_loop, w->ids[1], "127.0.0.1", 0,
				  sink_accepted, w, &w->listener, &w->port);
	if (!err)
		link_listener_congestion(w->listener, w->b->congestion);
	pthread_mutex_lock(&w->lock);
	w->sink_err = err;
	w->is_ready = true;
	pthread_cond_signal(&w->ready);
	pthread_mutex_unlock(&w->lock);
	if (!err)
		loop_run(w->sink_loop);
	return NULL;
}

/* --- the source ----------------------------------------------------------- */

static void give_back(struct frame_buf *f)
{
	struct wire *w = f->owner;

	f->next = w->free_frames;
	w->free_frames = f;
}

static bool make_frames(struct wire *w)
{
	unsigned int i, k;

	for (i = 0; i < FRAMES; i++) {
		struct frame_buf *f =
			frame_buf_new(WIRE_IMAGE, 0, WIRE_PAYLOAD_MAX);

		if (!f)
			return false;
		for (k = 0; k < WIRE_PAYLOAD_MAX; k++)
			frame_payload(f)[k] = (uint8_t)(i * 31 + k * 7);
		f->owner = w;
		f->release = give_back;
		give_back(f);
	}
	return true;
}

/* As many frames as there are free ones; goes on when the link has drained. */
static void fill(struct wire *w)
{
	while (w->left && w->free_frames) {
		struct frame_buf *f = w->free_frames;
		uint64_t n = w->left < FRAME_PAGES ? w->left : FRAME_PAGES;

		w->free_frames = f->next;
		f->next = NULL;
		f->length = (uint32_t)n * WIRE_PAGE_BYTES;
		w->left -= n;
		link_send(w->link, f);
		if (!w->left)
			send_small(w->link, WIRE_IMAGE_END, END_BYTES);
	}
}

static void begin_transfer(struct wire *w)
{
	w->began_us = clock_now_us();
	if (!w->first_us)
		w->first_us = w->began_us;
	w->left = w->pages;
	fill(w);
}

static void ping(struct wire *w)
{
	w->began_us = clock_now_us();
	send_small(w->link, WIRE_IMAGE, SMALL_BYTES);
}

static void source_up(void *arg, struct link *l)
{
	struct wire *w = arg;

	w->link = l;
	ping(w);
}

static void source_frame(void *arg, struct link *l, const struct frame *f)
{
	struct wire *w = arg;
	uint64_t now = clock_now_us();

	(void)f;
	if (w->pings < PINGS) {
		w->ping_us[w->pings++] = (double)(now - w->began_us);
		if (w->pings < PINGS)
			ping(w);
		else
			begin_transfer(w);
		return;
	}
	w->transfer_us[w->transfers++] = (double)(now - w->began_us);
	if (w->transfers < TRANSFERS_MIN ||
	    (w->transfers < TRANSFERS_MAX &&
	     now < w->first_us + TRANSFERS_US)) {
		begin_transfer(w);
		return;
	}
	w->done = true;
	link_close(l);
}

static void source_drained(void *arg, struct link *l)
{
	(void)l;
	fill(arg);
}

static void source_down(void *arg, struct link *l, int err, const char *why)
{
	struct wire *w = arg;

	(void)l;
	if (!w->done)
		bench_error("TLS over 127.0.0.1: %s (%s)", why, strerror(-err));
	loop_stop(w->loop);
}

static void too_long(void *arg)
{
	struct wire *w = arg;

	link_abort(w->link, "no answer");
}

static int source_run(struct wire *w)
{
	static const struct link_events events = {
		.up = source_up,
		.frame = source_frame,
		.drained = source_drained,
		.down = source_down,
	};
	int err = loop_open(&w->loop);

	if (err)
		return err;
	w->link = link_connect(w->loop, w->ids[0], "127.0.0.1", w->port,
			       &events, w);
	if (!w->link || !make_frames(w))
		return -ENOMEM;
	link_congestion(w->link, w->b->congestion);
	w->deadline = (struct loop_timer){ .fn = too_long, .arg = w };
	loop_timer_start(w->loop, &w->deadline, clock_now_us() + GIVE_UP_US);
	err = loop_run(w->loop);
	return err ? err : w->done ? 0 : -EIO;
}

/* --- both ----------------------------------------------------------------- */

static int load_identities(struct wire *w)
{
	char paths[3][sizeof(w->b->dir) + 16], why[TLS_ERROR_BYTES];
	struct tls_files files = { paths[0], paths[1], paths[2] };
	int i, err = 0;

	for (i = 0; i < 2 && !err; i++) {
		snprintf(paths[0], sizeof(paths[0]), "%s/certs/%c.crt",
			 w->b->dir, "ab"[i]);
		snprintf(paths[1], sizeof(paths[1]), "%s/certs/%c.key",
			 w->b->dir, "ab"[i]);
		snprintf(paths[2], sizeof(paths[2]), "%s/certs/ca.crt",
			 w->b->dir);
		err = tls_identity_load(&files, &w->ids[i], why);
		if (err)
			bench_error("%s", why);
	}
	return err;
}

/* The process ends after it: what was taken is not given back. */
static int measure(void *arg, double *out)
{
	struct wire *w = arg;
	pthread_t sink;
	int err = load_identities(w);

	if (err)
		return err;
	bench_pin(w->cpu[BENCH_PRIMARY]);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->ready, NULL);
	if (pthread_create(&sink, NULL, sink_main, w))
		return -EAGAIN;
	pthread_mutex_lock(&w->lock);
	while (!w->is_ready)
		pthread_cond_wait(&w->ready, &w->lock);
	pthread_mutex_unlock(&w->lock);
	err = w->sink_err ? w->sink_err : source_run(w);
	if (err)
		return err;
	out[0] = bench_limit_of(w->transfer_us, w->transfers);
	out[1] = bench_limit_of(w->ping_us, w->pings);
	return 0;
}

static double faster(double a, double b)
{
	return a < b ? a : b;
}

int bench_wire_limit(struct bench *b, struct bench_result *r)
{
	struct wire w = { .b = b, .pages = r->limits.pages, .cpu = { -1, -1 } };
	double free[2], bound[2];
	int err = bench_call(b, measure, &w, free, 2);

	memcpy(w.cpu, b->cpu, sizeof(w.cpu));
	memcpy(bound, free, sizeof(bound));
	if (!err && w.cpu[BENCH_PRIMARY] >= 0)
		err = bench_call(b, measure, &w, bound, 2);
	if (!err) {
		r->limits.wire_us = faster(free[0], bound[0]);
		r->limits.round_trip_us = faster(free[1], bound[1]);
	} else if (err != -EINTR) {
		bench_error("raw pages could not be sent "
			    "over TLS of 127.0.0.1");
	}
	return err;
}
