/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest, its output gate, and history.
 *
 * The guest's whole memory is one number, how much it has put out; a running
 * guest puts out one more after whatever happens anywhere.  A takeover begins
 * a new *life* that branches off the old one at the number it was activated
 * with.  So "everything that the world has ever seen is contained in the state
 * of who runs now" is a comparison of numbers along the branches.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "engine/epochs.h"
#include "tests/sim/world.h"

bool guest_runs(const struct sim_host *h)
{
	return h->up && h->guest.exists && !h->guest.suspended &&
	       !h->guest.paused && h->guest.status == GUEST_RUNNING;
}

void guest_resumed(struct sim_guest *g)
{
	g->suspended = false;
	g->late_at_us = g->late_since_us = g->rescue_at_us = 0;
}

/* What the implementation finds when it looks, which it puts right. */
enum guest_status guest_look(struct world *w, unsigned int host)
{
	struct sim_guest *g = &w->host[host].guest;

	if (!g->exists)
		return GUEST_GONE;
	if (g->status == GUEST_RUNNING && g->suspended)
		guest_resumed(g);
	return g->status;
}

/* --- history ------------------------------------------------------------ */

uint64_t life_from(struct world *w, struct history at)
{
	uint64_t life = w->life_count;

	if (life == LINEAGES) {
		sim_violate(w, "too many lives");
		return 0;
	}
	w->life_count++;
	w->lives[life].parent = at.life;
	w->lives[life].branch = at.count;
	w->lives[life].visible = 0;
	return life;
}

bool life_contains_visible(const struct world *w, struct history at)
{
	uint64_t contained[LINEAGES] = { 0 };
	uint64_t i;

	for (;;) {
		contained[at.life] = at.count;
		if (!at.life)
			break;
		at = (struct history){ w->lives[at.life].parent,
				       w->lives[at.life].branch };
	}
	for (i = 0; i < w->life_count; i++)
		if (w->lives[i].visible > contained[i])
			return false;
	return true;
}

static void seen(struct world *w, uint64_t upto)
{
	uint64_t *visible = &w->lives[w->host[A].guest.at.life].visible;

	if (upto > *visible)
		*visible = upto;
}

/* --- the gate ----------------------------------------------------------- */

void gate_barrier(struct world *w, uint64_t epoch)
{
	struct sim_gate *g = &w->gate;
	uint64_t upto = w->host[A].guest.at.count;

	if (!w->cfg.gate || g->mode == GATE_DROPS)
		return;
	if (epoch == 0) {
		g->mode = GATE_HOLDS;
		g->count = 0;
	}
	if (g->mode != GATE_HOLDS)
		return;
	if (g->count && g->barriers[g->count - 1].epoch == epoch)
		g->count--; /* another round of the same epoch */
	if (g->count == BARRIERS) {
		sim_violate(w, "6: barriers pile up");
		return;
	}
	g->barriers[g->count].epoch = epoch;
	g->barriers[g->count++].upto = upto;
}

static void release(struct world *w, uint64_t epoch)
{
	struct sim_gate *g = &w->gate;
	unsigned int n = 0;

	if (w->acked < (int64_t)epoch)
		sim_violate(w, "1: epoch %d is released before its ACK",
			    (int)epoch);
	while (n < g->count && g->barriers[n].epoch <= epoch)
		seen(w, g->barriers[n++].upto);
	g->count -= n;
	memmove(g->barriers, g->barriers + n,
		g->count * sizeof(g->barriers[0]));
}

void gate_order(struct world *w, enum guest_gate order, uint64_t epoch)
{
	struct sim_gate *g = &w->gate;

	sim_trace(w, "    gate: %s %d",
		  order == GUEST_GATE_RELEASE ? "release"
		  : order == GUEST_GATE_OPEN  ? "open"
					      : "drop",
		  (int)epoch);
	if (order == GUEST_GATE_DROP) {
		g->mode = GATE_DROPS;
		g->count = 0;
	}
	if (g->mode != GATE_HOLDS)
		return;
	if (order == GUEST_GATE_RELEASE) {
		release(w, epoch);
	} else {
		g->mode = GATE_OPEN;
		g->count = 0;
		seen(w, w->host[A].guest.at.count);
	}
}

