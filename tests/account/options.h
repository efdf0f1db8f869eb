/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of account-clients; see options.c for what each means. */
#ifndef ACCOUNT_OPTIONS_H
#define ACCOUNT_OPTIONS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct options {
	struct sockaddr_in ledger;
	uint64_t clients;
	uint64_t first_client;
	uint64_t pipeline;
	uint64_t rate;
	uint64_t for_s;
	uint64_t count;
	uint64_t patience_ms;
	uint64_t drain_ms;
	uint64_t seed;
	const char *record;
	bool control;
	bool disk;  /* it is to agree with the chain, too */
	bool check; /* nothing but that */
	bool json;
	bool verbose;
};

/* 0, or the exit status with which the program ends now. */
int options_parse(int argc, char **argv, struct options *o);

#endif
