/* SPDX-License-Identifier: Apache-2.0 */
/* stream/frame.c: the header's bytes, and every reason to refuse one. */
#include "config.h"

#include "stream/frame.h"

#include <errno.h>
#include <stdbool.h>

#include "tests/unit/unit-stream.h"

struct type_row {
	uint16_t number;
	const char *name;
	uint32_t limit;
};

static const struct type_row rows[] = {
#define X(number, name, limit) { number, #name, limit },
	WIRE_TYPES(X)
#undef X
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

/* Those that belong to an epoch. */
static bool in_epoch(uint16_t type)
{
	return (type >= WIRE_EPOCH_BEGIN && type <= WIRE_ACK) ||
	       type == WIRE_DISK || type & WIRE_OPTIONAL;
}

/* Encodes a header and decodes it, expecting `sequence`. */
static int round_trip(uint16_t type, uint32_t length, uint64_t sequence,
		      struct frame *f, const char **why)
{
	struct frame_buf *b = frame_buf_new(type, in_epoch(type) ? 7 : 0, 0);
	int err;

	assert_non_null(b);
	b->length = length;
	frame_header_encode(b, 5);
	*why = NULL;
	err = frame_header_decode(b->bytes, sequence, f, why);
	if (err) {
		assert_int_equal(err, -EPROTO);
		assert_non_null(*why);
	}
	b->release(b);
	return err;
}

static void header_has_the_layout_of_the_manual(void **state)
{
	const uint8_t expected[WIRE_HEADER_BYTES] = {
		9, 0, 0, 0, 8, 0, 0, 0, /* ACK, no flags, 8 bytes */
		2, 1, 0, 0, 0, 0, 0, 0, /* epoch 0x102 */
		4, 3, 0, 0, 0, 0, 0, 0, /* sequence 0x304 */
	};
	struct frame_buf *b = frame_buf_new(WIRE_ACK, 0x102, 8);

	(void)state;
	assert_non_null(b);
	b->length = 8;
	frame_header_encode(b, 0x304);
	assert_memory_equal(b->bytes, expected, sizeof(expected));
	b->release(b);
}

static void every_field_comes_back(void **state)
{
	const char *why;
	struct frame f;

	(void)state;
	for (int i = 0; i < ROWS; i++) {
		assert_int_equal(
			round_trip(rows[i].number, rows[i].limit, 5, &f, &why),
			0);
		assert_int_equal(f.type, rows[i].number);
		assert_int_equal(f.length, rows[i].limit);
		assert_int_equal(f.epoch, in_epoch(f.type) ? 7 : 0);
		assert_int_equal(f.sequence, 5);
		assert_null(f.payload);
	}
}

static void lengths_are_bounded_by_type(void **state)
{
	const char *why;
	struct frame f;

	(void)state;
	for (int i = 0; i < ROWS; i++) {
		uint32_t limit = rows[i].limit;

		assert_int_equal(round_trip(rows[i].number, 0, 5, &f, &why), 0);
		if (limit > 1)
			assert_int_equal(round_trip(rows[i].number, limit - 1,
						    5, &f, &why),
					 0);
		assert_int_not_equal(
			round_trip(rows[i].number, limit + 1, 5, &f, &why), 0);
		assert_int_not_equal(
			round_trip(rows[i].number, UINT32_MAX, 5, &f, &why), 0);
	}
}

static void unknown_mandatory_types_are_refused(void **state)
{
	const char *why;
	struct frame f;

	(void)state;
	assert_int_not_equal(round_trip(0, 0, 5, &f, &why), 0);
	assert_int_not_equal(
		round_trip(rows[ROWS - 1].number + 1, 0, 5, &f, &why), 0);
	assert_int_not_equal(round_trip(0x7fff, 0, 5, &f, &why), 0);
}

static void unknown_optional_types_pass_within_the_limit(void **state)
{
	const char *why;
	struct frame f;

	(void)state;
	assert_int_equal(round_trip(0x8000, 0, 5, &f, &why), 0);
	assert_int_equal(round_trip(0xffff, WIRE_PAYLOAD_MAX, 5, &f, &why), 0);
	/* The bit makes another type of it, not a variant of a known one. */
	assert_int_equal(
		round_trip(0x8000 | WIRE_ACK, WIRE_PAYLOAD_MAX, 5, &f, &why),
		0);
	assert_int_not_equal(
		round_trip(0xffff, WIRE_PAYLOAD_MAX + 1, 5, &f, &why), 0);
}

static void a_gap_or_repetition_is_refused(void **state)
{
	const char *why;
	struct frame f;

	(void)state;
	assert_int_not_equal(round_trip(WIRE_ACK, 8, 4, &f, &why), 0);
	assert_int_not_equal(round_trip(WIRE_ACK, 8, 6, &f, &why), 0);
}

static void every_reserved_bit_is_refused(void **state)
{
	struct frame_buf *b = frame_buf_new(WIRE_ACK, 1, 8);
	const char *why;
	struct frame f;

	(void)state;
	assert_non_null(b);
	b->length = 8;
	for (int bit = 0; bit < 16; bit++) {
		frame_header_encode(b, 0);
		b->bytes[2 + bit / 8] |= (uint8_t)(1 << bit % 8);
		assert_int_equal(frame_header_decode(b->bytes, 0, &f, &why),
				 -EPROTO);
	}
	b->release(b);
}

static void a_frame_outside_epochs_has_epoch_0(void **state)
{
	const char *why;
	struct frame f;

	(void)state;
	for (int i = 0; i < ROWS; i++) {
		struct frame_buf *b = frame_buf_new(rows[i].number, 1, 0);

		assert_non_null(b);
		frame_header_encode(b, 0);
		assert_int_equal(frame_header_decode(b->bytes, 0, &f, &why),
				 in_epoch(rows[i].number) ? 0 : -EPROTO);
		b->release(b);
	}
}

/* Of an epoch, or of the synchronisation before the first one. */
static void a_disk_frame_may_have_epoch_0(void **state)
{
	struct frame_buf *b = frame_buf_new(WIRE_DISK, 0, 0);
	const char *why;
	struct frame f;

	(void)state;
	assert_non_null(b);
	frame_header_encode(b, 0);
	assert_int_equal(frame_header_decode(b->bytes, 0, &f, &why), 0);
	assert_int_equal(f.epoch, 0);
	b->release(b);
}

static void a_buffer_has_the_room_asked_for(void **state)
{
	const uint32_t sizes[] = { 0, 1, WIRE_PAYLOAD_MAX - 1,
				   WIRE_PAYLOAD_MAX };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct frame_buf *b = frame_buf_new(WIRE_PAGES, 3, sizes[i]);

		assert_non_null(b);
		assert_int_equal(b->capacity, sizes[i]);
		assert_int_equal(b->length, 0);
		assert_int_equal(b->type, WIRE_PAGES);
		assert_int_equal(b->epoch, 3);
		memset(frame_payload(b), 0xff, sizes[i]);
		b->release(b);
	}
}

static void types_have_names(void **state)
{
	(void)state;
	for (int i = 0; i < ROWS; i++)
		assert_string_equal(frame_type_name(rows[i].number),
				    rows[i].name);
	assert_string_equal(frame_type_name(0), "?");
	assert_string_equal(frame_type_name(0xffff), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_has_the_layout_of_the_manual),
		cmocka_unit_test(every_field_comes_back),
		cmocka_unit_test(lengths_are_bounded_by_type),
		cmocka_unit_test(unknown_mandatory_types_are_refused),
		cmocka_unit_test(unknown_optional_types_pass_within_the_limit),
		cmocka_unit_test(a_gap_or_repetition_is_refused),
		cmocka_unit_test(every_reserved_bit_is_refused),
		cmocka_unit_test(a_frame_outside_epochs_has_epoch_0),
		cmocka_unit_test(a_disk_frame_may_have_epoch_0),
		cmocka_unit_test(a_buffer_has_the_room_asked_for),
		cmocka_unit_test(types_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
