/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The QMP client (see qmp.h).
 *
 * The happy path: the greeting, `qmp_capabilities', then a line out and lines
 * in until the answer with its number; what else comes are events and answers
 * to commands that nobody waits for any more. Failure modes: the socket is full
 * or silent until the deadline; it closes; a line that is no JSON object or too
 * long, after which the place of the next one is not known, so every later call
 * fails, too.
 */
#include "config.h"

#include "resume/xen/qmp.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

enum { LINE_BYTES_MAX = 64 * 1024 };

struct xen_qmp {
	int fd;
	int broken;	     /* or the error of all that follows */
	json_int_t number;   /* of the last command */
	const char *expects; /* an event, or NULL */
	bool happened;	     /* it came */
	char why[200];
	size_t length; /* of what is in `buffer` */
	char buffer[LINE_BYTES_MAX];
};

/* Until the socket is ready, or the deadline. */
static int await(struct xen_qmp *q, short what, uint64_t end_us)
{
	struct pollfd p = { .fd = q->fd, .events = what };
	uint64_t now_us = clock_now_us();
	struct timespec t;
	int n;

	if (now_us > end_us)
		now_us = end_us;
	t.tv_sec = (time_t)((end_us - now_us) / 1000000);
	t.tv_nsec = (long)((end_us - now_us) % 1000000) * 1000;
	n = ppoll(&p, 1, &t, NULL);
	if (n > 0)
		return 0;
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	return -ETIMEDOUT;
}

static ssize_t send_some(struct xen_qmp *q, const char *text, size_t length,
			 int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec io = { (void *)text, length };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (fd >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(q->fd, &m, MSG_NOSIGNAL);
}

/* A line that was sent in part only cannot be taken back: `broken`. */
static int send_line(struct xen_qmp *q, const char *text, int fd,
		     uint64_t end_us)
{
	size_t length = strlen(text), sent = 0;
	ssize_t n;
	int rc;

	while (sent < length) {
		n = send_some(q, text + sent, length - sent, fd);
		if (n > 0) {
			sent += (size_t)n;
			fd = -1; /* went with the first bytes */
			continue;
		}
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			rc = errno == EPIPE ? -ECONNRESET : -errno;
		else
			rc = await(q, POLLOUT, end_us);
		if (rc < 0) {
			if (sent)
				q->broken = rc;
			return rc;
		}
	}
	return 0;
}

static int receive_some(struct xen_qmp *q, uint64_t end_us)
{
	ssize_t n;
	int rc;

	if (q->length == sizeof(q->buffer))
		return q->broken = -EPROTO;
	for (;;) {
		n = recv(q->fd, q->buffer + q->length,
			 sizeof(q->buffer) - q->length, 0);
		if (n > 0)
			break;
		if (n == 0)
			return q->broken = -ECONNRESET;
		if (errno != EAGAIN && errno != EINTR)
			return q->broken = -errno;
		rc = await(q, POLLIN, end_us);
		if (rc < 0)
			return rc;
	}
	q->length += (size_t)n;
	return 0;
}

/* The next message; *m is the caller's to give back. */
static int next_message(struct xen_qmp *q, uint64_t end_us, json_t **m)
{
	json_error_t error;
	size_t line;
	char *end;
	int rc;

	while (!(end = memchr(q->buffer, '\n', q->length))) {
		rc = receive_some(q, end_us);
		if (rc < 0)
			return rc;
	}
	/* One that talks all the time is silent to us. */
	if (clock_now_us() > end_us)
		return -ETIMEDOUT;
	line = (size_t)(end - q->buffer);
	*m = json_loadb(q->buffer, line, 0, &error);
	q->length -= line + 1;
	memmove(q->buffer, end + 1, q->length);
	if (json_is_object(*m))
		return 0;
	json_decref(*m);
	log_debug("QMP: no message: %s", error.text);
	return q->broken = -EPROTO;
}

static void note_event(struct xen_qmp *q, const json_t *m)
{
	const char *event = json_string_value(json_object_get(m, "event"));

	if (event)
		log_debug("QMP: %s", event);
	if (event && q->expects && !strcmp(event, q->expects))
		q->happened = true;
}

/* 1: this was the answer; 0: it was something else; or what it says. */
static int take_answer(struct xen_qmp *q, const json_t *m, json_t **answer)
{
	const json_t *error = json_object_get(m, "error");
	const char *words = json_string_value(json_object_get(error, "desc"));
	json_t *returned = json_object_get(m, "return");

	note_event(q, m);
	if (json_integer_value(json_object_get(m, "id")) != q->number)
		return 0;
	if (error) {
		snprintf(q->why, sizeof(q->why), "%s",
			 words ? words : "it does not say why");
		return -EREMOTEIO;
	}
	if (!returned)
		return 0;
	if (answer)
		*answer = json_incref(returned);
	return 1;
}

static int send_command(struct xen_qmp *q, const char *command,
			json_t *arguments, int fd, uint64_t end_us)
{
	json_t *m =
		json_pack("{s:s, s:I}", "execute", command, "id", ++q->number);
	AUTO_FREE char *text = NULL;
	AUTO_FREE char *line = NULL;

	if (m && arguments)
		json_object_set(m, "arguments", arguments);
	text = m ? json_dumps(m, JSON_COMPACT) : NULL;
	json_decref(m);
	json_decref(arguments);
	if (!text || asprintf(&line, "%s\n", text) < 0) {
		line = NULL;
		return -ENOMEM;
	}
	return q->broken ? q->broken : send_line(q, line, fd, end_us);
}

/* 0: answered; or what it says, or what became of the wait. */
static int hear(struct xen_qmp *q, uint64_t end_us, json_t **answer)
{
	json_t *m;
	int rc = 0;

	while (rc == 0) {
		rc = next_message(q, end_us, &m);
		if (rc < 0)
			break;
		rc = take_answer(q, m, answer);
		json_decref(m);
	}
	return rc < 0 ? rc : 0;
}

int xen_qmp_call(struct xen_qmp *q, const char *command, json_t *arguments,
		 int fd, uint64_t end_us, json_t **answer)
{
	int rc = send_command(q, command, arguments, fd, end_us);

	if (rc == 0)
		rc = hear(q, end_us, answer);
	if (rc < 0)
		log_debug("QMP: %s: %s", command,
			  rc == -EREMOTEIO ? q->why : strerror(-rc));
	return rc;
}

int xen_qmp_tell(struct xen_qmp *q, const char *command, uint64_t end_us)
{
	char line[128];

	snprintf(line, sizeof(line), "{\"execute\":\"%s\",\"id\":%lld}\n",
		 command, (long long)++q->number);
	return q->broken ? q->broken : send_line(q, line, -1, end_us);
}

int xen_qmp_hear(struct xen_qmp *q, uint64_t end_us)
{
	return hear(q, end_us, NULL);
}

int xen_qmp_alive(struct xen_qmp *q)
{
	int rc = q->broken;
	json_t *m;

	while (rc == 0) {
		rc = receive_some(q, 0);
		while (rc == 0 && memchr(q->buffer, '\n', q->length)) {
			rc = next_message(q, UINT64_MAX, &m);
			if (rc == 0) {
				note_event(q, m);
				json_decref(m);
			}
		}
	}
	return q->broken;
}

void xen_qmp_expect(struct xen_qmp *q, const char *event)
{
	q->expects = event;
	q->happened = false;
}

int xen_qmp_await(struct xen_qmp *q, uint64_t end_us)
{
	json_t *m;
	int rc = q->broken;

	while (rc == 0 && !q->happened) {
		rc = next_message(q, end_us, &m);
		if (rc == 0) {
			note_event(q, m);
			json_decref(m);
		}
	}
	return rc;
}

const char *xen_qmp_why(const struct xen_qmp *q)
{
	return q->why;
}

static int greet(struct xen_qmp *q, uint64_t end_us)
{
	json_t *m;
	int rc = next_message(q, end_us, &m);

	if (rc < 0)
		return rc;
	if (!json_is_object(json_object_get(m, "QMP")))
		rc = -EPROTO;
	json_decref(m);
	return rc < 0 ? rc
		      : xen_qmp_call(q, "qmp_capabilities", NULL, -1, end_us,
				     NULL);
}

int xen_qmp_open(const char *path, uint64_t end_us, struct xen_qmp **out)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct xen_qmp *q;
	int rc;

	if (strlen(path) >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	strcpy(a.sun_path, path);
	q->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	rc = q->fd < 0 || connect(q->fd, (struct sockaddr *)&a, sizeof(a))
		     ? -errno
		     : greet(q, end_us);
	if (rc < 0) {
		xen_qmp_close(q);
		return rc == -EAGAIN ? -ETIMEDOUT : rc;
	}
	*out = q;
	return 0;
}

void xen_qmp_close(struct xen_qmp *q)
{
	if (!q)
		return;
	cleanup_fd(&q->fd);
	free(q);
}
