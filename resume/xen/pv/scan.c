/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scanning a suspended PV domain (see scan.h).
 *
 * The happy path: libxenguest writes the domain into a pipe (save.h), and its
 * records are taken apart here as they come.
 *   - Whole, as for a save that is not live: each page is compared with the
 *     copy.  Page tables come translated to the guest's own frame numbers, so
 *     equal bytes mean that nothing changed.
 *   - Tracked: what comes was written to.  The copy holds only what did not fit
 *     into an epoch, until it does.
 * Failure modes: the domain does not stay suspended, or libxenguest fails: the
 * pipe ends too soon then.
 */
#include "config.h"

#include "resume/xen/pv/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/memory.h"
#include "resume/xen/pv/save.h"

enum {
	PAGE_BYTES = 4096,
	STATE_MAX = 1 << 20,  /* records of a checkpoint */
	STATIC_MAX = 1 << 20, /* records before the first page */
};

struct records {
	uint8_t *bytes;
	size_t used, capacity;
};

/* Of a 64-bit guest's shared_info; of another something that stays as it is. */
struct frames {
	uint64_t max_pfn, p2m_cr3, p2m_vaddr, p2m_generation;
};

struct pv_scan {
	struct xen_host *host; /* libxenguest's thread uses it while it reads */
	uint32_t domid;
	uint64_t max_pfn;
	uint8_t *pages; /* the copy */
	uint8_t *types; /* of its pages; PV_PAGE_NONE: there is none */
	bool filled;	/* by a first scan */
	uint64_t shape; /* of the state then */
	struct frames frames;
	struct pv_reader reader;
	uint8_t header[PV_HEADER_BYTES];
	struct records fixed, state;
	/* Of one that is tracked: */
	bool tracked;
	struct pv_save *save;
	uint8_t *waits; /* a bit for each page of the copy that was left */
	struct pv_writer *image; /* while that is sent */
	/* Of the scan under way: */
	pv_changed_fn *changed;
	void *arg;
	uint64_t left;
};

static size_t copy_bytes(const struct pv_scan *s)
{
	return (s->max_pfn + 1) * PAGE_BYTES;
}

int pv_scan_open(uint32_t domid, uint64_t max_pfn, bool tracked,
		 struct pv_scan **out)
{
	struct pv_scan *s = memory_zeroed(sizeof(*s));
	int rc;

	if (!s)
		return -ENOMEM;
	s->domid = domid;
	s->max_pfn = max_pfn;
	s->tracked = tracked;
	s->waits = memory_touched(max_pfn / 8 + 1);
	s->fixed.capacity = STATIC_MAX;
	s->fixed.bytes = memory_touched(STATIC_MAX);
	s->state.capacity = STATE_MAX;
	s->state.bytes = memory_touched(STATE_MAX);
	s->types = memory_touched(max_pfn + 1);
	s->pages = memory_short()
			   ? MAP_FAILED
			   : mmap(NULL, copy_bytes(s), PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				  -1, 0);
	if (s->pages == MAP_FAILED)
		s->pages = NULL;
	rc = pv_reader_init(&s->reader, -1);
	if (!s->fixed.bytes || !s->state.bytes || !s->types || !s->pages ||
	    !s->waits)
		rc = -ENOMEM;
	if (rc == 0)
		rc = xen_host_open(&s->host, NULL);
	if (rc < 0) {
		pv_scan_close(s);
		return rc;
	}
	memset(s->types, PV_PAGE_NONE, max_pfn + 1);
	*out = s;
	return 0;
}

void pv_scan_close(struct pv_scan *s)
{
	if (!s)
		return;
	pv_scan_stop(s);
	xen_host_close(s->host);
	pv_reader_fini(&s->reader);
	if (s->pages)
		munmap(s->pages, copy_bytes(s));
	free(s->types);
	free(s->waits);
	free(s->fixed.bytes);
	free(s->state.bytes);
	free(s);
}

void pv_scan_stop(struct pv_scan *s)
{
	pv_save_end(s->save);
	s->save = NULL;
}

/* --- taking it apart ------------------------------------------------------ */

static int keep(struct records *to, const struct record *r)
{
	struct cursor c =
		cursor_over(to->bytes + to->used, to->capacity - to->used);
	uint8_t *body = record_put(&c, (enum wire_record)r->type, r->length);

	if (!body)
		return -E2BIG;
	memcpy(body, r->body, r->length);
	to->used = to->capacity - cursor_left(&c);
	return 0;
}

/* Where the guest's list of frames lies is said to a standby once. */
static int check_static(const struct pv_scan *s, const struct record *r)
{
	struct cursor c = cursor_over(s->fixed.bytes, s->fixed.used);
	struct record known;

	if (r->type != PV_P2M_FRAMES)
		return 0;
	while (record_next(&c, &known) > 0)
		if (known.type == r->type && known.length == r->length &&
		    !memcmp(known.body, r->body, r->length))
			return 0;
	return -ESTALE;
}

/*
 * The standby keeps the last record of each kind and vCPU: of one that has gone
 * it would load an old state.
 */
