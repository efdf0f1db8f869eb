/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ledger as its clients see it, and the output gate in front of them:
 * through TCP, with a real guest's process.
 */
#include "config.h"

#include "tests/unit/embedded-fixture.h"

static void epoch(struct guest_source *s, uint64_t number)
{
	assert_ok(src->suspend(s, PATIENCE_US));
	src->barrier(s, number);
	assert_ok(src->resume(s, GUEST_RESUME_FAST));
}

/* The reply is behind the gate by now. */
static void await_held(const char *name, uint64_t count)
{
	struct embedded e = look_at(name, false);

	await_true(atomic_load(&e.control->gate_holding) == count);
	embedded_detach(&e);
}

/* --- the server --------------------------------------------------------- */

static void requests_are_answered(void **state)
{
	struct guest_source *s = open_ledger("");
	int fd = dial();

	(void)state;
	say(fd, "SUM\n");
	assert_string_equal(hear(fd), "SUM 0 0000000000000000 0\n");
	/* Ahead of each other, and in pieces. */
	say(fd, "PAY 1 1 10 20 5\nPAY 1 2 20 10 -5\nPAY 2 1 0 4095 7\nSU");
	assert_begins(hear(fd), "OK 1 1 1 ");
	assert_begins(hear(fd), "OK 1 2 2 ");
	assert_begins(hear(fd), "OK 2 1 3 ");
	say(fd, "M\n");
	assert_begins(hear(fd), "SUM 3 ");
	say(fd, "CHAIN 2 1000\n");
	assert_begins(hear(fd), "T 2 1 2 20 10 -5 ");
	assert_begins(hear(fd), "T 3 2 1 0 4095 7 ");
	assert_begins(hear(fd), "END ");
	close(fd);
	src->close(s);
}

static void who_has_asked_and_left_off_is_answered(void **state)
{
	struct guest_source *s = open_ledger("");
	int fd = dial();

	(void)state;
	say(fd, "PAY 1 1 1 2 3\nSUM\n");
	shutdown(fd, SHUT_WR);
	assert_begins(hear(fd), "OK 1 1 1 ");
	assert_begins(hear(fd), "SUM 1 ");
	assert_string_equal(hear(fd), "");
	close(fd);
	src->close(s);
}

static void too_long_a_line_ends_the_connection(void **state)
{
	struct guest_source *s = open_ledger("");
	int fd = dial(), other = dial();
	char line[210];

	(void)state;
	memset(line, 'x', sizeof(line) - 2);
	line[200] = '\n';
	line[201] = '\0';
	say(fd, line); /* 200 bytes */
	assert_begins(hear(fd), "NO 0 0 ");
	memset(line, 'x', sizeof(line) - 2);
	line[201] = '\n';
	line[202] = '\0';
	say(fd, line);
	assert_string_equal(hear(fd), "");
	close(fd);
	say(other, "SUM\n");
	assert_begins(hear(other), "SUM 0 ");
	close(other);
	src->close(s);
}

/* More than the rings, the queue or a socket hold, unread for a while. */
static void many_requests_are_all_answered(void **state)
{
	enum { COUNT = 20000 };
	struct guest_source *s = open_ledger("");
	int fd = dial(), asked = 0, heard = 0, room;
	char line[64], expected[32];

	(void)state;
	while (heard < COUNT) {
		for (room = 0; room < 1000 && asked < COUNT; room++) {
			snprintf(line, sizeof(line), "PAY 5 %d 1 2 1\n",
				 ++asked);
			say(fd, line);
		}
		while (heard < asked) {
			snprintf(expected, sizeof(expected), "OK 5 %d %d ",
				 heard + 1, heard + 1);
			assert_begins(hear(fd), expected);
			heard++;
		}
	}
	close(fd);
	src->close(s);
}

/* --- the gate ----------------------------------------------------------- */

/* Protection may be lost while a last checkpoint is being taken. */
static void an_opened_gate_is_not_closed_by_an_epoch(void **state)
{
	struct guest_source *s = open_ledger("");
	int fd = dial();

	(void)state;
	protect(s);
	assert_ok(src->suspend(s, PATIENCE_US));
	src->gate(s, GUEST_GATE_OPEN, 0);
	src->barrier(s, 1);
	assert_ok(src->resume(s, GUEST_RESUME_FAST));
	say(fd, "PAY 1 1 1 2 3\n");
	assert_begins(hear(fd), "OK 1 1 1 ");
	close(fd);
	src->close(s);
}

