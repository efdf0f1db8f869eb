/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit of a pause: the same number of scattered pages copied by one pinned
 * thread, from a shared mapping as large as what the workload writes into
 * memory that stands ready.  Everything is touched before; each pass takes
 * other pages of the mapping, in ascending order as a scan finds them.
 */
#include "config.h"

#include "bench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "stream/format.h"

enum {
	PASSES = 31,
	/* The clock counts microseconds: a pass takes some hundred. */
	PAGES_A_PASS = 1000,
	SEED = 7475,
};

/*
 * One page of each stretch of the memory, at random within it.  An epoch of
 * several rounds may have more pages than there are: some are taken twice.
 */
static void choose(size_t *pages, size_t count, size_t all, unsigned int *seed)
{
	size_t i, from, to;

	for (i = 0; i < count; i++) {
		from = all * i / count;
		to = all * (i + 1) / count;
		pages[i] = from;
		if (to > from)
			pages[i] += (size_t)rand_r(seed) % (to - from);
	}
}

static double pass(const uint8_t *memory, size_t all, uint8_t *arena,
		   size_t *pages, size_t count, unsigned int *seed)
{
	size_t sets = count < PAGES_A_PASS ? PAGES_A_PASS / count : 1, s, i;
	uint64_t us = 0, start;

	for (s = 0; s < sets; s++) {
		choose(pages, count, all, seed);
		start = clock_now_us();
		for (i = 0; i < count; i++)
			memcpy(arena + i * WIRE_PAGE_BYTES,
			       memory + pages[i] * WIRE_PAGE_BYTES,
			       WIRE_PAGE_BYTES);
		us += clock_now_us() - start;
	}
	return (double)us / (double)sets;
}

struct copy {
	const struct bench_result *r;
	int cpu;
};

static int measure(void *arg, double *out)
{
	const struct copy *c = arg;
	const struct bench_result *r = c->r;
	size_t all = bench_spec_written_pages(&r->workload);
	size_t count = r->limits.pages, i;
	AUTO_FD int fd = memfd_create("colod-bench", MFD_CLOEXEC);
	AUTO_FREE size_t *pages = calloc(count, sizeof(*pages));
	AUTO_FREE uint8_t *arena = NULL;
	unsigned int seed = SEED;
	double us[PASSES];
	uint8_t *memory;

	if (fd < 0 || !pages || ftruncate(fd, (off_t)(all * WIRE_PAGE_BYTES)))
		return -ENOMEM;
	memory = mmap(NULL, all * WIRE_PAGE_BYTES, PROT_READ | PROT_WRITE,
		      MAP_SHARED, fd, 0);
	arena = malloc(count * WIRE_PAGE_BYTES);
	if (memory == MAP_FAILED || !arena)
		return -ENOMEM;
	bench_pin(c->cpu);
	for (i = 0; i < all; i++)
		memset(memory + i * WIRE_PAGE_BYTES, (int)i | 1,
		       WIRE_PAGE_BYTES);
	memset(arena, 1, count * WIRE_PAGE_BYTES);
	for (i = 0; i < PASSES; i++)
		us[i] = pass(memory, all, arena, pages, count, &seed);
	out[0] = bench_limit_of(us, PASSES);
	return 0;
}

int bench_copy_limit(struct bench *b, struct bench_result *r)
{
	struct copy c = { r, b->cpu[BENCH_PRIMARY] };
	int err = bench_call(b, measure, &c, &r->limits.copy_us, 1);

	if (err && err != -EINTR)
		bench_error("no memory to copy pages (%llu of them)",
			    (unsigned long long)r->limits.pages);
	return err;
}
