/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The traces of the programs that the workloads ask for, recorded once, before
 * anything is measured.
 *
 * The happy path: the program is started and filled with data; it works for an
 * interval, is looked at, works, is looked at, and so on; it is ended, and the
 * trace is a file of the bench's folder.
 * A program that is not installed: its workloads are left out, with a line.
 * Failure of one that is: a line, and the bench ends.
 */
#include "config.h"

#include "bench/programs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "bench/record.h"

enum {
	INTERVALS = 32,
	/* Orders are said in groups this far apart, as by many clients. */
	GROUP_US = 5 * 1000,
	SEED = 7475,
};

static const struct program_kind *const kinds[] = { &program_redis,
						    &program_sqlite };

static const struct program_kind *kind_of(const struct bench_workload *w)
{
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(w->pattern, kinds[i]->pattern))
			return kinds[i];
	return NULL;
}

int program_fails(struct program *p, const char *what)
{
	const char *file = strrchr(p->log, '/') + 1;

	bench_error("%s %s: %s", p->kind->executable, what,
		    bench_dir_last_line(p->b, file));
	return -EIO;
}

/* False: it is not installed. */
static bool find(const char *executable, char path[BENCH_PATH_BYTES])
{
	const char *at = getenv("PATH");
	size_t n;

	for (; at && *at; at += n + (at[n] == ':')) {
		n = strcspn(at, ":");
		if (n + strlen(executable) + 2 > BENCH_PATH_BYTES)
			continue;
		snprintf(path, BENCH_PATH_BYTES, "%.*s/%s", (int)n, at,
			 executable);
		if (n && !access(path, X_OK))
			return true;
	}
	return false;
}

/* --- one recording -------------------------------------------------------- */

/* An interval's orders, at their pace. */
static int work(struct program *p)
{
	unsigned int group = p->kind->rate / (1000000 / GROUP_US), done = 0, n;
	uint64_t began = clock_now_us(), due;
	int err = 0;

	while (done < p->kind->orders && !err) {
		n = p->kind->orders - done;
		n = n < group ? n : group;
		err = p->kind->work(p, n);
		done += n;
		due = began + (uint64_t)done * 1000000 / p->kind->rate;
		while (!err && clock_now_us() < due) {
			bench_wait(p->b, -1, due - clock_now_us());
			if (p->b->interrupted)
				err = -EINTR;
		}
	}
	return err;
}

/* The first interval, before the first look, makes it warm. */
static int record(struct program *p, struct recorder *r)
{
	int err = p->kind->fill(p), i;

	for (i = 0; i <= INTERVALS && !err && !recorder_full(r); i++) {
		bench_progress(p->b, 0, "recording what %s writes",
			       p->kind->executable);
		err = work(p);
		if (!err)
			err = recorder_look(r, &p->process);
	}
	return err;
}

static void hang_up(struct program *p)
{
	if (p->to >= 0)
		close(p->to);
	if (p->from >= 0 && p->from != p->to)
		close(p->from);
	bench_end(&p->process);
}

static int run(struct bench *b, const struct program_kind *kind,
	       const char *path, struct recorder *r)
{
	AUTO_FREE struct program *p = calloc(1, sizeof(*p));
	int err;

	if (!p)
		return -ENOMEM;
	p->b = b;
	p->kind = kind;
	p->path = path;
	p->to = p->from = -1;
	p->random = SEED;
	snprintf(p->log, sizeof(p->log), "%s/%s.log", b->dir, kind->pattern);
	bench_progress(b, 0, "starting %s", kind->executable);
	err = kind->start(p);
	if (!err)
		err = record(p, r);
	hang_up(p);
	return err;
}

/* -ENOPKG, without a line: it is not installed. */
static int make_trace(struct bench *b, const struct program_kind *kind,
		      struct bench_trace *t)
{
	char path[BENCH_PATH_BYTES];
	struct recorder *r = NULL;
	struct trace_header h;
	int err;

	if (!find(kind->executable, path))
		return -ENOPKG;
	snprintf(t->file, sizeof(t->file), "%s/%s.trace", b->dir,
		 kind->pattern);
	err = recorder_open(t->file, &r);
	if (!err)
		err = run(b, kind, path, r);
	if (!err)
		err = recorder_finish(r, &h);
	if (!err) {
		t->live = h.live;
		t->entries = h.entries;
		t->needs_mib = (trace_guest_bytes(&h) + (1 << 20) - 1) >> 20;
	}
	recorder_close(r);
	return err;
}

/* --- all of them ---------------------------------------------------------- */

static void leave_out(struct bench *b, const struct program_kind *kind,
		      size_t i)
{
	bench_error("%s is left out: install %s to have it measured",
		    b->results[i].workload.spec, kind->executable);
	b->left_out[b->left_out_count++] = b->results[i].workload;
	b->count--;
	memmove(&b->results[i], &b->results[i + 1],
		(b->count - i) * sizeof(b->results[0]));
	memset(&b->results[b->count], 0, sizeof(b->results[0]));
}

int bench_programs(struct bench *b)
{
	struct bench_trace traces[sizeof(kinds) / sizeof(kinds[0])] = { 0 };
	size_t i = 0, k;

	while (i < b->count) {
		struct bench_workload *w = &b->results[i].workload;
		const struct program_kind *kind = kind_of(w);
		int err = 0;

		for (k = 0; kind && kinds[k] != kind; k++)
			;
		if (kind && !traces[k].live)
			err = make_trace(b, kind, &traces[k]);
		if (err == -ENOPKG) {
			leave_out(b, kind, i);
			continue;
		}
		if (err)
			return err;
		if (kind)
			bench_spec_trace(w, &traces[k]);
		i++;
	}
	if (b->count)
		return 0;
	bench_error("nothing is left to be measured");
	return -ENOPKG;
}
