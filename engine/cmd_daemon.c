/* SPDX-License-Identifier: Apache-2.0 */
/* `colod primary`, `colod secondary`, and `colod release` after them. */
#include "config.h"

#include "engine/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "engine/env.h"
#include "engine/output.h"
#include "engine/primary_daemon.h"
#include "engine/primary_disks.h"
#include "engine/secondary_daemon.h"
#include "net/drill.h"
#include "resume/guest.h"

/* More than any kind of guest needs: see `rescue` in resume/guest.h. */
enum { RELEASE_PATIENCE_US = 60 * 1000 * 1000 };

/* What only a daemon can judge of its words. */
static bool usable(const struct settings *set)
{
	char why[DRILL_WHY_BYTES];
	struct drill_spec spec;

	if (set->drill && drill_parse(set->drill, &spec, why)) {
		fprintf(stderr, "colod: %s\n", why);
		return false;
	}
	return !fault_init(NULL);
}

int command_primary(const struct settings *set, int argc, char **argv)
{
	(void)argc;
	if (!usable(set))
		return EXIT_USAGE;
	return primary_daemon(set, argv[0], argv[1]);
}

int command_secondary(const struct settings *set, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	if (!usable(set))
		return EXIT_USAGE;
	return secondary_daemon(set);
}

/* The operator knows what nobody else does: no standby will take over. */
static int let_go(const struct settings *set, const struct guest_kind *kind,
		  const char *name, struct guest_error *why)
{
	const struct guest_manner manner = { .never = true };
	struct guest_source *s;
	struct primary_disks disks;
	struct output o;
	int err = kind->source->open(name, set->run_dir, &manner, &s, why);

	if (err)
		return err;
	err = output_find(&o, kind->source, s, name);
	if (!err)
		output_order(&o, GUEST_GATE_OPEN, 0);
	output_close(&o);
	primary_disks_init(&disks, set->disk_dir, set->run_dir, 0);
	primary_disks_find(&disks, kind->source, s);
	primary_disks_alone(&disks);
	kind->source->close(s);
	return err;
}

int command_release(const struct settings *set, int argc, char **argv)
{
	const struct guest_kind *kind = guest_kind_of_words(argv[0]);
	char name[WIRE_NAME_MAX + 1];
	struct guest_error why = { { 0 } };
	int lock, err;

	(void)argc;
	if (set->verbose)
		log_set_level(LOG_LEVEL_DEBUG);
	if (kind->name(guest_words(kind, argv[0]), name, &why)) {
		fprintf(stderr, "colod: %s\n", why.text);
		return EXIT_FAILED;
	}
	lock = guest_lock(name, set->run_dir);
	err = lock < 0 ? lock
		       : kind->source->rescue(name, set->run_dir,
					      RELEASE_PATIENCE_US);
	if (!err && set->alone)
		err = let_go(set, kind, name, &why);
	if (lock >= 0)
		close(lock);
	if (err == -EBUSY && !why.text[0])
		fprintf(stderr,
			"colod: %s is held by a living colod; end that with "
			"'colod stop %s'\n",
			name, name);
	if (err == -ENOENT)
		fprintf(stderr, "colod: there is no guest %s\n", name);
	else if (why.text[0])
		fprintf(stderr, "colod: %s\n", why.text);
	if (err)
		return EXIT_FAILED; /* rescue has said why */
	printf("%s: nothing of colod is left behind\n", name);
	return EXIT_ENDED;
}
