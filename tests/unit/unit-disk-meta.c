/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume/disk/meta.c, meta_state.c and names.c: what a host knows of a disk is
 * the same for all processes, is never half of something, and outlives them.
 */
#include "config.h"

#include "resume/disk/meta.h"
#include "resume/disk/meta_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

const struct guest_kind *const guest_kinds[] = { NULL };

#define STORAGE "/dev/vg/root disk"
/* Its last block is shorter. */
#define SIZE ((UINT64_C(5) << 30) + 1536)
#define BLOCKS ((uint64_t)(5 * 16384 + 1))

struct place {
	char top[64], dir[96], file[128], boot[96];
	struct disk_meta *m;
};

static struct disk_meta *open_it(const struct place *p)
{
	struct disk_meta *m;

	assert_int_equal(disk_meta_open(p->dir, "root", &m, NULL), 0);
	return m;
}

static void write_file(const char *path, off_t at, const void *bytes, size_t n)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	assert_int_equal(pwrite(fd, bytes, n, at), n);
	close(fd);
}

/* Metas that are opened from now on find the host started for the n-th time. */
static void start_of_the_host(struct place *p, unsigned int n)
{
	char text[64];
	int bytes = snprintf(text, sizeof(text),
			     "0a1b2c3d-4e5f-4a6b-8c7d-0000000000%02x\n", n);

	write_file(p->boot, 0, text, (size_t)bytes);
	meta_read_boot_from(p->boot);
}

static void open_again(struct place *p)
{
	disk_meta_close(p->m);
	p->m = open_it(p);
}

static int make(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	strcpy(p->top, "/tmp/unit-disk-meta-XXXXXX");
	assert_non_null(mkdtemp(p->top));
	snprintf(p->dir, sizeof(p->dir), "%s/lib/disks", p->top);
	snprintf(p->file, sizeof(p->file), "%s/root.disk", p->dir);
	snprintf(p->boot, sizeof(p->boot), "%s/boot_id", p->top);
	start_of_the_host(p, 1);
	assert_int_equal(disk_meta_create(p->dir, "root", STORAGE, SIZE, NULL),
			 0);
	p->m = open_it(p);
	*state = p;
	return 0;
}

static int unmake(void **state)
{
	struct place *p = *state;
	char lib[96];

	disk_meta_close(p->m);
	snprintf(lib, sizeof(lib), "%s/lib", p->top);
	unlink(p->boot);
	unlink(p->file);
	assert_int_equal(rmdir(p->dir), 0); /* nothing half made is left */
	rmdir(lib);
	rmdir(p->top);
	free(p);
	return 0;
}

/* --- names ---------------------------------------------------------------- */

static void a_name_is_fit_for_a_file(void **state)
{
	char longest[DISK_NAME_MAX + 2];

	(void)state;
	memset(longest, 'a', sizeof(longest));
	longest[DISK_NAME_MAX + 1] = '\0';
	assert_true(disk_name_good("a"));
	assert_true(disk_name_good("Web-1_root.x"));
	assert_true(disk_name_good("_0"));
	assert_false(disk_name_good(longest));
	longest[DISK_NAME_MAX] = '\0';
	assert_true(disk_name_good(longest));
	assert_false(disk_name_good(""));
	assert_false(disk_name_good(".."));
	assert_false(disk_name_good(".a"));
	assert_false(disk_name_good("-a"));
	assert_false(disk_name_good("a/b"));
	assert_false(disk_name_good("a b"));
	assert_false(disk_name_good("\303\244"));
}

