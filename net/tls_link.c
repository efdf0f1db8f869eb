/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a TLS link, and its face.
 *
 *   START -> CONNECTING -> HANDSHAKE -> UP -> CLOSING -> LINGER -> ENDED
 *
 * START and CONNECTING are the connecting side's only.  LINGER is also where a
 * TLS failure goes, because the peer should read the alert.  Any state may go
 * to ENDED; there the operations are cancelled, and when the last one has
 * reported, `down` is called and the link is freed.
 *
 * Calls of the user only queue and schedule.  Callbacks are made by the
 * loop's turn alone (an operation's completion, or the `work` timer), so a
 * callback may call anything here and the link outlives it.
 */
#include "config.h"

#include "net/link_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

void queue_put(struct frame_queue *q, struct frame_buf *b)
{
	b->next = NULL;
	if (!q->head)
		q->end = &q->head;
	*q->end = b;
	q->end = &b->next;
}

struct frame_buf *queue_take(struct frame_queue *q)
{
	struct frame_buf *b = q->head;

	if (b)
		q->head = b->next;
	return b;
}

static void queue_release(struct frame_queue *q)
{
	struct frame_buf *b;

	while ((b = queue_take(q)))
		b->release(b);
}

static bool established(const struct tls_link *l)
{
	return l->state == LINK_UP || l->state == LINK_CLOSING;
}

void link_schedule(struct tls_link *l)
{
	if (!l->work.armed)
		loop_timer_start(l->loop, &l->work, 0);
}

void link_deadline(struct tls_link *l, uint64_t us)
{
	loop_timer_start(l->loop, &l->deadline, clock_now_us() + us);
}

static void set_reason(struct tls_link *l, int err, const char *fmt, va_list ap)
{
	l->err = err;
	vsnprintf(l->why, sizeof(l->why), fmt, ap);
}

void link_end(struct tls_link *l, int err, const char *fmt, ...)
{
	va_list ap;

	if (l->state == LINK_ENDED)
		return;
	if (l->state != LINK_LINGER || (err && !l->err)) {
		va_start(ap, fmt);
		set_reason(l, err, fmt, ap);
		va_end(ap);
	}
	l->state = LINK_ENDED;
	loop_timer_stop(l->loop, &l->deadline);
	/*
	 * A request that the kernel has tried often enough blocks in a thread
	 * of the kernel's, where a cancellation may miss it; this does not.
	 */
	if (l->send_op.busy || l->recv_op.busy)
		shutdown(l->fd, SHUT_RDWR);
	loop_cancel(l->loop, &l->connect_op);
	loop_cancel(l->loop, &l->send_op);
	loop_cancel(l->loop, &l->recv_op);
	link_schedule(l);
}

void link_linger(struct tls_link *l, int err, const char *fmt, ...)
{
	va_list ap;

	if (l->state == LINK_ENDED || l->state == LINK_LINGER)
		return;
	va_start(ap, fmt);
	set_reason(l, err, fmt, ap);
	va_end(ap);
	l->state = LINK_LINGER;
	/* Closing keeps the deadline it has. */
	if (err)
		link_deadline(l, LINK_LINGER_US);
	link_schedule(l);
}

static void link_finish(struct tls_link *l)
{
	if (l->connect_op.busy || l->send_op.busy || l->recv_op.busy)
		return;
	if (l->fd >= 0)
		close(l->fd);
	if (l->sending)
		l->sending->release(l->sending);
	queue_release(&l->urgent);
	queue_release(&l->bulk);
	l->queued_bytes = 0;
	if (l->listener)
		listener_failed(l->listener, l);
	else if (l->events)
		l->events->down(l->arg, &l->link, l->err, l->why);
	/* Whatever the callbacks sent to a link that was down already. */
	queue_release(&l->refused);
	loop_timer_stop(l->loop, &l->work);
	if (l->addresses)
		freeaddrinfo(l->addresses);
	tls_free(l->tls);
	free(l->payload);
	free(l);
}

static void link_work(void *arg)
{
	struct tls_link *l = arg;

	switch (l->state) {
	case LINK_START:
		link_resolve(l);
		break;
	case LINK_CONNECTING:
		break;
	case LINK_HANDSHAKE:
		if (!l->recv_op.busy)
			link_handshake(l);
		break;
	case LINK_UP:
	case LINK_CLOSING:
		link_pump(l);
		if (established(l) && !l->recv_op.busy)
			link_read(l);
		break;
	case LINK_LINGER:
		link_linger_on(l);
		break;
	case LINK_ENDED:
		link_finish(l);
		break;
	}
}

