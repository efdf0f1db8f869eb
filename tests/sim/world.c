/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/sim/world.h"

#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/moves.h"

enum { STEPS_MAX = 200000 }; /* in one sim_run_until() */

struct world *sim_world;
bool sim_traces;
uint32_t sim_seen[HOSTS];

const struct sim_config sim_usual = {
#define X(name, usual) .name = usual,
	SIM_NUMBERS(X)
#undef X
};

/* --- words -------------------------------------------------------------- */

static const char *const job_names[ENV_JOBS] = {
	[ENV_JOB_SYNC] = "sync",
	[ENV_JOB_CAPTURE] = "capture",
	[ENV_JOB_ENCODE] = "encode",
	[ENV_JOB_RELEASE] = "release",
	[ENV_JOB_YIELD] = "yield",
	[ENV_JOB_AFTER_SHUTDOWN] = "after-shutdown",
	[ENV_JOB_STATUS] = "status",
	[ENV_JOB_FENCE] = "fence",
	[ENV_JOB_BUILD] = "build",
	[ENV_JOB_APPLY] = "apply",
	[ENV_JOB_ACTIVATE] = "activate",
	[ENV_JOB_DESTROY] = "destroy",
};

static const char *const timer_names[ENV_TIMERS] = {
	[ENV_TIMER_HEARTBEAT] = "heartbeat", [ENV_TIMER_LOST] = "lost",
	[ENV_TIMER_EPOCH] = "epoch",	     [ENV_TIMER_RETRY] = "retry",
	[ENV_TIMER_GUEST] = "guest",
};

static const char *type_name(uint16_t type)
{
	return type == SIM_ARRIVE ? "SYN"
	       : type == SIM_FIN  ? "FIN"
	       : type == SIM_RST  ? "RST"
				  : frame_type_name(type);
}

