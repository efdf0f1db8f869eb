/* SPDX-License-Identifier: Apache-2.0 */
/* `colod guest`: starting, listing and ordering embedded guests. */
#include "config.h"

#include "engine/commands.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "engine/env.h"
#include "resume/embedded/kind.h"

enum { ORDER_BYTES = 400 };

static void print_one(void *arg, const struct embedded_entry *e)
{
	(void)arg;
	printf("%s%s: %s, %s, process %d, %" PRIu64 " MiB, tracked by %s,"
	       " gate %s\n",
	       e->name, e->standby ? " (standby)" : "", e->workload, e->state,
	       e->pid, e->ram_bytes >> 20, e->tracker, e->gate);
}

static void add_one(void *arg, const struct embedded_entry *e)
{
	json_array_append_new(
		arg,
		json_pack("{s:s,s:s,s:s,s:s,s:s,s:i,s:I,s:I,s:I,s:I,s:I,s:b,"
			  "s:b}",
			  "name", e->name, "workload", e->workload, "state",
			  e->state, "tracker", e->tracker, "gate", e->gate,
			  "pid", e->pid, "memory_bytes",
			  (json_int_t)e->ram_bytes, "steps",
			  (json_int_t)e->steps, "suspends",
			  (json_int_t)e->suspends, "late_resumes",
			  (json_int_t)e->late_resumes, "held_replies",
			  (json_int_t)e->gate_holding, "standby", e->standby,
			  "colod", e->held));
}

static int list(const struct settings *set)
{
	json_t *all;

	if (!set->json) {
		embedded_list(set->run_dir, print_one, NULL);
		return EXIT_ENDED;
	}
	all = json_array();
	embedded_list(set->run_dir, add_one, all);
	json_dumpf(all, stdout, JSON_COMPACT);
	printf("\n");
	json_decref(all);
	return EXIT_ENDED;
}

static int order(const struct settings *set, const char *name,
		 const char *words)
{
	struct guest_error err = { { 0 } };

	if (embedded_order(set->run_dir, name, words, &err) == 0)
		return EXIT_ENDED;
	fprintf(stderr, "colod: %s\n", err.text);
	return EXIT_FAILED;
}

static int change(const struct settings *set, int argc, char **argv)
{
	char words[ORDER_BYTES] = "set";
	size_t n = 3;

	for (int i = 2; i < argc; i++) {
		if (n + strlen(argv[i]) + 2 > sizeof(words) ||
		    strchr(argv[i], ' ')) {
			fprintf(stderr, "colod: '%.60s' is not KEY=VALUE\n",
				argv[i]);
			return EXIT_FAILED;
		}
		n += (size_t)snprintf(words + n, sizeof(words) - n, " %s",
				      argv[i]);
	}
	return order(set, argv[1], words);
}

static bool is_order(const char *word)
{
	return !strcmp(word, "poweroff") || !strcmp(word, "reboot") ||
	       !strcmp(word, "crash") || !strcmp(word, "destroy");
}

int command_guest(const struct settings *set, int argc, char **argv)
{
	const char *verb = argv[0];

	/* What colod itself starts: RUN_DIR KIND UUID SPEC. */
	if (!strcmp(verb, "serve") && argc == 5)
		return embedded_serve(argv[1], argc - 2, argv + 2);
	if (!strcmp(verb, "list") && argc == 1)
		return list(set);
	if (!strcmp(verb, "run") && argc == 2)
		return embedded_run(set->run_dir, argv[1]);
	if (!strcmp(verb, "set") && argc >= 3)
		return change(set, argc, argv);
	if (is_order(verb) && argc == 2)
		return order(set, argv[1], verb);
	fprintf(stderr,
		"colod: usage: colod guest run SPEC | list | poweroff NAME |"
		" reboot NAME | crash NAME | destroy NAME |"
		" set NAME KEY=VALUE...\n");
	return EXIT_USAGE;
}
