/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both ends of a link over real loopback sockets, in one process on one loop;
 * and for ends that misbehave see link-raw.h.
 */
#ifndef TESTS_UNIT_LINK_FIXTURE_H
#define TESTS_UNIT_LINK_FIXTURE_H

#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "net-fixture.h"
#include "net/link.h"

enum { FRAMES_MAX = 256, PATIENCE_US = 30 * 1000 * 1000 };

struct rig;

struct end {
	struct rig *rig;
	struct link
		*link; /* from link_connect() or `accepted`, NULL when down */
	int ups, downs, alives, draineds, released;
	int released_at_down;
	int err;
	char why[TLS_ERROR_BYTES];
	struct frame got[FRAMES_MAX];
	size_t got_count;
	void (*on_up)(struct end *e);
	void (*on_frame)(struct end *e);
	void (*on_drained)(struct end *e);
};

struct rig {
	const struct cert_dirs *dirs;
	struct loop *loop;
	struct link_listener *listener;
	uint16_t port;
	struct end client, server;
	bool refuse_all, close_in_accepted;
	struct loop_timer watch;
	bool (*done)(struct rig *r);
	uint64_t give_up_us;
	bool gave_up;

	pthread_t raw;
	int raw_fd;
	int log_fd, stderr_fd;
};

/* ---- callbacks --------------------------------------------------------- */

static inline uint8_t pattern(uint64_t sequence, size_t i)
{
	return (uint8_t)(sequence * 31 + i + (i >> 8) + (i >> 16));
}

static inline void on_up(void *arg, struct link *l)
{
	struct end *e = arg;

	e->link = l;
	e->ups++;
	assert_int_equal(e->downs, 0);
	if (e->on_up)
		e->on_up(e);
}

static inline void on_frame(void *arg, struct link *l, const struct frame *f)
{
	struct end *e = arg;

	assert_ptr_equal(e->link, l);
	assert_int_equal(e->downs, 0);
	assert_true(e->got_count < FRAMES_MAX);
	for (size_t i = 0; i < f->length; i++)
		if (f->payload[i] != pattern(f->epoch, i))
			fail_msg("frame %zu differs at %zu", e->got_count, i);
	e->got[e->got_count++] = *f;
	if (e->on_frame)
		e->on_frame(e);
}

static inline void on_alive(void *arg, struct link *l)
{
	struct end *e = arg;

	assert_ptr_equal(e->link, l);
	e->alives++;
}

static inline void on_drained(void *arg, struct link *l)
{
	struct end *e = arg;

	assert_true(link_queued(l) <= LINK_QUEUE_LOW);
	e->draineds++;
	if (e->on_drained)
		e->on_drained(e);
}

static inline void on_down(void *arg, struct link *l, int err, const char *why)
{
	struct end *e = arg;

	assert_true(!e->link || e->link == l);
	e->downs++;
	e->err = err;
	e->link = NULL;
	e->released_at_down = e->released;
	snprintf(e->why, sizeof(e->why), "%s", why);
	assert_null(strchr(why, '\n'));
	assert_true(*why);
}

static const struct link_events events = {
	.up = on_up,
	.frame = on_frame,
	.alive = on_alive,
	.drained = on_drained,
	.down = on_down,
};

static const struct link_events *accepted(void *arg, struct link *l,
					  void **link_arg)
{
	struct rig *r = arg;

	if (r->close_in_accepted) {
		link_listener_close(r->listener);
		r->listener = NULL;
	}
	if (r->refuse_all)
		return NULL;
	assert_null(r->server.link);
	r->server.link = l;
	*link_arg = &r->server;
	return &events;
}

/* ---- the rig ----------------------------------------------------------- */

static inline void watch(void *arg)
{
	struct rig *r = arg;

	r->gave_up = clock_now_us() > r->give_up_us;
	if (r->gave_up || r->done(r))
		loop_stop(r->loop);
	else
		loop_timer_start(r->loop, &r->watch, clock_now_us() + 500);
}

static inline void run_until(struct rig *r, bool (*done)(struct rig *r))
{
	r->done = done;
	r->give_up_us = clock_now_us() + PATIENCE_US;
	loop_timer_start(r->loop, &r->watch, 0);
	assert_int_equal(loop_run(r->loop), 0);
	if (!r->gave_up)
		return;
	dup2(r->stderr_fd, STDERR_FILENO);
	fail_msg("client: %d ups, %d downs (%s), %zu frames; "
		 "server: %d ups, %d downs (%s), %zu frames",
		 r->client.ups, r->client.downs, r->client.why,
		 r->client.got_count, r->server.ups, r->server.downs,
		 r->server.why, r->server.got_count);
}

