/* SPDX-License-Identifier: Apache-2.0 */
/* Orders to a guest's process that does not answer in time. */
#include "config.h"

#include "tests/unit/embedded-fixture.h"

#include <signal.h>
#include <sys/time.h>

#define DIRTY "dirty,mem=4M,rate=20000"

/* A process that is stopped answers too late. */
static struct embedded stopped_guest(void)
{
	const struct timeval soon = { .tv_usec = 20000 };
	struct embedded e;

	src->close(open_guest(DIRTY));
	e = look_at("dirty", false);
	setsockopt(e.sock, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
	kill(e.pid, SIGSTOP);
	assert_int_equal(embedded_call(&e, "touch", &why), -EAGAIN);
	return e;
}

static void a_late_answer_is_not_the_next_ones(void **state)
{
	const struct timeval long_time = { .tv_sec = 20 };
	struct embedded e = stopped_guest();

	(void)state;
	setsockopt(e.sock, SOL_SOCKET, SO_RCVTIMEO, &long_time,
		   sizeof(long_time));
	kill(e.pid, SIGCONT);
	assert_int_equal(embedded_call(&e, "nonsense", &why), -EINVAL);
	assert_string_equal(why.text, "'nonsense' is not understood");
	assert_ok(embedded_call(&e, "touch", &why));
	embedded_detach(&e);
}

static void what_does_not_answer_is_destroyed_too(void **state)
{
	struct embedded e = stopped_guest();

	(void)state;
	assert_ok(embedded_destroy(&e));
	assert_true(embedded_gone(&e));
	embedded_detach(&e);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_teardown(name, destroy_all)
		T(a_late_answer_is_not_the_next_ones),
		T(what_does_not_answer_is_destroyed_too),
#undef T
	};

	EMBEDDED_MAIN(argc, argv);
	return cmocka_run_group_tests_name("embedded attach", tests,
					   make_run_dir, remove_run_dir);
}
