/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/intake_disks.c: the disks become whole by all that was sent, and by
 * nothing else; what comes out of order changes nothing.
 */
#include "config.h"

#include "engine/intake_disks.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/memory.h"
#include "tests/unit/intake-disks-fixture.h"

enum {
	PATIENCE_S = 300, /* for a thread that should have come back */
	LOOK_US = 500,
	SAME_BASE = 3,
	/* Of these the journal takes a few only. */
	BIG_EPOCHS = 40,
	BIG_BYTES = 64 * 1024,
	FULL_EPOCHS = 14,
};

static void assert_not_whole(void)
{
	for (unsigned int i = 0; i < DISKS; i++) {
		const struct disk_state s = state_of(i);

		assert_false(s.whole);
		assert_int_not_equal(s.base, BASE);
	}
	assert_int_equal(promote(0), -EINVAL);
	assert_non_null(strstr(why_not.text, "not whole"));
	for (unsigned int i = 0; i < DISKS; i++)
		assert_int_equal(state_of(i).role, DISK_ROLE_SECONDARY);
}

/* --- DISKS ---------------------------------------------------------------- */

/* Of the list's next frame, which goes. */
static struct frame_buf *next_answer(uint16_t type)
{
	struct frame_buf *b = answer;

	assert_non_null(b);
	assert_int_equal(b->type, type);
	assert_int_equal(b->epoch, 0);
	answer = b->next;
	return b;
}

static struct disks_taken take_taken(void)
{
	struct frame_buf *b = next_answer(WIRE_DISKS_TAKEN);
	const struct frame f = frame_of(b);
	struct disks_taken t;

	assert_int_equal(disks_taken_decode(&f, &t, &why), 0);
	assert_int_equal(t.count, DISKS);
	assert_null(answer);
	b->release(b);
	return t;
}

static void expect_marks(unsigned int disk, uint64_t first, uint64_t bits)
{
	struct frame_buf *b = next_answer(WIRE_DISK_MARKS);
	const struct frame f = frame_of(b);
	struct disk_blocks m;

	assert_int_equal(disk_blocks_decode(&f, &m, &why), 0);
	assert_int_equal(m.disk, disk);
	assert_int_equal(m.first, first);
	assert_int_equal(m.bits[0], bits);
	b->release(b);
}

static void mark(unsigned int disk, uint64_t block)
{
	struct disk_meta *m = meta_of(disk);

	disk_meta_mark(m, block * DISK_BLOCK_BYTES, 1);
	disk_meta_close(m);
}

static void give_base(unsigned int disk)
{
	const struct disk_state s = { .role = DISK_ROLE_PRIMARY,
				      .whole = true,
				      .base = SAME_BASE };

	set_state(disk, &s);
}

static void disks_are_answered_by_as_many_marks_as_taken_says(void **state)
{
	struct disks_taken t;

	(void)state;
	give_base(0);
	give_base(1);
	mark(0, 1);
	mark(0, 2);
	mark(1, 67);
	assert_int_equal(offer(SAME_BASE), 0);
	expect_marks(0, 0, 6);
	expect_marks(1, 64, 8);
	t = take_taken();
	assert_int_equal(t.marks, 2);
	assert_true(t.same_base[0] && t.same_base[1]);
}

static void disks_without_marks_are_answered_by_taken_alone(void **state)
{
	struct disks_taken t;

	(void)state;
	mark(0, 1); /* of no common base: they are all compared */
	give_base(1);
	assert_int_equal(offer(SAME_BASE), 0);
	t = take_taken();
	assert_int_equal(t.marks, 0);
	assert_false(t.same_base[0]);
	assert_true(t.same_base[1]);
}

static void an_offer_that_cannot_be_taken_is_refused_with_the_reason(void **t)
{
	struct disks d = offer_of(0);

	(void)t;
	d.disk[1].size += 512;
	assert_int_equal(give(disks_encode(&d)), -ECONNREFUSED);
	assert_null(answer);
	assert_non_null(strstr(why, names[1]));
	assert_int_equal(state_of(0).role, DISK_ROLE_NEW);
	assert_int_equal(end_image(), -EPROTO);
	assert_int_equal(give(part_of(0, 1, 0)), -EPROTO);
	assert_as_of(0);
}

