/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A served disk: what the guest's backend reads and writes by way of nbdkit
 * (plugin.c).
 *
 * A change is begun in the meta and marked there, done to the storage, put into
 * the ring where a colod has asked for it, and ended: in that order, for one
 * change at a time, so that the ring has them in the order in which the storage
 * had them.  What does not get into a ring is counted as missed before it is
 * answered.  Reads and flushes wait for nobody.
 *
 * A colod asks by the control socket (control.h), on a thread of the export's.
 * An export that begins while a colod has the disk lets the first change wait
 * until that colod has passed its ring on, so that no protection ends with a
 * server; but not for long, since a guest must not hang for a peer.
 *
 * Failure: where the storage fails its errno is returned, the guest's to see,
 * and the ring is broken.  -EROFS: the disk is the peer's to write to
 * (DISK_ROLE_SECONDARY).  -EINVAL: there are no such bytes.  Any thread.
 */
#ifndef RESUME_DISK_EXPORT_H
#define RESUME_DISK_EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resume/guest.h"

struct disk_export;

/*
 * Holds DISK_HOLDER_SERVER; a change that a killed server has left pending is
 * taken up: what the storage has of it now becomes the change.  No threads yet.
 */
int disk_export_open(const char *disk_dir, const char *run_dir,
		     const char *name, struct disk_export **out,
		     struct guest_error *err);
/* The control socket and its thread: after a daemon's forks. */
int disk_export_listen(struct disk_export *e);
/* All requests are answered.  The storage is stable, and rests (meta.h). */
void disk_export_close(struct disk_export *e);
uint64_t disk_export_size(const struct disk_export *e);

int disk_export_read(struct disk_export *e, void *bytes, uint32_t length,
		     uint64_t offset);
int disk_export_write(struct disk_export *e, const void *bytes, uint32_t length,
		      uint64_t offset);
int disk_export_zero(struct disk_export *e, uint32_t length, uint64_t offset,
		     bool may_trim);
int disk_export_trim(struct disk_export *e, uint32_t length, uint64_t offset);
int disk_export_flush(struct disk_export *e);

#endif
