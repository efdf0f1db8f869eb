/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume/disk/feed.c over a real export: all changes come, in order and once,
 * whatever becomes of the server; and what the peer may not have is marked.
 */
#include "config.h"

#include "resume/disk/feed.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "stream/changes.h"
#include "tests/unit/disk-served-fixture.h"

const struct guest_kind *const guest_kinds[] = { NULL };

enum {
	BLOCKS = 33,
	LAST_BYTES = 512, /* of the last block */
	DISK_BYTES = (BLOCKS - 1) * DISK_BLOCK_BYTES + LAST_BYTES,
	RING_BYTES = 1024 * 1024,
	CHANGE = 512,
	RAW_BYTES = 2 * CHANGE_BYTES_MAX,
	INDEX = 3,
};

static struct disk_feed *feed;
static uint8_t raw[RAW_BYTES];

static int setup(void **state)
{
	(void)state;
	make_disk(DISK_BYTES);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	disk_feed_close(feed);
	feed = NULL;
	return remove_disk();
}

static int try_open(struct guest_error *err)
{
	return disk_feed_open(dir, run_dir, "d", INDEX, RING_BYTES, &feed, err);
}

static void open_feed(void)
{
	struct guest_error err = { { 0 } };

	assert_int_equal(try_open(&err), 0);
}

/* A change of this block alone. */
static int write_at(struct disk_export *e, uint64_t block, uint8_t value)
{
	uint8_t bytes[CHANGE];

	memset(bytes, value, sizeof(bytes));
	return disk_export_write(e, bytes, CHANGE, block * DISK_BLOCK_BYTES);
}

static void put(uint64_t block)
{
	assert_int_equal(write_at(served, block, 1), 0);
}

/* All changes there are, at most `count` of them: how many. */
static unsigned int take(uint64_t limit, unsigned int count)
{
	const size_t room = CHANGE_HEADER_BYTES + CHANGE;
	unsigned int n = 0;

	while (n < count && disk_feed_next(feed, limit, raw, room) > 0)
		n++;
	return n;
}

static void epoch(uint64_t number)
{
	take(disk_feed_head(feed), UINT32_MAX);
	disk_feed_sent(feed, number);
}

/* --- opening -------------------------------------------------------------- */

static void a_disk_that_cannot_be_fed_is_told(void **state)
{
	struct disk_state s = { .role = DISK_ROLE_SECONDARY, .base = 5 };
	struct guest_error err = { { 0 } };
	struct disk_feed *other;

	(void)state;
	assert_int_equal(
		disk_feed_open(dir, run_dir, "e", 0, RING_BYTES, &feed, &err),
		-ENOENT);
	assert_int_equal(try_open(&err), -ENOTCONN);
	assert_non_null(strstr(err.text, "colod disk serve d"));
	serve();
	assert_int_equal(disk_meta_set(meta, &s), 0);
	assert_int_equal(try_open(&err), -EROFS);
	assert_non_null(strstr(err.text, "colod disk primary d"));
	assert_int_equal(disk_meta_role(meta), DISK_ROLE_SECONDARY);
	s.role = DISK_ROLE_NEW;
	assert_int_equal(disk_meta_set(meta, &s), 0);
	end_server();
	assert_int_equal(try_open(&err), -ENOTCONN);
	assert_int_equal(disk_meta_role(meta), DISK_ROLE_NEW);
	serve();
	open_feed();
	assert_int_equal(
		disk_feed_open(dir, run_dir, "d", 0, RING_BYTES, &other, &err),
		-EBUSY);
	assert_non_null(strstr(err.text, "another colod"));
}

