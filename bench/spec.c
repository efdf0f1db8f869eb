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

/* Those of an embedded guest (resume/embedded/spec.c): unit-bench-spec. */
enum { VCPUS_MAX = 16, MEM_MAX_MIB = 256 * 1024, RATE_MAX = 100000000 };

static const struct key {
	const char *name;
	size_t offset;
	uint64_t min, max;
} keys[] = {
#define KEY(name, member, min, max)                                     \
	{                                                               \
		name, offsetof(struct bench_workload, member), min, max \
	}
	KEY("pages", pages, 1, 10000000),
	KEY("interval", interval_ms, 5, 60000),
	KEY("mem", mem_mib, 4, MEM_MAX_MIB),
	KEY("words", words, 1, 512),
	KEY("whole", whole, 0, 100),
	KEY("vcpus", vcpus, 1, VCPUS_MAX),
#undef KEY
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

static int set_key(struct bench_workload *w, char *word, char *why)
{
	char *value = strchr(word, '='), *end;
	uint64_t n;
	size_t i;

	if (!value)
		return bad(why, "'%.40s' is not KEY=VALUE", word);
	*value++ = '\0';
	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!strcmp(word, keys[i].name))
			break;
	if (i == sizeof(keys) / sizeof(keys[0]))
		return bad(why,
			   "there is no '%.40s' (pages, interval, mem, words, "
			   "whole, vcpus)",
			   word);
	errno = 0;
	n = strtoull(value, &end, 10);
	if (!isdigit((unsigned char)value[0]) || *end || errno ||
	    n < keys[i].min || n > keys[i].max)
		return bad(why,
			   "%s takes a whole number from %llu to %llu, not "
			   "'%.40s'",
			   word, (unsigned long long)keys[i].min,
			   (unsigned long long)keys[i].max, value);
	*(uint64_t *)(void *)((char *)w + keys[i].offset) = n;
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
		.words = 8,
		.whole = 5,
		.vcpus = 1,
	};
	if (!length)
		return bad(why, "it is empty");
	if (length >= sizeof(words))
		return bad(why, "'%.40s...' is too long", spec);
	memcpy(w->spec, spec, length);
	memcpy(words, w->spec, sizeof(words));
	word = strtok_r(words, ",", &at);
	if (!word || (strcmp(word, "random") && strcmp(word, "hot") &&
		      strcmp(word, "sequential")))
		return bad(why,
			   "'%.40s' is not a pattern (random, hot, "
			   "sequential)",
			   word ? word : "");
	strcpy(w->pattern, word);
	while (!err && (word = strtok_r(NULL, ",", &at)))
		err = set_key(w, word, why);
	if (!err && w->pages > w->mem_mib << 8)
		return bad(why, "mem=%llu has no more than %llu pages",
			   (unsigned long long)w->mem_mib,
			   (unsigned long long)w->mem_mib << 8);
	if (!err && bench_spec_rate(w) > RATE_MAX)
		return bad(why, "no more than %d pages can be written a second",
			   RATE_MAX);
	return err;
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

void bench_spec_guest(const struct bench_workload *w,
		      char words[BENCH_GUEST_BYTES])
{
	snprintf(words, BENCH_GUEST_BYTES,
		 "embedded:dirty,name=bench,mem=%lluM,rate=%llu,pattern=%s,"
		 "words=%llu,whole=%llu,vcpus=%llu",
		 (unsigned long long)w->mem_mib,
		 (unsigned long long)bench_spec_rate(w), w->pattern,
		 (unsigned long long)w->words, (unsigned long long)w->whole,
		 (unsigned long long)w->vcpus);
}
