/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of every subcommand, as one table: parsing, --help, the manual's
 * test and the shell completion all come from it.
 */
#ifndef ENGINE_OPTIONS_H
#define ENGINE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
	ON_PRIMARY = 1,
	ON_SECONDARY = 2,
	ON_STATUS = 4,
	ON_CONTROL = 8, /* failover, stop */
	ON_CHECK = 16,
	ON_CERTS = 32,
	ON_RELEASE = 64,
	ON_GUEST = 256,
	ON_BENCH = 128,
	ON_DISK = 512,
	ON_DAEMON = ON_PRIMARY | ON_SECONDARY,
};

enum { PORT_DEFAULT = 7475 };

/* What was typed as "MIN..MAX", or as one number for both. */
struct option_range {
	uint64_t min, max;
};

struct settings {
	char *cert;
	char *key;
	char *ca;
	char *listen;
	char *congestion;
	struct option_range interval_ms;
	uint64_t overhead_percent;
	uint64_t latency_ms;	/* 0: no target */
	uint64_t max_rate_mbit; /* 0: no limit */
	uint64_t suspend_timeout_ms;
	uint64_t hung_after_ms;
	unsigned int suspend; /* enum guest_ask */
	unsigned int resume;  /* enum guest_resume */
	uint64_t heartbeat_ms;
	uint64_t lost_after;
	uint64_t inflight;
	char *fence;
	uint64_t fence_timeout_s;
	bool unsafe_no_fence;
	uint64_t compress;
	bool no_net_gate;
	uint64_t gate_limit_mib;
	uint64_t arena_mib;
	uint64_t shadow_mib;
	uint64_t memory_limit_mib; /* 0: none */
	uint64_t retry_ms;
	char *disk_dir;
	uint64_t disk_ring_mib;
	uint64_t disk_journal_mib;
	bool no_device;
	uint64_t ack_timeout_ms;
	char *drill;
	char *run_dir;
	char *log_file;
	char *epoch_log;
	unsigned int policy; /* enum primary_policy */
	bool full_scan;
	bool verbose;
	bool json;
	bool alone;
	bool watch;
	uint64_t seconds;
	char *workload;
	char *suite;
	uint64_t runs; /* 0: as the workloads want */
	char *plot;
};

enum option_type {
	OPTION_FLAG,
	OPTION_TEXT,
	OPTION_LIST, /* a text; where it is given again, "TEXT;TEXT" */
	OPTION_NUMBER,
	OPTION_RANGE,  /* a number, or two with ".." between them */
	OPTION_CHOICE, /* one of the words of `argument`; its place is kept */
};

struct option_spec {
	const char *name;      /* without the dashes */
	char letter;	       /* or 0 */
	unsigned int commands; /* ON_... */
	enum option_type type;
	size_t offset;	      /* in struct settings */
	const char *argument; /* NULL for flags */
	uint64_t min, max;    /* of numbers, in ranges too */
	const char *initial;  /* default, as typed; NULL: none */
	const char *help;
};

extern const struct option_spec options_table[];
extern const size_t options_count;

/*
 * Parses argv (argv[0] is the subcommand) into *s, which gets the defaults
 * first.  Returns the index of the first operand, or -EINVAL after one line on
 * standard error.
 */
int options_parse(unsigned int command, int argc, char **argv,
		  struct settings *s);
void settings_fini(struct settings *s);

/* The options of this subcommand, one a line. */
void options_help(unsigned int command, FILE *out);

#endif
