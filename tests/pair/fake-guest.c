/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest for tests of the daemons: some memory and a thread that writes it,
 * inside colod's own process, so that killing colod is losing the host.
 *
 * The thread keeps rewriting pages at random.  Each page holds its version and
 * words computed from number and version; page 0 holds the sum of all versions.
 * A snapshot that is not of one instant breaks the sum, a stale or torn page
 * breaks its words.  On activation the standby verifies both and appends
 * "OK sum=N pages=N" or "BAD ..." to $FAKE_RESULT.
 *
 * $FAKE_MIB: size of the memory (4).  $FAKE_WRITES: pages written in a
 * millisecond (20).  $FAKE_STATUS: a file whose first word, when it is there,
 * is the guest's fate, on either side: poweroff, reboot, crash, refuse (does
 * not suspend), balloon (the memory layout changes once), hang (stays
 * suspended: capture never returns).
 *
 * $FAKE_REMOVAL: milliseconds that it takes to remove a standby.
 *
 * $FAKE_SUMS: a file that gets a line "EPOCH SUM" for every capture, and
 * one of epoch 0 for the image.
 * $FAKE_PULSE: a file of two numbers: the sum of this moment, and the longest
 * time in microseconds that the guest has stood still.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "resume/guest.h"
#include "stream/records.h"

enum { PAGE = 4096, WORDS = PAGE / 8 };

struct page {
	uint64_t version; /* page 0: the sum of all others */
	uint64_t word[WORDS - 1];
};

struct guest_source {
	size_t pages;
	struct page *memory;
	struct page *shadow; /* as of the last capture */
	pthread_t thread;
	sem_t running; /* taken by the thread while it writes */
	bool suspended;
	bool ballooned;
	atomic_bool ending;
	size_t next; /* where a partial capture goes on */
};

struct guest_standby {
	size_t pages;
	struct page *memory;
	uint64_t state; /* the sum, as the "CPU" knew it */
	char name[WIRE_NAME_MAX + 1];
};

static uint64_t expected(uint64_t page, uint64_t version, unsigned int word)
{
	uint64_t x = page * 0x9e3779b97f4a7c15u ^ version;

	x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9u;
	/* Half of each page is compressible, as in life. */
	return word & 1 ? version : x + word;
}

static void write_page(struct page *memory, size_t i)
{
	struct page *p = &memory[i];
	unsigned int w;

	p->version++;
	memory[0].version++;
	for (w = 0; w < WORDS - 1; w++)
		p->word[w] = expected(i, p->version, w);
}

static size_t wanted(const char *name, size_t otherwise)
{
	const char *n = getenv(name);

	return n ? strtoul(n, NULL, 10) : otherwise;
}

static void fate(char word[16])
{
	const char *path = getenv("FAKE_STATUS");
	FILE *f = path ? fopen(path, "r") : NULL;

	word[0] = '\0';
	if (!f)
		return;
	if (fscanf(f, "%15s", word) != 1)
		word[0] = '\0';
	fclose(f);
}

static enum guest_status status_by_fate(void)
{
	char word[16];

	fate(word);
	return !strcmp(word, "poweroff") ? GUEST_POWEROFF
	       : !strcmp(word, "reboot") ? GUEST_REBOOT
	       : !strcmp(word, "crash")	 ? GUEST_CRASHED
					 : GUEST_RUNNING;
}

/*
 * A semaphore and not a mutex: the thread that suspends the guest need not be
 * the one that closes it.
 */
static void take(struct guest_source *s)
{
	while (sem_wait(&s->running) && errno == EINTR)
		;
}

/* --- source ------------------------------------------------------------- */

/* Of one width, so that a reader never finds the rest of a longer one. */
static void write_pulse(int fd, uint64_t sum, uint64_t standstill_us)
{
	char line[48];
	int n = snprintf(line, sizeof(line), "%020" PRIu64 " %020" PRIu64 "\n",
			 sum, standstill_us);

	if (fd >= 0 && pwrite(fd, line, (size_t)n, 0) != n)
		abort();
}

