/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/nbd.c against a kernel that is none: the messages are those that the NBD
 * client of Linux understands, and its answers are understood.  The handshake
 * against a server that is a list of bytes.
 */
#include "config.h"

#include "net/nbd.h"

#include <endian.h>
#include <errno.h>
#include <linux/nbd-netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"

enum { FAMILY = 33, NO_SUCH = 12345 };

/* --- the kernel: libnl's functions that talk to it ------------------------ */

static struct {
	bool absent;
	int error;     /* of the acknowledgement */
	int reply;     /* the index of the answer, or -1 */
	bool takes;    /* the connection of a RECONFIGURE */
	int orders;    /* so many were sent */
	int datagrams; /* of the answer to the last one, read so far */
	uint8_t command;
	struct nlattr *attr[NBD_ATTR_MAX + 1];
	struct nl_msg *message; /* which the attributes are in */
} kernel;

int genl_connect(struct nl_sock *s)
{
	return s ? 0 : -NLE_NOMEM;
}

int genl_ctrl_resolve(struct nl_sock *s, const char *name)
{
	assert_non_null(s);
	assert_string_equal(name, "nbd");
	return kernel.absent ? -NLE_OBJ_NOTFOUND : FAMILY;
}

/* The descriptor in SOCKETS { ITEM { FD } }: this and no other nesting. */
static int socket_of_message(void)
{
	struct nlattr *item, *fd;

	item = nla_data(kernel.attr[NBD_ATTR_SOCKETS]);
	assert_int_equal(nla_type(item), NBD_SOCK_ITEM);
	assert_int_equal(nla_total_size(nla_len(item)),
			 nla_len(kernel.attr[NBD_ATTR_SOCKETS]));
	fd = nla_data(item);
	assert_int_equal(nla_type(fd), NBD_SOCK_FD);
	assert_int_equal(nla_total_size(nla_len(fd)), nla_len(item));
	return (int)nla_get_u32(fd);
}

int nl_send_auto(struct nl_sock *s, struct nl_msg *m)
{
	const struct genlmsghdr *g = nlmsg_data(nlmsg_hdr(m));
	const struct timeval patience = { .tv_sec = 4 };

	nl_complete_msg(s, m);
	assert_int_equal(nlmsg_hdr(m)->nlmsg_type, FAMILY);
	assert_true(nlmsg_hdr(m)->nlmsg_flags & NLM_F_REQUEST);
	assert_true(nlmsg_hdr(m)->nlmsg_flags & NLM_F_ACK);
	assert_int_equal(g->version, NBD_GENL_VERSION);
	kernel.command = g->cmd;
	nlmsg_free(kernel.message);
	kernel.message = nlmsg_convert(nlmsg_hdr(m));
	assert_int_equal(genlmsg_parse(nlmsg_hdr(kernel.message), 0,
				       kernel.attr, NBD_ATTR_MAX, NULL),
			 0);
	kernel.orders++;
	kernel.datagrams = 0;
	if (g->cmd == NBD_CMD_RECONFIGURE && kernel.takes)
		assert_int_equal(setsockopt(socket_of_message(), SOL_SOCKET,
					    SO_SNDTIMEO, &patience,
					    sizeof(patience)),
				 0);
	return 1;
}

static int give(struct nl_msg *m, unsigned char **bytes)
{
	int n = (int)nlmsg_hdr(m)->nlmsg_len;

	*bytes = malloc((size_t)n);
	assert_non_null(*bytes);
	memcpy(*bytes, nlmsg_hdr(m), (size_t)n);
	nlmsg_free(m);
	return n;
}

/* As Linux: the answer to a CONNECT, and a datagram of its own that it is done.
 */
int nl_recv(struct nl_sock *s, struct sockaddr_nl *from, unsigned char **bytes,
	    struct ucred **creds)
{
	struct nl_msg *m = nlmsg_alloc();
	struct nlmsgerr done = { .error = kernel.error };

	assert_null(creds);
	(void)s;
	(void)from;
	if (kernel.datagrams++ == 0 && kernel.command == NBD_CMD_CONNECT &&
	    kernel.reply >= 0) {
		genlmsg_put(m, 0, 1, FAMILY, 0, 0, NBD_CMD_CONNECT, 1);
		nla_put_u32(m, NBD_ATTR_INDEX, (uint32_t)kernel.reply);
		return give(m, bytes);
	}
	assert_in_range(kernel.datagrams, 1, 2);
	nlmsg_put(m, 0, 1, NLMSG_ERROR, 0, 0);
	nlmsg_append(m, &done, sizeof(done), NLMSG_ALIGNTO);
	return give(m, bytes);
}

