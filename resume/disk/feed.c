/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's end of a replicated disk (see feed.h).
 *
 * When marks may go.  The server makes one change at a time, from its mark to
 * its place in the ring, and a server that begins anew first puts what the last
 * one has left.  So with a rotation somewhere in between, all entries of the
 * old set are in front of the first entry of the new one.  When that was taken,
 * in epoch m, the old set stands for nothing that the peer has not got once it
 * has acknowledged m: it is dropped, and the sets rotate again.  Where no entry
 * of the new set comes, the old marks stay, and do no harm.
 *
 * At the beginning both sets may have marks, so nothing rotates until the peer
 * is whole.  The other set's marks are older than this feed then: what they
 * stand for was on the storage before the ring came into use (export.c), and so
 * before any block was read; the peer has it.  They go, and the sets rotate.
 * The old set is now that of all marks since: of what was there before the feed
 * and of the image, which the peer has, and of changes after the image's end,
 * whose entries are in front of the first one of the new set as ever.
 *
 * A change without an entry in the ring breaks the feed before it is answered
 * (control.h, missed).  Its mark is in the set of the entry in front of it or
 * a newer one, and no entry comes behind it: that set is never dropped.
 */
#include "config.h"

#include "resume/disk/feed.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bounds.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/memory.h"
#include "resume/disk/control.h"
#include "resume/disk/ring.h"
#include "resume/disk/storage.h"

enum { AGAIN_MS = 50 };

#define NOT_SENT UINT64_MAX

struct disk_feed {
	char run_dir[DISK_PATH_MAX];
	unsigned int index;
	struct disk_meta *meta;
	struct disk_storage *storage;
	struct disk_ring *ring;
	const _Atomic uint64_t *missed;
	uint64_t missed_before; /* this feed */

	pthread_t keeper;
	bool kept;
	int stop;
	int connection; /* the keeper's, once there is one */

	pthread_mutex_t mutex; /* of all that follows, and of rotations */
	bool rotated;	       /* the peer is whole */
	bool taken;	       /* an entry of the current set */
	uint64_t taken_in;     /* this epoch, or NOT_SENT */
};

static const char *name_of(const struct disk_feed *f)
{
	return disk_meta_name(f->meta);
}

/* --- the connection ---------------------------------------------------------
 */

static int pass(struct disk_feed *f, enum disk_control_ask ask,
		uint64_t *missed)
{
	return disk_control_pass(f->run_dir, name_of(f), ask,
				 disk_ring_fd(f->ring), missed);
}

static void pass_again(struct disk_feed *f)
{
	uint64_t missed;

	f->connection = pass(f, DISK_CONTROL_AGAIN, &missed);
	if (f->connection < 0)
		return;
	if (missed != f->missed_before)
		disk_ring_break(f->ring);
	log_info("disk %s is served again%s", name_of(f),
		 disk_feed_broken(f) ? ", and changes are missing" : "");
}

/* A broken ring is of no use to any server. */
static void *keep(void *arg)
{
	struct disk_feed *f = arg;

	for (;;) {
		bool again = f->connection < 0 && !disk_ring_broken(f->ring);
		struct pollfd p[] = { { f->stop, POLLIN, 0 },
				      { f->connection, POLLIN, 0 } };

		poll(p, 2, again ? AGAIN_MS : -1);
		if (p[0].revents)
			return NULL;
		if (f->connection >= 0 && p[1].revents) {
			log_warn("disk %s is not served any more", name_of(f));
			close(f->connection);
			f->connection = -1;
		} else if (again) {
			pass_again(f);
		}
	}
}

static int start_keeper(struct disk_feed *f)
{
	int rc;

	f->stop = eventfd(0, EFD_CLOEXEC);
	if (f->stop < 0)
		return -errno;
	rc = pthread_create(&f->keeper, NULL, keep, f);
	if (rc)
		return -rc;
	pthread_setname_np(f->keeper, "colod-disk");
	f->kept = true;
	return 0;
}

/* --- opening and closing ----------------------------------------------------
 */

static int hold(struct disk_feed *f, struct guest_error *err)
{
	int rc = disk_meta_hold(f->meta, DISK_HOLDER_COLOD);

	if (rc == -EBUSY)
		guest_error_set(err,
				"another colod has disk %s: end it, or wait "
				"until it has ended",
				name_of(f));
	else if (rc < 0)
		guest_error_set(err, "disk %s cannot be locked: %s", name_of(f),
				strerror(-rc));
	if (rc < 0 || disk_meta_role(f->meta) != DISK_ROLE_SECONDARY)
		return rc;
	guest_error_set(err,
			"disk %s is a secondary's: make it this host's to "
			"write to with `colod disk primary %s`, if the other "
			"host's is not newer",
			name_of(f), name_of(f));
	return -EROFS;
}

