/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `colod bench`: what a checkpoint costs on this machine.
 *
 * A client of the ordinary product: for each workload it runs a secondary and a
 * primary of an embedded guest as processes of their own (pair.c), reads
 * the primary's epoch log (samples.c), and then measures the two limits
 * for as many pages as the workload really had (copy.c, wire.c), in
 * helper processes (process.c), when nothing else of it runs.
 *
 * One thread.  Whatever way it ends, but for SIGKILL: no process and no file is
 * left.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "engine/options.h"
#include "net/congestion.h"

/* --- workloads: spec.c --------------------------------------------- */

enum { BENCH_SPEC_BYTES = 128, BENCH_WORKLOADS_MAX = 32 };

struct bench_workload {
	char spec[BENCH_SPEC_BYTES]; /* as it was typed */
	char pattern[16];	     /* random, hot, sequential */
	uint64_t pages;		     /* written between two checkpoints */
	uint64_t interval_ms;
	uint64_t mem_mib;
	uint64_t words; /* changed in a page */
	uint64_t whole; /* per cent of the writes: all of the page */
	uint64_t vcpus;
};

extern const char bench_workloads_default[];

/*
 * SPEC[;SPEC...], a SPEC being PATTERN[,KEY=VALUE...].  Returns how many, or
 * -EINVAL with one line in why[256].
 */
int bench_spec_parse(const char *text,
		     struct bench_workload out[BENCH_WORKLOADS_MAX], char *why);
/* Page writes a second. */
uint64_t bench_spec_rate(const struct bench_workload *w);
/* The guest that writes like this, as `colod primary` takes it. */
enum { BENCH_GUEST_BYTES = 256 };
void bench_spec_guest(const struct bench_workload *w,
		      char words[BENCH_GUEST_BYTES]);

/* --- figures of an epoch: samples.c -------------------------------- */

/* member of the epoch log, words for people; in the order of an epoch */
#define BENCH_FIGURES(X)              \
	X(ahead_us, "copy ahead")     \
	X(suspend_us, "suspend")      \
	X(scan_us, "scan")            \
	X(copy_us, "copy")            \
	X(state_us, "state")          \
	X(resume_us, "resume")        \
	X(paused_us, "pause")         \
	X(encode_us, "encode")        \
	X(send_us, "send")            \
	X(ack_us, "acknowledge")      \
	X(commit_us, "whole epoch")   \
	X(dirty_pages, "dirty pages") \
	X(raw_bytes, "raw bytes")     \
	X(sent_bytes, "sent bytes")   \
	X(pause_unscanned_us, "pause less scan")

enum bench_figure {
#define X(name, words) BENCH_##name,
	BENCH_FIGURES(X)
#undef X
		BENCH_FIGURE_COUNT
};

extern const char *const bench_figure_names[BENCH_FIGURE_COUNT];
extern const char *const bench_figure_words[BENCH_FIGURE_COUNT];

struct bench_sample {
	uint64_t figure[BENCH_FIGURE_COUNT];
};

struct bench_samples {
	struct bench_sample *at;
	size_t count;
	size_t room;
	unsigned int skipped;
	unsigned int aborted;
	/* The first epochs are thrown away. */
	unsigned int warming; /* how many so far */
	uint64_t first_us;    /* when the first one began; 0: none yet */
	uint64_t warm_us;     /* when the first that counts began; 0: none */
};

/* One line of an epoch log: 0, -EBADMSG, -ENOMEM. */
int bench_samples_line(struct bench_samples *s, const char *line, size_t len);
void bench_samples_fini(struct bench_samples *s);

/* --- statistics: stats.c ------------------------------------------- */

#define BENCH_QUANTILES(X) \
	X(min, 0) X(p50, 50) X(p90, 90) X(p99, 99) X(max, 100)

struct bench_summary {
#define X(name, percent) uint64_t name;
	BENCH_QUANTILES(X)
#undef X
};

