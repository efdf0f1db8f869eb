/* SPDX-License-Identifier: Apache-2.0 */
#include "order.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * A sector on the disk.  Each proves itself: the sum covers all before it, and
 * the filling follows from version and place.
 */
struct sector {
	uint64_t magic, run, block, index, version, stamp;
	uint64_t fill[ORDER_SECTOR / 8 - 7];
	uint64_t sum;
};
_Static_assert(sizeof(struct sector) == ORDER_SECTOR, "a sector is a sector");

#define MAGIC UINT64_C(0x6f72646572626c6b)

/* What a completed request is followed by, on the same block. */
enum { CHAIN_END, CHAIN_WRITE_READ, CHAIN_READ, CHAIN_RANDOM };

static uint64_t mix(uint64_t x)
{
	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9u;
	return x ^ x >> 32;
}

static uint64_t random_below(struct order *o, uint64_t n)
{
	o->random += 0x9e3779b97f4a7c15u;
	return mix(mix(o->random)) % n;
}

/* --- blocks ----------------------------------------------------------------
 */

static uint64_t sector_sum(const struct sector *s)
{
	const uint64_t *word = (const uint64_t *)s;
	uint64_t sum = 0;

	for (size_t i = 0; i + 1 < sizeof(*s) / 8; i++)
		sum = mix(sum ^ word[i]) + i;
	return sum;
}

static void encode(const struct order *o, const struct order_io *io,
		   uint64_t stamp)
{
	struct sector *s = (struct sector *)io->buffer;

	for (unsigned int i = 0; i < ORDER_SECTORS; i++, s++) {
		s->magic = MAGIC;
		s->run = o->run;
		s->block = io->block;
		s->index = i;
		s->version = io->version;
		s->stamp = stamp;
		for (size_t w = 0; w < sizeof(s->fill) / 8; w++)
			s->fill[w] = mix(stamp + i * 64 + w);
		s->sum = sector_sum(s);
	}
}

static bool is_foreign(const struct order *o, const struct sector *s)
{
	return s->magic != MAGIC || s->run != o->run;
}

enum content { WHOLE, FOREIGN, TORN };

static enum content decode(const struct order *o, const struct order_io *io)
{
	const struct sector *s = (const struct sector *)io->buffer;
	unsigned int foreign = 0;

	for (unsigned int i = 0; i < ORDER_SECTORS; i++) {
		if (is_foreign(o, &s[i])) {
			foreign++;
			continue;
		}
		if (s[i].sum != sector_sum(&s[i]) || s[i].block != io->block ||
		    s[i].index != i || s[i].version != s[0].version ||
		    s[i].stamp != s[0].stamp)
			return TORN;
	}
	return foreign == 0 ? WHOLE : foreign == ORDER_SECTORS ? FOREIGN : TORN;
}

/* --- verdicts --------------------------------------------------------------
 */

static void fault(struct order *o, const struct order_io *io, const char *what,
		  uint64_t *count)
{
	uint64_t errors = o->n.stale + o->n.torn + o->n.lost + o->n.failed;
	const struct sector *s = (const struct sector *)io->buffer;

	++*count;
	/* One line is a verdict; thousands would hide it. */
	if (errors < 8 && !o->quiet)
		printf("order ERROR %s %s block=%u acked=%lu issued=%lu "
		       "found=%lu result=%ld suspends=%lu,%lu\n",
		       io->write ? "write" : "read", what, io->block,
		       io->version, o->block[io->block].issued, s->version,
		       io->result, io->known_suspends, o->suspends);
}

/* What this guest did not write: of its former self, or of another disk. */
static void judge_foreign(struct order *o, const struct order_io *io,
			  uint64_t *count)
{
	if (io->known_suspends >= o->suspends)
		fault(o, io, "lost", &o->n.lost);
	else
		++*count;
}

