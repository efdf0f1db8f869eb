/* SPDX-License-Identifier: Apache-2.0 */
/* A device that was attached just now, which its driver is not through with. */
#ifndef RESUME_XEN_COMING_H
#define RESUME_XEN_COMING_H

#include <stdbool.h>
#include <stdint.h>

#include <xen/io/xenbus.h>

/*
 * How long a guest that was told of a device has for its driver to begin.  One
 * that has no driver leaves it so for ever, and each that is attached to such a
 * guest delays a checkpoint by this, once.  Of a guest that uses another device
 * of the kind more is known, and so it is waited for longer: an emulated one
 * with four queues a device took 27 s.
 */
#define XEN_COMING_US UINT64_C(10000000)
#define XEN_COMING_DRIVER_US UINT64_C(60000000)

/* The backend is ready, and nothing is to be seen of a driver in the guest. */
static inline bool xen_device_waits(int front_state, int back_state)
{
	return front_state == XenbusStateInitialising &&
	       back_state == XenbusStateInitWait;
}

/*
 * Has the driver begun, or may it have, and is not through?  To resume a guest
 * slowly then crashes it (Linux 6.1): blkfront_resume() takes the disk's queues
 * for made, netfront_resume() the interface for registered, which both drivers
 * do only when they have seen their backend's InitWait.  Before that they write
 * nothing, so for a while a device that waits counts: `waits_us', microseconds.
 * `driver': the guest has one.  States are those of xenbus.h, 0 where there is
 * none.
 */
static inline bool xen_device_coming(int front_state, int back_state,
				     uint64_t waits_us, bool driver)
{
	uint64_t limit_us = driver ? XEN_COMING_DRIVER_US : XEN_COMING_US;

	switch (front_state) {
	case XenbusStateInitialising:
		return back_state == XenbusStateInitialising ||
		       (xen_device_waits(front_state, back_state) &&
			waits_us < limit_us);
	case XenbusStateInitWait:
	case XenbusStateInitialised:
		return back_state >= XenbusStateInitialising &&
		       back_state <= XenbusStateConnected;
	default:
		return false;
	}
}

#endif
