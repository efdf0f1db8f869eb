/* SPDX-License-Identifier: Apache-2.0 */
/* resume/xen/lead.c: what libxl's stream begins with, and its way out. */
#include "config.h"

#include "resume/xen/lead.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static const uint8_t good[XEN_LEAD_BYTES + 1] =
	"LibxlFmt\0\0\0\2\0\0\0\0\1\0\0\0\0\0\0\0";

static void pair(int fd[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
}

static void test_await(void **state)
{
	uint8_t again[XEN_LEAD_BYTES];
	int fd[2];

	(void)state;
	pair(fd);
	/* In two pieces, with more behind. */
	assert_int_equal(write(fd[0], good, 16), 16);
	assert_int_equal(write(fd[0], good + 16, 8), 8);
	assert_int_equal(write(fd[0], "more", 4), 4);
	assert_int_equal(xen_lead_await(fd[1]), 0);
	assert_int_equal(read(fd[1], again, sizeof(again)), sizeof(again));
	assert_memory_equal(again, good, sizeof(again));
	close(fd[0]);
	close(fd[1]);
}

/* All there is of it is no beginning. */
static void test_ends_early(void **state)
{
	int fd[2];

	(void)state;
	for (size_t n = 0; n < XEN_LEAD_BYTES; n++) {
		pair(fd);
		assert_int_equal(write(fd[0], good, n), n);
		close(fd[0]);
		assert_int_equal(xen_lead_await(fd[1]), -EPIPE);
		close(fd[1]);
	}
	pair(fd);
	assert_int_equal(write(fd[0], good, 20), 20);
	shutdown(fd[1], SHUT_RDWR);
	assert_int_equal(xen_lead_await(fd[1]), -EPIPE);
	close(fd[0]);
	close(fd[1]);
}

static void test_something_else(void **state)
{
	uint8_t bad[XEN_LEAD_BYTES];
	int fd[2];

	(void)state;
	for (size_t i = 0; i < XEN_LEAD_BYTES; i++) {
		memcpy(bad, good, sizeof(bad));
		bad[i] ^= 0x10;
		pair(fd);
		assert_int_equal(write(fd[0], bad, sizeof(bad)), sizeof(bad));
		assert_int_equal(xen_lead_await(fd[1]), -EPROTO);
		close(fd[0]);
		close(fd[1]);
	}
}

struct reader {
	int fd;
	uint64_t sum, bytes;
};

static void *read_all(void *arg)
{
	struct reader *r = arg;
	uint8_t buf[3001];
	ssize_t n;

	while ((n = read(r->fd, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n; i++)
			r->sum += buf[i] * ++r->bytes;
	return NULL;
}

static void test_relay(void **state)
{
	struct xen_lead_relay *r;
	struct reader reader = { 0 };
	uint64_t sum = 0, bytes = 0;
	uint8_t buf[10007];
	pthread_t thread;
	int fd[2];

	(void)state;
	pair(fd);
	reader.fd = fd[1];
	assert_int_equal(pthread_create(&thread, NULL, read_all, &reader), 0);
	assert_int_equal(xen_lead_relay_start(fd[0], &r), 0);
	for (unsigned int k = 0; k < 500; k++) {
		for (size_t i = 0; i < sizeof(buf); i++) {
			buf[i] = (uint8_t)(i * k + 7);
			sum += buf[i] * ++bytes;
		}
		assert_int_equal(write(xen_lead_relay_fd(r), buf, sizeof(buf)),
				 sizeof(buf));
	}
	assert_int_equal(xen_lead_relay_finish(r), 0);
	close(fd[0]);
	pthread_join(thread, NULL);
	assert_int_equal(reader.bytes, bytes);
	assert_int_equal(reader.sum, sum);
	close(fd[1]);
}

/* Whoever reads is gone from the beginning: libxl learns of it afterwards. */
static void test_relay_breaks(void **state)
{
	struct xen_lead_relay *r;
	int fd[2], n;

	(void)state;
	pair(fd);
	close(fd[1]);
	assert_int_equal(xen_lead_relay_start(fd[0], &r), 0);
	usleep(20000); /* time to break too soon */
	assert_int_equal(write(xen_lead_relay_fd(r), good, 16), 16);
	usleep(20000);
	assert_int_equal(write(xen_lead_relay_fd(r), good + 16, 8), 8);
	for (n = 0; n < 5000; n++) {
		if (write(xen_lead_relay_fd(r), "x", 1) < 0)
			break;
		usleep(1000);
	}
	assert_int_equal(errno, EPIPE);
	assert_true(n < 5000);
	assert_int_equal(xen_lead_relay_finish(r), -EPIPE);
	close(fd[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_await),
		cmocka_unit_test(test_ends_early),
		cmocka_unit_test(test_something_else),
		cmocka_unit_test(test_relay),
		cmocka_unit_test(test_relay_breaks),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