void guest_puts_out(struct world *w)
{
	struct sim_host *a = &w->host[A], *b = &w->host[B];

	if (guest_runs(a)) {
		a->guest.at.count++;
		if (w->gate.mode == GATE_OPEN)
			seen(w, a->guest.at.count);
	}
	if (guest_runs(b)) {
		b->guest.at.count++;
		w->lives[b->guest.at.life].visible = b->guest.at.count;
	}
}

/* --- a checkpoint: engine/epochs.c over these operations ----------------- */

/*
 * A colod that is killed within: after the suspend, after the capture, after
 * the barrier, after the resume.  From there on nothing of it acts.
 */
static bool dies(struct world *w, unsigned int point)
{
	if (w->die_in_capture == point) {
		w->dying = true;
		w->die_in_capture = 0;
	}
	return w->dying;
}

static struct world *world_of(struct guest_source *s)
{
	return (struct world *)(void *)s;
}

static int suspend(struct guest_source *s, uint64_t timeout_us)
{
	struct world *w = world_of(s);
	struct sim_guest *g = &w->host[A].guest;
	struct spoil *spoil = &w->spoil[A][ENV_JOB_CAPTURE];

	(void)timeout_us;
	if (!g->exists || g->status != GUEST_RUNNING)
		return -ESHUTDOWN;
	if (spoil->err == -ETIMEDOUT) {
		spoil->err = 0;
		if (w->late_suspend_us)
			g->late_at_us = w->now_us + w->late_suspend_us;
		w->late_suspend_us = 0;
		return -ETIMEDOUT;
	}
	guest_resumed(g); /* a late one has been resumed before */
	g->suspended = true;
	dies(w, 1);
	return 0;
}

static void copy_ahead(struct guest_source *s, struct epoch *e, bool apart)
{
	(void)s;
	e->page_count = apart;
}

static int capture(struct guest_source *s, struct epoch *e)
{
	struct world *w = world_of(s);

	if (w->dying)
		return -EIO;
	e->partial = w->partial_rounds > 0;
	if (e->partial)
		w->partial_rounds--;
	e->page_count = 1;
	dies(w, 2);
	return sim_spoilt(w, A, ENV_JOB_CAPTURE);
}

static int resume(struct guest_source *s, enum guest_resume kind)
{
	struct world *w = world_of(s);

	(void)kind;
	if (dies(w, 3))
		return -EIO;
	if (!w->host[A].guest.suspended)
		sim_violate(w, "5: a resume without a suspend");
	guest_resumed(&w->host[A].guest);
	dies(w, 4);
	return 0;
}

static int barrier(void *arg, uint64_t epoch)
{
	struct world *w = arg;

	if (!w->dying)
		gate_barrier(w, epoch);
	return 0;
}

static uint64_t no_time(void)
{
	return 0;
}

int guest_capture(struct world *w, struct job *j)
{
	static const struct guest_source_ops ops = {
		.copy_ahead = copy_ahead,
		.suspend = suspend,
		.capture = capture,
		.resume = resume,
	};
	const struct epoch_manner manner = {
		.suspend_timeout_us = (uint64_t)w->cfg.suspend_timeout_us,
		.resume = GUEST_RESUME_FAST,
		.apart = w->cfg.ahead,
		.barrier = w->cfg.gate ? barrier : NULL,
		.barrier_arg = w,
	};
	uint32_t index;
	struct epoch e = { .index = &index };
	struct sim_guest *g = &w->host[A].guest;
	int err;

	err = epoch_checkpoint(&j->run, &ops, (struct guest_source *)(void *)w,
			       &e, &manner, no_time);
	j->partial = j->run.partial;
	j->at = g->at;
	if (err == -ESHUTDOWN)
		j->guest = guest_look(w, A);
	return err;
}

/* The end of send_image, start_tracking, barrier, resume: all at once. */
void guest_image(struct world *w, struct job *j)
{
	struct sim_guest *g = &w->host[A].guest;

	if (!g->exists || g->status != GUEST_RUNNING) {
		j->err = -ESHUTDOWN;
		j->guest = g->exists ? g->status : GUEST_GONE;
		return;
	}
	guest_resumed(g);
	j->at = g->at;
	w->acked = -1;
	gate_barrier(w, 0);
}
