/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A filter: a link in front of another link, which does to its frames what a
 * drill (net/drill.h) says.  It may stand in front of another filter.
 *
 *	const struct link_events *events = ours;
 *	void *arg = us;
 *	struct link *f = filter_new(loop, drill, &events, &arg);
 *	struct link *inner = link_connect(..., events, arg);
 *	filter_over(f, inner);
 *
 * and from then on `f` is the link, in calls and in events.
 */
#ifndef NET_FILTER_H
#define NET_FILTER_H

#include "net/drill.h"
#include "net/link.h"

/*
 * Takes *events and *arg, and leaves there what the inner link is to be given.
 * NULL: no memory.
 */
struct link *filter_new(struct loop *loop, struct drill *drill,
			const struct link_events **events, void **arg);
/* Before the loop's next turn.  NULL: there is none; frees the filter. */
void filter_over(struct link *filter, struct link *inner);

#endif
