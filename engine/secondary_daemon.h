/* SPDX-License-Identifier: Apache-2.0 */
/* The environment of the secondary's machine in a real process. */
#ifndef ENGINE_SECONDARY_DAEMON_H
#define ENGINE_SECONDARY_DAEMON_H

#include "engine/options.h"

/* `colod secondary`: runs until it is told to stop; returns the exit status. */
int secondary_daemon(const struct settings *set);

#endif
