/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workload "replay": the versions that are recorded and no others, a twin
 * that goes on, what is no trace, and a guest that boots with or without one.
 */
#include "config.h"

#include "tests/unit/embedded-fixture.h"

#include <fcntl.h>

#include "resume/embedded/memory.h"
#include "resume/embedded/trace.h"
#include "resume/embedded/workload.h"

enum {
	LIVE = 3,
	ENTRIES = 7,
	CHANGE_WORDS = TRACE_MASK + TRACE_PAGE_WORDS,
	CHANGES_PAGES = (ENTRIES * CHANGE_WORDS * 8 + WIRE_PAGE_BYTES - 1) /
			WIRE_PAGE_BYTES,
	PAGES = 256, /* 1 MiB */
	BYTES = PAGES * WIRE_PAGE_BYTES,
	/* The header, the table, the changes, the live pages. */
	KEPT_BYTES = (1 + 1 + CHANGES_PAGES) * WIRE_PAGE_BYTES,
	FILE_BYTES = KEPT_BYTES + LIVE * WIRE_PAGE_BYTES,
};

/* Each page of a version is filled with a byte of its own. */
static const struct {
	uint32_t live;
	uint8_t before, after;
} entries[ENTRIES] = {
	{ 1, 10, 11 }, { 0, 1, 2 },   { 1, 11, 12 }, { 2, 0, 21 },
	{ 0, 2, 3 },   { 1, 12, 13 }, { 2, 21, 0 },
};

static uint8_t file[FILE_BYTES];
static uint8_t memory[BYTES], twin_memory[BYTES];
static uint64_t reg[EMBEDDED_REGISTERS], twin_reg[EMBEDDED_REGISTERS];
static struct embedded_spec spec;
static struct workload_view view;
static char path[96];

static struct trace_header *header(void)
{
	return (void *)file;
}

static struct trace_entry *table(void)
{
	return (void *)(file + WIRE_PAGE_BYTES);
}

static uint64_t *changes(void)
{
	return (void *)(file + 2 * WIRE_PAGE_BYTES);
}

static void make_trace(void)
{
	static const uint8_t first[LIVE] = { 1, 10, 0 };
	uint64_t *word = changes();

	memset(file, 0, sizeof(file));
	*header() = (struct trace_header){ TRACE_MAGIC,
					   TRACE_VERSION,
					   WIRE_PAGE_BYTES,
					   LIVE,
					   ENTRIES,
					   ENTRIES * CHANGE_WORDS,
					   0 };
	for (int i = 0; i < ENTRIES; i++) {
		uint8_t x = entries[i].before ^ entries[i].after;

		table()[i] =
			(struct trace_entry){ entries[i].live,
					      (uint32_t)(i * CHANGE_WORDS) };
		memset(word, 0xff, TRACE_MASK * 8);
		word += TRACE_MASK;
		memset(word, x, WIRE_PAGE_BYTES);
		word += TRACE_PAGE_WORDS;
	}
	for (int i = 0; i < LIVE; i++)
		memset(file + KEPT_BYTES + i * WIRE_PAGE_BYTES, first[i],
		       WIRE_PAGE_BYTES);
}

static void write_trace(size_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, file, bytes), bytes);
	close(fd);
}

static int load(uint64_t bytes)
{
	memset(memory, 0, sizeof(memory));
	memset(reg, 0xff, sizeof(reg));
	why.text[0] = '\0';
	memset(&spec, 0, sizeof(spec));
	strcpy(spec.file, path);
	view = (struct workload_view){
		.spec = &spec, .memory = memory, .bytes = bytes, .reg = reg
	};
	return workload_replay.load(&view, &why);
}

static void boot(void)
{
	make_trace();
	write_trace(sizeof(file));
	assert_ok(load(BYTES));
	workload_replay.boot(&view);
}

static uint8_t *live(uint8_t *in, uint32_t page)
{
	return in + (EMBEDDED_DATA_PAGE + page) * WIRE_PAGE_BYTES;
}

static void is_filled(const uint8_t *page, uint8_t byte)
{
	for (int i = 0; i < WIRE_PAGE_BYTES; i++)
		assert_int_equal(page[i], byte);
}

static void live_are(uint8_t *in, uint8_t a, uint8_t b, uint8_t c)
{
	is_filled(live(in, 0), a);
	is_filled(live(in, 1), b);
	is_filled(live(in, 2), c);
}

/* One step: this page becomes that, the others stay. */
static void step_gives(struct workload_view *v, uint32_t page, uint8_t byte)
{
	uint8_t was[LIVE];

	for (uint32_t i = 0; i < LIVE; i++)
		was[i] = live(v->memory, i)[0];
	was[page] = byte;
	assert_true(workload_replay.step(v));
	live_are(v->memory, was[0], was[1], was[2]);
}

