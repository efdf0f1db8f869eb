/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices of an embedded guest: TCP connections in front of two rings in
 * the guest's memory, and behind them the output gate; where it has one, its
 * disk (disk.h).
 *
 * The happy path:
 *   - lines that arrive become requests in the ring, and wake the frontend;
 *   - replies are taken from the ring and tagged with the epoch that the guest
 *     runs in (gate_current), into a queue of limited length;
 *   - the head of the queue goes to its connection when the gate allows it.
 * Failure modes:
 *   - the queue is full: no more replies are taken, the guest waits;
 *   - the ring of requests is full: connections are not read;
 *   - a client that does not read its replies, or sends too long a line, is
 *     cut off;
 *   - return code 0: all connections and all that was held are gone, the
 *     listener is made anew, and tried again for as long as it takes.
 * A party of every stop; at the end of one, the last party drains the ring in
 * its place (backend_drain).
 */
#include "config.h"

#include "resume/embedded/process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "resume/embedded/disk.h"
#include "resume/embedded/memory.h"

enum {
	CONNECTIONS = 256,
	INPUT_BYTES = 4096,
	OUTPUT_BYTES = 256 * 1024,
	HELD = 32768,
	RETRY_MS = 20,
	OPEN_PATIENCE_US = 2 * 1000 * 1000,
	/* What is polled besides the connections. */
	POLL_KICK = 0,
	POLL_LISTENER,
	POLL_DISK,
	POLL_FIRST,
};

struct connection {
	int fd; /* -1: free */
	uint64_t id;
	bool ended; /* it sends no more */
	bool broken;
	uint64_t pending; /* requests without their last reply */
	size_t in, out, sent;
	char input[INPUT_BYTES];
	char *output;
};

struct held {
	uint64_t tag;
	struct embedded_reply reply;
};

struct backend {
	int listener;
	bool complained;
	struct disk_backend *disk; /* or NULL */
	uint64_t serial;
	struct connection connection[CONNECTIONS];
	uint64_t first, last; /* of the queue; modulo HELD */
	struct held held[HELD];
};

/* --- connections -------------------------------------------------------- */

static void drop(struct connection *c)
{
	close(c->fd);
	free(c->output);
	memset(c, 0, offsetof(struct connection, input));
	c->output = NULL;
	c->fd = -1;
}

static struct connection *find(struct backend *b, uint64_t id)
{
	struct connection *c = &b->connection[id % CONNECTIONS];

	return c->fd >= 0 && c->id == id ? c : NULL;
}

static void accept_one(struct backend *b)
{
	int fd = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int on = 1;

	if (fd < 0)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	for (unsigned int i = 0; i < CONNECTIONS; i++) {
		struct connection *c = &b->connection[i];

		if (c->fd >= 0)
			continue;
		c->output = malloc(OUTPUT_BYTES);
		if (!c->output)
			break;
		c->fd = fd;
		c->id = ++b->serial * CONNECTIONS + i;
		return;
	}
	close(fd);
}

