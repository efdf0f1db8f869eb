/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The slow resume of a suspended PV domain, in place: what differs from that of
 * a PVH domain (slow.h), whose order of steps it follows.
 */
#ifndef RESUME_XEN_PV_AGAIN_H
#define RESUME_XEN_PV_AGAIN_H

#include "resume/xen/host.h"

/*
 * 0, or -EOPNOTSUPP with a sentence: it rests on what one version of Xen
 * happens to do, and works for 64-bit guests of one vCPU.
 */
int xen_pv_slow_can(struct xen_host *h, uint32_t domid, const char *name,
		    struct guest_error *err);

/* As xc_domain_soft_reset(), but the domain stays suspended.  May be repeated.
 */
int xen_pv_reset(struct xen_host *h, uint32_t domid);

/*
 * The domain is reset: gives its start_info the ports that it will find its
 * rings by.  *store_gfn is what xs_introduce_domain() wants.  -ESTALE: an
 * earlier xen_pv_resume() has come half way, and nothing helps it any more.
 */
int xen_pv_set_ports(struct xen_host *h, uint32_t domid, unsigned int store,
		     unsigned int console, uint64_t *store_gfn);

/* Suspended -> running, but for a pause. */
int xen_pv_resume(struct xen_host *h, uint32_t domid);

#endif
