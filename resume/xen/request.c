/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event channel by which a guest offers to be asked to suspend.
 *
 * The happy path: the guest's module publishes a port of its own in
 * device/suspend/event-channel; a watch tells us, so that before a suspend the
 * node is read only where it changed; libxc's lock is taken, the port bound,
 * and an event sent to it asks the guest.
 * Failure modes, all of which leave xenstore as the way to ask:
 *   - nothing is offered, or not any more;
 *   - the node holds no port, or a port that is not waiting for domain 0: an
 *     old offer, whose number may be a device's by now;
 *   - another tool holds the lock: tried again before each suspend;
 *   - the guest has closed the port and left the node: seen before an event is
 *     sent into the void.
 * A guest that offers the port of a device of its own, not yet connected, harms
 * that device and nobody else.
 *
 * While libxl makes an image it does all this itself, and fails where it cannot
 * bind what the node holds; so an offer that is of no use to anybody is cleared
 * before.
 */
#include "config.h"

#include "resume/xen/source.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "resume/xen/lock.h"
#include "resume/xen/offer.h"

/*
 * A guest that offers and withdraws all the time does not fill the log: it gets
 * so many lines, and a further one each ten seconds.
 */
#define TELL_US INT64_C(10000000)
#define TELL_LINES 10

/* -EINVAL: rubbish; 0: nothing; or the port. */
static int read_offer(struct xen_host *h, uint32_t domid)
{
	AUTO_FREE char *text = NULL;
	char path[64];
	unsigned int len;

	snprintf(path, sizeof(path), "/local/domain/%u/" XEN_NODE_OFFER, domid);
	text = xs_read(h->xs, XBT_NULL, path, &len);
	if (!text)
		return errno == ENOENT ? 0 : -errno;
	return xen_offer_parse(text, len);
}

/*
 * -ENOTCONN: the port does not wait for us to bind it.  One that domain 0 has
 * bound already passes where `bound` is true.
 */
static int check_port(struct xen_host *h, uint32_t domid, int port, bool bound)
{
	xc_evtchn_status_t st = { .dom = (domid_t)domid,
				  .port = (evtchn_port_t)port };

	if (xc_evtchn_status(xen_call(h), &st))
		return -errno;
	if (st.status == EVTCHNSTAT_unbound && st.u.unbound.dom == 0)
		return 0;
	if (bound && st.status == EVTCHNSTAT_interdomain &&
	    st.u.interdomain.dom == 0)
		return 0;
	return -ENOTCONN;
}

int xen_request_offered(struct xen_host *h, uint32_t domid)
{
	int port = read_offer(h, domid);
	int rc;

	if (port <= 0)
		return port;
	rc = check_port(h, domid, port, true);
	return rc < 0 ? rc : port;
}

int xen_request_watch(struct guest_source *s)
{
	char path[64];

	if (s->manner.ask != GUEST_ASK_AUTO &&
	    s->manner.ask != GUEST_ASK_EVTCHN)
		return 0;
	snprintf(path, sizeof(path), "/local/domain/%u/" XEN_NODE_OFFER,
		 s->domid);
	s->request.changed = true;
	s->request.watched = xs_watch(s->watch, path, XEN_TOKEN_OFFER);
	return s->request.watched ? 0 : -errno;
}

void xen_request_drop(struct guest_source *s)
{
	struct xen_request *r = &s->request;

	if (r->local_port >= 0)
		xenevtchn_unbind(xen_port(s), (evtchn_port_t)r->local_port);
	r->local_port = -1;
	r->changed = true;
}

static void unlock(struct guest_source *s)
{
	xen_suspend_unlock(XEN_RUN_DIR, s->domid, s->request.lock_fd);
	s->request.lock_fd = -1;
}

void xen_request_unbind(struct guest_source *s)
{
	xen_request_drop(s);
	unlock(s);
}

