/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume/disk/journal.c, when it is replayed: whatever is torn off, and
 * whenever its writer or its host ends, what comes out are whole epochs, in
 * order, and none is missing.
 */
#include "config.h"

#include "resume/disk/journal.h"

#include <sys/wait.h>

#include "base/bounds.h"
#include "tests/unit/disk-journal-fixture.h"

const struct guest_kind *const guest_kinds[] = { NULL };

/* --- one file ------------------------------------------------------------ */

static void complete_epochs_are_replayed_and_no_other(void **state)
{
	struct disk_journal *j = open_journal(LIMIT);

	(void)state;
	for (uint64_t e = 1; e <= 4; e++)
		put_epoch(j, e);
	assert_int_equal(put(j, 5, 0), 0);
	disk_journal_close(j);
	assert_replayed(1, 4);
	assert_replayed(1, 4);
	assert_int_equal(disk_journal_discard(dir, "vm"), 0);
	assert_replayed(1, 0);
}

static void an_epoch_of_no_changes_takes_no_room(void **state)
{
	struct disk_journal *j = open_journal(LIMIT);
	uint64_t used;

	(void)state;
	assert_int_equal(disk_journal_end(j, 1), 0);
	assert_int_equal(disk_journal_used(j), 0);
	put_epoch(j, 2);
	used = disk_journal_used(j);
	assert_int_equal(disk_journal_end(j, 3), 0);
	assert_int_equal(disk_journal_used(j), used);
	assert_int_equal(disk_journal_end(j, 3), -EPROTO);
	disk_journal_close(j);
	assert_replayed(2, 1);
}

static void epochs_come_in_order(void **state)
{
	struct disk_journal *j = open_journal(LIMIT);

	(void)state;
	assert_int_equal(disk_journal_put(j, 0, NULL, 0), -EINVAL);
	put_epoch(j, 5);
	assert_int_equal(put(j, 6, 0), 0);
	assert_int_equal(put(j, 7, 0), -EPROTO);
	/* It may lack something, so it is not ended any more. */
	assert_int_equal(disk_journal_end(j, 6), -EPROTO);
	disk_journal_close(j);
	assert_replayed(5, 1);
	j = open_journal(LIMIT);
	put_epoch(j, 5);
	assert_int_equal(put(j, 5, 0), -EPROTO);
	disk_journal_close(j);
	assert_replayed(5, 1);
}

enum { SOME = 5, SETTLED_AT = 1024 };

/* Where each of some epochs ends. */
static size_t some_epochs(uint64_t ends[SOME], uint8_t *bytes)
{
	struct disk_journal *j = open_journal(LIMIT);

	for (uint64_t e = 1; e <= SOME; e++) {
		put_epoch(j, e);
		ends[e - 1] = disk_journal_used(j);
	}
	disk_journal_close(j);
	return read_file(0, bytes);
}

static unsigned int ended_before(const uint64_t ends[SOME], size_t at)
{
	unsigned int n = 0;

	while (n < SOME && ends[n] <= at)
		n++;
	return n;
}

static void a_torn_tail_leaves_what_is_whole(void **state)
{
	static uint8_t bytes[FILE_MAX];
	uint64_t ends[SOME];
	size_t length = some_epochs(ends, bytes);

	(void)state;
	assert_int_equal(length, ends[SOME - 1]);
	for (size_t n = 0; n <= length; n++) {
		write_file(0, bytes, n);
		assert_replayed(1, ended_before(ends, n));
	}
}

static void a_flipped_bit_ends_it_there(void **state)
{
	static uint8_t bytes[FILE_MAX];
	uint64_t ends[SOME];
	size_t length = some_epochs(ends, bytes);

	(void)state;
	for (size_t n = SETTLED_AT; n < length; n++) {
		unsigned int whole = ended_before(ends, n);

		if (n < JOURNAL_RECORDS_AT)
			whole = SOME; /* it is not settled, and the first */
		bytes[n] ^= (uint8_t)(1 << n % 8);
		write_file(0, bytes, length);
		bytes[n] ^= (uint8_t)(1 << n % 8);
		assert_replayed(1, whole);
	}
}

/* The same blocks of the file system, with records that did hold. */
static void records_of_an_earlier_use_are_none(void **state)
{
	static uint8_t old[FILE_MAX], now[FILE_MAX];
	uint64_t ends[SOME];
	size_t length = some_epochs(ends, old);
	struct disk_journal *j = open_journal(LIMIT);

	(void)state;
	put_epoch(j, 1);
	disk_journal_close(j);
	assert_int_equal(read_file(0, now), ends[0]);
	memcpy(now + ends[0], old + ends[0], length - ends[0]);
	write_file(0, now, length);
	assert_replayed(1, 1);
}

static void it_names_its_disks(void **state)
{
	char names[DISK_JOURNAL_DISKS_MAX][DISK_NAME_MAX + 1];
	struct disk_journal *j;

	(void)state;
	assert_int_equal(disk_journal_disks(dir, "vm", names), 0);
	j = open_journal(LIMIT);
	assert_int_equal(disk_journal_disks(dir, "vm", names), 0);
	put_epoch(j, 1);
	assert_int_equal(disk_journal_disks(dir, "vm", names), 2);
	assert_string_equal(names[0], "root");
	assert_string_equal(names[1], "data");
	disk_journal_close(j);
}

