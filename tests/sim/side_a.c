/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `colod primary` around its machine: engine/primary_daemon.c and
 * primary_jobs.c as a model.  What differs from them is meant to be without
 * consequence for the machine: an image is two frames, an epoch's frames are
 * queued in one go, and a job's effect and its EVENT_DONE are two items.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/world.h"

/* --- the environment ---------------------------------------------------- */

static uint64_t env_now_us(void *arg)
{
	return sim_local(arg, A);
}

static uint64_t env_random(void *arg)
{
	struct world *w = arg;

	return ++w->sessions;
}

static void env_timer(void *arg, enum env_timer t, uint64_t at_us)
{
	sim_timer(arg, A, t, at_us);
}

static void env_connect(void *arg)
{
	struct world *w = arg;

	if (w->host[A].link >= 0)
		sim_violate(w, "a second connection of one primary");
	link_connect_a(w);
}

static void env_send(void *arg, struct frame_buf *frame)
{
	static const struct history none;
	struct world *w = arg;
	struct sim_host *h = &w->host[A];

	if (!frame)
		return;
	check_farewell(w, frame);
	if (h->link_ready)
		link_post(w, A, (unsigned int)h->link, frame, none, 0);
	else
		frame->release(frame);
}

static void env_disconnect(void *arg, const struct bye *bye)
{
	struct world *w = arg;
	struct sim_host *h = &w->host[A];

	if (h->link < 0 || h->link_closing)
		return;
	h->link_closing = true;
	if (bye && h->link_ready) {
		env_send(w, bye_encode(bye->reason, bye->text));
		link_close_end(w, A, (unsigned int)h->link);
	} else {
		link_abort_end(w, A, (unsigned int)h->link);
	}
	h->link_ready = false;
}

static void env_gate(void *arg, enum guest_gate order, uint64_t epoch)
{
	struct world *w = arg;

	if (w->cfg.gate)
		gate_order(w, order, epoch);
	else
		sim_violate(w, "an order to a gate that there is not");
}

static void start_image(struct world *w, struct job *j)
{
	static const struct history none;
	struct sim_host *h = &w->host[A];
	const struct guest_description d = {
		.kind = WIRE_GUEST_EMBEDDED,
		.ram_bytes = 1 << 20,
		.max_gfn = 255,
		.uuid = { 1 },
		.name = "web",
		.config = (char[]){ "" },
	};

	j->generation = w->generation;
	if (!h->link_ready)
		return;
	link_post(w, A, (unsigned int)h->link, domain_encode(&d), none, 0);
	link_plain(w, A, (unsigned int)h->link, WIRE_IMAGE);
}

static void post_encode(struct world *w, uint64_t epoch)
{
	struct job *j;

	if (w->encode_count == JOBS) {
		sim_violate(w, "6: epochs pile up before the encoder");
		return;
	}
	j = &w->encodes[w->encode_count++];
	memset(j, 0, sizeof(*j));
	j->epoch = epoch;
	j->generation = w->generation;
	j->kind = ENV_JOB_ENCODE;
	j->due_us = w->now_us + (uint64_t)w->cfg.encode_us +
		    w->spoil[A][ENV_JOB_ENCODE].us;
	w->spoil[A][ENV_JOB_ENCODE].us = 0;
	/* What the capture that has just ended brought. */
	j->at = w->host[A].jobs[0].at;
	j->partial = w->host[A].jobs[0].partial;
	j->run = w->host[A].jobs[0].run;
}

static void env_job(void *arg, enum env_job kind, uint64_t epoch)
{
	struct world *w = arg;
	const struct sim_config *c = &w->cfg;
	struct job *j;

	check_reader(w, kind);
	switch (kind) {
	case ENV_JOB_SYNC:
		j = sim_job(w, A, kind, 0, (uint64_t)c->image_us);
		start_image(w, j);
		break;
	case ENV_JOB_CAPTURE:
		check_capture(w);
		j = sim_job(w, A, kind, epoch, (uint64_t)c->suspend_us);
		j->run = *primary_epoch(&w->primary, epoch);
		break;
	case ENV_JOB_ENCODE:
		post_encode(w, epoch);
		break;
	case ENV_JOB_FENCE:
		sim_fence(w, A);
		break;
	default:
		sim_job(w, A, kind, epoch, (uint64_t)c->job_us);
	}
}

static void env_cancel(void *arg, enum env_job kind)
{
	struct world *w = arg;
	struct sim_fence *f = &w->host[A].fence;

	if (kind == ENV_JOB_FENCE && f->runs && !f->orphan) {
		f->cancelled = true;
		f->due_us = w->now_us;
	}
	if (kind == ENV_JOB_SYNC || kind == ENV_JOB_AFTER_SHUTDOWN)
		sim_cancel_job(w, A, kind);
}

static void env_finish(void *arg, int exit_status)
{
	sim_ended(arg, A, exit_status);
}

