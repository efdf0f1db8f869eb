/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a plug share; nobody else's. */
#ifndef NET_PLUG_IMPL_H
#define NET_PLUG_IMPL_H

#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/qdisc.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/plug.h"

/* What the alias of an ifb of ours begins with; its interface follows. */
#define PLUG_ALIAS "colod "

enum {
	/* Of ours, so that another's is never taken for it: 'co'. */
	PLUG_MAJOR = 0xc010,
	PLUG_DROP_MAJOR = 0xc011,
};

struct plug {
	struct nl_sock *orders;
	/* An answer and its acknowledgement are two datagrams: a socket apart.
	 */
	struct nl_sock *questions;
	struct rtnl_qdisc *qdisc;
	char ifname[IFNAMSIZ], ifb_name[IFNAMSIZ];
	int ifindex, ifb;
	int control; /* a socket, of no protocol in particular */
	bool own_ingress, closed, found_closed;
};

/* libnl has numbers of its own. */
int plug_errno(int nle);
/* The same, after a line: what of the plug has failed. */
int plug_failed(const struct plug *p, int nle, const char *what);
void plug_place(struct rtnl_qdisc *q, int ifindex, uint32_t parent,
		uint32_t handle, const char *kind);
/* Says in its alias what it is, for people and for a colod that finds it. */
int plug_say(struct plug *p);

#endif
