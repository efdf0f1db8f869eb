/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the ELF note by which a guest's kernel says that it carries on after
 * a suspend that was called off (return code 1): owner "Xen", type
 * XEN_ELFNOTE_SUSPEND_CANCEL, value 1 (xen/include/public/elfnote.h).  It is
 * looked for in the guest's own memory, since its kernel's file is not always
 * to be had; a kernel keeps its notes with its read-only data.  Pure.
 */
#ifndef RESUME_XEN_NOTE_H
#define RESUME_XEN_NOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct xen_note_scan {
	size_t matched; /* words of the note that were the last ones seen */
};

/*
 * Whether the note ends within these words, which follow those of the call
 * before: a note may lie across two pages.  After a gap, begin with a zeroed
 * struct.
 */
bool xen_note_scan(struct xen_note_scan *n, const uint32_t *words,
		   size_t count);

#endif
