/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a PVH or HVM domain's processors, as Xen writes it. */
#ifndef RESUME_XEN_CONTEXT_H
#define RESUME_XEN_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Whether it goes from its header to its end: what was cut short is refused by
 * Xen only when a guest is to run from it.
 */
bool xen_context_whole(const uint8_t *bytes, size_t length);

#endif
