/* SPDX-License-Identifier: Apache-2.0 */
/* stream/changes.c: each kind both ways, and every reason to refuse one. */
#include "config.h"

#include "stream/changes.h"

#include <errno.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "tests/unit/unit-stream.h"

enum { KIB = 1024 };

/* 1 MiB, one that ends within a block, and one beyond 32 bits. */
static const uint64_t sizes[] = { 1024 * KIB, 96 * KIB + 512,
				  UINT64_C(1) << 44 };
static const struct change_bounds bounds = { sizes, 3 };

static uint8_t data[CHANGE_DATA_MAX];

static struct change sample(enum wire_change_kind kind)
{
	return (struct change){ .disk = 1,
				.kind = kind,
				.offset = 4096,
				.length = 1000,
				.data = kind == CHANGE_WRITE ? data : NULL };
}

/* Takes it from memory of just so many bytes. */
static int take(const uint8_t *bytes, size_t length, struct change *c)
{
	AUTO_FREE uint8_t *copy = malloc(length ? length : 1);
	const uint8_t *at = copy;
	const char *why = NULL;
	size_t left = length;
	int err;

	assert_non_null(copy);
	memcpy(copy, bytes, length);
	err = change_take(&at, &left, &bounds, c, &why);
	if (err) {
		assert_int_equal(err, -EPROTO);
		assert_non_null(why);
		assert_ptr_equal(at, copy);
		assert_int_equal(left, length);
	}
	return err;
}

static int put_and_take(const struct change *c)
{
	AUTO_FREE uint8_t *out = malloc(change_bytes(c));
	struct change got;

	assert_non_null(out);
	assert_int_equal(change_put(c, out, change_bytes(c)), change_bytes(c));
	return take(out, change_bytes(c), &got);
}

static void a_change_has_the_layout_of_the_manual(void **state)
{
	const uint8_t expected[] = {
		3,   0,	  1,   0,   4, 0, 0, 0, /* disk, WRITE, 4 bytes */
		8,   7,	  6,   5,   4, 3, 2, 1, /* offset */
		'd', 'a', 't', 'a',
	};
	const struct change c = { .disk = 3,
				  .kind = CHANGE_WRITE,
				  .offset = UINT64_C(0x0102030405060708),
				  .length = 4,
				  .data = (const uint8_t *)"data" };
	uint8_t out[sizeof(expected)];

	(void)state;
	assert_int_equal(change_put(&c, out, sizeof(out)), sizeof(out));
	assert_memory_equal(out, expected, sizeof(expected));
}

static void changes_come_back_in_order(void **state)
{
	AUTO_FREE uint8_t *raw = malloc(3 * CHANGE_BYTES_MAX);
	const uint8_t *at = raw;
	const char *why;
	struct change c;
	size_t left = 0;

	(void)state;
	assert_non_null(raw);
	fill_noise(data, sizeof(data), 1);
	for (int kind = CHANGE_WRITE; kind <= CHANGE_TRIM; kind++) {
		c = sample((enum wire_change_kind)kind);
		left += change_put(&c, raw + left, CHANGE_BYTES_MAX);
	}
	assert_int_equal(left, 3 * CHANGE_HEADER_BYTES + 1000);

	for (int kind = CHANGE_WRITE; kind <= CHANGE_TRIM; kind++) {
		assert_int_equal(change_take(&at, &left, &bounds, &c, &why), 0);
		assert_int_equal(c.disk, 1);
		assert_int_equal(c.kind, kind);
		assert_int_equal(c.offset, 4096);
		assert_int_equal(c.length, 1000);
		if (kind == CHANGE_WRITE)
			assert_memory_equal(c.data, data, 1000);
		else
			assert_null(c.data);
	}
	assert_int_equal(left, 0);
	assert_int_equal(change_take(&at, &left, &bounds, &c, &why), -EPROTO);
}

static void data_is_not_copied(void **state)
{
	uint8_t raw[CHANGE_HEADER_BYTES + 1000];
	const struct change c = sample(CHANGE_WRITE);
	const uint8_t *at = raw;
	size_t left = sizeof(raw);
	struct change got;
	const char *why;

	(void)state;
	assert_int_equal(change_put(&c, raw, sizeof(raw)), sizeof(raw));
	assert_int_equal(change_take(&at, &left, &bounds, &got, &why), 0);
	assert_ptr_equal(got.data, raw + CHANGE_HEADER_BYTES);
	assert_ptr_equal(at, raw + sizeof(raw));
}

static void only_what_is_written_has_data(void **state)
{
	struct change c = sample(CHANGE_WRITE);

	(void)state;
	assert_int_equal(change_bytes(&c), CHANGE_HEADER_BYTES + 1000);
	c.kind = CHANGE_ZERO;
	assert_int_equal(change_bytes(&c), CHANGE_HEADER_BYTES);
	c.kind = CHANGE_TRIM;
	assert_int_equal(change_bytes(&c), CHANGE_HEADER_BYTES);
}

