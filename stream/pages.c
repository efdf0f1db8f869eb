/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PAGES payloads.
 *
 * Encoding: entries, deltas and whole pages are collected until one more page
 * might not fit.  A page may be written to meanwhile, so the shadow and the
 * payload have what one and the same reading of it found.  Decoding:
 * everything is checked before the first page is handed out.  Both keep their
 * buffers, so that nothing is allocated per payload.  One thread at a time uses
 * an encoder or a decoder.
 */
#include "config.h"

#include "stream/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/memory.h"
#include "stream/body.h"
#include "stream/delta.h"
#include "stream/read_once.h"

enum {
	HEADER_BYTES = sizeof(struct wire_pages),
	ENTRY_BYTES = 8,
	KIND_SHIFT = 56,
	/* Payloads without a try after one that zstd could do nothing with. */
	TRY_AGAIN = 8,
	/* Bytes a page, on average, up to which zstd is always worth its time.
	 */
	LITTLE_BYTES = WIRE_PAGE_BYTES / 16,
};

struct page_encoder {
	struct body_encoder *body; /* NULL: no compression */
	struct page_counts counts;
	unsigned int give_up; /* so many payloads are not tried */

	/* Of the payload that is being made: */
	unsigned int entries;
	unsigned int whole;
	size_t delta_bytes;
	uint64_t entry[WIRE_BATCH_PAGES];
	uint8_t pages[WIRE_PAYLOAD_MAX]; /* the whole ones */
	/* Deltas, and behind them what is compressed with them. */
	uint8_t gathered[WIRE_PAYLOAD_MAX + DELTA_ROOM];
};

struct page_decoder {
	struct body_decoder *body;
	uint8_t bodies[WIRE_PAYLOAD_MAX];
};

struct page_encoder *page_encoder_new(int level)
{
	struct page_encoder *e = memory_zeroed(sizeof(*e));

	if (!e)
		return NULL;
	if (!level)
		return e;
	e->body = body_encoder_new(level);
	if (!e->body) {
		free(e);
		return NULL;
	}
	return e;
}

void page_encoder_free(struct page_encoder *e)
{
	if (!e)
		return;
	body_encoder_free(e->body);
	free(e);
}

const struct page_counts *page_counts(const struct page_encoder *e)
{
	return &e->counts;
}

/* A cache line at a time: most pages differ from zero in their first. */
static bool page_is_zero(const uint8_t *page)
{
	for (size_t at = 0; at < WIRE_PAGE_BYTES; at += 64) {
		uint64_t w[8];

		memcpy(w, page + at, sizeof(w));
		if (w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7])
			return false;
	}
	return true;
}

static void enter(struct page_encoder *e, uint64_t gfn,
		  enum wire_page_kind kind)
{
	e->entry[e->entries++] = (uint64_t)kind << KIND_SHIFT | gfn;
}

static void enter_zero(struct page_encoder *e, uint64_t gfn, uint8_t *base)
{
	if (base)
		memset(base, 0, WIRE_PAGE_BYTES);
	enter(e, gfn, WIRE_PAGE_ZERO);
	e->counts.zero++;
}

/* Returns what is sent of it, while no other is entered. */
static const uint8_t *enter_whole(struct page_encoder *e, uint64_t gfn,
				  const uint8_t *page)
{
	uint8_t *to = e->pages + (size_t)e->whole++ * WIRE_PAGE_BYTES;

	memcpy(to, page, WIRE_PAGE_BYTES);
	READ_ONCE_INTO(to);
	enter(e, gfn, WIRE_PAGE_DATA);
	e->counts.whole++;
	return to;
}

/* `base` is the version that was sent before; it becomes this one. */
static void enter_again(struct page_encoder *e, uint64_t gfn,
			const uint8_t *page, uint8_t *base)
{
	size_t n = delta_make(base, page, e->gathered + e->delta_bytes);

	if (!n) {
		e->counts.same++;
	} else if (n >= WIRE_PAGE_BYTES) {
		enter_whole(e, gfn, base);
	} else {
		e->delta_bytes += n;
		enter(e, gfn, WIRE_PAGE_DELTA);
		e->counts.delta++;
	}
}

/*
 * Where an epoch has many rounds, a page that comes in the third of them is
 * whole: so the other side has at most two deltas of it to keep.
 */
static void add_page(struct page_encoder *e, const struct page_run *run,
		     struct shadow *shadow)
{
	uint64_t gfn = run->gfns[0];
	const uint8_t *page = run->pages[0], *sent;
	unsigned int times = 0;
	uint8_t *base =
		shadow ? shadow_find(shadow, gfn, run->epoch, &times) : NULL;

