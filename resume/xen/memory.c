/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding and mapping a domain's memory (see memory.h).
 *
 * Xen has no list of a domain's RAM to offer, and trying each gfn below
 * the highest takes a hypercall a hole; but memory lies together from 0
 * upwards and around the highest gfn, and tot_pages says when all has been
 * found.  Memory elsewhere is found too, only later.  One thread.
 */
#include "config.h"

#include "resume/xen/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xen/hvm/params.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

enum {
	CHUNK_PAGES_MIN = 2048, /* 8 MiB */
	/* Well below the default of vm.max_map_count, 65530. */
	CHUNK_COUNT_MAX = 16384,
};

/* A domain without a device model has no rings to it: they are 0. */
static int find_reserved(struct xen_memory *m)
{
	static const uint32_t params[XEN_MEMORY_RESERVED_MAX] = {
		HVM_PARAM_STORE_PFN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_IOREQ_PFN,
		HVM_PARAM_BUFIOREQ_PFN
	};
	uint64_t gfn;

	for (size_t i = 0; i < XEN_MEMORY_RESERVED_MAX; i++) {
		if (xc_hvm_param_get(xen_call(m->host), m->domid, params[i],
				     &gfn))
			return -errno;
		if (gfn)
			m->reserved[m->reserved_count++] = gfn;
	}
	return 0;
}

int xen_memory_open(struct xen_host *host, uint32_t domid, int prot,
		    uint64_t max_gfn, struct xen_memory **out)
{
	struct xen_memory *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return -ENOMEM;
	*m = (struct xen_memory){ .host = host,
				  .domid = domid,
				  .prot = prot,
				  .max_gfn = max_gfn,
				  .chunk_pages = CHUNK_PAGES_MIN };
	while (max_gfn / m->chunk_pages >= CHUNK_COUNT_MAX)
		m->chunk_pages *= 2;
	m->chunk_count = max_gfn / m->chunk_pages + 1;
	m->chunks = calloc(m->chunk_count, sizeof(*m->chunks));
	m->tried = calloc(m->chunk_count, sizeof(*m->tried));
	m->valid =
		calloc(m->chunk_count * m->chunk_pages / 64, sizeof(*m->valid));
	m->gfns = calloc(m->chunk_pages, sizeof(*m->gfns));
	m->errors = calloc(m->chunk_pages, sizeof(*m->errors));
	if (!m->chunks || !m->tried || !m->valid || !m->gfns || !m->errors) {
		xen_memory_close(m);
		return -ENOMEM;
	}
	rc = find_reserved(m);
	if (rc < 0) {
		xen_memory_close(m);
		return rc;
	}
	*out = m;
	return 0;
}

static size_t chunk_words(const struct xen_memory *m)
{
	return m->chunk_pages / 64;
}

static void unmap_chunk(struct xen_memory *m, size_t c)
{
	uint64_t *valid = m->valid + c * chunk_words(m);

	if (!m->chunks[c])
		return;
	for (size_t i = 0; i < chunk_words(m); i++)
		m->mapped_pages -= (uint64_t)__builtin_popcountll(valid[i]);
	memset(valid, 0, chunk_words(m) * sizeof(*valid));
	xenforeignmemory_unmap(m->host->fm, m->chunks[c], m->chunk_pages);
	m->chunks[c] = NULL;
}

static void set_valid(struct xen_memory *m, size_t c)
{
	uint64_t *valid = m->valid + c * chunk_words(m);

	for (size_t i = 0; i < m->chunk_pages; i++) {
		if (m->errors[i] || xen_memory_reserved(m, m->gfns[i]))
			continue;
		valid[i / 64] |= UINT64_C(1) << (i % 64);
		m->mapped_pages++;
	}
}

/* Returns how many pages of the chunk are there, rings included. */
static ssize_t map_chunk(struct xen_memory *m, size_t c)
{
	ssize_t there = 0;
	void *at;

	for (size_t i = 0; i < m->chunk_pages; i++)
		m->gfns[i] = c * m->chunk_pages + i;
	m->host->hypercalls++;
	at = xenforeignmemory_map(m->host->fm, m->domid, m->prot,
				  m->chunk_pages, m->gfns, m->errors);
	if (!at)
		return -errno;
	for (size_t i = 0; i < m->chunk_pages; i++)
		there += !m->errors[i];
	unmap_chunk(m, c);
	m->tried[c] = true;
	if (!there) {
		xenforeignmemory_unmap(m->host->fm, at, m->chunk_pages);
		return 0;
	}
	m->chunks[c] = at;
	set_valid(m, c);
	return there;
}

int xen_memory_remap(struct xen_memory *m, uint64_t gfn)
{
	ssize_t n = map_chunk(m, gfn / m->chunk_pages);

	return n < 0 ? (int)n : 0;
}

static int map_all(struct xen_memory *m)
{
	size_t last = m->chunk_count - 1;
	bool last_done = false;
	uint64_t found = 0;
	ssize_t n;

	for (size_t c = 0; c <= last && found < m->tot_pages; c++) {
		if (c == last && last_done)
			break;
		n = map_chunk(m, c);
		if (n < 0)
			return (int)n;
		found += (uint64_t)n;
		if (n > 0 || last_done || c == last)
			continue;
		n = map_chunk(m, last);
		if (n < 0)
			return (int)n;
		found += (uint64_t)n;
		last_done = true;
	}
	return 0;
}

int xen_memory_map(struct xen_memory *m)
{
	uint64_t start_us = clock_now_us();
	struct xen_state st;
	int rc = xen_query(m->host, m->domid, &st);

	if (rc < 0)
		return rc;
	for (size_t c = 0; c < m->chunk_count; c++)
		unmap_chunk(m, c);
	memset(m->tried, 0, m->chunk_count * sizeof(*m->tried));
	m->tot_pages = st.tot_pages;
	rc = map_all(m);
	log_debug("domain %u: mapped %llu of %llu pages below gfn %#llx in"
		  " %llu us",
		  m->domid, (unsigned long long)m->mapped_pages,
		  (unsigned long long)m->tot_pages,
		  (unsigned long long)m->max_gfn,
		  (unsigned long long)(clock_now_us() - start_us));
	return rc;
}

void xen_memory_close(struct xen_memory *m)
{
	if (!m)
		return;
	for (size_t c = 0; m->chunks && m->valid && c < m->chunk_count; c++)
		unmap_chunk(m, c);
	free(m->chunks);
	free(m->tried);
	free(m->valid);
	free(m->gfns);
	free(m->errors);
	free(m);
}
