/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an embedded guest is made of, in words: WORKLOAD[,KEY=VALUE...].
 *
 * The words come from an operator, or, as the configuration of a standby, from
 * another host: every value is bounded here.  Any thread, no state.
 */
#ifndef RESUME_EMBEDDED_SPEC_H
#define RESUME_EMBEDDED_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resume/disk/names.h"
#include "resume/guest.h"

enum {
	EMBEDDED_NAME_MAX = 48, /* so that the sockets' paths stay short */
	EMBEDDED_SPEC_MAX = 1024,
	EMBEDDED_VCPUS_MAX = 16,
	EMBEDDED_FILE_MAX = 255,
};

/* Each list: the enum's end, the word. */
#define EMBEDDED_WORKLOADS(X) \
	X(LEDGER, "ledger") X(DIRTY, "dirty") X(REPLAY, "replay")
#define EMBEDDED_PATTERNS(X) \
	X(RANDOM, "random") X(HOT, "hot") X(SEQUENTIAL, "sequential")
#define EMBEDDED_FILLS(X) X(RANDOM, "random") X(ZERO, "zero")
#define EMBEDDED_CHANNELS(X) X(EVTCHN, "evtchn") X(XENSTORE, "xenstore")
#define EMBEDDED_MANNERS(X) \
	X(OK, "ok") X(IGNORE, "ignore") X(ACK, "ack") X(LATE, "late")
#define EMBEDDED_TRACKERS(X) \
	X(AUTO, "auto")      \
	X(UFFD, "uffd")      \
	X(SOFTDIRTY, "softdirty") X(MPROTECT, "mprotect") X(NONE, "none")

#define X(name, word) EMBEDDED_##name,
enum embedded_workload { EMBEDDED_WORKLOADS(X) EMBEDDED_WORKLOAD_COUNT };
#undef X
#define X(name, word) EMBEDDED_PATTERN_##name,
enum embedded_pattern { EMBEDDED_PATTERNS(X) EMBEDDED_PATTERN_COUNT };
#undef X
/* What a page is replaced by. */
#define X(name, word) EMBEDDED_FILL_##name,
enum embedded_fill { EMBEDDED_FILLS(X) EMBEDDED_FILL_COUNT };
#undef X
/* Which way a suspend is asked for: the fast one, or control/shutdown. */
#define X(name, word) EMBEDDED_CHANNEL_##name,
enum embedded_channel { EMBEDDED_CHANNELS(X) EMBEDDED_CHANNEL_COUNT };
#undef X
/*
 * How the guest takes a request to suspend: as it should; not at all;
 * acknowledged and then not honoured; acknowledged and honoured late.
 */
#define X(name, word) EMBEDDED_SUSPEND_##name,
enum embedded_manner { EMBEDDED_MANNERS(X) EMBEDDED_SUSPEND_COUNT };
#undef X
/* NONE is what a guest finds out, it cannot be asked for. */
#define X(name, word) EMBEDDED_TRACKER_##name,
enum embedded_tracker { EMBEDDED_TRACKERS(X) EMBEDDED_TRACKER_COUNT };
#undef X

struct embedded_spec {
	uint32_t workload; /* enum embedded_workload, and so on */
	char name[EMBEDDED_NAME_MAX + 1];
	uint64_t mem_bytes;
	uint32_t vcpus;
	uint32_t channel;
	uint32_t suspend;
	uint32_t late_ms;
	uint32_t tracker;
	/* ledger */
	char address[48];
	uint32_t port;
	bool gate; /* false for tests only: replies are not held back */
	/* A replicated disk (resume/disk/names.h), or "". */
	char disk[DISK_NAME_MAX + 1];
	/* dirty, replay */
	uint32_t rate; /* pages a second */
	/* dirty */
	uint64_t span_bytes; /* that are written; 0: all */
	uint32_t pattern;    /* enum embedded_pattern */
	uint32_t words;	     /* changed 64-bit words in a page */
	uint32_t whole;	     /* per cent of the writes that replace the page */
	uint32_t fill;	     /* enum embedded_fill */
	/* replay: of the host where the guest was started, "" anywhere else */
	char file[EMBEDDED_FILE_MAX + 1];
};

/* -EINVAL with one line in *err. */
int embedded_spec_parse(const char *words, struct embedded_spec *s,
			struct guest_error *err);
/* One "KEY=VALUE" of those that may change while the guest runs. */
int embedded_spec_change(struct embedded_spec *s, const char *word,
			 struct guest_error *err);
/*
 * In words that parse to the same, as they cross the wire: all of it but the
 * file, which means nothing on another host.
 */
void embedded_spec_format(const struct embedded_spec *s,
			  char text[EMBEDDED_SPEC_MAX]);
/* Letters, digits, '.', '_' and '-', not the first, and not a twin's name. */
bool embedded_name_good(const char *name);
/* The guest_kind's `name`: a specification, or the name alone. */
int embedded_name(const char *words, char name[WIRE_NAME_MAX + 1],
		  struct guest_error *err);

const char *embedded_tracker_name(uint32_t tracker);
const char *embedded_workload_name(uint32_t workload);

#endif
