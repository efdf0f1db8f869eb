/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding a guest's process and taking hold of it (see attach.h).
 *
 * The socket of a process that was killed stays behind and refuses: that counts
 * as no guest, and the next guest of the name removes it.
 */
#include "config.h"

#include "resume/embedded/attach.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

enum {
	ANSWER_S = 10, /* writing all of a large memory takes some time */
	END_MS = 5000,
};

#define PREFIX "guest-"
#define SUFFIX ".sock"

int embedded_socket_path(const char *run_dir, const char *name, bool standby,
			 char path[EMBEDDED_PATH_BYTES])
{
	int n = snprintf(path, EMBEDDED_PATH_BYTES, "%s/" PREFIX "%s%s" SUFFIX,
			 run_dir, name, standby ? EMBEDDED_TWIN_SUFFIX : "");

	return n < 0 || n >= EMBEDDED_PATH_BYTES ? -ENAMETOOLONG : 0;
}

int embedded_connect(const char *run_dir, const char *name, bool standby)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const struct timeval patience = { .tv_sec = ANSWER_S };
	AUTO_FD int fd = -1;
	int rc = embedded_socket_path(run_dir, name, standby, a.sun_path);

	if (rc < 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return errno == ECONNREFUSED ? -ENOENT : -errno;
	return TAKE_FD(fd);
}

static int receive_fds(struct embedded *e)
{
	char text[16], control[CMSG_SPACE(sizeof(e->fd))];
	struct iovec iov = { text, sizeof(text) };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	ssize_t n;

	if (send(e->sock, "attach", 6, MSG_NOSIGNAL) < 0)
		return -errno;
	do
		n = recvmsg(e->sock, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&m);
	if (n == 0 || !c || c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len != CMSG_LEN(sizeof(e->fd)))
		return n ? -EPROTO : -ENOENT;
	memcpy(e->fd, CMSG_DATA(c), sizeof(e->fd));
	return 0;
}

/* The page's sizes are believed only as far as the objects go. */
static int map_control(struct embedded *e)
{
	struct stat control, memory;
	struct embedded_control *c;

	if (fstat(e->fd[EMBEDDED_FD_CONTROL], &control) < 0 ||
	    fstat(e->fd[EMBEDDED_FD_MEMORY], &memory) < 0)
		return -errno;
	e->ram_bytes = (uint64_t)memory.st_size;
	if ((uint64_t)control.st_size != embedded_control_bytes(e->ram_bytes))
		return -EPROTO;
	c = mmap(NULL, (size_t)control.st_size, PROT_READ | PROT_WRITE,
		 MAP_SHARED, e->fd[EMBEDDED_FD_CONTROL], 0);
	if (c == MAP_FAILED)
		return -errno;
	e->control = c;
	if (c->magic != EMBEDDED_MAGIC || c->ram_bytes != e->ram_bytes ||
	    c->vcpu_count < 1 || c->vcpu_count > EMBEDDED_VCPUS_MAX ||
	    sscanf(c->process, "%d", &e->pid) != 1)
		return -EPROTO;
	e->pidfd = (int)syscall(SYS_pidfd_open, e->pid, 0);
	if (e->pidfd < 0)
		return errno == ESRCH ? -ENOENT : -errno;
	/* The pid may have been another's before the descriptor was there. */
	return holder_lives(c->process) ? 0 : -ENOENT;
}

int embedded_attach(const char *run_dir, const char *name, bool standby,
		    struct embedded *e)
{
	int rc;

	*e = (struct embedded){ .sock = -1, .pidfd = -1 };
	for (int i = 0; i < EMBEDDED_FDS; i++)
		e->fd[i] = -1;
	e->sock = embedded_connect(run_dir, name, standby);
	rc = e->sock < 0 ? e->sock : receive_fds(e);
	if (rc == 0)
		rc = map_control(e);
	if (rc < 0)
		embedded_detach(e);
	return rc;
}

void embedded_detach(struct embedded *e)
{
	if (e->control)
		munmap(e->control, embedded_control_bytes(e->ram_bytes));
	e->control = NULL;
	for (int i = 0; i < EMBEDDED_FDS; i++)
		cleanup_fd(&e->fd[i]);
	cleanup_fd(&e->sock);
	cleanup_fd(&e->pidfd);
}

/* One that was given up answers late: that is not the answer to the next. */
static ssize_t receive_answer(struct embedded *e, char *text, size_t bytes)
{
	unsigned int number;
	int at = 0;
	ssize_t n;

	for (;;) {
		n = recv(e->sock, text, bytes - 1, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n;
		text[n] = '\0';
		if (sscanf(text, "%u %n", &number, &at) != 1 ||
		    number != e->calls)
			continue;
		memmove(text, text + at, (size_t)n - (size_t)at + 1);
		return n;
	}
}

int embedded_call(struct embedded *e, const char *text, struct guest_error *err)
{
	char answer[sizeof(err->text) + 16];
	int length =
		snprintf(answer, sizeof(answer), "%u %s", ++e->calls, text);
	ssize_t n = send(e->sock, answer, (size_t)length, MSG_NOSIGNAL);

	if (n >= 0)
		n = receive_answer(e, answer, sizeof(answer));
	if (n <= 0) {
		guest_error_set(err, "the guest's process does not answer: %s",
				n ? strerror(errno) : "it is gone");
		return n ? -errno : -ENOENT;
	}
	if (!strcmp(answer, "ok"))
		return 0;
	guest_error_set(err, "%s", answer);
	return -EINVAL;
}

bool embedded_gone(const struct embedded *e)
{
	struct pollfd p = { e->pidfd, POLLIN, 0 };

	return poll(&p, 1, 0) > 0;
}

int embedded_destroy(struct embedded *e)
{
	struct pollfd p = { e->pidfd, POLLIN, 0 };
	struct guest_error err = { { 0 } };
	int rc = embedded_call(e, "destroy", &err);

	/* One that does not answer does not end by itself either. */
	if (poll(&p, 1, rc == 0 || rc == -ENOENT ? END_MS : 0) > 0)
		return 0;
	log_warn("%s does not end; killing it", e->control->spec.name);
	syscall(SYS_pidfd_send_signal, e->pidfd, SIGKILL, NULL, 0);
	return poll(&p, 1, END_MS) > 0 ? 0 : -ETIMEDOUT;
}

bool embedded_held_by_other(const struct embedded *e)
{
	const char *holder = e->control->holder;

	return holder_lives(holder) && !holder_is_self(holder);
}

void embedded_each(const char *run_dir,
		   void (*one)(void *arg, const char *name, bool standby),
		   void *arg)
{
	size_t twin = strlen(EMBEDDED_TWIN_SUFFIX);
	DIR *d = opendir(run_dir);
	struct dirent *entry;

	while (d && (entry = readdir(d))) {
		const char *at = entry->d_name;
		char name[EMBEDDED_NAME_MAX + 16];
		bool standby;
		size_t n;

		if (strncmp(at, PREFIX, strlen(PREFIX)))
			continue;
		at += strlen(PREFIX);
		n = strlen(at);
		if (n < strlen(SUFFIX) || n - strlen(SUFFIX) >= sizeof(name) ||
		    strcmp(at + n - strlen(SUFFIX), SUFFIX))
			continue;
		n -= strlen(SUFFIX);
		memcpy(name, at, n);
		name[n] = '\0';
		standby = n > twin &&
			  !strcmp(name + n - twin, EMBEDDED_TWIN_SUFFIX);
		if (standby)
			name[n - twin] = '\0';
		if (embedded_name_good(name))
			one(arg, name, standby);
	}
	if (d)
		closedir(d);
}
