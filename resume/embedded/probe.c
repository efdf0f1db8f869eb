/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host offers to embedded guests, for `colod check`: which of the
 * trackers do what they say.
 */
#include "config.h"

#include "resume/embedded/kind.h"

#include <stdio.h>

#include "resume/embedded/spec.h"
#include "resume/embedded/tracker.h"

static void probe_one(guest_fact_fn *fact, void *arg, uint32_t kind,
		      const char *name, uint32_t *best)
{
	const char *why;
	char text[120];

	if (tracker_selftest(kind, &why) < 0) {
		/* One of three is enough, so this is no fault. */
		snprintf(text, sizeof(text), "does not work: %s", why);
		fact(arg, name, text, true);
		return;
	}
	fact(arg, name, "works", true);
	if (*best == EMBEDDED_TRACKER_NONE)
		*best = kind;
}

void embedded_probe(guest_fact_fn *fact, void *arg)
{
	uint32_t best = EMBEDDED_TRACKER_NONE;
	char text[80];

	probe_one(fact, arg, EMBEDDED_TRACKER_UFFD, "tracker uffd", &best);
	probe_one(fact, arg, EMBEDDED_TRACKER_SOFTDIRTY, "tracker softdirty",
		  &best);
	probe_one(fact, arg, EMBEDDED_TRACKER_MPROTECT, "tracker mprotect",
		  &best);
	if (best == EMBEDDED_TRACKER_NONE)
		snprintf(text, sizeof(text),
			 "written pages cannot be tracked here");
	else
		snprintf(text, sizeof(text), "written pages are tracked by %s",
			 embedded_tracker_name(best));
	fact(arg, "embedded guests", text, best != EMBEDDED_TRACKER_NONE);
}