static void without_room_nothing_is_put(void **state)
{
	uint8_t out[CHANGE_HEADER_BYTES + 1000] = { 0 };
	const uint8_t untouched[sizeof(out)] = { 0 };
	struct change c = sample(CHANGE_WRITE);

	(void)state;
	fill_noise(data, sizeof(data), 2);
	assert_int_equal(change_put(&c, out, 0), 0);
	assert_int_equal(change_put(&c, out, CHANGE_HEADER_BYTES), 0);
	assert_int_equal(change_put(&c, out, sizeof(out) - 1), 0);
	c.kind = CHANGE_ZERO;
	assert_int_equal(change_put(&c, out, CHANGE_HEADER_BYTES - 1), 0);
	assert_memory_equal(out, untouched, sizeof(out));
}

static void a_cut_change_is_refused(void **state)
{
	uint8_t raw[CHANGE_HEADER_BYTES + 1000];
	struct change c = sample(CHANGE_WRITE), got;

	(void)state;
	assert_int_equal(change_put(&c, raw, sizeof(raw)), sizeof(raw));
	for (size_t length = 0; length < sizeof(raw); length++)
		assert_int_equal(take(raw, length, &got), -EPROTO);
	assert_int_equal(take(raw, sizeof(raw), &got), 0);

	c.kind = CHANGE_TRIM;
	assert_int_equal(change_put(&c, raw, sizeof(raw)), CHANGE_HEADER_BYTES);
	for (size_t length = 0; length < CHANGE_HEADER_BYTES; length++)
		assert_int_equal(take(raw, length, &got), -EPROTO);
	assert_int_equal(take(raw, CHANGE_HEADER_BYTES, &got), 0);
}

static void only_disks_that_there_are_are_changed(void **state)
{
	struct change c = sample(CHANGE_ZERO);

	(void)state;
	c.disk = 2;
	assert_int_equal(put_and_take(&c), 0);
	c.disk = 3;
	assert_int_equal(put_and_take(&c), -EPROTO);
	c.disk = UINT16_MAX;
	assert_int_equal(put_and_take(&c), -EPROTO);
}

static void only_known_kinds_are_taken(void **state)
{
	struct change c = sample(CHANGE_TRIM), got;
	uint8_t raw[CHANGE_HEADER_BYTES];

	(void)state;
	assert_int_equal(change_put(&c, raw, sizeof(raw)), sizeof(raw));
	for (unsigned int kind = 0; kind <= UINT16_MAX; kind++) {
		bool good = kind == CHANGE_ZERO || kind == CHANGE_TRIM;

		raw[2] = (uint8_t)kind;
		raw[3] = (uint8_t)(kind >> 8);
		assert_int_equal(take(raw, sizeof(raw), &got),
				 good ? 0 : -EPROTO);
	}
}

/* Where a change may lie, of each kind and each disk. */
static void nothing_is_changed_past_the_end(void **state)
{
	(void)state;
	for (int kind = CHANGE_WRITE; kind <= CHANGE_TRIM; kind++) {
		struct change c = sample((enum wire_change_kind)kind);

		for (c.disk = 0; c.disk < 3; c.disk++) {
			uint64_t size = sizes[c.disk];

			c.length = 1;
			c.offset = size - 1;
			assert_int_equal(put_and_take(&c), 0);
			c.offset = size;
			assert_int_equal(put_and_take(&c), -EPROTO);
			c.offset = UINT64_MAX;
			assert_int_equal(put_and_take(&c), -EPROTO);
			c.length = 4096;
			c.offset = size - 4096;
			assert_int_equal(put_and_take(&c), 0);
			c.offset = size - 4095;
			assert_int_equal(put_and_take(&c), -EPROTO);
			/* Their sum is 4095 in 64 bits. */
			c.offset = UINT64_MAX;
			assert_int_equal(put_and_take(&c), -EPROTO);
			c.length = 0;
			c.offset = 0;
			assert_int_equal(put_and_take(&c), -EPROTO);
		}
	}
}

static void data_is_bounded_and_the_rest_is_not(void **state)
{
	struct change c = { .disk = 2, .kind = CHANGE_WRITE, .data = data };
	AUTO_FREE uint8_t *raw = calloc(1, CHANGE_BYTES_MAX + 1);
	struct change got;

	(void)state;
	assert_non_null(raw);
	c.length = CHANGE_DATA_MAX;
	assert_int_equal(put_and_take(&c), 0);
	assert_int_equal(change_put(&c, raw, CHANGE_BYTES_MAX),
			 CHANGE_BYTES_MAX);
	raw[4]++; /* of its length */
	assert_int_equal(take(raw, CHANGE_BYTES_MAX + 1, &got), -EPROTO);

	c.kind = CHANGE_ZERO;
	c.length = UINT32_MAX;
	assert_int_equal(put_and_take(&c), 0);
	c.kind = CHANGE_TRIM;
	assert_int_equal(put_and_take(&c), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_change_has_the_layout_of_the_manual),
		cmocka_unit_test(changes_come_back_in_order),
		cmocka_unit_test(data_is_not_copied),
		cmocka_unit_test(only_what_is_written_has_data),
		cmocka_unit_test(without_room_nothing_is_put),
		cmocka_unit_test(a_cut_change_is_refused),
		cmocka_unit_test(only_disks_that_there_are_are_changed),
		cmocka_unit_test(only_known_kinds_are_taken),
		cmocka_unit_test(nothing_is_changed_past_the_end),
		cmocka_unit_test(data_is_bounded_and_the_rest_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
