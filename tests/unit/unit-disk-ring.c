/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume/disk/ring.c: what is put comes out, whole and in order, whoever is
 * killed; and nobody waits for ever, or reads what is not there.
 */
#include "config.h"

#include "resume/disk/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum {
	PAGE = 4096,
	SMALL = 4 * PAGE,
	/* Of the ring's file: where things are that a test damages. */
	HEAD_AT = 64,
	ENTRY_AT = PAGE,
	ENTRY_SET_AT = ENTRY_AT + 4,
	ENTRY_KIND_AT = ENTRY_AT + 8 + 2,
	ENTRY_LENGTH_AT = ENTRY_AT + 8 + 4,
};
#define FOREVER_US (UINT64_C(1) << 40)

struct sides {
	struct disk_ring *reader, *writer;
};

static struct sides sides_of(size_t bytes)
{
	struct sides s;

	assert_int_equal(disk_ring_new(bytes, &s.reader), 0);
	assert_int_equal(disk_ring_map(dup(disk_ring_fd(s.reader)), &s.writer),
			 0);
	return s;
}

static void close_sides(struct sides *s)
{
	disk_ring_close(s->writer);
	disk_ring_close(s->reader);
}

/* The n-th change of a sequence that both sides know; the data is its number's.
 */
static struct change change_of(uint64_t n, uint32_t length)
{
	static const enum wire_change_kind kinds[] = {
		CHANGE_WRITE, CHANGE_WRITE, CHANGE_ZERO, CHANGE_TRIM
	};

	return (struct change){ .kind = kinds[n % 4],
				.offset = n * 512,
				.length = length };
}

static uint32_t length_of(uint64_t n, uint32_t most)
{
	return 1 + (uint32_t)(n * 2654435761u % most);
}

static int put(struct disk_ring *r, uint64_t n, uint32_t length, uint64_t us)
{
	struct change c = change_of(n, length);
	static uint8_t data[CHANGE_DATA_MAX];

	memset(data, (int)(n * 7 + 1), length);
	return disk_ring_put(r, &c, data, (unsigned int)(n / 3 % 2), us);
}

static void check(const struct change *c, unsigned int set, uint64_t n)
{
	struct change is = change_of(n, c->length);

	assert_int_equal(c->kind, is.kind);
	assert_int_equal(c->offset, is.offset);
	assert_int_equal(set, n / 3 % 2);
	assert_int_equal(!!c->data, c->kind == CHANGE_WRITE);
	for (uint32_t i = 0; c->data && i < c->length; i++)
		if (c->data[i] != (uint8_t)(n * 7 + 1))
			fail_msg("byte %u of change %lu is another's", i,
				 (unsigned long)n);
}

static int next(struct disk_ring *r, uint64_t limit, uint64_t n)
{
	unsigned int set;
	struct change c;
	int rc = disk_ring_peek(r, limit, &c, &set);

	if (rc == 1) {
		check(&c, set, n);
		disk_ring_pop(r);
	}
	return rc;
}

static void wait_for(struct disk_ring *r, uint64_t n)
{
	int rc;

	while ((rc = next(r, UINT64_MAX, n)) == 0) {
		assert_false(disk_ring_broken(r));
		sched_yield();
	}
	assert_int_equal(rc, 1);
}

/* --- what goes in comes out ----------------------------------------------- */

static void changes_come_out_in_order(void **state)
{
	struct sides s = sides_of(SMALL);

	(void)state;
	for (uint64_t n = 0; n < 8; n++)
		assert_int_equal(put(s.writer, n, 100 + (uint32_t)n, 0), 0);
	for (uint64_t n = 0; n < 8; n++)
		assert_int_equal(next(s.reader, UINT64_MAX, n), 1);
	assert_int_equal(next(s.reader, UINT64_MAX, 8), 0);
	assert_int_equal(disk_ring_used(s.reader), 0);
	close_sides(&s);
}

