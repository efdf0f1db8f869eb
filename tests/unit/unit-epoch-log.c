/* SPDX-License-Identifier: Apache-2.0 */
/* engine/epoch_log.c */
#include "config.h"

#include "engine/epoch_log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

static char dir[64];
static char path[96];

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/colod-epoch-log-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/log", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

static struct epoch_log *opened(const char *file)
{
	struct epoch_log *l = NULL;

	assert_int_equal(epoch_log_open(file, &l), 0);
	return l;
}

static struct epoch a_round(size_t pages)
{
	return (struct epoch){
		.page_count = pages,
		.times = { .ahead_us = 15,
			   .suspend_us = 1,
			   .scan_us = 2,
			   .copy_us = 3,
			   .state_us = 4,
			   .resume_us = 5,
			   .devices_us = 10,
			   .reset_us = 11,
			   .channels_us = 12,
			   .paused_us = 14,
			   .encode_us = 6 },
	};
}

/* All of an epoch that starts at 1000 and ends at 1500. */
static void one(struct epoch_log *l, uint64_t number)
{
	const struct epoch_id id = { number, 1 };
	const struct epoch e = a_round(7);

	epoch_log_begin(l, id, 1000);
	epoch_log_captured(l, id, &e, 1100);
	epoch_log_encoded(l, id, &e, 321, 1200);
	epoch_log_sent(l, id, 1234);
	epoch_log_over(l, number, ENV_EPOCH_ACKNOWLEDGED, NULL, number - 1,
		       1500);
}