static void a_reply_waits_for_its_epoch(void **state)
{
	struct guest_source *s = open_ledger("");
	int fd = dial();

	(void)state;
	say(fd, "PAY 1 1 1 2 3\n");
	assert_begins(hear(fd), "OK 1 1 1 "); /* not yet protected */
	protect(s);
	say(fd, "PAY 1 2 1 2 3\n");
	await_held("ledger", 1);
	src->gate(s, GUEST_GATE_RELEASE, 0);
	assert_true(silent(fd));
	epoch(s, 1);
	say(fd, "PAY 1 3 1 2 3\n");
	await_held("ledger", 2);
	assert_true(silent(fd));
	src->gate(s, GUEST_GATE_RELEASE, 1);
	assert_begins(hear(fd), "OK 1 2 2 ");
	assert_true(silent(fd));
	epoch(s, 2);
	src->gate(s, GUEST_GATE_RELEASE, 2);
	assert_begins(hear(fd), "OK 1 3 3 ");
	/* Released is released: an older order takes nothing back. */
	src->gate(s, GUEST_GATE_RELEASE, 1);
	epoch(s, 3);
	src->gate(s, GUEST_GATE_RELEASE, 3);
	src->close(s);
	close(fd);
}

static void an_open_gate_stays_open(void **state)
{
	struct guest_source *s = open_ledger("");
	int fd = dial();

	(void)state;
	protect(s);
	say(fd, "SUM\nSUM\n");
	await_held("ledger", 2);
	src->gate(s, GUEST_GATE_OPEN, 0);
	assert_begins(hear(fd), "SUM");
	assert_begins(hear(fd), "SUM");
	say(fd, "SUM\n");
	assert_begins(hear(fd), "SUM");
	/* Also by the checkpoint that was under way when it was opened. */
	epoch(s, 1);
	say(fd, "SUM\n");
	assert_begins(hear(fd), "SUM");
	src->close(s);
	close(fd);
}

static void what_is_dropped_never_leaves(void **state)
{
	struct guest_source *s = open_ledger("");
	int fd = dial();

	(void)state;
	protect(s);
	say(fd, "SUM\n");
	await_held("ledger", 1);
	src->gate(s, GUEST_GATE_DROP, 0);
	await_held("ledger", 0);
	say(fd, "SUM\n");
	assert_true(silent(fd));
	/* Not by the image that was under way either. */
	assert_ok(src->suspend(s, PATIENCE_US));
	src->barrier(s, 0);
	assert_ok(src->resume(s, GUEST_RESUME_FAST));
	src->gate(s, GUEST_GATE_RELEASE, 0);
	say(fd, "SUM\n");
	assert_true(silent(fd));
	await_held("ledger", 0);
	src->close(s);
	close(fd);
}

/* A new image: what was held belongs to it, old numbers mean nothing. */
static void a_new_image_begins_anew(void **state)
{
	struct guest_source *s = open_ledger("");
	int fd = dial();

	(void)state;
	protect(s);
	epoch(s, 1);
	epoch(s, 2);
	say(fd, "PAY 1 1 1 2 3\n");
	await_held("ledger", 1);
	src->stop_tracking(s);
	protect(s);
	say(fd, "PAY 1 2 1 2 3\n");
	await_held("ledger", 2);
	assert_true(silent(fd));
	src->gate(s, GUEST_GATE_RELEASE, 0);
	assert_begins(hear(fd), "OK 1 1 ");
	assert_true(silent(fd));
	epoch(s, 1);
	src->gate(s, GUEST_GATE_RELEASE, 1);
	assert_begins(hear(fd), "OK 1 2 ");
	src->close(s);
	close(fd);
}

static void a_gate_left_closed_is_noticed(void **state)
{
	struct guest_source *s = open_ledger("");
	int fd = dial();

	(void)state;
	assert_false(src->gate_held(s));
	protect(s);
	say(fd, "SUM\n");
	await_held("ledger", 1);
	assert_false(src->gate_held(s));
	src->close(s);
	assert_ok(src->rescue("ledger", run_dir, 0));
	s = open_guest("ledger");
	assert_true(src->gate_held(s));
	assert_true(silent(fd));
	src->close(s);
	order("ledger", "set gate=open");
	assert_begins(hear(fd), "SUM");
	s = open_guest("ledger");
	assert_false(src->gate_held(s));
	src->close(s);
	close(fd);
}

