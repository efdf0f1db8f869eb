/* SPDX-License-Identifier: Apache-2.0 */
/* The plug of one interface (see plug.h), by libnl-route: no process is run. */
#include "config.h"

#include "net/plug.h"

#include <errno.h>
#include <linux/gen_stats.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/act/gact.h>
#include <netlink/route/act/mirred.h>
#include <netlink/route/action.h>
#include <netlink/route/classifier.h>
#include <netlink/route/cls/matchall.h>
#include <netlink/route/link.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/qdisc/plug.h>
#include <netlink/route/tc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

/* With "vif12.0-emu" less its "vif" no longer than a name may be. */
#define IFB_PREFIX "plug"
#define ALIAS "colod "

enum {
	/* Of ours, so that another's is never taken for it: 'co'. */
	PLUG_MAJOR = 0xc010,
	DROP_MAJOR = 0xc011,
	FILTER_HANDLE = 0xc010,
	/* The first to see a frame: what another filter took would not wait. */
	FILTER_PRIO = 1,
	QUEUE_FRAMES = 1000,
};

/* Also of a clsact qdisc, which somebody may have put there. */
#define INGRESS_PARENT TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)

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
static int errno_of(int nle)
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

static int failed(const struct plug *p, int nle, const char *what)
{
	log_error("%s: %s: %s", p->ifname, what, nl_geterror(nle));
	return errno_of(nle);
}

/* --- the plug itself ---------------------------------------------------- */

static void place(struct rtnl_qdisc *q, int ifindex, uint32_t parent,
		  uint32_t handle, const char *kind)
{
	rtnl_tc_set_ifindex(TC_CAST(q), ifindex);
	rtnl_tc_set_parent(TC_CAST(q), parent);
	rtnl_tc_set_handle(TC_CAST(q), handle);
	rtnl_tc_set_kind(TC_CAST(q), kind);
}

/* Without a flag that creates one: that it is gone is an error. */
static int order(struct plug *p, const char *what)
{
	int nle = rtnl_qdisc_add(p->orders, p->qdisc, 0);

	return nle < 0 ? failed(p, nle, what) : 0;
}

/* Its alias, for people and for a colod that finds it. */
static int say(struct plug *p)
{
	struct rtnl_link *was = rtnl_link_alloc(), *is = rtnl_link_alloc();
	char alias[64];
	int nle = -NLE_NOMEM;

	snprintf(alias, sizeof(alias), ALIAS "%s %s%s", p->ifname,
		 p->closed ? "closed" : "open",
		 p->own_ingress ? ", ingress too" : "");
	if (was && is) {
		rtnl_link_set_ifindex(was, p->ifb);
		rtnl_link_set_ifalias(is, alias);
		nle = rtnl_link_change(p->orders, was, is, 0);
	}
	rtnl_link_put(was);
	rtnl_link_put(is);
	return nle < 0 ? failed(p, nle, "its plug's alias") : 0;
}

int plug_mark(struct plug *p)
{
	int err = 0;

	/* First said, then done: one that is found says no less than it is. */
	if (!p->closed) {
		p->closed = true;
		err = say(p);
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
	return say(p);
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
		place(q, p->ifb, TC_H_ROOT, TC_HANDLE(DROP_MAJOR, 0), "plug");
		rtnl_qdisc_plug_set_limit(q, 0);
		nle = rtnl_qdisc_add(p->orders, q,
				     NLM_F_CREATE | NLM_F_REPLACE);
		rtnl_qdisc_put(q);
	}
	return nle < 0 ? failed(p, nle, "its output cannot be dropped") : 0;
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
	return nle < 0 ? failed(p, nle, "what its plug holds is not known") : 0;
}

/* --- making and removing -------------------------------------------------- */

