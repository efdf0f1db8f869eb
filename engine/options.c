/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(struct settings, member)
#define TEXT(n, l, on, member, arg, initial, help)                          \
	{                                                                   \
		n, l, on, OPTION_TEXT, AT(member), arg, 0, 0, initial, help \
	}
#define NUMBER(n, on, member, arg, min, max, initial, help)                  \
	{                                                                    \
		n, 0, on, OPTION_NUMBER, AT(member), arg, min, max, initial, \
			help                                                 \
	}
#define RANGE(n, on, member, arg, min, max, initial, help)                  \
	{                                                                   \
		n, 0, on, OPTION_RANGE, AT(member), arg, min, max, initial, \
			help                                                \
	}
/* `words`, with bars between them, are both the argument and the choices. */
#define CHOICE(n, on, member, words, initial, help)                        \
	{                                                                  \
		n, 0, on, OPTION_CHOICE, AT(member), words, 0, 0, initial, \
			help                                               \
	}
#define FLAG(n, l, on, member, help)                                      \
	{                                                                 \
		n, l, on, OPTION_FLAG, AT(member), NULL, 0, 0, NULL, help \
	}

const struct option_spec options_table[] = {
	TEXT("cert", 0, ON_DAEMON, cert, "FILE", "/etc/colod/host.crt",
	     "this host's certificate"),
	TEXT("key", 0, ON_DAEMON, key, "FILE", "/etc/colod/host.key",
	     "its private key"),
	TEXT("ca", 0, ON_DAEMON, ca, "FILE", "/etc/colod/ca.crt",
	     "the CA that both certificates come from"),
	TEXT("listen", 0, ON_SECONDARY, listen, "ADDRESS[:PORT]", NULL,
	     "where to wait for a primary (any address, port 7475)"),
	TEXT("congestion", 0, ON_DAEMON | ON_BENCH, congestion, "NAME", NULL,
	     "TCP congestion control of the connection"),
	RANGE("interval", ON_PRIMARY, interval_ms, "MS[..MS]", 5, 60000, "100",
	      "time between two checkpoints, adapted to the guest in a range"),
	NUMBER("overhead", ON_PRIMARY, overhead_percent, "PERCENT", 1, 90, "10",
	       "in a range: how much of its time the guest may be paused"),
	NUMBER("latency", ON_PRIMARY, latency_ms, "MS", 0, 60000, "0",
	       "in a range: how long output may wait, 0 for no target"),
	NUMBER("max-rate", ON_PRIMARY, max_rate_mbit, "MBIT", 0, 400000, "0",
	       "Mbit/s to send at most, 0 for no limit"),
	NUMBER("suspend-timeout", ON_PRIMARY, suspend_timeout_ms, "MS", 10,
	       60000, "2000", "how long the guest may take to suspend"),
	NUMBER("hung-after", ON_PRIMARY, hung_after_ms, "MS", 100, 3600000,
	       "60000", "a checkpoint that takes longer: colod is killed"),
	/* In the order of guest_ask, guest_resume and primary_policy. */
	CHOICE("suspend", ON_PRIMARY, suspend, "auto|evtchn|xenstore|toolstack",
	       "auto", "how the guest is asked to suspend"),
	CHOICE("resume", ON_PRIMARY, resume, "fast|slow", "slow",
	       "whether its PV drivers reconnect (slow) or not (fast)"),
	CHOICE("policy", ON_PRIMARY, policy, "pause|latency|auto", "auto",
	       "pages that are copied before the pause: sent before it, too?"),
	FLAG("full-scan", 0, ON_PRIMARY, full_scan,
	     "compare all of a PV guest's memory in each checkpoint"),
	NUMBER("in-flight", ON_DAEMON, inflight, "N", 1, 8, "2",
	       "epochs captured and not yet acknowledged"),
	NUMBER("compress", ON_PRIMARY, compress, "LEVEL", 0, 19, "1",
	       "zstd level, 0 for none"),
	FLAG("no-net-gate", 0, ON_PRIMARY, no_net_gate,
	     "unsafe: let the guest's network output go at once"),
	NUMBER("gate-limit", ON_PRIMARY, gate_limit_mib, "MIB", 1, 2047, "64",
	       "held network output, for each interface; more is dropped"),
	NUMBER("arena", ON_PRIMARY, arena_mib, "MIB", 4, 1048576, "256",
	       "memory for the pages of one checkpoint, at most the guest's"),
	NUMBER("shadow", ON_PRIMARY, shadow_mib, "MIB", 0, 1048576, "1048576",
	       "memory for the pages sent last, at most the guest's"),
	NUMBER("memory-limit", ON_DAEMON, memory_limit_mib, "MIB", 0, 1048576,
	       "0", "memory for checkpoints in all, 0 for no limit"),
	TEXT("disk-dir", 0, ON_DAEMON | ON_RELEASE | ON_DISK, disk_dir, "DIR",
	     LOCALSTATEDIR "/lib/colod/disks",
	     "what is known of replicated disks, and their journals"),
	NUMBER("disk-ring", ON_PRIMARY, disk_ring_mib, "MIB", 1, 65536, "64",
	       "memory for changes not yet sent, for each replicated disk"),
	NUMBER("disk-journal", ON_SECONDARY, disk_journal_mib, "MIB", 16,
	       1048576, "1024", "room in --disk-dir for changes not applied"),
	FLAG("no-device", 0, ON_DISK, no_device,
	     "serve it on its socket alone, without a block device"),
	NUMBER("heartbeat", ON_DAEMON, heartbeat_ms, "MS", 10, 60000, "100",
	       "time between two signs of life"),
	NUMBER("lost-after", ON_DAEMON, lost_after, "N", 2, 1000, "3",
	       "heartbeats missed before the peer is given up"),
	NUMBER("retry", ON_PRIMARY, retry_ms, "MS", 100, 600000, "2000",
	       "time between attempts to reach a lost secondary"),
	NUMBER("ack-timeout", ON_PRIMARY, ack_timeout_ms, "MS", 100, 3600000,
	       "60000", "time for the secondary to acknowledge what it has"),
	TEXT("fence", 0, ON_DAEMON, fence, "COMMAND", NULL,
	     "exit status 0: the peer is certainly down"),
	NUMBER("fence-timeout", ON_DAEMON, fence_timeout_s, "S", 1, 3600, "60",
	       "how long the fence command may take"),
	FLAG("unsafe-no-fence", 0, ON_DAEMON, unsafe_no_fence,
	     "take over without knowing that the peer is down"),
	TEXT("drill", 0, ON_DAEMON, drill, "SPEC", NULL,
	     "disturb the link on purpose, see DRILLS in colod(8)"),
	TEXT("run-dir", 0,
	     ON_DAEMON | ON_STATUS | ON_CONTROL | ON_CHECK | ON_RELEASE |
		     ON_GUEST | ON_DISK,
	     run_dir, "DIR", RUNSTATEDIR "/colod", "control sockets and locks"),
	TEXT("log", 0, ON_DAEMON, log_file, "FILE", NULL,
	     "append the log to FILE instead of standard error"),
	TEXT("epoch-log", 0, ON_PRIMARY, epoch_log, "FILE", NULL,
	     "append a line of JSON an epoch: its pages, bytes and times"),
	FLAG("verbose", 'v', ON_DAEMON | ON_CHECK | ON_RELEASE, verbose,
	     "log every move of every epoch"),
	FLAG("alone", 0, ON_RELEASE, alone,
	     "the secondary is certainly down: let held output go"),
	NUMBER("for", ON_BENCH, seconds, "SECONDS", 1, 3600, "5",
	       "how long to measure each workload"),
	{ "workload", 0, ON_BENCH, OPTION_LIST, AT(workload), "SPEC[;SPEC...]",
	  0, 0, NULL, "what the guest writes, see colod-bench(1)" },
	TEXT("suite", 0, ON_BENCH, suite, "NAME", NULL,
	     "a list of workloads: standard, with pages of real programs"),
	NUMBER("runs", ON_BENCH, runs, "N", 1, 25, NULL,
	       "how often, for the median and the spread"),
	TEXT("plot", 0, ON_BENCH, plot, "FILE", NULL, "draw it, as SVG"),
	FLAG("json", 0, ON_STATUS | ON_CHECK | ON_GUEST | ON_BENCH | ON_DISK,
	     json, "for scripts"),
	FLAG("watch", 'w', ON_STATUS, watch, "again every second"),
};

