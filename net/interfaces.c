/* SPDX-License-Identifier: Apache-2.0 */
/*
 * By rtnetlink's messages about links.  An interface that is new has a higher
 * index than any before: the kernel counts them up.  What a backend tells of
 * its carrier at each slow resume is passed over so.
 */
#include "config.h"

#include "net/interfaces.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

struct interface_watch {
	struct loop *loop;
	struct loop_op readable;
	int fd;
	int highest; /* index so far */
	bool closing;
	void (*came)(void *arg);
	void *arg;
};

static int highest_index(void)
{
	struct if_nameindex *all = if_nameindex();
	int highest = 0;

	for (struct if_nameindex *i = all; i && i->if_index; i++)
		if ((int)i->if_index > highest)
			highest = (int)i->if_index;
	if (all)
		if_freenameindex(all);
	return highest;
}

static bool is_new(struct interface_watch *w, const struct nlmsghdr *h)
{
	const struct ifinfomsg *link = NLMSG_DATA(h);

	if (h->nlmsg_type != RTM_NEWLINK ||
	    h->nlmsg_len < NLMSG_LENGTH(sizeof(*link)) ||
	    link->ifi_index <= w->highest)
		return false;
	w->highest = link->ifi_index;
	return true;
}

/* Messages that were lost for want of room may have been of any. */
static bool take_messages(struct interface_watch *w)
{
	_Alignas(struct nlmsghdr) char bytes[16384];
	bool came = false;
	ssize_t n;

	while ((n = recv(w->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0 ||
	       errno == ENOBUFS) {
		struct nlmsghdr *h = (struct nlmsghdr *)(void *)bytes;
		size_t left = n > 0 ? (size_t)n : 0;

		came |= n < 0;
		for (; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
			came |= is_new(w, h);
	}
	return came;
}

static void watch_free(struct interface_watch *w)
{
	close(w->fd);
	free(w);
}

static void wait_readable(struct interface_watch *w)
{
	loop_poll(w->loop, &w->readable, w->fd, POLLIN);
}

static void readable(void *arg, int res)
{
	struct interface_watch *w = arg;
	bool came;

	if (w->closing) {
		watch_free(w);
		return;
	}
	if (res < 0) {
		log_warn("interfaces that come are not seen any more");
		return;
	}
	came = take_messages(w);
	wait_readable(w);
	/* Last: it may close the watch. */
	if (came)
		w->came(w->arg);
}

static int open_socket(void)
{
	const struct sockaddr_nl addr = { .nl_family = AF_NETLINK,
					  .nl_groups = RTMGRP_LINK };
	AUTO_FD int fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0 ||
	    bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int interface_watch_open(struct loop *loop, void (*came)(void *arg), void *arg,
			 struct interface_watch **out)
{
	struct interface_watch *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	*w = (struct interface_watch){
		.loop = loop, .fd = open_socket(), .came = came, .arg = arg
	};
	if (w->fd < 0) {
		int err = w->fd;

		free(w);
		return err;
	}
	w->readable = (struct loop_op){ .fn = readable, .arg = w };
	w->highest = highest_index(); /* behind the socket: none is missed */
	wait_readable(w);
	*out = w;
	return 0;
}

void interface_watch_close(struct interface_watch *w)
{
	if (!w)
		return;
	if (!w->readable.busy) {
		watch_free(w);
		return;
	}
	w->closing = true;
	loop_cancel(w->loop, &w->readable);
}
