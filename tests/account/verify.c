/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/account/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "tests/account/words.h"

enum { BLOCK = 1000, RETRY_US = 20000 };

struct reader {
	const struct sockaddr_in *ledger;
	const struct record *record;
	struct verdict *v;
	FILE *out;
	uint64_t patience_us;
	uint64_t heard_us;
	FILE *in; /* the connection, or NULL */
	enum { CHAIN, SUM, DISK, READ } stage;
};

static void fault(struct reader *r, uint64_t *count, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void fault(struct reader *r, uint64_t *count, const char *fmt, ...)
{
	va_list ap;

	if ((*count)++ >= FAULTS_NAMED)
		return;
	va_start(ap, fmt);
	vfprintf(r->out, fmt, ap);
	va_end(ap);
	fputc('\n', r->out);
}

/* --- the connection ------------------------------------------------------ */

static void hang_up(struct reader *r)
{
	if (r->in)
		fclose(r->in);
	r->in = NULL;
}

static void connects(struct reader *r)
{
	AUTO_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* A host that stands still takes connections and answers none. */
	uint64_t limit_us = r->patience_us / 4;
	struct timeval limit = {
		.tv_sec = (time_t)(limit_us / 1000000),
		.tv_usec = (suseconds_t)(limit_us % 1000000),
	};

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)r->ledger, sizeof(*r->ledger)))
		return;
	r->in = fdopen(fd, "r");
	if (r->in)
		TAKE_FD(fd);
}

/* Sends the request on a connection that is new if need be. */
static int ask(struct reader *r, const char *request)
{
	size_t len = strlen(request);

	for (;;) {
		if (!r->in)
			connects(r);
		if (r->in && send(fileno(r->in), request, len, MSG_NOSIGNAL) ==
				     (ssize_t)len)
			return 0;
		hang_up(r);
		if (clock_now_us() - r->heard_us > r->patience_us)
			return -ETIMEDOUT;
		clock_sleep_us(RETRY_US);
	}
}

/* 0, or -EAGAIN where the connection is gone: ask again. */
static int next_line(struct reader *r, char *line, size_t room)
{
	size_t len;

	if (!fgets(line, (int)room, r->in)) {
		hang_up(r);
		return -EAGAIN;
	}
	len = strlen(line);
	if (!len || line[len - 1] != '\n') {
		hang_up(r);
		return -EAGAIN;
	}
	line[len - 1] = '\0';
	r->heard_us = clock_now_us();
	return 0;
}

static int one_line(struct reader *r, const char *request, char *line)
{
	int err = ask(r, request);

	return err ? err : next_line(r, line, LINE_BYTES);
}

/* --- the chain ----------------------------------------------------------- */

/* One that belongs to a client of ours. */
static void tick_off(struct reader *r, struct history *h, uint32_t client,
		     uint64_t seq, const struct payment *in_chain)
{
	struct payment *p = record_find(r->record, client, seq);
	struct verdict *v = r->v;

	if (!p) {
		fault(r, &v->invented,
		      "invented: client %" PRIu32 " never sent %" PRIu64
		      " (at %" PRIu64 ")",
		      client, seq, in_chain->index);
		return;
	}
	if (p->seen++) {
		fault(r, &v->duplicated,
		      "duplicated: client %" PRIu32 " seq %" PRIu64
		      " is also at %" PRIu64,
		      client, seq, in_chain->index);
		return;
	}
	if (seq != h->in_chain + 1)
		fault(r, &v->gaps,
		      "gap: client %" PRIu32 " has %" PRIu64 " behind %" PRIu64,
		      client, seq, h->in_chain);
	if (seq > h->in_chain)
		h->in_chain = seq;
	if (p->from != in_chain->from || p->to != in_chain->to ||
	    p->amount != in_chain->amount ||
	    (p->index &&
	     (p->index != in_chain->index || p->hash != in_chain->hash)))
		fault(r, &v->changed,
		      "changed: client %" PRIu32 " seq %" PRIu64
		      " was told %" PRIu64 " %016" PRIx64
		      ", the chain has %" PRIu64 " %016" PRIx64,
		      client, seq, p->index, p->hash, in_chain->index,
		      in_chain->hash);
}

static int entry(struct reader *r, struct words *w)
{
	struct payment p = { 0 };
	struct history *h;
	uint32_t client;
	uint64_t seq, hash;

	p.index = words_number(w, 10, UINT64_MAX);
	client = (uint32_t)words_number(w, 10, UINT32_MAX);
	seq = words_number(w, 10, UINT64_MAX);
	p.from = (uint32_t)words_number(w, 10, UINT32_MAX);
	p.to = (uint32_t)words_number(w, 10, UINT32_MAX);
	p.amount = words_signed(w);
	p.hash = words_number(w, 16, UINT64_MAX);
	if (!words_good(w) || p.index != r->v->chain + 1)
		return -EPROTO;
	hash = record_hash(r->v->head, client, seq, &p);
	if (hash != p.hash)
		fault(r, &r->v->broken,
		      "broken: at %" PRIu64 " the chain has %016" PRIx64
		      " instead of %016" PRIx64,
		      p.index, p.hash, hash);
	r->v->chain = p.index;
	/* One mistake is told once, not for all that follow. */
	r->v->head = p.hash;
	h = record_history(r->record, client);
	if (h)
		tick_off(r, h, client, seq, &p);
	return 0;
}

