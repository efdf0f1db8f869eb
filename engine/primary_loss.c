/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary loses its peer: grace, arbitration, and what the guest may do
 * meanwhile.
 *
 *   - the connection ends or the peer is silent: LOST, it has its time-out to
 *     come back;
 *   - it does not: the fence command, --unsafe-no-fence or the operator decide;
 *   - decided: UNPROTECTED, the guest's output flows;
 *   - undecided: WAITING, the output is held.
 * In both, the peer is tried on and on.
 */
#include "config.h"

#include "engine/primary_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

static void unprotected(struct primary *p, const char *why)
{
	bool again = p->state == PRIMARY_CONNECTING;

	if (again) {
		primary_go_quietly(p, PRIMARY_UNPROTECTED, why);
	} else {
		p->stats.losses++;
		primary_go(p, PRIMARY_UNPROTECTED, why);
		log_error("PROTECTION LOST: %s runs on without a standby; "
			  "trying on to reach %s",
			  p->cfg.domain, p->cfg.peer);
	}
	p->standby_may_exist = false;
	p->waiting = false;
	primary_gate(p, GUEST_GATE_OPEN, 0);
	primary_timer_in(p, ENV_TIMER_RETRY, p->cfg.retry_us);
	primary_look_in(p, p->cfg.retry_us / 2);
}

/*
 * The standby may have taken over, or be about to: what the guest puts out
 * stays here until somebody knows.
 */
static void wait_for_operator(struct primary *p, const char *why)
{
	if (p->waiting) {
		primary_go_quietly(p, PRIMARY_WAITING, why);
	} else {
		p->waiting = true;
		p->stats.losses++;
		primary_go(p, PRIMARY_WAITING, why);
		log_error("PROTECTION LOST: %s runs on without a standby, and "
			  "its output is held; trying on to reach %s.  When "
			  "that is certainly down, run 'colod failover %s'",
			  p->cfg.domain, p->cfg.peer, p->cfg.domain);
	}
	primary_timer_in(p, ENV_TIMER_RETRY, p->cfg.retry_us);
	primary_look_in(p, p->cfg.retry_us / 2);
}

static void undecided(struct primary *p, const char *why)
{
	if (p->cfg.gate)
		wait_for_operator(p, why);
	else
		unprotected(p, why);
}

/* The peer's time to come back is over. */
static void arbitrate(struct primary *p)
{
	primary_timer(p, ENV_TIMER_RETRY, 0);
	if (p->peer_busy) {
		undecided(p, "the secondary does not take us");
		return;
	}
	if (p->cfg.fence) {
		primary_go(p, PRIMARY_FENCING,
			   "the secondary did not come back");
		p->fencing = true;
		primary_job(p, ENV_JOB_FENCE, 0);
		return;
	}
	if (p->cfg.unsafe_no_fence) {
		unprotected(p, "the secondary did not come back");
		return;
	}
	log_error("no fence command: it is not known whether the standby of "
		  "%s on %s is down",
		  p->cfg.domain, p->cfg.peer);
	undecided(p, "the secondary did not come back");
}

void primary_fence_done(struct primary *p, const struct event *e)
{
	p->fencing = false;
	if (p->state != PRIMARY_FENCING)
		return;
	if (p->peer_down_said) {
		p->peer_down_said = false;
		unprotected(p, "the operator says that the secondary is down");
	} else if (e->error) {
		log_error("the fence command failed (%s): it is not known "
			  "whether the standby of %s on %s is down",
			  e->text ? e->text : strerror(-e->error),
			  p->cfg.domain, p->cfg.peer);
		undecided(p, "fencing failed");
	} else {
		unprotected(p, "fenced: the secondary is down");
	}
}

void primary_peer_is_down(struct primary *p)
{
	switch (p->state) {
	case PRIMARY_LOST:
	case PRIMARY_WAITING:
		primary_timer(p, ENV_TIMER_LOST, 0);
		unprotected(p, "the operator says that the secondary is down");
		break;
	case PRIMARY_FENCING:
		p->peer_down_said = true;
		p->env.ops->cancel(p->env.arg, ENV_JOB_FENCE);
		break;
	case PRIMARY_CONNECTING:
		p->standby_may_exist = false;
		p->env.ops->disconnect(p->env.arg, NULL);
		break;
	default:
		break;
	}
}

/* The connection has ended, wanted or not. */
static void lose(struct primary *p, const char *why)
{
	primary_remember(p, why);
	primary_epochs_drop(p, why);
	if (p->syncing)
		p->env.ops->cancel(p->env.arg, ENV_JOB_SYNC);
	primary_timer(p, ENV_TIMER_LOST, 0);
	if (p->standby_may_exist && p->waiting) {
		wait_for_operator(p, why);
	} else if (p->standby_may_exist) {
		if (p->state == PRIMARY_CONNECTING) {
			primary_go_quietly(p, PRIMARY_LOST, why);
		} else {
			primary_go(p, PRIMARY_LOST, why);
			p->grace_until_us = p->alive_us + primary_lost_us(p);
			p->peer_busy = false;
		}
		primary_timer(p, ENV_TIMER_LOST, p->grace_until_us);
		primary_timer_in(p, ENV_TIMER_RETRY, p->cfg.heartbeat_us);
	} else if (p->was_protected) {
		unprotected(p, why);
		if (p->resync_asked)
			primary_timer_in(p, ENV_TIMER_RETRY,
					 p->cfg.heartbeat_us);
	} else {
		log_error("cannot protect %s: %s", p->cfg.domain, why);
		primary_leave(p, PRIMARY_ENDING, WIRE_REASON_ENDED, EXIT_FAILED,
			      why);
	}
	p->resync_asked = false;
	p->peer_said[0] = '\0';
}

void primary_resync(struct primary *p, const char *why)
{
	if (p->resync_asked)
		return;
	log_warn("%s: synchronising anew: %s", p->cfg.domain, why);
	p->resync_asked = true;
	snprintf(p->peer_said, sizeof(p->peer_said), "%s", why);
	primary_farewell(p, WIRE_REASON_RESYNC);
}

void primary_link_down(struct primary *p, const struct event *e)
{
	char why[sizeof(p->peer_said)];

	p->link = p->greeted = p->farewell = false;
	primary_timer(p, ENV_TIMER_HEARTBEAT, 0);
	/* What was said last is worth more than how the socket ended. */
	snprintf(why, sizeof(why), "%s",
		 p->peer_said[0] ? p->peer_said
		 : e->text	 ? e->text
				 : "the connection was closed");
	if (p->state == PRIMARY_CONNECTING || p->state == PRIMARY_SYNCING ||
	    p->state == PRIMARY_PROTECTED)
		lose(p, why);
}

void primary_peer_silent(struct primary *p)
{
	uint64_t until_us = p->state == PRIMARY_LOST
				    ? p->grace_until_us
				    : p->alive_us + primary_lost_us(p);

	if (primary_now(p) < until_us) {
		primary_timer(p, ENV_TIMER_LOST, until_us);
		return;
	}
	if (p->state == PRIMARY_LOST) {
		arbitrate(p);
		return;
	}
	if (!p->peer_said[0])
		snprintf(p->peer_said, sizeof(p->peer_said),
			 "no sign of life from the secondary for %" PRIu64
			 " ms",
			 (primary_now(p) - p->alive_us) / 1000);
	p->env.ops->disconnect(p->env.arg, NULL);
}