/* What the file says now; false where it says nothing. */
static size_t text_of(const char *file, char *text, size_t room)
{
	int fd = open(file, O_RDONLY | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : read(fd, text, room - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

static long long number(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	assert_true(json_is_integer(v));
	return json_integer_value(v);
}

static json_t *line(char **at)
{
	char *end = strchr(*at, '\n');
	json_t *o;

	assert_non_null(end);
	*end = '\0';
	o = json_loads(*at, 0, NULL);
	assert_non_null(o);
	*at = end + 1;
	return o;
}

static void test_a_line(void **state)
{
	static const struct {
		const char *key;
		long long value;
	} want[] = {
		{ "epoch", 3 },		{ "time_us", 1000 },
		{ "rounds", 1 },	{ "dirty_pages", 7 },
		{ "raw_bytes", 28672 }, { "sent_bytes", 321 },
		{ "ahead_us", 15 },	{ "suspend_us", 1 },
		{ "scan_us", 2 },	{ "copy_us", 3 },
		{ "state_us", 4 },	{ "resume_us", 5 },
		{ "paused_us", 14 },	{ "devices_us", 10 },
		{ "reset_us", 11 },	{ "channels_us", 12 },
		{ "encode_us", 6 },	{ "send_us", 34 },
		{ "ack_us", 400 },	{ "commit_us", 500 },
		{ "applied", 2 },
	};
	struct epoch_log *l = opened(path);
	char text[4096], *at = text;
	size_t i;
	json_t *o;

	(void)state;
	one(l, 3);
	epoch_log_close(l);
	assert_true(text_of(path, text, sizeof(text)) > 0);
	o = line(&at);
	assert_string_equal(json_string_value(json_object_get(o, "end")),
			    "acknowledged");
	for (i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		assert_int_equal(number(o, want[i].key), want[i].value);
	assert_int_equal(json_object_size(o),
			 1 + sizeof(want) / sizeof(want[0]));
	assert_int_equal(*at, '\0');
	json_decref(o);
}

/* The sum of its rounds; from the last one to the acknowledgement. */
static void test_rounds(void **state)
{
	const struct epoch_id id = { 1, 1 };
	struct epoch_log *l = opened(path);
	struct epoch a = a_round(100), b = a_round(20);
	char text[4096], *at = text;
	json_t *o;

	(void)state;
	epoch_log_begin(l, id, 1000);
	epoch_log_captured(l, id, &a, 1100);
	epoch_log_begin(l, id, 1150);
	epoch_log_encoded(l, id, &a, 50, 1200);
	epoch_log_captured(l, id, &b, 1300);
	epoch_log_encoded(l, id, &b, 5, 1400);
	epoch_log_over(l, 1, ENV_EPOCH_ACKNOWLEDGED, NULL, 0, 2000);
	epoch_log_close(l);
	text_of(path, text, sizeof(text));
	o = line(&at);
	assert_int_equal(number(o, "rounds"), 2);
	assert_int_equal(number(o, "dirty_pages"), 120);
	assert_int_equal(number(o, "sent_bytes"), 55);
	assert_int_equal(number(o, "paused_us"), 28);
	assert_int_equal(number(o, "encode_us"), 12);
	assert_int_equal(number(o, "ack_us"), 700);
	assert_int_equal(number(o, "commit_us"), 1000);
	json_decref(o);
}

/* Then the line waits for the encoder's figures. */
static void test_acknowledged_before_the_encoder_is_done(void **state)
{
	const struct epoch_id id = { 1, 1 };
	const struct epoch e = a_round(7);
	struct epoch_log *l = opened(path);
	char text[4096], *at = text;
	json_t *o;

	(void)state;
	epoch_log_begin(l, id, 1000);
	epoch_log_captured(l, id, &e, 1100);
	epoch_log_sent(l, id, 1150);
	epoch_log_over(l, 1, ENV_EPOCH_ACKNOWLEDGED, NULL, 0, 1190);
	assert_int_equal(text_of(path, text, sizeof(text)), 0);
	epoch_log_encoded(l, id, &e, 321, 1200);
	epoch_log_close(l);
	text_of(path, text, sizeof(text));
	o = line(&at);
	assert_int_equal(number(o, "ack_us"), 90);
	assert_int_equal(number(o, "send_us"), 0);
	assert_int_equal(number(o, "encode_us"), 6);
	json_decref(o);
}

static void test_skipped_and_aborted(void **state)
{
	struct epoch_log *l = opened(path);
	char text[4096], *at = text;
	json_t *o;

	(void)state;
	epoch_log_begin(l, (struct epoch_id){ 1, 1 }, 1000);
	epoch_log_over(l, 1, ENV_EPOCH_SKIPPED, "too \"late\"\n", 0, 1200);
	epoch_log_begin(l, (struct epoch_id){ 1, 1 }, 1300);
	epoch_log_over(l, 1, ENV_EPOCH_ABORTED, NULL, 0, 1400);
	/* Of another connection, and late: not of the new number 1. */
	one(l, 1);
	epoch_log_over(l, 9, ENV_EPOCH_ABORTED, "nobody knows it", 0, 1);
	epoch_log_close(l);
	text_of(path, text, sizeof(text));
	o = line(&at);
	assert_string_equal(json_string_value(json_object_get(o, "end")),
			    "skipped");
	assert_string_equal(json_string_value(json_object_get(o, "why")),
			    "too \"late\"\n");
	assert_null(json_object_get(o, "ack_us"));
	json_decref(o);
	o = line(&at);
	assert_string_equal(json_string_value(json_object_get(o, "end")),
			    "aborted");
	json_decref(o);
	o = line(&at);
	assert_int_equal(number(o, "dirty_pages"), 7);
	json_decref(o);
	assert_int_equal(*at, '\0');
}

static void test_late_news_of_another_connection(void **state)
{
	const struct epoch e = a_round(7), other = a_round(900);
	struct epoch_log *l = opened(path);
	char text[4096], *at = text;
	json_t *o;

	(void)state;
	epoch_log_begin(l, (struct epoch_id){ 1, 1 }, 10);
	epoch_log_captured(l, (struct epoch_id){ 1, 1 }, &other, 20);
	epoch_log_over(l, 1, ENV_EPOCH_ABORTED, "lost", 0, 30);
	text_of(path, text, sizeof(text));
	epoch_log_begin(l, (struct epoch_id){ 1, 2 }, 1000);
	epoch_log_captured(l, (struct epoch_id){ 1, 2 }, &e, 1100);
	epoch_log_encoded(l, (struct epoch_id){ 1, 1 }, &other, 99, 1150);
	epoch_log_sent(l, (struct epoch_id){ 1, 1 }, 1160);
	epoch_log_encoded(l, (struct epoch_id){ 1, 2 }, &e, 321, 1200);
	epoch_log_over(l, 1, ENV_EPOCH_ACKNOWLEDGED, NULL, 0, 1500);
	epoch_log_close(l);
	text_of(path, text, sizeof(text));
	json_decref(line(&at));
	o = line(&at);
	assert_int_equal(number(o, "sent_bytes"), 321);
	assert_int_equal(number(o, "encode_us"), 6);
	json_decref(o);
}

/* --- what never may block or hurt ---------------------------------------- */

enum { MANY = 2000 }; /* more than a pipe holds */

/* Runs fn with the log of this process in a file; how many lines it got. */
static int warnings_of(void (*fn)(struct epoch_log *l), struct epoch_log *l)
{
	FILE *f = tmpfile();
	int kept = dup(STDERR_FILENO), count = 0, c;

	dup2(fileno(f), STDERR_FILENO);
	alarm(30); /* a write that blocks ends the test */
	fn(l);
	alarm(0);
	dup2(kept, STDERR_FILENO);
	close(kept);
	rewind(f);
	while ((c = getc(f)) != EOF)
		count += c == '\n';
	fclose(f);
	return count;
}

static void many(struct epoch_log *l)
{
	uint64_t n;

	for (n = 1; n <= MANY; n++)
		one(l, n);
}

static void test_a_fifo_without_a_reader(void **state)
{
	char text[65536 + 1], *at = text;
	struct epoch_log *l;

	(void)state;
	assert_int_equal(mkfifo(path, 0600), 0);
	l = opened(path);
	assert_int_equal(warnings_of(many, l), 1);
	/* A reader that comes late finds whole lines, and the log goes on. */
	assert_true(text_of(path, text, sizeof(text)) > 0);
	json_decref(line(&at));
	assert_int_equal(warnings_of(many, l), 0);
	epoch_log_close(l);
}

static void test_a_pipe_that_is_full_or_closed(void **state)
{
	char name[32], text[65536 + 1], *at = text;
	struct epoch_log *l;
	int fds[2];
	ssize_t n;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	snprintf(name, sizeof(name), "/dev/fd/%d", fds[1]);
	l = opened(name);
	assert_int_equal(warnings_of(many, l), 1);
	n = read(fds[0], text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_int_equal(text[n - 1], '\n');
	while (*at)
		json_decref(line(&at));
	close(fds[0]);
	close(fds[1]);
	many(l);
	epoch_log_close(l);
}

static void test_a_full_disk(void **state)
{
	struct epoch_log *l = opened("/dev/full");

	(void)state;
	assert_int_equal(warnings_of(many, l), 1);
	epoch_log_close(l);
}

/* A line that was torn by a full disk is ended before the next. */
static void test_a_disk_full_for_a_while(void **state)
{
	struct rlimit full, before;
	struct epoch_log *l = opened(path);
	char text[65536], *at = text;
	int whole = 0, torn = 0, after = 0;
	json_t *o;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	full = before;
	full.rlim_cur = 1000;
	setrlimit(RLIMIT_FSIZE, &full);
	for (int i = 1; i < 20; i++)
		one(l, (uint64_t)i);
	setrlimit(RLIMIT_FSIZE, &before);
	one(l, 20);
	one(l, 21);
	epoch_log_close(l);
	assert_true(text_of(path, text, sizeof(text)) > 1000);
	while (*at) {
		char *end = strchr(at, '\n');

		assert_non_null(end);
		*end = '\0';
		o = json_loads(at, 0, NULL);
		whole += o != NULL;
		after += o && number(o, "epoch") >= 20;
		torn += o == NULL;
		json_decref(o);
		at = end + 1;
	}
	assert_int_equal(torn, 1);
	assert_true(whole >= 3);
	assert_int_equal(after, 2);
}

static void test_no_such_place(void **state)
{
	struct epoch_log *l = NULL;

	(void)state;
	assert_int_equal(epoch_log_open("/nowhere/log", &l), -ENOENT);
	assert_int_equal(epoch_log_open("/tmp", &l), -EISDIR);
	assert_null(l);
	one(NULL, 1); /* no log is no log */
	epoch_log_close(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_line),
		TEST(test_rounds),
		TEST(test_acknowledged_before_the_encoder_is_done),
		TEST(test_skipped_and_aborted),
		TEST(test_late_news_of_another_connection),
		TEST(test_a_fifo_without_a_reader),
		TEST(test_a_pipe_that_is_full_or_closed),
		TEST(test_a_full_disk),
		TEST(test_a_disk_full_for_a_while),
		TEST(test_no_such_place),
	};

	signal(SIGPIPE, SIG_IGN); /* as the daemon does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
