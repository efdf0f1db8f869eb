/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's way out: the peer is told, what is under way is waited for, and
 * everything is undone in order, the guest's output last of all.
 *
 * Two of them: ENDING, by the operator or because the guest is no more, and
 * YIELDING, because the guest runs on the other host.
 */
#include "config.h"

#include "engine/primary_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

static bool wind_job(struct primary *p, bool wanted, enum env_job j)
{
	if (!wanted) {
		p->wind++;
		return false;
	}
	if (!p->wind_job) {
		p->wind_job = true;
		primary_job(p, j, 0);
	}
	return true; /* wait for it */
}

/* Nothing is held any more, unless a standby may still take over. */
static void settle_output(struct primary *p)
{
	if (p->state == PRIMARY_YIELDING || !p->cfg.gate)
		return;
	if (!p->standby_may_exist) {
		primary_gate(p, GUEST_GATE_OPEN, 0);
		return;
	}
	log_error("%s runs on, but its output is held: its standby on %s may "
		  "take over.  Protect it again, or, when %s is certainly "
		  "down, run 'colod release --alone %s'",
		  p->cfg.domain, p->cfg.peer, p->cfg.peer, p->cfg.domain);
	if (p->exit_status == EXIT_ENDED)
		p->exit_status = EXIT_UNPROTECTED;
}

/*
 * On the way out everything is undone in order, one stage after the other;
 * called after every event until the last is done.
 */
void primary_wind_up(struct primary *p)
{
	if (p->wind == WIND_JOBS) {
		if (primary_jobs_under_way(p))
			return;
		p->wind++;
	}
	if (p->wind == WIND_YIELD &&
	    wind_job(p, p->state == PRIMARY_YIELDING, ENV_JOB_YIELD))
		return;
	if (p->wind == WIND_RELEASE && wind_job(p, true, ENV_JOB_RELEASE))
		return;
	/* One that runs over there is not started anew; once begun it ends. */
	if (p->wind == WIND_AFTER_SHUTDOWN &&
	    wind_job(p,
		     p->guest_down &&
			     (p->state != PRIMARY_YIELDING || p->wind_job),
		     ENV_JOB_AFTER_SHUTDOWN))
		return;
	if (p->link)
		return;
	if (p->state == PRIMARY_YIELDING && !p->yielded) {
		wind_job(p, true, ENV_JOB_YIELD);
		return; /* the peer said so after we had begun to end */
	}
	settle_output(p);
	if (p->guest_again && p->state != PRIMARY_YIELDING) {
		p->guest_again = false;
		p->guest_down = false;
		primary_connect(p, "the guest runs anew");
		return;
	}
	primary_timer(p, ENV_TIMER_GUEST, 0);
	primary_go(p, PRIMARY_ENDED, "");
	p->env.ops->finish(p->env.arg, p->exit_status);
}

void primary_wind_job_done(struct primary *p, const struct event *e)
{
	if (e->job == ENV_JOB_AFTER_SHUTDOWN) {
		p->guest_again = e->again && !p->stop_asked;
		if (e->error) {
			primary_remember(p, e->text ? e->text
						    : strerror(-e->error));
			log_error("%s: not protected again: %s", p->cfg.domain,
				  p->last_error);
			p->exit_status = EXIT_FAILED;
		}
	}
	if (e->job == ENV_JOB_YIELD)
		p->yielded = true;
	if (e->job == ENV_JOB_YIELD && e->error)
		log_error("%s could not be paused here (%s) while it runs on "
			  "%s: pause or destroy it NOW",
			  p->cfg.domain, strerror(-e->error), p->cfg.peer);
	p->wind_job = false;
	p->wind++;
}

bool primary_leaving(const struct primary *p)
{
	return p->state == PRIMARY_ENDING || p->state == PRIMARY_YIELDING ||
	       p->state == PRIMARY_ENDED;
}

void primary_leave(struct primary *p, enum primary_state to,
		   enum wire_reason reason, int exit_status, const char *why)
{
	if (primary_leaving(p))
		return;
	primary_epochs_drop(p, why);
	if (p->syncing)
		p->env.ops->cancel(p->env.arg, ENV_JOB_SYNC);
	if (p->fencing)
		p->env.ops->cancel(p->env.arg, ENV_JOB_FENCE);
	primary_timer(p, ENV_TIMER_HEARTBEAT, 0);
	primary_timer(p, ENV_TIMER_LOST, 0);
	primary_timer(p, ENV_TIMER_RETRY, 0);
	/* A guest that suspends late is resumed while the peer's answer is out.
	 */
	if (to == PRIMARY_YIELDING || primary_now(p) >= p->late_until_us)
		primary_timer(p, ENV_TIMER_GUEST, 0);
	if (to == PRIMARY_ENDING && p->greeted)
		primary_farewell(p, reason);
	else
		primary_disconnect(p, reason, "");
	p->exit_status = exit_status;
	p->wind = WIND_JOBS;
	p->wind_job = false;
	primary_go(p, to, why);
}

void primary_yield(struct primary *p)
{
	if (p->state == PRIMARY_ENDING) {
		p->exit_status = EXIT_YIELDED;
		primary_timer(p, ENV_TIMER_GUEST, 0);
		primary_go(p, PRIMARY_YIELDING, p->peer_said);
		p->env.ops->disconnect(p->env.arg, NULL);
	} else {
		primary_leave(p, PRIMARY_YIELDING, WIRE_REASON_ENDED,
			      EXIT_YIELDED, p->peer_said);
	}
	primary_gate(p, GUEST_GATE_DROP, 0);
}

bool primary_guest_down(struct primary *p, enum guest_status status)
{
	static const struct {
		enum wire_reason reason;
		int exit_status;
	} of[] = {
		[GUEST_POWEROFF] = { WIRE_REASON_POWEROFF, EXIT_ENDED },
		[GUEST_REBOOT] = { WIRE_REASON_REBOOT, EXIT_ENDED },
		[GUEST_CRASHED] = { WIRE_REASON_CRASH, EXIT_GUEST_CRASHED },
		[GUEST_GONE] = { WIRE_REASON_ENDED, EXIT_ENDED },
	};

	if (status == GUEST_RUNNING || status == GUEST_SUSPENDED)
		return false;
	p->guest_down = status != GUEST_GONE;
	primary_leave(p, PRIMARY_ENDING, of[status].reason,
		      of[status].exit_status, guest_status_text(status));
	return true;
}
