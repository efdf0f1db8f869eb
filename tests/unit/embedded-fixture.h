/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run directory with real guests' processes in it, for the tests of the
 * embedded room.  The process of a guest is the test program itself, executed
 * anew: EMBEDDED_MAIN turns it into one.  Whatever a test leaves is destroyed.
 */
#ifndef TESTS_UNIT_EMBEDDED_FIXTURE_H
#define TESTS_UNIT_EMBEDDED_FIXTURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "resume/embedded/attach.h"
#include "resume/embedded/kind.h"
#include "resume/embedded/source.h"
#include "resume/guest.h"

#define PATIENCE_US UINT64_C(20000000)
/* For what is expected not to happen. */
#define MOMENT_US UINT64_C(100000)

static const struct guest_source_ops *const src = &guest_embedded_source;
static const struct guest_standby_ops *const twin = &guest_embedded_standby;

static char run_dir[64];
static struct guest_error why;

/* For the guest's process, which is this program. */
#define EMBEDDED_MAIN(argc, argv)                                  \
	do {                                                       \
		if ((argc) > 4 && !strcmp((argv)[1], "guest"))     \
			return embedded_serve((argv)[3], (argc)-4, \
					      (argv) + 4);         \
	} while (0)

static inline int make_run_dir(void **state)
{
	(void)state;
	snprintf(run_dir, sizeof(run_dir), "/tmp/unit-embedded.XXXXXX");
	return mkdtemp(run_dir) ? 0 : -1;
}

static inline void destroy_one(void *arg, const char *name, bool standby)
{
	struct embedded e;

	(void)arg;
	if (embedded_attach(run_dir, name, standby, &e) == 0) {
		embedded_destroy(&e);
		embedded_detach(&e);
	}
}

static inline int remove_run_dir(void **state)
{
	char command[100];

	(void)state;
	embedded_each(run_dir, destroy_one, NULL);
	snprintf(command, sizeof(command), "rm -rf %s", run_dir);
	return system(command);
}

static inline int destroy_all(void **state)
{
	(void)state;
	embedded_each(run_dir, destroy_one, NULL);
	return 0;
}

#define assert_ok(call)                                                     \
	do {                                                                \
		int rc_ = (call);                                           \
		if (rc_)                                                    \
			print_error("%s: %s (%s)\n", #call, strerror(-rc_), \
				    why.text);                              \
		assert_int_equal(rc_, 0);                                   \
	} while (0)

#define await_true(condition)                                    \
	do {                                                     \
		uint64_t end_us_ = clock_now_us() + PATIENCE_US; \
		while (!(condition) && clock_now_us() < end_us_) \
			clock_sleep_us(1000);                    \
		assert_true(condition);                          \
	} while (0)

/* Asked as the guest likes it. */
static const struct guest_manner any_manner = { 0 };

static inline struct guest_source *open_guest(const char *words)
{
	struct guest_source *s = NULL;

	why.text[0] = '\0';
	assert_ok(src->open(words, run_dir, &any_manner, &s, &why));
	return s;
}

/* Reads an image away. */
static inline void *swallow(void *arg)
{
	char bytes[65536];

	while (recv(*(int *)arg, bytes, sizeof(bytes), 0) > 0)
		;
	return NULL;
}

/* Through the image to the first resume: tracked, running, its gate closed. */
static inline void protect(struct guest_source *s)
{
	pthread_t reader;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	pthread_create(&reader, NULL, swallow, &fds[1]);
	assert_ok(src->send_image(s, fds[0], &why));
	shutdown(fds[0], SHUT_RDWR);
	pthread_join(reader, NULL);
	close(fds[0]);
	close(fds[1]);
	assert_ok(src->start_tracking(s, &why));
	src->barrier(s, 0);
	assert_ok(src->resume(s, GUEST_RESUME_FAST));
}

/* A second, independent look at a guest. */
static inline struct embedded look_at(const char *name, bool standby)
{
	struct embedded e;

	assert_ok(embedded_attach(run_dir, name, standby, &e));
	return e;
}

static inline uint64_t steps(const struct embedded *e)
{
	return atomic_load((_Atomic uint64_t *)&e->control->vcpu[0].reg[1]);
}

#define assert_runs(e)                       \
	do {                                 \
		uint64_t was_ = steps(e);    \
		await_true(steps(e) > was_); \
	} while (0)

#define assert_stands(e)                          \
	do {                                      \
		uint64_t was_ = steps(e);         \
		clock_sleep_us(MOMENT_US);        \
		assert_int_equal(steps(e), was_); \
	} while (0)

static inline void order(const char *name, const char *text)
{
	assert_ok(embedded_order(run_dir, name, text, &why));
}

/* --- the ledger as its clients see it ------------------------------------- */

static unsigned int port;

/* One that nobody has at the moment. */
static inline void choose_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	port = ntohs(a.sin_port);
	close(fd);
}

static inline struct guest_source *open_ledger(const char *more)
{
	char words[200];

	choose_port();
	snprintf(words, sizeof(words), "ledger,mem=2M,port=%u%s", port, more);
	return open_guest(words);
}

static inline int dial(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	const struct timeval patience = { .tv_sec = 20 };
	uint64_t end_us = clock_now_us() + PATIENCE_US;
	int fd;

	do {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
			break;
		close(fd);
		fd = -1;
		clock_sleep_us(5000);
	} while (clock_now_us() < end_us);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static inline void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
			 (ssize_t)strlen(text));
}

/* One line; "" at the end of the connection. */
static inline const char *hear(int fd)
{
	static char line[256];
	size_t n = 0;

	while (n < sizeof(line) - 1 && recv(fd, line + n, 1, 0) == 1)
		if (line[n++] == '\n')
			break;
	line[n] = '\0';
	return line;
}

static inline bool silent(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };

	return poll(&p, 1, (int)(MOMENT_US / 1000)) == 0;
}

static inline void assert_begins(const char *line, const char *with)
{
	if (strncmp(line, with, strlen(with)))
		fail_msg("'%s' instead of '%s...'", line, with);
}

/* The kinds are not part of these tests. */
const struct guest_kind *const guest_kinds[] = { NULL };

#endif
