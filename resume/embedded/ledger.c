/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The account server: the rules.  A transaction is executed once, whatever is
 * sent again, and each hash covers all that came before, so that a client can
 * tell whether a server that carries on knows all that was confirmed.
 */
#include "config.h"

#include "resume/embedded/ledger.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "resume/embedded/ledger_disk.h"
#include "resume/embedded/memory.h"
#include "resume/embedded/workload.h"
#include "stream/checksum.h"

enum { HASHED_BYTES = 40 };

static uint64_t hash_of(uint64_t previous, const struct ledger_entry *e)
{
	static _Thread_local struct checksum *sum;
	uint8_t bytes[HASHED_BYTES];
	struct cursor c = cursor_over(bytes, sizeof(bytes));

	cursor_put_u64(&c, previous);
	cursor_put_u64(&c, e->client);
	cursor_put_u64(&c, e->seq);
	cursor_put_u32(&c, e->from);
	cursor_put_u32(&c, e->to);
	cursor_put_u64(&c, (uint64_t)e->amount);
	if (!sum)
		sum = checksum_new();
	if (!sum)
		abort();
	checksum_reset(sum);
	checksum_add(sum, bytes, sizeof(bytes));
	return checksum_value(sum);
}

uint64_t ledger_room(uint64_t bytes)
{
	return (bytes - EMBEDDED_DATA_PAGE * WIRE_PAGE_BYTES -
		sizeof(struct ledger)) /
	       sizeof(struct ledger_entry);
}

/* --- words -------------------------------------------------------------- */

static bool take_u64(const char **at, uint64_t max, uint64_t *out)
{
	char *end;

	if (**at == ' ')
		++*at;
	if (!isdigit((unsigned char)**at))
		return false;
	errno = 0;
	*out = strtoull(*at, &end, 10);
	if (errno || *out > max || (*end && *end != ' '))
		return false;
	*at = end;
	return true;
}

static bool take_i64(const char **at, int64_t *out)
{
	const char *digits;
	char *end;

	if (**at == ' ')
		++*at;
	digits = *at + (**at == '-');
	if (!isdigit((unsigned char)*digits))
		return false;
	errno = 0;
	*out = strtoll(*at, &end, 10);
	if (errno || (*end && *end != ' '))
		return false;
	*at = end;
	return true;
}

static size_t said(int n, size_t room)
{
	return n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}

static size_t no(char *reply, size_t room, uint64_t client, uint64_t seq,
		 const char *why)
{
	return said(snprintf(reply, room, "NO %" PRIu64 " %" PRIu64 " %s\n",
			     client, seq, why),
		    room);
}

/* --- PAY ---------------------------------------------------------------- */

static size_t ok(struct ledger *l, char *reply, size_t room, uint64_t client)
{
	const struct ledger_client *c = &l->clients[client];

	return said(snprintf(reply, room,
			     "OK %" PRIu64 " %" PRIu64 " %" PRIu64
			     " %016" PRIx64 "\n",
			     client, c->seq, c->index,
			     l->entries[c->index - 1].hash),
		    room);
}

static void execute(struct ledger *l, struct ledger_entry *e)
{
	e->hash = hash_of(l->head, e);
	l->entries[l->count++] = *e;
	l->head = e->hash;
	l->balances[e->from] -= (uint64_t)e->amount;
	l->balances[e->to] += (uint64_t)e->amount;
	l->clients[e->client].seq = e->seq;
	l->clients[e->client].index = l->count;
}

static size_t pay(struct ledger *l, uint64_t capacity, const char *at,
		  char *reply, size_t room)
{
	uint64_t client = 0, seq = 0, from, to;
	struct ledger_entry e = { 0 };

	if (!take_u64(&at, LEDGER_CLIENTS - 1, &client) || !client ||
	    !take_u64(&at, UINT64_MAX, &seq))
		return no(reply, room, 0, 0, "malformed");
	if (!take_u64(&at, LEDGER_ACCOUNTS - 1, &from) ||
	    !take_u64(&at, LEDGER_ACCOUNTS - 1, &to) ||
	    !take_i64(&at, &e.amount) || *at)
		return no(reply, room, client, seq, "malformed");
	if (seq && seq == l->clients[client].seq)
		return ok(l, reply, room, client);
	if (seq != l->clients[client].seq + 1)
		return no(reply, room, client, seq, "out of sequence");
	if (l->count >= capacity)
		return no(reply, room, client, seq, "the ledger is full");
	e.client = (uint32_t)client;
	e.seq = seq;
	e.from = (uint32_t)from;
	e.to = (uint32_t)to;
	execute(l, &e);
	return ok(l, reply, room, client);
}

