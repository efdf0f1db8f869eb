/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workload that writes what another program wrote: a step gives one page
 * its next version of a trace (trace.h), to the end of the trace and then
 * backward to its beginning, for ever, so that a page always changes as it did
 * in the program.
 *
 * The happy path:
 *   - load: the file is checked; the pages as they were at first go behind the
 *     rings, all else to the end of the guest's memory, where nothing writes it
 *     any more;
 *   - a step applies one change to its page.
 * Failure modes: the file is not there, is no trace, or the memory is too small
 * for it: one line.  What is in the memory may have come from another host, so
 * each step looks at what it uses; where it is no trace, a step does nothing.
 * That is also what a guest does that booted without a file.
 *
 * Register 0 is the place in the trace, register 1 counts the steps, register 2
 * says where in the memory the trace begins (0: there is none).
 */
#include "config.h"

#include "resume/embedded/workload.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "resume/embedded/memory.h"
#include "resume/embedded/trace.h"

#define LIVE_AT ((uint64_t)EMBEDDED_DATA_PAGE * WIRE_PAGE_BYTES)

enum { PLACE, STEPS, TRACE };

/* --- load --------------------------------------------------------------- */

static int refuse(struct guest_error *err, const char *file, const char *why)
{
	guest_error_set(err, "file=%s: %s", file, why);
	return -EINVAL;
}

static int read_all(int fd, void *to, uint64_t bytes, uint64_t at)
{
	uint64_t got = 0;
	ssize_t n;

	while (got < bytes) {
		n = pread(fd, (char *)to + got, bytes - got, (off_t)(at + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		got += (uint64_t)n;
	}
	return 0;
}

/* All that can be said before the guest's memory is touched. */
static int check_file(int fd, const struct workload_view *v,
		      struct trace_header *h, struct guest_error *err)
{
	const char *file = v->spec->file;
	struct stat st;
	uint64_t mib;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return refuse(err, file, "not an ordinary file");
	if ((uint64_t)st.st_size < sizeof(*h) ||
	    read_all(fd, h, sizeof(*h), 0) || !trace_header_good(h))
		return refuse(err, file,
			      "not a trace of this version of colod; record "
			      "it anew");
	if ((uint64_t)st.st_size != trace_bytes(h))
		return refuse(err, file,
			      "a trace that was cut off; record it anew");
	if (v->bytes >= trace_guest_bytes(h))
		return 0;
	mib = (trace_guest_bytes(h) + (1 << 20) - 1) >> 20;
	guest_error_set(err, "file=%s needs a guest with mem=%lluM or more",
			file, (unsigned long long)mib);
	return -EINVAL;
}

/* Of the copy in the memory, which no other can change any more. */
static bool content_good(const uint8_t *trace, const struct trace_header *h)
{
	const struct trace_entry *table =
		(const void *)(trace + trace_table_at());
	const uint64_t *changes = (const void *)(trace + trace_changes_at(h));

	if (memcmp(trace, h, sizeof(*h)))
		return false;
	for (uint32_t i = 0; i < h->entries; i++)
		if (table[i].live >= h->live ||
		    !trace_change_words(changes, h->words, table[i].at))
			return false;
	return true;
}

static int read_parts(int fd, const struct trace_header *h, uint8_t *trace,
		      uint8_t *live)
{
	int rc = read_all(fd, trace, trace_pages_at(h), 0);

	if (rc == 0)
		rc = read_all(fd, live, (uint64_t)h->live * WIRE_PAGE_BYTES,
			      trace_pages_at(h));
	return rc;
}

static int replay_load(struct workload_view *v, struct guest_error *err)
{
	const char *file = v->spec->file;
	struct trace_header h;
	AUTO_FD int fd = -1;
	uint64_t at;
	int rc;

	v->reg[TRACE] = 0;
	if (!file[0]) {
		guest_error_set(err, "a replay guest takes file=PATH, a trace "
				     "of what a program wrote");
		return -EINVAL;
	}
	/* Not to be held up by the other end of a pipe. */
	fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return refuse(err, file, strerror(errno));
	rc = check_file(fd, v, &h, err);
	if (rc < 0)
		return rc;
	at = v->bytes - trace_pages_at(&h);
	rc = read_parts(fd, &h, v->memory + at, v->memory + LIVE_AT);
	if (rc < 0 || !content_good(v->memory + at, &h)) {
		memset(v->memory + LIVE_AT, 0, v->bytes - LIVE_AT);
		return refuse(err, file,
			      rc < 0 ? strerror(-rc)
				     : "a spoilt trace; record it anew");
	}
	v->reg[TRACE] = at;
	return 0;
}

/* --- boot, step --------------------------------------------------------- */

static void replay_boot(struct workload_view *v)
{
	v->reg[PLACE] = v->reg[STEPS] = 0;
}

/* The trace in the memory, its header in *h; NULL: there is none. */
static const uint8_t *trace_of(const struct workload_view *v,
			       struct trace_header *h)
{
	uint64_t at = v->reg[TRACE];

	if (at < LIVE_AT || at % WIRE_PAGE_BYTES || at >= v->bytes)
		return NULL;
	memcpy(h, v->memory + at, sizeof(*h));
	if (!trace_header_good(h) || trace_pages_at(h) > v->bytes - at ||
	    (uint64_t)h->live * WIRE_PAGE_BYTES > at - LIVE_AT)
		return NULL;
	return v->memory + at;
}

static void apply(struct workload_view *v, const uint8_t *trace,
		  const struct trace_header *h, uint64_t entry)
{
	const uint64_t *changes = (const void *)(trace + trace_changes_at(h));
	struct trace_entry e;
	uint8_t *page;

	memcpy(&e, trace + trace_table_at() + entry * sizeof(e), sizeof(e));
	if (e.live >= h->live || !trace_change_words(changes, h->words, e.at))
		return;
	page = v->memory + LIVE_AT + (uint64_t)e.live * WIRE_PAGE_BYTES;
	trace_apply(changes + e.at, (uint64_t *)(void *)page);
}

static bool replay_step(struct workload_view *v)
{
	struct trace_header h;
	const uint8_t *trace = trace_of(v, &h);
	uint64_t all, place;

	if (!trace)
		return true;
	all = 2 * (uint64_t)h.entries;
	place = v->reg[PLACE] % all;
	apply(v, trace, &h, place < h.entries ? place : all - 1 - place);
	v->reg[PLACE] = (place + 1) % all;
	v->reg[STEPS]++;
	return true;
}

static uint32_t replay_rate(const struct embedded_spec *s)
{
	return s->rate ? s->rate : 1;
}

const struct workload workload_replay = {
	.load = replay_load,
	.boot = replay_boot,
	.step = replay_step,
	.rate = replay_rate,
};
