/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file or block device that holds a disk's bytes on this host.  By the page
 * cache, so all who open it on this host see the same.  Any thread.
 *
 * 0 or a negative errno, nothing in between: what is short is -EIO.
 */
#ifndef RESUME_DISK_STORAGE_H
#define RESUME_DISK_STORAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resume/guest.h"

struct disk_storage;

/* -EINVAL: neither a file nor a block device, or empty. */
int disk_storage_open(const char *path, bool writable,
		      struct disk_storage **out, struct guest_error *err);
void disk_storage_close(struct disk_storage *s); /* NULL is fine */
uint64_t disk_storage_size(const struct disk_storage *s);

int disk_storage_read(struct disk_storage *s, void *bytes, size_t length,
		      uint64_t offset);
int disk_storage_write(struct disk_storage *s, const void *bytes, size_t length,
		       uint64_t offset);
/* Zeroes, which take no room where `may_trim` and the storage can. */
int disk_storage_zero(struct disk_storage *s, uint64_t offset, uint64_t length,
		      bool may_trim);
/* Its bytes are of no more use; they may read as anything.  Never fails. */
void disk_storage_trim(struct disk_storage *s, uint64_t offset,
		       uint64_t length);
/* All of it is stable. */
int disk_storage_sync(struct disk_storage *s);

#endif
