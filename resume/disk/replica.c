/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/disk/replica.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/memory.h"
#include "resume/disk/replica_impl.h"

/* --- the thread ----------------------------------------------------------- */

int replica_error(struct disk_replica *r)
{
	AUTO_LOCK(&r->mutex);
	return r->err;
}

static bool wait_for_work(struct disk_replica *r, uint64_t *epoch)
{
	AUTO_LOCK(&r->mutex);
	while (!r->look && !r->end && r->committed <= r->applied)
		pthread_cond_wait(&r->changed, &r->mutex);
	*epoch = r->committed;
	if (r->end && r->committed <= r->applied)
		return false;
	r->look = false;
	return true;
}

static int change(void *arg, uint64_t epoch, const uint8_t *raw, size_t length)
{
	struct disk_replica *r = arg;

	return replica_change(&r->disks, epoch, raw, length);
}

/*
 * Then the journal is of no more use.  A storage that has failed to is not
 * asked again as it is: it would say that all is well, and have lost what it
 * had.
 */
static int make_stable(struct disk_replica *r)
{
	int err = replica_make_stable(&r->disks);

	r->again = err;
	return err;
}

static int drop(struct disk_replica *r)
{
	int err;

	if (!disk_journal_droppable(r->journal))
		return 0;
	err = make_stable(r);
	return err ? err : disk_journal_drop(r->journal);
}

static int apply(struct disk_replica *r, uint64_t epoch)
{
	int err = disk_journal_apply(r->journal, epoch, change, r);

	if (err)
		return err;
	pthread_mutex_lock(&r->mutex);
	if (epoch > r->applied)
		r->applied = epoch;
	pthread_mutex_unlock(&r->mutex);
	return drop(r);
}

static int remember(struct disk_replica *r, uint64_t epoch, int err)
{
	pthread_mutex_lock(&r->mutex);
	if (!r->err)
		r->err = err;
	pthread_mutex_unlock(&r->mutex);
	/* Whoever waits for room would wait for good. */
	disk_journal_cancel(r->journal);
	log_error("the disks of %s cannot follow epoch %llu: %s; it stays in "
		  "the journal",
		  r->domain, (unsigned long long)epoch, strerror(-err));
	return err;
}

static void *run(void *arg)
{
	struct disk_replica *r = arg;
	uint64_t epoch;
	int err = 0;

	while (!err && wait_for_work(r, &epoch)) {
		err = apply(r, epoch);
		if (err)
			remember(r, epoch, err);
	}
	return NULL;
}

static void wake(void *arg)
{
	struct disk_replica *r = arg;

	AUTO_LOCK(&r->mutex);
	r->look = true;
	pthread_cond_signal(&r->changed);
}

int replica_start(struct disk_replica *r)
{
	int err;

	disk_journal_watch(r->journal, wake, r);
	err = pthread_create(&r->thread, NULL, run, r);
	if (err)
		return -err;
	pthread_setname_np(r->thread, "colod-disk");
	r->has_thread = true;
	return 0;
}

void disk_replica_commit(struct disk_replica *r, uint64_t epoch)
{
	AUTO_LOCK(&r->mutex);
	if (epoch <= r->committed || r->end)
		return;
	r->committed = epoch;
	pthread_cond_signal(&r->changed);
}

/* The thread ends when all that is committed is applied, or cannot be. */
static int end_thread(struct disk_replica *r)
{
	pthread_mutex_lock(&r->mutex);
	r->end = true;
	pthread_cond_signal(&r->changed);
	pthread_mutex_unlock(&r->mutex);
	if (r->has_thread)
		pthread_join(r->thread, NULL);
	r->has_thread = false;
	return replica_error(r);
}

/* --- takeover ------------------------------------------------------------- */

static int last_epoch(struct disk_replica *r, uint64_t epoch,
		      struct guest_error *err)
{
	AUTO_LOCK(&r->mutex);
	if (!r->synced) {
		guest_error_set(err,
				"the disks of %s are not whole: they were just "
				"being synchronised",
				r->domain);
		return -EINVAL;
	}
	if (r->committed > epoch || (r->open_epoch && r->open_epoch <= epoch)) {
		guest_error_set(err,
				"the disks of %s cannot be as of epoch %llu: "
				"epoch %llu %s",
				r->domain, (unsigned long long)epoch,
				(unsigned long long)(r->committed > epoch
							     ? r->committed
							     : r->open_epoch),
				r->committed > epoch ? "is applied"
						     : "is not complete");
		return -EINVAL;
	}
	r->committed = epoch;
	r->cancelled = true;
	return 0;
}

/* From here on nothing is ever applied again. */
static int remove_journal(struct disk_replica *r)
{
	int err = r->removed ? 0 : fault_at(FAULT_DISK_BEFORE_PROMOTE);

	if (err || r->removed)
		return err;
	err = make_stable(r);
	if (!err)
		err = disk_journal_remove(r->journal);
	r->removed = !err;
	return err;
}

