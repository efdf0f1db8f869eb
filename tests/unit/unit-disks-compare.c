/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/disks_compare.c over the feeds of real exports: the peer has the same
 * in the end and was asked for no more than may differ; and one that does not
 * keep to the protocol is refused.
 */
#include "config.h"

#include "engine/disks_compare.h"

#include "base/log.h"
#include "tests/unit/disks-compare-fixture.h"

enum { PATIENCE_S = 300 };

/* --- what is sent --------------------------------------------------------- */

static void all_that_differs_is_sent_and_nothing_else(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < BLOCKS; i++)
		fill_both(i % DISKS, i, (uint8_t)(i + 1));
	fill(theirs[0], 2, 99);
	fill(ours[0], 7, 99);
	fill(ours[1], 9, 0);
	fill(theirs[1], BLOCKS - 1, 99);
	begin();
	assert_seen(0, 0, 0);
	assert_int_equal(give_taken(), 0);
	answer_all();
	finish_now();
	assert_same();
	assert_seen(DISKS * BLOCKS, DISKS * BLOCKS,
		    3 * DISK_BLOCK_BYTES + LAST_BYTES);
}

static void where_nothing_differs_nothing_is_sent(void **state)
{
	(void)state;
	fill_both(0, 3, 1);
	begin_taken();
	answer_all();
	finish_now();
	assert_int_equal(came.bytes, 0);
	assert_int_equal(seen().sent_bytes, 0);
	assert_same();
}

static void a_block_of_zeros_is_sent_as_such(void **state)
{
	(void)state;
	fill(theirs[1], 4, 1);
	begin_taken();
	answer_all();
	assert_int_equal(take_disk(next_frame()), CHANGE_HEADER_BYTES);
	finish_now();
	assert_same();
}

/* More than one frame has room for, and changes of it all meanwhile. */
static void what_the_guest_changes_meanwhile_is_sent_behind(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < BLOCKS; i++) {
		fill(ours[0], i, (uint8_t)(i + 1));
		fill(ours[1], i, (uint8_t)(i + 2));
	}
	line.busy = BUSY_FRAMES;
	begin_taken();
	answer_all();
	assert_true(line.busy <= BUSY_FRAMES - 2 * DISKS);
	line.busy = 0; /* it stands still */
	finish_now();
	assert_same();
}

static void changes_are_sent_while_an_answer_is_waited_for(void **state)
{
	struct disk_blocks first, second;

	(void)state;
	begin_taken();
	first = next_ask();
	second = next_ask();
	change(1, 6, 1);
	assert_int_equal(take_disk(next_frame()), CHANGE_HEADER_BYTES + CHANGE);
	assert_same();
	assert_int_equal(give_hashes(&first), 0);
	assert_int_equal(give_hashes(&second), 0);
	assert_int_equal(disks_compare_wait(compare), 0);
	change(0, 7, 2);
	assert_int_equal(take_disk(next_frame()), CHANGE_HEADER_BYTES + CHANGE);
	assert_same();
	finish_now();
}

static void a_ring_does_not_run_full_while_blocks_are_sent(void **state)
{
	struct disk_blocks q;

	(void)state;
	answer.same_base[0] = answer.same_base[1] = true;
	for (uint64_t i = 0; i < RING_BYTES / DISK_BLOCK_BYTES * 4; i++)
		change(0, i, 1);
	begin_taken();
	q = next_ask();
	line.flood = true;
	assert_int_equal(give_hashes(&q), 0);
	assert_int_equal(disks_compare_wait(compare), 0);
	line.flood = false;
	finish_now();
}

static void finishing_sends_what_the_guest_changed_last(void **state)
{
	(void)state;
	begin_taken();
	answer_all();
	for (uint8_t i = 0; i < BLOCKS; i++)
		change(i % 3 != 0, i, i + 1); /* more of the second */
	finish_now();
	assert_same();
}

/* --- what is asked for ---------------------------------------------------- */

static void begin_same_base(void)
{
	change(0, 1, 1);
	change(0, 8, 1);
	answer.same_base[0] = true;
	begin();
}

static void with_the_same_base_only_marked_blocks_are_asked_for(void **state)
{
	struct disk_blocks q;

	(void)state;
	begin_same_base();
	assert_int_equal(give_marks(0, 0, BLOCKS, 1 << 8 | 1 << 20), 0);
	assert_int_equal(give_marks(0, 0, BLOCKS, UINT64_C(1) << 32), 0);
	answer.marks = 2;
	assert_int_equal(give_taken(), 0);
	q = next_ask();
	assert_int_equal(q.disk, 0);
	assert_int_equal(q.bits[0],
			 1 << 1 | 1 << 8 | 1 << 20 | UINT64_C(1) << 32);
	assert_int_equal(give_hashes(&q), 0);
	q = next_ask(); /* its base is another: all of it */
	assert_int_equal(q.disk, 1);
	assert_int_equal(q.first, 0);
	assert_int_equal(q.count, BLOCKS);
	assert_int_equal(q.bits[0], (UINT64_C(1) << BLOCKS) - 1);
	assert_int_equal(give_hashes(&q), 0);
	assert_int_equal(disks_compare_wait(compare), 0);
	finish_now();
	assert_same();
	assert_seen(4 + BLOCKS, 4 + BLOCKS, 2 * DISK_BLOCK_BYTES);
}

