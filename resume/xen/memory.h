/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain's memory, mapped for as long as it is protected.
 *
 * Mapped in chunks, for a mapping a page would run into vm.max_map_count and
 * a single one could not be mended in part.  Only chunks with memory in them
 * are held; a page that cannot be mapped (a hole, a frame that is Xen's own)
 * is simply absent.
 *
 * A mapped page keeps its frame: what the guest gives back while it is mapped
 * stays counted in the domain's tot_pages.  So tot_pages can only grow while a
 * mapping of all memory stands, and every page that moves makes it grow.
 */
#ifndef RESUME_XEN_MEMORY_H
#define RESUME_XEN_MEMORY_H

#include "resume/xen/host.h"
#include "stream/format.h"

enum { XEN_MEMORY_RESERVED_MAX = 4 };

struct xen_memory {
	struct xen_host *host;
	uint32_t domid;
	int prot; /* PROT_READ, PROT_WRITE */
	uint64_t max_gfn;
	/* Of the domain's own, never copied: see xen_memory_reserved(). */
	uint64_t reserved[XEN_MEMORY_RESERVED_MAX];
	unsigned int reserved_count;
	uint64_t tot_pages; /* of the domain, before it was mapped */
	uint64_t mapped_pages;
	size_t chunk_pages; /* a power of two, 64 or more */
	size_t chunk_count;
	uint8_t **chunks; /* chunk_count; NULL: nothing in it is mapped */
	bool *tried;	  /* chunk_count: what is not mapped in it cannot be */
	uint64_t *valid;  /* one bit a gfn */
	xen_pfn_t *gfns;  /* chunk_pages, to map with */
	int *errors;
};

/* Allocates; maps nothing yet.  `host` must outlive it. */
int xen_memory_open(struct xen_host *host, uint32_t domid, int prot,
		    uint64_t max_gfn, struct xen_memory **out);
/* Maps all of the domain's memory, afresh where some was mapped. */
int xen_memory_map(struct xen_memory *m);
/* Maps the chunk around `gfn` afresh; what was mapped stays on failure. */
int xen_memory_remap(struct xen_memory *m, uint64_t gfn);
void xen_memory_close(struct xen_memory *m); /* NULL is fine */

/*
 * Whether `gfn` may be memory although it is not mapped: its chunk was never
 * tried.  In one that was, holes stay holes as long as tot_pages stands.
 */
static inline bool xen_memory_unknown(const struct xen_memory *m, uint64_t gfn)
{
	return gfn <= m->max_gfn && !m->tried[gfn / m->chunk_pages];
}

/*
 * The rings to xenstore, the console and the device model stay with their own
 * domain and are never copied.
 */
static inline bool xen_memory_reserved(const struct xen_memory *m, uint64_t gfn)
{
	for (unsigned int i = 0; i < m->reserved_count; i++)
		if (gfn == m->reserved[i])
			return true;
	return false;
}

/* The page, or NULL where it is not mapped or reserved. */
static inline uint8_t *xen_memory_page(const struct xen_memory *m, uint64_t gfn)
{
	if (gfn > m->max_gfn || !(m->valid[gfn / 64] >> (gfn % 64) & 1))
		return NULL;
	return m->chunks[gfn / m->chunk_pages] +
	       gfn % m->chunk_pages * WIRE_PAGE_BYTES;
}

#endif
