/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume/disk/storage.c: what is written is there, what is short is an error,
 * and zeroes are zeroes on whatever can make them.
 */
#include "config.h"

#include "resume/disk/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

const struct guest_kind *const guest_kinds[] = { NULL };

enum { BYTES = 1024 * 1024 };

struct place {
	char dir[64], path[96];
	struct disk_storage *s;
};

static uint8_t pattern(size_t at)
{
	return (uint8_t)(1 + at % 251);
}

static void fill(struct disk_storage *s)
{
	static uint8_t bytes[BYTES];

	for (size_t i = 0; i < BYTES; i++)
		bytes[i] = pattern(i);
	assert_int_equal(disk_storage_write(s, bytes, BYTES, 0), 0);
}

static int make(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	strcpy(p->dir, "/tmp/unit-disk-storage-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->path, sizeof(p->path), "%s/disk", p->dir);
	close(open(p->path, O_CREAT | O_RDWR, 0600));
	assert_int_equal(truncate(p->path, BYTES), 0);
	assert_int_equal(disk_storage_open(p->path, true, &p->s, NULL), 0);
	fill(p->s);
	*state = p;
	return 0;
}

static int unmake(void **state)
{
	struct place *p = *state;

	disk_storage_close(p->s);
	unlink(p->path);
	rmdir(p->dir);
	free(p);
	return 0;
}

/* All is as it was filled but from..to - 1, which is zero. */
static void only_this_is_zero(struct disk_storage *s, size_t from, size_t to)
{
	static uint8_t bytes[BYTES];

	assert_int_equal(disk_storage_read(s, bytes, BYTES, 0), 0);
	for (size_t i = 0; i < BYTES; i++)
		if (bytes[i] != (i >= from && i < to ? 0 : pattern(i)))
			fail_msg("byte %zu is %u", i, bytes[i]);
}

static void what_is_written_is_read(void **state)
{
	struct place *p = *state;
	struct disk_storage *other;
	char text[4] = "";

	assert_int_equal(disk_storage_size(p->s), BYTES);
	assert_int_equal(disk_storage_write(p->s, "abc", 4, 777), 0);
	assert_int_equal(disk_storage_sync(p->s), 0);
	assert_int_equal(disk_storage_open(p->path, false, &other, NULL), 0);
	assert_int_equal(disk_storage_read(other, text, 4, 777), 0);
	assert_string_equal(text, "abc");
	assert_true(disk_storage_write(other, "abc", 4, 777) < 0);
	disk_storage_close(other);
}

static void nothing_is_past_the_end(void **state)
{
	struct place *p = *state;
	uint8_t bytes[16] = { 0 };
	struct stat st;

	assert_int_equal(disk_storage_read(p->s, bytes, 16, BYTES - 15), -EIO);
	assert_int_equal(disk_storage_read(p->s, bytes, 16, UINT64_MAX), -EIO);
	assert_int_equal(disk_storage_write(p->s, bytes, 16, BYTES - 15), -EIO);
	assert_int_equal(disk_storage_zero(p->s, BYTES - 15, 16, true), -EIO);
	assert_int_equal(disk_storage_zero(p->s, 1, UINT64_MAX, true), -EIO);
	disk_storage_trim(p->s, 1, UINT64_MAX);
	assert_int_equal(stat(p->path, &st), 0);
	assert_int_equal(st.st_size, BYTES);
	only_this_is_zero(p->s, 0, 0);
	assert_int_equal(disk_storage_read(p->s, bytes, 16, BYTES - 16), 0);
}

static void a_storage_that_has_become_shorter_is_an_error(void **state)
{
	struct place *p = *state;
	uint8_t bytes[16];

	assert_int_equal(truncate(p->path, BYTES / 2), 0);
	assert_int_equal(disk_storage_read(p->s, bytes, 16, BYTES / 2 - 8),
			 -EIO);
}

static void zeroes_are_where_they_were_asked_for(void **state)
{
	struct place *p = *state;

	assert_int_equal(disk_storage_zero(p->s, 4097, 70000, false), 0);
	only_this_is_zero(p->s, 4097, 74097);
	fill(p->s);
	assert_int_equal(disk_storage_zero(p->s, 8192, 65536, true), 0);
	only_this_is_zero(p->s, 8192, 73728);
	fill(p->s);
	assert_int_equal(disk_storage_zero(p->s, 8192, 0, true), 0);
	only_this_is_zero(p->s, 0, 0);
}

static void zeroes_take_no_room_where_they_need_not(void **state)
{
	struct place *p = *state;
	struct stat full, holed;

	assert_int_equal(disk_storage_sync(p->s), 0);
	stat(p->path, &full);
	assert_int_equal(disk_storage_zero(p->s, 0, BYTES / 2, false), 0);
	assert_int_equal(disk_storage_sync(p->s), 0);
	stat(p->path, &holed);
	assert_int_equal(holed.st_blocks, full.st_blocks);
	assert_int_equal(disk_storage_zero(p->s, 0, BYTES / 2, true), 0);
	assert_int_equal(disk_storage_sync(p->s), 0);
	stat(p->path, &holed);
	assert_true(holed.st_blocks < full.st_blocks);
	assert_int_equal(holed.st_size, BYTES);
}

/* A memfd has no FALLOC_FL_ZERO_RANGE. */
static void zeroes_are_written_where_there_is_no_better_way(void **state)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);
	struct disk_storage *s;
	char path[64];

	(void)state;
	assert_int_equal(ftruncate(fd, BYTES), 0);
	assert_true(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, BYTES) < 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(disk_storage_open(path, true, &s, NULL), 0);
	fill(s);
	assert_int_equal(disk_storage_zero(s, 4097, 70000, false), 0);
	only_this_is_zero(s, 4097, 74097);
	disk_storage_close(s);
	close(fd);
}

static void a_trim_leaves_its_neighbours(void **state)
{
	struct place *p = *state;
	uint8_t bytes[2];

	disk_storage_trim(p->s, 65536, 65536);
	assert_int_equal(disk_storage_read(p->s, bytes, 1, 65535), 0);
	assert_int_equal(disk_storage_read(p->s, bytes + 1, 1, 131072), 0);
	assert_int_equal(bytes[0], pattern(65535));
	assert_int_equal(bytes[1], pattern(131072));
}

static void refused(const char *path, int why, const char *word)
{
	struct guest_error err = { { 0 } };
	struct disk_storage *s = NULL;

	assert_int_equal(disk_storage_open(path, true, &s, &err), why);
	assert_non_null(strstr(err.text, word));
	assert_null(s);
}

static void what_is_no_storage_is_refused(void **state)
{
	struct place *p = *state;
	char path[128];

	refused("/dev/null", -EINVAL, "neither");
	snprintf(path, sizeof(path), "%s/none", p->dir);
	refused(path, -ENOENT, path);
	mkfifo(path, 0600);
	refused(path, -EINVAL, "neither");
	unlink(path);
	close(open(path, O_CREAT | O_RDWR, 0600));
	refused(path, -EINVAL, "empty");
	unlink(path);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_written_is_read),
		TEST(nothing_is_past_the_end),
		TEST(a_storage_that_has_become_shorter_is_an_error),
		TEST(zeroes_are_where_they_were_asked_for),
		TEST(zeroes_take_no_room_where_they_need_not),
		TEST(zeroes_are_written_where_there_is_no_better_way),
		TEST(a_trim_leaves_its_neighbours),
		TEST(what_is_no_storage_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
