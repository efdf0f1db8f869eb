/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network between the two hosts: net/link.h as a model.
 *
 * A connection has two ends, and each learns of its end by itself: by a FIN or
 * RST that the other end sends, by a break that is noticed, or never.  Frames
 * keep their order in two classes, control (which overtakes) and bulk.  A cut
 * of one direction holds what travels there, as TCP would send it again; only
 * a broken connection loses it.  What was sent before a connection broke may
 * still arrive after the next one has been made.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

enum {
	CLOSE_TIMEOUT_US = 2 * SEC, /* net/link.h */
	SETUP_TIMEOUT_US = 5 * SEC,
};

/* --- messages ----------------------------------------------------------- */

static bool is_bulk(uint16_t type)
{
	return type != WIRE_HELLO && type != WIRE_HEARTBEAT &&
	       type != WIRE_ACK && type != WIRE_BYE && type != SIM_ARRIVE &&
	       type != SIM_RST;
}

static void forget(struct world *w, unsigned int index)
{
	w->message_count--;
	memmove(&w->messages[index], &w->messages[index + 1],
		(w->message_count - index) * sizeof(w->messages[0]));
}

static bool is_waiting(const struct world *w, const struct message *m)
{
	unsigned int i;

	for (i = 0; i < w->message_count; i++)
		if (w->messages[i].type == m->type &&
		    w->messages[i].conn == m->conn &&
		    w->messages[i].from == m->from &&
		    (w->any_order || w->messages[i].due_us <= w->now_us))
			return true;
	return false;
}

static void put(struct world *w, struct message *m)
{
	if (w->conns[m->conn].broken || !w->host[!m->from].up)
		return;
	/* One that waits says all that those behind it would. */
	if ((m->type == WIRE_HEARTBEAT || m->type == SIM_RST) &&
	    is_waiting(w, m))
		return;
	if (w->message_count == MESSAGES) {
		sim_violate(w, "6: frames pile up on the link");
		return;
	}
	m->due_us = w->now_us + (uint64_t)w->cfg.delay_us;
	if (m->bulk) {
		uint64_t *until = &w->bulk_until_us[m->from];

		if (*until < w->now_us)
			*until = w->now_us;
		*until += (uint64_t)w->cfg.bulk_us;
		m->due_us = *until + (uint64_t)w->cfg.delay_us;
	}
	w->messages[w->message_count++] = *m;
}

void link_plain(struct world *w, unsigned int from, unsigned int conn,
		uint16_t type)
{
	struct message m = { .type = type,
			     .conn = (uint8_t)conn,
			     .from = (uint8_t)from,
			     .bulk = is_bulk(type) };

	put(w, &m);
}

/* Texts are for people; here they are cut to what a message has room for. */
static void cut_text(struct frame_buf *b)
{
	struct wire_bye bye;

	if (b->type != WIRE_BYE || b->length <= PAYLOAD)
		return;
	memcpy(&bye, frame_payload(b), sizeof(bye));
	bye.text_length = PAYLOAD - sizeof(bye);
	memcpy(frame_payload(b), &bye, sizeof(bye));
	b->length = PAYLOAD;
}

void link_post(struct world *w, unsigned int from, unsigned int conn,
	       struct frame_buf *b, struct history at, uint32_t pages)
{
	struct message m = { .type = b->type,
			     .epoch = b->epoch,
			     .at = at,
			     .pages = pages,
			     .conn = (uint8_t)conn,
			     .from = (uint8_t)from,
			     .bulk = is_bulk(b->type) };

	cut_text(b);
	if (b->length > PAYLOAD)
		abort();
	m.length = (uint8_t)b->length;
	memcpy(m.payload, frame_payload(b), b->length);
	b->release(b);
	if (m.bulk && w->corrupt_next && from == A && m.type != WIRE_DOMAIN) {
		w->corrupt_next = false;
		m.corrupt = true;
	}
	put(w, &m);
}

/* One class keeps its order; control overtakes bulk, never the other way. */
bool link_deliverable(const struct world *w, unsigned int index)
{
	const struct message *m = &w->messages[index];
	unsigned int i;

	if (w->cut[m->from] || !w->host[!m->from].up ||
	    w->host[!m->from].stopped)
		return false;
	for (i = 0; i < index; i++)
		if (w->messages[i].conn == m->conn &&
		    w->messages[i].from == m->from &&
		    (m->bulk || !w->messages[i].bulk))
			return false;
	return m->from == B || b_reads(w, m);
}

/* --- connections -------------------------------------------------------- */

static void end_is_gone(struct world *w, unsigned int host, unsigned int conn)
{
	struct conn *c = &w->conns[conn];

	c->end[host] = END_NONE;
	c->notice_us[host] = 0;
	if (host == B)
		c->beat_us = 0;
}

/* What is on its way to an end that is no more. */
void link_sweep(struct world *w)
{
	unsigned int i, n;

	for (n = w->message_count; n-- > 0;)
		if (!w->host[!w->messages[n].from].up)
			forget(w, n);
	for (i = 0; i < CONNS; i++) {
		struct conn *c = &w->conns[i];

		if (!c->used || c->end[A] || c->end[B])
			continue;
		for (n = w->message_count; n-- > 0;)
			if (w->messages[n].conn == i)
				forget(w, n);
		memset(c, 0, sizeof(*c));
	}
}

static bool path_open(const struct world *w)
{
	return !w->cut[A] && !w->cut[B] && w->host[B].up;
}

