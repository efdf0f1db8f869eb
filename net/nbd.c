/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/nbd.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/nbd-netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

extern char **environ;

/* Of the protocol; its numbers are big-endian. */
#define GREETING UINT64_C(0x4e42444d41474943) /* NBDMAGIC */
#define OPTION UINT64_C(0x49484156454f5054)   /* IHAVEOPT */
enum {
	FIXED_NEWSTYLE = 1,
	NO_ZEROES = 2,
	OPT_EXPORT_NAME = 1,
	ZEROES = 124,
	HANDSHAKE_US = 5 * 1000 * 1000,
};

enum {
	SECTOR_BYTES = 512,
	/* For ever: ten years.  After it, requests fail. */
	DEAD_CONN_S = 10 * 365 * 24 * 3600,
	TEXT_BYTES = 640,
	LOAD_US = 5 * 1000 * 1000,
};

/* --- the handshake -------------------------------------------------------- */

static int receive(int fd, void *to, size_t bytes, uint64_t until_us)
{
	uint8_t *at = to;

	while (bytes) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t now = clock_now_us();
		ssize_t n;

		if (now >= until_us)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)((until_us - now) / 1000) + 1) <= 0)
			continue;
		n = recv(fd, at, bytes, MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ECONNRESET;
		at += n;
		bytes -= (size_t)n;
	}
	return 0;
}

/* The oldest way of asking: the answer is what the kernel wants to know. */
static int greet(int fd, struct nbd_export *out)
{
	uint64_t until_us = clock_now_us() + HANDSHAKE_US;
	struct __attribute__((packed)) {
		uint64_t greeting, option;
		uint16_t flags;
	} hello;
	struct __attribute__((packed)) {
		uint32_t flags;
		uint64_t option;
		uint32_t number, length; /* of the name, which is empty */
	} ask;
	struct __attribute__((packed)) {
		uint64_t size;
		uint16_t flags;
	} answer;
	uint8_t zeroes[ZEROES];
	int rc = receive(fd, &hello, sizeof(hello), until_us);
	uint16_t can;

	if (rc)
		return rc;
	can = be16toh(hello.flags);
	if (be64toh(hello.greeting) != GREETING ||
	    be64toh(hello.option) != OPTION || !(can & FIXED_NEWSTYLE))
		return -EPROTO;
	ask.flags = htobe32(can & (FIXED_NEWSTYLE | NO_ZEROES));
	ask.option = htobe64(OPTION);
	ask.number = htobe32(OPT_EXPORT_NAME);
	ask.length = 0;
	if (send(fd, &ask, sizeof(ask), MSG_NOSIGNAL) != sizeof(ask))
		return -ECONNRESET;
	rc = receive(fd, &answer, sizeof(answer), until_us);
	if (!rc && !(can & NO_ZEROES))
		rc = receive(fd, zeroes, sizeof(zeroes), until_us);
	if (rc)
		return rc;
	out->size = be64toh(answer.size);
	out->flags = be16toh(answer.flags);
	return 0;
}

int nbd_handshake(const char *path, struct nbd_export *out)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(to.sun_path))
		return -ENAMETOOLONG;
	strcpy(to.sun_path, path);
	if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	rc = greet(fd, out);
	return rc ? rc : TAKE_FD(fd);
}

/* --- netlink -------------------------------------------------------------- */

struct order {
	struct nl_sock *socket;
	struct nl_msg *message;
	int family;
};

/* A message without more than its index; -1: none. */
static int begin(struct order *o, uint8_t command, int index)
{
	*o = (struct order){ .socket = nl_socket_alloc() };
	if (!o->socket)
		return -ENOMEM;
	if (genl_connect(o->socket) < 0)
		return -EPROTONOSUPPORT;
	o->family = genl_ctrl_resolve(o->socket, NBD_GENL_FAMILY_NAME);
	if (o->family < 0)
		return -ENOENT;
	o->message = nlmsg_alloc();
	if (!o->message ||
	    !genlmsg_put(o->message, NL_AUTO_PORT, NL_AUTO_SEQ, o->family, 0,
			 NLM_F_REQUEST | NLM_F_ACK, command, NBD_GENL_VERSION))
		return -ENOMEM;
	if (index >= 0 &&
	    nla_put_u32(o->message, NBD_ATTR_INDEX, (uint32_t)index) < 0)
		return -EMSGSIZE;
	return 0;
}

static void end(struct order *o)
{
	nlmsg_free(o->message);
	nl_socket_free(o->socket);
}

