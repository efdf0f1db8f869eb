/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The secondary's epoch: pages by gfn, state, and whether it is complete.
 *
 * A slot per distinct gfn, in order of arrival; a slot's page lies in an arena.
 * An open-addressed table of slot numbers finds the slot of a gfn.  A slot
 * remembers where in the table it is entered, so that an entry counts only
 * where the slot it names is in use and points back: emptying the store is
 * forgetting its slots, and neither a large table nor a page is ever cleared.
 * (The idea is Briggs and Torczon's sparse set, 1993.)
 *
 * Slots and table grow by doubling.  The arena is address space for all of the
 * guest's RAM, reserved at the start and made accessible as pages arrive: one
 * mapping however large the guest, since thousands of chunks would meet
 * vm.max_map_count.  All is kept for the next epoch: memory that was touched
 * once costs nothing afterwards.
 *
 * Failure: see store.h.  Everything that fails ends in FAILED, from where only
 * store_begin() leads on.
 */
#include "config.h"

#include "stream/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fault.h"
#include "base/memory.h"
#include "stream/checksum.h"
#include "stream/pages.h"

enum {
	/* The arena grows by this: a huge page on x86, where there are such. */
	ARENA_STEP_BYTES = 2 * 1024 * 1024,
	SLOTS_FIRST = 1024,
	/* shared_info, vcpu_info, xenstore, console and the like, and room. */
	SLACK_PAGES = 256,
};

#define NO_PAGE UINT32_MAX

struct slot {
	uint32_t gfn;
	uint32_t page;	    /* number in the arena, or NO_PAGE */
	uint64_t home : 63; /* index in the table */
	uint64_t zero : 1;  /* `page` is kept for the next version */
};

enum store_phase {
	STORE_IDLE, /* nothing begun */
	STORE_PAGES,
	STORE_STATE, /* state has begun: no pages after it */
	STORE_COMPLETE,
	STORE_FAILED,
};

struct store {
	enum store_phase phase;
	uint64_t number;
	uint64_t max_gfn;
	size_t page_limit; /* of distinct gfns */

	struct slot *slots;
	size_t slot_count;
	size_t slot_room;
	uint32_t *table; /* slot numbers; twice slot_room, a power of two */

	void *reserved;
	size_t reserved_bytes;
	uint8_t *arena;	    /* in `reserved`, aligned to its steps */
	size_t arena_bytes; /* accessible */
	size_t page_count;  /* in use */

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
	/* Slot and page numbers have 32 bits, one of which means none. */
	return pages < NO_PAGE ? pages : NO_PAGE - 1;
}

/* Takes no memory yet, also where the system does not overcommit. */
static int arena_reserve(struct store *s)
{
	const uintptr_t align = ARENA_STEP_BYTES - 1;
	size_t bytes = s->page_limit * WIRE_PAGE_BYTES + 2 * ARENA_STEP_BYTES;
	void *p = mmap(NULL, bytes, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	s->reserved = p;
	s->reserved_bytes = bytes;
	s->arena = (uint8_t *)(((uintptr_t)p + align) & ~align);
	/* A wish: without it the first touch is only slower. */
	madvise(p, bytes, MADV_HUGEPAGE);
	return 0;
}

static int arena_grow(struct store *s)
{
	if (memory_short() ||
	    mprotect(s->arena + s->arena_bytes, ARENA_STEP_BYTES,
		     PROT_READ | PROT_WRITE))
		return -ENOMEM;
	s->arena_bytes += ARENA_STEP_BYTES;
	return 0;
}

static uint8_t *page_at(const struct store *s, size_t page)
{
	return s->arena + page * WIRE_PAGE_BYTES;
}

struct store *store_new(uint64_t ram_bytes, uint64_t max_gfn)
{
	struct store *s = memory_zeroed(sizeof(*s));

	if (!s)
		return NULL;
	s->max_gfn = max_gfn < WIRE_GFN_MAX ? max_gfn : WIRE_GFN_MAX;
	s->page_limit = page_limit(ram_bytes, s->max_gfn);
	s->checksum = checksum_new();
	s->decoder = page_decoder_new();
	if (!s->checksum || !s->decoder || arena_reserve(s)) {
		store_free(s);
		return NULL;
	}
	return s;
}

void store_free(struct store *s)
{
	if (!s)
		return;
	if (s->reserved)
		munmap(s->reserved, s->reserved_bytes);
	free(s->slots);
	free(s->table);
	free(s->state);
	checksum_free(s->checksum);
	page_decoder_free(s->decoder);
	free(s);
}

void store_begin(struct store *s, uint64_t number)
{
	s->phase = STORE_PAGES;
	s->number = number;
	s->slot_count = 0;
	s->page_count = 0;
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

/* The slot of `gfn`, made where there is none. */
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
		if (grow_slots(s)) {
			s->why = "no memory for the index of an epoch";
			return -ENOMEM;
		}
		at = table_find(s, gfn, &found);
	}
	*out = &s->slots[s->slot_count];
	**out = (struct slot){ .gfn = gfn, .page = NO_PAGE };
	table_enter(s, s->slot_count++, at);
	return 0;
}

static int store_one(void *arg, uint64_t gfn, const uint8_t *bytes)
{
	struct store *s = arg;
	struct slot *slot;
	int err = slot_get(s, (uint32_t)gfn, &slot);

	if (err)
		return err;
	slot->zero = !bytes;
	if (!bytes)
		return 0;
	if (slot->page == NO_PAGE) {
		if (s->page_count * WIRE_PAGE_BYTES == s->arena_bytes &&
		    arena_grow(s)) {
			s->why = "no memory for the pages of an epoch";
			return -ENOMEM;
		}
		slot->page = (uint32_t)s->page_count++;
	}
	memcpy(page_at(s, slot->page), bytes, WIRE_PAGE_BYTES);
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
	if (grow_state(s, s->state_bytes + length))
		return fail(s, -ENOMEM, "no memory for the state", why);
	memcpy(s->state + s->state_bytes, payload, length);
	s->state_bytes += length;
	s->phase = STORE_STATE;
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
	return s->arena_bytes + s->state_room +
	       s->slot_room * (sizeof(struct slot) + 2 * sizeof(uint32_t));
}

int store_each_page(const struct store *s,
		    int (*page)(void *arg, uint64_t gfn, const uint8_t *bytes),
		    void *arg)
{
	for (size_t i = 0; i < s->slot_count; i++) {
		const struct slot *slot = &s->slots[i];
		int err =
			i == s->slot_count / 2 ? fault_at(FAULT_MID_APPLY) : 0;

		if (!err)
			err = page(arg, slot->gfn,
				   slot->zero ? NULL : page_at(s, slot->page));
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