static inline bool both_up(struct rig *r)
{
	return r->client.ups && r->server.ups;
}

static inline bool client_down(struct rig *r)
{
	return r->client.downs;
}

static inline bool server_down(struct rig *r)
{
	return r->server.downs;
}

static inline bool both_down(struct rig *r)
{
	return r->client.downs && r->server.downs;
}

static uint64_t wait_until_us;

static inline bool waited(struct rig *r)
{
	(void)r;
	return clock_now_us() >= wait_until_us;
}

static inline void run_for(struct rig *r, uint64_t us)
{
	wait_until_us = clock_now_us() + us;
	run_until(r, waited);
}

/* Standard error goes to a file in memory while a rig exists. */
static inline bool logged(struct rig *r, const char *text)
{
	char log[16384];
	ssize_t n = pread(r->log_fd, log, sizeof(log) - 1, 0);

	log[n > 0 ? n : 0] = '\0';
	return strstr(log, text);
}

static inline int rig_open(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	r->dirs = *state;
	assert_int_equal(loop_open(&r->loop), 0);
	r->client.rig = r->server.rig = r;
	r->raw_fd = -1;
	r->watch = (struct loop_timer){ .fn = watch, .arg = r };
	fflush(stderr);
	r->stderr_fd = dup(STDERR_FILENO);
	r->log_fd = memfd_create("log", MFD_CLOEXEC);
	assert_true(dup2(r->log_fd, STDERR_FILENO) >= 0);
	*state = r;
	return 0;
}

static inline int rig_close(void **state)
{
	struct rig *r = *state;

	if (r->client.link)
		link_abort(r->client.link, "test over");
	if (r->server.link)
		link_abort(r->server.link, "test over");
	link_listener_close(r->listener);
	run_for(r, 2000);
	assert_null(r->client.link);
	assert_null(r->server.link);
	loop_close(r->loop);
	dup2(r->stderr_fd, STDERR_FILENO);
	close(r->stderr_fd);
	close(r->log_fd);
	*state = (void *)(uintptr_t)r->dirs;
	free(r);
	return 0;
}

static struct tls_identity *listener_identity;

static inline void listen_as(struct rig *r, struct tls_identity *id)
{
	tls_identity_free(listener_identity);
	listener_identity = id;
	assert_int_equal(link_listen(r->loop, id, NULL, 0, accepted, r,
				     &r->listener, &r->port),
			 0);
}

static inline void connect_as(struct rig *r, struct tls_identity *id,
			      const char *host)
{
	r->client.link =
		link_connect(r->loop, id, host, r->port, &events, &r->client);
	assert_non_null(r->client.link);
	/* A session keeps what it needs of its identity. */
	tls_identity_free(id);
}

static inline void both(struct rig *r)
{
	listen_as(r, identity(r->dirs->ours, "alpha"));
	connect_as(r, identity(r->dirs->ours, "beta"), "127.0.0.1");
}

static inline void established(struct rig *r)
{
	both(r);
	run_until(r, both_up);
}

static inline void release(struct frame_buf *b)
{
	struct end *e = b->owner;

	e->released++;
	free(b);
}

static inline struct frame_buf *frame(struct end *e, uint16_t type,
				      uint64_t epoch, uint32_t length)
{
	struct frame_buf *b = frame_buf_new(type, epoch, length);

	assert_non_null(b);
	b->owner = e;
	b->release = release;
	b->length = length;
	for (uint32_t i = 0; i < length; i++)
		frame_payload(b)[i] = pattern(epoch, i);
	return b;
}

static inline void send_bulk(struct end *e, int count, uint32_t length)
{
	for (int i = 0; i < count; i++)
		link_send(e->link, frame(e, WIRE_PAGES, (uint64_t)i, length));
}

static inline bool ten_arrived(struct rig *r)
{
	return r->server.got_count == 10;
}

static inline bool one_arrived(struct rig *r)
{
	return r->server.got_count == 1;
}

#define LINK_TEST(f) cmocka_unit_test_setup_teardown(f, rig_open, rig_close)

#define RUN_LINK_TESTS(tests)                                               \
	({                                                                  \
		int failed_ = cmocka_run_group_tests(tests, make_cert_dirs, \
						     remove_cert_dirs);     \
		tls_identity_free(listener_identity);                       \
		failed_;                                                    \
	})

#endif