static void send_out(struct connection *c)
{
	ssize_t n;

	while (c->sent < c->out) {
		n = send(c->fd, c->output + c->sent, c->out - c->sent,
			 MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			c->broken = true;
		if (n < 0)
			break;
		c->sent += (size_t)n;
	}
	if (c->sent == c->out)
		c->sent = c->out = 0;
}

/* 1: put; 0: the ring is full. */
static int request_put(struct embedded_process *p, struct connection *c,
		       const char *line, size_t length)
{
	struct embedded_requests *r = embedded_requests(p->memory);
	uint64_t at = atomic_load(&r->produced);
	struct embedded_request *slot = &r->slot[at % EMBEDDED_SLOTS];

	if (embedded_in_ring(at, atomic_load(&r->consumed)) == EMBEDDED_SLOTS)
		return 0;
	slot->connection = c->id;
	slot->length = (uint32_t)length;
	memcpy(slot->text, line, length);
	atomic_store(&r->produced, at + 1);
	c->pending++;
	return 1;
}

/* Whole lines become requests.  False: the ring is full. */
static bool take_lines(struct embedded_process *p, struct connection *c)
{
	size_t at = 0;
	bool room = true;
	char *end;

	while (room && (end = memchr(c->input + at, '\n', c->in - at))) {
		size_t n = (size_t)(end - (c->input + at));

		if (n > EMBEDDED_LINE_MAX) {
			c->broken = true;
			return true;
		}
		room = request_put(p, c, c->input + at, n);
		at += room ? n + 1 : 0;
	}
	if (at)
		vcpus_event(p);
	c->in -= at;
	memmove(c->input, c->input + at, c->in);
	if (room && c->in > EMBEDDED_LINE_MAX)
		c->broken = true;
	return room;
}

static void receive(struct connection *c)
{
	ssize_t n = recv(c->fd, c->input + c->in, INPUT_BYTES - c->in, 0);

	if (n > 0)
		c->in += (size_t)n;
	else if (n == 0)
		c->ended = true;
	else if (errno != EAGAIN && errno != EINTR)
		c->broken = true;
}

/* --- the gate ----------------------------------------------------------- */

void backend_drain(struct embedded_process *p)
{
	struct embedded_replies *r;
	struct backend *b = p->backend;
	uint64_t tag, at, n;

	if (!b)
		return;
	r = embedded_replies(p->memory);
	tag = atomic_load(&p->control->gate_current);
	while (b->last - b->first < HELD) {
		at = atomic_load(&r->consumed);
		n = embedded_in_ring(atomic_load(&r->produced), at);
		if (!n)
			break;
		b->held[b->last % HELD].tag = tag;
		b->held[b->last % HELD].reply = r->slot[at % EMBEDDED_SLOTS];
		b->last++;
		atomic_store(&r->consumed, at + 1);
		if (n == EMBEDDED_SLOTS)
			vcpus_event(p);
	}
}

static void to_connection(struct backend *b, const struct embedded_reply *r)
{
	struct connection *c = find(b, r->connection);
	size_t n =
		r->length < EMBEDDED_REPLY_MAX ? r->length : EMBEDDED_REPLY_MAX;

	if (!c)
		return;
	if (r->flags & EMBEDDED_REPLY_LAST && c->pending)
		c->pending--;
	if (OUTPUT_BYTES - c->out < n)
		send_out(c);
	if (OUTPUT_BYTES - c->out < n) {
		c->broken = true; /* it does not read */
		return;
	}
	memcpy(c->output + c->out, r->text, n);
	c->out += n;
}

static void flush(struct embedded_process *p)
{
	struct embedded_control *c = p->control;
	struct backend *b = p->backend;

	while (b->first != b->last) {
		const struct held *h = &b->held[b->first % HELD];
		uint32_t mode = atomic_load(&c->gate_mode);

		if (mode == EMBEDDED_GATE_CLOSED &&
		    h->tag > atomic_load(&c->gate_released))
			break;
		if (mode != EMBEDDED_GATE_DROP)
			to_connection(b, &h->reply);
		b->first++;
	}
	atomic_store(&c->gate_holding, b->last - b->first);
}

/* --- the listener ------------------------------------------------------- */

static int listen_on(const struct embedded_spec *s)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	bool is_v4 = inet_pton(AF_INET, s->address, &v4.sin_addr) == 1;
	AUTO_FD int fd = socket(is_v4 ? AF_INET : AF_INET6,
				SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, rc;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	v4.sin_port = v6.sin6_port = htons((uint16_t)s->port);
	inet_pton(AF_INET6, s->address, &v6.sin6_addr);
	rc = is_v4 ? bind(fd, (struct sockaddr *)&v4, sizeof(v4))
		   : bind(fd, (struct sockaddr *)&v6, sizeof(v6));
	if (rc || listen(fd, 128))
		return -errno;
	return TAKE_FD(fd);
}

int backend_open(struct embedded_process *p, struct guest_error *err)
{
	const struct embedded_spec *s = &p->control->spec;
	uint64_t end_us = clock_now_us() + OPEN_PATIENCE_US;
	struct backend *b = calloc(1, sizeof(*b));
	int rc = 0;

	if (!b)
		return -ENOMEM;
	for (unsigned int i = 0; i < CONNECTIONS; i++)
		b->connection[i].fd = -1;
	b->listener = -1;
	p->backend = b;
	if (s->disk[0])
		rc = disk_backend_open(p->run_dir, s->disk, &b->disk, err);
	if (rc < 0 || p->control->standby)
		return rc;
	/* Where it is not served, the guest would wait for it for ever. */
	if (b->disk)
		rc = disk_backend_prove(b->disk, OPEN_PATIENCE_US, err);
	if (rc < 0)
		return rc;
	/* The port of a process that was killed is free a moment later. */
	while ((b->listener = listen_on(s)) == -EADDRINUSE &&
	       clock_now_us() < end_us)
		clock_sleep_us(RETRY_MS * 1000);
	if (b->listener >= 0)
		return 0;
	guest_error_set(err, "%s cannot listen on %s port %u: %s", s->name,
			s->address, s->port, strerror(-b->listener));
	return b->listener;
}

static void listen_again(struct embedded_process *p)
{
	const struct embedded_spec *s = &p->control->spec;
	struct backend *b = p->backend;

	b->listener = listen_on(s);
	if (b->listener >= 0) {
		log_info("%s: listening on %s port %u", s->name, s->address,
			 s->port);
		b->complained = false;
	} else if (!b->complained) {
		log_warn("%s: cannot listen on %s port %u: %s; trying on",
			 s->name, s->address, s->port, strerror(-b->listener));
		b->complained = true;
	}
}

static void drop_all(struct backend *b)
{
	/* First, so that who is cut off does not find it again. */
	cleanup_fd(&b->listener);
	b->listener = -1;
	for (unsigned int i = 0; i < CONNECTIONS; i++)
		if (b->connection[i].fd >= 0)
			drop(&b->connection[i]);
	b->first = b->last;
}

/* --- the thread --------------------------------------------------------- */

static void stand_still(struct embedded_process *p)
{
	struct embedded_control *c = p->control;
	struct backend *b = p->backend;

	/* The devices are pulled out, so that nobody waits for them. */
	if (atomic_load(&c->stop) == EMBEDDED_STATE_PAUSED) {
		drop_all(b);
		if (b->disk)
			disk_backend_pull(b->disk);
	}
	party_park(p);
	/* The rings are not ours before the frontend has set them up. */
	while (atomic_load(&p->devices_wait))
		embedded_futex_wait(&p->devices_wait, 1, 0);
	if (atomic_load(&c->return_code) == 0) {
		drop_all(b);
		if (b->disk)
			disk_backend_renew(b->disk);
	}
	atomic_fetch_sub(&c->parked, 1);
}

static void serve(struct embedded_process *p, struct connection *c,
		  short events)
{
	bool room = true;

	if (events & (POLLHUP | POLLERR) && c->ended)
		c->broken = true;
	else if (events & (POLLIN | POLLHUP | POLLERR))
		receive(c);
	if (!c->broken)
		room = take_lines(p, c);
	if (!c->broken)
		send_out(c);
	/* A last line without its end is none. */
	if (c->broken || (c->ended && room && !c->pending && !c->out))
		drop(c);
}

static short wanted(const struct connection *c)
{
	short events = c->out ? POLLOUT : 0;

	return c->ended || c->in == INPUT_BYTES ? events : events | POLLIN;
}

static void turn(struct embedded_process *p)
{
	struct backend *b = p->backend;
	struct pollfd fds[POLL_FIRST + CONNECTIONS];
	uint8_t who[CONNECTIONS];
	nfds_t n = POLL_FIRST;
	eventfd_t ignored;
	int wait_ms = b->listener < 0 ? RETRY_MS : -1, disk_ms = -1;

	fds[POLL_KICK] =
		(struct pollfd){ p->fd[EMBEDDED_FD_BACKEND], POLLIN, 0 };
	fds[POLL_LISTENER] = (struct pollfd){ b->listener, POLLIN, 0 };
	fds[POLL_DISK].fd = -1;
	if (b->disk)
		disk_ms = disk_backend_wants(b->disk, &fds[POLL_DISK]);
	if (disk_ms >= 0 && (wait_ms < 0 || disk_ms < wait_ms))
		wait_ms = disk_ms;
	for (unsigned int i = 0; i < CONNECTIONS; i++) {
		const struct connection *c = &b->connection[i];

		if (c->fd < 0)
			continue;
		who[n - POLL_FIRST] = (uint8_t)i;
		fds[n++] = (struct pollfd){ c->fd, wanted(c), 0 };
	}
	poll(fds, n, wait_ms);
	if (fds[POLL_KICK].revents)
		eventfd_read(fds[POLL_KICK].fd, &ignored);
	if (fds[POLL_LISTENER].revents)
		accept_one(b);
	for (nfds_t i = POLL_FIRST; i < n; i++)
		if (!atomic_load(&p->control->stop))
			serve(p, &b->connection[who[i - POLL_FIRST]],
			      fds[i].revents);
}

static void *backend_main(void *arg)
{
	struct embedded_process *p = arg;
	struct backend *b = p->backend;

	prctl(PR_SET_NAME, "backend");
	for (;;) {
		if (atomic_load(&p->control->stop)) {
			stand_still(p);
			continue;
		}
		if (b->listener < 0)
			listen_again(p);
		if (b->disk &&
		    disk_backend_turn(b->disk, p->memory, p->ram_bytes))
			vcpus_event(p);
		backend_drain(p);
		flush(p);
		turn(p);
	}
	return NULL;
}

int backend_start(struct embedded_process *p)
{
	pthread_t thread;
	int err = pthread_create(&thread, NULL, backend_main, p);

	if (!err)
		pthread_detach(thread);
	return -err;
}
