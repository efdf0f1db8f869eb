/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume/disk/export.c and the control socket: what the storage has and what
 * the ring has are the same, or colod knows that they are not.
 */
#include "config.h"

#include "resume/disk/export.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "resume/disk/ring.h"
#include "tests/unit/disk-served-fixture.h"

const struct guest_kind *const guest_kinds[] = { NULL };

enum {
	DISK_BYTES = 4 * 1024 * 1024,
	RING_BYTES = 8 * 1024 * 1024,
	PAGE = 4096,
};

static _Atomic uint64_t *missed;
static uint64_t missed_before;

/* A colod's. */
static struct disk_ring *ring;
static int connection = -1;

static uint8_t bytes[DISK_BYTES], copy[DISK_BYTES];

static int setup(void **state)
{
	(void)state;
	make_disk(DISK_BYTES);
	serve();
	assert_int_equal(disk_missed_find(run_dir, "d", &missed), 0);
	missed_before = *missed;
	for (size_t i = 0; i < DISK_BYTES; i++)
		bytes[i] = (uint8_t)random();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	end_server();
	disk_missed_unmap(missed);
	disk_ring_close(ring);
	ring = NULL;
	if (connection >= 0)
		close(connection);
	connection = -1;
	return remove_disk();
}

static void pass_ring(enum disk_control_ask ask)
{
	uint64_t before;

	if (!ring)
		assert_int_equal(disk_ring_new(RING_BYTES, &ring), 0);
	connection = disk_control_pass(run_dir, "d", ask, disk_ring_fd(ring),
				       &before);
	assert_true(connection >= 0);
	assert_int_equal(before, *missed);
}

static void new_ring(void)
{
	pass_ring(DISK_CONTROL_NEW);
}

static void write_pages(unsigned int page, unsigned int count)
{
	assert_int_equal(disk_export_write(served, bytes + page * PAGE,
					   count * PAGE, (uint64_t)page * PAGE),
			 0);
}

static void see_storage(uint8_t *to)
{
	int fd = open(storage, O_RDONLY);

	assert_int_equal(pread(fd, to, DISK_BYTES, 0), DISK_BYTES);
	close(fd);
}

static void expect_change(enum wire_change_kind kind, uint64_t offset,
			  uint32_t length)
{
	struct change c = { 0 };
	unsigned int set;

	assert_int_equal(disk_ring_peek(ring, UINT64_MAX, &c, &set), 1);
	assert_int_equal(c.kind, kind);
	assert_int_equal(c.offset, offset);
	assert_int_equal(c.length, length);
	if (kind == CHANGE_WRITE)
		assert_memory_equal(c.data, bytes + offset, length);
	assert_int_equal(set, disk_meta_current(meta));
	disk_ring_pop(ring);
}

static void expect_missed(unsigned int count)
{
	assert_int_equal(*missed - missed_before, count);
}

static void expect_none(void)
{
	struct change c;
	unsigned int set;

	assert_int_equal(disk_ring_peek(ring, UINT64_MAX, &c, &set), 0);
}

static void wait_until_broken(struct disk_ring *r)
{
	for (int i = 0; i < 10000 && !disk_ring_broken(r); i++)
		clock_sleep_us(1000);
	assert_true(disk_ring_broken(r));
}

/* As a server that was killed in the middle of a write of these pages. */
static void leave_half(unsigned int page, unsigned int count)
{
	int fd;

	end_server();
	fd = open(storage, O_RDWR);
	disk_meta_begin(meta, (uint64_t)page * PAGE, (uint64_t)count * PAGE);
	assert_int_equal(
		pwrite(fd, bytes + page * PAGE, PAGE, (off_t)page * PAGE),
		PAGE);
	close(fd);
	see_storage(bytes); /* this is what it has to be */
	serve();
}

static bool pending(void)
{
	uint64_t offset, length;

	return disk_meta_pending(meta, &offset, &length);
}

/* --- tests ---------------------------------------------------------------- */

static void a_change_without_colod_is_marked_and_missed(void **state)
{
	(void)state;
	write_pages(32, 2);
	assert_int_equal(disk_export_read(served, copy, 2 * PAGE, 32 * PAGE),
			 0);
	assert_memory_equal(copy, bytes + 32 * PAGE, 2 * PAGE);
	assert_true(marked(2));
	assert_int_equal(disk_meta_count(meta), 1);
	expect_missed(1);
	assert_false(pending());
	assert_int_equal(disk_export_flush(served), 0);
	assert_int_equal(disk_export_size(served), DISK_BYTES);
}