/* --- CHAIN, SUM --------------------------------------------------------- */

size_t ledger_chain(struct ledger *l, char *reply, size_t room, int *last)
{
	const struct ledger_entry *e;
	uint64_t index = l->chain_next;

	*last = --l->chain_left == 0 || index > l->count;
	if (*last) {
		l->chain_left = 0;
		return said(
			snprintf(reply, room, "END %016" PRIx64 "\n", l->head),
			room);
	}
	e = &l->entries[index - 1];
	l->chain_next++;
	return said(snprintf(reply, room,
			     "T %" PRIu64 " %u %" PRIu64 " %u %u %" PRId64
			     " %016" PRIx64 "\n",
			     index, e->client, e->seq, e->from, e->to,
			     e->amount, e->hash),
		    room);
}

static size_t chain(struct ledger *l, const char *at, char *reply, size_t room)
{
	uint64_t index, count;

	if (!take_u64(&at, UINT64_MAX, &index) || !index ||
	    !take_u64(&at, LEDGER_CHAIN_MAX, &count) || *at)
		return no(reply, room, 0, 0, "malformed");
	l->chain_next = index;
	l->chain_left = count + 1;
	return 0;
}

static size_t sum(struct ledger *l, char *reply, size_t room)
{
	uint64_t total = 0;

	for (unsigned int i = 0; i < LEDGER_ACCOUNTS; i++)
		total += l->balances[i];
	return said(snprintf(reply, room,
			     "SUM %" PRIu64 " %016" PRIx64 " %" PRId64 "\n",
			     l->count, l->head, (int64_t)total),
		    room);
}

size_t ledger_answer(struct ledger *l, uint64_t capacity, const char *line,
		     char *reply, size_t room)
{
	if (!strncmp(line, "PAY ", 4))
		return pay(l, capacity, line + 3, reply, room);
	if (!strncmp(line, "CHAIN ", 6))
		return chain(l, line + 5, reply, room);
	if (!strcmp(line, "SUM"))
		return sum(l, reply, room);
	/* Else it does not come here. */
	if (!strcmp(line, "DISK"))
		return no(reply, room, 0, 0, "there is no disk");
	return no(reply, room, 0, 0, "malformed");
}

/* --- the frontend ------------------------------------------------------- */

static struct ledger_disk *disk_of(const struct workload_view *v)
{
	return v->spec->disk[0] ? ledger_disk_of(v->memory) : NULL;
}

static void ledger_boot(struct workload_view *v)
{
	memset(v->reg, 0, EMBEDDED_REGISTERS * sizeof(*v->reg));
}

/* Where the next reply goes; with a disk not all in front of it are out. */
static uint64_t replies_put(const struct workload_view *v)
{
	const struct ledger_disk *d = disk_of(v);

	return d ? d->put : atomic_load(&embedded_replies(v->memory)->produced);
}

static void put_out(struct workload_view *v, uint64_t count)
{
	struct embedded_replies *r = embedded_replies(v->memory);
	uint64_t was = atomic_load(&r->produced);

	if (count == was)
		return;
	atomic_store(&r->produced, count);
	/* It was empty, so the backend may be asleep. */
	if (atomic_load(&r->consumed) == was)
		v->notify = true;
}

static void reply_put(struct workload_view *v, uint64_t connection,
		      const char *text, size_t length, int last)
{
	struct embedded_replies *r = embedded_replies(v->memory);
	struct ledger_disk *d = disk_of(v);
	uint64_t at = replies_put(v);
	struct embedded_reply *slot = &r->slot[at % EMBEDDED_SLOTS];

	slot->connection = connection;
	slot->length = (uint16_t)length;
	slot->flags = last ? EMBEDDED_REPLY_LAST : 0;
	memcpy(slot->text, text, length);
	if (d)
		ledger_disk_replied(d, ledger_of(v->memory));
	put_out(v, d ? d->safe : at + 1);
}

