/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume/disk/replica.c: at a takeover the disks are as of the last committed
 * epoch, also where the journal has no room or the storage fails.
 */
#include "config.h"

#include "resume/disk/replica.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

#include "tests/unit/disk-replica-fixture.h"

const struct guest_kind *const guest_kinds[] = { NULL };

/* --- the happy path ------------------------------------------------------ */

static void a_takeover_is_as_of_the_last_committed_epoch(void **state)
{
	const struct disk_state expected = { DISK_ROLE_PRIMARY, true, true,
					     BASE };
	struct disk_replica *r = synced();
	struct disk_state s;

	(void)state;
	must_put(r, 1, 5);
	assert_int_equal(put_part(r, 6, 0), 0);
	disk_replica_commit(r, 2);
	assert_true(journal_is_there());
	assert_int_equal(disk_replica_promote(r, 3, &why_not), 0);
	assert_as_of(3);
	assert_false(journal_is_there());
	for (unsigned int i = 0; i < DISKS; i++) {
		s = state_of(i);
		assert_true(same_state(&s, &expected));
	}
	assert_int_equal(put_part(r, 6, 1), -ECANCELED);
	disk_replica_close(r);
	assert_as_of(3);
	assert_int_equal(state_of(0).role, DISK_ROLE_PRIMARY);
}

static void a_takeover_needs_no_epoch(void **state)
{
	struct disk_replica *r = synced();

	(void)state;
	must_put(r, 1, 1);
	assert_int_equal(disk_replica_promote(r, 0, &why_not), 0);
	assert_as_of(0);
	disk_replica_close(r);
	r = open_replica(); /* of a domain without disks */
	assert_int_equal(disk_replica_promote(r, 5, &why_not), 0);
	disk_replica_close(r);
}

static void a_takeover_is_refused_while_disks_are_not_whole(void **state)
{
	struct disk_replica *r = taken(0, NULL);

	(void)state;
	assert_int_equal(disk_replica_promote(r, 0, &why_not), -EINVAL);
	assert_non_null(strstr(why_not.text, "not whole"));
	assert_int_equal(state_of(0).role, DISK_ROLE_SECONDARY);
	disk_replica_close(r);
}

/* What is applied cannot be taken back. */
static void a_takeover_is_not_of_the_past(void **state)
{
	struct disk_replica *r = synced();

	(void)state;
	must_put(r, 1, 3);
	disk_replica_commit(r, 3);
	assert_int_equal(disk_replica_promote(r, 2, &why_not), -EINVAL);
	assert_int_equal(put_part(r, 4, 0), 0);
	assert_int_equal(disk_replica_promote(r, 4, &why_not), -EINVAL);
	assert_int_equal(disk_replica_promote(r, 3, &why_not), 0);
	assert_as_of(3);
	disk_replica_close(r);
}

/* The primary may have been told so. */
static void what_is_complete_is_applied_at_the_end(void **state)
{
	struct disk_replica *r = synced();
	struct disk_state s;

	(void)state;
	must_put(r, 1, 4);
	disk_replica_commit(r, 1);
	assert_int_equal(put_part(r, 5, 0), 0);
	disk_replica_close(r);
	assert_as_of(4);
	assert_false(journal_is_there());
	s = state_of(1);
	assert_int_equal(s.role, DISK_ROLE_SECONDARY);
	assert_true(s.whole && s.base == BASE);
}

static void zeroes_and_trims_are_applied(void **state)
{
	struct disk_replica *r = taken(0, NULL);
	struct change c = { .disk = 0, .offset = 0, .length = WRITE_BYTES };
	uint8_t raw[2048], byte[3 * WRITE_BYTES];
	size_t n = 0;
	char path[128];
	int fd;

	(void)state;
	for (unsigned int i = 0; i < 3; i++)
		n += add_write(raw + n, sizeof(raw) - n, 0, i * WRITE_BYTES,
			       UINT64_MAX);
	assert_int_equal(disk_replica_put(r, 0, raw, n, &why), 0);
	assert_int_equal(disk_replica_synced(r, &why), 0);
	c.kind = CHANGE_ZERO;
	n = change_put(&c, raw, sizeof(raw));
	c.kind = CHANGE_TRIM;
	c.offset = WRITE_BYTES;
	n += change_put(&c, raw + n, sizeof(raw) - n);
	assert_int_equal(disk_replica_put(r, 1, raw, n, &why), 0);
	assert_int_equal(disk_replica_stored(r, 1, &why), 0);
	disk_replica_close(r);
	storage_path(0, path);
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, byte, sizeof(byte)), sizeof(byte));
	close(fd);
	assert_int_equal(byte[0], 0);
	assert_int_equal(byte[2 * WRITE_BYTES], 0xff);
}

