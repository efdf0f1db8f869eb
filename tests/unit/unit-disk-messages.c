/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream/disk_messages.c: each payload both ways, and each at its bounds; and
 * the hash that is in one of them (stream/checksum.c).
 */
#include "config.h"

#include "stream/disk_messages.h"

#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "stream/checksum.h"
#include "tests/unit/unit-stream.h"

static struct disks offer;
static struct disks_taken taken;
static struct disk_blocks blocks;
static struct disk_hashes hashes;

/* One decoder for all messages, by the frame's type. */
static int decode(const struct frame *f, const char **why)
{
	switch (f->type) {
	case WIRE_DISKS:
		return disks_decode(f, &offer, why);
	case WIRE_DISKS_TAKEN:
		return disks_taken_decode(f, &taken, why);
	case WIRE_DISK_MARKS:
	case WIRE_DISK_ASK:
		return disk_blocks_decode(f, &blocks, why);
	default:
		assert_int_equal(f->type, WIRE_DISK_HASHES);
		return disk_hashes_decode(f, &hashes, why);
	}
}

/* As decode(), of the payload cut or grown to `length`. */
static int decode_resized(struct frame_buf *b, size_t length)
{
	AUTO_FREE uint8_t *p = payload_copy(b, length);
	struct frame f = frame_of(b);
	const char *why = NULL;
	int err;

	f.payload = p;
	f.length = (uint32_t)length;
	err = decode(&f, &why);
	assert_true(!err == !why);
	assert_true(!err || err == -EPROTO);
	return err;
}

static int decode_as_is(struct frame_buf *b)
{
	return decode_resized(b, b->length);
}

/* As decode(), with `bytes` bytes at `at` of the payload replaced. */
static int decode_with(struct frame_buf *b, size_t at, uint64_t value,
		       int bytes)
{
	uint8_t was[8];
	int err;

	memcpy(was, frame_payload(b) + at, (size_t)bytes);
	for (int i = 0; i < bytes; i++)
		frame_payload(b)[at + (size_t)i] = (uint8_t)(value >> 8 * i);
	err = decode_as_is(b);
	memcpy(frame_payload(b) + at, was, (size_t)bytes);
	return err;
}

static void expect_one_length(struct frame_buf *b)
{
	for (size_t length = 0; length <= b->length + 17u; length++)
		assert_int_equal(decode_resized(b, length),
				 length == b->length ? 0 : -EPROTO);
}

static struct disks two_disks(void)
{
	return (struct disks){
		.new_base = UINT64_C(0x1122334455667788),
		.seed = 9,
		.count = 2,
		.disk = { { "root", 10 << 20, 7, true },
			  { "data_1.x-y", UINT64_C(1) << 44, 0, false } },
	};
}

static struct frame_buf *sample_disks(void)
{
	const struct disks d = two_disks();
	struct frame_buf *b = disks_encode(&d);

	assert_non_null(b);
	assert_int_equal(b->type, WIRE_DISKS);
	assert_int_equal(b->epoch, 0);
	return b;
}

static struct frame_buf *sample_taken(void)
{
	const struct disks_taken t = { 3, 70000, { true, false, true } };
	struct frame_buf *b = disks_taken_encode(&t);

	assert_non_null(b);
	assert_int_equal(b->type, WIRE_DISKS_TAKEN);
	return b;
}

static struct frame_buf *sample_blocks(enum wire_type type)
{
	const struct disk_blocks k = { .disk = 15,
				       .first = 128,
				       .count = 70,
				       .bits = { 1, UINT64_C(1) << 5 } };
	struct frame_buf *b = disk_blocks_encode(type, &k);

	assert_non_null(b);
	assert_int_equal(b->type, type);
	return b;
}

static struct frame_buf *sample_hashes(unsigned int count)
{
	struct disk_hashes h = { .disk = 2, .first = 64, .count = count };
	struct frame_buf *b;

	fill_noise(h.hash[0], sizeof(h.hash), 3);
	b = disk_hashes_encode(&h);
	assert_non_null(b);
	assert_int_equal(b->type, WIRE_DISK_HASHES);
	return b;
}

static void disks_come_back(void **state)
{
	struct frame_buf *b = sample_disks();
	const struct disks d = two_disks();

	(void)state;
	assert_int_equal(decode_as_is(b), 0);
	assert_int_equal(offer.new_base, d.new_base);
	assert_int_equal(offer.seed, d.seed);
	assert_int_equal(offer.count, 2);
	for (int i = 0; i < 2; i++) {
		assert_string_equal(offer.disk[i].name, d.disk[i].name);
		assert_int_equal(offer.disk[i].size, d.disk[i].size);
		assert_int_equal(offer.disk[i].base, d.disk[i].base);
		assert_int_equal(offer.disk[i].alone, d.disk[i].alone);
	}
	expect_one_length(b);
	b->release(b);
}

