/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes connections and keeps each until its handshake is over.
 *
 * Who has not shown a certificate of our CA gets nothing but a line in the log:
 * at most PENDING_MAX such connections exist, each for a bounded time, and more
 * wait in the kernel's backlog.
 */
#include "config.h"

#include "net/link.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "net/link_impl.h"

enum {
	PENDING_MAX = 16,
	BACKLOG = 32,
	/* After a failed accept (no descriptors, no memory). */
	RETRY_US = 200 * 1000,
};

struct link_listener {
	struct loop *loop;
	const struct tls_identity *id;
	int fd;
	bool closing;
	struct loop_op accept_op;
	struct loop_timer retry;
	uint64_t setup_timeout_us;
	struct tls_link *pending;
	unsigned pending_count;
	const struct link_events *(*accepted)(void *arg, struct link *l,
					      void **link_arg);
	void *arg;
};

/* Goes on accepting, or is freed, as things stand. */
static void listener_settle(struct link_listener *ls)
{
	if (ls->closing) {
		if (!ls->accept_op.busy && !ls->pending_count) {
			close(ls->fd);
			free(ls);
		}
		return;
	}
	if (!ls->accept_op.busy && !ls->retry.armed &&
	    ls->pending_count < PENDING_MAX)
		loop_accept(ls->loop, &ls->accept_op, ls->fd);
}

static void retry(void *arg)
{
	listener_settle(arg);
}

static void accepted_fd(void *arg, int res)
{
	struct link_listener *ls = arg;
	struct tls_link *l = NULL;

	if (res >= 0 && ls->closing) {
		close(res);
	} else if (res >= 0) {
		l = link_accepted(ls->loop, ls->id, res, ls,
				  ls->setup_timeout_us);
		if (!l)
			res = -ENOMEM;
	}
	if (l) {
		l->next_pending = ls->pending;
		ls->pending = l;
		ls->pending_count++;
	} else if (res < 0 && !ls->closing && res != -ECONNABORTED) {
		log_warn("cannot take a connection: %s", strerror(-res));
		loop_timer_start(ls->loop, &ls->retry,
				 clock_now_us() + RETRY_US);
	}
	listener_settle(ls);
}

static void unlink_pending(struct link_listener *ls, struct tls_link *l)
{
	struct tls_link **p = &ls->pending;

	while (*p != l)
		p = &(*p)->next_pending;
	*p = l->next_pending;
}

/* It counts as pending until `accepted` is done, which may close the listener.
 */
void listener_established(struct link_listener *ls, struct tls_link *l)
{
	unlink_pending(ls, l);
	l->events = ls->accepted(ls->arg, &l->link, &l->arg);
	if (!l->events)
		link_end(l, -ECONNABORTED, "not wanted");
	ls->pending_count--;
	listener_settle(ls);
}

void listener_failed(struct link_listener *ls, struct tls_link *l)
{
	unlink_pending(ls, l);
	ls->pending_count--;
	if (!ls->closing)
		log_warn("connection from %s: %s", l->peer_address, l->why);
	listener_settle(ls);
}

void link_listener_setup_timeout(struct link_listener *ls, uint64_t us)
{
	ls->setup_timeout_us = us;
}

void link_listener_congestion(struct link_listener *ls, const char *name)
{
	congestion_set(ls->fd, name);
}

static int bound_socket(const struct addrinfo *a)
{
	AUTO_FD int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1, zero = 0;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (a->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* address NULL: any of both families, or of IPv4 where there is no IPv6. */
static int listen_socket(const char *address, uint16_t port)
{
	struct addrinfo hints = {
		.ai_family = address ? AF_UNSPEC : AF_INET6,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
	};
	struct addrinfo *list;
	char service[6];
	int fd;

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(address, service, &hints, &list))
		return -EADDRNOTAVAIL;
	fd = bound_socket(list);
	freeaddrinfo(list);
	if (address || (fd != -EAFNOSUPPORT && fd != -EADDRNOTAVAIL))
		return fd;
	hints.ai_family = AF_INET;
	if (getaddrinfo(NULL, service, &hints, &list))
		return fd;
	fd = bound_socket(list);
	freeaddrinfo(list);
	return fd;
}

static uint16_t bound_port(int fd)
{
	struct sockaddr_in6 addr = { 0 };
	socklen_t len = sizeof(addr);

	/* The port is in the same place for IPv4. */
	getsockname(fd, (struct sockaddr *)&addr, &len);
	return ntohs(addr.sin6_port);
}

int link_listen(struct loop *loop, const struct tls_identity *id,
		const char *address, uint16_t port,
		const struct link_events *(*accepted)(void *arg, struct link *l,
						      void **link_arg),
		void *arg, struct link_listener **out, uint16_t *port_out)
{
	struct link_listener *ls;
	int fd = listen_socket(address, port);

	if (fd < 0)
		return fd;
	ls = memory_zeroed(sizeof(*ls));
	if (!ls) {
		close(fd);
		return -ENOMEM;
	}
	*ls = (struct link_listener){
		.loop = loop,
		.id = id,
		.fd = fd,
		.accept_op = { .fn = accepted_fd, .arg = ls },
		.retry = { .fn = retry, .arg = ls },
		.setup_timeout_us = LINK_SETUP_TIMEOUT_US,
		.accepted = accepted,
		.arg = arg,
	};
	if (port_out)
		*port_out = bound_port(fd);
	listener_settle(ls);
	*out = ls;
	return 0;
}

void link_listener_close(struct link_listener *ls)
{
	if (!ls)
		return;
	ls->closing = true;
	loop_timer_stop(ls->loop, &ls->retry);
	loop_cancel(ls->loop, &ls->accept_op);
	for (struct tls_link *l = ls->pending; l; l = l->next_pending)
		link_end(l, -ECANCELED, "no longer listening");
	listener_settle(ls);
}
