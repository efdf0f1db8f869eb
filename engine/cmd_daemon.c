/* SPDX-License-Identifier: Apache-2.0 */
/* `colod primary`, `colod secondary`, and `colod release` after them. */
#include "config.h"

#include "engine/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/env.h"
#include "engine/primary_daemon.h"
#include "engine/secondary_daemon.h"
#include "resume/guest.h"

enum { RELEASE_PATIENCE_US = 10 * 1000 * 1000 };

int command_primary(const struct settings *set, int argc, char **argv)
{
	(void)argc;
	return primary_daemon(set, argv[0], argv[1]);
}

int command_secondary(const struct settings *set, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return secondary_daemon(set);
}

int command_release(const struct settings *set, int argc, char **argv)
{
	const struct guest_kind *kind = guest_kind_of_words(argv[0]);
	int lock, err;

	(void)argc;
	if (set->verbose)
		log_set_level(LOG_LEVEL_DEBUG);
	lock = guest_lock(argv[0], set->run_dir);
	err = lock < 0 ? lock
		       : kind->source->rescue(argv[0], RELEASE_PATIENCE_US);
	if (lock >= 0)
		close(lock);
	if (err == -EBUSY)
		fprintf(stderr,
			"colod: %s is held by a living colod; end that with "
			"'colod stop %s'\n",
			argv[0], argv[0]);
	if (err == -ENOENT)
		fprintf(stderr, "colod: there is no domain %s\n", argv[0]);
	if (err)
		return EXIT_FAILED; /* rescue has said why */
	printf("%s: nothing of colod is left behind\n", argv[0]);
	return EXIT_ENDED;
}
