/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket of a served disk, both ends (see control.h).
 *
 * A message is a packet, so it is there whole or not at all.  The server's
 * thread keeps two connections at most: the one whose ring is in use, and one
 * that has not asked yet.  A server that was killed leaves its socket behind,
 * which the next one replaces.
 */
#include "config.h"

#include "resume/disk/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "resume/disk/names.h"

enum {
	BACKLOG = 4,
	/* A change that waits for room in a full ring is in the way. */
	ANSWER_S = 10,
	/* After an accept() for which there was no descriptor, say. */
	ACCEPT_AGAIN_MS = 100,
	MISSED_BYTES = 4096,
};

static int address_of(const char *run_dir, const char *name,
		      struct sockaddr_un *a)
{
	char path[DISK_PATH_MAX];
	int rc = disk_control_path(run_dir, name, path);

	if (rc < 0)
		return rc;
	if (strlen(path) >= sizeof(a->sun_path))
		return -ENAMETOOLONG;
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	strcpy(a->sun_path, path);
	return 0;
}

/* --- colod's end ------------------------------------------------------------
 */

static int gone(int err)
{
	return err == ENOENT || err == ECONNREFUSED || err == ECONNRESET ||
			       err == EPIPE
		       ? -ENOTCONN
	       : err == EAGAIN ? -ETIMEDOUT
			       : -err;
}

static int connect_to(const char *run_dir, const char *name)
{
	const struct timeval patience = { .tv_sec = ANSWER_S };
	AUTO_FD int fd = -1;
	struct sockaddr_un a;
	int rc = address_of(run_dir, name, &a);

	if (rc < 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return gone(errno);
	return TAKE_FD(fd);
}

static int send_ring(int to, enum disk_control_ask ask, int ring_fd)
{
	char byte = (char)ask, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &ring_fd, sizeof(int));
	return sendmsg(to, &m, MSG_NOSIGNAL) < 0 ? gone(errno) : 0;
}

static int receive_answer(int from, struct disk_control_answer *a)
{
	ssize_t n;

	do
		n = recv(from, a, sizeof(*a), 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return gone(errno);
	if (n != sizeof(*a))
		return n ? -EPROTO : -ENOTCONN;
	return -(int)a->err;
}

int disk_control_pass(const char *run_dir, const char *name,
		      enum disk_control_ask ask, int ring_fd, uint64_t *missed)
{
	AUTO_FD int fd = connect_to(run_dir, name);
	struct disk_control_answer a;
	int rc = fd < 0 ? fd : send_ring(fd, ask, ring_fd);

	if (rc == 0)
		rc = receive_answer(fd, &a);
	if (rc < 0)
		return rc;
	*missed = a.missed;
	return TAKE_FD(fd);
}

/* --- the server's end -------------------------------------------------------
 */

struct disk_control {
	pthread_t thread;
	const struct disk_control_ops *ops;
	void *arg;
	struct sockaddr_un address;
	int stop;
	int listener;
	int asking; /* has not asked yet */
	int used;   /* its ring is in use */
};

static void set_fd(int *fd, int value)
{
	cleanup_fd(fd);
	*fd = value;
}

static int receive_ring(int from, enum disk_control_ask *ask, int *ring_fd)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(from, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *c = n == 1 ? CMSG_FIRSTHDR(&m) : NULL;

	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len != CMSG_LEN(sizeof(int)))
		return -EPROTO;
	memcpy(ring_fd, CMSG_DATA(c), sizeof(int));
	*ask = byte == DISK_CONTROL_NEW ? DISK_CONTROL_NEW : DISK_CONTROL_AGAIN;
	return 0;
}

