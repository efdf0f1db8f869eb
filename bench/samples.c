/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lines of an epoch log, read.  The first epochs are thrown away: buffers
 * are touched, TCP's window opens, the standby's memory becomes warm, and a
 * page that is sent for the first time is sent whole.
 */
#include "config.h"

#include "bench/bench.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_EPOCHS = 5, WARM_US = 500 * 1000 };

const char *const bench_figure_names[BENCH_FIGURE_COUNT] = {
#define X(name, words) #name,
	BENCH_FIGURES(X)
#undef X
};

const char *const bench_figure_words[BENCH_FIGURE_COUNT] = {
#define X(name, words) words,
	BENCH_FIGURES(X)
#undef X
};

static int add(struct bench_samples *s, const struct bench_sample *one)
{
	if (s->count == s->room) {
		size_t room = s->room ? 2 * s->room : 256;
		struct bench_sample *at =
			reallocarray(s->at, room, sizeof(*at));

		if (!at)
			return -ENOMEM;
		s->at = at;
		s->room = room;
	}
	s->at[s->count++] = *one;
	return 0;
}

/* How many are written in a time depends on what else the machine does. */
static bool cold(const struct bench_samples *s, uint64_t began_us)
{
	uint64_t for_us = began_us - s->first_us;

	return s->warming < WARM_EPOCHS || for_us < WARM_US ||
	       (s->warming_pages < s->warm_pages && for_us < BENCH_WARM_MAX_US);
}

static bool warm(struct bench_samples *s, uint64_t began_us, uint64_t pages)
{
	if (!s->first_us)
		s->first_us = began_us;
	if (!s->warm_us && cold(s, began_us)) {
		s->warming++;
		s->warming_pages += pages;
		return false;
	}
	if (!s->warm_us)
		s->warm_us = began_us;
	return true;
}

static int sample(const json_t *o, struct bench_sample *out)
{
	uint64_t *f = out->figure;
	const json_t *v;
	size_t i;

	for (i = 0; i < BENCH_FIGURE_COUNT; i++) {
		if (i == BENCH_pause_unscanned_us)
			continue;
		v = json_object_get(o, bench_figure_names[i]);
		if (!json_is_integer(v) || json_integer_value(v) < 0)
			return -EBADMSG;
		f[i] = (uint64_t)json_integer_value(v);
	}
	f[BENCH_pause_unscanned_us] =
		f[BENCH_paused_us] > f[BENCH_scan_us]
			? f[BENCH_paused_us] - f[BENCH_scan_us]
			: 0;
	return 0;
}

static int take(struct bench_samples *s, const json_t *o)
{
	const char *end = json_string_value(json_object_get(o, "end"));
	const json_t *began = json_object_get(o, "time_us");
	struct bench_sample one;
	int err;

	if (!end || !json_is_integer(began))
		return -EBADMSG;
	if (!strcmp(end, "skipped") || !strcmp(end, "aborted")) {
		s->skipped += end[0] == 's';
		s->aborted += end[0] == 'a';
		return 0;
	}
	err = sample(o, &one);
	if (err || !warm(s, (uint64_t)json_integer_value(began),
			 one.figure[BENCH_dirty_pages]))
		return err;
	return add(s, &one);
}

int bench_samples_line(struct bench_samples *s, const char *line, size_t len)
{
	json_t *o = json_loadb(line, len, 0, NULL);
	int err = take(s, o);

	json_decref(o);
	return err;
}

void bench_samples_fini(struct bench_samples *s)
{
	free(s->at);
	memset(s, 0, sizeof(*s));
}
