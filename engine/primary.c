/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/primary_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/moves.h"

static const char *const names[] = {
#define X(name, text) [PRIMARY_##name] = text,
	PRIMARY_STATES(X)
#undef X
};

#define TO(name) MOVE_TO(PRIMARY_##name)
static const uint32_t allowed[PRIMARY_STATE_COUNT] = {
	[PRIMARY_START] = TO(CONNECTING),
	[PRIMARY_CONNECTING] = TO(SYNCING) | TO(LOST) | TO(WAITING) |
			       TO(UNPROTECTED) | TO(ENDING) | TO(YIELDING),
	[PRIMARY_SYNCING] = TO(PROTECTED) | TO(LOST) | TO(UNPROTECTED) |
			    TO(ENDING) | TO(YIELDING),
	[PRIMARY_PROTECTED] =
		TO(LOST) | TO(UNPROTECTED) | TO(ENDING) | TO(YIELDING),
	[PRIMARY_LOST] = TO(CONNECTING) | TO(FENCING) | TO(WAITING) |
			 TO(UNPROTECTED) | TO(ENDING),
	[PRIMARY_FENCING] = TO(WAITING) | TO(UNPROTECTED) | TO(ENDING),
	[PRIMARY_WAITING] = TO(CONNECTING) | TO(UNPROTECTED) | TO(ENDING),
	[PRIMARY_UNPROTECTED] = TO(CONNECTING) | TO(ENDING),
	[PRIMARY_ENDING] = TO(ENDED) | TO(CONNECTING) | TO(YIELDING),
	[PRIMARY_YIELDING] = TO(ENDED),
};
#undef TO

static const struct move_table table = {
	.machine = "primary",
	.names = names,
	.allowed = allowed,
	.states = PRIMARY_STATE_COUNT,
	.level = LOG_LEVEL_INFO,
};

const char *primary_state_text(unsigned int state)
{
	return state < PRIMARY_STATE_COUNT ? names[state] : "?";
}

/* --- actions and checks ------------------------------------------------- */

bool primary_jobs_under_way(const struct primary *p)
{
	return p->syncing || p->capturing || p->encoding || p->fencing;
}

static void check(const struct primary *p)
{
	primary_epochs_check(p);
	INVARIANT(p->state != PRIMARY_PROTECTED ||
			  (p->synced && p->standby_ready),
		  "protected means that the standby has the whole image");
}

void primary_go(struct primary *p, enum primary_state to, const char *why)
{
	move(&table, &p->state, to, p->cfg.domain, "%s", why);
}

void primary_go_quietly(struct primary *p, enum primary_state to,
			const char *why)
{
	struct move_table quiet = table;

	quiet.level = LOG_LEVEL_DEBUG;
	move(&quiet, &p->state, to, p->cfg.domain, "%s", why);
}

void primary_disconnect(struct primary *p, enum wire_reason reason,
			const char *text)
{
	struct bye bye = { .reason = reason };

	snprintf(bye.text, sizeof(bye.text), "%s", text);
	p->env.ops->disconnect(p->env.arg, &bye);
}

void primary_farewell(struct primary *p, enum wire_reason reason)
{
	p->env.ops->send(p->env.arg, bye_encode(reason, ""));
	p->farewell = true;
	/* It overtakes what waits, but not what is under way. */
	primary_timer_in(p, ENV_TIMER_LOST,
			 primary_lost_us(p) + p->cfg.wire_us);
}

void primary_violation(struct primary *p, const char *what)
{
	snprintf(p->peer_said, sizeof(p->peer_said),
		 "the peer violates the protocol: %s", what);
	primary_disconnect(p, WIRE_REASON_PROTOCOL, what);
}

/* --- reaching the peer -------------------------------------------------- */