static void a_change_goes_to_the_storage_and_the_ring(void **state)
{
	(void)state;
	new_ring();
	write_pages(3, 1);
	assert_int_equal(disk_export_zero(served, 5000, 7000, true), 0);
	assert_int_equal(disk_export_trim(served, 8192, 65536), 0);
	expect_change(CHANGE_WRITE, 3 * PAGE, PAGE);
	expect_change(CHANGE_ZERO, 7000, 5000);
	expect_change(CHANGE_TRIM, 65536, 8192);
	expect_none();
	see_storage(copy);
	assert_memory_equal(copy + 3 * PAGE, bytes + 3 * PAGE, PAGE);
	assert_true(marked(0));
	assert_true(marked(1));
	expect_missed(0);
	assert_false(pending());
}

static void a_large_write_is_cut_for_the_ring(void **state)
{
	(void)state;
	new_ring();
	write_pages(1, 70);
	expect_change(CHANGE_WRITE, PAGE, CHANGE_DATA_MAX);
	expect_change(CHANGE_WRITE, PAGE + CHANGE_DATA_MAX, CHANGE_DATA_MAX);
	expect_change(CHANGE_WRITE, PAGE + 2 * CHANGE_DATA_MAX,
		      70 * PAGE - 2 * CHANGE_DATA_MAX);
	expect_none();
}

static void what_is_not_on_the_disk_is_refused(void **state)
{
	static const struct {
		uint32_t length;
		uint64_t offset;
	} bad[] = { { 0, 0 },
		    { 1, DISK_BYTES },
		    { 2, DISK_BYTES - 1 },
		    { 1, UINT64_MAX },
		    { PAGE, UINT64_MAX - 5 } };

	(void)state;
	new_ring();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint32_t n = bad[i].length;
		uint64_t at = bad[i].offset;

		assert_int_equal(disk_export_write(served, bytes, n, at),
				 -EINVAL);
		assert_int_equal(disk_export_zero(served, n, at, false),
				 -EINVAL);
		assert_int_equal(disk_export_trim(served, n, at), -EINVAL);
		assert_int_equal(disk_export_read(served, copy, n, at),
				 -EINVAL);
	}
	expect_none();
	assert_int_equal(disk_meta_count(meta), 0);
	expect_missed(0);
}

static void a_secondarys_is_read_and_not_written(void **state)
{
	struct disk_state s = { .role = DISK_ROLE_SECONDARY };

	(void)state;
	new_ring();
	assert_int_equal(disk_meta_set(meta, &s), 0);
	assert_int_equal(disk_export_write(served, bytes, PAGE, 0), -EROFS);
	assert_int_equal(disk_export_zero(served, PAGE, 0, true), -EROFS);
	assert_int_equal(disk_export_trim(served, PAGE, 0), -EROFS);
	assert_int_equal(disk_export_read(served, copy, PAGE, 0), 0);
	assert_int_equal(copy[0], 0);
	assert_int_equal(disk_meta_count(meta), 0);
	expect_none();
	s.role = DISK_ROLE_PRIMARY;
	assert_int_equal(disk_meta_set(meta, &s), 0);
	write_pages(0, 1);
}

static void *write_anywhere(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	uint8_t page[PAGE];

	for (int i = 0; i < 300; i++) {
		uint64_t at = (uint64_t)(rand_r(&seed) % 4) * 2048;

		memset(page, rand_r(&seed), sizeof(page));
		if (i % 7 == 6)
			disk_export_zero(served, PAGE, at, false);
		else
			disk_export_write(served, page, PAGE, at);
	}
	return NULL;
}

static void replay(uint8_t *to)
{
	struct change c;
	unsigned int set;

	while (disk_ring_peek(ring, UINT64_MAX, &c, &set) == 1) {
		if (c.kind == CHANGE_WRITE)
			memcpy(to + c.offset, c.data, c.length);
		else
			memset(to + c.offset, 0, c.length);
		disk_ring_pop(ring);
	}
}

