/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/secondary.h"

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
	GUEST_POLL_US = 1000 * 1000,
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

static uint64_t now(const struct secondary *s)
{
	return s->env.ops->now_us(s->env.arg);
}

static void timer(struct secondary *s, enum env_timer t, uint64_t at_us)
{
	s->env.ops->timer(s->env.arg, t, at_us);
}

static void job(struct secondary *s, enum env_job j, uint64_t epoch)
{
	s->env.ops->job(s->env.arg, j, epoch);
}

static void disconnect(struct secondary *s, enum wire_reason reason,
		       const char *text)
{
	struct bye bye = { .reason = reason };

	snprintf(bye.text, sizeof(bye.text), "%s", text ? text : "");
	s->env.ops->disconnect(s->env.arg, &bye);
}

static uint64_t silence_us(const struct secondary *s)
{
	uint64_t lost = s->cfg.heartbeat_us * s->cfg.lost_after;

	if (s->state == SECONDARY_BUILDING && lost < BUILD_SILENCE_US)
		return BUILD_SILENCE_US;
	return lost;
}

static void remember(struct secondary *s, const char *text)
{
	snprintf(s->last_error, sizeof(s->last_error), "%s", text ? text : "");
}

static void go(struct secondary *s, enum secondary_state to, const char *why)
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
	s->stats.image_us = now(s);
	s->alive_us = now(s);
	go(s, SECONDARY_BUILDING, s->primary_host);
	timer(s, ENV_TIMER_LOST, now(s) + silence_us(s));
	timer(s, ENV_TIMER_HEARTBEAT, now(s) + s->cfg.heartbeat_us);
	job(s, ENV_JOB_BUILD, 0);
}

static void discard(struct secondary *s, const char *why)
{
	timer(s, ENV_TIMER_LOST, 0);
	if (s->fencing)
		s->env.ops->cancel(s->env.arg, ENV_JOB_FENCE);
	if (s->state != SECONDARY_DISCARDING)
		go(s, SECONDARY_DISCARDING, why);
	if (s->building) {
		s->env.ops->cancel(s->env.arg, ENV_JOB_BUILD);
		return; /* its end comes back here */
	}
	job(s, ENV_JOB_DESTROY, 0);
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
		go(s, SECONDARY_ENDED, "stopped by the operator");
		s->env.ops->finish(s->env.arg, EXIT_ENDED);
	} else {
		go(s, SECONDARY_LISTENING, "the standby is removed");
	}
}

static void maybe_standby(struct secondary *s)
{
	char why[80];

	if (s->state != SECONDARY_BUILDING || !s->built || !s->image_complete)
		return;
	snprintf(why, sizeof(why), "built in %" PRIu64 " ms",
		 (now(s) - s->stats.image_us) / 1000);
	go(s, SECONDARY_STANDBY, why);
	s->alive_us = now(s);
	timer(s, ENV_TIMER_LOST, now(s) + silence_us(s));
	s->env.ops->send(s->env.arg, ack_encode(0, 0));
}

static void built(struct secondary *s, const struct event *e)
{
	s->building = false;
	s->built = !e->error;
	if (s->state == SECONDARY_DISCARDING) {
		/* A build that failed has removed what it made. */
		if (s->built)
			job(s, ENV_JOB_DESTROY, 0);
		else
			discarded(s);
		return;
	}
	if (!e->error) {
		maybe_standby(s);
		return;
	}
	timer(s, ENV_TIMER_LOST, 0);
	remember(s, e->text);
	log_error("the standby of %s could not be built: %s", s->domain,
		  e->text ? e->text : strerror(-e->error));
	disconnect(s, WIRE_REASON_IMAGE_FAILED, e->text);
	go(s, SECONDARY_DISCARDING, "the build failed");
	discarded(s);
}

static void on_stop(struct secondary *s);

/* --- taking over -------------------------------------------------------- */

static void activate(struct secondary *s, const char *why)
{
	timer(s, ENV_TIMER_LOST, 0);
	go(s, SECONDARY_ACTIVATING, why);
	job(s, ENV_JOB_ACTIVATE, s->committed);
}

static void wait_for_operator(struct secondary *s, const char *why)
{
	timer(s, ENV_TIMER_LOST, 0);
	go(s, SECONDARY_WAITING, why);
	log_error("%s is NOT taken over: the standby holds epoch %" PRIu64
		  ".  Make sure that %s is down, then run 'colod failover %s'",
		  s->domain, s->committed, s->primary_host, s->domain);
}

/* The primary's time to come back is over. */
static void arbitrate(struct secondary *s)
{
	s->stats.detected_us = now(s);
	if (s->cfg.fence) {
		go(s, SECONDARY_FENCING, "the primary did not come back");
		s->fencing = true;
		job(s, ENV_JOB_FENCE, 0);
	} else if (s->cfg.unsafe_no_fence) {
		activate(s, "the primary did not come back; not fenced, as "
			    "told by --unsafe-no-fence");
	} else {
		wait_for_operator(s, "the primary did not come back; no "
				     "fence command");
	}
}

