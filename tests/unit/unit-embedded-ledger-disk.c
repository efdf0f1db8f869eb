/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The account server with a second copy on a disk, without a guest around it:
 * its steps are taken by hand, and the disk is an array.
 */
#include "config.h"

#include "resume/embedded/ledger_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "resume/embedded/workload.h"

enum {
	RAM_BYTES = 1 << 20,
	DISK_BYTES = 512 * 1024,
	ENTRY_BYTES = sizeof(struct ledger_entry),
};

struct world {
	uint8_t memory[RAM_BYTES];
	uint8_t disk[DISK_BYTES];
};

static struct world *now;
static uint64_t disk_bytes;
static struct embedded_spec spec;
static struct workload_view view;
static unsigned int writes, flushes;
static uint64_t seq;

static struct ledger *ledger(void)
{
	return ledger_of(now->memory);
}

static struct ledger_disk *state_of_disk(void)
{
	return ledger_disk_of(now->memory);
}

static uint8_t *entry_on_disk(uint64_t index)
{
	return now->disk + (index - 1) * ENTRY_BYTES;
}

/* --- the backend's part ------------------------------------------------- */

static bool disk_asked(void)
{
	struct embedded_disk_slot *s = embedded_disk_slot(now->memory);

	return atomic_load(&s->asked) != atomic_load(&s->answered);
}

/* What is asked is done, of a write the first `length` bytes at most. */
static void carry_out_some(uint64_t length)
{
	struct embedded_disk_slot *s = embedded_disk_slot(now->memory);
	uint8_t *bytes = now->memory + s->memory;

	if (s->kind == EMBEDDED_DISK_SIZE) {
		s->size = disk_bytes;
		return;
	}
	assert_true(s->offset + s->length <= disk_bytes);
	if (length > s->length)
		length = s->length;
	if (s->kind == EMBEDDED_DISK_READ)
		memcpy(bytes, now->disk + s->offset, s->length);
	else if (s->kind == EMBEDDED_DISK_WRITE)
		memcpy(now->disk + s->offset, bytes, length);
	else if (s->kind == EMBEDDED_DISK_ZERO)
		memset(now->disk + s->offset, 0, s->length);
	writes += s->kind == EMBEDDED_DISK_WRITE;
	flushes += s->kind == EMBEDDED_DISK_FLUSH;
}

static void disk_answers(void)
{
	struct embedded_disk_slot *s = embedded_disk_slot(now->memory);

	carry_out_some(UINT64_MAX);
	atomic_store(&s->answered, atomic_load(&s->asked));
}

static bool step(void)
{
	return workload_ledger.step(&view);
}

/* Until it waits for something. */
static void steps(void)
{
	while (step())
		;
}

/* The same, with a disk that answers. */
static void settle(void)
{
	for (steps(); disk_asked(); steps())
		disk_answers();
}

static void ask(const char *line)
{
	struct embedded_requests *r = embedded_requests(now->memory);
	uint64_t at = atomic_load(&r->produced);
	struct embedded_request *slot = &r->slot[at % EMBEDDED_SLOTS];

	slot->connection = 1;
	slot->length = (uint32_t)strlen(line);
	memcpy(slot->text, line, slot->length);
	atomic_store(&r->produced, at + 1);
}

static void pay(void)
{
	char line[64];

	snprintf(line, sizeof(line), "PAY 1 %llu 1 2 3",
		 (unsigned long long)++seq);
	ask(line);
}

/* The next reply, or "" where none is out. */
static const char *hear(void)
{
	static char text[EMBEDDED_REPLY_MAX + 1];
	struct embedded_replies *r = embedded_replies(now->memory);
	uint64_t at = atomic_load(&r->consumed);
	const struct embedded_reply *slot = &r->slot[at % EMBEDDED_SLOTS];

	if (at == atomic_load(&r->produced))
		return "";
	memcpy(text, slot->text, slot->length);
	text[slot->length] = '\0';
	atomic_store(&r->consumed, at + 1);
	return text;
}

/* How many payments were answered since the last look. */
static uint64_t heard(void)
{
	uint64_t n = 0;

	while (!strncmp(hear(), "OK ", 3))
		n++;
	return n;
}

static const char *verdict(void)
{
	settle();
	while (*hear())
		;
	ask("DISK");
	settle();
	return hear();
}

