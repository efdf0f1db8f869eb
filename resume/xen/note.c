/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/xen/note.h"

#include <string.h>

#include <xen/elfnote.h>

enum { NOTE_WORDS = 5, VALUE_BYTES = 4 };

bool xen_note_scan(struct xen_note_scan *n, const uint32_t *words, size_t count)
{
	uint32_t note[NOTE_WORDS] = { sizeof("Xen"), VALUE_BYTES,
				      XEN_ELFNOTE_SUSPEND_CANCEL, 0, 1 };
	size_t matched = n->matched;

	memcpy(&note[3], "Xen", sizeof("Xen"));
	for (size_t i = 0; i < count; i++) {
		if (words[i] == note[matched])
			matched++;
		else if (words[i] != note[0])
			matched = 0;
		else /* the two lengths are equal: three in a row */
			matched = matched == 2 ? 2 : 1;
		if (matched == NOTE_WORDS)
			return true;
	}
	n->matched = matched;
	return false;
}
