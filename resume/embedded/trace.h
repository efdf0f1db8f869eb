/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trace of page versions: what a program wrote, page by page, as `colod
 * bench` records it and an embedded guest replays it.
 *
 * The file, each part filled up to whole pages:
 *   - the header;
 *   - the table: an entry for each version, in the order of time, which says
 *     what page it is of ("live" ones, from 0) and where its change begins;
 *   - the changes, 64-bit words: a mask of the words of the page that are other
 *     ones (TRACE_MASK words, bit i % 64 of word i / 64), and for each of
 * these, ascending, the old one XOR the new one;
 *   - the live pages as they were before the first version.
 * A change applied once more is taken back, so a trace can be replayed forward
 * and backward.
 *
 * Numbers are as the processor has them: recorder and guest are on one host,
 * and a host of the other kind does not find the magic.
 */
#ifndef RESUME_EMBEDDED_TRACE_H
#define RESUME_EMBEDDED_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "resume/embedded/memory.h"

#define TRACE_MAGIC UINT64_C(0x3145434152544443) /* "CDTRACE1" */

enum {
	TRACE_VERSION = 1,
	TRACE_PAGE_WORDS = WIRE_PAGE_BYTES / 8,
	TRACE_MASK = TRACE_PAGE_WORDS / 64,
	/* No sum of sizes overflows. */
	TRACE_ENTRIES_MAX = 1 << 24,
	TRACE_WORDS_MAX = 1 << 28,
};

struct trace_header {
	uint64_t magic;
	uint32_t version;
	uint32_t page_bytes;
	uint32_t live; /* pages */
	uint32_t entries;
	uint32_t words; /* of all changes */
	uint32_t reserved;
};

struct trace_entry {
	uint32_t live;
	uint32_t at; /* the first word of its change */
};

/* Every live page has an entry, so there are no more of them. */
static inline bool trace_header_good(const struct trace_header *h)
{
	return h->magic == TRACE_MAGIC && h->version == TRACE_VERSION &&
	       h->page_bytes == WIRE_PAGE_BYTES && h->entries &&
	       h->entries <= TRACE_ENTRIES_MAX && h->live &&
	       h->live <= h->entries && h->words <= TRACE_WORDS_MAX;
}

static inline uint64_t trace_whole_pages(uint64_t bytes)
{
	return (bytes + WIRE_PAGE_BYTES - 1) / WIRE_PAGE_BYTES *
	       WIRE_PAGE_BYTES;
}

/* Where the parts are: bytes from the beginning.  Good headers only. */
static inline uint64_t trace_table_at(void)
{
	return WIRE_PAGE_BYTES;
}

static inline uint64_t trace_changes_at(const struct trace_header *h)
{
	return trace_table_at() +
	       trace_whole_pages(h->entries * sizeof(struct trace_entry));
}

/* All before this is what a guest keeps. */
static inline uint64_t trace_pages_at(const struct trace_header *h)
{
	return trace_changes_at(h) +
	       trace_whole_pages(h->words * sizeof(uint64_t));
}

static inline uint64_t trace_bytes(const struct trace_header *h)
{
	return trace_pages_at(h) + (uint64_t)h->live * WIRE_PAGE_BYTES;
}

/* Of a guest that replays it: its rings, the live pages, what it keeps. */
static inline uint64_t trace_guest_bytes(const struct trace_header *h)
{
	return EMBEDDED_DATA_PAGE * WIRE_PAGE_BYTES + trace_bytes(h);
}

/*
 * The change that begins at `at` among `words` words: how many words it takes,
 * or 0 where it is not all there.
 */
static inline uint64_t trace_change_words(const uint64_t *changes,
					  uint64_t words, uint64_t at)
{
	uint64_t n = TRACE_MASK;

	if (at > words || words - at < TRACE_MASK)
		return 0;
	for (int i = 0; i < TRACE_MASK; i++)
		n += (uint64_t)__builtin_popcountll(changes[at + i]);
	return n <= words - at ? n : 0;
}

/* `change` is all there. */
static inline void trace_apply(const uint64_t *change, uint64_t *page)
{
	const uint64_t *word = change + TRACE_MASK;

	for (int i = 0; i < TRACE_MASK; i++)
		for (uint64_t mask = change[i]; mask; mask &= mask - 1)
			page[i * 64 + __builtin_ctzll(mask)] ^= *word++;
}

#endif
