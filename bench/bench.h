/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `colod bench`: what a checkpoint costs on this machine.
 *
 * A client of the ordinary product: where a workload is what a program writes,
 * it first records that program (programs.c, record.c).  Then, for each
 * workload, it runs a secondary and a primary of an embedded guest as processes
 * of their own (pair.c), reads the primary's epoch log (samples.c), and then
 * measures the two limits for as many pages as the workload really had (copy.c,
 * wire.c), in helper processes (process.c), when nothing else of it runs; and
 * all of that again, as often as was asked for (run.c, runs.c).
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

enum {
	BENCH_SPEC_BYTES = 128,
	BENCH_WORKLOADS_MAX = 32,
	BENCH_PATH_BYTES = 288, /* of a file in the bench's folder */
};

/* What was recorded of a program (resume/embedded/trace.h). */
struct bench_trace {
	char file[BENCH_PATH_BYTES];
	uint64_t live;	  /* pages; 0: nothing yet */
	uint64_t entries; /* versions of them */
	uint64_t needs_mib;
};

struct bench_workload {
	char spec[BENCH_SPEC_BYTES]; /* as it was typed */
	char pattern[16];	     /* random, hot, sequential; a program */
	uint64_t pages;		     /* written between two checkpoints */
	uint64_t interval_ms;
	uint64_t mem_mib;
	uint64_t span_mib; /* of it that is written; 0: all */
	uint64_t words;	   /* changed in a page */
	uint64_t whole;	   /* per cent of the writes: all of the page */
	const char *fill;  /* by what; "": by what the program wrote */
	uint64_t vcpus;
	bool program;	     /* its pages are those of a program */
	uint64_t warm_pages; /* written before anything counts, at least */
	struct bench_trace trace;
};

extern const char bench_workloads_default[];
/* The workloads of a suite, or NULL. */
const char *bench_suite(const char *name);
enum { BENCH_SUITE_RUNS = 5, BENCH_RUNS_MAX = 25 };

/*
 * SPEC[;SPEC...], a SPEC being PATTERN[,KEY=VALUE...].  Returns how many, or
 * -EINVAL with one line in why[256].
 */
int bench_spec_parse(const char *text,
		     struct bench_workload out[BENCH_WORKLOADS_MAX], char *why);
/* Page writes a second. */
uint64_t bench_spec_rate(const struct bench_workload *w);
/* Nothing counts until about every page of it has been sent. */
void bench_spec_settle(struct bench_workload *w);
/*
 * That its program was recorded: its guest has room for the trace, and all of
 * it is written before anything counts.
 */
void bench_spec_trace(struct bench_workload *w, const struct bench_trace *t);
/* How many pages of the guest are written at all. */
uint64_t bench_spec_written_pages(const struct bench_workload *w);
/* The guest that writes like this, as `colod primary` takes it. */
enum { BENCH_GUEST_BYTES = 512 };
void bench_spec_guest(const struct bench_workload *w,
		      char words[BENCH_GUEST_BYTES]);

/* --- figures of an epoch: samples.c -------------------------------- */

/* member of the epoch log, words for people; in the order of an epoch */
#define BENCH_FIGURES(X)              \
	X(ahead_us, "ahead")          \
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

enum { BENCH_WARM_MAX_US = 10 * 1000 * 1000 };

struct bench_samples {
	struct bench_sample *at;
	size_t count;
	size_t room;
	unsigned int skipped;
	unsigned int aborted;
	/* The first epochs are thrown away. */
	uint64_t warm_pages;	/* that are in them, if that is not too long */
	unsigned int warming;	/* how many epochs so far */
	uint64_t warming_pages; /* and pages */
	uint64_t first_us;	/* when the first one began; 0: none yet */
	uint64_t warm_us;	/* when the first that counts began; 0: none */
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

/* The two daemons, and the two ends of a limit. */
enum bench_side { BENCH_PRIMARY, BENCH_SECONDARY, BENCH_SIDES };

/* What the daemons' threads took, without the guest's process. */
struct bench_cpu {
	uint64_t pages; /* of the epochs in which they did */
	uint64_t us[BENCH_SIDES];
};

/* name, member of the JSON */
#define BENCH_RATIOS(X)                    \
	X(pause_to_copy, "pause_to_copy")  \
	X(commit_to_wire, "commit_to_tls") \
	X(sent_to_raw, "sent_to_raw")      \
	X(cpu_to_copy, "cpu_to_copy")

struct bench_ratios {
#define X(name, member) double name;
	BENCH_RATIOS(X)
#undef X
};

struct bench_result {
	struct bench_workload workload;
	struct bench_samples samples;
	struct bench_summary summary[BENCH_FIGURE_COUNT];
	struct bench_limits limits;
	struct bench_cpu cpu;
	struct bench_ratios ratios;
	unsigned int runs;		       /* that it was made of */
	struct bench_ratios smallest, largest; /* of those */
};

/* Of one run: summaries of the samples, at least one.  -ENOMEM. */
int bench_result_summarize(struct bench_result *r);
/* Once the limits are there too. */
void bench_result_ratios(struct bench_result *r);
/* Microseconds of both sides a page. */
double bench_result_cpu_us(const struct bench_result *r);

/*
 * Of several runs of one workload, which lose their samples to it: the median
 * of each figure, limit and ratio.  -ENOMEM.
 */
int bench_result_of_runs(struct bench_result *r, struct bench_result *runs,
			 unsigned int count);

/* --- the run -------------------------------------------------------------- */

struct bench {
	const struct settings *set;
	char congestion[CONGESTION_NAME_BYTES];
	int signal_fd;
	sigset_t signals_before; /* the children's */
	int interrupted;	 /* the signal that was, or 0 */
	double load;		 /* of the machine, when it began */
	int cpu[BENCH_SIDES];	 /* that a side is bound to; -1: to none */
	char dir[256];		 /* "": none */
	struct bench_result results[BENCH_WORKLOADS_MAX];
	size_t count;
	struct bench_workload left_out[BENCH_WORKLOADS_MAX];
	size_t left_out_count;
	unsigned int runs; /* of each workload */
	size_t done;	   /* results; 0 until all runs are over */
	size_t steps;	   /* runs of a workload that are over */
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

/* What is started; -1 for each descriptor, and the processor, that is not. */
struct bench_child {
	const char *program; /* a path; NULL: this program again */
	const char *const *words;
	const char *log; /* what it says, but for `out` */
	int in, out;	 /* its standard ones; else nothing, and the log */
	int fd;		 /* descriptor 3 */
	int cpu;	 /* that it and all it starts are bound to */
};

static inline struct bench_child bench_child_of(const char *const *words,
						const char *log)
{
	return (struct bench_child){ NULL, words, log, -1, -1, -1, -1 };
}

int bench_start(struct bench *b, const struct bench_child *child,
		struct bench_process *p);
/* fn(arg, out) in a process of its own that writes out[count] there. */
int bench_call(struct bench *b, int (*fn)(void *arg, double *out), void *arg,
	       double *out, size_t count);
/* It has ended; not waited for. */
bool bench_ended(struct bench_process *p);
/* SIGTERM, then SIGKILL to it and all that it started. */
void bench_end(struct bench_process *p);

/* cpus.c: the processors of the two sides, or -1 for both. */
void bench_cpus(int cpu[BENCH_SIDES]);
/* The calling thread to this processor; -1: to none. */
void bench_pin(int cpu);

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

/*
 * programs.c: the traces of all workloads that need one; those whose program is
 * not installed are left out, with a line for each.
 */
int bench_programs(struct bench *b);

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
