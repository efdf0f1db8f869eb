/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume/disk/journal.c, while it is written: each epoch is applied once, in
 * order and not too early, and who appends has the room that there is.
 */
#include "config.h"

#include "resume/disk/journal.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "tests/unit/disk-journal-fixture.h"

const struct guest_kind *const guest_kinds[] = { NULL };

static atomic_bool waiting; /* somebody does, or has */

/* Instead of the C library's. */
int pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
	static int (*real)(pthread_cond_t *, pthread_mutex_t *);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pthread_cond_wait");
	waiting = true;
	return real(c, m);
}

/* --- applying ------------------------------------------------------------ */

static void each_epoch_is_applied_once_and_when_allowed(void **state)
{
	struct disk_journal *j = open_journal(LIMIT);

	(void)state;
	for (uint64_t e = 1; e <= 6; e++)
		put_epoch(j, e);
	assert_int_equal(put(j, 7, 0), 0);
	assert_applied(j, 0, 1, 0);
	assert_applied(j, 2, 1, 2);
	assert_applied(j, 2, 3, 0);
	assert_applied(j, UINT64_MAX, 3, 4);
	assert_applied(j, UINT64_MAX, 7, 0);
	assert_false(disk_journal_droppable(j)); /* it is appended to */
	assert_int_equal(disk_journal_drop(j), -EINVAL);
	disk_journal_close(j);
	assert_replayed(1, 6);
}

static void a_change_that_fails_comes_again(void **state)
{
	struct seen s = { .fails = 3 };
	struct disk_journal *j = open_journal(LIMIT);

	(void)state;
	put_epoch(j, 2);
	assert_int_equal(disk_journal_apply(j, 2, see, &s), -EIO);
	assert_int_equal(s.pieces[0], 2);
	assert_int_equal(disk_journal_apply(j, 2, see, &s), 0);
	assert_seen(&s, 2, 1);
	disk_journal_close(j);
}

static int not_before_it_is_stable(void *arg, uint64_t epoch,
				   const uint8_t *raw, size_t length)
{
	static uint8_t now[FILE_MAX];
	unsigned int *syncs = arg;
	const struct stable *s = &host->file[0];

	(void)epoch;
	(void)raw;
	(void)length;
	assert_int_equal(read_file(0, now), s->bytes);
	assert_memory_equal(now, s->byte, s->bytes);
	++*syncs;
	return 0;
}

static void nothing_is_applied_before_it_is_stable(void **state)
{
	struct disk_journal *j = open_journal(LIMIT);
	unsigned int changes = 0;

	(void)state;
	for (uint64_t e = 1; e <= 6; e++)
		put_epoch(j, e);
	assert_int_equal(host->file[0].bytes, JOURNAL_RECORDS_AT);
	assert_int_equal(
		disk_journal_apply(j, 3, not_before_it_is_stable, &changes), 0);
	/* They were made stable with those before. */
	host->calls_left = 0;
	assert_int_equal(
		disk_journal_apply(j, 6, not_before_it_is_stable, &changes), 0);
	host->calls_left = -1;
	assert_int_equal(changes, 2 + 3 + 1 + 2 + 3 + 1);
	/* Of the next one the first piece was stable by chance. */
	put_epoch(j, 7);
	assert_int_equal(put(j, 8, 0), 0);
	assert_int_equal(
		disk_journal_apply(j, 7, not_before_it_is_stable, &changes), 0);
	assert_int_equal(put(j, 8, 1), 0);
	assert_int_equal(put(j, 8, 2), 0);
	assert_int_equal(disk_journal_end(j, 8), 0);
	assert_int_equal(
		disk_journal_apply(j, 8, not_before_it_is_stable, &changes), 0);
	disk_journal_close(j);
}

/* --- two files ----------------------------------------------------------- */

static void two_files_are_replayed_in_their_order(void **state)
{
	struct disk_journal *j = open_journal(SMALL);
	uint64_t first, next = put_until_switched(j, 1, 1);

	(void)state;
	put_epoch(j, next++);
	assert_replayed(1, (unsigned int)next - 1);
	assert_applied(j, UINT64_MAX, 1, (unsigned int)next - 1);
	first = next - 2; /* what the second file begins with */
	assert_true(disk_journal_droppable(j));
	assert_int_equal(disk_journal_drop(j), 0);
	assert_false(disk_journal_droppable(j));
	next = put_until_switched(j, 0, next);
	disk_journal_close(j);
	assert_replayed(first, (unsigned int)(next - first));
}

