/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conditions, one function each:
 *   - it says that it suspends itself when asked; asked by event channel only,
 *     it must offer one;
 *   - stopped without being asked, it must not have PV drivers: they would not
 *     know of it, and the return code of a call they have not made would go
 *     into their registers;
 *   - a PV guest must be scanned as a whole unless Xen has shadow paging, for
 *     without that log-dirty mode says that nothing is dirty;
 *   - resumed fast, its kernel must say by its SUSPEND_CANCEL note that it
 *     carries on.  Nothing in Xen checks this.
 * Guest's worker thread, before protection begins.
 */
#include "config.h"

#include "resume/xen/able.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xen/hvm/params.h>
#include <xen/io/xenbus.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "resume/xen/note.h"
#include "resume/xen/pv/again.h"
#include "resume/xen/pv/note.h"
#include "resume/xen/pv/save.h"

static bool is_connected(struct guest_source *s, const char *type,
			 const char *number)
{
	AUTO_FREE char *state = NULL;
	char node[128];

	snprintf(node, sizeof(node), "device/%s/%s/state", type, number);
	state = xen_node_read(s->host, s->domid, node);
	return state && atoi(state) == XenbusStateConnected;
}

static bool any_connected(struct guest_source *s, const char *type)
{
	AUTO_FREE char **numbers = NULL;
	char path[128];
	unsigned int n = 0;

	snprintf(path, sizeof(path), "/local/domain/%u/device/%s", s->domid,
		 type);
	numbers = xs_directory(s->host->xs, XBT_NULL, path, &n);
	for (unsigned int i = 0; numbers && i < n; i++)
		if (is_connected(s, type, numbers[i]))
			return true;
	return false;
}

static bool has_frontends(struct guest_source *s)
{
	AUTO_FREE char **types = NULL;
	char path[64];
	unsigned int n = 0;

	snprintf(path, sizeof(path), "/local/domain/%u/device", s->domid);
	types = xs_directory(s->host->xs, XBT_NULL, path, &n);
	for (unsigned int i = 0; types && i < n; i++)
		if (any_connected(s, types[i]))
			return true;
	return false;
}

static bool says(struct guest_source *s, const char *feature)
{
	AUTO_FREE char *value = xen_node_read(s->host, s->domid, feature);

	return value && !strcmp(value, "1");
}

/*
 * Linux says what it can be asked for once, when it boots
 * (drivers/xen/manage.c), so in a domain that was restored, or that a standby
 * has become, it has said nothing at all.  Drivers that are connected come
 * later than that at a boot; and to be here it has been suspended before.
 */
bool xen_able_suspends(struct guest_source *s)
{
	return says(s, "control/feature-suspend") ||
	       (!says(s, "control/feature-poweroff") &&
		!says(s, "control/feature-reboot") && has_frontends(s));
}

static int check_suspends(struct guest_source *s, struct guest_error *err)
{
	if (xen_able_suspends(s))
		return 0;
	guest_error_set(err,
			"%s does not say that it can suspend itself"
			" (control/feature-suspend is missing): either it"
			" is still booting, or its kernel lacks suspend"
			" for Xen%s",
			s->name,
			s->emulated ? ", or it is one without any drivers for"
				      " Xen: then use --suspend=toolstack"
				    : "");
	return -EAGAIN;
}

static int check_offer(struct guest_source *s, struct guest_error *err)
{
	int port = xen_request_offered(s->host, s->domid);

	if (port > 0)
		return 0;
	guest_error_set(err,
			"%s %s event channel to be asked by: load the module"
			" colod_guest in it, or use --suspend=auto",
			s->name,
			port == 0 ? "does not offer an" : "offers an unusable");
	return -EOPNOTSUPP;
}

bool xen_takes_events(struct xen_host *h, uint32_t domid)
{
	uint64_t callback = 0;

	return xc_hvm_param_get(xen_call(h), domid, HVM_PARAM_CALLBACK_IRQ,
				&callback) ||
	       callback;
}

static int check_no_drivers(struct guest_source *s, struct guest_error *err)
{
	if (!s->pv && !xen_takes_events(s->host, s->domid) && !has_frontends(s))
		return 0;
	guest_error_set(err,
			"%s has drivers for Xen, which being stopped unasked"
			" would break (--suspend=toolstack); use"
			" --suspend=auto",
			s->name);
	return -EOPNOTSUPP;
}