static void deadline_passed(void *arg)
{
	struct tls_link *l = arg;
	unsigned long seconds =
		(unsigned long)((l->setup_timeout_us + 999999) / 1000000);

	switch (l->state) {
	case LINK_START:
	case LINK_CONNECTING:
		link_end(l, -ETIMEDOUT, "no answer within %lu s", seconds);
		break;
	case LINK_HANDSHAKE:
		link_end(l, -ETIMEDOUT,
			 "the TLS handshake was not finished within %lu s",
			 seconds);
		break;
	case LINK_UP:
		/* See link_sent(): sending failed, receiving said nothing. */
		link_end(l, l->send_err, "connection lost: %s",
			 strerror(-l->send_err));
		break;
	case LINK_CLOSING:
		link_end(l, -ETIMEDOUT,
			 "the peer did not take all that was queued");
		break;
	case LINK_LINGER:
		link_end(l, l->fin_sent ? 0 : -ETIMEDOUT,
			 "the peer did not take all that was queued");
		break;
	case LINK_ENDED:
		break;
	}
}

void tls_link_setup_timeout(struct tls_link *l, uint64_t us)
{
	l->setup_timeout_us = us;
	if (l->state <= LINK_HANDSHAKE)
		loop_timer_start(l->loop, &l->deadline, l->setup_start_us + us);
}

/* ---- what net/link.h offers --------------------------------------------- */

static void setup_timeout(struct link *link, uint64_t us)
{
	tls_link_setup_timeout(tls_link_of(link), us);
}

static void congestion(struct link *link, const char *name)
{
	struct tls_link *l = tls_link_of(link);

	snprintf(l->congestion, sizeof(l->congestion), "%s", name);
}

static void max_rate(struct link *link, uint64_t bytes_per_s)
{
	tls_link_of(link)->max_rate = bytes_per_s;
}

static void send_frame(struct link *link, struct frame_buf *b)
{
	struct tls_link *l = tls_link_of(link);

	if (l->state > LINK_UP) {
		queue_put(&l->refused, b);
		return;
	}
	queue_put(link_is_urgent(b->type) ? &l->urgent : &l->bulk, b);
	l->queued_bytes += b->length;
	if (l->queued_bytes > LINK_QUEUE_LOW)
		l->above_low = true;
	if (l->state == LINK_UP)
		link_schedule(l);
}

static size_t queued(const struct link *link)
{
	return tls_link_of(link)->queued_bytes;
}

static void pause_reading(struct link *link, bool paused)
{
	struct tls_link *l = tls_link_of(link);

	l->paused = paused;
	if (!paused && l->state == LINK_UP)
		link_schedule(l);
}

static void close_link(struct link *link)
{
	struct tls_link *l = tls_link_of(link);

	if (l->state >= LINK_CLOSING)
		return;
	if (l->state != LINK_UP) {
		link_end(l, 0, "closed before it was established");
		return;
	}
	l->state = LINK_CLOSING;
	link_deadline(l, LINK_CLOSE_TIMEOUT_US);
	link_schedule(l);
}

static void abort_link(struct link *link, const char *why)
{
	link_end(tls_link_of(link), -ECONNABORTED, "%s", why);
}

static const char *peer_name(const struct link *link)
{
	return tls_peer_name(tls_link_of(link)->tls);
}

static const char *peer_address(const struct link *link)
{
	return tls_link_of(link)->peer_address;
}

static uint64_t bytes_sent(const struct link *link)
{
	return tls_link_of(link)->bytes_sent;
}

static uint64_t bytes_received(const struct link *link)
{
	return tls_link_of(link)->bytes_received;
}

static const struct link_ops ops = {
	.setup_timeout = setup_timeout,
	.congestion = congestion,
	.max_rate = max_rate,
	.send = send_frame,
	.queued = queued,
	.pause = pause_reading,
	.close = close_link,
	.abort = abort_link,
	.peer_name = peer_name,
	.peer_address = peer_address,
	.bytes_sent = bytes_sent,
	.bytes_received = bytes_received,
};

struct tls_link *link_new(struct loop *loop, const struct tls_identity *id,
			  bool server, const char *expected_name)
{
	struct tls_link *l = memory_zeroed(sizeof(*l));

	if (!l)
		return NULL;
	l->loop = loop;
	l->fd = -1;
	l->work = (struct loop_timer){ .fn = link_work, .arg = l };
	l->deadline = (struct loop_timer){ .fn = deadline_passed, .arg = l };
	l->connect_op = (struct loop_op){ .fn = link_connected, .arg = l };
	l->send_op = (struct loop_op){ .fn = link_sent, .arg = l };
	l->recv_op = (struct loop_op){ .fn = link_received, .arg = l };
	if (tls_new(id, server, expected_name, &l->tls)) {
		free(l);
		return NULL;
	}
	l->setup_start_us = clock_now_us();
	l->link.ops = &ops;
	return l;
}

struct link *link_connect(struct loop *loop, const struct tls_identity *id,
			  const char *host, uint16_t port,
			  const struct link_events *events, void *arg)
{
	struct tls_link *l = link_new(loop, id, false, host);

	if (!l)
		return NULL;
	l->events = events;
	l->arg = arg;
	snprintf(l->host, sizeof(l->host), "%s", host);
	snprintf(l->port, sizeof(l->port), "%u", port);
	snprintf(l->peer_address, sizeof(l->peer_address), "%s", host);
	l->state = LINK_START;
	tls_link_setup_timeout(l, LINK_SETUP_TIMEOUT_US);
	link_schedule(l);
	return &l->link;
}
