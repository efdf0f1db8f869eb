/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The secondary's journal of a domain: changes of its disks by epoch, in front
 * of the disks themselves.  It makes an epoch whole or nothing on disks that a
 * kill -9, or the loss of the host's power, finds half changed.
 *
 * Two files (disk_journal_path(), 0 and 1), one of which is appended to while
 * the other is being applied.  A file begins with a header that names the
 * disks; its records have a checksum each, over a number that is random for
 * each file too, so that nothing of an earlier use is ever taken for a record.
 * A record is a DISK payload's changes, or says that an epoch is complete.
 *
 * The journal knows nothing of storages: who applies it reads it.  One thread
 * appends, another reads; see each.
 */
#ifndef RESUME_DISK_JOURNAL_H
#define RESUME_DISK_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resume/disk/names.h"
#include "resume/guest.h"

struct disk_journal;

/*
 * Empties and opens both files.  `limit_bytes`: the most that both may have.
 * The caller has replayed what was there (disk_journal_replay()).
 */
int disk_journal_open(const char *disk_dir, const char *domain,
		      const char *const *disks, unsigned int count,
		      uint64_t limit_bytes, struct disk_journal **out,
		      struct guest_error *err);
/* The files stay as they are.  NULL is fine. */
void disk_journal_close(struct disk_journal *j);

/* --- who appends ---------------------------------------------------------- */

/*
 * Waits for room while the other file is applied; -ENOSPC: an epoch does not
 * fit behind what is in its file, of half of the limit at most, or the file
 * system is full; -ECANCELED after disk_journal_cancel(); -EPROTO: not in
 * order.  After an error nothing is taken any more.
 */
int disk_journal_put(struct disk_journal *j, uint64_t epoch, const uint8_t *raw,
		     size_t length);
/* Of an epoch without any put, too. */
int disk_journal_end(struct disk_journal *j, uint64_t epoch);
/* Any thread: who waits for room returns. */
void disk_journal_cancel(struct disk_journal *j);
/* Bytes in both files.  Any thread. */
uint64_t disk_journal_used(struct disk_journal *j);
/*
 * Before the first of them: who appends calls `wake` where it begins to use the
 * other file, so that the one before may have become droppable by that alone.
 */
void disk_journal_watch(struct disk_journal *j, void (*wake)(void *arg),
			void *arg);

/* --- who applies ---------------------------------------------------------- */

/*
 * Calls `change` with the payload of each record of the complete epochs up to
 * `epoch` that was not read yet, in order.  Before the first of them what is in
 * the files is on stable storage.  Stops at the first error and returns it.
 */
typedef int disk_journal_fn(void *arg, uint64_t epoch, const uint8_t *raw,
			    size_t length);
int disk_journal_apply(struct disk_journal *j, uint64_t epoch,
		       disk_journal_fn *change, void *arg);
/* All that is still in the files is to be read again. */
void disk_journal_rewind(struct disk_journal *j);
/*
 * Whether a file could be emptied: all of it is read.  Then the caller makes
 * the storages stable, and disk_journal_drop() empties it.
 */
bool disk_journal_droppable(struct disk_journal *j);
int disk_journal_drop(struct disk_journal *j);
/*
 * Both files are removed, with what is complete in them and not read, too; what
 * was read is stable on the storages.  Nothing can be appended any more.
 */
int disk_journal_remove(struct disk_journal *j);

/* --- what a process that is no more has left ------------------------------ */

/*
 * The disks' names of the journal of `domain`: how many, 0 where there is none,
 * -EBADMSG where there was one that was applied, and names are not left, or an
 * errno.
 */
enum { DISK_JOURNAL_DISKS_MAX = 16 };
int disk_journal_disks(const char *disk_dir, const char *domain,
		       char names[DISK_JOURNAL_DISKS_MAX][DISK_NAME_MAX + 1]);
/*
 * All complete epochs, in order; one that was applied already may come again,
 * with all behind it.  The files stay: disk_journal_discard() when the storages
 * are stable.  -EBADMSG: what was applied is not all there any more.
 */
int disk_journal_replay(const char *disk_dir, const char *domain,
			disk_journal_fn *change, void *arg);
int disk_journal_discard(const char *disk_dir, const char *domain);

#endif
