/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The account server's data in guest memory; its protocol is in colod(8),
 * EMBEDDED GUESTS.
 */
#ifndef RESUME_EMBEDDED_LEDGER_H
#define RESUME_EMBEDDED_LEDGER_H

#include <stddef.h>
#include <stdint.h>

#include "resume/embedded/memory.h"

enum { LEDGER_CLIENTS = 4096, LEDGER_ACCOUNTS = 4096, LEDGER_CHAIN_MAX = 1000 };

struct ledger_client {
	uint64_t seq; /* the last one executed, or 0 */
	uint64_t index;
};

struct ledger_entry {
	uint32_t client;
	uint32_t from;
	uint32_t to;
	uint32_t reserved;
	uint64_t seq;
	int64_t amount;
	uint64_t hash;
};

struct ledger {
	uint64_t count;
	uint64_t head;
	/* A CHAIN that is being answered, an entry a step. */
	uint64_t chain_connection;
	uint64_t chain_next;
	uint64_t chain_left;		    /* with the END; 0: none */
	uint64_t balances[LEDGER_ACCOUNTS]; /* two's complement */
	struct ledger_client clients[LEDGER_CLIENTS];
	struct ledger_entry entries[];
};

static inline struct ledger *ledger_of(uint8_t *memory)
{
	return (void *)(memory + EMBEDDED_DATA_PAGE * WIRE_PAGE_BYTES);
}

/* How many entries fit into the memory of a guest of this many bytes. */
uint64_t ledger_room(uint64_t bytes);

/*
 * Answers one request line (without its LF) into `reply` (with it) and returns
 * the length.  0: a CHAIN was begun, its lines come from ledger_chain().
 */
size_t ledger_answer(struct ledger *l, uint64_t capacity, const char *line,
		     char *reply, size_t room);
/* The next line of the CHAIN; *last where it is the end. */
size_t ledger_chain(struct ledger *l, char *reply, size_t room, int *last);

#endif
