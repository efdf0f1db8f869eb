/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of an intake, and the frames of a primary that has them. */
#ifndef TESTS_UNIT_INTAKE_DISKS_FIXTURE_H
#define TESTS_UNIT_INTAKE_DISKS_FIXTURE_H

#include "engine/intake_disks.h"
#include "stream/body.h"
#include "stream/checksum.h"
#include "stream/pieces.h"
#include "tests/unit/disk-replica-fixture.h"
#include "tests/unit/unit-stream.h"

static struct intake_disks *in;
static struct frame_buf *answer;
static struct body_encoder *encoder;
/* Of the DISK payloads of epoch 0, as the primary counts them. */
static struct checksum *sum;
static uint64_t sum_bytes;

static inline void drop_answer(void)
{
	while (answer) {
		struct frame_buf *b = answer;

		answer = b->next;
		b->release(b);
	}
}

static inline int open_intake(void **state)
{
	const struct intake_disks_config cfg = { dir, "vm", JOURNAL_BYTES };

	setup(state);
	encoder = body_encoder_new(1);
	sum = checksum_new();
	sum_bytes = 0;
	why = NULL;
	return !encoder || !sum || intake_disks_new(&cfg, &in);
}

static inline int close_intake(void **state)
{
	drop_answer();
	intake_disks_free(in);
	in = NULL;
	body_encoder_free(encoder);
	checksum_free(sum);
	return teardown(state);
}

/* --- frames --------------------------------------------------------------- */

/* Takes over `b`. */
static inline int give(struct frame_buf *b)
{
	struct frame f = frame_of(b);
	int err;

	drop_answer();
	err = intake_disks_frame(in, &f, &answer, &why);
	b->release(b);
	return err;
}

static inline int offer(uint64_t base)
{
	const struct disks d = offer_of(base);

	return give(disks_encode(&d));
}

static inline int ask_for(unsigned int disk, uint64_t first)
{
	const struct disk_blocks ask = {
		.disk = disk,
		.first = first,
		.count = 1,
		.bits = { 1 },
	};

	return give(disk_blocks_encode(WIRE_DISK_ASK, &ask));
}

static inline struct frame_buf *disk_frame(uint64_t epoch, const uint8_t *raw,
					   size_t length)
{
	struct frame_buf *b = frame_buf_new(WIRE_DISK, epoch, WIRE_PAYLOAD_MAX);

	b->length =
		(uint32_t)piece_encode(encoder, raw, length, frame_payload(b));
	return b;
}

static inline void count(struct frame_buf *b)
{
	checksum_add(sum, frame_payload(b), b->length);
	sum_bytes += b->length;
}

/* One part of what the fixture has as epoch `as_of`, in a frame of `epoch`. */
static inline struct frame_buf *part_of(uint64_t epoch, uint64_t as_of,
					unsigned int part)
{
	uint8_t raw[8 * WRITE_BYTES];
	size_t n = 0;

	for (unsigned int i = 0; i < DISKS; i++)
		n += add_write(raw + n, sizeof(raw) - n, i,
			       cell_of(as_of, part) * WRITE_BYTES, as_of);
	return disk_frame(epoch, raw, n);
}

/* The disks of the image: two frames, which make them as of epoch 1. */
static inline void send_image(void)
{
	for (unsigned int part = 0; part < 2; part++) {
		struct frame_buf *b = part_of(0, 1, part);

		count(b);
		assert_int_equal(give(b), 0);
		assert_null(answer);
	}
}

static inline struct wire_image_end right_end(void)
{
	return (struct wire_image_end){
		.bytes = 1, /* these two are not the disks' */
		.checksum = 2,
		.disk_bytes = sum_bytes,
		.disk_checksum = sum_bytes ? checksum_value(sum) : 0,
	};
}

static inline int end_image(void)
{
	const struct wire_image_end e = right_end();

	return intake_disks_imaged(in, &e, &why);
}

static inline void make_whole(void)
{
	assert_int_equal(offer(0), 0);
	send_image();
	assert_int_equal(end_image(), 0);
}

static inline int promote(uint64_t epoch)
{
	why_not.text[0] = '\0';
	return intake_disks_promote(in, epoch, &why_not);
}

#undef TEST
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_intake, close_intake)

#endif
