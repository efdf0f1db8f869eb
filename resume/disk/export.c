/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A served disk (see export.h).
 *
 * One mutex is held over a whole change, and while a ring comes into use or
 * goes out of it.  So a change is done before a new ring is there, and whoever
 * reads the storage from then on sees it; or it goes into the ring.
 *
 * The change that a killed server has left (`left`) is on the storage in part,
 * and in the ring not at all or whole.  Nothing else was changed since.  So the
 * bytes that are there now, put into the ring that was in use then, make the
 * two the same again.  With a new ring its marks are enough.
 */
#include "config.h"

#include "resume/disk/export.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bounds.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "resume/disk/control.h"
#include "resume/disk/meta.h"
#include "resume/disk/ring.h"
#include "resume/disk/storage.h"

enum {
	/* For room in the ring, and for a ring at the start. */
	PATIENCE_US = 2 * 1000 * 1000,
	/* A longer one is synchronised faster than it goes through a ring. */
	LEFT_BYTES_MAX = 64 * 1024 * 1024,
};

struct disk_export {
	char name[DISK_NAME_MAX + 1];
	char run_dir[DISK_PATH_MAX];
	struct disk_meta *meta;
	struct disk_storage *storage;
	struct disk_control *control;
	_Atomic uint64_t *missed;
	uint64_t size;

	pthread_cond_t attached;
	pthread_mutex_t mutex; /* of all that follows, and of changes */
	struct disk_ring *ring;
	bool expected; /* a colod has the disk, and its ring is not here yet */
	bool left;
	uint64_t left_offset, left_length;
};

/* --- the ring ---------------------------------------------------------------
 * All of it with the mutex.
 */

/* Before the answer: a colod that looks after it must know. */
static void give_up(struct disk_export *e)
{
	atomic_fetch_add(e->missed, 1);
	if (e->ring)
		disk_ring_break(e->ring);
}

static int put_one(struct disk_export *e, const struct change *c,
		   unsigned int set)
{
	if (disk_ring_broken(e->ring))
		return -EPIPE;
	if (!disk_ring_put(e->ring, c, c->data, set, PATIENCE_US))
		return 0;
	log_warn("disk %s: colod does not take its changes; they are only "
		 "marked until it synchronises the disk anew",
		 e->name);
	return -EPIPE;
}

/* A WRITE of any length. */
static int put_pieces(struct disk_export *e, const struct change *whole,
		      unsigned int set)
{
	struct change c = *whole;
	uint32_t left = whole->length;
	int rc = 0;

	while (left && rc == 0) {
		c.length = (uint32_t)at_most(left, CHANGE_DATA_MAX);
		rc = put_one(e, &c, set);
		c.data += c.length;
		c.offset += c.length;
		left -= c.length;
	}
	return rc;
}

static void put(struct disk_export *e, const struct change *c, unsigned int set)
{
	int rc = -ENOTCONN;

	if (e->ring && c->kind == CHANGE_WRITE)
		rc = put_pieces(e, c, set);
	else if (e->ring)
		rc = put_one(e, c, set);
	if (rc < 0)
		give_up(e);
}

static void drop_ring(struct disk_export *e)
{
	if (!e->ring)
		return;
	disk_ring_break(e->ring);
	disk_ring_close(e->ring);
	e->ring = NULL;
}

/* --- a change that was left -------------------------------------------------
 */

static int put_left(struct disk_export *e, uint8_t *bytes)
{
	unsigned int set =
		disk_meta_mark(e->meta, e->left_offset, e->left_length);
	uint64_t left = e->left_length;
	struct change c = { .kind = CHANGE_WRITE,
			    .offset = e->left_offset,
			    .data = bytes };
	int rc = 0;

	while (left && rc == 0) {
		c.length = (uint32_t)at_most(left, CHANGE_DATA_MAX);
		rc = disk_storage_read(e->storage, bytes, c.length, c.offset);
		if (rc == 0)
			rc = put_one(e, &c, set);
		c.offset += c.length;
		left -= c.length;
	}
	return rc;
}

/* It is in the ring, or known not to be. */
static void settle_left(struct disk_export *e)
{
	AUTO_FREE uint8_t *bytes = NULL;

	if (!e->left)
		return;
	if (e->ring && e->left_length <= LEFT_BYTES_MAX)
		bytes = memory_new(CHANGE_DATA_MAX);
	if (!bytes || put_left(e, bytes) < 0)
		give_up(e);
	e->left = false;
	disk_meta_end(e->meta);
}