static void its_status_is_told(void **state)
{
	struct disk_replica *r = taken(0, NULL);
	struct disk_replica_status s;

	(void)state;
	disk_replica_status(r, &s);
	assert_true(s.disks == DISKS && !s.whole && !s.journal_bytes);
	assert_int_equal(disk_replica_synced(r, &why), 0);
	must_put(r, 1, 1);
	disk_replica_status(r, &s);
	assert_true(s.whole && s.journal_bytes > 4 * WRITE_BYTES && !s.err);
	assert_int_equal(s.written_bytes, 0);
	assert_int_equal(disk_replica_promote(r, 1, &why_not), 0);
	disk_replica_status(r, &s);
	assert_int_equal(s.written_bytes, 4 * WRITE_BYTES);
	assert_int_equal(s.journal_bytes, 0);
	disk_replica_close(r);
}

/* --- room ---------------------------------------------------------------- */

enum { LARGE_WRITE = 100 * 1024 };

static int put_large(struct disk_replica *r, uint64_t epoch)
{
	static const uint8_t data[LARGE_WRITE];
	static uint8_t raw[CHANGE_BYTES_MAX];
	const struct change c = { 0, CHANGE_WRITE, 65536, LARGE_WRITE, data };

	return disk_replica_put(r, epoch, raw, change_put(&c, raw, sizeof(raw)),
				&why);
}

static void the_journal_is_emptied_as_epochs_are_committed(void **state)
{
	enum { EPOCHS = 60 }; /* six times the journal */
	struct disk_replica *r = synced();
	struct disk_replica_status s;

	(void)state;
	for (uint64_t e = 1; e <= EPOCHS; e++) {
		assert_int_equal(put_large(r, e), 0);
		assert_int_equal(put_epoch(r, e), 0);
		disk_replica_commit(r, e);
		disk_replica_status(r, &s);
		assert_true(s.journal_bytes <= JOURNAL_BYTES);
	}
	assert_int_equal(disk_replica_promote(r, EPOCHS, &why_not), 0);
	assert_as_of(EPOCHS);
	disk_replica_close(r);
}

/* From epoch 2 on. */
static void *put_until_it_fails(void *arg)
{
	int err = 0;

	for (uint64_t e = 2; !err; e++) {
		err = put_large(arg, e);
		if (!err)
			err = put_epoch(arg, e);
	}
	return (void *)(intptr_t)err;
}

static void wait_until_half_full(struct disk_replica *r)
{
	struct disk_replica_status s;

	do {
		sched_yield();
		disk_replica_status(r, &s);
	} while (s.journal_bytes < JOURNAL_BYTES / 2);
}

static void who_waits_for_room_can_be_cancelled(void **state)
{
	struct disk_replica *r = synced();
	pthread_t thread;
	void *err;

	(void)state;
	must_put(r, 1, 1);
	pthread_create(&thread, NULL, put_until_it_fails, r);
	wait_until_half_full(r);
	disk_replica_cancel(r);
	pthread_join(thread, &err);
	assert_int_equal((intptr_t)err, -ECANCELED);
	assert_int_equal(disk_replica_promote(r, 1, &why_not), 0);
	assert_as_of(1);
	disk_replica_close(r);
}

static void an_epoch_above_the_limit_is_told(void **state)
{
	struct disk_replica *r = synced();
	int err = 0;

	(void)state;
	must_put(r, 1, 1);
	for (int i = 0; i < 20 && !err; i++)
		err = put_large(r, 2);
	assert_int_equal(err, -ENOSPC);
	assert_non_null(strstr(why, "--disk-journal"));
	assert_int_equal(disk_replica_stored(r, 2, &why), -ENOSPC);
	assert_int_equal(disk_replica_promote(r, 1, &why_not), 0);
	assert_as_of(1);
	disk_replica_close(r);
}

/* --- a storage that fails ------------------------------------------------ */

/* Writes behind this fail, the journal's do not come so far. */
static void limit_files(rlim_t bytes)
{
	struct rlimit l;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &l), 0);
	l.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &l), 0);
}

static void put_far(struct disk_replica *r, uint64_t epoch)
{
	uint8_t raw[2 * WRITE_BYTES];
	size_t n =
		add_write(raw, sizeof(raw), 0, DISK_BYTES - WRITE_BYTES, epoch);

	assert_int_equal(disk_replica_put(r, epoch, raw, n, &why), 0);
	assert_int_equal(put_epoch(r, epoch), 0);
}

static int wait_for_error(struct disk_replica *r)
{
	struct disk_replica_status s;

	do {
		sched_yield();
		disk_replica_status(r, &s);
	} while (!s.err);
	return s.err;
}

