/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What disk-plugin.test needs of a disk besides nbdkit:
 *
 *	disk-tool create DIR NAME STORAGE BYTES
 *	disk-tool role DIR NAME primary|secondary
 *	disk-tool marked DIR NAME		the marked blocks, one a line
 *	disk-tool leave DIR NAME OFFSET LENGTH	as a server that is killed in it
 *	disk-tool pending DIR NAME		OFFSET LENGTH, or none
 *	disk-tool mirror DIR NAME RUN_DIR COPY
 *
 * `mirror` is a colod and its peer in one: COPY becomes as the disk, and says
 * "whole"; all changes are made to it until the end of standard input, and
 *those that were answered by then are in it.  Exit status 3: some are missing.
 */
#include "config.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "resume/disk/feed.h"
#include "resume/disk/meta.h"
#include "resume/disk/storage.h"
#include "stream/changes.h"

const struct guest_kind *const guest_kinds[] = { NULL };

enum { RING_BYTES = 256 * 1024, LOOK_MS = 2, MISSING = 3 };

static struct guest_error err;
static uint8_t raw[CHANGE_BYTES_MAX];
static uint8_t block[DISK_BLOCK_BYTES];

static void must(int rc)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "disk-tool: %s: %s\n", strerror(-rc), err.text);
	exit(1);
}

static struct disk_meta *open_meta(char **word)
{
	struct disk_meta *m;

	must(disk_meta_open(word[2], word[3], &m, &err));
	return m;
}

static int set_role(char **word)
{
	struct disk_meta *m = open_meta(word);
	struct disk_state s = disk_meta_state(m);

	s.role = strcmp(word[4], "primary") ? DISK_ROLE_SECONDARY
					    : DISK_ROLE_PRIMARY;
	must(disk_meta_set(m, &s));
	disk_meta_close(m);
	return 0;
}

static int show_marked(char **word)
{
	struct disk_meta *m = open_meta(word);

	for (uint64_t b = 0; b < disk_meta_blocks(m); b++)
		if (disk_meta_marked(m, b))
			printf("%" PRIu64 "\n", b);
	disk_meta_close(m);
	return 0;
}

static int leave(char **word)
{
	struct disk_meta *m = open_meta(word);

	disk_meta_begin(m, strtoull(word[4], NULL, 0),
			strtoull(word[5], NULL, 0));
	disk_meta_close(m);
	return 0;
}

static int show_pending(char **word)
{
	struct disk_meta *m = open_meta(word);
	uint64_t offset, length;

	if (disk_meta_pending(m, &offset, &length))
		printf("%" PRIu64 " %" PRIu64 "\n", offset, length);
	else
		puts("none");
	disk_meta_close(m);
	return 0;
}

/* --- mirror ---------------------------------------------------------------
 */

static void copy_blocks(struct disk_feed *f, struct disk_storage *to)
{
	uint64_t blocks = disk_meta_blocks(disk_feed_meta(f));

	for (uint64_t b = 0; b < blocks; b++) {
		ssize_t n = disk_feed_read(f, b, block);

		must((int)n);
		must(disk_storage_write(to, block, (size_t)n,
					b * DISK_BLOCK_BYTES));
	}
}

static void apply(struct disk_storage *to, const uint8_t *at, size_t left)
{
	uint64_t size = disk_storage_size(to);
	const struct change_bounds b = { &size, 1 };
	const char *why;
	struct change c;

	while (left) {
		must(change_take(&at, &left, &b, &c, &why));
		if (c.kind == CHANGE_WRITE)
			must(disk_storage_write(to, c.data, c.length,
						c.offset));
		else
			must(disk_storage_zero(to, c.offset, c.length, true));
	}
}

/* False: changes are missing. */
static bool follow(struct disk_feed *f, struct disk_storage *to)
{
	uint64_t limit = disk_feed_head(f);
	ssize_t n;

	while ((n = disk_feed_next(f, limit, raw, sizeof(raw))) > 0)
		apply(to, raw, (size_t)n);
	return n == 0 && !disk_feed_broken(f);
}

static int mirror(char **word)
{
	struct pollfd end = { STDIN_FILENO, POLLIN, 0 };
	struct disk_storage *to;
	struct disk_feed *f;
	bool good;

	must(disk_feed_open(word[2], word[4], word[3], 0, RING_BYTES, &f,
			    &err));
	must(disk_storage_open(word[5], true, &to, &err));
	copy_blocks(f, to);
	puts("whole");
	fflush(stdout);
	do
		good = follow(f, to);
	while (good && poll(&end, 1, LOOK_MS) == 0);
	good = good && follow(f, to);
	disk_storage_close(to);
	disk_feed_close(f);
	return good ? 0 : MISSING;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int words;
		int (*fn)(char **word);
	} commands[] = { { "role", 5, set_role },
			 { "marked", 4, show_marked },
			 { "leave", 6, leave },
			 { "pending", 4, show_pending },
			 { "mirror", 6, mirror } };

	if (argc == 6 && !strcmp(argv[1], "create")) {
		must(disk_meta_create(argv[2], argv[3], argv[4],
				      strtoull(argv[5], NULL, 0), &err));
		return 0;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (argc == commands[i].words &&
		    !strcmp(argv[1], commands[i].name))
			return commands[i].fn(argv);
	fputs("disk-tool: see its first lines\n", stderr);
	return 2;
}
