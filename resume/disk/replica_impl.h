/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a replica share (see replica.h):
 *
 *   replica.c		its life, its thread, the takeover
 *   replica_sync.c	what the primary offers and asks for
 *   replica_intake.c	what it sends
 *   replica_apply.c	the disks themselves
 *   replica_left.c	journals that were left
 */
#ifndef RESUME_DISK_REPLICA_IMPL_H
#define RESUME_DISK_REPLICA_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "resume/disk/journal.h"
#include "resume/disk/meta.h"
#include "resume/disk/replica.h"
#include "resume/disk/storage.h"

struct replica_disk {
	struct disk_meta *meta; /* these two NULL: not to be touched */
	struct disk_storage *storage;
	bool same_base;
};

struct replica_disks {
	unsigned int count;
	struct replica_disk disk[WIRE_DISKS_MAX];
	uint64_t sizes[WIRE_DISKS_MAX]; /* which a change may be of, bytes */
	_Atomic uint64_t written_bytes;
};

struct disk_replica {
	char *disk_dir, *domain;
	uint64_t journal_bytes;
	struct replica_disks disks; /* of no more than `taken` says */

	/* The intake's. */
	uint64_t new_base, seed;
	unsigned int marks_disk; /* from here on no marks were given yet */
	uint64_t marks_block;
	uint8_t *block;
	int failed; /* what it failed with: nothing goes on after that */

	bool has_thread;
	pthread_t thread;

	pthread_mutex_t mutex; /* of all that follows */
	pthread_cond_t changed;
	bool taken, synced, promoted, cancelled;
	struct disk_journal *journal; /* from `synced` to the close */
	bool removed;		      /* the journal, by a takeover */
	uint64_t open_epoch;	      /* some of it is in the journal */
	uint64_t stored_epoch;
	uint64_t committed, applied;
	bool look; /* there may be something to drop */
	bool end;  /* when what is committed is applied */
	int err;   /* what applying failed with */
	/* A storage may have forgotten what the journal still has. */
	bool again;
};

/* --- replica.c ------------------------------------------------------------ */

/* The journal's thread is there from now on. */
int replica_start(struct disk_replica *r);
int replica_error(struct disk_replica *r);

/* --- replica_apply.c ------------------------------------------------------ */

/* -EBUSY: another has it; says so in *err. */
int replica_hold(struct disk_meta *m, struct guest_error *err);
/* disk[i] has its meta. */
int replica_open_storage(struct replica_disks *d, unsigned int i,
			 struct guest_error *err);
void replica_close_disks(struct replica_disks *d);

/* Nothing but changes of these disks: what passes can be applied. */
int replica_check(const struct replica_disks *d, const uint8_t *raw,
		  size_t length, const char **why);
/* These two: 0, or an errno after a line in the log.  `epoch` 0: of the
 * synchronisation. */
int replica_change(struct replica_disks *d, uint64_t epoch, const uint8_t *raw,
		   size_t length);
/* All that was changed is stable, and what it came from may go. */
int replica_make_stable(struct replica_disks *d);
/* Nobody knows what is on them: all is compared the next time. */
void replica_distrust(struct replica_disks *d);
/* The few errors that a caller tells apart. */
int replica_kind_of(int err);

/* --- replica_left.c ------------------------------------------------------- */

/* Finishes the journal of the domain, if there is one. */
int replica_finish_domain(const char *disk_dir, const char *domain,
			  struct guest_error *err);

#endif
