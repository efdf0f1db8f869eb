/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a guest that is held ends, boots anew or is yielded, and who lets it run
 * when its colod has died.
 */
#include "config.h"

#include "tests/unit/embedded-captures.h"
#include "tests/unit/embedded-fixture.h"

#include <signal.h>

static void ends(const char *how, enum guest_status status)
{
	struct guest_source *s = open_guest(DIRTY);
	struct embedded e = look_at("dirty", false);
	bool again = true;

	protect(s);
	order("dirty", how);
	assert_int_equal(src->suspend(s, PATIENCE_US), -ESHUTDOWN);
	assert_int_equal(src->status(s), status);
	assert_stands(&e);
	assert_ok(src->after_shutdown(s, &again));
	assert_false(again);
	assert_true(embedded_gone(&e));
	assert_int_equal(src->status(s) == GUEST_RUNNING, false);
	src->close(s);
	embedded_detach(&e);
}

static void it_powers_off(void **state)
{
	(void)state;
	ends("poweroff", GUEST_POWEROFF);
}

static void it_crashes(void **state)
{
	(void)state;
	ends("crash", GUEST_CRASHED);
}

static void it_reboots(void **state)
{
	struct guest_source *s = open_guest(DIRTY), *anew;
	struct embedded e = look_at("dirty", false);
	bool again = false;
	uint64_t before;

	(void)state;
	protect(s);
	await_true(steps(&e) > 2000);
	before = steps(&e);
	order("dirty", "reboot");
	assert_int_equal(src->suspend(s, PATIENCE_US), -ESHUTDOWN);
	assert_int_equal(src->status(s), GUEST_REBOOT);
	assert_ok(src->after_shutdown(s, &again));
	assert_true(again);
	assert_true(steps(&e) < before);
	assert_runs(&e);
	anew = open_guest("dirty");
	src->close(s);
	/* Held by the new one: at its end it waits for its colod. */
	assert_true(holder_is_self(e.control->holder));
	protect(anew);
	captures_follow(anew, PAGES, 3);
	src->close(anew);
	embedded_detach(&e);
}

/* Nobody protects it: it deals with that itself. */
static void alone_it_ends_or_boots_by_itself(void **state)
{
	struct embedded e;
	uint64_t before;

	(void)state;
	src->close(open_guest(DIRTY));
	e = look_at("dirty", false);
	await_true(steps(&e) > 2000);
	before = steps(&e);
	order("dirty", "reboot");
	await_true(steps(&e) < before);
	assert_runs(&e);
	order("dirty", "poweroff");
	await_true(embedded_gone(&e));
	embedded_detach(&e);
}

static void a_killed_process_is_a_guest_gone(void **state)
{
	struct guest_source *s = open_guest(DIRTY);
	struct embedded e = look_at("dirty", false);
	bool again = true;

	(void)state;
	protect(s);
	kill(e.pid, SIGKILL);
	assert_int_equal(src->suspend(s, PATIENCE_US), -ESHUTDOWN);
	assert_int_equal(src->status(s), GUEST_GONE);
	assert_ok(src->after_shutdown(s, &again));
	assert_false(again);
	src->close(s);
	embedded_detach(&e);
	/* Its socket is no obstacle. */
	s = open_guest(DIRTY);
	src->close(s);
}

static void a_yielded_guest_never_runs(void **state)
{
	struct guest_source *s = open_guest(DIRTY), *again;
	struct embedded e = look_at("dirty", false);

	(void)state;
	protect(s);
	assert_ok(src->yield(s));
	assert_stands(&e);
	src->stop_tracking(s);
	src->close(s);
	assert_stands(&e);
	assert_int_equal(src->open("dirty", run_dir, &any_manner, &again, &why),
			 -EBUSY);
	assert_non_null(strstr(why.text, "colod guest destroy"));
	assert_int_equal(src->rescue("dirty", run_dir, 0), 0);
	assert_stands(&e);
	order("dirty", "destroy");
	assert_true(embedded_gone(&e));
	embedded_detach(&e);
}