static void a_change_stays_until_it_is_popped(void **state)
{
	struct sides s = sides_of(SMALL);
	struct change c;
	unsigned int set;

	(void)state;
	disk_ring_pop(s.reader); /* of nothing */
	put(s.writer, 0, 100, 0);
	disk_ring_pop(s.reader); /* of what nobody has looked at */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(disk_ring_peek(s.reader, UINT64_MAX, &c, &set),
				 1);
		assert_int_equal(c.length, 100);
		check(&c, set, 0);
	}
	disk_ring_pop(s.reader);
	disk_ring_pop(s.reader);
	put(s.writer, 1, 100, 0);
	assert_int_equal(next(s.reader, UINT64_MAX, 1), 1);
	close_sides(&s);
}

/* A large change is as long as it may be: its length is not taken for less. */
static void the_largest_change_goes_through(void **state)
{
	struct sides s = sides_of(64 * PAGE);
	struct change c;
	unsigned int set;

	(void)state;
	assert_int_equal(put(s.writer, 0, CHANGE_DATA_MAX, 0), 0);
	assert_int_equal(disk_ring_peek(s.reader, UINT64_MAX, &c, &set), 1);
	assert_int_equal(c.length, CHANGE_DATA_MAX);
	check(&c, set, 0);
	disk_ring_pop(s.reader);
	c = (struct change){ .kind = CHANGE_ZERO, .length = UINT32_MAX };
	assert_int_equal(disk_ring_put(s.writer, &c, NULL, 1, 0), 0);
	assert_int_equal(disk_ring_peek(s.reader, UINT64_MAX, &c, &set), 1);
	assert_int_equal(c.length, UINT32_MAX);
	assert_int_equal(set, 1);
	close_sides(&s);
}

static void a_limit_is_where_an_epoch_ends(void **state)
{
	struct sides s = sides_of(SMALL);
	uint64_t limit;

	(void)state;
	put(s.writer, 0, 100, 0);
	put(s.writer, 1, 100, 0);
	limit = disk_ring_head(s.reader);
	put(s.writer, 2, 100, 0);
	assert_int_equal(next(s.reader, 0, 0), 0);
	assert_int_equal(next(s.reader, limit, 0), 1);
	assert_int_equal(next(s.reader, limit, 1), 1);
	assert_int_equal(next(s.reader, limit, 2), 0);
	assert_true(disk_ring_used(s.reader) > 0);
	assert_int_equal(next(s.reader, disk_ring_head(s.reader), 2), 1);
	close_sides(&s);
}

struct job {
	struct disk_ring *ring;
	uint64_t count;
	uint32_t most;
	int err;
};

static void *put_many(void *arg)
{
	struct job *j = arg;

	for (uint64_t n = 0; n < j->count && !j->err; n++)
		j->err = put(j->ring, n, length_of(n, j->most), FOREVER_US);
	return NULL;
}

/* Through a ring that is much too small for all: it waits, and goes round. */
static void a_writer_waits_for_room(void **state)
{
	struct sides s = sides_of(SMALL);
	struct job j = { s.writer, 20000, SMALL / 2, 0 };
	pthread_t writer;

	(void)state;
	pthread_create(&writer, NULL, put_many, &j);
	for (uint64_t n = 0; n < j.count; n++)
		wait_for(s.reader, n);
	pthread_join(writer, NULL);
	assert_int_equal(j.err, 0);
	close_sides(&s);
}

static void *put_one(void *arg)
{
	struct job *j = arg;

	j->err = put(j->ring, j->count, j->most, FOREVER_US);
	return NULL;
}

/* It and what is left in front of it are more than the ring. */
static void a_change_of_most_of_the_ring_finds_room(void **state)
{
	struct sides s = sides_of(SMALL);
	struct job j = { s.writer, 1, SMALL * 7 / 8, 0 };
	pthread_t writer;

	(void)state;
	assert_int_equal(put(s.writer, 0, SMALL / 2, 0), 0);
	wait_for(s.reader, 0);
	pthread_create(&writer, NULL, put_one, &j);
	wait_for(s.reader, 1);
	pthread_join(writer, NULL);
	assert_int_equal(j.err, 0);
	close_sides(&s);
}

/* --- broken --------------------------------------------------------------- */

