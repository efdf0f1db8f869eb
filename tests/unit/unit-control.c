/* SPDX-License-Identifier: Apache-2.0 */
/* engine/control.c and control_client.c: over a real socket. */
#include "config.h"

#include "engine/control.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/engine-loop.h"

enum { BIG_BYTES = 40000, CLIENTS = 16 };

struct rig {
	struct loop *loop;
	struct control *control;
	char dir[32];
	char path[64];
	unsigned int handled;
	bool close_when_asked;
};

static json_t *handle(void *arg, const char *command)
{
	struct rig *r = arg;
	static char big[BIG_BYTES + 1];

	r->handled++;
	if (r->close_when_asked) {
		control_close(r->control);
		r->control = NULL;
	}
	if (!strcmp(command, "status"))
		return json_pack("{s:s,s:s}", "role", "primary", "domain",
				 "web");
	if (!strcmp(command, "big")) {
		memset(big, 'x', BIG_BYTES);
		return json_pack("{s:s}", "text", big);
	}
	return NULL;
}

static int setup(void **state)
{
	static struct rig r;

	memset(&r, 0, sizeof(r));
	strcpy(r.dir, "/tmp/colod-XXXXXX");
	*state = &r;
	if (!mkdtemp(r.dir) || loop_open(&r.loop))
		return -1;
	snprintf(r.path, sizeof(r.path), "%s/web.sock", r.dir);
	return control_open(r.loop, r.dir, "web", handle, &r, &r.control);
}

static int teardown(void **state)
{
	struct rig *r = *state;
	char command[64];

	control_close(r->control);
	loop_for(r->loop, 5000);
	assert_int_equal(access(r->path, F_OK), -1); /* nothing is left */
	loop_close(r->loop);
	assert_int_equal(strncmp(r->dir, "/tmp/colod-", 11), 0);
	snprintf(command, sizeof(command), "rm -rf %s", r->dir);
	return system(command);
}

/* --- clients in a thread, for control_call() blocks --------------------- */

struct caller {
	const char *path;
	const char *command;
	int err;
	json_t *reply;
	pthread_t thread;
	atomic_bool done;
};

static void *call_main(void *arg)
{
	struct caller *c = arg;

	c->err = control_call(c->path, c->command, &c->reply);
	c->done = true;
	return NULL;
}

static bool called(void *arg)
{
	return ((struct caller *)arg)->done;
}

static struct caller call(struct rig *r, const char *command)
{
	struct caller c = { .path = r->path, .command = command };

	assert_int_equal(pthread_create(&c.thread, NULL, call_main, &c), 0);
	loop_until(r->loop, called, &c);
	pthread_join(c.thread, NULL);
	return c;
}

static void expect_text(json_t *reply, const char *key, const char *wanted)
{
	assert_string_equal(json_string_value(json_object_get(reply, key)),
			    wanted);
}

static void test_answer(void **state)
{
	struct rig *r = *state;
	struct caller c = call(r, "status");

	assert_int_equal(c.err, 0);
	expect_text(c.reply, "role", "primary");
	json_decref(c.reply);
	assert_int_equal(r->handled, 1);
}

static void test_unknown_command(void **state)
{
	struct rig *r = *state;
	struct caller c = call(r, "nonsense");

	assert_int_equal(c.err, 0);
	expect_text(c.reply, "error", "unknown command");
	json_decref(c.reply);
}

static void test_long_answer(void **state)
{
	struct rig *r = *state;
	struct caller c = call(r, "big");

	assert_int_equal(c.err, 0);
	assert_int_equal(json_string_length(json_object_get(c.reply, "text")),
			 BIG_BYTES);
	json_decref(c.reply);
}

/* `colod stop`: the answer comes although the daemon closes the socket. */
static void test_answer_to_the_command_that_ends_it(void **state)
{
	struct rig *r = *state;
	struct caller c;

	r->close_when_asked = true;
	c = call(r, "status");
	assert_int_equal(c.err, 0);
	expect_text(c.reply, "domain", "web");
	json_decref(c.reply);
}