static void execute_line(struct workload_view *v, const char *line)
{
	struct ledger *l = ledger_of(v->memory);
	struct ledger_disk *d = disk_of(v);
	char reply[EMBEDDED_REPLY_MAX];
	size_t n;

	if (d && !strcmp(line, "DISK")) {
		d->question = LEDGER_DISK_ASKED;
		d->connection = l->chain_connection;
		return;
	}
	n = ledger_answer(l, d ? d->capacity : ledger_room(v->bytes), line,
			  reply, sizeof(reply));
	if (n)
		reply_put(v, l->chain_connection, reply, n, 1);
}

static void take_request(struct workload_view *v)
{
	struct embedded_requests *in = embedded_requests(v->memory);
	uint64_t at = atomic_load(&in->consumed);
	const struct embedded_request *slot = &in->slot[at % EMBEDDED_SLOTS];
	char line[EMBEDDED_LINE_MAX + 1];
	size_t n = slot->length < EMBEDDED_LINE_MAX ? slot->length
						    : EMBEDDED_LINE_MAX;

	memcpy(line, slot->text, n);
	line[n] = '\0';
	ledger_of(v->memory)->chain_connection = slot->connection;
	execute_line(v, line);
	if (atomic_load(&in->produced) - at == EMBEDDED_SLOTS)
		v->notify = true; /* the backend waits for room */
	atomic_store(&in->consumed, at + 1);
	v->reg[1]++;
}

/* Whether there is something to execute, and it may be. */
static bool can_execute(const struct workload_view *v)
{
	struct embedded_requests *in = embedded_requests(v->memory);
	const struct ledger_disk *d = disk_of(v);

	if (d && !ledger_disk_serves(d))
		return false;
	return ledger_of(v->memory)->chain_left ||
	       embedded_in_ring(atomic_load(&in->produced),
				atomic_load(&in->consumed));
}

/* The disk's turn.  False: there is nothing to do for it at the moment. */
static bool tend_disk(struct workload_view *v, bool idle)
{
	struct ledger_disk *d = disk_of(v);
	bool asked = false, moved;

	if (!d)
		return false;
	moved = ledger_disk_turn(v->memory, v->bytes, idle, &asked);
	if (asked)
		v->notify = true;
	put_out(v, d->safe);
	return moved;
}

static bool ledger_step(struct workload_view *v)
{
	struct embedded_replies *out = embedded_replies(v->memory);
	struct ledger *l = ledger_of(v->memory);
	struct ledger_disk *d = disk_of(v);
	bool room =
		embedded_in_ring(replies_put(v), atomic_load(&out->consumed)) !=
		EMBEDDED_SLOTS;
	bool can = room && can_execute(v);
	char reply[EMBEDDED_REPLY_MAX];
	size_t n;
	int last;

	v->reg[0]++;
	if (tend_disk(v, !can))
		return true;
	if (room && d && d->question == LEDGER_DISK_KNOWN) {
		d->question = LEDGER_DISK_NO_QUESTION;
		n = ledger_disk_answer(d, l, reply, sizeof(reply));
		reply_put(v, d->connection, reply, n, 1);
		return true;
	}
	if (!can)
		return false;
	if (!l->chain_left) {
		take_request(v);
		return true;
	}
	n = ledger_chain(l, reply, sizeof(reply), &last);
	reply_put(v, l->chain_connection, reply, n, last);
	return true;
}

/* What was asked and not answered is asked again by those who asked. */
static void ledger_reconnect(struct workload_view *v)
{
	struct embedded_requests *in = embedded_requests(v->memory);
	struct embedded_replies *out = embedded_replies(v->memory);

	ledger_of(v->memory)->chain_left = 0;
	atomic_store(&in->produced, 0);
	atomic_store(&in->consumed, 0);
	atomic_store(&out->produced, 0);
	atomic_store(&out->consumed, 0);
	if (disk_of(v))
		ledger_disk_reconnect(v->memory);
}

const struct workload workload_ledger = {
	.device = true,
	.boot = ledger_boot,
	.step = ledger_step,
	.reconnect = ledger_reconnect,
};
