/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far the initial copy is: a bar on a terminal, a line every few seconds
 * in a log.
 */
#ifndef ENGINE_PROGRESS_H
#define ENGINE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *what;     /* "sending web to beta" */
	uint64_t total_bytes; /* an estimate: a busy guest is sent in part twice
			       */
	uint64_t started_us;
	uint64_t shown_us;
};

void progress_start(struct progress *p, const char *what, uint64_t total_bytes,
		    uint64_t now_us);
/* Shows something where it is time to. */
void progress_update(struct progress *p, uint64_t bytes, uint64_t now_us);

/*
 * "[#####...] " of one width for 0 to 100 per cent; returns `out`.
 */
enum { PROGRESS_BAR_BYTES = 32 };
char *progress_bar(unsigned int percent, char out[PROGRESS_BAR_BYTES]);

/* The line itself, for `bar_width` > 0 with a bar; returns `out`. */
char *progress_line(const struct progress *p, uint64_t bytes, uint64_t now_us,
		    int bar_width, char *out, unsigned int room);

#endif
