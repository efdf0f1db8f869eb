/* SPDX-License-Identifier: Apache-2.0 */
/* The result of a bench for scripts: one object, described in colod-bench(1).
 */
#include "config.h"

#include "bench/bench.h"

#include <errno.h>
#include <jansson.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "net/tls.h"

static json_t *summary(const struct bench_summary *s)
{
	json_t *o = json_object();

#define X(name, percent) \
	json_object_set_new(o, #name, json_integer((json_int_t)s->name));
	BENCH_QUANTILES(X)
#undef X
	return o;
}

static json_t *workload(const struct bench_workload *w)
{
	return json_pack(
		"{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:I,s:I,s:I}", "spec",
		w->spec, "pattern", w->pattern, "pages", (json_int_t)w->pages,
		"interval_ms", (json_int_t)w->interval_ms, "rate",
		(json_int_t)bench_spec_rate(w), "memory_mib",
		(json_int_t)w->mem_mib, "span_mib", (json_int_t)w->span_mib,
		"words", (json_int_t)w->words, "whole", (json_int_t)w->whole,
		"fill", w->fill, "vcpus", (json_int_t)w->vcpus,
		"recorded_pages", (json_int_t)w->trace.live,
		"recorded_versions", (json_int_t)w->trace.entries);
}

static json_t *ratios(const struct bench_ratios *r)
{
	json_t *o = json_object();

#define X(name, member) json_object_set_new(o, member, json_real(r->name));
	BENCH_RATIOS(X)
#undef X
	return o;
}

/* Of each ratio, the smallest and the largest of all runs. */
static json_t *spread(const struct bench_result *r)
{
	json_t *o = json_object();

#define X(name, member)                                                     \
	json_object_set_new(o, member,                                      \
			    json_pack("{s:f,s:f}", "min", r->smallest.name, \
				      "max", r->largest.name));
	BENCH_RATIOS(X)
#undef X
	return o;
}

static json_t *result(const struct bench_result *r)
{
	json_t *o = json_pack("{s:o,s:i,s:I,s:i,s:i,s:i}", "workload",
			      workload(&r->workload), "runs", (int)r->runs,
			      "epochs", (json_int_t)r->samples.count, "skipped",
			      (int)r->samples.skipped, "aborted",
			      (int)r->samples.aborted, "thrown_away",
			      (int)r->samples.warming);
	size_t f;

	for (f = 0; f < BENCH_FIGURE_COUNT; f++)
		json_object_set_new(o, bench_figure_names[f],
				    summary(&r->summary[f]));
	json_object_set_new(o, "limits",
			    json_pack("{s:I,s:f,s:f,s:f}", "pages",
				      (json_int_t)r->limits.pages, "copy_us",
				      r->limits.copy_us, "tls_us",
				      r->limits.wire_us, "round_trip_us",
				      r->limits.round_trip_us));
	json_object_set_new(o, "cpu",
			    json_pack("{s:I,s:I,s:I}", "pages",
				      (json_int_t)r->cpu.pages, "primary_us",
				      (json_int_t)r->cpu.us[BENCH_PRIMARY],
				      "secondary_us",
				      (json_int_t)r->cpu.us[BENCH_SECONDARY]));
	json_object_set_new(o, "ratios", ratios(&r->ratios));
	if (r->runs > 1)
		json_object_set_new(o, "spread", spread(r));
	return o;
}

static json_t *machine(const struct bench *b)
{
	struct utsname u = { 0 };

	uname(&u);
	return json_pack("{s:s,s:s,s:i,s:f,s:s}", "kernel", u.release,
			 "machine", u.machine, "processors",
			 (int)sysconf(_SC_NPROCESSORS_ONLN), "load", b->load,
			 "tls", tls_library_version());
}

/* The processors that the two sides were bound to; none: []. */
static json_t *pinned(const struct bench *b)
{
	json_t *o = json_array();
	size_t i;

	for (i = 0; i < BENCH_SIDES; i++)
		if (b->cpu[i] >= 0)
			json_array_append_new(o, json_integer(b->cpu[i]));
	return o;
}

static json_t *left_out(const struct bench *b)
{
	json_t *o = json_array();
	size_t i;

	for (i = 0; i < b->left_out_count; i++)
		json_array_append_new(o, json_string(b->left_out[i].spec));
	return o;
}

int bench_json(const struct bench *b, FILE *out)
{
	json_t *all = json_array(), *o;
	int err;
	size_t i;

	for (i = 0; i < b->done; i++)
		json_array_append_new(all, result(&b->results[i]));
	o = json_pack("{s:s,s:o,s:o,s:s,s:I,s:o,s:o}", "version",
		      PACKAGE_VERSION, "machine", machine(b), "pinned",
		      pinned(b), "congestion", b->congestion, "seconds",
		      (json_int_t)b->set->seconds, "left_out", left_out(b),
		      "results", all);
	err = json_dumpf(o, out,
			 JSON_COMPACT | JSON_PRESERVE_ORDER |
				 JSON_REAL_PRECISION(6));
	fprintf(out, "\n");
	json_decref(o);
	return o && !err ? 0 : -ENOMEM;
}
