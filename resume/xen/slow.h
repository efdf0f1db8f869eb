/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The slow resume of a suspended PVH or HVM domain, in place: it wakes with
 * return code 0 and sets up everything anew, its devices too.  Of a PV domain
 * likewise (pv/again.h).
 *
 * Whoever resumes opens one of these, while the guest runs where it can: the
 * source (then with `source` set) and the rescue.  One thread at a time.
 */
#ifndef RESUME_XEN_SLOW_H
#define RESUME_XEN_SLOW_H

#include "resume/guest.h"
#include "resume/holder.h"
#include "resume/xen/devices.h"
#include "resume/xen/drain.h"
#include "resume/xen/hold.h"
#include "resume/xen/host.h"

struct guest_source;

struct xen_slow {
	struct xen_host *host;
	uint32_t domid;
	struct guest_source *source; /* or NULL: nobody goes on after this */
	char holder[HOLDER_BYTES];   /* for the marks */
	struct xen_devices *devices;
	struct xen_drain *drain;
	struct xen_hold *hold; /* or NULL, of a rescue */
	struct xen_loss told;  /* what the log said last; no queues: nothing */
	bool pv;
	uint64_t store_gfn;
	uint32_t store_domid; /* where xenstored runs */
	bool begun;	      /* something of the recipe is done */
	bool reset_marked;    /* the mark says XEN_MARK_RESET */
	bool paused;	      /* and the domain's pause is ours */
	bool unannounced;     /* reset by us, and xenstored not yet told */
	unsigned int store_port, console_port; /* the domain's; 0: not known */
	uint64_t missing_us; /* waited for devices in vain since it resumed */
	bool replaced;	     /* what could be, since then */
	struct guest_phases phases; /* of the last one; `asked' is not set */
};

int xen_slow_open(struct xen_host *h, uint32_t domid, const char *holder,
		  struct guest_source *source, struct xen_slow **out);
void xen_slow_close(struct xen_slow *w); /* NULL is fine */

/*
 * The guest runs.  0: its devices are connected, and what can be done for the
 * next slow resume is done; else as xen_devices_await().
 */
int xen_slow_ready(struct xen_slow *w, uint64_t end_us, int cancel_fd);

/*
 * Before xen_slow_close(), where the guest runs on: what is held for it is let
 * go of only when its devices are connected, or at `end_us`.  Earlier, its
 * netfront would lose it after all.
 */
void xen_slow_let_go(struct xen_slow *w, uint64_t end_us);

/*
 * Suspended -> running; goes on where an earlier call, or that of a process
 * which died, has stopped, and leaves its mark standing.  Each failure is tried
 * again for a while.  -ESHUTDOWN: the domain crashed or is gone; any other
 * error: it stands still, which has been said in the log.
 */
int xen_slow_resume(struct xen_slow *w);

#endif
