/* SPDX-License-Identifier: Apache-2.0 */
/* Workloads, as they are typed. */
#include "config.h"

#include "bench/bench.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Three decades of dirty pages in the usual pattern, and the other patterns in
 * the middle.  The large one has time: what is not sent before the next
 * checkpoint would measure the queue.
 */
const char bench_workloads_default[] =
	"random,pages=100,interval=20;"
	"random,pages=1000,interval=50;"
	"random,pages=10000,interval=500,mem=256;"
	"sequential,pages=1000,interval=50;"
	"hot,pages=1000,interval=50";

/*
 * Real programs, and the extremes between which all others are: pages that
 * compress to nothing, that do not compress at all, and of which next to
 * nothing has changed.
 */
#define EXTREME(words)                          \
	";random,pages=1000,interval=50," words \
	";random,pages=10000,interval=500," words
static const char standard[] =
	"redis,pages=1000,interval=50;"
	"redis,pages=10000,interval=500;"
	"sqlite,pages=1000,interval=50;"
	"sqlite,pages=10000,interval=500" EXTREME("whole=100,fill=zero")
		EXTREME("whole=100") EXTREME("words=1,whole=0");
#undef EXTREME

/*
 * The same writes in guests of several sizes, and ever more in the largest, one
 * page after the other, for at random a tenth of so many would be hit twice.
 */
static const char scale[] =
	"random,mem=64,span=64,pages=1000,interval=50;"
	"random,mem=1024,span=64,pages=1000,interval=50;"
	"random,mem=8192,span=64,pages=1000,interval=50;"
	"random,mem=64,span=64,pages=10000,interval=500;"
	"random,mem=1024,span=64,pages=10000,interval=500;"
	"random,mem=8192,span=64,pages=10000,interval=500;"
	"sequential,mem=8192,span=256,pages=1000,interval=50;"
	"sequential,mem=8192,span=256,pages=10000,interval=500;"
	"sequential,mem=8192,span=1024,pages=50000,interval=1000;"
	"sequential,mem=8192,span=1024,pages=200000,interval=4000";

const char *bench_suite(const char *name)
{
	return !strcmp(name, "standard") ? standard
	       : !strcmp(name, "scale")	 ? scale
					 : NULL;
}

/* Those of an embedded guest (resume/embedded/spec.c): unit-bench-spec. */
enum { VCPUS_MAX = 16, MEM_MAX_MIB = 256 * 1024, RATE_MAX = 100000000 };

static const char *const patterns[] = { "random", "hot", "sequential", NULL };
static const char *const programs[] = { "redis", "sqlite", NULL };
static const char *const fills[] = { "random", "zero", NULL };

/* What a program writes is its own affair. */
enum of { ANY, SYNTHETIC };

static const struct key {
	const char *name;
	size_t offset;
	uint64_t min, max;
	enum of of;
	const char *const *words; /* NULL: it is a number */
} keys[] = {
#define AT(member) offsetof(struct bench_workload, member)
#define KEY(name, member, min, max, of)              \
	{                                            \
		name, AT(member), min, max, of, NULL \
	}
#define WORD(name, member, words)                        \
	{                                                \
		name, AT(member), 0, 0, SYNTHETIC, words \
	}
	KEY("pages", pages, 1, 10000000, ANY),
	KEY("interval", interval_ms, 5, 60000, ANY),
	KEY("mem", mem_mib, 4, MEM_MAX_MIB, ANY),
	KEY("span", span_mib, 0, MEM_MAX_MIB, SYNTHETIC),
	KEY("words", words, 1, 512, SYNTHETIC),
	KEY("whole", whole, 0, 100, SYNTHETIC),
	WORD("fill", fill, fills),
	KEY("vcpus", vcpus, 1, VCPUS_MAX, SYNTHETIC),
#undef WORD
#undef KEY
#undef AT
};

static int bad(char *why, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int bad(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, 256, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* The one of `words` that it is, or NULL. */
static const char *one_of(const char *const *words, const char *word)
{
	for (; *words; words++)
		if (!strcmp(*words, word))
			return *words;
	return NULL;
}

static const struct key *find_key(const struct bench_workload *w,
				  const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!strcmp(name, keys[i].name) &&
		    (keys[i].of == ANY || !w->program))
			return &keys[i];
	return NULL;
}

static int set_number(const struct key *k, void *at, const char *value,
		      char *why)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(value, &end, 10);
	if (!isdigit((unsigned char)value[0]) || *end || errno || n < k->min ||
	    n > k->max)
		return bad(why,
			   "%s takes a whole number from %llu to %llu, not "
			   "'%.40s'",
			   k->name, (unsigned long long)k->min,
			   (unsigned long long)k->max, value);
	*(uint64_t *)at = n;
	return 0;
}

static int set_word(const struct key *k, void *at, const char *value, char *why)
{
	const char *word = one_of(k->words, value);

	if (!word)
		return bad(why, "%s takes random or zero, not '%.40s'", k->name,
			   value);
	*(const char **)at = word;
	return 0;
}

