/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/embedded/spec.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "resume/disk/names.h"
#include "resume/embedded/control.h"

#define X(name, word) word,
static const char *const workloads[] = { EMBEDDED_WORKLOADS(X) NULL };
static const char *const patterns[] = { EMBEDDED_PATTERNS(X) NULL };
static const char *const fills[] = { EMBEDDED_FILLS(X) NULL };
static const char *const channels[] = { EMBEDDED_CHANNELS(X) NULL };
static const char *const manners[] = { EMBEDDED_MANNERS(X) NULL };
static const char *const trackers[] = { EMBEDDED_TRACKERS(X) NULL };
#undef X
static const char *const gates[] = { "off", "on", NULL };

enum {
	OF_LEDGER = 1 << EMBEDDED_LEDGER,
	OF_DIRTY = 1 << EMBEDDED_DIRTY,
	OF_REPLAY = 1 << EMBEDDED_REPLAY,
	OF_ALL = OF_LEDGER | OF_DIRTY | OF_REPLAY,
	AT_RUN_TIME = 1 << EMBEDDED_WORKLOAD_COUNT,
};

enum key_type {
	KEY_NAME,
	KEY_ADDRESS,
	KEY_SIZE,
	KEY_NUMBER,
	KEY_WORD,
	KEY_FILE,
	KEY_DISK,
};

static const struct key {
	const char *name;
	enum key_type type;
	unsigned int of;
	size_t offset;
	uint64_t min, max;
	const char *const *words;
} keys[] = {
#define AT(member) offsetof(struct embedded_spec, member)
	{ "name", KEY_NAME, OF_ALL, AT(name), 0, 0, NULL },
	{ "mem", KEY_SIZE, OF_ALL, AT(mem_bytes), UINT64_C(1) << 20,
	  UINT64_C(1) << 38, NULL },
	{ "vcpus", KEY_NUMBER, OF_DIRTY, AT(vcpus), 1, EMBEDDED_VCPUS_MAX,
	  NULL },
	{ "port", KEY_NUMBER, OF_LEDGER, AT(port), 1, 65535, NULL },
	{ "address", KEY_ADDRESS, OF_LEDGER, AT(address), 0, 0, NULL },
	{ "gate", KEY_WORD, OF_LEDGER, AT(gate), 0, 0, gates },
	{ "disk", KEY_DISK, OF_LEDGER, AT(disk), 0, 0, NULL },
	{ "rate", KEY_NUMBER, OF_DIRTY | OF_REPLAY, AT(rate), 0, 100000000,
	  NULL },
	{ "pattern", KEY_WORD, OF_DIRTY, AT(pattern), 0, 0, patterns },
	{ "words", KEY_NUMBER, OF_DIRTY, AT(words), 1, 512, NULL },
	{ "whole", KEY_NUMBER, OF_DIRTY, AT(whole), 0, 100, NULL },
	{ "fill", KEY_WORD, OF_DIRTY, AT(fill), 0, 0, fills },
	{ "span", KEY_SIZE, OF_DIRTY, AT(span_bytes), UINT64_C(1) << 20,
	  UINT64_C(1) << 38, NULL },
	{ "file", KEY_FILE, OF_REPLAY, AT(file), 0, 0, NULL },
	{ "channel", KEY_WORD, OF_ALL, AT(channel), 0, 0, channels },
	{ "suspend", KEY_WORD, OF_ALL | AT_RUN_TIME, AT(suspend), 0, 0,
	  manners },
	{ "late", KEY_NUMBER, OF_ALL | AT_RUN_TIME, AT(late_ms), 0, 600000,
	  NULL },
	{ "tracker", KEY_WORD, OF_ALL, AT(tracker), 0, 0, trackers },
#undef AT
};

enum { KEYS = sizeof(keys) / sizeof(keys[0]) };

static int index_of(const char *const *words, const char *word)
{
	for (int i = 0; words[i]; i++)
		if (!strcmp(words[i], word))
			return i;
	return -1;
}

const char *embedded_tracker_name(uint32_t tracker)
{
	return tracker < EMBEDDED_TRACKER_COUNT ? trackers[tracker] : "none";
}