static void without_marks_nothing_is_asked_for(void **state)
{
	(void)state;
	answer.same_base[0] = answer.same_base[1] = true;
	begin_taken();
	assert_int_equal(disks_compare_wait(compare), 0);
	assert_false(disks_compare_waits(compare));
	finish_now();
	assert_int_equal(came.bytes, 0);
	assert_seen(0, 0, 0);
}

/* On a disk with more blocks than fit the questions on their way. */
static void questions_go_on_as_they_are_answered(void **state)
{
	enum { QUESTIONS = FAR_BLOCKS / 512 };
	struct disk_blocks q;

	(void)state;
	answer.same_base[0] = answer.same_base[1] = true;
	for (uint64_t i = 0; i < QUESTIONS; i++)
		change(0, i * 512 + 2 * i, 1);
	begin_taken();
	for (uint64_t i = 0; i < QUESTIONS; i++) {
		q = next_ask();
		assert_int_equal(q.first + 2 * i, i * 512 + 2 * i);
		assert_int_equal(q.bits[2 * i / 64], UINT64_C(1) << 2 * i % 64);
		assert_int_equal(give_hashes(&q), 0);
	}
	assert_int_equal(disks_compare_wait(compare), 0);
	assert_false(disks_compare_waits(compare));
	finish_now();
	assert_seen(QUESTIONS, QUESTIONS, QUESTIONS * DISK_BLOCK_BYTES);
}

/* --- whose turn it is ----------------------------------------------------- */

static void it_is_the_peers_turn_until_all_is_answered(void **state)
{
	struct disk_blocks first, second;

	(void)state;
	begin();
	assert_true(disks_compare_waits(compare));
	assert_int_equal(give_taken(), 0);
	first = next_ask();
	second = next_ask();
	assert_true(disks_compare_waits(compare));
	assert_int_equal(give_hashes(&first), 0);
	assert_true(disks_compare_waits(compare));
	assert_int_equal(give_hashes(&second), 0);
	assert_false(disks_compare_waits(compare));
	assert_int_equal(disks_compare_wait(compare), 0);
	assert_false(disks_compare_waits(compare));
	finish_now();
	assert_false(disks_compare_waits(compare));
}

/* --- the end before the end ----------------------------------------------- */

static void assert_ended(int err)
{
	const struct disk_limits to = heads();
	struct disks_sent sent;

	assert_int_equal(disks_compare_wait(compare), err);
	assert_false(disks_compare_waits(compare));
	assert_int_equal(disks_compare_finish(compare, &to, &sent), err);
}

static void a_cancel_ends_the_wait_for_taken(void **state)
{
	(void)state;
	begin();
	disks_compare_cancel(compare);
	assert_ended(-ECANCELED);
}

static void a_cancel_ends_the_wait_for_hashes(void **state)
{
	(void)state;
	begin_taken();
	next_ask();
	disks_compare_cancel(compare);
	assert_ended(-ECANCELED);
}

static void a_cancel_ends_what_follows_changes(void **state)
{
	(void)state;
	begin_taken();
	answer_all();
	disks_compare_cancel(compare);
	for (int i = 0; !disks_compare_wait(compare); i++) {
		assert_true(i < PATIENCE_LOOKS);
		clock_sleep_us(LOOK_US);
	}
	assert_ended(-ECANCELED);
}

static void a_link_without_frames_ends_it(void **state)
{
	struct disk_blocks q;

	(void)state;
	fill(ours[0], 1, 1);
	begin_taken();
	q = next_ask();
	line.lost = true;
	assert_int_equal(give_hashes(&q), 0);
	assert_ended(-ECANCELED);
}

static void a_feed_that_lacks_changes_ends_it(void **state)
{
	(void)state;
	begin();
	disk_feed_stop(feeds[1]);
	assert_ended(-ESTALE);
}

static void a_feed_that_lacks_changes_later_ends_it_too(void **state)
{
	(void)state;
	begin_taken();
	next_ask();
	disk_feed_stop(feeds[1]);
	assert_ended(-ESTALE);
}

/* --- a hostile peer ------------------------------------------------------- */

