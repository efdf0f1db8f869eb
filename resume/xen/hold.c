/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holding receive buffers over a slow resume (see hold.h).
 *
 * The happy path:
 *   - xen_hold_learn(), outside of pauses: the references of the rings are read
 *     from xenstore and the rings mapped, so that a pause maps buffers only;
 *   - xen_hold_take(): what the ring holds between rsp_prod and req_prod is not
 *     answered, so those slots are requests still, and their grants are mapped;
 *   - xen_hold_learn() after the guest's devices have connected anew: unmapped.
 * Failure modes: a ring that cannot be mapped, or says what cannot be, is
 * passed over, and the guest loses that memory; a line in the log at debug
 * level.
 */
#include "config.h"

#include "resume/xen/hold.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xengnttab.h>
#include <xen/io/netif.h>
#include <xen/io/xenbus.h>

#include "base/log.h"

enum {
	/* __CONST_RING_SIZE(netif_rx, 4096): a netif ring has one page. */
	SLOTS = 256,
	QUEUES_MAX = 64, /* of all interfaces; a megabyte each */
};

struct queue {
	netif_rx_sring_t *ring;
	void *held; /* or NULL */
	uint32_t held_count;
};

struct xen_hold {
	struct xen_host *host;
	uint32_t domid;
	xengnttab_handle *grants;	/* or NULL */
	bool module, cured, not_needed; /* says the guest */
	bool taken;			/* since the rings were learnt */
	bool unlearnt;			/* the cure is another since */
	unsigned int connections;	/* of the devices, when they were */
	unsigned int found;		/* receive queues, then */
	unsigned int count;		/* of which so many are mapped */
	struct queue queues[QUEUES_MAX];
};

int xen_hold_open(struct xen_host *h, uint32_t domid, struct xen_hold **out)
{
	struct xen_hold *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	o->host = h;
	o->domid = domid;
	o->grants = xengnttab_open(h->log, 0);
	if (!o->grants)
		log_debug("grants cannot be mapped: %s; is the module"
			  " xen-gntdev loaded?",
			  strerror(errno));
	*out = o;
	return 0;
}

static void release(struct xen_hold *h)
{
	for (unsigned int i = 0; i < h->count; i++) {
		struct queue *q = &h->queues[i];

		if (q->held)
			xengnttab_unmap(h->grants, q->held, q->held_count);
		xengnttab_unmap(h->grants, q->ring, 1);
	}
	h->count = 0;
	h->taken = false;
}

void xen_hold_close(struct xen_hold *h)
{
	if (!h)
		return;
	release(h);
	if (h->grants)
		xengnttab_close(h->grants);
	free(h);
}

static enum xen_cure cure_of(const struct xen_hold *h)
{
	if (h->cured)
		return XEN_CURE_MODULE;
	if (h->not_needed)
		return XEN_CURE_NOT_NEEDED;
	return h->grants ? XEN_CURE_HOLD : XEN_CURE_NONE;
}

/* colod-guest(4): words, of which those not known are passed over. */
void xen_hold_guest_says(struct xen_hold *h, const char *announced)
{
	const char *word = announced ? strstr(announced, " netfront=") : NULL;
	enum xen_cure before = cure_of(h);
	size_t n = 0;

	if (word && strncmp(announced, "1 ", 2) == 0) {
		word += strlen(" netfront=");
		n = strcspn(word, " ");
	}
	h->module = announced != NULL;
	h->cured = n == 5 && !strncmp(word, "cured", n);
	h->not_needed = n == 10 && !strncmp(word, "not-needed", n);
	/* Rings are mapped only for a hold. */
	if (cure_of(h) != before)
		h->unlearnt = true;
}

static void add_queue(struct xen_hold *h, const struct xen_devices *d,
		      const char *folder)
{
	long ref = xen_devices_number(d, folder, "rx-ring-ref");
	void *ring;

	if (ref < 0 || h->found == QUEUES_MAX)
		return;
	h->found++;
	if (cure_of(h) != XEN_CURE_HOLD)
		return;
	ring = xengnttab_map_grant_ref(h->grants, h->domid, (uint32_t)ref,
				       PROT_READ);
	if (!ring) {
		log_debug("domain %u: mapping the ring of %s: %s", h->domid,
			  folder, strerror(errno));
		return;
	}
	h->queues[h->count++] = (struct queue){ .ring = ring };
}

static void add_interface(struct xen_hold *h, const struct xen_devices *d,
			  const struct xen_device *v)
{
	long queues = xen_devices_number(d, v->front, "multi-queue-num-queues");
	char folder[96];

	if (queues <= 1) {
		add_queue(h, d, v->front);
		return;
	}
	for (long i = 0; i < queues && i < QUEUES_MAX; i++) {
		snprintf(folder, sizeof(folder), "%s/queue-%ld", v->front, i);
		add_queue(h, d, folder);
	}
}

void xen_hold_learn(struct xen_hold *h, const struct xen_devices *d)
{
	if (!h->taken && !h->unlearnt && h->connections == d->connections)
		return;
	release(h);
	h->unlearnt = false;
	h->connections = d->connections;
	h->found = 0;
	for (size_t i = 0; i < d->count; i++)
		if (d->list[i].vif &&
		    d->list[i].front_state == XenbusStateConnected)
			add_interface(h, d, &d->list[i]);
}

struct xen_loss xen_hold_loss(const struct xen_hold *h)
{
	return (struct xen_loss){ .cure = cure_of(h),
				  .module = h->module,
				  .queues = h->found,
				  .unheld = cure_of(h) == XEN_CURE_HOLD
						    ? h->found - h->count
						    : 0 };
}

static void take_queue(struct xen_hold *h, struct queue *q)
{
	const volatile netif_rx_sring_t *ring = q->ring;
	RING_IDX at = ring->rsp_prod, end = ring->req_prod;
	uint32_t refs[SLOTS], n = 0;

	if (end - at > SLOTS)
		return;
	while (at != end)
		refs[n++] = ring->ring[at++ % SLOTS].req.gref;
	if (!n)
		return;
	q->held = xengnttab_map_domain_grant_refs(h->grants, n, h->domid, refs,
						  PROT_READ);
	q->held_count = n;
	if (!q->held)
		log_debug("domain %u: mapping %u receive buffers: %s", h->domid,
			  n, strerror(errno));
}

bool xen_hold_taken(const struct xen_hold *h)
{
	return h->taken;
}

void xen_hold_take(struct xen_hold *h, const struct xen_devices *d)
{
	if (h->taken || cure_of(h) != XEN_CURE_HOLD)
		return;
	xen_hold_learn(h, d); /* an interface may have gone just before */
	for (unsigned int i = 0; i < h->count; i++)
		take_queue(h, &h->queues[i]);
	h->taken = true;
}
