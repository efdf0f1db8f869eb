/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The invariants of design.md section 4, on the whole world, after every event.
 * The machines' own assertions hold besides.
 */
#include "config.h"

#include <string.h>

#include "tests/sim/world.h"

/* A guest that stands still because it suspended late is found in this time. */
enum { LATE_US = 350 * MS, LATE_BEHIND_JOBS_US = 3 * SEC };

bool check_may_take_over(const struct world *w)
{
	const struct secondary *s = &w->secondary;

	if (!w->host[B].colod || !w->twin.exists)
		return false;
	return s->state == SECONDARY_STANDBY || s->state == SECONDARY_LOST ||
	       s->state == SECONDARY_FENCING || s->state == SECONDARY_WAITING ||
	       s->state == SECONDARY_ACTIVATING;
}

/* What has been seen is part of whatever may run next. */
static void check_output(struct world *w)
{
	if (w->excused || !w->cfg.gate)
		return;
	if (check_may_take_over(w) &&
	    !life_contains_visible(w, w->committed_at))
		sim_violate(w, "1: the standby would not know of output that "
			       "has left");
	if (guest_runs(&w->host[B]) &&
	    !life_contains_visible(w, w->host[B].guest.at))
		sim_violate(w, "1: the guest on b does not know of output that "
			       "has left");
}

static void check_one_runs(struct world *w)
{
	if (!w->excused && guest_runs(&w->host[A]) && guest_runs(&w->host[B]))
		sim_violate(w, "3: both sides run the guest");
}

/* The time of which nobody can say how late it is is a timer that is set. */
static bool is_looked_for(const struct world *w)
{
	const struct sim_host *a = &w->host[A];

	if (w->any_order)
		return a->job_count || a->timers[ENV_TIMER_GUEST];
	return w->now_us <
	       a->guest.late_since_us +
		       (a->job_count ? LATE_BEHIND_JOBS_US : LATE_US);
}

/*
 * After every event, and a checkpoint is one: epoch_checkpoint() over what
 * cannot wait.  So this is the half of 6, too, by which nothing is waited for
 * while the guest stands still; the memory for it is check_capture()'s.
 */
static void check_suspended(struct world *w)
{
	const struct sim_host *a = &w->host[A];

	if (!a->guest.suspended || a->guest.rescue_at_us || a->stopped)
		return;
	if (a->colod && a->guest.late_since_us && is_looked_for(w))
		return;
	sim_violate(w, "5: the guest is left suspended");
}

/* Nothing is held for nobody. */
static void check_flows(struct world *w)
{
	const struct sim_host *a = &w->host[A];

	if (a->colod && w->primary.state == PRIMARY_UNPROTECTED &&
	    !w->primary.syncing && w->gate.mode != GATE_OPEN)
		sim_violate(w, "L: the output is held though there is no "
			       "standby");
}

static void check_bounds(struct world *w)
{
	unsigned int inflight = (unsigned int)w->cfg.inflight;

	if (w->host[A].colod && w->primary.greeted &&
	    w->primary.epoch_count > (unsigned int)w->cfg.inflight_b)
		sim_violate(w, "6: more epochs are in flight than b allows");
	if (w->primary.epoch_count > inflight)
		sim_violate(w, "6: %u epochs are in flight",
			    w->primary.epoch_count);
	if (w->encode_count > inflight)
		sim_violate(w, "6: %u epochs wait for the encoder",
			    w->encode_count);
	if (w->gate.count > inflight + 2)
		sim_violate(w, "6: the gate holds %u epochs", w->gate.count);
	if (w->stores_used > STORES)
		sim_violate(w, "6: %u stores are in use", w->stores_used);
}

void sim_check(struct world *w)
{
	if ((w->cfg.unsafe_a || w->cfg.unsafe_b) && !w->excused)
		w->excused = true;
	check_output(w);
	check_one_runs(w);
	check_suspended(w);
	check_flows(w);
	check_bounds(w);
}

/*
 * Called where the machine asks for one.  There is an arena for each epoch in
 * flight; without one the guest's thread would have to wait for the encoder.
 */
void check_capture(struct world *w)
{
	unsigned int i;

	if ((int64_t)w->encode_count >= w->cfg.inflight)
		sim_violate(w, "6: no memory is ready for a checkpoint");
	for (i = 0; i < w->host[A].job_count; i++)
		if (w->host[A].jobs[i].kind == ENV_JOB_CAPTURE &&
		    !w->host[A].jobs[i].ended)
			sim_violate(w, "M: a checkpoint within another");
}

/*
 * Called where the machine asks for something.  What goes ahead is encoded from
 * the guest's own memory, so until then nothing may resume the guest behind a
 * capture, nor take its memory away.
 */
void check_reader(struct world *w, enum env_job kind)
{
	if (kind == ENV_JOB_ENCODE || kind == ENV_JOB_FENCE ||
	    kind == ENV_JOB_STATUS)
		return;
	for (unsigned int i = 0; i < w->encode_count; i++)
		if (w->encodes[i].run.state == EPOCH_AHEAD)
			sim_violate(w, "M: the encoder reads the guest's "
				       "memory");
}

/* Called where the secondary sends it. */
void check_ack(struct world *w, uint64_t epoch)
{
	if ((int64_t)epoch != w->last_ack + 1)
		sim_violate(w, "4: ACK %d follows ACK %d", (int)epoch,
			    (int)w->last_ack);
	if (epoch == 0 ? !w->twin.exists || !w->image_whole
		       : w->stored_epoch != epoch || !w->pending)
		sim_violate(w, "4: epoch %d is acknowledged and not stored",
			    (int)epoch);
	w->last_ack = (int64_t)epoch;
}

/* Called where the machine decides for it. */
void check_takeover(struct world *w, uint64_t epoch)
{
	if (!w->twin.exists)
		sim_violate(w, "2: a standby that does not exist is activated");
	if (w->told_inconsistent)
		sim_violate(w, "2: an inconsistent standby is activated");
	if ((int64_t)epoch != w->last_ack)
		sim_violate(w, "2: activated from epoch %d, not from %d",
			    (int)epoch, (int)w->last_ack);
	if (w->host[B].link >= 0)
		sim_violate(w, "3: a takeover while the primary is connected");
}

/*
 * Called with what A sends.  A primary that gives up a peer that lives has to
 * have it wait for that peer: else a slow guest would never be protected.
 */
void check_farewell(struct world *w, struct frame_buf *frame)
{
	const struct primary *p = &w->primary;
	const struct sim_host *a = &w->host[A];
	struct wire_bye bye;

	if (frame->type != WIRE_BYE || p->state != PRIMARY_SYNCING ||
	    !strstr(p->peer_said, "acknowledges nothing"))
		return;
	memcpy(&bye, frame_payload(frame), sizeof(bye));
	if (bye.reason == WIRE_REASON_RESYNC && !p->synced &&
	    !(a->job_count && a->jobs[0].waits))
		sim_violate(w, "L: b is given up for what a has not done");
}

/* Called where the standby is about to run. */
void check_activation(struct world *w, const struct job *j)
{
	const struct sim_twin *t = &w->twin;

	if (!t->exists || t->applied != j->epoch)
		sim_violate(w, "2: activated from epoch %d, not from %d",
			    (int)t->applied, (int)j->epoch);
	if (!life_contains_visible(w, t->at) && !w->excused && w->cfg.gate)
		sim_violate(w, "1: activated without output that has left");
}
