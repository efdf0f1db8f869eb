/* SPDX-License-Identifier: Apache-2.0 */
/* base/cursor.h: bounds, byte order, and that the first error sticks. */
#include "config.h"

#include "base/cursor.h"

#include "tests/unit/unit-stream.h"

static void integers_are_little_endian(void **state)
{
	const uint8_t expected[14] = {
		0x02, 0x01, 0x06, 0x05, 0x04, 0x03, 0x0e,
		0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08, 0x07
	};
	uint8_t bytes[14];
	struct cursor c = cursor_over(bytes, sizeof(bytes));

	(void)state;
	cursor_put_u16(&c, 0x0102);
	cursor_put_u32(&c, 0x03040506);
	cursor_put_u64(&c, UINT64_C(0x0708090a0b0c0d0e));
	assert_false(c.bad);
	assert_int_equal(cursor_left(&c), 0);
	assert_memory_equal(bytes, expected, sizeof(bytes));

	c = cursor_over(bytes, sizeof(bytes));
	assert_int_equal(cursor_get_u16(&c), 0x0102);
	assert_int_equal(cursor_get_u32(&c), 0x03040506);
	assert_int_equal(cursor_get_u64(&c), UINT64_C(0x0708090a0b0c0d0e));
	assert_false(c.bad);
}

static void take_ends_at_the_end(void **state)
{
	const uint8_t bytes[4] = { 1, 2, 3, 4 };
	struct cursor c = cursor_over(bytes, sizeof(bytes));

	(void)state;
	assert_ptr_equal(cursor_take(&c, 0), bytes);
	assert_ptr_equal(cursor_take(&c, 3), bytes);
	assert_ptr_equal(cursor_take(&c, 1), bytes + 3);
	assert_ptr_equal(cursor_take(&c, 0), bytes + 4);
	assert_false(c.bad);
	assert_null(cursor_take(&c, 1));
	assert_true(c.bad);
}

static void enormous_lengths_do_not_wrap(void **state)
{
	const uint8_t bytes[4] = { 0 };
	struct cursor c = cursor_over(bytes, sizeof(bytes));

	(void)state;
	assert_null(cursor_take(&c, SIZE_MAX));
	assert_true(c.bad);
}

static void reads_after_an_error_give_zero(void **state)
{
	const uint8_t bytes[4] = { 1, 1, 1, 1 };
	struct cursor c = cursor_over(bytes, sizeof(bytes));
	uint8_t out[2] = { 9, 9 };

	(void)state;
	assert_int_equal(cursor_get_u64(&c), 0);
	assert_true(c.bad);
	assert_int_equal(cursor_get_u16(&c), 0);
	assert_null(cursor_take(&c, 0));
	cursor_get_bytes(&c, out, sizeof(out));
	assert_int_equal(out[0] | out[1], 0);
	assert_int_equal(cursor_left(&c), 4);
}

static void writes_after_an_error_do_nothing(void **state)
{
	uint8_t bytes[5] = { 0, 0, 0, 7, 7 };
	const uint8_t expected[5] = { 0, 0, 0, 7, 7 };
	struct cursor c = cursor_over(bytes, 3);

	(void)state;
	cursor_put_u32(&c, UINT32_MAX);
	assert_true(c.bad);
	cursor_put_u16(&c, UINT16_MAX);
	cursor_put_bytes(&c, "ab", 2);
	assert_memory_equal(bytes, expected, sizeof(bytes));
}

static void bytes_are_copied_both_ways(void **state)
{
	uint8_t bytes[3];
	uint8_t out[3];
	struct cursor c = cursor_over(bytes, sizeof(bytes));

	(void)state;
	cursor_put_bytes(&c, "", 0);
	cursor_put_bytes(&c, "abc", 3);
	assert_false(c.bad);
	c = cursor_over(bytes, sizeof(bytes));
	cursor_get_bytes(&c, out, 3);
	assert_memory_equal(out, "abc", 3);
	assert_int_equal(cursor_left(&c), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers_are_little_endian),
		cmocka_unit_test(take_ends_at_the_end),
		cmocka_unit_test(enormous_lengths_do_not_wrap),
		cmocka_unit_test(reads_after_an_error_give_zero),
		cmocka_unit_test(writes_after_an_error_do_nothing),
		cmocka_unit_test(bytes_are_copied_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