static void without_room_the_ring_breaks(void **state)
{
	struct sides s = sides_of(SMALL);
	uint64_t n = 0, head;

	(void)state;
	while (put(s.writer, n, 1000, 1) == 0)
		n++;
	assert_true(n > 0 && n < SMALL);
	assert_true(disk_ring_broken(s.reader));
	head = disk_ring_head(s.reader);
	/* What was put is there, and nothing comes behind it. */
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(next(s.reader, UINT64_MAX, i), 1);
	assert_int_equal(put(s.writer, n, 1000, FOREVER_US), -EPIPE);
	assert_int_equal(disk_ring_head(s.reader), head);
	close_sides(&s);
}

static void who_waits_is_told_that_it_is_broken(void **state)
{
	struct sides s = sides_of(SMALL);
	struct job j = { s.writer, UINT64_MAX, 1000, 0 };
	pthread_t writer;

	(void)state;
	pthread_create(&writer, NULL, put_many, &j);
	while (disk_ring_used(s.reader) < SMALL - 1100)
		sched_yield();
	disk_ring_break(s.reader);
	pthread_join(writer, NULL);
	assert_int_equal(j.err, -EPIPE);
	close_sides(&s);
}

static void a_change_that_cannot_be_breaks_it(void **state)
{
	static uint8_t data[CHANGE_DATA_MAX + 1];
	struct change c = { .kind = CHANGE_WRITE,
			    .length = CHANGE_DATA_MAX + 1 };
	struct sides s = sides_of(64 * PAGE);

	(void)state;
	assert_int_equal(disk_ring_put(s.writer, &c, data, 0, FOREVER_US),
			 -EPIPE);
	assert_true(disk_ring_broken(s.writer));
	close_sides(&s);

	s = sides_of(SMALL);
	assert_int_equal(put(s.writer, 0, SMALL, FOREVER_US), -EPIPE);
	assert_true(disk_ring_broken(s.writer));
	close_sides(&s);
}

/* --- killed --------------------------------------------------------------- */

static void put_for_ever(struct disk_ring *r, uint64_t n)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (put(r, n, length_of(n, 3000), FOREVER_US) == 0)
		n++;
	_exit(1);
}

/* Wherever it was: what is there is whole, and the next one goes on. */
static void a_killed_writer_leaves_whole_changes(void **state)
{
	struct sides s = sides_of(SMALL);
	uint64_t n = 0;
	int rc;

	(void)state;
	for (int round = 0; round < 40; round++) {
		pid_t writer = fork();

		if (writer == 0)
			put_for_ever(s.writer, n);
		for (int i = 0; i < 50 + round * 7; i++)
			wait_for(s.reader, n++);
		kill(writer, SIGKILL);
		waitpid(writer, NULL, 0);
		while ((rc = next(s.reader, UINT64_MAX, n)) == 1)
			n++;
		assert_int_equal(rc, 0);
	}
	assert_false(disk_ring_broken(s.reader));
	close_sides(&s);
}

/* --- what is no ring ------------------------------------------------------ */

static uint8_t *bytes_of(struct sides *s)
{
	uint8_t *at = mmap(NULL, PAGE + SMALL, PROT_READ | PROT_WRITE,
			   MAP_SHARED, disk_ring_fd(s->reader), 0);

	assert_ptr_not_equal(at, MAP_FAILED);
	return at;
}

/* Of a ring with a change in it, `bytes` at `at` are something else. */
static void nonsense(size_t at, uint64_t value, size_t bytes)
{
	struct sides s = sides_of(SMALL);
	struct change c;
	unsigned int set;
	uint8_t *raw = bytes_of(&s);

	put(s.writer, 0, 101, 0);
	put(s.writer, 1, 101, 0);
	memcpy(raw + at, &value, bytes);
	assert_int_equal(disk_ring_peek(s.reader, UINT64_MAX, &c, &set),
			 -EPROTO);
	disk_ring_pop(s.reader);
	assert_int_equal(disk_ring_peek(s.reader, UINT64_MAX, &c, &set),
			 -EPROTO);
	munmap(raw, PAGE + SMALL);
	close_sides(&s);
}

