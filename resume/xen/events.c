/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event channels of a source, and what wakes it.
 *
 * Two ports, both ends of one handle of ours.  The *completion* port is our own
 * (s->guest_port in the guest, s->local_port here): Xen is subscribed to send
 * an event to it when the domain has suspended, whoever asked it and however,
 * without the guest's help.  The *request* port is the guest's (request.c).
 * Watches come by s->watch, told apart by their tokens.
 *
 * Failure modes: an event is lost, or another tool has subscribed in our place:
 * the wait looks at the domain's state besides, and a suspend that was not told
 * of makes us subscribe anew.  A guest that sends events to the request port
 * wakes nobody: that port is never unmasked here.
 */
#include "config.h"

#include "resume/xen/source.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "resume/xen/offer.h"

int xen_events_open(struct guest_source *s)
{
	s->evtchn = xenevtchn_open(s->host->log, 0);
	s->watch = xs_open(0);
	if (s->evtchn && s->watch &&
	    xs_watch(s->watch, "@releaseDomain", XEN_TOKEN_RELEASE))
		return 0;
	return errno ? -errno : -EIO;
}

void xen_events_close(struct guest_source *s)
{
	if (s->watch)
		xs_close(s->watch);
	if (s->evtchn)
		xenevtchn_close(s->evtchn);
}

void xen_events_take(struct guest_source *s)
{
	struct pollfd p = { .fd = xenevtchn_fd(s->evtchn), .events = POLLIN };
	xenevtchn_port_or_error_t port;

	while (poll(&p, 1, 0) > 0) {
		port = xenevtchn_pending(s->evtchn);
		if (port < 0)
			return;
		if (port != s->local_port)
			continue;
		s->told = true;
		xenevtchn_unmask(xen_port(s), (evtchn_port_t)port);
	}
}

void xen_watches_take(struct guest_source *s)
{
	char **event;

	while ((event = xs_check_watch(s->watch))) {
		if (!strcmp(event[XS_WATCH_TOKEN], XEN_TOKEN_OFFER))
			s->request.changed = true;
		free(event);
	}
}

static int bind_port(struct guest_source *s, int port)
{
	s->local_port = xenevtchn_bind_interdomain(xen_port(s), s->domid,
						   (evtchn_port_t)port);
	if (s->local_port < 0)
		return -errno;
	s->guest_port = port;
	return 0;
}

/* The port of an earlier colod, if it can be bound again. */
static int bind_known_port(struct guest_source *s)
{
	AUTO_FREE char *text = xen_node_read(s->host, s->domid, XEN_NODE_PORT);
	int port = text ? xen_offer_parse(text, strlen(text)) : 0;

	return port > 0 ? bind_port(s, port) : -ENOENT;
}

static int bind_new_port(struct guest_source *s)
{
	int port = xc_evtchn_alloc_unbound(xen_call(s->host), s->domid, 0);

	return port < 0 ? -errno : bind_port(s, port);
}

static int remember_port(struct guest_source *s)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", s->guest_port);
	return xen_node_write(s->host, s->domid, XEN_NODE_PORT, text);
}

int xen_source_bind(struct guest_source *s)
{
	int rc;

	if (s->local_port >= 0)
		return 0;
	rc = bind_known_port(s);
	if (rc < 0) {
		rc = bind_new_port(s);
		if (rc == 0)
			rc = remember_port(s);
	}
	if (rc < 0)
		log_error("%s: binding an event channel: %s", s->name,
			  strerror(-rc));
	return rc;
}

void xen_source_unbind(struct guest_source *s)
{
	if (s->local_port >= 0)
		xenevtchn_unbind(xen_port(s), (evtchn_port_t)s->local_port);
	s->local_port = -1;
	s->guest_port = -1;
}

int xen_source_subscribe(struct guest_source *s)
{
	if (xc_domain_subscribe_for_suspend(xen_call(s->host), s->domid,
					    (evtchn_port_t)s->guest_port))
		return -errno;
	return 0;
}

/* Port 0 unsubscribes (Xen, domain.c: suspend_evtchn). */
void xen_source_unsubscribe(struct guest_source *s)
{
	if (xc_domain_subscribe_for_suspend(xen_call(s->host), s->domid, 0))
		log_debug("%s: unsubscribing: %s", s->name, strerror(errno));
}

void xen_events_before_reset(struct guest_source *s)
{
	xen_source_unsubscribe(s);
	xen_source_unbind(s);
	xen_request_drop(s);
	/* Its number may be another device's soon. */
	xen_node_write(s->host, s->domid, XEN_NODE_OFFER, "");
}

int xen_events_after_reset(struct guest_source *s)
{
	int rc = s->local_port >= 0 ? 0 : bind_new_port(s);

	if (rc == 0)
		rc = xen_source_subscribe(s);
	if (rc == 0)
		return 0;
	log_warn("%s: no event channel after the reset: %s; its suspends are"
		 " found by polling",
		 s->name, strerror(-rc));
	/* The port of old may be the guest's own by now, and would be bound. */
	xen_node_remove(s->host, s->domid, XEN_NODE_PORT);
	xen_source_unbind(s);
	return rc;
}

int xen_events_after_resume(struct guest_source *s)
{
	if (s->local_port < 0)
		return 0;
	return remember_port(s);
}