void sim_trace(const struct world *w, const char *fmt, ...)
{
	va_list ap;

	if (!sim_traces)
		return;
	printf("%10.3f ms  ", (double)w->now_us / 1000);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

void sim_violate(struct world *w, const char *fmt, ...)
{
	va_list ap;

	if (w->violation[0])
		return;
	va_start(ap, fmt);
	vsnprintf(w->violation, sizeof(w->violation), fmt, ap);
	va_end(ap);
	sim_trace(w, "VIOLATION: %s", w->violation);
}

/* abort() is a machine's word for a broken invariant (aborted(), below). */
void sim_no_room(const char *what)
{
	printf("FAIL: the simulator has no room for all its %s\n", what);
	exit(2);
}

void sim_item_text(const struct world *w, const struct item *it, char *text,
		   size_t room)
{
	const struct sim_host *h = &w->host[it->host];
	const struct message *m = &w->messages[it->index];
	char side = it->host == A ? 'a' : 'b';

	switch (it->kind) {
	case ITEM_TIMER:
		snprintf(text, room, "%c: timer %s", side,
			 timer_names[it->index]);
		break;
	case ITEM_JOB:
		snprintf(text, room, "%c: %s %s", side,
			 job_names[h->jobs[0].kind],
			 h->jobs[0].acted ? "done" : "acts");
		break;
	case ITEM_ENCODE:
		snprintf(text, room, "a: encode %" PRIu64 " %s",
			 w->encodes[0].epoch,
			 w->encodes[0].acted ? "done" : "sends");
		break;
	case ITEM_FENCE:
		snprintf(text, room, "%c: the fence command ends", side);
		break;
	case ITEM_SETUP:
		snprintf(text, room, "connection %u: handshake %s", it->index,
			 w->conns[it->index].setup_error ? "fails" : "done");
		break;
	case ITEM_MESSAGE:
		snprintf(text, room, "connection %u: %s -> %c %" PRIu64,
			 m->conn, type_name(m->type), m->from == A ? 'b' : 'a',
			 m->epoch);
		break;
	case ITEM_NOTICE:
		snprintf(text, room, "%c: connection %u is down", side,
			 it->index);
		break;
	case ITEM_BEAT:
		snprintf(text, room, "b: visitor %u beats", it->index);
		break;
	case ITEM_STORED:
		snprintf(text, room, "b: epoch %" PRIu64 " decoded",
			 w->stored_epoch);
		break;
	case ITEM_LATE:
		snprintf(text, room, "the guest suspends late");
		break;
	case ITEM_RESCUE:
		snprintf(text, room, "the guard resumes the guest");
		break;
	}
}

/* --- clocks and timers -------------------------------------------------- */

static uint64_t local_of(const struct sim_host *h, uint64_t us)
{
	return us + (uint64_t)h->offset_us +
	       (uint64_t)((int64_t)us * h->drift_ppm / 1000000);
}

uint64_t sim_local(const struct world *w, unsigned int host)
{
	return local_of(&w->host[host], w->now_us);
}

/* The first moment at which the host's clock shows this. */
static uint64_t when_local(const struct sim_host *h, uint64_t local_us)
{
	int64_t us = (int64_t)local_us - h->offset_us;

	us -= us * h->drift_ppm / (1000000 + h->drift_ppm);
	if (us < 0)
		return 0;
	while (us > 0 && local_of(h, (uint64_t)us - 1) >= local_us)
		us--;
	while (local_of(h, (uint64_t)us) < local_us)
		us++;
	return (uint64_t)us;
}

uint64_t sim_in(const struct world *w, uint64_t us)
{
	uint64_t at_us = w->now_us + us;

	return at_us ? at_us : 1;
}

void sim_timer(struct world *w, unsigned int host, enum env_timer t,
	       uint64_t at_us)
{
	w->host[host].timers[t] = at_us;
}

/* --- jobs --------------------------------------------------------------- */

int sim_spoilt(struct world *w, unsigned int host, enum env_job kind)
{
	int err = w->spoil[host][kind].err;

	w->spoil[host][kind].err = 0;
	return err;
}

/* The thread takes them one after the other. */
void sim_start_first(struct world *w, unsigned int host)
{
	struct sim_host *h = &w->host[host];
	struct spoil *s;

	if (!h->job_count || h->jobs[0].started)
		return;
	s = &w->spoil[host][h->jobs[0].kind];
	h->jobs[0].started = true;
	h->jobs[0].due_us += w->now_us + s->us;
	s->us = 0;
}

struct job *sim_job(struct world *w, unsigned int host, enum env_job kind,
		    uint64_t epoch, uint64_t takes_us)
{
	struct sim_host *h = &w->host[host];
	struct job *j;

	if (h->job_count == JOBS) {
		sim_violate(w, "6: jobs pile up on the guest's thread");
		return &h->jobs[JOBS - 1];
	}
	j = &h->jobs[h->job_count++];
	memset(j, 0, sizeof(*j));
	j->kind = kind;
	j->epoch = epoch;
	j->due_us = takes_us; /* from its start on */
	sim_start_first(w, host);
	return j;
}

void sim_cancel_job(struct world *w, unsigned int host, enum env_job kind)
{
	struct sim_host *h = &w->host[host];
	unsigned int i;

	for (i = 0; i < h->job_count; i++)
		if (h->jobs[i].kind == kind && !h->jobs[i].acted) {
			h->jobs[i].cancelled = true;
			h->jobs[i].waits = false;
			if (h->jobs[i].started && !w->cfg.cancel_is_late)
				h->jobs[i].due_us = w->now_us;
		}
}

void sim_done(struct world *w, unsigned int host, const struct job *j)
{
	const struct event e = {
		.type = EVENT_DONE,
		.job = j->kind,
		.epoch = j->epoch,
		.error = j->err,
		.guest = j->guest,
		.again = j->again,
		.partial = j->partial,
	};

	sim_event(w, host, &e);
}

/* --- the fence ---------------------------------------------------------- */

void sim_fence(struct world *w, unsigned int host)
{
	struct sim_host *h = &w->host[host];
	struct spoil *s = &w->spoil[host][ENV_JOB_FENCE];
	uint64_t takes_us = (uint64_t)w->cfg.fence_us + s->us;

	if (h->fence.runs && !h->fence.orphan)
		sim_violate(w, "two fence commands at once");
	s->us = 0;
	memset(&h->fence, 0, sizeof(h->fence));
	h->fence.runs = true;
	h->fence.mode = h->fence_mode;
	if (h->fence.mode == FENCE_HANGS)
		takes_us = (uint64_t)w->cfg.fence_timeout_us;
	h->fence.due_us = w->now_us + takes_us;
}

/* Success takes the other host down at this very moment. */
static void fence_ends(struct world *w, unsigned int host)
{
	struct sim_host *h = &w->host[host];
	const struct sim_fence f = h->fence;
	struct job j = { .kind = ENV_JOB_FENCE };

	h->fence.runs = false;
	if (f.cancelled)
		j.err = -125; /* ECANCELED */
	else if (f.mode == FENCE_FAILS)
		j.err = -5; /* EIO */
	else if (f.mode == FENCE_HANGS)
		j.err = -110; /* ETIMEDOUT */
	else if (f.mode == FENCE_LIES)
		w->excused = w->excused || !f.orphan;
	else
		sim_power_off(w, !host);
	if (!f.orphan && h->colod)
		sim_done(w, host, &j);
}

/* --- the machines ------------------------------------------------------- */

/*
 * A machine whose invariant breaks aborts (engine/moves.c); log.c has kept what
 * it said.
 */
static sigjmp_buf escape;

static void aborted(int signal)
{
	(void)signal;
	siglongjmp(escape, 1);
}

void sim_event(struct world *w, unsigned int host, const struct event *e)
{
	if (!w->host[host].colod || w->violation[0])
		return;
	sim_world = w;
	if (sigsetjmp(escape, 0))
		sim_violate(w, "M: a machine aborted");
	else if (host == A)
		primary_event(&w->primary, e);
	else
		secondary_event(&w->secondary, e);
}

static void timer_fires(struct world *w, unsigned int host, enum env_timer t)
{
	static const struct event alive = { .type = EVENT_ALIVE };
	const struct event e = { .type = EVENT_TIMER, .timer = t };

	w->host[host].timers[t] = 0;
	/* Who is not listened to cannot be called silent. */
	if (host == B && t == ENV_TIMER_LOST && b_paused(w))
		sim_event(w, B, &alive);
	sim_event(w, host, &e);
}

static void guest_is_late(struct world *w)
{
	struct sim_guest *g = &w->host[A].guest;

	g->late_at_us = 0;
	if (!guest_runs(&w->host[A]))
		return;
	g->suspended = true;
	g->late_since_us = w->now_us;
	if (!w->host[A].colod && !g->rescue_at_us)
		g->rescue_at_us = sim_in(w, 0);
}

/* --- items -------------------------------------------------------------- */

static void add(struct item *items, unsigned int *n, enum item_kind kind,
		unsigned int host, unsigned int index, uint64_t due_us)
{
	if (*n == ITEMS)
		sim_no_room("items");
	items[(*n)++] = (struct item){ kind, host, index, due_us };
}

static void host_items(struct world *w, unsigned int host, struct item *items,
		       unsigned int *n)
{
	struct sim_host *h = &w->host[host];
	unsigned int i;

	if (h->up && h->fence.runs)
		add(items, n, ITEM_FENCE, host, 0, h->fence.due_us);
	if (!h->colod || h->stopped)
		return;
	for (i = 0; i < CONNS; i++)
		if (w->conns[i].used && w->conns[i].notice_us[host])
			add(items, n, ITEM_NOTICE, host, i,
			    w->conns[i].notice_us[host]);
	if (h->job_count && !h->jobs[0].waits)
		add(items, n, ITEM_JOB, host, 0, h->jobs[0].due_us);
	for (i = 0; i < ENV_TIMERS; i++)
		if (h->timers[i] && !h->finishing)
			add(items, n, ITEM_TIMER, host, i,
			    when_local(h, h->timers[i]));
}

unsigned int sim_items(struct world *w, struct item *items)
{
	const struct sim_guest *g = &w->host[A].guest;
	const struct sim_host *b = &w->host[B];
	unsigned int n = 0, i;

	for (i = 0; i < w->message_count; i++)
		if (link_deliverable(w, i))
			add(items, &n, ITEM_MESSAGE, !w->messages[i].from, i,
			    w->messages[i].due_us);
	for (i = 0; i < CONNS; i++) {
		const struct conn *c = &w->conns[i];

		if (c->used && c->end[A] == END_SETUP && c->setup_us &&
		    !w->host[A].stopped)
			add(items, &n, ITEM_SETUP, A, i, c->setup_us);
		if (c->used && c->beat_us && b->colod && !b->stopped)
			add(items, &n, ITEM_BEAT, B, i, c->beat_us);
	}
	if (w->stored_us && b->colod && !b->stopped)
		add(items, &n, ITEM_STORED, B, 0, w->stored_us);
	if (w->encode_count && w->host[A].colod && !w->host[A].stopped)
		add(items, &n, ITEM_ENCODE, A, 0, w->encodes[0].due_us);
	host_items(w, A, items, &n);
	host_items(w, B, items, &n);
	if (g->late_at_us)
		add(items, &n, ITEM_LATE, A, 0, g->late_at_us);
	if (g->rescue_at_us)
		add(items, &n, ITEM_RESCUE, A, 0, g->rescue_at_us);
	for (i = 0; i < n; i++)
		if (items[i].due_us < w->now_us)
			items[i].due_us = w->now_us;
	return n;
}

static void happen(struct world *w, const struct item *it)
{
	switch (it->kind) {
	case ITEM_TIMER:
		timer_fires(w, it->host, it->index);
		break;
	case ITEM_JOB:
		if (it->host == A)
			a_job(w);
		else
			b_job(w);
		break;
	case ITEM_ENCODE:
		a_encode(w);
		break;
	case ITEM_FENCE:
		fence_ends(w, it->host);
		break;
	case ITEM_SETUP:
		link_setup_done(w, it->index);
		break;
	case ITEM_MESSAGE:
		link_deliver(w, it->index);
		break;
	case ITEM_NOTICE:
		link_notice(w, it->host, it->index);
		break;
	case ITEM_BEAT:
		b_beat(w, it->index);
		break;
	case ITEM_STORED:
		b_stored(w);
		break;
	case ITEM_LATE:
		guest_is_late(w);
		break;
	case ITEM_RESCUE:
		guest_resumed(&w->host[A].guest);
		break;
	}
}

void sim_fire(struct world *w, const struct item *it)
{
	char text[100];

	if (it->due_us > w->now_us)
		w->now_us = it->due_us;
	w->steps++;
	if (sim_traces) {
		sim_item_text(w, it, text, sizeof(text));
		sim_trace(w, "%s", text);
	}
	happen(w, it);
	sim_after(w);
}

void sim_after(struct world *w)
{
	if (w->host[A].colod)
		sim_seen[A] |= MOVE_TO(w->primary.state);
	if (w->host[B].colod)
		sim_seen[B] |= MOVE_TO(w->secondary.state);
	link_sweep(w);
	guest_puts_out(w);
	sim_check(w);
}

bool sim_step(struct world *w, uint64_t until_us)
{
	struct item items[ITEMS];
	unsigned int n = sim_items(w, items), first = 0, i;

	for (i = 1; i < n; i++)
		if (items[i].due_us < items[first].due_us)
			first = i;
	if (!n || items[first].due_us > until_us)
		return false;
	sim_fire(w, &items[first]);
	return true;
}

void sim_run_until(struct world *w, uint64_t until_us)
{
	unsigned int i;

	for (i = 0; !w->violation[0] && sim_step(w, until_us); i++)
		if (i == STEPS_MAX)
			sim_violate(w, "there is no end of events");
	if (!w->violation[0])
		w->now_us = until_us;
}

void sim_init(struct world *w, const struct sim_config *cfg)
{
	struct sigaction sa = { .sa_handler = aborted, .sa_flags = SA_NODEFER };
	unsigned int i;

	sigaction(SIGABRT, &sa, NULL);
	sim_world = w;
	memset(w, 0, sizeof(*w));
	w->cfg = *cfg;
	w->now_us = 0;
	w->life_count = 1;
	w->acked = w->last_ack = -1;
	for (i = 0; i < HOSTS; i++) {
		w->host[i].up = true;
		w->host[i].link = -1;
	}
	/* No two hosts agree on what time it is. */
	w->host[A].offset_us = 1000 * (int64_t)SEC;
	w->host[B].offset_us = 5000 * (int64_t)SEC;
	w->host[A].drift_ppm = cfg->drift_a_ppm;
	w->host[B].drift_ppm = cfg->drift_b_ppm;
	w->host[A].guest.exists = true;
}