static int open_pulse(void)
{
	const char *path = getenv("FAKE_PULSE");

	return path ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
}

static void *guest_main(void *arg)
{
	struct guest_source *s = arg;
	size_t writes = wanted("FAKE_WRITES", 20), n;
	uint64_t before_us = clock_now_us(), longest_us = 0, now_us;
	AUTO_FD int pulse = open_pulse();
	unsigned int seed = 1;

	while (!s->ending) {
		take(s);
		for (n = 0; n < writes; n++)
			write_page(s->memory,
				   1 + (size_t)rand_r(&seed) % (s->pages - 1));
		now_us = clock_now_us();
		if (now_us - before_us > longest_us)
			longest_us = now_us - before_us;
		before_us = now_us;
		write_pulse(pulse, s->memory[0].version, longest_us);
		sem_post(&s->running);
		clock_sleep_us(1000);
	}
	return NULL;
}

static int source_open(const char *words, const char *run_dir,
		       const struct guest_manner *manner,
		       struct guest_source **out, struct guest_error *err)
{
	struct guest_source *s;

	(void)run_dir;
	(void)manner;
	if (strcmp(words, "fake") != 0) {
		guest_error_set(err, "there is no guest '%s'", words);
		return -ENOENT;
	}
	s = calloc(1, sizeof(*s));
	s->pages = wanted("FAKE_MIB", 4) << 8;
	s->memory = calloc(s->pages, PAGE);
	s->shadow = calloc(s->pages, PAGE);
	sem_init(&s->running, 0, 1);
	pthread_create(&s->thread, NULL, guest_main, s);
	*out = s;
	return 0;
}

static int describe(struct guest_source *s, struct guest_description *d,
		    struct guest_error *err)
{
	(void)err;
	memset(d, 0, sizeof(*d));
	d->kind = WIRE_GUEST_EMBEDDED;
	d->ram_bytes = s->pages * PAGE;
	d->max_gfn = s->pages - 1;
	memset(d->uuid, 0x5a, sizeof(d->uuid));
	strcpy(d->name, "fake");
	d->config = strdup("{}");
	d->config_length = 2;
	return 0;
}

static int suspend(struct guest_source *s, uint64_t timeout_us)
{
	char word[16];

	fate(word);
	if (!strcmp(word, "poweroff") || !strcmp(word, "reboot") ||
	    !strcmp(word, "crash"))
		return -ESHUTDOWN;
	if (!strcmp(word, "refuse")) {
		clock_sleep_us(timeout_us);
		return -ETIMEDOUT;
	}
	take(s);
	s->suspended = true;
	return 0;
}

static void write_sum(const struct guest_source *s, uint64_t epoch)
{
	const char *path = getenv("FAKE_SUMS");
	FILE *f = path ? fopen(path, "a") : NULL;

	if (!f)
		return;
	fprintf(f, "%" PRIu64 " %" PRIu64 "\n", epoch, s->memory[0].version);
	fclose(f);
}

static int send_image(struct guest_source *s, int fd, struct guest_error *err)
{
	const char *at = (const char *)s->memory;
	size_t left = s->pages * PAGE;
	ssize_t n;

	if (suspend(s, 0))
		return -ETIMEDOUT;
	while (left) {
		n = send(fd, at, left < 65536 ? left : 65536, MSG_NOSIGNAL);
		if (n <= 0) {
			s->suspended = false;
			sem_post(&s->running);
			guest_error_set(err, "the reader went away");
			return -EPIPE;
		}
		at += n;
		left -= (size_t)n;
	}
	memcpy(s->shadow, s->memory, s->pages * PAGE);
	write_sum(s, 0);
	return 0;
}

static int start_tracking(struct guest_source *s, struct guest_error *err)
{
	(void)err;
	s->next = 0;
	return 0;
}

