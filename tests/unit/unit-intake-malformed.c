/* SPDX-License-Identifier: Apache-2.0 */
/* engine/intake.c: frames that a peer must not send end its connection. */
#include "config.h"

#include "tests/unit/intake-fixture.h"

/* One error, and nothing behind it, however well-formed. */
static void expect_error(struct rig *r, int err, uint64_t epoch,
			 const char *why)
{
	unsigned int before = r->stored_count;

	put_epoch(r, 8, 10);
	put_epoch(r, 9, 10);
	r->wanted = before + 1;
	loop_until(r->loop, enough, r);
	loop_for(r->loop, 20 * 1000);
	assert_int_equal(r->error_count, 1);
	assert_int_equal(r->stored_count, before);
	assert_int_equal(r->err, err);
	assert_int_equal(r->err_epoch, epoch);
	if (why)
		assert_string_equal(r->why, why);
	assert_true(r->why[0]);
	assert_null(strchr(r->why, '\n'));
}

static void put_one(struct rig *r, uint16_t type, uint64_t epoch)
{
	const struct frame f = { .type = type, .epoch = epoch };

	assert_int_equal(intake_put(r->intake, &f), 0);
}

static void test_wrong_checksum(void **state)
{
	struct rig *r = *state;

	encode(r, 1, 10);
	frame_payload(r->frames[r->frame_count - 1])[16] ^= 1;
	put_all(r);
	expect_error(r, -EBADMSG, 1, NULL);
}

static void test_changed_page(void **state)
{
	struct rig *r = *state;

	encode(r, 1, 10);
	assert_int_equal(r->frames[1]->type, WIRE_PAGES);
	frame_payload(r->frames[1])[r->frames[1]->length - 1] ^= 1;
	put_all(r);
	expect_error(r, -EBADMSG, 1, NULL);
}

static void test_missing_frame(void **state)
{
	struct rig *r = *state;
	size_t i;

	encode(r, 1, 200);
	for (i = 0; i < r->frame_count; i++)
		if (i != 2)
			put(r, r->frames[i]);
	expect_error(r, -EBADMSG, 1, NULL);
}

static void test_after_good_ones(void **state)
{
	struct rig *r = *state;

	put_epoch(r, 1, 10);
	expect_stored(r, 1);
	encode(r, 2, 10);
	frame_payload(r->frames[1])[0] = 0xff; /* the count of entries */
	put_all(r);
	expect_error(r, -EPROTO, 2, NULL);
	give_back(r, 0); /* what was handed over stays good */
}

static void test_deltas_where_none_may_come(void **state)
{
	struct rig *r = *state;

	put_epoch(r, 1, 10);
	expect_stored(r, 1);
	put_epoch(r, 2, 10);
	expect_error(r, -EPROTO, 2, NULL);
}

/* The epoch that had them whole did not arrive. */
static void test_deltas_of_what_never_came(void **state)
{
	struct rig *r = *state;

	encode(r, 1, 10);
	encode(r, 2, 10);
	put_all(r);
	expect_error(r, -EPROTO, 2, NULL);
}

static void test_pages_outside_an_epoch(void **state)
{
	struct rig *r = *state;

	encode(r, 1, 10);
	put(r, r->frames[1]);
	expect_error(r, -EPROTO, 1, "a frame outside its epoch");
}

static void test_pages_of_another_epoch(void **state)
{
	struct rig *r = *state;

	put_one(r, WIRE_EPOCH_BEGIN, 1);
	encode(r, 2, 10);
	put(r, r->frames[1]);
	expect_error(r, -EPROTO, 2, "a frame outside its epoch");
}

static void test_begin_inside_an_epoch(void **state)
{
	struct rig *r = *state;

	put_one(r, WIRE_EPOCH_BEGIN, 1);
	put_one(r, WIRE_EPOCH_BEGIN, 2);
	expect_error(r, -EPROTO, 2, "EPOCH_BEGIN inside an epoch");
}

static void test_epoch_zero(void **state)
{
	struct rig *r = *state;

	put_one(r, WIRE_EPOCH_BEGIN, 0);
	expect_error(r, -EPROTO, 0, "epoch 0 is the image");
}

static void test_frame_of_no_epoch(void **state)
{
	struct rig *r = *state;

	put_one(r, WIRE_EPOCH_BEGIN, 1);
	put_one(r, WIRE_HELLO, 1);
	expect_error(r, -EPROTO, 1, "not a frame of an epoch");
}

static void test_end_without_an_end(void **state)
{
	struct rig *r = *state;

	put_one(r, WIRE_EPOCH_BEGIN, 1);
	put_one(r, WIRE_EPOCH_END, 1); /* without its payload */
	expect_error(r, -EPROTO, 1, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_wrong_checksum),
		TEST(test_changed_page),
		TEST(test_missing_frame),
		TEST(test_after_good_ones),
		TEST_WHOLE(test_deltas_where_none_may_come),
		TEST(test_deltas_of_what_never_came),
		TEST(test_pages_outside_an_epoch),
		TEST(test_pages_of_another_epoch),
		TEST(test_begin_inside_an_epoch),
		TEST(test_epoch_zero),
		TEST(test_frame_of_no_epoch),
		TEST(test_end_without_an_end),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
