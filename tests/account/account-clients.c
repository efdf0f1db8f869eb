/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of an account server that must forget nothing it has promised.
 *
 * Happy path: connect, pay, keep every acknowledgement; at the end wait for
 * what is still open, read the whole chain and compare it with what was told.
 * The ledger's host may die as often as it likes in between.
 *
 * Exit status 0: each acknowledged payment is in the chain exactly once, at its
 * place and with its hash, the chain verifies, the disk agrees where --disk
 * asks for it, and something was acknowledged at all.  1: not so; the first of
 * each fault are named.  2: usage.
 *
 * One thread; everything but the last reading is driven by one poll().
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "tests/account/client.h"
#include "tests/account/options.h"
#include "tests/account/report.h"

enum { TICK_MS = 5 };

struct run {
	const struct options *o;
	struct clients all;
	struct client *clients;
	struct pollfd *polled; /* the last one: standard input */
	uint64_t begun_us;
	uint64_t made;	/* since begun_us */
	uint64_t total; /* ever */
	uint32_t turn;	/* who may pay first */
	char command[64];
	size_t command_len;
	bool over;
};

static volatile sig_atomic_t signalled;

static void on_signal(int signo)
{
	(void)signo;
	signalled = 1;
}

/* --- commands ------------------------------------------------------------ */

static uint64_t open_payments(const struct run *r)
{
	uint64_t n = 0, i;

	for (i = 0; i < r->o->clients; i++)
		n += client_open_payments(&r->clients[i]);
	return n;
}

static void say_status(const struct run *r, uint64_t now_us)
{
	const struct outages *o = &r->all.outages;

	printf("acknowledged %" PRIu64 " open %" PRIu64 " refused %" PRIu64
	       " silent_ms %" PRIu64 " longest_ms %" PRIu64 "\n",
	       r->all.record->acknowledged, open_payments(r), r->all.refused,
	       (o->last_us ? now_us - o->last_us : 0) / 1000,
	       o->longest_since_mark_us / 1000);
	fflush(stdout);
}

static void obey(struct run *r, const char *word, uint64_t now_us)
{
	if (!strcmp(word, "status"))
		say_status(r, now_us);
	else if (!strcmp(word, "mark"))
		r->all.outages.longest_since_mark_us = 0;
	else if (!strcmp(word, "verify"))
		r->over = true;
	else
		fprintf(stderr, "account-clients: no command '%s'\n", word);
}

static void read_commands(struct run *r, uint64_t now_us)
{
	char *lf;
	ssize_t n = read(STDIN_FILENO, r->command + r->command_len,
			 sizeof(r->command) - r->command_len);

	if (n <= 0) {
		r->over = !(n < 0 && errno == EINTR);
		return;
	}
	r->command_len += (size_t)n;
	while ((lf = memchr(r->command, '\n', r->command_len))) {
		*lf = '\0';
		obey(r, r->command, now_us);
		r->command_len -= (size_t)(lf + 1 - r->command);
		memmove(r->command, lf + 1, r->command_len);
	}
}

/* --- the loop ------------------------------------------------------------ */

/* How many payments the rate allows to have been made by now. */
static uint64_t allowed(const struct run *r, uint64_t now_us)
{
	if (!r->o->rate)
		return UINT64_MAX;
	return (now_us - r->begun_us) * r->o->rate / 1000000 + 1;
}

/* All in turn, so that a rate is shared by all of them. */
static void pay(struct run *r, uint64_t now_us)
{
	uint64_t limit = allowed(r, now_us), idle = 0;

	/* What could not be paid in an outage is not made up for. */
	if (limit != UINT64_MAX && limit > r->made + r->o->rate / 10 + 1) {
		r->begun_us = now_us;
		r->made = 0;
		limit = 1;
	}
	while (!r->over && r->made < limit && idle < r->o->clients) {
		struct client *c = &r->clients[r->turn];

		r->turn = (r->turn + 1) % (uint32_t)r->o->clients;
		if (!client_has_room(c)) {
			idle++;
			continue;
		}
		client_pay(c, now_us);
		r->made++;
		r->over = ++r->total == r->o->count;
		idle = 0;
	}
}

