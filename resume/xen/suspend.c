/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Suspending and resuming a domain.
 *
 * The happy path:
 *   - it is asked (ask.c);
 *   - Xen sends the event we have subscribed to; the state is checked by
 *     level, for an event tells nothing of what came before it;
 *   - it is resumed (resume.c).
 * Failure modes:
 *   - the guest ignores the request: it is withdrawn;
 *   - it acknowledged, or was sent an event, and does not follow in time: its
 *     suspend may come late; from then on a suspended guest is ours to resume
 *     (late_until_us);
 *   - it powers off, reboots, crashes, is destroyed: no event comes by the
 *     port, so @releaseDomain is watched, and the state polled besides.
 */
#include "config.h"

#include "resume/xen/source.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

/* A lost event costs this much at most. */
#define RECHECK_US UINT64_C(50000)
#define SETTLE_RETRY_US UINT64_C(10000)
/* For its device model to answer at all, and to stop: the guest stands still.
 */
#define MODEL_US UINT64_C(1000000)
#define FREEZE_US UINT64_C(3000000)

/*
 * Waits until the guest does not run any more.  0: s->state is set; -ETIMEDOUT;
 * -ECANCELED; or what the query failed with.
 */
static int await(struct guest_source *s, uint64_t end_us)
{
	struct pollfd p[] = {
		{ .fd = xenevtchn_fd(s->evtchn), .events = POLLIN },
		{ .fd = xs_fileno(s->watch), .events = POLLIN },
		{ .fd = s->cancel_fd, .events = POLLIN },
	};
	uint64_t now_us, left_us;
	struct timespec t;
	int rc;

	for (;;) {
		rc = xen_query(s->host, s->domid, &s->state);
		if (rc < 0)
			return rc;
		if (s->state.status != GUEST_RUNNING)
			return 0;
		now_us = clock_now_us();
		if (now_us >= end_us)
			return -ETIMEDOUT;
		left_us = end_us - now_us;
		if (left_us > RECHECK_US)
			left_us = RECHECK_US;
		t.tv_sec = 0;
		t.tv_nsec = (long)left_us * 1000;
		if (ppoll(p, 3, &t, NULL) <= 0)
			continue;
		if (p[2].revents)
			return -ECANCELED;
		if (p[0].revents)
			xen_events_take(s);
		if (p[1].revents)
			xen_watches_take(s);
	}
}

/* Another tool that subscribes does so in our place, and says nothing. */
static void check_told(struct guest_source *s)
{
	int rc;

	xen_events_take(s);
	if (s->told || !s->tracking || s->guest_port < 0)
		return;
	log_debug("%s: suspended without an event; subscribing anew", s->name);
	rc = xen_source_subscribe(s);
	if (rc < 0)
		log_debug("%s: subscribing: %s", s->name, strerror(-rc));
}

static void came(struct guest_source *s)
{
	check_told(s);
	/* A late one has come: a request made after it still stands. */
	if (s->late_until_us)
		xen_withdraw(s->host, s->domid);
	s->late_until_us = 0;
	s->signalled = false;
	s->suspended = true;
	s->was_suspended = true;
}

/*
 * A vCPU that waits for its device model stops when that has answered (Xen,
 * vcpu_start_shutdown_deferral()), and the others wait for it: let them go on.
 */
static int give_up_forced(struct guest_source *s, int why)
{
	int rc = xen_resume_plain(s->host, s->domid);

	if (rc < 0)
		return rc;
	s->forced = false;
	xen_source_mark(s, XEN_MARK_IDLE);
	return why;
}