static void a_fed_disk_is_the_primarys(void **state)
{
	struct disk_state s = { .role = DISK_ROLE_NEW,
				.alone = true,
				.base = 5 };

	(void)state;
	serve();
	assert_int_equal(disk_meta_set(meta, &s), 0);
	open_feed();
	s = disk_meta_state(disk_feed_meta(feed));
	assert_int_equal(s.role, DISK_ROLE_PRIMARY);
	assert_true(s.alone);
	assert_int_equal(s.base, 5);
	assert_int_equal(disk_feed_synced(feed, 6), 0);
	s = disk_meta_state(meta);
	assert_false(s.alone);
	assert_int_equal(s.base, 6);
	disk_feed_alone(dir, "d");
	s = disk_meta_state(meta);
	assert_true(s.alone);
	assert_int_equal(s.role, DISK_ROLE_PRIMARY);
	assert_int_equal(s.base, 6);
}

/* --- changes and blocks --------------------------------------------------- */

static void expect(const uint8_t **at, size_t *left, enum wire_change_kind kind,
		   uint64_t offset, uint32_t length)
{
	static const uint64_t sizes[] = { 0, 0, 0, DISK_BYTES };
	const struct change_bounds b = { sizes, INDEX + 1 };
	const char *why = "";
	struct change c;

	assert_int_equal(change_take(at, left, &b, &c, &why), 0);
	assert_int_equal(c.disk, INDEX);
	assert_int_equal(c.kind, kind);
	assert_int_equal(c.offset, offset);
	assert_int_equal(c.length, length);
	for (uint32_t i = 0; kind == CHANGE_WRITE && i < length; i++)
		assert_int_equal(c.data[i], 1);
}

static void changes_come_in_order_up_to_a_limit(void **state)
{
	const uint8_t *at = raw;
	uint64_t limit;
	ssize_t n;
	size_t left;

	(void)state;
	serve();
	put(7); /* nobody asked for it yet */
	open_feed();
	assert_int_equal(disk_feed_next(feed, UINT64_MAX, raw, RAW_BYTES), 0);
	put(2);
	disk_export_zero(served, 3000, 70000, true);
	limit = disk_feed_head(feed);
	disk_export_trim(served, 4096, 8192);
	put(1);
	assert_true(disk_feed_used(feed) >= 2 * CHANGE);
	n = disk_feed_next(feed, limit, raw, RAW_BYTES);
	assert_int_equal(n, 2 * CHANGE_HEADER_BYTES + CHANGE);
	left = (size_t)n;
	expect(&at, &left, CHANGE_WRITE, 2 * DISK_BLOCK_BYTES, CHANGE);
	expect(&at, &left, CHANGE_ZERO, 70000, 3000);
	assert_int_equal(disk_feed_next(feed, limit, raw, RAW_BYTES), 0);
	limit = disk_feed_head(feed);
	/* There is room for one of them. */
	n = disk_feed_next(feed, limit, raw, CHANGE_HEADER_BYTES + CHANGE);
	at = raw;
	left = (size_t)n;
	expect(&at, &left, CHANGE_TRIM, 8192, 4096);
	assert_int_equal(left, 0);
	n = disk_feed_next(feed, limit, raw, RAW_BYTES);
	at = raw;
	left = (size_t)n;
	expect(&at, &left, CHANGE_WRITE, DISK_BLOCK_BYTES, CHANGE);
	assert_int_equal(left, 0);
	assert_int_equal(disk_feed_used(feed), 0);
}

static void blocks_are_read_the_last_one_as_far_as_it_goes(void **state)
{
	static uint8_t bytes[DISK_BLOCK_BYTES];

	(void)state;
	serve();
	open_feed();
	put(4);
	put(BLOCKS - 1);
	assert_int_equal(disk_feed_read(feed, 4, bytes), DISK_BLOCK_BYTES);
	assert_int_equal(bytes[CHANGE - 1], 1);
	assert_int_equal(bytes[CHANGE], 0);
	assert_int_equal(disk_feed_read(feed, BLOCKS - 1, bytes), LAST_BYTES);
	assert_int_equal(bytes[0], 1);
	assert_int_equal(disk_feed_read(feed, BLOCKS, bytes), -EINVAL);
}

