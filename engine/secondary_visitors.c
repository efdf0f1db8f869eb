/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections until one of them is admitted as the primary.
 *
 * A visitor is authenticated; it says HELLO, is greeted, says which domain it
 * protects, and is admitted or gets a BYE with the reason.  Few at a time, and
 * not for long.  Once admitted its link's events go to the daemon.
 *
 * One that comes while the standby of its domain is being removed waits for the
 * end of that: a primary that is started anew after a crash would else be told
 * that this side is busy, which nobody but this side can know the end of.
 */
#include "config.h"

#include "engine/secondary_daemon_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

enum {
	VISITORS_MAX = 8,
	PATIENCE_US = 15 * 1000 * 1000, /* until it names its domain */
	REMOVAL_US = 60 * 1000 * 1000,	/* of a standby */
};

struct visitor {
	struct secondary_daemon *sd;
	struct visitor *next;
	struct link *link;
	struct loop_timer beat;
	uint64_t until_us;
	bool greeted;
	bool waits; /* for a removal, and its link is paused */
	bool refused;
	bool admitted;
	struct hello hello;
	struct guest_description guest; /* of one that waits */
};

static void refuse(struct visitor *v, const struct bye *bye)
{
	struct frame_buf *frame = bye_encode(bye->reason, bye->text);

	log_warn("primary %s (%s) refused: %s%s%s", link_peer_name(v->link),
		 link_peer_address(v->link), wire_reason_text(bye->reason),
		 bye->text[0] ? ": " : "", bye->text);
	v->refused = true;
	if (frame)
		link_send(v->link, frame);
	link_close(v->link);
}

static void refuse_protocol(struct visitor *v, const char *why)
{
	struct bye bye = { .reason = WIRE_REASON_PROTOCOL };

	snprintf(bye.text, sizeof(bye.text), "%s", why);
	refuse(v, &bye);
}

static void on_hello(struct visitor *v, const struct frame *f)
{
	const struct secondary *machine = &v->sd->machine;
	struct frame_buf *frame;
	struct hello ours;
	struct bye bye = { 0 };
	const char *why;
	int err = hello_decode(f, &v->hello, &why);

	if (v->greeted || (err && err != -EPROTONOSUPPORT)) {
		refuse_protocol(v, v->greeted ? "a second HELLO" : why);
		return;
	}
	v->greeted = true;
	secondary_hello(machine, &ours);
	frame = hello_encode(&ours);
	if (frame)
		link_send(v->link, frame);
	if (!secondary_greet(machine, &v->hello, &bye))
		refuse(v, &bye);
}

static void forget(struct visitor *v)
{
	struct visitor **at = &v->sd->visitors;

	while (*at != v)
		at = &(*at)->next;
	*at = v->next;
	v->sd->visitor_count--;
	loop_timer_stop(v->sd->d.loop, &v->beat);
	guest_description_fini(&v->guest);
}

/* What it sends meanwhile stays in the connection; beat() says that we live. */
static void wait_for_removal(struct visitor *v, struct guest_description *guest)
{
	if (v->waits)
		return;
	log_info("%s waits until the standby of %s is removed",
		 link_peer_name(v->link), guest->name);
	v->waits = true;
	v->until_us = clock_now_us() + REMOVAL_US;
	v->guest = *guest;
	guest->config = NULL;
	link_pause(v->link, true);
}

static void go_on(struct visitor *v)
{
	if (!v->waits)
		return;
	v->waits = false;
	v->until_us = clock_now_us() + PATIENCE_US;
	link_pause(v->link, false);
}

/* Takes the description's configuration along where it keeps it. */
static void admit_or_refuse(struct visitor *v, struct guest_description *guest)
{
	struct secondary_daemon *sd = v->sd;
	struct bye bye = { 0 };

	if (secondary_admit(&sd->machine, guest, &bye)) {
		go_on(v);
		v->admitted = true;
		secondary_daemon_admit(sd, v->link, &v->hello, guest);
		forget(v);
		return;
	}
	secondary_called_again(&sd->machine, &v->hello);
	if (bye.reason == WIRE_REASON_BUSY && secondary_removes(&sd->machine) &&
	    (!v->waits || clock_now_us() < v->until_us)) {
		wait_for_removal(v, guest);
		return;
	}
	go_on(v);
	refuse(v, &bye);
}

