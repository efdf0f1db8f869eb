/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's workload that notices lost or torn memory.
 *
 *   guest-pattern PAGES WRITES_PER_SECOND
 *
 * Holds PAGES pages, each filled from its index and generation; at every step
 * it verifies one page against the generation it remembers and writes the
 * next.  Pages of different moments do not go together: a standby that
 * got one page of another epoch prints PATTERN BAD.  Says PATTERN OK with its
 * counter five times a second.  Static, for an initramfs.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PAGE_WORDS = 4096 / 8, TICKS_PER_SECOND = 50 };

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= UINT64_C(0xff51afd7ed558ccd);
	x ^= x >> 33;
	x *= UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 33;
}

static void fill(uint64_t *page, uint64_t index, uint64_t generation)
{
	uint64_t seed = mix(index << 32 | generation);

	for (int i = 0; i < PAGE_WORDS; i++)
		page[i] = seed + (uint64_t)i * generation;
}

static int holds(const uint64_t *page, uint64_t index, uint64_t generation)
{
	uint64_t seed = mix(index << 32 | generation);

	for (int i = 0; i < PAGE_WORDS; i++)
		if (page[i] != seed + (uint64_t)i * generation)
			return 0;
	return 1;
}

int main(int argc, char **argv)
{
	uint64_t pages = argc > 1 ? strtoull(argv[1], NULL, 10) : 1024;
	uint64_t rate = argc > 2 ? strtoull(argv[2], NULL, 10) : 500;
	uint64_t *memory = aligned_alloc(4096, pages * 4096);
	uint32_t *generations = calloc(pages, sizeof(*generations));
	uint64_t steps = 0;

	if (!memory || !generations)
		return 1;
	for (uint64_t i = 0; i < pages; i++)
		fill(memory + i * PAGE_WORDS, i, 0);
	for (uint64_t tick = 1;; tick++) {
		for (uint64_t n = 0; n < rate / TICKS_PER_SECOND; n++) {
			uint64_t i = mix(steps++) % pages;
			uint64_t *page = memory + i * PAGE_WORDS;

			if (!holds(page, i, generations[i])) {
				printf("PATTERN BAD page %llu step %llu\n",
				       (unsigned long long)i,
				       (unsigned long long)steps);
				return 1;
			}
			fill(page, i, ++generations[i]);
		}
		if (tick % 10 == 0) {
			printf("PATTERN OK %llu\n", (unsigned long long)steps);
			fflush(stdout);
		}
		usleep(1000000 / TICKS_PER_SECOND);
	}
}
