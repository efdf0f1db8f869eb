/* SPDX-License-Identifier: Apache-2.0 */
/* resume/xen/lifecycle.c: what colod puts into a configuration and takes out.
 */
#include "config.h"

#include "resume/xen/lifecycle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* No guests of any kind are part of this test. */
const struct guest_kind *const guest_kinds[] = { NULL };

static int setup(void **state)
{
	static libxl_domain_config config;

	libxl_domain_config_init(&config);
	*state = &config;
	return 0;
}

static int teardown(void **state)
{
	libxl_domain_config_dispose(*state);
	return 0;
}

static void assert_words(char **list, const char *const *words)
{
	size_t i;

	for (i = 0; words[i]; i++) {
		assert_non_null(list);
		assert_string_equal(list[i], words[i]);
	}
	assert_true(!list || !list[i]);
}

static void test_notes(void **state)
{
	libxl_domain_config *c = *state;

	assert_null(xen_config_noted(c, XEN_NODE_STANDBY));
	assert_int_equal(xen_config_note(c, "theirs", "kept"), 0);
	assert_int_equal(xen_config_note(c, XEN_NODE_STANDBY, "1"), 0);
	assert_int_equal(xen_config_note(c, XEN_NODE_MODEL, "7.2.22"), 0);
	assert_int_equal(xen_config_note(c, XEN_NODE_STANDBY, "2"), 0);
	assert_string_equal(xen_config_noted(c, XEN_NODE_STANDBY), "2");
	assert_string_equal(xen_config_noted(c, XEN_NODE_MODEL), "7.2.22");
	assert_int_equal(xen_config_clean(c), 0);
	assert_words(c->c_info.xsdata,
		     (const char *const[]){ "theirs", "kept", NULL });
}

/* The operator's own words for the device model stay. */
static void test_device_model_waits(void **state)
{
	static const char *const waits[] = { "-name", "x", "-incoming", "defer",
					     NULL };
	libxl_domain_config *c = *state;

	assert_int_equal(xen_config_wait(c, false), 0);
	c->b_info.extra_hvm = calloc(3, sizeof(char *));
	assert_non_null(c->b_info.extra_hvm);
	c->b_info.extra_hvm[0] = strdup("-name");
	c->b_info.extra_hvm[1] = strdup("x");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(xen_config_wait(c, true), 0);
		assert_words(c->b_info.extra_hvm, waits);
	}
	assert_int_equal(xen_config_clean(c), 0);
	assert_words(c->b_info.extra_hvm,
		     (const char *const[]){ "-name", "x", NULL });
}

static void test_first_words(void **state)
{
	libxl_domain_config *c = *state;

	assert_int_equal(xen_config_wait(c, true), 0);
	assert_words(c->b_info.extra_hvm,
		     (const char *const[]){ "-incoming", "defer", NULL });
	assert_int_equal(xen_config_clean(c), 0);
	assert_words(c->b_info.extra_hvm, (const char *const[]){ NULL });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_notes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_device_model_waits, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_first_words, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
