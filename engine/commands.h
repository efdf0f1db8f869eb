/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands, one function each; their table is in engine/main.c. */
#ifndef ENGINE_COMMANDS_H
#define ENGINE_COMMANDS_H

#include "engine/options.h"

/*
 * `argc` operands at `argv`, as many as the table allows.  Returns the exit
 * status; has told the user of every failure in one line.
 */
typedef int command_fn(const struct settings *set, int argc, char **argv);

command_fn command_primary;
command_fn command_secondary;
command_fn command_status;
command_fn command_failover;
command_fn command_stop;
command_fn command_drill;
command_fn command_check;
command_fn command_certs;
command_fn command_release;
command_fn command_guest;
command_fn command_disk;
command_fn command_bench;

/* Says that so many colod are here that say nothing. */
void command_silent(const struct settings *set, unsigned int count);

#endif
