/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sentences of loss.h.
 *
 * The figures are upper bounds: 1 MB a queue is all of its receive buffers, and
 * up to 514 kB of it were lost in spite of the hold, to a queue with traffic
 * (tests/xen/xen-hold-memory.test).  The grants that were held are freed by the
 * guest itself, ten a second unless its command line says
 * grant_table.free_per_iteration=0 (Linux, gnttab_handle_deferred()).  That
 * cannot be seen from here, so the line names it, with what is lost without.
 */
#include "config.h"

#include "resume/xen/loss.h"

#include <stdio.h>

/* In halves of a megabyte. */
enum { HELD_HALVES = 1, LOST_HALVES = 2 };

bool xen_loss_same(const struct xen_loss *a, const struct xen_loss *b)
{
	return a->cure == b->cure && a->module == b->module &&
	       a->queues == b->queues && a->unheld == b->unheld &&
	       a->interval_ms == b->interval_ms;
}

bool xen_loss_any(const struct xen_loss *l)
{
	return l->queues &&
	       (l->cure == XEN_CURE_HOLD || l->cure == XEN_CURE_NONE);
}

static unsigned int halves(const struct xen_loss *l)
{
	unsigned int lost = l->cure == XEN_CURE_NONE ? l->queues : l->unheld;

	return lost * LOST_HALVES + (l->queues - lost) * HELD_HALVES;
}

/* "up to 1.5 MB at each slow resume, 90 MB a minute at this interval" */
static size_t figures(const struct xen_loss *l, char *text, size_t bytes)
{
	unsigned int n = halves(l);
	size_t at;

	at = (size_t)snprintf(text, bytes, "up to %u%s MB at each slow resume",
			      n / 2, n % 2 ? ".5" : "");
	if (!l->interval_ms)
		return at;
	at += (size_t)snprintf(text + at, bytes - at,
			       ", %llu MB a minute at this interval",
			       n * 60000ULL / l->interval_ms / 2);
	return at;
}

static const char *remedy(const struct xen_loss *l)
{
	if (l->module)
		return "its module colod_guest does not cure this netfront:"
		       " patch that (colod-guest(4)), or use --resume=fast";
	if (l->cure == XEN_CURE_NONE)
		return "load the module colod_guest in it, or load xen-gntdev"
		       " here and boot it with "
		       "grant_table.free_per_iteration=0,"
		       " or use --resume=fast";
	return "load the module colod_guest in it, or use --resume=fast";
}

static void warn_text(const struct xen_loss *l, char *text, size_t bytes)
{
	bool held = l->cure == XEN_CURE_HOLD && l->unheld < l->queues;
	char all[32] = "", some[120];

	figures(l, some, sizeof(some));
	if (!held) {
		snprintf(text, bytes, "its netfront loses %s: %s", some,
			 remedy(l));
		return;
	}
	if (l->unheld)
		snprintf(all, sizeof(all), "%u of its %u queues",
			 l->queues - l->unheld, l->queues);
	snprintf(text, bytes,
		 "its netfront loses %s, although the receive buffers of %s are"
		 " held over it, and up to %u MB if it was booted without"
		 " grant_table.free_per_iteration=0: %s",
		 some, l->unheld ? all : "all queues", l->queues, remedy(l));
}

void xen_loss_text(const struct xen_loss *l, char *text, size_t bytes)
{
	if (xen_loss_any(l))
		warn_text(l, text, bytes);
	else if (l->cure == XEN_CURE_MODULE)
		snprintf(text, bytes,
			 "its module keeps netfront from losing memory");
	else
		snprintf(text, bytes,
			 "its netfront loses no memory, says its module");
}