static void without_a_gate_nothing_waits(void **state)
{
	struct guest_source *s = open_ledger(",gate=off");
	int fd = dial();

	(void)state;
	protect(s);
	say(fd, "SUM\n");
	assert_begins(hear(fd), "SUM");
	src->close(s);
	close(fd);
}

/* A guest that puts out more than the gate may hold waits; none is lost. */
static void a_full_gate_makes_the_guest_wait(void **state)
{
	enum { COUNT = 40 }; /* of 1,001 lines each */
	struct guest_source *s = open_ledger("");
	struct embedded e = look_at("ledger", false);
	int fds[COUNT], i, k;
	char line[64];

	(void)state;
	fds[0] = dial();
	for (i = 1; i <= 1000; i++) {
		snprintf(line, sizeof(line), "PAY 1 %d 1 2 3\n", i);
		say(fds[0], line);
		hear(fds[0]);
	}
	for (i = 1; i < COUNT; i++)
		fds[i] = dial();
	protect(s);
	for (i = 0; i < COUNT; i++)
		say(fds[i], "CHAIN 1 1000\n");
	await_true(atomic_load(&e.control->gate_holding) >= 32768);
	assert_stands(&e);
	src->gate(s, GUEST_GATE_OPEN, 0);
	for (i = 0; i < COUNT; i++) {
		for (k = 1; k <= 1000; k++) {
			snprintf(line, sizeof(line), "T %d 1 %d ", k, k);
			assert_begins(hear(fds[i]), line);
		}
		assert_begins(hear(fds[i]), "END ");
		close(fds[i]);
	}
	embedded_detach(&e);
	src->close(s);
}

static void return_codes_mean_devices(void **state)
{
	struct guest_source *s = open_ledger("");
	int fd = dial();

	(void)state;
	say(fd, "PAY 1 1 1 2 3\n");
	hear(fd);
	assert_ok(src->suspend(s, PATIENCE_US));
	assert_ok(src->resume(s, GUEST_RESUME_FAST));
	say(fd, "SUM\n"); /* the connection has lasted */
	assert_begins(hear(fd), "SUM 1 ");
	assert_ok(src->suspend(s, PATIENCE_US));
	say(fd, "PAY 1 2 1 2 3\n");
	assert_ok(src->resume(s, GUEST_RESUME_SLOW));
	assert_string_equal(hear(fd), ""); /* it has not */
	close(fd);
	fd = dial();
	say(fd, "SUM\n");
	assert_begins(hear(fd), "SUM 1 ");
	close(fd);
	src->close(s);
}

static void a_reboot_begins_with_an_empty_ledger(void **state)
{
	struct guest_source *s = open_ledger("");
	int fd = dial();

	(void)state;
	say(fd, "PAY 1 1 1 2 3\n");
	hear(fd);
	src->close(s);
	order("ledger", "reboot");
	assert_string_equal(hear(fd), "");
	close(fd);
	fd = dial();
	say(fd, "SUM\n");
	assert_begins(hear(fd), "SUM 0 ");
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_teardown(name, destroy_all)
		T(requests_are_answered),
		T(who_has_asked_and_left_off_is_answered),
		T(too_long_a_line_ends_the_connection),
		T(many_requests_are_all_answered),
		T(a_reply_waits_for_its_epoch),
		T(an_opened_gate_is_not_closed_by_an_epoch),
		T(an_open_gate_stays_open),
		T(what_is_dropped_never_leaves),
		T(a_new_image_begins_anew),
		T(a_gate_left_closed_is_noticed),
		T(without_a_gate_nothing_waits),
		T(a_full_gate_makes_the_guest_wait),
		T(return_codes_mean_devices),
		T(a_reboot_begins_with_an_empty_ledger),
#undef T
	};

	EMBEDDED_MAIN(argc, argv);
	return cmocka_run_group_tests_name("embedded gate", tests, make_run_dir,
					   remove_run_dir);
}
