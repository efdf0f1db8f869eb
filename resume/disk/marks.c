/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The marks of a replicated disk, and the change under way (see meta.h).
 *
 * A set is pieces of a page, so that one of a large disk is emptied and walked
 * by looking at those in which something was marked.  A piece is touched before
 * its first mark and untouched before its marks go: whoever is killed in
 * between leaves a mark too many at most.
 */
#include "config.h"

#include "resume/disk/meta.h"

#include "base/bounds.h"
#include "resume/disk/meta_impl.h"

static _Atomic uint64_t *touched_word(const struct disk_meta *m, int set,
				      uint64_t piece, uint64_t *bit)
{
	*bit = UINT64_C(1) << piece % META_WORD_BITS;
	return &m->live->touched[set][piece / META_WORD_BITS];
}

static bool touched(const struct disk_meta *m, int set, uint64_t piece)
{
	uint64_t bit;

	return atomic_load(touched_word(m, set, piece, &bit)) & bit;
}

static void touch(struct disk_meta *m, int set, uint64_t piece)
{
	uint64_t bit;
	_Atomic uint64_t *word = touched_word(m, set, piece, &bit);

	atomic_fetch_or(word, bit);
}

/* Bits first..last of a word, both within it. */
static uint64_t bits(uint64_t first, uint64_t last)
{
	return UINT64_MAX << first & UINT64_MAX >> (META_WORD_BITS - 1 - last);
}

static void mark_blocks(struct disk_meta *m, int set, uint64_t first,
			uint64_t last)
{
	for (uint64_t p = first / META_PIECE_BITS; p <= last / META_PIECE_BITS;
	     p++)
		touch(m, set, p);
	for (uint64_t w = first / META_WORD_BITS; w <= last / META_WORD_BITS;
	     w++) {
		uint64_t from = at_least(first, w * META_WORD_BITS);
		uint64_t to =
			at_most(last, w * META_WORD_BITS + META_WORD_BITS - 1);

		atomic_fetch_or(&m->marks[set][w], bits(from % META_WORD_BITS,
							to % META_WORD_BITS));
	}
}

unsigned int disk_meta_mark(struct disk_meta *m, uint64_t offset,
			    uint64_t length)
{
	unsigned int set = disk_meta_current(m);
	uint64_t size = disk_meta_size(m);

	if (offset < size)
		length = at_most(length, size - offset);
	if (offset < size && length)
		mark_blocks(m, (int)set, offset / DISK_BLOCK_BYTES,
			    (offset + length - 1) / DISK_BLOCK_BYTES);
	return set;
}

void disk_meta_rotate(struct disk_meta *m)
{
	atomic_fetch_xor(&m->live->current, 1);
}

unsigned int disk_meta_current(const struct disk_meta *m)
{
	return atomic_load(&m->live->current) & 1;
}

static void empty_piece(struct disk_meta *m, int set, uint64_t piece)
{
	uint64_t at = piece * META_PIECE_WORDS;
	uint64_t end = at_most(at + META_PIECE_WORDS, m->words), bit;
	_Atomic uint64_t *word = touched_word(m, set, piece, &bit);

	if (!(atomic_fetch_and(word, ~bit) & bit))
		return;
	for (; at < end; at++)
		if (atomic_load_explicit(&m->marks[set][at],
					 memory_order_relaxed))
			atomic_store(&m->marks[set][at], 0);
}

static void empty(struct disk_meta *m, int set)
{
	for (uint64_t p = 0; p * META_PIECE_WORDS < m->words; p++)
		if (touched(m, set, p))
			empty_piece(m, set, p);
}

void disk_meta_drop(struct disk_meta *m)
{
	empty(m, !disk_meta_current(m));
}

void disk_meta_clear(struct disk_meta *m)
{
	for (int set = 0; set < META_SETS; set++)
		empty(m, set);
}

static uint64_t marks_of(const struct disk_meta *m, uint64_t word)
{
	return atomic_load(&m->marks[0][word]) |
	       atomic_load(&m->marks[1][word]);
}

bool disk_meta_marked(const struct disk_meta *m, uint64_t block)
{
	return block < m->blocks &&
	       marks_of(m, block / META_WORD_BITS) >> block % META_WORD_BITS &
		       1;
}

/* The next word with a mark at or behind `word`, or m->words. */
static uint64_t next_word(const struct disk_meta *m, uint64_t word)
{
	while (word < m->words) {
		uint64_t piece = word / META_PIECE_WORDS;
		uint64_t end =
			at_most((piece + 1) * META_PIECE_WORDS, m->words);

		if (touched(m, 0, piece) || touched(m, 1, piece))
			while (word < end && !marks_of(m, word))
				word++;
		else
			word = end;
		if (word < end)
			return word;
	}
	return m->words;
}

uint64_t disk_meta_next_marked(const struct disk_meta *m, uint64_t block)
{
	uint64_t word = block / META_WORD_BITS, found;

	if (block >= m->blocks)
		return m->blocks;
	found = marks_of(m, word) & UINT64_MAX << block % META_WORD_BITS;
	/* A mark may go between two looks. */
	while (!found) {
		word = next_word(m, word + 1);
		if (word == m->words)
			return m->blocks;
		found = marks_of(m, word);
	}
	return at_most(word * META_WORD_BITS + (uint64_t)__builtin_ctzll(found),
		       m->blocks);
}

uint64_t disk_meta_count(const struct disk_meta *m)
{
	uint64_t count = 0;

	for (uint64_t w = next_word(m, 0); w < m->words;
	     w = next_word(m, w + 1))
		count += (uint64_t)__builtin_popcountll(marks_of(m, w));
	return count;
}

/* --- the change under way ------------------------------------------------- */

void disk_meta_begin(struct disk_meta *m, uint64_t offset, uint64_t length)
{
	atomic_store(&m->live->pending_offset, offset);
	atomic_store(&m->live->pending_length, length);
	atomic_store(&m->live->pending, 1);
}

void disk_meta_end(struct disk_meta *m)
{
	atomic_store(&m->live->pending, 0);
}

bool disk_meta_pending(const struct disk_meta *m, uint64_t *offset,
		       uint64_t *length)
{
	uint64_t size = disk_meta_size(m);

	if (!atomic_load(&m->live->pending))
		return false;
	*offset = atomic_load(&m->live->pending_offset);
	*length = atomic_load(&m->live->pending_length);
	return *offset < size && *length <= size - *offset;
}
