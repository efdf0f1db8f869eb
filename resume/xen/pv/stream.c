/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libxenguest's stream, taken apart and put together (see stream.h).
 *
 * The bytes come from libxenguest on this host, or from another host's colod:
 * every length is checked before it is believed.
 */
#include "config.h"

#include "resume/xen/pv/stream.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/whole.h"

/* xg_sr_stream_format.h: the domain header's type, and a page's shift. */
enum {
	TYPE_X86_PV = 1,
	PAGE_SHIFT_4K = 12,
	PAGE_BYTES = 4096,
	ROOM_MS = 30000
};

#define MARKER UINT64_MAX
#define ID UINT32_C(0x58454e46) /* "XENF", big-endian like all before it */

bool pv_record_is_static(uint32_t type)
{
	switch (type) {
	case PV_INFO:
	case PV_P2M_FRAMES:
	case PV_STATIC_DATA_END:
	case PV_CPUID_POLICY:
	case PV_MSR_POLICY:
		return true;
	default:
		return false;
	}
}

bool pv_record_is_state(uint32_t type)
{
	switch (type) {
	case PV_VCPU_BASIC:
	case PV_VCPU_EXTENDED:
	case PV_VCPU_XSAVE:
	case PV_VCPU_MSRS:
	case PV_SHARED_INFO:
	case PV_TSC_INFO:
		return true;
	default:
		return false;
	}
}

bool pv_type_has_bytes(uint8_t type)
{
	return type < 0xd; /* not BROKEN, XALLOC, XTAB */
}

/* --- reading ------------------------------------------------------------ */

int pv_reader_init(struct pv_reader *r, int fd)
{
	r->fd = fd;
	r->body = memory_touched(PV_RECORD_MAX + 8);
	return r->body ? 0 : -ENOMEM;
}

void pv_reader_fini(struct pv_reader *r)
{
	free(r->body);
	r->body = NULL;
}

static int malformed(const char *what, const char **why)
{
	*why = what;
	return -EPROTO;
}

int pv_read_header(struct pv_reader *r, uint8_t header[PV_HEADER_BYTES],
		   const char **why)
{
	uint64_t marker;
	uint32_t id, type;
	uint16_t options, shift;
	int rc = read_whole(r->fd, header, PV_HEADER_BYTES);

	if (rc < 0)
		return rc;
	memcpy(&marker, header, 8);
	memcpy(&id, header + 8, 4);
	memcpy(&options, header + 16, 2);
	memcpy(&type, header + 24, 4);
	memcpy(&shift, header + 28, 2);
	if (marker != MARKER || be32toh(id) != ID || options)
		return malformed("it is no stream of libxenguest's", why);
	if (le32toh(type) != TYPE_X86_PV || le16toh(shift) != PAGE_SHIFT_4K)
		return malformed("it is of no PV domain", why);
	return 0;
}

int pv_read_record(struct pv_reader *r, struct record *rec, const char **why)
{
	uint32_t head[2];
	int rc = read_whole(r->fd, head, sizeof(head));

	if (rc < 0)
		return rc;
	rec->type = le32toh(head[0]);
	rec->length = le32toh(head[1]);
	rec->body = r->body;
	if (rec->length > PV_RECORD_MAX)
		return malformed("a record is too long", why);
	return read_whole(r->fd, r->body, (rec->length + 7) & ~UINT32_C(7));
}

int pv_each_page(const struct record *rec, uint64_t max_pfn,
		 int (*page)(void *arg, const struct pv_page *p), void *arg)
{
	struct cursor c = cursor_over(rec->body, rec->length), pages;
	uint32_t count = cursor_get_u32(&c);
	struct pv_page p;
	uint64_t entry;
	int rc = 0;

	cursor_get_u32(&c);
	if (c.bad || !count || count > PV_BATCH)
		return -EPROTO;
	pages = c;
	cursor_take(&pages, count * sizeof(entry));
	for (uint32_t i = 0; i < count && rc >= 0; i++) {
		entry = cursor_get_u64(&c);
		p.pfn = pv_entry_pfn(entry);
		p.type = pv_entry_type(entry);
		p.bytes = pv_type_has_bytes(p.type)
				  ? cursor_take(&pages, PAGE_BYTES)
				  : NULL;
		if (c.bad || pages.bad || p.pfn > max_pfn)
			return -EPROTO;
		rc = page(arg, &p);
	}
	if (rc >= 0 && cursor_left(&pages))
		return -EPROTO;
	return rc < 0 ? rc : 0;
}

/* --- a checkpoint's state ----------------------------------------------- */

