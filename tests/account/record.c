/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/account/record.h"

#include <stdlib.h>

#include "base/cursor.h"
#include "stream/checksum.h"

struct record *record_new(uint32_t first_client, uint32_t clients)
{
	struct record *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->first_client = first_client;
	r->clients = clients;
	r->of = calloc(clients, sizeof(*r->of));
	if (!r->of) {
		free(r);
		return NULL;
	}
	return r;
}

void record_free(struct record *r)
{
	uint32_t i;

	if (!r)
		return;
	for (i = 0; i < r->clients; i++)
		free(r->of[i].payments);
	free(r->of);
	free(r);
}

struct history *record_history(const struct record *r, uint32_t client)
{
	if (client < r->first_client || client - r->first_client >= r->clients)
		return NULL;
	return &r->of[client - r->first_client];
}

uint64_t record_make(struct record *r, uint32_t client, const struct payment *p)
{
	struct history *h = record_history(r, client);

	if (!h)
		abort();
	if (h->made == h->room) {
		h->room = h->room ? h->room * 2 : 1024;
		/* Without its memory this program has nothing to say. */
		h->payments = reallocarray(h->payments, h->room, sizeof(*p));
		if (!h->payments)
			abort();
	}
	h->payments[h->made++] = *p;
	return h->made;
}

struct payment *record_find(const struct record *r, uint32_t client,
			    uint64_t seq)
{
	struct history *h = record_history(r, client);

	return h && seq && seq <= h->made ? &h->payments[seq - 1] : NULL;
}

uint64_t record_hash(uint64_t head, uint32_t client, uint64_t seq,
		     const struct payment *p)
{
	static struct checksum *sum;
	uint8_t bytes[40];
	struct cursor c = cursor_over(bytes, sizeof(bytes));

	if (!sum)
		sum = checksum_new();
	if (!sum)
		abort();
	cursor_put_u64(&c, head);
	cursor_put_u64(&c, client);
	cursor_put_u64(&c, seq);
	cursor_put_u32(&c, p->from);
	cursor_put_u32(&c, p->to);
	cursor_put_u64(&c, (uint64_t)p->amount);
	checksum_reset(sum);
	checksum_add(sum, bytes, sizeof(bytes));
	return checksum_value(sum);
}