void primary_connect(struct primary *p, const char *why)
{
	primary_timer(p, ENV_TIMER_RETRY, 0);
	if (primary_now(p) >= p->late_until_us)
		primary_timer(p, ENV_TIMER_GUEST, 0);
	p->resync_asked = false;
	p->peer_said[0] = '\0';
	p->standby_before = p->standby_may_exist;
	if (p->state == PRIMARY_UNPROTECTED || p->state == PRIMARY_LOST ||
	    p->state == PRIMARY_WAITING)
		primary_go_quietly(p, PRIMARY_CONNECTING, why);
	else
		primary_go(p, PRIMARY_CONNECTING, why);
	p->link = true;
	p->env.ops->connect(p->env.arg);
}

static void on_link_up(struct primary *p)
{
	struct hello h = {
		.version = WIRE_VERSION,
		.role = WIRE_ROLE_PRIMARY,
		.payload_max = WIRE_PAYLOAD_MAX,
		.inflight_max = p->cfg.inflight,
		.heartbeat_us = (uint32_t)p->cfg.heartbeat_us,
		.session = p->session,
	};

	p->greeted = false;
	snprintf(h.host, sizeof(h.host), "%s", p->cfg.host);
	p->env.ops->send(p->env.arg, hello_encode(&h));
	p->alive_us = primary_now(p);
	primary_timer_in(p, ENV_TIMER_HEARTBEAT, p->cfg.heartbeat_us);
	primary_timer(p, ENV_TIMER_LOST, p->alive_us + primary_lost_us(p));
}

static void on_hello(struct primary *p, const struct hello *h)
{
	char why[sizeof(p->peer_said)];

	if (p->greeted || p->state != PRIMARY_CONNECTING)
		return;
	if (h->version != WIRE_VERSION) {
		snprintf(p->peer_said, sizeof(p->peer_said),
			 "the peer speaks version %u of the protocol, this "
			 "colod speaks %d: install the same version on both",
			 h->version, WIRE_VERSION);
		primary_disconnect(p, WIRE_REASON_VERSION, "");
		return;
	}
	if (h->role != WIRE_ROLE_SECONDARY) {
		snprintf(p->peer_said, sizeof(p->peer_said),
			 "%s is a primary itself, not a secondary",
			 p->cfg.peer);
		primary_disconnect(p, WIRE_REASON_PROTOCOL, "two primaries");
		return;
	}
	p->greeted = true;
	p->waiting = false;
	p->peer_inflight = h->inflight_max ? h->inflight_max : 1;
	p->synced = false;
	p->blocked = false;
	p->standby_ready = false;
	p->syncing = true;
	p->moved_us = primary_now(p);
	p->stats.synchronisations++;
	snprintf(why, sizeof(why), "with %s", h->host);
	primary_go(p, PRIMARY_SYNCING, why);
	primary_job(p, ENV_JOB_SYNC, 0);
}

static void maybe_protected(struct primary *p)
{
	if (!p->synced || !p->standby_ready)
		return;
	p->was_protected = true;
	p->last_error[0] = '\0';
	p->stats.protected_since_us = primary_now(p);
	primary_go(p, PRIMARY_PROTECTED, "the standby is complete");
	primary_gate(p, GUEST_GATE_RELEASE, 0);
	primary_epochs_begin(p);
}

static void sync_done(struct primary *p, const struct event *e)
{
	p->syncing = false;
	if (!e->error)
		p->gate_closed = p->cfg.gate;
	if (p->state != PRIMARY_SYNCING) {
		/* The image may have closed the gate behind our back. */
		if (!p->standby_may_exist && !primary_leaving(p))
			primary_gate(p, GUEST_GATE_OPEN, 0);
		return;
	}
	if (e->error == -ESHUTDOWN && primary_guest_down(p, e->guest))
		return;
	if (e->error) {
		if (!p->peer_said[0])
			snprintf(p->peer_said, sizeof(p->peer_said), "%s",
				 e->text ? e->text : strerror(-e->error));
		primary_disconnect(p, WIRE_REASON_RESYNC,
				   "the image could not be sent");
	} else {
		p->synced = true;
		p->moved_us = primary_now(p);
		/* Unless the peer has said meanwhile that it has none. */
		if (!p->peer_said[0])
			p->standby_may_exist = true;
		maybe_protected(p);
	}
}