static void a_storage_that_fails_is_told_and_finished_later(void **state)
{
	struct disk_replica *r = synced();

	(void)state;
	must_put(r, 1, 1);
	put_far(r, 2);
	limit_files(DISK_BYTES / 2);
	disk_replica_commit(r, 2);
	assert_int_equal(wait_for_error(r), -EFBIG);
	assert_int_equal(put_part(r, 3, 0), -EIO);
	assert_non_null(strstr(why, "committed"));
	assert_int_equal(disk_replica_stored(r, 3, &why), -EIO);
	assert_int_equal(disk_replica_promote(r, 2, &why_not), -EIO);
	assert_int_equal(state_of(0).role, DISK_ROLE_SECONDARY);
	disk_replica_close(r);
	assert_true(journal_is_there());
	assert_int_equal(
		disk_replica_open(dir, "vm", JOURNAL_BYTES, &r, &why_not),
		-EFBIG);
	assert_true(journal_is_there());
	limit_files(RLIM_INFINITY);
	disk_replica_close(open_replica());
	assert_false(journal_is_there());
	assert_as_of(2);
}

static void a_storage_that_fails_is_not_waited_for(void **state)
{
	struct disk_replica *r = synced();
	pthread_t thread;
	void *err;

	(void)state;
	put_far(r, 1);
	limit_files(DISK_BYTES / 2);
	pthread_create(&thread, NULL, put_until_it_fails, r);
	wait_until_half_full(r);
	disk_replica_commit(r, 1);
	pthread_join(thread, &err);
	assert_int_equal((intptr_t)err, -EIO);
	assert_int_equal(wait_for_error(r), -EFBIG);
	limit_files(RLIM_INFINITY);
	disk_replica_close(r);
	assert_true(journal_is_there());
}

static void a_synchronisation_that_fails_is_not_whole(void **state)
{
	struct disk_replica *r = taken(0, NULL);
	uint8_t raw[2 * WRITE_BYTES];
	size_t n = add_write(raw, sizeof(raw), 0, DISK_BYTES - WRITE_BYTES, 1);

	(void)state;
	limit_files(DISK_BYTES / 2);
	assert_int_equal(disk_replica_put(r, 0, raw, n, &why), -EIO);
	limit_files(RLIM_INFINITY);
	assert_int_equal(disk_replica_synced(r, &why), -EIO);
	disk_replica_close(r);
	assert_false(state_of(0).whole);
}

/* --- faults -------------------------------------------------------------- */

#ifdef ENABLE_FAULTS

static void a_takeover_that_failed_can_be_tried_again(void **state)
{
	struct disk_replica *r = synced();

	(void)state;
	must_put(r, 1, 3);
	disk_replica_commit(r, 1);
	assert_int_equal(fault_init("disk-before-promote:error=ENOSPC"), 0);
	assert_int_equal(disk_replica_promote(r, 2, &why_not), -ENOSPC);
	assert_int_equal(state_of(0).role, DISK_ROLE_SECONDARY);
	assert_int_equal(disk_replica_promote(r, 2, &why_not), 0);
	assert_as_of(2);
	disk_replica_close(r);
}

static void forget_storage(void)
{
	static const uint8_t nothing[64 * 1024];
	char path[128];

	for (unsigned int i = 0; i < DISKS; i++) {
		int fd;

		storage_path(i, path);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		assert_int_equal(pwrite(fd, nothing, sizeof(nothing), 0),
				 sizeof(nothing));
		close(fd);
	}
}

/* It may say at the second try that all is well, and have lost what it had. */
static void a_storage_that_was_not_stable_gets_all_of_it_again(void **state)
{
	struct disk_replica *r = synced();

	(void)state;
	must_put(r, 1, 3);
	assert_int_equal(fault_init("disk-before-drop:error=EIO"), 0);
	assert_int_equal(disk_replica_promote(r, 2, &why_not), -EIO);
	assert_int_equal(state_of(0).role, DISK_ROLE_SECONDARY);
	assert_true(journal_is_there());
	forget_storage();
	assert_int_equal(disk_replica_promote(r, 2, &why_not), 0);
	assert_as_of(2);
	assert_int_equal(state_of(0).role, DISK_ROLE_PRIMARY);
	disk_replica_close(r);
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_takeover_is_as_of_the_last_committed_epoch),
		TEST(a_takeover_needs_no_epoch),
		TEST(a_takeover_is_refused_while_disks_are_not_whole),
		TEST(a_takeover_is_not_of_the_past),
		TEST(what_is_complete_is_applied_at_the_end),
		TEST(zeroes_and_trims_are_applied),
		TEST(its_status_is_told),
		TEST(the_journal_is_emptied_as_epochs_are_committed),
		TEST(who_waits_for_room_can_be_cancelled),
		TEST(an_epoch_above_the_limit_is_told),
		TEST(a_storage_that_fails_is_told_and_finished_later),
		TEST(a_storage_that_fails_is_not_waited_for),
		TEST(a_synchronisation_that_fails_is_not_whole),
#ifdef ENABLE_FAULTS
		TEST(a_takeover_that_failed_can_be_tried_again),
		TEST(a_storage_that_was_not_stable_gets_all_of_it_again),
#endif
	};

	signal(SIGXFSZ, SIG_IGN);
	log_open("/dev/null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
