/* SPDX-License-Identifier: Apache-2.0 */
/* `colod bench`: what a checkpoint costs on this machine. */
#include "config.h"

#include "engine/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "engine/env.h"

/*
 * Opened before anything is measured, so that a minute is not wasted on a file
 * that cannot be written.  *made: it was not there before.
 */
static FILE *open_plot(const char *path, bool *made)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

	*made = fd >= 0;
	if (fd < 0 && errno == EEXIST)
		fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? NULL : fdopen(fd, "w");
}

static int write_plot(const struct bench *b, FILE *f)
{
	int err = ftruncate(fileno(f), 0) && errno != EINVAL ? -errno : 0;

	if (!err) {
		bench_plot(b, f);
		if (fflush(f) || ferror(f))
			err = errno ? -errno : -EIO;
	}
	return err;
}

static int tell(const struct bench *b, FILE *plot)
{
	int err;

	if (plot) {
		err = write_plot(b, plot);
		if (err) {
			bench_error("cannot write %s: %s", b->set->plot,
				    strerror(-err));
			return err;
		}
	}
	err = 0;
	if (b->set->json)
		err = bench_json(b, stdout);
	else
		bench_table(b, stdout);
	if (fflush(stdout) || ferror(stdout))
		err = errno ? -errno : -EIO;
	if (err)
		bench_error("cannot write the result: %s", strerror(-err));
	return err;
}

static int choose_workloads(struct bench *b, const struct settings *set)
{
	struct bench_workload loads[BENCH_WORKLOADS_MAX];
	const char *text =
		set->workload ? set->workload : bench_workloads_default;
	char why[256];
	int n;

	if (set->suite && set->workload) {
		bench_error("--suite is a list of workloads already; leave out "
			    "--workload");
		return -EINVAL;
	}
	if (set->suite)
		text = bench_suite(set->suite);
	if (!text) {
		bench_error("there is no suite '%s' (standard, scale)",
			    set->suite);
		return -EINVAL;
	}
	n = bench_spec_parse(text, loads, why);
	if (n < 0) {
		bench_error("--workload: %s", why);
		return n;
	}
	for (b->count = 0; b->count < (size_t)n; b->count++) {
		if (set->suite)
			bench_spec_settle(&loads[b->count]);
		b->results[b->count].workload = loads[b->count];
	}
	b->runs = set->runs    ? (unsigned int)set->runs
		  : set->suite ? BENCH_SUITE_RUNS
			       : 1;
	return 0;
}

static int prepare(struct bench *b, const struct settings *set)
{
	const char *wanted = set->congestion;
	int err;

	b->set = set;
	bench_cpus(b->cpu);
	if (getloadavg(&b->load, 1) != 1)
		b->load = 0;
	err = choose_workloads(b, set);
	if (err)
		return err;
	err = congestion_check(wanted ? wanted : "cubic", b->congestion);
	if (err && !wanted)
		err = congestion_check(NULL, b->congestion);
	if (err)
		bench_error("--congestion=%s: %s; see /proc/sys/net/ipv4/"
			    "tcp_available_congestion_control",
			    wanted ? wanted : "", strerror(-err));
	return err;
}

static int measure(struct bench *b)
{
	int err = bench_signals(b);

	if (err) {
		bench_error("signals: %s", strerror(-err));
		return err;
	}
	err = bench_dir_make(b);
	if (!err)
		err = bench_run(b);
	bench_dir_remove(b);
	bench_signals_restore(b);
	if (b->interrupted) {
		err = -EINTR;
		bench_error("ended by signal %d (%s), nothing is left",
			    b->interrupted, strsignal(b->interrupted));
	} else if (err == -ENOMEM) {
		bench_error("no memory");
	}
	return err;
}

int command_bench(const struct settings *set, int argc, char **argv)
{
	struct bench *b = calloc(1, sizeof(*b));
	FILE *plot = NULL;
	bool made = false;
	int err;
	size_t i;

	(void)argc;
	(void)argv;
	if (!b)
		return EXIT_FAILED;
	if (prepare(b, set)) {
		free(b);
		return EXIT_USAGE;
	}
	if (set->plot)
		plot = open_plot(set->plot, &made);
	if (set->plot && !plot) {
		bench_error("cannot write %s: %s", set->plot, strerror(errno));
		free(b);
		return EXIT_FAILED;
	}
	err = measure(b);
	if (!err)
		err = tell(b, plot);
	if (plot)
		fclose(plot);
	if (err && made)
		unlink(set->plot);
	for (i = 0; i < b->count; i++)
		bench_samples_fini(&b->results[i].samples);
	free(b);
	return err ? EXIT_FAILED : EXIT_ENDED;
}
