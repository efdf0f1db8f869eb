/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workload that writes memory at a given rate, as programs do: a step
 * writes one page, changing a few words of it near each other's values, and
 * now and then all of it, by random bytes or by zeros.
 *
 * Each vCPU has its own share of the pages behind the rings.  Word 0 of a page
 * counts its writes, but for those by zeros; register 0 is the random state,
 * register 1 counts the steps, register 2 is the place of the sequential
 * pattern.
 */
#include "config.h"

#include "resume/embedded/workload.h"

#include <string.h>

#include "resume/embedded/memory.h"

enum {
	WORDS = WIRE_PAGE_BYTES / 8,
	/* hot: nine writes in ten go to a tenth of the pages. */
	HOT_PER_CENT = 90,
	HOT_SHARE = 10,
};

static uint64_t next(uint64_t *state)
{
	uint64_t x = *state;

	/* xorshift64* (Vigna, "An experimental exploration..."). */
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * UINT64_C(0x2545f4914f6cdd1d);
}

static uint64_t span_of(const struct workload_view *v)
{
	uint64_t span = v->spec->span_bytes;

	return span ? span : v->bytes;
}

/*
 * What is not in the span holds zeros, and is there all the same: a guest has
 * used its memory, and to look for what it wrote takes as long as it does.
 */
static void dirty_boot(struct workload_view *v)
{
	if (!v->vcpu)
		memset(v->memory + span_of(v), 0, v->bytes - span_of(v));
	memset(v->reg, 0, EMBEDDED_REGISTERS * sizeof(*v->reg));
	v->reg[0] = UINT64_C(0x9e3779b97f4a7c15) * (v->vcpu + 1);
}

static uint64_t choose(struct workload_view *v, uint64_t pages)
{
	uint64_t r;

	switch (v->spec->pattern) {
	case EMBEDDED_PATTERN_SEQUENTIAL:
		return v->reg[2]++ % pages;
	case EMBEDDED_PATTERN_HOT:
		r = next(&v->reg[0]);
		if (r % 100 < HOT_PER_CENT)
			return next(&v->reg[0]) % (pages / HOT_SHARE + 1);
		break;
	default:
		break;
	}
	return next(&v->reg[0]) % pages;
}

static void fill(struct workload_view *v, uint64_t *words)
{
	uint32_t i;

	if (v->spec->fill == EMBEDDED_FILL_ZERO) {
		memset(words, 0, WIRE_PAGE_BYTES);
		return;
	}
	words[0]++;
	for (i = 1; i < WORDS; i++)
		words[i] = next(&v->reg[0]);
}

static bool dirty_step(struct workload_view *v)
{
	uint64_t share = (span_of(v) / WIRE_PAGE_BYTES - EMBEDDED_DATA_PAGE) /
			 v->spec->vcpus;
	uint64_t page = EMBEDDED_DATA_PAGE + v->vcpu * share + choose(v, share);
	uint64_t *words = (void *)(v->memory + page * WIRE_PAGE_BYTES);
	uint32_t n = v->spec->words, i;
	uint64_t r;

	if (next(&v->reg[0]) % 100 < v->spec->whole) {
		fill(v, words);
	} else {
		/* Fields of a record: a run of words, small changes. */
		r = next(&v->reg[0]);
		for (i = 0; i < n; i++)
			words[1 + (r % (WORDS - 1) + i) % (WORDS - 1)] +=
				1 + (r >> 32) % 1000;
		words[0]++;
	}
	v->reg[1]++;
	return true;
}

static uint32_t dirty_rate(const struct embedded_spec *s)
{
	uint32_t each = s->rate / s->vcpus;

	return each ? each : 1;
}

const struct workload workload_dirty = {
	.boot = dirty_boot,
	.step = dirty_step,
	.rate = dirty_rate,
};
