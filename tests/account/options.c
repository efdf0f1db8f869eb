/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/account/options.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/account/client.h"

static const struct number {
	const char *name;
	size_t at;
	uint64_t min, max, initial;
	const char *help;
} numbers[] = {
#define AT(member) offsetof(struct options, member)
	{ "clients", AT(clients), 1, 1000, 8, "how many connections" },
	{ "first-client", AT(first_client), 1, 4095, 1,
	  "number of the first; the others follow" },
	{ "pipeline", AT(pipeline), 1, CLIENT_PIPELINE_MAX, 1,
	  "payments a client leaves open at most" },
	{ "rate", AT(rate), 0, 1000000, 0,
	  "payments a second, all clients together; 0: as many as can be" },
	{ "for", AT(for_s), 0, 1000000, 0,
	  "seconds; 0: until SIGTERM, SIGINT or the end of --control" },
	{ "count", AT(count), 0, UINT64_MAX, 0,
	  "payments, all clients together; 0: no limit" },
	{ "patience", AT(patience_ms), 10, 600000, 1000,
	  "ms without an answer until a client connects anew" },
	{ "drain", AT(drain_ms), 10, 600000, 10000,
	  "ms that the ledger may be silent while the chain is verified" },
	{ "seed", AT(seed), 1, UINT64_MAX, 1, "of the payments" },
#undef AT
};

enum { NUMBERS = sizeof(numbers) / sizeof(numbers[0]) };

static void usage(FILE *out)
{
	size_t i;

	fputs("usage: account-clients [options] ADDRESS:PORT\n"
	      "Pays until it is told to end, then verifies the chain.\n",
	      out);
	for (i = 0; i < NUMBERS; i++)
		fprintf(out, "  --%s=N%*s%s (%llu)\n", numbers[i].name,
			(int)(16 - strlen(numbers[i].name)), "",
			numbers[i].help,
			(unsigned long long)numbers[i].initial);
	fputs("  --record=FILE      append each acknowledgement to FILE\n"
	      "  --control          take commands from standard input:\n"
	      "                     status, mark (the longest silence begins\n"
	      "                     anew), verify (or its end): end\n"
	      "  --disk             the ledger's disk has to agree as well\n"
	      "  --check            pay nothing, ask for the disk alone\n"
	      "  --json             the verdict as JSON\n"
	      "  -v, --verbose      each silence of more than 100 ms\n",
	      out);
}

static int number(const char *name, const char *text, uint64_t min,
		  uint64_t max, uint64_t *n)
{
	char *end;

	errno = 0;
	*n = strtoull(text, &end, 10);
	if (isdigit((unsigned char)text[0]) && !*end && !errno && *n >= min &&
	    *n <= max)
		return 0;
	fprintf(stderr,
		"account-clients: --%s takes a number from %llu to "
		"%llu, not '%s'\n",
		name, (unsigned long long)min, (unsigned long long)max, text);
	return 2;
}

static int address(const char *text, struct sockaddr_in *a)
{
	const char *colon = strrchr(text, ':');
	char host[64];
	uint64_t port;

	if (!colon || (size_t)(colon - text) >= sizeof(host)) {
		fprintf(stderr, "account-clients: '%s' is not ADDRESS:PORT\n",
			text);
		return 2;
	}
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	if (number("port", colon + 1, 1, 65535, &port))
		return 2;
	a->sin_family = AF_INET;
	a->sin_port = htons((uint16_t)port);
	if (inet_pton(AF_INET, host, &a->sin_addr) == 1)
		return 0;
	fprintf(stderr, "account-clients: '%s' is not an IPv4 address\n", host);
	return 2;
}

static uint64_t *member(struct options *o, const struct number *n)
{
	return (uint64_t *)(void *)((char *)o + n->at);
}

int options_parse(int argc, char **argv, struct options *o)
{
	enum { RECORD = 1000, CONTROL, DISK, CHECK, JSON, HELP };
	struct option longs[NUMBERS + 8] = { 0 };
	size_t i;
	int c;

	memset(o, 0, sizeof(*o));
	for (i = 0; i < NUMBERS; i++) {
		*member(o, &numbers[i]) = numbers[i].initial;
		longs[i] = (struct option){ numbers[i].name, required_argument,
					    NULL, 256 + (int)i };
	}
	longs[i++] = (struct option){ "record", 1, NULL, RECORD };
	longs[i++] = (struct option){ "control", 0, NULL, CONTROL };
	longs[i++] = (struct option){ "disk", 0, NULL, DISK };
	longs[i++] = (struct option){ "check", 0, NULL, CHECK };
	longs[i++] = (struct option){ "json", 0, NULL, JSON };
	longs[i++] = (struct option){ "help", 0, NULL, HELP };
	longs[i] = (struct option){ "verbose", 0, NULL, 'v' };

	while ((c = getopt_long(argc, argv, "v", longs, NULL)) != -1) {
		if (c == RECORD) {
			o->record = optarg;
		} else if (c == CONTROL) {
			o->control = true;
		} else if (c == DISK) {
			o->disk = true;
		} else if (c == CHECK) {
			o->check = true;
		} else if (c == JSON) {
			o->json = true;
		} else if (c == 'v') {
			o->verbose = true;
		} else if (c >= 256 && c < 256 + NUMBERS) {
			const struct number *n = &numbers[c - 256];

			if (number(n->name, optarg, n->min, n->max,
				   member(o, n)))
				return 2;
		} else {
			usage(c == HELP ? stdout : stderr);
			return c == HELP ? -1 : 2;
		}
	}
	if (argc - optind != 1) {
		usage(stderr);
		return 2;
	}
	if (o->first_client + o->clients > 4096) {
		fprintf(stderr, "account-clients: clients go up to 4095\n");
		return 2;
	}
	return address(argv[optind], &o->ledger);
}