static void disks_have_the_layout_of_the_manual(void **state)
{
	const uint8_t expected[] = {
		0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* new_base */
		9,    0,    0,	  0,	0,    0,    0,	  0,	/* seed */
		2,    0,    0,	  0,	0,    0,    0,	  0,	/* count */
		0,    0,    0xa0, 0,	0,    0,    0,	  0,	/* size */
		7,    0,    0,	  0,	0,    0,    0,	  0,	/* base */
		1,    0,    0,	  0,	4,    0,    0,	  0,	/* flags */
		'r',  'o',  'o',  't',
	};
	struct frame_buf *b = sample_disks();

	(void)state;
	assert_int_equal(b->length, sizeof(expected) + 24 + 10);
	assert_memory_equal(frame_payload(b), expected, sizeof(expected));
	b->release(b);
}

static void the_most_disks_fit_a_frame(void **state)
{
	struct disks d = { .new_base = 1, .count = WIRE_DISKS_MAX };
	struct frame_buf *b;
	struct frame f;
	const char *why;

	(void)state;
	for (int i = 0; i < WIRE_DISKS_MAX; i++) {
		memset(d.disk[i].name, 'x', DISK_OFFER_NAME_MAX);
		snprintf(d.disk[i].name, 4, "%03d", i);
		d.disk[i].name[3] = 'x';
		d.disk[i].size = 512;
	}
	b = disks_encode(&d);
	assert_non_null(b);
	assert_int_equal(decode_as_is(b), 0);
	assert_int_equal(strlen(offer.disk[15].name), DISK_OFFER_NAME_MAX);
	frame_header_encode(b, 0);
	assert_int_equal(frame_header_decode(b->bytes, 0, &f, &why), 0);
	b->release(b);
}

static void fields_of_disks_are_bounded(void **state)
{
	struct frame_buf *b = sample_disks();

	(void)state;
	assert_int_equal(decode_with(b, 0, 0, 8), -EPROTO); /* new_base */
	assert_int_equal(decode_with(b, 8, 0, 8), 0);	    /* seed */
	for (uint64_t count = 0; count < 20; count++)
		assert_int_equal(decode_with(b, 16, count, 4),
				 count == 2 ? 0 : -EPROTO);
	assert_int_equal(decode_with(b, 16, UINT32_MAX, 4), -EPROTO);
	assert_int_equal(decode_with(b, 20, 1, 4), -EPROTO);
	assert_int_equal(decode_with(b, 24, 0, 8), -EPROTO); /* size */
	assert_int_equal(decode_with(b, 24, 512, 8), 0);
	assert_int_equal(decode_with(b, 24, 513, 8), -EPROTO);
	assert_int_equal(decode_with(b, 24, (UINT64_C(1) << 44) + 512, 8),
			 -EPROTO);
	assert_int_equal(decode_with(b, 32, UINT64_MAX, 8), 0); /* base */
	assert_int_equal(decode_with(b, 40, 0, 4), 0);		/* flags */
	for (int bit = 1; bit < 32; bit++)
		assert_int_equal(decode_with(b, 40, UINT32_C(1) << bit, 4),
				 -EPROTO);
	for (uint64_t length = 0; length < 100; length++)
		assert_int_equal(decode_with(b, 44, length, 4),
				 length == 4 ? 0 : -EPROTO);
	assert_int_equal(decode_with(b, 44, UINT32_MAX, 4), -EPROTO);
	b->release(b);
}

static int offer_named(const char *name)
{
	struct disks d = { .new_base = 1,
			   .count = 1,
			   .disk = { { .size = 512 } } };
	AUTO_FREE struct frame_buf *b = NULL;

	snprintf(d.disk[0].name, sizeof(d.disk[0].name), "%s", name);
	b = disks_encode(&d);
	assert_non_null(b);
	return decode_as_is(b);
}

static void a_name_leads_to_no_other_folder(void **state)
{
	static const char *const bad[] = { "",	  ".",	      "..",  ".a",
					   "-a",  "a/b",      "/a",  "a b",
					   "a\n", "\xc3\xa4", "a\\", "a%\"",
					   "a:b", "a,b" };
	static const char *const good[] = { "a",   "0",	  "_",	"Z9",
					    "a.b", "a-b", "a.", "_.-" };
	struct frame_buf *b = sample_disks();

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(offer_named(bad[i]), -EPROTO);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(offer_named(good[i]), 0);
	assert_int_equal(decode_with(b, 50, 0, 1), -EPROTO); /* a NUL */
	b->release(b);
}