int xen_able_kind(struct guest_source *s, struct guest_error *err)
{
	if (!s->pv)
		return 0;
	if (!s->manner.full_scan && !pv_save_can_track(s->host)) {
		guest_error_set(err,
				"%s is a PV guest, and this Xen cannot track"
				" what it writes: use --full-scan, which reads"
				" all of its memory in each checkpoint and"
				" keeps a copy of it",
				s->name);
		return -EOPNOTSUPP;
	}
	if (s->manner.resume == GUEST_RESUME_FAST)
		return 0;
	return xen_pv_slow_can(s->host, s->domid, s->name, err);
}

static bool chunk_has_note(const struct xen_memory *m, size_t chunk)
{
	uint64_t gfn = (uint64_t)chunk * m->chunk_pages;
	struct xen_note_scan scan = { 0 };
	const void *page;

	for (size_t i = 0; i < m->chunk_pages; i++) {
		page = xen_memory_page(m, gfn + i);
		if (!page)
			scan = (struct xen_note_scan){ 0 };
		else if (xen_note_scan(&scan, page, WIRE_PAGE_BYTES / 4))
			return true;
	}
	return false;
}

/*
 * A kernel lies in low memory, most of the time in the first tens of MiB; all
 * is mapped only where it is not found there.  A note across two chunks would
 * be missed: those border at multiples of 8 MiB, where a kernel's image may
 * begin but has no note.  1: found; 0: not; or a negative errno.
 */
static int find_note(struct xen_memory *m)
{
	size_t c;
	int rc;

	for (c = 0; c < m->chunk_count; c++) {
		rc = xen_memory_remap(m, (uint64_t)c * m->chunk_pages);
		if (rc < 0)
			return rc;
		if (!m->chunks[c])
			break;
		if (chunk_has_note(m, c))
			return 1;
	}
	rc = xen_memory_map(m);
	if (rc < 0)
		return rc;
	for (; c < m->chunk_count; c++)
		if (m->chunks[c] && chunk_has_note(m, c))
			return 1;
	return 0;
}

static int find_cancel(struct guest_source *s, struct guest_error *err)
{
	uint64_t start_us = clock_now_us();
	struct xen_memory *m = NULL;
	int rc;

	if (s->pv) {
		rc = xen_pv_find_note(s->host, s->domid);
	} else {
		rc = xen_memory_open(s->host, s->domid, PROT_READ, s->max_gfn,
				     &m);
		if (rc == 0)
			rc = find_note(m);
		xen_memory_close(m);
	}
	if (rc < 0) {
		guest_error_set(err, "reading the memory of %s: %s", s->name,
				strerror(-rc));
		return rc;
	}
	s->fast_safe = rc == 1;
	log_debug("%s: %s after %llu us", s->name,
		  s->fast_safe ? "SUSPEND_CANCEL found" : "no SUSPEND_CANCEL",
		  (unsigned long long)(clock_now_us() - start_us));
	return 0;
}

static int check_cancel(struct guest_source *s, struct guest_error *err)
{
	if (s->fast_safe || s->manner.resume != GUEST_RESUME_FAST)
		return 0;
	guest_error_set(err,
			"%s cannot be resumed fast: its kernel does not say"
			" that it can carry on after a suspend"
			" (SUSPEND_CANCEL); use --resume=slow",
			s->name);
	return -EOPNOTSUPP;
}

int xen_able(struct guest_source *s, bool held, struct guest_error *err)
{
	int rc = xen_able_kind(s, err);

	if (rc < 0)
		return rc;
	if (s->manner.ask == GUEST_ASK_TOOLSTACK) {
		rc = check_no_drivers(s, err);
		/* libxl stops it, too, and libxc leaves its registers alone. */
		if (rc < 0 || s->emulated)
			return rc;
		/* libxl asks it for the image: that suspend is its own. */
		return find_cancel(s, err);
	}
	rc = check_suspends(s, err);
	if (rc == 0 && s->manner.ask == GUEST_ASK_EVTCHN && !held)
		rc = check_offer(s, err);
	if (rc == 0)
		rc = find_cancel(s, err);
	if (rc == 0)
		rc = check_cancel(s, err);
	return rc;
}
