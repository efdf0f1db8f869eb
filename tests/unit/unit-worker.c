/* SPDX-License-Identifier: Apache-2.0 */
/* engine/worker.c */
#include "config.h"

#include "engine/worker.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "tests/unit/engine-loop.h"

enum { WORKS = 100 };

struct rig {
	struct loop *loop;
	struct worker *worker;
	pthread_t loop_thread;
	atomic_uint ran;
	unsigned int done;
	char name[16];
	unsigned int sleep_us;
};

struct work {
	struct rig *rig;
	unsigned int number;
	bool ran;
	struct worker_job job;
};

static int setup(void **state)
{
	static struct rig r;

	memset(&r, 0, sizeof(r));
	r.loop_thread = pthread_self();
	*state = &r;
	return loop_open(&r.loop) ||
	       worker_start(r.loop, "colod-test", &r.worker);
}

static int teardown(void **state)
{
	struct rig *r = *state;

	worker_stop(r->worker);
	loop_close(r->loop);
	return 0;
}

static void run(void *arg)
{
	struct work *w = arg;
	struct rig *r = w->rig;

	assert_false(pthread_equal(pthread_self(), r->loop_thread));
	pthread_getname_np(pthread_self(), r->name, sizeof(r->name));
	if (r->sleep_us)
		clock_sleep_us(r->sleep_us);
	assert_int_equal(r->ran, w->number); /* in order, one at a time */
	w->ran = true;
	r->ran++;
}

static void done(void *arg)
{
	struct work *w = arg;
	struct rig *r = w->rig;

	assert_true(pthread_equal(pthread_self(), r->loop_thread));
	assert_true(w->ran);
	assert_int_equal(r->done, w->number);
	r->done++;
}

static bool all_done(void *arg)
{
	return ((struct rig *)arg)->done == WORKS;
}

static void post_one(struct rig *r, struct work *w, unsigned int number)
{
	*w = (struct work){ .rig = r, .number = number };
	worker_post(r->worker, &w->job, run, done, w);
}

static void post(struct rig *r, struct work *w)
{
	unsigned int i;

	for (i = 0; i < WORKS; i++)
		post_one(r, &w[i], i);
}

static void test_in_order_and_back_on_the_loop(void **state)
{
	struct rig *r = *state;
	struct work w[WORKS];

	post(r, w);
	loop_until(r->loop, all_done, r);
	assert_int_equal(r->ran, WORKS);
	assert_string_equal(r->name, "colod-test");
}

static void test_idle_between(void **state)
{
	struct rig *r = *state;
	struct work w[WORKS];
	unsigned int i;

	for (i = 0; i < WORKS; i++) {
		post_one(r, &w[i], i);
		if (i % 10 == 9)
			loop_for(r->loop, 1000);
	}
	loop_until(r->loop, all_done, r);
}

static void test_stop_finishes_what_is_queued(void **state)
{
	struct rig *r = *state;
	struct work w[WORKS];

	r->sleep_us = 100;
	post(r, w);
	worker_stop(r->worker);
	r->worker = NULL;
	assert_int_equal(r->ran, WORKS);
	assert_int_equal(r->done, 0); /* these still follow */
	loop_until(r->loop, all_done, r);
}

static void test_stop_at_once(void **state)
{
	(void)state;
	worker_stop(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_in_order_and_back_on_the_loop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_idle_between, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			test_stop_finishes_what_is_queued, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop_at_once, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
