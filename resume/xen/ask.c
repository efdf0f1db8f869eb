/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking a domain to suspend, and taking that back.
 *
 *   - through xenstore: `suspend' is written to control/shutdown, the request
 *     of docs/misc/xenstore-paths.pandoc that every Linux guest follows, in one
 *     transaction with our own mark.  The guest clears it, which acknowledges
 *     it; as long as it has not, it is withdrawn in a transaction, for it may
 *     be acknowledged any moment;
 *   - by the guest's event channel (request.c): one event.  Nobody sees whether
 *     it was taken and nothing takes it back, so no other request is made until
 *     the guest has suspended or cannot be about to any more;
 *   - by the toolstack: its vCPUs are stopped where they are.
 * Failure modes: something else is asked of the guest (xl shutdown); xenstored
 * does not answer.
 */
#include "config.h"

#include "resume/xen/source.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <xen/sched.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "resume/xen/able.h"

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
	rc = transaction_end(s->host, t);
	if (rc == 1)
		s->marked = true;
	return rc;
}

static int ask_by_xenstore(struct guest_source *s)
{
	int rc = 0;

	for (int i = 0; i < TRANSACTION_TRIES && rc == 0; i++)
		rc = ask_once(s);
	return rc > 0 ? 0 : rc < 0 ? rc : -EAGAIN;
}

/* The mark first: a rescue must wait for what can no more be taken back. */
static int ask_by_event(struct guest_source *s)
{
	int rc = xen_source_mark(s, XEN_MARK_ASKED);

	if (rc < 0)
		return rc;
	if (xenevtchn_notify(xen_port(s), (evtchn_port_t)s->request.local_port))
		return -errno;
	s->signalled = true;
	return 0;
}

/* Drivers may have been loaded since it was first looked at. */
static int stop_by_force(struct guest_source *s)
{
	int rc;

	if (xen_takes_events(s->host, s->domid))
		return -ESTALE;
	rc = xen_source_mark(s, XEN_MARK_FORCED);
	if (rc < 0)
		return rc;
	s->forced = true;
	if (xc_domain_shutdown(xen_call(s->host), (int)s->domid,
			       SHUTDOWN_suspend))
		return -errno;
	return 0;
}

int xen_ask(struct guest_source *s)
{
	enum guest_ask way = GUEST_ASK_XENSTORE;

	xen_request_follow(s);
	if (s->manner.ask == GUEST_ASK_TOOLSTACK)
		way = GUEST_ASK_TOOLSTACK;
	else if (xen_request_alive(s))
		way = GUEST_ASK_EVTCHN;
	/*
	 * A suspend that may still come is waited for: with an event sent on
	 * top of it the guest would suspend once more, unasked.
	 */
	if (s->signalled || (s->late_until_us && way == GUEST_ASK_EVTCHN))
		return 0;
	xen_request_tell(s, way);
	s->phases = (struct guest_phases){ .asked = way };
	switch (way) {
	case GUEST_ASK_EVTCHN:
		return ask_by_event(s);
	case GUEST_ASK_TOOLSTACK:
		return stop_by_force(s);
	default:
		return ask_by_xenstore(s);
	}
}
