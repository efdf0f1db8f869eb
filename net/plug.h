/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One interface whose incoming frames, what a guest sends, wait behind a plug:
 *
 *	vif --ingress filter--> copy --> ifb with the qdisc "plug" --> as if new
 *
 * The filter copies a frame and drops the original: were it redirected, a
 * backend's granted pages would be held with it, and with them its guest's
 * ring.  All protocols go that way.
 *
 * What the plug does is kept by the kernel: after a kill -9 a closed one stays
 * closed.  The ifb's alias says which it was, and what else is ours.
 *
 * The plug counts two heaps of frames, before and after the last mark.  A
 * second mark without a release between them would make one of two, and the
 * next release let out some that nobody has acknowledged (sch_plug.c): whoever
 * marks sees to that (gate.c).
 *
 * Functions return 0 or a negative errno, and say themselves what failed.  One
 * thread at a time.  CAP_NET_ADMIN.
 */
#ifndef NET_PLUG_H
#define NET_PLUG_H

#include <stdbool.h>
#include <stdint.h>

struct plug;

struct plug_counts {
	uint64_t held_frames, held_bytes;
	uint64_t passed_frames, passed_bytes;
	uint64_t dropped_frames; /* for there were limit_bytes */
};

/*
 * Finds the plug of this interface, or makes one that is open.  -ENODEV: there
 * is no such interface.
 */
int plug_open(const char *ifname, uint32_t limit_bytes, struct plug **out);
/* Only finds it, and leads nothing there.  -ENOENT: there is none. */
int plug_find(const char *ifname, struct plug **out);
/* It was there, and closed: a colod that is no more has left it. */
bool plug_found_closed(const struct plug *p);
const char *plug_ifname(const struct plug *p);

/* All frames from now on belong to the heap behind the mark; closes it. */
int plug_mark(struct plug *p);
/*
 * What leaves arrives: a backend between two frontends has no carrier, and a
 * bridge drops what comes from it then.
 */
bool plug_passes(const struct plug *p);
/* What was before the mark leaves. */
int plug_release(struct plug *p);
/* What is held leaves, and from now on everything at once. */
int plug_let(struct plug *p);
/* What is held is gone, and so is everything from now on. */
int plug_drop(struct plug *p);
int plug_count(struct plug *p, struct plug_counts *out);

/* The interface is as it was found; what was held leaves with an open one. */
int plug_remove(struct plug *p);
/* Forgets it and leaves it as it is.  NULL is harmless. */
void plug_close(struct plug *p);

/* Removes those whose interfaces are no more: their domains have ended. */
int plug_sweep(void);

#endif
