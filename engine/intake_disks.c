/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/intake_disks.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "resume/disk/replica.h"
#include "stream/body.h"
#include "stream/checksum.h"
#include "stream/pieces.h"

struct intake_disks {
	char *disk_dir;
	char *domain;
	uint64_t journal_bytes;
	struct guest_error refused;

	pthread_mutex_t busy; /* whoever uses the replica */
	bool closed;
	struct disk_replica *replica; /* from DISKS to the close */
	bool imaged;
	/* The replica too, for those who do not wait for `busy`. */
	pthread_mutex_t lock;
	struct disk_replica *seen;

	struct body_decoder *body; /* these from DISKS on */
	uint8_t *raw;
	struct checksum *sum; /* of the DISK payloads in front of IMAGE_END */
	uint64_t sum_bytes;
};

int intake_disks_new(const struct intake_disks_config *cfg,
		     struct intake_disks **out)
{
	struct intake_disks *d = memory_zeroed(sizeof(*d));

	if (!d)
		return -ENOMEM;
	pthread_mutex_init(&d->busy, NULL);
	pthread_mutex_init(&d->lock, NULL);
	d->journal_bytes = cfg->journal_bytes;
	d->disk_dir = strdup(cfg->disk_dir);
	d->domain = strdup(cfg->domain);
	if (!d->disk_dir || !d->domain) {
		intake_disks_free(d);
		return -ENOMEM;
	}
	*out = d;
	return 0;
}

void intake_disks_free(struct intake_disks *d)
{
	if (!d)
		return;
	intake_disks_close(d);
	pthread_mutex_destroy(&d->lock);
	pthread_mutex_destroy(&d->busy);
	body_decoder_free(d->body);
	checksum_free(d->sum);
	free(d->raw);
	free(d->disk_dir);
	free(d->domain);
	free(d);
}

static void show(struct intake_disks *d, struct disk_replica *replica)
{
	AUTO_LOCK(&d->lock);
	d->seen = replica;
}

void intake_disks_close(struct intake_disks *d)
{
	pthread_mutex_lock(&d->lock);
	if (d->seen)
		disk_replica_cancel(d->seen);
	pthread_mutex_unlock(&d->lock);
	AUTO_LOCK(&d->busy);
	show(d, NULL);
	d->closed = true;
	disk_replica_close(TAKE_PTR(d->replica));
}

/* --- DISKS ------------------------------------------------------------------
 */

/* Puts it last in the list; false: there was no memory for it. */
static bool append(struct frame_buf **list, struct frame_buf *b)
{
	if (!b)
		return false;
	while (*list)
		list = &(*list)->next;
	b->next = NULL;
	*list = b;
	return true;
}

static int open_replica(struct intake_disks *d, struct guest_error *err)
{
	int rc;

	d->body = body_decoder_new();
	d->raw = memory_new(WIRE_PIECE_MAX);
	d->sum = checksum_new();
	if (!d->body || !d->raw || !d->sum)
		return -ENOMEM;
	rc = disk_replica_open(d->disk_dir, d->domain, d->journal_bytes,
			       &d->replica, err);
	if (!rc)
		show(d, d->replica);
	return rc;
}

static int answer_disks(struct intake_disks *d, struct disks_taken *taken,
			struct frame_buf **answer)
{
	struct disk_blocks marks;
	bool room = true;

	for (; room && disk_replica_marks(d->replica, &marks); taken->marks++)
		room = append(answer,
			      disk_blocks_encode(WIRE_DISK_MARKS, &marks));
	return room && append(answer, disks_taken_encode(taken)) ? 0 : -ENOMEM;
}

static int on_disks(struct intake_disks *d, const struct frame *f,
		    struct frame_buf **answer, const char **why)
{
	struct disks offer;
	struct disks_taken taken;
	int rc = disks_decode(f, &offer, why);

	if (rc)
		return rc;
	if (d->body || d->imaged) {
		*why = d->imaged ? "DISKS behind IMAGE_END" : "a second DISKS";
		return -EPROTO;
	}
	rc = open_replica(d, &d->refused);
	if (!rc)
		rc = disk_replica_take(d->replica, &offer, &taken, &d->refused);
	if (rc) {
		*why = d->refused.text[0] ? d->refused.text : strerror(-rc);
		return rc == -ENOMEM ? rc : -ECONNREFUSED;
	}
	return answer_disks(d, &taken, answer);
}

/* --- DISK_ASK, DISK ---------------------------------------------------------
 */

