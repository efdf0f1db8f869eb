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
	if (r->runs > 1)
		fprintf(out, ", of %u runs", r->runs);
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

static void spread(double smallest, double largest, FILE *out)
{
	fprintf(out, " (%.4g to %.4g)", smallest, largest);
}

static void ratios(const struct bench_result *r, FILE *out)
{
	const struct bench_ratios *m = &r->ratios, *a = &r->smallest,
				  *z = &r->largest;
	const bool many = r->runs > 1;

	fprintf(out, "  pause less scan / copy %.2f", m->pause_to_copy);
	if (many)
		spread(a->pause_to_copy, z->pause_to_copy, out);
	fprintf(out, ", acknowledge / TLS %.2f", m->commit_to_wire);
	if (many)
		spread(a->commit_to_wire, z->commit_to_wire, out);
	fprintf(out, ", sent / raw %.4f", m->sent_to_raw);
	if (many)
		spread(a->sent_to_raw, z->sent_to_raw, out);
	fprintf(out, "\n  processor of both sides %.2f us a page, / copy %.2f",
		bench_result_cpu_us(r), m->cpu_to_copy);
	if (many)
		spread(a->cpu_to_copy, z->cpu_to_copy, out);
	fprintf(out, "\n\n");
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
			"64 bytes %.0f us\n",
			r->limits.pages, r->limits.copy_us, r->limits.wire_us,
			r->limits.round_trip_us);
		ratios(r, out);
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
