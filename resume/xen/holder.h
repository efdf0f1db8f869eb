/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which process a mark in xenstore belongs to: its pid and, since pids come
 * back, the time it started.
 */
#ifndef RESUME_XEN_HOLDER_H
#define RESUME_XEN_HOLDER_H

#include <stdbool.h>

enum { XEN_HOLDER_BYTES = 64 };

/* "PID START" of this process. */
void xen_holder_self(char text[XEN_HOLDER_BYTES]);
/* Whether that process lives; this one counts too. */
bool xen_holder_lives(const char *text);
bool xen_holder_is_self(const char *text);

#endif
