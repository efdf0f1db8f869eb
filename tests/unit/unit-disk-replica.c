/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume/disk/replica.c: disks are taken and synchronised, and a peer gets
 * nothing that it should not have.
 */
#include "config.h"

#include "resume/disk/replica.h"

#include "stream/checksum.h"
#include "tests/unit/disk-replica-fixture.h"

const struct guest_kind *const guest_kinds[] = { NULL };

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	log_open("/dev/null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