static int on_ask(struct intake_disks *d, const struct frame *f,
		  struct frame_buf **answer, const char **why)
{
	AUTO_FREE struct disk_hashes *hashes = memory_new(sizeof(*hashes));
	struct disk_blocks ask;
	int rc = hashes ? disk_blocks_decode(f, &ask, why) : -ENOMEM;

	if (!rc)
		rc = disk_replica_hash(d->replica, &ask, hashes, why);
	if (!rc && !append(answer, disk_hashes_encode(hashes)))
		rc = -ENOMEM;
	return rc;
}

/* Where one of the image's is bad those before it may have been, too. */
static int spoilt(struct intake_disks *d, const struct frame *f, int err)
{
	if (err == -EPROTO && !f->epoch && !d->imaged)
		disk_replica_spoilt(d->replica);
	return err;
}

static int on_changes(struct intake_disks *d, const struct frame *f,
		      const char **why)
{
	int n = piece_decode(d->body, f->payload, f->length, d->raw);

	if (n < 0) {
		*why = "a DISK that is malformed";
		return spoilt(d, f, n);
	}
	if (!f->epoch) {
		d->sum_bytes += f->length;
		checksum_add(d->sum, f->payload, f->length);
	}
	return spoilt(
		d, f,
		disk_replica_put(d->replica, f->epoch, d->raw, (size_t)n, why));
}

int intake_disks_frame(struct intake_disks *d, const struct frame *f,
		       struct frame_buf **answer, const char **why)
{
	AUTO_LOCK(&d->busy);
	*answer = NULL;
	if (d->closed)
		return -ECANCELED;
	if (f->type == WIRE_DISKS)
		return on_disks(d, f, answer, why);
	*why = d->replica ? "DISK_ASK behind IMAGE_END"
			  : "a frame of a disk without DISKS";
	if (!d->replica || (f->type == WIRE_DISK_ASK && d->imaged))
		return -EPROTO;
	*why = "no memory for what is on a disk";
	return f->type == WIRE_DISK_ASK ? on_ask(d, f, answer, why)
					: on_changes(d, f, why);
}

/* --- the others -------------------------------------------------------------
 */

int intake_disks_stored(struct intake_disks *d, uint64_t epoch,
			const char **why)
{
	AUTO_LOCK(&d->busy);
	if (d->closed)
		return -ECANCELED;
	return d->replica ? disk_replica_stored(d->replica, epoch, why) : 0;
}

/* What came in front of it. */
static bool is_complete(const struct intake_disks *d,
			const struct wire_image_end *e)
{
	return d->sum_bytes == e->disk_bytes &&
	       (d->sum_bytes ? checksum_value(d->sum) : 0) == e->disk_checksum;
}

int intake_disks_imaged(struct intake_disks *d, const struct wire_image_end *e,
			const char **why)
{
	AUTO_LOCK(&d->busy);
	if (d->closed)
		return -ECANCELED;
	d->imaged = true;
	if (!is_complete(d, e)) {
		if (d->replica)
			disk_replica_spoilt(d->replica);
		*why = "what came of the disks is not what was sent";
		return -EBADMSG;
	}
	return d->replica ? disk_replica_synced(d->replica, why) : 0;
}

/* Not under `busy`: an intake that waits for room waits for this. */
void intake_disks_commit(struct intake_disks *d, uint64_t epoch)
{
	AUTO_LOCK(&d->lock);
	if (d->seen)
		disk_replica_commit(d->seen, epoch);
}

int intake_disks_promote(struct intake_disks *d, uint64_t epoch,
			 struct guest_error *err)
{
	pthread_mutex_lock(&d->lock);
	if (d->seen)
		disk_replica_cancel(d->seen);
	pthread_mutex_unlock(&d->lock);
	AUTO_LOCK(&d->busy);
	if (d->closed)
		return -ECANCELED;
	return d->replica ? disk_replica_promote(d->replica, epoch, err) : 0;
}

json_t *intake_disks_status(struct intake_disks *d)
{
	struct disk_replica_status s;

	AUTO_LOCK(&d->lock);
	if (!d->seen)
		return json_null();
	disk_replica_status(d->seen, &s);
	return json_pack("{s:i,s:b,s:I,s:I,s:s}", "disks", (int)s.disks,
			 "whole", s.whole, "journal",
			 (json_int_t)s.journal_bytes, "written",
			 (json_int_t)s.written_bytes, "error",
			 s.err ? strerror(-s.err) : "");
}
