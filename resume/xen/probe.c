/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host's Xen offers, for `colod check`.  Changes nothing, and is
 * silent on a host without Xen.
 */
#include "config.h"

#include "resume/xen/kind.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "resume/xen/host.h"

#include <xenevtchn.h>

struct report {
	guest_fact_fn *fact;
	void *arg;
};

static void say(const struct report *r, bool good, const char *name,
		const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void say(const struct report *r, bool good, const char *name,
		const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	r->fact(r->arg, name, text, good);
}

static void probe_version(const struct report *r, libxl_ctx *ctx)
{
	const libxl_version_info *v = libxl_get_version_info(ctx);

	if (!v) {
		say(r, false, "xen version", "unknown");
		return;
	}
	say(r, true, "xen version", "%d.%d%s", v->xen_version_major,
	    v->xen_version_minor,
	    v->xen_version_extra ? v->xen_version_extra : "");
	say(r, strstr(v->capabilities, "hvm-3.0") != NULL, "xen capabilities",
	    "%s", v->capabilities);
}

static void probe_virtualisation(const struct report *r, libxl_ctx *ctx)
{
	libxl_physinfo p;

	libxl_physinfo_init(&p);
	if (libxl_get_physinfo(ctx, &p)) {
		say(r, false, "virtualisation", "unknown");
		libxl_physinfo_dispose(&p);
		return;
	}
	say(r, p.cap_hvm, "pvh guests", "%s",
	    p.cap_hvm ? "supported"
		      : "not supported: this machine has no VT-x or AMD-V, or "
			"it is off");
	/* Log-dirty mode for PVH needs HAP, or shadow paging built in. */
	say(r, p.cap_hap || p.cap_shadow, "log-dirty", "%s",
	    p.cap_hap	   ? "by hardware-assisted paging"
	    : p.cap_shadow ? "by shadow paging"
			   : "not available: no hardware-assisted paging");
	say(r, true, "free memory", "%llu MiB",
	    (unsigned long long)p.free_pages * XC_PAGE_SIZE >> 20);
	libxl_physinfo_dispose(&p);
}

static void probe_dom0(const struct report *r, struct xen_host *h)
{
	struct xen_state st;

	if (xen_query(h, 0, &st) < 0 || st.status == GUEST_GONE)
		say(r, false, "domain 0", "Xen tells nothing of it");
	else
		say(r, true, "domain 0", "%llu MiB",
		    (unsigned long long)st.tot_pages * XC_PAGE_SIZE >> 20);
}

static void probe_events(const struct report *r, struct xen_host *h)
{
	xenevtchn_handle *e = xenevtchn_open(h->log, 0);

	say(r, e != NULL, "event channels", "%s",
	    e ? "usable" : "not usable: is the module xen-evtchn loaded?");
	if (e)
		xenevtchn_close(e);
}

void xen_probe(guest_fact_fn *fact, void *arg)
{
	const struct report r = { fact, arg };
	struct guest_error err = { "" };
	struct xen_host *h;
	libxl_ctx *ctx;

	if (xen_host_open(&h, &err) < 0) {
		say(&r, false, "xen", "%s",
		    *err.text ? err.text : "out of memory");
		return;
	}
	say(&r, true, "xen", "privcmd and xenstore are usable");
	probe_events(&r, h);
	probe_dom0(&r, h);
	ctx = xen_host_libxl(h, &err);
	if (ctx) {
		probe_version(&r, ctx);
		probe_virtualisation(&r, ctx);
	} else {
		say(&r, false, "libxl", "%s", err.text);
	}
	xen_host_close(h);
}
