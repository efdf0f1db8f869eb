/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: that each start is answered once, in time, from the turn. */
#include "config.h"

#include "net/loop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <netinet/in.h>

#include <cmocka.h>

#include "base/clock.h"

struct rig {
	struct loop *loop;
	struct loop_op op;
	int calls;
	int res;
	int fds[2];
	char buf[64];
	struct loop_timer timer, other;
};

static void count_and_stop(void *arg, int res)
{
	struct rig *r = arg;

	r->calls++;
	r->res = res;
	loop_stop(r->loop);
}

static int rig_open(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	assert_int_equal(loop_open(&r->loop), 0);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, r->fds), 0);
	r->op = (struct loop_op){ .fn = count_and_stop, .arg = r };
	*state = r;
	return 0;
}

static int rig_close(void **state)
{
	struct rig *r = *state;

	loop_close(r->loop);
	close(r->fds[0]);
	close(r->fds[1]);
	free(r);
	return 0;
}

static void test_recv_completes_once_and_not_inside_the_start(void **state)
{
	struct rig *r = *state;

	assert_int_equal(write(r->fds[1], "hello", 5), 5);
	loop_recv(r->loop, &r->op, r->fds[0], r->buf, sizeof(r->buf));
	assert_int_equal(r->calls, 0);
	assert_true(r->op.busy);
	assert_int_equal(loop_run(r->loop), 0);
	assert_int_equal(r->calls, 1);
	assert_int_equal(r->res, 5);
	assert_memory_equal(r->buf, "hello", 5);
	assert_false(r->op.busy);
}

static void test_send_to_a_closed_peer_is_an_error_not_a_signal(void **state)
{
	struct rig *r = *state;

	close(r->fds[1]);
	r->fds[1] = -1;
	loop_send(r->loop, &r->op, r->fds[0], "x", 1);
	assert_int_equal(loop_run(r->loop), 0);
	assert_int_equal(r->res, -EPIPE);
}

static void test_poll_reports_revents(void **state)
{
	struct rig *r = *state;

	loop_poll(r->loop, &r->op, r->fds[0], POLLOUT);
	assert_int_equal(loop_run(r->loop), 0);
	assert_true(r->res & POLLOUT);
}

static void test_accept_and_connect(void **state)
{
	struct rig *r = *state;
	struct rig other = { .loop = r->loop };
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	getsockname(listener, (struct sockaddr *)&addr, &len);
	other.op = (struct loop_op){ .fn = count_and_stop, .arg = &other };
	loop_accept(r->loop, &r->op, listener);
	loop_connect(r->loop, &other.op, fd, (struct sockaddr *)&addr, len);
	for (int i = 0; i < 2 && (r->op.busy || other.op.busy); i++)
		assert_int_equal(loop_run(r->loop), 0);
	assert_int_equal(other.res, 0);
	assert_true(r->res >= 0);
	close(r->res);
	close(fd);
	close(listener);
}

static void test_connect_refused(void **state)
{
	struct rig *r = *state;
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);
	int taken = socket(AF_INET, SOCK_STREAM, 0);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	/* Bound and not listening: nobody else can have this port. */
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(taken, (struct sockaddr *)&addr, len), 0);
	getsockname(taken, (struct sockaddr *)&addr, &len);
	loop_connect(r->loop, &r->op, fd, (struct sockaddr *)&addr, len);
	assert_int_equal(loop_run(r->loop), 0);
	assert_int_equal(r->res, -ECONNREFUSED);
	close(fd);
	close(taken);
}

static void test_cancel_is_still_answered(void **state)
{
	struct rig *r = *state;

	loop_recv(r->loop, &r->op, r->fds[0], r->buf, sizeof(r->buf));
	loop_cancel(r->loop, &r->op);
	loop_cancel(r->loop, &r->op);
	assert_int_equal(r->calls, 0);
	assert_int_equal(loop_run(r->loop), 0);
	assert_int_equal(r->calls, 1);
	assert_int_equal(r->res, -ECANCELED);
	loop_cancel(r->loop, &r->op);
	/* The stale cancellation does not hit the next start. */
	loop_recv(r->loop, &r->op, r->fds[0], r->buf, sizeof(r->buf));
	assert_int_equal(write(r->fds[1], "x", 1), 1);
	assert_int_equal(loop_run(r->loop), 0);
	assert_int_equal(r->res, 1);
}

