/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversation with a program: what is said is gathered and goes out when
 * an answer is wanted, answers are lines.
 *
 * Nothing blocks for good: both ends are looked at in turns with the signals
 * and the program's end, and who says nothing for half a minute has failed.
 */
#include "config.h"

#include "bench/programs.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { PATIENCE_US = 30 * 1000 * 1000, FULL_US = 1000, LOOK_US = 100 * 1000 };

uint64_t program_random(struct program *p, uint64_t below)
{
	uint64_t x = p->random;

	/* xorshift64* (Vigna, "An experimental exploration..."). */
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	p->random = x;
	return (x * UINT64_C(0x2545f4914f6cdd1d) >> 32) % below;
}

/* Whether to go on waiting. */
static int patient(struct program *p, uint64_t until)
{
	if (p->b->interrupted)
		return -EINTR;
	if (bench_ended(&p->process))
		return program_fails(p, "has ended");
	if (clock_now_us() > until)
		return program_fails(p, "does not answer");
	return 0;
}

static int flush(struct program *p)
{
	uint64_t until = clock_now_us() + PATIENCE_US;
	size_t at = 0;
	ssize_t n;
	int err;

	while (at < p->said_used) {
		n = write(p->to, p->said + at, p->said_used - at);
		if (n > 0) {
			at += (size_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return program_fails(p, "takes no orders");
		bench_wait(p->b, -1, FULL_US);
		err = patient(p, until);
		if (err)
			return err;
	}
	p->said_used = 0;
	return 0;
}

int program_say(struct program *p, const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n, err;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(line))
		return -E2BIG;
	if (p->said_used + (size_t)n > sizeof(p->said)) {
		err = flush(p);
		if (err)
			return err;
	}
	memcpy(p->said + p->said_used, line, (size_t)n);
	p->said_used += (size_t)n;
	return 0;
}

/* A whole line of what was heard, or NULL. */
static const char *next_line(struct program *p)
{
	char *from = p->heard + p->heard_at, *end;
	size_t left = p->heard_used - p->heard_at;

	end = memchr(from, '\n', left);
	if (!end) {
		memmove(p->heard, from, left);
		p->heard_at = 0;
		p->heard_used = left;
		return NULL;
	}
	*end = '\0';
	p->heard_at += (size_t)(end - from) + 1;
	if (end > from && end[-1] == '\r')
		end[-1] = '\0';
	return from;
}

int program_hear(struct program *p, const char **line)
{
	uint64_t until = clock_now_us() + PATIENCE_US;
	ssize_t n;
	int err = flush(p);

	while (!err && !(*line = next_line(p))) {
		if (p->heard_used == sizeof(p->heard))
			return program_fails(p, "says too much");
		n = 0;
		if (bench_wait(p->b, p->from, LOOK_US))
			n = read(p->from, p->heard + p->heard_used,
				 sizeof(p->heard) - p->heard_used);
		if (n > 0)
			p->heard_used += (size_t)n;
		else
			err = patient(p, until);
	}
	return err;
}
