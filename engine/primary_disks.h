/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's replicated disks, all of a guest's together: opened for each
 * synchronisation, compared with the peer's while the guest runs, and then part
 * of its epochs.
 *
 * The happy path:
 *   - primary_disks_open() when a synchronisation begins; its `offer` goes to
 *     the peer behind DOMAIN;
 *   - primary_disks_compare() starts a thread that sends what differs, and from
 *     then on what the guest changes; primary_disks_compared() waits for it;
 *   - the image is sent, the guest stands still: primary_disks_limits();
 *   - primary_disks_follow_to() these, and the thread has ended;
 *   - each epoch: primary_disks_limits() in its pause, its changes up to these
 *     by primary_disks_changes(), primary_disks_sent(), primary_disks_acked().
 * Failure: each says so; a disk whose changes are not complete any more makes
 * primary_disks_limits() fail with -ESTALE, and all is done anew.
 *
 * A guest without replicated disks passes through all of it for nothing.
 *
 * Threads: the guest's, unless it says otherwise.
 */
#ifndef ENGINE_PRIMARY_DISKS_H
#define ENGINE_PRIMARY_DISKS_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "resume/disk/feed.h"
#include "resume/guest.h"
#include "stream/disk_messages.h"
#include "stream/epoch_encoder.h"

struct disks_compare;

/* What a comparison has sent, as IMAGE_END has it. */
struct disks_sent {
	uint64_t bytes;
	uint64_t checksum;
};

/* Up to which change of each disk. */
struct disk_limits {
	uint64_t at[GUEST_DISKS_MAX];
};

struct primary_disks {
	const char *disk_dir;
	const char *run_dir;
	size_t ring_bytes;

	/*
	 * Feeds and the comparison come and go under both; the loop takes
	 * `lock` alone, and `notes` is held by who waits for a storage.
	 */
	pthread_mutex_t notes, lock;
	unsigned int count;
	struct disk_feed *feeds[GUEST_DISKS_MAX];
	struct disks offer;
	struct disks_compare *compare; /* while one goes on */
	struct disks_sent sent;	       /* by the one that has finished */
	atomic_bool synced;	       /* the peer has what the offer says */
	bool stopped;		       /* until primary_disks_begin() */
	/* All that there are, open or not. */
	struct guest_disk known[GUEST_DISKS_MAX];
	unsigned int known_count;
	uint64_t looked_us;	  /* whether there are others by now */
	unsigned int other_looks; /* in a row */
};

void primary_disks_init(struct primary_disks *d, const char *disk_dir,
			const char *run_dir, size_t ring_bytes);
/* How many the guest has; before its thread has work, too. */
size_t primary_disks_find(struct primary_disks *d,
			  const struct guest_source_ops *ops,
			  struct guest_source *source);
/* Closes what was open.  `random`: of this synchronisation, not 0. */
int primary_disks_open(struct primary_disks *d,
		       const struct guest_source_ops *ops,
		       struct guest_source *source, uint64_t random,
		       struct guest_error *err);
void primary_disks_close(struct primary_disks *d);

/* How the comparison's thread reaches the peer: as struct frame_sink. */
struct disks_link {
	struct frame_buf *(*get)(void *arg);
	void (*put)(void *arg, struct frame_buf *b);
	void *arg;
	const char *what; /* for its line of progress; stays there */
	int level;	  /* of compression */
};

int primary_disks_compare(struct primary_disks *d, const struct disks_link *l);
/* -ECANCELED after primary_disks_stop(), -ESTALE, -ENOMEM, -EIO. */
int primary_disks_compared(struct primary_disks *d, struct guest_error *err);
int primary_disks_follow_to(struct primary_disks *d,
			    const struct disk_limits *to,
			    struct guest_error *err);
/* The guest stands still, or will be asked to later: what it has changed. */
int primary_disks_limits(struct primary_disks *d, struct disk_limits *out);
/*
 * While the guest runs, now and then: -ESTALE where disks came or went, which
 * its standby knows nothing of.
 */
int primary_disks_follow(struct primary_disks *d,
			 const struct guest_source_ops *ops,
			 struct guest_source *source, uint64_t now_us);
/* After -ESTALE: says why, if it was the disks. */
void primary_disks_explain(const struct primary_disks *d,
			   struct guest_error *err);

/* --- the encoder's thread --------------------------------------------------
 */

struct disk_changes {
	struct primary_disks *disks;
	struct disk_limits to;
	unsigned int at; /* the disk whose turn it is */
};

/* As epoch_changes.next, of a struct disk_changes. */
ssize_t primary_disks_changes(void *arg, uint8_t *raw, size_t room);
void primary_disks_sent(struct primary_disks *d, uint64_t epoch);
/*
 * The peer is whole; or the guest runs, or may run, without it.  They wait for
 * the storage of what is noted.
 */
void primary_disks_synced(struct primary_disks *d);
void primary_disks_alone(struct primary_disks *d);

/* --- the loop's thread ------------------------------------------------------
 */

/* A DISKS_TAKEN, DISK_MARKS or DISK_HASHES.  -EPROTO, -ENOMEM, with *why set.
 */
int primary_disks_frame(struct primary_disks *d, const struct frame *f,
			const char **why);
/* In a comparison it is the peer's turn. */
bool primary_disks_wait(struct primary_disks *d);
/*
 * The connection is over: changes are only marked, and nothing is compared,
 * until primary_disks_begin() for another one.
 */
void primary_disks_stop(struct primary_disks *d);
void primary_disks_begin(struct primary_disks *d);
/* What waits to be sent has half of a ring. */
bool primary_disks_filling(struct primary_disks *d);
void primary_disks_acked(struct primary_disks *d, uint64_t epoch);
json_t *primary_disks_status(struct primary_disks *d);

#endif
