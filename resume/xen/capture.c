/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tracking and capturing what a domain writes, by Xen's log-dirty mode.
 *
 * The happy path:
 *   - xen_source_prepare(), guest running: mapping, bitmaps, all touched;
 *   - xen_source_track(), guest suspended: log-dirty on;
 *   - xen_source_copy_ahead(), guest running, where it writes much: as below,
 *     or pages stay where they are, to be read by the encoder;
 *   - xen_source_capture(), guest suspended: the bitmap is taken and cleared
 *     in one hypercall, each dirty page copied from the standing mapping, the
 *     vCPUs' state put behind them;
 *   - xen_source_after_resume(): chunks in which a hole became memory are
 *     mapped anew, while the guest runs.
 * Failure modes:
 *   - memory moved (ballooning): tot_pages differs, see memory.h; -ESTALE;
 *   - log-dirty pretends to work: on a Xen without it for this kind of guest
 *     ENABLE fails, and CLEAN then succeeds with no dirty page.  So ENABLE's
 *     result counts, and a first capture without dirty pages is an error: a
 *     guest that ran has written at least its own suspend;
 *   - a capture fails after the bitmap was cleared: those pages are lost, and
 *     every later capture says -ESTALE.
 */
#include "config.h"

#include "resume/xen/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/memory.h"
#include "resume/xen/pv/scan.h"
#include "stream/records.h"

enum { CONTEXT_SLACK_BYTES = 4096 };

static size_t bitmap_words(const struct guest_source *s)
{
	return s->max_gfn / 64 + 1;
}

static size_t bitmap_pages(const struct guest_source *s)
{
	return (bitmap_words(s) * 8 + XC_PAGE_SIZE - 1) / XC_PAGE_SIZE;
}

static int allocate_bitmaps(struct guest_source *s)
{
	DECLARE_HYPERCALL_BUFFER_SHADOW(uint64_t, bits, &s->bits_buffer);

	bits = xc_hypercall_buffer_alloc_pages(s->host->xc, bits,
					       (int)bitmap_pages(s));
	s->bits = bits;
	s->remap = memory_touched((s->memory->chunk_count / 64 + 1) * 8);
	if (!s->bits || !s->remap)
		return -ENOMEM;
	return dirty_open(&s->dirty, bitmap_words(s), s->bits);
}

static int allocate_context(struct guest_source *s)
{
	int n = xc_domain_hvm_getcontext(xen_call(s->host), s->domid, NULL, 0);

	if (n < 0)
		return -errno;
	s->context_bytes = (uint32_t)n + CONTEXT_SLACK_BYTES;
	s->context = memory_touched(s->context_bytes);
	return s->context ? 0 : -ENOMEM;
}

int xen_source_prepare(struct guest_source *s)
{
	int rc;

	xen_source_release(s);
	if (s->pv)
		return pv_scan_open(s->domid, s->max_gfn, !s->manner.full_scan,
				    &s->scan);
	rc = xen_memory_open(s->host, s->domid, PROT_READ, s->max_gfn,
			     &s->memory);
	if (rc == 0)
		rc = allocate_bitmaps(s);
	if (rc == 0)
		rc = allocate_context(s);
	if (rc == 0)
		rc = xen_memory_map(s->memory);
	if (rc < 0)
		xen_source_release(s);
	return rc;
}

void xen_source_release(struct guest_source *s)
{
	DECLARE_HYPERCALL_BUFFER_SHADOW(uint64_t, bits, &s->bits_buffer);

	if (s->bits)
		xc_hypercall_buffer_free_pages(s->host->xc, bits,
					       (int)bitmap_pages(s));
	s->bits = NULL;
	dirty_close(&s->dirty);
	free(s->remap);
	free(s->context);
	s->remap = NULL;
	s->context = NULL;
	xen_memory_close(s->memory);
	s->memory = NULL;
	pv_scan_close(s->scan);
	s->scan = NULL;
}

static int log_dirty_on(struct guest_source *s)
{
	int rc = xc_shadow_control(xen_call(s->host), s->domid,
				   XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL,
				   0);

	if (rc < 0 && errno == EINVAL) {
		/* Left on by a tool that died. */
		xc_shadow_control(xen_call(s->host), s->domid,
				  XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0);
		rc = xc_shadow_control(xen_call(s->host), s->domid,
				       XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY,
				       NULL, 0);
	}
	return rc < 0 ? -errno : 0;
}