static int forget(void **state)
{
	(void)state;
	nlmsg_free(kernel.message);
	memset(&kernel, 0, sizeof(kernel));
	kernel.reply = -1;
	return 0;
}

/* --- orders --------------------------------------------------------------- */

static void expect_connection(int fd)
{
	assert_int_equal(nla_get_u64(kernel.attr[NBD_ATTR_TIMEOUT]),
			 NBD_ANSWER_S);
	/* Years, and so few that they are a number of ticks, too. */
	assert_in_range(nla_get_u64(kernel.attr[NBD_ATTR_DEAD_CONN_TIMEOUT]),
			UINT64_C(86400) * 365, UINT64_C(86400) * 365 * 100);
	assert_string_equal(
		nla_get_string(kernel.attr[NBD_ATTR_BACKEND_IDENTIFIER]),
		"colod:/d/web");
	assert_int_equal(socket_of_message(), fd);
}

/* This machine's own /sys has no such device, so no owner either. */
static void attaching_sends_size_flags_and_the_connection(void **state)
{
	const struct nbd_export e = { .size = UINT64_C(5) << 30,
				      .flags = 0x65 };

	(void)state;
	kernel.reply = NO_SUCH;
	assert_int_equal(nbd_attach(7, &e, "colod:/d/web"), -EOPNOTSUPP);
	/* It could not be found again, so it is not left attached. */
	assert_int_equal(kernel.orders, 2);
	assert_int_equal(kernel.command, NBD_CMD_DISCONNECT);
	assert_int_equal(nla_get_u32(kernel.attr[NBD_ATTR_INDEX]), NO_SUCH);

	kernel.error = -EBUSY;
	kernel.reply = -1;
	assert_int_equal(nbd_attach(7, &e, "colod:/d/web"), -EBUSY);
	assert_int_equal(kernel.orders, 3);
	assert_int_equal(kernel.command, NBD_CMD_CONNECT);
	assert_null(kernel.attr[NBD_ATTR_INDEX]); /* the kernel's choice */
	assert_int_equal(nla_get_u64(kernel.attr[NBD_ATTR_SIZE_BYTES]), e.size);
	assert_int_equal(nla_get_u64(kernel.attr[NBD_ATTR_BLOCK_SIZE_BYTES]),
			 512);
	assert_int_equal(nla_get_u64(kernel.attr[NBD_ATTR_SERVER_FLAGS]),
			 e.flags);
	/* Neither DESTROY_ON_DISCONNECT nor DISCONNECT_ON_CLOSE. */
	assert_int_equal(nla_get_u64(kernel.attr[NBD_ATTR_CLIENT_FLAGS]), 0);
	expect_connection(7);
}

static void reattaching_changes_nothing_but_the_connection(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	kernel.takes = true;
	assert_int_equal(nbd_reattach(3, pair[0], "colod:/d/web"), 0);
	assert_int_equal(kernel.command, NBD_CMD_RECONFIGURE);
	assert_int_equal(nla_get_u32(kernel.attr[NBD_ATTR_INDEX]), 3);
	assert_null(kernel.attr[NBD_ATTR_SIZE_BYTES]);
	assert_null(kernel.attr[NBD_ATTR_CLIENT_FLAGS]);
	expect_connection(pair[0]);
	close(pair[0]);
	close(pair[1]);
}

/* The kernel says that all went well. */
static void a_connection_that_was_not_taken_is_noticed(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(nbd_reattach(3, pair[0], "colod:/d/web"), -EAGAIN);
	kernel.error = -EINVAL;
	assert_int_equal(nbd_reattach(3, pair[0], "colod:/d/web"), -EINVAL);
	close(pair[0]);
	close(pair[1]);
}

static void detaching_names_the_device(void **state)
{
	(void)state;
	assert_int_equal(nbd_detach(0), 0);
	assert_int_equal(kernel.command, NBD_CMD_DISCONNECT);
	assert_int_equal(nla_get_u32(kernel.attr[NBD_ATTR_INDEX]), 0);
	kernel.error = -EPERM;
	assert_int_equal(nbd_detach(0), -EPERM);
}

static void a_kernel_without_it_is_told_apart(void **state)
{
	(void)state;
	assert_int_equal(nbd_load(), 0);
	kernel.absent = true;
	assert_int_equal(nbd_detach(0), -ENOENT);
	assert_int_equal(kernel.orders, 0);
	assert_int_equal(nbd_find("colod:/d/web"), -ENOENT);
}

/* --- the handshake -------------------------------------------------------- */

struct server {
	char path[64];
	int listener;
	const uint8_t *greeting;
	size_t greeting_bytes;
	const uint8_t *answer;
	size_t answer_bytes;
	uint8_t asked[16 + 4];
	size_t asked_bytes;
};