static void assert_agrees(void)
{
	const char *says = verdict();
	char expected[64];

	snprintf(expected, sizeof(expected), "DISK %llu %016llx\n",
		 (unsigned long long)ledger()->count,
		 (unsigned long long)ledger()->head);
	assert_string_equal(says, expected);
}

static void assert_differs(uint64_t index)
{
	char expected[64];

	snprintf(expected, sizeof(expected), "NO 0 0 disk differs at %llu\n",
		 (unsigned long long)index);
	assert_string_equal(verdict(), expected);
}

static void look_at(struct world *w)
{
	static uint64_t reg[EMBEDDED_REGISTERS];

	now = w;
	view = (struct workload_view){
		.spec = &spec,
		.memory = now->memory,
		.bytes = RAM_BYTES,
		.reg = reg,
	};
}

/* As after a takeover: another process, with this memory and this disk. */
static void take_over(struct world *w)
{
	look_at(w);
	workload_ledger.reconnect(&view);
}

static struct world *copy(const struct world *w)
{
	struct world *c = malloc(sizeof(*c));

	assert_non_null(c);
	memcpy(c, w, sizeof(*c));
	return c;
}

static int boot(void **state)
{
	(void)state;
	strcpy(spec.disk, "d");
	disk_bytes = DISK_BYTES;
	seq = writes = flushes = 0;
	now = calloc(1, sizeof(*now));
	if (!now)
		return -1;
	look_at(now);
	memset(now->disk, 0xaa, sizeof(now->disk));
	workload_ledger.boot(&view);
	return 0;
}

static int end(void **state)
{
	(void)state;
	free(now);
	return 0;
}

/* --- replies and writes ------------------------------------------------- */

static void a_reply_waits_for_its_entry_on_the_disk(void **state)
{
	(void)state;
	settle();
	pay();
	steps();
	assert_int_equal(ledger()->count, 1);
	assert_string_equal(hear(), "");
	carry_out_some(UINT64_MAX); /* done, and not yet answered */
	steps();
	assert_string_equal(hear(), "");
	disk_answers();
	steps();
	assert_memory_equal(hear(), "OK 1 1 1 ", 9);
	assert_memory_equal(entry_on_disk(1), &ledger()->entries[0],
			    ENTRY_BYTES);
}

/* It tells of what was executed, too: the count, the head, an entry. */
static void a_reply_of_any_kind_waits_in_its_turn(void **state)
{
	(void)state;
	settle();
	pay();
	ask("SUM");
	ask("CHAIN 1 1");
	steps();
	assert_string_equal(hear(), "");
	disk_answers();
	steps();
	assert_memory_equal(hear(), "OK ", 3);
	assert_memory_equal(hear(), "SUM 1 ", 6);
	assert_memory_equal(hear(), "T 1 1 1 ", 8);
	assert_memory_equal(hear(), "END ", 4);
	ask("SUM"); /* with nothing to wait for */
	steps();
	assert_memory_equal(hear(), "SUM 1 ", 6);
}

static void the_last_answer_again_waits_as_well(void **state)
{
	(void)state;
	settle();
	pay();
	ask("PAY 1 1 1 2 3");
	steps();
	assert_string_equal(hear(), "");
	disk_answers();
	steps();
	assert_int_equal(heard(), 2);
}

static void what_was_executed_meanwhile_goes_in_one_write(void **state)
{
	(void)state;
	settle();
	for (int i = 0; i < 50; i++)
		pay();
	steps();
	for (int i = 0; i < 200; i++)
		pay();
	steps();
	assert_int_equal(heard(), 0);
	disk_answers();
	steps();
	assert_int_equal(heard(), 50);
	disk_answers();
	steps();
	assert_int_equal(heard(), 200);
	assert_int_equal(writes, 2);
	assert_agrees();
}

static void more_than_the_ring_holds_is_answered_in_parts(void **state)
{
	(void)state;
	settle();
	for (uint64_t n = 0; n < 2000; n += heard()) {
		while (seq < n + EMBEDDED_SLOTS && seq < 2000)
			pay();
		settle();
	}
	assert_int_equal(ledger()->count, 2000);
	assert_agrees();
}