static void all_steps(struct workload_view *v, int from, int to)
{
	for (int i = from; i < to; i++) {
		int at = i % (2 * ENTRIES);

		if (at < ENTRIES)
			step_gives(v, entries[at].live, entries[at].after);
		else
			step_gives(v, entries[2 * ENTRIES - 1 - at].live,
				   entries[2 * ENTRIES - 1 - at].before);
	}
}

/* Twice there and back; the trace and what is below the pages stay as they are.
 */
static void forward_and_backward_for_ever(void **state)
{
	(void)state;
	boot();
	live_are(memory, 1, 10, 0);
	all_steps(&view, 0, ENTRIES);
	live_are(memory, 3, 13, 0);
	all_steps(&view, ENTRIES, 2 * ENTRIES);
	live_are(memory, 1, 10, 0);
	all_steps(&view, 2 * ENTRIES, 5 * ENTRIES);
	assert_int_equal(reg[1], 5 * ENTRIES);
	assert_memory_equal(memory + BYTES - KEPT_BYTES, file, KEPT_BYTES);
	for (size_t i = 0; i < EMBEDDED_DATA_PAGE * WIRE_PAGE_BYTES; i++)
		assert_int_equal(memory[i], 0);
}

/* It has memory and registers, and no file. */
static void a_twin_goes_on(void **state)
{
	struct embedded_spec far_spec = { 0 };
	struct workload_view far;

	(void)state;
	for (int cut = 0; cut < 2 * ENTRIES; cut++) {
		boot();
		all_steps(&view, 0, cut);
		memcpy(twin_memory, memory, sizeof(memory));
		memcpy(twin_reg, reg, sizeof(reg));
		far = view;
		far.spec = &far_spec;
		far.memory = twin_memory;
		far.reg = twin_reg;
		unlink(path);
		all_steps(&far, cut, cut + 3 * ENTRIES);
	}
}

static void refused(uint64_t bytes, const char *words)
{
	assert_int_equal(load(bytes), -EINVAL);
	if (!strstr(why.text, words))
		fail_msg("refused by: %s", why.text);
	assert_null(strchr(why.text, '\n'));
	for (size_t i = 0; i < sizeof(memory); i++)
		assert_int_equal(memory[i], 0);
	/* And what boots then has nothing to do. */
	assert_int_equal(reg[2], 0);
	workload_replay.boot(&view);
	assert_true(workload_replay.step(&view));
	for (size_t i = 0; i < sizeof(memory); i++)
		assert_int_equal(memory[i], 0);
}

static void what_is_no_trace_is_refused(void **state)
{
	(void)state;
	unlink(path);
	refused(BYTES, "No such file");
	make_trace();
	write_trace(0);
	refused(BYTES, "not a trace");
	write_trace(sizeof(struct trace_header) - 1);
	refused(BYTES, "not a trace");
	write_trace(sizeof(struct trace_header));
	refused(BYTES, "cut off");
	write_trace(FILE_BYTES - 1);
	refused(BYTES, "cut off");
#define BAD(member, value, words)         \
	do {                              \
		make_trace();             \
		header()->member = value; \
		write_trace(FILE_BYTES);  \
		refused(BYTES, words);    \
	} while (0)
	BAD(magic, TRACE_MAGIC + 1, "not a trace");
	BAD(version, TRACE_VERSION + 1, "not a trace");
	BAD(page_bytes, 2 * WIRE_PAGE_BYTES, "not a trace");
	BAD(live, 0, "not a trace");
	BAD(live, ENTRIES + 1, "not a trace");
	BAD(entries, 0, "not a trace");
	BAD(entries, UINT32_MAX, "not a trace");
	BAD(entries, ENTRIES + 512, "cut off");
	BAD(live, LIVE - 1, "cut off");
	BAD(words, TRACE_WORDS_MAX + 1, "not a trace");
	BAD(words, ENTRIES * CHANGE_WORDS + 512, "cut off");
	BAD(words, ENTRIES * CHANGE_WORDS - 1, "spoilt");
#undef BAD
	for (int i = 0; i < ENTRIES; i++) {
		make_trace();
		table()[i].live = i % 2 ? LIVE : UINT32_MAX;
		write_trace(FILE_BYTES);
		refused(BYTES, "spoilt");
		make_trace();
		table()[i].at = i % 2 ? UINT32_MAX
				      : ENTRIES * CHANGE_WORDS - TRACE_MASK + 1;
		write_trace(FILE_BYTES);
		refused(BYTES, "spoilt");
	}
	snprintf(path, sizeof(path), "%s", run_dir);
	refused(BYTES, "not an ordinary file");
	snprintf(path, sizeof(path), "%s/trace", run_dir);
}