static int read_types(struct cursor *c, uint64_t max_pfn, uint8_t *types)
{
	uint32_t count = cursor_get_u32(c);
	uint64_t entry;

	cursor_get_u32(c);
	memset(types, PV_PAGE_ORDINARY, max_pfn + 1);
	for (uint32_t i = 0; i < count && !c->bad; i++) {
		entry = cursor_get_u64(c);
		if (pv_entry_pfn(entry) > max_pfn ||
		    !pv_type_has_bytes(pv_entry_type(entry)))
			return -EPROTO;
		types[pv_entry_pfn(entry)] = pv_entry_type(entry);
	}
	return c->bad ? -EPROTO : 0;
}

static int check_records(struct cursor c)
{
	bool vcpu = false;
	struct record r;
	int more;

	while ((more = record_next(&c, &r)) > 0) {
		if (!pv_record_is_state(r.type))
			return -EPROTO;
		vcpu = vcpu || r.type == PV_VCPU_BASIC;
	}
	return more < 0 || !vcpu ? -EPROTO : 0;
}

bool pv_state_whole(const struct record *body)
{
	struct cursor c = cursor_over(body->body, body->length);
	uint32_t count = cursor_get_u32(&c);

	cursor_get_u32(&c);
	cursor_take(&c, count * sizeof(uint64_t));
	return !c.bad && check_records(c) == 0;
}

int pv_state_read(const struct record *body, uint64_t max_pfn, uint8_t *types,
		  const uint8_t **records, size_t *length)
{
	struct cursor c = cursor_over(body->body, body->length);
	int rc = read_types(&c, max_pfn, types);

	if (rc == 0)
		rc = check_records(c);
	*records = c.at;
	*length = cursor_left(&c);
	return rc;
}

/* --- writing ------------------------------------------------------------ */

struct pv_writer {
	int fd;
	int err;
	uint32_t count; /* of pages that wait */
	size_t used;	/* bytes of their content */
	uint64_t entries[PV_BATCH];
	uint8_t pages[PV_BATCH * PAGE_BYTES];
};

struct pv_writer *pv_writer_new(int fd)
{
	struct pv_writer *w = memory_touched(sizeof(*w));

	if (w)
		w->fd = fd;
	return w;
}

void pv_writer_free(struct pv_writer *w)
{
	free(w);
}

static int await_room(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	return poll(&p, 1, ROOM_MS) == 0 ? -ETIMEDOUT : 0;
}

static void write_whole(struct pv_writer *w, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;
	ssize_t did;

	while (n && !w->err) {
		did = write(w->fd, at, n);
		if (did < 0 && errno == EAGAIN)
			w->err = await_room(w->fd);
		else if (did < 0 && errno != EINTR)
			w->err = -errno;
		if (did > 0) {
			at += did;
			n -= (size_t)did;
		}
	}
}

static void write_head(struct pv_writer *w, uint32_t type, uint32_t length)
{
	uint32_t head[2] = { htole32(type), htole32(length) };

	write_whole(w, head, sizeof(head));
}

static void write_batch(struct pv_writer *w)
{
	uint32_t head[2] = { htole32(w->count), 0 };
	size_t entries = w->count * sizeof(*w->entries);

	if (!w->count)
		return;
	write_head(w, PV_PAGE_DATA,
		   (uint32_t)(sizeof(head) + entries + w->used));
	write_whole(w, head, sizeof(head));
	write_whole(w, w->entries, entries);
	write_whole(w, w->pages, w->used);
	w->count = 0;
	w->used = 0;
}

void pv_write(struct pv_writer *w, const void *bytes, size_t n)
{
	write_batch(w);
	write_whole(w, bytes, n);
}

void pv_write_page(struct pv_writer *w, const struct pv_page *p)
{
	w->entries[w->count++] = htole64(pv_entry(p->pfn, p->type));
	if (p->bytes) {
		memcpy(w->pages + w->used, p->bytes, PAGE_BYTES);
		w->used += PAGE_BYTES;
	}
	if (w->count == PV_BATCH)
		write_batch(w);
}

void pv_write_record(struct pv_writer *w, uint32_t type, const void *body,
		     uint32_t length)
{
	static const uint8_t zeroes[8];

	write_batch(w);
	write_head(w, type, length);
	write_whole(w, body, length);
	write_whole(w, zeroes, -length & 7);
}

int pv_writer_error(const struct pv_writer *w)
{
	return w->err;
}

int pv_writer_flush(struct pv_writer *w)
{
	write_batch(w);
	return w->err;
}
