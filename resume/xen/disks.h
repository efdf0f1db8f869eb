/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of a domain's disks are replicated: those whose backend has a device of
 * colod's (resume/disk/names.h), by libxl's own part of xenstore,
 * which a guest cannot write.
 */
#ifndef RESUME_XEN_DISKS_H
#define RESUME_XEN_DISKS_H

#include <stddef.h>

#include "resume/guest.h"
#include "resume/xen/host.h"

/* At most GUEST_DISKS_MAX, in the order of their names; returns how many. */
size_t xen_disks(struct xen_host *h, uint32_t domid, struct guest_disk *disks);

/*
 * -EOPNOTSUPP: the device model (QEMU) is the backend of one: what it has
 * written may wait in its host's memory when the guest already believes it
 * done.
 */
int xen_disks_able(struct xen_host *h, uint32_t domid, const char *domain,
		   struct guest_error *err);

/* The name in a backend's `params`, or NULL: it is not one of colod's. */
const char *xen_disk_of_params(const char *params);

#endif