static void all_of_both_is_applied_in_order(void **state)
{
	struct disk_journal *j = open_journal(SMALL);
	uint64_t next = put_until_switched(j, 1, 1);

	(void)state;
	assert_false(disk_journal_droppable(j));
	assert_applied(j, next - 2, 1, (unsigned int)next - 2);
	assert_true(disk_journal_droppable(j));
	assert_int_equal(disk_journal_drop(j), 0);
	assert_applied(j, UINT64_MAX, next - 1, 1);
	disk_journal_close(j);
}

/* By a kill: what was complete and not applied is still there. */
static void a_file_stands_alone_when_the_one_before_is_dropped(void **state)
{
	struct disk_journal *j = open_journal(SMALL);
	uint64_t next = put_until_switched(j, 1, 1);

	(void)state;
	assert_applied(j, next - 2, 1, (unsigned int)next - 2);
	assert_int_equal(disk_journal_drop(j), 0);
	disk_journal_close(j);
	assert_replayed(next - 1, 1);
}

static void *put_large(void *arg)
{
	static uint8_t raw[SMALL - 4096];
	struct disk_journal *j = arg;
	int err = disk_journal_put(j, EPOCHS_MAX, raw, sizeof(raw));

	return (void *)(intptr_t)(err ? err : disk_journal_end(j, EPOCHS_MAX));
}

static int count(void *arg, uint64_t epoch, const uint8_t *raw, size_t length)
{
	(void)epoch;
	(void)raw;
	(void)length;
	++*(unsigned int *)arg;
	return 0;
}

static void note(void *arg)
{
	atomic_store((atomic_bool *)arg, true);
}

/* All of the file before is applied, and nobody would look at it again. */
static void who_drops_is_woken_when_files_are_switched(void **state)
{
	struct disk_journal *j = open_journal(SMALL);
	atomic_bool woken = false;
	unsigned int records = 0;
	uint64_t epoch = 1;
	pthread_t thread;
	void *result;

	(void)state;
	disk_journal_watch(j, note, &woken);
	while (disk_journal_used(j) < SMALL / 2)
		put_epoch(j, epoch++);
	assert_applied(j, UINT64_MAX, 1, (unsigned int)epoch - 1);
	assert_false(woken);
	pthread_create(&thread, NULL, put_large, j);
	while (!woken)
		sched_yield();
	assert_true(disk_journal_droppable(j));
	assert_int_equal(disk_journal_drop(j), 0);
	pthread_join(thread, &result);
	assert_int_equal((intptr_t)result, 0);
	disk_journal_close(j);
	assert_int_equal(disk_journal_replay(dir, "vm", count, &records), 0);
	assert_int_equal(records, 1);
}

/* --- the limit ----------------------------------------------------------- */

static atomic_bool putting;

static void *put_many(void *arg)
{
	for (uint64_t e = 1; e <= EPOCHS_MAX - 1; e++)
		for (unsigned int i = 0; i <= e % 3; i++) {
			if (put(arg, e, i) ||
			    (i == e % 3 && disk_journal_end(arg, e)))
				return (void *)1;
		}
	putting = false;
	return NULL;
}

static void who_appends_waits_for_room(void **state)
{
	enum { TIGHT = 5 * 1024 };
	struct disk_journal *j = open_journal(TIGHT);
	struct seen s = { 0 };
	unsigned int drops = 0;
	pthread_t thread;
	void *failed;

	(void)state;
	putting = true;
	pthread_create(&thread, NULL, put_many, j);
	while (putting) {
		assert_true(disk_journal_used(j) <= TIGHT);
		assert_int_equal(disk_journal_apply(j, UINT64_MAX, see, &s), 0);
		if (disk_journal_droppable(j)) {
			assert_int_equal(disk_journal_drop(j), 0);
			drops++;
		}
		sched_yield();
	}
	pthread_join(thread, &failed);
	assert_null(failed);
	assert_int_equal(disk_journal_apply(j, UINT64_MAX, see, &s), 0);
	assert_seen(&s, 1, EPOCHS_MAX - 1);
	assert_true(drops > 5);
	disk_journal_close(j);
}