static void judge_whole(struct order *o, const struct order_io *io)
{
	const struct sector *s = (const struct sector *)io->buffer;
	const struct order_block *b = &o->block[io->block];

	if (s->version < io->version) {
		if (io->sweep)
			fault(o, io, "lost", &o->n.lost);
		else
			fault(o, io, "stale", &o->n.stale);
		return;
	}
	if (s->version > b->issued ||
	    (b->issued - s->version < ORDER_STAMPS &&
	     b->stamp[s->version % ORDER_STAMPS] != s->stamp)) {
		judge_foreign(o, io, &o->n.ahead);
		return;
	}
	if (s->version > io->version)
		o->n.overtaken++;
}

static void judge(struct order *o, const struct order_io *io)
{
	o->n.reads++;
	if (io->result != ORDER_BLOCK) {
		fault(o, io, "failed", &o->n.failed);
		return;
	}
	switch (decode(o, io)) {
	case WHOLE:
		judge_whole(o, io);
		break;
	case FOREIGN:
		judge_foreign(o, io, &o->n.blank);
		break;
	case TORN:
		if (io->overlapped)
			o->n.mixed++;
		else
			fault(o, io, "torn", &o->n.torn);
		break;
	}
}

static void wrote(struct order *o, const struct order_io *io)
{
	struct order_block *b = &o->block[io->block];

	o->n.writes++;
	b->writing = false;
	if (io->result != ORDER_BLOCK) {
		fault(o, io, "failed", &o->n.failed);
		return;
	}
	b->acked = io->version;
	b->acked_suspends = io->suspends;
}

/* --- requests --------------------------------------------------------------
 */

static struct order_io *take(struct order *o, uint32_t block)
{
	for (unsigned int i = 0; i < ORDER_DEPTH; i++) {
		struct order_io *io = &o->io[i];

		if (io->busy)
			continue;
		io->busy = true;
		io->write = io->overlapped = io->sweep = false;
		io->chain = CHAIN_END;
		io->block = block;
		io->suspends = o->suspends;
		o->in_flight++;
		return io;
	}
	return NULL;
}

static struct order_io *new_read(struct order *o, uint32_t block)
{
	struct order_io *io = take(o, block);

	io->version = o->block[block].acked;
	io->known_suspends = o->block[block].acked_suspends;
	io->overlapped = o->block[block].writing;
	return io;
}

static struct order_io *new_write(struct order *o, uint32_t block)
{
	struct order_io *io = take(o, block);
	struct order_block *b = &o->block[block];
	uint64_t stamp = mix(++o->stamps ^ o->random);

	io->write = true;
	io->version = ++b->issued;
	b->stamp[io->version % ORDER_STAMPS] = stamp;
	b->writing = true;
	for (unsigned int i = 0; i < ORDER_DEPTH; i++)
		if (o->io[i].busy && !o->io[i].write && o->io[i].block == block)
			o->io[i].overlapped = true;
	encode(o, io, stamp);
	return io;
}

static int submit(struct order *o, struct order_io **io, unsigned int count)
{
	return count ? o->ops->submit(o->disk, io, count) : 0;
}

/* The request that follows on a completed one; NULL: none. */
static struct order_io *follow(struct order *o, const struct order_io *io)
{
	struct order_io *next;
	uint32_t block;

	switch (io->chain) {
	case CHAIN_WRITE_READ:
		next = new_write(o, io->block);
		next->chain = CHAIN_READ;
		return next;
	case CHAIN_READ:
		return new_read(o, io->block);
	case CHAIN_RANDOM:
		/* Few blocks, so that requests meet. */
		block = (uint32_t)random_below(o, 5);
		if (random_below(o, 2) && !o->block[block].writing)
			return new_write(o, block);
		return new_read(o, block);
	}
	return NULL;
}

/*
 * Waits for some, judges them and sends what follows; *left more of a random
 * chain.  The suspends are looked at after the wait: what came before it
 * belongs to the life before.
 */
