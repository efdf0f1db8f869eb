/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The secondary loses its primary, and what may come of it: grace, arbitration,
 * the takeover, and the guest that then runs here.
 *
 *   - the connection has ended: LOST, the primary has its time to come back;
 *   - it does not: the fence command, --unsafe-no-fence or the operator decide;
 *   - decided: ACTIVATING, ACTIVE; undecided: WAITING, the standby is kept.
 */
#include "config.h"

#include "engine/secondary_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

/* Between two looks at a guest that has been taken over. */
enum { GUEST_POLL_US = 1000 * 1000 };

static void activate(struct secondary *s, const char *why)
{
	secondary_timer(s, ENV_TIMER_LOST, 0);
	secondary_go(s, SECONDARY_ACTIVATING, why);
	secondary_job(s, ENV_JOB_ACTIVATE, s->committed);
}

void secondary_wait(struct secondary *s, const char *why)
{
	secondary_timer(s, ENV_TIMER_LOST, 0);
	secondary_go(s, SECONDARY_WAITING, why);
	log_error("%s is NOT taken over: the standby holds epoch %" PRIu64
		  ".  Make sure that %s is down, then run 'colod failover %s'",
		  s->domain, s->committed, s->primary_host, s->domain);
}

void secondary_arbitrate(struct secondary *s)
{
	s->stats.detected_us = secondary_now(s);
	if (s->cfg.fence) {
		secondary_go(s, SECONDARY_FENCING,
			     "the primary did not come back");
		s->fencing = true;
		secondary_job(s, ENV_JOB_FENCE, 0);
	} else if (s->cfg.unsafe_no_fence) {
		activate(s, "the primary did not come back; not fenced, as "
			    "told by --unsafe-no-fence");
	} else {
		secondary_wait(s, "the primary did not come back; no "
				  "fence command");
	}
}

void secondary_lose(struct secondary *s, const char *why)
{
	secondary_remember(s, why);
	secondary_go(s, SECONDARY_LOST, why);
	secondary_timer(s, ENV_TIMER_LOST,
			s->alive_us + secondary_silence_us(s));
}

void secondary_fence_done(struct secondary *s, const struct event *e)
{
	s->fencing = false;
	if (s->state != SECONDARY_FENCING)
		return;
	if (s->stop_asked) {
		secondary_discard(s, "discarded by the operator");
	} else if (e->error) {
		secondary_remember(s, e->text);
		secondary_wait(s, "the fence command failed");
	} else {
		activate(s, "fenced: the primary is down");
	}
}

void secondary_activated(struct secondary *s, const struct event *e)
{
	char why[120];

	if (e->error) {
		secondary_remember(s, e->text);
		log_error("the standby of %s could not be activated: %s",
			  s->domain, e->text ? e->text : strerror(-e->error));
		if (s->inconsistent)
			secondary_discard(s, "it is inconsistent");
		else
			secondary_wait(s, "activation failed");
		return;
	}
	s->stats.activated_us = secondary_now(s);
	s->stats.takeovers++;
	snprintf(why, sizeof(why),
		 "running from epoch %" PRIu64 ", %" PRIu64
		 " ms after the last sign of life, %" PRIu64
		 " ms after the decision to act",
		 s->committed, (secondary_now(s) - s->alive_us) / 1000,
		 (secondary_now(s) - s->stats.detected_us) / 1000);
	secondary_go(s, SECONDARY_ACTIVE, why);
	secondary_timer(s, ENV_TIMER_GUEST, secondary_now(s) + GUEST_POLL_US);
	if (s->stop_asked)
		secondary_stop(s);
}

void secondary_guest_status(struct secondary *s, const struct event *e)
{
	if (s->state != SECONDARY_ACTIVE)
		return;
	if (e->guest == GUEST_RUNNING || e->guest == GUEST_SUSPENDED) {
		secondary_timer(s, ENV_TIMER_GUEST,
				secondary_now(s) + GUEST_POLL_US);
		return;
	}
	log_info("%s: %s", s->domain, guest_status_text(e->guest));
	secondary_job(s, ENV_JOB_AFTER_SHUTDOWN, 0);
}

void secondary_after_shutdown(struct secondary *s, const struct event *e)
{
	if (s->state != SECONDARY_ACTIVE)
		return;
	if (e->again) {
		secondary_timer(s, ENV_TIMER_GUEST,
				secondary_now(s) + GUEST_POLL_US);
		return;
	}
	s->built = false;
	s->domain[0] = '\0';
	secondary_go(s, SECONDARY_LISTENING, "the guest is no more");
}

void secondary_failover(struct secondary *s)
{
	if (s->link_up ||
	    (s->state != SECONDARY_LOST && s->state != SECONDARY_WAITING)) {
		log_warn("no failover: %s",
			 s->link_up ? "the primary's connection is not down yet"
				    : secondary_state_text(s->state));
		return;
	}
	s->stats.detected_us = secondary_now(s);
	activate(s, "by the operator's word that the primary is down");
}