static void lose(struct secondary *s, const char *why)
{
	remember(s, why);
	go(s, SECONDARY_LOST, why);
	timer(s, ENV_TIMER_LOST, s->alive_us + silence_us(s));
}

static void fence_done(struct secondary *s, const struct event *e)
{
	s->fencing = false;
	if (s->state != SECONDARY_FENCING)
		return;
	if (s->stop_asked) {
		discard(s, "discarded by the operator");
	} else if (e->error) {
		remember(s, e->text);
		wait_for_operator(s, "the fence command failed");
	} else {
		activate(s, "fenced: the primary is down");
	}
}

static void activated(struct secondary *s, const struct event *e)
{
	char why[120];

	if (e->error) {
		remember(s, e->text);
		log_error("the standby of %s could not be activated: %s",
			  s->domain, e->text ? e->text : strerror(-e->error));
		if (s->inconsistent)
			discard(s, "it is inconsistent");
		else
			wait_for_operator(s, "activation failed");
		return;
	}
	s->stats.activated_us = now(s);
	s->stats.takeovers++;
	snprintf(why, sizeof(why),
		 "running from epoch %" PRIu64 ", %" PRIu64
		 " ms after the last sign of life, %" PRIu64
		 " ms after the decision to act",
		 s->committed, (now(s) - s->alive_us) / 1000,
		 (now(s) - s->stats.detected_us) / 1000);
	go(s, SECONDARY_ACTIVE, why);
	timer(s, ENV_TIMER_GUEST, now(s) + GUEST_POLL_US);
	if (s->stop_asked)
		on_stop(s);
}

/* --- events ------------------------------------------------------------- */

static void on_domain(struct secondary *s, const struct event *e)
{
	bool replace = s->state != SECONDARY_LISTENING;

	s->link_up = true;
	snprintf(s->domain, sizeof(s->domain), "%s", e->description->name);
	memcpy(s->uuid, e->description->uuid, sizeof(s->uuid));
	snprintf(s->primary_host, sizeof(s->primary_host), "%s",
		 e->hello->host);
	if (!replace) {
		build(s);
		return;
	}
	s->rebuild = true;
	timer(s, ENV_TIMER_HEARTBEAT, now(s) + s->cfg.heartbeat_us);
	discard(s, "the primary is back and synchronises anew");
}

static void on_link_down(struct secondary *s, const struct event *e)
{
	const char *why = s->given_up[0] ? s->given_up
			  : e->text	 ? e->text
					 : "the connection was closed";

	s->link_up = false;
	timer(s, ENV_TIMER_HEARTBEAT, 0);
	switch (s->state) {
	case SECONDARY_BUILDING:
		remember(s, why);
		discard(s, why);
		break;
	case SECONDARY_STANDBY:
		if (e->error == -EPROTO) { /* bytes never cause a takeover */
			remember(s, why);
			wait_for_operator(s, why);
		} else {
			lose(s, why);
		}
		break;
	default:
		break;
	}
	s->given_up[0] = '\0';
}

/* The primary ends on its own account: the standby is of no use any more. */
static void on_bye(struct secondary *s, const struct bye *bye)
{
	char why[WIRE_TEXT_MAX + 80];

	snprintf(why, sizeof(why), "%s%s%s", wire_reason_text(bye->reason),
		 bye->text[0] ? ": " : "", bye->text);
	s->env.ops->disconnect(s->env.arg, NULL);
	if (s->state != SECONDARY_BUILDING && s->state != SECONDARY_STANDBY)
		return;
	if (bye->reason == WIRE_REASON_PROTOCOL &&
	    s->state == SECONDARY_STANDBY) {
		/* It complains, but it has not said that it needs us no more.
		 */
		wait_for_operator(s, why);
		return;
	}
	discard(s, why);
}

/*
 * What was received is not what the protocol says.  The standby stays as the
 * last whole epoch left it, and bytes never cause a takeover: the primary may
 * synchronise anew, or the operator decides.
 */
static void violation(struct secondary *s, const struct event *e)
{
	const char *why = e->text ? e->text : strerror(-e->error);

	remember(s, why);
	disconnect(s,
		   e->error == -ENOMEM	? WIRE_REASON_NO_RESOURCES
		   : e->error == -E2BIG ? WIRE_REASON_LIMIT
					: WIRE_REASON_PROTOCOL,
		   why);
	if (s->state == SECONDARY_STANDBY)
		wait_for_operator(s, why);
	else if (s->state == SECONDARY_BUILDING)
		discard(s, why);
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
	s->stats.last_commit_us = now(s);
	s->env.ops->send(s->env.arg, ack_encode(e->epoch, s->applied));
	s->applying++;
	job(s, ENV_JOB_APPLY, e->epoch);
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
	remember(s, "an epoch could not be applied");
	s->inconsistent = true;
	if (s->state == SECONDARY_STANDBY || s->state == SECONDARY_LOST ||
	    s->state == SECONDARY_FENCING || s->state == SECONDARY_WAITING) {
		disconnect(s, WIRE_REASON_NO_RESOURCES, s->last_error);
		discard(s, s->last_error);
	}
}

