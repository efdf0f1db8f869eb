/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The payloads about replicated disks, encode beside decode, by the rules of
 * messages.c.  A name that passes here is that of a file in one folder, and
 * leads nowhere else.  Pure; any thread.
 */
#include "config.h"

#include "stream/disk_messages.h"

#include <errno.h>
#include <string.h>

#include "base/cursor.h"
#include "stream/messages_impl.h"

enum {
	SECTOR_BYTES = 512,
	WORD_BITS = 64,
};

#define SIZE_LIMIT (UINT64_C(1) << 44)
#define BLOCK_LIMIT (SIZE_LIMIT / WIRE_DISK_BLOCK_BYTES)

static bool letter_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9');
}

static bool name_good(const char *name, size_t length)
{
	if (!length || name[0] == '.' || name[0] == '-')
		return false;
	for (size_t i = 0; i < length; i++) {
		if (!letter_or_digit(name[i]) && name[i] != '.' &&
		    name[i] != '_' && name[i] != '-')
			return false;
	}
	return true;
}

static size_t name_length(const struct disk_offer *o)
{
	return strnlen(o->name, DISK_OFFER_NAME_MAX);
}

static void offer_put(const struct disk_offer *o, struct cursor *c)
{
	cursor_put_u64(c, o->size);
	cursor_put_u64(c, o->base);
	cursor_put_u32(c, o->alone ? WIRE_DISK_ALONE : 0);
	cursor_put_u32(c, (uint32_t)name_length(o));
	cursor_put_bytes(c, o->name, name_length(o));
}

struct frame_buf *disks_encode(const struct disks *d)
{
	size_t length = sizeof(struct wire_disks);
	struct frame_buf *b;
	struct cursor c;

	for (unsigned int i = 0; i < d->count; i++)
		length += sizeof(struct wire_disk_offer) +
			  name_length(&d->disk[i]);
	b = message_new(WIRE_DISKS, 0, length, &c);
	if (!b)
		return NULL;
	cursor_put_u64(&c, d->new_base);
	cursor_put_u64(&c, d->seed);
	cursor_put_u32(&c, d->count);
	cursor_put_u32(&c, 0);
	for (unsigned int i = 0; i < d->count; i++)
		offer_put(&d->disk[i], &c);
	return b;
}

static int offer_take(struct cursor *c, struct disk_offer *o, const char **why)
{
	uint32_t length;
	uint32_t flags;

	o->size = cursor_get_u64(c);
	o->base = cursor_get_u64(c);
	flags = cursor_get_u32(c);
	length = cursor_get_u32(c);
	if (c->bad || length > DISK_OFFER_NAME_MAX || length > cursor_left(c))
		return refuse(why, "DISKS of a wrong length");
	cursor_get_bytes(c, o->name, length);
	o->name[length] = '\0';
	o->alone = flags & WIRE_DISK_ALONE;
	if (flags & ~WIRE_DISK_ALONE)
		return refuse(why, "DISKS with an unknown flag");
	if (!name_good(o->name, length))
		return refuse(why, "DISKS with a bad name");
	if (!o->size || o->size > SIZE_LIMIT || o->size % SECTOR_BYTES)
		return refuse(why, "DISKS with a bad size");
	return 0;
}

static bool offered_before(const struct disks *d, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		if (!strcmp(d->disk[i].name, d->disk[n].name))
			return true;
	}
	return false;
}

int disks_decode(const struct frame *f, struct disks *d, const char **why)
{
	struct cursor c = cursor_over(f->payload, f->length);
	uint32_t reserved;

	*d = (struct disks){ .new_base = cursor_get_u64(&c) };
	d->seed = cursor_get_u64(&c);
	d->count = cursor_get_u32(&c);
	reserved = cursor_get_u32(&c);
	if (c.bad)
		return refuse(why, "DISKS of a wrong length");
	if (reserved)
		return refuse(why, "DISKS with a reserved field set");
	if (!d->new_base)
		return refuse(why, "DISKS without a base");
	if (!d->count || d->count > WIRE_DISKS_MAX)
		return refuse(why, "DISKS with a bad number of disks");
	for (unsigned int i = 0; i < d->count; i++) {
		int err = offer_take(&c, &d->disk[i], why);

		if (err)
			return err;
		if (offered_before(d, i))
			return refuse(why, "DISKS with a disk twice");
	}
	if (cursor_left(&c))
		return refuse(why, "DISKS of a wrong length");
	return 0;
}

struct frame_buf *disks_taken_encode(const struct disks_taken *t)
{
	struct cursor c;
	struct frame_buf *b = message_new(WIRE_DISKS_TAKEN, 0,
					  sizeof(struct wire_disks_taken) +
						  t->count * sizeof(uint32_t),
					  &c);

	if (!b)
		return NULL;
	cursor_put_u32(&c, t->count);
	cursor_put_u32(&c, t->marks);
	for (unsigned int i = 0; i < t->count; i++)
		cursor_put_u32(&c, t->same_base[i] ? WIRE_DISK_SAME_BASE : 0);
	return b;
}