static void a_flush_comes_now_and_then(void **state)
{
	(void)state;
	settle();
	for (int i = 0; i < 2 * LEDGER_DISK_WRITES + 1; i++) {
		pay();
		settle();
		assert_int_equal(heard(), 1);
	}
	assert_int_equal(flushes, 2);
}

static void a_disk_is_empty_before_anything_is_executed(void **state)
{
	static const uint8_t zeros[DISK_BYTES / ENTRY_BYTES * ENTRY_BYTES];

	(void)state;
	pay();
	steps();
	assert_int_equal(ledger()->count, 0);
	while (disk_asked() && !ledger_disk_serves(state_of_disk())) {
		assert_int_equal(ledger()->count, 0);
		disk_answers();
		step();
	}
	assert_memory_equal(now->disk, zeros, sizeof(zeros));
	settle();
	assert_int_equal(heard(), 1);
}

static void a_small_disk_is_full_early(void **state)
{
	(void)state;
	disk_bytes = 512;
	settle();
	for (unsigned int i = 0; i < 512 / ENTRY_BYTES; i++) {
		pay();
		settle();
		assert_int_equal(heard(), 1);
	}
	pay();
	settle();
	assert_string_equal(hear(), "NO 1 13 the ledger is full\n");
	assert_agrees();
}

static void without_a_disk_there_is_none_to_ask(void **state)
{
	(void)state;
	spec.disk[0] = '\0';
	pay();
	ask("DISK");
	steps();
	assert_int_equal(disk_asked(), 0);
	assert_memory_equal(hear(), "OK ", 3);
	assert_string_equal(hear(), "NO 0 0 there is no disk\n");
}

/* --- what is compared --------------------------------------------------- */

static void pay_some(unsigned int count)
{
	settle();
	for (unsigned int i = 0; i < count; i++)
		pay();
	settle();
	assert_int_equal(heard(), count);
}

static void a_changed_bit_is_found(void **state)
{
	(void)state;
	pay_some(100);
	assert_agrees();
	entry_on_disk(57)[ENTRY_BYTES - 1] ^= 1;
	assert_differs(57);
	/* It stays so. */
	entry_on_disk(57)[ENTRY_BYTES - 1] ^= 1;
	assert_differs(57);
	pay();
	settle();
	assert_int_equal(heard(), 1);
	assert_differs(57);
}

static void a_missing_entry_is_found(void **state)
{
	(void)state;
	pay_some(100);
	memset(entry_on_disk(100), 0, ENTRY_BYTES);
	take_over(now);
	assert_differs(100);
}

static void one_too_many_is_found(void **state)
{
	(void)state;
	pay_some(100);
	memcpy(entry_on_disk(101), entry_on_disk(100), ENTRY_BYTES);
	take_over(now);
	assert_differs(101);
}

static void one_far_behind_is_found(void **state)
{
	(void)state;
	pay_some(100);
	entry_on_disk(DISK_BYTES / ENTRY_BYTES)[0] = 1;
	assert_differs(DISK_BYTES / ENTRY_BYTES);
}

/* A takeover with a disk of another epoch, older or newer than the memory. */
static void another_moments_disk_is_found(void **state)
{
	struct world *older, *newer;

	(void)state;
	pay_some(100);
	older = copy(now);
	pay_some(30);
	newer = now;
	memcpy(older->disk, newer->disk, DISK_BYTES);
	take_over(older);
	/* Also where it has gone on in the meantime. */
	seq = 100;
	pay_some(100);
	assert_differs(101);
	memset(older->disk + 100 * ENTRY_BYTES, 0,
	       DISK_BYTES - 100 * ENTRY_BYTES);
	memcpy(newer->disk, older->disk, DISK_BYTES);
	take_over(newer);
	assert_differs(101);
	free(older);
}

/* --- a takeover at any moment ------------------------------------------- */

static void await_write(void)
{
	struct embedded_disk_slot *s = embedded_disk_slot(now->memory);

	for (steps(); s->kind != EMBEDDED_DISK_WRITE; steps()) {
		assert_true(disk_asked());
		disk_answers();
	}
}

