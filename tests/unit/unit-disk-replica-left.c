/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume/disk/replica.c: whoever is killed and whenever, what was left makes
 * the disks as of one epoch, and nobody else's disk changes by it.
 */
#include "config.h"

#include "resume/disk/replica.h"

#include <signal.h>
#include <sys/wait.h>

#include "tests/unit/disk-replica-fixture.h"

const struct guest_kind *const guest_kinds[] = { NULL };

/* --- what was left ------------------------------------------------------- */

/* In another process, which is gone: `stored` epochs, and half of the next. */
static void leave_journal(uint64_t stored, uint64_t committed)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		struct disk_replica *r = synced();

		for (uint64_t e = 1; e <= stored; e++)
			if (put_epoch(r, e))
				_exit(1);
		disk_replica_commit(r, committed);
		_exit(put_part(r, stored + 1, 0) ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void a_journal_that_was_left_is_finished(void **state)
{
	(void)state;
	leave_journal(9, 3);
	disk_replica_close(open_replica());
	assert_as_of(9);
	assert_false(journal_is_there());
	assert_int_equal(state_of(0).base, BASE);
}

static void a_primarys_disk_is_not_touched_by_a_journal(void **state)
{
	struct disk_state s;

	(void)state;
	leave_journal(4, 0);
	s = state_of(0);
	s.role = DISK_ROLE_PRIMARY;
	set_state(0, &s);
	disk_replica_close(open_replica());
	assert_int_equal(epoch_of(0, 100), 0);
	assert_int_equal(epoch_of(1, 100), 4);
	assert_false(journal_is_there());
}

static void a_disk_that_is_no_more_keeps_no_journal(void **state)
{
	char path[128];

	(void)state;
	leave_journal(4, 0);
	snprintf(path, sizeof(path), "%s/root.disk", dir);
	assert_int_equal(unlink(path), 0);
	disk_replica_close(open_replica());
	assert_int_equal(epoch_of(1, 100), 4);
	assert_false(journal_is_there());
}

static void a_journal_in_use_is_let_alone(void **state)
{
	struct disk_replica *r = synced(), *second;

	(void)state;
	must_put(r, 1, 2);
	assert_int_equal(disk_replica_finish(dir, names[1], &why_not), -EBUSY);
	assert_int_equal(
		disk_replica_open(dir, "vm", JOURNAL_BYTES, &second, &why_not),
		-EBUSY);
	assert_as_of(0);
	assert_int_equal(put_epoch(r, 3), 0);
	disk_replica_close(r);
	assert_as_of(3);
}

static void the_journals_of_a_disk_are_found(void **state)
{
	(void)state;
	leave_journal(4, 2);
	assert_int_equal(disk_replica_finish(dir, "other", &why_not), 0);
	assert_true(journal_is_there());
	assert_int_equal(disk_replica_finish(dir, names[1], &why_not), 0);
	assert_as_of(4);
	assert_false(journal_is_there());
	assert_int_equal(disk_replica_finish("/nonexistent", "root", &why_not),
			 0);
}

/* Or it would be written over what is synchronised now. */
static void a_disk_taken_by_another_domain_has_no_journal(void **state)
{
	const struct disks offer = offer_of(0);
	struct disk_replica *r;
	struct disks_taken t;

	(void)state;
	leave_journal(4, 0);
	assert_int_equal(
		disk_replica_open(dir, "vm2", JOURNAL_BYTES, &r, &why_not), 0);
	assert_int_equal(disk_replica_take(r, &offer, &t, &why_not), 0);
	assert_false(journal_is_there());
	disk_replica_close(r);
}

static int nothing(void *arg, uint64_t epoch, const uint8_t *raw, size_t length)
{
	(void)arg;
	(void)epoch;
	(void)raw;
	(void)length;
	return 0;
}

/* Of the disks too; the first of its two files is not all there any more. */
static void leave_damaged_journal(void)
{
	static const uint8_t data[CHANGE_DATA_MAX];
	static uint8_t raw[CHANGE_BYTES_MAX];
	const struct change c = { .kind = CHANGE_WRITE,
				  .length = sizeof(data),
				  .data = data };
	const size_t length = change_put(&c, raw, sizeof(raw));
	const uint64_t limit = 10 * length, epochs = 7; /* into the second */
	struct disk_journal *j;
	char path[DISK_PATH_MAX];
	struct stat st;

	leave_journal(1, 0);
	assert_int_equal(
		disk_journal_open(dir, "vm", names, DISKS, limit, &j, &why_not),
		0);
	for (uint64_t e = 1; e <= epochs; e++) {
		assert_int_equal(disk_journal_put(j, e, raw, length), 0);
		assert_int_equal(disk_journal_end(j, e), 0);
	}
	assert_int_equal(disk_journal_apply(j, epochs, nothing, NULL), 0);
	disk_journal_close(j);
	assert_int_equal(disk_journal_path(dir, "vm", 1, path), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size > 0);
	assert_int_equal(disk_journal_path(dir, "vm", 0, path), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size - 1), 0);
}

