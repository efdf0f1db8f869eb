/* SPDX-License-Identifier: Apache-2.0 */
/* engine/plot.c, json.c, table.c: what comes of a bench. */
#include "config.h"

#include "bench/bench.h"

#include <ctype.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct settings set = { .seconds = 3 };

/* Some samples from `pages` on, each of `us` microseconds and more. */
static void fill(struct bench_result *r, const char *pattern, size_t count,
		 uint64_t pages, uint64_t us)
{
	size_t i, f;

	memset(r, 0, sizeof(*r));
	strcpy(r->workload.pattern, pattern);
	strcpy(r->workload.spec, pattern);
	r->workload.fill = "random";
	r->workload.pages = pages;
	r->workload.interval_ms = 50;
	r->samples.at = calloc(count, sizeof(*r->samples.at));
	r->samples.count = r->samples.room = count;
	for (i = 0; i < count; i++) {
		uint64_t *figure = r->samples.at[i].figure;

		for (f = 0; f < BENCH_FIGURE_COUNT; f++)
			figure[f] = us + i;
		figure[BENCH_dirty_pages] = pages + i % 7;
		figure[BENCH_raw_bytes] = figure[BENCH_dirty_pages] * 4096;
	}
	assert_int_equal(bench_result_summarize(r), 0);
	r->limits = (struct bench_limits){ pages ? pages : 1, (double)us / 3,
					   (double)us / 2, 50 };
	r->cpu = (struct bench_cpu){ 10, { 30, 10 } };
	bench_result_ratios(r);
}

static struct bench *bench_of(size_t count)
{
	struct bench *b = calloc(1, sizeof(*b));

	b->set = &set;
	b->count = b->done = count;
	b->cpu[BENCH_PRIMARY] = b->cpu[BENCH_SECONDARY] = -1;
	strcpy(b->congestion, "cubic");
	return b;
}

static void bench_free(struct bench *b)
{
	size_t i;

	for (i = 0; i < b->count; i++)
		bench_samples_fini(&b->results[i].samples);
	free(b);
}

static char *drawn(const struct bench *b)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	bench_plot(b, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(strlen(text), size);
	return text;
}

/* Every element is closed, in order; attributes are quoted; returns how many.
 */
static int well_formed(const char *text)
{
	char open[16][16];
	int depth = 0, count = 0;
	const char *at = text, *end;

	while ((at = strchr(at, '<'))) {
		size_t n = strcspn(at + 1, " />");

		end = strchr(at, '>');
		assert_non_null(end);
		if (at[1] == '/') {
			n = (size_t)(end - at) - 2;
			assert_true(depth > 0);
			depth--;
			assert_int_equal(strlen(open[depth]), n);
			assert_memory_equal(open[depth], at + 2, n);
		} else if (end[-1] != '/') {
			assert_true(depth < 16 && n < 16);
			memcpy(open[depth], at + 1, n);
			open[depth++][n] = '\0';
		}
		count++;
		while (at < end)
			if (*at++ == '"') {
				at = strchr(at, '"');
				assert_true(at && at < end);
				at++;
			}
	}
	assert_int_equal(depth, 0);
	for (at = text; *at; at++)
		assert_true(isprint((unsigned char)*at) || *at == '\n');
	for (at = text; (at = strchr(at, '&')); at++)
		assert_true(!strncmp(at, "&lt;", 4) ||
			    !strncmp(at, "&amp;", 5));
	assert_null(strstr(text, "nan"));
	assert_null(strstr(text, "inf"));
	return count;
}

static int count_of(const char *text, const char *what)
{
	int count = 0;

	for (; (text = strstr(text, what)); text++)
		count++;
	return count;
}

/* All dots are within the axes. */
static void within(const char *text)
{
	double x, y;

	for (; (text = strstr(text, "<circle cx=")); text++) {
		assert_int_equal(
			sscanf(text, "<circle cx=\"%lf\" cy=\"%lf\"", &x, &y),
			2);
		assert_true(x >= 84 && x <= 960);
		assert_true(y >= 64 && y <= 536);
	}
}

static void test_a_picture(void **state)
{
	struct bench *b = bench_of(3);
	char *text;

	(void)state;
	fill(&b->results[0], "random", 50, 100, 400);
	fill(&b->results[1], "hot", 60, 10000, 90000);
	fill(&b->results[2], "sequential", 70, 1000, 4000);
	text = drawn(b);
	assert_true(well_formed(text) > 2 * (50 + 60 + 70));
	within(text);
	/* Two of each epoch, and three in the legend. */
	assert_int_equal(count_of(text, "<circle"), 2 * 50 + 3);
	assert_true(strstr(text, ">100 us<") && strstr(text, ">1 ms<") &&
		    strstr(text, ">100 ms<"));
	assert_true(strstr(text, ">100<") && strstr(text, ">10k<"));
	assert_non_null(strstr(text, "cubic"));
	free(text);
	bench_free(b);
}

