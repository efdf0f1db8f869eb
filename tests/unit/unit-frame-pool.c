/* SPDX-License-Identifier: Apache-2.0 */
/* engine/frame_pool.c */
#include "config.h"

#include "engine/frame_pool.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"

static void give_back(struct frame_buf *b)
{
	b->release(b);
}

static void test_as_many_as_there_are(void **state)
{
	struct frame_pool *p = frame_pool_new(3);
	struct frame_buf *b[3];
	int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		b[i] = frame_pool_get(p);
		assert_non_null(b[i]);
		assert_int_equal(b[i]->capacity, WIRE_PAYLOAD_MAX);
		memset(frame_payload(b[i]), 0xff, WIRE_PAYLOAD_MAX);
	}
	assert_ptr_not_equal(b[0], b[1]);
	assert_ptr_not_equal(b[1], b[2]);
	assert_ptr_not_equal(b[0], b[2]);
	give_back(b[1]);
	assert_ptr_equal(frame_pool_get(p), b[1]);
	for (i = 0; i < 3; i++)
		give_back(b[i]);
	frame_pool_free(p);
}

static void count(void *arg, const struct frame_buf *b)
{
	(void)b;
	++*(unsigned int *)arg;
}

/* One that was not used was never on its way: nobody is told of its return. */
static void test_one_that_was_not_used(void **state)
{
	struct frame_pool *p = frame_pool_new(2);
	struct frame_buf *first, *second;
	unsigned int told = 0;

	(void)state;
	frame_pool_watch(p, count, &told);
	assert_int_equal(frame_pool_out(p), 0);
	first = frame_pool_get(p);
	second = frame_pool_get(p);
	assert_int_equal(frame_pool_out(p), 2);
	frame_pool_unget(p, second);
	assert_int_equal(told, 0);
	assert_int_equal(frame_pool_out(p), 1);
	assert_ptr_equal(frame_pool_get(p), second);
	give_back(first);
	give_back(second);
	assert_int_equal(told, 2);
	assert_int_equal(frame_pool_out(p), 0);
	frame_pool_free(p);
}

struct waiter {
	struct frame_pool *pool;
	struct frame_buf *got;
	atomic_bool done;
};

static void *wait_for_one(void *arg)
{
	struct waiter *w = arg;

	w->got = frame_pool_get(w->pool);
	w->done = true;
	return NULL;
}

static void test_waits_for_a_release(void **state)
{
	struct frame_pool *p = frame_pool_new(1);
	struct frame_buf *only = frame_pool_get(p);
	struct waiter w = { .pool = p };
	pthread_t t;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, wait_for_one, &w), 0);
	clock_sleep_us(20 * 1000);
	assert_false(w.done);
	give_back(only);
	pthread_join(t, NULL);
	assert_ptr_equal(w.got, only);
	give_back(only);
	frame_pool_free(p);
}

static void test_cancel_wakes_all(void **state)
{
	struct frame_pool *p = frame_pool_new(1);
	struct frame_buf *only = frame_pool_get(p);
	struct waiter w[3] = { { .pool = p }, { .pool = p }, { .pool = p } };
	pthread_t t[3];
	int i;

	(void)state;
	for (i = 0; i < 3; i++)
		assert_int_equal(
			pthread_create(&t[i], NULL, wait_for_one, &w[i]), 0);
	clock_sleep_us(20 * 1000);
	frame_pool_cancel(p, true);
	for (i = 0; i < 3; i++) {
		pthread_join(t[i], NULL);
		assert_null(w[i].got);
	}
	give_back(only);
	frame_pool_free(p);
}

static void test_cancelled_until_told(void **state)
{
	struct frame_pool *p = frame_pool_new(2);
	struct frame_buf *b = frame_pool_get(p);

	(void)state;
	frame_pool_cancel(p, true);
	assert_null(frame_pool_get(p)); /* though there is one */
	give_back(b);
	assert_null(frame_pool_get(p));
	frame_pool_cancel(p, false);
	b = frame_pool_get(p);
	assert_non_null(b);
	give_back(b);
	frame_pool_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_many_as_there_are),
		cmocka_unit_test(test_one_that_was_not_used),
		cmocka_unit_test(test_waits_for_a_release),
		cmocka_unit_test(test_cancel_wakes_all),
		cmocka_unit_test(test_cancelled_until_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
