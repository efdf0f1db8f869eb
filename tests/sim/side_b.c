/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `colod secondary` around its machine: visitors, the admitted link, the intake
 * and the jobs, as a model of engine/secondary_visitors.c, secondary_daemon.c,
 * intake.c and secondary_jobs.c.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "tests/sim/world.h"

enum { PATIENCE_US = 15 * SEC };

static const struct history none;

/* --- the environment ---------------------------------------------------- */

static uint64_t env_now_us(void *arg)
{
	return sim_local(arg, B);
}

static uint64_t env_random(void *arg)
{
	(void)arg;
	return 5;
}

static void env_timer(void *arg, enum env_timer t, uint64_t at_us)
{
	sim_timer(arg, B, t, at_us);
}

static void env_connect(void *arg)
{
	sim_violate(arg, "a secondary connects");
}

static void env_send(void *arg, struct frame_buf *frame)
{
	struct world *w = arg;
	struct sim_host *h = &w->host[B];

	if (!frame)
		return;
	if (frame->type == WIRE_ACK)
		check_ack(w, frame->epoch);
	if (h->link_ready)
		link_post(w, B, (unsigned int)h->link, frame, none, 0);
	else
		frame->release(frame);
}

static void env_disconnect(void *arg, const struct bye *bye)
{
	struct world *w = arg;
	struct sim_host *h = &w->host[B];

	if (!h->link_ready)
		return;
	if (bye) {
		env_send(w, bye_encode(bye->reason, bye->text));
		link_close_end(w, B, (unsigned int)h->link);
	} else {
		link_abort_end(w, B, (unsigned int)h->link);
	}
	h->link_ready = false;
}

static void env_gate(void *arg, enum guest_gate order, uint64_t epoch)
{
	(void)order;
	(void)epoch;
	sim_violate(arg, "a secondary orders a gate");
}

static void close_image(struct world *w)
{
	struct sim_host *h = &w->host[B];
	unsigned int i;

	w->image_open = false;
	for (i = 0; i < h->job_count; i++)
		if (h->jobs[i].kind == ENV_JOB_BUILD && h->jobs[i].waits) {
			h->jobs[i].waits = false; /* it reads a short image */
			h->jobs[i].due_us = w->now_us;
		}
}

static void env_job(void *arg, enum env_job kind, uint64_t epoch)
{
	struct world *w = arg;
	const struct sim_config *c = &w->cfg;
	uint64_t takes_us = (uint64_t)c->job_us;
	struct job *j;

	if (kind == ENV_JOB_FENCE) {
		sim_fence(w, B);
		return;
	}
	if (kind == ENV_JOB_APPLY)
		takes_us = (uint64_t)c->apply_us;
	if (kind == ENV_JOB_ACTIVATE)
		takes_us = (uint64_t)c->activate_us;
	j = sim_job(w, B, kind, epoch, takes_us);
	if (kind == ENV_JOB_APPLY) {
		if (!w->pending)
			sim_violate(w, "2: nothing stored is to be applied");
		w->pending = false;
		j->at = w->stored_at;
	}
	if (kind == ENV_JOB_ACTIVATE)
		check_takeover(w, epoch);
	if (kind == ENV_JOB_BUILD) {
		j->waits = true;
		w->not_building = false;
		w->image_open = true;
		w->image_ended = w->image_whole = false;
		w->filling = false;
		w->stores_used = 0;
		w->stored_us = 0;
	}
}

static void env_cancel(void *arg, enum env_job kind)
{
	struct world *w = arg;
	struct sim_fence *f = &w->host[B].fence;

	if (kind == ENV_JOB_FENCE && f->runs && !f->orphan) {
		f->cancelled = true;
		f->due_us = w->now_us;
	}
	if (kind == ENV_JOB_BUILD)
		close_image(w);
}

