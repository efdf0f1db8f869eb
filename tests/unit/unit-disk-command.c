/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/cmd_disk.c: what an operator may make of a disk in which state.  What
 * the journal has is applied by a function that only counts.
 */
#include "config.h"

#include "engine/commands.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/env.h"
#include "resume/disk/meta.h"
#include "resume/disk/replica.h"

enum { BYTES = 1 << 20 };

const struct guest_kind *const guest_kinds[] = { NULL };

struct place {
	char top[64], dir[96], run[96], storage[96];
	struct settings set;
	struct disk_meta *m;
};

static struct {
	int finished, err;
	struct disk_meta *m; /* looked at when the journal is finished */
	struct disk_state then;
} journal;

int disk_replica_finish(const char *disk_dir, const char *disk,
			struct guest_error *err)
{
	assert_non_null(disk_dir);
	assert_string_equal(disk, "web");
	journal.finished++;
	journal.then = disk_meta_state(journal.m);
	if (journal.err)
		guest_error_set(err, "the journal cannot be read");
	return journal.err;
}

static int make(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	strcpy(p->top, "/tmp/unit-disk-command-XXXXXX");
	assert_non_null(mkdtemp(p->top));
	snprintf(p->dir, sizeof(p->dir), "%s/disks", p->top);
	snprintf(p->run, sizeof(p->run), "%s/run", p->top);
	snprintf(p->storage, sizeof(p->storage), "%s/storage", p->top);
	p->set.disk_dir = p->dir;
	p->set.run_dir = p->run;
	assert_int_equal(
		disk_meta_create(p->dir, "web", p->storage, BYTES, NULL), 0);
	assert_int_equal(disk_meta_open(p->dir, "web", &p->m, NULL), 0);
	memset(&journal, 0, sizeof(journal));
	journal.m = p->m;
	*state = p;
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

static int unmake(void **state)
{
	struct place *p = *state;

	disk_meta_close(p->m);
	nftw(p->top, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(p);
	return 0;
}

static int command(struct place *p, const char *verb)
{
	char word[16], name[] = "web", *argv[] = { word, name, NULL };

	strcpy(word, verb);
	return command_disk(&p->set, 2, argv);
}

static void begin(struct place *p, enum disk_role role, bool whole)
{
	const struct disk_state s = { .role = role, .whole = whole, .base = 5 };

	assert_int_equal(disk_meta_set(p->m, &s), 0);
	disk_meta_mark(p->m, 0, BYTES);
}

static void expect_state(struct place *p, enum disk_role role, bool alone,
			 uint64_t base)
{
	struct disk_state s = disk_meta_state(p->m);

	assert_int_equal(s.role, role);
	assert_int_equal(s.alone, alone);
	assert_int_equal(s.base, base);
}

static void a_whole_secondary_becomes_primary_behind_its_journal(void **state)
{
	struct place *p = *state;

	begin(p, DISK_ROLE_SECONDARY, true);
	assert_int_equal(command(p, "primary"), EXIT_ENDED);
	expect_state(p, DISK_ROLE_PRIMARY, true, 5);
	assert_int_equal(journal.finished, 1);
	/* Before it was finished no guest could write. */
	assert_int_equal(journal.then.role, DISK_ROLE_SECONDARY);
	/* What differs from the other side is still to be known. */
	assert_int_equal(disk_meta_count(p->m), BYTES / DISK_BLOCK_BYTES);
}

static void one_that_is_not_whole_does_not(void **state)
{
	struct place *p = *state;

	begin(p, DISK_ROLE_SECONDARY, false);
	assert_int_equal(command(p, "primary"), EXIT_FAILED);
	expect_state(p, DISK_ROLE_SECONDARY, false, 5);
	assert_int_equal(journal.finished, 0);
}

static void nor_one_whose_journal_cannot_be_finished(void **state)
{
	struct place *p = *state;

	begin(p, DISK_ROLE_SECONDARY, true);
	journal.err = -EIO;
	assert_int_equal(command(p, "primary"), EXIT_FAILED);
	expect_state(p, DISK_ROLE_SECONDARY, false, 5);
	assert_int_equal(command(p, "forget"), EXIT_FAILED);
	expect_state(p, DISK_ROLE_SECONDARY, false, 5);
}

static void a_primary_is_made_sure_to_be_one(void **state)
{
	struct place *p = *state;

	begin(p, DISK_ROLE_PRIMARY, false);
	assert_int_equal(command(p, "primary"), EXIT_ENDED);
	expect_state(p, DISK_ROLE_PRIMARY, true, 5);
}

static void forgetting_leaves_a_new_disk(void **state)
{
	struct place *p = *state;
	struct disk_state s;

	begin(p, DISK_ROLE_PRIMARY, false);
	s = disk_meta_state(p->m);
	s.alone = true;
	disk_meta_set(p->m, &s);
	assert_int_equal(command(p, "forget"), EXIT_ENDED);
	expect_state(p, DISK_ROLE_NEW, false, 0);
	assert_int_equal(disk_meta_count(p->m), 0);
	/* It must not come over what the disk is used for next. */
	assert_int_equal(journal.finished, 1);
}

static void nothing_is_changed_under_a_holder(void **state)
{
	struct place *p = *state;

	begin(p, DISK_ROLE_SECONDARY, true);
	assert_int_equal(disk_meta_hold(p->m, DISK_HOLDER_COLOD), 0);
	assert_int_equal(command(p, "primary"), EXIT_FAILED);
	assert_int_equal(command(p, "forget"), EXIT_FAILED);
	assert_int_equal(journal.finished, 0);
	expect_state(p, DISK_ROLE_SECONDARY, false, 5);
}

static void nothing_is_forgotten_that_is_served(void **state)
{
	struct place *p = *state;

	begin(p, DISK_ROLE_PRIMARY, false);
	assert_int_equal(disk_meta_hold(p->m, DISK_HOLDER_SERVER), 0);
	assert_int_equal(command(p, "forget"), EXIT_FAILED);
	expect_state(p, DISK_ROLE_PRIMARY, false, 5);
	/* A server asks for the role at each request. */
	assert_int_equal(command(p, "primary"), EXIT_ENDED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_whole_secondary_becomes_primary_behind_its_journal),
		TEST(one_that_is_not_whole_does_not),
		TEST(nor_one_whose_journal_cannot_be_finished),
		TEST(a_primary_is_made_sure_to_be_one),
		TEST(forgetting_leaves_a_new_disk),
		TEST(nothing_is_changed_under_a_holder),
		TEST(nothing_is_forgotten_that_is_served),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
