/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the rules of order.h: a disk in memory that does requests in any order
 * and, told so, lies in one of the ways a disk, a driver or a failover can.
 * Each lie must be found under its own name, and under no other; without one
 * nothing may be found.  Takes a fraction of a second; returns how many cases
 * went wrong and says which.
 */
#include "order.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int order_prove(void);

enum { ROUNDS = 120, QUEUE = ORDER_DEPTH };

enum lie {
	NONE,
	DROP,	      /* a write is acknowledged and not done */
	OLD_READ,     /* a read returns what was there before the last write */
	HALF,	      /* half of a block is written */
	ELSEWHERE,    /* a write lands on the next block */
	TWICE,	      /* a write is done again after the next one */
	ERROR,	      /* a request fails */
	OTHER_DISK,   /* another disk, at a suspend: allowed */
	WIPED,	      /* another disk, without a suspend */
	FAILOVER,     /* the guest goes back, the disk does not: allowed */
	FORMER_WRITE, /* and then a write of its former self lands late */
	LIES,
};

struct fake_disk {
	enum lie lie;
	unsigned int lies_left;
	uint64_t turns, lie_at;
	uint64_t random, suspends;
	struct order_io *queue[QUEUE];
	unsigned int queued;
	uint8_t data[ORDER_BLOCKS][ORDER_BLOCK];
	uint8_t before[ORDER_BLOCKS][ORDER_BLOCK]; /* the last write */
	int again;				   /* a block, or -1 */
	uint8_t held[ORDER_BLOCK];
};

static uint64_t fake_random(struct fake_disk *d)
{
	d->random = d->random * 6364136223846793005u + 1442695040888963407u;
	return d->random >> 33;
}

static int fake_submit(void *disk, struct order_io **io, unsigned int count)
{
	struct fake_disk *d = disk;

	for (unsigned int i = 0; i < count; i++)
		d->queue[d->queued++] = io[i];
	return 0;
}

/* Is it time to lie, about a request of this kind? */
static bool lies(struct fake_disk *d, enum lie lie, bool fits)
{
	if (d->lie != lie || !fits || d->turns < d->lie_at)
		return false;
	if (--d->lies_left == 0)
		d->lie = NONE;
	return true;
}

static void fake_write(struct fake_disk *d, struct order_io *io)
{
	uint8_t *block = d->data[io->block];

	if (lies(d, DROP, true))
		return;
	if (lies(d, ELSEWHERE, true))
		block = d->data[(io->block + 1) % ORDER_BLOCKS];
	memcpy(d->before[io->block], block, ORDER_BLOCK);
	if (lies(d, TWICE, d->again < 0)) {
		memcpy(d->held, io->buffer, ORDER_BLOCK);
		d->again = (int)io->block;
	} else if (d->again == (int)io->block) {
		memcpy(d->data[d->again], d->held, ORDER_BLOCK);
		d->again = -1;
		return;
	}
	memcpy(block, io->buffer,
	       lies(d, HALF, true) ? ORDER_BLOCK / 2 : ORDER_BLOCK);
}

static void fake_do(struct fake_disk *d, struct order_io *io)
{
	io->result = ORDER_BLOCK;
	d->turns++;
	if (lies(d, ERROR, true))
		io->result = -5;
	else if (io->write)
		fake_write(d, io);
	else if (lies(d, OLD_READ, !io->overlapped && !io->sweep))
		memcpy(io->buffer, d->before[io->block], ORDER_BLOCK);
	else
		memcpy(io->buffer, d->data[io->block], ORDER_BLOCK);
}

/* One at a time, any of the queue. */
static int fake_wait(void *disk, struct order_io **done, unsigned int room)
{
	struct fake_disk *d = disk;
	unsigned int i = (unsigned int)(fake_random(d) % d->queued);

	if (lies(d, WIPED, true))
		memset(d->data, 0, sizeof(d->data));
	done[0] = d->queue[i];
	d->queue[i] = d->queue[--d->queued];
	fake_do(d, done[0]);
	return room ? 1 : 0;
}

static int fake_flush(void *disk)
{
	return disk ? 0 : -1;
}

static uint64_t fake_suspends(void *disk)
{
	return ((struct fake_disk *)disk)->suspends;
}

static const struct order_disk fake_ops = {
	.submit = fake_submit,
	.wait = fake_wait,
	.flush = fake_flush,
	.suspends = fake_suspends,
};

static void rounds(struct order *o, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++) {
		order_round(o, i);
		if (i % 40 == 39)
			order_sweep(o);
	}
	order_sweep(o);
}

