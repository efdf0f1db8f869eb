/* SPDX-License-Identifier: Apache-2.0 */
/* A disk of this host's and its server, which is this process. */
#ifndef TESTS_UNIT_DISK_SERVED_FIXTURE_H
#define TESTS_UNIT_DISK_SERVED_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "resume/disk/control.h"
#include "resume/disk/export.h"
#include "resume/disk/meta.h"

static char dir[64], run_dir[80], storage[80];
static struct disk_export *served;
static struct disk_meta *meta; /* another look at it */

static inline void serve(void)
{
	struct guest_error err = { { 0 } };

	assert_int_equal(disk_export_open(dir, run_dir, "d", &served, &err), 0);
	assert_int_equal(disk_export_listen(served), 0);
}

static inline void end_server(void)
{
	disk_export_close(served);
	served = NULL;
}

static inline void name_paths(void)
{
	snprintf(run_dir, sizeof(run_dir), "%s/run", dir);
	snprintf(storage, sizeof(storage), "%s/storage", dir);
}

/* Not served yet. */
static inline void make_disk(uint64_t bytes)
{
	struct guest_error err = { { 0 } };
	int fd;

	strcpy(dir, "/tmp/unit-disk-served-XXXXXX");
	assert_non_null(mkdtemp(dir));
	name_paths();
	fd = open(storage, O_CREAT | O_RDWR, 0600);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	close(fd);
	assert_int_equal(disk_meta_create(dir, "d", storage, bytes, &err), 0);
	assert_int_equal(disk_meta_open(dir, "d", &meta, &err), 0);
}

static inline int remove_one(const char *path, const struct stat *st, int type,
			     struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline int remove_disk(void)
{
	end_server();
	disk_meta_close(meta);
	return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static inline void become(enum disk_role role)
{
	const struct disk_state s = { .role = role };

	assert_int_equal(disk_meta_set(meta, &s), 0);
}

static inline bool marked(uint64_t block)
{
	return disk_meta_marked(meta, block);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
