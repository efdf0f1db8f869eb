/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Suspending and resuming a domain that suspends itself.
 *
 * The happy path:
 *   - `suspend` is written to control/shutdown, the request of
 *     xen/include/public/io/xs_wire.h that every Linux guest follows, in one
 *     transaction with our own mark;
 *   - the guest clears it (that acknowledges it) and suspends;
 *   - Xen sends the event we have subscribed to; the state is checked by
 *     level, for an event tells nothing of what came before it;
 *   - resume with return code 1, xenstored is told, the mark is set back.
 * Failure modes:
 *   - the guest ignores the request: it is withdrawn, in a transaction, only
 *     if it is still there;
 *   - it acknowledged but does not follow in time: its suspend may come late;
 *     from then on a suspended guest is ours to resume (late_until_us);
 *   - it powers off, reboots, crashes, is destroyed: no event comes by the
 *     port, so @releaseDomain is watched, and the state polled besides.
 */
#include "config.h"

#include "resume/xen/source.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xenguest.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

/* A lost event costs this much at most. */
#define RECHECK_US UINT64_C(50000)
/* Linux gives up freezing after 20 s (freeze_timeout_msecs). */
#define LATE_US UINT64_C(30000000)
#define RESUME_TRIES 100
#define RESUME_RETRY_US UINT64_C(10000)
#define TRANSACTION_TRIES 20

static void shutdown_path(uint32_t domid, char *path, size_t bytes)
{
	snprintf(path, bytes, "/local/domain/%u/control/shutdown", domid);
}

/* 1: done; 0: another transaction was first, again; or a negative errno. */
static int transaction_end(struct xen_host *h, xs_transaction_t t)
{
	if (xs_transaction_end(h->xs, t, false))
		return 1;
	return errno == EAGAIN ? 0 : -errno;
}

static int withdraw_once(struct xen_host *h, uint32_t domid)
{
	xs_transaction_t t = xs_transaction_start(h->xs);
	AUTO_FREE char *now = NULL;
	char path[64];
	unsigned int len;
	int rc;

	if (t == XBT_NULL)
		return -errno;
	shutdown_path(domid, path, sizeof(path));
	now = xs_read(h->xs, t, path, &len);
	if (!now || strcmp(now, "suspend")) {
		xs_transaction_end(h->xs, t, true);
		return 0;
	}
	if (!xs_write(h->xs, t, path, "", 0)) {
		rc = -errno;
		xs_transaction_end(h->xs, t, true);
		return rc;
	}
	rc = transaction_end(h, t);
	return rc ? rc : -EAGAIN;
}

int xen_withdraw(struct xen_host *h, uint32_t domid)
{
	int rc = -EAGAIN;

	for (int i = 0; i < TRANSACTION_TRIES && rc == -EAGAIN; i++)
		rc = withdraw_once(h, domid);
	return rc;
}

/* 1: asked; 0: again; -EBUSY: something else is asked of the guest. */
static int ask_once(struct guest_source *s)
{
	struct xs_handle *xs = s->host->xs;
	xs_transaction_t t = xs_transaction_start(xs);
	AUTO_FREE char *now = NULL;
	char path[64], node[64], mark[XEN_MARK_BYTES];
	unsigned int len;
	int rc;

	if (t == XBT_NULL)
		return -errno;
	shutdown_path(s->domid, path, sizeof(path));
	snprintf(node, sizeof(node), "/local/domain/%u/" XEN_NODE_SOURCE,
		 s->domid);
	xen_source_mark_text(s, XEN_MARK_ASKED, mark);
	now = xs_read(xs, t, path, &len);
	if (now && *now && strcmp(now, "suspend")) {
		log_debug("%s: `%s' is already asked of it", s->name, now);
		xs_transaction_end(xs, t, true);
		return -EBUSY;
	}
	if (!xs_write(xs, t, path, "suspend", 7) ||
	    !xs_write(xs, t, node, mark, (unsigned int)strlen(mark))) {
		rc = -errno;
		xs_transaction_end(xs, t, true);
		return rc;
	}
	return transaction_end(s->host, t);
}

static int ask(struct guest_source *s)
{
	int rc = 0;

	for (int i = 0; i < TRANSACTION_TRIES && rc == 0; i++)
		rc = ask_once(s);
	return rc > 0 ? 0 : rc < 0 ? rc : -EAGAIN;
}

static void drain(struct guest_source *s, const struct pollfd *p)
{
	xenevtchn_port_or_error_t port;
	char **event;

	if (p[0].revents & POLLIN) {
		port = xenevtchn_pending(s->evtchn);
		if (port >= 0)
			xenevtchn_unmask(s->evtchn, (evtchn_port_t)port);
	}
	if (p[1].revents & POLLIN)
		while ((event = xs_check_watch(s->watch)))
			free(event);
}

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
		drain(s, p);
	}
}

static void came(struct guest_source *s)
{
	/* A late one has come: a request made after it still stands. */
	if (s->late_until_us)
		xen_withdraw(s->host, s->domid);
	s->late_until_us = 0;
	s->suspended = true;
	s->was_suspended = true;
}

