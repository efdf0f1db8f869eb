/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume/disk/replica.c: at a takeover the disks are as of the last committed
 * epoch, whoever is killed and whenever; and a peer gets nothing that it should
 * not have.
 */
#include "config.h"

#include "resume/disk/replica.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/log.h"
#include "resume/disk/journal.h"
#include "resume/disk/meta.h"
#include "stream/changes.h"
#include "stream/checksum.h"

const struct guest_kind *const guest_kinds[] = { NULL };

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

static void storage_path(unsigned int disk, char path[128])
{
	snprintf(path, 128, "%s/%s.storage", dir, names[disk]);
}

static void make_disk(unsigned int disk)
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

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/unit-disk-replica-XXXXXX");
	assert_non_null(mkdtemp(dir));
	for (unsigned int i = 0; i < DISKS; i++)
		make_disk(i);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

static int teardown(void **state)
{
	(void)state;
	fault_fini();
	return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct disk_meta *meta_of(unsigned int disk)
{
	struct disk_meta *m;

	assert_int_equal(disk_meta_open(dir, names[disk], &m, &why_not), 0);
	return m;
}

static struct disk_state state_of(unsigned int disk)
{
	struct disk_meta *m = meta_of(disk);
	struct disk_state s = disk_meta_state(m);

	disk_meta_close(m);
	return s;
}

static void set_state(unsigned int disk, const struct disk_state *s)
{
	struct disk_meta *m = meta_of(disk);

	assert_int_equal(disk_meta_set(m, s), 0);
	disk_meta_close(m);
}

static bool same_state(const struct disk_state *a, const struct disk_state *b)
{
	return a->role == b->role && a->alone == b->alone &&
	       a->whole == b->whole && a->base == b->base;
}

static bool journal_is_there(void)
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
static unsigned int cell_of(uint64_t epoch, unsigned int part)
{
	return (unsigned int)(epoch + part * 3) % CELLS;
}

static size_t add_write(uint8_t *raw, size_t room, unsigned int disk,
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

static int put_part(struct disk_replica *r, uint64_t epoch, unsigned int part)
{
	uint8_t raw[8 * WRITE_BYTES];
	size_t n = 0;

	for (unsigned int i = 0; i < DISKS; i++)
		n += add_write(raw + n, sizeof(raw) - n, i,
			       cell_of(epoch, part) * WRITE_BYTES, epoch);
	return disk_replica_put(r, epoch, raw, n, &why);
}

static int put_epoch(struct disk_replica *r, uint64_t epoch)
{
	int err = put_part(r, epoch, 0);

	if (!err)
		err = put_part(r, epoch, 1);
	return err ? err : disk_replica_stored(r, epoch, &why);
}

static void must_put(struct disk_replica *r, uint64_t first, uint64_t last)
{
	for (uint64_t e = first; e <= last; e++)
		assert_int_equal(put_epoch(r, e), 0);
}

/* The epoch that a disk is as of, or -1. */
static int64_t epoch_of(unsigned int disk, uint64_t limit)
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

static void assert_as_of(uint64_t epoch)
{
	for (unsigned int i = 0; i < DISKS; i++)
		assert_int_equal(epoch_of(i, 1000), epoch);
}

/* --- a replica ----------------------------------------------------------- */

static struct disks offer_of(uint64_t base)
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

static struct disk_replica *open_replica(void)
{
	struct disk_replica *r;
	int err = disk_replica_open(dir, "vm", JOURNAL_BYTES, &r, &why_not);

	if (err)
		fail_msg("%s", why_not.text);
	return r;
}

static struct disk_replica *taken(uint64_t base, struct disks_taken *answer)
{
	const struct disks offer = offer_of(base);
	struct disk_replica *r = open_replica();
	struct disks_taken t;

	assert_int_equal(
		disk_replica_take(r, &offer, answer ? answer : &t, &why_not),
		0);
	return r;
}

static struct disk_replica *synced(void)
{
	struct disk_replica *r = taken(0, NULL);

	assert_int_equal(disk_replica_synced(r, &why), 0);
	return r;
}

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

/* --- taking -------------------------------------------------------------- */

/* Nothing has changed: not of the first one either. */
static void assert_refused(const struct disks *offer, int err, const char *text)
{
	struct disk_state before[DISKS], after;
	struct disk_replica *r = open_replica();
	struct disks_taken t;

	for (unsigned int i = 0; i < DISKS; i++)
		before[i] = state_of(i);
	why_not.text[0] = '\0';
	assert_int_equal(disk_replica_take(r, offer, &t, &why_not), err);
	assert_non_null(strstr(why_not.text, text));
	assert_int_equal(put_part(r, 0, 0), -EPROTO);
	disk_replica_close(r);
	for (unsigned int i = 0; i < DISKS; i++) {
		after = state_of(i);
		assert_true(same_state(&before[i], &after));
	}
}

static void an_offer_of_what_is_not_here_is_refused(void **state)
{
	struct disks offer = offer_of(0);

	(void)state;
	strcpy(offer.disk[1].name, "other");
	assert_refused(&offer, -ENOENT, "other");
	strcpy(offer.disk[1].name, "../root");
	assert_refused(&offer, -EINVAL, "name");
	strcpy(offer.disk[1].name, names[0]);
	assert_refused(&offer, -EINVAL, "twice");
	offer = offer_of(0);
	offer.disk[1].size += 512;
	assert_refused(&offer, -EINVAL, names[1]);
	offer = offer_of(0);
	offer.count = 0;
	assert_refused(&offer, -EINVAL, "no disks");
	offer.count = WIRE_DISKS_MAX + 1;
	assert_refused(&offer, -EINVAL, "too many");
	offer = offer_of(0);
	offer.new_base = 0;
	assert_refused(&offer, -EINVAL, "base");
}

static void a_disk_that_another_holds_is_refused(void **state)
{
	const struct disks offer = offer_of(0);
	struct disk_meta *m = meta_of(1);

	(void)state;
	assert_int_equal(disk_meta_hold(m, DISK_HOLDER_COLOD), 0);
	assert_refused(&offer, -EBUSY, names[1]);
	disk_meta_close(m);
}

static void a_disk_that_has_run_alone_is_refused(void **state)
{
	const struct disks offer = offer_of(0);
	struct disk_state s = { DISK_ROLE_PRIMARY, true, true, 3 };

	(void)state;
	set_state(1, &s);
	assert_refused(&offer, -EPERM, "colod disk forget data");
	s.role = DISK_ROLE_NEW;
	set_state(1, &s);
	assert_refused(&offer, -EPERM, "colod disk forget data");
	s.alone = false;
	s.role = DISK_ROLE_PRIMARY;
	set_state(1, &s);
	disk_replica_close(taken(0, NULL));
	assert_int_equal(state_of(1).role, DISK_ROLE_SECONDARY);
}

static void a_disk_whose_storage_is_too_short_is_refused(void **state)
{
	const struct disks offer = offer_of(0);
	char path[128];

	(void)state;
	storage_path(1, path);
	assert_int_equal(truncate(path, DISK_BYTES - 512), 0);
	assert_refused(&offer, -EINVAL, "root" + 4);
	assert_non_null(strstr(why_not.text, names[1]));
}

static void a_base_is_kept_only_as_long_as_it_is_of_both(void **state)
{
	struct disk_state s = { DISK_ROLE_SECONDARY, false, true, 3 };
	struct disks_taken t;

	(void)state;
	set_state(0, &s);
	disk_replica_close(taken(3, &t));
	assert_true(t.same_base[0] && !t.same_base[1]);
	s = state_of(0);
	assert_true(s.base == 3 && !s.whole); /* to be gone on with */
	disk_replica_close(taken(3, &t));
	assert_true(t.same_base[0]);
	disk_replica_close(taken(4, &t));
	assert_false(t.same_base[0]);
	assert_int_equal(state_of(0).base, 0);
	disk_replica_close(taken(0, &t)); /* no base is no common one */
	assert_false(t.same_base[0]);
}

/* --- synchronising ------------------------------------------------------- */

static void mark(unsigned int disk, uint64_t block)
{
	struct disk_meta *m = meta_of(disk);

	disk_meta_mark(m, block * DISK_BLOCK_BYTES, 1);
	disk_meta_close(m);
}

static void marks_are_of_disks_with_the_same_base(void **state)
{
	const struct disk_state s = { DISK_ROLE_PRIMARY, false, true, 3 };
	struct disk_replica *r;
	struct disk_blocks b;

	(void)state;
	mark(0, 1);
	set_state(1, &s);
	mark(1, 67);
	mark(1, 70);
	mark(1, BLOCKS - 1);
	r = taken(3, NULL);
	assert_int_equal(disk_replica_marks(r, &b), 1);
	assert_true(b.disk == 1 && b.first == 64 && b.count == BLOCKS - 64);
	assert_int_equal(b.bits[0], 1 << 3 | 1 << 6);
	assert_int_equal(b.bits[1], 1 << (BLOCKS - 1 - 128));
	assert_int_equal(disk_replica_marks(r, &b), 0);
	assert_int_equal(disk_replica_marks(r, &b), 0);
	assert_int_equal(disk_replica_synced(r, &why), 0);
	disk_replica_close(r);
	r = taken(BASE, NULL);
	assert_int_equal(disk_replica_marks(r, &b), 0); /* they were cleared */
	disk_replica_close(r);
}

static void far_marks_come_in_chunks(void **state)
{
	const struct disk_state s = { DISK_ROLE_PRIMARY, false, true, 3 };
	const uint64_t size = UINT64_C(10000) * DISK_BLOCK_BYTES;
	struct disks offer = offer_of(3);
	struct disks_taken t;
	struct disk_replica *r = open_replica();
	struct disk_blocks b;
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/root.disk", dir);
	assert_int_equal(unlink(path), 0);
	storage_path(0, path);
	assert_int_equal(truncate(path, (off_t)size), 0);
	assert_int_equal(disk_meta_create(dir, names[0], path, size, &why_not),
			 0);
	set_state(0, &s);
	mark(0, 0);
	mark(0, 4095);
	mark(0, 9999);
	offer.count = 1;
	offer.disk[0].size = size;
	assert_int_equal(disk_replica_take(r, &offer, &t, &why_not), 0);
	assert_int_equal(disk_replica_marks(r, &b), 1);
	assert_true(b.first == 0 && b.count == WIRE_DISK_BLOCKS_MAX);
	assert_int_equal(b.bits[63], UINT64_C(1) << 63);
	assert_int_equal(disk_replica_marks(r, &b), 1);
	assert_true(b.first == 9984 && b.count == 16);
	assert_int_equal(b.bits[0], 1 << 15);
	assert_int_equal(disk_replica_marks(r, &b), 0);
	disk_replica_close(r);
}

static void hashes_are_of_what_is_on_the_disk(void **state)
{
	static const uint8_t zero[DISK_BLOCK_BYTES];
	static struct disk_hashes h;
	struct disk_blocks ask = { .disk = 1,
				   .first = 64,
				   .count = BLOCKS - 64 };
	struct disk_replica *r = taken(0, NULL);
	uint8_t raw[2 * WRITE_BYTES], block[DISK_BLOCK_BYTES] = { 9 }, sum[16];
	size_t n = add_write(raw, sizeof(raw), 1, 65 * DISK_BLOCK_BYTES, 9);

	(void)state;
	assert_int_equal(disk_replica_put(r, 0, raw, n, &why), 0);
	ask.bits[0] = 3;
	ask.bits[1] = 1 << (BLOCKS - 1 - 128);
	assert_int_equal(disk_replica_hash(r, &ask, &h, &why), 0);
	assert_true(h.disk == 1 && h.first == 64 && h.count == 3);
	checksum_wide(zero, DISK_BLOCK_BYTES, 5, sum);
	assert_memory_equal(h.hash[0], sum, 16);
	checksum_wide(block, DISK_BLOCK_BYTES, 5, sum);
	assert_memory_equal(h.hash[1], sum, 16);
	checksum_wide(zero, LAST_BYTES, 5, sum);
	assert_memory_equal(h.hash[2], sum, 16);
	disk_replica_close(r);
}

/* --- a hostile peer ------------------------------------------------------ */

static void blocks_that_are_not_there_are_refused(void **state)
{
	static struct disk_hashes h;
	struct disk_replica *r = open_replica();
	struct disk_blocks ask = { .count = 1, .bits = { 1 } };
	const struct disk_blocks good = ask;

	(void)state;
	assert_int_equal(disk_replica_hash(r, &ask, &h, &why), -EPROTO);
	disk_replica_close(r);
	r = taken(0, NULL);
	ask.disk = DISKS;
	assert_int_equal(disk_replica_hash(r, &ask, &h, &why), -EPROTO);
	ask = good;
	ask.first = 128;
	ask.count = 4;
	assert_int_equal(disk_replica_hash(r, &ask, &h, &why), -EPROTO);
	ask.first = UINT64_MAX - 63;
	assert_int_equal(disk_replica_hash(r, &ask, &h, &why), -EPROTO);
	ask = good;
	ask.count = WIRE_DISK_BLOCKS_MAX + 64;
	assert_int_equal(disk_replica_hash(r, &ask, &h, &why), -EPROTO);
	ask = good;
	ask.bits[0] = 0;
	assert_int_equal(disk_replica_hash(r, &ask, &h, &why), -EPROTO);
	assert_int_equal(disk_replica_hash(r, &good, &h, &why), 0);
	assert_int_equal(disk_replica_synced(r, &why), 0);
	assert_int_equal(disk_replica_hash(r, &good, &h, &why), -EPROTO);
	disk_replica_close(r);
}

/* As the first change of an epoch, and behind a good one. */
static void assert_bad_change(const struct change *c)
{
	struct disk_replica *r = synced();
	uint8_t raw[2048];
	size_t n = add_write(raw, sizeof(raw), 0, 0, 1);

	must_put(r, 1, 1);
	n += change_put(c, raw + n, sizeof(raw) - n);
	why = NULL;
	assert_int_equal(disk_replica_put(r, 2, raw, n, &why), -EPROTO);
	assert_non_null(why);
	/* The epoch lacks something from now on. */
	assert_int_equal(disk_replica_stored(r, 2, &why), -EPROTO);
	disk_replica_close(r);
	assert_as_of(1);
	teardown(NULL);
	setup(NULL);
}

static void a_change_that_is_none_is_refused(void **state)
{
	static const uint8_t data[WRITE_BYTES];
	const struct change good = { 0, CHANGE_WRITE, 0, WRITE_BYTES, data };
	struct change c = good;

	(void)state;
	c.disk = DISKS;
	assert_bad_change(&c);
	c = good;
	c.offset = DISK_BYTES - WRITE_BYTES + 1;
	assert_bad_change(&c);
	c = (struct change){ 0, CHANGE_TRIM, UINT64_MAX - 10, 20, NULL };
	assert_bad_change(&c);
	c = (struct change){ 0, (enum wire_change_kind)9, 0, 20, NULL };
	assert_bad_change(&c);
}

static void changes_out_of_order_are_refused(void **state)
{
	struct disk_replica *r = open_replica();

	(void)state;
	assert_int_equal(put_part(r, 0, 0), -EPROTO); /* nothing was offered */
	assert_int_equal(disk_replica_synced(r, &why), -EPROTO);
	disk_replica_close(r);
	r = taken(0, NULL);
	assert_int_equal(put_part(r, 1, 0), -EPROTO);
	disk_replica_close(r);
	r = taken(0, NULL);
	assert_int_equal(disk_replica_stored(r, 1, &why), -EPROTO);
	disk_replica_close(r);
	r = synced();
	assert_int_equal(disk_replica_synced(r, &why), -EPROTO);
	disk_replica_close(r);
	r = synced();
	assert_int_equal(put_part(r, 0, 0), -EPROTO);
	disk_replica_close(r);
	r = synced();
	must_put(r, 5, 5);
	assert_int_equal(put_part(r, 5, 0), -EPROTO);
	disk_replica_close(r);
	r = synced();
	assert_int_equal(put_part(r, 5, 0), 0);
	assert_int_equal(put_part(r, 6, 0), -EPROTO);
	disk_replica_close(r);
	r = synced();
	assert_int_equal(put_part(r, 5, 0), 0);
	assert_int_equal(disk_replica_stored(r, 4, &why), -EPROTO);
	disk_replica_close(r);
}

static void disks_are_taken_once(void **state)
{
	const struct disks offer = offer_of(0);
	struct disk_replica *r = taken(0, NULL);
	struct disks_taken t;

	(void)state;
	assert_int_equal(disk_replica_take(r, &offer, &t, &why_not), -EPROTO);
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

static void what_may_not_be_stable_is_never_promoted(void **state)
{
	struct disk_replica *r = synced();

	(void)state;
	must_put(r, 1, 3);
	assert_int_equal(fault_init("disk-before-drop:error=EIO"), 0);
	assert_int_equal(disk_replica_promote(r, 2, &why_not), -EIO);
	assert_int_equal(disk_replica_promote(r, 2, &why_not), -EIO);
	assert_int_equal(state_of(0).role, DISK_ROLE_SECONDARY);
	disk_replica_close(r);
	assert_true(journal_is_there());
}

#endif

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

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
		TEST(an_offer_of_what_is_not_here_is_refused),
		TEST(a_disk_that_another_holds_is_refused),
		TEST(a_disk_that_has_run_alone_is_refused),
		TEST(a_disk_whose_storage_is_too_short_is_refused),
		TEST(a_base_is_kept_only_as_long_as_it_is_of_both),
		TEST(marks_are_of_disks_with_the_same_base),
		TEST(far_marks_come_in_chunks),
		TEST(hashes_are_of_what_is_on_the_disk),
		TEST(blocks_that_are_not_there_are_refused),
		TEST(a_change_that_is_none_is_refused),
		TEST(changes_out_of_order_are_refused),
		TEST(disks_are_taken_once),
		TEST(the_journal_is_emptied_as_epochs_are_committed),
		TEST(who_waits_for_room_can_be_cancelled),
		TEST(an_epoch_above_the_limit_is_told),
		TEST(a_storage_that_fails_is_told_and_finished_later),
		TEST(a_storage_that_fails_is_not_waited_for),
		TEST(a_synchronisation_that_fails_is_not_whole),
		TEST(a_journal_that_was_left_is_finished),
		TEST(a_primarys_disk_is_not_touched_by_a_journal),
		TEST(a_disk_that_is_no_more_keeps_no_journal),
		TEST(a_journal_in_use_is_let_alone),
		TEST(the_journals_of_a_disk_are_found),
		TEST(a_disk_taken_by_another_domain_has_no_journal),
#ifdef ENABLE_FAULTS
		cmocka_unit_test(a_kill_loses_nothing_and_mixes_nothing),
		TEST(a_takeover_that_failed_can_be_tried_again),
		TEST(what_may_not_be_stable_is_never_promoted),
#endif
	};

	signal(SIGXFSZ, SIG_IGN);
	log_open("/dev/null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
