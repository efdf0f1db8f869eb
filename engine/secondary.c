/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/secondary_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/moves.h"

enum {
	/* An image is built by other programs, which may take their time. */
	BUILD_SILENCE_US = 15 * 1000 * 1000,
	/* A second request to stop within this time discards the standby. */
	STOP_AGAIN_US = 10 * 1000 * 1000,
};

static const char *const names[] = {
#define X(name, text) [SECONDARY_##name] = text,
	SECONDARY_STATES(X)
#undef X
};

#define TO(name) MOVE_TO(SECONDARY_##name)
static const uint32_t allowed[SECONDARY_STATE_COUNT] = {
	[SECONDARY_LISTENING] = TO(BUILDING) | TO(ENDED),
	[SECONDARY_BUILDING] = TO(STANDBY) | TO(DISCARDING),
	[SECONDARY_STANDBY] = TO(LOST) | TO(WAITING) | TO(DISCARDING),
	[SECONDARY_LOST] =
		TO(FENCING) | TO(WAITING) | TO(ACTIVATING) | TO(DISCARDING),
	[SECONDARY_FENCING] = TO(WAITING) | TO(ACTIVATING) | TO(DISCARDING),
	[SECONDARY_WAITING] = TO(ACTIVATING) | TO(DISCARDING),
	[SECONDARY_ACTIVATING] = TO(ACTIVE) | TO(WAITING) | TO(DISCARDING),
	[SECONDARY_ACTIVE] = TO(LISTENING) | TO(ENDED),
	[SECONDARY_DISCARDING] = TO(LISTENING) | TO(BUILDING) | TO(ENDED),
};
#undef TO

static const struct move_table table = {
	.machine = "secondary",
	.names = names,
	.allowed = allowed,
	.states = SECONDARY_STATE_COUNT,
	.level = LOG_LEVEL_INFO,
};

const char *secondary_state_text(unsigned int state)
{
	return state < SECONDARY_STATE_COUNT ? names[state] : "?";
}

/* --- actions and checks ------------------------------------------------- */

uint64_t secondary_silence_us(const struct secondary *s)
{
	uint64_t lost = s->cfg.heartbeat_us * s->cfg.lost_after;

	if (s->state == SECONDARY_BUILDING && lost < BUILD_SILENCE_US)
		return BUILD_SILENCE_US;
	return lost;
}

void secondary_go(struct secondary *s, enum secondary_state to, const char *why)
{
	move(&table, &s->state, to, s->domain[0] ? s->domain : "-", "%s",
	     why ? why : "");
}

static void check(const struct secondary *s)
{
	INVARIANT(s->applied <= s->committed,
		  "only what is committed is applied");
	INVARIANT(s->state != SECONDARY_ACTIVATING || !s->link_up,
		  "no takeover while a primary is connected");
	INVARIANT(s->state == SECONDARY_LISTENING ||
			  s->state == SECONDARY_BUILDING ||
			  s->state == SECONDARY_DISCARDING ||
			  s->state == SECONDARY_ENDED || s->built,
		  "a standby is kept or activated only when it is complete");
}

/* --- the standby comes and goes ----------------------------------------- */

static void build(struct secondary *s)
{
	s->rebuild = false;
	s->building = true;
	s->built = false;
	s->image_complete = false;
	s->inconsistent = false;
	s->committed = s->applied = 0;
	s->last_error[0] = '\0';
	s->stats.image_us = secondary_now(s);
	s->alive_us = secondary_now(s);
	secondary_go(s, SECONDARY_BUILDING, s->primary_host);
	secondary_timer(s, ENV_TIMER_LOST,
			secondary_now(s) + secondary_silence_us(s));
	secondary_timer(s, ENV_TIMER_HEARTBEAT,
			secondary_now(s) + s->cfg.heartbeat_us);
	secondary_job(s, ENV_JOB_BUILD, 0);
}

void secondary_discard(struct secondary *s, const char *why)
{
	secondary_timer(s, ENV_TIMER_LOST, 0);
	if (s->fencing)
		s->env.ops->cancel(s->env.arg, ENV_JOB_FENCE);
	if (s->state != SECONDARY_DISCARDING)
		secondary_go(s, SECONDARY_DISCARDING, why);
	if (s->building) {
		s->env.ops->cancel(s->env.arg, ENV_JOB_BUILD);
		return; /* its end comes back here */
	}
	secondary_job(s, ENV_JOB_DESTROY, 0);
}

