/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A journal whose pieces are known, on a host that can end before any of its
 * calls and that knows what of the journal is stable.  Of one program only: it
 * has functions instead of the C library's.
 */
#ifndef TESTS_UNIT_DISK_JOURNAL_FIXTURE_H
#define TESTS_UNIT_DISK_JOURNAL_FIXTURE_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "resume/disk/journal.h"
#include "resume/disk/journal_file.h"

enum {
	LIMIT = 1024 * 1024,
	FILE_MAX = 64 * 1024, /* of those whose bytes are looked at */
	PIECE = 300,
	EPOCHS_MAX = 64,
	SMALL = 16 * 1024, /* a file is switched at 8 KiB */
};

static const char *const disks[] = { "root", "data" };
static char dir[64];

/* --- a host that can be stopped between any two of its calls ------------- */

/* What of the journal is on stable storage. */
struct stable {
	size_t bytes;
	uint8_t byte[FILE_MAX];
};

/* Of both processes. */
static struct host {
	int calls_left; /* 0: it ends before the next one; negative: never */
	struct stable file[JOURNAL_FILES];
	uint64_t cell[16], stable_cell[16];
	uint64_t stored, committed;
	bool takes_over, done;
} * host;

static inline void a_call(void)
{
	if (host->calls_left == 0)
		_exit(0);
	if (host->calls_left > 0)
		host->calls_left--;
}

static inline void path_of(unsigned int number, char *path)
{
	assert_int_equal(disk_journal_path(dir, "vm", number, path), 0);
}

static inline size_t read_file(unsigned int number, uint8_t *bytes)
{
	char path[DISK_PATH_MAX];
	AUTO_FD int fd = -1;
	ssize_t n;

	path_of(number, path);
	fd = open(path, O_RDONLY);
	n = fd < 0 ? 0 : read(fd, bytes, FILE_MAX);
	assert_true(n >= 0 && n < FILE_MAX);
	return (size_t)n;
}

static inline void write_file(unsigned int number, const uint8_t *bytes,
			      size_t length)
{
	char path[DISK_PATH_MAX];
	AUTO_FD int fd = -1;

	path_of(number, path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, length), length);
}

/* These four instead of the C library's. */
ssize_t pwritev(int fd, const struct iovec *v, int count, off_t at)
{
	static ssize_t (*real)(int, const struct iovec *, int, off_t);
	struct iovec half = v[0];

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pwritev");
	a_call();
	/* It ends in the middle of this one. */
	if (host->calls_left == 0) {
		half.iov_len /= 2;
		real(fd, &half, 1, at);
		_exit(0);
	}
	return real(fd, v, count, at);
}

int ftruncate(int fd, off_t length)
{
	static int (*real)(int, off_t);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "ftruncate");
	a_call();
	return real(fd, length);
}

int unlink(const char *path)
{
	static int (*real)(const char *);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "unlink");
	a_call();
	return real(path);
}

int fdatasync(int fd)
{
	struct stat of, is;
	char path[DISK_PATH_MAX];

	a_call();
	assert_int_equal(fstat(fd, &of), 0);
	for (unsigned int i = 0; i < JOURNAL_FILES; i++) {
		path_of(i, path);
		if (!stat(path, &is) && is.st_ino == of.st_ino &&
		    is.st_size < FILE_MAX)
			host->file[i].bytes = read_file(i, host->file[i].byte);
	}
	return 0;
}

/* --- what is put and what comes out -------------------------------------- */

static inline void fill(uint8_t *raw, uint64_t epoch, unsigned int number)
{
	for (int i = 0; i < PIECE; i++)
		raw[i] = (uint8_t)(epoch * 31 + number * 7 + (unsigned int)i);
}

static inline struct disk_journal *open_journal(uint64_t limit)
{
	struct guest_error err = { { 0 } };
	struct disk_journal *j;

	assert_int_equal(
		disk_journal_open(dir, "vm", disks, 2, limit, &j, &err), 0);
	return j;
}

static inline int put(struct disk_journal *j, uint64_t epoch,
		      unsigned int number)
{
	uint8_t raw[PIECE];

	fill(raw, epoch, number);
	return disk_journal_put(j, epoch, raw, sizeof(raw));
}

/* Epoch n has n % 3 + 1 pieces. */
static inline void put_epoch(struct disk_journal *j, uint64_t epoch)
{
	for (unsigned int i = 0; i <= epoch % 3; i++)
		assert_int_equal(put(j, epoch, i), 0);
	assert_int_equal(disk_journal_end(j, epoch), 0);
}

struct seen {
	uint64_t epoch[EPOCHS_MAX];
	unsigned int pieces[EPOCHS_MAX];
	unsigned int count;
	int fails; /* from this piece on; 0: never */
};

static inline int see(void *arg, uint64_t epoch, const uint8_t *raw,
		      size_t length)
{
	struct seen *s = arg;
	uint8_t expected[PIECE];

	if (s->fails && --s->fails == 0)
		return -EIO;
	if (!s->count || s->epoch[s->count - 1] != epoch) {
		assert_true(s->count < EPOCHS_MAX);
		s->epoch[s->count++] = epoch;
	}
	fill(expected, epoch, s->pieces[s->count - 1]++);
	assert_int_equal(length, PIECE);
	assert_memory_equal(raw, expected, PIECE);
	return 0;
}

/* Epochs from `first` on, all of each, and no others. */
static inline void assert_seen(const struct seen *s, uint64_t first,
			       unsigned int count)
{
	assert_int_equal(s->count, count);
	for (unsigned int i = 0; i < count; i++) {
		assert_int_equal(s->epoch[i], first + i);
		assert_int_equal(s->pieces[i], (first + i) % 3 + 1);
	}
}

static inline void assert_replayed(uint64_t first, unsigned int count)
{
	struct seen s = { 0 };

	assert_int_equal(disk_journal_replay(dir, "vm", see, &s), 0);
	assert_seen(&s, first, count);
}

static inline void assert_applied(struct disk_journal *j, uint64_t until,
				  uint64_t first, unsigned int count)
{
	struct seen s = { 0 };

	assert_int_equal(disk_journal_apply(j, until, see, &s), 0);
	assert_seen(&s, first, count);
}

/* Epochs from `epoch` on, until the other file is begun; the next epoch. */
static inline uint64_t put_until_switched(struct disk_journal *j,
					  unsigned int other, uint64_t epoch)
{
	static uint8_t bytes[FILE_MAX];

	while (read_file(other, bytes) == 0)
		put_epoch(j, epoch++);
	return epoch;
}

/* Of the group: the host, for this process and those that end. */
static inline int make_host(void **state)
{
	(void)state;
	host = mmap(NULL, sizeof(*host), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (host == MAP_FAILED)
		return -1;
	log_open("/dev/null");
	return 0;
}

static inline int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/unit-disk-journal-XXXXXX");
	assert_non_null(mkdtemp(dir));
	memset(host, 0, sizeof(*host));
	host->calls_left = -1;
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	assert_int_equal(disk_journal_discard(dir, "vm"), 0);
	return rmdir(dir); /* nothing else is left */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