/* A write under way may be on the disk, or not, or in part. */
static void a_write_under_way_is_written_again(void **state)
{
	static const uint64_t lengths[] = { 0, 1, 100, 5 * ENTRY_BYTES,
					    UINT64_MAX };

	(void)state;
	pay_some(100);
	for (int i = 0; i < 10; i++)
		pay();
	steps();
	for (int i = 0; i < 5; i++) /* executed, not to be written yet */
		pay();
	steps();
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct world *first = now, *w = copy(now);

		now = w;
		carry_out_some(lengths[i]);
		take_over(w);
		await_write();
		assert_int_equal(embedded_disk_slot(now->memory)->length,
				 10 * ENTRY_BYTES);
		settle();
		assert_memory_equal(entry_on_disk(101), &ledger()->entries[100],
				    15 * ENTRY_BYTES);
		assert_agrees();
		free(w);
		take_over(first);
	}
}

static void behind_a_write_under_way_there_is_nothing(void **state)
{
	(void)state;
	pay_some(100);
	pay();
	steps();
	pay(); /* executed, and its write not yet issued */
	steps();
	assert_int_equal(ledger()->count, 102);
	memcpy(entry_on_disk(102), &ledger()->entries[101], ENTRY_BYTES);
	take_over(now);
	assert_differs(102);
}

static void nothing_is_executed_before_the_disk_was_compared(void **state)
{
	unsigned int reads = 0;

	(void)state;
	pay_some(100);
	take_over(now);
	pay();
	ask("SUM");
	for (steps(); disk_asked(); steps()) {
		if (embedded_disk_slot(now->memory)->kind != EMBEDDED_DISK_READ)
			break;
		reads++;
		assert_int_equal(ledger()->count, 100);
		assert_string_equal(hear(), "");
		disk_answers();
	}
	/* All of it. */
	assert_true(reads >= DISK_BYTES / EMBEDDED_DISK_BUFFER_BYTES);
	settle();
	assert_int_equal(heard(), 1);
}

/*
 * Hosts die at random steps, and each time a copy of a moment before takes
 * over, with the write of that moment done or not: always it agrees, and
 * whatever was answered up to then is there.
 */
static void it_agrees_wherever_it_is_taken_over(void **state)
{
	struct world *moment = NULL;
	uint64_t acknowledged = 0, then = 0;

	(void)state;
	srandom(4711);
	for (int i = 0; i < 20000 && ledger()->count < 3000; i++) {
		switch (random() % 12) {
		case 0:
		case 1:
		case 2:
			if (seq < ledger()->count + 50)
				pay();
			break;
		case 3:
			if (disk_asked())
				disk_answers();
			break;
		case 4:
			acknowledged += heard();
			break;
		case 5:
			if (moment && random() % 20)
				break;
			free(moment);
			moment = copy(now);
			then = acknowledged;
			assert_memory_equal(now->disk, ledger()->entries,
					    then * ENTRY_BYTES);
			/* Done on the disk, the answer not yet told. */
			if (disk_asked() && random() % 2) {
				struct world *w = now;

				now = moment;
				carry_out_some(UINT64_MAX);
				now = w;
			}
			break;
		case 6:
			if (!moment || random() % 20)
				break;
			free(now);
			take_over(moment);
			moment = NULL;
			assert_true(ledger()->count >= then);
			seq = acknowledged = ledger()->count;
			assert_agrees();
			break;
		default:
			step();
		}
	}
	free(moment);
	assert_true(ledger()->count > 100);
	assert_agrees();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, boot, end)
		T(a_reply_waits_for_its_entry_on_the_disk),
		T(a_reply_of_any_kind_waits_in_its_turn),
		T(the_last_answer_again_waits_as_well),
		T(what_was_executed_meanwhile_goes_in_one_write),
		T(more_than_the_ring_holds_is_answered_in_parts),
		T(a_flush_comes_now_and_then),
		T(a_disk_is_empty_before_anything_is_executed),
		T(a_small_disk_is_full_early),
		T(without_a_disk_there_is_none_to_ask),
		T(a_changed_bit_is_found),
		T(a_missing_entry_is_found),
		T(one_too_many_is_found),
		T(one_far_behind_is_found),
		T(another_moments_disk_is_found),
		T(a_write_under_way_is_written_again),
		T(behind_a_write_under_way_there_is_nothing),
		T(nothing_is_executed_before_the_disk_was_compared),
		T(it_agrees_wherever_it_is_taken_over),
#undef T
	};

	return cmocka_run_group_tests_name("embedded ledger disk", tests, NULL,
					   NULL);
}