/* The pages that differ from the last capture, as many as fit. */
static int capture(struct guest_source *s, struct epoch *e)
{
	struct cursor c = cursor_over(e->state, e->state_capacity);
	char word[16];
	size_t i, k;
	int fault;

	fate(word);
	if (!strcmp(word, "balloon") && !s->ballooned) {
		s->ballooned = true;
		return -ESTALE;
	}
	while (!strcmp(word, "hang"))
		clock_sleep_us(1000000);
	e->page_count = 0;
	e->partial = false;
	for (k = 0; k < s->pages; k++) {
		i = (s->next + k) % s->pages;
		if (!memcmp(&s->shadow[i], &s->memory[i], PAGE))
			continue;
		if (!epoch_put(e, i, (const uint8_t *)&s->memory[i])) {
			e->partial = true;
			s->next = i;
			break;
		}
		s->shadow[i] = s->memory[i];
	}
	fault = fault_at(FAULT_MID_CAPTURE);
	if (fault)
		return fault;
	memcpy(record_put(&c, WIRE_RECORD_HVM_CONTEXT, 8),
	       &s->memory[0].version, 8);
	e->state_bytes = (size_t)(c.at - e->state);
	write_sum(s, e->number);
	return 0;
}

static int resume(struct guest_source *s, enum guest_resume kind)
{
	(void)kind;
	if (s->suspended) {
		s->suspended = false;
		sem_post(&s->running);
	}
	return 0;
}

static void stop_tracking(struct guest_source *s)
{
	(void)s;
}

static enum guest_status source_status(struct guest_source *s)
{
	(void)s;
	return status_by_fate();
}

static size_t source_nics(struct guest_source *s, struct guest_nic *nics)
{
	(void)s;
	(void)nics;
	return 0;
}

static int yield(struct guest_source *s)
{
	return suspend(s, 0);
}

static int source_after_shutdown(struct guest_source *s, bool *again)
{
	(void)s;
	*again = false;
	return 0;
}

static void source_cancel(struct guest_source *s)
{
	(void)s;
}

static void source_close(struct guest_source *s)
{
	resume(s, GUEST_RESUME_FAST);
	s->ending = true;
	pthread_join(s->thread, NULL);
	free(s->memory);
	free(s->shadow);
	free(s);
}

static int rescue(const char *words, const char *run_dir, uint64_t patience_us)
{
	const char *path = getenv("FAKE_RESCUED");
	FILE *f = path ? fopen(path, "w") : NULL;

	(void)run_dir;
	(void)patience_us;
	if (f) {
		fprintf(f, "%s\n", words);
		fclose(f);
	}
	return 0;
}

static const struct guest_source_ops source_ops = {
	.name = "fake",
	.open = source_open,
	.describe = describe,
	.send_image = send_image,
	.start_tracking = start_tracking,
	.suspend = suspend,
	.capture = capture,
	.resume = resume,
	.stop_tracking = stop_tracking,
	.status = source_status,
	.nics = source_nics,
	.yield = yield,
	.after_shutdown = source_after_shutdown,
	.cancel = source_cancel,
	.close = source_close,
	.rescue = rescue,
};

/* --- standby ------------------------------------------------------------ */

static void result(const char *line)
{
	const char *path = getenv("FAKE_RESULT");
	FILE *f = path ? fopen(path, "a") : NULL;

	if (!f)
		return;
	fprintf(f, "%s\n", line);
	fclose(f);
}

static void standby_close(struct guest_standby *s)
{
	free(s->memory);
	free(s);
}

static int build(const struct guest_description *d, const char *run_dir, int fd,
		 struct guest_standby **out, struct guest_error *err)
{
	struct guest_standby *s = calloc(1, sizeof(*s));
	size_t got = 0;
	ssize_t n;