static void test_only_the_owner(void **state)
{
	struct rig *r = *state;
	struct stat st;

	assert_int_equal(stat(r->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

/* --- the name ----------------------------------------------------------- */

static void *open_again(void *arg)
{
	struct caller *c = arg;
	struct rig *r = (struct rig *)(uintptr_t)c->command;
	struct control *second = NULL;
	struct loop *loop;

	assert_int_equal(loop_open(&loop), 0);
	c->err = control_open(loop, r->dir, "web", handle, r, &second);
	loop_close(loop);
	c->done = true;
	return NULL;
}

static void test_name_in_use(void **state)
{
	struct rig *r = *state;
	struct caller c = { .command = (const char *)(uintptr_t)r };

	assert_int_equal(pthread_create(&c.thread, NULL, open_again, &c), 0);
	loop_until(r->loop, called, &c);
	pthread_join(c.thread, NULL);
	assert_int_equal(c.err, -EADDRINUSE);
	assert_int_equal(access(r->path, F_OK), 0); /* and it is still there */
	c = call(r, "status");
	assert_int_equal(c.err, 0);
	json_decref(c.reply);
}

static void test_left_by_a_dead_process(void **state)
{
	struct rig *r = *state;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct control *c;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/old.sock", r->dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	assert_int_equal(control_open(r->loop, r->dir, "old", handle, r, &c),
			 0);
	control_close(c);
	loop_for(r->loop, 1000);
}

static void test_long_name(void **state)
{
	struct rig *r = *state;
	char name[200];
	struct control *c;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(control_open(r->loop, r->dir, name, handle, r, &c),
			 -ENAMETOOLONG);
}

static void test_directory_is_made(void **state)
{
	struct rig *r = *state;
	char dir[64];
	struct control *c;
	struct stat st;

	snprintf(dir, sizeof(dir), "%s/run", r->dir);
	assert_int_equal(control_open(r->loop, dir, "web", handle, r, &c), 0);
	assert_int_equal(stat(dir, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	control_close(c);
	loop_for(r->loop, 1000);
	snprintf(dir, sizeof(dir), "%s/a/b", r->dir);
	assert_int_equal(control_open(r->loop, dir, "web", handle, r, &c),
			 -ENOENT);
}

/* --- clients that misbehave --------------------------------------------- */

static int raw_client(struct rig *r, const char *bytes, size_t length)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", r->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)),
			 0);
	assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), length);
	return fd;
}

static bool ended(void *arg)
{
	char byte;

	return recv(*(int *)arg, &byte, 1, MSG_DONTWAIT) == 0;
}

static void test_endless_command(void **state)
{
	struct rig *r = *state;
	char bytes[64];
	int fd;

	memset(bytes, 's', sizeof(bytes));
	fd = raw_client(r, bytes, sizeof(bytes));
	loop_until(r->loop, ended, &fd);
	assert_int_equal(r->handled, 0);
	close(fd);
}

static void test_client_that_leaves(void **state)
{
	struct rig *r = *state;
	struct caller c;

	close(raw_client(r, "stat", 4));
	close(raw_client(r, "big\n", 4));
	loop_for(r->loop, 5000);
	c = call(r, "status");
	assert_int_equal(c.err, 0);
	json_decref(c.reply);
}

static void test_command_in_pieces(void **state)
{
	struct rig *r = *state;
	char reply[256] = { 0 };
	int fd = raw_client(r, "sta", 3);

	loop_for(r->loop, 2000);
	assert_int_equal(send(fd, "tus\n", 4, MSG_NOSIGNAL), 4);
	loop_for(r->loop, 5000);
	assert_true(recv(fd, reply, sizeof(reply) - 1, MSG_DONTWAIT) > 0);
	assert_non_null(strstr(reply, "\"web\""));
	close(fd);
}

/* Those that say nothing are sent away, and then there is room again. */
static void test_silent_clients(void **state)
{
	struct rig *r = *state;
	int fds[CLIENTS], one_more, i;
	struct caller c;

	for (i = 0; i < CLIENTS; i++) {
		fds[i] = raw_client(r, "s", 1);
		loop_for(r->loop, 500);
	}
	one_more = raw_client(r, "s", 1);
	loop_until(r->loop, ended, &one_more);
	assert_false(ended(&fds[0]));
	for (i = 0; i < CLIENTS; i++)
		loop_until(r->loop, ended, &fds[i]);
	c = call(r, "status");
	assert_int_equal(c.err, 0);
	json_decref(c.reply);
	for (i = 0; i < CLIENTS; i++)
		close(fds[i]);
	close(one_more);
}

static void test_closed_with_clients(void **state)
{
	struct rig *r = *state;
	int fd = raw_client(r, "s", 1);

	loop_for(r->loop, 2000);
	control_close(r->control);
	r->control = NULL;
	loop_until(r->loop, ended, &fd);
	close(fd);
}