/* Reads one block; *more where there may be another. */
static int block(struct reader *r, bool *more)
{
	uint64_t before = r->v->chain, head;
	char line[LINE_BYTES];
	int err;

	snprintf(line, sizeof(line), "CHAIN %" PRIu64 " %d\n", before + 1,
		 BLOCK);
	err = ask(r, line);
	if (err)
		return err;
	for (;;) {
		struct words w = { .rest = line };
		const char *word;

		err = next_line(r, line, sizeof(line));
		if (err)
			return err;
		word = words_next(&w);
		if (!strcmp(word, "END"))
			head = words_number(&w, 16, UINT64_MAX);
		else if (strcmp(word, "T") || entry(r, &w))
			return -EPROTO;
		else
			continue;
		*more = r->v->chain != before;
		if (!words_good(&w))
			return -EPROTO;
		if (!*more && head != r->v->head)
			fault(r, &r->v->broken, "broken: END has another head");
		return 0;
	}
}

static int sum(struct reader *r)
{
	char line[LINE_BYTES];
	struct words w = { .rest = line };
	uint64_t count, head;
	int64_t total;
	int err;

	err = one_line(r, "SUM\n", line);
	if (err)
		return err;
	if (strcmp(words_next(&w), "SUM"))
		return -EPROTO;
	count = words_number(&w, 10, UINT64_MAX);
	head = words_number(&w, 16, UINT64_MAX);
	total = words_signed(&w);
	if (!words_good(&w))
		return -EPROTO;
	r->v->sum_agrees = count == r->v->chain && head == r->v->head && !total;
	if (!r->v->sum_agrees)
		fprintf(r->out,
			"SUM is %" PRIu64 " %016" PRIx64 " %" PRId64
			" for a chain of %" PRIu64 " %016" PRIx64 "\n",
			count, head, total, r->v->chain, r->v->head);
	return 0;
}

static int disk(struct reader *r)
{
	char line[LINE_BYTES];
	struct words w = { .rest = line };
	uint64_t count, head;
	int err = one_line(r, "DISK\n", line);

	if (err)
		return err;
	if (!strncmp(line, "NO ", 3)) {
		fprintf(r->out, "DISK is %s\n", line);
		return 0;
	}
	if (strcmp(words_next(&w), "DISK"))
		return -EPROTO;
	count = words_number(&w, 10, UINT64_MAX);
	head = words_number(&w, 16, UINT64_MAX);
	if (!words_good(&w))
		return -EPROTO;
	r->v->disk_agrees = count == r->v->chain && head == r->v->head;
	if (!r->v->disk_agrees)
		fprintf(r->out,
			"DISK is %" PRIu64 " %016" PRIx64
			" for a chain of %" PRIu64 " %016" PRIx64 "\n",
			count, head, r->v->chain, r->v->head);
	return 0;
}

static void missing(struct reader *r)
{
	uint32_t i;
	uint64_t seq;

	for (i = 0; i < r->record->clients; i++) {
		const struct history *h = &r->record->of[i];

		for (seq = 1; seq <= h->made; seq++) {
			const struct payment *p = &h->payments[seq - 1];

			if (p->index && !p->seen)
				fault(r, &r->v->lost,
				      "lost: client %" PRIu32 " seq %" PRIu64
				      ", acknowledged as %" PRIu64
				      " %016" PRIx64,
				      r->record->first_client + i, seq,
				      p->index, p->hash);
		}
	}
}

/* Nothing is ticked off yet: it may be verified more than once. */
static void begin(const struct record *r)
{
	uint32_t i;
	uint64_t seq;

	for (i = 0; i < r->clients; i++) {
		r->of[i].in_chain = 0;
		for (seq = 0; seq < r->of[i].made; seq++)
			r->of[i].payments[seq].seen = 0;
	}
}

/* -EAGAIN becomes -ETIMEDOUT when nothing has come for too long. */
static int again(struct reader *r, int err)
{
	if (err != -EAGAIN)
		return err;
	clock_sleep_us(RETRY_US);
	return clock_now_us() - r->heard_us > r->patience_us ? -ETIMEDOUT
							     : -EAGAIN;
}

static int read_on(struct reader *r, bool with_disk)
{
	bool more;
	int err;

	switch (r->stage) {
	case CHAIN:
		err = block(r, &more);
		if (!err && !more)
			r->stage = SUM;
		return err;
	case SUM:
		err = sum(r);
		if (!err)
			r->stage = with_disk ? DISK : READ;
		return err;
	default:
		err = disk(r);
		if (!err)
			r->stage = READ;
		return err;
	}
}

int verify(const struct sockaddr_in *ledger, const struct record *record,
	   bool with_disk, uint64_t patience_us, struct verdict *v, FILE *out)
{
	struct reader r = {
		.ledger = ledger,
		.record = record,
		.v = v,
		.out = out,
		.patience_us = patience_us,
		.heard_us = clock_now_us(),
	};
	int err = 0;

	memset(v, 0, sizeof(*v));
	v->disk_agrees = !with_disk;
	begin(record);
	while ((!err || err == -EAGAIN) && r.stage != READ)
		err = again(&r, read_on(&r, with_disk));
	hang_up(&r);
	if (!err)
		missing(&r);
	return err;
}

int verify_disk(const struct sockaddr_in *ledger, uint64_t patience_us,
		char line[LINE_BYTES])
{
	struct reader r = {
		.ledger = ledger,
		.patience_us = patience_us,
		.heard_us = clock_now_us(),
	};
	int err;

	do
		err = again(&r, one_line(&r, "DISK\n", line));
	while (err == -EAGAIN);
	hang_up(&r);
	return err;
}

bool verdict_good(const struct verdict *v)
{
	return !v->lost && !v->duplicated && !v->changed && !v->invented &&
	       !v->gaps && !v->broken && v->sum_agrees && v->disk_agrees;
}