const size_t options_count = sizeof(options_table) / sizeof(options_table[0]);

static char **text_at(struct settings *s, const struct option_spec *o)
{
	return (char **)(void *)((char *)s + o->offset);
}

static int append(char **list, const char *value)
{
	char *longer;

	if (asprintf(&longer, "%s;%s", *list, value) < 0)
		return -ENOMEM;
	free(*list);
	*list = longer;
	return 0;
}

/* The place of `word` among the words of "WORD|WORD|...", or -EINVAL. */
static int choice(const char *words, const char *word)
{
	size_t n = strlen(word);
	int i = 0;

	for (; *words; i++) {
		size_t length = strcspn(words, "|");

		if (length == n && !strncmp(words, word, n))
			return i;
		words += length + (words[length] == '|');
	}
	return -EINVAL;
}

/* A whole number that ends at *end; false where it is none of the option's. */
static bool number(const struct option_spec *o, const char *value,
		   const char **end, uint64_t *out)
{
	char *after;

	errno = 0;
	*out = strtoull(value, &after, 10);
	*end = after;
	return isdigit((unsigned char)value[0]) && !errno && *out >= o->min &&
	       *out <= o->max;
}

static int set_number(struct settings *s, const struct option_spec *o,
		      const char *value)
{
	const char *end;
	uint64_t n;

	if (!number(o, value, &end, &n) || *end) {
		fprintf(stderr,
			"colod: --%s takes a whole number from %llu to %llu, "
			"not '%s'\n",
			o->name, (unsigned long long)o->min,
			(unsigned long long)o->max, value);
		return -EINVAL;
	}
	*(uint64_t *)(void *)((char *)s + o->offset) = n;
	return 0;
}

