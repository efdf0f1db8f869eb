/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/primary_disks.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bounds.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "engine/disks_compare.h"

/*
 * Xenstore is asked, so seldom; and twice, for a device is away for a moment
 * where a slow resume makes it anew.
 */
enum { LOOK_US = 1000 * 1000, LOOKS = 2 };

static_assert((int)GUEST_DISKS_MAX == (int)WIRE_DISKS_MAX, "a guest's disks");
static_assert((int)GUEST_DISK_NAME_MAX == (int)DISK_NAME_MAX, "a disk's name");
static_assert((int)DISK_OFFER_NAME_MAX == (int)DISK_NAME_MAX, "a disk's name");

void primary_disks_init(struct primary_disks *d, const char *disk_dir,
			const char *run_dir, size_t ring_bytes)
{
	*d = (struct primary_disks){
		.disk_dir = disk_dir,
		.run_dir = run_dir,
		.ring_bytes = ring_bytes,
	};
	pthread_mutex_init(&d->notes, NULL);
	pthread_mutex_init(&d->lock, NULL);
}

/* --- opening and closing ----------------------------------------------------
 */

static void offer(struct primary_disks *d, unsigned int i)
{
	const struct disk_meta *m = disk_feed_meta(d->feeds[i]);
	const struct disk_state state = disk_meta_state(m);
	struct disk_offer *o = &d->offer.disk[i];

	snprintf(o->name, sizeof(o->name), "%s", disk_meta_name(m));
	o->size = disk_meta_size(m);
	o->base = state.base;
	o->alone = state.alone;
}

size_t primary_disks_find(struct primary_disks *d,
			  const struct guest_source_ops *ops,
			  struct guest_source *source)
{
	size_t count = ops->disks ? ops->disks(source, d->known) : 0;

	d->known_count = (unsigned int)at_most(count, GUEST_DISKS_MAX);
	d->other_looks = 0;
	return count;
}

static int add_feed(struct primary_disks *d, unsigned int i,
		    struct guest_error *err)
{
	struct disk_feed *feed;
	int rc = disk_feed_open(d->disk_dir, d->run_dir, d->known[i].name, i,
				d->ring_bytes, &feed, err);

	if (rc)
		return rc;
	pthread_mutex_lock(&d->notes);
	pthread_mutex_lock(&d->lock);
	if (d->stopped)
		disk_feed_stop(feed);
	d->feeds[d->count++] = feed;
	offer(d, i);
	pthread_mutex_unlock(&d->lock);
	pthread_mutex_unlock(&d->notes);
	return 0;
}

int primary_disks_open(struct primary_disks *d,
		       const struct guest_source_ops *ops,
		       struct guest_source *source, uint64_t random,
		       struct guest_error *err)
{
	size_t count;
	int rc = 0;

	primary_disks_close(d);
	pthread_mutex_lock(&d->notes);
	count = primary_disks_find(d, ops, source);
	pthread_mutex_unlock(&d->notes);
	if (count > GUEST_DISKS_MAX) {
		guest_error_set(err,
				"it has %zu replicated disks, of which %d can "
				"be: put what they have on fewer",
				count, GUEST_DISKS_MAX);
		return -E2BIG;
	}
	d->sent = (struct disks_sent){ 0 };
	d->offer.new_base = random;
	d->offer.seed = random;
	for (unsigned int i = 0; i < count && !rc; i++)
		rc = add_feed(d, i, err);
	d->offer.count = d->count;
	if (rc)
		primary_disks_close(d);
	return rc;
}

void primary_disks_close(struct primary_disks *d)
{
	struct disk_feed *feeds[GUEST_DISKS_MAX];
	struct disks_compare *compare;
	unsigned int count;

	AUTO_LOCK(&d->notes);
	pthread_mutex_lock(&d->lock);
	compare = TAKE_PTR(d->compare);
	count = d->count;
	memcpy(feeds, d->feeds, sizeof(feeds));
	d->count = 0;
	d->synced = false;
	pthread_mutex_unlock(&d->lock);
	disks_compare_close(compare);
	while (count)
		disk_feed_close(feeds[--count]);
}