static int set_key(struct bench_workload *w, char *word, char *why)
{
	char *value = strchr(word, '=');
	const struct key *k;
	void *at;

	if (!value)
		return bad(why, "'%.40s' is not KEY=VALUE", word);
	*value++ = '\0';
	k = find_key(w, word);
	if (!k)
		return bad(why, "there is no '%.40s' (pages, interval, mem%s)",
			   word,
			   w->program ? ""
				      : ", span, words, whole, fill, vcpus");
	at = (char *)w + k->offset;
	return k->words ? set_word(k, at, value, why)
			: set_number(k, at, value, why);
}

static int check(const struct bench_workload *w, char *why)
{
	uint64_t written_mib = w->span_mib ? w->span_mib : w->mem_mib;

	if (w->span_mib > w->mem_mib)
		return bad(why, "span=%llu is more than mem=%llu",
			   (unsigned long long)w->span_mib,
			   (unsigned long long)w->mem_mib);
	if (!w->program && w->pages > written_mib << 8)
		return bad(why, "%s=%llu has no more than %llu pages",
			   w->span_mib ? "span" : "mem",
			   (unsigned long long)written_mib,
			   (unsigned long long)written_mib << 8);
	if (bench_spec_rate(w) > RATE_MAX)
		return bad(why, "no more than %d pages can be written a second",
			   RATE_MAX);
	return 0;
}

static int set_pattern(struct bench_workload *w, const char *word, char *why)
{
	w->program = word && one_of(programs, word);
	if (!word || (!w->program && !one_of(patterns, word)))
		return bad(why,
			   "'%.40s' is not a pattern (random, hot, "
			   "sequential, redis, sqlite)",
			   word ? word : "");
	strcpy(w->pattern, word);
	if (w->program) {
		w->mem_mib = w->words = w->whole = 0;
		w->fill = "";
	}
	return 0;
}

static int parse_one(const char *spec, size_t length, struct bench_workload *w,
		     char *why)
{
	char words[BENCH_SPEC_BYTES], *at, *word;
	int err = 0;

	*w = (struct bench_workload){
		.pages = 1000,
		.interval_ms = 50,
		.mem_mib = 64,
		.span_mib = 0,
		.words = 8,
		.whole = 5,
		.fill = "random",
		.vcpus = 1,
	};
	if (!length)
		return bad(why, "it is empty");
	if (length >= sizeof(words))
		return bad(why, "'%.40s...' is too long", spec);
	memcpy(w->spec, spec, length);
	memcpy(words, w->spec, sizeof(words));
	err = set_pattern(w, strtok_r(words, ",", &at), why);
	while (!err && (word = strtok_r(NULL, ",", &at)))
		err = set_key(w, word, why);
	return err ? err : check(w, why);
}

int bench_spec_parse(const char *text,
		     struct bench_workload out[BENCH_WORKLOADS_MAX], char *why)
{
	int count = 0, err;
	size_t length;

	for (;;) {
		if (count == BENCH_WORKLOADS_MAX)
			return bad(why, "there are more than %d",
				   BENCH_WORKLOADS_MAX);
		length = strcspn(text, ";");
		err = parse_one(text, length, &out[count++], why);
		if (err || !text[length])
			return err ? err : count;
		text += length + 1;
	}
}

uint64_t bench_spec_rate(const struct bench_workload *w)
{
	uint64_t rate = w->pages * 1000 / w->interval_ms;

	return rate ? rate : 1;
}

/* At random, five times as many writes as there are pages miss one in 150. */
void bench_spec_settle(struct bench_workload *w)
{
	w->warm_pages = 5 * bench_spec_written_pages(w);
}

void bench_spec_trace(struct bench_workload *w, const struct bench_trace *t)
{
	w->trace = *t;
	w->warm_pages = t->entries;
	if (w->mem_mib < t->needs_mib)
		w->mem_mib = t->needs_mib;
}

uint64_t bench_spec_written_pages(const struct bench_workload *w)
{
	return w->program    ? w->trace.live
	       : w->span_mib ? w->span_mib << 8
			     : w->mem_mib << 8;
}

void bench_spec_guest(const struct bench_workload *w,
		      char words[BENCH_GUEST_BYTES])
{
	if (w->program) {
		snprintf(words, BENCH_GUEST_BYTES,
			 "embedded:replay,name=bench,mem=%lluM,rate=%llu,"
			 "file=%s",
			 (unsigned long long)w->mem_mib,
			 (unsigned long long)bench_spec_rate(w), w->trace.file);
		return;
	}
	snprintf(words, BENCH_GUEST_BYTES,
		 "embedded:dirty,name=bench,mem=%lluM,span=%lluM,rate=%llu,"
		 "pattern=%s,words=%llu,whole=%llu,fill=%s,vcpus=%llu",
		 (unsigned long long)w->mem_mib,
		 (unsigned long long)bench_spec_written_pages(w) >> 8,
		 (unsigned long long)bench_spec_rate(w), w->pattern,
		 (unsigned long long)w->words, (unsigned long long)w->whole,
		 w->fill, (unsigned long long)w->vcpus);
}