static int make_ifb(struct plug *p)
{
	struct rtnl_link *l = rtnl_link_alloc();
	int nle = -NLE_NOMEM;

	if (l) {
		rtnl_link_set_name(l, p->ifb_name);
		rtnl_link_set_type(l, "ifb");
		rtnl_link_set_txqlen(l, QUEUE_FRAMES);
		rtnl_link_set_flags(l, IFF_UP);
		nle = rtnl_link_add(p->orders, l, NLM_F_CREATE | NLM_F_EXCL);
		rtnl_link_put(l);
	}
	if (nle < 0)
		return failed(p, nle, "no interface for its plug (ifb)");
	p->ifb = (int)if_nametoindex(p->ifb_name);
	rtnl_tc_set_ifindex(TC_CAST(p->qdisc), p->ifb);
	return 0;
}

static int remove_ifb(struct plug *p)
{
	struct rtnl_link *l = rtnl_link_alloc();
	int nle = -NLE_NOMEM;

	if (l) {
		rtnl_link_set_ifindex(l, p->ifb);
		nle = rtnl_link_delete(p->orders, l);
		rtnl_link_put(l);
	}
	return nle < 0 ? failed(p, nle, "its plug stays") : 0;
}

/* -NLE_EXIST where somebody has one, or a clsact, which does as well. */
static int ingress(struct plug *p, bool add)
{
	struct rtnl_qdisc *q = rtnl_qdisc_alloc();
	int nle;

	if (!q)
		return -NLE_NOMEM;
	place(q, p->ifindex, TC_H_INGRESS, TC_HANDLE(0xffff, 0), "ingress");
	nle = add ? rtnl_qdisc_add(p->orders, q, NLM_F_CREATE | NLM_F_EXCL)
		  : rtnl_qdisc_delete(p->orders, q);
	rtnl_qdisc_put(q);
	return nle;
}

static struct rtnl_cls *filter(const struct plug *p)
{
	struct rtnl_cls *c = rtnl_cls_alloc();

	if (!c)
		return NULL;
	rtnl_tc_set_ifindex(TC_CAST(c), p->ifindex);
	rtnl_tc_set_parent(TC_CAST(c), INGRESS_PARENT);
	rtnl_tc_set_handle(TC_CAST(c), FILTER_HANDLE);
	rtnl_tc_set_kind(TC_CAST(c), "matchall");
	rtnl_cls_set_prio(c, FILTER_PRIO);
	rtnl_cls_set_protocol(c, ETH_P_ALL);
	return c;
}

static int append(struct rtnl_cls *c, struct rtnl_act *a, int nle)
{
	if (nle >= 0)
		nle = rtnl_mall_append_action(c, a);
	rtnl_act_put(a);
	return nle;
}

/* A copy to the ifb; the policy may be set only behind the action. */
static int append_copy(const struct plug *p, struct rtnl_cls *c)
{
	struct rtnl_act *a = rtnl_act_alloc();
	int nle;

	if (!a)
		return -NLE_NOMEM;
	nle = rtnl_tc_set_kind(TC_CAST(a), "mirred");
	if (nle >= 0)
		nle = rtnl_mirred_set_action(a, TCA_EGRESS_REDIR);
	if (nle >= 0)
		nle = rtnl_mirred_set_policy(a, TC_ACT_PIPE);
	if (nle >= 0)
		nle = rtnl_mirred_set_ifindex(a, (uint32_t)p->ifb);
	return append(c, a, nle);
}

static int append_end(struct rtnl_cls *c)
{
	struct rtnl_act *a = rtnl_act_alloc();
	int nle;

	if (!a)
		return -NLE_NOMEM;
	nle = rtnl_tc_set_kind(TC_CAST(a), "gact");
	if (nle >= 0)
		nle = rtnl_gact_set_action(a, TC_ACT_SHOT);
	return append(c, a, nle);
}

