/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first bytes of libxl's stream (see lead.h).
 *
 * Memory crosses the pipe by splice(2), so it is copied no more often than
 * without it.  Failure modes: the socket breaks before libxl's first bytes have
 * come; they are taken and thrown away, and then the pipe is closed.
 */
#include "config.h"

#include "resume/xen/lead.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define PARTIAL_US UINT64_C(2000)

enum { PIPE_BYTES = 1 << 20 };

struct xen_lead_relay {
	pthread_t thread;
	int in, out; /* of the pipe; `out' is libxl's */
	int fd;
	int err;
};

/* Ident and version 2, big-endian; no options; LIBXC_CONTEXT, without body. */
const uint8_t xen_lead[XEN_LEAD_BYTES] = {
	'L', 'i', 'b', 'x', 'l', 'F', 'm', 't', 0, 0, 0, 2,
	0,   0,	  0,   0,   1,	 0,   0,   0,	0, 0, 0, 0,
};

int xen_lead_await(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLRDHUP };
	uint8_t seen[XEN_LEAD_BYTES];
	ssize_t n;

	for (;;) {
		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			return -errno;
		n = recv(fd, seen, sizeof(seen), MSG_PEEK | MSG_DONTWAIT);
		if (n == XEN_LEAD_BYTES)
			return memcmp(seen, xen_lead, XEN_LEAD_BYTES) ? -EPROTO
								      : 0;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n == 0 || (p.revents & (POLLRDHUP | POLLHUP | POLLERR)))
			return -EPIPE;
		if (n > 0) /* poll() would return at once for these */
			clock_sleep_us(PARTIAL_US);
	}
}

static void *relay(void *arg)
{
	struct xen_lead_relay *r = arg;
	uint8_t lost[XEN_LEAD_BYTES];
	size_t passed = 0;
	ssize_t n;

	for (;;) {
		n = splice(r->in, NULL, r->fd, NULL, PIPE_BYTES, SPLICE_F_MOVE);
		if (n > 0)
			passed += (size_t)n;
		else if (n == 0 || errno != EINTR)
			break;
	}
	r->err = n < 0 ? -errno : 0;
	while (r->err && passed < XEN_LEAD_BYTES) {
		n = read(r->in, lost, sizeof(lost) - passed);
		if (n > 0)
			passed += (size_t)n;
		else if (n == 0 || errno != EINTR)
			break;
	}
	close(r->in);
	return NULL;
}

int xen_lead_relay_start(int fd, struct xen_lead_relay **out)
{
	struct xen_lead_relay *r = calloc(1, sizeof(*r));
	int ends[2], rc;

	if (!r)
		return -ENOMEM;
	if (pipe2(ends, O_CLOEXEC)) {
		rc = -errno;
		free(r);
		return rc;
	}
	fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES); /* or what is allowed */
	r->in = ends[0];
	r->out = ends[1];
	r->fd = fd;
	rc = -pthread_create(&r->thread, NULL, relay, r);
	if (rc < 0) {
		close(ends[0]);
		close(ends[1]);
		free(r);
		return rc;
	}
	*out = r;
	return 0;
}

int xen_lead_relay_fd(const struct xen_lead_relay *r)
{
	return r->out;
}

int xen_lead_relay_finish(struct xen_lead_relay *r)
{
	int rc;

	close(r->out);
	pthread_join(r->thread, NULL);
	rc = r->err;
	free(r);
	return rc;
}
