/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to disks that are in flight when a guest is suspended.
 *
 * A frontend that connects anew issues again what it has no answer to.  Were an
 * old write still on its way then, it could reach the disk behind a newer one;
 * blkback sees to it and refuses the frontend for good ("pending I/O").  So
 * before a backend is disconnected it answers all that it was asked.  The rings
 * tell, which are the guest's, so what they say bounds a wait and nothing else.
 * One thread at a time.
 */
#ifndef RESUME_XEN_DRAIN_H
#define RESUME_XEN_DRAIN_H

#include "resume/xen/devices.h"

struct xen_drain;

int xen_drain_open(struct xen_host *h, uint32_t domid, struct xen_drain **out);
void xen_drain_close(struct xen_drain *r); /* NULL is fine */

/*
 * Finds the rings of the disks that are Connected, and forgets all others: the
 * guest uses the page of a ring that it has given up for something else.  Best
 * while the guest runs; costs nothing where nothing has changed.
 */
void xen_drain_learn(struct xen_drain *r, const struct xen_devices *d);
/*
 * The guest is suspended, no disk recycled: returns when all is answered, or
 * after a warning when it is not for five seconds.
 */
void xen_drain_wait(struct xen_drain *r, const struct xen_devices *d);

#endif