static int turn(struct order *o, unsigned int *left)
{
	struct order_io *done[ORDER_DEPTH], *next[ORDER_DEPTH];
	unsigned int count = 0;
	int n = o->ops->wait(o->disk, done, ORDER_DEPTH);

	if (n < 0)
		return n;
	o->suspends = o->ops->suspends(o->disk);
	for (int i = 0; i < n; i++) {
		struct order_io was = *done[i];

		if (was.write)
			wrote(o, &was);
		else
			judge(o, &was);
		done[i]->busy = false;
		o->in_flight--;
		if (was.chain == CHAIN_RANDOM && (*left == 0 || --*left == 0))
			continue;
		next[count] = follow(o, &was);
		if (next[count]) {
			if (was.chain == CHAIN_RANDOM)
				next[count]->chain = CHAIN_RANDOM;
			count++;
		}
	}
	return submit(o, next, count);
}

static int drain(struct order *o, unsigned int left)
{
	int rc = 0;

	while (o->in_flight && rc == 0)
		rc = turn(o, &left);
	return rc;
}

/* --- rounds ----------------------------------------------------------------
 */

/* A: read, B: write, C: read, of many neighbours, all in flight at once. */
static int burst(struct order *o, unsigned int depth, uint32_t first)
{
	struct order_io *io[ORDER_DEPTH];
	unsigned int n = 0;

	for (unsigned int i = 0; i < (depth + 2) / 3; i++) {
		uint32_t block = (first + i) % ORDER_BLOCKS;

		io[n++] = new_read(o, block);
		io[n++] = new_write(o, block);
		io[n++] = new_read(o, block);
	}
	return submit(o, io, n);
}

/* The same one after the other for each block, on many blocks at once. */
static int chains(struct order *o, unsigned int depth, uint32_t first)
{
	struct order_io *io[ORDER_DEPTH];

	for (unsigned int i = 0; i < depth; i++) {
		io[i] = new_read(o, (first + i * 7) % ORDER_BLOCKS);
		io[i]->chain = CHAIN_WRITE_READ;
	}
	return submit(o, io, depth);
}

static int random_ones(struct order *o, unsigned int depth)
{
	struct order_io *io[ORDER_DEPTH];

	for (unsigned int i = 0; i < depth; i++) {
		io[i] = new_read(o, (uint32_t)random_below(o, 5));
		io[i]->chain = CHAIN_RANDOM;
	}
	return submit(o, io, depth);
}

void order_stir(struct order *o, uint64_t value)
{
	o->random = mix(o->random ^ mix(value));
}

int order_round(struct order *o, uint64_t number)
{
	static const unsigned int depths[] = { 1, 3, 12, 30, ORDER_DEPTH };
	unsigned int depth = depths[number / 3 % 5];
	uint32_t first = (uint32_t)random_below(o, ORDER_BLOCKS);
	int rc;

	o->suspends = o->ops->suspends(o->disk);
	switch (number % 3) {
	case 0:
		rc = burst(o, depth, first);
		break;
	case 1:
		rc = chains(o, depth, first);
		break;
	default:
		rc = random_ones(o, depth);
		break;
	}
	return rc < 0 ? rc : drain(o, 2 * depth);
}

static int all_blocks(struct order *o,
		      struct order_io *(*make)(struct order *, uint32_t))
{
	struct order_io *io[ORDER_DEPTH];
	int rc = 0;

	o->suspends = o->ops->suspends(o->disk);
	for (uint32_t block = 0; block < ORDER_BLOCKS && rc == 0;) {
		unsigned int n = 0;

		while (n < ORDER_DEPTH / 2 && block < ORDER_BLOCKS)
			io[n++] = make(o, block++);
		rc = submit(o, io, n);
		if (rc == 0)
			rc = drain(o, 0);
	}
	return rc;
}

static struct order_io *new_sweep(struct order *o, uint32_t block)
{
	struct order_io *io = new_read(o, block);

	io->sweep = true;
	return io;
}

int order_sweep(struct order *o)
{
	int rc = o->ops->flush(o->disk);

	if (rc < 0)
		return rc;
	o->n.sweeps++;
	return all_blocks(o, new_sweep);
}

int order_fill(struct order *o)
{
	return all_blocks(o, new_write);
}

void order_init(struct order *o, const struct order_disk *ops, void *disk,
		uint64_t run)
{
	o->ops = ops;
	o->disk = disk;
	o->run = run;
	o->random = run;
}