static void receive_again(void *arg, int res)
{
	struct rig *r = arg;

	r->calls++;
	r->res += res;
	if (r->res < 1000)
		loop_recv(r->loop, &r->op, r->fds[0], r->buf, 1);
	else
		loop_stop(r->loop);
}

static void test_fn_may_start_its_op_again(void **state)
{
	struct rig *r = *state;
	char bytes[1000] = { 0 };

	r->op.fn = receive_again;
	assert_int_equal(write(r->fds[1], bytes, 1000), 1000);
	loop_recv(r->loop, &r->op, r->fds[0], r->buf, 1);
	assert_int_equal(loop_run(r->loop), 0);
	assert_int_equal(r->calls, 1000);
}

struct many {
	struct loop *loop;
	int left;
	struct loop_op ops[1000];
};

static void one_of_many(void *arg, int res)
{
	struct many *m = arg;

	assert_true(res > 0);
	if (!--m->left)
		loop_stop(m->loop);
}

static void test_more_starts_than_the_ring_holds(void **state)
{
	struct rig *r = *state;
	struct many *m = calloc(1, sizeof(*m));

	m->loop = r->loop;
	m->left = 1000;
	for (int i = 0; i < 1000; i++) {
		m->ops[i] = (struct loop_op){ .fn = one_of_many, .arg = m };
		loop_poll(r->loop, &m->ops[i], r->fds[0], POLLOUT);
		assert_int_equal(m->left, 1000);
	}
	assert_int_equal(loop_run(r->loop), 0);
	assert_int_equal(m->left, 0);
	free(m);
}

/* An owner that goes away as soon as its operation is over. */
struct transient {
	struct loop *loop;
	struct loop_op op;
	char buf[256];
	int *left;
};

static void transient_done(void *arg, int res)
{
	struct transient *t = arg;
	struct loop *loop = t->loop;

	assert_int_equal(res, -ECANCELED);
	if (!--*t->left)
		loop_stop(loop);
	free(t);
}

static void test_owner_may_be_freed_by_fn(void **state)
{
	struct rig *r = *state;
	int left = 100;

	for (int i = 0; i < 100; i++) {
		struct transient *t = calloc(1, sizeof(*t));

		t->loop = r->loop;
		t->left = &left;
		t->op = (struct loop_op){ .fn = transient_done, .arg = t };
		loop_recv(r->loop, &t->op, r->fds[0], t->buf, sizeof(t->buf));
		loop_cancel(r->loop, &t->op);
	}
	assert_int_equal(loop_run(r->loop), 0);
	assert_int_equal(left, 0);
}

static char order[16];

static void note_a(void *arg)
{
	(void)arg;
	strcat(order, "a");
}

static void note_b(void *arg)
{
	(void)arg;
	strcat(order, "b");
}

static void note_stop(void *arg)
{
	strcat(order, "s");
	loop_stop(arg);
}

static void test_timers_run_in_order_of_time(void **state)
{
	struct rig *r = *state;
	struct loop_timer stop = { .fn = note_stop, .arg = r->loop };
	uint64_t start_us = clock_now_us();

	order[0] = '\0';
	r->timer.fn = note_a;
	r->other.fn = note_b;
	loop_timer_start(r->loop, &stop, start_us + 30000);
	loop_timer_start(r->loop, &r->timer, start_us + 50000);
	loop_timer_start(r->loop, &r->other, start_us + 10000);
	/* Moved ahead of the others. */
	loop_timer_start(r->loop, &r->timer, start_us + 5000);
	assert_int_equal(loop_run(r->loop), 0);
	assert_string_equal(order, "abs");
	assert_true(clock_now_us() >= start_us + 30000);
	assert_false(r->timer.armed);
}