/* What the guest writes from now on is what is marked. */
static int become_primaries(struct replica_disks *d)
{
	int err = 0;

	for (unsigned int i = 0; i < d->count && !err; i++) {
		struct disk_state s = disk_meta_state(d->disk[i].meta);

		if (s.role == DISK_ROLE_PRIMARY)
			continue;
		s.role = DISK_ROLE_PRIMARY;
		s.alone = s.whole = true;
		disk_meta_clear(d->disk[i].meta);
		err = disk_meta_set(d->disk[i].meta, &s);
	}
	return err;
}

/* What could not be done before may be possible by now. */
static int go_on(struct disk_replica *r)
{
	int err = end_thread(r);

	if (!err && !r->again)
		return 0;
	if (r->again)
		disk_journal_rewind(r->journal);
	err = apply(r, r->committed);
	AUTO_LOCK(&r->mutex);
	r->err = err;
	return err;
}

static int promote(struct disk_replica *r)
{
	int err = go_on(r);

	if (!err)
		err = remove_journal(r);
	if (!err)
		err = become_primaries(&r->disks);
	if (err)
		return replica_kind_of(err);
	AUTO_LOCK(&r->mutex);
	r->promoted = true;
	return 0;
}

int disk_replica_promote(struct disk_replica *r, uint64_t epoch,
			 struct guest_error *err)
{
	int rc = r->taken ? last_epoch(r, epoch, err) : 0;

	if (rc || !r->taken)
		return rc;
	disk_journal_cancel(r->journal);
	rc = promote(r);
	if (rc)
		guest_error_set(err,
				"the disks of %s cannot be made as of epoch "
				"%llu: %s; see the log, and free what room "
				"they lack",
				r->domain, (unsigned long long)epoch,
				strerror(-rc));
	return rc;
}

/* --- its life ------------------------------------------------------------- */

static void free_replica(struct disk_replica *r)
{
	disk_journal_close(r->journal);
	replica_close_disks(&r->disks);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->mutex);
	free(r->block);
	free(r->disk_dir);
	free(r->domain);
	free(r);
}

static struct disk_replica *new_replica(const char *disk_dir,
					const char *domain)
{
	struct disk_replica *r = memory_zeroed(sizeof(*r));

	if (!r)
		return NULL;
	pthread_mutex_init(&r->mutex, NULL);
	pthread_cond_init(&r->changed, NULL);
	r->block = memory_new(DISK_BLOCK_BYTES);
	r->disk_dir = strdup(disk_dir);
	r->domain = strdup(domain);
	if (r->block && r->disk_dir && r->domain)
		return r;
	free_replica(r);
	return NULL;
}

int disk_replica_open(const char *disk_dir, const char *domain,
		      uint64_t journal_bytes, struct disk_replica **out,
		      struct guest_error *err)
{
	struct disk_replica *r;
	int rc = replica_finish_domain(disk_dir, domain, err);

	if (rc)
		return rc;
	r = new_replica(disk_dir, domain);
	if (!r) {
		guest_error_set(err, "no memory for the disks of %s", domain);
		return -ENOMEM;
	}
	r->journal_bytes = journal_bytes;
	*out = r;
	return 0;
}

/*
 * All that is complete, for the primary may have been told so.  What cannot be
 * applied stays in the journal.
 */
static int finish(struct disk_replica *r)
{
	int err = end_thread(r);

	if (!err && r->journal && !r->removed) {
		disk_journal_cancel(r->journal);
		err = apply(r, UINT64_MAX);
	}
	if (!err)
		err = make_stable(r);
	if (!err && r->journal && !r->removed)
		err = disk_journal_remove(r->journal);
	return err;
}

static void rest(struct replica_disks *d)
{
	for (unsigned int i = 0; i < d->count; i++) {
		struct disk_meta *m = d->disk[i].meta;
		int err = disk_meta_role(m) == DISK_ROLE_SECONDARY
				  ? disk_meta_rest(m)
				  : 0;

		if (err)
			log_warn("disk %s: its marks are not stable: %s; after "
				 "a new start of this host all of it will be "
				 "compared",
				 disk_meta_name(m), strerror(-err));
	}
}

void disk_replica_close(struct disk_replica *r)
{
	int err = 0;

	if (!r)
		return;
	if (r->taken && !r->promoted) {
		err = finish(r);
		if (!err)
			rest(&r->disks);
	}
	if (err)
		log_error("the journal of %s is not finished: %s; it will be, "
			  "when it is protected again",
			  r->domain, strerror(-err));
	free_replica(r);
}

void disk_replica_cancel(struct disk_replica *r)
{
	AUTO_LOCK(&r->mutex);
	r->cancelled = true;
	if (r->journal)
		disk_journal_cancel(r->journal);
}

static uint64_t used(struct disk_replica *r)
{
	return r->journal ? disk_journal_used(r->journal) : 0;
}

void disk_replica_status(struct disk_replica *r, struct disk_replica_status *s)
{
	AUTO_LOCK(&r->mutex);
	*s = (struct disk_replica_status){
		.disks = r->taken ? r->disks.count : 0,
		.whole = r->synced,
		.journal_bytes = used(r),
		.written_bytes = r->disks.written_bytes,
		.err = r->err,
	};
}