/* Nothing is read of the disk before its changes go into the ring. */
static int ask_server(struct disk_feed *f, struct guest_error *err)
{
	_Atomic uint64_t *missed;
	int rc;

	f->connection = pass(f, DISK_CONTROL_NEW, &f->missed_before);
	if (f->connection == -ENOTCONN)
		guest_error_set(err,
				"disk %s is not served: begin that with "
				"`colod disk serve %s`",
				name_of(f), name_of(f));
	else if (f->connection < 0)
		guest_error_set(err, "who serves disk %s does not do it: %s",
				name_of(f), strerror(-f->connection));
	if (f->connection < 0)
		return f->connection;
	rc = disk_missed_find(f->run_dir, name_of(f), &missed);
	f->missed = rc < 0 ? NULL : missed;
	if (rc == 0)
		rc = start_keeper(f);
	if (rc < 0)
		guest_error_set(err, "the feed of disk %s: %s", name_of(f),
				strerror(-rc));
	return rc;
}

static int make_ring(struct disk_feed *f, size_t bytes, struct guest_error *err)
{
	int rc = disk_ring_new(bytes, &f->ring);

	if (rc < 0)
		guest_error_set(err, "a ring of %zu bytes for disk %s: %s",
				bytes, name_of(f), strerror(-rc));
	return rc;
}

static int become_primary(struct disk_feed *f, struct guest_error *err)
{
	struct disk_state s = disk_meta_state(f->meta);
	int rc = 0;

	if (s.role != DISK_ROLE_PRIMARY) {
		s.role = DISK_ROLE_PRIMARY;
		rc = disk_meta_set(f->meta, &s);
	}
	if (rc < 0)
		guest_error_set(err, "the state of disk %s: %s", name_of(f),
				strerror(-rc));
	return rc;
}

int disk_feed_open(const char *disk_dir, const char *run_dir, const char *name,
		   unsigned int index, size_t ring_bytes,
		   struct disk_feed **out, struct guest_error *err)
{
	struct disk_feed *f = memory_zeroed(sizeof(*f));
	int rc;

	if (!f) {
		guest_error_set(err, "no memory for the feed of disk %s", name);
		return -ENOMEM;
	}
	f->index = index;
	f->stop = f->connection = -1;
	pthread_mutex_init(&f->mutex, NULL);
	snprintf(f->run_dir, sizeof(f->run_dir), "%s", run_dir);
	rc = disk_meta_open(disk_dir, name, &f->meta, err);
	if (rc == 0)
		rc = hold(f, err);
	if (rc == 0)
		rc = disk_storage_open(disk_meta_storage(f->meta), false,
				       &f->storage, err);
	if (rc == 0)
		rc = make_ring(f, ring_bytes, err);
	if (rc == 0)
		rc = ask_server(f, err);
	if (rc == 0)
		rc = become_primary(f, err);
	if (rc < 0) {
		disk_feed_close(f);
		return rc;
	}
	*out = f;
	return 0;
}

/* Broken first: a change that waits for room need not wait any more. */
void disk_feed_close(struct disk_feed *f)
{
	if (!f)
		return;
	if (f->ring)
		disk_ring_break(f->ring);
	if (f->kept) {
		eventfd_write(f->stop, 1);
		pthread_join(f->keeper, NULL);
	}
	cleanup_fd(&f->connection);
	cleanup_fd(&f->stop);
	disk_missed_unmap((_Atomic uint64_t *)(uintptr_t)f->missed);
	disk_ring_close(f->ring);
	disk_storage_close(f->storage);
	disk_meta_close(f->meta);
	pthread_mutex_destroy(&f->mutex);
	free(f);
}

void disk_feed_stop(struct disk_feed *f)
{
	disk_ring_break(f->ring);
}

/* --- looking ----------------------------------------------------------------
 */

const struct disk_meta *disk_feed_meta(const struct disk_feed *f)
{
	return f->meta;
}

uint64_t disk_feed_head(const struct disk_feed *f)
{
	return disk_ring_head(f->ring);
}

size_t disk_feed_used(const struct disk_feed *f)
{
	return disk_ring_used(f->ring);
}

bool disk_feed_broken(const struct disk_feed *f)
{
	return disk_ring_broken(f->ring) ||
	       atomic_load(f->missed) != f->missed_before;
}