static int give_up(struct guest_source *s, int why)
{
	int rc = xen_withdraw(s->host, s->domid);

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
	s->late_until_us = clock_now_us() + LATE_US;
	log_debug("%s: acknowledged the suspend request, but has not"
		  " suspended",
		  s->name);
	return why;
}

int xen_source_suspend(struct guest_source *s, uint64_t timeout_us)
{
	uint64_t end_us = clock_now_us() + timeout_us;
	int rc = xen_query(s->host, s->domid, &s->state);

	if (rc < 0)
		return rc;
	if (xen_source_cancelled(s))
		return -ECANCELED;
	if (s->state.status == GUEST_SUSPENDED && !s->late_until_us) {
		log_warn("%s: suspended by something other than colod (xl"
			 " save?); waiting for it",
			 s->name);
		return -ETIMEDOUT;
	}
	if (s->state.status == GUEST_RUNNING) {
		rc = ask(s);
		if (rc == 0)
			rc = await(s, end_us);
		else if (rc == -EBUSY)
			return -ETIMEDOUT;
		if (rc < 0)
			rc = give_up(s, rc);
		if (rc < 0)
			return rc;
	}
	if (s->state.status != GUEST_SUSPENDED)
		return -ESHUTDOWN;
	came(s);
	return 0;
}

int xen_resume_fast(struct xen_host *h, uint32_t domid)
{
	struct xen_state st;
	int rc = -EIO;

	for (int i = 0; i < RESUME_TRIES; i++) {
		if (xc_domain_resume(h->xc, domid, 1) == 0) {
			if (!xs_resume_domain(h->xs, domid))
				log_debug("domain %u: telling xenstored of the"
					  " resume: %s",
					  domid, strerror(errno));
			return 0;
		}
		rc = -errno;
		if (xen_query(h, domid, &st) == 0) {
			if (st.status == GUEST_RUNNING)
				return 0;
			if (st.status != GUEST_SUSPENDED)
				return -ESHUTDOWN;
		}
		if (i == 0)
			log_error("domain %u is suspended and does not resume:"
				  " %s; trying again",
				  domid, xen_host_why(h).text);
		clock_sleep_us(RESUME_RETRY_US);
	}
	log_error("domain %u cannot be resumed: %s; it stands still", domid,
		  strerror(-rc));
	return rc;
}

int xen_source_resume(struct guest_source *s)
{
	int rc;

	if (!s->suspended)
		return 0;
	rc = xen_resume_fast(s->host, s->domid);
	if (rc < 0)
		return rc;
	s->suspended = false;
	if (s->marked)
		xen_source_mark(s, XEN_MARK_IDLE);
	return 0;
}

bool xen_source_resume_late(struct guest_source *s)
{
	if (!s->late_until_us || s->suspended)
		return false;
	if (xen_query(s->host, s->domid, &s->state) < 0 ||
	    s->state.status != GUEST_SUSPENDED) {
		if (clock_now_us() > s->late_until_us) {
			s->late_until_us = 0;
			xen_source_mark(s, XEN_MARK_IDLE);
		}
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
		clock_sleep_us(RESUME_RETRY_US);
	}
	s->late_until_us = 0;
}

/* The port of an earlier colod, if it can be bound again. */
static int bind_known_port(struct guest_source *s)
{
	AUTO_FREE char *text = xen_node_read(s->host, s->domid, XEN_NODE_PORT);
	int port = text ? atoi(text) : 0;

	if (port <= 0)
		return -ENOENT;
	s->local_port = xenevtchn_bind_interdomain(s->evtchn, s->domid,
						   (evtchn_port_t)port);
	if (s->local_port < 0)
		return -errno;
	s->guest_port = port;
	return 0;
}

static int bind_new_port(struct guest_source *s)
{
	char text[16];
	int port = xc_evtchn_alloc_unbound(s->host->xc, s->domid, 0);

	if (port < 0)
		return -errno;
	s->local_port = xenevtchn_bind_interdomain(s->evtchn, s->domid,
						   (evtchn_port_t)port);
	if (s->local_port < 0)
		return -errno;
	s->guest_port = port;
	snprintf(text, sizeof(text), "%d", port);
	return xen_node_write(s->host, s->domid, XEN_NODE_PORT, text);
}

int xen_source_bind(struct guest_source *s)
{
	int rc;

	if (s->local_port >= 0)
		return 0;
	rc = bind_known_port(s);
	if (rc < 0)
		rc = bind_new_port(s);
	if (rc < 0)
		log_error("%s: binding an event channel: %s", s->name,
			  strerror(-rc));
	return rc;
}

void xen_source_unbind(struct guest_source *s)
{
	if (s->local_port >= 0)
		xenevtchn_unbind(s->evtchn, (evtchn_port_t)s->local_port);
	s->local_port = -1;
	s->guest_port = -1;
}

int xen_source_subscribe(struct guest_source *s)
{
	if (xc_domain_subscribe_for_suspend(s->host->xc, s->domid,
					    (evtchn_port_t)s->guest_port))
		return -errno;
	return 0;
}

/* Port 0 unsubscribes (Xen, domain.c: suspend_evtchn). */
void xen_source_unsubscribe(struct guest_source *s)
{
	if (xc_domain_subscribe_for_suspend(s->host->xc, s->domid, 0))
		log_debug("%s: unsubscribing: %s", s->name, strerror(errno));
}
