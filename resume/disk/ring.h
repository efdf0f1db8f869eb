/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The changes of a disk on their way from who serves it to the colod that
 * replicates it: a ring in shared memory, one writer and one reader, each in a
 * process that may be killed at any moment.  What is not put whole is not
 * there.
 *
 * It is the bound on memory: a writer waits for room.  When that takes too long
 * or the storage has failed, the ring is *broken* for good: what is written
 * from then on is only marked (meta.h), and both sides have to be synchronised
 * anew.
 */
#ifndef RESUME_DISK_RING_H
#define RESUME_DISK_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream/changes.h"

struct disk_ring;

/* The reader's: a new one for `bytes` (a multiple of the page size).  -ENOMEM.
 */
int disk_ring_new(size_t bytes, struct disk_ring **out);
/* Of the memory, to be passed to the writer; the ring's. */
int disk_ring_fd(const struct disk_ring *r);
/* The writer's: maps it, and takes over `fd` whatever happens.  -EINVAL. */
int disk_ring_map(int fd, struct disk_ring **out);
void disk_ring_close(struct disk_ring *r); /* NULL is fine */

/* --- the writer, one thread at a time ------------------------------------- */

/*
 * Puts a change (its data is of CHANGE_WRITE alone, c->length bytes, at most
 * CHANGE_DATA_MAX), with the set in which it was marked.  Waits for room at
 * most `patience_us`, then breaks the ring.  -EPIPE: it is broken.
 */
int disk_ring_put(struct disk_ring *r, const struct change *c,
		  const uint8_t *data, unsigned int set, uint64_t patience_us);
/* Either side's, any thread. */
void disk_ring_break(struct disk_ring *r);
bool disk_ring_broken(const struct disk_ring *r);

/* --- the reader, one thread at a time; disk_ring_head(): any thread ------- */

/* The position behind what was put last: it only grows. */
uint64_t disk_ring_head(const struct disk_ring *r);
/* What is in it, bytes. */
size_t disk_ring_used(const struct disk_ring *r);
/*
 * The next change in front of position `limit`, if there is one; c->data stays
 * valid until disk_ring_pop().  -EPROTO: what is there is no change.
 */
int disk_ring_peek(struct disk_ring *r, uint64_t limit, struct change *c,
		   unsigned int *set); /* 1: there is one, 0: none */
void disk_ring_pop(struct disk_ring *r);

#endif
