/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libxenguest in a thread of its own, which writes a PV domain's stream into a
 * pipe.  The domain is paused while it is read suspended, besides being so:
 * else a page table that libxenguest cannot translate would be left out without
 * a word (Xen, normalise_pagetable()).
 */
#ifndef RESUME_XEN_PV_SAVE_H
#define RESUME_XEN_PV_SAVE_H

#include "resume/xen/host.h"

struct pv_save;

/* All of a domain that is suspended; the stream ends with END. */
int pv_save_whole(struct xen_host *h, uint32_t domid, struct pv_save **out);

/*
 * All of a domain that runs, some of it several times; then `suspend', which is
 * called in the thread and returns 0 when the domain is suspended; the rest,
 * and CHECKPOINT.  From then on Xen tracks what it writes, and each
 * pv_save_next(), the domain being suspended, gives that and CHECKPOINT.
 */
int pv_save_tracked(struct xen_host *h, uint32_t domid,
		    int (*suspend)(void *arg), void *arg, struct pv_save **out);
int pv_save_next(struct pv_save *s);
/* A CHECKPOINT was read: the domain may be resumed. */
int pv_save_taken(struct pv_save *s);

int pv_save_fd(const struct pv_save *s);
/* What `suspend' returned. */
int pv_save_suspended(const struct pv_save *s);
/* Breaks off what is under way.  Nothing is tracked any more.  NULL is fine. */
void pv_save_end(struct pv_save *s);

/* Whether Xen can track what a PV domain writes. */
bool pv_save_can_track(struct xen_host *h);

#endif
