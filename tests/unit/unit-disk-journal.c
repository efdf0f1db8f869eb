/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume/disk/journal.c: whatever is torn off, and whenever its writer or its
 * host ends, what comes out are whole epochs, in order, and none is missing.
 */
#include "config.h"

#include "resume/disk/journal.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bounds.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "resume/disk/journal_file.h"

const struct guest_kind *const guest_kinds[] = { NULL };

enum {
	LIMIT = 1024 * 1024,
	FILE_MAX = 64 * 1024, /* of those whose bytes are looked at */
	PIECE = 300,
	EPOCHS_MAX = 64,
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

static void a_call(void)
{
	if (host->calls_left == 0)
		_exit(0);
	if (host->calls_left > 0)
		host->calls_left--;
}

static void path_of(unsigned int number, char *path)
{
	assert_int_equal(disk_journal_path(dir, "vm", number, path), 0);
}

static size_t read_file(unsigned int number, uint8_t *bytes)
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

static void write_file(unsigned int number, const uint8_t *bytes, size_t length)
{
	char path[DISK_PATH_MAX];
	AUTO_FD int fd = -1;

	path_of(number, path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, length), length);
}

static atomic_bool waiting; /* somebody does, or has */

/* These five instead of the C library's. */
int pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
	static int (*real)(pthread_cond_t *, pthread_mutex_t *);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pthread_cond_wait");
	waiting = true;
	return real(c, m);
}

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

static void fill(uint8_t *raw, uint64_t epoch, unsigned int number)
{
	for (int i = 0; i < PIECE; i++)
		raw[i] = (uint8_t)(epoch * 31 + number * 7 + (unsigned int)i);
}

static struct disk_journal *open_journal(uint64_t limit)
{
	struct guest_error err = { { 0 } };
	struct disk_journal *j;

	assert_int_equal(
		disk_journal_open(dir, "vm", disks, 2, limit, &j, &err), 0);
	return j;
}

static int put(struct disk_journal *j, uint64_t epoch, unsigned int number)
{
	uint8_t raw[PIECE];

	fill(raw, epoch, number);
	return disk_journal_put(j, epoch, raw, sizeof(raw));
}

/* Epoch n has n % 3 + 1 pieces. */
static void put_epoch(struct disk_journal *j, uint64_t epoch)
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

static int see(void *arg, uint64_t epoch, const uint8_t *raw, size_t length)
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
static void assert_seen(const struct seen *s, uint64_t first,
			unsigned int count)
{
	assert_int_equal(s->count, count);
	for (unsigned int i = 0; i < count; i++) {
		assert_int_equal(s->epoch[i], first + i);
		assert_int_equal(s->pieces[i], (first + i) % 3 + 1);
	}
}

static void assert_replayed(uint64_t first, unsigned int count)
{
	struct seen s = { 0 };

	assert_int_equal(disk_journal_replay(dir, "vm", see, &s), 0);
	assert_seen(&s, first, count);
}

static void assert_applied(struct disk_journal *j, uint64_t until,
			   uint64_t first, unsigned int count)
{
	struct seen s = { 0 };

	assert_int_equal(disk_journal_apply(j, until, see, &s), 0);
	assert_seen(&s, first, count);
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/unit-disk-journal-XXXXXX");
	assert_non_null(mkdtemp(dir));
	memset(host, 0, sizeof(*host));
	host->calls_left = -1;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(disk_journal_discard(dir, "vm"), 0);
	return rmdir(dir); /* nothing else is left */
}

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

enum { SOME = 5 };

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
	for (size_t n = 0; n < length; n++) {
		unsigned int whole = ended_before(ends, n);

		if (n < 1024)
			whole = 0; /* what it is */
		else if (n < JOURNAL_RECORDS_AT)
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
	assert_int_equal(host->file[0].bytes, 0);
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

enum { SMALL = 16 * 1024 }; /* a file is switched at 8 KiB */

/* Epochs from `epoch` on, until the other file is begun; the next epoch. */
static uint64_t put_until_switched(struct disk_journal *j, unsigned int other,
				   uint64_t epoch)
{
	static uint8_t bytes[FILE_MAX];

	while (read_file(other, bytes) == 0)
		put_epoch(j, epoch++);
	return epoch;
}

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

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

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
		TEST(nothing_is_applied_behind_a_gap),
		TEST(a_gap_in_what_was_applied_is_told),
		TEST(a_kill_anywhere_loses_nothing_that_was_stored),
		TEST(a_removal_that_is_cut_off_mixes_nothing),
		TEST(a_loss_of_power_anywhere_leaves_whole_epochs),
	};

	host = mmap(NULL, sizeof(*host), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (host == MAP_FAILED)
		return 1;
	log_open("/dev/null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
