/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking what the primary offers: all of its disks or none, and what they have
 * here for it to compare.
 */
#include "config.h"

#include "resume/disk/replica_impl.h"

#include <errno.h>
#include <string.h>

#include "base/bounds.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "stream/checksum.h"

/* A server waits for room in a ring for 2 s (export.c). */
enum { SERVER_US = 5 * 1000 * 1000, SERVER_LOOK_US = 1000 };

/* --- taking --------------------------------------------------------------- */

static int refuse(struct guest_error *err, int rc, const char *text)
{
	guest_error_set(err, "%s", text);
	return rc;
}

static int check_offer(const struct disks *offer, struct guest_error *err)
{
	if (!offer->count || offer->count > WIRE_DISKS_MAX || !offer->new_base)
		return refuse(err, -EINVAL,
			      "an offer of no disks, of too "
			      "many, or without a base");
	for (unsigned int i = 0; i < offer->count; i++) {
		if (!disk_name_good(offer->disk[i].name))
			return refuse(err, -EINVAL,
				      "an offer of a disk with a bad name");
		for (unsigned int k = 0; k < i; k++)
			if (!strcmp(offer->disk[i].name, offer->disk[k].name))
				return refuse(err, -EINVAL,
					      "an offer of one disk twice");
	}
	return 0;
}

static int check_disk(const struct disk_meta *m, const struct disk_offer *o,
		      struct guest_error *err)
{
	if (disk_meta_size(m) != o->size) {
		guest_error_set(err,
				"disk %s has %llu bytes here, and %llu on the "
				"primary: remove its NAME.disk, and make it "
				"anew of that size",
				o->name, (unsigned long long)disk_meta_size(m),
				(unsigned long long)o->size);
		return -EINVAL;
	}
	if (disk_meta_state(m).alone) {
		guest_error_set(err,
				"disk %s has run alone here since both sides "
				"were the same%s: its data would be lost; "
				"'colod disk forget %s' gives them up",
				o->name,
				o->alone ? ", and so it has on the primary"
					 : "",
				o->name);
		return -EPERM;
	}
	return 0;
}

/* Nothing of it changes here. */
static int open_disk(struct replica_disks *d, unsigned int i,
		     const char *disk_dir, const struct disk_offer *o,
		     struct guest_error *err)
{
	struct disk_meta **m = &d->disk[i].meta;
	int rc = disk_meta_open(disk_dir, o->name, m, err);

	if (!rc)
		rc = replica_hold(*m, err);
	if (!rc)
		rc = check_disk(*m, o, err);
	if (!rc)
		rc = replica_open_storage(d, i, err);
	return rc;
}

/*
 * The base of another history must not outlive that its blocks are overwritten:
 * a peer that had it would believe that it knows what is here.
 */
static int become_secondary(struct replica_disk *disk,
			    const struct disk_state *was,
			    const struct disk_offer *o)
{
	struct disk_state s = { .role = DISK_ROLE_SECONDARY };
	int rc;

	disk->same_base = was->base && was->base == o->base;
	if (disk->same_base)
		s.base = was->base;
	rc = disk_meta_wake(disk->meta);
	return rc ? rc : disk_meta_set(disk->meta, &s);
}

/* A change that its server had begun when this became a secondary's. */
static int wait_for_server(struct disk_meta *m)
{
	uint64_t until_us = clock_now_us() + SERVER_US, offset, length;

	while (disk_meta_held(m, DISK_HOLDER_SERVER) == 1 &&
	       disk_meta_pending(m, &offset, &length)) {
		if (clock_now_us() > until_us)
			return -EBUSY;
		clock_sleep_us(SERVER_LOOK_US);
	}
	return 0;
}

static int become_secondaries(struct replica_disks *d,
			      const struct disks *offer,
			      struct guest_error *err)
{
	struct disk_state was[WIRE_DISKS_MAX];
	int rc = 0;

	for (unsigned int i = 0; i < d->count; i++)
		was[i] = disk_meta_state(d->disk[i].meta);
	for (unsigned int i = 0; i < d->count && !rc; i++) {
		rc = become_secondary(&d->disk[i], &was[i], &offer->disk[i]);
		if (!rc)
			rc = wait_for_server(d->disk[i].meta);
		if (!rc)
			continue;
		guest_error_set(err,
				"the state of disk %s cannot be changed: "
				"%s; see that there is room",
				offer->disk[i].name, strerror(-rc));
		for (unsigned int k = 0; k <= i; k++)
			disk_meta_set(d->disk[k].meta, &was[k]);
	}
	return rc;
}

static int take_all(struct disk_replica *r, const struct disks *offer,
		    struct guest_error *err)
{
	struct replica_disks *d = &r->disks;
	int rc = 0;