/* Past the end there is nothing: the file is not to be believed further. */
static void find_left(struct disk_export *e)
{
	e->left = disk_meta_pending(e->meta, &e->left_offset, &e->left_length);
	if (!e->left)
		return;
	e->left_offset = at_most(e->left_offset, e->size);
	e->left_length = at_most(e->left_length, e->size - e->left_offset);
	disk_meta_mark(e->meta, e->left_offset, e->left_length);
}

/* --- colod comes and goes ---------------------------------------------------
 */

static int attach(void *arg, enum disk_control_ask ask, int ring_fd,
		  uint64_t *missed)
{
	struct disk_export *e = arg;
	struct disk_ring *ring;
	int rc = disk_ring_map(ring_fd, &ring);

	if (rc < 0) {
		log_warn("disk %s: what colod has passed is no ring: %s",
			 e->name, strerror(-rc));
		return rc;
	}
	AUTO_LOCK(&e->mutex);
	drop_ring(e);
	e->ring = ring;
	e->expected = false;
	if (e->left && ask == DISK_CONTROL_NEW) {
		e->left = false;
		disk_meta_end(e->meta);
	}
	settle_left(e);
	*missed = atomic_load(e->missed);
	pthread_cond_broadcast(&e->attached);
	log_info("disk %s: its changes go to colod", e->name);
	return 0;
}

static void detach(void *arg)
{
	struct disk_export *e = arg;
	AUTO_LOCK(&e->mutex);

	drop_ring(e);
	log_info("disk %s: its changes are only marked", e->name);
}

/* With the mutex, which is let go meanwhile. */
static void wait_for_ring(struct disk_export *e)
{
	uint64_t until_us = e->expected ? clock_now_us() + PATIENCE_US : 0;
	const struct timespec until = {
		.tv_sec = (time_t)(until_us / 1000000),
		.tv_nsec = (long)(until_us % 1000000 * 1000),
	};
	int err = 0;

	while (e->expected && !err &&
	       disk_meta_role(e->meta) != DISK_ROLE_SECONDARY)
		err = pthread_cond_timedwait(&e->attached, &e->mutex, &until);
	if (!e->expected || !err)
		return;
	log_warn("disk %s: a colod has it and does not ask for its changes",
		 e->name);
	e->expected = false;
	pthread_cond_broadcast(&e->attached);
}

/* --- changes ----------------------------------------------------------------
 */

static bool within(const struct disk_export *e, uint64_t offset,
		   uint32_t length)
{
	return length && offset <= e->size && length <= e->size - offset;
}

static int store(struct disk_export *e, const struct change *c, bool may_trim)
{
	if (c->kind == CHANGE_WRITE)
		return disk_storage_write(e->storage, c->data, c->length,
					  c->offset);
	if (c->kind == CHANGE_ZERO)
		return disk_storage_zero(e->storage, c->offset, c->length,
					 may_trim);
	disk_storage_trim(e->storage, c->offset, c->length);
	return 0;
}

static int change(struct disk_export *e, const struct change *c, bool may_trim)
{
	unsigned int set;
	int rc;

	if (!within(e, c->offset, c->length))
		return -EINVAL;
	AUTO_LOCK(&e->mutex);
	wait_for_ring(e);
	settle_left(e);
	disk_meta_begin(e->meta, c->offset, c->length);
	/* Behind it: who makes this a secondary waits for what has begun. */
	if (disk_meta_role(e->meta) == DISK_ROLE_SECONDARY) {
		disk_meta_end(e->meta);
		return -EROFS;
	}
	set = disk_meta_mark(e->meta, c->offset, c->length);
	rc = store(e, c, may_trim);
	if (rc == 0)
		put(e, c, set);
	else
		give_up(e); /* a part of it may be there, unknown which */
	disk_meta_end(e->meta);
	if (rc < 0)
		log_error("disk %s: its storage %s fails: %s", e->name,
			  disk_meta_storage(e->meta), strerror(-rc));
	return rc;
}

int disk_export_write(struct disk_export *e, const void *bytes, uint32_t length,
		      uint64_t offset)
{
	const struct change c = { .kind = CHANGE_WRITE,
				  .offset = offset,
				  .length = length,
				  .data = bytes };

	return change(e, &c, false);
}

int disk_export_zero(struct disk_export *e, uint32_t length, uint64_t offset,
		     bool may_trim)
{
	const struct change c = { .kind = CHANGE_ZERO,
				  .offset = offset,
				  .length = length };

	return change(e, &c, may_trim);
}

int disk_export_trim(struct disk_export *e, uint32_t length, uint64_t offset)
{
	const struct change c = { .kind = CHANGE_TRIM,
				  .offset = offset,
				  .length = length };

	return change(e, &c, true);
}

