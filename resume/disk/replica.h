/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The secondary's end of a domain's replicated disks.
 *
 * The happy path:
 *   - disk_replica_open(): what an earlier colod has left in the domain's
 *     journal is finished first;
 *   - disk_replica_take() what the primary offers; marks and answers to what it
 *     asks (disk_replica_marks(), _hash());
 *   - disk_replica_put() of epoch 0 changes the storages at once: they are not
 *     whole until disk_replica_synced();
 *   - of another epoch it goes to the journal; disk_replica_stored() when all
 *     of the epoch is there; disk_replica_commit() lets a thread of the
 *     replica's apply it to the storages;
 *   - disk_replica_promote(): they are as of that epoch, stable, and this
 *     host's to write to.
 * Failure: an error of put or stored ends the protection, the epoch is not
 * acknowledged; one of applying does too, by the next call, and what was
 * committed stays in the journal until it can be finished.
 *
 * take, marks, hash, put, stored, synced, spoilt: one thread, the intake's.  commit,
 * promote: the guest's.  cancel, status: any.
 */
#ifndef RESUME_DISK_REPLICA_H
#define RESUME_DISK_REPLICA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resume/guest.h"
#include "stream/disk_messages.h"

struct disk_replica;

/* -EIO and the like: the leftover journal cannot be finished. */
int disk_replica_open(const char *disk_dir, const char *domain,
		      uint64_t journal_bytes, struct disk_replica **out,
		      struct guest_error *err);
/* All complete epochs are finished first where that can be.  NULL is fine. */
void disk_replica_close(struct disk_replica *r);
/* Who waits for room in the journal returns -ECANCELED. */
void disk_replica_cancel(struct disk_replica *r);

/*
 * Holds the disks and makes this side their secondary, unless one is not here
 * (-ENOENT), of another size (-EINVAL), held (-EBUSY), or has run alone on this
 * host (-EPERM): then nothing has changed but for leftover journals, of other
 * domains that had these disks, too, which are finished.  Fills the answer.
 */
int disk_replica_take(struct disk_replica *r, const struct disks *offer,
		      struct disks_taken *answer, struct guest_error *err);
/*
 * The next marks of this side for the primary, of disks with the same base; 0:
 * no more.
 */
int disk_replica_marks(struct disk_replica *r, struct disk_blocks *out);
/* -EPROTO: of blocks that there are not. */
int disk_replica_hash(struct disk_replica *r, const struct disk_blocks *ask,
		      struct disk_hashes *out, const char **why);

/* `raw` as in a DISK payload.  -EPROTO, -ENOSPC, -EIO, ..., with *why set. */
int disk_replica_put(struct disk_replica *r, uint64_t epoch, const uint8_t *raw,
		     size_t length, const char **why);
int disk_replica_stored(struct disk_replica *r, uint64_t epoch,
			const char **why);
/* All that the primary's image stands for is on the storages. */
int disk_replica_synced(struct disk_replica *r, const char **why);
/* Instead: what came is not what was sent, and may be anywhere. */
void disk_replica_spoilt(struct disk_replica *r);

void disk_replica_commit(struct disk_replica *r, uint64_t epoch);
/*
 * What was committed must not be later than that.  -EINVAL: it was, or the
 * disks are not whole.  0 without any disks.  After an error it may be tried
 * again.
 */
int disk_replica_promote(struct disk_replica *r, uint64_t epoch,
			 struct guest_error *err);

struct disk_replica_status {
	unsigned int disks;
	bool whole;
	uint64_t journal_bytes; /* in it at the moment */
	uint64_t written_bytes; /* to the storages, since it was opened */
	int err;		/* what stopped it, a negative errno, or 0 */
};
void disk_replica_status(struct disk_replica *r, struct disk_replica_status *s);

/*
 * Before the disk becomes somebody else's, by a take or by an operator's word:
 * finishes the journal of every domain that has it, so that it is as of the
 * last complete epoch.
 */
int disk_replica_finish(const char *disk_dir, const char *disk,
			struct guest_error *err);

#endif
