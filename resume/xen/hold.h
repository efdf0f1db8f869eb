/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeping a guest's netfront from losing memory at a slow resume.
 *
 * When stock netfront (Linux 5.9 and later) drops its rings, the pages in which
 * it was ready to receive, 1 MB a queue, stay with a page pool that nobody owns
 * any more.  Pages that are still mapped by another domain go another way: the
 * guest gives each to the kernel's list of grants to be freed later.  So domain
 * 0 maps them while the guest is suspended and unmaps them when it has
 * connected again.  What stays lost is the pool itself, 4 kB of the guest's
 * kernel a queue.  The pages are never read, and the ring that tells which they
 * are is the guest's: it is believed in nothing.
 *
 * A guest with the module colod_guest needs none of this and says so in
 * xenstore (colod-guest(4)).  One thread at a time.
 */
#ifndef RESUME_XEN_HOLD_H
#define RESUME_XEN_HOLD_H

#include "resume/xen/devices.h"
#include "resume/xen/loss.h"

struct xen_hold;

/* Never fails for want of grant mapping: then the cure is NONE. */
int xen_hold_open(struct xen_host *h, uint32_t domid, struct xen_hold **out);
void xen_hold_close(struct xen_hold *h); /* releases; NULL is fine */

/* data/colod-guest as it is now; NULL: there is none. */
void xen_hold_guest_says(struct xen_hold *h, const char *announced);
/* All but the interval, of what was learnt last. */
struct xen_loss xen_hold_loss(const struct xen_hold *h);

/*
 * The guest runs and its devices are Connected: lets go of what is held from
 * the last resume, and finds the rings there are now.
 */
void xen_hold_learn(struct xen_hold *h, const struct xen_devices *d);
/* The guest is suspended and its devices, updated, not yet recycled. */
void xen_hold_take(struct xen_hold *h, const struct xen_devices *d);
/* Something may be held: since the last xen_hold_take() nothing was learnt. */
bool xen_hold_taken(const struct xen_hold *h);

#endif