/* To the page; the error says what would do. */
static void a_guest_that_is_too_small_is_refused(void **state)
{
	const uint64_t least =
		EMBEDDED_DATA_PAGE * WIRE_PAGE_BYTES + (uint64_t)FILE_BYTES;

	(void)state;
	make_trace();
	write_trace(FILE_BYTES);
	assert_ok(load(least));
	workload_replay.boot(&view);
	all_steps(&view, 0, 2 * ENTRIES);
	refused(least - WIRE_PAGE_BYTES, "mem=1M or more");
}

static void nothing_happens(void)
{
	memcpy(twin_memory, memory, sizeof(memory));
	assert_true(workload_replay.step(&view));
	assert_memory_equal(memory, twin_memory, sizeof(memory));
}

/* As an image of another host may bring it. */
static void memory_that_is_no_trace_does_no_harm(void **state)
{
	static const uint64_t places[] = {
		1,
		WIRE_PAGE_BYTES,
		(uint64_t)(EMBEDDED_DATA_PAGE - 1) * WIRE_PAGE_BYTES,
		(uint64_t)EMBEDDED_DATA_PAGE * WIRE_PAGE_BYTES,
		BYTES - KEPT_BYTES - 8,
		BYTES - KEPT_BYTES + WIRE_PAGE_BYTES,
		BYTES - WIRE_PAGE_BYTES,
		BYTES,
		UINT64_MAX,
		UINT64_MAX - WIRE_PAGE_BYTES + 1,
	};
	uint8_t *trace = memory + BYTES - KEPT_BYTES;
	struct trace_header *h = (void *)trace;
	struct trace_entry *e = (void *)(trace + WIRE_PAGE_BYTES);

	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		boot();
		reg[2] = places[i];
		nothing_happens();
		/* The header where it does not belong. */
		if (places[i] > BYTES - sizeof(*h))
			continue;
		memmove(memory + places[i], h, sizeof(*h));
		nothing_happens();
	}
	boot();
	reg[0] = UINT64_MAX; /* any place is one of them */
	assert_true(workload_replay.step(&view));
	boot();
	view.bytes -= WIRE_PAGE_BYTES; /* the last page is not the guest's */
	nothing_happens();
	boot();
	reg[2] = (EMBEDDED_DATA_PAGE + LIVE - 1) * WIRE_PAGE_BYTES;
	memcpy(memory + reg[2], trace, KEPT_BYTES); /* over a live page */
	nothing_happens();
	boot();
	h->live = UINT32_MAX;
	nothing_happens();
	boot();
	h->words = TRACE_MASK;
	nothing_happens();
	boot();
	e[0].live = LIVE;
	nothing_happens();
	boot();
	e[0].at = UINT32_MAX;
	nothing_happens();
	boot();
	e[0].at = ENTRIES * CHANGE_WORDS - TRACE_MASK + 1;
	nothing_happens();
}

/* --- the guest's process ---------------------------------------------------
 */

static void a_guest_with_a_trace_and_without(void **state)
{
	struct guest_source *s = NULL;
	char words[160];
	struct embedded e;

	(void)state;
	assert_true(src->open("replay,mem=1M", run_dir, &any_manner, &s, &why) <
		    0);
	assert_non_null(strstr(why.text, "takes file=PATH"));
	assert_null(s);
	assert_int_equal(embedded_attach(run_dir, "replay", false, &e),
			 -ENOENT);
	make_trace();
	write_trace(FILE_BYTES);
	snprintf(words, sizeof(words), "replay,mem=1M,rate=1000,file=%s", path);
	s = open_guest(words);
	e = look_at("replay", false);
	assert_runs(&e);
	/* It boots from its file again, and does without where that is gone. */
	order("replay", "reboot");
	assert_true(src->status(s) == GUEST_REBOOT);
	order("replay", "restart");
	assert_runs(&e);
	unlink(path);
	order("replay", "reboot");
	order("replay", "restart");
	await_true(src->status(s) == GUEST_RUNNING);
	assert_stands(&e);
	embedded_detach(&e);
	src->close(s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forward_and_backward_for_ever),
		cmocka_unit_test(a_twin_goes_on),
		cmocka_unit_test(what_is_no_trace_is_refused),
		cmocka_unit_test(a_guest_that_is_too_small_is_refused),
		cmocka_unit_test(memory_that_is_no_trace_does_no_harm),
		cmocka_unit_test_teardown(a_guest_with_a_trace_and_without,
					  destroy_all),
	};

	EMBEDDED_MAIN(argc, argv);
	if (make_run_dir(NULL))
		return 1;
	snprintf(path, sizeof(path), "%s/trace", run_dir);
	return cmocka_run_group_tests_name("embedded replay", tests, NULL,
					   remove_run_dir);
}