static void *put_until_it_fails(void *arg)
{
	int err = 0;

	for (uint64_t e = 1; !err; e++) {
		err = put(arg, e, 0);
		if (!err)
			err = disk_journal_end(arg, e);
	}
	return (void *)(intptr_t)err;
}

static void who_waits_for_room_can_be_cancelled(void **state)
{
	struct disk_journal *j = open_journal(SMALL);
	pthread_t thread;
	void *err;

	(void)state;
	waiting = false;
	pthread_create(&thread, NULL, put_until_it_fails, j);
	while (!waiting)
		sched_yield();
	disk_journal_cancel(j);
	pthread_join(thread, &err);
	assert_int_equal((intptr_t)err, -ECANCELED);
	assert_int_equal(put(j, 1000, 0), -ECANCELED);
	assert_int_equal(disk_journal_remove(j), 0);
	disk_journal_close(j);
}

static void an_epoch_above_the_limit_is_refused(void **state)
{
	struct disk_journal *j = open_journal(SMALL);
	int err = 0;

	(void)state;
	put_epoch(j, 1);
	for (unsigned int i = 0; !err; i++) {
		assert_true(i < EPOCHS_MAX);
		err = put(j, 2, i);
	}
	assert_int_equal(err, -ENOSPC);
	assert_true(disk_journal_used(j) <= SMALL);
	assert_int_equal(disk_journal_end(j, 2), -ENOSPC);
	assert_applied(j, UINT64_MAX, 1, 1);
	disk_journal_close(j);
	assert_replayed(1, 1);
}

enum { LARGE = 32 * 1024 * 1024, LARGE_PIECE = 128 * 1024 };

static int put_large_epoch(struct disk_journal *j, uint64_t epoch, int bytes)
{
	static const uint8_t raw[LARGE_PIECE];
	int err = 0;

	for (; bytes > 0 && !err; bytes -= LARGE_PIECE)
		err = disk_journal_put(j, epoch, raw, sizeof(raw));
	return err ? err : disk_journal_end(j, epoch);
}

static void *put_half(void *arg)
{
	int err = put_large_epoch(arg, 3, LARGE / 2 - LARGE_PIECE);

	putting = false;
	return (void *)(intptr_t)err;
}

/* It is not begun behind so much that it would never fit there. */
static void an_epoch_of_half_the_limit_always_fits(void **state)
{
	struct disk_journal *j = open_journal(LARGE);
	unsigned int records = 0;
	pthread_t thread;
	void *err;

	(void)state;
	assert_int_equal(put_large_epoch(j, 1, LARGE / 4), 0);
	assert_int_equal(put_large_epoch(j, 2, LARGE / 2 + 2 * LARGE_PIECE), 0);
	putting = true;
	waiting = false;
	pthread_create(&thread, NULL, put_half, j);
	while (!waiting)
		sched_yield();
	while (putting) {
		assert_int_equal(
			disk_journal_apply(j, UINT64_MAX, count, &records), 0);
		if (disk_journal_droppable(j))
			assert_int_equal(disk_journal_drop(j), 0);
		sched_yield();
	}
	pthread_join(thread, &err);
	assert_int_equal((intptr_t)err, 0);
	disk_journal_close(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_epoch_is_applied_once_and_when_allowed),
		TEST(a_change_that_fails_comes_again),
		TEST(nothing_is_applied_before_it_is_stable),
		TEST(two_files_are_replayed_in_their_order),
		TEST(all_of_both_is_applied_in_order),
		TEST(a_file_stands_alone_when_the_one_before_is_dropped),
		TEST(who_drops_is_woken_when_files_are_switched),
		TEST(who_appends_waits_for_room),
		TEST(who_waits_for_room_can_be_cancelled),
		TEST(an_epoch_above_the_limit_is_refused),
		TEST(an_epoch_of_half_the_limit_always_fits),
	};

	return cmocka_run_group_tests(tests, make_host, NULL);
}