/* What cannot be used leaves that which is in use as it is. */
static void asked(struct disk_control *c)
{
	struct disk_control_answer a = { 0 };
	enum disk_control_ask ask;
	int fd = TAKE_FD(c->asking), ring_fd;
	int rc = receive_ring(fd, &ask, &ring_fd);

	if (rc == 0)
		rc = c->ops->attach(c->arg, ask, ring_fd, &a.missed);
	a.err = (uint32_t)-rc;
	/* Who does not hear it has gone: its connection's end says so. */
	if (send(fd, &a, sizeof(a), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_debug("an answer is not heard: %s", strerror(errno));
	if (rc == 0)
		set_fd(&c->used, fd);
	else
		close(fd);
}

static void ended(struct disk_control *c)
{
	set_fd(&c->used, -1);
	c->ops->detach(c->arg);
}

static void accepted(struct disk_control *c)
{
	int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
	struct pollfd stop = { c->stop, POLLIN, 0 };

	if (fd >= 0)
		set_fd(&c->asking, fd);
	else if (errno != EINTR && errno != ECONNABORTED)
		poll(&stop, 1, ACCEPT_AGAIN_MS);
}

static void *serve(void *arg)
{
	struct disk_control *c = arg;

	for (;;) {
		struct pollfd stop = { c->stop, POLLIN, 0 };
		struct pollfd p[] = { stop,
				      { c->listener, POLLIN, 0 },
				      { c->asking, POLLIN, 0 },
				      { c->used, POLLIN, 0 } };

		if (poll(p, 4, -1) <= 0)
			continue;
		if (p[0].revents)
			return NULL;
		if (p[3].revents)
			ended(c);
		if (p[2].revents)
			asked(c);
		if (p[1].revents)
			accepted(c);
	}
}

static int make_dir(const char *run_dir)
{
	char path[DISK_PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/disks", run_dir) >= DISK_PATH_MAX)
		return -ENAMETOOLONG;
	if (mkdir(run_dir, 0755) < 0 && errno != EEXIST)
		return -errno;
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int listen_at(const struct sockaddr_un *a)
{
	AUTO_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (unlink(a->sun_path) < 0 && errno != ENOENT)
		return -errno;
	if (bind(fd, (const struct sockaddr *)a, sizeof(*a)) < 0 ||
	    chmod(a->sun_path, 0600) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int disk_control_listen(const char *run_dir, const char *name,
			const struct disk_control_ops *ops, void *arg,
			struct disk_control **out)
{
	AUTO_FREE struct disk_control *c = calloc(1, sizeof(*c));
	AUTO_FD int listener = -1;
	AUTO_FD int stop = -1;
	int rc = c ? make_dir(run_dir) : -ENOMEM;

	if (rc == 0)
		rc = address_of(run_dir, name, &c->address);
	if (rc < 0)
		return rc;
	listener = listen_at(&c->address);
	if (listener < 0)
		return listener;
	stop = eventfd(0, EFD_CLOEXEC);
	if (stop < 0)
		return -errno;
	c->ops = ops;
	c->arg = arg;
	c->listener = listener;
	c->stop = stop;
	c->asking = c->used = -1;
	rc = pthread_create(&c->thread, NULL, serve, c);
	if (rc)
		return -rc;
	pthread_setname_np(c->thread, "disk-control");
	listener = stop = -1;
	*out = TAKE_PTR(c);
	return 0;
}

void disk_control_close(struct disk_control *c)
{
	if (!c)
		return;
	eventfd_write(c->stop, 1);
	pthread_join(c->thread, NULL);
	unlink(c->address.sun_path);
	close(c->listener);
	close(c->stop);
	set_fd(&c->asking, -1);
	set_fd(&c->used, -1);
	free(c);
}

/* --- missed changes ---------------------------------------------------------
 */

static int missed_map(const char *run_dir, const char *name, int flags,
		      _Atomic uint64_t **out)
{
	char path[DISK_PATH_MAX];
	AUTO_FD int fd = -1;
	struct stat st;
	void *p;

	if (snprintf(path, sizeof(path), "%s/disks/%s.missed", run_dir, name) >=
	    DISK_PATH_MAX)
		return -ENAMETOOLONG;
	fd = open(path, O_RDWR | O_CLOEXEC | flags, 0600);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < MISSED_BYTES && ftruncate(fd, MISSED_BYTES) < 0)
		return -errno;
	p = mmap(NULL, MISSED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*out = p;
	return 0;
}

/* A new file does not count on from where one that was removed has begun. */
int disk_missed_make(const char *run_dir, const char *name,
		     _Atomic uint64_t **out)
{
	uint64_t none = 0;
	int rc = make_dir(run_dir);

	if (rc == 0)
		rc = missed_map(run_dir, name, O_CREAT, out);
	if (rc == 0)
		atomic_compare_exchange_strong(*out, &none, clock_now_us());
	return rc;
}

int disk_missed_find(const char *run_dir, const char *name,
		     _Atomic uint64_t **out)
{
	return missed_map(run_dir, name, 0, out);
}

void disk_missed_unmap(_Atomic uint64_t *missed)
{
	if (missed)
		munmap((void *)missed, MISSED_BYTES);
}
