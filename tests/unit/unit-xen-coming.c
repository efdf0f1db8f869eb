/* SPDX-License-Identifier: Apache-2.0 */
/* With which devices a guest is not resumed slowly. */
#include "config.h"

#include "resume/xen/coming.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* As seen in a guest that crashed in blkfront_resume(). */
static void a_driver_that_has_begun(void **state)
{
	(void)state;
	assert_true(xen_device_coming(XenbusStateInitialised,
				      XenbusStateInitWait, 0, false));
	assert_true(xen_device_coming(XenbusStateInitialised,
				      XenbusStateConnected, 0, false));
	assert_true(xen_device_coming(XenbusStateInitWait, XenbusStateInitWait,
				      XEN_COMING_US, false));
}

/* As seen in a guest that crashed in netfront_resume(). */
static void a_driver_that_may_have_begun(void **state)
{
	(void)state;
	assert_true(xen_device_coming(XenbusStateInitialising,
				      XenbusStateInitialising, 0, false));
	assert_true(xen_device_coming(XenbusStateInitialising,
				      XenbusStateInitWait, 0, false));
	assert_true(xen_device_coming(XenbusStateInitialising,
				      XenbusStateInitWait, XEN_COMING_US - 1,
				      false));
}

static void a_guest_without_a_driver(void **state)
{
	(void)state;
	assert_false(xen_device_coming(XenbusStateInitialising,
				       XenbusStateInitWait, XEN_COMING_US,
				       false));
}

static void a_guest_with_a_driver_that_is_slow(void **state)
{
	(void)state;
	assert_true(xen_device_coming(XenbusStateInitialising,
				      XenbusStateInitWait, XEN_COMING_US,
				      true));
	assert_false(xen_device_coming(XenbusStateInitialising,
				       XenbusStateInitWait,
				       XEN_COMING_DRIVER_US, true));
}

static void neither_of_both(void **state)
{
	(void)state;
	assert_false(xen_device_coming(XenbusStateConnected,
				       XenbusStateConnected, 0, false));
	assert_false(xen_device_coming(XenbusStateClosed, XenbusStateClosed, 0,
				       false));
	assert_false(xen_device_coming(XenbusStateInitialised,
				       XenbusStateClosed, 0, false));
	assert_false(xen_device_coming(0, XenbusStateInitWait, 0, false));
	assert_false(xen_device_coming(XenbusStateInitialising, 0, 0, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_driver_that_has_begun),
		cmocka_unit_test(a_driver_that_may_have_begun),
		cmocka_unit_test(a_guest_without_a_driver),
		cmocka_unit_test(a_guest_with_a_driver_that_is_slow),
		cmocka_unit_test(neither_of_both),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