const char *embedded_workload_name(uint32_t workload)
{
	return workload < EMBEDDED_WORKLOAD_COUNT ? workloads[workload] : "?";
}

bool embedded_name_good(const char *name)
{
	const char *suffix = EMBEDDED_TWIN_SUFFIX;
	size_t n = strlen(name), k = strlen(suffix);

	if (!n || n > EMBEDDED_NAME_MAX || name[0] == '-' || name[0] == '.')
		return false;
	if (n > k && !strcmp(name + n - k, suffix))
		return false;
	for (const char *c = name; *c; c++)
		if (!isascii(*c) ||
		    (!isalnum((unsigned char)*c) && !strchr("._-", *c)))
			return false;
	return true;
}

static bool number(const char *text, const char **rest, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	*out = strtoull(text, &end, 10);
	*rest = end;
	return !errno;
}

static bool set_size(const char *value, uint64_t *out)
{
	static const char units[] = "KMG";
	const char *rest, *unit;
	uint64_t n;

	if (!number(value, &rest, &n) || !*rest || rest[1])
		return false;
	unit = strchr(units, *rest);
	if (!unit || n > UINT64_C(1) << 30)
		return false;
	*out = n << (10 * (unit - units + 1));
	return *out % WIRE_PAGE_BYTES == 0;
}

static bool address_good(const char *value)
{
	struct in6_addr any;

	return strlen(value) < sizeof(((struct embedded_spec *)0)->address) &&
	       (inet_pton(AF_INET, value, &any) == 1 ||
		inet_pton(AF_INET6, value, &any) == 1);
}

static bool set_value(struct embedded_spec *s, const struct key *k,
		      const char *value)
{
	char *at = (char *)s + k->offset;
	const char *rest;
	uint64_t n;
	int i;

	switch (k->type) {
	case KEY_NAME:
		if (!embedded_name_good(value))
			return false;
		strcpy(at, value);
		return true;
	case KEY_ADDRESS:
		if (!address_good(value))
			return false;
		strcpy(at, value);
		return true;
	case KEY_SIZE:
		if (!set_size(value, &n) || n < k->min || n > k->max)
			return false;
		memcpy(at, &n, sizeof(n));
		return true;
	case KEY_NUMBER:
		if (!number(value, &rest, &n) || *rest || n < k->min ||
		    n > k->max)
			return false;
		*(uint32_t *)(void *)at = (uint32_t)n;
		return true;
	case KEY_WORD:
		i = index_of(k->words, value);
		if (i < 0 ||
		    (k->words == trackers && i == EMBEDDED_TRACKER_NONE))
			return false;
		if (k->words == gates)
			s->gate = i;
		else
			*(uint32_t *)(void *)at = (uint32_t)i;
		return true;
	case KEY_FILE:
		/* The guest's process need not be where this one is. */
		if (value[0] != '/' || strlen(value) > EMBEDDED_FILE_MAX)
			return false;
		strcpy(at, value);
		return true;
	case KEY_DISK:
		if (!disk_name_good(value))
			return false;
		strcpy(at, value);
		return true;
	}
	return false;
}

static int set_word(struct embedded_spec *s, const char *word, unsigned int of,
		    struct guest_error *err)
{
	const char *equals = strchr(word, '=');
	size_t n = equals ? (size_t)(equals - word) : strlen(word);

	for (size_t i = 0; i < KEYS; i++) {
		const struct key *k = &keys[i];

		if (strlen(k->name) != n || strncmp(k->name, word, n) ||
		    (k->of & of) != of)
			continue;
		if (equals && set_value(s, k, equals + 1))
			return 0;
		guest_error_set(err, "'%.80s' is not a value for %s%s", word,
				k->name,
				k->type == KEY_SIZE
					? ": a size such as 64M or 1G, from 1M"
					  " to 256G"
				: k->type == KEY_FILE ? ": a path from / on"
				: k->type == KEY_DISK
					? ": the name of a disk, as in `colod"
					  " disk create'"
					: "");
		return -EINVAL;
	}
	guest_error_set(err, "%s guest has no '%.*s'%s",
			of & OF_LEDGER	 ? "a ledger"
			: of & OF_DIRTY	 ? "a dirty"
			: of & OF_REPLAY ? "a replay"
					 : "a running",
			(int)(n < 40 ? n : 40), word,
			of & AT_RUN_TIME ? " that could be changed" : "");
	return -EINVAL;
}