/* --- a synchronisation ------------------------------------------------------
 */

int primary_disks_compare(struct primary_disks *d, const struct disks_link *l)
{
	AUTO_LOCK(&d->lock);
	if (!d->count)
		return 0;
	if (d->stopped)
		return -ECANCELED;
	return disks_compare_start(d->feeds, &d->offer, l, &d->compare);
}

static const char broken_text[] =
	"changes of a replicated disk came faster than they could be sent (see "
	"--disk-ring), or its server ended";

static bool is_stopped(struct primary_disks *d)
{
	AUTO_LOCK(&d->lock);
	return d->stopped;
}

static int explained(struct primary_disks *d, int rc, struct guest_error *err)
{
	/* A feed that is stopped looks like a broken one. */
	if (rc && is_stopped(d))
		return -ECANCELED;
	if (rc == -ESTALE)
		guest_error_set(err, "%s", broken_text);
	else if (rc && rc != -ECANCELED)
		guest_error_set(
			err,
			"its replicated disks could not be "
			"compared with the peer's: %s; the log has more",
			strerror(-rc));
	return rc;
}

int primary_disks_compared(struct primary_disks *d, struct guest_error *err)
{
	int rc = d->compare ? disks_compare_wait(d->compare) : 0;

	return explained(d, rc, err);
}

int primary_disks_follow_to(struct primary_disks *d,
			    const struct disk_limits *to,
			    struct guest_error *err)
{
	struct disks_compare *compare;
	int rc;

	if (!d->compare)
		return 0;
	rc = disks_compare_finish(d->compare, to, &d->sent);
	pthread_mutex_lock(&d->lock);
	compare = TAKE_PTR(d->compare);
	pthread_mutex_unlock(&d->lock);
	disks_compare_close(compare);
	return explained(d, rc, err);
}

int primary_disks_limits(struct primary_disks *d, struct disk_limits *out)
{
	for (unsigned int i = 0; i < d->count; i++) {
		if (disk_feed_broken(d->feeds[i]))
			return -ESTALE;
		out->at[i] = disk_feed_head(d->feeds[i]);
	}
	return 0;
}

static bool has_others(const struct primary_disks *d,
		       const struct guest_source_ops *ops,
		       struct guest_source *source)
{
	struct guest_disk now[GUEST_DISKS_MAX];
	size_t count = ops->disks(source, now);

	if (count != d->known_count)
		return true;
	for (size_t i = 0; i < count; i++)
		if (strcmp(now[i].name, d->known[i].name) != 0)
			return true;
	return false;
}

int primary_disks_follow(struct primary_disks *d,
			 const struct guest_source_ops *ops,
			 struct guest_source *source, uint64_t now_us)
{
	if (!ops->disks || now_us < d->looked_us + LOOK_US)
		return 0;
	d->looked_us = now_us;
	d->other_looks = has_others(d, ops, source) ? d->other_looks + 1 : 0;
	return d->other_looks < LOOKS ? 0 : -ESTALE;
}

void primary_disks_explain(const struct primary_disks *d,
			   struct guest_error *err)
{
	if (d->other_looks >= LOOKS)
		guest_error_set(err, "its replicated disks are others by now");
	for (unsigned int i = 0; i < d->count; i++)
		if (disk_feed_broken(d->feeds[i]))
			guest_error_set(err, "%s", broken_text);
}

/* --- the encoder's thread ---------------------------------------------------
 */

ssize_t primary_disks_changes(void *arg, uint8_t *raw, size_t room)
{
	struct disk_changes *c = arg;
	ssize_t n = 0;

	for (; c->at < c->disks->count; c->at++) {
		n = disk_feed_next(c->disks->feeds[c->at], c->to.at[c->at], raw,
				   room);
		if (n)
			break;
	}
	return n;
}

