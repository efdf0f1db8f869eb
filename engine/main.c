/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "engine/commands.h"
#include "engine/env.h"
#include "engine/options.h"

static const struct command {
	const char *name;
	unsigned int options; /* ON_... */
	command_fn *run;
	int operands_min, operands_max;
	const char *operands;
	const char *help;
} commands[] = {
	{ "primary", ON_PRIMARY, command_primary, 2, 2, "DOMAIN HOST[:PORT]",
	  "protect a running domain with a standby on HOST" },
	{ "secondary", ON_SECONDARY, command_secondary, 0, 0, "",
	  "keep a standby for a primary, take over when it dies" },
	{ "status", ON_STATUS, command_status, 0, 1, "[DOMAIN]",
	  "show what the colods of this host are doing" },
	{ "failover", ON_CONTROL, command_failover, 0, 1, "[DOMAIN]",
	  "the peer is down: take over, or go on alone" },
	{ "stop", ON_CONTROL, command_stop, 0, 1, "[DOMAIN]",
	  "end a protection in order; the guest runs on" },
	{ "drill", ON_CONTROL, command_drill, 1, 2, "[DOMAIN] SPEC",
	  "disturb the link of a running colod on purpose, or 'off'" },
	{ "release", ON_RELEASE, command_release, 1, 1, "DOMAIN",
	  "undo what a colod that was killed left behind" },
	{ "guest", ON_GUEST, command_guest, 1, 16, "VERB [WORDS]",
	  "run, list and order embedded guests" },
	{ "disk", ON_DISK, command_disk, 1, 3, "VERB [WORDS]",
	  "make, serve, list and settle replicated disks" },
	{ "check", ON_CHECK, command_check, 0, 1, "[DOMAIN]",
	  "print what this host offers, or how a guest can be protected" },
	{ "bench", ON_BENCH, command_bench, 0, 0, "",
	  "measure what a checkpoint costs on this machine" },
	{ "certs", ON_CERTS, command_certs, 3, 17, "DIR HOST_A HOST_B...",
	  "make a small CA and a certificate a host" },
};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void usage(FILE *out)
{
	size_t i;

	fprintf(out, "usage: colod COMMAND [OPTIONS] [OPERANDS]\n\n");
	for (i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-10s %-20s %s\n", commands[i].name,
			commands[i].operands, commands[i].help);
	fprintf(out, "\n'colod COMMAND --help' lists the options of a command, "
		     "colod(8) explains them.\n");
}

static void command_usage(const struct command *c)
{
	printf("usage: colod %s%s %s\n%s\n", c->name,
	       c->options == ON_CERTS ? "" : " [OPTIONS]", c->operands,
	       c->help);
	if (c->options != ON_CERTS)
		printf("\n");
	options_help(c->options, stdout);
}

static bool asks_for_help(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return true;
	return false;
}

static int run(const struct command *c, int argc, char **argv)
{
	struct settings set;
	int first, status;

	if (asks_for_help(argc, argv)) {
		command_usage(c);
		return EXIT_ENDED;
	}
	first = options_parse(c->options, argc, argv, &set);
	if (first < 0) {
		status = EXIT_USAGE;
	} else if (argc - first < c->operands_min ||
		   argc - first > c->operands_max) {
		fprintf(stderr, "colod: usage: colod %s [OPTIONS] %s\n",
			c->name, c->operands);
		status = EXIT_USAGE;
	} else {
		status = c->run(&set, argc - first, argv + first);
	}
	settings_fini(&set);
	return status;
}

int main(int argc, char **argv)
{
	size_t i;

	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("colod " PACKAGE_VERSION "\n");
		return EXIT_ENDED;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
	    !strcmp(argv[1], "help")) {
		usage(stdout);
		return EXIT_ENDED;
	}
	for (i = 0; i < COMMANDS; i++)
		if (!strcmp(argv[1], commands[i].name))
			return run(&commands[i], argc - 1, argv + 1);
	fprintf(stderr, "colod: no command '%s'; see 'colod --help'\n",
		argv[1]);
	return EXIT_USAGE;
}
