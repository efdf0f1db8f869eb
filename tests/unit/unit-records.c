/* SPDX-License-Identifier: Apache-2.0 */
/* stream/records.c: padding, bounds, and records that are cut short. */
#include "config.h"

#include "stream/records.h"

#include <errno.h>

#include "tests/unit/unit-stream.h"

static void a_record_has_xens_layout(void **state)
{
	const uint8_t expected[16] = { 9,   0,	 0,   0, 3, 0, 0, 0,
				       'a', 'b', 'c', 0, 0, 0, 0, 0 };
	uint8_t bytes[16];
	struct cursor c = cursor_over(bytes, sizeof(bytes));
	uint8_t *body;

	(void)state;
	memset(bytes, 0xff, sizeof(bytes));
	body = record_put(&c, WIRE_RECORD_HVM_CONTEXT, 3);
	assert_ptr_equal(body, bytes + 8);
	memcpy(body, "abc", 3);
	assert_int_equal(cursor_left(&c), 0);
	assert_memory_equal(bytes, expected, sizeof(bytes));
}

static void every_length_comes_back(void **state)
{
	(void)state;
	for (uint32_t length = 0; length <= 33; length++) {
		uint8_t bytes[64];
		struct cursor c = cursor_over(bytes, sizeof(bytes));
		struct record r;
		uint8_t *body;

		body = record_put(&c, WIRE_RECORD_COLOD_ADDRESSES, length);
		assert_non_null(body);
		memset(body, 0x5a, length);
		c = cursor_over(bytes, (size_t)(c.at - bytes));
		assert_int_equal(record_next(&c, &r), 1);
		assert_int_equal(r.type, 0x80000C01);
		assert_int_equal(r.length, length);
		assert_ptr_equal(r.body, body);
		assert_int_equal(record_next(&c, &r), 0);
	}
}

static void a_record_that_does_not_fit_is_not_put(void **state)
{
	const uint32_t lengths[] = { 1, 8, UINT32_MAX - 7, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		uint8_t bytes[15];
		uint8_t before[15];
		struct cursor c = cursor_over(bytes, sizeof(bytes));

		memset(bytes, 0x77, sizeof(bytes));
		memcpy(before, bytes, sizeof(bytes));
		assert_null(
			record_put(&c, WIRE_RECORD_HVM_CONTEXT, lengths[i]));
		assert_true(c.bad);
		assert_memory_equal(bytes, before, sizeof(bytes));
	}
}

static void nothing_is_the_end(void **state)
{
	struct cursor c = cursor_over("", 0);
	struct record r;

	(void)state;
	assert_int_equal(record_next(&c, &r), 0);
	assert_int_equal(record_next(&c, &r), 0);
}

static void truncation_at_every_byte_is_refused(void **state)
{
	uint8_t bytes[24];
	struct cursor c = cursor_over(bytes, sizeof(bytes));
	struct record r;

	(void)state;
	memset(record_put(&c, WIRE_RECORD_HVM_CONTEXT, 13), 1, 13);
	for (size_t len = 1; len < sizeof(bytes); len++) {
		uint8_t *cut = malloc(len);

		assert_non_null(cut);
		memcpy(cut, bytes, len);
		c = cursor_over(cut, len);
		assert_int_equal(record_next(&c, &r), -EPROTO);
		/* And stays refused. */
		assert_int_equal(record_next(&c, &r), -EPROTO);
		free(cut);
	}
}

static void every_byte_of_padding_must_be_zero(void **state)
{
	uint8_t bytes[16];

	(void)state;
	for (int at = 11; at < 16; at++) {
		struct cursor c = cursor_over(bytes, sizeof(bytes));
		struct record r;

		memset(record_put(&c, WIRE_RECORD_HVM_CONTEXT, 3), 1, 3);
		bytes[at] = 1;
		c = cursor_over(bytes, sizeof(bytes));
		assert_int_equal(record_next(&c, &r), -EPROTO);
	}
}

static void a_length_near_the_end_of_its_range_is_refused(void **state)
{
	uint8_t bytes[16] = { 9, 0, 0, 0, 0xff, 0xff, 0xff, 0xff };

	(void)state;
	for (int i = 0; i < 8; i++) {
		struct cursor c = cursor_over(bytes, sizeof(bytes));
		struct record r;

		bytes[4] = (uint8_t)(0xff - i);
		assert_int_equal(record_next(&c, &r), -EPROTO);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record_has_xens_layout),
		cmocka_unit_test(every_length_comes_back),
		cmocka_unit_test(a_record_that_does_not_fit_is_not_put),
		cmocka_unit_test(nothing_is_the_end),
		cmocka_unit_test(truncation_at_every_byte_is_refused),
		cmocka_unit_test(every_byte_of_padding_must_be_zero),
		cmocka_unit_test(a_length_near_the_end_of_its_range_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