static const struct env_ops ops = {
	.now_us = env_now_us,
	.random = env_random,
	.timer = env_timer,
	.connect = env_connect,
	.send = env_send,
	.disconnect = env_disconnect,
	.gate = env_gate,
	.job = env_job,
	.cancel = env_cancel,
	.finish = env_finish,
};

void a_start(struct world *w)
{
	static const struct event start = { .type = EVENT_START };
	const struct env env = { .ops = &ops, .arg = w };
	const struct sim_config *c = &w->cfg;
	const struct primary_config cfg = {
		.domain = "web",
		.peer = "b:7475",
		.host = "a",
		.pace = { .min_us = (uint64_t)c->interval_us,
			  .max_us = (uint64_t)c->interval_us },
		.heartbeat_us = (uint64_t)c->heartbeat_us,
		.lost_after = (unsigned int)c->lost_after,
		.inflight = (unsigned int)c->inflight,
		.fence = c->fence_a,
		.unsafe_no_fence = c->unsafe_a,
		.retry_us = (uint64_t)c->retry_us,
		.ack_timeout_us = (uint64_t)c->ack_timeout_us,
		.gate = c->gate,
		.gate_held = w->gate.mode == GATE_HOLDS,
	};

	w->generation++;
	w->encode_count = 0;
	guest_look(w, A);
	primary_init(&w->primary, &cfg, &env);
	sim_event(w, A, &start);
}

/* --- the link ----------------------------------------------------------- */

void a_up(struct world *w, unsigned int conn)
{
	static const struct event up = { .type = EVENT_LINK_UP };

	(void)conn;
	w->host[A].link_ready = true;
	sim_event(w, A, &up);
}

void a_frame(struct world *w, const struct frame *f)
{
	struct event e = { .epoch = f->epoch };
	const char *why = "unexpected frame";
	struct wire_ack ack;
	struct hello hello;
	struct bye bye;
	int err = -EPROTO;

	switch (f->type) {
	case WIRE_HELLO:
		err = hello_decode(f, &hello, &why);
		e.type = EVENT_HELLO;
		e.hello = &hello;
		break;
	case WIRE_ACK:
		err = ack_decode(f, &ack, &why);
		e.type = EVENT_ACK;
		e.applied = ack.applied;
		if ((int64_t)f->epoch != w->acked + 1)
			sim_violate(w, "4: ACK %d comes after ACK %d",
				    (int)f->epoch, (int)w->acked);
		w->acked = (int64_t)f->epoch;
		break;
	case WIRE_BYE:
		err = bye_decode(f, &bye, &why);
		e.type = EVENT_BYE;
		e.bye = &bye;
		break;
	case WIRE_HEARTBEAT:
		return;
	default:
		break;
	}
	if (err)
		sim_violate(w, "a frame from B: %s", why);
	else
		sim_event(w, A, &e);
}

/* The job at the head ends for the machine. */
static void finish_job(struct world *w)
{
	struct sim_host *h = &w->host[A];
	struct job j = h->jobs[0];
	struct epoch_run *r;

	if (j.kind == ENV_JOB_CAPTURE) {
		r = primary_epoch(&w->primary, j.epoch);
		if (r)
			*r = j.run;
	}
	/* ENCODE looks at jobs[0] for what was captured. */
	h->jobs[0].ended = true;
	sim_done(w, A, &j);
	if (!h->colod)
		return;
	h->job_count--;
	memmove(&h->jobs[0], &h->jobs[1], h->job_count * sizeof(h->jobs[0]));
	sim_start_first(w, A);
}

/* --- an image that waits for the link to take more ----------------------- */

static bool image_waits(const struct world *w)
{
	return w->host[A].job_count && w->host[A].jobs[0].waits;
}

bool a_image_may_block(const struct world *w)
{
	const struct job *j = &w->host[A].jobs[0];
	unsigned int i;

	if (j->kind != ENV_JOB_SYNC || j->acted || j->cancelled)
		return false;
	for (i = 0; i < w->message_count; i++)
		if (w->messages[i].type == WIRE_IMAGE &&
		    w->messages[i].conn == w->host[A].link)
			return true;
	return false;
}

void a_image_taken(struct world *w)
{
	static const struct event moved = { .type = EVENT_MOVED };

	if (!image_waits(w))
		return;
	w->host[A].jobs[0].waits = false;
	w->host[A].jobs[0].due_us = w->now_us;
	sim_event(w, A, &moved);
}

/* Its descriptor is closed under it. */
static void image_breaks(struct world *w)
{
	struct job *j = &w->host[A].jobs[0];

	if (!image_waits(w))
		return;
	j->waits = false;
	j->acted = true;
	j->err = -EPIPE;
	j->due_us = w->now_us;
}

static bool image_is_stuck(const struct world *w)
{
	const struct job *j = &w->host[A].jobs[0];

	return w->host[A].job_count && j->kind == ENV_JOB_SYNC && j->acted &&
	       !j->err;
}

