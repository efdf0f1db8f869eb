/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of a suspended PV domain is not as the standby has it.
 *
 * Tracked by Xen, where that was built with shadow paging; or all of it is read
 * and compared with a copy, which is as large as the guest's memory.  One
 * thread at a time, but for the thread of save.h.
 */
#ifndef RESUME_XEN_PV_SCAN_H
#define RESUME_XEN_PV_SCAN_H

#include "resume/xen/host.h"
#include "resume/xen/pv/stream.h"

struct pv_scan;

/* With an empty copy: a first scan of the whole finds every page changed. */
int pv_scan_open(uint32_t domid, uint64_t max_pfn, bool tracked,
		 struct pv_scan **out);
void pv_scan_close(struct pv_scan *s); /* NULL is fine */
/* Ends what libxenguest is about; no scan of a tracked domain after it. */
void pv_scan_stop(struct pv_scan *s);

/*
 * Tracked: before the first scan writes an image up to, and without, its last
 * CHECKPOINT and what of the state stands before that.  `suspend' as for
 * pv_save_tracked(); the domain is left suspended.
 */
int pv_scan_live(struct pv_scan *s, struct pv_writer *w,
		 int (*suspend)(void *arg), void *arg);

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
