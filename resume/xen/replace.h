/* SPDX-License-Identifier: Apache-2.0 */
/* One device of a domain, taken away and made again. */
#ifndef RESUME_XEN_REPLACE_H
#define RESUME_XEN_REPLACE_H

#include <stdbool.h>

#include <xen/io/xenbus.h>

#include "resume/xen/host.h"

/*
 * Of a device that is not connected again: is it the backend that has yet to do
 * something (states of xenbus.h)?  It connects once the frontend has said
 * Initialised (block) or Connected (network).  One that is Connected, or waits
 * in InitWait for a frontend that has not said so yet, has done its part: the
 * guest is slow, and to take its device away would cost it what it is about to
 * use.
 */
static inline bool xen_device_backend_owes(int front_state, int back_state)
{
	switch (back_state) {
	case XenbusStateConnected:
		return false;
	case XenbusStateClosing:
	case XenbusStateClosed:
		return true;
	default:
		return front_state == XenbusStateInitialised ||
		       front_state == XenbusStateConnected;
	}
}

/*
 * Destroys the disk or network interface without the guest's help and adds one
 * with the same configuration and number.  The guest may be suspended.  May
 * take as long as libxl and the hotplug scripts do.
 */
int xen_device_replace(struct xen_host *h, uint32_t domid, bool vif, int devid);

#endif