/* -NLE_EXIST where it is there. */
static int add_filter(struct plug *p)
{
	struct rtnl_cls *c = filter(p);
	int nle = -NLE_NOMEM;

	if (!c)
		return nle;
	nle = append_copy(p, c);
	if (nle >= 0)
		nle = append_end(c);
	if (nle >= 0)
		nle = rtnl_cls_add(p->orders, c, NLM_F_CREATE | NLM_F_EXCL);
	rtnl_cls_put(c);
	return nle;
}

static int remove_filter(struct plug *p)
{
	struct rtnl_cls *c = filter(p);
	int nle = -NLE_NOMEM;

	if (c) {
		nle = rtnl_cls_delete(p->orders, c, 0);
		rtnl_cls_put(c);
	}
	return nle < 0 ? failed(p, nle, "the filter before its plug stays") : 0;
}

static int make_plug(struct plug *p, uint32_t limit_bytes)
{
	int err = make_ifb(p), nle;

	if (err)
		return err;
	/* libnl's own limit is none at all, and a new plug is closed. */
	rtnl_qdisc_plug_set_limit(p->qdisc, (int)limit_bytes);
	nle = rtnl_qdisc_add(p->orders, p->qdisc, NLM_F_CREATE | NLM_F_EXCL);
	if (nle < 0)
		err = failed(p, nle, "no plug (sch_plug)");
	if (!err)
		err = plug_let(p);
	if (err)
		remove_ifb(p);
	return err;
}

/*
 * The filter comes last: from then on frames go this way.  Of a plug that was
 * found both may be there; an interface that was attached anew has neither.
 */
static int lead_there(struct plug *p, bool found)
{
	int nle = ingress(p, true), err;

	if (nle >= 0)
		p->own_ingress = true;
	else if (nle != -NLE_EXIST)
		return failed(p, nle, "no qdisc ingress");
	err = say(p);
	nle = err ? 0 : add_filter(p);
	if (nle < 0 && !(found && nle == -NLE_EXIST))
		err = failed(p, nle, "no filter before its plug");
	if (err && p->own_ingress && !found)
		ingress(p, false);
	return err;
}

/* What an earlier colod has left, by its alias. */
static int find(struct plug *p)
{
	struct rtnl_link *l = NULL;
	int nle = rtnl_link_get_kernel(p->orders, 0, p->ifb_name, &l);
	const char *alias;

	if (nle == -NLE_NODEV || nle == -NLE_OBJ_NOTFOUND)
		return -ENOENT;
	if (nle < 0)
		return failed(p, nle, "its plug");
	alias = rtnl_link_get_ifalias(l);
	p->ifb = rtnl_link_get_ifindex(l);
	p->closed = alias && strstr(alias, "closed");
	p->own_ingress = alias && strstr(alias, "ingress");
	p->found_closed = p->closed;
	rtnl_link_put(l);
	rtnl_tc_set_ifindex(TC_CAST(p->qdisc), p->ifb);
	return 0;
}

static int connect_both(struct plug *p)
{
	int nle = nl_connect(p->orders, NETLINK_ROUTE);

	if (nle >= 0) {
		nl_socket_disable_auto_ack(p->questions);
		nl_socket_disable_seq_check(p->questions);
		nle = nl_connect(p->questions, NETLINK_ROUTE);
	}
	return nle < 0 ? failed(p, nle, "netlink") : 0;
}

/* Not there yet: neither looked for nor made. */
static int plug_new(const char *ifname, struct plug **out)
{
	struct plug *p = calloc(1, sizeof(*p));
	int err;

	if (!p)
		return -ENOMEM;
	snprintf(p->ifname, sizeof(p->ifname), "%s", ifname);
	/* vif12.0 -> plug12.0: who looks sees what it belongs to. */
	snprintf(p->ifb_name, sizeof(p->ifb_name), IFB_PREFIX "%s",
		 strncmp(ifname, "vif", 3) ? ifname : ifname + 3);
	p->ifindex = (int)if_nametoindex(ifname);
	p->control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	p->orders = nl_socket_alloc();
	p->questions = nl_socket_alloc();
	p->qdisc = rtnl_qdisc_alloc();
	if (!p->ifindex)
		err = -ENODEV;
	else if (p->control < 0)
		err = -errno;
	else if (!p->orders || !p->questions || !p->qdisc)
		err = -ENOMEM;
	else
		err = connect_both(p);
	if (err) {
		plug_close(p);
		return err;
	}
	place(p->qdisc, 0, TC_H_ROOT, TC_HANDLE(PLUG_MAJOR, 0), "plug");
	*out = p;
	return 0;
}

