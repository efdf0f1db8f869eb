/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/disk/replica_impl.h"

#include <errno.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "stream/changes.h"

/* --- opening and closing -------------------------------------------------- */

int replica_hold(struct disk_meta *m, struct guest_error *err)
{
	int rc = disk_meta_hold(m, DISK_HOLDER_COLOD);

	if (rc == -EBUSY)
		guest_error_set(err,
				"disk %s is used by another colod of this "
				"host: end that first",
				disk_meta_name(m));
	else if (rc)
		guest_error_set(err, "disk %s cannot be locked: %s",
				disk_meta_name(m), strerror(-rc));
	return rc;
}

int replica_open_storage(struct replica_disks *d, unsigned int i,
			 struct guest_error *err)
{
	struct replica_disk *disk = &d->disk[i];
	uint64_t size = disk_meta_size(disk->meta);
	int rc = disk_storage_open(disk_meta_storage(disk->meta), true,
				   &disk->storage, err);

	if (rc)
		return rc;
	if (disk_storage_size(disk->storage) < size) {
		guest_error_set(
			err,
			"the storage %s of disk %s has %llu bytes, "
			"fewer than its %llu: give it its size again",
			disk_meta_storage(disk->meta),
			disk_meta_name(disk->meta),
			(unsigned long long)disk_storage_size(disk->storage),
			(unsigned long long)size);
		return -EINVAL;
	}
	d->sizes[i] = size;
	return 0;
}

void replica_close_disks(struct replica_disks *d)
{
	for (unsigned int i = 0; i < WIRE_DISKS_MAX; i++) {
		disk_storage_close(d->disk[i].storage);
		disk_meta_close(d->disk[i].meta);
		d->disk[i] = (struct replica_disk){ 0 };
	}
	d->count = 0;
}

/* --- changing ------------------------------------------------------------- */

int replica_check(const struct replica_disks *d, const uint8_t *raw,
		  size_t length, const char **why)
{
	const struct change_bounds b = { d->sizes, d->count };
	struct change c;
	int err = 0;

	while (length && !err)
		err = change_take(&raw, &length, &b, &c, why);
	return err;
}

/* As many bytes of a storage as the primary wants to have there. */
static int change_storage(struct replica_disks *d, struct disk_storage *s,
			  const struct change *c)
{
	switch (c->kind) {
	case CHANGE_WRITE:
		atomic_fetch_add(&d->written_bytes, c->length);
		return disk_storage_write(s, c->data, c->length, c->offset);
	case CHANGE_ZERO:
		return disk_storage_zero(s, c->offset, c->length, true);
	case CHANGE_TRIM:
		disk_storage_trim(s, c->offset, c->length);
		return 0;
	}
	return -EPROTO;
}

static int change_disk(struct replica_disks *d, const struct change *c)
{
	struct replica_disk *disk = &d->disk[c->disk];
	int err = disk->storage ? change_storage(d, disk->storage, c) : 0;

	if (err)
		log_error("disk %s: %u bytes at %llu of %s cannot be written: "
			  "%s",
			  disk_meta_name(disk->meta), c->length,
			  (unsigned long long)c->offset,
			  disk_meta_storage(disk->meta), strerror(-err));
	return err;
}

int replica_change(struct replica_disks *d, uint64_t epoch, const uint8_t *raw,
		   size_t length)
{
	const struct change_bounds b = { d->sizes, d->count };
	const uint8_t *first = raw;
	const char *why = NULL;
	struct change c;
	int err = 0;

	while (length && !err) {
		bool begins = raw == first;

		err = change_take(&raw, &length, &b, &c, &why);
		if (err)
			log_error("epoch %llu cannot be applied: it has %s",
				  (unsigned long long)epoch, why);
		else
			err = change_disk(d, &c);
		if (!err && begins && epoch)
			err = fault_at(FAULT_DISK_MID_APPLY);
	}
	return err;
}

int replica_make_stable(struct replica_disks *d)
{
	for (unsigned int i = 0; i < d->count; i++) {
		struct replica_disk *disk = &d->disk[i];
		int err = disk->storage ? disk_storage_sync(disk->storage) : 0;

		if (!err)
			continue;
		log_error("disk %s: what was written to %s is not stable: %s",
			  disk_meta_name(disk->meta),
			  disk_meta_storage(disk->meta), strerror(-err));
		return err;
	}
	return fault_at(FAULT_DISK_BEFORE_DROP);
}

void replica_distrust(struct replica_disks *d)
{
	static const struct disk_state unknown = {
		.role = DISK_ROLE_SECONDARY,
	};

	for (unsigned int i = 0; i < d->count; i++) {
		struct disk_meta *m = d->disk[i].meta;
		int err = d->disk[i].storage ? disk_meta_set(m, &unknown) : 0;

		if (err)
			log_error("disk %s: its state cannot be changed (%s): "
				  "make it anew before it is synchronised",
				  disk_meta_name(m), strerror(-err));
	}
}

int replica_kind_of(int err)
{
	switch (err) {
	case 0:
	case -ENOMEM:
	case -ENOSPC:
	case -EPROTO:
	case -ECANCELED:
		return err;
	case -EDQUOT:
		return -ENOSPC;
	default:
		return -EIO;
	}
}