/* --- events ------------------------------------------------------------- */

static void on_ack(struct primary *p, const struct event *e)
{
	if (p->state == PRIMARY_SYNCING && e->epoch == 0 && !p->standby_ready) {
		p->standby_ready = true;
		maybe_protected(p);
	} else if (p->state == PRIMARY_PROTECTED) {
		primary_epochs_acknowledge(p, e);
	}
}

static void on_bye(struct primary *p, const struct bye *bye)
{
	if (!p->farewell) /* else the reason is ours */
		snprintf(p->peer_said, sizeof(p->peer_said), "%s%s%s",
			 wire_reason_text(bye->reason),
			 bye->text[0] ? ": " : "", bye->text);
	if (bye->reason == WIRE_REASON_FAILED_OVER) {
		primary_yield(p);
		return;
	}
	/*
	 * A peer that stops, or that could not build the standby, has none:
	 * there is nothing to arbitrate.  For any other reason it may have kept
	 * it.
	 */
	if (bye->reason == WIRE_REASON_ENDED ||
	    bye->reason == WIRE_REASON_IMAGE_FAILED)
		p->standby_may_exist = false;
	/*
	 * One that is busy, or at work for another domain, has not taken the
	 * image we have just sent.  Of an earlier standby it says nothing: that
	 * may have taken over before this colod of its was started.
	 */
	p->peer_busy = bye->reason == WIRE_REASON_BUSY;
	if (p->peer_busy || bye->reason == WIRE_REASON_REFUSED)
		p->standby_may_exist = p->standby_before;
	primary_disconnect(p, WIRE_REASON_ENDED, "");
}

/*
 * A peer that gives signs of life and nothing else: its guest's thread hangs,
 * or a frame was lost where none can be.  Our guest may stand still for it.
 */
static void look_for_acknowledgement(struct primary *p)
{
	uint64_t timeout_us = p->cfg.ack_timeout_us;
	bool overdue = p->state == PRIMARY_PROTECTED &&
		       primary_epochs_overdue(p, timeout_us);

	/* Whose turn is it?  A slow suspend or scan is no fault of the peer. */
	if (p->state == PRIMARY_SYNCING && !p->standby_ready)
		overdue = (p->blocked || p->synced) &&
			  primary_now(p) > p->moved_us + timeout_us;
	if (timeout_us && overdue)
		primary_resync(p, "the secondary lives but takes or "
				  "acknowledges nothing");
}

static void on_timer(struct primary *p, enum env_timer t)
{
	switch (t) {
	case ENV_TIMER_HEARTBEAT:
		look_for_acknowledgement(p);
		p->env.ops->send(p->env.arg,
				 frame_buf_new(WIRE_HEARTBEAT, 0, 0));
		primary_timer_in(p, ENV_TIMER_HEARTBEAT, p->cfg.heartbeat_us);
		break;
	case ENV_TIMER_LOST:
		/* No answer to our BYE, even where the peer lives. */
		if (primary_leaving(p) || p->farewell)
			p->env.ops->disconnect(p->env.arg, NULL);
		else
			primary_peer_silent(p);
		break;
	case ENV_TIMER_EPOCH:
		p->epoch_due = true;
		primary_epochs_start_due(p);
		break;
	case ENV_TIMER_RETRY:
		if (primary_jobs_under_way(p))
			primary_timer_in(p, ENV_TIMER_RETRY,
					 p->cfg.heartbeat_us);
		else
			primary_connect(p, "trying to reach the secondary");
		break;
	case ENV_TIMER_GUEST:
		if (!p->looking)
			primary_job(p, ENV_JOB_STATUS, 0);
		p->looking = true;
		if (primary_now(p) < p->late_until_us ||
		    p->state == PRIMARY_UNPROTECTED ||
		    p->state == PRIMARY_WAITING)
			primary_look_in(p, p->cfg.retry_us / 2);
		break;
	default:
		break;
	}
}