void link_connect_a(struct world *w)
{
	struct conn *c;
	unsigned int i = 0;

	while (i < CONNS && w->conns[i].used)
		i++;
	if (i == CONNS) {
		sim_violate(w, "6: connections pile up");
		return;
	}
	c = &w->conns[i];
	c->used = true;
	c->end[A] = END_SETUP;
	c->setup_us = sim_in(w, 2 * (uint64_t)w->cfg.delay_us);
	if (!path_open(w) || w->host[B].stopped) {
		c->setup_error = -ETIMEDOUT;
		c->setup_us = w->now_us + SETUP_TIMEOUT_US;
	} else if (!w->host[B].colod || w->host[B].finishing) {
		c->setup_error = -ECONNREFUSED;
	}
	w->host[A].link = (int)i;
}

void link_setup_done(struct world *w, unsigned int conn)
{
	struct conn *c = &w->conns[conn];

	c->setup_us = 0;
	if (!c->setup_error && (!path_open(w) || !w->host[B].colod))
		c->setup_error = -ECONNRESET;
	if (c->setup_error) {
		c->error[A] = c->setup_error;
		c->notice_us[A] = sim_in(w, 0);
		return;
	}
	c->end[A] = c->end[B] = END_UP;
	link_plain(w, A, conn, SIM_ARRIVE);
	a_up(w, conn);
}

/* An end says goodbye behind what it has sent; the other hears it or not. */
void link_close_end(struct world *w, unsigned int host, unsigned int conn)
{
	struct conn *c = &w->conns[conn];

	if (c->end[host] != END_UP) {
		link_abort_end(w, host, conn);
		return;
	}
	c->end[host] = END_CLOSING;
	link_plain(w, host, conn, SIM_FIN);
	c->error[host] = 0;
	c->notice_us[host] = sim_in(w, w->cut[host] ? CLOSE_TIMEOUT_US : 0);
}

void link_abort_end(struct world *w, unsigned int host, unsigned int conn)
{
	struct conn *c = &w->conns[conn];

	if (c->end[host] == END_UP)
		link_plain(w, host, conn, SIM_RST);
	c->end[host] = END_CLOSING;
	c->setup_us = 0;
	c->error[host] = -ECONNABORTED;
	c->notice_us[host] = sim_in(w, 0);
}

void link_vanish(struct world *w, unsigned int host, bool silently)
{
	unsigned int i;

	/* What a cut holds is in the memory of the host that sends it again. */
	for (i = w->message_count; silently && i-- > 0;)
		if (w->messages[i].from == host && w->cut[host])
			forget(w, i);
	for (i = 0; i < CONNS; i++) {
		struct conn *c = &w->conns[i];

		if (!c->used || !c->end[host])
			continue;
		if (!silently && c->end[host] == END_UP)
			put(w, &(struct message){ .type = SIM_RST,
						  .conn = (uint8_t)i,
						  .from = (uint8_t)host,
						  .bulk = true });
		end_is_gone(w, host, i);
	}
	w->host[host].link = -1;
	w->host[host].link_ready = w->host[host].link_closing = false;
}

void link_break(struct world *w, bool a_notices, bool b_notices,
		uint64_t after_us)
{
	unsigned int i, host;

	for (i = 0; i < CONNS; i++) {
		struct conn *c = &w->conns[i];

		if (!c->used || c->end[A] == END_SETUP)
			continue;
		c->broken = true;
		for (host = 0; host < HOSTS; host++) {
			if (!c->end[host] || c->notice_us[host] ||
			    !(host == A ? a_notices : b_notices))
				continue;
			c->error[host] = -ECONNRESET;
			c->notice_us[host] = sim_in(w, after_us);
		}
	}
}

/* LINK_DOWN at this end. */
void link_notice(struct world *w, unsigned int host, unsigned int conn)
{
	int error = w->conns[conn].error[host];

	end_is_gone(w, host, conn);
	if (host == A)
		a_down(w, conn, error);
	else
		b_down(w, conn, error);
}

/* --- delivery ----------------------------------------------------------- */

static void ended_by_peer(struct world *w, unsigned int host,
			  const struct message *m)
{
	struct conn *c = &w->conns[m->conn];

	if (!c->end[host])
		return;
	c->error[host] = m->type == SIM_FIN ? 0 : -ECONNRESET;
	link_notice(w, host, m->conn);
}

static void frame_arrives(struct world *w, unsigned int host,
			  const struct message *m)
{
	static const struct event alive = { .type = EVENT_ALIVE };
	const struct frame f = {
		.type = m->type,
		.length = m->length,
		.epoch = m->epoch,
		.payload = m->payload,
	};

	if (w->host[host].link == (int)m->conn)
		sim_event(w, host, &alive);
	if (host == A)
		a_frame(w, &f);
	else
		b_frame(w, m->conn, &f, m);
}

void link_deliver(struct world *w, unsigned int index)
{
	const struct message m = w->messages[index];
	unsigned int host = !m.from;
	struct conn *c = &w->conns[m.conn];

	forget(w, index);
	if (m.type == WIRE_IMAGE && w->host[A].link == (int)m.conn)
		a_image_taken(w);
	if (m.type == SIM_FIN || m.type == SIM_RST)
		ended_by_peer(w, host, &m);
	else if (c->end[host] == END_NONE)
		link_plain(w, host, m.conn, SIM_RST); /* nobody is there */
	else if (c->end[host] == END_CLOSING)
		; /* thrown away */
	else if (m.type == SIM_ARRIVE)
		b_arrive(w, m.conn);
	else
		frame_arrives(w, host, &m);
}