/* --- a loss of power ----------------------------------------------------- */

/* Files 0 and 1, the second of one epoch; the number of that. */
static uint64_t two_files(bool apply_all)
{
	struct disk_journal *j = open_journal(SMALL);
	uint64_t next = put_until_switched(j, 1, 1);

	assert_applied(j, apply_all ? next : 2, 1,
		       apply_all ? (unsigned int)next - 1 : 2);
	disk_journal_close(j);
	return next - 1;
}

static void lose_the_end_of(unsigned int number)
{
	static uint8_t bytes[FILE_MAX];
	size_t n = read_file(number, bytes);

	write_file(number, bytes, n - 1);
}

static void nothing_is_applied_behind_a_gap(void **state)
{
	uint64_t last = two_files(false);

	(void)state;
	lose_the_end_of(0);
	assert_replayed(1, (unsigned int)last - 2);
	write_file(0, NULL, 0);
	assert_replayed(1, 0);
}

static void a_gap_in_what_was_applied_is_told(void **state)
{
	struct seen s = { 0 };

	(void)state;
	two_files(true);
	lose_the_end_of(0);
	assert_int_equal(disk_journal_replay(dir, "vm", see, &s), -EBADMSG);
}

static void flip(unsigned int number, size_t at)
{
	static uint8_t bytes[FILE_MAX];
	size_t n = read_file(number, bytes);

	bytes[at] ^= 1;
	write_file(number, bytes, n);
}

static void a_lost_head_of_what_was_applied_is_told(void **state)
{
	char names[DISK_JOURNAL_DISKS_MAX][DISK_NAME_MAX + 1];
	struct seen s = { 0 };

	(void)state;
	for (unsigned int n = 0; n < SETTLED_AT; n += 11) {
		unsigned int number = n % JOURNAL_FILES;

		two_files(true);
		flip(number, n);
		/* The other one has the names. */
		assert_int_equal(disk_journal_disks(dir, "vm", names), 2);
		assert_int_equal(disk_journal_replay(dir, "vm", see, &s),
				 -EBADMSG);
		/* As a loss of power leaves one that nobody has applied. */
		flip(number, SETTLED_AT);
		assert_true(disk_journal_disks(dir, "vm", names) >= 0);
	}
	assert_int_equal(s.count, 0);
	two_files(true);
	flip(0, 5);
	flip(1, 5);
	assert_int_equal(disk_journal_disks(dir, "vm", names), -EBADMSG);
	flip(0, SETTLED_AT);
	flip(1, SETTLED_AT);
	assert_int_equal(disk_journal_disks(dir, "vm", names), 0);
}

/* --- all ends ------------------------------------------------------------ */

enum { CELLS = 16, LAST = 40 };

/* Of epoch e, piece i. */
static unsigned int cell_of(uint64_t e, unsigned int i)
{
	return (unsigned int)(e * 5 + i * 3) % CELLS;
}

static int change_cell(void *arg, uint64_t epoch, const uint8_t *raw,
		       size_t length)
{
	(void)arg;
	(void)length;
	host->cell[cell_of(epoch, raw[0])] = epoch;
	return 0;
}

static bool cells_are_as_of(uint64_t epoch)
{
	uint64_t cell[CELLS] = { 0 };

	for (uint64_t e = 1; e <= epoch; e++)
		for (unsigned int i = 0; i <= e % 3; i++)
			cell[cell_of(e, i)] = e;
	return !memcmp(cell, host->cell, sizeof(cell));
}

static void make_cells_stable(void)
{
	a_call();
	memcpy(host->stable_cell, host->cell, sizeof(host->cell));
}

static int commit(struct disk_journal *j, uint64_t e)
{
	host->committed = e;
	return disk_journal_apply(j, e, change_cell, NULL);
}

static int step(struct disk_journal *j, uint64_t e)
{
	uint8_t raw[PIECE] = { 0 };
	int err = 0;

	for (unsigned int i = 0; i <= e % 3 && !err; i++) {
		raw[0] = (uint8_t)i;
		err = disk_journal_put(j, e, raw, sizeof(raw));
		if (!err && random() % 5 == 0)
			err = commit(j, e - 1);
	}
	if (!err)
		err = disk_journal_end(j, e);
	if (err)
		return err;
	host->stored = e;
	if (random() % 3)
		return 0;
	err = commit(j, at_least(host->committed,
				 e - (uint64_t)random() % at_most(e, 3)));
	if (err || !disk_journal_droppable(j) || random() % 2)
		return err;
	make_cells_stable();
	return disk_journal_drop(j);
}