	(void)run_dir;
	s->pages = d->ram_bytes / PAGE;
	s->memory = calloc(s->pages, PAGE);
	while ((n = read(fd, (char *)s->memory + got, s->pages * PAGE - got)) >
	       0)
		got += (size_t)n;
	if (got != s->pages * PAGE) {
		guest_error_set(err, "the image ends after %zu bytes", got);
		standby_close(s);
		return -EPIPE;
	}
	s->state = s->memory[0].version;
	*out = s;
	return 0;
}

static int apply_page(void *arg, const struct page_item *item)
{
	struct guest_standby *s = arg;

	if (item->gfn >= s->pages)
		return -ERANGE;
	page_item_apply(item, (uint8_t *)&s->memory[item->gfn]);
	return 0;
}

static int apply(struct guest_standby *s, const struct store *epoch)
{
	struct record r;

	if (!store_record(epoch, WIRE_RECORD_HVM_CONTEXT, &r) || r.length != 8)
		return -EPROTO;
	memcpy(&s->state, r.body, 8);
	return store_each_page(epoch, apply_page, s);
}

static bool verify(const struct guest_standby *s, char *line, size_t room)
{
	uint64_t sum = 0;
	unsigned int w;
	size_t i;

	for (i = 1; i < s->pages; i++) {
		const struct page *p = &s->memory[i];

		sum += p->version;
		for (w = 0; p->version && w < WORDS - 1; w++)
			if (p->word[w] != expected(i, p->version, w)) {
				snprintf(line, room, "BAD page %zu word %u", i,
					 w);
				return false;
			}
	}
	if (sum != s->memory[0].version || sum != s->state) {
		snprintf(line, room, "BAD sum %llu, page 0 %llu, state %llu",
			 (unsigned long long)sum,
			 (unsigned long long)s->memory[0].version,
			 (unsigned long long)s->state);
		return false;
	}
	snprintf(line, room, "OK sum=%llu pages=%zu", (unsigned long long)sum,
		 s->pages);
	return true;
}

static int activate(struct guest_standby *s, struct guest_error *err)
{
	char line[200];

	int fault;

	if (!verify(s, line, sizeof(line)))
		guest_error_set(err, "%s", line);
	fault = fault_at(FAULT_MID_ACTIVATE);
	if (fault)
		return fault;
	result(line);
	return err->text[0] ? -EIO : 0;
}

static size_t standby_nics(struct guest_standby *s, struct guest_nic *nics)
{
	(void)s;
	(void)nics;
	return 0;
}

static enum guest_status standby_status(struct guest_standby *s)
{
	(void)s;
	return status_by_fate();
}

static int standby_after_shutdown(struct guest_standby *s, bool *again)
{
	(void)s;
	*again = false;
	return 0;
}

static void standby_destroy(struct guest_standby *s)
{
	const char *ms = getenv("FAKE_REMOVAL");

	if (ms)
		clock_sleep_us(strtoull(ms, NULL, 10) * 1000);
	result("DESTROYED");
	standby_close(s);
}

static int sweep(const char *run_dir)
{
	(void)run_dir;
	return 0;
}

static const struct guest_standby_ops standby_ops = {
	.name = "fake",
	.kinds =
		(const struct guest_wire_kind[]){
			{ .kind = WIRE_GUEST_EMBEDDED,
			  .needs = { WIRE_RECORD_HVM_CONTEXT },
			  .deltas = true },
			{ 0 },
		},
	.build = build,
	.apply = apply,
	.activate = activate,
	.nics = standby_nics,
	.status = standby_status,
	.after_shutdown = standby_after_shutdown,
	.close = standby_close,
	.destroy = standby_destroy,
	.sweep = sweep,
};

static void probe(guest_fact_fn *fact, void *arg)
{
	fact(arg, "fake guest", "for tests", true);
}

static const struct guest_kind guest_fake = {
	.prefix = "fake:",
	.name = guest_plain_name,
	.source = &source_ops,
	.standby = &standby_ops,
	.probe = probe,
};

const struct guest_kind *const guest_kinds[] = { &guest_fake, NULL };
