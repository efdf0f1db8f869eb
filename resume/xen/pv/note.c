/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which frames a PV guest's kernel lies in only its page tables say, so it is
 * looked for by virtual address: where 64-bit Linux maps its own image
 * (Documentation/x86/x86_64/mm.rst, "kernel text mapping").  Another kernel is
 * not found there, and counts as one without the note.
 */
#include "config.h"

#include "resume/xen/pv/note.h"

#include <sys/mman.h>

#include "resume/xen/note.h"

#define TEXT_BEGIN UINT64_C(0xffffffff80000000)
#define TEXT_END UINT64_C(0xffffffffa0000000)
/* What is mapped begins at a multiple of this (CONFIG_PHYSICAL_ALIGN). */
#define STEP UINT64_C(0x200000)

static const void *map(struct xen_host *h, uint32_t domid, uint64_t address)
{
	xen_pfn_t mfn = xc_translate_foreign_address(h->xc, domid, 0, address);
	int error = 0;
	void *page;

	if (!mfn)
		return NULL;
	page = xenforeignmemory_map(h->fm, domid, PROT_READ, 1, &mfn, &error);
	if (page && error) {
		xenforeignmemory_unmap(h->fm, page, 1);
		return NULL;
	}
	return page;
}

int xen_pv_find_note(struct xen_host *h, uint32_t domid)
{
	struct xen_note_scan scan = { 0 };
	uint64_t at = TEXT_BEGIN;
	bool any = false, found;
	const void *page;

	while (at < TEXT_END) {
		page = map(h, domid, at);
		if (!page) {
			if (any)
				return 0; /* past the kernel's end */
			at = (at + STEP) & ~(STEP - 1);
			continue;
		}
		any = true;
		found = xen_note_scan(&scan, page, XC_PAGE_SIZE / 4);
		xenforeignmemory_unmap(h->fm, (void *)(uintptr_t)page, 1);
		if (found)
			return 1;
		at += XC_PAGE_SIZE;
	}
	return 0;
}
