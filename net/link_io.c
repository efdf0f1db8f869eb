/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes in and out of a link.
 *
 * Out: frames wait in two queues.  TLS takes them a record at a time while its
 * output has room, the urgent queue first at each frame's end, and one send is
 * under way at a time.  What a heartbeat can wait for is therefore bounded: the
 * rest of one frame, TLS's output and what the kernel holds unsent.
 *
 * In: a receive goes straight into TLS's input.  A header is read alone and
 * checked before its payload is, into a buffer as long as the longest payload.
 * Receiving starts only when TLS has used up what it had (see net/tls.h).
 */
#include "config.h"

#include "net/link_impl.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

void link_flush(struct tls_link *l)
{
	const uint8_t *bytes;
	size_t len;

	if (l->send_op.busy || l->send_err)
		return;
	bytes = tls_send_bytes(l->tls, &len);
	if (bytes)
		loop_send(l->loop, &l->send_op, l->fd, bytes, len);
}

/* The next frame, with its header and sequence number. */
static bool take_frame(struct tls_link *l)
{
	struct frame_buf *b = queue_take(&l->urgent);

	if (!b)
		b = queue_take(&l->bulk);
	if (!b)
		return false;
	frame_header_encode(b, l->send_sequence++);
	l->sending = b;
	l->sending_at = 0;
	return true;
}

static void frame_done(struct tls_link *l)
{
	struct frame_buf *b = l->sending;

	l->sending = NULL;
	l->queued_bytes -= b->length;
	b->release(b);
}

static bool may_send(const struct tls_link *l)
{
	return (l->state == LINK_UP || l->state == LINK_CLOSING) &&
	       !l->send_err;
}

void link_pump(struct tls_link *l)
{
	char why[TLS_ERROR_BYTES];

	while (may_send(l) && (l->sending || take_frame(l))) {
		size_t len = WIRE_HEADER_BYTES + l->sending->length;
		ssize_t n = tls_write(l->tls, l->sending->bytes + l->sending_at,
				      len - l->sending_at, why);

		if (n == -EAGAIN)
			break;
		if (n < 0) {
			link_linger(l, (int)n, "%s", why);
			return;
		}
		l->sending_at += (size_t)n;
		if (l->sending_at == len)
			frame_done(l);
	}
	if (l->state == LINK_ENDED)
		return;
	if (l->state == LINK_CLOSING && !l->sending && !l->urgent.head &&
	    !l->bulk.head) {
		tls_shutdown(l->tls);
		link_linger(l, 0, "closed");
	}
	link_flush(l);
	if (l->state == LINK_UP && l->above_low &&
	    l->queued_bytes <= LINK_QUEUE_LOW) {
		l->above_low = false;
		if (l->events->drained)
			l->events->drained(l->arg, &l->link);
	}
}

void link_sent(void *arg, int res)
{
	struct tls_link *l = arg;

	if (res > 0) {
		tls_sent(l->tls, (size_t)res);
		l->bytes_sent += (uint64_t)res;
	}
	if (l->state == LINK_ENDED) {
		link_schedule(l);
		return;
	}
	if (res < 0 && res != -EINTR && res != -EAGAIN) {
		/*
		 * The peer has hung up, but it may have said why: let what it
		 * sent be read first.  That ends the link; if not, this does.
		 */
		l->send_err = res;
		if (l->state == LINK_UP)
			link_deadline(l, LINK_LINGER_US);
		else if (l->state == LINK_CLOSING)
			link_end(l, res, "connection lost: %s", strerror(-res));
	}
	switch (l->state) {
	case LINK_UP:
	case LINK_CLOSING:
		link_pump(l);
		break;
	case LINK_LINGER:
		link_linger_on(l);
		break;
	default:
		link_flush(l);
		break;
	}
}

void link_receive(struct tls_link *l)
{
	size_t room;
	uint8_t *place;

	if (l->recv_op.busy || l->recv_ended)
		return;
	place = tls_receive_room(l->tls, &room);
	loop_recv(l->loop, &l->recv_op, l->fd, place, room);
}

/* Where nothing more is to be read, only the end is waited for. */
static void receive_scrap(struct tls_link *l)
{
	if (!l->recv_op.busy && !l->recv_ended)
		loop_recv(l->loop, &l->recv_op, l->fd, l->scrap,
			  sizeof(l->scrap));
}

