/* SPDX-License-Identifier: Apache-2.0 */
/* The account server's rules, without a guest around them. */
#include "config.h"

#include "resume/embedded/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "resume/embedded/memory.h"

enum { CAPACITY = 5 };

static struct ledger *l;
static char reply[EMBEDDED_REPLY_MAX];

static int make_ledger(void **state)
{
	(void)state;
	l = calloc(1, sizeof(*l) + CAPACITY * sizeof(l->entries[0]));
	return l ? 0 : -1;
}

static int free_ledger(void **state)
{
	(void)state;
	free(l);
	return 0;
}

static const char *answer(const char *line)
{
	size_t n = ledger_answer(l, CAPACITY, line, reply, sizeof(reply));

	assert_true(n < sizeof(reply));
	reply[n] = '\0';
	return reply;
}

/*
 * The values are those of libxxhash called from Python, over
 * struct.pack("<QQQIIq", previous, client, seq, from, to, amount).
 */
static void the_chain_is_as_documented(void **state)
{
	(void)state;
	assert_string_equal(answer("PAY 1 1 1 2 5"),
			    "OK 1 1 1 64a7adc8a09dda9d\n");
	assert_string_equal(answer("PAY 4095 1 0 4095 -7"),
			    "OK 4095 1 2 6100846dad712d82\n");
	assert_string_equal(answer("SUM"), "SUM 2 6100846dad712d82 0\n");
}

static void a_request_is_executed_once(void **state)
{
	char first[EMBEDDED_REPLY_MAX];

	(void)state;
	strcpy(first, answer("PAY 7 1 1 2 5"));
	assert_string_equal(answer("PAY 7 1 1 2 5"), first);
	/* Even if it says something else now. */
	assert_string_equal(answer("PAY 7 1 3 4 99"), first);
	assert_int_equal(l->count, 1);
	assert_int_equal((int64_t)l->balances[1], -5);
	assert_int_equal(l->balances[2], 5);
	answer("PAY 8 1 1 2 5");
	assert_string_equal(answer("PAY 7 1 1 2 5"), first);
}

static void sequences_have_no_holes(void **state)
{
	(void)state;
	assert_string_equal(answer("PAY 7 2 1 2 5"),
			    "NO 7 2 out of sequence\n");
	assert_string_equal(answer("PAY 7 0 1 2 5"),
			    "NO 7 0 out of sequence\n");
	answer("PAY 7 1 1 2 5");
	answer("PAY 7 2 1 2 5");
	assert_string_equal(answer("PAY 7 1 1 2 5"),
			    "NO 7 1 out of sequence\n");
	assert_string_equal(answer("PAY 7 4 1 2 5"),
			    "NO 7 4 out of sequence\n");
	assert_int_equal(l->count, 2);
}

static void nonsense_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"PAY",
		"PAY ",
		"pay 1 1 1 1 1",
		"PAY 0 1 1 1 1",
		"PAY 4096 1 1 1 1",
		"PAY -1 1 1 1 1",
		"PAY 1 1x 1 1 1",
		"PAY 1 99999999999999999999 1 1 1",
		"SUM ",
		"SUM 1",
		"CHAIN",
		"CHAIN 0 1",
		"CHAIN 1",
		"CHAIN 1 1001",
		"CHAIN 1 1 1",
		"CHAIN -1 1",
		"DISK 1",
		"DISK ",
	};
	static const char *const bad_one[] = {
		"PAY 1 1 4096 1 1",
		"PAY 1 1 1 4096 1",
		"PAY 1 1 1 1 1 ",
		"PAY 1 1 1 1",
		"PAY 1 1 1 1 -",
		"PAY 1 1 1 1 1x",
		"PAY 1 1 1 1 9223372036854775808",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_string_equal(answer(bad[i]), "NO 0 0 malformed\n");
	for (size_t i = 0; i < sizeof(bad_one) / sizeof(bad_one[0]); i++)
		assert_string_equal(answer(bad_one[i]), "NO 1 1 malformed\n");
	assert_int_equal(l->count, 0);
	assert_int_equal(l->chain_left, 0);
}

static void the_total_is_always_zero(void **state)
{
	(void)state;
	answer("PAY 1 1 1 2 9223372036854775807");
	answer("PAY 1 2 1 2 9223372036854775807");
	answer("PAY 1 3 3 3 -9223372036854775808");
	answer("PAY 1 4 0 4095 -9223372036854775808");
	assert_int_equal(l->count, 4);
	assert_non_null(strstr(answer("SUM"), " 0\n"));
}

static void a_full_ledger_says_so(void **state)
{
	char line[40];

	(void)state;
	for (int i = 1; i <= CAPACITY; i++) {
		snprintf(line, sizeof(line), "PAY 1 %d 1 2 1", i);
		assert_memory_equal(answer(line), "OK", 2);
	}
	assert_string_equal(answer("PAY 1 6 1 2 1"),
			    "NO 1 6 the ledger is full\n");
	assert_memory_equal(answer("PAY 1 5 1 2 1"), "OK", 2);
}

static void assert_chain(const char *request, unsigned int from,
			 unsigned int count)
{
	unsigned int lines = 0;
	char begins[40];
	int last = 0;
	size_t n;

	assert_string_equal(answer(request), "");
	while (!last) {
		n = ledger_chain(l, reply, sizeof(reply), &last);
		reply[n] = '\0';
		if (last)
			break;
		snprintf(begins, sizeof(begins), "T %u 1 %u 1 2 %u ",
			 from + lines, from + lines, from + lines);
		assert_memory_equal(reply, begins, strlen(begins));
		lines++;
	}
	assert_memory_equal(reply, "END ", 4);
	assert_int_equal(lines, count);
	assert_int_equal(l->chain_left, 0);
}

static void a_chain_is_told_in_parts(void **state)
{
	char line[40];

	(void)state;
	assert_chain("CHAIN 1 10", 1, 0);
	for (int i = 1; i <= CAPACITY; i++) {
		snprintf(line, sizeof(line), "PAY 1 %d 1 2 %d", i, i);
		answer(line);
	}
	assert_chain("CHAIN 1 1000", 1, 5);
	assert_chain("CHAIN 2 3", 2, 3);
	assert_chain("CHAIN 5 1", 5, 1);
	assert_chain("CHAIN 6 1", 6, 0);
	assert_chain("CHAIN 18446744073709551615 1000", 0, 0);
	assert_chain("CHAIN 1 0", 1, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, make_ledger, free_ledger)
		T(the_chain_is_as_documented), T(a_request_is_executed_once),
		T(sequences_have_no_holes),    T(nonsense_is_refused),
		T(the_total_is_always_zero),   T(a_full_ledger_says_so),
		T(a_chain_is_told_in_parts),
#undef T
	};

	return cmocka_run_group_tests_name("embedded ledger", tests, NULL,
					   NULL);
}
