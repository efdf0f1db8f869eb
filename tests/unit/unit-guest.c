/* SPDX-License-Identifier: Apache-2.0 */
/* The lock on a guest's name, and the kinds of guests. */
#include "config.h"

#include "resume/guest.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct guest_standby_ops xen_standby = {
	.kinds =
		(const struct guest_wire_kind[]){
			{ .kind = WIRE_GUEST_XEN_PVH,
			  .needs = { WIRE_RECORD_HVM_CONTEXT } },
			{ .kind = WIRE_GUEST_XEN_HVM,
			  .needs = { WIRE_RECORD_HVM_CONTEXT,
				     WIRE_RECORD_COLOD_DEVICE_MODEL } },
			{ 0 },
		},
};
/* The rooms of the kinds are not part of this test. */
const struct guest_kind guest_xen = {
	.prefix = "xen:",
	.name = guest_plain_name,
	.standby = &xen_standby,
};
static const struct guest_standby_ops embedded_standby = {
	.kinds =
		(const struct guest_wire_kind[]){
			{ .kind = WIRE_GUEST_EMBEDDED,
			  .needs = { WIRE_RECORD_COLOD_VCPUS } },
			{ 0 },
		},
};
const struct guest_kind guest_embedded = {
	.prefix = "embedded:",
	.name = guest_plain_name,
	.standby = &embedded_standby,
};

static char dir[64];

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/unit-guest.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/web.lock", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/db.lock", dir);
	unlink(path);
	return rmdir(dir);
}

static void second_holder_is_refused(void **state)
{
	int fd = guest_lock("web", dir);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(guest_lock("web", dir), -EBUSY);
	close(fd);
}

static void closing_frees_the_name(void **state)
{
	int fd = guest_lock("web", dir);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	fd = guest_lock("web", dir);
	assert_true(fd >= 0);
	close(fd);
}

static void other_names_are_free(void **state)
{
	int web = guest_lock("web", dir), db = guest_lock("db", dir);

	(void)state;
	assert_true(web >= 0);
	assert_true(db >= 0);
	close(web);
	close(db);
}

static void inherited_lock_outlives_its_maker(void **state)
{
	int fd;
	pid_t child;

	(void)state;
	fd = guest_lock("web", dir);
	assert_true(fd >= 0);
	child = fork();
	if (child == 0)
		for (;;)
			pause();
	close(fd);
	assert_int_equal(guest_lock("web", dir), -EBUSY);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	fd = guest_lock("web", dir);
	assert_true(fd >= 0);
	close(fd);
}

static void names_that_leave_the_directory_are_refused(void **state)
{
	(void)state;
	assert_int_equal(guest_lock("../web", dir), -EINVAL);
	assert_int_equal(guest_lock("a/b", dir), -EINVAL);
	assert_int_equal(guest_lock(".hidden", dir), -EINVAL);
	assert_int_equal(guest_lock("", dir), -EINVAL);
}

static void missing_directory_is_made(void **state)
{
	char deeper[100], path[128];
	int fd;

	(void)state;
	snprintf(deeper, sizeof(deeper), "%s/run", dir);
	fd = guest_lock("web", deeper);
	assert_true(fd >= 0);
	close(fd);
	snprintf(path, sizeof(path), "%s/web.lock", deeper);
	unlink(path);
	assert_int_equal(rmdir(deeper), 0);
}

static void words_mean_a_domain(void **state)
{
	char name[WIRE_NAME_MAX + 1];
	struct guest_error err;

	(void)state;
	assert_ptr_equal(guest_kind_of_words("web"), &guest_xen);
	assert_ptr_equal(guest_kind_of_words("17"), &guest_xen);
	assert_ptr_equal(guest_kind_of_words("xen:web"), &guest_xen);
	assert_ptr_equal(guest_kind_of_words("embedded:x"), &guest_embedded);
	assert_string_equal(guest_words(&guest_xen, "xen:web"), "web");
	assert_string_equal(guest_words(&guest_xen, "web"), "web");
	assert_int_equal(guest_xen.name("web", name, &err), 0);
	assert_string_equal(name, "web");
	assert_int_equal(guest_xen.name("", name, &err), -EINVAL);
}

static void wire_kinds_are_found_or_not(void **state)
{
	(void)state;
	assert_ptr_equal(guest_kind_of_wire(WIRE_GUEST_XEN_PVH), &guest_xen);
	assert_ptr_equal(guest_kind_of_wire(WIRE_GUEST_XEN_HVM), &guest_xen);
	assert_ptr_equal(guest_kind_of_wire(WIRE_GUEST_EMBEDDED),
			 &guest_embedded);
	assert_null(guest_kind_of_wire((enum wire_guest_kind)999));
}

static void every_status_has_words(void **state)
{
	(void)state;
	for (int s = GUEST_RUNNING; s <= GUEST_GONE; s++)
		assert_string_not_equal(guest_status_text(s), "unknown");
}

static void long_errors_are_cut(void **state)
{
	struct guest_error e;

	(void)state;
	guest_error_set(&e, "%600s", "x");
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
	guest_error_set(NULL, "nobody listens");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(second_holder_is_refused),
		cmocka_unit_test(closing_frees_the_name),
		cmocka_unit_test(other_names_are_free),
		cmocka_unit_test(inherited_lock_outlives_its_maker),
		cmocka_unit_test(names_that_leave_the_directory_are_refused),
		cmocka_unit_test(missing_directory_is_made),
		cmocka_unit_test(words_mean_a_domain),
		cmocka_unit_test(wire_kinds_are_found_or_not),
		cmocka_unit_test(every_status_has_words),
		cmocka_unit_test(long_errors_are_cut),
	};

	return cmocka_run_group_tests_name("guest", tests, make_dir,
					   remove_dir);
}