static void test_stopped_timer_does_not_run(void **state)
{
	struct rig *r = *state;
	struct loop_timer stop = { .fn = note_stop, .arg = r->loop };

	order[0] = '\0';
	r->timer.fn = note_a;
	loop_timer_start(r->loop, &r->timer, clock_now_us() + 1000);
	loop_timer_start(r->loop, &stop, clock_now_us() + 5000);
	loop_timer_stop(r->loop, &r->timer);
	loop_timer_stop(r->loop, &r->timer);
	assert_int_equal(loop_run(r->loop), 0);
	assert_string_equal(order, "s");
}

static void always_due(void *arg)
{
	struct rig *r = arg;

	loop_timer_start(r->loop, &r->timer, 0);
}

static void test_timer_that_is_always_due_starves_nothing(void **state)
{
	struct rig *r = *state;

	r->timer = (struct loop_timer){ .fn = always_due, .arg = r };
	loop_timer_start(r->loop, &r->timer, 0);
	assert_int_equal(write(r->fds[1], "x", 1), 1);
	loop_recv(r->loop, &r->op, r->fds[0], r->buf, 1);
	assert_int_equal(loop_run(r->loop), 0);
	assert_int_equal(r->calls, 1);
	loop_timer_stop(r->loop, &r->timer);
}

struct poster {
	struct loop *loop;
	pthread_t loop_thread;
	int next[2];
	int done;
};

static void posted(void *arg)
{
	struct poster *p = ((void **)arg)[0];
	int *mine = ((void **)arg)[1];
	int number = *(int *)((void **)arg)[2];

	assert_true(pthread_equal(p->loop_thread, pthread_self()));
	assert_int_equal(number, *mine);
	(*mine)++;
	free(((void **)arg)[2]);
	free(arg);
	if (p->next[0] == 2000 && p->next[1] == 2000)
		loop_stop(p->loop);
}

static void *post_from(struct poster *p, int which)
{
	for (int i = 0; i < 2000; i++) {
		void **arg = calloc(3, sizeof(*arg));
		int *number = malloc(sizeof(*number));

		*number = i;
		arg[0] = p;
		arg[1] = &p->next[which];
		arg[2] = number;
		loop_post(p->loop, posted, arg);
	}
	return NULL;
}

static void *post_first(void *arg)
{
	return post_from(arg, 0);
}

static void *post_second(void *arg)
{
	return post_from(arg, 1);
}

static void test_posts_from_threads_run_in_order_on_the_loop(void **state)
{
	struct rig *r = *state;
	struct poster p = { .loop = r->loop, .loop_thread = pthread_self() };
	pthread_t a, b;

	assert_int_equal(pthread_create(&a, NULL, post_first, &p), 0);
	assert_int_equal(pthread_create(&b, NULL, post_second, &p), 0);
	assert_int_equal(loop_run(r->loop), 0);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	assert_int_equal(p.next[0], 2000);
	assert_int_equal(p.next[1], 2000);
}

static void post_last(void *arg)
{
	struct rig *r = arg;

	if (++r->calls < 3)
		loop_post(r->loop, post_last, r);
}

static void post_and_stop(void *arg)
{
	struct rig *r = arg;

	loop_post(r->loop, post_last, r);
	loop_stop(r->loop);
	assert_true(loop_stopping(r->loop));
}

static void test_what_is_posted_runs_before_the_loop_ends(void **state)
{
	struct rig *r = *state;

	loop_post(r->loop, post_and_stop, r);
	assert_int_equal(loop_run(r->loop), 0);
	assert_int_equal(r->calls, 3);
}

struct dying {
	struct rig *rig;
	struct loop_op op;
	struct loop_timer timer;
	char buf[16];
};

static void dying_gone(void *arg)
{
	struct dying *d = arg;

	d->rig->calls++;
	free(d);
}

static void dying_cancelled(void *arg, int res)
{
	struct dying *d = arg;

	assert_int_equal(res, -ECANCELED);
	loop_timer_start(d->rig->loop, &d->timer, 0);
}

