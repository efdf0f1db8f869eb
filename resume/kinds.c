/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kinds of guests that are built in, and which of them an operator's words
 * speak of.  A file of its own, so that a test can bring another list.
 */
#include "config.h"

#include "resume/guest.h"

const struct guest_kind *const guest_kinds[] = { &guest_xen, NULL };

const struct guest_kind *guest_kind_of_words(const char *words)
{
	(void)words; /* one kind so far: whatever is named is a Xen domain */
	return &guest_xen;
}
