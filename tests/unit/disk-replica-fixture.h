/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A secondary's disks and their replica, with epochs that tell of each disk
 * what it is as of.
 */
#ifndef TESTS_UNIT_DISK_REPLICA_FIXTURE_H
#define TESTS_UNIT_DISK_REPLICA_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/log.h"
#include "resume/disk/journal.h"
#include "resume/disk/meta.h"
#include "resume/disk/replica.h"
#include "stream/changes.h"

enum {
	DISKS = 2,
	BLOCKS = 131,
	LAST_BYTES = 1024, /* of the last block */
	DISK_BYTES = (BLOCKS - 1) * DISK_BLOCK_BYTES + LAST_BYTES,
	JOURNAL_BYTES = 1024 * 1024,
	WRITE_BYTES = 512,
	/* What epochs write to, on each disk. */
	CELLS = 8,
	BASE = 77,
};

static const char *const names[DISKS] = { "root", "data" };
static char dir[64];
static struct guest_error why_not;
static const char *why;

/* --- disks --------------------------------------------------------------- */

static inline void storage_path(unsigned int disk, char path[128])
{
	snprintf(path, 128, "%s/%s.storage", dir, names[disk]);
}

static inline void make_disk(unsigned int disk)
{
	char path[128];
	AUTO_FD int fd = -1;

	storage_path(disk, path);
	fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	assert_int_equal(
		disk_meta_create(dir, names[disk], path, DISK_BYTES, &why_not),
		0);
}

static inline int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/unit-disk-replica-XXXXXX");
	assert_non_null(mkdtemp(dir));
	for (unsigned int i = 0; i < DISKS; i++)
		make_disk(i);
	return 0;
}

static inline int remove_one(const char *path, const struct stat *st, int type,
			     struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

static inline int teardown(void **state)
{
	(void)state;
	fault_fini();
	return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static inline struct disk_meta *meta_of(unsigned int disk)
{
	struct disk_meta *m;

	assert_int_equal(disk_meta_open(dir, names[disk], &m, &why_not), 0);
	return m;
}

static inline struct disk_state state_of(unsigned int disk)
{
	struct disk_meta *m = meta_of(disk);
	struct disk_state s = disk_meta_state(m);

	disk_meta_close(m);
	return s;
}

static inline void set_state(unsigned int disk, const struct disk_state *s)
{
	struct disk_meta *m = meta_of(disk);

	assert_int_equal(disk_meta_set(m, s), 0);
	disk_meta_close(m);
}

static inline bool same_state(const struct disk_state *a,
			      const struct disk_state *b)
{
	return a->role == b->role && a->alone == b->alone &&
	       a->whole == b->whole && a->base == b->base;
}

static inline bool journal_is_there(void)
{
	char path[DISK_PATH_MAX];

	assert_int_equal(disk_journal_path(dir, "vm", 0, path), 0);
	return access(path, F_OK) == 0;
}

/* --- epochs -------------------------------------------------------------- */

/*
 * Each writes its number into two cells of each disk, in two frames: the first
 * one's changes are of both disks.
 */
static inline unsigned int cell_of(uint64_t epoch, unsigned int part)
{
	return (unsigned int)(epoch + part * 3) % CELLS;
}

static inline size_t add_write(uint8_t *raw, size_t room, unsigned int disk,
			       uint64_t offset, uint64_t number)
{
	uint8_t data[WRITE_BYTES] = { 0 };
	const struct change c = {
		.disk = disk,
		.kind = CHANGE_WRITE,
		.offset = offset,
		.length = sizeof(data),
		.data = data,
	};
	size_t n;

	memcpy(data, &number, sizeof(number));
	n = change_put(&c, raw, room);
	assert_true(n > 0);
	return n;
}

static inline int put_part(struct disk_replica *r, uint64_t epoch,
			   unsigned int part)
{
	uint8_t raw[8 * WRITE_BYTES];
	size_t n = 0;

	for (unsigned int i = 0; i < DISKS; i++)
		n += add_write(raw + n, sizeof(raw) - n, i,
			       cell_of(epoch, part) * WRITE_BYTES, epoch);
	return disk_replica_put(r, epoch, raw, n, &why);
}

static inline int put_epoch(struct disk_replica *r, uint64_t epoch)
{
	int err = put_part(r, epoch, 0);

	if (!err)
		err = put_part(r, epoch, 1);
	return err ? err : disk_replica_stored(r, epoch, &why);
}

static inline void must_put(struct disk_replica *r, uint64_t first,
			    uint64_t last)
{
	for (uint64_t e = first; e <= last; e++)
		assert_int_equal(put_epoch(r, e), 0);
}

/* The epoch that a disk is as of, or -1. */
static inline int64_t epoch_of(unsigned int disk, uint64_t limit)
{
	uint64_t cell[CELLS], expected[CELLS] = { 0 };
	char path[128];
	AUTO_FD int fd = -1;

	storage_path(disk, path);
	fd = open(path, O_RDONLY);
	for (unsigned int i = 0; i < CELLS; i++)
		assert_int_equal(
			pread(fd, &cell[i], sizeof(cell[i]), i * WRITE_BYTES),
			sizeof(cell[i]));
	for (uint64_t e = 0;; e++) {
		if (e)
			expected[cell_of(e, 0)] = expected[cell_of(e, 1)] = e;
		if (!memcmp(cell, expected, sizeof(cell)))
			return (int64_t)e;
		if (e == limit)
			return -1;
	}
}

static inline void assert_as_of(uint64_t epoch)
{
	for (unsigned int i = 0; i < DISKS; i++)
		assert_int_equal(epoch_of(i, 1000), epoch);
}

/* --- a replica ----------------------------------------------------------- */

static inline struct disks offer_of(uint64_t base)
{
	struct disks offer = {
		.new_base = BASE,
		.seed = 5,
		.count = DISKS,
	};

	for (unsigned int i = 0; i < DISKS; i++) {
		strcpy(offer.disk[i].name, names[i]);
		offer.disk[i].size = DISK_BYTES;
		offer.disk[i].base = base;
		offer.disk[i].alone = true;
	}
	return offer;
}

static inline struct disk_replica *open_replica(void)
{
	struct disk_replica *r;
	int err = disk_replica_open(dir, "vm", JOURNAL_BYTES, &r, &why_not);

	if (err)
		fail_msg("%s", why_not.text);
	return r;
}

static inline struct disk_replica *taken(uint64_t base,
					 struct disks_taken *answer)
{
	const struct disks offer = offer_of(base);
	struct disk_replica *r = open_replica();
	struct disks_taken t;

	assert_int_equal(
		disk_replica_take(r, &offer, answer ? answer : &t, &why_not),
		0);
	return r;
}

static inline struct disk_replica *synced(void)
{
	struct disk_replica *r = taken(0, NULL);

	assert_int_equal(disk_replica_synced(r, &why), 0);
	return r;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