/* Nothing, zeros, and figures that no machine has. */
static void test_odd_pictures(void **state)
{
	struct bench *b = bench_of(1);
	char *text;

	(void)state;
	fill(&b->results[0], "random", 1, 0, 0);
	text = drawn(b);
	well_formed(text);
	within(text);
	free(text);
	bench_samples_fini(&b->results[0].samples);
	fill(&b->results[0], "random", 5000, UINT64_C(1) << 40,
	     UINT64_C(1) << 50);
	strcpy(b->congestion, "<&>\"\n");
	text = drawn(b);
	well_formed(text);
	assert_true(count_of(text, "<circle") <= 2 * 400 + 3);
	assert_true(strstr(text, ">1T<") && strstr(text, ">10 Ms<"));
	free(text);
	bench_free(b);
}

static void test_json(void **state)
{
	struct bench *b = bench_of(2);
	char *text = NULL;
	size_t size, f;
	json_t *o, *r;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	fill(&b->results[0], "random", 50, 100, 400);
	fill(&b->results[1], "hot", 60, 10000, 90000);
	assert_int_equal(bench_json(b, out), 0);
	fclose(out);
	assert_ptr_equal(strchr(text, '\n'), text + size - 1);
	o = json_loads(text, 0, NULL);
	assert_non_null(o);
	assert_int_equal(json_array_size(json_object_get(o, "results")), 2);
	r = json_array_get(json_object_get(o, "results"), 0);
	for (f = 0; f < BENCH_FIGURE_COUNT; f++)
		assert_int_equal(json_object_size(json_object_get(
					 r, bench_figure_names[f])),
				 5);
	assert_int_equal(json_integer_value(json_object_get(
				 json_object_get(r, "ack_us"), "p50")),
			 424);
	assert_true(
		json_real_value(json_object_get(json_object_get(r, "ratios"),
						"pause_to_copy")) > 0);
	assert_true(json_real_value(json_object_get(
			    json_object_get(r, "ratios"), "cpu_to_copy")) > 0);
	assert_int_equal(json_integer_value(json_object_get(r, "runs")), 1);
	assert_null(json_object_get(r, "spread"));
	assert_int_equal(json_array_size(json_object_get(o, "left_out")), 0);
	assert_int_equal(json_array_size(json_object_get(o, "pinned")), 0);
	json_decref(o);
	free(text);
	bench_free(b);
}

/* What only is there where it was: runs, what is left out, processors. */
static void test_json_of_more(void **state)
{
	struct bench *b = bench_of(1);
	json_t *o, *r, *ratio;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	fill(&b->results[0], "random", 50, 100, 400);
	b->results[0].runs = 5;
	b->results[0].smallest.commit_to_wire = 0.5;
	b->results[0].largest.commit_to_wire = 1.5;
	b->left_out_count = 1;
	strcpy(b->left_out[0].spec, "redis,pages=7");
	b->cpu[BENCH_PRIMARY] = 2;
	b->cpu[BENCH_SECONDARY] = 5;
	assert_int_equal(bench_json(b, out), 0);
	fclose(out);
	o = json_loads(text, 0, NULL);
	r = json_array_get(json_object_get(o, "results"), 0);
	assert_int_equal(json_integer_value(json_object_get(r, "runs")), 5);
	assert_int_equal(json_object_size(json_object_get(r, "spread")), 4);
	ratio = json_object_get(json_object_get(r, "spread"), "commit_to_tls");
	assert_true(json_real_value(json_object_get(ratio, "min")) == 0.5);
	assert_true(json_real_value(json_object_get(ratio, "max")) == 1.5);
	assert_string_equal(json_string_value(json_array_get(
				    json_object_get(o, "left_out"), 0)),
			    "redis,pages=7");
	assert_int_equal(json_integer_value(json_array_get(
				 json_object_get(o, "pinned"), 1)),
			 5);
	json_decref(o);
	free(text);
	bench_free(b);
}

static void test_table(void **state)
{
	struct bench *b = bench_of(1);
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	fill(&b->results[0], "random", 50, 100, 400);
	bench_table(b, out);
	fclose(out);
	assert_int_equal(count_of(text, " p50 "), 1);
	assert_non_null(strstr(text, "random: 50 epochs of 100 to 106 pages"));
	assert_non_null(strstr(
		text,
		"\n  acknowledge          400       424       444       449"
		"       449\n"));
	assert_non_null(strstr(text, "acknowledge / TLS 2.12"));
	assert_non_null(strstr(text, "congestion control: cubic"));
	assert_non_null(strstr(text, "processor of both sides 4.00 us a page"));
	assert_null(strstr(text, " runs"));
	free(text);
	out = open_memstream(&text, &size);
	b->results[0].runs = 5;
	b->results[0].smallest.commit_to_wire = 0.5;
	b->results[0].largest.commit_to_wire = 12;
	bench_table(b, out);
	fclose(out);
	assert_non_null(strstr(text, "median 103, of 5 runs"));
	assert_non_null(strstr(text, "acknowledge / TLS 2.12 (0.5 to 12)"));
	free(text);
	bench_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_picture),
		cmocka_unit_test(test_odd_pictures),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_json_of_more),
		cmocka_unit_test(test_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
