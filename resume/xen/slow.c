/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The recipe of a slow resume (see slow.h).
 *
 * The happy path, the domain suspended:
 *   - mark `slow'; disks answer what they were asked, and every backend is made
 *     to wait for a new frontend;
 *   - our own event channels to the domain go, for a reset closes them;
 *   - mark `reset'; the domain is paused, since Xen resets event channels only
 *     of one that control software has paused;
 *   - soft reset: event channels, vcpu_info, runstate areas and the place of
 *     shared_info are as in a new domain, and the suspend is over.  Without it
 *     Linux panics, for vcpu_info can be registered only once.  A device
 *     model stays: Xen keeps its ioreq servers, and closes no event channel
 *     that is its own (evtchn_close());
 *   - new ports for xenstore and the console, where the guest looks for them;
 *   - xenstored is told of its port.  It takes that for a new connection and
 *     empties the ring (domain_conn_reset()), so a guest that ran already would
 *     wait for ever for the answer to a request thrown away;
 *   - unpaused: the guest wakes;
 *   - xenconsoled is told of its port, the source has its own.
 * The last step may follow the guest's waking: who binds a port finds it
 * pending (Xen, evtchn_bind_interdomain()), so no notification is lost.
 *
 * Failure modes: every step may be done again, and where to go on is seen from
 * the domain and the mark: a domain that is still suspended begins anew, for
 * backends that wait already are passed over; one that is not, under the mark
 * `reset', goes on at the ports, and if it is not paused either, at the last
 * step.  So a rescue after the death of whoever did this calls the same code.
 * A soft reset that fails crashes the domain (Xen, domain_soft_reset()).  A
 * domain that somebody else resumes before the reset gets its devices back as
 * they were.
 */
#include "config.h"

#include "resume/xen/slow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xen/hvm/params.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "resume/xen/cure.h"
#include "resume/xen/pv/again.h"
#include "resume/xen/recycle.h"
#include "resume/xen/source.h"

#define RETRY_US UINT64_C(20000)

enum { TRIES = 50 };

static uint32_t find_store_domid(struct xen_host *h)
{
	AUTO_FREE char *text = NULL;
	unsigned int len;

	/* Written where xenstored has a domain of its own. */
	text = xs_read(h->xs, XBT_NULL, "/tool/xenstored/domid", &len);
	return text ? (uint32_t)atoi(text) : 0;
}

int xen_slow_open(struct xen_host *h, uint32_t domid, const char *holder,
		  struct guest_source *source, struct xen_slow **out)
{
	struct xen_slow *w = calloc(1, sizeof(*w));
	struct xen_state st;
	int rc;

	if (!w)
		return -ENOMEM;
	w->host = h;
	w->domid = domid;
	w->source = source;
	snprintf(w->holder, sizeof(w->holder), "%s", holder);
	w->store_domid = find_store_domid(h);
	rc = xen_query(h, domid, &st);
	w->pv = !st.hvm;
	if (rc == 0 && !w->pv &&
	    xc_hvm_param_get(xen_call(h), domid, HVM_PARAM_STORE_PFN,
			     &w->store_gfn))
		rc = -errno;
	if (rc == 0)
		rc = xen_devices_open(h, domid, &w->devices);
	if (rc == 0)
		rc = xen_drain_open(h, domid, &w->drain);
	if (rc == 0 && source)
		rc = xen_hold_open(h, domid, &w->hold);
	if (rc < 0) {
		xen_slow_close(w);
		return rc;
	}
	*out = w;
	return 0;
}

void xen_slow_close(struct xen_slow *w)
{
	if (!w)
		return;
	xen_hold_close(w->hold);
	xen_drain_close(w->drain);
	xen_devices_close(w->devices);
	free(w);
}

int xen_slow_ready(struct xen_slow *w, uint64_t end_us, int cancel_fd)
{
	int rc = xen_devices_await(w->devices, end_us, cancel_fd);

	if (rc < 0 || !xen_source_resumes_slowly(w->source))
		return rc;
	xen_devices_warn_others(w->devices);
	xen_drain_learn(w->drain, w->devices);
	xen_cure_follow(w);
	return 0;
}

void xen_slow_let_go(struct xen_slow *w, uint64_t end_us)
{
	if (w->hold && xen_hold_taken(w->hold))
		xen_slow_ready(w, end_us, -1);
}

/* Like xen_source_mark(), which a rescue has no source for. */
static int mark(struct xen_slow *w, const char *word)
{
	char text[XEN_MARK_BYTES];

	snprintf(text, sizeof(text), "%s %s", word, w->holder);
	return xen_node_write(w->host, w->domid, XEN_NODE_SOURCE, text);
}

static int failed(struct xen_slow *w, const char *what, int rc)
{
	log_debug("domain %u: slow resume: %s: %s (%s)", w->domid, what,
		  strerror(-rc), xen_host_why(w->host).text);
	return rc;
}

/* The source's and the guest's own channels, before a reset closes them. */
static void detach(struct xen_slow *w)
{
	if (w->source) {
		xen_events_before_reset(w->source);
		return;
	}
	xc_domain_subscribe_for_suspend(xen_call(w->host), w->domid, 0);
	xen_node_remove(w->host, w->domid, XEN_NODE_PORT);
	xen_node_write(w->host, w->domid, "device/suspend/event-channel", "");
}

static int recycle(struct xen_slow *w)
{
	uint64_t start_us = clock_now_us();
	int rc = w->reset_marked ? 0 : mark(w, XEN_MARK_SLOW);

	w->begun = true;
	if (rc == 0)
		rc = fault_at(FAULT_SLOW_MARKED);
	if (rc == 0)
		rc = xen_devices_update(w->devices);
	if (rc == 0 && w->hold)
		xen_hold_take(w->hold, w->devices);
	if (rc == 0)
		xen_drain_wait(w->drain, w->devices);
	if (rc == 0)
		rc = xen_devices_recycle(w->devices);
	if (rc == 0)
		rc = fault_at(FAULT_SLOW_DEVICES);
	w->phases.devices_us = clock_now_us() - start_us;
	return rc < 0 ? failed(w, "devices", rc) : 0;
}

static int mark_reset(struct xen_slow *w)
{
	int rc = w->reset_marked ? 0 : mark(w, XEN_MARK_RESET);

	if (rc == 0)
		w->reset_marked = true;
	return rc;
}

static int pause_once(struct xen_slow *w)
{
	/* Pauses are counted: a second one of ours would stay. */
	if (!w->paused && xc_domain_pause(xen_call(w->host), w->domid))
		return -errno;
	w->paused = true;
	return 0;
}

static int soft_reset(struct xen_slow *w)
{
	if (w->pv)
		return xen_pv_reset(w->host, w->domid);
	return xc_domain_soft_reset(xen_call(w->host), w->domid) ? -errno : 0;
}

static int reset(struct xen_slow *w)
{
	uint64_t start_us = clock_now_us();
	int rc;

	detach(w);
	rc = fault_at(FAULT_SLOW_DETACHED);
	if (rc == 0)
		rc = mark_reset(w);
	if (rc == 0)
		rc = fault_at(FAULT_SLOW_RESET_MARKED);
	if (rc == 0)
		rc = pause_once(w);
	if (rc == 0)
		rc = fault_at(FAULT_SLOW_PAUSED);
	if (rc == 0)
		rc = soft_reset(w);
	w->phases.reset_us = clock_now_us() - start_us;
	if (rc == 0) {
		w->unannounced = true;
		rc = fault_at(FAULT_SLOW_RESET);
	}
	return rc < 0 ? failed(w, "soft reset", rc) : 0;
}

static int new_port(struct xen_slow *w, uint32_t remote, int param,
		    unsigned int *port)
{
	int n = xc_evtchn_alloc_unbound(xen_call(w->host), w->domid, remote);

	if (n < 0)
		return -errno;
	*port = (unsigned int)n;
	if (w->pv) /* set_ports() */
		return 0;
	if (xc_hvm_param_set(xen_call(w->host), w->domid, (uint32_t)param,
			     *port))
		return -errno;
	return 0;
}

static int write_port(struct xen_slow *w, const char *node, unsigned int port)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", port);
	return xen_node_write(w->host, w->domid, node, text);
}

static int write_ports(struct xen_slow *w)
{
	/* xenconsoled watches its node. */
	int rc = write_port(w, "console/port", w->console_port);

	return rc < 0 ? rc : write_port(w, "store/port", w->store_port);
}

/* Nothing says what they are once it runs, so they are told at once. */
static int set_ports(struct xen_slow *w)
{
	int rc = xen_pv_set_ports(w->host, w->domid, w->store_port,
				  w->console_port, &w->store_gfn);

	return rc < 0 ? rc : write_ports(w);
}

static int unpause(struct xen_slow *w)
{
	if (xc_domain_unpause(xen_call(w->host), w->domid))
		return -errno;
	w->paused = false;
	return 0;
}

/* The domain is reset and paused: it gets new ports and runs. */
static int wake(struct xen_slow *w)
{
	uint64_t start_us = clock_now_us();
	int rc = new_port(w, w->store_domid, HVM_PARAM_STORE_EVTCHN,
			  &w->store_port);

	if (rc == 0)
		rc = fault_at(FAULT_SLOW_STORE_PORT);
	/* libxl puts a console nowhere else. */
	if (rc == 0)
		rc = new_port(w, 0, HVM_PARAM_CONSOLE_EVTCHN, &w->console_port);
	if (rc == 0 && w->pv)
		rc = set_ports(w);
	if (rc == 0)
		rc = fault_at(FAULT_SLOW_PORTS);
	/* Before it runs: xenstored empties the ring of one it knows. */
	if (rc == 0 && !xs_introduce_domain(w->host->xs, w->domid, w->store_gfn,
					    w->store_port))
		rc = -errno;
	if (rc == 0) {
		w->unannounced = false;
		rc = fault_at(FAULT_SLOW_INTRODUCED);
	}
	if (rc == 0 && w->pv)
		rc = xen_pv_resume(w->host, w->domid);
	if (rc == 0)
		rc = unpause(w);
	w->phases.channels_us = clock_now_us() - start_us;
	if (rc == 0)
		rc = fault_at(FAULT_SLOW_UNPAUSED);
	return rc < 0 ? failed(w, "channels", rc) : 0;
}

static int known_port(struct xen_slow *w, int param, unsigned int *port)
{
	uint64_t value = 0;

	if (*port)
		return 0;
	if (xc_hvm_param_get(xen_call(w->host), w->domid, (uint32_t)param,
			     &value))
		return -errno;
	*port = (unsigned int)value;
	return 0;
}

static int tell_ports(struct xen_slow *w)
{
	int rc = known_port(w, HVM_PARAM_STORE_EVTCHN, &w->store_port);

	if (rc == 0)
		rc = known_port(w, HVM_PARAM_CONSOLE_EVTCHN, &w->console_port);
	return rc < 0 ? rc : write_ports(w);
}

/* It runs: what remains to be told of it. */
static int tell(struct xen_slow *w)
{
	struct xs_handle *xs = w->host->xs;
	int rc = w->pv ? 0 : tell_ports(w);

	if (rc == 0)
		rc = fault_at(FAULT_SLOW_PORTS_TOLD);
	/* Else xenstored goes on taking it for one that has shut down. */
	if (rc == 0 && !xs_resume_domain(xs, w->domid))
		rc = -errno;
	if (rc == 0)
		rc = fault_at(FAULT_SLOW_TOLD);
	/* Without a port of its own the source polls. */
	if (rc == 0 && w->source && xen_events_after_reset(w->source) == 0)
		rc = xen_events_after_resume(w->source);
	if (!w->source)
		xen_node_remove(w->host, w->domid, XEN_NODE_PORT);
	return rc < 0 ? failed(w, "telling of its ports", rc) : 0;
}

/*
 * A failing `xl save' does so, with return code 1: the guest has its event
 * channels and rings, but its backends have let go of them.
 */