	if (page_is_zero(page)) {
		if (base && page_is_zero(base)) {
			e->counts.same++;
			return;
		}
		enter_zero(e, gfn,
			   base	    ? base
			   : shadow ? shadow_add(shadow, gfn, run->epoch)
				    : NULL);
		return;
	}
	if (base && times < WIRE_DELTAS_MAX) {
		enter_again(e, gfn, page, base);
		return;
	}
	sent = enter_whole(e, gfn, page);
	if (!base && shadow)
		base = shadow_add(shadow, gfn, run->epoch);
	if (base)
		memcpy(base, sent, WIRE_PAGE_BYTES);
}

static size_t body_bytes(const struct page_encoder *e)
{
	return e->delta_bytes + (size_t)e->whole * WIRE_PAGE_BYTES;
}

static bool has_room(const struct page_encoder *e)
{
	return e->entries < WIRE_BATCH_PAGES &&
	       HEADER_BYTES + (e->entries + 1) * ENTRY_BYTES + body_bytes(e) +
			       WIRE_PAGE_BYTES <=
		       WIRE_PAYLOAD_MAX;
}

static void put_whole(const struct page_encoder *e, uint8_t *to)
{
	memcpy(to, e->pages, (size_t)e->whole * WIRE_PAGE_BYTES);
}

/*
 * The body compressed, or 0 where that is no gain.  What is mostly whole pages
 * of no order would cost its time at every payload.
 */
static size_t compress_body(struct page_encoder *e, uint8_t *out)
{
	size_t n;

	if (e->give_up && e->whole * WIRE_PAGE_BYTES > body_bytes(e) / 2) {
		e->give_up--;
		return 0;
	}
	put_whole(e, e->gathered + e->delta_bytes);
	n = body_encode(e->body, e->gathered, body_bytes(e), out);
	e->give_up = n ? 0 : TRY_AGAIN;
	if (n)
		e->counts.compressed++;
	else
		e->counts.incompressible++;
	return n;
}

/*
 * Of deltas zstd takes a quarter of a microsecond a page, and the bytes that it
 * saves are not encrypted and summed up.  Whole pages take it ten times that,
 * which is well spent only where they would wait for the link.
 */
static bool worth_zstd(const struct page_encoder *e, bool behind)
{
	size_t n = body_bytes(e);

	return e->body && n &&
	       (behind || n <= (size_t)e->entries * LITTLE_BYTES);
}

static size_t put_payload(struct page_encoder *e, bool behind, uint8_t *out)
{
	struct cursor c = cursor_over(out, WIRE_PAYLOAD_MAX);
	struct cursor encoding;
	size_t n;

	cursor_put_u32(&c, e->entries);
	encoding = c;
	cursor_put_u32(&c, WIRE_ENCODING_RAW);
	for (unsigned int i = 0; i < e->entries; i++)
		cursor_put_u64(&c, e->entry[i]);
	n = worth_zstd(e, behind) ? compress_body(e, c.at) : 0;
	if (n) {
		cursor_put_u32(&encoding, WIRE_ENCODING_ZSTD);
		return (size_t)(c.at - out) + n;
	}
	memcpy(c.at, e->gathered, e->delta_bytes);
	put_whole(e, c.at + e->delta_bytes);
	return (size_t)(c.at - out) + body_bytes(e);
}

size_t page_encode(struct page_encoder *e, struct page_run *run,
		   struct shadow *shadow, bool behind, uint8_t *out,
		   unsigned int *entries)
{
	e->entries = e->whole = 0;
	e->delta_bytes = 0;
	while (run->count && has_room(e)) {
		add_page(e, run, shadow);
		run->count--;
		run->gfns++;
		run->pages++;
	}
	*entries = e->entries;
	e->counts.body_bytes += body_bytes(e);
	return e->entries ? put_payload(e, behind, out) : 0;
}

struct page_decoder *page_decoder_new(void)
{
	struct page_decoder *d = memory_new(sizeof(*d));

	if (!d)
		return NULL;
	d->body = body_decoder_new();
	if (!d->body) {
		free(d);
		return NULL;
	}
	return d;
}

void page_decoder_free(struct page_decoder *d)
{
	if (!d)
		return;
	body_decoder_free(d->body);
	free(d);
}

/* How many there are of each kind. */
struct kinds {
	size_t whole;
	size_t deltas;
};

static bool count_kind(struct kinds *k, uint64_t kind)
{
	k->whole += kind == WIRE_PAGE_DATA;
	k->deltas += kind == WIRE_PAGE_DELTA;
	return kind == WIRE_PAGE_DATA || kind == WIRE_PAGE_DELTA ||
	       kind == WIRE_PAGE_ZERO;
}