static void a_broken_feed_says_so_and_clears_nothing(void **state)
{
	(void)state;
	serve();
	open_feed();
	put(1);
	take(disk_feed_head(feed), UINT32_MAX);
	assert_int_equal(disk_feed_synced(feed, 9), 0);
	put(2);
	epoch(1);
	assert_false(disk_feed_broken(feed));
	/* As a server does it that lets a change go without a ring. */
	_Atomic uint64_t *missed;
	assert_int_equal(disk_missed_find(run_dir, "d", &missed), 0);
	atomic_fetch_add(missed, 1);
	disk_missed_unmap(missed);
	assert_true(disk_feed_broken(feed));
	assert_int_equal(disk_feed_next(feed, UINT64_MAX, raw, RAW_BYTES),
			 -ESTALE);
	disk_feed_acked(feed, 1);
	assert_true(marked(1));
	assert_int_equal(disk_feed_synced(feed, 10), -ESTALE);
	assert_int_equal(disk_meta_state(meta).base, 9);
}

static void a_closed_feed_leaves_changes_marked(void **state)
{
	(void)state;
	serve();
	open_feed();
	put(1);
	disk_feed_close(feed);
	feed = NULL;
	put(2);
	assert_true(marked(1));
	assert_true(marked(2));
	open_feed();
	put(3);
	assert_int_equal(take(UINT64_MAX, UINT32_MAX), 1);
	assert_false(disk_feed_broken(feed));
}

/* --- marks ---------------------------------------------------------------- */

static void marks_go_when_the_peer_has_what_they_stand_for(void **state)
{
	(void)state;
	serve();
	put(0); /* before the feed */
	open_feed();
	put(1); /* of the image */
	assert_int_equal(take(disk_feed_head(feed), UINT32_MAX), 1);
	disk_feed_acked(feed, 0);
	assert_true(marked(0) && marked(1));
	assert_int_equal(disk_feed_synced(feed, 9), 0);
	put(2);
	epoch(1);
	assert_true(marked(0) && marked(1) && marked(2));
	disk_feed_acked(feed, 0);
	assert_true(marked(0) && marked(1) && marked(2));
	disk_feed_acked(feed, 1);
	assert_false(marked(0) || marked(1));
	assert_true(marked(2));
	put(3);
	epoch(2);
	put(4);
	epoch(3);
	disk_feed_acked(feed, 2);
	assert_false(marked(2));
	assert_true(marked(3) && marked(4));
}

static void a_change_behind_the_image_stays_marked_until_its_epoch(void **state)
{
	uint64_t limit;

	(void)state;
	serve();
	open_feed();
	put(1);
	limit = disk_feed_head(feed);
	take(limit, UINT32_MAX);
	put(2); /* behind the image, and in front of the rotation */
	assert_int_equal(disk_feed_synced(feed, 9), 0);
	limit = disk_feed_head(feed);
	put(3); /* the first of the new set, of epoch 2 */
	assert_int_equal(take(limit, UINT32_MAX), 1);
	disk_feed_sent(feed, 1);
	disk_feed_acked(feed, 1);
	assert_true(marked(2));
	assert_int_equal(take(disk_feed_head(feed), UINT32_MAX), 1);
	disk_feed_acked(feed, 1);
	assert_true(marked(2)); /* taken, and of no epoch that was sent */
	disk_feed_sent(feed, 2);
	disk_feed_acked(feed, 1);
	assert_true(marked(2));
	disk_feed_acked(feed, 2);
	assert_false(marked(2));
	assert_true(marked(3));
}

static void what_both_sets_have_from_before_goes(void **state)
{
	(void)state;
	serve();
	put(1);
	disk_meta_rotate(meta);
	put(2);
	open_feed();
	put(2);
	epoch(1);
	disk_feed_acked(feed, 1);
	assert_true(marked(1) && marked(2)); /* the peer is not whole */
	assert_int_equal(disk_feed_synced(feed, 9), 0);
	assert_false(marked(1));
	assert_true(marked(2));
	put(3);
	epoch(1);
	disk_feed_acked(feed, 1);
	assert_false(marked(2));
}