int disk_export_read(struct disk_export *e, void *bytes, uint32_t length,
		     uint64_t offset)
{
	if (!within(e, offset, length))
		return -EINVAL;
	return disk_storage_read(e->storage, bytes, length, offset);
}

int disk_export_flush(struct disk_export *e)
{
	return disk_storage_sync(e->storage);
}

uint64_t disk_export_size(const struct disk_export *e)
{
	return e->size;
}

/* --- its life ---------------------------------------------------------------
 */

static int hold(struct disk_export *e, struct guest_error *err)
{
	int rc = disk_meta_hold(e->meta, DISK_HOLDER_SERVER);

	if (rc == -EBUSY)
		guest_error_set(err,
				"disk %s is served already: end that server "
				"first",
				e->name);
	else if (rc < 0)
		guest_error_set(err, "disk %s cannot be locked: %s", e->name,
				strerror(-rc));
	return rc;
}

static int open_storage(struct disk_export *e, struct guest_error *err)
{
	const char *path = disk_meta_storage(e->meta);
	int rc = disk_storage_open(path, true, &e->storage, err);

	e->size = disk_meta_size(e->meta);
	if (rc == 0 && disk_storage_size(e->storage) < e->size) {
		guest_error_set(err,
				"the storage %s of disk %s has become shorter "
				"than the disk: give it back its size",
				path, e->name);
		return -EINVAL;
	}
	return rc;
}

/* From here on a base counts until the host ends without a word. */
static int prepare(struct disk_export *e, struct guest_error *err)
{
	int rc = disk_missed_make(e->run_dir, e->name, &e->missed);

	if (rc < 0) {
		guest_error_set(err,
				"the files of disk %s in %s: %s; see that "
				"there is room and that colod may write there",
				e->name, e->run_dir, strerror(-rc));
		return rc;
	}
	rc = disk_meta_wake(e->meta);
	if (rc < 0)
		guest_error_set(err, "what is known of disk %s: %s", e->name,
				strerror(-rc));
	else
		find_left(e);
	return rc;
}

static void make_locks(struct disk_export *e)
{
	pthread_condattr_t by_clock;

	pthread_mutex_init(&e->mutex, NULL);
	pthread_condattr_init(&by_clock);
	pthread_condattr_setclock(&by_clock, CLOCK_MONOTONIC);
	pthread_cond_init(&e->attached, &by_clock);
	pthread_condattr_destroy(&by_clock);
}

static void release(struct disk_export *e)
{
	disk_ring_close(e->ring);
	disk_missed_unmap(e->missed);
	disk_storage_close(e->storage);
	disk_meta_close(e->meta);
	pthread_cond_destroy(&e->attached);
	pthread_mutex_destroy(&e->mutex);
	free(e);
}

int disk_export_open(const char *disk_dir, const char *run_dir,
		     const char *name, struct disk_export **out,
		     struct guest_error *err)
{
	struct disk_export *e = calloc(1, sizeof(*e));
	int rc;

	if (!e) {
		guest_error_set(err, "no memory to serve disk %s", name);
		return -ENOMEM;
	}
	make_locks(e);
	snprintf(e->name, sizeof(e->name), "%s", name);
	snprintf(e->run_dir, sizeof(e->run_dir), "%s", run_dir);
	rc = disk_meta_open(disk_dir, name, &e->meta, err);
	if (rc == 0)
		rc = hold(e, err);
	if (rc == 0)
		rc = open_storage(e, err);
	if (rc == 0)
		rc = prepare(e, err);
	if (rc < 0) {
		release(e);
		return rc;
	}
	*out = e;
	return 0;
}

int disk_export_listen(struct disk_export *e)
{
	static const struct disk_control_ops ops = { attach, detach };

	e->expected = disk_meta_role(e->meta) == DISK_ROLE_PRIMARY &&
		      disk_meta_held(e->meta, DISK_HOLDER_COLOD) == 1;
	return disk_control_listen(e->run_dir, e->name, &ops, e, &e->control);
}

/*
 * The ring is not broken: nothing is written until a server begins anew, and
 * that one is passed it again.  A secondary's storage is its colod's to let
 * rest.
 */
void disk_export_close(struct disk_export *e)
{
	int rc;

	if (!e)
		return;
	disk_control_close(e->control);
	rc = disk_storage_sync(e->storage);
	if (rc == 0 && disk_meta_role(e->meta) != DISK_ROLE_SECONDARY)
		rc = disk_meta_rest(e->meta);
	if (rc < 0)
		log_warn("disk %s cannot be made stable: %s; it is compared "
			 "whole if the host ends now",
			 e->name, strerror(-rc));
	release(e);
}