static int give_up(struct guest_source *s, int why)
{
	int rc;

	if (s->forced)
		return give_up_forced(s, why);
	rc = s->signalled ? 0 : xen_withdraw(s->host, s->domid);
	if (rc == 1) {
		if (!s->late_until_us)
			xen_source_mark(s, XEN_MARK_IDLE);
		return why;
	}
	if (rc < 0)
		log_warn("%s: withdrawing the suspend request: %s", s->name,
			 strerror(-rc));
	/* Acknowledged.  It may have happened just now. */
	if (xen_query(s->host, s->domid, &s->state) == 0 &&
	    s->state.status == GUEST_SUSPENDED) {
		came(s);
		return 0;
	}
	/* Of one event, the time does not begin anew with each wait. */
	if (!s->signalled || !s->late_until_us)
		s->late_until_us = clock_now_us() + XEN_LATE_US;
	log_debug("%s: %s, but has not suspended", s->name,
		  s->signalled ? "was sent an event"
			       : "acknowledged the suspend request");
	return why == -ETIMEDOUT ? -EINPROGRESS : why;
}

/* Nothing asked of the guest can make it suspend any more. */
static void late_over(struct guest_source *s)
{
	s->late_until_us = 0;
	s->signalled = false;
	xen_source_mark(s, XEN_MARK_IDLE);
}

static int ask_and_await(struct guest_source *s, uint64_t end_us)
{
	int rc;

	if (s->late_until_us && clock_now_us() > s->late_until_us)
		late_over(s);
	s->told = false;
	rc = xen_ask(s);
	if (rc == -EBUSY || rc == -ESTALE) /* nothing was done */
		return rc;
	if (rc == 0)
		rc = await(s, end_us);
	return rc < 0 ? give_up(s, rc) : 0;
}

/* The guest runs: one that hangs is not to be waited for in a pause. */
static int check_model(struct guest_source *s, uint64_t timeout_us)
{
	uint64_t us = timeout_us < MODEL_US ? timeout_us : MODEL_US;

	if (!s->model || xen_model_ready(s->model, clock_now_us() + us) == 0)
		return 0;
	return -EREMOTEIO;
}

static int freeze_model(struct guest_source *s, uint64_t timeout_us)
{
	uint64_t us = timeout_us < FREEZE_US ? timeout_us : FREEZE_US;
	int rc;

	if (!s->model || xen_model_freeze(s->model, clock_now_us() + us) == 0)
		return 0;
	rc = xen_source_resume(s);
	return rc < 0 ? rc : -EREMOTEIO;
}

int xen_source_suspend(struct guest_source *s, uint64_t timeout_us)
{
	int rc;

	xen_events_take(s);
	xen_watches_take(s);
	rc = xen_query(s->host, s->domid, &s->state);
	if (rc < 0)
		return rc;
	if (xen_source_cancelled(s))
		return -ECANCELED;
	if (s->state.status == GUEST_SUSPENDED && !s->late_until_us) {
		log_warn("%s: suspended by something other than colod (xl"
			 " save?); waiting for it",
			 s->name);
		return -EBUSY;
	}
	if (s->state.status == GUEST_RUNNING) {
		rc = xen_source_await_devices(s, clock_now_us() + timeout_us);
		if (rc == 0)
			rc = check_model(s, timeout_us);
		if (rc < 0)
			return rc;
		/* Not the guest's fault: it gets all of its time. */
		rc = ask_and_await(s, clock_now_us() + timeout_us);
		if (rc < 0)
			return rc;
	}
	if (s->state.status != GUEST_SUSPENDED)
		return -ESHUTDOWN;
	if (!s->suspended)
		came(s);
	rc = xen_source_check_devices(s);
	return rc < 0 ? rc : freeze_model(s, timeout_us);
}

bool xen_source_resume_late(struct guest_source *s)
{
	if (!s->late_until_us || s->suspended)
		return false;
	if (xen_query(s->host, s->domid, &s->state) < 0 ||
	    s->state.status != GUEST_SUSPENDED) {
		if (clock_now_us() > s->late_until_us)
			late_over(s);
		return false;
	}
	came(s);
	log_info("%s: suspended late; resuming it", s->name);
	return xen_source_resume(s) == 0;
}

void xen_source_settle(struct guest_source *s)
{
	if (!s->late_until_us)
		return;
	xen_withdraw(s->host, s->domid);
	while (s->late_until_us && !xen_source_resume_late(s)) {
		if (s->state.status != GUEST_RUNNING)
			break;
		clock_sleep_us(SETTLE_RETRY_US);
	}
	s->late_until_us = 0;
	s->signalled = false;
}