#define HELLO 'N', 'B', 'D', 'M', 'A', 'G', 'I', 'C'
#define OPTION 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T'

static void *run_server(void *arg)
{
	struct server *s = arg;
	AUTO_FD int fd = accept(s->listener, NULL, NULL);

	if (fd < 0 || send(fd, s->greeting, s->greeting_bytes, 0) < 0)
		return NULL;
	if (!s->answer)
		return NULL;
	s->asked_bytes =
		(size_t)recv(fd, s->asked, sizeof(s->asked), MSG_WAITALL);
	/* In two pieces: a socket promises nothing else. */
	send(fd, s->answer, 3, 0);
	send(fd, s->answer + 3, s->answer_bytes - 3, 0);
	return NULL;
}

static int shake(struct server *s, struct nbd_export *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	pthread_t thread;
	int fd;

	strcpy(s->path, "/tmp/unit-nbd-XXXXXX");
	fd = mkstemp(s->path);
	assert_true(fd >= 0);
	close(fd);
	unlink(s->path);
	strcpy(a.sun_path, s->path);
	s->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof(a)),
			 0);
	assert_int_equal(listen(s->listener, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, run_server, s), 0);
	fd = nbd_handshake(s->path, e);
	pthread_join(thread, NULL);
	close(s->listener);
	unlink(s->path);
	return fd;
}

static const uint8_t modern[] = { HELLO, OPTION, 0, 3 };
static const uint8_t export[] = { 0, 0, 0, 1, 0, 0, 2, 0, 0x00, 0x6d };

static void a_handshake_learns_size_and_flags(void **state)
{
	static const uint8_t ask[] = { 0, 0, 0, 3, OPTION, 0, 0,
				       0, 1, 0, 0, 0,	   0 };
	struct server s = { .greeting = modern,
			    .greeting_bytes = sizeof(modern),
			    .answer = export,
			    .answer_bytes = sizeof(export) };
	struct nbd_export e;
	int fd = shake(&s, &e);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(e.size, (UINT64_C(1) << 32) + 512);
	assert_int_equal(e.flags, 0x6d);
	assert_int_equal(s.asked_bytes, sizeof(ask));
	assert_memory_equal(s.asked, ask, sizeof(ask));
}

/* What comes behind the zeroes is the first answer to a request. */
static void the_zeroes_of_an_old_server_are_taken(void **state)
{
	static const uint8_t old[] = { HELLO, OPTION, 0, 1 };
	uint8_t answer[sizeof(export) + 124 + 1] = { 0 }, next = 0;
	struct server s = { .greeting = old,
			    .greeting_bytes = sizeof(old),
			    .answer = answer,
			    .answer_bytes = sizeof(answer) };
	struct nbd_export e;
	int fd;

	(void)state;
	memcpy(answer, export, sizeof(export));
	answer[sizeof(answer) - 1] = 77;
	fd = shake(&s, &e);
	assert_true(fd >= 0);
	assert_int_equal(recv(fd, &next, 1, 0), 1);
	assert_int_equal(next, 77);
	close(fd);
	assert_int_equal(s.asked[3], 1);
}

static void what_is_no_server_is_refused(void **state)
{
	static const uint8_t other[] = { 'S', 'S', 'H', '-', '2', '.',
					 '0', '-', 'x', 'x', 'x', 'x',
					 'x', 'x', 'x', 'x', 'x', 'x' };
	static const uint8_t oldest[] = { HELLO, OPTION, 0, 0 };
	struct server s = { .greeting = other,
			    .greeting_bytes = sizeof(other) };
	struct nbd_export e;

	(void)state;
	assert_int_equal(shake(&s, &e), -EPROTO);
	s = (struct server){ .greeting = oldest,
			     .greeting_bytes = sizeof(oldest) };
	assert_int_equal(shake(&s, &e), -EPROTO);
	s = (struct server){ .greeting = modern, .greeting_bytes = 5 };
	assert_int_equal(shake(&s, &e), -ECONNRESET);
	assert_int_equal(nbd_handshake("/tmp/unit-nbd-none", &e), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
			attaching_sends_size_flags_and_the_connection, forget),
		cmocka_unit_test_setup(
			reattaching_changes_nothing_but_the_connection, forget),
		cmocka_unit_test_setup(
			a_connection_that_was_not_taken_is_noticed, forget),
		cmocka_unit_test_setup(detaching_names_the_device, forget),
		cmocka_unit_test_setup(a_kernel_without_it_is_told_apart,
				       forget),
		cmocka_unit_test(a_handshake_learns_size_and_flags),
		cmocka_unit_test(the_zeroes_of_an_old_server_are_taken),
		cmocka_unit_test(what_is_no_server_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