static void paths_are_as_promised_or_too_long(void **state)
{
	char path[DISK_PATH_MAX], dir[DISK_PATH_MAX];

	(void)state;
	assert_int_equal(disk_meta_path("/d", "a", path), 0);
	assert_string_equal(path, "/d/a.disk");
	assert_int_equal(disk_journal_path("/d", "dom", 1, path), 0);
	assert_string_equal(path, "/d/dom.journal.1");
	assert_int_equal(disk_nbd_path("/r", "a", path), 0);
	assert_string_equal(path, "/r/disks/a.nbd");
	assert_int_equal(disk_control_path("/r", "a", path), 0);
	assert_string_equal(path, "/r/disks/a.control");

	memset(dir, 'd', sizeof(dir));
	dir[DISK_PATH_MAX - 1] = '\0';
	assert_int_equal(disk_meta_path(dir, "a", path), -ENAMETOOLONG);
	/* 107 characters are an address, 108 are none. */
	dir[107 - strlen("/disks/a.nbd")] = '\0';
	assert_int_equal(disk_nbd_path(dir, "a", path), 0);
	assert_int_equal(disk_nbd_path(dir, "ab", path), -ENAMETOOLONG);
	assert_int_equal(disk_control_path(dir, "a", path), -ENAMETOOLONG);
	assert_int_equal(disk_meta_path(dir, "ab", path), 0);
}

/* --- making and opening --------------------------------------------------- */

