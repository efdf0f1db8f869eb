/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest may write as its event channel. */
#include "config.h"

#include "resume/xen/offer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int parsed(const char *text)
{
	return xen_offer_parse(text, strlen(text));
}

static void ports_are_ports(void **state)
{
	(void)state;
	assert_int_equal(parsed("1"), 1);
	assert_int_equal(parsed("23"), 23);
	assert_int_equal(parsed("131071"), 131071);
}

static void nothing_is_nothing(void **state)
{
	(void)state;
	assert_int_equal(parsed(""), 0);
	assert_int_equal(xen_offer_parse("7", 0), 0);
}

static void all_else_is_refused(void **state)
{
	static const char *const bad[] = {
		"0",
		"00",
		"01",
		"-1",
		"+1",
		" 1",
		"1 ",
		"1\n",
		"0x10",
		"1.0",
		"rubbish",
		"131072",
		"99999999",
		"1e3",
		"\xff",
		"2147483648",
		"4294967297",
		"18446744073709551617",
		"00000000000000000000000000000001",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(parsed(bad[i]), -EINVAL);
	/* As long as xenstore lets a value be. */
	char nines[4096];

	memset(nines, '9', sizeof(nines));
	assert_int_equal(xen_offer_parse(nines, sizeof(nines)), -EINVAL);
}

/* xenstore's values have a length and may hold anything. */
static void the_length_counts_not_the_end(void **state)
{
	(void)state;
	assert_int_equal(xen_offer_parse("123", 2), 12);
	assert_int_equal(xen_offer_parse("1\0", 2), -EINVAL);
	assert_int_equal(xen_offer_parse("\0", 1), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports_are_ports),
		cmocka_unit_test(nothing_is_nothing),
		cmocka_unit_test(all_else_is_refused),
		cmocka_unit_test(the_length_counts_not_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
