/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One workload: a secondary and a primary of an embedded guest on this machine,
 * and what the primary's epoch log says, for as long as was asked.
 *
 * The happy path:
 *   - the secondary listens, the primary starts the guest and protects it;
 *   - lines come; the first epochs are thrown away, the others kept until the
 *     time is over, and with them what the daemons took of the processors;
 *   - both are ended, the guest with the primary's process group.
 * Failure: the last line of the one that failed is said, for it tells why.
 */
#include "config.h"

#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/control.h"

enum {
	START_US = 30 * 1000 * 1000, /* patience for each side to be ready */
	LOOK_US = 20 * 1000,
	PORTS_TRIED = 5,
	PIPE_BYTES = 1024 * 1024,
	LINES_BYTES = 64 * 1024,
	/* A busy machine may hold a process up; that is no loss here. */
	HEARTBEAT_MS = 100,
	LOST_AFTER = 100,
	SAMPLES_MIN = 3,
};

struct pair {
	struct bench *b;
	struct bench_result *r;
	struct bench_process a, s;
	int lines; /* of the epoch log */
	uint16_t port;
	char text[LINES_BYTES];
	size_t used;
	/* What each side had taken when the first samples were there. */
	uint64_t cpu_us[BENCH_SIDES];
	size_t cpu_from; /* how many those were; 0: none yet */
};

static int fail(const struct pair *p, bool primary, const char *what)
{
	const char *who = primary ? "primary" : "secondary";
	int signal = primary ? p->a.killed_by : p->s.killed_by;

	if (signal)
		bench_error("the %s %s: signal %d (%s)", who, what, signal,
			    strsignal(signal));
	else
		bench_error(
			"the %s %s: %s", who, what,
			bench_dir_last_line(p->b, primary ? "a.log" : "b.log"));
	return -EIO;
}

/* Free a moment ago, which has to do. */
static int free_port(uint16_t *port)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(at);
	AUTO_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) ||
	    getsockname(fd, (struct sockaddr *)&at, &len))
		return -errno;
	*port = ntohs(at.sin_port);
	return 0;
}

struct words {
	char text[32][512];
	const char *at[33];
	unsigned int count;
};

static void word(struct words *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void word(struct words *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->text[w->count], sizeof(w->text[0]), fmt, ap);
	va_end(ap);
	w->at[w->count] = w->text[w->count];
	w->at[++w->count] = NULL;
}

static void common_words(const struct bench *b, struct words *w,
			 const char *role, const char *host)
{
	w->count = 0;
	word(w, "colod");
	word(w, "%s", role);
	word(w, "--run-dir=%s/%s", b->dir, host);
	word(w, "--ca=%s/certs/ca.crt", b->dir);
	word(w, "--cert=%s/certs/%s.crt", b->dir, host);
	word(w, "--key=%s/certs/%s.key", b->dir, host);
	word(w, "--congestion=%s", b->congestion);
	word(w, "--heartbeat=%d", HEARTBEAT_MS);
	word(w, "--lost-after=%d", LOST_AFTER);
}

static bool listens(const struct pair *p)
{
	struct control_reply reply[1];
	char dir[sizeof(p->b->dir) + 8];
	int n;

	snprintf(dir, sizeof(dir), "%s/b", p->b->dir);
	n = control_ask_all(dir, NULL, reply, 1, NULL);
	if (n == 1)
		json_decref(reply[0].status);
	return n == 1;
}

/* -EADDRINUSE: another took the port in between. */
static int try_secondary(struct pair *p)
{
	uint64_t until = clock_now_us() + START_US;
	char log[sizeof(p->b->dir) + 8];
	struct words w;
	struct bench_child child = bench_child_of(w.at, log);
	int err = free_port(&p->port);

	if (err) {
		bench_error("no port of 127.0.0.1: %s", strerror(-err));
		return err;
	}
	common_words(p->b, &w, "secondary", "b");
	word(&w, "--listen=127.0.0.1:%u", p->port);
	snprintf(log, sizeof(log), "%s/b.log", p->b->dir);
	unlink(log);
	child.cpu = p->b->cpu[BENCH_SECONDARY];
	err = bench_start(p->b, &child, &p->s);
	if (err)
		return fail(p, false, "does not start");
	while (!listens(p)) {
		if (p->b->interrupted)
			return -EINTR;
		if (bench_ended(&p->s)) {
			if (strstr(bench_dir_last_line(p->b, "b.log"),
				   "Address already in use"))
				return -EADDRINUSE;
			return fail(p, false, "has ended");
		}
		if (clock_now_us() > until)
			return fail(p, false, "is not up");
		bench_wait(p->b, -1, LOOK_US);
	}
	return 0;
}

static int start_secondary(struct pair *p)
{
	int err = -EADDRINUSE, tries;

	for (tries = 0; err == -EADDRINUSE && tries < PORTS_TRIED; tries++) {
		bench_end(&p->s);
		err = try_secondary(p);
	}
	if (err == -EADDRINUSE)
		return fail(p, false, "has no port");
	return err;
}