void a_down(struct world *w, unsigned int conn, int error)
{
	struct sim_host *h = &w->host[A];
	const struct event e = { .type = EVENT_LINK_DOWN, .error = error };

	if (h->link != (int)conn)
		return;
	h->link = -1;
	h->link_ready = h->link_closing = false;
	w->generation++;
	image_breaks(w);
	if (image_is_stuck(w)) {
		h->jobs[0].err = -ECONNRESET;
		finish_job(w);
	}
	sim_event(w, A, &e);
}

/* --- jobs --------------------------------------------------------------- */

static bool same_link(const struct world *w, const struct job *j)
{
	return w->host[A].link_ready && j->generation == w->generation;
}

/*
 * An image that nobody wants any more fails, unless all of it had been read
 * already: then the gate closes all the same.
 */
static void image_act(struct world *w, struct job *j)
{
	bool wanted = !j->cancelled && same_link(w, j);

	if (!j->err && !wanted && !w->cfg.cancel_is_late)
		j->err = j->cancelled ? -ECANCELED : -EPIPE;
	if (!j->err) {
		guest_image(w, j);
		if (!wanted && !j->err)
			j->err = -ECONNRESET;
	} else if (w->host[A].guest.status != GUEST_RUNNING) {
		j->err = -ESHUTDOWN;
		j->guest = guest_look(w, A);
	}
}

static void act(struct world *w, struct job *j)
{
	struct sim_guest *g = &w->host[A].guest;

	j->err = sim_spoilt(w, A, j->kind);
	switch (j->kind) {
	case ENV_JOB_SYNC:
		image_act(w, j);
		break;
	case ENV_JOB_CAPTURE:
		w->spoil[A][ENV_JOB_CAPTURE].err = j->err;
		j->err = guest_capture(w, j);
		break;
	case ENV_JOB_YIELD:
		if (!j->err)
			g->paused = true;
		else
			w->yield_failed = true;
		break;
	case ENV_JOB_STATUS:
		j->guest = guest_look(w, A);
		break;
	case ENV_JOB_AFTER_SHUTDOWN:
		j->again = g->status == GUEST_REBOOT && !j->cancelled;
		if (j->again)
			g->status = GUEST_RUNNING;
		else
			g->exists = false;
		break;
	default:
		j->err = 0;
	}
}

static bool has_two_steps(enum env_job kind)
{
	return kind == ENV_JOB_SYNC || kind == ENV_JOB_CAPTURE ||
	       kind == ENV_JOB_YIELD;
}

static void image_end(struct world *w, struct job *j)
{
	static const struct event moved = { .type = EVENT_MOVED };
	const struct wire_image_end end = { .bytes = 1, .checksum = 1 };

	if (j->err)
		return;
	sim_event(w, A, &moved);
	if (same_link(w, j))
		link_post(w, A, (unsigned int)w->host[A].link,
			  image_end_encode(&end), j->at, 0);
	else
		j->err = -ECONNRESET;
}

void a_job(struct world *w)
{
	static const struct event blocked = { .type = EVENT_BLOCKED };
	struct job *j = &w->host[A].jobs[0];

	if (w->cfg.image_blocks && a_image_may_block(w)) {
		j->waits = true;
		sim_event(w, A, &blocked);
		return;
	}
	if (!j->acted) {
		j->acted = true;
		act(w, j);
		if (w->dying) {
			w->dying = false;
			sim_crash(w, A);
			return;
		}
		if (has_two_steps(j->kind)) {
			j->due_us = w->now_us + (uint64_t)w->cfg.pause_us;
			return;
		}
	}
	if (j->kind == ENV_JOB_SYNC)
		image_end(w, j);
	finish_job(w);
}

static void send_epoch(struct world *w, const struct job *j)
{
	unsigned int conn = (unsigned int)w->host[A].link;
	const struct wire_epoch_end end = { .pages = 1 };
	struct frame_buf *b;

	if (j->run.rounds == 1) {
		w->round_pages = 0;
		b = frame_buf_new(WIRE_EPOCH_BEGIN, j->epoch, 0);
		link_post(w, A, conn, b, j->at, 0);
	}
	w->round_pages++;
	b = frame_buf_new(WIRE_PAGES, j->epoch, 0);
	link_post(w, A, conn, b, j->at, 0);
	if (!j->partial)
		link_post(w, A, conn, epoch_end_encode(j->epoch, &end), j->at,
			  w->round_pages);
}

void a_encode(struct world *w)
{
	struct job *first = &w->encodes[0], j;

	if (!first->acted) {
		first->err = sim_spoilt(w, A, ENV_JOB_ENCODE);
		if (!same_link(w, first))
			first->err = -ECANCELED;
		if (!first->err)
			send_epoch(w, first);
		first->acted = true;
		first->due_us = w->now_us + (uint64_t)w->cfg.job_us;
		return;
	}
	j = *first;
	w->encode_count--;
	memmove(&w->encodes[0], &w->encodes[1],
		w->encode_count * sizeof(w->encodes[0]));
	if (w->encode_count)
		w->encodes[0].due_us = w->now_us + (uint64_t)w->cfg.encode_us;
	j.partial = false;
	sim_done(w, A, &j);
}