static void on_domain(struct visitor *v, const struct frame *f)
{
	struct guest_description guest = { 0 };
	struct bye bye = { 0 };
	const char *why;

	if (!v->greeted || domain_decode(f, &guest, &why)) {
		refuse_protocol(v, v->greeted ? why : "DOMAIN before HELLO");
		return;
	}
	if (!guest_kind_of_wire(guest.kind)) {
		bye.reason = WIRE_REASON_REFUSED;
		snprintf(bye.text, sizeof(bye.text),
			 "this host cannot run a guest of kind %d",
			 (int)guest.kind);
		refuse(v, &bye);
	} else {
		admit_or_refuse(v, &guest);
	}
	guest_description_fini(&guest);
}

static void on_frame(void *arg, struct link *l, const struct frame *f)
{
	struct visitor *v = arg;

	(void)l;
	if (v->admitted) {
		secondary_daemon_frame(v->sd, f);
		return;
	}
	if (v->refused)
		return;
	switch (f->type) {
	case WIRE_HELLO:
		on_hello(v, f);
		break;
	case WIRE_DOMAIN:
		on_domain(v, f);
		break;
	case WIRE_HEARTBEAT:
		break;
	case WIRE_BYE:
		link_close(v->link);
		break;
	default:
		if (!(f->type & WIRE_OPTIONAL))
			refuse_protocol(v, "neither HELLO nor DOMAIN");
	}
}

static void on_alive(void *arg, struct link *l)
{
	struct visitor *v = arg;

	(void)l;
	if (v->admitted)
		secondary_daemon_alive(v->sd);
}

static void on_drained(void *arg, struct link *l)
{
	struct visitor *v = arg;

	(void)l;
	if (v->admitted)
		secondary_daemon_drained(v->sd);
}

static void on_down(void *arg, struct link *l, int err, const char *why)
{
	struct visitor *v = arg;

	(void)l;
	if (v->admitted)
		secondary_daemon_down(v->sd, err, why);
	else
		forget(v);
	free(v);
}

/* It has to see that we live while it makes up its mind. */
static void beat(void *arg)
{
	struct visitor *v = arg;
	uint64_t now = clock_now_us();

	if (v->waits) {
		admit_or_refuse(v, &v->guest);
		if (v->admitted)
			return;
	} else if (now > v->until_us) {
		link_abort(v->link, "it does not say which domain it protects");
		return;
	}
	if (v->greeted) /* HELLO is our first frame */
		link_send_empty(v->link, WIRE_HEARTBEAT, 0);
	loop_timer_start(v->sd->d.loop, &v->beat,
			 now + v->sd->machine.cfg.heartbeat_us);
}

static void on_up(void *arg, struct link *l)
{
	struct visitor *v = arg;

	log_info("connection from %s (%s)", link_peer_name(l),
		 link_peer_address(l));
	beat(v);
}

const struct link_events *secondary_visitor_arrived(void *arg, struct link *l,
						    void **link_arg)
{
	static const struct link_events events = {
		.up = on_up,
		.frame = on_frame,
		.alive = on_alive,
		.drained = on_drained,
		.down = on_down,
	};
	const struct link_events *given = &events;
	struct secondary_daemon *sd = arg;
	struct visitor *v = NULL;

	if (sd->visitor_count < VISITORS_MAX && !sd->finishing)
		v = memory_zeroed(sizeof(*v));
	if (!v)
		return NULL;
	v->sd = sd;
	*link_arg = v;
	v->link = daemon_filter(&sd->d, l, &given, link_arg);
	if (!v->link) {
		free(v);
		return NULL;
	}
	v->beat.fn = beat;
	v->beat.arg = v;
	v->until_us = clock_now_us() + PATIENCE_US;
	v->next = sd->visitors;
	sd->visitors = v;
	sd->visitor_count++;
	return given;
}

void secondary_visitors_close(struct secondary_daemon *sd)
{
	struct visitor *v;

	for (v = sd->visitors; v; v = v->next)
		link_abort(v->link, "colod is stopping");
}
