/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs of the distribution whose pages are recorded: starting one, giving
 * it something to do, and reading its answers, line by line.
 *
 *   programs.c  what all have in common, and the recording
 *   talk.c      the conversation
 *   redis.c, sqlite.c  one of them: what it is started with and told
 *
 * What a program is told follows from a seed and not from the clock, so each
 * recording has the same writes; the clock only says when.
 */
#ifndef BENCH_PROGRAMS_H
#define BENCH_PROGRAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/bench.h"

struct program;

struct program_kind {
	const char *pattern;	/* of a workload */
	const char *executable; /* and package; looked for in PATH */
	/* How many orders a second, and between two looks at its memory. */
	unsigned int rate, orders;
	/* Runs it, so that it can be talked to. */
	int (*start)(struct program *p);
	/* The data that it shall have. */
	int (*fill)(struct program *p);
	/* `count` orders on that data, said and answered. */
	int (*work)(struct program *p, unsigned int count);
};

extern const struct program_kind program_redis;
extern const struct program_kind program_sqlite;

enum { PROGRAM_SAID_BYTES = 64 * 1024, PROGRAM_HEARD_BYTES = 16 * 1024 };

struct program {
	struct bench *b;
	const struct program_kind *kind;
	const char *path; /* of the executable */
	struct bench_process process;
	char log[BENCH_PATH_BYTES];
	int to, from;	 /* nonblocking; one socket, or two pipes */
	uint64_t random; /* the state */
	unsigned int records;
	char said[PROGRAM_SAID_BYTES];
	size_t said_used;
	char heard[PROGRAM_HEARD_BYTES];
	size_t heard_at, heard_used;
};

/* All of these: a negative errno after one line. */

/* Its child's log, and this line, are said where it fails. */
int program_fails(struct program *p, const char *what);

/* Buffered until program_hear(). */
int program_say(struct program *p, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* The next line, without its end, until the next call. */
int program_hear(struct program *p, const char **line);

/* 0 to below - 1. */
uint64_t program_random(struct program *p, uint64_t below);

#endif