static long long clean(struct guest_source *s)
{
	DECLARE_HYPERCALL_BUFFER_SHADOW(uint64_t, bits, &s->bits_buffer);
	xc_shadow_op_stats_t stats;

	(void)bits; /* the macro below takes its shadow only */
	return xc_logdirty_control(
		xen_call(s->host), s->domid, XEN_DOMCTL_SHADOW_OP_CLEAN,
		HYPERCALL_BUFFER(bits), s->max_gfn + 1, 0, &stats);
}

/* The mapping was made while the guest ran: is it still all of its memory? */
static int mapping_current(struct guest_source *s)
{
	struct xen_state st;
	int rc = xen_query(s->host, s->domid, &st);

	if (rc == 0 && st.tot_pages != s->memory->tot_pages) {
		log_debug("%s: its memory changed since it was mapped; mapping"
			  " it anew",
			  s->name);
		rc = xen_memory_map(s->memory);
	}
	return rc;
}

int xen_source_track(struct guest_source *s, struct guest_error *err)
{
	xen_pfn_t max_gfn = 0;
	int rc = mapping_current(s);

	if (rc == 0 &&
	    xc_domain_maximum_gpfn(xen_call(s->host), s->domid, &max_gfn))
		rc = -errno;
	if (rc == 0 && max_gfn > s->max_gfn) {
		guest_error_set(err,
				"the memory of %s grew while its image was"
				" sent",
				s->name);
		return -ESTALE;
	}
	if (rc == 0 && s->model)
		rc = xen_model_track(s->model, true);
	if (rc == 0)
		rc = log_dirty_on(s);
	if (rc == 0 && clean(s) < 0)
		rc = -errno;
	if (rc == 0)
		rc = xen_source_subscribe(s);
	if (rc < 0) {
		guest_error_set(err,
				"Xen cannot track what %s writes (log-dirty"
				" mode: %s); is hap=1 set and memory left"
				" on this host?",
				s->name, strerror(-rc));
		xc_shadow_control(xen_call(s->host), s->domid,
				  XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0);
		return rc;
	}
	s->tracking = true;
	dirty_reset(&s->dirty);
	s->proven = false;
	s->stale = false;
	s->hypercalls_told = s->host->hypercalls; /* those of an image */
	return 0;
}

/*
 * A dirty page that is not mapped: a ring, a frame of Xen's own (shared_info,
 * grant tables: the guest sets those up anew on the other side), or memory in
 * a part of the domain where none was looked for.
 */
static bool put_hole(struct guest_source *s, struct epoch *e, uint64_t gfn)
{
	xenforeignmemory_handle *fm = s->host->fm;
	size_t c = gfn / s->memory->chunk_pages;
	xen_pfn_t pfn = gfn;
	bool room = true;
	int error = 0;
	void *page;

	s->holes++;
	if (!xen_memory_unknown(s->memory, gfn))
		return true;
	s->remap[c / 64] |= UINT64_C(1) << (c % 64);
	s->remap_any = true;
	s->host->hypercalls++;
	page = xenforeignmemory_map(fm, s->domid, PROT_READ, 1, &pfn, &error);
	if (!page)
		return true;
	if (!error)
		room = epoch_put(e, gfn, page);
	xenforeignmemory_unmap(fm, page, 1);
	return room;
}

static bool put_page(void *arg, struct epoch *e, uint64_t gfn)
{
	struct guest_source *s = arg;
	const uint8_t *page = xen_memory_page(s->memory, gfn);

	return page ? epoch_put(e, gfn, page) : put_hole(s, e, gfn);
}

/* The mapping stays as it is until the next capture is over. */
static bool refer_page(void *arg, struct epoch *e, uint64_t gfn)
{
	struct guest_source *s = arg;
	const uint8_t *page = xen_memory_page(s->memory, gfn);

	return page ? epoch_refer(e, gfn, page) : put_hole(s, e, gfn);
}

static int collect(struct guest_source *s)
{
	int rc = clean(s) < 0 ? -errno : 0;

	if (rc < 0) {
		log_error("%s: taking the bitmap of dirty pages: %s", s->name,
			  strerror(-rc));
		s->stale = true;
	}
	return rc;
}

/*
 * Once a call: what it saves is the copying of pages, and what it costs the
 * guest is one more fault at each that it goes on writing.  Not for a guest
 * that is resumed slowly: its devices take longer than its pages, and are
 * waited for before it is asked, so that what was copied would be old.
 */
