/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/embedded/ledger_disk.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	ENTRY_BYTES = sizeof(struct ledger_entry),
	/* In one request. */
	ENTRIES = EMBEDDED_DISK_BUFFER_BYTES / ENTRY_BYTES,
};

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static const uint8_t *buffer(const uint8_t *memory)
{
	return memory + EMBEDDED_DISK_BUFFER_PAGE * WIRE_PAGE_BYTES;
}

/* --- asking ------------------------------------------------------------- */

static void put(uint8_t *memory, enum embedded_disk_kind kind, uint64_t offset,
		uint64_t length, const void *bytes)
{
	struct embedded_disk_slot *s = embedded_disk_slot(memory);

	s->kind = kind;
	s->offset = offset;
	s->length = (uint32_t)length;
	s->memory = bytes ? (uint64_t)((const uint8_t *)bytes - memory) : 0;
	atomic_store(&s->asked, atomic_load(&s->asked) + 1);
}

static bool ask_zero(struct ledger_disk *d, uint8_t *memory)
{
	uint64_t end = d->capacity * ENTRY_BYTES;

	if (d->at == end) {
		d->phase = LEDGER_DISK_CHECK;
		d->at = 0;
		return false;
	}
	put(memory, EMBEDDED_DISK_ZERO, d->at,
	    least(end - d->at, LEDGER_DISK_ZERO_BYTES), NULL);
	return true;
}

/* The entries to be read next. */
static uint64_t part(const struct ledger_disk *d)
{
	uint64_t end = d->writing + LEDGER_DISK_BEHIND_BYTES / ENTRY_BYTES;

	end = least(end, d->capacity);
	return d->at < end ? least(end - d->at, ENTRIES) : 0;
}

static bool ask_read(struct ledger_disk *d, uint8_t *memory)
{
	uint64_t n = part(d);

	if (!n) {
		d->phase = LEDGER_DISK_SERVE;
		if (d->question == LEDGER_DISK_ASKED)
			d->question = LEDGER_DISK_KNOWN;
		return false;
	}
	put(memory, EMBEDDED_DISK_READ, d->at * ENTRY_BYTES, n * ENTRY_BYTES,
	    buffer(memory));
	return true;
}

static bool ask_write(struct ledger_disk *d, const struct ledger *l,
		      uint8_t *memory)
{
	put(memory, EMBEDDED_DISK_WRITE, d->written * ENTRY_BYTES,
	    (d->writing - d->written) * ENTRY_BYTES, &l->entries[d->written]);
	d->replies = d->put;
	return true;
}

static bool ask_serving(struct ledger_disk *d, const struct ledger *l,
			uint8_t *memory, bool idle)
{
	/* One whose answer was lost on the way, as it was. */
	if (d->writing > d->written)
		return ask_write(d, l, memory);
	if (d->writes >= LEDGER_DISK_WRITES) {
		put(memory, EMBEDDED_DISK_FLUSH, 0, 0, NULL);
		return true;
	}
	if (l->count > d->written && idle) {
		d->writing = least(l->count, d->written + ENTRIES);
		return ask_write(d, l, memory);
	}
	if (d->question == LEDGER_DISK_ASKED && l->count == d->written) {
		d->phase = LEDGER_DISK_CHECK;
		d->at = 0;
		return ask_read(d, memory);
	}
	return false;
}

static bool ask(struct ledger_disk *d, const struct ledger *l, uint8_t *memory,
		bool idle)
{
	if (d->phase == LEDGER_DISK_BOOT) {
		put(memory, EMBEDDED_DISK_SIZE, 0, 0, NULL);
		return true;
	}
	if (d->phase == LEDGER_DISK_FORMAT && ask_zero(d, memory))
		return true;
	if (d->phase == LEDGER_DISK_CHECK && ask_read(d, memory))
		return true;
	return ask_serving(d, l, memory, idle);
}

/* --- answers ------------------------------------------------------------ */

static bool as_it_must(const struct ledger_disk *d, const struct ledger *l,
		       uint64_t index, const uint8_t *bytes)
{
	static const struct ledger_entry none;

	if (index < d->written)
		return !memcmp(bytes, &l->entries[index], ENTRY_BYTES);
	return index < d->writing || !memcmp(bytes, &none, ENTRY_BYTES);
}

static void compare(struct ledger_disk *d, const struct ledger *l,
		    const uint8_t *bytes)
{
	uint64_t n = part(d);

	for (uint64_t i = 0; i < n && !d->differs; i++)
		if (!as_it_must(d, l, d->at + i, bytes + i * ENTRY_BYTES))
			d->differs = d->at + i + 1;
	d->at += n;
}

static void written(struct ledger_disk *d, const struct ledger *l)
{
	d->written = d->writing;
	d->writes++;
	d->safe = l->count == d->written ? d->put : d->replies;
}

static void take(struct ledger_disk *d, const struct ledger *l,
		 uint64_t capacity, const uint8_t *memory,
		 const struct embedded_disk_slot *s)
{
	switch (s->kind) {
	case EMBEDDED_DISK_SIZE:
		d->capacity = least(capacity, s->size / ENTRY_BYTES);
		d->phase = LEDGER_DISK_FORMAT;
		d->at = 0;
		break;
	case EMBEDDED_DISK_ZERO:
		d->at += s->length;
		break;
	case EMBEDDED_DISK_READ:
		compare(d, l, buffer(memory));
		break;
	case EMBEDDED_DISK_WRITE:
		written(d, l);
		break;
	default:
		d->writes = 0;
	}
}

bool ledger_disk_turn(uint8_t *memory, uint64_t bytes, bool idle, bool *asked)
{
	struct ledger_disk *d = ledger_disk_of(memory);
	struct embedded_disk_slot *s = embedded_disk_slot(memory);
	const struct ledger *l = ledger_of(memory);
	bool took = false;

	if (atomic_load(&s->asked) != d->taken) {
		if (atomic_load(&s->answered) != d->taken + 1)
			return false;
		take(d, l, ledger_room(bytes), memory, s);
		d->taken++;
		took = true;
	}
	*asked = ask(d, l, memory, idle);
	return took || *asked;
}

bool ledger_disk_serves(const struct ledger_disk *d)
{
	return d->phase == LEDGER_DISK_SERVE && !d->question;
}

void ledger_disk_replied(struct ledger_disk *d, const struct ledger *l)
{
	d->put++;
	if (l->count == d->written)
		d->safe = d->put;
}

size_t ledger_disk_answer(const struct ledger_disk *d, const struct ledger *l,
			  char *reply, size_t room)
{
	int n;

	if (d->differs)
		n = snprintf(reply, room,
			     "NO 0 0 disk differs at %" PRIu64 "\n",
			     d->differs);
	else
		n = snprintf(reply, room, "DISK %" PRIu64 " %016" PRIx64 "\n",
			     l->count, l->head);
	return n < 0 ? 0 : least((uint64_t)n, room - 1);
}

void ledger_disk_reconnect(uint8_t *memory)
{
	struct ledger_disk *d = ledger_disk_of(memory);
	struct embedded_disk_slot *s = embedded_disk_slot(memory);

	atomic_store(&s->asked, 0);
	atomic_store(&s->answered, 0);
	d->taken = d->put = d->safe = d->replies = d->at = 0;
	d->question = LEDGER_DISK_NO_QUESTION;
	/* Before that nothing was executed. */
	d->phase = d->phase < LEDGER_DISK_CHECK ? LEDGER_DISK_BOOT
						: LEDGER_DISK_CHECK;
}