/* Ends wherever it is told to; with a takeover as of what is committed. */
static void live(unsigned int seed)
{
	struct disk_journal *j = open_journal(SMALL);
	int err = 0;

	srandom(seed);
	for (uint64_t e = 1; e <= LAST && !err; e++) {
		if (disk_journal_used(j) > SMALL * 2 / 3) {
			err = commit(j, e - 1);
			make_cells_stable();
			if (!err && disk_journal_droppable(j))
				err = disk_journal_drop(j);
		}
		if (!err)
			err = step(j, e);
	}
	host->takes_over = true;
	if (!err)
		err = commit(j, host->committed);
	make_cells_stable();
	if (!err)
		err = disk_journal_remove(j);
	host->done = !err;
	_exit(err ? 1 : 0);
}

static void live_until(unsigned int seed, int calls)
{
	pid_t pid;
	int status;

	disk_journal_discard(dir, "vm");
	memset(host, 0, sizeof(*host));
	host->calls_left = calls;
	pid = fork();
	if (!pid)
		live(seed);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	host->calls_left = -1;
}

static void replay_cells(void)
{
	assert_int_equal(disk_journal_replay(dir, "vm", change_cell, NULL), 0);
}

/* From `least` on; the number of the epoch, or -1: of none. */
static int64_t epoch_of_cells(uint64_t least)
{
	for (uint64_t e = least; e <= LAST; e++)
		if (cells_are_as_of(e))
			return (int64_t)e;
	return -1;
}

static void a_kill_anywhere_loses_nothing_that_was_stored(void **state)
{
	(void)state;
	for (unsigned int seed = 1; seed <= 6; seed++) {
		for (int calls = 0; !host->done; calls++) {
			live_until(seed, calls);
			replay_cells();
			if (epoch_of_cells(host->takes_over ? host->committed
							    : host->stored) < 0)
				fail_msg("seed %u, %d calls", seed, calls);
		}
		assert_true(cells_are_as_of(host->committed));
		host->done = false;
	}
}

/* Of two files; what is applied ends in the first or in the second. */
static void remove_two(bool in_second, int calls)
{
	static uint8_t bytes[FILE_MAX];
	struct disk_journal *j = open_journal(SMALL);
	uint8_t raw[PIECE] = { 0 };
	uint64_t e = 1;
	int err = 0;

	for (; !err && !read_file(1, bytes); e++)
		for (unsigned int i = 0; i <= e % 3 && !err; i++) {
			raw[0] = (uint8_t)i;
			err = disk_journal_put(j, e, raw, sizeof(raw));
			if (i == e % 3 && !err)
				err = disk_journal_end(j, e);
		}
	if (!err)
		err = commit(j, in_second ? e - 1 : e - 4);
	make_cells_stable();
	host->calls_left = calls;
	if (!err)
		err = disk_journal_remove(j);
	host->done = !err;
	_exit(err ? 1 : 0);
}

static void a_removal_that_is_cut_off_mixes_nothing(void **state)
{
	(void)state;
	for (int in_second = 0; in_second < 2; in_second++) {
		for (int calls = 0; !host->done; calls++) {
			int status;

			disk_journal_discard(dir, "vm");
			memset(host, 0, sizeof(*host));
			host->calls_left = -1;
			if (!fork())
				remove_two(in_second, calls);
			wait(&status);
			assert_int_equal(status, 0);
			host->calls_left = -1;
			replay_cells();
			assert_true(epoch_of_cells(host->committed) >= 0);
		}
		host->done = false;
	}
}

/* What was not made stable is there, or not, or in part. */
static void lose_power(void)
{
	static uint8_t now[FILE_MAX];

	for (unsigned int i = 0; i < JOURNAL_FILES; i++) {
		struct stable *s = &host->file[i];
		size_t n = read_file(i, now);

		if (random() % 3 == 0)
			write_file(i, s->byte, s->bytes);
		else if (n > s->bytes && random() % 2)
			write_file(i, now,
				   s->bytes +
					   (size_t)random() % (n - s->bytes));
	}
	for (int i = 0; i < CELLS; i++)
		if (random() % 2)
			host->cell[i] = host->stable_cell[i];
}

static void a_loss_of_power_anywhere_leaves_whole_epochs(void **state)
{
	(void)state;
	for (unsigned int seed = 1; seed <= 12; seed++) {
		for (int calls = 4; !host->done; calls += 1 + calls / 40) {
			live_until(seed, calls);
			if (host->done)
				break;
			lose_power();
			replay_cells();
			if (epoch_of_cells(0) < 0)
				fail_msg("seed %u, %d calls", seed, calls);
		}
		host->done = false;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(complete_epochs_are_replayed_and_no_other),
		TEST(an_epoch_of_no_changes_takes_no_room),
		TEST(epochs_come_in_order),
		TEST(a_torn_tail_leaves_what_is_whole),
		TEST(a_flipped_bit_ends_it_there),
		TEST(records_of_an_earlier_use_are_none),
		TEST(it_names_its_disks),
		TEST(nothing_is_applied_behind_a_gap),
		TEST(a_gap_in_what_was_applied_is_told),
		TEST(a_lost_head_of_what_was_applied_is_told),
		TEST(a_kill_anywhere_loses_nothing_that_was_stored),
		TEST(a_removal_that_is_cut_off_mixes_nothing),
		TEST(a_loss_of_power_anywhere_leaves_whole_epochs),
	};

	return cmocka_run_group_tests(tests, make_host, NULL);
}