static void give_up(struct secondary *s)
{
	snprintf(s->given_up, sizeof(s->given_up),
		 "no sign of life from the primary for %" PRIu64 " ms",
		 (now(s) - s->alive_us) / 1000);
	s->env.ops->disconnect(s->env.arg, NULL);
}

static void on_timer(struct secondary *s, enum env_timer t)
{
	switch (t) {
	case ENV_TIMER_HEARTBEAT:
		s->env.ops->send(s->env.arg,
				 frame_buf_new(WIRE_HEARTBEAT, 0, 0));
		timer(s, t, now(s) + s->cfg.heartbeat_us);
		break;
	case ENV_TIMER_LOST:
		if (now(s) < s->alive_us + silence_us(s))
			timer(s, t, s->alive_us + silence_us(s));
		else if (s->state == SECONDARY_LOST)
			arbitrate(s);
		else
			give_up(s);
		break;
	case ENV_TIMER_GUEST:
		job(s, ENV_JOB_STATUS, 0);
		break;
	default:
		break;
	}
}

static void guest_status(struct secondary *s, const struct event *e)
{
	if (s->state != SECONDARY_ACTIVE)
		return;
	if (e->guest == GUEST_RUNNING || e->guest == GUEST_SUSPENDED) {
		timer(s, ENV_TIMER_GUEST, now(s) + GUEST_POLL_US);
		return;
	}
	log_info("%s: %s", s->domain, guest_status_text(e->guest));
	job(s, ENV_JOB_AFTER_SHUTDOWN, 0);
}

static void after_shutdown(struct secondary *s, const struct event *e)
{
	if (s->state != SECONDARY_ACTIVE)
		return;
	if (e->again) {
		timer(s, ENV_TIMER_GUEST, now(s) + GUEST_POLL_US);
		return;
	}
	s->built = false;
	s->domain[0] = '\0';
	go(s, SECONDARY_LISTENING, "the guest is no more");
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
		activated(s, e);
		break;
	case ENV_JOB_DESTROY:
		discarded(s);
		break;
	case ENV_JOB_FENCE:
		fence_done(s, e);
		break;
	case ENV_JOB_STATUS:
		guest_status(s, e);
		break;
	case ENV_JOB_AFTER_SHUTDOWN:
		after_shutdown(s, e);
		break;
	default:
		break;
	}
}

/* The standby may be all that is left of the guest: ask twice. */
static bool stop_refused(struct secondary *s)
{
	if (s->stop_refused_us && now(s) < s->stop_refused_us + STOP_AGAIN_US)
		return false;
	s->stop_refused_us = now(s);
	log_error("not stopped: the standby of %s may be all that is left of "
		  "it.  'colod failover %s' makes it run; to discard it, stop "
		  "again within %d s",
		  s->domain, s->domain, STOP_AGAIN_US / 1000000);
	return true;
}

static void on_stop(struct secondary *s)
{
	switch (s->state) {
	case SECONDARY_LISTENING:
	case SECONDARY_ACTIVE:
		s->stop_asked = true;
		go(s, SECONDARY_ENDED,
		   s->built ? "stopped by the operator; the guest runs on"
			    : "stopped by the operator");
		s->env.ops->finish(s->env.arg, EXIT_ENDED);
		break;
	case SECONDARY_BUILDING:
	case SECONDARY_STANDBY:
		s->stop_asked = true;
		disconnect(s, WIRE_REASON_ENDED, "");
		discard(s, "stopped by the operator");
		break;
	case SECONDARY_LOST:
	case SECONDARY_FENCING:
	case SECONDARY_WAITING:
		if (stop_refused(s))
			break;
		s->stop_asked = true;
		if (s->fencing) /* its end comes back to discard() */
			s->env.ops->cancel(s->env.arg, ENV_JOB_FENCE);
		else
			discard(s, "discarded by the operator");
		break;
	case SECONDARY_DISCARDING:
		s->stop_asked = true;
		if (s->rebuild) /* a primary waits for us */
			disconnect(s, WIRE_REASON_ENDED, "");
		break;
	default:
		s->stop_asked = true; /* a takeover is finished first */
		break;
	}
}

static void on_failover(struct secondary *s)
{
	if (s->link_up ||
	    (s->state != SECONDARY_LOST && s->state != SECONDARY_WAITING)) {
		log_warn("no failover: %s",
			 s->link_up ? "the primary's connection is not down yet"
				    : secondary_state_text(s->state));
		return;
	}
	s->stats.detected_us = now(s);
	activate(s, "by the operator's word that the primary is down");
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
		s->alive_us = now(s);
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
		on_stop(s);
		break;
	case EVENT_FAILOVER:
		on_failover(s);
		break;
	default:
		break;
	}
	check(s);
}
