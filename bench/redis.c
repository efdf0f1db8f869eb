/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A redis-server that keeps nothing but memory, on a socket in the bench's
 * folder: strings that are set anew, counters, lists and hashes that grow.
 * Orders are inline commands, each answered by one line.
 */
#include "config.h"

#include "bench/programs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

/* So many that 10,000 pages can be written in half a second. */
enum {
	STRINGS = 240 * 1000,
	COUNTERS = 30 * 1000,
	LISTS = 15 * 1000,
	HASHES = 15 * 1000,
	FIELDS = 8,
	TOGETHER = 100, /* orders until their answers are read */
	START_US = 30 * 1000 * 1000,
	LOOK_US = 20 * 1000,
};

static int connect_to(struct program *p, const struct sockaddr_un *at)
{
	uint64_t until = clock_now_us() + START_US;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return program_fails(p, "has no socket");
	p->to = p->from = fd;
	while (connect(fd, (const struct sockaddr *)at, sizeof(*at))) {
		if (p->b->interrupted)
			return -EINTR;
		if (bench_ended(&p->process))
			return program_fails(p, "has ended");
		if (clock_now_us() > until)
			return program_fails(p, "is not up");
		bench_wait(p->b, -1, LOOK_US);
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return 0;
}

static int redis_start(struct program *p)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	const char *const words[] = {
		"redis-server", "--port",    "0",
		"--unixsocket", at.sun_path, "--dir",
		p->b->dir,	"--save",    "",
		"--appendonly", "no",	     "--daemonize",
		"no",		NULL
	};
	struct bench_child child = bench_child_of(words, p->log);
	int n, err;

	n = snprintf(at.sun_path, sizeof(at.sun_path), "%s/redis", p->b->dir);
	if (n < 0 || (size_t)n >= sizeof(at.sun_path))
		return program_fails(p, "has too long a folder (TMPDIR)");
	child.program = p->path;
	err = bench_start(p->b, &child, &p->process);
	if (err)
		return program_fails(p, "does not start");
	return connect_to(p, &at);
}

static int hear_all(struct program *p, unsigned int count)
{
	const char *line;
	int err = 0;

	while (!err && count--) {
		err = program_hear(p, &line);
		if (!err && line[0] == '-') {
			bench_error("redis-server says: %s", line + 1);
			err = -EPROTO;
		}
	}
	return err;
}

/* What a program might keep of a user: about 100 bytes, few of them new. */
static int set(struct program *p, unsigned int n)
{
	return program_say(
		p,
		"SET user:%06u name=user-%06u;balance=%08u.%02u;visits=%05u;"
		"seen=17%08u;token=%08x%08x;theme=light;language=en\n",
		n, n, (unsigned int)program_random(p, 100000000),
		(unsigned int)program_random(p, 100),
		(unsigned int)program_random(p, 100000),
		(unsigned int)program_random(p, 100000000),
		(unsigned int)program_random(p, UINT64_C(1) << 32),
		(unsigned int)program_random(p, UINT64_C(1) << 32));
}

static int push(struct program *p, unsigned int n)
{
	return program_say(p, "LPUSH list:%05u event-%08u\n", n,
			   (unsigned int)program_random(p, 100000000));
}

static int hash(struct program *p, unsigned int n, unsigned int field)
{
	return program_say(p, "HSET hash:%05u field-%u %08u\n", n, field,
			   (unsigned int)program_random(p, 100000000));
}

static int one_order(struct program *p)
{
	switch (program_random(p, 10)) {
	case 0:
	case 1:
		return program_say(p, "INCR counter:%05u\n",
				   (unsigned int)program_random(p, COUNTERS));
	case 2:
		return push(p, (unsigned int)program_random(p, LISTS));
	case 3:
		return hash(p, (unsigned int)program_random(p, HASHES),
			    (unsigned int)program_random(p, FIELDS));
	default:
		return set(p, (unsigned int)program_random(p, STRINGS));
	}
}

static int redis_work(struct program *p, unsigned int count)
{
	unsigned int i;
	int err = 0;

	for (i = 0; i < count && !err; i++)
		err = one_order(p);
	return err ? err : hear_all(p, count);
}

static int fill_one(struct program *p, unsigned int n)
{
	if (n < STRINGS)
		return set(p, n);
	n -= STRINGS;
	if (n < COUNTERS)
		return program_say(p, "SET counter:%05u %u\n", n, n * 1000);
	n -= COUNTERS;
	if (n < LISTS)
		return push(p, n);
	return hash(p, n - LISTS, 0);
}

static int redis_fill(struct program *p)
{
	const unsigned int all = STRINGS + COUNTERS + LISTS + HASHES;
	unsigned int n = 0, i;
	int err = 0;

	while (n < all && !err) {
		for (i = 0; i < TOGETHER && n < all && !err; i++)
			err = fill_one(p, n++);
		if (!err)
			err = hear_all(p, i);
	}
	return err;
}

const struct program_kind program_redis = {
	.pattern = "redis",
	.executable = "redis-server",
	.rate = 20000,
	.orders = 1000,
	.start = redis_start,
	.fill = redis_fill,
	.work = redis_work,
};
