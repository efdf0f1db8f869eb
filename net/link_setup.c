/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a link comes up: name, connection, handshake.
 *
 * A name is resolved in blocking mode, on the loop's thread, and only where it
 * is not a numeric address; configure addresses where the resolver is slow or
 * may be unreachable.  All its addresses are tried in turn within the one
 * deadline.
 */
#include "config.h"

#include "net/link_impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"

/*
 * What the kernel may hold unsent: enough to keep a fast network busy between
 * two turns of the loop, little enough that a heartbeat behind it is gone in a
 * millisecond at 1 Gbit/s.
 */
enum { UNSENT_BYTES = 128 * 1024 };

static void set_options(int fd)
{
	int one = 1, unsent = UNSENT_BYTES;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
}

/* TCP paces itself, with any qdisc: socket(7), tcp(7) know nothing of it. */
static void set_max_rate(int fd, uint64_t bytes_per_s)
{
	if (setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &bytes_per_s,
		       sizeof(bytes_per_s)))
		log_warn("what is sent is not limited: %s", strerror(errno));
}

/* Numeric; an IPv4 address that came in on an IPv6 socket without "::ffff:". */
static void name_address(struct tls_link *l, const struct sockaddr *addr,
			 socklen_t len)
{
	static const char mapped[] = "::ffff:";
	char text[sizeof(l->peer_address)];
	const char *p = text;

	if (getnameinfo(addr, len, text, sizeof(text), NULL, 0, NI_NUMERICHOST))
		return;
	if (!strncmp(text, mapped, strlen(mapped)) && strchr(text, '.'))
		p += strlen(mapped);
	strcpy(l->peer_address, p);
}

/* Starts connecting to l->address; false where not even that was possible. */
static bool try_address(struct tls_link *l)
{
	const struct addrinfo *a = l->address;

	l->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return false;
	set_options(l->fd);
	if (l->congestion[0])
		congestion_set(l->fd, l->congestion);
	if (l->max_rate)
		set_max_rate(l->fd, l->max_rate);
	name_address(l, a->ai_addr, a->ai_addrlen);
	l->state = LINK_CONNECTING;
	loop_connect(l->loop, &l->connect_op, l->fd, a->ai_addr, a->ai_addrlen);
	return true;
}

void link_resolve(struct tls_link *l)
{
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
	};
	int r = getaddrinfo(l->host, l->port, &hints, &l->addresses);

	if (r == EAI_NONAME) {
		hints.ai_flags = AI_NUMERICSERV;
		r = getaddrinfo(l->host, l->port, &hints, &l->addresses);
	}
	if (r) {
		l->addresses = NULL;
		link_end(l, -EHOSTUNREACH, "cannot resolve %.120s: %s", l->host,
			 gai_strerror(r));
		return;
	}
	l->address = l->addresses;
	while (l->address && !try_address(l))
		l->address = l->address->ai_next;
	if (!l->address)
		link_end(l, -EAFNOSUPPORT, "no socket for %.120s: %s", l->host,
			 strerror(errno));
}

void link_connected(void *arg, int res)
{
	struct tls_link *l = arg;

	if (l->state != LINK_CONNECTING) {
		link_schedule(l);
		return;
	}
	if (!res) {
		l->state = LINK_HANDSHAKE;
		link_handshake(l);
		return;
	}
	close(l->fd);
	l->fd = -1;
	do {
		l->address = l->address->ai_next;
	} while (l->address && !try_address(l));
	if (!l->address)
		link_end(l, res, "cannot connect: %s", strerror(-res));
}

struct tls_link *link_accepted(struct loop *loop, const struct tls_identity *id,
			       int fd, struct link_listener *listener,
			       uint64_t setup_timeout_us)
{
	struct tls_link *l = link_new(loop, id, true, NULL);
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);

	if (!l) {
		close(fd);
		return NULL;
	}
	l->fd = fd;
	l->listener = listener;
	set_options(fd);
	strcpy(l->peer_address, "unknown");
	if (!getpeername(fd, (struct sockaddr *)&addr, &len))
		name_address(l, (struct sockaddr *)&addr, len);
	l->state = LINK_HANDSHAKE;
	tls_link_setup_timeout(l, setup_timeout_us);
	link_schedule(l);
	return l;
}

static void link_come_up(struct tls_link *l)
{
	l->payload = memory_new(WIRE_PAYLOAD_MAX);
	if (!l->payload) {
		link_end(l, -ENOMEM, "no memory for a link");
		return;
	}
	loop_timer_stop(l->loop, &l->deadline);
	l->state = LINK_UP;
	if (l->listener) {
		struct link_listener *ls = l->listener;

		l->listener = NULL;
		listener_established(ls, l);
	}
	if (l->events && l->state == LINK_UP)
		l->events->up(l->arg, &l->link);
	/* Frames may have come, or been queued, before this. */
	link_schedule(l);
}

void link_handshake(struct tls_link *l)
{
	char why[TLS_ERROR_BYTES];
	int r = tls_handshake(l->tls, why);

	if (r < 0) {
		link_linger(l, r, "%s", why);
	} else if (r > 0) {
		link_flush(l);
		link_come_up(l);
	} else if (l->recv_ended) {
		link_end(l, l->recv_err ? l->recv_err : -ECONNRESET,
			 "the peer ended the connection in the TLS "
			 "handshake%s%s",
			 l->recv_err ? ": " : "",
			 l->recv_err ? strerror(-l->recv_err) : "");
	} else {
		link_flush(l);
		link_receive(l);
	}
}
