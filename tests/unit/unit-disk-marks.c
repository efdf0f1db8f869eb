/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume/disk/marks.c: every block that may differ is marked, whoever else
 * marks at the same time and whoever is killed, and no block that was dropped.
 */
#include "config.h"

#include "resume/disk/meta.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

const struct guest_kind *const guest_kinds[] = { NULL };

/* Some pieces of marks, and a last block that is shorter. */
#define SIZE ((UINT64_C(5) << 30) + 1536)
#define BLOCKS ((uint64_t)(5 * 16384 + 1))

struct place {
	char dir[64];
	struct disk_meta *m;
};

static struct disk_meta *open_it(const struct place *p)
{
	struct disk_meta *m;

	assert_int_equal(disk_meta_open(p->dir, "root", &m, NULL), 0);
	return m;
}

static void open_again(struct place *p)
{
	disk_meta_close(p->m);
	p->m = open_it(p);
}

static int make(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	strcpy(p->dir, "/tmp/unit-disk-marks-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	assert_int_equal(disk_meta_create(p->dir, "root", "/x", SIZE, NULL), 0);
	p->m = open_it(p);
	*state = p;
	return 0;
}

static int unmake(void **state)
{
	struct place *p = *state;
	char file[DISK_PATH_MAX];

	disk_meta_close(p->m);
	disk_meta_path(p->dir, "root", file);
	unlink(file);
	rmdir(p->dir);
	free(p);
	return 0;
}

/* A child that fails a test would go on with the next one. */
static void must(int rc)
{
	if (rc)
		_exit(1);
}

static struct disk_meta *open_in_child(const struct place *p)
{
	struct disk_meta *m;

	must(disk_meta_open(p->dir, "root", &m, NULL));
	return m;
}

/* Opens the disk, does it, says so, and stays until it is killed. */
static pid_t do_and_stay(const struct place *p, void (*it)(struct disk_meta *m))
{
	int pipe_fds[2];
	char byte = 0;
	pid_t pid;

	assert_int_equal(pipe(pipe_fds), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		it(open_in_child(p));
		byte = 1;
		if (write(pipe_fds[1], &byte, 1) == 1)
			pause();
		_exit(1);
	}
	close(pipe_fds[1]);
	assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
	close(pipe_fds[0]);
	return pid;
}

static void kill_it(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* --- marks ---------------------------------------------------------------- */

static void blocks_that_are_touched_are_marked(void **state)
{
	struct place *p = *state;
	const uint64_t block = DISK_BLOCK_BYTES;

	disk_meta_mark(p->m, block - 1, 1);
	disk_meta_mark(p->m, 70 * block - 1, 2);
	disk_meta_mark(p->m, 80 * block, block);
	disk_meta_mark(p->m, 90 * block, 0);
	disk_meta_mark(p->m, SIZE - 1, 100);
	disk_meta_mark(p->m, SIZE, 100);
	disk_meta_mark(p->m, UINT64_MAX, UINT64_MAX);
	assert_int_equal(disk_meta_count(p->m), 5);
	assert_true(disk_meta_marked(p->m, 0));
	assert_true(disk_meta_marked(p->m, 69));
	assert_true(disk_meta_marked(p->m, 70));
	assert_true(disk_meta_marked(p->m, 80));
	assert_true(disk_meta_marked(p->m, BLOCKS - 1));
	assert_false(disk_meta_marked(p->m, 1));
	assert_false(disk_meta_marked(p->m, BLOCKS));
	assert_int_equal(disk_meta_next_marked(p->m, 0), 0);
	assert_int_equal(disk_meta_next_marked(p->m, 1), 69);
	assert_int_equal(disk_meta_next_marked(p->m, 70), 70);
	assert_int_equal(disk_meta_next_marked(p->m, 71), 80);
	assert_int_equal(disk_meta_next_marked(p->m, 81), BLOCKS - 1);
	assert_int_equal(disk_meta_next_marked(p->m, BLOCKS), BLOCKS);
	disk_meta_clear(p->m);
	assert_int_equal(disk_meta_next_marked(p->m, 0), BLOCKS);
	disk_meta_mark(p->m, 0, UINT64_MAX);
	assert_int_equal(disk_meta_count(p->m), BLOCKS);
}

/* Against an array, over all of the disk. */
static void marks_are_what_was_marked(void **state)
{
	static bool model[BLOCKS];
	struct place *p = *state;
	uint64_t x = 1, count = 0, at = 0;

	for (int i = 0; i < 300; i++) {
		uint64_t first, last;

		x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
		first = (x >> 33) % BLOCKS;
		last = first + (i % 20 ? x % 3 : x % 5000);
		if (last >= BLOCKS)
			last = BLOCKS - 1;
		if (i % 7 == 0)
			disk_meta_rotate(p->m);
		disk_meta_mark(p->m, first * DISK_BLOCK_BYTES + 5,
			       (last - first) * DISK_BLOCK_BYTES + 1);
		memset(model + first, true, last - first + 1);
	}
	for (uint64_t b = 0; b < BLOCKS; b++) {
		if (!model[b])
			continue;
		count++;
		at = disk_meta_next_marked(p->m, at);
		assert_int_equal(at, b);
		at++;
	}
	assert_int_equal(disk_meta_next_marked(p->m, at), BLOCKS);
	assert_int_equal(disk_meta_count(p->m), count);
	for (uint64_t b = 0; b < BLOCKS; b++)
		assert_int_equal(disk_meta_marked(p->m, b), model[b]);
}

static void a_drop_takes_the_other_set_alone(void **state)
{
	struct place *p = *state;
	struct disk_meta *other = open_it(p);
	unsigned int first = disk_meta_mark(p->m, 0, 1);

	assert_int_equal(disk_meta_current(other), first);
	disk_meta_mark(p->m, DISK_BLOCK_BYTES, 1);
	disk_meta_mark(p->m, SIZE - 1, 1);
	disk_meta_drop(other);
	assert_int_equal(disk_meta_count(p->m), 3);
	disk_meta_rotate(other);
	assert_int_equal(disk_meta_current(p->m), !first);
	assert_int_equal(disk_meta_mark(p->m, DISK_BLOCK_BYTES, 1), !first);
	assert_int_equal(disk_meta_count(p->m), 3);
	disk_meta_drop(other);
	assert_int_equal(disk_meta_count(p->m), 1);
	assert_true(disk_meta_marked(p->m, 1));
	disk_meta_rotate(other);
	/* Near one that was dropped, which is not there again by it. */
	assert_int_equal(disk_meta_mark(p->m, SIZE - (1 << 28), 1), first);
	assert_int_equal(disk_meta_count(p->m), 2);
	assert_int_equal(disk_meta_next_marked(p->m, 2), BLOCKS - 1 - 4096);
	disk_meta_clear(other);
	assert_int_equal(disk_meta_count(p->m), 0);
	disk_meta_close(other);
}

/* Two processes, of which each marks every other block of the same words. */
static void nobody_overwrites_anothers_marks(void **state)
{
	struct place *p = *state;
	pid_t pid[2];

	for (uint64_t i = 0; i < 2; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			struct disk_meta *m = open_in_child(p);

			for (uint64_t b = i; b < BLOCKS; b += 2)
				disk_meta_mark(m, b * DISK_BLOCK_BYTES, 1);
			_exit(0);
		}
	}
	for (int i = 0; i < 2; i++)
		waitpid(pid[i], NULL, 0);
	assert_int_equal(disk_meta_count(p->m), BLOCKS);
}

/* --- the change under way ------------------------------------------------- */

static void begin_a_change(struct disk_meta *m)
{
	disk_meta_begin(m, 12345, 678);
	disk_meta_mark(m, 12345, 678);
}

static void a_change_and_its_marks_outlive_a_kill(void **state)
{
	struct place *p = *state;
	uint64_t offset, length;

	assert_false(disk_meta_pending(p->m, &offset, &length));
	kill_it(do_and_stay(p, begin_a_change));
	open_again(p);
	assert_true(disk_meta_pending(p->m, &offset, &length));
	assert_int_equal(offset, 12345);
	assert_int_equal(length, 678);
	assert_true(disk_meta_marked(p->m, 0));
	disk_meta_end(p->m);
	open_again(p);
	assert_false(disk_meta_pending(p->m, &offset, &length));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(blocks_that_are_touched_are_marked),
		TEST(marks_are_what_was_marked),
		TEST(a_drop_takes_the_other_set_alone),
		TEST(nobody_overwrites_anothers_marks),
		TEST(a_change_and_its_marks_outlive_a_kill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
