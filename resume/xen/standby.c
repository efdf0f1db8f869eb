/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing epochs into the twin, and activating it.
 *
 * The happy path:
 *   - apply: each page is copied through the standing mapping, the vCPUs'
 *     and the device model's state is kept aside, only after the pages are all
 *     written;
 *   - activate: that state is loaded, the domain unpaused, and only then come
 *     the things that can wait: name, mark, unmapping.
 * Failure modes: a page that has no place in the twin gets one (the guest had
 * taken memory from its balloon); an error in the middle of an epoch makes the
 * twin unfit for activation for good.
 */
#include "config.h"

#include "resume/xen/standby.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "resume/xen/context.h"
#include "resume/xen/kind.h"
#include "resume/xen/lifecycle.h"
#include "resume/xen/pv/stream.h"

/* Makes memory at `gfn`, or maps what is there already. */
static uint8_t *page_anew(struct guest_standby *s, uint64_t gfn)
{
	xen_pfn_t pfn = gfn;
	uint8_t *page;

	if (xen_memory_unknown(s->memory, gfn) &&
	    xen_memory_remap(s->memory, gfn) == 0) {
		page = xen_memory_page(s->memory, gfn);
		if (page)
			return page;
	}
	if (xc_domain_populate_physmap_exact(s->host->xc, s->domid, 1, 0, 0,
					     &pfn)) {
		log_error("%s: there is no memory for gfn %#llx: %s", s->twin,
			  (unsigned long long)gfn, strerror(errno));
		return NULL;
	}
	log_debug("%s: gfn %#llx is new", s->twin, (unsigned long long)gfn);
	if (xen_memory_remap(s->memory, gfn) < 0)
		return NULL;
	return xen_memory_page(s->memory, gfn);
}

static int apply_page(void *arg, const struct page_item *item)
{
	struct guest_standby *s = arg;
	uint8_t *page;

	if (xen_memory_reserved(s->memory, item->gfn))
		return 0;
	page = xen_memory_page(s->memory, item->gfn);
	/* Not there: then it never came. */
	if (!page && item->kind == WIRE_PAGE_DELTA)
		return -EPROTO;
	if (!page)
		page = page_anew(s, item->gfn);
	if (!page)
		return -ENOMEM;
	page_item_apply(item, page);
	return 0;
}

/* One that could not be loaded: better to know that now. */
static int find_devices(struct guest_standby *s, const struct store *epoch,
			struct record *r)
{
	const char *why = "it is missing";
	int rc = -EPROTO;

	if (!s->emulated)
		return 0;
	if (!xen_model_alive(s->model))
		why = "the standby's has gone";
	else if (store_record(epoch, WIRE_RECORD_COLOD_DEVICE_MODEL, r))
		rc = xen_model_check(s->model, r->body, r->length, &why);
	if (rc < 0)
		log_error("%s: the device model's state of epoch %llu: %s",
			  s->twin, (unsigned long long)store_number(epoch),
			  why);
	return rc;
}

static int keep_devices(struct guest_standby *s, const struct record *r)
{
	uint8_t *larger;

	if (!s->emulated)
		return 0;
	larger = realloc(s->devices, r->length);
	if (!larger)
		return -ENOMEM;
	memcpy(larger, r->body, r->length);
	s->devices = larger;
	s->devices_bytes = r->length;
	return 0;
}

static int apply_pv(struct guest_standby *s, const struct store *epoch)
{
	int rc = pv_twin_apply(s->pv, epoch);

	if (rc < 0) {
		s->broken = true;
		log_error("%s: epoch %llu could not be passed to libxl: %s",
			  s->twin, (unsigned long long)store_number(epoch),
			  strerror(-rc));
	}
	return rc;
}

static int xen_apply(struct guest_standby *s, const struct store *epoch)
{
	struct record context, devices;
	int rc;

	if (s->broken || s->activated || !store_complete(epoch))
		return -EINVAL;
	if (s->pv)
		return apply_pv(s, epoch);
	if (!store_record(epoch, WIRE_RECORD_HVM_CONTEXT, &context) ||
	    context.length == 0 || context.length > s->context_capacity) {
		s->broken = true;
		log_error("%s: epoch %llu has no usable state of the vCPUs",
			  s->twin, (unsigned long long)store_number(epoch));
		return -EPROTO;
	}
	rc = find_devices(s, epoch, &devices);
	if (rc == 0)
		rc = store_each_page(epoch, apply_page, s);
	if (rc == 0)
		rc = keep_devices(s, &devices);
	if (rc < 0) {
		s->broken = true;
		return rc;
	}
	memcpy(s->context, context.body, context.length);
	s->context_bytes = context.length;
	return 0;
}

/* Nothing here keeps the guest from running: it already does. */
static void take_name(struct guest_standby *s)
{
	libxl_ctx *ctx = xen_host_libxl(s->host, NULL);

	xen_node_remove(s->host, s->domid, XEN_NODE_STANDBY);
	if (!ctx || libxl_domain_rename(ctx, s->domid, s->twin, s->name))
		log_error("%s runs as domain %u, but keeps the name %s: %s",
			  s->name, s->domid, s->twin,
			  xen_host_why(s->host).text);
	xen_memory_close(s->memory);
	s->memory = NULL;
}

