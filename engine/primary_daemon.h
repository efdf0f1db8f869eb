/* SPDX-License-Identifier: Apache-2.0 */
/* The environment of the primary's machine in a real process. */
#ifndef ENGINE_PRIMARY_DAEMON_H
#define ENGINE_PRIMARY_DAEMON_H

#include "engine/options.h"

/*
 * `colod primary`: runs until the protection has ended.  `domain` and `peer`
 * are the operator's words.  Returns the exit status.
 */
int primary_daemon(const struct settings *set, const char *domain,
		   const char *peer);

#endif
