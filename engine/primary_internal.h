/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the primary's machine share; nobody else's. */
#ifndef ENGINE_PRIMARY_INTERNAL_H
#define ENGINE_PRIMARY_INTERNAL_H

#include <stdio.h>

#include "engine/primary.h"

/* Between two looks for a guest that has suspended late and stands still. */
enum { LATE_LOOK_US = 100 * 1000 };

static inline uint64_t primary_now(const struct primary *p)
{
	return p->env.ops->now_us(p->env.arg);
}

static inline void primary_timer(struct primary *p, enum env_timer t,
				 uint64_t at_us)
{
	p->env.ops->timer(p->env.arg, t, at_us);
}

static inline void primary_job(struct primary *p, enum env_job j,
			       uint64_t epoch)
{
	p->env.ops->job(p->env.arg, j, epoch);
}

static inline void primary_timer_in(struct primary *p, enum env_timer t,
				    uint64_t us)
{
	primary_timer(p, t, primary_now(p) + us);
}

static inline void primary_gate(struct primary *p, enum guest_gate order,
				uint64_t epoch)
{
	if (!p->cfg.gate)
		return;
	if (order == GUEST_GATE_OPEN)
		p->gate_closed = false;
	p->env.ops->gate(p->env.arg, order, epoch);
}

static inline void primary_epoch_over(struct primary *p, uint64_t epoch,
				      enum env_epoch_end end, const char *why)
{
	if (p->env.ops->epoch_over)
		p->env.ops->epoch_over(p->env.arg, epoch, end, why);
}

/* For status, until protection is there again. */
static inline void primary_remember(struct primary *p, const char *text)
{
	snprintf(p->last_error, sizeof(p->last_error), "%s", text);
}

/*
 * Looks whether the guest still runs, and soon where one that was asked to
 * suspend may do so late and stand still.
 */
static inline void primary_look_in(struct primary *p, uint64_t us)
{
	bool late = primary_now(p) < p->late_until_us;

	primary_timer_in(p, ENV_TIMER_GUEST, late ? LATE_LOOK_US : us);
}

/* How long a peer may be silent. */
static inline uint64_t primary_lost_us(const struct primary *p)
{
	return p->cfg.heartbeat_us * p->cfg.lost_after;
}

/* primary.c */
void primary_go(struct primary *p, enum primary_state to, const char *why);
/* Attempts to reach a peer that stays away: not worth two lines each time. */
void primary_go_quietly(struct primary *p, enum primary_state to,
			const char *why);
bool primary_jobs_under_way(const struct primary *p);
void primary_connect(struct primary *p, const char *why);
/* The peer broke the protocol: BYE, and the connection ends. */
void primary_violation(struct primary *p, const char *what);
void primary_disconnect(struct primary *p, enum wire_reason reason,
			const char *text);
/*
 * Tells the peer that its standby is of no use any more, and waits for its
 * answer: only then is it certain that the standby will never take over.
 */
void primary_farewell(struct primary *p, enum wire_reason reason);

/* primary_loss.c */
void primary_link_down(struct primary *p, const struct event *e);
void primary_peer_silent(struct primary *p);
void primary_fence_done(struct primary *p, const struct event *e);
/* The operator answers what arbitration could not. */
void primary_peer_is_down(struct primary *p);
/* The epochs cannot go on: from the image again. */
void primary_resync(struct primary *p, const char *why);

/* primary_end.c */
bool primary_leaving(const struct primary *p);
/* The peer is told first: what else there is to do may take its time. */
void primary_leave(struct primary *p, enum primary_state to,
		   enum wire_reason reason, int exit_status, const char *why);
/* After every event on the way out: the next stage, until the last is done. */
void primary_wind_up(struct primary *p);
void primary_wind_job_done(struct primary *p, const struct event *e);
/* Ends the protection; false where the guest is up by now. */
bool primary_guest_down(struct primary *p, enum guest_status status);
/* The guest runs over there: also what we had begun to end yields. */
void primary_yield(struct primary *p);

/* primary_epochs.c */
void primary_epochs_begin(struct primary *p);
void primary_epochs_start_due(struct primary *p);
void primary_epochs_drop(struct primary *p, const char *why);
void primary_epochs_acknowledge(struct primary *p, const struct event *e);
void primary_epochs_captured(struct primary *p, const struct event *e);
void primary_epochs_encoded(struct primary *p, const struct event *e);
/* The oldest epoch has waited this long for its acknowledgement. */
bool primary_epochs_overdue(const struct primary *p, uint64_t timeout_us);
void primary_epochs_check(const struct primary *p);

#endif
