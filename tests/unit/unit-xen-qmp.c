/* SPDX-License-Identifier: Apache-2.0 */
/* resume/xen/qmp.c against a QEMU that says what it should and what not. */
#include "config.h"

#include "resume/xen/qmp.h"

#include <stdbool.h>

#include "base/clock.h"
#include "tests/unit/fake-qemu.h"

static uint64_t in_ms(uint64_t ms)
{
	return clock_now_us() + ms * 1000;
}

static struct xen_qmp *connected(struct fake_qemu *f)
{
	struct xen_qmp *q = NULL;

	qemu_start(f);
	assert_int_equal(xen_qmp_open(f->path, in_ms(5000), &q), 0);
	return q;
}

static void say_status(struct fake_qemu *f, const char *name, json_t *m, int fd)
{
	(void)name;
	(void)fd;
	qemu_say(f, "{\"event\": \"STOP\", \"data\": {}}\r\n");
	qemu_answer(f, m, "return", "{\"status\": \"paused\"}");
}

static void test_answer_among_events(void **state)
{
	struct fake_qemu f = { .command = say_status };
	struct xen_qmp *q = connected(&f);
	json_t *answer = NULL;

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(xen_qmp_call(q, "query-status", NULL, -1,
					      in_ms(5000), &answer),
				 0);
		assert_string_equal(
			json_string_value(json_object_get(answer, "status")),
			"paused");
		json_decref(answer);
	}
	xen_qmp_close(q);
	qemu_join(&f);
	assert_string_equal(f.asked, "qmp_capabilities;query-status;"
				     "query-status;query-status;");
}

static void refuse(struct fake_qemu *f, const char *name, json_t *m, int fd)
{
	(void)name;
	(void)fd;
	qemu_answer(f, m, "error",
		    "{\"class\": \"GenericError\", \"desc\": \"not now\"}");
}

static void test_refusal(void **state)
{
	struct fake_qemu f = { .command = refuse };
	struct xen_qmp *q = connected(&f);

	(void)state;
	assert_int_equal(xen_qmp_call(q, "stop", NULL, -1, in_ms(5000), NULL),
			 -EREMOTEIO);
	assert_string_equal(xen_qmp_why(q), "not now");
	xen_qmp_close(q);
	qemu_join(&f);
}

/* Answers the first command only when the second has come. */
static void answer_late(struct fake_qemu *f, const char *name, json_t *m,
			int fd)
{
	(void)fd;
	if (!strcmp(name, "first"))
		return;
	qemu_say(f, "{\"return\": {\"n\": 1}, \"id\": 2}\r\n");
	qemu_answer(f, m, "return", "{\"n\": 2}");
}

static void test_late_answer_is_thrown_away(void **state)
{
	struct fake_qemu f = { .command = answer_late };
	struct xen_qmp *q = connected(&f);
	json_t *answer = NULL;

	(void)state;
	assert_int_equal(xen_qmp_call(q, "first", NULL, -1, in_ms(30), &answer),
			 -ETIMEDOUT);
	assert_int_equal(
		xen_qmp_call(q, "second", NULL, -1, in_ms(5000), &answer), 0);
	assert_int_equal(json_integer_value(json_object_get(answer, "n")), 2);
	json_decref(answer);
	xen_qmp_close(q);
	qemu_join(&f);
}

/* The event comes with the answer, or behind it. */
static void resume(struct fake_qemu *f, const char *name, json_t *m, int fd)
{
	bool early = !strcmp(name, "early");

	(void)fd;
	if (early)
		qemu_say(f, "{\"event\": \"RESUME\"}\r\n");
	qemu_answer(f, m, "return", "{}");
	if (!early)
		qemu_say(f, "{\"event\": \"STOP\"}\r\n{\"event\": "
			    "\"RESUME\"}\r\n");
}

static void test_event(void **state)
{
	static const char *const commands[] = { "early", "later" };
	struct fake_qemu f = { .command = resume };
	struct xen_qmp *q = connected(&f);

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		xen_qmp_expect(q, "RESUME");
		assert_int_equal(xen_qmp_call(q, commands[i], NULL, -1,
					      in_ms(5000), NULL),
				 0);
		assert_int_equal(xen_qmp_await(q, in_ms(5000)), 0);
	}
	xen_qmp_expect(q, "RESUME");
	assert_int_equal(xen_qmp_await(q, in_ms(20)), -ETIMEDOUT);
	xen_qmp_close(q);
	qemu_join(&f);
}

static void write_to(struct fake_qemu *f, const char *name, json_t *m, int fd)
{
	ssize_t n = write(fd, name, strlen(name));

	close(fd);
	qemu_answer(f, m, n > 0 ? "return" : "error", "{}");
}

static void test_descriptor(void **state)
{
	struct fake_qemu f = { .command = write_to };
	struct xen_qmp *q = connected(&f);
	char text[16] = "";
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(xen_qmp_call(q, "add-fd", json_pack("{s:i}", "x", 1),
				      ends[1], in_ms(5000), NULL),
			 0);
	close(ends[1]);
	assert_int_equal(read(ends[0], text, sizeof(text)), 6);
	assert_string_equal(text, "add-fd");
	close(ends[0]);
	xen_qmp_close(q);
	qemu_join(&f);
}

static void leave(struct fake_qemu *f, const char *name, json_t *m, int fd)
{
	(void)name;
	(void)m;
	(void)fd;
	shutdown(f->client, SHUT_RDWR);
}

static void test_gone(void **state)
{
	struct fake_qemu f = { .command = leave };
	struct xen_qmp *q = connected(&f);

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(
			xen_qmp_call(q, "stop", NULL, -1, in_ms(5000), NULL),
			-ECONNRESET);
	assert_int_equal(xen_qmp_await(q, in_ms(5000)), -ECONNRESET);
	xen_qmp_close(q);
	qemu_join(&f);
}

static void say_no_json(struct fake_qemu *f, const char *name, json_t *m,
			int fd)
{
	(void)m;
	(void)fd;
	if (!strcmp(name, "short"))
		qemu_say(f, "no JSON\n");
	else
		for (int i = 0; i < 5000; i++)
			qemu_say(f, "twenty letters a turn");
}

static void test_no_qmp(void **state)
{
	static const char *const commands[] = { "short", "long" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct fake_qemu f = { .command = say_no_json };
		struct xen_qmp *q = connected(&f);

		for (int k = 0; k < 2; k++)
			assert_int_equal(xen_qmp_call(q, commands[i], NULL, -1,
						      in_ms(5000), NULL),
					 -EPROTO);
		xen_qmp_close(q);
		qemu_join(&f);
	}
}

static void test_nobody_there(void **state)
{
	struct fake_qemu silent = { .command = refuse, .greeting = "" };
	struct fake_qemu other = { .command = refuse, .greeting = "{}\n" };
	struct xen_qmp *q = NULL;

	(void)state;
	assert_int_equal(xen_qmp_open("/nonexistent/qmp", in_ms(10), &q),
			 -ENOENT);
	qemu_start(&silent);
	assert_int_equal(xen_qmp_open(silent.path, in_ms(20), &q), -ETIMEDOUT);
	qemu_join(&silent);
	qemu_start(&other);
	assert_int_equal(xen_qmp_open(other.path, in_ms(5000), &q), -EPROTO);
	qemu_join(&other);
	assert_null(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answer_among_events),
		cmocka_unit_test(test_refusal),
		cmocka_unit_test(test_late_answer_is_thrown_away),
		cmocka_unit_test(test_event),
		cmocka_unit_test(test_descriptor),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_no_qmp),
		cmocka_unit_test(test_nobody_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