static void stop_loop(void *arg)
{
	loop_stop(arg);
}

/* Milliseconds of a processor that a second of the idle loop takes. */
static long idle_ms(struct loop *loop)
{
	struct loop_timer timer = { .fn = stop_loop, .arg = loop };
	struct timespec from, to;

	loop_timer_start(loop, &timer, clock_now_us() + 1000 * 1000);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	assert_int_equal(loop_run(loop), 0);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	return (to.tv_sec - from.tv_sec) * 1000 +
	       (to.tv_nsec - from.tv_nsec) / 1000000;
}

/* No descriptor for it: it waits, and the loop does not run in circles. */
static void test_no_descriptors_left(void **state)
{
	struct rig *r = *state;
	struct rlimit usual, none;
	long used_ms;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), next;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct caller c;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", r->path);
	next = dup(fd);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
	none = usual;
	none.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)),
			 0);
	used_ms = idle_ms(r->loop);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
	assert_in_range(used_ms, 0, 15);
	c = call(r, "status");
	assert_int_equal(c.err, 0);
	json_decref(c.reply);
	close(fd);
}

/* --- asking all --------------------------------------------------------- */

struct asker {
	struct rig *rig;
	const char *domain;
	int count;
	struct control_reply replies[4];
	atomic_bool done;
};

static void *ask_main(void *arg)
{
	struct asker *a = arg;

	a->count = control_ask_all(a->rig->dir, a->domain, a->replies, 4, NULL);
	a->done = true;
	return NULL;
}

static bool asked(void *arg)
{
	return ((struct asker *)arg)->done;
}

static int ask(struct rig *r, const char *domain, const char *name)
{
	struct asker a = { .rig = r, .domain = domain };
	pthread_t t;
	int i;

	assert_int_equal(pthread_create(&t, NULL, ask_main, &a), 0);
	loop_until(r->loop, asked, &a);
	pthread_join(t, NULL);
	for (i = 0; i < a.count; i++)
		json_decref(a.replies[i].status);
	if (a.count > 0 && name)
		assert_string_equal(a.replies[0].name, name);
	return a.count;
}

static void test_ask_all(void **state)
{
	struct rig *r = *state;
	char path[64];
	int fd;

	/* What is no socket, or not answered, is passed over. */
	snprintf(path, sizeof(path), "%s/file.sock", r->dir);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	snprintf(path, sizeof(path), "%s/web.lock", r->dir);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(ask(r, NULL, "web"), 1);
	assert_int_equal(ask(r, "web", "web"), 1);
	assert_int_equal(ask(r, "db", NULL), 0);
}

/*
 * A colod that was stopped takes no connection: nobody waits for it for ever,
 * and nobody says that it does not exist.
 */
static void test_stopped_with_a_full_backlog(void **state)
{
	struct rig *r = *state;
	struct control_reply replies[1];
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int in_backlog = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned int silent = 0;
	char dir[64];

	snprintf(dir, sizeof(dir), "%s/stopped", r->dir);
	assert_int_equal(mkdir(dir, 0755), 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/web.sock", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(
		connect(in_backlog, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(control_ask_all(dir, NULL, replies, 1, &silent), 0);
	assert_int_equal(silent, 1);
	close(in_backlog);
	close(fd);
	/* A dead one is not there at all. */
	assert_int_equal(control_ask_all(dir, NULL, replies, 1, &silent), 0);
	assert_int_equal(silent, 0);
}

static void test_nobody_to_ask(void **state)
{
	struct control_reply replies[1];

	(void)state;
	assert_int_equal(
		control_ask_all("/nonexistent/colod", NULL, replies, 1, NULL),
		0);
	assert_int_equal(control_ask_all("/dev/null", NULL, replies, 1, NULL),
			 -ENOTDIR);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_answer),
		TEST(test_unknown_command),
		TEST(test_long_answer),
		TEST(test_answer_to_the_command_that_ends_it),
		TEST(test_only_the_owner),
		TEST(test_name_in_use),
		TEST(test_left_by_a_dead_process),
		TEST(test_long_name),
		TEST(test_directory_is_made),
		TEST(test_endless_command),
		TEST(test_client_that_leaves),
		TEST(test_command_in_pieces),
		TEST(test_silent_clients),
		TEST(test_closed_with_clients),
		TEST(test_no_descriptors_left),
		TEST(test_stopped_with_a_full_backlog),
		TEST(test_ask_all),
		TEST(test_nobody_to_ask),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
