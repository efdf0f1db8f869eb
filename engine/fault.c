/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/fault.h"

#ifdef ENABLE_FAULTS
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static const char *const names[] = {
#define X(name, text) [FAULT_##name] = text,
	FAULT_POINTS(X)
#undef X
};

void fault_here(enum fault_point point)
{
	static atomic_uint passed[FAULT_COUNT];
	const char *wish = getenv("COLOD_FAULT");
	char where[32], action[16];
	unsigned int count = 1;

	if (!wish ||
	    sscanf(wish, "%31[^:]:%15[^:]:%u", where, action, &count) < 2 ||
	    strcmp(where, names[point]) != 0 || ++passed[point] != count)
		return;
	log_warn("fault: %s at %s", action, where);
	if (!strcmp(action, "kill"))
		kill(getpid(), SIGKILL);
	while (!strcmp(action, "hang"))
		pause();
}
#endif