void primary_disks_sent(struct primary_disks *d, uint64_t epoch)
{
	for (unsigned int i = 0; i < d->count; i++)
		disk_feed_sent(d->feeds[i], epoch);
}

void primary_disks_synced(struct primary_disks *d)
{
	AUTO_LOCK(&d->notes);
	for (unsigned int i = 0; i < d->count; i++) {
		int rc = disk_feed_synced(d->feeds[i], d->offer.new_base);

		if (rc)
			log_warn("disk %s: it could not be noted that the peer "
				 "has it (%s): the next synchronisation "
				 "compares all of it",
				 d->offer.disk[i].name, strerror(-rc));
	}
	d->synced = d->count;
}

void primary_disks_alone(struct primary_disks *d)
{
	AUTO_LOCK(&d->notes);
	for (unsigned int i = 0; i < d->known_count; i++)
		disk_feed_alone(d->disk_dir, d->known[i].name);
	d->synced = false;
}

/* --- the loop's thread ------------------------------------------------------
 */

int primary_disks_frame(struct primary_disks *d, const struct frame *f,
			const char **why)
{
	AUTO_LOCK(&d->lock);
	if (d->compare)
		return disks_compare_frame(d->compare, f, why);
	*why = "a frame about disks that nobody has asked about";
	return -EPROTO;
}

bool primary_disks_wait(struct primary_disks *d)
{
	AUTO_LOCK(&d->lock);
	return d->compare && disks_compare_waits(d->compare);
}

void primary_disks_stop(struct primary_disks *d)
{
	AUTO_LOCK(&d->lock);
	d->stopped = true;
	if (d->compare)
		disks_compare_cancel(d->compare);
	for (unsigned int i = 0; i < d->count; i++)
		disk_feed_stop(d->feeds[i]);
}

void primary_disks_begin(struct primary_disks *d)
{
	AUTO_LOCK(&d->lock);
	d->stopped = false;
}

bool primary_disks_filling(struct primary_disks *d)
{
	AUTO_LOCK(&d->lock);
	for (unsigned int i = 0; i < d->count; i++)
		if (disk_feed_used(d->feeds[i]) > d->ring_bytes / 2)
			return true;
	return false;
}

void primary_disks_acked(struct primary_disks *d, uint64_t epoch)
{
	AUTO_LOCK(&d->lock);
	for (unsigned int i = 0; i < d->count; i++)
		disk_feed_acked(d->feeds[i], epoch);
}

static const char *state_text(const struct primary_disks *d, unsigned int i)
{
	if (disk_feed_broken(d->feeds[i]))
		return "only marked";
	return d->compare ? "comparing" : d->synced ? "in step" : "only marked";
}

json_t *primary_disks_status(struct primary_disks *d)
{
	struct disks_compared seen = { 0 };
	json_t *list = json_array();

	AUTO_LOCK(&d->lock);
	if (d->compare)
		disks_compare_seen(d->compare, &seen);
	for (unsigned int i = 0; i < d->count; i++) {
		const struct disk_meta *m = disk_feed_meta(d->feeds[i]);

		json_array_append_new(
			list,
			json_pack("{s:s,s:s,s:I,s:I,s:I}", "name",
				  disk_meta_name(m), "state", state_text(d, i),
				  "size", (json_int_t)disk_meta_size(m),
				  "waiting",
				  (json_int_t)disk_feed_used(d->feeds[i]),
				  "marked",
				  (json_int_t)(disk_meta_count(m) *
					       DISK_BLOCK_BYTES)));
	}
	return json_pack("{s:o,s:I,s:I,s:I}", "list", list, "compare",
			 (json_int_t)seen.all_bytes, "compared",
			 (json_int_t)seen.done_bytes, "differed",
			 (json_int_t)seen.sent_bytes);
}
