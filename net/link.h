/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link: one connection that carries frames, on the event loop.  Underneath is
 * TLS; a filter (net/filter.h) may stand in front of it.
 *
 * The happy path:
 *   - link_connect() or a listener makes the connection and the handshake;
 *   - `up` is called once; frames go out by link_send(), come in by `frame`;
 *   - link_close() flushes what is queued, or link_abort() drops it;
 *   - `down` is called exactly once, last; the link is freed after it.
 * Failure: anything that is wrong with the peer or its bytes (handshake,
 * certificate, header, sequence, TLS record) ends the link by `down` with one
 * line that says what it was.
 */
#ifndef NET_LINK_H
#define NET_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/loop.h"
#include "net/tls.h"
#include "stream/frame.h"

struct link;
struct link_listener;

struct link_events {
	/* Established and authenticated. */
	void (*up)(void *arg, struct link *l);
	/* A whole frame with a checked header; f->payload is valid in the call.
	 */
	void (*frame)(void *arg, struct link *l, const struct frame *f);
	/* Any authenticated bytes arrived: the peer lives.  May be NULL. */
	void (*alive)(void *arg, struct link *l);
	/* The queue has fallen to LINK_QUEUE_LOW or less.  May be NULL. */
	void (*drained)(void *arg, struct link *l);
	/*
	 * 0: closed in order by either side; else a negative errno.  `why` is
	 * one line.  Called once, also when the connection never came up.
	 */
	void (*down)(void *arg, struct link *l, int err, const char *why);
};

enum {
	/* Bytes of queued bulk payload at which `drained` is called. */
	LINK_QUEUE_LOW = 512 * 1024,
	/*
	 * How long connecting and the handshake may take together, unless set
	 * otherwise.
	 */
	LINK_SETUP_TIMEOUT_US = 5 * 1000 * 1000,
	/* How long link_close() waits for the queue to be sent. */
	LINK_CLOSE_TIMEOUT_US = 2 * 1000 * 1000,
};

/*
 * Connects to host:port (names are resolved by getaddrinfo, numeric hosts
 * without it) and expects the peer's certificate to name `host`.  Never NULL
 * for want of a peer: that is reported by `down`.  NULL: no memory.
 */
struct link *link_connect(struct loop *loop, const struct tls_identity *id,
			  const char *host, uint16_t port,
			  const struct link_events *events, void *arg);

/* Instead of LINK_SETUP_TIMEOUT_US, counted from link_connect(). */
void link_setup_timeout(struct link *l, uint64_t us);

/*
 * TCP's congestion control instead of the system's default, right after
 * link_connect(); one that is not to be had is the default (congestion_check()
 * tells in advance).
 */
void link_congestion(struct link *l, const char *name);
/*
 * TCP sends at most this many bytes a second, TLS's own and what has to be sent
 * again among them; at the same time as link_congestion().
 */
void link_max_rate(struct link *l, uint64_t bytes_per_s);

/*
 * Listens on address:port (address NULL: any).  For each connection that has
 * finished its handshake, and for no other, `accepted` is called once and
 * returns the events and arg for it, or NULL events to abort it; `up` follows.
 * Connections still in their handshake are bounded in number (16) and time.
 * A handshake that fails is logged in one line and changes nothing.
 * *port_out (may be NULL) is the port bound, useful where port is 0.
 */
int link_listen(struct loop *loop, const struct tls_identity *id,
		const char *address, uint16_t port,
		const struct link_events *(*accepted)(void *arg, struct link *l,
						      void **link_arg),
		void *arg, struct link_listener **out, uint16_t *port_out);
/* Instead of LINK_SETUP_TIMEOUT_US, for connections from now on. */
void link_listener_setup_timeout(struct link_listener *l, uint64_t us);
/* See link_congestion(); for connections from now on. */
void link_listener_congestion(struct link_listener *l, const char *name);
/* Stops listening; established links stay.  Freed once its ops have ended. */
void link_listener_close(struct link_listener *l);

/*
 * Queues a frame (type, epoch, length and payload set).  HELLO, HEARTBEAT, ACK
 * and BYE overtake queued bulk, all else keeps its order.  Takes ownership: the
 * buffer is released also when the link is down, and never from inside the
 * call. What is sent before `up` waits for it; what is sent after link_close()
 * is dropped.
 */
void link_send(struct link *l, struct frame_buf *b);
/* A frame without payload. */
void link_send_empty(struct link *l, uint16_t type, uint64_t epoch);

/* Bytes of payload queued and not yet given to TLS. */
size_t link_queued(const struct link *l);

/* Stops or goes on reading from the connection, for flow control. */
void link_pause(struct link *l, bool paused);

/*
 * Sends what is queued, then close_notify, then ends: `down` with 0.  What the
 * peer sends meanwhile is thrown away.
 */
void link_close(struct link *l);
/* Ends now; `down` follows from the loop, not from inside the call. */
void link_abort(struct link *l, const char *why);

/* The common name in the peer's certificate, and its address as text. */
const char *link_peer_name(const struct link *l);
const char *link_peer_address(const struct link *l);
/* Bytes of ciphertext sent and received so far. */
uint64_t link_bytes_sent(const struct link *l);
uint64_t link_bytes_received(const struct link *l);

#endif
