/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for disks (see drain.h).
 *
 * The happy path: the first page of each ring is mapped when its disk is
 * Connected; in the pause a look at two numbers in it is all, for mostly
 * nothing is in flight.  A backend sends nobody an event but the guest, so the
 * rest is polled for.
 * Failure modes: a ring that cannot be mapped is not waited for.
 */
#include "config.h"

#include "resume/xen/drain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xengnttab.h>
#include <xen/io/xenbus.h>

#include "base/clock.h"
#include "base/log.h"

#define POLL_US UINT64_C(100)
#define WARN_US UINT64_C(1000000)
/* The guest stands still meanwhile, and its clients with it. */
#define WAIT_US UINT64_C(5000000)

enum { RINGS_MAX = 128 };

/* How each ring begins, whatever its requests (xen/io/ring.h). */
struct ring {
	uint32_t req_prod, req_event, rsp_prod, rsp_event;
};

struct xen_drain {
	struct xen_host *host;
	uint32_t domid;
	xengnttab_handle *grants; /* or NULL */
	unsigned int connections; /* of the devices, when they were learnt */
	unsigned int count;
	const volatile struct ring *rings[RINGS_MAX];
};

int xen_drain_open(struct xen_host *h, uint32_t domid, struct xen_drain **out)
{
	struct xen_drain *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->host = h;
	r->domid = domid;
	r->grants = xengnttab_open(h->log, 0);
	*out = r;
	return 0;
}

static void release(struct xen_drain *r)
{
	while (r->count)
		xengnttab_unmap(r->grants, (void *)r->rings[--r->count], 1);
}

void xen_drain_close(struct xen_drain *r)
{
	if (!r)
		return;
	release(r);
	if (r->grants)
		xengnttab_close(r->grants);
	free(r);
}

static void add_ring(struct xen_drain *r, const struct xen_devices *d,
		     const char *folder)
{
	long ref = xen_devices_number(d, folder, "ring-ref");
	void *ring;

	if (ref < 0) /* a ring of several pages */
		ref = xen_devices_number(d, folder, "ring-ref0");
	if (ref < 0 || r->count == RINGS_MAX)
		return;
	ring = xengnttab_map_grant_ref(r->grants, r->domid, (uint32_t)ref,
				       PROT_READ);
	if (ring)
		r->rings[r->count++] = ring;
	else
		log_debug("domain %u: mapping the ring of %s: %s", r->domid,
			  folder, strerror(errno));
}

static void add_disk(struct xen_drain *r, const struct xen_devices *d,
		     const struct xen_device *v)
{
	long queues = xen_devices_number(d, v->front, "multi-queue-num-queues");
	char folder[96];

	if (queues <= 1) {
		add_ring(r, d, v->front);
		return;
	}
	for (long i = 0; i < queues && i < RINGS_MAX; i++) {
		snprintf(folder, sizeof(folder), "%s/queue-%ld", v->front, i);
		add_ring(r, d, folder);
	}
}

void xen_drain_learn(struct xen_drain *r, const struct xen_devices *d)
{
	if (!r->grants || r->connections == d->connections)
		return;
	release(r);
	r->connections = d->connections;
	for (size_t i = 0; i < d->count; i++)
		if (!d->list[i].vif &&
		    d->list[i].front_state == XenbusStateConnected &&
		    d->list[i].back_state == XenbusStateConnected)
			add_disk(r, d, &d->list[i]);
}

static bool answered(const struct xen_drain *r)
{
	for (unsigned int i = 0; i < r->count; i++)
		if (r->rings[i]->rsp_prod != r->rings[i]->req_prod)
			return false;
	return true;
}

void xen_drain_wait(struct xen_drain *r, const struct xen_devices *d)
{
	uint64_t start_us = clock_now_us(), waited_us = 0;
	bool warned = false;

	xen_drain_learn(r, d); /* it may have dropped a disk just before */
	while (!answered(r)) {
		waited_us = clock_now_us() - start_us;
		if (waited_us >= WAIT_US)
			break;
		if (waited_us >= WARN_US && !warned)
			log_warn("domain %u is suspended, and its disks have"
				 " not finished: waiting for them",
				 r->domid);
		warned = warned || waited_us >= WARN_US;
		clock_sleep_us(POLL_US);
	}
	if (waited_us >= WAIT_US)
		log_warn("domain %u: its disks do not finish; it may lose one"
			 " now (`pending I/O' in the log of domain 0's kernel)",
			 r->domid);
	else if (waited_us)
		log_debug("domain %u: waited %llu us for its disks", r->domid,
			  (unsigned long long)waited_us);
}
