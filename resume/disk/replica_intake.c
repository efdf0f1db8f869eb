/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the primary sends: to the storages at once as long as they are not
 * whole, to the journal from then on.  All of it is looked at before any of it
 * is kept, since what is acknowledged has to be applied.
 */
#include "config.h"

#include "resume/disk/replica_impl.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/log.h"

static int refuse(const char **why, const char *text)
{
	*why = text;
	return -EPROTO;
}

/* Whatever went wrong before ends it: the next epoch would lack something. */
static int error_before(struct disk_replica *r, const char **why)
{
	AUTO_LOCK(&r->mutex);
	if (r->err) {
		*why = "a committed epoch cannot be written to a disk of the "
		       "secondary";
		return replica_kind_of(r->err);
	}
	if (r->cancelled || r->promoted) {
		*why = "the secondary takes no more changes of its disks";
		return -ECANCELED;
	}
	if (r->failed)
		*why = "changes of the disks could not be kept before";
	return r->failed;
}

static int fail(struct disk_replica *r, int err)
{
	err = replica_kind_of(err);
	if (!r->failed)
		r->failed = err;
	return err;
}

/* --- put ------------------------------------------------------------------ */

static int check_put(struct disk_replica *r, uint64_t epoch, size_t length,
		     const char **why)
{
	if (!r->taken)
		return refuse(why, "changes of disks that were not offered");
	if (!epoch != !r->synced)
		return refuse(why, epoch ? "an epoch's changes of disks that "
					   "are not whole"
					 : "changes outside an epoch of disks "
					   "that are whole");
	if (length > WIRE_PIECE_MAX)
		return refuse(why, "more changes than fit a frame");
	if (epoch && epoch <= r->stored_epoch)
		return refuse(why, "changes of an epoch that has ended");
	if (r->open_epoch && epoch != r->open_epoch)
		return refuse(why, "changes of an epoch inside another");
	return 0;
}

static int put_now(struct disk_replica *r, const uint8_t *raw, size_t length,
		   const char **why)
{
	int err = replica_change(&r->disks, 0, raw, length);

	if (err)
		*why = "a disk of the secondary cannot be written to";
	return err;
}

static int told(struct disk_replica *r, int err, const char **why)
{
	/* It was not to wait for an applier that has stopped. */
	if (err == -ECANCELED) {
		int before = error_before(r, why);

		return before ? before : err;
	}
	*why = replica_kind_of(err) == -ENOSPC
		       ? "the secondary's journal has no room for an epoch: "
			 "see --disk-journal there, and the room in --disk-dir"
		       : "the secondary's journal cannot be written to";
	return err;
}

static int put_journal(struct disk_replica *r, uint64_t epoch,
		       const uint8_t *raw, size_t length, const char **why)
{
	int err;

	pthread_mutex_lock(&r->mutex);
	r->open_epoch = epoch;
	pthread_mutex_unlock(&r->mutex);
	err = disk_journal_put(r->journal, epoch, raw, length);
	if (!err)
		err = fault_at(FAULT_DISK_MID_JOURNAL);
	return err ? told(r, err, why) : 0;
}

int disk_replica_put(struct disk_replica *r, uint64_t epoch, const uint8_t *raw,
		     size_t length, const char **why)
{
	int err = error_before(r, why);

	if (err)
		return err;
	err = check_put(r, epoch, length, why);
	if (!err)
		err = replica_check(&r->disks, raw, length, why);
	if (!err)
		err = epoch ? put_journal(r, epoch, raw, length, why)
			    : put_now(r, raw, length, why);
	return err ? fail(r, err) : 0;
}

/* --- stored --------------------------------------------------------------- */

static int store(struct disk_replica *r, uint64_t epoch, const char **why)
{
	int err;

	if (!r->synced)
		return refuse(why, "an epoch of disks that are not whole");
	if (epoch <= r->stored_epoch ||
	    (r->open_epoch && epoch != r->open_epoch))
		return refuse(why, "an epoch that ends out of order");
	err = disk_journal_end(r->journal, epoch);
	if (err)
		return told(r, err, why);
	AUTO_LOCK(&r->mutex);
	r->stored_epoch = epoch;
	r->open_epoch = 0;
	return 0;
}

int disk_replica_stored(struct disk_replica *r, uint64_t epoch,
			const char **why)
{
	int err = error_before(r, why);

	if (err || !r->taken)
		return err;
	err = store(r, epoch, why);
	return err ? fail(r, err) : 0;
}

/* --- synced --------------------------------------------------------------- */

static int open_journal(struct disk_replica *r, struct guest_error *err)
{
	const char *names[WIRE_DISKS_MAX];
	struct disk_journal *j;
	int rc;

	for (unsigned int i = 0; i < r->disks.count; i++)
		names[i] = disk_meta_name(r->disks.disk[i].meta);
	rc = disk_journal_open(r->disk_dir, r->domain, names, r->disks.count,
			       r->journal_bytes, &j, err);
	if (rc)
		return rc;
	AUTO_LOCK(&r->mutex);
	r->journal = j;
	if (r->cancelled)
		disk_journal_cancel(j);
	return 0;
}

/* With the new base it can be told at once that nothing differs. */
static int become_whole(struct disk_replica *r)
{
	const struct disk_state whole = {
		.role = DISK_ROLE_SECONDARY,
		.whole = true,
		.base = r->new_base,
	};

	for (unsigned int i = 0; i < r->disks.count; i++) {
		struct disk_meta *m = r->disks.disk[i].meta;
		int err = disk_meta_set(m, &whole);

		if (err) {
			log_error("disk %s: its state cannot be changed: %s",
				  disk_meta_name(m), strerror(-err));
			return err;
		}
		disk_meta_clear(m);
	}
	return 0;
}

static int sync_all(struct disk_replica *r, const char **why)
{
	struct guest_error err = { { 0 } };
	int rc;

	for (unsigned int i = 0; i < r->disks.count; i++) {
		rc = disk_storage_sync(r->disks.disk[i].storage);
		if (rc) {
			*why = "a disk of the secondary cannot be made stable";
			return rc;
		}
	}
	rc = open_journal(r, &err);
	if (!rc)
		rc = replica_start(r);
	if (rc) {
		log_error("%s", err.text[0] ? err.text : strerror(-rc));
		*why = "the secondary's journal cannot be made";
		return rc;
	}
	*why = "the state of a disk of the secondary cannot be changed";
	return become_whole(r);
}

int disk_replica_synced(struct disk_replica *r, const char **why)
{
	int err = error_before(r, why);

	if (err)
		return err;
	if (!r->taken || r->synced)
		err = refuse(why, r->taken ? "disks that are whole twice"
					   : "no disks were offered");
	else
		err = sync_all(r, why);
	if (err)
		return fail(r, err);
	AUTO_LOCK(&r->mutex);
	r->synced = true;
	return 0;
}