/* --- taking -----------------------------------------------------------------
 */

/* Behind it in the ring there is nothing of the old set. */
static void note_taken(struct disk_feed *f, unsigned int set)
{
	AUTO_LOCK(&f->mutex);

	if (!f->rotated || f->taken || set != disk_meta_current(f->meta))
		return;
	f->taken = true;
	f->taken_in = NOT_SENT;
}

static int spoilt(struct disk_feed *f)
{
	log_error("disk %s: what its server has put into the ring is no change "
		  "of it",
		  name_of(f));
	disk_ring_break(f->ring);
	return -ESTALE;
}

static bool on_disk(const struct disk_feed *f, const struct change *c)
{
	uint64_t size = disk_meta_size(f->meta);

	return c->offset <= size && c->length <= size - c->offset;
}

ssize_t disk_feed_next(struct disk_feed *f, uint64_t limit, uint8_t *raw,
		       size_t room)
{
	size_t put = 0, n;
	struct change c;
	unsigned int set;
	int rc;

	if (disk_feed_broken(f))
		return -ESTALE;
	while ((rc = disk_ring_peek(f->ring, limit, &c, &set)) > 0) {
		if (!on_disk(f, &c))
			return spoilt(f);
		c.disk = f->index;
		n = change_put(&c, raw + put, room - put);
		if (!n)
			break;
		note_taken(f, set);
		disk_ring_pop(f->ring);
		put += n;
	}
	return rc < 0 ? spoilt(f) : (ssize_t)put;
}

ssize_t disk_feed_read(struct disk_feed *f, uint64_t block, uint8_t *bytes)
{
	uint64_t at = block * DISK_BLOCK_BYTES;
	uint64_t size = disk_meta_size(f->meta);
	size_t length;
	int rc;

	if (block >= disk_meta_blocks(f->meta))
		return -EINVAL;
	length = (size_t)at_most(size - at, DISK_BLOCK_BYTES);
	rc = disk_storage_read(f->storage, bytes, length, at);
	if (rc == 0)
		return (ssize_t)length;
	log_error("disk %s: its storage %s cannot be read: %s", name_of(f),
		  disk_meta_storage(f->meta), strerror(-rc));
	return rc;
}

void disk_feed_sent(struct disk_feed *f, uint64_t epoch)
{
	AUTO_LOCK(&f->mutex);

	if (f->taken && f->taken_in == NOT_SENT)
		f->taken_in = epoch;
}

/* --- what the peer has ------------------------------------------------------
 */

/* With the mutex. */
static void drop_and_rotate(struct disk_feed *f)
{
	disk_meta_drop(f->meta);
	disk_meta_rotate(f->meta);
	f->rotated = true;
	f->taken = false;
}

int disk_feed_synced(struct disk_feed *f, uint64_t base)
{
	struct disk_state s = disk_meta_state(f->meta);
	int rc;

	if (disk_feed_broken(f))
		return -ESTALE;
	s.base = base;
	s.alone = false;
	rc = disk_meta_set(f->meta, &s);
	if (rc < 0) {
		log_error("disk %s: its state cannot be written: %s",
			  name_of(f), strerror(-rc));
		return rc;
	}
	/* Only now: who acknowledges does not wait for the state's storage. */
	AUTO_LOCK(&f->mutex);
	if (!f->rotated && !disk_feed_broken(f))
		drop_and_rotate(f);
	return 0;
}

void disk_feed_acked(struct disk_feed *f, uint64_t epoch)
{
	AUTO_LOCK(&f->mutex);

	if (f->taken && f->taken_in <= epoch && !disk_feed_broken(f))
		drop_and_rotate(f);
}

void disk_feed_alone(const char *disk_dir, const char *name)
{
	struct guest_error why = { { 0 } };
	struct disk_meta *m;
	struct disk_state s;
	int rc = disk_meta_open(disk_dir, name, &m, &why);

	if (rc < 0) {
		log_error("disk %s: that its guest runs alone cannot be "
			  "noted: %s",
			  name, why.text[0] ? why.text : strerror(-rc));
		return;
	}
	s = disk_meta_state(m);
	if (!s.alone && s.role == DISK_ROLE_PRIMARY) {
		s.alone = true;
		rc = disk_meta_set(m, &s);
	}
	if (rc < 0)
		log_error("disk %s: that its guest runs alone cannot be "
			  "noted: %s",
			  name, strerror(-rc));
	disk_meta_close(m);
}
