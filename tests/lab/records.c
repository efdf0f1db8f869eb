/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The witness for a file system on a replicated disk: records that a guest
 * brings to stable storage, of which somebody outside learns.  What was told
 * must be in the files after a takeover.
 *
 *	records write FOLDER PORT	in the guest, for ever
 *	records ask ADDRESS PORT	outside: what is stable, all the time
 *	records check FOLDER NUMBER	all up to NUMBER is there
 *
 * Records are numbered from 1 and appended to log.0 and log.1 in turn, which
 * are emptied before they are used anew; some at a time they are made stable
 * by fsync().  Now and then a file is written, made stable and renamed, and its
 * folder made stable, as mail servers do: it holds the number of a record that
 * was stable before.
 *
 *	records line=.. stable=.. rounds=..	the guest, every second
 *	records told=.. answers=..		who asks
 *	records good first=.. last=.. renamed=..
 *
 * "records ERROR ..." is a violation, after which it ends with status 1.  One
 * thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	REPORT_US = 1000000,
	ASK_MS = 200,
	FILES = 2,
	FILE_BYTES = 2 * 1024 * 1024,
	PAYLOAD_MAX = 3000,
	TOGETHER_MAX = 8, /* records before an fsync() */
	RENAME_EVERY = 16,
	MAGIC = 0x52434f4c,
};

/* Its payload follows. */
struct record {
	uint32_t magic, length;
	uint64_t number, sum;
};

struct datagram {
	uint64_t question, number;
};

