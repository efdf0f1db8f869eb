/* SPDX-License-Identifier: Apache-2.0 */
/* `colod failover`, `stop` and `drill`: a word to a running colod. */
#include "config.h"

#include "engine/commands.h"

#include <stdio.h>
#include <string.h>

#include "engine/control.h"
#include "engine/env.h"
#include "net/drill.h"

enum { DAEMONS_MAX = 64 };

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static int told(const char *path, const char *command,
		bool (*obeyed)(const json_t *status))
{
	json_t *reply = NULL;
	const char *domain;
	bool good = false;

	if (control_call(path, command, &reply)) {
		fprintf(stderr, "colod: %s did not answer\n", path);
	} else if (json_object_get(reply, "error")) {
		fprintf(stderr, "colod: %s\n", text(reply, "error"));
	} else {
		domain = text(reply, "domain");
		printf("%s%s%s: %s\n", text(reply, "role"),
		       domain[0] ? " " : "", domain, text(reply, "state"));
		good = obeyed(reply);
		if (!good)
			fprintf(stderr,
				"colod: not obeyed; its log says why\n");
	}
	json_decref(reply);
	return good ? EXIT_ENDED : EXIT_FAILED;
}

/* Where the operator names no domain there must be just one to mean. */
static int tell(const struct settings *set, const char *domain,
		const char *command, bool (*fits)(const json_t *status),
		bool (*obeyed)(const json_t *status), const char *none)
{
	struct control_reply found[DAEMONS_MAX];
	int chosen = -1, fitting = 0, status = EXIT_FAILED, n, i;
	unsigned int silent;
	char path[512];

	n = control_ask_all(set->run_dir, domain, found, DAEMONS_MAX, &silent);

	for (i = 0; i < n; i++) {
		if (!fits(found[i].status))
			continue;
		chosen = i;
		fitting++;
	}
	if (fitting == 1) {
		snprintf(path, sizeof(path), "%s/%s.sock", set->run_dir,
			 found[chosen].name);
		status = told(path, command, obeyed);
	} else if (fitting) {
		fprintf(stderr,
			"colod: %d of them: say which DOMAIN (see "
			"'colod status')\n",
			fitting);
	} else if (silent) {
		command_silent(set, silent);
	} else {
		fprintf(stderr, "colod: %s%s%s\n", none, domain ? " of " : "",
			domain ? domain : "");
	}
	for (i = 0; i < n; i++)
		json_decref(found[i].status);
	return status;
}

static bool may_fail_over(const json_t *status)
{
	const char *state = text(status, "state");

	if (!strcmp(text(status, "role"), "primary"))
		return !strcmp(text(status, "output"), "held") &&
		       strcmp(state, "ending") != 0;
	return !strcmp(state, "waiting") || !strcmp(state, "lost");
}

static bool goes_on(const json_t *status)
{
	if (!strcmp(text(status, "role"), "primary"))
		return !may_fail_over(status) ||
		       !strcmp(text(status, "state"), "fencing") ||
		       !strcmp(text(status, "state"), "connecting");
	return !strcmp(text(status, "state"), "activating") ||
	       !strcmp(text(status, "state"), "active");
}

/* Only a standby that may be all that is left is not given up at once. */
static bool stops(const json_t *status)
{
	const char *state = text(status, "state");

	return strcmp(text(status, "role"), "secondary") ||
	       !(!strcmp(state, "waiting") || !strcmp(state, "lost") ||
		 !strcmp(state, "fencing"));
}

static bool any(const json_t *status)
{
	(void)status;
	return true;
}

int command_failover(const struct settings *set, int argc, char **argv)
{
	return tell(set, argc ? argv[0] : NULL, "failover", may_fail_over,
		    goes_on, "nothing here waits for a failover");
}

int command_stop(const struct settings *set, int argc, char **argv)
{
	return tell(set, argc ? argv[0] : NULL, "stop", any, stops,
		    "no colod runs here");
}

int command_drill(const struct settings *set, int argc, char **argv)
{
	const char *words = argv[argc - 1];
	char command[DRILL_WORDS_MAX + 8], why[DRILL_WHY_BYTES];
	struct drill_spec spec;

	if (drill_parse(words, &spec, why)) {
		fprintf(stderr, "colod: %s\n", why);
		return EXIT_USAGE;
	}
	snprintf(command, sizeof(command), "drill %s", words);
	return tell(set, argc > 1 ? argv[0] : NULL, command, any, any,
		    "no colod runs here");
}