static int resumed_by_another(struct xen_slow *w)
{
	int rc;

	log_warn("domain %u was suspended by colod and has been resumed by"
		 " something else (xl save?)",
		 w->domid);
	if (!w->begun)
		return 0;
	rc = xen_devices_reconnect(w->devices);
	return rc < 0 ? failed(w, "connecting its devices again", rc) : 0;
}

static int attempt(struct xen_slow *w)
{
	struct xen_state st;
	int rc = xen_query(w->host, w->domid, &st);

	if (rc < 0)
		return rc;
	if (st.status == GUEST_SUSPENDED) {
		w->paused = w->paused && st.paused; /* or somebody let it go */
		rc = recycle(w);
		if (rc == 0)
			rc = reset(w);
		if (rc == 0)
			rc = wake(w);
		return rc < 0 ? rc : tell(w);
	}
	if (st.status != GUEST_RUNNING)
		return -ESHUTDOWN;
	if (!w->reset_marked)
		return resumed_by_another(w);
	if (w->unannounced && !st.paused) { /* let go by somebody else */
		w->paused = false;
		rc = pause_once(w);
		st.paused = rc == 0;
	}
	if (rc == 0 && st.paused && w->paused)
		rc = w->pv ? unpause(w) : wake(w);
	return rc < 0 ? rc : tell(w);
}