static void the_ring_has_the_order_of_the_storage(void **state)
{
	(void)state;
	new_ring();
	for (unsigned int round = 0; round < 20; round++) {
		pthread_t t[2];

		for (uintptr_t i = 0; i < 2; i++)
			pthread_create(&t[i], NULL, write_anywhere,
				       (void *)(round * 2 + i + 1));
		for (int i = 0; i < 2; i++)
			pthread_join(t[i], NULL);
		see_storage(copy);
		replay(bytes);
		assert_memory_equal(bytes, copy, 4 * 2048 + 2048);
	}
}

static void a_ring_without_a_reader_breaks_and_the_guest_goes_on(void **state)
{
	(void)state;
	assert_int_equal(disk_ring_new(40 * PAGE, &ring), 0);
	new_ring();
	write_pages(0, 32);
	expect_missed(0);
	write_pages(100, 32);
	assert_true(disk_ring_broken(ring));
	expect_missed(1);
	write_pages(200, 1);
	expect_missed(2);
	see_storage(copy);
	assert_memory_equal(copy + 100 * PAGE, bytes + 100 * PAGE, 32 * PAGE);
	assert_memory_equal(copy + 200 * PAGE, bytes + 200 * PAGE, PAGE);
	assert_true(marked(200 * PAGE / DISK_BLOCK_BYTES));
	assert_false(pending());
}

static void another_colod_has_the_changes_from_then_on(void **state)
{
	struct disk_ring *old;
	int old_connection;

	(void)state;
	new_ring();
	write_pages(0, 1);
	old = ring;
	old_connection = connection;
	ring = NULL;
	new_ring();
	assert_true(disk_ring_broken(old));
	write_pages(1, 1);
	expect_change(CHANGE_WRITE, PAGE, PAGE);
	/* The end of a connection that is of no use any more. */
	close(old_connection);
	write_pages(2, 1);
	expect_change(CHANGE_WRITE, 2 * PAGE, PAGE);
	assert_false(disk_ring_broken(ring));
	expect_missed(0);
	disk_ring_close(old);
}

static void a_colod_that_ends_is_not_waited_for(void **state)
{
	(void)state;
	new_ring();
	write_pages(0, 1);
	expect_missed(0);
	close(connection);
	connection = -1;
	wait_until_broken(ring);
	write_pages(1, 1);
	expect_missed(1);
	disk_ring_close(ring);
	ring = NULL;
	new_ring();
	write_pages(2, 1);
	expect_change(CHANGE_WRITE, 2 * PAGE, PAGE);
}

static void what_is_no_ring_changes_nothing(void **state)
{
	uint64_t before;
	int fd = open("/dev/null", O_RDWR);

	(void)state;
	new_ring();
	assert_int_equal(
		disk_control_pass(run_dir, "d", DISK_CONTROL_NEW, fd, &before),
		-EINVAL);
	close(fd);
	write_pages(1, 1);
	expect_change(CHANGE_WRITE, PAGE, PAGE);
	expect_missed(0);
}

static void what_a_killed_server_left_goes_into_its_ring(void **state)
{
	(void)state;
	new_ring();
	leave_half(10, 40);
	assert_true(pending());
	close(connection);
	pass_ring(DISK_CONTROL_AGAIN);
	expect_change(CHANGE_WRITE, 10 * PAGE, CHANGE_DATA_MAX);
	expect_change(CHANGE_WRITE, 10 * PAGE + CHANGE_DATA_MAX,
		      40 * PAGE - CHANGE_DATA_MAX);
	expect_none();
	assert_false(pending());
	assert_false(disk_ring_broken(ring));
	expect_missed(0);
	assert_int_equal(disk_meta_count(meta), 3 + 1);
}

static void what_a_killed_server_left_is_marked_for_a_new_ring(void **state)
{
	(void)state;
	leave_half(16, 2);
	assert_true(marked(1));
	new_ring();
	expect_none();
	assert_false(pending());
	expect_missed(0);
	write_pages(20, 1);
	expect_change(CHANGE_WRITE, 20 * PAGE, PAGE);
}

static void what_a_killed_server_left_is_missed_without_a_ring(void **state)
{
	(void)state;
	leave_half(16, 2);
	assert_true(pending());
	write_pages(64, 1);
	assert_false(pending());
	expect_missed(2);
	assert_true(marked(1));
	assert_true(marked(4));
}

static void *write_first_page(void *arg)
{
	(void)arg;
	write_pages(0, 1);
	return NULL;
}