static void on_done(struct primary *p, const struct event *e)
{
	switch (e->job) {
	case ENV_JOB_SYNC:
		sync_done(p, e);
		break;
	case ENV_JOB_CAPTURE:
		primary_epochs_captured(p, e);
		break;
	case ENV_JOB_ENCODE:
		primary_epochs_encoded(p, e);
		break;
	case ENV_JOB_FENCE:
		primary_fence_done(p, e);
		break;
	case ENV_JOB_STATUS:
		p->looking = false;
		if (p->state == PRIMARY_UNPROTECTED ||
		    p->state == PRIMARY_WAITING ||
		    p->state == PRIMARY_CONNECTING)
			primary_guest_down(p, e->guest);
		break;
	case ENV_JOB_YIELD:
	case ENV_JOB_RELEASE:
	case ENV_JOB_AFTER_SHUTDOWN:
		primary_wind_job_done(p, e);
		break;
	default:
		break;
	}
}

void primary_moved(struct primary *p)
{
	p->moved_us = primary_now(p);
}

void primary_init(struct primary *p, const struct primary_config *cfg,
		  const struct env *env)
{
	memset(p, 0, sizeof(*p));
	p->cfg = *cfg;
	p->env = *env;
	p->pace = pace_start(&cfg->pace);
	p->session = env->ops->random(env->arg);
	/* Whoever closed the gate had a standby, and may have it still. */
	p->gate_closed = cfg->gate && cfg->gate_held;
	p->standby_may_exist = p->was_protected = p->gate_closed;
}

void primary_gated(struct primary *p)
{
	p->cfg.gate = true;
}

static void start(struct primary *p)
{
	p->alive_us = primary_now(p);
	p->grace_until_us = p->alive_us + primary_lost_us(p);
	primary_connect(p, p->cfg.peer);
}

static void stop(struct primary *p)
{
	bool lost = p->was_protected && p->state != PRIMARY_PROTECTED;

	p->stop_asked = true;
	p->guest_again = false;
	if (p->wind_job && p->wind == WIND_AFTER_SHUTDOWN)
		p->env.ops->cancel(p->env.arg, ENV_JOB_AFTER_SHUTDOWN);
	primary_leave(p, PRIMARY_ENDING, WIRE_REASON_ENDED,
		      lost ? EXIT_UNPROTECTED : EXIT_ENDED,
		      "stopped by the operator");
}

void primary_event(struct primary *p, const struct event *e)
{
	switch (e->type) {
	case EVENT_START:
		start(p);
		break;
	case EVENT_LINK_UP:
		on_link_up(p);
		break;
	case EVENT_LINK_DOWN:
		primary_link_down(p, e);
		break;
	case EVENT_ALIVE:
		p->alive_us = primary_now(p);
		break;
	case EVENT_BLOCKED:
	case EVENT_MOVED:
		p->blocked = e->type == EVENT_BLOCKED;
		p->moved_us = primary_now(p);
		break;
	case EVENT_HELLO:
		on_hello(p, e->hello);
		break;
	case EVENT_ACK:
		on_ack(p, e);
		break;
	case EVENT_BYE:
		on_bye(p, e->bye);
		break;
	case EVENT_VIOLATION:
		primary_violation(p, e->text);
		break;
	case EVENT_TIMER:
		on_timer(p, e->timer);
		break;
	case EVENT_DONE:
		on_done(p, e);
		break;
	case EVENT_STOP:
		stop(p);
		break;
	case EVENT_FAILOVER:
		primary_peer_is_down(p);
		break;
	default:
		break;
	}
	if (p->state == PRIMARY_ENDING || p->state == PRIMARY_YIELDING)
		primary_wind_up(p);
	check(p);
}