static void discarded(struct secondary *s)
{
	s->built = false;
	s->committed = s->applied = 0;
	if (s->rebuild && s->link_up && !s->stop_asked) {
		build(s);
		return;
	}
	s->domain[0] = '\0';
	if (s->stop_asked) {
		secondary_go(s, SECONDARY_ENDED, "stopped by the operator");
		s->env.ops->finish(s->env.arg, EXIT_ENDED);
	} else {
		secondary_go(s, SECONDARY_LISTENING, "the standby is removed");
	}
}

static void maybe_standby(struct secondary *s)
{
	char why[80];

	if (s->state != SECONDARY_BUILDING || !s->built || !s->image_complete)
		return;
	snprintf(why, sizeof(why), "built in %" PRIu64 " ms",
		 (secondary_now(s) - s->stats.image_us) / 1000);
	secondary_go(s, SECONDARY_STANDBY, why);
	s->alive_us = secondary_now(s);
	secondary_timer(s, ENV_TIMER_LOST,
			secondary_now(s) + secondary_silence_us(s));
	s->env.ops->send(s->env.arg, ack_encode(0, 0));
}

static enum wire_reason reason_of(int build_error)
{
	switch (build_error) {
	case -EALREADY: /* it took over, and colod was started anew here */
		return WIRE_REASON_FAILED_OVER;
	case -EBUSY: /* another colod has it here: it may run, or be about to */
		return WIRE_REASON_BUSY;
	default:
		return WIRE_REASON_IMAGE_FAILED;
	}
}

static void built(struct secondary *s, const struct event *e)
{
	s->building = false;
	s->built = !e->error;
	if (s->state == SECONDARY_DISCARDING) {
		/* A build that failed has removed what it made. */
		if (s->built)
			secondary_job(s, ENV_JOB_DESTROY, 0);
		else
			discarded(s);
		return;
	}
	if (!e->error) {
		maybe_standby(s);
		return;
	}
	secondary_timer(s, ENV_TIMER_LOST, 0);
	secondary_remember(s, e->text);
	log_error("the standby of %s could not be built: %s", s->domain,
		  e->text ? e->text : strerror(-e->error));
	secondary_disconnect(s, reason_of(e->error), e->text);
	secondary_go(s, SECONDARY_DISCARDING, "the build failed");
	discarded(s);
}

/* --- events ------------------------------------------------------------- */

static void on_domain(struct secondary *s, const struct event *e)
{
	bool replace = s->state != SECONDARY_LISTENING;

	s->link_up = true;
	s->primary_session = e->hello->session;
	snprintf(s->domain, sizeof(s->domain), "%s", e->description->name);
	memcpy(s->uuid, e->description->uuid, sizeof(s->uuid));
	snprintf(s->primary_host, sizeof(s->primary_host), "%s",
		 e->hello->host);
	if (!replace) {
		build(s);
		return;
	}
	s->rebuild = true;
	secondary_timer(s, ENV_TIMER_HEARTBEAT,
			secondary_now(s) + s->cfg.heartbeat_us);
	secondary_discard(s, "the primary is back and synchronises anew");
}

static void on_link_down(struct secondary *s, const struct event *e)
{
	const char *why = s->given_up[0] ? s->given_up
			  : e->text	 ? e->text
					 : "the connection was closed";

	s->link_up = false;
	secondary_timer(s, ENV_TIMER_HEARTBEAT, 0);
	switch (s->state) {
	case SECONDARY_BUILDING:
		secondary_remember(s, why);
		secondary_discard(s, why);
		break;
	case SECONDARY_STANDBY:
		if (e->error == -EPROTO) { /* bytes never cause a takeover */
			secondary_remember(s, why);
			secondary_wait(s, why);
		} else {
			secondary_lose(s, why);
		}
		break;
	default:
		break;
	}
	s->given_up[0] = '\0';
}

/*
 * The primary ends on its own account: the standby is of no use any more.  Our
 * BYE in answer promises that it will never be activated; it is not given
 * where the standby is kept.
 */
