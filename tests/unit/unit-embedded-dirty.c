/* SPDX-License-Identifier: Apache-2.0 */
/* The workload "dirty": what a step writes, and where. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "resume/embedded/memory.h"
#include "resume/embedded/workload.h"
#include "stream/format.h"

/* The kinds are not part of this test. */
const struct guest_kind *const guest_kinds[] = { NULL };

enum {
	PAGES = 1000, /* those that it writes */
	BYTES = (EMBEDDED_DATA_PAGE + PAGES) * WIRE_PAGE_BYTES,
	WORDS = WIRE_PAGE_BYTES / 8,
	STEPS = 20000,
};

static uint64_t memory[BYTES / 8], before[BYTES / 8];
static uint64_t reg[EMBEDDED_REGISTERS];
static struct embedded_spec spec;
static struct workload_view view;

static void boot(const char *words, unsigned int vcpu)
{
	struct guest_error why;

	memset(memory, 0, sizeof(memory));
	memset(before, 0, sizeof(before));
	assert_int_equal(embedded_spec_parse(words, &spec, &why), 0);
	view = (struct workload_view){ .spec = &spec,
				       .memory = (uint8_t *)memory,
				       .bytes = BYTES,
				       .vcpu = vcpu,
				       .reg = reg };
	workload_dirty.boot(&view);
}

/*
 * Which page a step has changed, the first being 0, and how many words; word 0
 * counts the writes.  Another page would show in nothing_else().
 */
static unsigned int step(unsigned int *words)
{
	unsigned int page = EMBEDDED_DATA_PAGE, i;
	const uint64_t *at, *was;

	assert_true(workload_dirty.step(&view));
	while (page < BYTES / WIRE_PAGE_BYTES &&
	       memory[page * WORDS] == before[page * WORDS])
		page++;
	assert_true(page < BYTES / WIRE_PAGE_BYTES);
	at = memory + page * WORDS;
	was = before + page * WORDS;
	*words = 0;
	for (i = 0; i < WORDS; i++)
		*words += at[i] != was[i];
	memcpy(before + page * WORDS, at, WIRE_PAGE_BYTES);
	return page - EMBEDDED_DATA_PAGE;
}

static void nothing_else(void)
{
	assert_memory_equal(memory, before, sizeof(memory));
}

/* The same without looking for what has changed: word 0 counts the writes. */
static void many_steps(uint64_t *writes)
{
	unsigned int i;

	for (i = 0; i < STEPS; i++)
		assert_true(workload_dirty.step(&view));
	for (i = 0; i < PAGES; i++)
		writes[i] = memory[(EMBEDDED_DATA_PAGE + i) * WORDS];
	assert_int_equal(reg[1], STEPS);
}

static void sequential_takes_page_after_page(void **state)
{
	unsigned int words, i;

	(void)state;
	boot("dirty,pattern=sequential", 0);
	for (i = 0; i < 200; i++)
		assert_int_equal(step(&words), i);
	nothing_else();
	boot("dirty,pattern=sequential", 0);
	for (i = 0; i < PAGES; i++)
		workload_dirty.step(&view);
	memcpy(before, memory, sizeof(memory));
	assert_int_equal(step(&words), 0); /* and from the start again */
}

static void hot_prefers_a_tenth(void **state)
{
	uint64_t writes[PAGES], hot = 0, cold = 0, touched = 0;
	unsigned int i;

	(void)state;
	boot("dirty,pattern=hot", 0);
	many_steps(writes);
	for (i = 0; i < PAGES; i++) {
		*(i <= PAGES / 10 ? &hot : &cold) += writes[i];
		touched += i > PAGES / 10 && writes[i];
	}
	assert_int_equal(hot + cold, STEPS);
	/* Nine in ten, and a tenth of the others: 91 per cent. */
	assert_in_range(hot * 100 / STEPS, 89, 93);
	assert_true(touched > PAGES / 2);
}

static void random_prefers_none(void **state)
{
	uint64_t writes[PAGES];
	unsigned int i;

	(void)state;
	boot("dirty", 0);
	many_steps(writes);
	for (i = 0; i < PAGES; i++) /* 20 each; by chance never so far off */
		assert_in_range(writes[i], 1, 60);
}