static int put_connection(struct nl_msg *m, int fd, const char *owner)
{
	struct nlattr *sockets, *item;

	if (nla_put_u64(m, NBD_ATTR_TIMEOUT, NBD_ANSWER_S) < 0 ||
	    nla_put_u64(m, NBD_ATTR_DEAD_CONN_TIMEOUT, DEAD_CONN_S) < 0 ||
	    nla_put_string(m, NBD_ATTR_BACKEND_IDENTIFIER, owner) < 0)
		return -EMSGSIZE;
	sockets = nla_nest_start(m, NBD_ATTR_SOCKETS);
	item = sockets ? nla_nest_start(m, NBD_SOCK_ITEM) : NULL;
	if (!item || nla_put_u32(m, NBD_SOCK_FD, (uint32_t)fd) < 0)
		return -EMSGSIZE;
	nla_nest_end(m, item);
	nla_nest_end(m, sockets);
	return 0;
}

/* What one datagram says: 1: the acknowledgement was not in it. */
static int take(const struct order *o, struct nlmsghdr *h, int left, int *index)
{
	for (; nlmsg_ok(h, left); h = nlmsg_next(h, &left)) {
		struct nlattr *attr[NBD_ATTR_MAX + 1];

		if (h->nlmsg_type == NLMSG_ERROR &&
		    nlmsg_datalen(h) >= (int)sizeof(struct nlmsgerr))
			return ((struct nlmsgerr *)nlmsg_data(h))->error;
		if (h->nlmsg_type == o->family && index &&
		    genlmsg_parse(h, 0, attr, NBD_ATTR_MAX, NULL) == 0 &&
		    attr[NBD_ATTR_INDEX])
			*index = (int)nla_get_u32(attr[NBD_ATTR_INDEX]);
	}
	return 1;
}

/* Sends it, and waits for the kernel's answer and its acknowledgement. */
static int carry_out(struct order *o, int *index)
{
	struct sockaddr_nl from;
	int rc = nl_send_auto(o->socket, o->message);

	if (rc < 0)
		return -EIO;
	do {
		AUTO_FREE unsigned char *bytes = NULL;
		int n = nl_recv(o->socket, &from, &bytes, NULL);

		if (n <= 0)
			return -EIO;
		rc = take(o, (struct nlmsghdr *)(void *)bytes, n, index);
	} while (rc > 0);
	return rc;
}

static int attach(int fd, const struct nbd_export *e, const char *owner)
{
	int index = -1, rc;
	struct order o;

	rc = begin(&o, NBD_CMD_CONNECT, -1);
	if (!rc &&
	    (nla_put_u64(o.message, NBD_ATTR_SIZE_BYTES, e->size) < 0 ||
	     nla_put_u64(o.message, NBD_ATTR_BLOCK_SIZE_BYTES, SECTOR_BYTES) <
		     0 ||
	     nla_put_u64(o.message, NBD_ATTR_SERVER_FLAGS, e->flags) < 0 ||
	     nla_put_u64(o.message, NBD_ATTR_CLIENT_FLAGS, 0) < 0))
		rc = -EMSGSIZE;
	if (!rc)
		rc = put_connection(o.message, fd, owner);
	if (!rc)
		rc = carry_out(&o, &index);
	end(&o);
	if (!rc && index < 0)
		rc = -EIO;
	return rc ? rc : index;
}

/* Without an owner it could not be found again. */
int nbd_attach(int fd, const struct nbd_export *e, const char *owner)
{
	int index = attach(fd, e, owner);
	char text[TEXT_BYTES];

	if (index < 0)
		return index;
	nbd_owner(index, text, sizeof(text));
	if (!strcmp(text, owner))
		return index;
	nbd_detach(index);
	return -EOPNOTSUPP;
}

/*
 * The kernel gives a connection that it takes its own patience for sending.  It
 * says no more of one that it does not take, for the old one still counts.
 */
static bool taken(int fd)
{
	struct timeval t = { 0 };
	socklen_t length = sizeof(t);

	return getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, &length) == 0 &&
	       (t.tv_sec || t.tv_usec);
}

int nbd_reattach(int index, int fd, const char *owner)
{
	struct order o;
	int rc;

	rc = begin(&o, NBD_CMD_RECONFIGURE, index);
	if (!rc)
		rc = put_connection(o.message, fd, owner);
	if (!rc)
		rc = carry_out(&o, NULL);
	end(&o);
	if (!rc && !taken(fd))
		rc = -EAGAIN;
	return rc;
}

int nbd_detach(int index)
{
	struct order o;
	int rc;

	rc = begin(&o, NBD_CMD_DISCONNECT, index);
	if (!rc)
		rc = carry_out(&o, NULL);
	end(&o);
	return rc;
}

static bool there(void)
{
	struct order o;
	int rc = begin(&o, NBD_CMD_STATUS, -1);

	end(&o);
	return !rc;
}

int nbd_load(void)
{
	char *argv[] = { (char[]){ "modprobe" }, (char[]){ "-q" },
			 (char[]){ "nbd" }, NULL };
	pid_t pid;
	int status;

	if (there())
		return 0;
	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ))
		return -ENOENT;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return there() ? 0 : -ENOENT;
}