static void on_bye(struct secondary *s, const struct bye *bye)
{
	char why[WIRE_TEXT_MAX + 80];

	snprintf(why, sizeof(why), "%s%s%s", wire_reason_text(bye->reason),
		 bye->text[0] ? ": " : "", bye->text);
	if (bye->reason == WIRE_REASON_PROTOCOL &&
	    s->state == SECONDARY_STANDBY) {
		/* It complains, but it has not said that it needs us no more.
		 */
		s->env.ops->disconnect(s->env.arg, NULL);
		secondary_wait(s, why);
		return;
	}
	secondary_disconnect(s, WIRE_REASON_ENDED, "");
	if (s->state == SECONDARY_BUILDING || s->state == SECONDARY_STANDBY)
		secondary_discard(s, why);
}

static enum wire_reason reason_of_violation(int error)
{
	switch (error) {
	case -ENOMEM:
	case -ENOSPC:
	case -EIO:
		return WIRE_REASON_NO_RESOURCES;
	case -E2BIG:
		return WIRE_REASON_LIMIT;
	case -ECONNREFUSED: /* disks that we do not take */
		return WIRE_REASON_REFUSED;
	default:
		return WIRE_REASON_PROTOCOL;
	}
}

/*
 * What was received is not what the protocol says.  The standby stays as the
 * last whole epoch left it, and bytes never cause a takeover: the primary may
 * synchronise anew, or the operator decides.
 */
static void violation(struct secondary *s, const struct event *e)
{
	const char *why = e->text ? e->text : strerror(-e->error);

	secondary_remember(s, why);
	secondary_disconnect(s, reason_of_violation(e->error), why);
	if (s->state == SECONDARY_STANDBY)
		secondary_wait(s, why);
	else if (s->state == SECONDARY_BUILDING)
		secondary_discard(s, why);
}

static void on_stored(struct secondary *s, const struct event *e)
{
	if (s->state != SECONDARY_STANDBY && s->state != SECONDARY_BUILDING)
		return; /* left over in the queue when the link went down */
	if (e->error || s->state != SECONDARY_STANDBY ||
	    e->epoch != s->committed + 1) {
		static const struct event out_of_order = {
			.error = -EPROTO,
			.text = "an epoch out of order",
		};

		violation(s, e->error ? e : &out_of_order);
		return;
	}
	s->committed = e->epoch;
	s->stats.last_commit_us = secondary_now(s);
	s->env.ops->send(s->env.arg, ack_encode(e->epoch, s->applied));
	s->applying++;
	secondary_job(s, ENV_JOB_APPLY, e->epoch);
}

static void applied(struct secondary *s, const struct event *e)
{
	s->applying--;
	if (!e->error) {
		if (e->epoch > s->applied && e->epoch <= s->committed)
			s->applied = e->epoch;
		return;
	}
	log_error("%s: epoch %" PRIu64 " could not be applied (%s): the "
		  "standby is inconsistent and is removed",
		  s->domain, e->epoch, strerror(-e->error));
	secondary_remember(s, "an epoch could not be applied");
	s->inconsistent = true;
	if (s->state == SECONDARY_STANDBY || s->state == SECONDARY_LOST ||
	    s->state == SECONDARY_FENCING || s->state == SECONDARY_WAITING) {
		secondary_disconnect(s,
				     e->error == -ENOMEM
					     ? WIRE_REASON_NO_RESOURCES
					     : WIRE_REASON_RESYNC,
				     s->last_error);
		secondary_discard(s, s->last_error);
	}
}

static void give_up(struct secondary *s)
{
	snprintf(s->given_up, sizeof(s->given_up),
		 "no sign of life from the primary for %" PRIu64 " ms",
		 (secondary_now(s) - s->alive_us) / 1000);
	s->env.ops->disconnect(s->env.arg, NULL);
}

void secondary_called_again(struct secondary *s, const struct hello *h)
{
	if (!s->link_up || h->session != s->primary_session)
		return;
	s->alive_us = secondary_now(s);
	snprintf(s->given_up, sizeof(s->given_up),
		 "the primary has given this connection up");
	s->env.ops->disconnect(s->env.arg, NULL);
}

static void on_timer(struct secondary *s, enum env_timer t)
{
	switch (t) {
	case ENV_TIMER_HEARTBEAT:
		s->env.ops->send(s->env.arg,
				 frame_buf_new(WIRE_HEARTBEAT, 0, 0));
		secondary_timer(s, t, secondary_now(s) + s->cfg.heartbeat_us);
		break;
	case ENV_TIMER_LOST:
		if (secondary_now(s) < s->alive_us + secondary_silence_us(s))
			secondary_timer(s, t,
					s->alive_us + secondary_silence_us(s));
		else if (s->state == SECONDARY_LOST)
			secondary_arbitrate(s);
		else
			give_up(s);
		break;
	case ENV_TIMER_GUEST:
		secondary_job(s, ENV_JOB_STATUS, 0);
		break;
	default:
		break;
	}
}

