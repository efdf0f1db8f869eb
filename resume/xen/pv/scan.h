/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All of a suspended PV domain compared with what the standby has of it.
 *
 * The copy is as large as the guest's memory.  It costs that, and each scan the
 * reading of all of it, on any Xen: log-dirty mode for PV guests wants a
 * hypervisor with shadow paging, which distributions leave out.
 */
#ifndef RESUME_XEN_PV_SCAN_H
#define RESUME_XEN_PV_SCAN_H

#include "resume/xen/host.h"
#include "resume/xen/pv/stream.h"

struct pv_scan;

/* With an empty copy: the first scan finds every page changed. */
int pv_scan_open(uint32_t domid, uint64_t max_pfn, struct pv_scan **out);
void pv_scan_close(struct pv_scan *s); /* NULL is fine */

/* A page that is not as in the copy.  false: it does not fit, and stays so. */
typedef bool pv_changed_fn(void *arg, const struct pv_page *p);

/*
 * The domain is suspended: offers each page that changed, in ascending order,
 * and takes what was accepted into the copy.  *left counts those that were not.
 * -ESTALE: pages came or went (ballooning), or vCPUs did, and the standby must
 * be made anew.  So must it after any other error, of which there is a line in
 * the log.
 */
int pv_scan_run(struct pv_scan *s, pv_changed_fn *changed, void *arg,
		uint64_t *left);

/*
 * Of the last scan, as the body of WIRE_RECORD_COLOD_PV: which pages are not
 * ordinary ones, then libxenguest's records of the vCPUs.  Returns its length,
 * or 0 where there is no room.
 */
size_t pv_scan_state(const struct pv_scan *s, uint8_t *to, size_t room);

/*
 * For an image: what a stream begins with, the whole copy (until `stop' says
 * so: -ECANCELED), the last scan's state.
 */
void pv_scan_write_header(const struct pv_scan *s, struct pv_writer *w);
int pv_scan_write_pages(const struct pv_scan *s, struct pv_writer *w,
			bool (*stop)(void *arg), void *arg);
void pv_scan_write_state(const struct pv_scan *s, struct pv_writer *w);

#endif