static void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("records ERROR ");
	vprintf(format, args);
	printf("\n");
	fflush(stdout);
	va_end(args);
	exit(1);
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t mixed(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* --- a record ------------------------------------------------------------- */

static uint32_t length_of(uint64_t number)
{
	return (uint32_t)(mixed(number) % PAYLOAD_MAX) + 1;
}

static uint64_t fill(uint64_t number, uint8_t *payload)
{
	uint64_t sum = number, x = number;

	for (uint32_t i = 0; i < length_of(number); i++) {
		if (i % 8 == 0)
			x = mixed(x + i + 1);
		payload[i] = (uint8_t)(x >> i % 8 * 8);
		sum = sum * 31 + payload[i];
	}
	return sum;
}

static size_t make(uint64_t number, uint8_t *bytes)
{
	struct record r = { .magic = MAGIC,
			    .length = length_of(number),
			    .number = number };

	r.sum = fill(number, bytes + sizeof(r));
	memcpy(bytes, &r, sizeof(r));
	return sizeof(r) + r.length;
}

/* Its length, or 0: there is none. */
static size_t parse(const uint8_t *bytes, size_t left, uint64_t *number)
{
	uint8_t payload[PAYLOAD_MAX];
	struct record r;

	if (left < sizeof(r))
		return 0;
	memcpy(&r, bytes, sizeof(r));
	if (r.magic != MAGIC || r.length != length_of(r.number) ||
	    left < sizeof(r) + r.length || r.sum != fill(r.number, payload) ||
	    memcmp(payload, bytes + sizeof(r), r.length) != 0)
		return 0;
	*number = r.number;
	return sizeof(r) + r.length;
}

/* --- what is in the files ------------------------------------------------- */

/* Of one file; first 0: none. */
struct range {
	uint64_t first, last;
};

static struct range read_log(int folder, const char *name)
{
	static uint8_t bytes[FILE_BYTES + 64 * 1024];
	struct range range = { 0, 0 };
	size_t length = 0, at = 0, n;
	uint64_t number;
	ssize_t got = 1;
	int fd = openat(folder, name, O_RDONLY);

	if (fd < 0 && errno != ENOENT)
		fail("%s: %s", name, strerror(errno));
	while (fd >= 0 && got && length < sizeof(bytes)) {
		got = read(fd, bytes + length, sizeof(bytes) - length);
		if (got < 0)
			fail("%s: %s", name, strerror(errno));
		length += (size_t)got;
	}
	while ((n = parse(bytes + at, length - at, &number))) {
		if (range.first && number != range.last + 1)
			fail("%s: record %llu behind %llu", name,
			     (unsigned long long)number,
			     (unsigned long long)range.last);
		if (!range.first)
			range.first = number;
		range.last = number;
		at += n;
	}
	/* Behind what is no record, which was never stable, is none. */
	for (; at < length; at++)
		if (parse(bytes + at, length - at, &number))
			fail("%s: record %llu behind a gap", name,
			     (unsigned long long)number);
	if (fd >= 0)
		close(fd);
	return range;
}

static struct range read_logs(int folder)
{
	struct range a = read_log(folder, "log.0"),
		     b = read_log(folder, "log.1");
	struct range swap = a;

	if (!b.first || (a.first && a.first < b.first)) {
		a = b;
		b = swap;
	}
	/* b is the older one. */
	if (a.first && b.first && a.first != b.last + 1)
		fail("records %llu and %llu, and none between them",
		     (unsigned long long)b.last, (unsigned long long)a.first);
	if (!a.first)
		return b;
	return (struct range){ b.first ? b.first : a.first, a.last };
}

/* Of the file that is renamed; 0: there is none. */
static uint64_t read_renamed(int folder)
{
	char text[32] = "";
	int fd = openat(folder, "current", O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	/* It was stable before it had this name. */
	if (n <= 0 || text[n - 1] != '\n')
		fail("the file that was renamed has %zd bytes", n);
	return strtoull(text, NULL, 10);
}

static int check(const char *name, uint64_t number)
{
	int folder = open(name, O_RDONLY | O_DIRECTORY);
	struct range r;
	uint64_t renamed;

	if (folder < 0)
		fail("%s: %s", name, strerror(errno));
	r = read_logs(folder);
	renamed = read_renamed(folder);
	if (r.last < number)
		fail("record %llu was told to be stable, the last one is %llu",
		     (unsigned long long)number, (unsigned long long)r.last);
	if (renamed > r.last)
		fail("record %llu was renamed to be stable, the last one is "
		     "%llu",
		     (unsigned long long)renamed, (unsigned long long)r.last);
	printf("records good first=%llu last=%llu renamed=%llu\n",
	       (unsigned long long)r.first, (unsigned long long)r.last,
	       (unsigned long long)renamed);
	return 0;
}

/* --- the guest ------------------------------------------------------------ */

struct writer {
	int folder, log, net;
	unsigned int file;
	size_t bytes;
	uint64_t number, stable, rounds, line, reported_us;
};

static void stable(int fd, const char *what)
{
	if (fsync(fd))
		fail("fsync of %s: %s", what, strerror(errno));
}

/* The one that was full is read back, as the folder is that names the next. */
static void next_log(struct writer *w)
{
	char name[8];
	struct range r;

	if (w->log >= 0) {
		snprintf(name, sizeof(name), "log.%u", w->file);
		/* What is behind it must not be stable earlier. */
		stable(w->log, name);
		close(w->log);
		r = read_log(w->folder, name);
		if (r.last != w->number)
			fail("%s ends with %llu, not %llu", name,
			     (unsigned long long)r.last,
			     (unsigned long long)w->number);
		w->file = (w->file + 1) % FILES;
	}
	snprintf(name, sizeof(name), "log.%u", w->file);
	w->log = openat(w->folder, name,
			O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0600);
	if (w->log < 0)
		fail("%s: %s", name, strerror(errno));
	stable(w->folder, "the folder");
	w->bytes = 0;
}

static void append(struct writer *w)
{
	static uint8_t bytes[sizeof(struct record) + PAYLOAD_MAX];
	size_t n = make(w->number + 1, bytes);

	if (w->bytes + n > FILE_BYTES)
		next_log(w);
	if (write(w->log, bytes, n) != (ssize_t)n)
		fail("record %llu cannot be written: %s",
		     (unsigned long long)w->number + 1, strerror(errno));
	w->bytes += n;
	w->number++;
}

static void rename_one(struct writer *w)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%llu\n",
			 (unsigned long long)w->stable);
	int fd = openat(w->folder, "new", O_CREAT | O_TRUNC | O_WRONLY, 0600);

	if (fd < 0 || write(fd, text, (size_t)n) != n)
		fail("the file to be renamed: %s", strerror(errno));
	stable(fd, "the file to be renamed");
	close(fd);
	if (renameat(w->folder, "new", w->folder, "current"))
		fail("renaming: %s", strerror(errno));
	stable(w->folder, "the folder");
}