/* What nobody waits for, once it is announced: libxl takes its time. */
static void settle(struct guest_standby *s)
{
	if (!s->activated || s->settled)
		return;
	s->settled = true;
	xen_model_close(s->model);
	s->model = NULL;
	xen_node_remove(s->host, s->domid, XEN_NODE_MODEL);
	if (xen_config_restore(s->host, s->domid) < 0)
		log_warn("%s: its configuration is still that of a standby: a"
			 " save of it cannot be used (%s)",
			 s->name, xen_host_why(s->host).text);
}

static int xen_activate(struct guest_standby *s, struct guest_error *err)
{
	uint64_t t0 = clock_now_us(), t1, t2;
	int fault, rc;

	if (s->broken || s->activated) {
		guest_error_set(err, "%s cannot be activated: %s", s->twin,
				s->broken ? "an epoch was applied in part"
					  : "it already is");
		return -EINVAL;
	}
	if (s->context_bytes &&
	    xc_domain_hvm_setcontext(s->host->xc, s->domid, s->context,
				     s->context_bytes)) {
		guest_error_set(err, "Xen refuses the state of %s: %s", s->name,
				xen_host_why(s->host).text);
		return -EIO;
	}
	rc = s->emulated ? xen_model_load(s->model, s->devices,
					  s->devices_bytes, err)
	     : s->pv	 ? pv_twin_complete(s->pv, err)
			 : 0;
	/* Of a PV domain nothing is left then. */
	s->broken = rc < 0 && s->pv;
	if (rc < 0)
		return rc;
	fault = fault_at(FAULT_MID_ACTIVATE);
	if (fault) {
		guest_error_set(err, "unpausing %s: %s", s->name,
				strerror(-fault));
		return fault;
	}
	t1 = clock_now_us();
	if (xc_domain_unpause(s->host->xc, s->domid)) {
		guest_error_set(err, "unpausing %s: %s", s->name,
				strerror(errno));
		return -EIO;
	}
	s->activated = true;
	t2 = clock_now_us();
	log_info("%s runs here as domain %u (state %llu us, unpause %llu us)",
		 s->name, s->domid, (unsigned long long)(t1 - t0),
		 (unsigned long long)(t2 - t1));
	take_name(s);
	log_debug("%s: its name took %llu us", s->name,
		  (unsigned long long)(clock_now_us() - t2));
	return 0;
}

static size_t xen_standby_nics(struct guest_standby *s, struct guest_nic *nics)
{
	return xen_nics(s->host, s->domid, nics);
}

/* A twin that waits for its activation counts as suspended. */
static enum guest_status xen_standby_status(struct guest_standby *s)
{
	struct xen_state st;

	settle(s);
	if (xen_query(s->host, s->domid, &st) < 0 ||
	    (st.status == GUEST_RUNNING && !s->activated))
		return s->activated ? GUEST_RUNNING : GUEST_SUSPENDED;
	return st.status;
}

static int xen_standby_after_shutdown(struct guest_standby *s, bool *again)
{
	int rc = xen_after_shutdown(s->host, s->domid, s->name, false, again);

	/* What runs anew is another domain of the same name. */
	if (rc == 0 && *again)
		rc = xen_find(s->host, s->name, &s->domid);
	if (rc < 0)
		*again = false;
	return rc;
}

static void xen_standby_close(struct guest_standby *s)
{
	if (s)
		settle(s);
	xen_standby_free(s);
}

static void xen_standby_destroy(struct guest_standby *s)
{
	struct xen_state st;
	libxl_ctx *ctx;

	if (!s)
		return;
	/* Mapped memory would keep the domain as a zombie. */
	xen_memory_close(s->memory);
	s->memory = NULL;
	/* libxl works at it until then, and takes away what is not complete. */
	pv_twin_close(s->pv);
	s->pv = NULL;
	if (xen_query(s->host, s->domid, &st) == 0 && st.status == GUEST_GONE) {
		xen_standby_free(s);
		return;
	}
	ctx = xen_host_libxl(s->host, NULL);
	if (!ctx || libxl_domain_destroy(ctx, s->domid, NULL))
		log_error("%s: domain %u could not be destroyed: %s", s->twin,
			  s->domid, xen_host_why(s->host).text);
	xen_standby_free(s);
}

static bool whole(const struct record *r)
{
	switch (r->type) {
	case WIRE_RECORD_HVM_CONTEXT:
		return xen_context_whole(r->body, r->length);
	case WIRE_RECORD_COLOD_DEVICE_MODEL:
		return xen_model_whole(r->body, r->length);
	default:
		return pv_state_whole(r);
	}
}

const struct guest_standby_ops guest_xen_standby = {
	.name = "xen",
	.kinds =
		(const struct guest_wire_kind[]){
			{ .kind = WIRE_GUEST_XEN_PVH,
			  .needs = { WIRE_RECORD_HVM_CONTEXT },
			  .deltas = true,
			  .whole = whole },
			{ .kind = WIRE_GUEST_XEN_HVM,
			  .needs = { WIRE_RECORD_HVM_CONTEXT,
				     WIRE_RECORD_COLOD_DEVICE_MODEL },
			  .deltas = true,
			  .whole = whole },
			{ .kind = WIRE_GUEST_XEN_PV,
			  .needs = { WIRE_RECORD_COLOD_PV },
			  .whole = whole },
			{ 0 },
		},
	.build = xen_standby_build,
	.apply = xen_apply,
	.activate = xen_activate,
	.nics = xen_standby_nics,
	.status = xen_standby_status,
	.after_shutdown = xen_standby_after_shutdown,
	.close = xen_standby_close,
	.destroy = xen_standby_destroy,
	.sweep = xen_standby_sweep,
};