int plug_find(const char *ifname, struct plug **out)
{
	int err = plug_new(ifname, out);

	if (err)
		return err;
	err = find(*out);
	if (err)
		plug_close(*out);
	return err;
}

int plug_open(const char *ifname, uint32_t limit_bytes, struct plug **out)
{
	int err = plug_new(ifname, out);
	struct plug *p = *out;
	bool found;

	if (err)
		return err;
	err = find(p);
	found = !err;
	if (err == -ENOENT)
		err = make_plug(p, limit_bytes);
	if (!err) {
		err = lead_there(p, found);
		if (err && !found)
			remove_ifb(p);
	}
	if (err)
		plug_close(p);
	return err;
}

bool plug_found_closed(const struct plug *p)
{
	return p->found_closed;
}

const char *plug_ifname(const struct plug *p)
{
	return p->ifname;
}

/*
 * The filter first, so that nothing new comes; and what the plug let go is
 * passed on by a tasklet of the ifb's, which its end waits for.
 */
int plug_remove(struct plug *p)
{
	/* A domain that is gone has taken its interface along. */
	bool there = if_nametoindex(p->ifname) == (unsigned int)p->ifindex;
	int err = there ? remove_filter(p) : 0, nle;

	if (there && p->own_ingress) {
		nle = ingress(p, false);
		if (nle < 0)
			err = failed(p, nle, "its qdisc ingress stays");
	}
	nle = remove_ifb(p);
	return err ? err : nle;
}

void plug_close(struct plug *p)
{
	if (!p)
		return;
	if (p->qdisc)
		rtnl_qdisc_put(p->qdisc);
	nl_socket_free(p->orders);
	nl_socket_free(p->questions);
	if (p->control >= 0)
		close(p->control);
	free(p);
}

/* The interface that an alias of ours names is no more. */
static bool orphaned(const char *alias)
{
	char ifname[IFNAMSIZ] = "";

	return alias && !strncmp(alias, ALIAS, sizeof(ALIAS) - 1) &&
	       sscanf(alias + sizeof(ALIAS) - 1, "%15s", ifname) == 1 &&
	       !if_nametoindex(ifname);
}

static void sweep_one(struct nl_object *o, void *arg)
{
	struct rtnl_link *l = (struct rtnl_link *)(void *)o;
	struct nl_sock *orders = arg;
	const char *type = rtnl_link_get_type(l);
	int nle;

	if (!type || strcmp(type, "ifb") || !orphaned(rtnl_link_get_ifalias(l)))
		return;
	nle = rtnl_link_delete(orders, l);
	if (nle < 0)
		log_warn("%s: a plug of an interface that is no more: %s",
			 rtnl_link_get_name(l), nl_geterror(nle));
}

int plug_sweep(void)
{
	struct nl_sock *orders = nl_socket_alloc();
	struct nl_cache *all = NULL;
	int nle = -NLE_NOMEM;

	if (orders)
		nle = nl_connect(orders, NETLINK_ROUTE);
	if (nle >= 0)
		nle = rtnl_link_alloc_cache(orders, AF_UNSPEC, &all);
	if (nle >= 0)
		nl_cache_foreach(all, sweep_one, orders);
	else
		log_warn("plugs of interfaces that are no more: %s",
			 nl_geterror(nle));
	if (all)
		nl_cache_free(all);
	nl_socket_free(orders);
	return errno_of(nle);
}