#define assert_refused(err)                     \
	do {                                    \
		why = NULL;                     \
		assert_int_equal(err, -EPROTO); \
		assert_non_null(why);           \
	} while (0)

static void taken_behind_another_number_of_marks_is_refused(void **state)
{
	(void)state;
	answer.same_base[0] = true;
	begin();
	answer.marks = 1;
	assert_refused(give_taken());
	assert_int_equal(give_marks(0, 0, 2, 2), 0);
	assert_int_equal(give_marks(0, 0, 2, 1), 0);
	assert_refused(give_taken());
	answer.marks = 0;
	assert_refused(give_taken());
	answer.marks = 3;
	assert_refused(give_taken());
	assert_true(disks_compare_waits(compare));
	answer.marks = 2;
	assert_int_equal(give_taken(), 0);
}

static void taken_of_another_number_of_disks_is_refused(void **state)
{
	(void)state;
	begin();
	answer.count = DISKS + 1;
	assert_refused(give_taken());
	answer.count = DISKS - 1;
	assert_refused(give_taken());
	assert_true(disks_compare_waits(compare));
}

static void marks_of_a_disk_with_another_base_are_refused(void **state)
{
	(void)state;
	begin();
	assert_int_equal(give_marks(1, 0, 1, 1), 0);
	answer.marks = 1;
	answer.same_base[0] = true;
	assert_refused(give_taken());
	assert_true(disks_compare_waits(compare));
}

static void marks_of_what_is_not_there_are_refused(void **state)
{
	(void)state;
	answer.same_base[0] = answer.same_base[1] = true;
	begin();
	assert_refused(give_marks(0, 0, BLOCKS + 1, 1));
	assert_refused(give_marks(0, 64, 1, 1));
	assert_refused(give_marks(DISKS, 0, 1, 1));
	assert_refused(give_marks(0, 0, 1, 2)); /* more than it counts */
	assert_int_equal(give_taken(), 0);	/* none of them counts */
	assert_int_equal(disks_compare_wait(compare), 0);
}

static void disks_are_taken_once(void **state)
{
	(void)state;
	begin_taken();
	assert_refused(give_taken());
	answer.same_base[0] = true;
	assert_refused(give_marks(0, 0, 1, 1));
	answer_all();
	finish_now();
	assert_refused(give_taken());
}

static void hashes_that_were_not_asked_for_are_refused(void **state)
{
	const struct disk_blocks none = { 0, 0, BLOCKS, { 1 } };
	struct disk_blocks first, second;
	struct disk_hashes *h;

	(void)state;
	begin();
	assert_refused(give_hashes(&none));
	assert_int_equal(give_taken(), 0);
	first = next_ask();
	second = next_ask();
	assert_refused(give_hashes(&second)); /* not its turn */
	assert_refused(give_hashes(&none));
	h = hashes_of(&first);
	h->first = 64;
	assert_refused(give(disk_hashes_encode(h)));
	h = hashes_of(&first);
	h->count++;
	assert_refused(give(disk_hashes_encode(h)));
	assert_int_equal(give_hashes(&first), 0);
	assert_refused(give_hashes(&first));
	assert_int_equal(give_hashes(&second), 0);
	assert_refused(give_hashes(&second));
	assert_int_equal(disks_compare_wait(compare), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_that_differs_is_sent_and_nothing_else),
		TEST(where_nothing_differs_nothing_is_sent),
		TEST(a_block_of_zeros_is_sent_as_such),
		TEST(what_the_guest_changes_meanwhile_is_sent_behind),
		TEST(changes_are_sent_while_an_answer_is_waited_for),
		TEST_FAR(a_ring_does_not_run_full_while_blocks_are_sent),
		TEST(finishing_sends_what_the_guest_changed_last),
		TEST(with_the_same_base_only_marked_blocks_are_asked_for),
		TEST(without_marks_nothing_is_asked_for),
		TEST_FAR(questions_go_on_as_they_are_answered),
		TEST(it_is_the_peers_turn_until_all_is_answered),
		TEST(a_cancel_ends_the_wait_for_taken),
		TEST(a_cancel_ends_the_wait_for_hashes),
		TEST(a_cancel_ends_what_follows_changes),
		TEST(a_link_without_frames_ends_it),
		TEST(a_feed_that_lacks_changes_ends_it),
		TEST(a_feed_that_lacks_changes_later_ends_it_too),
		TEST(taken_behind_another_number_of_marks_is_refused),
		TEST(taken_of_another_number_of_disks_is_refused),
		TEST(marks_of_a_disk_with_another_base_are_refused),
		TEST(marks_of_what_is_not_there_are_refused),
		TEST(disks_are_taken_once),
		TEST(hashes_that_were_not_asked_for_are_refused),
	};

	alarm(PATIENCE_S);
	log_open("/dev/null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
