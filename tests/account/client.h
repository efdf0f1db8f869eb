/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client of the ledger: a connection that ends now and then, and payments
 * that must survive it.
 *
 * Happy path: pays, is answered in the order of its payments, pays again.
 *
 * When the connection ends, or nothing is answered for as long as its patience
 * lasts, it connects anew and sends again, in order, whatever was not answered.
 * The ledger repeats its answer to the last payment that it knows, and refuses
 * those before it, which it has too: their places are found in the chain at the
 * end.  But where it refuses all that the client ever left open, it has
 * forgotten one that was acknowledged: the client is then REFUSED and stays so.
 *
 * An answer that cannot be is counted in `nonsense`, and the connection closed.
 * One thread, no blocking.
 */
#ifndef ACCOUNT_CLIENT_H
#define ACCOUNT_CLIENT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tests/account/outages.h"
#include "tests/account/record.h"

enum { CLIENT_PIPELINE_MAX = 512, CLIENT_LINE_MAX = 128 };

enum client_state {
	CLIENT_DOWN, /* connects at retry_at_us */
	CLIENT_CONNECTING,
	CLIENT_UP,
	CLIENT_REFUSED,
};

/* What all clients share. */
struct clients {
	struct sockaddr_in ledger;
	struct record *record;
	struct outages outages;
	FILE *file; /* each acknowledgement as it arrives, or NULL */
	uint64_t patience_us;
	uint64_t random; /* state of the generator */
	uint32_t pipeline;
	uint64_t connections;
	uint64_t refused;
	uint64_t nonsense;
};

struct client {
	struct clients *all;
	uint32_t id;
	enum client_state state;
	int fd;
	uint64_t retry_at_us;
	uint64_t heard_us; /* the last sign of life that is worth waiting for */
	/*
	 * settled <= answered <= made.  Up to `settled` nothing is open any
	 * more; up to `answered` this connection has had an answer, which is a
	 * refusal for those above `settled`.
	 */
	uint64_t settled;
	uint64_t answered;
	size_t in_len;
	size_t out_len;
	char in[4096];
	char out[CLIENT_PIPELINE_MAX * CLIENT_LINE_MAX];
};

void client_init(struct client *c, struct clients *all, uint32_t id);
void client_close(struct client *c, uint64_t now_us);

/* May another payment be made now? */
bool client_has_room(const struct client *c);
void client_pay(struct client *c, uint64_t now_us);
/* Those that an answer may still come for. */
uint64_t client_open_payments(const struct client *c);

/* What to poll for; `fd` is negative where there is nothing. */
short client_wants(const struct client *c);
void client_ready(struct client *c, short revents, uint64_t now_us);
/* Connects again, or gives a silent connection up, when it is time. */
void client_tick(struct client *c, uint64_t now_us);

#endif
