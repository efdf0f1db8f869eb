/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All workloads of a bench, one after the other, each with its limits, as often
 * as was asked for.  All are run once before any is run again: what else the
 * machine does meanwhile then shows in the spread of each.
 */
#include "config.h"

#include "bench/bench.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/progress.h"

enum { TERMINAL_EVERY_US = 200 * 1000, LOG_EVERY_US = 3 * 1000 * 1000 };

void bench_progress(const struct bench *b, unsigned int percent,
		    const char *fmt, ...)
{
	static uint64_t shown_us;
	uint64_t now = clock_now_us();
	bool terminal = log_is_terminal();
	char bar[PROGRESS_BAR_BYTES], what[256];
	va_list ap;

	if (shown_us && now - shown_us < (uint64_t)(terminal ? TERMINAL_EVERY_US
							     : LOG_EVERY_US))
		return;
	shown_us = now;
	percent = (unsigned int)((b->steps * 100 + percent) /
				 (b->count * b->runs));
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	log_progress("%s%zu of %zu, %s",
		     terminal ? progress_bar(percent, bar) : "", b->steps + 1,
		     b->count * b->runs, what);
}

void bench_error(const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (log_is_terminal())
		log_progress("%s", ""); /* the line is wiped */
	fprintf(stderr, "colod bench: %s\n", line);
}

static int one(struct bench *b, struct bench_result *r)
{
	int err = bench_pair_run(b, r);

	if (!err)
		err = bench_result_summarize(r);
	if (err)
		return err;
	r->limits.pages = r->summary[BENCH_dirty_pages].p50;
	if (!r->limits.pages) {
		bench_error("%s: no page was written", r->workload.spec);
		return -ENODATA;
	}
	bench_progress(b, 95, "%s: the limits of %llu pages", r->workload.spec,
		       (unsigned long long)r->limits.pages);
	err = bench_copy_limit(b, r);
	if (!err)
		err = bench_wire_limit(b, r);
	if (!err)
		bench_result_ratios(r);
	return err;
}

/* runs[workload * b->runs + run] */
static int all_runs(struct bench *b, struct bench_result *runs)
{
	unsigned int run;
	size_t i;
	int err = 0;

	for (run = 0; run < b->runs; run++)
		for (i = 0; i < b->count && !err; i++) {
			struct bench_result *r = &runs[i * b->runs + run];

			r->workload = b->results[i].workload;
			err = one(b, r);
			b->steps += !err;
		}
	for (i = 0; i < b->count && !err; i++) {
		err = bench_result_of_runs(&b->results[i], &runs[i * b->runs],
					   b->runs);
		b->done += !err;
	}
	return err;
}

int bench_run(struct bench *b)
{
	struct bench_result *runs;
	int err = bench_programs(b);
	size_t i;

	if (err)
		return err;
	runs = calloc(b->count * b->runs, sizeof(*runs));
	if (!runs)
		return -ENOMEM;
	err = all_runs(b, runs);
	for (i = 0; i < b->count * b->runs; i++)
		bench_samples_fini(&runs[i].samples);
	free(runs);
	if (log_is_terminal())
		log_progress("%s", ""); /* the line is wiped */
	return err;
}
