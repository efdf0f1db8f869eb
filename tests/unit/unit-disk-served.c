/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume/disk/export.c: which disks are served, and what is known of one whose
 * server has ended.
 */
#include "config.h"

#include "resume/disk/export.h"

#include "resume/disk/meta_impl.h"
#include "tests/unit/disk-served-fixture.h"

const struct guest_kind *const guest_kinds[] = { NULL };

enum { DISK_BYTES = 4 * 1024 * 1024 };

static int setup(void **state)
{
	(void)state;
	make_disk(DISK_BYTES);
	serve();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return remove_disk();
}

static void a_disk_is_served_once(void **state)
{
	struct disk_export *other;
	struct guest_error err = { { 0 } };

	(void)state;
	assert_int_equal(disk_export_open(dir, run_dir, "d", &other, &err),
			 -EBUSY);
	assert_non_null(strstr(err.text, "served already"));
	assert_int_equal(disk_export_open(dir, run_dir, "e", &other, &err),
			 -ENOENT);
}

static void a_storage_that_is_too_short_is_not_served(void **state)
{
	struct guest_error err = { { 0 } };

	(void)state;
	end_server();
	assert_int_equal(truncate(storage, DISK_BYTES - 512), 0);
	assert_int_equal(disk_export_open(dir, run_dir, "d", &served, &err),
			 -EINVAL);
	assert_non_null(strstr(err.text, "shorter"));
}

/* The base as it is after a new start of the host. */
static uint64_t base_after_a_boot(void)
{
	struct guest_error err;
	struct disk_meta *m;
	char path[100];
	uint64_t base;
	int fd;

	snprintf(path, sizeof(path), "%s/boot", dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, "00000000-0000-0000-0000-00000000beef", 36),
			 36);
	close(fd);
	meta_read_boot_from(path);
	assert_int_equal(disk_meta_open(dir, "d", &m, &err), 0);
	meta_read_boot_from("/proc/sys/kernel/random/boot_id");
	base = disk_meta_state(m).base;
	disk_meta_close(m);
	return base;
}

static void a_base_outlives_the_host_where_the_server_ended_in_order(void **s)
{
	struct disk_state state = { .role = DISK_ROLE_PRIMARY, .base = 77 };

	(void)s;
	assert_int_equal(disk_meta_set(meta, &state), 0);
	assert_int_equal(base_after_a_boot(), 0);
	end_server();
	assert_int_equal(base_after_a_boot(), 77);
	serve();
	assert_int_equal(base_after_a_boot(), 0);
	state.role = DISK_ROLE_SECONDARY;
	assert_int_equal(disk_meta_set(meta, &state), 0);
	end_server();
	assert_int_equal(base_after_a_boot(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_disk_is_served_once),
		TEST(a_storage_that_is_too_short_is_not_served),
		TEST(a_base_outlives_the_host_where_the_server_ended_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