static int set_range(struct settings *s, const struct option_spec *o,
		     const char *value)
{
	struct option_range r;
	const char *end;
	bool good = number(o, value, &end, &r.min);

	r.max = r.min;
	if (good && !strncmp(end, "..", 2))
		good = number(o, end + 2, &end, &r.max) && r.min <= r.max;
	if (!good || *end) {
		fprintf(stderr,
			"colod: --%s takes a whole number from %llu to %llu, "
			"or two as MIN..MAX, not '%s'\n",
			o->name, (unsigned long long)o->min,
			(unsigned long long)o->max, value);
		return -EINVAL;
	}
	*(struct option_range *)(void *)((char *)s + o->offset) = r;
	return 0;
}

static int set(struct settings *s, const struct option_spec *o,
	       const char *value)
{
	switch (o->type) {
	case OPTION_FLAG:
		*(bool *)((char *)s + o->offset) = true;
		return 0;
	case OPTION_LIST:
		if (*text_at(s, o))
			return append(text_at(s, o), value);
		/* fall through */
	case OPTION_TEXT:
		free(*text_at(s, o));
		*text_at(s, o) = strdup(value);
		return *text_at(s, o) ? 0 : -ENOMEM;
	case OPTION_CHOICE:
		if (choice(o->argument, value) < 0) {
			fprintf(stderr,
				"colod: --%s takes one of %s, not"
				" '%s'\n",
				o->name, o->argument, value);
			return -EINVAL;
		}
		*(unsigned int *)(void *)((char *)s + o->offset) =
			(unsigned int)choice(o->argument, value);
		return 0;
	case OPTION_NUMBER:
		return set_number(s, o, value);
	case OPTION_RANGE:
		return set_range(s, o, value);
	}
	return -EINVAL;
}

static int defaults(unsigned int command, struct settings *s)
{
	size_t i;
	int err = 0;

	memset(s, 0, sizeof(*s));
	for (i = 0; i < options_count && !err; i++)
		if ((options_table[i].commands & command) &&
		    options_table[i].initial)
			err = set(s, &options_table[i],
				  options_table[i].initial);
	return err;
}

/* getopt's own tables, made from ours for one subcommand. */
static void for_getopt(unsigned int command, struct option *longs,
		       char *letters)
{
	size_t i, n = 0;

	for (i = 0; i < options_count; i++) {
		const struct option_spec *o = &options_table[i];

		if (!(o->commands & command))
			continue;
		longs[n++] = (struct option){
			.name = o->name,
			.has_arg = o->type == OPTION_FLAG ? no_argument
							  : required_argument,
			.val = 256 + (int)i,
		};
		if (o->letter)
			*letters++ = o->letter;
	}
	longs[n] = (struct option){ 0 };
	*letters = '\0';
}

static const struct option_spec *find(int got)
{
	size_t i;

	if (got >= 256)
		return &options_table[got - 256];
	for (i = 0; i < options_count; i++)
		if (options_table[i].letter == got)
			return &options_table[i];
	return NULL;
}

int options_parse(unsigned int command, int argc, char **argv,
		  struct settings *s)
{
	struct option
		longs[sizeof(options_table) / sizeof(options_table[0]) + 1];
	char letters[sizeof(options_table) / sizeof(options_table[0]) + 1];
	int err = defaults(command, s), got;

	for_getopt(command, longs, letters);
	optind = 0; /* forget the vector before: getopt(3), "Notes" */
	opterr = 0;
	while (!err &&
	       (got = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		const struct option_spec *o = find(got);

		if (!o) {
			const char letter[] = { '-', (char)optopt, '\0' };

			fprintf(stderr,
				"colod %s: unknown or incomplete option '%s'; "
				"see 'colod %s --help'\n",
				argv[0],
				optopt > 0 && optopt < 256 ? letter
							   : argv[optind - 1],
				argv[0]);
			return -EINVAL;
		}
		err = set(s, o, optarg);
	}
	return err ? -EINVAL : optind;
}

void settings_fini(struct settings *s)
{
	size_t i;

	for (i = 0; i < options_count; i++) {
		if (options_table[i].type != OPTION_TEXT &&
		    options_table[i].type != OPTION_LIST)
			continue;
		free(*text_at(s, &options_table[i]));
		*text_at(s, &options_table[i]) = NULL;
	}
}

void options_help(unsigned int command, FILE *out)
{
	size_t i;

	for (i = 0; i < options_count; i++) {
		const struct option_spec *o = &options_table[i];
		char left[48];

		if (!(o->commands & command))
			continue;
		snprintf(left, sizeof(left), "%s%c%s--%s%s%s",
			 o->letter ? "-" : "", o->letter ? o->letter : ' ',
			 o->letter ? ", " : "   ", o->name,
			 o->argument ? "=" : "",
			 o->argument ? o->argument : "");
		fprintf(out, "  %-30s %s%s%s%s\n", left, o->help,
			o->initial ? " [" : "", o->initial ? o->initial : "",
			o->initial ? "]" : "");
	}
}