/* The guest as it was at its last suspend; its former self ran on. */
static void failover(struct order *o, struct fake_disk *d)
{
	struct order *epoch = malloc(sizeof(*o));

	d->suspends++;
	memcpy(epoch, o, sizeof(*o));
	rounds(o, 0, 30);
	memcpy(o, epoch, sizeof(*o));
	order_stir(o, 1);
	free(epoch);
}

/* As after a failover onto a shared disk, whose old host still writes. */
static void former_write(struct order *o, struct fake_disk *d)
{
	struct order *epoch = malloc(sizeof(*o));
	uint32_t block = 3;

	d->suspends++;
	memcpy(epoch, o, sizeof(*o));
	rounds(o, 0, 30);
	memcpy(d->held, d->data[block], ORDER_BLOCK);
	memcpy(o, epoch, sizeof(*o));
	order_stir(o, 1);
	free(epoch);
	/* Its new self writes all of them, then the old write lands. */
	order_fill(o);
	memcpy(d->data[block], d->held, ORDER_BLOCK);
}

static void play(struct order *o, struct fake_disk *d, enum lie lie)
{
	order_fill(o);
	rounds(o, 0, ROUNDS / 2);
	d->lie = lie;
	/* A single one may be written over before it is seen. */
	d->lies_left = lie == WIPED ? 1 : 5;
	d->lie_at = d->turns + 20;
	switch (lie) {
	case OTHER_DISK:
		d->suspends++;
		memset(d->data, 0, sizeof(d->data));
		break;
	case FAILOVER:
		failover(o, d);
		break;
	case FORMER_WRITE:
		former_write(o, d);
		break;
	default:
		break;
	}
	rounds(o, ROUNDS / 2, ROUNDS);
}

/* "stale lost" of the counts that say that something happened. */
static void found(const struct order *o, char *text)
{
	*text = '\0';
#define ORDER_COUNT(name)                                                     \
	if (o->n.name && strcmp(#name, "reads") && strcmp(#name, "writes") && \
	    strcmp(#name, "sweeps") && strcmp(#name, "overtaken"))            \
		sprintf(text + strlen(text), "%s%s", *text ? " " : "", #name);
	ORDER_COUNTS(ORDER_COUNT)
#undef ORDER_COUNT
}

static int prove(enum lie lie, const char *name, const char *allowed,
		 const char *needed)
{
	static uint8_t buffers[ORDER_DEPTH][ORDER_BLOCK]
		__attribute__((aligned(ORDER_BLOCK)));
	struct order *o = calloc(1, sizeof(*o));
	struct fake_disk *d = calloc(1, sizeof(*d));
	char seen[256], *word, *rest;
	int wrong = 0;

	if (!o || !d)
		abort();
	for (unsigned int i = 0; i < ORDER_DEPTH; i++)
		o->io[i].buffer = buffers[i];
	o->quiet = true;
	d->again = -1;
	d->random = (uint64_t)lie + 1;
	order_init(o, &fake_ops, d, 42);
	play(o, d, lie);
	found(o, seen);
	printf("%-12s %lu reads, %lu overtaken: %s\n", name, o->n.reads,
	       o->n.overtaken, *seen ? seen : "nothing");
	if (*needed && !strstr(seen, needed))
		wrong = printf("order: %s: not found: %s\n", name, needed) > 0;
	for (word = strtok_r(seen, " ", &rest); word;
	     word = strtok_r(NULL, " ", &rest))
		if (!strstr(allowed, word))
			wrong = printf("order: %s: wrongly found: %s\n", name,
				       word) > 0;
	if (o->n.overtaken == 0)
		wrong = printf("order: %s: no request met another\n", name) > 0;
	free(o);
	free(d);
	return wrong;
}

int order_prove(void)
{
	return prove(NONE, "honest", "", "") +
	       prove(DROP, "drop", "stale lost", "stale") +
	       prove(OLD_READ, "old-read", "stale", "stale") +
	       prove(HALF, "half", "torn mixed lost", "torn") +
	       prove(ELSEWHERE, "elsewhere", "torn mixed stale lost", "torn") +
	       prove(TWICE, "twice", "stale lost", "stale") +
	       prove(ERROR, "error", "failed", "failed") +
	       prove(OTHER_DISK, "other-disk", "blank", "blank") +
	       prove(WIPED, "wiped", "lost blank", "lost") +
	       prove(FAILOVER, "failover", "ahead", "ahead") +
	       prove(FORMER_WRITE, "former-write", "lost", "lost");
}
