/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the clients have sent, and what the ledger has promised.
 *
 * A payment is known by its client and its sequence number, which counts from
 * 1 for each client.  It is kept from the moment it is made; an answer adds its
 * place in the chain and the head behind it, once: from then on the ledger has
 * promised it.
 *
 * Memory grows with the number of payments; running out of it ends the program.
 * One thread.
 */
#ifndef ACCOUNT_RECORD_H
#define ACCOUNT_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct payment {
	uint32_t from;
	uint32_t to;
	int64_t amount;
	uint64_t index; /* 0: not acknowledged */
	uint64_t hash;
	uint32_t seen; /* how often the chain has it, when it is verified */
};

struct history {
	struct payment *payments; /* that of SEQ is at SEQ - 1 */
	uint64_t made;
	uint64_t room;
	uint64_t in_chain; /* the highest SEQ seen there */
};

struct record {
	uint32_t first_client;
	uint32_t clients;
	struct history *of;
	uint64_t acknowledged;
};

struct record *record_new(uint32_t first_client, uint32_t clients);
void record_free(struct record *r);

/* Adds a payment of this client; returns its SEQ. */
uint64_t record_make(struct record *r, uint32_t client,
		     const struct payment *p);
/* NULL where the client has not made it. */
struct payment *record_find(const struct record *r, uint32_t client,
			    uint64_t seq);
struct history *record_history(const struct record *r, uint32_t client);

/* The chain's next head: the hash that this payment must have behind `head`. */
uint64_t record_hash(uint64_t head, uint32_t client, uint64_t seq,
		     const struct payment *p);

#endif
