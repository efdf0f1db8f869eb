/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kinds of guests that are built in.  A file of its own, so that a test can
 * bring another list.
 */
#include "config.h"

#include "resume/guest.h"

const struct guest_kind *const guest_kinds[] = { &guest_xen, &guest_embedded,
						 NULL };
