/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

enum {
	CLIENTS_MAX = 16,
	COMMAND_BYTES = 512,
	CLIENT_TIMEOUT_US = 2 * 1000 * 1000,
	/* After a failed accept (no descriptors). */
	RETRY_US = 200 * 1000,
	PROBE_TRIES = 40,
	PROBE_EVERY_US = 50 * 1000,
};

struct client {
	struct control *control;
	struct client *next;
	int fd;
	struct loop_op op;
	struct loop_timer timeout;
	char command[COMMAND_BYTES];
	size_t got;
	char *reply;
	size_t reply_length;
	size_t sent;
	bool answered; /* the reply is being made or sent */
};

struct control {
	struct loop *loop;
	int fd;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct loop_op accept;
	struct loop_timer retry;
	struct client *clients;
	unsigned int client_count;
	bool closed;
	json_t *(*handle)(void *arg, const char *command);
	void *arg;
};

static void control_free_if_done(struct control *c)
{
	if (c->closed && !c->accept.busy && !c->clients)
		free(c);
}

static void client_end(struct client *cl)
{
	struct control *c = cl->control;
	struct client **at = &c->clients;

	while (*at != cl)
		at = &(*at)->next;
	*at = cl->next;
	c->client_count--;
	loop_timer_stop(c->loop, &cl->timeout);
	close(cl->fd);
	free(cl->reply);
	free(cl);
	control_free_if_done(c);
}

static void client_timed_out(void *arg)
{
	struct client *cl = arg;

	shutdown(cl->fd, SHUT_RDWR);
	loop_cancel(cl->control->loop, &cl->op);
}

static void client_sent(void *arg, int res)
{
	struct client *cl = arg;

	if (res > 0)
		cl->sent += (size_t)res;
	if (res <= 0 || cl->sent == cl->reply_length) {
		client_end(cl);
		return;
	}
	loop_send(cl->control->loop, &cl->op, cl->fd, cl->reply + cl->sent,
		  cl->reply_length - cl->sent);
}

static void client_answer(struct client *cl)
{
	json_t *reply;

	cl->answered = true;
	reply = cl->control->handle(cl->control->arg, cl->command);
	if (!reply)
		reply = json_pack("{s:s}", "error", "unknown command");
	cl->reply = json_dumps(reply, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(reply);
	if (!cl->reply) {
		client_end(cl);
		return;
	}
	cl->reply_length = strlen(cl->reply);
	cl->op.fn = client_sent;
	loop_send(cl->control->loop, &cl->op, cl->fd, cl->reply,
		  cl->reply_length);
}

static void client_received(void *arg, int res)
{
	struct client *cl = arg;
	char *newline;

	if (res <= 0 || cl->control->closed) {
		client_end(cl);
		return;
	}
	cl->got += (size_t)res;
	newline = memchr(cl->command, '\n', cl->got);
	if (newline) {
		*newline = '\0';
		client_answer(cl);
	} else if (cl->got == sizeof(cl->command)) {
		client_end(cl);
	} else {
		loop_recv(cl->control->loop, &cl->op, cl->fd,
			  cl->command + cl->got, sizeof(cl->command) - cl->got);
	}
}

static void accept_next(void *arg)
{
	struct control *c = arg;

	loop_accept(c->loop, &c->accept, c->fd);
}

static void accepted(void *arg, int fd)
{
	struct control *c = arg;
	struct client *cl = NULL;

	if (c->closed) {
		if (fd >= 0)
			close(fd);
		control_free_if_done(c);
		return;
	}
	if (fd >= 0 && c->client_count < CLIENTS_MAX)
		cl = memory_zeroed(sizeof(*cl));
	if (cl) {
		cl->control = c;
		cl->fd = fd;
		cl->op.fn = client_received;
		cl->op.arg = cl;
		cl->timeout.fn = client_timed_out;
		cl->timeout.arg = cl;
		cl->next = c->clients;
		c->clients = cl;
		c->client_count++;
		loop_timer_start(c->loop, &cl->timeout,
				 clock_now_us() + CLIENT_TIMEOUT_US);
		loop_recv(c->loop, &cl->op, fd, cl->command,
			  sizeof(cl->command));
	} else if (fd >= 0) {
		close(fd);
	}
	if (fd >= 0 || fd == -ECONNABORTED)
		accept_next(c);
	else
		loop_timer_start(c->loop, &c->retry, clock_now_us() + RETRY_US);
}

/*
 * Whether nobody listens there any more.  What a process had in its io_uring
 * outlives it by a moment: there connections are made and end without a word.
 */
static bool left_behind(const char *path)
{
	unsigned int tries;

	for (tries = 0; tries < PROBE_TRIES; tries++) {
		json_t *reply = NULL;
		int err = control_call(path, "status", &reply);

		json_decref(reply);
		if (err == -ECONNREFUSED)
			return true;
		if (!err || err == -EAGAIN)
			return false; /* it answers, or is only slow */
		clock_sleep_us(PROBE_EVERY_US);
	}
	return false;
}

/* Replaces what a dead process left, never what a living one listens on. */
static int bind_path(int fd, const struct sockaddr_un *addr)
{
	if (!bind(fd, (const struct sockaddr *)addr, sizeof(*addr)))
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	if (!left_behind(addr->sun_path))
		return -EADDRINUSE;
	unlink(addr->sun_path);
	return bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? -errno
								      : 0;
}

static int path_of(const char *dir, const char *name, struct sockaddr_un *addr)
{
	int n;

	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	n = snprintf(addr->sun_path, sizeof(addr->sun_path), "%s/%s.sock", dir,
		     name);
	return n < (int)sizeof(addr->sun_path) ? 0 : -ENAMETOOLONG;
}

int control_open(struct loop *loop, const char *dir, const char *name,
		 json_t *(*handle)(void *arg, const char *command), void *arg,
		 struct control **out)
{
	AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	AUTO_FREE struct control *c = calloc(1, sizeof(*c));
	struct sockaddr_un addr;
	mode_t old;
	int err;

	if (!c || fd < 0)
		return -ENOMEM;
	if (mkdir(dir, 0755) && errno != EEXIST)
		return -errno;
	err = path_of(dir, name, &addr);
	if (err)
		return err;
	old = umask(0177);
	err = bind_path(fd, &addr);
	umask(old);
	if (err)
		return err;
	if (listen(fd, CLIENTS_MAX))
		return -errno;
	c->loop = loop;
	c->fd = TAKE_FD(fd);
	snprintf(c->path, sizeof(c->path), "%s", addr.sun_path);
	c->handle = handle;
	c->arg = arg;
	c->accept.fn = accepted;
	c->accept.arg = c;
	c->retry.fn = accept_next;
	c->retry.arg = c;
	accept_next(c);
	*out = TAKE_PTR(c);
	return 0;
}

void control_close(struct control *c)
{
	struct client *cl;

	if (!c)
		return;
	c->closed = true;
	unlink(c->path);
	shutdown(c->fd, SHUT_RDWR);
	loop_cancel(c->loop, &c->accept);
	loop_timer_stop(c->loop, &c->retry);
	close(c->fd);
	for (cl = c->clients; cl; cl = cl->next)
		if (!cl->answered) /* such as the one that told us to stop */
			client_timed_out(cl);
	control_free_if_done(c);
}