static void env_finish(void *arg, int exit_status)
{
	struct world *w = arg;
	unsigned int i;

	w->host[B].finishing = true;
	w->host[B].exit_status = exit_status;
	for (i = 0; i < CONNS; i++)
		if (w->conns[i].end[B] == END_UP && w->host[B].link != (int)i)
			link_abort_end(w, B, i);
	if (w->host[B].link < 0)
		sim_ended(w, B, exit_status);
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

void b_start(struct world *w)
{
	const struct env env = { .ops = &ops, .arg = w };
	const struct sim_config *c = &w->cfg;
	const struct secondary_config cfg = {
		.host = "b",
		.heartbeat_us = (uint64_t)c->heartbeat_us,
		.lost_after = (unsigned int)c->lost_after,
		.inflight = (unsigned int)c->inflight_b,
		.fence = c->fence_b,
		.unsafe_no_fence = c->unsafe_b,
	};

	memset(&w->twin, 0, sizeof(w->twin)); /* swept */
	w->image_open = w->not_building = w->pending = w->filling = false;
	w->stored_us = 0;
	w->stores_used = 0;
	w->last_ack = -1;
	secondary_init(&w->secondary, &cfg, &env);
}

/* --- visitors ----------------------------------------------------------- */

static void refuse(struct world *w, unsigned int conn, const struct bye *bye)
{
	w->conns[conn].refused = true;
	link_post(w, B, conn, bye_encode(bye->reason, bye->text), none, 0);
	link_close_end(w, B, conn);
}

void b_arrive(struct world *w, unsigned int conn)
{
	struct conn *c = &w->conns[conn];

	c->beat_us = sim_in(w, 0);
	c->until_us = w->now_us + PATIENCE_US;
	if (w->host[B].finishing)
		link_abort_end(w, B, conn);
}

void b_beat(struct world *w, unsigned int conn)
{
	struct conn *c = &w->conns[conn];

	if (c->end[B] != END_UP) {
		c->beat_us = 0;
		return;
	}
	if (w->now_us > c->until_us) {
		link_abort_end(w, B, conn);
		return;
	}
	if (c->greeted)
		link_plain(w, B, conn, WIRE_HEARTBEAT);
	c->beat_us = w->now_us + (uint64_t)w->cfg.heartbeat_us;
}

static void greet(struct world *w, unsigned int conn, const struct frame *f)
{
	struct hello ours, theirs;
	struct bye bye = { 0 };
	const char *why;

	if (hello_decode(f, &theirs, &why)) {
		sim_violate(w, "A's HELLO: %s", why);
		return;
	}
	w->conns[conn].greeted = true;
	w->conns[conn].session = theirs.session;
	secondary_hello(&w->secondary, &ours);
	link_post(w, B, conn, hello_encode(&ours), none, 0);
	if (!secondary_greet(&w->secondary, &theirs, &bye))
		refuse(w, conn, &bye);
}

static void admit(struct world *w, unsigned int conn, const struct frame *f)
{
	struct hello hello = { .host = "a", .session = w->conns[conn].session };
	struct guest_description guest = { 0 };
	struct event e = { .type = EVENT_DOMAIN,
			   .hello = &hello,
			   .description = &guest };
	struct bye bye = { 0 };
	const char *why;

	if (domain_decode(f, &guest, &why)) {
		sim_violate(w, "A's DOMAIN: %s", why);
		return;
	}
	if (!secondary_admit(&w->secondary, &guest, &bye)) {
		refuse(w, conn, &bye);
		secondary_called_again(&w->secondary, &hello);
	} else {
		w->conns[conn].beat_us = 0;
		w->host[B].link = (int)conn;
		w->host[B].link_ready = true;
		w->not_building = true;
		w->last_ack = -1;
		sim_event(w, B, &e);
	}
	guest_description_fini(&guest);
}

static void visitor_says(struct world *w, unsigned int conn,
			 const struct frame *f)
{
	if (w->conns[conn].refused)
		return;
	if (f->type == WIRE_HELLO)
		greet(w, conn, f);
	else if (f->type == WIRE_DOMAIN)
		admit(w, conn, f);
	else if (f->type == WIRE_BYE)
		link_close_end(w, B, conn);
	else if (f->type != WIRE_HEARTBEAT)
		sim_violate(w, "B is told of an image before it admits");
}

/* --- the admitted link -------------------------------------------------- */

bool b_paused(const struct world *w)
{
	return w->not_building;
}

/*
 * Whether this message is taken from the network now: nothing of a link that
 * is paused, no new epoch while both stores are in use (the real intake
 * queues it), and nothing behind one that is being decoded.
 */
bool b_reads(const struct world *w, const struct message *m)
{
	if (m->type == SIM_RST || w->host[B].link != (int)m->conn)
		return true;
	if (w->not_building)
		return false;
	if (m->type == WIRE_EPOCH_BEGIN)
		return w->stores_used < STORES;
	return m->type != WIRE_EPOCH_END || !w->stored_us;
}

static void image_ends(struct world *w, const struct frame *f,
		       const struct message *m)
{
	struct event e = { .type = EVENT_IMAGE_END };
	struct sim_host *h = &w->host[B];
	struct wire_image_end end;

	if (!w->image_open)
		return;
	e.error = image_end_decode(f, &end, &e.text);
	if (m->corrupt) {
		e.error = -EBADMSG;
		e.text = "the image is not what was sent";
	}
	w->image_ended = true;
	w->image_whole = !e.error;
	w->image_at = m->at;
	if (h->job_count && h->jobs[0].kind == ENV_JOB_BUILD &&
	    h->jobs[0].waits) {
		h->jobs[0].waits = false;
		h->jobs[0].due_us = w->now_us + (uint64_t)w->cfg.build_us +
				    w->spoil[B][ENV_JOB_BUILD].us;
		w->spoil[B][ENV_JOB_BUILD].us = 0;
	}
	sim_event(w, B, &e);
}

static void fails(struct world *w, uint64_t epoch)
{
	const struct event e = { .type = EVENT_STORED,
				 .epoch = epoch,
				 .error = -EPROTO,
				 .text = "a frame outside its epoch" };

	w->filling = false;
	sim_event(w, B, &e);
}

static void epoch_frame(struct world *w, const struct frame *f,
			const struct message *m)
{
	struct wire_epoch_end end;
	const char *why;

	if (f->type == WIRE_EPOCH_BEGIN) {
		if (w->filling || m->corrupt) {
			fails(w, f->epoch);
			return;
		}
		w->filling = true;
		w->stores_used++;
		w->filling_epoch = f->epoch;
		w->filling_pages = 0;
		return;
	}
	if (!w->filling || w->filling_epoch != f->epoch || m->corrupt) {
		fails(w, f->epoch);
		return;
	}
	if (f->type == WIRE_PAGES) {
		w->filling_pages++;
		return;
	}
	w->filling = false;
	if (epoch_end_decode(f, &end, &why) || m->pages != w->filling_pages) {
		fails(w, f->epoch);
		return;
	}
	w->stored_us = sim_in(w, (uint64_t)w->cfg.decode_us);
	w->stored_epoch = f->epoch;
	w->stored_at = m->at;
}

/* The intake's thread has verified all of it. */
void b_stored(struct world *w)
{
	const struct event e = { .type = EVENT_STORED,
				 .epoch = w->stored_epoch };

	w->stored_us = 0;
	w->pending = true;
	w->committed_at = w->stored_at;
	sim_event(w, B, &e);
	if (w->pending)
		w->stores_used--;
	w->pending = false;
}

void b_frame(struct world *w, unsigned int conn, const struct frame *f,
	     const struct message *m)
{
	struct event e = { .type = EVENT_BYE };
	const char *why;
	struct bye bye;

	if (w->host[B].link != (int)conn) {
		visitor_says(w, conn, f);
		return;
	}
	switch (f->type) {
	case WIRE_IMAGE_END:
		image_ends(w, f, m);
		break;
	case WIRE_EPOCH_BEGIN:
	case WIRE_PAGES:
	case WIRE_EPOCH_END:
		epoch_frame(w, f, m);
		break;
	case WIRE_BYE:
		if (bye_decode(f, &bye, &why))
			sim_violate(w, "A's BYE: %s", why);
		e.bye = &bye;
		sim_event(w, B, &e);
		break;
	default:
		break;
	}
}

void b_down(struct world *w, unsigned int conn, int error)
{
	struct sim_host *h = &w->host[B];
	const struct event e = { .type = EVENT_LINK_DOWN, .error = error };

	if (h->link != (int)conn)
		return;
	h->link = -1;
	h->link_ready = false;
	close_image(w);
	/* The intake stops: what it was about to offer is dropped. */
	w->stored_us = 0;
	w->filling = false;
	sim_event(w, B, &e);
	if (h->finishing)
		sim_ended(w, B, h->exit_status);
}

/* --- jobs --------------------------------------------------------------- */

static void build(struct world *w, struct job *j)
{
	if (guest_runs(&w->host[B]))
		j->err = -EALREADY;
	else if (!w->image_ended || !w->image_whole)
		j->err = -EIO;
	if (j->err)
		return;
	w->told_inconsistent = false;
	memset(&w->twin, 0, sizeof(w->twin));
	w->twin.exists = w->twin.whole = true;
	w->twin.at = w->image_at;
	w->committed_at = w->image_at;
}

static void apply(struct world *w, struct job *j)
{
	struct sim_twin *t = &w->twin;

	w->stores_used--;
	if (!t->exists || t->applied + 1 != j->epoch)
		sim_violate(w, "2: epoch %d is applied to a twin at %d",
			    (int)j->epoch, (int)t->applied);
	if (j->err)
		t->whole = false;
	t->at = j->at;
	t->applied = j->epoch;
}

static void activate(struct world *w, struct job *j)
{
	struct sim_guest *g = &w->host[B].guest;

	if (!w->twin.whole) /* which every kind of guest refuses */
		j->err = -EIO;
	if (j->err)
		return;
	check_activation(w, j);
	memset(g, 0, sizeof(*g));
	g->exists = true;
	g->at.life = life_from(w, w->twin.at);
	g->at.count = w->twin.at.count;
	w->twin.exists = false;
}

static void act(struct world *w, struct job *j)
{
	struct sim_guest *g = &w->host[B].guest;

	j->err = sim_spoilt(w, B, j->kind);
	switch (j->kind) {
	case ENV_JOB_BUILD:
		build(w, j);
		break;
	case ENV_JOB_APPLY:
		apply(w, j);
		break;
	case ENV_JOB_ACTIVATE:
		activate(w, j);
		break;
	case ENV_JOB_DESTROY:
		j->err = 0;
		memset(&w->twin, 0, sizeof(w->twin));
		w->stores_used = 0;
		w->stored_us = 0;
		w->filling = w->pending = false;
		break;
	case ENV_JOB_STATUS:
		j->guest = guest_look(w, B);
		break;
	case ENV_JOB_AFTER_SHUTDOWN:
		j->again = g->status == GUEST_REBOOT;
		if (j->again)
			g->status = GUEST_RUNNING;
		else
			g->exists = false;
		break;
	default:
		j->err = 0;
	}
}

void b_job(struct world *w)
{
	struct sim_host *h = &w->host[B];
	struct job j;

	if (!h->jobs[0].acted) {
		h->jobs[0].acted = true;
		act(w, &h->jobs[0]);
		if (h->jobs[0].kind == ENV_JOB_ACTIVATE) {
			h->jobs[0].due_us = w->now_us + (uint64_t)w->cfg.job_us;
			return;
		}
	}
	j = h->jobs[0];
	h->job_count--;
	memmove(&h->jobs[0], &h->jobs[1], h->job_count * sizeof(h->jobs[0]));
	sim_start_first(w, B);
	if (j.kind == ENV_JOB_APPLY && j.err)
		w->told_inconsistent = true;
	sim_done(w, B, &j);
}
