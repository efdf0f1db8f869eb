/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a disk may answer while requests are in flight: the rules of the order
 * witness, over a disk of any kind (guest-order.c has the real one,
 * order-prove.c one that lies on purpose).
 *
 * The happy path:
 *   - every block is written once, so that each has a first version;
 *   - rounds of reads and writes follow, many in flight at once.  A block has
 *     at most one write in flight, so its versions are ordered, and the table
 *     here knows the newest that was issued and the newest acknowledged;
 *   - each read is judged when it completes; now and then all is quiet, the
 *     disk is flushed and every block read.
 * What a read can be found to be:
 *   overtaken  newer than the acknowledged version: a write in flight was first
 *              (allowed, and counted to show that requests do meet)
 *   stale      older than what was acknowledged before the read was issued
 *   lost       the same after a flush with nothing in flight; or a write that
 *              this very life of the guest acknowledged is covered by foreign
 *              content
 *   torn       not one whole version of this block; `mixed' if a write was in
 *              flight meanwhile, which no disk forbids: such a block is read
 *              again by the next sweep
 *   ahead      written by the guest, but not as far as this guest knows
 *   blank      not written by this guest at all
 *   failed     an error from the disk
 * A failover takes the guest back to its last epoch, and the disk may then hold
 * what its former self wrote later (ahead), or be another disk (blank).  Either
 * is allowed only where the acknowledged write was issued before the last
 * suspend that the guest has noticed: what it wrote since is its own and must
 * be there.
 *
 * All of it is ordinary memory of the guest, so it goes back with it.  One
 * thread.  Nothing here allocates; the caller does.
 */
#ifndef TESTS_LAB_ORDER_H
#define TESTS_LAB_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	ORDER_BLOCK = 4096,
	ORDER_SECTOR = 512,
	ORDER_SECTORS = ORDER_BLOCK / ORDER_SECTOR,
	ORDER_BLOCKS = 256,
	ORDER_DEPTH = 48,
	ORDER_STAMPS = 32,
};

struct order_io {
	bool write;
	bool overlapped; /* a read that met a write of its block */
	bool sweep;	 /* a read while nothing else is in flight */
	bool busy;
	uint32_t block;
	uint64_t version;	 /* to be written; or known when read */
	uint64_t suspends;	 /* noticed when it was issued */
	uint64_t known_suspends; /* and when the known version was issued */
	unsigned int chain;	 /* what follows it, see order.c */
	long result;		 /* bytes or a negative errno */
	uint8_t *buffer;	 /* ORDER_BLOCK bytes, aligned */
};

/* All return 0 (wait: how many are done) or a negative errno. */
struct order_disk {
	int (*submit)(void *disk, struct order_io **io, unsigned int count);
	int (*wait)(void *disk, struct order_io **done, unsigned int room);
	int (*flush)(void *disk);
	uint64_t (*suspends)(void *disk);
};

struct order_block {
	uint64_t issued, acked;
	uint64_t acked_suspends;      /* noticed when that write was issued */
	uint64_t stamp[ORDER_STAMPS]; /* of the last versions issued */
	bool writing;
};

#define ORDER_COUNTS(X)                                                    \
	X(reads)                                                           \
	X(writes) X(sweeps) X(overtaken) X(mixed) X(stale) X(torn) X(lost) \
		X(ahead) X(blank) X(failed)

struct order {
	const struct order_disk *ops;
	void *disk;
	bool quiet; /* no line for an error: it is wanted */
	uint64_t run, random, stamps, suspends;
	struct {
#define ORDER_COUNT(name) uint64_t name;
		ORDER_COUNTS(ORDER_COUNT)
#undef ORDER_COUNT
	} n;
	unsigned int in_flight;
	struct order_block block[ORDER_BLOCKS];
	struct order_io io[ORDER_DEPTH];
};

/* The buffers of io[] are the caller's; run tells this guest's blocks apart. */
void order_init(struct order *o, const struct order_disk *ops, void *disk,
		uint64_t run);
/*
 * Something that a former self did not know, such as the time: two lives shall
 * not do the same.  Before each round.
 */
void order_stir(struct order *o, uint64_t value);
/* Writes every block once.  0, or the disk's first error. */
int order_fill(struct order *o);
/* One round of the next kind and depth, until all of it is complete. */
int order_round(struct order *o, uint64_t number);
/* Flushes, then reads every block while nothing is written. */
int order_sweep(struct order *o);

#endif
