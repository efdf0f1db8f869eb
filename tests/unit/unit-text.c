/* SPDX-License-Identifier: Apache-2.0 */
/* stream/text.c: what may reach a log, and what is made of the rest. */
#include "config.h"

#include "stream/text.h"

#include "tests/unit/unit-stream.h"

static bool printable(const char *text)
{
	return text_printable((const uint8_t *)text, strlen(text));
}

static void ordinary_text_is_printable(void **state)
{
	(void)state;
	assert_true(printable(""));
	assert_true(printable("alpha.example (10.0.0.1) ~"));
	assert_true(printable("\xc2\xa0\xdf\xbf"));	    /* U+00A0, U+07FF */
	assert_true(printable("\xe0\xa0\x80\xef\xbf\xbd")); /* U+0800, U+FFFD */
	assert_true(
		printable("\xed\x9f\xbf\xee\x80\x80")); /* around surrogates */
	assert_true(printable("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
}

static void every_control_character_is_refused(void **state)
{
	(void)state;
	for (int code = 0; code < 0x20; code++) {
		const uint8_t one = (uint8_t)code;

		assert_false(text_printable(&one, 1));
	}
	assert_false(printable("\x7f"));
	for (int code = 0x80; code < 0xa0; code++) {
		const uint8_t two[2] = { 0xc2, (uint8_t)code };

		assert_false(text_printable(two, 2));
	}
}

static void separators_and_direction_marks_are_refused(void **state)
{
	(void)state;
	assert_false(printable("\xe2\x80\x8e"));
	assert_false(printable("\xe2\x80\x8f"));
	for (int code = 0xa8; code <= 0xae; code++) {
		const uint8_t three[3] = { 0xe2, 0x80, (uint8_t)code };

		assert_false(text_printable(three, 3));
	}
	for (int code = 0xa6; code <= 0xa9; code++) {
		const uint8_t three[3] = { 0xe2, 0x81, (uint8_t)code };

		assert_false(text_printable(three, 3));
	}
	assert_true(printable("\xe2\x80\xa7\xe2\x80\xaf"));
	assert_true(printable("\xe2\x81\xa5\xe2\x81\xaa"));
}

static void malformed_utf8_is_refused(void **state)
{
	static const char *const bad[] = {
		"\x80",
		"\xbf",
		"a\xc3",
		"\xc3(",
		"\xc0\xaf",
		"\xc1\xbf",
		"\xe0\x9f\xbf",
		"\xed\xa0\x80",
		"\xed\xbf\xbf",
		"\xe2\x82",
		"\xf0\x8f\xbf\xbf",
		"\xf4\x90\x80\x80",
		"\xf8\x88\x80\x80\x80",
		"\xff",
		"\xf0\x9f\x98",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(printable(bad[i]));
}

static void cleaning_keeps_what_is_printable(void **state)
{
	uint8_t out[16];

	(void)state;
	assert_int_equal(text_clean("a\nb\xff\xc3\xa4", out, sizeof(out)), 6);
	assert_memory_equal(out, "a?b?\xc3\xa4", 6);
	assert_int_equal(text_clean("", out, sizeof(out)), 0);
}

static void cleaning_never_cuts_a_character(void **state)
{
	uint8_t out[4];

	(void)state;
	assert_int_equal(text_clean("abc\xc3\xa4", out, sizeof(out)), 3);
	assert_int_equal(text_clean("ab\xc3\xa4z", out, sizeof(out)), 4);
	assert_int_equal(text_clean("abcdefgh", out, sizeof(out)), 4);
	assert_int_equal(text_clean("a", out, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ordinary_text_is_printable),
		cmocka_unit_test(every_control_character_is_refused),
		cmocka_unit_test(separators_and_direction_marks_are_refused),
		cmocka_unit_test(malformed_utf8_is_refused),
		cmocka_unit_test(cleaning_keeps_what_is_printable),
		cmocka_unit_test(cleaning_never_cuts_a_character),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
