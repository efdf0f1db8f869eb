/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An sqlite3 with a database in its memory: a table with an index, rows of
 * which are updated, added and removed in small transactions.  Orders go to its
 * standard input; after each group it is asked for a word, which it says when
 * it has done all before it.
 */
#include "config.h"

#include "bench/programs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* So many that 10,000 pages can be written in half a second. */
enum {
	ROWS = 300 * 1000,
	OWNERS = 30 * 1000,
	TOGETHER = 1000, /* rows, when it is filled */
};

static int sqlite_start(struct program *p)
{
	/* -bail: an error ends it, and what it said last is told. */
	static const char *const words[] = { "sqlite3", "-batch",    "-bail",
					     "-init",	"/dev/null", ":memory:",
					     NULL };
	struct bench_child child = bench_child_of(words, p->log);
	int in[2], out[2], err;

	if (pipe2(in, O_CLOEXEC))
		return program_fails(p, "has no pipe");
	p->to = in[1];
	if (pipe2(out, O_CLOEXEC)) {
		close(in[0]);
		return program_fails(p, "has no pipe");
	}
	p->from = out[0];
	fcntl(p->to, F_SETFL, O_NONBLOCK);
	fcntl(p->from, F_SETFL, O_NONBLOCK);
	child.program = p->path;
	child.in = in[0];
	child.out = out[1];
	err = bench_start(p->b, &child, &p->process);
	close(in[0]);
	close(out[1]);
	return err ? program_fails(p, "does not start") : 0;
}

/* Until it has done all that it was told. */
static int done(struct program *p)
{
	const char *line;
	int err = program_say(p, "SELECT 'done';\n");

	if (!err)
		err = program_hear(p, &line);
	if (!err && strcmp(line, "done")) {
		bench_error("sqlite3 says: %s", line);
		err = -EPROTO;
	}
	return err;
}

static int insert(struct program *p, unsigned int id)
{
	return program_say(
		p,
		"INSERT OR REPLACE INTO account VALUES(%u,'owner-%05u',%u,"
		"'opened by clerk %04u, last seen on day %05u, no remarks');\n",
		id, (unsigned int)program_random(p, OWNERS),
		(unsigned int)program_random(p, 1000000),
		(unsigned int)program_random(p, 10000),
		(unsigned int)program_random(p, 100000));
}

static int sqlite_fill(struct program *p)
{
	unsigned int id = 0, i;
	int err = program_say(p, "CREATE TABLE account(id INTEGER PRIMARY KEY,"
				 "owner TEXT,balance INTEGER,note TEXT);\n"
				 "CREATE INDEX by_owner ON account(owner);\n");

	while (id < ROWS && !err) {
		err = program_say(p, "BEGIN;\n");
		for (i = 0; i < TOGETHER && !err; i++)
			err = insert(p, id++);
		if (!err)
			err = program_say(p, "COMMIT;\n");
		if (!err)
			err = done(p);
	}
	return err;
}

static unsigned int any_row(struct program *p)
{
	return (unsigned int)program_random(p, ROWS);
}

/* Money from one to another, and now and then an account comes or goes. */
static int transaction(struct program *p)
{
	unsigned int amount = (unsigned int)program_random(p, 100);
	int err = program_say(p,
			      "BEGIN;"
			      "UPDATE account SET balance=balance-%u WHERE "
			      "id=%u;"
			      "UPDATE account SET balance=balance+%u WHERE "
			      "id=%u;\n",
			      amount, any_row(p), amount, any_row(p));

	if (!err && program_random(p, 4) == 0)
		err = insert(p, any_row(p));
	if (!err && program_random(p, 8) == 0)
		err = program_say(p, "DELETE FROM account WHERE id=%u;\n",
				  any_row(p));
	return err ? err : program_say(p, "COMMIT;\n");
}

static int sqlite_work(struct program *p, unsigned int count)
{
	int err = 0;

	while (count-- && !err)
		err = transaction(p);
	return err ? err : done(p);
}

const struct program_kind program_sqlite = {
	.pattern = "sqlite",
	.executable = "sqlite3",
	.rate = 10000,
	.orders = 500,
	.start = sqlite_start,
	.fill = sqlite_fill,
	.work = sqlite_work,
};
