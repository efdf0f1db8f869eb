/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/log.h for the simulator: what the machines say belongs to a world, with
 * its time, and is shown only where a run is narrated.  Also the list of
 * guest kinds, which is empty here: the guest is the world's.
 */
#include "config.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

#include "tests/sim/world.h"

const struct guest_kind *const guest_kinds[] = { NULL };

void log_set_level(enum log_level level)
{
	(void)level;
}

bool log_enabled(enum log_level level)
{
	(void)level;
	return sim_traces;
}

int log_open(const char *path)
{
	(void)path;
	return 0;
}

bool log_is_terminal(void)
{
	return false;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	static const char broken[] = "broken invariant: ";
	char line[512];
	va_list ap;

	if (!sim_traces && level != LOG_LEVEL_ERROR)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (strncmp(line, broken, strlen(broken)) == 0)
		sim_violate(sim_world, "M: %s", line + strlen(broken));
	else
		sim_trace(sim_world, "    %s", line);
}

void log_progress(const char *fmt, ...)
{
	(void)fmt;
}
