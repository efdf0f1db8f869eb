/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cures of netfront's lost memory (see cure.h, hold.h).  The guest's worker
 * thread, outside of pauses.
 */
#include "config.h"

#include "resume/xen/cure.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "resume/xen/source.h"

static void tell(struct xen_slow *w)
{
	struct xen_loss l = xen_hold_loss(w->hold);
	char text[512];

	l.interval_ms = w->source->manner.interval_ms;
	if (!l.queues || xen_loss_same(&l, &w->told))
		return;
	w->told = l;
	xen_loss_text(&l, text, sizeof(text));
	log_line(xen_loss_any(&l) ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "%s: %s",
		 w->source->name, text);
}

void xen_cure_follow(struct xen_slow *w)
{
	if (w->devices->announced) {
		AUTO_FREE char *said =
			xen_node_read(w->host, w->domid, "data/colod-guest");

		w->devices->announced = false;
		xen_hold_guest_says(w->hold, said);
	}
	xen_hold_learn(w->hold, w->devices);
	tell(w);
}