static uint32_t shape_of(const struct record *r)
{
	uint32_t vcpu = 0;

	if (r->type != PV_SHARED_INFO && r->type != PV_TSC_INFO &&
	    r->length >= sizeof(vcpu))
		memcpy(&vcpu, r->body, sizeof(vcpu));
	return r->type + 31 * vcpu;
}

static uint64_t shape_of_all(const struct records *all)
{
	struct cursor c = cursor_over(all->bytes, all->used);
	struct record r;
	uint64_t shape = 0;

	while (record_next(&c, &r) > 0)
		shape = shape * 1000003 + shape_of(&r);
	return shape;
}

/* Offers a page; one that does not fit stays in the copy. */
static void offer(struct pv_scan *s, const struct pv_page *p)
{
	uint8_t *waits = &s->waits[p->pfn / 8], bit = 1U << p->pfn % 8;

	if (s->changed(s->arg, p)) {
		*waits &= (uint8_t)~bit;
		return;
	}
	if (p->bytes != s->pages + p->pfn * PAGE_BYTES)
		memcpy(s->pages + p->pfn * PAGE_BYTES, p->bytes, PAGE_BYTES);
	*waits |= bit;
}

/* Of one that is tracked: it was written to. */
static int take_written(struct pv_scan *s, const struct pv_page *p)
{
	if (s->image)
		pv_write_page(s->image, p);
	s->types[p->pfn] = p->bytes ? p->type : PV_PAGE_NONE;
	if (!p->bytes)
		return 0;
	if (s->image)
		return pv_writer_error(s->image);
	offer(s, p);
	return 0;
}

static int take_page(void *arg, const struct pv_page *p)
{
	struct pv_scan *s = arg;
	uint8_t *copy = s->pages + p->pfn * PAGE_BYTES;
	uint8_t *type = &s->types[p->pfn];

	if (s->filled && !p->bytes != (*type == PV_PAGE_NONE))
		return -ESTALE;
	if (s->tracked)
		return take_written(s, p);
	if (!p->bytes ||
	    (p->type == *type && !memcmp(copy, p->bytes, PAGE_BYTES)))
		return 0;
	if (!s->changed(s->arg, p)) {
		s->left++;
		return 0;
	}
	*type = p->type;
	memcpy(copy, p->bytes, PAGE_BYTES);
	return 0;
}

/* 1: that was the last. */
static int take_record(struct pv_scan *s, const struct record *r,
		       const char **why)
{
	int rc;

	if (r->type == (s->tracked ? PV_CHECKPOINT : PV_END))
		return 1;
	if (r->type == PV_PAGE_DATA) {
		rc = pv_each_page(r, s->max_pfn, take_page, s);
		if (rc == -EPROTO)
			*why = "its pages are malformed";
		return rc;
	}
	if (pv_record_is_state(r->type))
		return keep(&s->state, r);
	if (pv_record_is_static(r->type)) {
		if (s->image)
			pv_write_record(s->image, r->type, r->body, r->length);
		return s->filled ? check_static(s, r) : keep(&s->fixed, r);
	}
	if (r->type == PV_VERIFY || r->type >> 31)
		return 0;
	*why = "it has a record that colod does not know";
	return -EPROTO;
}

/*
 * Where the guest keeps its list of frames, and whether it changed that: while
 * a save with checkpoints goes on, libxenguest does not look again.
 */
static int check_frames(struct pv_scan *s)
{
	struct cursor c = cursor_over(s->state.bytes, s->state.used);
	struct frames now = { 0 };
	shared_info_t info;
	struct record r;

	while (record_next(&c, &r) > 0) {
		if (r.type != PV_SHARED_INFO || r.length < sizeof(info))
			continue;
		memcpy(&info, r.body, sizeof(info));
		now = (struct frames){ info.arch.max_pfn, info.arch.p2m_cr3,
				       info.arch.p2m_vaddr,
				       info.arch.p2m_generation };
	}
	if (s->filled && memcmp(&s->frames, &now, sizeof(now)))
		return -ESTALE;
	s->frames = now;
	return 0;
}

static int take_records(struct pv_scan *s, const char **why)
{
	struct record r;
	int rc = 0;

	s->state.used = 0;
	while (rc == 0) {
		rc = pv_read_record(&s->reader, &r, why);
		if (rc == 0)
			rc = take_record(s, &r, why);
	}
	if (rc < 0)
		return rc;
	if (s->filled && s->shape != shape_of_all(&s->state))
		return -ESTALE;
	rc = check_frames(s);
	if (rc < 0)
		return rc;
	s->shape = shape_of_all(&s->state);
	s->filled = true;
	return 0;
}

static int scan_whole(struct pv_scan *s, const char **why)
{
	int rc = pv_save_whole(s->host, s->domid, &s->save);

	if (rc < 0)
		return rc;
	s->reader.fd = pv_save_fd(s->save);
	if (!s->filled)
		s->fixed.used = 0;
	rc = fault_at(FAULT_MID_CAPTURE);
	if (rc == 0)
		rc = pv_read_header(&s->reader, s->header, why);
	if (rc == 0)
		rc = take_records(s, why);
	pv_scan_stop(s);
	return rc;
}