/* Epochs at random, up to four of them on their way. */
static void what_is_not_acknowledged_is_marked(void **state)
{
	uint64_t changed_in[BLOCKS] = { 0 }, next = 1, acked = 0;

	(void)state;
	serve();
	open_feed();
	assert_int_equal(disk_feed_synced(feed, 9), 0);
	for (int i = 0; i < 20000; i++) {
		uint64_t block = (uint64_t)random() % BLOCKS;

		switch (random() % 4) {
		case 0:
			put(block);
			changed_in[block] = next;
			break;
		case 1:
			take(UINT64_MAX, 1);
			break;
		case 2:
			if (next - acked > 4)
				break;
			epoch(next++);
			break;
		case 3:
			if (acked + 1 == next)
				break;
			acked += 1 + (uint64_t)random() % (next - 1 - acked);
			disk_feed_acked(feed, acked);
			break;
		}
		for (uint64_t b = 0; b < BLOCKS; b++)
			if (changed_in[b] > acked && !marked(b))
				fail_msg("block %lu of epoch %lu is not marked,"
					 " %lu was acknowledged",
					 (unsigned long)b,
					 (unsigned long)changed_in[b],
					 (unsigned long)acked);
	}
	for (int i = 0; i < 3; i++) {
		put(0);
		epoch(next);
		disk_feed_acked(feed, next++);
	}
	assert_int_equal(disk_meta_count(meta), 1);
}

/* --- a server that is killed ---------------------------------------------- */

struct server {
	pid_t pid;
	int orders;
};

/* A block and a value at a time; answers what became of it. */
static int obey(int orders)
{
	struct disk_export *e;
	struct guest_error err;
	uint8_t order[2];

	if (disk_export_open(dir, run_dir, "d", &e, &err) ||
	    disk_export_listen(e))
		return 1;
	while (read(orders, order, 2) == 2) {
		order[0] = write_at(e, order[0], order[1]) != 0;
		if (write(orders, order, 1) != 1)
			break;
	}
	return 1;
}

static struct server begin_server(void)
{
	struct server s;
	int pair[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	s.pid = fork();
	if (s.pid == 0) {
		/* Executed anew: another thread may have held any lock. */
		dup2(pair[1], STDIN_FILENO);
		execl("/proc/self/exe", "unit-disk-feed", dir, NULL);
		_exit(1);
	}
	close(pair[1]);
	s.orders = pair[0];
	return s;
}

static void order(const struct server *s, uint8_t block, uint8_t value)
{
	uint8_t bytes[2] = { block, value };

	assert_int_equal(write(s->orders, bytes, 2), 2);
	assert_int_equal(read(s->orders, bytes, 1), 1);
	assert_int_equal(bytes[0], 0);
}

static void kill_server(const struct server *s)
{
	kill(s->pid, SIGKILL);
	assert_int_equal(waitpid(s->pid, NULL, 0), s->pid);
	close(s->orders);
}

/* It listens as soon as it has done a change. */
static struct server begin_server_and_feed(void)
{
	struct server s = begin_server();