static void a_new_disk_is_what_was_asked_for(void **state)
{
	struct place *p = *state;
	struct disk_state s = disk_meta_state(p->m);
	struct stat st;

	assert_string_equal(disk_meta_name(p->m), "root");
	assert_string_equal(disk_meta_storage(p->m), STORAGE);
	assert_int_equal(disk_meta_size(p->m), SIZE);
	assert_int_equal(disk_meta_blocks(p->m), BLOCKS);
	assert_int_equal(s.role, DISK_ROLE_NEW);
	assert_int_equal(s.base, 0);
	assert_false(s.alone || s.whole);
	assert_int_equal(disk_meta_count(p->m), 0);
	assert_int_equal(stat(p->dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(stat(p->file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	/* A mark that has no room would kill who sets it. */
	assert_true(st.st_blocks * 512 >= st.st_size);
}

static void there_is_one_disk_of_a_name(void **state)
{
	struct place *p = *state;
	struct guest_error err = { { 0 } };

	assert_int_equal(disk_meta_create(p->dir, "root", "/x", 512, &err),
			 -EEXIST);
	assert_non_null(strstr(err.text, "root"));
	open_again(p);
	assert_int_equal(disk_meta_size(p->m), SIZE);
}

static void wrong(struct place *p, const char *name, const char *storage,
		  uint64_t size)
{
	struct guest_error err = { { 0 } };

	assert_int_equal(disk_meta_create(p->dir, name, storage, size, &err),
			 -EINVAL);
	assert_true(err.text[0]);
}

static void what_cannot_be_a_disk_is_refused(void **state)
{
	char path[DISK_PATH_MAX + 1];

	memset(path, '/', sizeof(path));
	path[DISK_PATH_MAX] = '\0';
	wrong(*state, "a/b", "/x", 512);
	wrong(*state, "a", "/x", 0);
	wrong(*state, "a", "/x", 513);
	wrong(*state, "a", "/x", DISK_SIZE_MAX + 512);
	wrong(*state, "a", "", 512);
	wrong(*state, "a", path, 512);
}

static void the_longest_names_are_kept(void **state)
{
	struct place *p = *state;
	char name[DISK_NAME_MAX + 1], path[DISK_PATH_MAX], file[DISK_PATH_MAX];
	struct disk_meta *m;

	memset(name, 'n', DISK_NAME_MAX);
	name[DISK_NAME_MAX] = '\0';
	memset(path, 'p', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(disk_meta_create(p->dir, name, path, 512, NULL), 0);
	assert_int_equal(disk_meta_open(p->dir, name, &m, NULL), 0);
	assert_string_equal(disk_meta_name(m), name);
	assert_string_equal(disk_meta_storage(m), path);
	assert_int_equal(disk_meta_blocks(m), 1);
	disk_meta_close(m);
	disk_meta_path(p->dir, name, file);
	unlink(file);
}

static void not_opened(const struct place *p, const char *name, int why)
{
	struct guest_error err = { { 0 } };
	struct disk_meta *m = NULL;

	assert_int_equal(disk_meta_open(p->dir, name, &m, &err), why);
	assert_non_null(strstr(err.text, name));
	assert_null(m);
}

/* The file with other bytes at `at`; it is put right again. */
static void damaged(const struct place *p, off_t at, size_t n)
{
	uint8_t was[META_PAGE_BYTES], is[META_PAGE_BYTES];
	int fd = open(p->file, O_RDWR);

	assert_int_equal(pread(fd, was, n, at), n);
	for (size_t i = 0; i < n; i++)
		is[i] = was[i] ^ 1;
	assert_int_equal(pwrite(fd, is, n, at), n);
	not_opened(p, "root", -EINVAL);
	assert_int_equal(pwrite(fd, was, n, at), n);
	close(fd);
	disk_meta_close(open_it(p));
}

static void what_is_no_disk_is_not_opened(void **state)
{
	struct place *p = *state;
	char other[DISK_PATH_MAX];
	struct stat st;

	not_opened(p, "none", -ENOENT);
	not_opened(p, "../root", -ENOENT);
	damaged(p, 0, 1);		   /* the magic */
	damaged(p, 16, 1);		   /* the size */
	damaged(p, 100, 1);		   /* the storage */
	damaged(p, META_PAGE_BYTES, 1024); /* both slots */
	disk_meta_path(p->dir, "other", other);
	assert_int_equal(link(p->file, other), 0);
	not_opened(p, "other", -EINVAL);
	unlink(other);
	assert_int_equal(stat(p->file, &st), 0);
	assert_int_equal(truncate(p->file, st.st_size - 1), 0);
	not_opened(p, "root", -EINVAL);
	assert_int_equal(truncate(p->file, 0), 0);
	not_opened(p, "root", -EINVAL);
	/* Nothing is mapped that is not there any more. */
	assert_int_equal(truncate(p->file, st.st_size), 0);
}

/* --- the state ------------------------------------------------------------ */

/* The n-th of a row of states of which every part says which it is. */
static struct disk_state nth(uint64_t n)
{
	return (struct disk_state){ .role = (enum disk_role)(n % 3),
				    .alone = n % 2,
				    .whole = n / 2 % 2,
				    .base = n };
}

static void same(struct disk_state a, struct disk_state b)
{
	assert_int_equal(a.base, b.base);
	assert_int_equal(a.role, b.role);
	assert_int_equal(a.alone, b.alone);
	assert_int_equal(a.whole, b.whole);
}

static void set(struct disk_meta *m, uint64_t n)
{
	struct disk_state s = nth(n);

	assert_int_equal(disk_meta_set(m, &s), 0);
}

static void all_see_the_state_at_once(void **state)
{
	struct place *p = *state;
	struct disk_meta *other = open_it(p);

	for (uint64_t n = 1; n < 20; n++) {
		set(n % 5 ? p->m : other, n);
		same(disk_meta_state(p->m), nth(n));
		same(disk_meta_state(other), nth(n));
		assert_int_equal(disk_meta_role(other), n % 3);
	}
	disk_meta_close(other);
	open_again(p);
	same(disk_meta_state(p->m), nth(19));
}

static int newest_slot(const struct disk_meta *m)
{
	return m->slots[1].word[0] > m->slots[0].word[0];
}

/* Whoever was killed while it wrote the newest has left the one before. */
static void half_a_state_is_none(void **state)
{
	struct place *p = *state;

	for (uint64_t n = 1; n < 2 * META_SLOT_WORDS; n++) {
		set(p->m, 2 * n);
		set(p->m, 2 * n + 1);
		p->m->slots[newest_slot(p->m)].word[n % META_SLOT_WORDS] ^=
			UINT64_C(1) << n;
		open_again(p);
		same(disk_meta_state(p->m), nth(2 * n));
	}
	set(p->m, 99);
	open_again(p);
	same(disk_meta_state(p->m), nth(99));
}

/* A child that fails a test would go on with the next one. */
static void must(int rc)
{
	if (rc)
		_exit(1);
}

static struct disk_meta *open_in_child(const struct place *p)
{
	struct disk_meta *m;

	must(disk_meta_open(p->dir, "root", &m, NULL));
	return m;
}

/* `count` states from `from` on. */
static pid_t set_in_child(const struct place *p, uint64_t from, uint64_t count)
{
	pid_t pid = fork();
	struct disk_meta *m;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	m = open_in_child(p);
	for (uint64_t n = from; n < from + count; n++) {
		struct disk_state s = nth(n);

		must(disk_meta_set(m, &s));
	}
	_exit(0);
}

static void a_killed_writer_leaves_a_whole_state(void **state)
{
	struct place *p = *state;
	uint64_t n = 1;

	for (int round = 0; round < 20; round++) {
		pid_t pid = set_in_child(p, n, UINT32_MAX);
		struct disk_state s;

		do {
			s = disk_meta_state(p->m);
			if (s.base) /* 0: of the new disk */
				same(s, nth(s.base));
			assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
		} while (s.base < n + 3);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		open_again(p);
		s = disk_meta_state(p->m);
		same(s, nth(s.base));
		n = s.base + 1;
	}
}

/* Each takes the number behind the newest: none is lost, or written twice. */
static void writers_do_not_write_at_once(void **state)
{
	struct place *p = *state;
	pid_t pid[3];
	int status;

	for (int i = 0; i < 3; i++)
		pid[i] = set_in_child(p, 1, 50);
	for (int i = 0; i < 3; i++) {
		waitpid(pid[i], &status, 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(p->m->slots[newest_slot(p->m)].word[0], 151);
}

/* --- starts of the host --------------------------------------------------- */

static uint64_t base_after_start(struct place *p, unsigned int n)
{
	start_of_the_host(p, n);
	open_again(p);
	return disk_meta_state(p->m).base;
}

static void a_base_ends_with_the_host(void **state)
{
	struct place *p = *state;
	struct disk_state s = { DISK_ROLE_PRIMARY, true, true, 77 };

	assert_int_equal(disk_meta_set(p->m, &s), 0);
	assert_int_equal(base_after_start(p, 1), 77);
	assert_int_equal(base_after_start(p, 2), 0);
	s.base = 0;
	same(disk_meta_state(p->m), s); /* all else is kept */
	/* What is set without it does not bring it back. */
	s = disk_meta_state(p->m);
	assert_int_equal(disk_meta_set(p->m, &s), 0);
	assert_int_equal(disk_meta_state(p->m).base, 0);
}

static void a_base_outlives_the_host_at_rest(void **state)
{
	struct place *p = *state;

	set(p->m, 77);
	assert_int_equal(disk_meta_rest(p->m), 0);
	assert_int_equal(base_after_start(p, 2), 77);
	same(disk_meta_state(p->m), nth(77));
	assert_int_equal(base_after_start(p, 3), 77);
	assert_int_equal(disk_meta_wake(p->m), 0);
	same(disk_meta_state(p->m), nth(77));
	assert_int_equal(base_after_start(p, 3), 77);
	assert_int_equal(base_after_start(p, 4), 0);
}

static void a_base_that_has_ended_does_not_come_back(void **state)
{
	struct place *p = *state;

	set(p->m, 77);
	assert_int_equal(base_after_start(p, 2), 0);
	assert_int_equal(disk_meta_rest(p->m), 0);
	assert_int_equal(disk_meta_state(p->m).base, 0);
	assert_int_equal(base_after_start(p, 1), 0);

	set(p->m, 78);
	assert_int_equal(base_after_start(p, 2), 0);
	assert_int_equal(disk_meta_wake(p->m), 0);
	assert_int_equal(base_after_start(p, 1), 0);
	assert_int_equal(base_after_start(p, 2), 0);
}

static void a_new_base_is_not_at_rest(void **state)
{
	struct place *p = *state;
	struct disk_state s = nth(77);

	set(p->m, 77);
	assert_int_equal(disk_meta_rest(p->m), 0);
	s.alone = !s.alone;
	assert_int_equal(disk_meta_set(p->m, &s), 0);
	assert_int_equal(base_after_start(p, 2), 77);
	set(p->m, 78);
	assert_int_equal(base_after_start(p, 2), 78);
	assert_int_equal(base_after_start(p, 3), 0);
}

static void an_unknown_start_is_no_start(void **state)
{
	struct place *p = *state;

	meta_read_boot_from("/nonexistent");
	open_again(p);
	set(p->m, 77);
	assert_int_equal(disk_meta_state(p->m).base, 0);
	set(p->m, 77);
	assert_int_equal(disk_meta_rest(p->m), 0);
	open_again(p);
	assert_int_equal(disk_meta_state(p->m).base, 0);
}

/* --- holders -------------------------------------------------------------- */

static void one_holds_it_at_a_time(void **state)
{
	struct place *p = *state;
	struct disk_meta *other = open_it(p);

	assert_int_equal(disk_meta_held(p->m, DISK_HOLDER_SERVER), 0);
	assert_int_equal(disk_meta_hold(p->m, DISK_HOLDER_SERVER), 0);
	assert_int_equal(disk_meta_held(p->m, DISK_HOLDER_SERVER), 1);
	assert_int_equal(disk_meta_held(other, DISK_HOLDER_SERVER), 1);
	assert_int_equal(disk_meta_hold(other, DISK_HOLDER_SERVER), -EBUSY);
	assert_int_equal(disk_meta_held(p->m, DISK_HOLDER_COLOD), 0);
	assert_int_equal(disk_meta_hold(other, DISK_HOLDER_COLOD), 0);
	assert_int_equal(disk_meta_held(p->m, DISK_HOLDER_COLOD), 1);
	/* Others that look at the disk take nothing from it. */
	disk_meta_close(open_it(p));
	set(other, 1);
	assert_int_equal(disk_meta_held(p->m, DISK_HOLDER_COLOD), 1);
	disk_meta_close(other);
	assert_int_equal(disk_meta_held(p->m, DISK_HOLDER_COLOD), 0);
	open_again(p);
	assert_int_equal(disk_meta_held(p->m, DISK_HOLDER_SERVER), 0);
}

/* Opens the disk, does it, says so, and stays until it is killed. */
static pid_t do_and_stay(const struct place *p, void (*it)(struct disk_meta *m))
{
	int pipe_fds[2];
	char byte = 0;
	pid_t pid;

	assert_int_equal(pipe(pipe_fds), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		it(open_in_child(p));
		byte = 1;
		if (write(pipe_fds[1], &byte, 1) == 1)
			pause();
		_exit(1);
	}
	close(pipe_fds[1]);
	assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
	close(pipe_fds[0]);
	return pid;
}

static void kill_it(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void hold_as_server(struct disk_meta *m)
{
	must(disk_meta_hold(m, DISK_HOLDER_SERVER));
}

static void a_killed_holder_holds_no_more(void **state)
{
	struct place *p = *state;
	pid_t pid = do_and_stay(p, hold_as_server);

	assert_int_equal(disk_meta_held(p->m, DISK_HOLDER_SERVER), 1);
	assert_int_equal(disk_meta_hold(p->m, DISK_HOLDER_SERVER), -EBUSY);
	kill_it(pid);
	assert_int_equal(disk_meta_hold(p->m, DISK_HOLDER_SERVER), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_is_fit_for_a_file),
		cmocka_unit_test(paths_are_as_promised_or_too_long),
		TEST(a_new_disk_is_what_was_asked_for),
		TEST(there_is_one_disk_of_a_name),
		TEST(what_cannot_be_a_disk_is_refused),
		TEST(the_longest_names_are_kept),
		TEST(what_is_no_disk_is_not_opened),
		TEST(all_see_the_state_at_once),
		TEST(half_a_state_is_none),
		TEST(a_killed_writer_leaves_a_whole_state),
		TEST(writers_do_not_write_at_once),
		TEST(a_base_ends_with_the_host),
		TEST(a_base_outlives_the_host_at_rest),
		TEST(a_base_that_has_ended_does_not_come_back),
		TEST(a_new_base_is_not_at_rest),
		TEST(an_unknown_start_is_no_start),
		TEST(one_holds_it_at_a_time),
		TEST(a_killed_holder_holds_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
