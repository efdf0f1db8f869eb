/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several runs of a workload made one result: of each figure the median of what
 * the runs had, but the smallest and the largest of all; of each limit and each
 * ratio the median, a ratio being of one run's figure and limit; counts are
 * added up.
 */
#include "config.h"

#include "bench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* --- whole numbers -------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t median(uint64_t *values, unsigned int count)
{
	qsort(values, count, sizeof(*values), by_value);
	return values[(count - 1) / 2];
}

static struct bench_summary summary_of(const struct bench_result *runs,
				       unsigned int count, size_t figure)
{
	uint64_t min[BENCH_RUNS_MAX], p50[BENCH_RUNS_MAX], p90[BENCH_RUNS_MAX];
	uint64_t p99[BENCH_RUNS_MAX], max[BENCH_RUNS_MAX];
	struct bench_summary out;
	unsigned int i;

	for (i = 0; i < count; i++) {
		min[i] = runs[i].summary[figure].min;
		p50[i] = runs[i].summary[figure].p50;
		p90[i] = runs[i].summary[figure].p90;
		p99[i] = runs[i].summary[figure].p99;
		max[i] = runs[i].summary[figure].max;
	}
	out.p50 = median(p50, count);
	out.p90 = median(p90, count);
	out.p99 = median(p99, count);
	median(min, count); /* in order now */
	median(max, count);
	out.min = min[0];
	out.max = max[count - 1];
	return out;
}

/* --- others --------------------------------------------------------------- */

static int by_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of a member of each run's result, which is `offset` bytes into it. */
static double middle(const struct bench_result *runs, unsigned int count,
		     size_t offset, double *smallest, double *largest)
{
	double values[BENCH_RUNS_MAX];
	unsigned int i;

	for (i = 0; i < count; i++)
		memcpy(&values[i], (const char *)&runs[i] + offset,
		       sizeof(values[i]));
	qsort(values, count, sizeof(values[0]), by_double);
	*smallest = values[0];
	*largest = values[count - 1];
	return values[(count - 1) / 2];
}

static void limits_of(struct bench_result *r, const struct bench_result *runs,
		      unsigned int count)
{
	uint64_t pages[BENCH_RUNS_MAX];
	double ignored;
	unsigned int i;

	for (i = 0; i < count; i++)
		pages[i] = runs[i].limits.pages;
	r->limits.pages = median(pages, count);
#define MIDDLE(member)                                                      \
	(r->limits.member = middle(                                         \
		 runs, count, offsetof(struct bench_result, limits.member), \
		 &ignored, &ignored))
	MIDDLE(copy_us);
	MIDDLE(wire_us);
	MIDDLE(round_trip_us);
#undef MIDDLE
}

static void ratios_of(struct bench_result *r, const struct bench_result *runs,
		      unsigned int count)
{
#define X(name, member)                                                     \
	r->ratios.name = middle(runs, count,                                \
				offsetof(struct bench_result, ratios.name), \
				&r->smallest.name, &r->largest.name);
	BENCH_RATIOS(X)
#undef X
}

/* --- all of it ------------------------------------------------------------ */

static void move_samples(struct bench_samples *to, struct bench_samples *from)
{
	memcpy(to->at + to->count, from->at, from->count * sizeof(*to->at));
	to->count += from->count;
	to->skipped += from->skipped;
	to->aborted += from->aborted;
	to->warming += from->warming;
	bench_samples_fini(from);
}

int bench_result_of_runs(struct bench_result *r, struct bench_result *runs,
			 unsigned int count)
{
	size_t all = 0, f;
	unsigned int i;
	int side;

	for (i = 0; i < count; i++)
		all += runs[i].samples.count;
	r->samples.at = calloc(all, sizeof(*r->samples.at));
	if (!r->samples.at)
		return -ENOMEM;
	r->samples.room = all;
	for (f = 0; f < BENCH_FIGURE_COUNT; f++)
		r->summary[f] = summary_of(runs, count, f);
	limits_of(r, runs, count);
	ratios_of(r, runs, count);
	r->runs = count;
	for (i = 0; i < count; i++) {
		move_samples(&r->samples, &runs[i].samples);
		r->cpu.pages += runs[i].cpu.pages;
		for (side = 0; side < BENCH_SIDES; side++)
			r->cpu.us[side] += runs[i].cpu.us[side];
	}
	return 0;
}