static void a_suspended_guest_yields_too(void **state)
{
	struct guest_source *s = open_guest(DIRTY);
	struct embedded e = look_at("dirty", false);

	(void)state;
	protect(s);
	assert_ok(src->suspend(s, PATIENCE_US));
	assert_ok(src->yield(s));
	src->close(s);
	assert_stands(&e);
	embedded_detach(&e);
}

/* Dies while it holds the guest, suspended or with a request under way. */
static void die_with(bool suspended)
{
	struct guest_source *s;

	if (src->open("dirty", run_dir, &any_manner, &s, &why))
		_exit(1);
	if (suspended) {
		if (src->suspend(s, PATIENCE_US))
			_exit(1);
	} else {
		src->suspend(s, PATIENCE_US);
	}
	kill(getpid(), SIGKILL);
}

static void a_rescue_lets_it_run(void **state)
{
	struct embedded e;
	uint64_t suspends;
	pid_t child;
	int status;

	(void)state;
	src->close(open_guest(DIRTY));
	e = look_at("dirty", false);
	child = fork();
	if (child == 0)
		die_with(true);
	waitpid(child, &status, 0);
	assert_true(WIFSIGNALED(status));
	assert_stands(&e);
	assert_ok(src->rescue("dirty", run_dir, PATIENCE_US));
	assert_runs(&e);
	assert_string_equal(e.control->holder, "");

	order("dirty", "set suspend=late late=300");
	child = fork();
	if (child == 0)
		die_with(false);
	await_true(atomic_load(&e.control->state) & EMBEDDED_WANTED);
	assert_int_equal(src->rescue("dirty", run_dir, 0), -EBUSY);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	assert_ok(src->rescue("dirty", run_dir, PATIENCE_US));
	await_true(atomic_load(&e.control->late_resumes) == 1 ||
		   atomic_load(&e.control->suspends) == 2);
	assert_runs(&e);
	assert_int_equal(src->rescue("nosuch", run_dir, 0), -ENOENT);

	/* A request that nobody has taken is withdrawn. */
	order("dirty", "set suspend=ignore");
	child = fork();
	if (child == 0)
		die_with(false);
	await_true(atomic_load(&e.control->state) & EMBEDDED_WANTED);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	assert_ok(src->rescue("dirty", run_dir, PATIENCE_US));
	suspends = atomic_load(&e.control->suspends);
	order("dirty", "set suspend=ok");
	clock_sleep_us(MOMENT_US);
	assert_int_equal(atomic_load(&e.control->suspends), suspends);
	embedded_detach(&e);
}

/* The next colod finds it so, and needs no rescue. */
static void the_next_one_cleans_up(void **state)
{
	struct guest_source *s;
	struct embedded e;
	pid_t child;

	(void)state;
	src->close(open_guest(DIRTY));
	e = look_at("dirty", false);
	child = fork();
	if (child == 0)
		die_with(true);
	waitpid(child, NULL, 0);
	assert_stands(&e);
	s = open_guest("dirty");
	assert_runs(&e);
	protect(s);
	captures_follow(s, PAGES, 3);
	src->close(s);
	embedded_detach(&e);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_teardown(name, destroy_all)
		T(it_powers_off),
		T(it_crashes),
		T(it_reboots),
		T(alone_it_ends_or_boots_by_itself),
		T(a_killed_process_is_a_guest_gone),
		T(a_yielded_guest_never_runs),
		T(a_suspended_guest_yields_too),
		T(a_rescue_lets_it_run),
		T(the_next_one_cleans_up),
#undef T
	};

	EMBEDDED_MAIN(argc, argv);
	return cmocka_run_group_tests_name("embedded end", tests, make_run_dir,
					   remove_run_dir);
}
