/* SPDX-License-Identifier: Apache-2.0 */
/* Who is let in: what a secondary answers to HELLO and to DOMAIN. */
#include "config.h"

#include "engine/secondary.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void secondary_hello(const struct secondary *s, struct hello *h)
{
	*h = (struct hello){
		.version = WIRE_VERSION,
		.role = WIRE_ROLE_SECONDARY,
		.payload_max = WIRE_PAYLOAD_MAX,
		.inflight_max = s->cfg.inflight,
		.heartbeat_us = (uint32_t)s->cfg.heartbeat_us,
		.session = s->session,
	};
	snprintf(h->host, sizeof(h->host), "%s", s->cfg.host);
}

static bool refuse(struct bye *bye, enum wire_reason reason, const char *fmt,
		   ...) __attribute__((format(printf, 3, 4)));

static bool refuse(struct bye *bye, enum wire_reason reason, const char *fmt,
		   ...)
{
	va_list ap;

	bye->reason = reason;
	va_start(ap, fmt);
	vsnprintf(bye->text, sizeof(bye->text), fmt, ap);
	va_end(ap);
	return false;
}

bool secondary_greet(const struct secondary *s, const struct hello *h,
		     struct bye *bye)
{
	(void)s;
	if (h->version != WIRE_VERSION)
		return refuse(bye, WIRE_REASON_VERSION,
			      "this side speaks version %d, the peer %u",
			      WIRE_VERSION, h->version);
	if (h->role != WIRE_ROLE_PRIMARY)
		return refuse(bye, WIRE_REASON_PROTOCOL,
			      "a secondary expects a primary");
	return true;
}

bool secondary_removes(const struct secondary *s)
{
	return s->state == SECONDARY_DISCARDING && !s->stop_asked;
}

/*
 * BUSY is for who may come again: there may still be a standby of that domain
 * here.  REFUSED says that there is none.  FAILED_OVER makes the peer stop its
 * guest, so it is said only when the guest does run here.
 */
bool secondary_admit(const struct secondary *s,
		     const struct guest_description *d, struct bye *bye)
{
	bool none = !s->domain[0];
	bool same = !none && memcmp(s->uuid, d->uuid, sizeof(s->uuid)) == 0;

	if (same && s->state == SECONDARY_ACTIVE)
		return refuse(bye, WIRE_REASON_FAILED_OVER, "%s runs on %s",
			      d->name, s->cfg.host);
	if (!s->link_up && s->state == SECONDARY_LISTENING && !s->fencing)
		return true;
	if (!s->link_up && same &&
	    (s->state == SECONDARY_LOST || s->state == SECONDARY_WAITING))
		return true;
	if (same || none)
		return refuse(bye, WIRE_REASON_BUSY, "%s here is %s", d->name,
			      secondary_state_text(s->state));
	return refuse(bye, WIRE_REASON_REFUSED, "this host is %s for %s",
		      secondary_state_text(s->state), s->domain);
}