static void nonsense_is_no_change(void **state)
{
	(void)state;
	nonsense(HEAD_AT, SMALL + 8, 8);
	nonsense(HEAD_AT, 8, 8);
	nonsense(HEAD_AT, 129, 8);
	nonsense(ENTRY_AT, 0, 4);
	nonsense(ENTRY_AT, 8, 4);
	nonsense(ENTRY_AT, 127, 4);
	nonsense(ENTRY_AT, 136, 4);
	nonsense(ENTRY_AT, 120, 4);
	nonsense(ENTRY_AT, 0xfffffff8, 4);
	nonsense(ENTRY_SET_AT, 2, 4);
	nonsense(ENTRY_KIND_AT, 0, 2);
	nonsense(ENTRY_KIND_AT, 4, 2);
	nonsense(ENTRY_LENGTH_AT, 0, 4);
	nonsense(ENTRY_LENGTH_AT, 200, 4);
	nonsense(ENTRY_LENGTH_AT, 80, 4);
	nonsense(ENTRY_LENGTH_AT, 0xffffffff, 4);
}

static void a_writer_does_not_believe_a_wrong_head(void **state)
{
	struct sides s = sides_of(SMALL);
	uint64_t *head = (uint64_t *)(bytes_of(&s) + HEAD_AT);

	(void)state;
	*head = SMALL * 3 + 8;
	assert_int_equal(put(s.writer, 0, 100, FOREVER_US), -EPIPE);
	assert_true(disk_ring_broken(s.writer));
	munmap((uint8_t *)head - HEAD_AT, PAGE + SMALL);
	close_sides(&s);
}

static void refused(int fd)
{
	struct disk_ring *r = NULL;

	assert_int_equal(disk_ring_map(fd, &r), -EINVAL);
	assert_null(r);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static int memory_of(size_t bytes, int seals)
{
	int fd = memfd_create("none", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void what_is_no_ring_is_refused_and_closed(void **state)
{
	struct disk_ring *r;
	uint8_t *raw;
	int copy, sealed = F_SEAL_SHRINK | F_SEAL_GROW;

	(void)state;
	refused(-1);
	refused(open("/dev/null", O_RDWR));
	refused(memory_of(0, sealed));
	refused(memory_of(PAGE, sealed));
	refused(memory_of(PAGE + SMALL, sealed)); /* of zeroes */
	assert_int_equal(disk_ring_new(SMALL, &r), 0);
	copy = memory_of(PAGE + SMALL, 0);
	raw = bytes_of(&(struct sides){ r, NULL });
	assert_int_equal(pwrite(copy, raw, PAGE, 0), PAGE);
	munmap(raw, PAGE + SMALL);
	refused(copy); /* it could be made shorter */
	disk_ring_close(r);
	assert_int_equal(disk_ring_new(0, &r), -EINVAL);
	assert_int_equal(disk_ring_new(SMALL + 1, &r), -EINVAL);
	disk_ring_close(NULL);
}

static void its_memory_cannot_be_made_shorter(void **state)
{
	struct sides s = sides_of(SMALL);

	(void)state;
	assert_int_equal(ftruncate(disk_ring_fd(s.reader), PAGE), -1);
	close_sides(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changes_come_out_in_order),
		cmocka_unit_test(a_change_stays_until_it_is_popped),
		cmocka_unit_test(the_largest_change_goes_through),
		cmocka_unit_test(a_limit_is_where_an_epoch_ends),
		cmocka_unit_test(a_writer_waits_for_room),
		cmocka_unit_test(a_change_of_most_of_the_ring_finds_room),
		cmocka_unit_test(without_room_the_ring_breaks),
		cmocka_unit_test(who_waits_is_told_that_it_is_broken),
		cmocka_unit_test(a_change_that_cannot_be_breaks_it),
		cmocka_unit_test(a_killed_writer_leaves_whole_changes),
		cmocka_unit_test(nonsense_is_no_change),
		cmocka_unit_test(a_writer_does_not_believe_a_wrong_head),
		cmocka_unit_test(what_is_no_ring_is_refused_and_closed),
		cmocka_unit_test(its_memory_cannot_be_made_shorter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
