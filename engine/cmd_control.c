/* SPDX-License-Identifier: Apache-2.0 */
/* `colod failover` and `colod stop`: one word to a running colod. */
#include "config.h"

#include "engine/commands.h"

#include <stdio.h>
#include <string.h>

#include "engine/control.h"
#include "engine/env.h"

enum { DAEMONS_MAX = 64 };

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

/* Where the operator names no domain there must be just one to mean. */
static int tell(const struct settings *set, const char *domain,
		const char *command, bool (*fits)(const json_t *status),
		bool (*obeyed)(const json_t *status), const char *none)
{
	struct control_reply found[DAEMONS_MAX];
	int n = control_ask_all(set->run_dir, domain, found, DAEMONS_MAX), i;
	int chosen = -1, fitting = 0, status = EXIT_FAILED;
	json_t *reply = NULL;
	char path[512];

	for (i = 0; i < n; i++) {
		if (!fits(found[i].status))
			continue;
		chosen = i;
		fitting++;
	}
	if (fitting == 1) {
		snprintf(path, sizeof(path), "%s/%s.sock", set->run_dir,
			 found[chosen].name);
		if (!control_call(path, command, &reply)) {
			domain = text(reply, "domain");
			printf("%s%s%s: %s\n", text(reply, "role"),
			       domain[0] ? " " : "", domain,
			       text(reply, "state"));
			status = obeyed(reply) ? EXIT_ENDED : EXIT_FAILED;
			if (status)
				fprintf(stderr, "colod: not obeyed; its log "
						"says why\n");
		} else {
			fprintf(stderr, "colod: %s did not answer\n", path);
		}
	} else if (fitting) {
		fprintf(stderr,
			"colod: %d of them: say which DOMAIN (see "
			"'colod status')\n",
			fitting);
	} else {
		fprintf(stderr, "colod: %s%s%s\n", none, domain ? " of " : "",
			domain ? domain : "");
	}
	json_decref(reply);
	for (i = 0; i < n; i++)
		json_decref(found[i].status);
	return status;
}

static bool may_fail_over(const json_t *status)
{
	const char *state = text(status, "state");

	return !strcmp(text(status, "role"), "secondary") &&
	       (!strcmp(state, "waiting") || !strcmp(state, "lost"));
}

static bool takes_over(const json_t *status)
{
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
		    takes_over, "no secondary here waits for a failover");
}

int command_stop(const struct settings *set, int argc, char **argv)
{
	return tell(set, argc ? argv[0] : NULL, "stop", any, stops,
		    "no colod runs here");
}