static void disks_come_once(void **state)
{
	(void)state;
	assert_int_equal(offer(0), 0);
	why = NULL;
	assert_int_equal(offer(0), -EPROTO);
	assert_null(answer);
	assert_non_null(strstr(why, "second"));
}

/* --- DISK_ASK, DISK ------------------------------------------------------- */

static void a_question_is_answered_by_hashes(void **state)
{
	static const uint8_t zero[DISK_BLOCK_BYTES];
	static struct disk_hashes h;
	struct frame_buf *b;
	struct frame f;
	uint8_t expected[WIRE_DISK_HASH_BYTES];

	(void)state;
	assert_int_equal(offer(0), 0);
	assert_int_equal(ask_for(1, 64), 0);
	b = next_answer(WIRE_DISK_HASHES);
	f = frame_of(b);
	assert_null(answer);
	assert_int_equal(disk_hashes_decode(&f, &h, &why), 0);
	assert_true(h.disk == 1 && h.first == 64 && h.count == 1);
	checksum_wide(zero, sizeof(zero), offer_of(0).seed, expected);
	assert_memory_equal(h.hash[0], expected, sizeof(expected));
	b->release(b);
	assert_int_equal(ask_for(1, 192), -EPROTO); /* behind its end */
	assert_null(answer);
}

static void a_question_behind_the_images_end_is_refused(void **state)
{
	(void)state;
	assert_int_equal(offer(0), 0);
	assert_int_equal(ask_for(0, 0), 0);
	assert_int_equal(end_image(), 0);
	why = NULL;
	assert_int_equal(ask_for(0, 0), -EPROTO);
	assert_null(answer);
	assert_non_null(strstr(why, "IMAGE_END"));
}

static void frames_without_disks_are_refused(void **state)
{
	(void)state;
	assert_int_equal(ask_for(0, 0), -EPROTO);
	assert_non_null(strstr(why, "without DISKS"));
	assert_int_equal(give(part_of(0, 1, 0)), -EPROTO);
	assert_int_equal(give(part_of(1, 1, 0)), -EPROTO);
	assert_null(answer);
	assert_as_of(0);
}

/* Each of them with a replica of its own: nothing goes on after it. */
static void assert_bad_disk(struct frame_buf *b)
{
	assert_int_equal(offer(0), 0);
	why = NULL;
	assert_int_equal(give(b), -EPROTO);
	assert_non_null(why);
	close_intake(NULL);
	open_intake(NULL);
}

static void a_disk_that_is_malformed_is_refused(void **state)
{
	uint8_t raw[2 * WRITE_BYTES] = { 0 };
	struct frame_buf *b = part_of(0, 1, 0);
	size_t n;

	(void)state;
	b->length--;
	assert_bad_disk(b);
	b = part_of(0, 1, 0);
	b->length = 7; /* not even a header of it */
	assert_bad_disk(b);
	n = add_write(raw, sizeof(raw), 0, 0, 1);
	assert_bad_disk(disk_frame(0, raw, n - 1));
	n = add_write(raw, sizeof(raw), DISKS, 0, 1);
	assert_bad_disk(disk_frame(0, raw, n));
	n = add_write(raw, sizeof(raw), 0, DISK_BYTES - 1, 1);
	assert_bad_disk(disk_frame(0, raw, n));
}

static void an_epochs_disk_is_none_of_the_images(void **state)
{
	(void)state;
	assert_int_equal(offer(0), 0);
	assert_int_equal(give(part_of(1, 1, 0)), -EPROTO);
	close_intake(NULL);
	open_intake(NULL);
	make_whole();
	assert_int_equal(give(part_of(0, 2, 0)), -EPROTO);
}

/* --- IMAGE_END ------------------------------------------------------------ */