static void disks_of_a_damaged_journal_are_not_trusted(void **state)
{
	struct disk_replica *r;

	(void)state;
	leave_damaged_journal();
	assert_int_equal(state_of(0).base, BASE);
	assert_int_equal(
		disk_replica_open(dir, "vm", JOURNAL_BYTES, &r, &why_not),
		-EBADMSG);
	assert_non_null(strstr(why_not.text, "compares all"));
	assert_true(journal_is_there());
	for (unsigned int i = 0; i < DISKS; i++) {
		assert_int_equal(state_of(i).base, 0);
		assert_false(state_of(i).whole);
	}
	/* Nor is it forgotten by those who take one of its disks. */
	assert_int_equal(disk_replica_finish(dir, names[1], &why_not),
			 -EBADMSG);
}

/* Of no disk that is known: of none that a guest of this host writes to. */
static void a_journal_without_names_is_of_any_secondarys_disk(void **state)
{
	struct disk_state s;
	char path[DISK_PATH_MAX];
	AUTO_FD int fd = -1;

	(void)state;
	leave_damaged_journal();
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(disk_journal_path(dir, "vm", i, path), 0);
		fd = open(path, O_RDWR);
		assert_int_equal(pwrite(fd, "spoilt", 6, 100), 6);
		cleanup_fd(&fd);
		fd = -1;
	}
	s = state_of(1);
	s.role = DISK_ROLE_PRIMARY;
	set_state(1, &s);
	assert_int_equal(disk_replica_finish(dir, names[0], &why_not),
			 -EBADMSG);
	assert_non_null(strstr(why_not.text, "make these anew"));
	assert_int_equal(disk_replica_finish(dir, names[1], &why_not), 0);
	assert_int_equal(disk_replica_finish(dir, "unknown", &why_not),
			 -EBADMSG);
	assert_true(journal_is_there());
}

/* --- kills --------------------------------------------------------------- */

#ifdef ENABLE_FAULTS

enum { KILL_EPOCHS = 30, KILL_JOURNAL = 16 * 1024 };

/* Of both processes. */
struct progress {
	uint64_t stored, committed;
	bool takes_over;
};

static void live(const char *fault, int to)
{
	struct progress p = { 0 };
	struct disk_replica *r;
	const struct disks offer = offer_of(0);
	struct disks_taken t;
	int err;

	if (fault_init(fault) ||
	    disk_replica_open(dir, "vm", KILL_JOURNAL, &r, &why_not) ||
	    disk_replica_take(r, &offer, &t, &why_not) ||
	    disk_replica_synced(r, &why))
		_exit(1);
	for (uint64_t e = 1; e <= KILL_EPOCHS; e++) {
		if (put_epoch(r, e))
			_exit(2);
		p.stored = e;
		p.committed = e - 1;
		if (pwrite(to, &p, sizeof(p), 0) != sizeof(p))
			_exit(3);
		disk_replica_commit(r, e - 1);
	}
	p.takes_over = true;
	if (pwrite(to, &p, sizeof(p), 0) != sizeof(p))
		_exit(3);
	err = disk_replica_promote(r, KILL_EPOCHS - 1, &why_not);
	_exit(err ? 4 : 0);
}

/* True: it came to its end. */
static bool kill_at(const char *point, unsigned int passage)
{
	struct progress p = { 0 };
	int64_t epoch[DISKS];
	char fault[64], path[128];
	AUTO_FD int fd = -1;
	pid_t pid;
	int status;

	setup(NULL);
	snprintf(path, sizeof(path), "%s/progress", dir);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	snprintf(fault, sizeof(fault), "%s:kill:%u", point, passage);
	pid = fork();
	if (!pid)
		live(fault, fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(status == 0 ||
		    (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
	disk_replica_close(open_replica());
	assert_true(pread(fd, &p, sizeof(p), 0) >= 0);
	for (unsigned int i = 0; i < DISKS; i++)
		epoch[i] = epoch_of(i, KILL_EPOCHS + 1);
	if (epoch[0] != epoch[1] || epoch[0] < (int64_t)p.stored - p.takes_over)
		fail_msg("%s: as of %ld and %ld, %lu was stored", fault,
			 (long)epoch[0], (long)epoch[1],
			 (unsigned long)p.stored);
	assert_int_equal(state_of(0).role,
			 status ? DISK_ROLE_SECONDARY : DISK_ROLE_PRIMARY);
	assert_false(journal_is_there());
	teardown(NULL);
	return status == 0;
}

static void kill_at_all(const char *point, unsigned int step)
{
	unsigned int passage = 1;

	while (!kill_at(point, passage))
		passage += step;
	assert_true(passage > 1);
}

static void a_kill_loses_nothing_and_mixes_nothing(void **state)
{
	(void)state;
	kill_at_all("disk-mid-journal", 7);
	kill_at_all("disk-mid-apply", 7);
	kill_at_all("disk-before-drop", 1);
	kill_at_all("disk-before-promote", 1);
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_journal_that_was_left_is_finished),
		TEST(a_primarys_disk_is_not_touched_by_a_journal),
		TEST(a_disk_that_is_no_more_keeps_no_journal),
		TEST(a_journal_in_use_is_let_alone),
		TEST(the_journals_of_a_disk_are_found),
		TEST(a_disk_taken_by_another_domain_has_no_journal),
		TEST(disks_of_a_damaged_journal_are_not_trusted),
		TEST(a_journal_without_names_is_of_any_secondarys_disk),
#ifdef ENABLE_FAULTS
		cmocka_unit_test(a_kill_loses_nothing_and_mixes_nothing),
#endif
	};

	log_open("/dev/null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