static int start_primary(struct pair *p)
{
	const struct bench_workload *load = &p->r->workload;
	char log[sizeof(p->b->dir) + 8], guest[BENCH_GUEST_BYTES];
	struct words w;
	struct bench_child child = bench_child_of(w.at, log);
	int fds[2], err;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	fcntl(fds[0], F_SETPIPE_SZ, PIPE_BYTES);
	p->lines = fds[0];
	common_words(p->b, &w, "primary", "a");
	word(&w, "--interval=%llu", (unsigned long long)load->interval_ms);
	word(&w, "--epoch-log=/dev/fd/3");
	bench_spec_guest(load, guest);
	word(&w, "%s", guest);
	word(&w, "127.0.0.1:%u", p->port);
	snprintf(log, sizeof(log), "%s/a.log", p->b->dir);
	unlink(log);
	child.fd = fds[1];
	child.cpu = p->b->cpu[BENCH_PRIMARY];
	err = bench_start(p->b, &child, &p->a);
	close(fds[1]);
	if (err)
		return fail(p, true, "does not start");
	return 0;
}

/*
 * Of the daemons' own processes: the guest, and on the other side its twin,
 * have one of their own each.  It belongs to the samples that came since the
 * first ones did.  A daemon that is no more is noticed elsewhere.
 */
static void look_at_cpu(struct pair *p)
{
	const struct bench_process *sides[] = { &p->a, &p->s };
	const struct bench_samples *s = &p->r->samples;
	struct bench_cpu cpu = { 0 };
	size_t i;

	if (!s->count)
		return;
	for (i = 0; i < BENCH_SIDES; i++)
		if (clock_process_us(sides[i]->pid, &cpu.us[i]))
			return;
	if (!p->cpu_from) {
		p->cpu_from = s->count;
		memcpy(p->cpu_us, cpu.us, sizeof(cpu.us));
	}
	for (i = 0; i < BENCH_SIDES; i++)
		cpu.us[i] -= p->cpu_us[i];
	for (i = p->cpu_from; i < s->count; i++)
		cpu.pages += s->at[i].figure[BENCH_dirty_pages];
	p->r->cpu = cpu;
}

static int take_lines(struct pair *p)
{
	size_t before = p->r->samples.count;
	char *from = p->text, *end;
	ssize_t n =
		read(p->lines, p->text + p->used, sizeof(p->text) - p->used);
	int err = 0;

	if (n <= 0)
		return 0; /* it has ended, which is seen elsewhere */
	p->used += (size_t)n;
	while (!err &&
	       (end = memchr(from, '\n', p->used - (size_t)(from - p->text)))) {
		err = bench_samples_line(&p->r->samples, from,
					 (size_t)(end - from));
		from = end + 1;
	}
	p->used -= (size_t)(from - p->text);
	memmove(p->text, from, p->used);
	if (p->r->samples.count > before)
		look_at_cpu(p);
	if (err)
		bench_error("the epoch log: %s", strerror(-err));
	return err;
}

static void show(const struct pair *p, uint64_t since_us)
{
	uint64_t total = p->b->set->seconds * 1000000;
	const struct bench_samples *s = &p->r->samples;

	if (since_us > total)
		since_us = total;
	bench_progress(p->b, (unsigned int)(since_us * 100 / total),
		       "%s: %zu epochs%s", p->r->workload.spec, s->count,
		       s->warm_us    ? ""
		       : s->first_us ? ", warming up"
				     : ", starting");
}

/* Until there are samples of as many seconds as were asked for. */
static int collect(struct pair *p)
{
	uint64_t total_us = p->b->set->seconds * 1000000, now;
	const struct bench_samples *s = &p->r->samples;
	uint64_t until =
		clock_now_us() + START_US + BENCH_WARM_MAX_US + total_us;
	uint64_t warm_us = 0; /* when that was seen */
	int err = 0;

	while (!err) {
		now = clock_now_us();
		if (!warm_us && s->count)
			warm_us = now;
		if (warm_us && now >= warm_us + total_us &&
		    s->count >= SAMPLES_MIN)
			return 0;
		show(p, warm_us ? now - warm_us : 0);
		if (bench_wait(p->b, p->lines, LOOK_US))
			err = take_lines(p);
		if (p->b->interrupted)
			err = -EINTR;
		else if (!err && bench_ended(&p->a))
			err = fail(p, true, "has ended");
		else if (!err && bench_ended(&p->s))
			err = fail(p, false, "has ended");
		else if (!err && now > until + 3 * p->r->workload.interval_ms *
							 1000 * SAMPLES_MIN)
			err = fail(p, true, "does not get on");
	}
	return err;
}

int bench_pair_run(struct bench *b, struct bench_result *r)
{
	struct pair *p = calloc(1, sizeof(*p));
	int err;

	if (!p)
		return -ENOMEM;
	p->b = b;
	p->r = r;
	p->lines = -1;
	r->samples.warm_pages = r->workload.warm_pages;
	bench_progress(b, 0, "%s: starting", r->workload.spec);
	err = start_secondary(p);
	if (!err)
		err = start_primary(p);
	if (!err)
		err = collect(p);
	bench_end(&p->a);
	bench_end(&p->s);
	if (p->lines >= 0)
		close(p->lines);
	free(p);
	return err;
}
