/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/progress.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"

enum {
	TERMINAL_EVERY_US = 100 * 1000,
	LOG_EVERY_US = 3 * 1000 * 1000,
	BAR_WIDTH = 24,
};

void progress_start(struct progress *p, const char *what, uint64_t total_bytes,
		    uint64_t now_us)
{
	*p = (struct progress){
		.what = what,
		.total_bytes = total_bytes,
		.started_us = now_us,
		.shown_us = now_us,
	};
}

static unsigned int bar(unsigned int percent, int width, char *out,
			unsigned int room)
{
	int i, filled = width * (int)percent / 100;
	unsigned int n = (unsigned int)snprintf(out, room, "[");

	for (i = 0; i < width && n < room; i++)
		n += (unsigned int)snprintf(out + n, room - n, "%s",
					    i < filled ? "#" : ".");
	if (n < room)
		n += (unsigned int)snprintf(out + n, room - n, "] ");
	return n;
}

char *progress_bar(unsigned int percent, char out[PROGRESS_BAR_BYTES])
{
	bar(percent, BAR_WIDTH, out, PROGRESS_BAR_BYTES);
	return out;
}

char *progress_line(const struct progress *p, uint64_t bytes, uint64_t now_us,
		    int bar_width, char *out, unsigned int room)
{
	uint64_t us = now_us - p->started_us;
	unsigned int percent = 0, n = 0;

	if (p->total_bytes)
		percent = (unsigned int)(bytes * 100 / p->total_bytes);
	if (percent > 99)
		percent = 99; /* it is over when the standby is complete */
	if (bar_width > 0)
		n = bar(percent, bar_width, out, room);
	if (n < room)
		snprintf(out + n, room - n,
			 "%s: %u %%, %" PRIu64 " of %" PRIu64
			 " MiB, %.1f MiB/s",
			 p->what, percent, bytes >> 20, p->total_bytes >> 20,
			 us ? (double)bytes / (double)us * 1e6 / 1048576 : 0);
	return out;
}

void progress_update(struct progress *p, uint64_t bytes, uint64_t now_us)
{
	bool terminal = log_is_terminal();
	char line[256];

	if (now_us - p->shown_us <
	    (uint64_t)(terminal ? TERMINAL_EVERY_US : LOG_EVERY_US))
		return;
	p->shown_us = now_us;
	log_progress("%s",
		     progress_line(p, bytes, now_us, terminal ? BAR_WIDTH : 0,
				   line, sizeof(line)));
}