	order(&s, 0, 1);
	open_feed();
	return s;
}

static void expect_write(uint64_t block, uint8_t value)
{
	ssize_t n = disk_feed_next(feed, UINT64_MAX, raw,
				   CHANGE_HEADER_BYTES + CHANGE);
	struct wire_change w;

	assert_int_equal(n, CHANGE_HEADER_BYTES + CHANGE);
	memcpy(&w, raw, sizeof(w));
	assert_int_equal(w.offset, block * DISK_BLOCK_BYTES);
	assert_int_equal(raw[CHANGE_HEADER_BYTES], value);
}

static void a_server_that_is_begun_anew_goes_on_in_the_same_ring(void **state)
{
	struct server s;

	(void)state;
	s = begin_server_and_feed();
	for (uint8_t i = 1; i < 6; i++) {
		order(&s, i, i);
		kill_server(&s);
		s = begin_server();
		order(&s, i + 10, i);
		expect_write(i, i);
		expect_write(i + 10, i);
		assert_false(disk_feed_broken(feed));
	}
	assert_int_equal(take(UINT64_MAX, UINT32_MAX), 0);
	kill_server(&s);
}

static void a_killed_server_serves_nothing(void **state)
{
	struct guest_error err = { { 0 } };
	struct server s;

	(void)state;
	s = begin_server();
	order(&s, 1, 1);
	kill_server(&s);
	assert_int_equal(try_open(&err), -ENOTCONN);
}

static void a_change_that_a_killed_server_was_in_comes_from_the_next(void **t)
{
	static uint8_t bytes[CHANGE];
	struct server s;
	int fd;

	(void)t;
	s = begin_server_and_feed();
	order(&s, 1, 1);
	kill_server(&s);
	memset(bytes, 77, sizeof(bytes));
	disk_meta_begin(meta, 5 * DISK_BLOCK_BYTES, CHANGE);
	fd = open(storage, O_RDWR);
	assert_int_equal(pwrite(fd, bytes, CHANGE, 5 * DISK_BLOCK_BYTES),
			 CHANGE);
	close(fd);
	s = begin_server();
	order(&s, 6, 6);
	expect_write(1, 1);
	expect_write(5, 77);
	expect_write(6, 6);
	assert_true(marked(5));
	assert_false(disk_feed_broken(feed));
	kill_server(&s);
}

/* A colod whose keeper does not run while the server is begun anew. */
static void a_colod_that_stood_still_knows_what_it_has_missed(void **state)
{
	struct guest_error err;
	int status, pair[2];
	pid_t colod;
	char byte = 0;

	(void)state;
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	serve();
	end_server(); /* it has no thread when colod is forked */
	colod = fork();
	if (colod == 0) {
		if (read(pair[1], &byte, 1) != 1 || try_open(&err) < 0)
			_exit(2);
		if (disk_feed_broken(feed) || write(pair[1], &byte, 1) != 1 ||
		    read(pair[1], &byte, 1) != 1)
			_exit(3);
		_exit(!disk_feed_broken(feed));
	}
	serve();
	assert_int_equal(write(pair[0], &byte, 1), 1);
	assert_int_equal(read(pair[0], &byte, 1), 1);
	put(1);
	kill(colod, SIGSTOP);
	assert_int_equal(waitpid(colod, &status, WUNTRACED), colod);
	end_server();
	serve();
	put(2);
	assert_int_equal(write(pair[0], &byte, 1), 1);
	kill(colod, SIGCONT);
	assert_int_equal(waitpid(colod, &status, 0), colod);
	assert_int_equal(status, 0);
	close(pair[0]);
	close(pair[1]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_disk_that_cannot_be_fed_is_told),
		TEST(a_fed_disk_is_the_primarys),
		TEST(changes_come_in_order_up_to_a_limit),
		TEST(blocks_are_read_the_last_one_as_far_as_it_goes),
		TEST(a_broken_feed_says_so_and_clears_nothing),
		TEST(a_closed_feed_leaves_changes_marked),
		TEST(marks_go_when_the_peer_has_what_they_stand_for),
		TEST(a_change_behind_the_image_stays_marked_until_its_epoch),
		TEST(what_both_sets_have_from_before_goes),
		TEST(what_is_not_acknowledged_is_marked),
		TEST(a_server_that_is_begun_anew_goes_on_in_the_same_ring),
		TEST(a_killed_server_serves_nothing),
		TEST(a_change_that_a_killed_server_was_in_comes_from_the_next),
		TEST(a_colod_that_stood_still_knows_what_it_has_missed),
	};

	if (argc == 2) {
		snprintf(dir, sizeof(dir), "%s", argv[1]);
		name_paths();
		return obey(STDIN_FILENO);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
