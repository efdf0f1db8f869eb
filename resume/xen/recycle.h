/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks and network interfaces over a slow resume: disconnected from their
 * backends while the guest is suspended, and connected again by the guest.
 */
#ifndef RESUME_XEN_RECYCLE_H
#define RESUME_XEN_RECYCLE_H

#include "resume/xen/devices.h"

/*
 * The guest is suspended: on its behalf disconnects all backends and has each
 * wait for a new frontend (InitWait), all at the same time.  A backend that
 * does not follow is named in the log, and the device taken away and made
 * again.  May be called again at any point of an earlier call, in another
 * process too.  0, or the first device's negative errno.
 */
int xen_devices_recycle(struct xen_devices *d);

/*
 * The guest was resumed as it is, with return code 1, after some of that: those
 * that were disconnected are connected to the rings that it still has.
 */
int xen_devices_reconnect(struct xen_devices *d);

/*
 * Every device that was recycled is Connected again, on both sides, and none is
 * just being attached.
 */
bool xen_devices_connected(const struct xen_devices *d);
/*
 * The guest runs: waits for that, and tells it once more of devices that it has
 * not begun to connect, and of those that went.  -ETIMEDOUT, -ECANCELED once
 * cancel_fd (which may be -1) can be read.
 */
int xen_devices_await(struct xen_devices *d, uint64_t end_us, int cancel_fd);
/*
 * Takes away and makes again those that only their backend keeps from it (see
 * replace.h).  Returns how many.
 */
unsigned int xen_devices_replace(struct xen_devices *d);
/* Names those that are not, for a sentence. */
void xen_devices_missing(const struct xen_devices *d, char *text, size_t bytes);

#endif