int disks_taken_decode(const struct frame *f, struct disks_taken *t,
		       const char **why)
{
	struct cursor c = cursor_over(f->payload, f->length);

	*t = (struct disks_taken){ .count = cursor_get_u32(&c) };
	t->marks = cursor_get_u32(&c);
	if (c.bad || cursor_left(&c) != (size_t)t->count * sizeof(uint32_t))
		return refuse(why, "DISKS_TAKEN of a wrong length");
	if (!t->count || t->count > WIRE_DISKS_MAX)
		return refuse(why, "DISKS_TAKEN with a bad number of disks");
	for (unsigned int i = 0; i < t->count; i++) {
		uint32_t flags = cursor_get_u32(&c);

		if (flags & ~WIRE_DISK_SAME_BASE)
			return refuse(why, "DISKS_TAKEN with an unknown flag");
		t->same_base[i] = flags & WIRE_DISK_SAME_BASE;
	}
	return 0;
}

/* What DISK_MARKS, DISK_ASK and DISK_HASHES have in common. */
static bool run_good(uint32_t disk, uint32_t count, uint64_t first)
{
	return disk < WIRE_DISKS_MAX && count &&
	       count <= WIRE_DISK_BLOCKS_MAX && !(first % WORD_BITS) &&
	       first <= BLOCK_LIMIT - count;
}

static size_t words_of(unsigned int count)
{
	return (count + WORD_BITS - 1) / WORD_BITS;
}

struct frame_buf *disk_blocks_encode(enum wire_type type,
				     const struct disk_blocks *b)
{
	size_t words = words_of(b->count);
	struct cursor c;
	struct frame_buf *f = message_new(
		(uint16_t)type, 0,
		sizeof(struct wire_disk_blocks) + words * sizeof(uint64_t), &c);

	if (!f)
		return NULL;
	cursor_put_u32(&c, b->disk);
	cursor_put_u32(&c, b->count);
	cursor_put_u64(&c, b->first);
	for (size_t i = 0; i < words; i++)
		cursor_put_u64(&c, b->bits[i]);
	return f;
}

static int bits_check(const struct disk_blocks *b, const char **why)
{
	unsigned int rest = b->count % WORD_BITS;
	uint64_t any = 0;

	for (size_t i = 0; i < words_of(b->count); i++)
		any |= b->bits[i];
	if (!any)
		return refuse(why, "a frame about no block of a disk");
	if (rest && b->bits[words_of(b->count) - 1] >> rest)
		return refuse(why, "a frame about more blocks than it counts");
	return 0;
}

int disk_blocks_decode(const struct frame *f, struct disk_blocks *b,
		       const char **why)
{
	struct cursor c = cursor_over(f->payload, f->length);

	*b = (struct disk_blocks){ .disk = cursor_get_u32(&c) };
	b->count = cursor_get_u32(&c);
	b->first = cursor_get_u64(&c);
	if (c.bad)
		return refuse(why, "a frame about a disk of a wrong length");
	if (!run_good(b->disk, b->count, b->first))
		return refuse(why, "a frame about blocks that no disk has");
	if (cursor_left(&c) != words_of(b->count) * sizeof(uint64_t))
		return refuse(why, "a frame about a disk of a wrong length");
	for (size_t i = 0; i < words_of(b->count); i++)
		b->bits[i] = cursor_get_u64(&c);
	return bits_check(b, why);
}

struct frame_buf *disk_hashes_encode(const struct disk_hashes *h)
{
	size_t bytes = (size_t)h->count * WIRE_DISK_HASH_BYTES;
	struct cursor c;
	struct frame_buf *b =
		message_new(WIRE_DISK_HASHES, 0,
			    sizeof(struct wire_disk_hashes) + bytes, &c);

	if (!b)
		return NULL;
	cursor_put_u32(&c, h->disk);
	cursor_put_u32(&c, h->count);
	cursor_put_u64(&c, h->first);
	cursor_put_bytes(&c, h->hash, bytes);
	return b;
}

int disk_hashes_decode(const struct frame *f, struct disk_hashes *h,
		       const char **why)
{
	struct cursor c = cursor_over(f->payload, f->length);

	h->disk = cursor_get_u32(&c);
	h->count = cursor_get_u32(&c);
	h->first = cursor_get_u64(&c);
	if (c.bad)
		return refuse(why, "DISK_HASHES of a wrong length");
	if (!run_good(h->disk, h->count, h->first))
		return refuse(why, "DISK_HASHES of blocks that no disk has");
	if (cursor_left(&c) != (size_t)h->count * WIRE_DISK_HASH_BYTES)
		return refuse(why, "DISK_HASHES of a wrong length");
	cursor_get_bytes(&c, h->hash, cursor_left(&c));
	return 0;
}