/*
 * Nothing more can be done for now: at least the pause does not stay.  But for
 * one that lacks its channel to xenstore, which Linux waits for before it thaws
 * anything: it would not come further than it is, and be past help.
 */
static void let_go(struct xen_slow *w)
{
	if (!w->paused || w->unannounced)
		return;
	xc_domain_unpause(xen_call(w->host), w->domid);
	w->paused = false;
}

static void finished(struct xen_slow *w)
{
	w->begun = w->reset_marked = w->paused = w->unannounced = false;
}

int xen_slow_resume(struct xen_slow *w)
{
	int rc = 0;

	w->phases = (struct guest_phases){ 0 };
	for (int i = 0; i < TRIES; i++) {
		w->store_port = w->console_port = 0;
		rc = attempt(w);
		if (rc == 0) {
			finished(w);
			return 0;
		}
		if (rc == -ESHUTDOWN)
			break;
		if (i == 0)
			log_error("domain %u: its slow resume failed: %s (%s);"
				  " trying again",
				  w->domid, strerror(-rc),
				  xen_host_why(w->host).text);
		clock_sleep_us(RETRY_US);
	}
	let_go(w);
	if (rc == -ESHUTDOWN) {
		finished(w);
		return rc;
	}
	log_error("domain %u cannot be resumed: %s; it stands still%s: see `xl"
		  " list', and destroy it and let its standby take over, or"
		  " restart it",
		  w->domid, strerror(-rc),
		  w->unannounced ? ", paused, and is tried again" : "");
	return rc;
}
