/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which process a mark that outlives it belongs to: its pid and, since pids
 * come back, the time it started.
 */
#ifndef RESUME_HOLDER_H
#define RESUME_HOLDER_H

#include <stdbool.h>

enum { HOLDER_BYTES = 64 };

/* "PID START" of this process. */
void holder_self(char text[HOLDER_BYTES]);
/* Whether that process lives; this one counts too. */
bool holder_lives(const char *text);
bool holder_is_self(const char *text);

#endif
