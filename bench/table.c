/* SPDX-License-Identifier: Apache-2.0 */
/* The result of a bench for people. */
#include "config.h"

#include "bench/bench.h"

#include <inttypes.h>
#include <stdio.h>

static void head(const struct bench_result *r, FILE *out)
{
	const struct bench_samples *s = &r->samples;
	const struct bench_summary *p = &r->summary[BENCH_dirty_pages];

	fprintf(out,
		"%s: %zu epochs of %" PRIu64 " to %" PRIu64
		" pages, median %" PRIu64,
		r->workload.spec, s->count, p->min, p->max, p->p50);
	if (s->skipped)
		fprintf(out, "; %u skipped", s->skipped);
	if (s->aborted)
		fprintf(out, "; %u aborted", s->aborted);
	fprintf(out, "\n");
}

static void figures(const struct bench_result *r, FILE *out)
{
	size_t f;

	fprintf(out, "  %-14s", "microseconds");
#define X(name, percent) fprintf(out, " %9s", #name);
	BENCH_QUANTILES(X)
#undef X
	fprintf(out, "\n");
	for (f = 0; f <= BENCH_commit_us; f++) {
		fprintf(out, "  %-14s", bench_figure_words[f]);
#define X(name, percent) fprintf(out, " %9" PRIu64, r->summary[f].name);
		BENCH_QUANTILES(X)
#undef X
		fprintf(out, "\n");
	}
}

void bench_table(const struct bench *b, FILE *out)
{
	size_t i;

	for (i = 0; i < b->done; i++) {
		const struct bench_result *r = &b->results[i];

		head(r, out);
		figures(r, out);
		fprintf(out,
			"  limits for %" PRIu64
			" pages: copy %.0f us, TLS %.0f us; round trip of "
			"64 bytes %.0f us\n"
			"  pause less scan / copy %.2f, acknowledge / TLS "
			"%.2f, sent / raw %.4f\n\n",
			r->limits.pages, r->limits.copy_us, r->limits.wire_us,
			r->limits.round_trip_us, r->ratios.pause_to_copy,
			r->ratios.commit_to_wire, r->ratios.sent_to_raw);
	}
	if (b->load > 0.5)
		fprintf(out,
			"THE MACHINE DID OTHER WORK (load %.1f when it began): "
			"do not trust these figures\n",
			b->load);
	fprintf(out,
		"congestion control: %s; the limits are of this run, see "
		"colod-bench(1)\n",
		b->congestion);
}
