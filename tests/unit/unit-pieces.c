/* SPDX-License-Identifier: Apache-2.0 */
/* stream/pieces.c: every length both ways, and hostile payloads. */
#include "config.h"

#include "stream/pieces.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tests/unit/unit-stream.h"

enum { HEADER = sizeof(struct wire_image) };

static uint8_t bytes[WIRE_PIECE_MAX];
static uint8_t payload[WIRE_PAYLOAD_MAX];
static uint8_t got[WIRE_PIECE_MAX];
static struct body_decoder *decoder;

static size_t encode(size_t length, int level)
{
	struct body_encoder *e = body_encoder_new(level);
	size_t n;

	assert_non_null(e);
	n = piece_encode(e, bytes, length, payload);
	body_encoder_free(e);
	return n;
}

/* In memory of just this size, so that a sanitizer sees what reads beyond. */
static int decode(size_t length)
{
	AUTO_FREE uint8_t *exact = malloc(length ? length : 1);

	assert_non_null(exact);
	memcpy(exact, payload, length);
	return piece_decode(decoder, exact, length, got);
}

static void set_u32(size_t at, uint32_t value)
{
	value = htole32(value);
	memcpy(payload + at, &value, sizeof(value));
}

static int setup(void **state)
{
	(void)state;
	decoder = body_decoder_new();
	return decoder ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	body_decoder_free(decoder);
	return 0;
}

static void every_length_comes_back(void **state)
{
	static const size_t lengths[] = { 1,	2,     3,      4095,
					  4096, 65537, 200000, WIRE_PIECE_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		for (int level = 0; level < 2; level++) {
			size_t n = lengths[i], length;

			memset(bytes, 0, n / 2);
			fill_noise(bytes + n / 2, n - n / 2, i + 1);
			length = encode(n, level);
			assert_true(length <= HEADER + n);
			memset(got, 0xa5, n);
			assert_int_equal(decode(length), n);
			assert_memory_equal(got, bytes, n);
		}
	}
}

static void zeroes_become_small(void **state)
{
	(void)state;
	memset(bytes, 0, sizeof(bytes));
	assert_true(encode(WIRE_PIECE_MAX, 1) < 200);
	assert_int_equal(encode(WIRE_PIECE_MAX, 0), WIRE_PAYLOAD_MAX);
}

static void noise_takes_its_length_and_a_header(void **state)
{
	(void)state;
	fill_noise(bytes, sizeof(bytes), 7);
	assert_int_equal(encode(WIRE_PIECE_MAX, 1), WIRE_PAYLOAD_MAX);
	assert_int_equal(encode(1000, 19), HEADER + 1000);
}

static void truncation_at_every_byte_is_refused(void **state)
{
	(void)state;
	for (int level = 0; level < 2; level++) {
		size_t n;

		memset(bytes, 1, 3000);
		n = encode(3000, level);
		for (size_t cut = 0; cut < n; cut++)
			assert_int_equal(decode(cut), -EPROTO);
		assert_int_equal(decode(n), 3000);
		assert_int_equal(decode(n + 1), -EPROTO);
	}
}

static void no_length_but_the_right_one_is_taken(void **state)
{
	static const uint32_t wrong[] = {
		0, 2999, 3001, 4096, UINT32_MAX, WIRE_PIECE_MAX + 1
	};

	(void)state;
	for (int level = 0; level < 2; level++) {
		size_t n;

		memset(bytes, 1, 3000);
		n = encode(3000, level);
		for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
			set_u32(0, wrong[i]);
			assert_int_equal(decode(n), -EPROTO);
		}
	}
}

/* It says so itself, and is well-formed: a byte more than there is room for. */
static void a_piece_that_is_too_long_is_refused(void **state)
{
	static uint8_t zeroes[WIRE_PIECE_MAX + 1];
	struct body_encoder *e = body_encoder_new(1);
	size_t n;

	(void)state;
	assert_non_null(e);
	n = body_encode(e, zeroes, sizeof(zeroes), payload + HEADER);
	body_encoder_free(e);
	assert_true(n > 0);
	set_u32(0, WIRE_PIECE_MAX + 1);
	set_u32(4, WIRE_ENCODING_ZSTD);
	assert_int_equal(decode(HEADER + n), -EPROTO);
}

static void unknown_encodings_are_refused(void **state)
{
	size_t n;

	(void)state;
	memset(bytes, 1, 3000);
	n = encode(3000, 0);
	set_u32(4, WIRE_ENCODING_ZSTD);
	assert_int_equal(decode(n), -EPROTO);
	set_u32(4, WIRE_ENCODING_ZSTD + 1);
	assert_int_equal(decode(n), -EPROTO);
	set_u32(4, UINT32_MAX);
	assert_int_equal(decode(n), -EPROTO);
	set_u32(4, WIRE_ENCODING_RAW);
	assert_int_equal(decode(n), 3000);
}

static void no_corrupted_byte_does_harm(void **state)
{
	size_t n;

	(void)state;
	for (size_t i = 0; i < 3000; i++)
		bytes[i] = (uint8_t)(i * i >> 16 ^ i % 5);
	n = encode(3000, 1);
	assert_true(n < 3000);
	for (size_t i = 0; i < n; i++) {
		for (int bit = 0; bit < 8; bit++) {
			int r;

			payload[i] ^= (uint8_t)(1 << bit);
			r = decode(n);
			assert_true(r == -EPROTO || r == 3000);
			payload[i] ^= (uint8_t)(1 << bit);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_length_comes_back),
		cmocka_unit_test(zeroes_become_small),
		cmocka_unit_test(noise_takes_its_length_and_a_header),
		cmocka_unit_test(truncation_at_every_byte_is_refused),
		cmocka_unit_test(no_length_but_the_right_one_is_taken),
		cmocka_unit_test(a_piece_that_is_too_long_is_refused),
		cmocka_unit_test(unknown_encodings_are_refused),
		cmocka_unit_test(no_corrupted_byte_does_harm),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