static bool check_entries(struct cursor entries, uint64_t max_gfn,
			  struct kinds *kinds, const char **why)
{
	while (cursor_left(&entries)) {
		uint64_t entry = cursor_get_u64(&entries);
		uint64_t gfn = (uint32_t)entry;
		uint64_t kind = entry >> KIND_SHIFT;

		if (entry != (kind << KIND_SHIFT | gfn)) {
			*why = "reserved bits are set in a page entry";
			return false;
		}
		if (!count_kind(kinds, kind)) {
			*why = "a page entry is of an unknown kind";
			return false;
		}
		if (gfn > max_gfn) {
			*why = "a page lies above the guest's memory";
			return false;
		}
	}
	return true;
}

/* Where the bodies lie one after the other; false with *why. */
static bool find_bodies(struct page_decoder *d, uint32_t encoding,
			struct cursor *c, struct cursor *bodies,
			const char **why)
{
	size_t n = cursor_left(c);

	switch (encoding) {
	case WIRE_ENCODING_RAW:
		*bodies = *c;
		return true;
	case WIRE_ENCODING_ZSTD:
		n = body_decode_some(d->body, c->at, n, d->bodies,
				     sizeof(d->bodies));
		*bodies = cursor_over(d->bodies, n);
		if (!n)
			*why = "page bodies are not a zstd frame that fits";
		return n;
	default:
		*why = "PAGES of an unknown encoding";
		return false;
	}
}

/* The deltas come first; *pages becomes where the whole pages begin. */
static bool check_bodies(struct cursor bodies, const struct kinds *kinds,
			 struct cursor *pages, const char **why)
{
	*pages = bodies;
	for (size_t i = 0; i < kinds->deltas; i++) {
		size_t n = delta_length(pages->at, cursor_left(pages));

		if (!n || n >= WIRE_PAGE_BYTES) {
			*why = "a delta is malformed";
			return false;
		}
		cursor_take(pages, n);
	}
	if (cursor_left(pages) == kinds->whole * WIRE_PAGE_BYTES)
		return true;
	*why = "page bodies do not match their entries";
	return false;
}

static struct page_item next_item(uint64_t entry, struct cursor *deltas,
				  struct cursor *pages)
{
	struct page_item item = {
		.gfn = (uint32_t)entry,
		.kind = (enum wire_page_kind)(entry >> KIND_SHIFT),
	};

	if (item.kind == WIRE_PAGE_DATA) {
		item.length = WIRE_PAGE_BYTES;
		item.bytes = cursor_take(pages, item.length);
	} else if (item.kind == WIRE_PAGE_DELTA) {
		item.length = delta_length(deltas->at, cursor_left(deltas));
		item.bytes = cursor_take(deltas, item.length);
	}
	return item;
}

int page_decode(struct page_decoder *d, const uint8_t *payload, size_t length,
		uint64_t max_gfn,
		int (*page)(void *arg, const struct page_item *item), void *arg,
		const char **why)
{
	struct cursor c = cursor_over(payload, length);
	uint32_t count = cursor_get_u32(&c);
	uint32_t encoding = cursor_get_u32(&c);
	struct cursor entries, deltas, pages;
	struct kinds kinds = { 0 };
	const uint8_t *at;

	if (c.bad || !count || count > WIRE_BATCH_PAGES) {
		*why = "PAGES with a count out of range";
		return -EPROTO;
	}
	at = cursor_take(&c, count * sizeof(uint64_t));
	if (!at) {
		*why = "PAGES shorter than its entries";
		return -EPROTO;
	}
	entries = cursor_over(at, count * sizeof(uint64_t));
	if (!check_entries(entries, max_gfn, &kinds, why) ||
	    !find_bodies(d, encoding, &c, &deltas, why) ||
	    !check_bodies(deltas, &kinds, &pages, why))
		return -EPROTO;
	while (cursor_left(&entries)) {
		struct page_item item =
			next_item(cursor_get_u64(&entries), &deltas, &pages);
		int err = page(arg, &item);

		if (err)
			return err;
	}
	return (int)count;
}

void page_item_apply(const struct page_item *item, uint8_t *page)
{
	switch (item->kind) {
	case WIRE_PAGE_DATA:
		memcpy(page, item->bytes, WIRE_PAGE_BYTES);
		break;
	case WIRE_PAGE_ZERO:
		memset(page, 0, WIRE_PAGE_BYTES);
		break;
	case WIRE_PAGE_DELTA:
		delta_apply(page, item->bytes);
		break;
	}
}