static void turn(struct run *r)
{
	uint64_t n = r->o->clients, i, now_us;
	struct pollfd *input = &r->polled[n];

	for (i = 0; i < n; i++) {
		struct client *c = &r->clients[i];

		r->polled[i].fd = c->fd;
		r->polled[i].events = client_wants(c);
		r->polled[i].revents = 0;
	}
	input->fd = r->o->control && !r->over ? STDIN_FILENO : -1;
	input->events = POLLIN;
	input->revents = 0;
	if (poll(r->polled, n + 1, TICK_MS) < 0)
		return; /* a signal */
	now_us = clock_now_us();
	for (i = 0; i < n; i++)
		client_ready(&r->clients[i], r->polled[i].revents, now_us);
	for (i = 0; i < n; i++)
		client_tick(&r->clients[i], now_us);
	if (input->revents)
		read_commands(r, now_us);
	if (r->all.file)
		fflush(r->all.file);
}

static void run(struct run *r)
{
	uint64_t end_us, i, now_us = clock_now_us();

	r->all.pipeline = (uint32_t)r->o->pipeline;
	r->begun_us = now_us;
	end_us = r->o->for_s ? now_us + r->o->for_s * 1000000 : UINT64_MAX;
	while (!signalled && !r->over && now_us < end_us &&
	       (r->o->control || r->all.refused < r->o->clients)) {
		turn(r);
		now_us = clock_now_us();
		pay(r, now_us);
	}
	r->over = true;
	end_us = now_us + r->o->drain_ms * 1000;
	while (open_payments(r) && clock_now_us() < end_us)
		turn(r);
	for (i = 0; i < r->o->clients; i++)
		client_close(&r->clients[i], 0);
}

/* --- beginning and end --------------------------------------------------- */

static int prepare(struct run *r)
{
	const struct options *o = r->o;
	struct sigaction act = { .sa_handler = on_signal };
	uint32_t i;

	r->all.ledger = o->ledger;
	r->all.patience_us = o->patience_ms * 1000;
	r->all.random = o->seed;
	r->all.record =
		record_new((uint32_t)o->first_client, (uint32_t)o->clients);
	r->clients = calloc(o->clients, sizeof(*r->clients));
	r->polled = calloc(o->clients + 1, sizeof(*r->polled));
	if (!r->all.record || !r->clients || !r->polled) {
		fprintf(stderr, "account-clients: no memory\n");
		return -ENOMEM;
	}
	if (o->record) {
		r->all.file = fopen(o->record, "a");
		if (!r->all.file) {
			fprintf(stderr,
				"account-clients: cannot write %s: %s\n",
				o->record, strerror(errno));
			return -EIO;
		}
	}
	for (i = 0; i < o->clients; i++)
		client_init(&r->clients[i], &r->all,
			    (uint32_t)o->first_client + i);
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	return 0;
}

static bool conclude(struct run *r)
{
	struct verdict v;
	int err = verify(&r->o->ledger, r->all.record, r->o->disk,
			 r->o->drain_ms * 1000, &v, stderr);

	if (r->o->verbose)
		report_outages(stderr, &r->all.outages);
	if (r->o->json)
		report_json(stdout, &r->all, &v, err);
	else
		report_text(stdout, &r->all, &v, err);
	return report_good(&r->all, &v, err) && !fflush(stdout);
}

/* An exit status: 0 where the disk agrees with the ledger's memory. */
static int check(const struct options *o)
{
	char line[LINE_BYTES];
	int err = verify_disk(&o->ledger, o->drain_ms * 1000, line);

	puts(err ? "the ledger does not answer" : line);
	return err || strncmp(line, "DISK ", 5);
}

int main(int argc, char **argv)
{
	struct options o;
	struct run *r;
	int status = options_parse(argc, argv, &o);

	if (status)
		return status < 0 ? 0 : status;
	if (o.check)
		return check(&o);
	r = calloc(1, sizeof(*r));
	if (!r)
		return 1;
	r->o = &o;
	status = 1;
	if (!prepare(r)) {
		run(r);
		status = conclude(r) ? 0 : 1;
	}
	if (r->all.file)
		fclose(r->all.file);
	record_free(r->all.record);
	free(r->clients);
	free(r->polled);
	free(r);
	return status;
}