static void all_that_was_sent_makes_the_disks_whole(void **state)
{
	struct disk_state s;

	(void)state;
	make_whole();
	assert_as_of(1);
	for (unsigned int i = 0; i < DISKS; i++) {
		s = state_of(i);
		assert_true(s.whole);
		assert_int_equal(s.base, BASE);
		assert_int_equal(s.role, DISK_ROLE_SECONDARY);
	}
	assert_int_equal(promote(0), 0);
	assert_as_of(1);
	for (unsigned int i = 0; i < DISKS; i++)
		assert_int_equal(state_of(i).role, DISK_ROLE_PRIMARY);
}

static void disks_that_do_not_differ_become_whole(void **state)
{
	(void)state;
	assert_int_equal(offer(0), 0);
	assert_int_equal(end_image(), 0);
	assert_true(state_of(1).whole);
	assert_int_equal(promote(0), 0);
}

static void assert_bad_end(const struct wire_image_end *e)
{
	why = NULL;
	assert_int_equal(intake_disks_imaged(in, e, &why), -EBADMSG);
	assert_non_null(why);
	assert_not_whole();
	close_intake(NULL);
	open_intake(NULL);
}

static void an_image_that_lacks_a_disk_frame_is_not_whole(void **state)
{
	struct wire_image_end e;
	struct frame_buf *lost = part_of(0, 2, 0);

	(void)state;
	assert_int_equal(offer(0), 0);
	send_image();
	count(lost);
	lost->release(lost);
	e = right_end();
	assert_bad_end(&e);
}

static void sums_that_are_not_the_frames_do_not_make_them_whole(void **state)
{
	static const struct {
		bool sent;
		uint64_t bytes, checksum; /* more, and bits that differ */
	} wrong[] = {
		{ true, 1, 0 },	 { true, 0, UINT64_C(1) << 63 },
		{ false, 1, 0 }, { false, 0, 1 },
		{ false, 9, 9 },
	};
	struct wire_image_end e;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		assert_int_equal(offer(0), 0);
		if (wrong[i].sent)
			send_image();
		e = right_end();
		e.disk_bytes += wrong[i].bytes;
		e.disk_checksum ^= wrong[i].checksum;
		assert_bad_end(&e);
	}
}

static void an_end_that_speaks_of_no_disk_frame_does_not_either(void **state)
{
	const struct wire_image_end e = { .bytes = 1, .checksum = 2 };

	(void)state;
	assert_int_equal(offer(0), 0);
	send_image();
	assert_bad_end(&e);
}

static void disk_frames_in_another_order_are_not_what_was_sent(void **state)
{
	struct frame_buf *first = part_of(0, 1, 0), *then = part_of(0, 1, 1);
	struct wire_image_end e;

	(void)state;
	assert_int_equal(offer(0), 0);
	count(first);
	count(then);
	assert_int_equal(give(then), 0);
	assert_int_equal(give(first), 0);
	e = right_end();
	assert_bad_end(&e);
}

static void without_disks_an_images_end_speaks_of_none(void **state)
{
	struct wire_image_end e = { .bytes = 1, .checksum = 2 };

	(void)state;
	assert_int_equal(intake_disks_imaged(in, &e, &why), 0);
	e.disk_bytes = 1;
	assert_int_equal(intake_disks_imaged(in, &e, &why), -EBADMSG);
	e.disk_bytes = 0;
	e.disk_checksum = 1;
	assert_int_equal(intake_disks_imaged(in, &e, &why), -EBADMSG);
}

/* --- epochs --------------------------------------------------------------- */

static void put_whole(uint64_t epoch)
{
	assert_int_equal(give(part_of(epoch, epoch, 0)), 0);
	assert_int_equal(give(part_of(epoch, epoch, 1)), 0);
	assert_int_equal(intake_disks_stored(in, epoch, &why), 0);
}

static void the_disks_are_as_of_the_epoch_of_the_takeover(void **state)
{
	(void)state;
	make_whole();
	put_whole(2);
	intake_disks_commit(in, 2);
	put_whole(3);
	put_whole(4);
	assert_int_equal(promote(3), 0);
	assert_as_of(3);
	assert_int_equal(state_of(0).role, DISK_ROLE_PRIMARY);
}