void link_received(void *arg, int res)
{
	struct tls_link *l = arg;

	if (l->state == LINK_ENDED) {
		link_schedule(l);
		return;
	}
	if (res > 0) {
		l->bytes_received += (uint64_t)res;
		if (l->state <= LINK_UP)
			tls_received(l->tls, (size_t)res);
	} else if (res != -EINTR && res != -EAGAIN) {
		l->recv_ended = true;
		l->recv_err = res;
	}
	switch (l->state) {
	case LINK_HANDSHAKE:
		link_handshake(l);
		break;
	case LINK_LINGER:
		link_linger_on(l);
		break;
	default:
		link_read(l);
		break;
	}
}

/* The connection's end, and all that came before it has been read. */
static void connection_lost(struct tls_link *l)
{
	int err = l->recv_err ? l->recv_err : l->send_err;

	if (err)
		link_end(l, err, "connection lost: %s%s", strerror(-err),
			 l->heard ? ""
				  : " before the peer said anything "
				    "(its log may tell why)");
	else
		link_end(l, -ECONNRESET,
			 "the peer ended the connection without closing it");
}

/* A header is complete: false where it is not to be believed. */
static bool begin_frame(struct tls_link *l)
{
	const char *why = "";
	int r = frame_header_decode(l->header, l->recv_sequence, &l->frame,
				    &why);

	if (!r && l->frame.length > WIRE_PAYLOAD_MAX) {
		r = -EPROTO;
		why = "too long";
	}
	if (r)
		link_end(l, r, "malformed frame %llu from the peer: %s",
			 (unsigned long long)l->recv_sequence, why);
	l->recv_sequence++;
	return !r;
}

static void deliver(struct tls_link *l)
{
	struct frame f = l->frame;

	f.payload = l->payload;
	l->header_bytes = 0;
	l->payload_bytes = 0;
	l->events->frame(l->arg, &l->link, &f);
}

/* `n` bytes went where next_bytes() said. */
static void took(struct tls_link *l, size_t n)
{
	if (l->header_bytes < WIRE_HEADER_BYTES) {
		l->header_bytes += n;
		if (l->header_bytes < WIRE_HEADER_BYTES || !begin_frame(l))
			return;
	} else {
		l->payload_bytes += n;
	}
	if (l->payload_bytes == l->frame.length)
		deliver(l);
}

static uint8_t *next_bytes(struct tls_link *l, size_t *want)
{
	if (l->header_bytes < WIRE_HEADER_BYTES) {
		*want = WIRE_HEADER_BYTES - l->header_bytes;
		return l->header + l->header_bytes;
	}
	*want = l->frame.length - l->payload_bytes;
	return l->payload + l->payload_bytes;
}

static void read_frames(struct tls_link *l)
{
	bool alive_told = false;

	while (l->state == LINK_UP && !l->paused) {
		char why[TLS_ERROR_BYTES];
		size_t want;
		uint8_t *place = next_bytes(l, &want);
		ssize_t n = tls_read(l->tls, place, want, why);

		if (n == -EAGAIN) {
			if (l->recv_ended)
				connection_lost(l);
			else
				link_receive(l);
			break;
		}
		if (n < 0) {
			link_linger(l, (int)n, "%s", why);
			break;
		}
		if (n == 0) {
			if (l->header_bytes)
				link_end(l, -EPROTO,
					 "the peer closed inside a frame");
			else
				link_end(l, 0, "the peer closed the link");
			break;
		}
		l->heard = true;
		if (!alive_told && l->events->alive)
			l->events->alive(l->arg, &l->link);
		alive_told = true;
		if (l->state == LINK_UP)
			took(l, (size_t)n);
	}
	/* Reading may have made TLS answer (a key update, an alert). */
	if (l->state == LINK_UP)
		link_flush(l);
}

void link_read(struct tls_link *l)
{
	if (l->state == LINK_UP) {
		read_frames(l);
	} else if (l->recv_err) {
		link_end(l, l->recv_err, "connection lost: %s",
			 strerror(-l->recv_err));
	} else {
		/* Closing; a peer that closes too still takes our bytes. */
		receive_scrap(l);
	}
}

void link_linger_on(struct tls_link *l)
{
	size_t len;

	int err = l->send_err ? l->send_err : l->recv_err;

	if (err) {
		link_end(l, l->fin_sent ? 0 : err, "connection lost: %s",
			 strerror(-err));
		return;
	}
	link_flush(l);
	if (!l->send_op.busy && !tls_send_bytes(l->tls, &len) && !l->fin_sent) {
		shutdown(l->fd, SHUT_WR);
		l->fin_sent = true;
	}
	if (l->recv_ended && l->fin_sent) {
		link_end(l, 0, "closed");
		return;
	}
	receive_scrap(l);
}