void xen_source_copy_ahead(struct guest_source *s, struct epoch *e, bool apart)
{
	if (!s->tracking || s->stale || s->pv || xen_source_resumes_slowly(s) ||
	    !dirty_worth(&s->dirty))
		return;
	s->holes = 0;
	if (collect(s) == 0)
		dirty_copy_ahead(&s->dirty, e, apart,
				 apart ? refer_page : put_page, s);
}

static int take_context(struct guest_source *s, struct epoch *e)
{
	struct cursor c = cursor_over(e->state, e->state_capacity);
	uint8_t *body;
	int n = fault_at(FAULT_MID_CAPTURE);

	if (n)
		return n;
	n = xc_domain_hvm_getcontext(xen_call(s->host), s->domid, s->context,
				     s->context_bytes);
	if (n < 0)
		return -errno;
	body = record_put(&c, WIRE_RECORD_HVM_CONTEXT, (uint32_t)n);
	if (!body)
		return -E2BIG;
	memcpy(body, s->context, (size_t)n);
	if (s->model) {
		body = record_put(&c, WIRE_RECORD_COLOD_DEVICE_MODEL,
				  xen_model_record_bytes(s->model));
		if (!body)
			return -E2BIG;
		xen_model_record(s->model, body);
	}
	e->state_bytes = e->state_capacity - cursor_left(&c);
	return 0;
}

/* Whether the guest's memory is still where it was when it was mapped. */
static int check_layout(struct guest_source *s)
{
	xen_pfn_t max_gfn = 0;

	if (s->stale)
		return -ESTALE;
	if (xc_domain_maximum_gpfn(xen_call(s->host), s->domid, &max_gfn))
		return -errno;
	if (max_gfn > s->max_gfn ||
	    s->state.tot_pages != s->memory->tot_pages) {
		log_info("%s: its memory changed (%llu pages, %llu before)",
			 s->name, (unsigned long long)s->state.tot_pages,
			 (unsigned long long)s->memory->tot_pages);
		s->stale = true;
		return -ESTALE;
	}
	return 0;
}

static int check_proof(struct guest_source *s, const struct epoch *e)
{
	if (s->proven || e->page_count || e->partial) {
		s->proven = true;
		return 0;
	}
	log_error("%s: Xen reports no page written since tracking began:"
		  " log-dirty mode does not work for it",
		  s->name);
	s->stale = true;
	return -EIO;
}

/*
 * An `xl save' that fails resumes the guest, whoever has suspended it: what was
 * copied is then of no one moment.
 */
int xen_source_stood(struct guest_source *s)
{
	struct xen_state st;
	int rc = xen_query(s->host, s->domid, &st);

	if (rc == 0 && st.status == GUEST_SUSPENDED)
		return 0;
	log_warn("%s: it did not stand still while it was copied (xl save?)",
		 s->name);
	s->stale = true;
	return rc < 0 ? rc : -EIO;
}

int xen_source_capture(struct guest_source *s, struct epoch *e)
{
	uint64_t t0 = clock_now_us(), t1, t2;
	int rc;

	if (!s->tracking || !s->suspended)
		return -EINVAL;
	rc = check_layout(s);
	if (rc < 0)
		return rc;
	if (!e->page_count)
		s->holes = 0;
	rc = collect(s);
	if (rc < 0)
		return rc;
	t1 = clock_now_us();
	dirty_copy(&s->dirty, e, put_page, s);
	t2 = clock_now_us();
	rc = take_context(s, e);
	if (rc < 0) {
		log_error("%s: reading the state of its vCPUs: %s", s->name,
			  strerror(-rc));
		s->stale = true;
		return rc;
	}
	rc = xen_source_stood(s);
	if (rc < 0)
		return rc;
	e->times.scan_us = t1 - t0;
	e->times.copy_us = t2 - t1;
	e->times.state_us = clock_now_us() - t2;
	rc = check_proof(s, e);
	if (rc == 0)
		dirty_captured(&s->dirty, e);
	return rc;
}

void xen_source_after_resume(struct guest_source *s)
{
	if (!s->tracking)
		return;
	if (s->holes)
		log_debug("%s: %llu dirty frames are not memory", s->name,
			  (unsigned long long)s->holes);
	if (!s->remap_any)
		return;
	for (size_t c = 0; c < s->memory->chunk_count; c++) {
		if (!(s->remap[c / 64] >> (c % 64) & 1))
			continue;
		s->remap[c / 64] &= ~(UINT64_C(1) << (c % 64));
		if (xen_memory_remap(s->memory, c * s->memory->chunk_pages) < 0)
			log_debug("%s: mapping chunk %zu anew: %s", s->name, c,
				  strerror(errno));
	}
	s->remap_any = false;
}
