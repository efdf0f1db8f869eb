/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "base/fault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

#ifdef ENABLE_FAULTS
#include <ctype.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { RULES_MAX = 16, WORDS_MAX = 512 };

enum action { KILL, STOP, HANG, ERROR, SHORT };

static const char *const actions[] = {
	[KILL] = "kill",   [STOP] = "stop",   [HANG] = "hang",
	[ERROR] = "error", [SHORT] = "short",
};

enum { ACTIONS = sizeof(actions) / sizeof(actions[0]) };

static const struct {
	const char *name, *side, *what;
	unsigned int flags;
} points[] = {
#define X(name, text, side, flags, what) \
	[FAULT_##name] = { text, side, what, flags },
	FAULT_POINTS(X)
#undef X
};

static struct rule {
	enum fault_point point;
	enum action action;
	int err;
	unsigned int count;
	bool every; /* from `count` on */
	atomic_uint passed;
} rules[RULES_MAX];

static unsigned int rule_count;
static char wishes[WORDS_MAX];

_Atomic uint64_t fault_armed;

static int refuse(const char *words, const char *what)
{
	fprintf(stderr, "colod: COLOD_FAULT: '%s': %s\n", words, what);
	return -EINVAL;
}

static bool parse_point(const char *word, struct rule *r)
{
	unsigned int i;

	for (i = 0; i < FAULT_COUNT; i++)
		if (!strcmp(word, points[i].name)) {
			r->point = (enum fault_point)i;
			return true;
		}
	return false;
}

/* A number, all of it digits. */
static bool parse_number(const char *word, unsigned int max, unsigned int *out)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(word, &end, 10);
	if (!isdigit((unsigned char)word[0]) || *end || errno || !n || n > max)
		return false;
	*out = (unsigned int)n;
	return true;
}

static bool parse_errno(const char *word, int *err)
{
	enum { ERRNO_MAX = 4095 }; /* the kernel's MAX_ERRNO */
	unsigned int n;

	if (parse_number(word, ERRNO_MAX, &n)) {
		*err = (int)n;
		return true;
	}
	for (n = 1; n <= 255; n++) {
		const char *name = strerrorname_np((int)n);

		if (name && !strcmp(word, name)) {
			*err = (int)n;
			return true;
		}
	}
	return false;
}

static bool parse_action(char *word, struct rule *r)
{
	char *value = strchr(word, '=');
	unsigned int i;

	if (value)
		*value++ = '\0';
	r->err = r->point == FAULT_MEMORY ? ENOMEM : EIO;
	for (i = 0; i < ACTIONS && strcmp(word, actions[i]) != 0; i++)
		;
	r->action = (enum action)i;
	if (i == ACTIONS || (value && i != ERROR))
		return false;
	return !value || parse_errno(value, &r->err);
}

/* "POINT:ACTION[:COUNT[+]]"; spoils `word`. */
static int parse_rule(char *word, struct rule *r)
{
	char *action = strchr(word, ':'), *count;
	char whole[WORDS_MAX];

	snprintf(whole, sizeof(whole), "%s", word);
	if (!action)
		return refuse(whole, "is not POINT:ACTION[:COUNT[+]]");
	*action++ = '\0';
	count = strchr(action, ':');
	if (count)
		*count++ = '\0';
	if (!parse_point(word, r))
		return refuse(whole, "no such point; 'colod check --verbose' "
				     "lists them");
	if (!parse_action(action, r))
		return refuse(whole, "the action is kill, stop, hang, "
				     "error[=ERRNO] or short");
	if (r->action == SHORT && !(points[r->point].flags & FAULT_IO))
		return refuse(whole, "only read and write can be short");
	r->count = 1;
	if (count && *count && count[strlen(count) - 1] == '+') {
		r->every = true;
		count[strlen(count) - 1] = '\0';
	}
	if (count && !parse_number(count, INT32_MAX, &r->count))
		return refuse(whole, "the count is a number from 1 on, "
				     "with or without a + behind it");
	return 0;
}

int fault_init(const char *words)
{
	char copy[WORDS_MAX], *rest = copy, *word;

	fault_fini();
	if (!words)
		words = getenv("COLOD_FAULT");
	if (!words)
		return 0;
	if (strlen(words) >= sizeof(copy))
		return refuse("...", "too long");
	strcpy(copy, words);
	while ((word = strsep(&rest, ","))) {
		struct rule r = { 0 };
		int err = rule_count < RULES_MAX
				  ? parse_rule(word, &r)
				  : refuse(word, "too many of them");

		if (err) {
			fault_fini();
			return err;
		}
		rules[rule_count++] = r;
	}
	for (unsigned int i = 0; i < rule_count; i++)
		fault_armed |= UINT64_C(1) << rules[i].point;
	strcpy(wishes, words);
	return 0;
}

void fault_fini(void)
{
	fault_armed = 0;
	rule_count = 0;
	wishes[0] = '\0';
}

void fault_log(void)
{
	if (wishes[0])
		log_warn("this colod was told to misbehave: COLOD_FAULT=%s",
			 wishes);
}

void fault_each_point(void (*fn)(void *arg, const char *name, const char *side,
				 unsigned int flags, const char *what),
		      void *arg)
{
	for (unsigned int i = 0; i < FAULT_COUNT; i++)
		fn(arg, points[i].name, points[i].side, points[i].flags,
		   points[i].what);
}

static int act(const struct rule *r, size_t *length)
{
	switch (r->action) {
	case KILL:
		kill(getpid(), SIGKILL); /* delivered before long */
		__attribute__((fallthrough));
	case HANG:
		for (;;)
			pause();
	case STOP:
		kill(getpid(), SIGSTOP);
		return 0;
	case ERROR:
		return -r->err;
	case SHORT:
		if (length && *length > 1)
			*length = 1;
		return 0;
	}
	return 0;
}

int fault_passed(enum fault_point point, size_t *length)
{
	int err = 0;

	for (unsigned int i = 0; i < rule_count; i++) {
		struct rule *r = &rules[i];
		unsigned int n;
		int one;

		if (r->point != point)
			continue;
		n = atomic_fetch_add(&r->passed, 1) + 1;
		if (n < r->count || (n > r->count && !r->every))
			continue;
		if (n == r->count) /* those that follow would flood the log */
			log_warn("fault: %s at %s", actions[r->action],
				 points[point].name);
		one = act(r, length);
		if (!err)
			err = one;
	}
	return err;
}
#else
int fault_init(const char *words)
{
	(void)words;
	return 0;
}

void fault_fini(void)
{
}

void fault_log(void)
{
	if (getenv("COLOD_FAULT"))
		log_warn("COLOD_FAULT is ignored: this colod was built "
			 "without faults");
}

void fault_each_point(void (*fn)(void *arg, const char *name, const char *side,
				 unsigned int flags, const char *what),
		      void *arg)
{
	(void)fn;
	(void)arg;
}
#endif
