/* SPDX-License-Identifier: Apache-2.0 */
/* A plug in use (see plug.h), by libnl-route: no process is run. */
#include "config.h"

#include "net/plug_impl.h"

#include <errno.h>
#include <linux/gen_stats.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <netlink/route/link.h>
#include <netlink/route/qdisc/plug.h>
#include <netlink/route/tc.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/log.h"

int plug_errno(int nle)
{
	switch (-nle) {
	case NLE_SUCCESS:
		return 0;
	case NLE_NOMEM:
		return -ENOMEM;
	case NLE_EXIST:
		return -EEXIST;
	case NLE_PERM:
	case NLE_NOACCESS:
		return -EPERM;
	case NLE_NODEV:
	case NLE_OBJ_NOTFOUND:
		return -ENODEV;
	case NLE_OPNOTSUPP:
		return -EOPNOTSUPP;
	default:
		return nle < 0 ? -EIO : 0;
	}
}

int plug_failed(const struct plug *p, int nle, const char *what)
{
	log_error("%s: %s: %s", p->ifname, what, nl_geterror(nle));
	return plug_errno(nle);
}

void plug_place(struct rtnl_qdisc *q, int ifindex, uint32_t parent,
		uint32_t handle, const char *kind)
{
	rtnl_tc_set_ifindex(TC_CAST(q), ifindex);
	rtnl_tc_set_parent(TC_CAST(q), parent);
	rtnl_tc_set_handle(TC_CAST(q), handle);
	rtnl_tc_set_kind(TC_CAST(q), kind);
}

/* --- the plug itself ---------------------------------------------------- */

/* Without a flag that creates one: that it is gone is an error. */
static int order(struct plug *p, const char *what)
{
	int nle = rtnl_qdisc_add(p->orders, p->qdisc, 0);

	return nle < 0 ? plug_failed(p, nle, what) : 0;
}

int plug_say(struct plug *p)
{
	struct rtnl_link *was = rtnl_link_alloc(), *is = rtnl_link_alloc();
	char alias[64];
	int nle = -NLE_NOMEM;

	snprintf(alias, sizeof(alias), PLUG_ALIAS "%s %s%s", p->ifname,
		 p->closed ? "closed" : "open",
		 p->own_ingress ? ", ingress too" : "");
	if (was && is) {
		rtnl_link_set_ifindex(was, p->ifb);
		rtnl_link_set_ifalias(is, alias);
		nle = rtnl_link_change(p->orders, was, is, 0);
	}
	rtnl_link_put(was);
	rtnl_link_put(is);
	return nle < 0 ? plug_failed(p, nle, "its plug's alias") : 0;
}

int plug_mark(struct plug *p)
{
	int err = 0;

	/* First said, then done: one that is found says no less than it is. */
	if (!p->closed) {
		p->closed = true;
		err = plug_say(p);
	}
	if (err)
		return err;
	rtnl_qdisc_plug_buffer(p->qdisc);
	return order(p, "its output cannot be held");
}

/* Where nobody can tell, nothing is to be held for ever. */
bool plug_passes(const struct plug *p)
{
	struct ifreq r = { 0 };

	memcpy(r.ifr_name, p->ifname, sizeof(r.ifr_name));
	return ioctl(p->control, SIOCGIFFLAGS, &r) || r.ifr_flags & IFF_RUNNING;
}

int plug_release(struct plug *p)
{
	rtnl_qdisc_plug_release_one(p->qdisc);
	return order(p, "its output cannot be released");
}

int plug_let(struct plug *p)
{
	int err;

	rtnl_qdisc_plug_release_indefinite(p->qdisc);
	err = order(p, "its output cannot be let go");
	if (err || !p->closed)
		return err;
	p->closed = false;
	return plug_say(p);
}

/*
 * Another in its place, so that at no time there is none: of no room, and a new
 * one is closed.
 */
int plug_drop(struct plug *p)
{
	struct rtnl_qdisc *q = rtnl_qdisc_alloc();
	int nle = -NLE_NOMEM;

	if (q) {
		plug_place(q, p->ifb, TC_H_ROOT, TC_HANDLE(PLUG_DROP_MAJOR, 0),
			   "plug");
		rtnl_qdisc_plug_set_limit(q, 0);
		nle = rtnl_qdisc_add(p->orders, q,
				     NLM_F_CREATE | NLM_F_REPLACE);
		rtnl_qdisc_put(q);
	}
	return nle < 0 ? plug_failed(p, nle, "its output cannot be dropped")
		       : 0;
}

/* --- counts --------------------------------------------------------------- */

struct answer {
	bool found;
	struct plug_counts *counts;
};

static int take(struct nl_msg *message, void *arg)
{
	struct answer *a = arg;
	struct nlmsghdr *h = nlmsg_hdr(message);
	struct nlattr *tb[TCA_MAX + 1], *stats[TCA_STATS_MAX + 1];
	struct gnet_stats_basic basic = { 0 };
	struct gnet_stats_queue queue = { 0 };

	if (h->nlmsg_type != RTM_NEWQDISC ||
	    nlmsg_parse(h, sizeof(struct tcmsg), tb, TCA_MAX, NULL) < 0 ||
	    !tb[TCA_KIND] || strcmp(nla_get_string(tb[TCA_KIND]), "plug") ||
	    !tb[TCA_STATS2] ||
	    nla_parse_nested(stats, TCA_STATS_MAX, tb[TCA_STATS2], NULL) < 0)
		return NL_OK;
	a->found = true;
	if (stats[TCA_STATS_BASIC])
		nla_memcpy(&basic, stats[TCA_STATS_BASIC], sizeof(basic));
	if (stats[TCA_STATS_QUEUE])
		nla_memcpy(&queue, stats[TCA_STATS_QUEUE], sizeof(queue));
	*a->counts = (struct plug_counts){
		.held_frames = queue.qlen,
		.held_bytes = queue.backlog,
		.passed_frames = basic.packets,
		.passed_bytes = basic.bytes,
		.dropped_frames = queue.drops,
	};
	return NL_OK;
}

/* One qdisc's: libnl knows only all qdiscs of all interfaces. */
int plug_count(struct plug *p, struct plug_counts *out)
{
	struct tcmsg which = { .tcm_family = AF_UNSPEC,
			       .tcm_ifindex = p->ifb,
			       .tcm_parent = TC_H_ROOT };
	/* Without ECHO the kernel acknowledges, and says nothing. */
	struct nl_msg *m = nlmsg_alloc_simple(RTM_GETQDISC, NLM_F_ECHO);
	struct answer a = { .counts = out };
	int nle = -NLE_NOMEM;

	if (m)
		nle = nlmsg_append(m, &which, sizeof(which), NLMSG_ALIGNTO);
	if (nle >= 0) {
		nl_socket_modify_cb(p->questions, NL_CB_VALID, NL_CB_CUSTOM,
				    take, &a);
		nle = nl_send_auto(p->questions, m);
	}
	nlmsg_free(m);
	if (nle >= 0)
		nle = nl_recvmsgs_default(p->questions);
	if (nle >= 0 && !a.found)
		nle = -NLE_OBJ_NOTFOUND;
	return nle < 0 ? plug_failed(p, nle, "what its plug holds is not known")
		       : 0;
}