static void test_what_is_cancelled_ends_before_the_loop_does(void **state)
{
	struct rig *r = *state;
	struct dying *d = calloc(1, sizeof(*d));

	d->rig = r;
	d->op = (struct loop_op){ .fn = dying_cancelled, .arg = d };
	d->timer = (struct loop_timer){ .fn = dying_gone, .arg = d };
	loop_recv(r->loop, &d->op, r->fds[0], d->buf, sizeof(d->buf));
	loop_cancel(r->loop, &d->op);
	loop_stop(r->loop);
	assert_int_equal(loop_run(r->loop), 0);
	assert_int_equal(r->calls, 1);
}

static void test_what_is_under_way_stays_so_when_the_loop_ends(void **state)
{
	struct rig *r = *state;
	uint64_t start_us = clock_now_us();

	loop_recv(r->loop, &r->op, r->fds[0], r->buf, sizeof(r->buf));
	loop_stop(r->loop);
	assert_int_equal(loop_run(r->loop), 0);
	assert_true(clock_now_us() - start_us < 5000 * 1000);
	assert_true(r->op.busy);
	assert_int_equal(write(r->fds[1], "x", 1), 1);
	assert_int_equal(loop_run(r->loop), 0);
	assert_int_equal(r->res, 1);
}

static void *post_late(void *arg)
{
	struct rig *r = arg;

	clock_sleep_us(200000);
	loop_post(r->loop, note_stop, r->loop);
	return NULL;
}

static long cpu_us(const struct rusage *u)
{
	return (u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1000000 +
	       u->ru_utime.tv_usec + u->ru_stime.tv_usec;
}

static void test_idle_loop_sleeps_and_is_woken(void **state)
{
	struct rig *r = *state;
	struct rusage before, after;
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, post_late, r), 0);
	getrusage(RUSAGE_THREAD, &before);
	assert_int_equal(loop_run(r->loop), 0);
	getrusage(RUSAGE_THREAD, &after);
	pthread_join(t, NULL);
	assert_true(after.ru_nvcsw - before.ru_nvcsw < 10);
	assert_true(cpu_us(&after) - cpu_us(&before) < 100000);
}

static void got_signal(void *arg, int number)
{
	struct rig *r = arg;

	r->calls++;
	r->res = number;
	if (r->calls == 2)
		loop_stop(r->loop);
	else
		kill(getpid(), SIGUSR1);
}

static void test_signals_arrive_as_calls(void **state)
{
	struct rig *r = *state;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	assert_int_equal(loop_signals(r->loop, &set, got_signal, r), 0);
	kill(getpid(), SIGUSR2);
	assert_int_equal(loop_run(r->loop), 0);
	assert_int_equal(r->calls, 2);
	assert_int_equal(r->res, SIGUSR1);
}

#define LOOP_TEST(f) cmocka_unit_test_setup_teardown(f, rig_open, rig_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOOP_TEST(test_recv_completes_once_and_not_inside_the_start),
		LOOP_TEST(test_send_to_a_closed_peer_is_an_error_not_a_signal),
		LOOP_TEST(test_poll_reports_revents),
		LOOP_TEST(test_accept_and_connect),
		LOOP_TEST(test_connect_refused),
		LOOP_TEST(test_cancel_is_still_answered),
		LOOP_TEST(test_fn_may_start_its_op_again),
		LOOP_TEST(test_more_starts_than_the_ring_holds),
		LOOP_TEST(test_owner_may_be_freed_by_fn),
		LOOP_TEST(test_timers_run_in_order_of_time),
		LOOP_TEST(test_stopped_timer_does_not_run),
		LOOP_TEST(test_timer_that_is_always_due_starves_nothing),
		LOOP_TEST(test_posts_from_threads_run_in_order_on_the_loop),
		LOOP_TEST(test_what_is_posted_runs_before_the_loop_ends),
		LOOP_TEST(test_what_is_cancelled_ends_before_the_loop_does),
		LOOP_TEST(test_what_is_under_way_stays_so_when_the_loop_ends),
		LOOP_TEST(test_idle_loop_sleeps_and_is_woken),
		LOOP_TEST(test_signals_arrive_as_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
