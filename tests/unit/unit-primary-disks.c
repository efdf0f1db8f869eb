/* SPDX-License-Identifier: Apache-2.0 */
/* engine/primary_disks.c: disks that come and go while a guest is protected. */
#include "config.h"

#include "engine/primary_disks.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

const struct guest_kind *const guest_kinds[] = { NULL };

enum { SECOND_US = 1000 * 1000 };

static struct guest_disk has[GUEST_DISKS_MAX];
static size_t has_count;
static unsigned int asked;
static struct primary_disks disks;
static uint64_t now_us;

static size_t list(struct guest_source *s, struct guest_disk *out)
{
	(void)s;
	asked++;
	memcpy(out, has, sizeof(has));
	return has_count;
}

static const struct guest_source_ops ops = { .disks = list };

static void gets(const char *name)
{
	snprintf(has[has_count++].name, sizeof(has->name), "%s", name);
}

static int follow_after(uint64_t us)
{
	now_us += us;
	return primary_disks_follow(&disks, &ops, NULL, now_us);
}

static int setup(void **state)
{
	(void)state;
	memset(has, 0, sizeof(has));
	has_count = 0;
	now_us = SECOND_US;
	primary_disks_init(&disks, "/nonexistent", "/nonexistent", 4096);
	gets("data");
	gets("root");
	assert_int_equal(primary_disks_find(&disks, &ops, NULL), 2);
	asked = 0;
	return 0;
}

static void the_same_disks_are_nothing(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(follow_after(SECOND_US), 0);
	assert_int_equal(asked, 10);
}

static void it_is_not_asked_in_each_epoch(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(follow_after(SECOND_US / 20), 0);
	assert_true(asked >= 4 && asked <= 6);
}

static void others_at_last(void)
{
	struct guest_error err = { { 0 } };

	assert_int_equal(follow_after(SECOND_US), 0);
	primary_disks_explain(&disks, &err);
	assert_string_equal(err.text, "");
	assert_int_equal(follow_after(SECOND_US), -ESTALE);
	primary_disks_explain(&disks, &err);
	assert_non_null(strstr(err.text, "are others"));
	/* What is synchronised next is what it has then. */
	primary_disks_find(&disks, &ops, NULL);
	assert_int_equal(follow_after(SECOND_US), 0);
	assert_int_equal(follow_after(SECOND_US), 0);
}

static void a_disk_that_came_is_told(void **state)
{
	(void)state;
	gets("swap");
	others_at_last();
}

static void a_disk_that_went_is_told(void **state)
{
	(void)state;
	has_count--;
	others_at_last();
	has_count--;
	others_at_last();
}

static void another_in_its_place_is_told(void **state)
{
	(void)state;
	has_count--;
	gets("roof");
	others_at_last();
}

static void one_that_is_away_for_a_moment_is_nothing(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 5; i++) {
		has_count = 1;
		assert_int_equal(follow_after(SECOND_US), 0);
		has_count = 2;
		assert_int_equal(follow_after(SECOND_US), 0);
	}
}

static void a_guest_whose_kind_has_none_is_not_asked(void **state)
{
	static const struct guest_source_ops none;

	(void)state;
	for (unsigned int i = 0; i < 5; i++) {
		now_us += SECOND_US;
		assert_int_equal(
			primary_disks_follow(&disks, &none, NULL, now_us), 0);
	}
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_same_disks_are_nothing),
		TEST(it_is_not_asked_in_each_epoch),
		TEST(a_disk_that_came_is_told),
		TEST(a_disk_that_went_is_told),
		TEST(another_in_its_place_is_told),
		TEST(one_that_is_away_for_a_moment_is_nothing),
		TEST(a_guest_whose_kind_has_none_is_not_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
