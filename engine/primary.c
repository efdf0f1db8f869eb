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
	[PRIMARY_CONNECTING] = TO(SYNCING) | TO(LOST) | TO(UNPROTECTED) |
			       TO(ENDING) | TO(YIELDING),
	[PRIMARY_SYNCING] = TO(PROTECTED) | TO(LOST) | TO(UNPROTECTED) |
			    TO(ENDING) | TO(YIELDING),
	[PRIMARY_PROTECTED] =
		TO(LOST) | TO(UNPROTECTED) | TO(ENDING) | TO(YIELDING),
	[PRIMARY_LOST] =
		TO(CONNECTING) | TO(FENCING) | TO(UNPROTECTED) | TO(ENDING),
	[PRIMARY_FENCING] = TO(UNPROTECTED) | TO(ENDING),
	[PRIMARY_UNPROTECTED] = TO(CONNECTING) | TO(ENDING),
	[PRIMARY_ENDING] = TO(ENDED) | TO(CONNECTING),
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

static void timer_in(struct primary *p, enum env_timer t, uint64_t us)
{
	primary_timer(p, t, primary_now(p) + us);
}

static uint64_t lost_us(const struct primary *p)
{
	return p->cfg.heartbeat_us * p->cfg.lost_after;
}

static void remember(struct primary *p, const char *text)
{
	snprintf(p->last_error, sizeof(p->last_error), "%s", text);
}

static bool jobs_under_way(const struct primary *p)
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

static void go(struct primary *p, enum primary_state to, const char *why)
{
	move(&table, &p->state, to, p->cfg.domain, "%s", why);
}

