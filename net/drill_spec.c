/* SPDX-License-Identifier: Apache-2.0 */
/* The words of a drill: see net/drill.h.  Pure; any thread. */
#include "config.h"

#include "net/drill.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { DELAY_MAX_MS = 60 * 1000, SECONDS_MAX = 365 * 24 * 3600 };

/* A decimal number without a sign; what follows it is at *end. */
static bool number(const char *word, double max, double *out, char **end)
{
	if (!isdigit((unsigned char)word[0]) ||
	    strspn(word, "0123456789.") != strcspn(word, "~:/%KMG"))
		return false;
	*out = strtod(word, end);
	return *out <= max;
}

static bool whole(const char *word, uint64_t max, uint64_t *out, char **end)
{
	if (!isdigit((unsigned char)word[0]))
		return false;
	errno = 0;
	*out = strtoull(word, end, 10);
	return !errno && *out <= max;
}

static bool parse_delay(struct drill_effects *e, const char *value)
{
	char *end;

	if (!whole(value, DELAY_MAX_MS, &e->delay_us, &end))
		return false;
	e->jitter_us = 0;
	if (*end == '~' && !whole(end + 1, DELAY_MAX_MS, &e->jitter_us, &end))
		return false;
	e->delay_us *= 1000;
	e->jitter_us *= 1000;
	return !*end && e->jitter_us <= e->delay_us;
}

static bool parse_rate(struct drill_effects *e, const char *value)
{
	static const char suffixes[] = "KMG";
	const char *suffix;
	double bytes;
	ptrdiff_t n;
	char *end;

	if (!number(value, 1e12, &bytes, &end))
		return false;
	suffix = *end ? strchr(suffixes, *end) : NULL;
	if (*end && (!suffix || end[1]))
		return false;
	for (n = suffix ? suffix - suffixes + 1 : 0; n; n--)
		bytes *= 1000;
	if (bytes < 1 || bytes > 1e12)
		return false;
	e->rate_bytes = (uint64_t)bytes;
	return true;
}

/* "5", "0.1%", "1/1000" */
static bool parse_part(uint64_t *part, const char *value)
{
	double x, n;
	char *end;

	if (!number(value, 100, &x, &end))
		return false;
	if (*end == '/') {
		if (x != 1 || !number(end + 1, 1e9, &n, &end) || n < 1)
			return false;
		x = 1 / n;
	} else {
		x /= 100;
		end += *end == '%';
	}
	*part = (uint64_t)(x * (double)DRILL_ALL);
	return !*end;
}

static bool parse_drop(struct drill_effects *e, const char *value)
{
	return parse_part(&e->drop, value);
}

static bool parse_corrupt(struct drill_effects *e, const char *value)
{
	return parse_part(&e->corrupt, value);
}

/* "A" or "A:B", in seconds. */
static bool parse_times(const char *value, uint64_t *at_us, uint64_t *for_us)
{
	double at, length = 0;
	char *end;

	if (!number(value, SECONDS_MAX, &at, &end))
		return false;
	if (*end == ':' && !number(end + 1, SECONDS_MAX, &length, &end))
		return false;
	*at_us = (uint64_t)(at * 1e6);
	*for_us = (uint64_t)(length * 1e6);
	return !*end;
}

static bool parse_stall(struct drill_effects *e, const char *value)
{
	return parse_times(value, &e->stall_at_us, &e->stall_for_us) &&
	       e->stall_for_us;
}

static const struct {
	const char *name;
	bool (*parse)(struct drill_effects *e, const char *value);
	const char *form;
} effects[] = {
	{ "delay", parse_delay, "MS or MS~JITTER, at most 60000" },
	{ "rate", parse_rate, "bytes a second, with K, M or G" },
	{ "drop", parse_drop, "a percentage or 1/N" },
	{ "corrupt", parse_corrupt, "a percentage or 1/N" },
	{ "stall", parse_stall, "AFTER:FOR in seconds" },
};

enum { EFFECTS = sizeof(effects) / sizeof(effects[0]) };

static int refuse(char *why, const char *name, const char *value,
		  const char *form)
{
	snprintf(why, DRILL_WHY_BYTES, "drill: '%.40s%s%.40s' is not %s", name,
		 value ? "=" : "", value ? value : "", form);
	return -EINVAL;
}

static int parse_effect(struct drill_spec *s, const char *word,
			const char *value, char *why)
{
	bool ways[DRILL_WAYS] = { true, true };
	const char *name = word;
	size_t i, w;

	if (!strncmp(word, "out.", 4) || !strncmp(word, "in.", 3)) {
		ways[word[0] == 'o' ? DRILL_IN : DRILL_OUT] = false;
		name = strchr(word, '.') + 1;
	}
	for (i = 0; i < EFFECTS && strcmp(name, effects[i].name) != 0; i++)
		;
	if (i == EFFECTS)
		return refuse(why, word, value,
			      "one of delay, rate, drop, corrupt, stall, cut, "
			      "seed (see colod(8))");
	for (w = 0; w < DRILL_WAYS; w++)
		if (ways[w] && !effects[i].parse(&s->way[w], value))
			return refuse(why, word, value, effects[i].form);
	return 0;
}

static int parse_one(struct drill_spec *s, char *word, char *why)
{
	char *value = strchr(word, '='), *end;

	if (!value)
		return refuse(why, word, NULL, "NAME=VALUE");
	*value++ = '\0';
	if (!strcmp(word, "cut")) {
		s->cut = true;
		if (!parse_times(value, &s->cut_at_us, &s->cut_for_us))
			return refuse(why, word, value,
				      "AFTER or AFTER:FOR in seconds");
	} else if (!strcmp(word, "seed")) {
		s->seeded = true;
		if (!whole(value, UINT64_MAX, &s->seed, &end) || *end)
			return refuse(why, word, value, "a whole number");
	} else {
		return parse_effect(s, word, value, why);
	}
	return 0;
}

int drill_parse(const char *words, struct drill_spec *out, char *why)
{
	struct drill_spec s = { 0 };
	char copy[DRILL_WORDS_MAX];
	char *rest = copy, *word;
	int err = 0;

	if (strlen(words) >= sizeof(copy)) {
		snprintf(why, DRILL_WHY_BYTES, "drill: too many words");
		return -EINVAL;
	}
	strcpy(copy, words);
	if (!strcmp(words, "off"))
		rest = NULL;
	while (!err && (word = strsep(&rest, ",")))
		err = parse_one(&s, word, why);
	if (!err)
		*out = s;
	return err;
}
