/* SPDX-License-Identifier: Apache-2.0 */
/* Percentiles, medians and ratios of one run. */
#include "config.h"

#include "bench/bench.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The smallest value that `percent` of all are not above. */
static uint64_t rank(const uint64_t *sorted, size_t count, unsigned int percent)
{
	size_t n = (count * percent + 99) / 100;

	return sorted[n ? n - 1 : 0];
}

void bench_summarize(uint64_t *values, size_t count, struct bench_summary *out)
{
	qsort(values, count, sizeof(*values), by_value);
#define X(name, percent) out->name = rank(values, count, percent);
	BENCH_QUANTILES(X)
#undef X
}

static int by_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_limit_of(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), by_double);
	return values[(count * 10 + 99) / 100 - 1];
}

int bench_result_summarize(struct bench_result *r)
{
	AUTO_FREE uint64_t *values = calloc(r->samples.count, sizeof(*values));
	size_t f, i;

	if (!values)
		return -ENOMEM;
	for (f = 0; f < BENCH_FIGURE_COUNT; f++) {
		for (i = 0; i < r->samples.count; i++)
			values[i] = r->samples.at[i].figure[f];
		bench_summarize(values, r->samples.count, &r->summary[f]);
	}
	return 0;
}

static double ratio(double a, double b)
{
	return b > 0 ? a / b : 0;
}

double bench_result_cpu_us(const struct bench_result *r)
{
	return ratio(
		(double)(r->cpu.us[BENCH_PRIMARY] + r->cpu.us[BENCH_SECONDARY]),
		(double)r->cpu.pages);
}

void bench_result_ratios(struct bench_result *r)
{
	const struct bench_summary *s = r->summary;
	uint64_t raw = 0, sent = 0;
	size_t i;

	for (i = 0; i < r->samples.count; i++) {
		raw += r->samples.at[i].figure[BENCH_raw_bytes];
		sent += r->samples.at[i].figure[BENCH_sent_bytes];
	}
	r->ratios = (struct bench_ratios){
		.pause_to_copy = ratio((double)s[BENCH_pause_unscanned_us].p50,
				       r->limits.copy_us),
		.commit_to_wire =
			ratio((double)s[BENCH_ack_us].p50, r->limits.wire_us),
		.sent_to_raw = ratio((double)sent, (double)raw),
		.cpu_to_copy = ratio(
			bench_result_cpu_us(r),
			ratio(r->limits.copy_us, (double)r->limits.pages)),
	};
	r->runs = 1;
	r->smallest = r->largest = r->ratios;
}
