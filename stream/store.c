/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The secondary's epoch: pages by gfn, state, and whether it is complete.
 *
 * A slot per distinct gfn, in order of arrival; a slot's page and its deltas
 * lie in an arena. An open-addressed table of slot numbers finds the slot of a
 * gfn.  A slot remembers where in the table it is entered, so that an entry
 * counts only where the slot it names is in use and points back: emptying the
 * store is forgetting its slots, and neither a large table nor a page is ever
 * cleared. (The idea is Briggs and Torczon's sparse set, 1993.)
 *
 * Slots and table grow by doubling.  All is kept for the next epoch: memory
 * that was touched once costs nothing afterwards.
 *
 * Failure: see store.h.  Everything that fails ends in FAILED, from where only
 * store_begin() leads on.
 */
#include "config.h"

#include "stream/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/memory.h"
#include "stream/arena.h"
#include "stream/checksum.h"

enum {
	SLOTS_FIRST = 1024,
	LINE_BYTES = 64,
	/* Of a slot: deltas, each shorter than a page, and then a page. */
	SLOT_MAX = (WIRE_DELTAS_MAX + 1) * WIRE_PAGE_BYTES,
	/* shared_info, vcpu_info, xenstore, console and the like, and room. */
	SLACK_PAGES = 256,
};

#define NO_PAGE UINT64_MAX
#define NO_KIND UINT8_MAX

struct slot {
	uint64_t home; /* index in the table */
	uint64_t page; /* where it lies in the arena, or NO_PAGE */
	uint64_t delta[WIRE_DELTAS_MAX]; /* likewise, of a DELTA */
	uint16_t length[WIRE_DELTAS_MAX];
	uint32_t gfn;
	uint8_t deltas;
	uint8_t kind; /* of the latest version; `page` is kept */
};

/* With its two places in the table. */
enum { SLOT_BYTES = sizeof(struct slot) + 2 * sizeof(uint32_t) };

enum store_phase {
	STORE_IDLE, /* nothing begun */
	STORE_PAGES,
	STORE_STATE, /* state has begun: no pages or disks after it */
	STORE_COMPLETE,
	STORE_FAILED,
};

struct store {
	enum store_phase phase;
	uint64_t number;
	uint64_t max_gfn;
	size_t page_limit; /* of distinct gfns */
	size_t byte_limit;

	struct slot *slots;
	size_t slot_count;
	size_t slot_room;
	uint32_t *table; /* slot numbers; twice slot_room, a power of two */

	struct arena arena;
	size_t used; /* bytes of it */
	struct history *history;

	uint8_t *state;
	size_t state_bytes;
	size_t state_room;

	struct wire_epoch_end sums; /* but for the checksum */
	struct checksum *checksum;
	struct page_decoder *decoder;
	const char *why; /* of the page that failed */
};

static size_t page_limit(uint64_t ram_bytes, uint64_t max_gfn)
{
	uint64_t pages = ram_bytes / WIRE_PAGE_BYTES + SLACK_PAGES;

	if (pages > max_gfn)
		pages = max_gfn + 1;
	/* Slot numbers have 32 bits. */
	return pages < UINT32_MAX ? pages : UINT32_MAX - 1;
}

struct store *store_new(uint64_t ram_bytes, uint64_t max_gfn,
			struct history *history)
{
	struct store *s = memory_zeroed(sizeof(*s));

	if (!s)
		return NULL;
	s->max_gfn = max_gfn < WIRE_GFN_MAX ? max_gfn : WIRE_GFN_MAX;
	s->page_limit = page_limit(ram_bytes, s->max_gfn);
	s->byte_limit = SIZE_MAX;
	s->history = history;
	s->checksum = checksum_new();
	s->decoder = page_decoder_new();
	if (!s->checksum || !s->decoder ||
	    arena_open(&s->arena, s->page_limit * SLOT_MAX)) {
		store_free(s);
		return NULL;
	}
	return s;
}

void store_free(struct store *s)
{
	if (!s)
		return;
	arena_close(&s->arena);
	free(s->slots);
	free(s->table);
	free(s->state);
	checksum_free(s->checksum);
	page_decoder_free(s->decoder);
	free(s);
}

void store_limit(struct store *s, size_t bytes)
{
	s->byte_limit = bytes;
}

void store_begin(struct store *s, uint64_t number)
{
	s->phase = STORE_PAGES;
	s->number = number;
	s->slot_count = 0;
	s->used = 0;
	s->state_bytes = 0;
	s->sums = (struct wire_epoch_end){ 0 };
	checksum_reset(s->checksum);
}

static int fail(struct store *s, int err, const char *text, const char **why)
{
	s->phase = STORE_FAILED;
	*why = text;
	return err;
}

/* Where in the table `gfn` is, or where it would be entered. */
static size_t table_find(const struct store *s, uint32_t gfn, bool *found)
{
	size_t mask = s->slot_room * 2 - 1;
	/* Fibonacci hashing (Knuth 6.4): runs of gfns spread evenly. */
	size_t at = gfn * UINT64_C(0x9e3779b97f4a7c15) >> __builtin_clzl(mask);

	for (;; at = (at + 1) & mask) {
		uint32_t n = s->table[at];

		*found = false;
		if (n >= s->slot_count || s->slots[n].home != at)
			return at;
		*found = true;
		if (s->slots[n].gfn == gfn)
			return at;
	}
}

static void table_enter(struct store *s, size_t slot, size_t at)
{
	s->table[at] = (uint32_t)slot;
	s->slots[slot].home = at;
}

/* Of a whole epoch's memory, `bytes` would come on top. */
static bool over_limit(const struct store *s, size_t bytes)
{
	size_t held = s->used + s->state_bytes + s->slot_room * SLOT_BYTES;

	return bytes > s->byte_limit || held > s->byte_limit - bytes;
}

static int too_much(struct store *s)
{
	s->why = "an epoch takes more than --memory-limit leaves for one";
	return -E2BIG;
}

/* Doubles the slots, and enters all that are in use in a table of its own. */
static int grow_slots(struct store *s)
{
	size_t room = s->slot_room ? s->slot_room * 2 : SLOTS_FIRST;
	size_t count = s->slot_count;
	struct slot *slots;
	uint32_t *table;

	if (memory_short())
		return -ENOMEM;
	slots = reallocarray(s->slots, room, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	s->slots = slots;
	table = calloc(room * 2, sizeof(*table));
	if (!table)
		return -ENOMEM;
	free(s->table);
	s->table = table;
	s->slot_room = room;
	s->slot_count = 0;
	while (s->slot_count < count) {
		bool found;
		size_t at = table_find(s, slots[s->slot_count].gfn, &found);

		table_enter(s, s->slot_count++, at);
	}
	return 0;
}

/* The slot of `gfn`, made where there is none: then it is of no kind yet. */
static int slot_get(struct store *s, uint32_t gfn, struct slot **out)
{
	bool found = false;
	size_t at = 0;

	if (s->slot_room) {
		at = table_find(s, gfn, &found);
		if (found) {
			*out = &s->slots[s->table[at]];
			return 0;
		}
	}
	if (s->slot_count >= s->page_limit) {
		s->why = "an epoch has more pages than the guest";
		return -E2BIG;
	}
	if (s->slot_count == s->slot_room) {
		if (over_limit(s, (s->slot_room + 1) * SLOT_BYTES))
			return too_much(s);
		if (grow_slots(s)) {
			s->why = "no memory for the index of an epoch";
			return -ENOMEM;
		}
		at = table_find(s, gfn, &found);
	}
	*out = &s->slots[s->slot_count];
	**out = (struct slot){ .gfn = gfn, .page = NO_PAGE, .kind = NO_KIND };
	table_enter(s, s->slot_count++, at);
	return 0;
}

/* Lines of a cache are not shared, for the sake of copying. */
static int take_room(struct store *s, size_t bytes, uint64_t *at)
{
	if (over_limit(s, bytes))
		return too_much(s);
	if (arena_grow(&s->arena, s->used + bytes)) {
		s->why = "no memory for the pages of an epoch";
		return -ENOMEM;
	}
	*at = s->used;
	s->used += (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
	return 0;
}

static int store_whole(struct store *s, struct slot *slot,
		       const struct page_item *item)
{
	if (slot->page == NO_PAGE) {
		int err = take_room(s, WIRE_PAGE_BYTES, &slot->page);

		if (err)
			return err;
	}
	memcpy(s->arena.bytes + slot->page, item->bytes, WIRE_PAGE_BYTES);
	return 0;
}

/* It is applied to what the standby has when the epoch's turn comes. */
static int keep_delta(struct store *s, struct slot *slot,
		      const struct page_item *item)
{
	unsigned int n = slot->deltas;
	int err;

	if (n == WIRE_DELTAS_MAX) {
		s->why = "too many deltas of a page in an epoch";
		return -EPROTO;
	}
	err = take_room(s, item->length, &slot->delta[n]);
	if (err)
		return err;
	slot->length[n] = (uint16_t)item->length;
	slot->deltas++;
	memcpy(s->arena.bytes + slot->delta[n], item->bytes, item->length);
	return 0;
}

static int store_delta(struct store *s, struct slot *slot,
		       const struct page_item *item)
{
	static const uint8_t zeroes[WIRE_PAGE_BYTES];
	const struct page_item blank = { .bytes = zeroes };
	int err = 0;

	if (!s->history || !history_has(s->history, item->gfn)) {
		s->why = "a delta of a page that never came";
		return -EPROTO;
	}
	switch (slot->kind) {
	case WIRE_PAGE_ZERO:
		err = store_whole(s, slot, &blank);
		/* fall through */
	case WIRE_PAGE_DATA:
		if (!err)
			page_item_apply(item, s->arena.bytes + slot->page);
		slot->kind = WIRE_PAGE_DATA;
		return err;
	default:
		slot->kind = WIRE_PAGE_DELTA;
		return keep_delta(s, slot, item);
	}
}

static int store_one(void *arg, const struct page_item *item)
{
	struct store *s = arg;
	struct slot *slot;
	int err = slot_get(s, (uint32_t)item->gfn, &slot);

	if (err)
		return err;
	if (item->kind == WIRE_PAGE_DELTA) {
		err = store_delta(s, slot, item);
	} else {
		if (item->kind == WIRE_PAGE_DATA)
			err = store_whole(s, slot, item);
		slot->kind = (uint8_t)item->kind;
	}
	if (err)
		return err;
	if (s->history)
		history_add(s->history, item->gfn);
	return 0;
}

static void add_up(struct store *s, const uint8_t *payload, size_t length)
{
	s->sums.bytes += length;
	checksum_add(s->checksum, payload, length);
}

int store_pages(struct store *s, const uint8_t *payload, size_t length,
		const char **why)
{
	int n;

	if (s->phase != STORE_PAGES)
		return fail(s, -EPROTO, "PAGES where none may come", why);
	s->why = NULL;
	n = page_decode(s->decoder, payload, length, s->max_gfn, store_one, s,
			why);
	if (n < 0)
		return fail(s, n, s->why ? s->why : *why, why);
	s->sums.pages += (uint64_t)n;
	add_up(s, payload, length);
	return 0;
}

static int grow_state(struct store *s, size_t needed)
{
	size_t room = s->state_room ? s->state_room : 64 * 1024;
	uint8_t *state;

	while (room < needed)
		room *= 2;
	if (room == s->state_room)
		return 0;
	if (memory_short())
		return -ENOMEM;
	state = realloc(s->state, room);
	if (!state)
		return -ENOMEM;
	s->state = state;
	s->state_room = room;
	return 0;
}

int store_state(struct store *s, const uint8_t *payload, size_t length,
		const char **why)
{
	if (s->phase != STORE_PAGES && s->phase != STORE_STATE)
		return fail(s, -EPROTO, "STATE where none may come", why);
	if (!length)
		return fail(s, -EPROTO, "STATE without records", why);
	if (length > WIRE_STATE_MAX - s->state_bytes)
		return fail(s, -E2BIG, "an epoch has too much state", why);
	if (over_limit(s, length)) {
		int err = too_much(s);

		return fail(s, err, s->why, why);
	}
	if (grow_state(s, s->state_bytes + length))
		return fail(s, -ENOMEM, "no memory for the state", why);
	memcpy(s->state + s->state_bytes, payload, length);
	s->state_bytes += length;
	s->phase = STORE_STATE;
	add_up(s, payload, length);
	return 0;
}

int store_disk(struct store *s, const uint8_t *payload, size_t length,
	       const char **why)
{
	if (s->phase != STORE_PAGES)
		return fail(s, -EPROTO, "DISK where none may come", why);
	add_up(s, payload, length);
	return 0;
}

static bool record_acceptable(uint32_t type)
{
	const uint32_t optional = UINT32_C(1) << 31; /* as in Xen's stream */

	return type == WIRE_RECORD_HVM_CONTEXT || (type & optional);
}

static int check_records(struct store *s, const char **why)
{
	struct cursor c = cursor_over(s->state, s->state_bytes);
	struct record r;
	int more;

	while ((more = record_next(&c, &r)) > 0) {
		if (!record_acceptable(r.type))
			return fail(s, -EPROTO,
				    "an unknown mandatory state record", why);
	}
	if (more < 0)
		return fail(s, more, "a malformed state record", why);
	return 0;
}

int store_end(struct store *s, const struct wire_epoch_end *end,
	      const char **why)
{
	int err;

	if (s->phase != STORE_PAGES && s->phase != STORE_STATE)
		return fail(s, -EPROTO, "EPOCH_END where none may come", why);
	if (end->pages != s->sums.pages)
		return fail(s, -EBADMSG, "an epoch lacks pages", why);
	if (end->bytes != s->sums.bytes)
		return fail(s, -EBADMSG, "an epoch lacks bytes", why);
	if (end->checksum != checksum_value(s->checksum))
		return fail(s, -EBADMSG, "an epoch's checksum is wrong", why);
	err = check_records(s, why);
	if (!err)
		s->phase = STORE_COMPLETE;
	return err;
}

bool store_complete(const struct store *s)
{
	return s->phase == STORE_COMPLETE;
}

uint64_t store_number(const struct store *s)
{
	return s->number;
}

size_t store_page_count(const struct store *s)
{
	return s->slot_count;
}

size_t store_memory_bytes(const struct store *s)
{
	return s->arena.room + s->state_room + s->slot_room * SLOT_BYTES;
}

/* The n-th of a slot: one, or each of its deltas. */
static struct page_item item_of(const struct store *s, const struct slot *slot,
				unsigned int n)
{
	struct page_item item = {
		.gfn = slot->gfn,
		.kind = (enum wire_page_kind)slot->kind,
	};

	if (item.kind == WIRE_PAGE_DATA) {
		item.bytes = s->arena.bytes + slot->page;
		item.length = WIRE_PAGE_BYTES;
	} else if (item.kind == WIRE_PAGE_DELTA) {
		item.bytes = s->arena.bytes + slot->delta[n];
		item.length = slot->length[n];
	}
	return item;
}

static int each_of(const struct store *s, const struct slot *slot,
		   int (*page)(void *arg, const struct page_item *item),
		   void *arg)
{
	unsigned int n = slot->kind == WIRE_PAGE_DELTA ? slot->deltas : 1;
	int err = 0;

	for (unsigned int i = 0; i < n && err >= 0; i++) {
		struct page_item item = item_of(s, slot, i);

		err = page(arg, &item);
	}
	return err;
}

int store_each_page(const struct store *s,
		    int (*page)(void *arg, const struct page_item *item),
		    void *arg)
{
	for (size_t i = 0; i < s->slot_count; i++) {
		int err =
			i == s->slot_count / 2 ? fault_at(FAULT_MID_APPLY) : 0;

		if (!err)
			err = each_of(s, &s->slots[i], page, arg);
		if (err < 0)
			return err;
	}
	return 0;
}

bool store_record(const struct store *s, enum wire_record type,
		  struct record *r)
{
	struct cursor c = cursor_over(s->state, s->state_bytes);

	while (record_next(&c, r) > 0) {
		if (r->type == (uint32_t)type)
			return true;
	}
	return false;
}