static void a_name_of_more_than_fits_is_refused(void **state)
{
	struct disks d = { .new_base = 1,
			   .count = 1,
			   .disk = { { .size = 512 } } };
	struct frame_buf *b;
	struct frame_buf *longer;

	(void)state;
	memset(d.disk[0].name, 'n', DISK_OFFER_NAME_MAX);
	b = disks_encode(&d);
	longer = frame_buf_new(WIRE_DISKS, 0, b->length + 1);
	assert_non_null(longer);
	longer->length = b->length + 1;
	memcpy(frame_payload(longer), frame_payload(b), b->length);
	frame_payload(longer)[b->length] = 'n';
	assert_int_equal(decode_as_is(b), 0);
	assert_int_equal(decode_with(longer, 44, DISK_OFFER_NAME_MAX + 1, 4),
			 -EPROTO);
	b->release(b);
	longer->release(longer);
}

static void no_disk_comes_twice(void **state)
{
	struct disks d = two_disks();
	struct frame_buf *b;

	(void)state;
	d.disk[1] = d.disk[0];
	b = disks_encode(&d);
	assert_int_equal(decode_as_is(b), -EPROTO);
	b->release(b);
}

static void taken_disks_come_back(void **state)
{
	struct frame_buf *b = sample_taken();

	(void)state;
	assert_int_equal(decode_as_is(b), 0);
	assert_int_equal(taken.count, 3);
	assert_int_equal(taken.marks, 70000);
	assert_true(taken.same_base[0]);
	assert_false(taken.same_base[1]);
	assert_true(taken.same_base[2]);
	expect_one_length(b);
	for (uint64_t flags = 0; flags < 16; flags++)
		assert_int_equal(decode_with(b, 12, flags, 4),
				 flags < 2 ? 0 : -EPROTO);
	assert_int_equal(decode_with(b, 0, UINT32_C(0x40000003), 4), -EPROTO);
	b->release(b);
}

static void the_number_of_taken_disks_is_bounded(void **state)
{
	(void)state;
	for (unsigned int count = 0; count < 20; count++) {
		AUTO_FREE struct frame_buf *b =
			frame_buf_new(WIRE_DISKS_TAKEN, 0, 8 + 4 * count);

		assert_non_null(b);
		b->length = 8 + 4 * count;
		memset(frame_payload(b), 0, b->length);
		frame_payload(b)[0] = (uint8_t)count;
		assert_int_equal(decode_as_is(b),
				 count >= 1 && count <= 16 ? 0 : -EPROTO);
	}
}

static void blocks_come_back(void **state)
{
	const enum wire_type types[] = { WIRE_DISK_MARKS, WIRE_DISK_ASK };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct frame_buf *b = sample_blocks(types[i]);

		memset(&blocks, 0xff, sizeof(blocks));
		assert_int_equal(decode_as_is(b), 0);
		assert_int_equal(blocks.disk, 15);
		assert_int_equal(blocks.first, 128);
		assert_int_equal(blocks.count, 70);
		assert_int_equal(blocks.bits[0], 1);
		assert_int_equal(blocks.bits[1], 1 << 5);
		for (int w = 2; w < WIRE_DISK_BLOCKS_MAX / 64; w++)
			assert_int_equal(blocks.bits[w], 0);
		assert_int_equal(b->length, 16 + 2 * 8);
		expect_one_length(b);
		b->release(b);
	}
}

static void fields_of_blocks_are_bounded(void **state)
{
	struct frame_buf *b = sample_blocks(WIRE_DISK_ASK);

	(void)state;
	assert_int_equal(decode_with(b, 0, 16, 4), -EPROTO);
	assert_int_equal(decode_with(b, 0, UINT32_MAX, 4), -EPROTO);
	/* Of two words, and bit 69 is the last that is set. */
	for (uint64_t count = 0; count < 200; count++)
		assert_int_equal(decode_with(b, 4, count, 4),
				 count >= 70 && count <= 128 ? 0 : -EPROTO);
	assert_int_equal(decode_with(b, 8, 0, 8), 0);
	assert_int_equal(decode_with(b, 8, 1, 8), -EPROTO);
	assert_int_equal(decode_with(b, 8, 32, 8), -EPROTO);
	/* The last block that a disk can have. */
	assert_int_equal(decode_with(b, 8, (1 << 28) - 128, 8), 0);
	assert_int_equal(decode_with(b, 8, (1 << 28) - 64, 8), -EPROTO);
	assert_int_equal(decode_with(b, 8, UINT64_MAX - 63, 8), -EPROTO);
	b->release(b);
}

static void a_frame_about_no_block_is_refused(void **state)
{
	struct frame_buf *b = sample_blocks(WIRE_DISK_MARKS);

	(void)state;
	assert_int_equal(decode_with(b, 16, 0, 8), 0);
	memset(frame_payload(b) + 16, 0, 16);
	assert_int_equal(decode_as_is(b), -EPROTO);
	b->release(b);
}

