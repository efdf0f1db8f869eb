/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line of the ledger as words.  What is not exactly of the form that is
 * asked for sets `bad`, which sticks, as in base/cursor.h.
 */
#ifndef ACCOUNT_WORDS_H
#define ACCOUNT_WORDS_H

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct words {
	char *rest;
	bool bad;
};

/* Cuts the next word off; spaces must be single.  "" at the end. */
static inline const char *words_next(struct words *w)
{
	char *word = w->rest, *space = strchr(word, ' ');

	if (!*word)
		w->bad = true;
	if (space) {
		*space = '\0';
		w->rest = space + 1;
	} else {
		w->rest = word + strlen(word);
	}
	return word;
}

static inline uint64_t words_number(struct words *w, int base, uint64_t max)
{
	const char *word = words_next(w);
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(word, &end, base);
	if (!isxdigit((unsigned char)word[0]) || *end || errno || n > max)
		w->bad = true;
	return w->bad ? 0 : n;
}

static inline int64_t words_signed(struct words *w)
{
	const char *word = words_next(w);
	char *end;
	int64_t n;

	errno = 0;
	n = strtoll(word, &end, 10);
	if (!(isdigit((unsigned char)word[0]) || word[0] == '-') || *end ||
	    errno)
		w->bad = true;
	return w->bad ? 0 : n;
}

/* Nothing may follow. */
static inline bool words_good(const struct words *w)
{
	return !w->bad && !*w->rest;
}

#endif