static int bind_request(struct guest_source *s)
{
	struct xen_request *r = &s->request;
	int rc;

	if (r->lock_fd < 0)
		r->lock_fd = xen_suspend_lock(XEN_RUN_DIR, s->domid);
	if (r->lock_fd < 0)
		return r->lock_fd;
	rc = check_port(s->host, s->domid, r->offered, false);
	if (rc < 0)
		return rc;
	r->local_port = xenevtchn_bind_interdomain(xen_port(s), s->domid,
						   (evtchn_port_t)r->offered);
	return r->local_port < 0 ? -errno : 0;
}

void xen_request_follow(struct guest_source *s)
{
	struct xen_request *r = &s->request;
	bool changed = r->changed;

	if (!r->watched)
		return;
	if (changed) {
		/* Where the number is the same the port may still be new. */
		xen_request_drop(s);
		r->changed = false;
		r->error = 0;
		r->offered = read_offer(s->host, s->domid);
		if (r->offered < 0)
			r->error = r->offered;
	}
	/* Nothing tells us when a lock is let go. */
	if (r->local_port < 0 && r->offered > 0 &&
	    (changed || r->error == -EBUSY))
		r->error = bind_request(s);
	if (r->local_port < 0 && r->lock_fd >= 0)
		unlock(s);
}

bool xen_request_alive(struct guest_source *s)
{
	xc_evtchn_status_t st = { .dom = DOMID_SELF };

	if (s->request.local_port < 0)
		return false;
	st.port = (evtchn_port_t)s->request.local_port;
	if (xc_evtchn_status(xen_call(s->host), &st) == 0 &&
	    st.status == EVTCHNSTAT_interdomain)
		return true;
	/* Until it offers another one. */
	xen_request_unbind(s);
	s->request.changed = false;
	s->request.error = -ENOTCONN;
	return false;
}

static const char *why_not(int error)
{
	switch (error) {
	case 0:
		return "it offers no event channel";
	case -EINVAL:
		return "what it offers as its event channel is no port";
	case -EBUSY:
		return "another tool (xl save?) holds its event channel";
	case -ENOTCONN:
		return "the event channel that it offers is not there";
	default:
		return strerror(-error);
	}
}

static void tell(const struct guest_source *s, enum guest_ask way)
{
	const struct xen_request *r = &s->request;

	if (way == GUEST_ASK_EVTCHN)
		log_info("%s is asked to suspend by its event channel, port %d",
			 s->name, r->offered);
	else if (way == GUEST_ASK_TOOLSTACK)
		log_info("%s is suspended by the toolstack, without being"
			 " asked",
			 s->name);
	else if (s->manner.ask == GUEST_ASK_XENSTORE)
		log_info("%s is asked to suspend through xenstore", s->name);
	else if (r->error == 0 && s->manner.ask == GUEST_ASK_AUTO)
		log_info("%s is asked to suspend through xenstore: %s", s->name,
			 why_not(0));
	else
		log_warn("%s is asked to suspend through xenstore: %s", s->name,
			 why_not(r->error));
}

void xen_request_tell(struct guest_source *s, enum guest_ask way)
{
	int64_t now_us = (int64_t)clock_now_us();
	int64_t floor_us = now_us - TELL_LINES * TELL_US;
	struct xen_request *r = &s->request;

	if (way == r->told_way &&
	    (way == GUEST_ASK_EVTCHN || r->error == r->told_error))
		return;
	if (r->told_until_us > now_us)
		return;
	if (r->told_until_us < floor_us)
		r->told_until_us = floor_us;
	r->told_until_us += TELL_US;
	r->told_way = way;
	r->told_error = r->error;
	tell(s, way);
}

void xen_offer_check(struct guest_source *s)
{
	int port = read_offer(s->host, s->domid);
	int lock, rc = port;

	if (port == 0)
		return;
	lock = xen_suspend_lock(XEN_RUN_DIR, s->domid);
	if (lock < 0)
		return; /* in use */
	if (port > 0)
		rc = check_port(s->host, s->domid, port, false);
	if (rc < 0) {
		log_warn("%s: %s, and an image cannot be made with it: the"
			 " offer is cleared",
			 s->name, why_not(rc));
		xen_node_write(s->host, s->domid, XEN_NODE_OFFER, "");
	}
	xen_suspend_unlock(XEN_RUN_DIR, s->domid, lock);
}
