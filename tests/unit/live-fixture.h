/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that somebody goes on writing to while they are read: a process, for
 * that is what a guest is, and a thread's would be a race to the compiler.
 */
#ifndef TESTS_UNIT_LIVE_FIXTURE_H
#define TESTS_UNIT_LIVE_FIXTURE_H

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/unit-stream.h"

struct live {
	size_t pages;
	uint8_t *at;
	pid_t pid;
};

/* Words here and there, most of the time; whole pages of zeros or of noise. */
static inline void live_write(uint8_t *page, uint64_t *x)
{
	volatile uint64_t *words = (volatile uint64_t *)(void *)page;
	uint64_t kind = next_random(x) % 2048;

	if (kind > 1) {
		words[next_random(x) % (WIRE_PAGE_BYTES / 8)] = next_random(x);
		return;
	}
	for (size_t i = 0; i < WIRE_PAGE_BYTES / 8; i++)
		words[i] = kind ? next_random(x) : 0;
	usleep(1); /* so that somebody sees it like that */
}

/* Its first word, which is never as it was for long. */
static inline void live_await(const struct live *l)
{
	const volatile uint64_t *word =
		(const volatile uint64_t *)(void *)l->at;
	uint64_t was = *word;

	while (*word == was)
		usleep(100);
}

static inline void live_start(struct live *l, size_t pages)
{
	uint64_t x = 1;

	l->pages = pages;
	l->at = mmap(NULL, pages * WIRE_PAGE_BYTES, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(l->at, MAP_FAILED);
	fill_noise(l->at, pages * WIRE_PAGE_BYTES, 1);
	l->pid = fork();
	assert_true(l->pid >= 0);
	if (l->pid) {
		live_await(l);
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		live_write(l->at + next_random(&x) % pages * WIRE_PAGE_BYTES,
			   &x);
}

static inline void live_stop(struct live *l)
{
	assert_int_equal(kill(l->pid, SIGKILL), 0);
	assert_int_equal(waitpid(l->pid, NULL, 0), l->pid);
}

static inline void live_free(struct live *l)
{
	munmap(l->at, l->pages * WIRE_PAGE_BYTES);
}

#endif