/* What did not fit before goes behind what was written since. */
static void offer_waiting(struct pv_scan *s)
{
	struct pv_page p;
	bool any = false;

	for (p.pfn = 0; p.pfn <= s->max_pfn; p.pfn++) {
		if (!(s->waits[p.pfn / 8] >> p.pfn % 8 & 1))
			continue;
		p.type = s->types[p.pfn];
		p.bytes = s->pages + p.pfn * PAGE_BYTES;
		offer(s, &p);
		s->left += s->waits[p.pfn / 8] >> p.pfn % 8 & 1;
		any = true;
	}
	if (any && !s->left)
		madvise(s->pages, copy_bytes(s), MADV_DONTNEED);
}

static int scan_written(struct pv_scan *s, const char **why)
{
	int rc = s->save ? pv_save_next(s->save) : -EINVAL, taken;

	if (rc == 0)
		rc = fault_at(FAULT_MID_CAPTURE);
	if (rc == 0)
		rc = take_records(s, why);
	if (rc == 0)
		offer_waiting(s);
	taken = s->save ? pv_save_taken(s->save) : 0;
	return rc < 0 ? rc : taken;
}

/* What libxenguest says of an end that comes too soon is in its log. */
static int failed(struct pv_scan *s, int rc, const char *why)
{
	pv_scan_stop(s);
	if (rc == -EPIPE)
		rc = -EIO;
	if (rc != -ESTALE)
		log_error("domain %u: reading it through libxenguest: %s (%s)",
			  s->domid, why ? why : strerror(-rc),
			  xen_host_why(s->host).text);
	return rc;
}

int pv_scan_run(struct pv_scan *s, pv_changed_fn *changed, void *arg,
		uint64_t *left)
{
	const char *why = NULL;
	int rc;

	s->changed = changed;
	s->arg = arg;
	s->left = 0;
	rc = s->tracked ? scan_written(s, &why) : scan_whole(s, &why);
	*left = s->left;
	return rc < 0 ? failed(s, rc, why) : 0;
}

int pv_scan_live(struct pv_scan *s, struct pv_writer *w,
		 int (*suspend)(void *arg), void *arg)
{
	const char *why = NULL;
	int rc = pv_save_tracked(s->host, s->domid, suspend, arg, &s->save);

	if (rc < 0)
		return rc;
	s->reader.fd = pv_save_fd(s->save);
	s->image = w;
	rc = pv_read_header(&s->reader, s->header, &why);
	if (rc == 0)
		pv_write(w, s->header, sizeof(s->header));
	if (rc == 0)
		rc = take_records(s, &why);
	s->image = NULL;
	if (pv_writer_error(w) < 0 || pv_save_suspended(s->save) < 0) {
		rc = pv_writer_error(w) < 0 ? pv_writer_error(w)
					    : pv_save_suspended(s->save);
		pv_scan_stop(s);
		return rc;
	}
	if (rc == 0)
		rc = pv_save_taken(s->save);
	return rc < 0 ? failed(s, rc, why) : 0;
}

/* --- giving it on ----------------------------------------------------------
 */

static bool is_special(uint8_t type)
{
	return type != PV_PAGE_ORDINARY && type != PV_PAGE_NONE;
}

size_t pv_scan_state(const struct pv_scan *s, uint8_t *to, size_t room)
{
	struct cursor c = cursor_over(to, room), count;
	uint32_t special = 0;

	count = c;
	cursor_put_u32(&c, 0);
	cursor_put_u32(&c, 0);
	for (uint64_t pfn = 0; pfn <= s->max_pfn; pfn++) {
		if (!is_special(s->types[pfn]))
			continue;
		cursor_put_u64(&c, pv_entry(pfn, s->types[pfn]));
		special++;
	}
	cursor_put_bytes(&c, s->state.bytes, s->state.used);
	cursor_put_u32(&count, special);
	return c.bad || count.bad ? 0 : room - cursor_left(&c);
}

void pv_scan_write_header(const struct pv_scan *s, struct pv_writer *w)
{
	pv_write(w, s->header, sizeof(s->header));
	pv_write(w, s->fixed.bytes, s->fixed.used);
}

int pv_scan_write_pages(const struct pv_scan *s, struct pv_writer *w,
			bool (*stop)(void *arg), void *arg)
{
	struct pv_page p;

	for (p.pfn = 0; p.pfn <= s->max_pfn; p.pfn++) {
		p.type = s->types[p.pfn];
		if (p.pfn % PV_BATCH == 0 && stop(arg))
			return -ECANCELED;
		if (p.type == PV_PAGE_NONE)
			continue;
		p.bytes = s->pages + p.pfn * PAGE_BYTES;
		pv_write_page(w, &p);
	}
	return pv_writer_flush(w);
}

void pv_scan_write_state(const struct pv_scan *s, struct pv_writer *w)
{
	pv_write(w, s->state.bytes, s->state.used);
}