/* Of `count` > 0 values, which it sorts: nearest rank. */
void bench_summarize(uint64_t *values, size_t count, struct bench_summary *out);
/*
 * Of what a limit took again and again: the tenth percentile.  What else runs
 * on the machine makes it slower, never faster, and a limit that is measured
 * too slow would flatter.
 */
double bench_limit_of(double *values, size_t count);

struct bench_limits {
	uint64_t pages; /* that they were measured with */
	double copy_us;
	double wire_us;
	double round_trip_us;
};

struct bench_ratios {
	double pause_to_copy;
	double commit_to_wire;
	double sent_to_raw;
};

struct bench_result {
	struct bench_workload workload;
	struct bench_samples samples;
	struct bench_summary summary[BENCH_FIGURE_COUNT];
	struct bench_limits limits;
	struct bench_ratios ratios;
};

/* Summaries of the samples, at least one. -ENOMEM. */
int bench_result_summarize(struct bench_result *r);
/* Once the limits are there too. */
void bench_result_ratios(struct bench_result *r);

/* --- the run -------------------------------------------------------------- */

struct bench {
	const struct settings *set;
	char congestion[CONGESTION_NAME_BYTES];
	int signal_fd;
	sigset_t signals_before; /* the children's */
	int interrupted;	 /* the signal that was, or 0 */
	double load;		 /* of the machine, when it began */
	char dir[256];		 /* "": none */
	struct bench_result results[BENCH_WORKLOADS_MAX];
	size_t count;
	size_t done;
};

/* process.c */

struct bench_process {
	pid_t pid; /* 0: none; a process group of its own */
	bool ended;
	int killed_by; /* a signal; 0: it ended by itself */
};

/*
 * Blocks the signals that end the bench, from now on taken by bench_wait().
 */
int bench_signals(struct bench *b);
/* They end it by themselves again; not so after one that has. */
void bench_signals_restore(struct bench *b);
/*
 * Waits until `fd` (-1: none) is readable, a signal came or `us` have passed.
 * True where there is something to read.  Look at b->interrupted.
 */
bool bench_wait(struct bench *b, int fd, uint64_t us);

/*
 * This program again, with these words; what it says goes to `log`, and
 * descriptor 3 is `fd` where that is not -1.
 */
int bench_start(struct bench *b, const char *const *words, const char *log,
		int fd, struct bench_process *p);
/* fn(arg, out) in a process of its own that writes out[count] there. */
int bench_call(struct bench *b, int (*fn)(void *arg, double *out), void *arg,
	       double *out, size_t count);
/* It has ended; not waited for. */
bool bench_ended(struct bench_process *p);
/* SIGTERM, then SIGKILL to it and all that it started. */
void bench_end(struct bench_process *p);

/* dir.c: the temporary folder. */
int bench_dir_make(struct bench *b);
void bench_dir_remove(struct bench *b);
/* Of a file of the folder: static for the line that is said with it. */
const char *bench_dir_last_line(const struct bench *b, const char *file);

/* pair.c: samples of one workload; one line where it fails. */
int bench_pair_run(struct bench *b, struct bench_result *r);

/* copy.c, wire.c: the limits; one line where they fail. */
int bench_copy_limit(struct bench *b, struct bench_result *r);
int bench_wire_limit(struct bench *b, struct bench_result *r);

/* run.c: all of it. */
int bench_run(struct bench *b);
/* On a terminal one line that stays, else a line now and then. */
void bench_progress(const struct bench *b, unsigned int percent,
		    const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* "colod bench: " and a line on standard error, in place of the progress. */
void bench_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* --- what comes of it ------------------------------------------------------
 */

/* table.c */
void bench_table(const struct bench *b, FILE *out);
/* json.c: -ENOMEM; errors of `out` are the caller's to see. */
int bench_json(const struct bench *b, FILE *out);
/* plot.c */
void bench_plot(const struct bench *b, FILE *out);

#endif
