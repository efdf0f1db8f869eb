/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's end of a replicated disk: its changes, in order, and its blocks
 * for the synchronisation.
 *
 * The happy path, for one synchronisation and all epochs behind it:
 *   - disk_feed_open(): the disk's server puts its changes into a new ring;
 *   - any number of disk_feed_read() (blocks) and disk_feed_next() (changes, of
 *     the time of the synchronisation), in any order but from one thread: what
 *     a block had when it was read is never older than a change that is put
 *     later, so the peer that does both in that order has the same in the end;
 *   - the guest stands still: disk_feed_head() is the end of the image's;
 *   - disk_feed_synced() when the peer has said that it is whole;
 *   - for each epoch: disk_feed_head() in its pause, disk_feed_next() up to
 *     that, disk_feed_sent(), and disk_feed_acked().
 * Failure: disk_feed_broken(); the feed is closed and another one opened, and
 * what is marked (meta.h) is synchronised.
 *
 * A thread of the feed's passes the ring on again where the server is started
 * anew.
 */
#ifndef RESUME_DISK_FEED_H
#define RESUME_DISK_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resume/disk/meta.h"

struct disk_feed;

/*
 * Holds DISK_HOLDER_COLOD, and makes this side the primary of the disk
 * (DISK_ROLE_PRIMARY).  `index` is its place in the DISKS frame.
 * -ENOENT: no such disk; -ENOTCONN: it is not served; -EBUSY: another colod has
 * it; -EROFS: it is a secondary's, and to be made a primary's first.
 */
int disk_feed_open(const char *disk_dir, const char *run_dir, const char *name,
		   unsigned int index, size_t ring_bytes,
		   struct disk_feed **out, struct guest_error *err);
/* The disk's changes are only marked from now on.  NULL is fine. */
void disk_feed_close(struct disk_feed *f);

const struct disk_meta *disk_feed_meta(const struct disk_feed *f);

/* Any thread: where the changes that were put so far end. */
uint64_t disk_feed_head(const struct disk_feed *f);
/* Any thread: what is in the ring, bytes. */
size_t disk_feed_used(const struct disk_feed *f);
/* Any thread: changes are missing. */
bool disk_feed_broken(const struct disk_feed *f);
/* Any thread: it is broken from now on, and nobody waits for room. */
void disk_feed_stop(struct disk_feed *f);

/* --- one thread at a time ------------------------------------------------- */

/*
 * Appends changes in front of position `limit` at `raw` (stream/changes.h) as
 * far as there are some and `room` lasts.  How many bytes; -ESTALE: broken.
 */
ssize_t disk_feed_next(struct disk_feed *f, uint64_t limit, uint8_t *raw,
		       size_t room);
/* The bytes of a block, of which the last may be shorter: how many. */
ssize_t disk_feed_read(struct disk_feed *f, uint64_t block, uint8_t *bytes);
/* All of an epoch's changes have been taken by disk_feed_next(). */
void disk_feed_sent(struct disk_feed *f, uint64_t epoch);

/* --- another thread, one at a time ---------------------------------------- */

/*
 * The peer is whole, of this base.  Both clear marks, of what was taken by
 * disk_feed_next() before `limit` of the image and of acknowledged epochs.
 */
int disk_feed_synced(struct disk_feed *f, uint64_t base);
void disk_feed_acked(struct disk_feed *f, uint64_t epoch);

/* -------------------------------------------------------------------------- */

/*
 * The guest runs, or may run, without the peer: noted of a disk that is this
 * side's to write to, whoever has it.  Any thread; waits for the storage.
 */
void disk_feed_alone(const char *disk_dir, const char *name);

#endif
