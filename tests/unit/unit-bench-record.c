/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/record.c: what a child of this program writes is what the trace has,
 * and the embedded guest makes the same of it.
 */
#include "config.h"

#include "bench/record.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "resume/embedded/workload.h"

enum {
	PAGES = 40,
	FIRST_OF_MANY = 60,
	MANY = 2000,
	PAGE = WIRE_PAGE_BYTES,
	/* Between two neighbours of the child's: nothing else of it is there.
	 */
	AT = 0x10000000,
};

#define ROOM ((size_t)8 << 30)

enum { GUEST_BYTES = 256 << 20 };

static uint8_t *memory; /* of the guest */

static struct bench_process child;
static int to_child, from_child;
static char path[] = "/tmp/unit-bench-record-XXXXXX";
static struct recorder *r;
static struct trace_header header;

/* --- the child: what it is told, it does -----------------------------------
 */

static uint8_t *page(int n)
{
	return (uint8_t *)(uintptr_t)AT + (size_t)n * PAGE;
}

static void map(int first, int count)
{
	if (mmap(page(first), (size_t)count * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		_exit(2);
}

/*
 * 'w', page, byte: fills it; 'b': changes one byte of it; 'a': fills many
 * others; 'm', 'u': mapping, and not any more; 'r': room that is not touched.
 */
static void obey(int in, int out)
{
	uint8_t order[3];

	map(0, PAGES);
	map(FIRST_OF_MANY, MANY);
	while (write(out, "", 1) == 1 && read(in, order, 3) == 3)
		switch (order[0]) {
		case 'w':
			memset(page(order[1]), order[2], PAGE);
			break;
		case 'b':
			page(order[1])[order[2]]++;
			break;
		case 'a':
			memset(page(FIRST_OF_MANY), order[2],
			       (size_t)MANY * PAGE);
			break;
		case 'r':
			if (mmap(NULL, ROOM, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				 -1, 0) == MAP_FAILED)
				_exit(4);
			break;
		case 'm':
			map(order[1], order[2]);
			break;
		case 'u':
			munmap(page(order[1]), (size_t)order[2] * PAGE);
			break;
		default:
			_exit(3);
		}
	_exit(0);
}

static void tell(char what, int n, int value)
{
	const uint8_t order[] = { (uint8_t)what, (uint8_t)n, (uint8_t)value };
	char done;

	assert_int_equal(write(to_child, order, 3), 3);
	assert_int_equal(read(from_child, &done, 1), 1);
}

static int begin(void **state)
{
	int in[2], out[2];
	char done;

	(void)state;
	if (pipe(in) || pipe(out))
		return -1;
	child = (struct bench_process){ .pid = fork() };
	if (!child.pid) {
		close(in[1]);
		obey(in[0], out[1]);
	}
	close(in[0]);
	close(out[1]);
	to_child = in[1];
	from_child = out[0];
	return read(from_child, &done, 1) == 1 && !recorder_open(path, &r) ? 0
									   : -1;
}

static int end(void **state)
{
	(void)state;
	close(to_child);
	close(from_child);
	bench_end(&child);
	recorder_close(r);
	r = NULL;
	/* The next child would have it too. */
	if (memory)
		munmap(memory, GUEST_BYTES);
	memory = NULL;
	return 0;
}

static void look(void)
{
	assert_int_equal(recorder_look(r, &child), 0);
}

/* --- the guest that replays it ---------------------------------------------
 */

static uint64_t reg[EMBEDDED_REGISTERS];
static struct embedded_spec spec;
static struct workload_view view = { .spec = &spec,
				     .bytes = GUEST_BYTES,
				     .reg = reg };

static void replay(void)
{
	struct guest_error why;

	if (memory)
		munmap(memory, GUEST_BYTES);
	memory = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	view.memory = memory;
	assert_int_equal(recorder_finish(r, &header), 0);
	strcpy(spec.file, path);
	if (workload_replay.load(&view, &why))
		fail_msg("%s", why.text);
	workload_replay.boot(&view);
}

static uint8_t *live(uint32_t n)
{
	return memory + (EMBEDDED_DATA_PAGE + (size_t)n) * PAGE;
}

/* How many of the live pages are all of this byte. */
static unsigned int filled_with(uint8_t byte)
{
	unsigned int count = 0;

	for (uint32_t i = 0; i < header.live; i++)
		count += live(i)[0] == byte &&
			 !memcmp(live(i), live(i) + 1, PAGE - 1);
	return count;
}

/* --- tests ------------------------------------------------------------------
 */

/*
 * Other pages of a child change too, between two looks: its stack does, and
 * what a sanitizer keeps.  So those that are asked for are counted by what is
 * in them.
 */
static void what_changed_is_recorded(void **state)
{
	uint32_t i;

	(void)state;
	tell('w', 3, 0x11);
	tell('w', 7, 0x22);
	look();
	tell('w', 3, 0x33);
	tell('w', 9, 0x44); /* it was zero */
	tell('w', 8, 0);    /* written, and still the same */
	look();
	tell('w', 3, 0x55);
	tell('w', 9, 0x66);
	look();
	replay();
	assert_in_range(header.entries, 4, 40);
	assert_int_equal(filled_with(0x11), 1);
	assert_int_equal(filled_with(0x22), 0); /* did not change */
	for (i = 0; i < header.entries; i++)
		workload_replay.step(&view);
	assert_int_equal(filled_with(0x55), 1);
	assert_int_equal(filled_with(0x66), 1);
	assert_int_equal(
		filled_with(0x11) + filled_with(0x33) + filled_with(0x44), 0);
	for (i = 0; i < header.entries; i++)
		workload_replay.step(&view);
	assert_int_equal(filled_with(0x11), 1);
	assert_int_equal(filled_with(0x33) + filled_with(0x44) +
				 filled_with(0x55) + filled_with(0x66),
			 0);
}

/* In between each version is there, once forward and once backward. */
static void each_version_is_there(void **state)
{
	unsigned int seen[6] = { 0 };
	uint8_t k;

	(void)state;
	for (k = 1; k <= 5; k++) {
		tell('w', 20, 0x70 + k);
		look();
	}
	replay();
	for (uint32_t i = 0; i < 2 * header.entries; i++) {
		uint8_t before[6], after;

		for (k = 1; k <= 5; k++)
			before[k] = (uint8_t)filled_with(0x70 + k);
		workload_replay.step(&view);
		for (k = 1; k <= 5; k++) {
			after = (uint8_t)filled_with(0x70 + k);
			seen[k] += after > before[k];
		}
	}
	assert_int_equal(seen[1], 1); /* the first is there at the boot */
	assert_int_equal(seen[5], 1);
	for (k = 2; k <= 4; k++)
		assert_int_equal(seen[k], 2);
}

/* A mapping that comes was zero, one that goes becomes zero. */
static void pages_come_and_go(void **state)
{
	(void)state;
	tell('u', 10, 3);
	tell('w', 30, 0x31);
	look();
	tell('m', 10, 3);
	tell('w', 11, 0x32);
	tell('u', 30, 1);
	look();
	replay();
	assert_in_range(header.entries, 2, 40);
	assert_int_equal(filled_with(0x31), 1);
	assert_int_equal(filled_with(0x32), 0);
	for (uint32_t i = 0; i < header.entries; i++)
		workload_replay.step(&view);
	assert_int_equal(filled_with(0x31), 0);
	assert_int_equal(filled_with(0x32), 1);
}

/* A byte is a word of the trace and its mask. */
static void little_changes_are_small(void **state)
{
	uint32_t words;

	(void)state;
	look();
	look();
	recorder_close(r);
	assert_int_equal(recorder_open(path, &r), 0);
	look();
	for (int i = 0; i < PAGES; i++)
		tell('b', i, i);
	look();
	replay();
	assert_in_range(header.entries, PAGES, 4 * PAGES);
	words = header.words - header.entries * TRACE_MASK;
	assert_in_range(words, PAGES, PAGES * TRACE_PAGE_WORDS / 2);
}

/* It runs on after a look, and after one that failed. */
static void it_goes_on(void **state)
{
	struct bench_process none = { .pid = child.pid };

	(void)state;
	look();
	tell('w', 1, 1); /* it would not answer */
	look();
	tell('w', 1, 2);
	kill(child.pid, SIGKILL);
	assert_true(recorder_look(r, &none) < 0);
}

static void nothing_was_written(void **state)
{
	(void)state;
	assert_int_equal(recorder_finish(r, &header), -ENODATA);
}

/* What a program keeps for itself and does not touch is no memory. */
static void room_is_not_recorded(void **state)
{
	(void)state;
	tell('r', 0, 0);
	look();
	tell('w', 4, 0x11);
	look();
	replay();
	assert_in_range(header.entries, 1, 40);
}

/* Where there is no room an interval is left out as a whole. */
static void too_much(void **state)
{
	uint32_t entries;
	int k;

	(void)state;
	look();
	tell('a', 0, 200);
	look();
	for (k = 1; !recorder_full(r) && k < 100; k++) {
		tell('a', 0, k);
		look();
	}
	assert_true(recorder_full(r));
	replay();
	entries = header.entries;
	assert_in_range(entries, MANY, RECORD_ENTRIES_MAX);
	assert_in_range(header.words, RECORD_WORDS_MAX / 2, RECORD_WORDS_MAX);
	/* At first all were zero, at last what the last whole interval made. */
	assert_true(filled_with(0) >= MANY);
	for (uint32_t i = 0; i < entries; i++)
		workload_replay.step(&view);
	assert_int_equal(filled_with((uint8_t)(k - 2)), MANY);
	/* And nothing more comes. */
	tell('w', 2, 0x77);
	look();
	assert_int_equal(recorder_finish(r, &header), 0);
	assert_int_equal(header.entries, entries);
}

static void files_that_cannot_be_written(void **state)
{
	struct recorder *other = NULL;

	(void)state;
	assert_int_equal(recorder_open("/nonexistent/trace", &other), -ENOENT);
	assert_null(other);
	assert_int_equal(recorder_open("/dev/full", &other), 0);
	assert_int_equal(recorder_look(other, &child), 0);
	tell('w', 5, 5);
	assert_int_equal(recorder_look(other, &child), 0);
	assert_int_equal(recorder_finish(other, &header), -ENOSPC);
	recorder_close(other);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(what_changed_is_recorded),
		TEST(each_version_is_there),
		TEST(pages_come_and_go),
		TEST(little_changes_are_small),
		TEST(it_goes_on),
		TEST(nothing_was_written),
		TEST(files_that_cannot_be_written),
		TEST(room_is_not_recorded),
		TEST(too_much),
	};
	int rc, fd = mkstemp(path);

	if (fd < 0)
		return 1;
	close(fd);
	signal(SIGPIPE, SIG_IGN);
	alarm(300); /* a child that stands still does not answer */
	rc = cmocka_run_group_tests_name("bench record", tests, NULL, NULL);
	unlink(path);
	return rc;
}
