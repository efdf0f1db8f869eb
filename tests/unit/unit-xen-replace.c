/* SPDX-License-Identifier: Apache-2.0 */
/* Which devices are taken away, and which only have a slow guest. */
#include "config.h"

#include "resume/xen/replace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* As seen in a guest that had not connected its disk after 30 s. */
static void a_slow_guest_keeps_its_device(void **state)
{
	(void)state;
	assert_false(xen_device_backend_owes(XenbusStateInitialised,
					     XenbusStateConnected));
	assert_false(xen_device_backend_owes(XenbusStateInitialising,
					     XenbusStateInitWait));
	assert_false(xen_device_backend_owes(XenbusStateConnected,
					     XenbusStateConnected));
}

static void a_backend_that_does_not_follow(void **state)
{
	(void)state;
	assert_true(xen_device_backend_owes(XenbusStateInitialised,
					    XenbusStateInitWait));
	assert_true(xen_device_backend_owes(XenbusStateConnected,
					    XenbusStateInitWait));
	assert_true(xen_device_backend_owes(XenbusStateInitialising,
					    XenbusStateClosed));
	assert_true(xen_device_backend_owes(XenbusStateInitialised,
					    XenbusStateClosing));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_slow_guest_keeps_its_device),
		cmocka_unit_test(a_backend_that_does_not_follow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
