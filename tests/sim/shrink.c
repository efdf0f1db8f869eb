/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delta debugging of a run: what can be left out without losing the violation
 * is left out, first half of it, then less, until nothing more can go.
 */
#include "config.h"

#include <string.h>

#include "tests/sim/run.h"

enum { SAME = 12 }; /* characters that make a violation the same one */

static bool still(struct world *w, const struct run *r, const char *violation)
{
	return !run_execute(w, r) &&
	       strncmp(w->violation, violation, SAME) == 0;
}

static void without(const struct run *r, unsigned int from, unsigned int n,
		    struct run *out)
{
	*out = *r;
	out->count -= n;
	memmove(&out->deeds[from], &out->deeds[from + n],
		(out->count - from) * sizeof(out->deeds[0]));
}

static bool drop_deeds(struct world *w, struct run *r, const char *violation)
{
	unsigned int n = r->count / 2 ? r->count / 2 : 1, from;
	bool smaller = false;
	struct run less;

	for (; n; n /= 2)
		for (from = 0; from + n <= r->count;) {
			without(r, from, n, &less);
			if (still(w, &less, violation)) {
				*r = less;
				smaller = true;
			} else {
				from++;
			}
		}
	return smaller;
}

/* As much as possible as usual. */
static void usual_numbers(struct world *w, struct run *r, const char *violation)
{
	struct run less = *r;

#define X(name, usual)                       \
	less.cfg.name = usual;               \
	if (still(w, &less, violation))      \
		r->cfg.name = less.cfg.name; \
	else                                 \
		less.cfg.name = r->cfg.name;
	SIM_NUMBERS(X)
#undef X
}

void run_shrink(struct world *w, struct run *r)
{
	char violation[sizeof(w->violation)];

	if (run_execute(w, r))
		return;
	memcpy(violation, w->violation, sizeof(violation));
	while (drop_deeds(w, r, violation))
		;
	usual_numbers(w, r, violation);
	while (drop_deeds(w, r, violation))
		;
	run_execute(w, r);
}
