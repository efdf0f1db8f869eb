/* SPDX-License-Identifier: Apache-2.0 */
/* resume/xen/context.c: no state is taken for a whole one that is not. */
#include "config.h"

#include "resume/xen/context.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* A header of four bytes, an entry of one, another vCPU's of none, the end. */
static const uint8_t WHOLE[] = {
	1, 0, 0, 0, 4, 0, 0, 0, 'h', 'e', 'a', 'd', /* */
	2, 0, 0, 0, 1, 0, 0, 0, 0,		    /* */
	2, 0, 1, 0, 0, 0, 0, 0,			    /* */
	0, 0, 0, 0, 0, 0, 0, 0,
};

static void whole(void **state)
{
	(void)state;
	assert_true(xen_context_whole(WHOLE, sizeof(WHOLE)));
}

static void cut_short(void **state)
{
	(void)state;
	for (size_t n = 0; n < sizeof(WHOLE); n++)
		assert_false(xen_context_whole(WHOLE, n));
}

static void more_behind_its_end(void **state)
{
	uint8_t bytes[sizeof(WHOLE) + 1] = { 0 };

	(void)state;
	memcpy(bytes, WHOLE, sizeof(WHOLE));
	assert_false(xen_context_whole(bytes, sizeof(bytes)));
}

static void another_beginning(void **state)
{
	(void)state;
	assert_false(xen_context_whole(WHOLE + 12, sizeof(WHOLE) - 12));
	assert_false(xen_context_whole(WHOLE + 29, sizeof(WHOLE) - 29));
}

static void a_length_beyond_its_end(void **state)
{
	uint8_t bytes[sizeof(WHOLE)];

	(void)state;
	memcpy(bytes, WHOLE, sizeof(WHOLE));
	memset(bytes + 16, 0xff, 4);
	assert_false(xen_context_whole(bytes, sizeof(bytes)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole),
		cmocka_unit_test(cut_short),
		cmocka_unit_test(more_behind_its_end),
		cmocka_unit_test(another_beginning),
		cmocka_unit_test(a_length_beyond_its_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
