/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/moves.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"

enum { TRACE_LINES = 64, TRACE_BYTES = 160 };

/* What happened last, for a broken invariant; epochs move in two threads. */
static struct {
	pthread_mutex_t lock;
	unsigned int next;
	char lines[TRACE_LINES][TRACE_BYTES];
} trace = { .lock = PTHREAD_MUTEX_INITIALIZER };

bool move_allowed(const struct move_table *t, unsigned int from,
		  unsigned int to)
{
	return from < t->states && to < t->states &&
	       (t->allowed[from] & MOVE_TO(to));
}

void move(const struct move_table *t, unsigned int *state, unsigned int to,
	  const char *subject, const char *fmt, ...)
{
	char why[TRACE_BYTES];
	char line[2 * TRACE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "%s %s: %s -> %s%s%s%s", t->machine,
		 subject, *state < t->states ? t->names[*state] : "?",
		 to < t->states ? t->names[to] : "?", why[0] ? " (" : "", why,
		 why[0] ? ")" : "");
	{
		AUTO_LOCK(&trace.lock);
		snprintf(trace.lines[trace.next++ % TRACE_LINES], TRACE_BYTES,
			 "%.*s", TRACE_BYTES - 1, line);
	}
	if (!move_allowed(t, *state, to))
		invariant_broken(line);
	log_line(t->level, "%s", line);
	*state = to;
}

void invariant_broken(const char *what)
{
	unsigned int i;

	log_error("broken invariant: %s", what);
	for (i = 0; i < TRACE_LINES; i++) {
		const char *line = trace.lines[(trace.next + i) % TRACE_LINES];

		if (line[0])
			log_error("  before: %s", line);
	}
	abort();
}
