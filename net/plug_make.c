/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plug is found, made and removed (see plug.h): an ifb with the qdisc, and
 * what leads an interface's frames there.
 */
#include "config.h"

#include "net/plug_impl.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/tc_act/tc_mirred.h>
#include <netlink/route/act/gact.h>
#include <netlink/route/act/mirred.h>
#include <netlink/route/action.h>
#include <netlink/route/classifier.h>
#include <netlink/route/cls/matchall.h>
#include <netlink/route/link.h>
#include <netlink/route/qdisc/plug.h>
#include <netlink/route/tc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

/* With "vif12.0-emu" less its "vif" no longer than a name may be. */
#define IFB_PREFIX "plug"

enum {
	FILTER_HANDLE = 0xc010,
	/* The first to see a frame: what another filter took would not wait. */
	FILTER_PRIO = 1,
	QUEUE_FRAMES = 1000,
};

/* Also of a clsact qdisc, which somebody may have put there. */
#define INGRESS_PARENT TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)

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
		return plug_failed(p, nle, "no interface for its plug (ifb)");
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
	return nle < 0 ? plug_failed(p, nle, "its plug stays") : 0;
}

/* -NLE_EXIST where somebody has one, or a clsact, which does as well. */
static int ingress(struct plug *p, bool add)
{
	struct rtnl_qdisc *q = rtnl_qdisc_alloc();
	int nle;

	if (!q)
		return -NLE_NOMEM;
	plug_place(q, p->ifindex, TC_H_INGRESS, TC_HANDLE(0xffff, 0),
		   "ingress");
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
	return nle < 0 ? plug_failed(p, nle, "the filter before its plug stays")
		       : 0;
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
		err = plug_failed(p, nle, "no plug (sch_plug)");
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
		return plug_failed(p, nle, "no qdisc ingress");
	err = plug_say(p);
	nle = err ? 0 : add_filter(p);
	if (nle < 0 && !(found && nle == -NLE_EXIST))
		err = plug_failed(p, nle, "no filter before its plug");
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
		return plug_failed(p, nle, "its plug");
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
	return nle < 0 ? plug_failed(p, nle, "netlink") : 0;
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
	plug_place(p->qdisc, 0, TC_H_ROOT, TC_HANDLE(PLUG_MAJOR, 0), "plug");
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
			err = plug_failed(p, nle, "its qdisc ingress stays");
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

	return alias && !strncmp(alias, PLUG_ALIAS, sizeof(PLUG_ALIAS) - 1) &&
	       sscanf(alias + sizeof(PLUG_ALIAS) - 1, "%15s", ifname) == 1 &&
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
	return plug_errno(nle);
}
