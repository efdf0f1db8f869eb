/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a TLS link share: tls_link.c, link_setup.c, link_io.c,
 * listener.c.
 */
#ifndef NET_LINK_IMPL_H
#define NET_LINK_IMPL_H

#include <netdb.h>

#include "net/congestion.h"
#include "net/link_ops.h"

enum link_state {
	LINK_START, /* to be resolved and connected */
	LINK_CONNECTING,
	LINK_HANDSHAKE,
	LINK_UP,
	LINK_CLOSING, /* asked to close, the queue is being sent */
	LINK_LINGER,  /* all is said; waits until the peer has read it */
	LINK_ENDED,   /* waits for its operations, then `down` and free */
};

enum {
	LINK_WHY_BYTES = TLS_ERROR_BYTES,
	/*
	 * Closing a socket with unread bytes in it resets the connection, and
	 * the reset may overtake what the peer has not read yet: the alert that
	 * tells it why.  So the peer is given this long to hang up first.
	 */
	LINK_LINGER_US = 500 * 1000,
	LINK_SCRAP_BYTES = 4096,
};

struct frame_queue {
	struct frame_buf *head;
	struct frame_buf **end;
};

struct tls_link {
	struct link link; /* first: what its users have is this */
	struct loop *loop;
	enum link_state state;
	int fd;
	struct tls *tls;
	const struct link_events *events; /* NULL: a listener's, in setup */
	void *arg;
	struct link_listener *listener; /* whose pending connection this is */
	struct tls_link *next_pending;

	/* Runs link_work() from the loop, soon. */
	struct loop_timer work;
	/* The one deadline that the state has. */
	struct loop_timer deadline;
	uint64_t setup_timeout_us;
	uint64_t setup_start_us;

	char congestion[CONGESTION_NAME_BYTES]; /* empty: the system's */
	uint64_t max_rate; /* bytes a second; 0: no limit */
	char host[NI_MAXHOST];
	char port[6];
	char peer_address[NI_MAXHOST];
	struct addrinfo *addresses;
	struct addrinfo *address; /* being tried */
	struct loop_op connect_op;

	struct loop_op send_op;
	struct frame_queue urgent;
	struct frame_queue bulk;
	struct frame_queue refused; /* came too late; released at the end */
	struct frame_buf *sending;  /* given to TLS in part */
	size_t sending_at;
	uint64_t send_sequence;
	size_t queued_bytes;
	bool above_low;
	bool fin_sent;
	int send_err;
	uint64_t bytes_sent;

	struct loop_op recv_op;
	bool paused;
	bool recv_ended;
	int recv_err; /* 0: the peer hung up */
	bool heard;   /* any authenticated byte */
	uint64_t recv_sequence;
	uint8_t header[WIRE_HEADER_BYTES];
	size_t header_bytes;
	struct frame frame; /* of the header, once that is whole */
	size_t payload_bytes;
	uint8_t *payload; /* WIRE_PAYLOAD_MAX, from `up` on */
	uint64_t bytes_received;
	uint8_t scrap[LINK_SCRAP_BYTES];

	int err;
	char why[LINK_WHY_BYTES];
};

/* ---- tls_link.c ---- */

struct tls_link *link_new(struct loop *loop, const struct tls_identity *id,
			  bool server, const char *expected_name);
static inline struct tls_link *tls_link_of(const struct link *l)
{
	return (struct tls_link *)(uintptr_t)l;
}

/* Makes the loop call link_work(); callbacks come from there or from an op. */
void link_schedule(struct tls_link *l);
void link_deadline(struct tls_link *l, uint64_t us);
void tls_link_setup_timeout(struct tls_link *l, uint64_t us);
/* Ends it now.  `down` tells the first failure, or that it was closed. */
void link_end(struct tls_link *l, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Ends it once the peer has had its chance to read what is still to be sent. */
void link_linger(struct tls_link *l, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void queue_put(struct frame_queue *q, struct frame_buf *b);
struct frame_buf *queue_take(struct frame_queue *q);

/* ---- link_setup.c ---- */

/* From LINK_START on: tries the addresses of the host in turn. */
void link_resolve(struct tls_link *l);
void link_connected(void *arg, int res);
void link_handshake(struct tls_link *l);
/* A connection that a listener took; owns fd.  NULL: no memory, fd closed. */
struct tls_link *link_accepted(struct loop *loop, const struct tls_identity *id,
			       int fd, struct link_listener *listener,
			       uint64_t setup_timeout_us);

/* ---- link_io.c ---- */

void link_sent(void *arg, int res);
void link_received(void *arg, int res);
/* Sends what TLS holds, unless that is under way. */
void link_flush(struct tls_link *l);
void link_receive(struct tls_link *l);
/* Gives queued frames to TLS as far as it takes them. */
void link_pump(struct tls_link *l);
/* Delivers what has arrived. */
void link_read(struct tls_link *l);
void link_linger_on(struct tls_link *l);

/* ---- listener.c ---- */

/* The handshake is done: takes events and arg, or none. */
void listener_established(struct link_listener *ls, struct tls_link *l);
/* Ended before that. */
void listener_failed(struct link_listener *ls, struct tls_link *l);

#endif
