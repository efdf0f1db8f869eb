/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trackers, on this process's own memory, and the proof that each gives of
 * itself: a tracker that lies must not pass.
 */
#include "config.h"

#include "resume/embedded/tracker.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "resume/embedded/spec.h"

/* The kinds are not part of this test. */
const struct guest_kind *const guest_kinds[] = { NULL };

enum { PAGES = 1000, WORDS = (PAGES + 63) / 64 };

static struct fixture {
	uint8_t *base;
	_Atomic uint64_t written[WORDS];
	struct tracked side;
	struct tracker *t;
	bool deaf; /* orders are not obeyed */
} f;

static uint64_t bits[WORDS];

static int order_here(void *arg, enum tracked_order order)
{
	struct fixture *x = arg;

	return x->deaf ? 0 : tracked_order(&x->side, order);
}

static void begin(uint32_t kind)
{
	size_t bytes = PAGES * WIRE_PAGE_BYTES;
	int fd = memfd_create("test", MFD_CLOEXEC);

	memset(&f, 0, sizeof(f));
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	f.base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	assert_ptr_not_equal(f.base, MAP_FAILED);
	/* Some pages are there, some have been read, some are holes. */
	for (size_t i = 0; i < PAGES; i += 3)
		f.base[i * WIRE_PAGE_BYTES] = 1;
	assert_int_equal(tracked_open(&f.side, kind, f.base, bytes, f.written),
			 0);
	assert_int_equal(tracker_open(kind, getpid(), (uintptr_t)f.base, bytes,
				      f.written, order_here, &f, &f.t),
			 0);
	assert_int_equal(tracker_start(f.t), 0);
}

static void end(void)
{
	tracker_stop(f.t);
	tracker_close(f.t);
	tracked_close(&f.side);
	munmap(f.base, PAGES * WIRE_PAGE_BYTES);
}

static void write_page(size_t page)
{
	*(volatile uint8_t *)(f.base + page * WIRE_PAGE_BYTES + 77) += 1;
}

static void assert_collects(const size_t *pages, size_t count)
{
	uint64_t expected[WORDS] = { 0 };

	for (size_t i = 0; i < count; i++)
		expected[pages[i] / 64] |= UINT64_C(1) << pages[i] % 64;
	memset(bits, 0, sizeof(bits));
	assert_int_equal(tracker_collect(f.t, bits), 0);
	assert_memory_equal(bits, expected, sizeof(bits));
}

static void follows(uint32_t kind)
{
	static const size_t some[] = { 0, 1, 2, 63, 64, 500, PAGES - 1 };
	size_t all[PAGES], page;
	const char *why;

	begin(kind);
	assert_collects(NULL, 0);
	assert_int_equal(tracker_prove(f.t, &why), 0);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
			write_page(some[i]);
		write_page(some[1]);
		assert_collects(some, sizeof(some) / sizeof(some[0]));
		assert_collects(NULL, 0);
	}
	/* Reading is not writing. */
	for (page = 0; page < PAGES; page++)
		all[page] = page +
			    0 * *(volatile uint8_t *)(f.base +
						      page * WIRE_PAGE_BYTES);
	assert_collects(NULL, 0);
	for (page = 0; page < PAGES; page++)
		write_page(page);
	assert_collects(all, PAGES);
	/* What was there before is added to. */
	write_page(9);
	memset(bits, 0, sizeof(bits));
	bits[0] = 1;
	assert_int_equal(tracker_collect(f.t, bits), 0);
	assert_int_equal(bits[0], 1 | 1 << 9);
	/* A start forgets. */
	write_page(5);
	assert_int_equal(tracker_start(f.t), 0);
	assert_collects(NULL, 0);
	end();
}

static void *write_on(void *arg)
{
	atomic_bool *ending = arg;

	/* Each page's number of writes is in its words. */
	for (size_t i = 0; !atomic_load(ending); i++)
		atomic_fetch_add(
			(_Atomic uint64_t *)(void *)(f.base +
						     i * 37 % PAGES *
							     WIRE_PAGE_BYTES),
			1);
	return NULL;
}

/* As the sanitizer's rules want it: a page may be written meanwhile. */
static void copy_page(uint8_t *to, uint8_t *from)
{
	size_t at;

	for (at = 0; at < WIRE_PAGE_BYTES; at += sizeof(uint64_t))
		*(uint64_t *)(void *)(to + at) =
			atomic_load((_Atomic uint64_t *)(void *)(from + at));
}

/* Collected while two threads write: at the end no write has been missed. */
static void misses_nothing(uint32_t kind)
{
	static _Alignas(uint64_t) uint8_t shadow[PAGES * WIRE_PAGE_BYTES];
	atomic_bool ending = false;
	pthread_t thread[2];

	begin(kind);
	memset(shadow, 0, sizeof(shadow));
	for (size_t i = 0; i < PAGES; i += 3)
		shadow[i * WIRE_PAGE_BYTES] = 1;
	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, write_on, &ending);
	for (int round = 0; round < 100; round++) {
		if (round == 99) {
			atomic_store(&ending, true);
			for (int i = 0; i < 2; i++)
				pthread_join(thread[i], NULL);
		}
		/* One that is written while it is copied comes again; the
		 * others may be collected only while nothing writes. */
		if (kind == EMBEDDED_TRACKER_UFFD || round == 99) {
			memset(bits, 0, sizeof(bits));
			assert_int_equal(tracker_collect(f.t, bits), 0);
			for (size_t p = 0; p < PAGES; p++)
				if (bits[p / 64] >> p % 64 & 1)
					copy_page(shadow + p * WIRE_PAGE_BYTES,
						  f.base + p * WIRE_PAGE_BYTES);
		}
	}
	assert_memory_equal(shadow, f.base, sizeof(shadow));
	end();
}

