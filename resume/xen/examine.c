/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a running domain is and how it can be protected, for `colod check
 * DOMAIN`.  Changes nothing of it, not even what a dead colod left behind.
 */
#include "config.h"

#include "resume/xen/disks.h"
#include "resume/xen/kind.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <xen/io/xenbus.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "resume/xen/able.h"
#include "resume/xen/pv/save.h"
#include "resume/xen/source.h"

#define MODEL_US UINT64_C(2000000)

struct report {
	guest_fact_fn *fact;
	void *arg;
	struct guest_source *s;
	bool held; /* protected at the moment */
};

static void say(const struct report *r, bool good, const char *name,
		const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void say(const struct report *r, bool good, const char *name,
		const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	r->fact(r->arg, name, text, good);
}

/* Whether it could be protected in this state. */
static bool say_state(const struct report *r)
{
	struct guest_source *s = r->s;
	struct xen_state st;
	bool runs;

	if (xen_query(s->host, s->domid, &st) < 0)
		return false;
	runs = st.status == GUEST_RUNNING && !st.paused;
	say(r, runs || r->held, "domain", "%u, %s, %s, %llu MiB", s->domid,
	    !st.hvm	  ? "PV"
	    : st.emulated ? "HVM"
			  : "PVH",
	    st.paused ? "paused" : guest_status_text(st.status),
	    (unsigned long long)st.tot_pages * XC_PAGE_SIZE >> 20);
	return runs || r->held;
}

static void say_model(const struct report *r)
{
	struct guest_error err = { "" };
	struct xen_model *m;
	bool runs;

	if (!r->s->emulated)
		return;
	if (r->held) {
		say(r, true, "device model",
		    "QEMU, which speaks with the colod that protects it");
		return;
	}
	if (xen_model_open(r->s->domid, clock_now_us() + MODEL_US, &m, &err)) {
		say(r, false, "device model", "%s", err.text);
		return;
	}
	runs = xen_model_runs(m, clock_now_us() + MODEL_US) == 1;
	say(r, runs, "device model",
	    "QEMU %s%s; the standby's host needs the same",
	    xen_model_version(m), runs ? "" : ", which does not run");
	xen_model_close(m);
}

/* How it would be asked under --suspend=auto, or that it cannot be. */
static enum guest_ask say_ask(const struct report *r)
{
	struct guest_source *s = r->s;
	int port = xen_request_offered(s->host, s->domid);

	if (port > 0)
		say(r, true, "suspend", "by its event channel");
	else if (xen_able_suspends(s))
		say(r, true, "suspend",
		    "through xenstore; with the module colod_guest in it, by"
		    " event channel, which is faster");
	else if (s->emulated)
		return GUEST_ASK_TOOLSTACK;
	return GUEST_ASK_AUTO;
}

/* Xen would say that it writes nothing. */
static bool scanned(const struct report *r)
{
	return r->s->pv && !pv_save_can_track(r->s->host);
}

static bool say_resume(const struct report *r, enum guest_ask ask,
		       enum guest_resume resume)
{
	struct guest_error err = { "" };
	bool can;

	r->s->manner = (struct guest_manner){ .ask = ask,
					      .resume = resume,
					      .full_scan = scanned(r) };
	r->s->fast_safe = true;
	can = xen_able(r->s, r->held, &err) == 0;
	say(r, can, resume == GUEST_RESUME_FAST ? "resume fast" : "resume slow",
	    "%s", can ? "possible" : err.text);
	return can;
}

static void say_disks(const struct report *r, const char *vbds)
{
	struct guest_disk disks[GUEST_DISKS_MAX];
	size_t n = xen_disks(r->s->host, r->s->domid, disks), at = 0;
	char names[GUEST_DISKS_MAX * (GUEST_DISK_NAME_MAX + 2) + 1] = "";

	for (size_t i = 0; i < n && i < GUEST_DISKS_MAX; i++)
		at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s",
				       i ? ", " : "", disks[i].name);
	if (n)
		say(r, true, "disks", "%s; of them replicated: %s", vbds,
		    names);
	else
		say(r, true, "disks", "%s; what is on them is not replicated",
		    vbds);
}

static void say_devices(const struct report *r)
{
	struct xen_devices *d;
	char vbds[200] = "", vifs[200] = "", *text;
	size_t at;

	if (xen_devices_open(r->s->host, r->s->domid, &d) < 0)
		return;
	for (size_t i = 0; i < d->count; i++) {
		const struct xen_device *v = &d->list[i];

		text = v->vif ? vifs : vbds;
		at = strlen(text);
		snprintf(text + at, sizeof(vbds) - at, "%s%s%s", at ? ", " : "",
			 v->name,
			 v->front_state == XenbusStateConnected
				 ? ""
				 : " (not connected)");
	}
	if (*vbds)
		say_disks(r, vbds);
	if (*vifs)
		say(r, true, "network",
		    "%s; output is held back until it is committed", vifs);
	xen_devices_close(d);
}

static void say_memory(const struct report *r)
{
	struct xen_state st;

	if (!scanned(r) || xen_query(r->s->host, r->s->domid, &st) < 0)
		return;
	say(r, true, "memory",
	    "not tracked: all of it is read in each checkpoint, and a copy of"
	    " %llu MiB kept here",
	    (unsigned long long)st.tot_pages * XC_PAGE_SIZE >> 20);
}

static void say_protection(const struct report *r, enum guest_ask ask,
			   bool slow, bool fast)
{
	if (!slow && !fast)
		say(r, false, "protection", "not possible");
	else if (ask == GUEST_ASK_TOOLSTACK)
		say(r, true, "protection", "with --suspend=toolstack");
	else
		say(r, true, "protection", "with %s--resume=%s%s",
		    scanned(r) ? "--full-scan and " : "",
		    slow ? "slow (the default)" : "fast",
		    slow && fast ? " or fast" : "");
}

int xen_examine(const char *words, guest_fact_fn *fact, void *arg,
		struct guest_error *err)
{
	struct report r = { .fact = fact, .arg = arg };
	bool marked;
	enum guest_ask ask;
	bool runs, slow, fast;
	int rc = xen_source_look(words, &r.s, err);

	if (rc < 0)
		return rc;
	r.held = xen_source_held(r.s, &marked);
	runs = say_state(&r);
	say_model(&r);
	ask = say_ask(&r);
	slow = say_resume(&r, ask, GUEST_RESUME_SLOW);
	fast = say_resume(&r, ask, GUEST_RESUME_FAST);
	say_memory(&r);
	say_devices(&r);
	say_protection(&r, ask, runs && slow, runs && fast);
	xen_source_free(r.s);
	return 0;
}