/* Attempts to reach a peer that stays away: not worth two lines each time. */
static void go_quietly(struct primary *p, enum primary_state to,
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

void primary_violation(struct primary *p, const char *what)
{
	snprintf(p->peer_said, sizeof(p->peer_said),
		 "the peer violates the protocol: %s", what);
	primary_disconnect(p, WIRE_REASON_PROTOCOL, what);
}

/* --- the way out -------------------------------------------------------- */

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

static void connect_now(struct primary *p, const char *why);

/*
 * On the way out everything is undone in order, one stage after the other;
 * called after every event until the last is done.
 */
static void wind_up(struct primary *p)
{
	if (p->wind == WIND_JOBS) {
		if (jobs_under_way(p))
			return;
		p->wind++;
	}
	if (p->wind == WIND_YIELD &&
	    wind_job(p, p->state == PRIMARY_YIELDING, ENV_JOB_YIELD))
		return;
	if (p->wind == WIND_RELEASE && wind_job(p, true, ENV_JOB_RELEASE))
		return;
	if (p->wind == WIND_AFTER_SHUTDOWN &&
	    wind_job(p, p->guest_down, ENV_JOB_AFTER_SHUTDOWN))
		return;
	if (p->link)
		return;
	if (p->guest_again) {
		p->guest_again = false;
		p->guest_down = false;
		connect_now(p, "the guest runs anew");
		return;
	}
	go(p, PRIMARY_ENDED, "");
	p->env.ops->finish(p->env.arg, p->exit_status);
}

static void wind_job_done(struct primary *p, const struct event *e)
{
	if (e->job == ENV_JOB_AFTER_SHUTDOWN) {
		p->guest_again = e->again && !p->stop_asked;
		if (e->error) {
			remember(p, e->text ? e->text : strerror(-e->error));
			log_error("%s: not protected again: %s", p->cfg.domain,
				  p->last_error);
			p->exit_status = EXIT_FAILED;
		}
	}
	if (e->job == ENV_JOB_YIELD && e->error)
		log_error("%s could not be paused here (%s) while it runs on "
			  "%s: pause or destroy it NOW",
			  p->cfg.domain, strerror(-e->error), p->cfg.peer);
	p->wind_job = false;
	p->wind++;
}

static bool leaving(const struct primary *p)
{
	return p->state == PRIMARY_ENDING || p->state == PRIMARY_YIELDING ||
	       p->state == PRIMARY_ENDED;
}

/* The peer is told first: what else there is to do may take its time. */
static void leave(struct primary *p, enum primary_state to,
		  enum wire_reason reason, int exit_status, const char *why)
{
	if (leaving(p))
		return;
	primary_epochs_drop(p, why);
	if (p->syncing)
		p->env.ops->cancel(p->env.arg, ENV_JOB_SYNC);
	if (p->fencing)
		p->env.ops->cancel(p->env.arg, ENV_JOB_FENCE);
	primary_timer(p, ENV_TIMER_HEARTBEAT, 0);
	primary_timer(p, ENV_TIMER_LOST, 0);
	primary_timer(p, ENV_TIMER_RETRY, 0);
	primary_timer(p, ENV_TIMER_GUEST, 0);
	primary_disconnect(p, reason, "");
	p->standby_may_exist = false;
	p->exit_status = exit_status;
	p->wind = WIND_JOBS;
	p->wind_job = false;
	go(p, to, why);
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
	leave(p, PRIMARY_ENDING, of[status].reason, of[status].exit_status,
	      guest_status_text(status));
	return true;
}

/* --- losing the peer ---------------------------------------------------- */

static void unprotected(struct primary *p, const char *why)
{
	bool again = p->state == PRIMARY_CONNECTING;

	if (again) {
		go_quietly(p, PRIMARY_UNPROTECTED, why);
	} else {
		p->stats.losses++;
		go(p, PRIMARY_UNPROTECTED, why);
		log_error("PROTECTION LOST: %s runs on without a standby; "
			  "trying on to reach %s",
			  p->cfg.domain, p->cfg.peer);
	}
	p->standby_may_exist = false;
	timer_in(p, ENV_TIMER_RETRY, p->cfg.retry_us);
	timer_in(p, ENV_TIMER_GUEST, p->cfg.retry_us / 2);
}

/* The peer's time to come back is over. */
static void arbitrate(struct primary *p)
{
	primary_timer(p, ENV_TIMER_RETRY, 0);
	if (p->peer_busy) {
		unprotected(p, "the secondary does not take us");
		return;
	}
	if (p->cfg.fence) {
		go(p, PRIMARY_FENCING, "the secondary did not come back");
		p->fencing = true;
		primary_job(p, ENV_JOB_FENCE, 0);
		return;
	}
	if (!p->cfg.unsafe_no_fence)
		log_error("no fence command: it is not known whether the "
			  "standby of %s on %s is down",
			  p->cfg.domain, p->cfg.peer);
	unprotected(p, "the secondary did not come back");
}

static void fence_done(struct primary *p, const struct event *e)
{
	p->fencing = false;
	if (p->state != PRIMARY_FENCING)
		return;
	if (e->error)
		log_error("the fence command failed (%s): it is not known "
			  "whether the standby of %s on %s is down",
			  e->text ? e->text : strerror(-e->error),
			  p->cfg.domain, p->cfg.peer);
	unprotected(p, e->error ? "fencing failed"
				: "fenced: the secondary is down");
}

/* The connection has ended, wanted or not. */
static void lose(struct primary *p, const char *why)
{
	remember(p, why);
	primary_epochs_drop(p, why);
	p->greeted = false;
	if (p->syncing)
		p->env.ops->cancel(p->env.arg, ENV_JOB_SYNC);
	primary_timer(p, ENV_TIMER_LOST, 0);
	if (p->standby_may_exist) {
		if (p->state == PRIMARY_CONNECTING) {
			go_quietly(p, PRIMARY_LOST, why);
		} else {
			go(p, PRIMARY_LOST, why);
			p->grace_until_us = p->alive_us + lost_us(p);
			p->peer_busy = false;
		}
		primary_timer(p, ENV_TIMER_LOST, p->grace_until_us);
		timer_in(p, ENV_TIMER_RETRY, p->cfg.heartbeat_us);
	} else if (p->was_protected) {
		unprotected(p, why);
		if (p->resync_asked)
			timer_in(p, ENV_TIMER_RETRY, p->cfg.heartbeat_us);
	} else {
		log_error("cannot protect %s: %s", p->cfg.domain, why);
		leave(p, PRIMARY_ENDING, WIRE_REASON_ENDED, EXIT_FAILED, why);
	}
	p->resync_asked = false;
	p->peer_said[0] = '\0';
}

void primary_resync(struct primary *p, const char *why)
{
	if (p->resync_asked)
		return;
	log_warn("%s: synchronising anew: %s", p->cfg.domain, why);
	p->standby_may_exist = false; /* RESYNC tells the peer to remove it */
	p->resync_asked = true;
	snprintf(p->peer_said, sizeof(p->peer_said), "%s", why);
	primary_disconnect(p, WIRE_REASON_RESYNC, "");
}

static void on_link_down(struct primary *p, const struct event *e)
{
	char why[sizeof(p->peer_said)];

	p->link = false;
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

/* --- reaching the peer -------------------------------------------------- */

static void connect_now(struct primary *p, const char *why)
{
	primary_timer(p, ENV_TIMER_RETRY, 0);
	if (primary_now(p) >= p->late_until_us)
		primary_timer(p, ENV_TIMER_GUEST, 0);
	p->resync_asked = false;
	p->peer_said[0] = '\0';
	p->standby_before = p->standby_may_exist;
	if (p->state == PRIMARY_UNPROTECTED || p->state == PRIMARY_LOST)
		go_quietly(p, PRIMARY_CONNECTING, why);
	else
		go(p, PRIMARY_CONNECTING, why);
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
	timer_in(p, ENV_TIMER_HEARTBEAT, p->cfg.heartbeat_us);
	primary_timer(p, ENV_TIMER_LOST, p->alive_us + lost_us(p));
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
	p->peer_inflight = h->inflight_max ? h->inflight_max : 1;
	p->synced = false;
	p->standby_ready = false;
	p->syncing = true;
	p->stats.synchronisations++;
	snprintf(why, sizeof(why), "with %s", h->host);
	go(p, PRIMARY_SYNCING, why);
	primary_job(p, ENV_JOB_SYNC, 0);
}

static void maybe_protected(struct primary *p)
{
	if (!p->synced || !p->standby_ready)
		return;
	p->was_protected = true;
	p->last_error[0] = '\0';
	p->stats.protected_since_us = primary_now(p);
	go(p, PRIMARY_PROTECTED, "the standby is complete");
	primary_epochs_begin(p);
}

static void sync_done(struct primary *p, const struct event *e)
{
	p->syncing = false;
	if (p->state != PRIMARY_SYNCING)
		return;
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
		/* Unless the peer has said meanwhile that it has none. */
		p->standby_may_exist = !p->peer_said[0];
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
	snprintf(p->peer_said, sizeof(p->peer_said), "%s%s%s",
		 wire_reason_text(bye->reason), bye->text[0] ? ": " : "",
		 bye->text);
	if (bye->reason == WIRE_REASON_FAILED_OVER) {
		leave(p, PRIMARY_YIELDING, WIRE_REASON_ENDED, EXIT_YIELDED,
		      p->peer_said);
		return;
	}
	/*
	 * A peer that stops, that could not build the standby, or that is at
	 * work for another domain has none of ours: there is nothing to
	 * arbitrate.  For any other reason it may have kept it.
	 */
	if (bye->reason == WIRE_REASON_ENDED ||
	    bye->reason == WIRE_REASON_IMAGE_FAILED ||
	    bye->reason == WIRE_REASON_REFUSED)
		p->standby_may_exist = false;
	/* One that is busy has not taken the image we have just sent. */
	p->peer_busy = bye->reason == WIRE_REASON_BUSY;
	if (p->peer_busy)
		p->standby_may_exist = p->standby_before;
	primary_disconnect(p, WIRE_REASON_ENDED, "");
}

static void peer_silent(struct primary *p)
{
	uint64_t until_us = p->state == PRIMARY_LOST ? p->grace_until_us
						     : p->alive_us + lost_us(p);

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

static void on_timer(struct primary *p, enum env_timer t)
{
	switch (t) {
	case ENV_TIMER_HEARTBEAT:
		p->env.ops->send(p->env.arg,
				 frame_buf_new(WIRE_HEARTBEAT, 0, 0));
		timer_in(p, ENV_TIMER_HEARTBEAT, p->cfg.heartbeat_us);
		break;
	case ENV_TIMER_LOST:
		peer_silent(p);
		break;
	case ENV_TIMER_EPOCH:
		p->epoch_due = true;
		primary_epochs_start_due(p);
		break;
	case ENV_TIMER_RETRY:
		if (jobs_under_way(p))
			timer_in(p, ENV_TIMER_RETRY, p->cfg.heartbeat_us);
		else
			connect_now(p, "trying to reach the secondary");
		break;
	case ENV_TIMER_GUEST:
		if (!p->looking)
			primary_job(p, ENV_JOB_STATUS, 0);
		p->looking = true;
		if (primary_now(p) < p->late_until_us)
			timer_in(p, ENV_TIMER_GUEST, LATE_LOOK_US);
		else if (p->state == PRIMARY_UNPROTECTED)
			timer_in(p, ENV_TIMER_GUEST, p->cfg.retry_us / 2);
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
		fence_done(p, e);
		break;
	case ENV_JOB_STATUS:
		p->looking = false;
		if (p->state == PRIMARY_UNPROTECTED ||
		    p->state == PRIMARY_CONNECTING)
			primary_guest_down(p, e->guest);
		break;
	case ENV_JOB_YIELD:
	case ENV_JOB_RELEASE:
	case ENV_JOB_AFTER_SHUTDOWN:
		wind_job_done(p, e);
		break;
	default:
		break;
	}
}

void primary_init(struct primary *p, const struct primary_config *cfg,
		  const struct env *env)
{
	memset(p, 0, sizeof(*p));
	p->cfg = *cfg;
	p->env = *env;
	p->session = env->ops->random(env->arg);
}

static void stop(struct primary *p)
{
	bool lost = p->was_protected && p->state != PRIMARY_PROTECTED;

	p->stop_asked = true;
	p->guest_again = false;
	if (p->wind_job && p->wind == WIND_AFTER_SHUTDOWN)
		p->env.ops->cancel(p->env.arg, ENV_JOB_AFTER_SHUTDOWN);
	leave(p, PRIMARY_ENDING, WIRE_REASON_ENDED,
	      lost ? EXIT_UNPROTECTED : EXIT_ENDED, "stopped by the operator");
}

void primary_event(struct primary *p, const struct event *e)
{
	switch (e->type) {
	case EVENT_START:
		connect_now(p, p->cfg.peer);
		break;
	case EVENT_LINK_UP:
		on_link_up(p);
		break;
	case EVENT_LINK_DOWN:
		on_link_down(p, e);
		break;
	case EVENT_ALIVE:
		p->alive_us = primary_now(p);
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
	default:
		break;
	}
	if (p->state == PRIMARY_ENDING || p->state == PRIMARY_YIELDING)
		wind_up(p);
	check(p);
}