static void few_words_a_page(void **state)
{
	unsigned int words, most = 0, i;

	(void)state;
	boot("dirty,whole=0,words=5", 0);
	for (i = 0; i < 300; i++) {
		step(&words);
		assert_in_range(words, 2, 6); /* and the count in word 0 */
		most = words > most ? words : most;
	}
	assert_int_equal(most, 6);
	nothing_else();
	boot("dirty,whole=0,words=512", 0);
	step(&words);
	assert_int_equal(words, WORDS);
}

/* Small differences, as of fields that are counted up. */
static void words_change_a_little(void **state)
{
	unsigned int i, k;

	(void)state;
	boot("dirty,whole=0,pattern=sequential", 0);
	for (i = 0; i < 100; i++) {
		workload_dirty.step(&view);
		for (k = 0; k < WORDS; k++)
			assert_in_range(
				memory[(EMBEDDED_DATA_PAGE + i) * WORDS + k], 0,
				1000);
	}
}

static void whole_is_a_share(void **state)
{
	unsigned int words, whole = 0, i;

	(void)state;
	boot("dirty,whole=100", 0);
	for (i = 0; i < 1000; i++) {
		step(&words);
		assert_int_equal(words, WORDS);
	}
	boot("dirty,whole=25", 0);
	for (i = 0; i < 400; i++) {
		step(&words);
		whole += words == WORDS;
		assert_true(words == WORDS || words <= 9);
	}
	assert_in_range(whole, 60, 140);
	nothing_else();
}

/* What is behind it was written once, with zeros. */
static void a_span_is_all_that_is_written(void **state)
{
	const uint64_t was = UINT64_C(0x5a5a5a5a5a5a5a5a);
	uint64_t span = (1 << 20) / WIRE_PAGE_BYTES, i;

	(void)state;
	boot("dirty,span=1M", 1);
	memset(memory, 0x5a, sizeof(memory));
	workload_dirty.boot(&view);
	assert_true(memory[span * WORDS] == was); /* vCPU 0 sees to that */
	view.vcpu = 0;
	workload_dirty.boot(&view);
	for (i = 0; i < STEPS; i++)
		assert_true(workload_dirty.step(&view));
	for (i = 0; i < BYTES / WIRE_PAGE_BYTES; i++) {
		uint64_t count = memory[i * WORDS];

		if (i < EMBEDDED_DATA_PAGE)
			assert_true(count == was);
		else if (i < span)
			assert_in_range(count, was + 1, was + STEPS);
		else
			assert_true(count == 0);
	}
}

/* Written and yet zero, and not even counted. */
static void whole_pages_of_zeros(void **state)
{
	unsigned int i;

	(void)state;
	boot("dirty,whole=100,fill=zero", 0);
	memset(memory, 0x5a, sizeof(memory));
	for (i = 0; i < STEPS; i++)
		assert_true(workload_dirty.step(&view));
	assert_int_equal(reg[1], STEPS);
	memset(before, 0x5a, EMBEDDED_DATA_PAGE * WIRE_PAGE_BYTES);
	nothing_else();
}

/* No two write the same page, and all of the rate is somebody's. */
static void vcpus_share_memory_and_rate(void **state)
{
	uint64_t writes[PAGES];
	unsigned int vcpu, i;

	(void)state;
	for (vcpu = 0; vcpu < 4; vcpu++) {
		boot("dirty,vcpus=4,rate=20000", vcpu);
		many_steps(writes);
		for (i = 0; i < PAGES; i++)
			assert_int_equal(writes[i] > 0,
					 i / (PAGES / 4) == vcpu);
	}
	assert_int_equal(workload_dirty.rate(&spec), 5000);
	boot("dirty,rate=0", 0); /* never none: it would be no workload */
	assert_int_equal(workload_dirty.rate(&spec), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sequential_takes_page_after_page),
		cmocka_unit_test(hot_prefers_a_tenth),
		cmocka_unit_test(random_prefers_none),
		cmocka_unit_test(few_words_a_page),
		cmocka_unit_test(words_change_a_little),
		cmocka_unit_test(whole_is_a_share),
		cmocka_unit_test(whole_pages_of_zeros),
		cmocka_unit_test(a_span_is_all_that_is_written),
		cmocka_unit_test(vcpus_share_memory_and_rate),
	};

	return cmocka_run_group_tests_name("embedded dirty", tests, NULL, NULL);
}
