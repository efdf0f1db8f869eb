/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libxenguest's stream of a PV domain: reading and writing its records.
 *
 * A PV guest's page tables hold machine frame numbers, which mean nothing on
 * another host.  libxenguest knows how to translate them, so pages and vCPUs
 * come from its stream and go to the standby as such a stream (libxc migration
 * stream specification; Xen, xg_sr_stream_format.h).  Here it is only taken
 * apart and put together: an image header, a domain header, then records as in
 * stream/records.h.
 */
#ifndef RESUME_XEN_PV_STREAM_H
#define RESUME_XEN_PV_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream/records.h"

enum {
	PV_HEADER_BYTES = 40, /* both headers */
	PV_TSC_BYTES = 24,    /* of a TSC_INFO */
	PV_BATCH = 1024,      /* pages of a record, at most (MAX_BATCH_SIZE) */
	/* The longest record: PAGE_DATA with a full batch. */
	PV_RECORD_MAX = 8 + PV_BATCH * (8 + 4096),
};

/* Records' types that colod knows (xg_sr_stream_format.h). */
enum pv_record {
	PV_END = 0x0,
	PV_PAGE_DATA = 0x1,
	PV_INFO = 0x2,
	PV_P2M_FRAMES = 0x3,
	PV_VCPU_BASIC = 0x4,
	PV_VCPU_EXTENDED = 0x5,
	PV_VCPU_XSAVE = 0x6,
	PV_SHARED_INFO = 0x7,
	PV_TSC_INFO = 0x8,
	PV_VCPU_MSRS = 0xc,
	PV_VERIFY = 0xd,
	PV_CHECKPOINT = 0xe,
	PV_STATIC_DATA_END = 0x10,
	PV_CPUID_POLICY = 0x11,
	PV_MSR_POLICY = 0x12,
};

/* Said once, before the first page; the others are of each checkpoint. */
bool pv_record_is_static(uint32_t type);
/* Of a checkpoint's state: vCPUs, shared_info, TSC. */
bool pv_record_is_state(uint32_t type);

/*
 * The type of a page (XEN_DOMCTL_PFINFO_*, 4 bits): an ordinary one, a page
 * table, a pinned one, or none at all.
 */
enum { PV_PAGE_ORDINARY = 0, PV_PAGE_NONE = 0xf };

struct pv_page {
	uint64_t pfn;
	uint8_t type;
	const uint8_t *bytes; /* NULL: this type has no content */
};

bool pv_type_has_bytes(uint8_t type);

/*
 * The guest says itself how far its frame numbers go, and tables as long are
 * made of that: no further than twice its memory and 4 GiB.
 */
static inline bool pv_max_pfn_sane(uint64_t max_pfn, uint64_t pages)
{
	return max_pfn <= pages * 2 + (UINT64_C(1) << 20);
}

/* A page as the stream names it: its number, its type in the top 4 bits. */
static inline uint64_t pv_entry(uint64_t pfn, uint8_t type)
{
	return pfn | (uint64_t)type << 60;
}

static inline uint64_t pv_entry_pfn(uint64_t entry)
{
	return entry & UINT64_C(0x000fffffffffffff);
}

static inline uint8_t pv_entry_type(uint64_t entry)
{
	return (uint8_t)(entry >> 60);
}

/*
 * Reading from a descriptor.  0, or -EPROTO with *why, or what read() failed
 * with; -EPIPE: the end came too soon.
 */
struct pv_reader {
	int fd;
	uint8_t *body; /* PV_RECORD_MAX and padding */
};

int pv_reader_init(struct pv_reader *r, int fd); /* -ENOMEM */
void pv_reader_fini(struct pv_reader *r);
int pv_read_header(struct pv_reader *r, uint8_t header[PV_HEADER_BYTES],
		   const char **why);
/* The body is valid until the next call. */
int pv_read_record(struct pv_reader *r, struct record *rec, const char **why);

/*
 * Calls `page` for each page of a PAGE_DATA record; stops at the first negative
 * return and returns it.  -EPROTO: malformed, or a pfn above max_pfn.
 */
int pv_each_page(const struct record *rec, uint64_t max_pfn,
		 int (*page)(void *arg, const struct pv_page *p), void *arg);

/* Whether a WIRE_RECORD_COLOD_PV has all of its parts. */
bool pv_state_whole(const struct record *body);
/*
 * Takes the body of WIRE_RECORD_COLOD_PV apart: types[0..max_pfn] become those
 * of the pages, *records are libxenguest's, of the vCPUs and the like, checked
 * one by one.  -EPROTO: it is not whole, or has what does not belong there.
 */
int pv_state_read(const struct record *body, uint64_t max_pfn, uint8_t *types,
		  const uint8_t **records, size_t *length);

/*
 * Writing to a descriptor, pages in batches.  An error sticks and is what
 * pv_writer_flush() returns.  What a descriptor that does not block will not
 * take within thirty seconds is -ETIMEDOUT.
 */
struct pv_writer;

struct pv_writer *pv_writer_new(int fd);  /* NULL: no memory */
void pv_writer_free(struct pv_writer *w); /* NULL is fine */
void pv_write(struct pv_writer *w, const void *bytes, size_t n);
/* The bytes need not outlast the call. */
void pv_write_page(struct pv_writer *w, const struct pv_page *p);
void pv_write_record(struct pv_writer *w, uint32_t type, const void *body,
		     uint32_t length);
/* Pages that wait first.  0 or the first error. */
int pv_writer_flush(struct pv_writer *w);
int pv_writer_error(const struct pv_writer *w); /* so far */

#endif