	for (unsigned int i = 0; i < offer->count && !rc; i++) {
		/* Nobody may finish another journal over what comes now. */
		rc = disk_replica_finish(r->disk_dir, offer->disk[i].name, err);
		if (!rc)
			rc = open_disk(d, i, r->disk_dir, &offer->disk[i], err);
	}
	if (!rc) {
		d->count = offer->count;
		rc = become_secondaries(d, offer, err);
	}
	if (rc)
		replica_close_disks(d);
	return rc;
}

int disk_replica_take(struct disk_replica *r, const struct disks *offer,
		      struct disks_taken *answer, struct guest_error *err)
{
	int rc = r->taken ? refuse(err, -EPROTO, "disks were taken already")
			  : check_offer(offer, err);

	if (!rc)
		rc = take_all(r, offer, err);
	if (rc)
		return rc;
	*answer = (struct disks_taken){ .count = offer->count };
	for (unsigned int i = 0; i < offer->count; i++)
		answer->same_base[i] = r->disks.disk[i].same_base;
	r->new_base = offer->new_base;
	r->seed = offer->seed;
	AUTO_LOCK(&r->mutex);
	r->taken = true;
	return 0;
}

void disk_replica_spoilt(struct disk_replica *r)
{
	replica_distrust(&r->disks);
}

/* --- marks and hashes ----------------------------------------------------- */

static void fill_marks(const struct disk_meta *m, unsigned int disk,
		       uint64_t block, struct disk_blocks *out)
{
	*out = (struct disk_blocks){ .disk = disk,
				     .first = block & ~UINT64_C(63) };
	out->count = (unsigned int)at_most(WIRE_DISK_BLOCKS_MAX,
					   disk_meta_blocks(m) - out->first);
	while (block < out->first + out->count) {
		uint64_t i = block - out->first;

		out->bits[i / 64] |= UINT64_C(1) << i % 64;
		block = disk_meta_next_marked(m, block + 1);
	}
}

int disk_replica_marks(struct disk_replica *r, struct disk_blocks *out)
{
	for (; r->marks_disk < r->disks.count; r->marks_disk++) {
		const struct replica_disk *d = &r->disks.disk[r->marks_disk];
		uint64_t block = disk_meta_next_marked(d->meta, r->marks_block);

		if (d->same_base && block < disk_meta_blocks(d->meta)) {
			fill_marks(d->meta, r->marks_disk, block, out);
			r->marks_block = out->first + out->count;
			return 1;
		}
		r->marks_block = 0;
	}
	return 0;
}

static int check_ask(const struct disk_replica *r,
		     const struct disk_blocks *ask, const char **why)
{
	uint64_t blocks;

	if (r->synced) {
		*why = "blocks are asked for when all are the same";
		return -EPROTO;
	}
	if (ask->disk >= r->disks.count) {
		*why = "blocks of an unknown disk are asked for";
		return -EPROTO;
	}
	blocks = disk_meta_blocks(r->disks.disk[ask->disk].meta);
	if (!ask->count || ask->count > WIRE_DISK_BLOCKS_MAX ||
	    ask->first > blocks || ask->count > blocks - ask->first) {
		*why = "blocks past the end of a disk are asked for";
		return -EPROTO;
	}
	return 0;
}

static int hash_block(struct disk_replica *r, unsigned int disk, uint64_t block,
		      uint8_t *hash)
{
	struct replica_disk *d = &r->disks.disk[disk];
	uint64_t offset = block * DISK_BLOCK_BYTES;
	size_t n = (size_t)at_most(DISK_BLOCK_BYTES,
				   r->disks.sizes[disk] - offset);
	int err = disk_storage_read(d->storage, r->block, n, offset);

	if (err)
		log_error("disk %s: %s cannot be read at %llu: %s",
			  disk_meta_name(d->meta), disk_meta_storage(d->meta),
			  (unsigned long long)offset, strerror(-err));
	else
		checksum_wide(r->block, n, r->seed, hash);
	return err;
}

int disk_replica_hash(struct disk_replica *r, const struct disk_blocks *ask,
		      struct disk_hashes *out, const char **why)
{
	int err = check_ask(r, ask, why);

	if (err)
		return err;
	out->disk = ask->disk;
	out->first = ask->first;
	out->count = 0;
	for (unsigned int i = 0; i < ask->count; i++) {
		if (!(ask->bits[i / 64] >> i % 64 & 1))
			continue;
		err = hash_block(r, ask->disk, ask->first + i,
				 out->hash[out->count++]);
		if (err) {
			*why = "a disk of the secondary cannot be read";
			return replica_kind_of(err);
		}
	}
	if (!out->count)
		*why = "no block is asked for";
	return out->count ? 0 : -EPROTO;
}