int embedded_spec_change(struct embedded_spec *s, const char *word,
			 struct guest_error *err)
{
	return set_word(s, word, AT_RUN_TIME, err);
}

static void defaults(struct embedded_spec *s)
{
	strcpy(s->name, workloads[s->workload]);
	s->mem_bytes = UINT64_C(64) << 20;
	s->vcpus = 1;
	s->late_ms = 500;
	s->gate = true;
	strcpy(s->address, "127.0.0.1");
	s->port = 7476;
	if (s->workload == EMBEDDED_LEDGER)
		return;
	s->mem_bytes = UINT64_C(256) << 20;
	s->rate = 20000;
	if (s->workload == EMBEDDED_REPLAY)
		return;
	s->words = 8;
	s->whole = 5;
}

int embedded_spec_parse(const char *words, struct embedded_spec *s,
			struct guest_error *err)
{
	char text[EMBEDDED_SPEC_MAX], *rest = text, *word;
	int workload, rc = 0;

	memset(s, 0, sizeof(*s));
	if (strlen(words) >= sizeof(text)) {
		guest_error_set(err, "the words for the guest are too long");
		return -EINVAL;
	}
	strcpy(text, words);
	word = strsep(&rest, ",");
	workload = index_of(workloads, word);
	if (workload < 0) {
		guest_error_set(err,
				"'%.40s' is neither a guest that runs here nor"
				" a workload (ledger, dirty, replay)",
				word);
		return -EINVAL;
	}
	s->workload = (uint32_t)workload;
	defaults(s);
	while (!rc && (word = strsep(&rest, ",")))
		rc = set_word(s, word, 1U << workload, err);
	if (!rc && s->span_bytes > s->mem_bytes) {
		guest_error_set(err, "span is more than mem: no guest writes"
				     " what it does not have");
		rc = -EINVAL;
	}
	return rc;
}

void embedded_spec_format(const struct embedded_spec *s,
			  char text[EMBEDDED_SPEC_MAX])
{
	int n = snprintf(text, EMBEDDED_SPEC_MAX,
			 "%s,name=%s,mem=%" PRIu64
			 "K,channel=%s,suspend=%s,late=%u,tracker=%s",
			 workloads[s->workload], s->name, s->mem_bytes >> 10,
			 channels[s->channel], manners[s->suspend], s->late_ms,
			 trackers[s->tracker]);
	size_t room = EMBEDDED_SPEC_MAX - (size_t)n;

	text += n;
	switch (s->workload) {
	case EMBEDDED_LEDGER:
		n = snprintf(text, room, ",address=%s,port=%u,gate=%s",
			     s->address, s->port, gates[s->gate]);
		/* Without it a peer of before may have the twin. */
		if (s->disk[0])
			snprintf(text + n, room - (size_t)n, ",disk=%s",
				 s->disk);
		break;
	case EMBEDDED_REPLAY:
		snprintf(text, room, ",rate=%u", s->rate);
		break;
	default:
		n = snprintf(text, room,
			     ",vcpus=%u,rate=%u,pattern=%s,words=%u,whole=%u",
			     s->vcpus, s->rate, patterns[s->pattern], s->words,
			     s->whole);
		/* Without these a peer of before may have the twin. */
		if (s->fill)
			n += snprintf(text + n, room - (size_t)n, ",fill=%s",
				      fills[s->fill]);
		if (s->span_bytes)
			snprintf(text + n, room - (size_t)n,
				 ",span=%" PRIu64 "K", s->span_bytes >> 10);
	}
}

int embedded_name(const char *words, char name[WIRE_NAME_MAX + 1],
		  struct guest_error *err)
{
	struct embedded_spec s;
	int rc;

	if (!strchr(words, ',') && embedded_name_good(words)) {
		strcpy(name, words);
		return 0;
	}
	rc = embedded_spec_parse(words, &s, err);
	if (rc == 0)
		strcpy(name, s.name);
	return rc;
}