static void the_most_blocks_fit_a_frame(void **state)
{
	struct disk_blocks k = { .count = WIRE_DISK_BLOCKS_MAX };
	struct frame_buf *b;
	struct frame f;
	const char *why;

	(void)state;
	memset(k.bits, 0xff, sizeof(k.bits));
	b = disk_blocks_encode(WIRE_DISK_ASK, &k);
	assert_non_null(b);
	assert_int_equal(decode_as_is(b), 0);
	assert_memory_equal(blocks.bits, k.bits, sizeof(k.bits));
	frame_header_encode(b, 0);
	assert_int_equal(frame_header_decode(b->bytes, 0, &f, &why), 0);
	assert_int_equal(decode_with(b, 4, WIRE_DISK_BLOCKS_MAX + 1, 4),
			 -EPROTO);
	b->release(b);
}

static void hashes_come_back(void **state)
{
	struct frame_buf *b = sample_hashes(3);
	uint8_t expected[3 * WIRE_DISK_HASH_BYTES];

	(void)state;
	fill_noise(expected, sizeof(expected), 3);
	assert_int_equal(decode_as_is(b), 0);
	assert_int_equal(hashes.disk, 2);
	assert_int_equal(hashes.first, 64);
	assert_int_equal(hashes.count, 3);
	assert_memory_equal(hashes.hash, expected, sizeof(expected));
	expect_one_length(b);
	assert_int_equal(decode_with(b, 0, 16, 4), -EPROTO);
	for (uint64_t count = 0; count < 10; count++)
		assert_int_equal(decode_with(b, 4, count, 4),
				 count == 3 ? 0 : -EPROTO);
	/* As many bytes in 32 bits. */
	assert_int_equal(decode_with(b, 4, UINT32_C(0x10000003), 4), -EPROTO);
	assert_int_equal(decode_with(b, 8, 65, 8), -EPROTO);
	assert_int_equal(decode_with(b, 8, 1 << 28, 8), -EPROTO);
	b->release(b);
}

static void the_most_hashes_fit_a_frame(void **state)
{
	struct frame_buf *b = sample_hashes(WIRE_DISK_BLOCKS_MAX);
	struct frame f;
	const char *why;

	(void)state;
	assert_int_equal(decode_as_is(b), 0);
	assert_int_equal(hashes.count, WIRE_DISK_BLOCKS_MAX);
	frame_header_encode(b, 0);
	assert_int_equal(frame_header_decode(b->bytes, 0, &f, &why), 0);
	b->release(b);
}

/* Of xxhsum -H128, which writes the high half first. */
static void a_wide_hash_is_xxh3_of_128_bits(void **state)
{
	static const uint8_t empty[] = { 0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47,
					 0x98, 0xd8, 0x60, 0x01, 0xc3, 0x24,
					 0x46, 0x8d, 0x49, 0x7f };
	uint8_t one[16], other[16], block[1000];

	(void)state;
	checksum_wide("", 0, 0, one);
	for (int i = 0; i < 16; i++)
		assert_int_equal(one[i], empty[15 - i]);

	fill_noise(block, sizeof(block), 4);
	checksum_wide(block, sizeof(block), 7, one);
	checksum_wide(block, sizeof(block), 7, other);
	assert_memory_equal(one, other, 16);
	checksum_wide(block, sizeof(block), 8, other);
	assert_memory_not_equal(one, other, 16);
	block[999] ^= 1;
	checksum_wide(block, sizeof(block), 7, other);
	assert_memory_not_equal(one, other, 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(disks_come_back),
		cmocka_unit_test(disks_have_the_layout_of_the_manual),
		cmocka_unit_test(the_most_disks_fit_a_frame),
		cmocka_unit_test(fields_of_disks_are_bounded),
		cmocka_unit_test(a_name_leads_to_no_other_folder),
		cmocka_unit_test(a_name_of_more_than_fits_is_refused),
		cmocka_unit_test(no_disk_comes_twice),
		cmocka_unit_test(taken_disks_come_back),
		cmocka_unit_test(the_number_of_taken_disks_is_bounded),
		cmocka_unit_test(blocks_come_back),
		cmocka_unit_test(fields_of_blocks_are_bounded),
		cmocka_unit_test(a_frame_about_no_block_is_refused),
		cmocka_unit_test(the_most_blocks_fit_a_frame),
		cmocka_unit_test(hashes_come_back),
		cmocka_unit_test(the_most_hashes_fit_a_frame),
		cmocka_unit_test(a_wide_hash_is_xxh3_of_128_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
