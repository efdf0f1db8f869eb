/* SPDX-License-Identifier: Apache-2.0 */
/* The search for the SUSPEND_CANCEL note in a guest's memory. */
#include "config.h"

#include "resume/xen/note.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { PAGE_WORDS = 1024, PAGES = 4, WORDS = PAGES * PAGE_WORDS };

/* As the note of Debian's vmlinux is dumped by `readelf -x .notes'. */
static const uint8_t note[20] = { 4, 0, 0,   0,	  4,   0, 0, 0, 14, 0,
				  0, 0, 'X', 'e', 'n', 0, 1, 0, 0,  0 };

static uint32_t memory[WORDS];

static void put(size_t word, const void *bytes, size_t length)
{
	memcpy(&memory[word], bytes, length);
}

static bool found_by_pages(void)
{
	struct xen_note_scan scan = { 0 };

	for (size_t p = 0; p < PAGES; p++)
		if (xen_note_scan(&scan, memory + p * PAGE_WORDS, PAGE_WORDS))
			return true;
	return false;
}

static int setup(void **state)
{
	(void)state;
	memset(memory, 0, sizeof(memory));
	return 0;
}

static void nothing_in_empty_memory(void **state)
{
	(void)state;
	assert_false(found_by_pages());
	memset(memory, 0xff, sizeof(memory));
	assert_false(found_by_pages());
}

/* Every place, thus every way to lie across two pages. */
static void found_at_every_word(void **state)
{
	(void)state;
	for (size_t at = 0; at + 5 <= WORDS; at++) {
		setup(NULL);
		put(at, note, sizeof(note));
		assert_true(found_by_pages());
	}
}

static void found_behind_what_looks_like_its_beginning(void **state)
{
	(void)state;
	for (size_t fours = 1; fours < 6; fours++) {
		setup(NULL);
		for (size_t i = 0; i < fours; i++)
			memory[PAGE_WORDS - 2 + i] = 4;
		put(PAGE_WORDS - 2 + fours, note, sizeof(note));
		assert_true(found_by_pages());
	}
	for (size_t half = 4; half < sizeof(note); half += 4) {
		setup(NULL);
		put(7, note, half);
		put(7 + half / 4, note, sizeof(note));
		assert_true(found_by_pages());
	}
}

static void each_word_of_it_counts(void **state)
{
	(void)state;
	for (size_t word = 0; word < 5; word++) {
		setup(NULL);
		put(100, note, sizeof(note));
		memory[100 + word] ^= 0x100;
		assert_false(found_by_pages());
	}
	/* Value 0 says that it cannot. */
	setup(NULL);
	put(100, note, sizeof(note));
	memory[104] = 0;
	assert_false(found_by_pages());
}

static void a_gap_ends_a_note(void **state)
{
	struct xen_note_scan scan = { 0 };

	(void)state;
	put(PAGE_WORDS - 2, note, sizeof(note));
	assert_false(xen_note_scan(&scan, memory, PAGE_WORDS));
	scan = (struct xen_note_scan){ 0 };
	assert_false(xen_note_scan(&scan, memory + PAGE_WORDS, PAGE_WORDS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(nothing_in_empty_memory, setup),
		cmocka_unit_test_setup(found_at_every_word, setup),
		cmocka_unit_test_setup(
			found_behind_what_looks_like_its_beginning, setup),
		cmocka_unit_test_setup(each_word_of_it_counts, setup),
		cmocka_unit_test_setup(a_gap_ends_a_note, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