static void without_disks_there_is_nothing_to_do(void **state)
{
	(void)state;
	intake_disks_commit(in, 1);
	assert_int_equal(intake_disks_stored(in, 1, &why), 0);
	assert_int_equal(promote(1), 0);
	intake_disks_commit(in, 2);
	make_whole();
	assert_as_of(1);
}

/* --- the close, and who waits --------------------------------------------- */

static void a_closed_intake_takes_nothing(void **state)
{
	(void)state;
	make_whole();
	intake_disks_close(in);
	assert_int_equal(offer(0), -ECANCELED);
	assert_int_equal(ask_for(0, 0), -ECANCELED);
	assert_int_equal(give(part_of(2, 2, 0)), -ECANCELED);
	assert_null(answer);
	assert_int_equal(intake_disks_stored(in, 2, &why), -ECANCELED);
	assert_int_equal(end_image(), -ECANCELED);
	assert_int_equal(promote(2), -ECANCELED);
	intake_disks_commit(in, 2);
	intake_disks_close(in);
	assert_as_of(1);
}

/* More than the journal has room for: it waits for those before. */
struct flood {
	_Atomic uint64_t stored;
	_Atomic bool over;
	int err;
};

static void *flood(void *arg)
{
	const size_t room = CHANGE_HEADER_BYTES + BIG_BYTES;
	struct flood *f = arg;
	uint8_t *raw = memory_new(room), *data = raw + CHANGE_HEADER_BYTES;
	struct change c = { 0, CHANGE_WRITE, BIG_BYTES, BIG_BYTES, data };
	struct frame_buf *none = NULL;
	const char *text;

	for (uint64_t e = 1; e <= BIG_EPOCHS && !f->err; e++) {
		struct frame_buf *b;
		struct frame frame;

		fill_noise(data, BIG_BYTES, e);
		change_put(&c, raw, room);
		b = disk_frame(e, raw, room);
		frame = frame_of(b);
		f->err = intake_disks_frame(in, &frame, &none, &text);
		if (!f->err)
			f->err = intake_disks_stored(in, e, &text);
		b->release(b);
		if (!f->err)
			f->stored = e;
	}
	free(raw);
	f->over = true;
	return NULL;
}

static void a_commit_does_not_wait_for_who_waits_for_room(void **state)
{
	struct flood f = { 0 };
	pthread_t thread;

	(void)state;
	make_whole();
	assert_int_equal(pthread_create(&thread, NULL, flood, &f), 0);
	while (!f.over) {
		intake_disks_commit(in, f.stored);
		clock_sleep_us(LOOK_US);
	}
	pthread_join(thread, NULL);
	assert_int_equal(f.err, 0);
	assert_int_equal(f.stored, BIG_EPOCHS);
}

/* It waits where `end` is called, mostly; else it is told the same. */
static void assert_ends_the_wait_for_room(void (*end)(void))
{
	struct flood f = { 0 };
	pthread_t thread;

	make_whole();
	assert_int_equal(pthread_create(&thread, NULL, flood, &f), 0);
	while (f.stored < FULL_EPOCHS && !f.over)
		clock_sleep_us(LOOK_US);
	clock_sleep_us(20 * LOOK_US);
	end();
	pthread_join(thread, NULL);
	assert_int_equal(f.err, -ECANCELED);
	assert_true(f.stored < BIG_EPOCHS);
}

static void do_close(void)
{
	intake_disks_close(in);
}

static void do_promote(void)
{
	promote(1); /* whatever comes of it */
}

static void a_close_ends_the_wait_for_room(void **state)
{
	(void)state;
	assert_ends_the_wait_for_room(do_close);
}

static void a_takeover_ends_the_wait_for_room(void **state)
{
	(void)state;
	assert_ends_the_wait_for_room(do_promote);
}

/* --- status --------------------------------------------------------------- */