/* What this kernel claims to have must pass; only what it lacks is skipped. */
static bool kernel_has_uffd(void)
{
	size_t bytes = WIRE_PAGE_BYTES;
	uint8_t *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct tracked side;
	int rc = tracked_open(&side, EMBEDDED_TRACKER_UFFD, page, bytes, NULL);

	tracked_close(&side);
	munmap(page, bytes);
	return rc == 0;
}

static void run(uint32_t kind)
{
	follows(kind);
	misses_nothing(kind);
}

static void uffd(void **state)
{
	(void)state;
	if (!kernel_has_uffd())
		skip();
	run(EMBEDDED_TRACKER_UFFD);
}

static void softdirty(void **state)
{
	const char *why;

	(void)state;
	/* A kernel without it takes the orders, too; the proof finds out. */
	if (tracker_selftest(EMBEDDED_TRACKER_SOFTDIRTY, &why)) {
		print_message("softdirty: %s\n", why);
		skip();
	}
	run(EMBEDDED_TRACKER_SOFTDIRTY);
}

static void mprotect_and_sigsegv(void **state)
{
	(void)state;
	run(EMBEDDED_TRACKER_MPROTECT);
}

static void one_at_least_works_here(void **state)
{
	const char *why;
	uint32_t best = tracker_best();

	(void)state;
	assert_int_not_equal(best, EMBEDDED_TRACKER_NONE);
	assert_int_equal(tracker_selftest(best, &why), 0);
}

/* More runs of written pages than the kernel tells of at once. */
static void one_answer_is_not_enough(void **state)
{
	enum { MANY = 20000 };
	size_t bytes = MANY * (size_t)WIRE_PAGE_BYTES;
	uint64_t *found = calloc(MANY / 64 + 1, 8);
	struct tracked side;
	struct tracker *t;
	uint8_t *base;

	(void)state;
	if (!kernel_has_uffd())
		skip();
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_int_equal(
		tracked_open(&side, EMBEDDED_TRACKER_UFFD, base, bytes, NULL),
		0);
	assert_int_equal(tracker_open(EMBEDDED_TRACKER_UFFD, getpid(),
				      (uintptr_t)base, bytes, NULL, order_here,
				      &f, &t),
			 0);
	assert_int_equal(tracker_start(t), 0);
	for (size_t page = 0; page < MANY; page += 2)
		base[page * WIRE_PAGE_BYTES] = 1;
	assert_int_equal(tracker_collect(t, found), 0);
	for (size_t page = 0; page < MANY; page++)
		assert_int_equal(found[page / 64] >> page % 64 & 1,
				 page % 2 == 0);
	tracker_close(t);
	tracked_close(&side);
	munmap(base, bytes);
	free(found);
}

/* The orders go nowhere: what it reports is not what was written. */
static void a_deaf_one_proves_nothing(void **state)
{
	const char *why = NULL;

	(void)state;
	begin(EMBEDDED_TRACKER_MPROTECT);
	f.deaf = true;
	assert_int_equal(tracker_prove(f.t, &why), -EIO);
	assert_string_equal(why, "a page that was written is not reported");
	f.deaf = false;
	end();
}

static void one_that_repeats_itself_proves_nothing(void **state)
{
	const char *why = NULL;

	(void)state;
	begin(EMBEDDED_TRACKER_MPROTECT);
	f.deaf = true;
	atomic_store(&f.written[0], 1);
	assert_int_equal(tracker_prove(f.t, &why), -EIO);
	assert_string_equal(why, "pages are reported that nobody has written");
	f.deaf = false;
	end();
}

/* Memory that nobody has registered: the kernel must not just say "nothing". */
static void uffd_without_registration_is_noticed(void **state)
{
	struct tracker *t;

	(void)state;
	if (!kernel_has_uffd())
		skip();
	begin(EMBEDDED_TRACKER_MPROTECT);
	assert_int_equal(
		tracker_open(EMBEDDED_TRACKER_UFFD, getpid(), (uintptr_t)f.base,
			     PAGES * WIRE_PAGE_BYTES, NULL, order_here, &f, &t),
		0);
	assert_true(tracker_start(t) < 0);
	tracker_close(t);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_at_least_works_here),
		cmocka_unit_test(uffd),
		cmocka_unit_test(softdirty),
		cmocka_unit_test(mprotect_and_sigsegv),
		cmocka_unit_test(one_answer_is_not_enough),
		cmocka_unit_test(a_deaf_one_proves_nothing),
		cmocka_unit_test(one_that_repeats_itself_proves_nothing),
		cmocka_unit_test(uffd_without_registration_is_noticed),
	};

	return cmocka_run_group_tests_name("embedded tracker", tests, NULL,
					   NULL);
}
