/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The promise, checked: the ledger's whole chain against the record.
 *
 * Happy path: reads the chain in blocks, computes every hash anew, ticks off
 * every payment, asks for the sum, and then looks for payments that were
 * acknowledged and not ticked off.
 *
 * Where it is asked to, it has the ledger compare its disk with that chain.
 *
 * A connection that ends is made again, and the reading goes on where it was,
 * until nothing has come for as long as the patience lasts: -ETIMEDOUT.
 * -EPROTO: the ledger sends lines that are not of the protocol.  Blocks.
 */
#ifndef ACCOUNT_VERIFY_H
#define ACCOUNT_VERIFY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tests/account/record.h"

enum { FAULTS_NAMED = 10 };

struct verdict {
	uint64_t lost;	     /* acknowledged, not in the chain */
	uint64_t duplicated; /* more than once in it */
	uint64_t changed;    /* another place, hash or contents than told */
	uint64_t invented;   /* never sent by the client */
	uint64_t gaps;	     /* a sequence number left out before another */
	uint64_t broken;     /* hashes that do not follow */
	uint64_t chain;	     /* its length */
	uint64_t head;
	bool sum_agrees;
	bool disk_agrees; /* or was not asked for */
};

enum { LINE_BYTES = 256 };

/* Names the first few of each fault on `out`. */
int verify(const struct sockaddr_in *ledger, const struct record *r, bool disk,
	   uint64_t patience_us, struct verdict *v, FILE *out);
/* The ledger's answer to DISK, without its LF. */
int verify_disk(const struct sockaddr_in *ledger, uint64_t patience_us,
		char line[LINE_BYTES]);
bool verdict_good(const struct verdict *v);

#endif