static void on_done(struct secondary *s, const struct event *e)
{
	switch (e->job) {
	case ENV_JOB_BUILD:
		built(s, e);
		break;
	case ENV_JOB_APPLY:
		applied(s, e);
		break;
	case ENV_JOB_ACTIVATE:
		secondary_activated(s, e);
		break;
	case ENV_JOB_DESTROY:
		discarded(s);
		break;
	case ENV_JOB_FENCE:
		secondary_fence_done(s, e);
		break;
	case ENV_JOB_STATUS:
		secondary_guest_status(s, e);
		break;
	case ENV_JOB_AFTER_SHUTDOWN:
		secondary_after_shutdown(s, e);
		break;
	default:
		break;
	}
}

/* The standby may be all that is left of the guest: ask twice. */
static bool stop_refused(struct secondary *s)
{
	if (s->stop_refused_us &&
	    secondary_now(s) < s->stop_refused_us + STOP_AGAIN_US)
		return false;
	s->stop_refused_us = secondary_now(s);
	log_error("not stopped: the standby of %s may be all that is left of "
		  "it.  'colod failover %s' makes it run; to discard it, stop "
		  "again within %d s",
		  s->domain, s->domain, STOP_AGAIN_US / 1000000);
	return true;
}

void secondary_stop(struct secondary *s)
{
	switch (s->state) {
	case SECONDARY_LISTENING:
	case SECONDARY_ACTIVE:
		s->stop_asked = true;
		secondary_go(
			s, SECONDARY_ENDED,
			s->built ? "stopped by the operator; the guest runs on"
				 : "stopped by the operator");
		s->env.ops->finish(s->env.arg, EXIT_ENDED);
		break;
	case SECONDARY_BUILDING:
	case SECONDARY_STANDBY:
		s->stop_asked = true;
		secondary_disconnect(s, WIRE_REASON_ENDED, "");
		secondary_discard(s, "stopped by the operator");
		break;
	case SECONDARY_LOST:
	case SECONDARY_FENCING:
	case SECONDARY_WAITING:
		if (stop_refused(s))
			break;
		s->stop_asked = true;
		if (s->fencing) /* its end comes back to secondary_discard() */
			s->env.ops->cancel(s->env.arg, ENV_JOB_FENCE);
		else
			secondary_discard(s, "discarded by the operator");
		break;
	case SECONDARY_DISCARDING:
		s->stop_asked = true;
		if (s->rebuild) /* a primary waits for us */
			secondary_disconnect(s, WIRE_REASON_ENDED, "");
		break;
	default:
		s->stop_asked = true; /* a takeover is finished first */
		break;
	}
}

void secondary_init(struct secondary *s, const struct secondary_config *cfg,
		    const struct env *env)
{
	memset(s, 0, sizeof(*s));
	s->cfg = *cfg;
	s->env = *env;
	s->state = SECONDARY_LISTENING;
	s->session = env->ops->random(env->arg);
}

void secondary_event(struct secondary *s, const struct event *e)
{
	switch (e->type) {
	case EVENT_DOMAIN:
		on_domain(s, e);
		break;
	case EVENT_LINK_DOWN:
		on_link_down(s, e);
		break;
	case EVENT_ALIVE:
		s->alive_us = secondary_now(s);
		break;
	case EVENT_IMAGE_END:
		s->image_complete = !e->error;
		if (e->error)
			violation(s, e);
		else
			maybe_standby(s);
		break;
	case EVENT_STORED:
		on_stored(s, e);
		break;
	case EVENT_VIOLATION:
		violation(s, e);
		break;
	case EVENT_BYE:
		on_bye(s, e->bye);
		break;
	case EVENT_TIMER:
		on_timer(s, e->timer);
		break;
	case EVENT_DONE:
		on_done(s, e);
		break;
	case EVENT_STOP:
		secondary_stop(s);
		break;
	case EVENT_FAILOVER:
		secondary_failover(s);
		break;
	default:
		break;
	}
	check(s);
}