/* As a colod that has the disk. */
static struct disk_meta *hold(void)
{
	struct disk_meta *colod;
	struct guest_error err;

	assert_int_equal(disk_meta_open(dir, "d", &colod, &err), 0);
	assert_int_equal(disk_meta_hold(colod, DISK_HOLDER_COLOD), 0);
	return colod;
}

static void a_new_server_lets_the_first_change_wait_for_the_ring(void **state)
{
	struct disk_meta *colod;
	pthread_t t;

	(void)state;
	become(DISK_ROLE_PRIMARY);
	new_ring();
	write_pages(5, 1);
	expect_change(CHANGE_WRITE, 5 * PAGE, PAGE);
	colod = hold();
	end_server();
	assert_false(disk_ring_broken(ring));
	close(connection);
	serve();
	pthread_create(&t, NULL, write_first_page, NULL);
	/* Long enough for one that does not wait to be missed. */
	clock_sleep_us(50 * 1000);
	pass_ring(DISK_CONTROL_AGAIN);
	pthread_join(t, NULL);
	expect_change(CHANGE_WRITE, 0, PAGE);
	expect_missed(0);
	disk_meta_close(colod);
}

static void a_colod_that_does_not_come_is_not_waited_for_long(void **state)
{
	struct disk_meta *colod;

	(void)state;
	become(DISK_ROLE_PRIMARY);
	colod = hold();
	end_server();
	serve();
	write_pages(0, 1);
	expect_missed(1);
	disk_meta_close(colod);
}

/* A standby's colod asks for nothing: after a takeover nobody waits for it. */
static void a_colod_of_a_secondary_is_not_waited_for(void **state)
{
	struct disk_meta *colod;
	pthread_t t;

	(void)state;
	new_ring();
	become(DISK_ROLE_SECONDARY);
	colod = hold();
	end_server();
	serve();
	become(DISK_ROLE_PRIMARY);
	pthread_create(&t, NULL, write_first_page, NULL);
	/* Long enough for one that waits to be in the ring. */
	clock_sleep_us(50 * 1000);
	pass_ring(DISK_CONTROL_NEW);
	pthread_join(t, NULL);
	expect_none();
	disk_meta_close(colod);
}

/* A file may not become longer: a part of the write is done. */
static void a_storage_that_fails_breaks_the_ring(void **state)
{
	struct rlimit old, small;

	(void)state;
	new_ring();
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small = (struct rlimit){ 6 * PAGE, old.rlim_max };
	setrlimit(RLIMIT_FSIZE, &small);
	assert_int_equal(
		disk_export_write(served, bytes + 5 * PAGE, 2 * PAGE, 5 * PAGE),
		-EFBIG);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_true(disk_ring_broken(ring));
	expect_none();
	expect_missed(1);
	assert_true(marked(0));
	assert_false(pending());
}

static void what_is_not_served_has_nobody_to_ask(void **state)
{
	uint64_t before;

	(void)state;
	assert_int_equal(disk_ring_new(RING_BYTES, &ring), 0);
	end_server();
	assert_int_equal(disk_control_pass(run_dir, "d", DISK_CONTROL_NEW,
					   disk_ring_fd(ring), &before),
			 -ENOTCONN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_change_without_colod_is_marked_and_missed),
		TEST(a_change_goes_to_the_storage_and_the_ring),
		TEST(a_large_write_is_cut_for_the_ring),
		TEST(what_is_not_on_the_disk_is_refused),
		TEST(a_secondarys_is_read_and_not_written),
		TEST(the_ring_has_the_order_of_the_storage),
		TEST(a_ring_without_a_reader_breaks_and_the_guest_goes_on),
		TEST(another_colod_has_the_changes_from_then_on),
		TEST(a_colod_that_ends_is_not_waited_for),
		TEST(what_is_no_ring_changes_nothing),
		TEST(what_a_killed_server_left_goes_into_its_ring),
		TEST(what_a_killed_server_left_is_marked_for_a_new_ring),
		TEST(what_a_killed_server_left_is_missed_without_a_ring),
		TEST(a_new_server_lets_the_first_change_wait_for_the_ring),
		TEST(a_colod_that_does_not_come_is_not_waited_for_long),
		TEST(a_colod_of_a_secondary_is_not_waited_for),
		TEST(a_storage_that_fails_breaks_the_ring),
		TEST(what_is_not_served_has_nobody_to_ask),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