static void assert_no_status(void)
{
	json_t *s = intake_disks_status(in);

	assert_true(json_is_null(s));
	json_decref(s);
}

static void assert_status(bool whole, unsigned int written)
{
	json_t *s = intake_disks_status(in);
	json_t *w = json_object_get(s, "whole");

	assert_true(json_is_object(s));
	assert_int_equal(json_integer_value(json_object_get(s, "disks")),
			 DISKS);
	assert_true(json_is_boolean(w));
	assert_int_equal(json_is_true(w), whole);
	assert_int_equal(json_integer_value(json_object_get(s, "written")),
			 written);
	assert_string_equal(json_string_value(json_object_get(s, "error")), "");
	json_decref(s);
}

static void the_status_says_how_far_they_are(void **state)
{
	(void)state;
	assert_no_status();
	assert_int_equal(offer(0), 0);
	assert_status(false, 0);
	send_image();
	assert_status(false, 2 * DISKS * WRITE_BYTES);
	assert_int_equal(end_image(), 0);
	assert_status(true, 2 * DISKS * WRITE_BYTES);
	intake_disks_close(in);
	assert_no_status();
}

static void offer_with_base(void)
{
	const struct disk_state was = { .role = DISK_ROLE_PRIMARY,
					.whole = true,
					.base = 3 };

	for (unsigned int i = 0; i < DISKS; i++)
		set_state(i, &was);
	assert_int_equal(offer(3), 0);
	send_image();
	assert_int_equal(state_of(0).base, 3);
}

/* What came may have changed what is marked on neither side. */
static void a_spoilt_image_is_of_no_base(void **state)
{
	struct wire_image_end e;

	(void)state;
	offer_with_base();
	e = right_end();
	e.disk_checksum ^= 1;
	assert_int_equal(intake_disks_imaged(in, &e, &why), -EBADMSG);
	intake_disks_close(in);
	for (unsigned int i = 0; i < DISKS; i++)
		assert_int_equal(state_of(i).base, 0);
}

static void nor_is_one_with_a_frame_that_is_malformed(void **state)
{
	struct frame_buf *b = part_of(0, 1, 0);

	(void)state;
	offer_with_base();
	b->length--;
	assert_int_equal(give(b), -EPROTO);
	intake_disks_close(in);
	for (unsigned int i = 0; i < DISKS; i++)
		assert_int_equal(state_of(i).base, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(disks_are_answered_by_as_many_marks_as_taken_says),
		TEST(disks_without_marks_are_answered_by_taken_alone),
		TEST(an_offer_that_cannot_be_taken_is_refused_with_the_reason),
		TEST(disks_come_once),
		TEST(a_question_is_answered_by_hashes),
		TEST(a_question_behind_the_images_end_is_refused),
		TEST(frames_without_disks_are_refused),
		TEST(a_disk_that_is_malformed_is_refused),
		TEST(an_epochs_disk_is_none_of_the_images),
		TEST(all_that_was_sent_makes_the_disks_whole),
		TEST(disks_that_do_not_differ_become_whole),
		TEST(an_image_that_lacks_a_disk_frame_is_not_whole),
		TEST(sums_that_are_not_the_frames_do_not_make_them_whole),
		TEST(an_end_that_speaks_of_no_disk_frame_does_not_either),
		TEST(a_spoilt_image_is_of_no_base),
		TEST(nor_is_one_with_a_frame_that_is_malformed),
		TEST(disk_frames_in_another_order_are_not_what_was_sent),
		TEST(without_disks_an_images_end_speaks_of_none),
		TEST(the_disks_are_as_of_the_epoch_of_the_takeover),
		TEST(without_disks_there_is_nothing_to_do),
		TEST(a_closed_intake_takes_nothing),
		TEST(a_commit_does_not_wait_for_who_waits_for_room),
		TEST(a_close_ends_the_wait_for_room),
		TEST(a_takeover_ends_the_wait_for_room),
		TEST(the_status_says_how_far_they_are),
	};

	alarm(PATIENCE_S);
	log_open("/dev/null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