static void answer(struct writer *w)
{
	struct sockaddr_in from;
	socklen_t size = sizeof(from);
	struct datagram d;

	while (recvfrom(w->net, &d, sizeof(d), MSG_DONTWAIT,
			(struct sockaddr *)&from, &size) == sizeof(d)) {
		d.number = w->stable;
		sendto(w->net, &d, sizeof(d), 0, (struct sockaddr *)&from,
		       size);
		size = sizeof(from);
	}
}

static void report(struct writer *w)
{
	if (now_us() < w->reported_us + REPORT_US)
		return;
	w->reported_us = now_us();
	printf("records line=%llu stable=%llu rounds=%llu\n",
	       (unsigned long long)++w->line, (unsigned long long)w->stable,
	       (unsigned long long)w->rounds);
	fflush(stdout);
}

_Noreturn static void write_for_ever(const char *folder, uint16_t port)
{
	const struct sockaddr_in here = { .sin_family = AF_INET,
					  .sin_port = htons(port) };
	struct writer w = { .folder = open(folder, O_RDONLY | O_DIRECTORY),
			    .log = -1,
			    .net = socket(AF_INET, SOCK_DGRAM, 0) };

	if (w.folder < 0)
		fail("%s: %s", folder, strerror(errno));
	if (w.net < 0 ||
	    bind(w.net, (const struct sockaddr *)&here, sizeof(here)))
		fail("port %u: %s", port, strerror(errno));
	next_log(&w);
	for (;;) {
		unsigned int n = (unsigned int)(mixed(w.rounds) % TOGETHER_MAX);

		for (unsigned int i = 0; i <= n; i++)
			append(&w);
		stable(w.log, "a log");
		w.stable = w.number;
		if (++w.rounds % RENAME_EVERY == 0)
			rename_one(&w);
		answer(&w);
		report(&w);
	}
}

/* --- outside -------------------------------------------------------------- */

/*
 * Answers to later questions have later numbers, whatever happens to the guest.
 */
_Noreturn static void ask_for_ever(const char *address, uint16_t port)
{
	struct sockaddr_in guest = { .sin_family = AF_INET,
				     .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct datagram q = { 0, 0 }, d;
	uint64_t told = 0, of = 0, answers = 0;

	if (fd < 0 || inet_pton(AF_INET, address, &guest.sin_addr) != 1)
		fail("no such address: %s", address);
	for (;;) {
		q.question++;
		sendto(fd, &q, sizeof(q), 0, (struct sockaddr *)&guest,
		       sizeof(guest));
		while (poll(&p, 1, ASK_MS) > 0 &&
		       recv(fd, &d, sizeof(d), 0) == sizeof(d)) {
			if (d.question > of && d.number < told)
				fail("%llu was told to be stable, then %llu",
				     (unsigned long long)told,
				     (unsigned long long)d.number);
			if (d.question > of)
				of = d.question;
			if (d.number > told)
				told = d.number;
			answers++;
		}
		printf("records told=%llu answers=%llu\n",
		       (unsigned long long)told, (unsigned long long)answers);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "write"))
		write_for_ever(argv[2], (uint16_t)atoi(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "ask"))
		ask_for_ever(argv[2], (uint16_t)atoi(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "check"))
		return check(argv[2], strtoull(argv[3], NULL, 10));
	fprintf(stderr, "usage: records write|ask|check ...\n");
	return 2;
}
