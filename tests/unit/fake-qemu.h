/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A QEMU that consists of its QMP socket: a thread that answers one client as
 * the test says.
 */
#ifndef TESTS_UNIT_FAKE_QEMU_H
#define TESTS_UNIT_FAKE_QEMU_H

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#define QEMU_GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"

struct fake_qemu {
	char dir[32], path[64];
	const char *greeting;
	/* Carries out a command, with the descriptor that came, or -1. */
	void (*command)(struct fake_qemu *q, const char *name, json_t *m,
			int fd);
	int listener, client;
	atomic_bool hung_up;
	pthread_t thread;
	/* What was asked for, in this order; read it after qemu_join(). */
	char asked[512];
};

static inline void qemu_say(struct fake_qemu *q, const char *text)
{
	ssize_t n = send(q->client, text, strlen(text), MSG_NOSIGNAL);

	(void)n; /* a client that left has its reasons */
}

/* An answer to `m`: {"return": BODY} or {"error": BODY}. */
static inline void qemu_answer(struct fake_qemu *q, json_t *m, const char *kind,
			       const char *body)
{
	char text[512];

	snprintf(text, sizeof(text), "{\"%s\": %s, \"id\": %lld}\r\n", kind,
		 body, (long long)json_integer_value(json_object_get(m, "id")));
	qemu_say(q, text);
}

static inline ssize_t qemu_receive(struct fake_qemu *q, char *text,
				   size_t bytes, int *fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec io = { text, bytes };
	struct msghdr m = { .msg_iov = &io,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(q->client, &m, 0);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return n;
}

static inline void qemu_take(struct fake_qemu *q, const char *line, int fd)
{
	json_t *m = json_loads(line, 0, NULL);
	const char *name = json_string_value(json_object_get(m, "execute"));

	if (name && strlen(q->asked) + strlen(name) + 2 < sizeof(q->asked)) {
		strcat(q->asked, name);
		strcat(q->asked, ";");
	}
	if (name && !strcmp(name, "qmp_capabilities"))
		qemu_answer(q, m, "return", "{}");
	else if (name)
		q->command(q, name, m, fd);
	json_decref(m);
}

/* Until the client leaves, or is left. */
static inline void qemu_serve(struct fake_qemu *q)
{
	char text[4096];
	size_t have = 0;
	int fd = -1;
	ssize_t n;
	char *end;

	qemu_say(q, q->greeting);
	while ((n = qemu_receive(q, text + have, sizeof(text) - 1 - have,
				 &fd)) > 0) {
		have += (size_t)n;
		text[have] = '\0';
		while ((end = strchr(text, '\n'))) {
			*end = '\0';
			qemu_take(q, text, fd);
			fd = -1;
			have -= (size_t)(end + 1 - text);
			memmove(text, end + 1, have + 1);
		}
	}
	close(q->client);
}

static inline void *qemu_main(void *arg)
{
	struct fake_qemu *q = arg;
	bool again;

	do {
		q->client = accept(q->listener, NULL, NULL);
		qemu_serve(q);
		again = atomic_exchange(&q->hung_up, false);
	} while (again);
	return NULL;
}

/* Leaves the client, and waits for another. */
static inline void qemu_hang_up(struct fake_qemu *q)
{
	atomic_store(&q->hung_up, true);
	shutdown(q->client, SHUT_RDWR);
}

static inline void qemu_start(struct fake_qemu *q)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (!q->greeting)
		q->greeting = QEMU_GREETING;
	strcpy(q->dir, "/tmp/fake-qemu.XXXXXX");
	assert_non_null(mkdtemp(q->dir));
	snprintf(q->path, sizeof(q->path), "%s/qmp", q->dir);
	strcpy(a.sun_path, q->path);
	q->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(q->listener, (struct sockaddr *)&a, sizeof(a)),
			 0);
	assert_int_equal(listen(q->listener, 1), 0);
	assert_int_equal(pthread_create(&q->thread, NULL, qemu_main, q), 0);
}

/* The client has closed its end. */
static inline void qemu_join(struct fake_qemu *q)
{
	pthread_join(q->thread, NULL);
	close(q->listener);
	unlink(q->path);
	rmdir(q->dir);
}

#endif
