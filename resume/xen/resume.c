/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resuming a suspended domain, in the manner that the engine asks for.
 *
 * The happy path:
 *   - fast: return code 1 by libxc, xenstored is told; the guest goes on with
 *     its devices as they were;
 *   - slow: slow.c, and before the next suspend the guest's devices are
 * awaited, for a guest that is suspended while they connect fails to freeze;
 *   - the mark is set back.
 * Failure modes: both are tried for a while, then the log says that the guest
 * stands still; status() tries once more.  A slow resume that has begun is
 * never followed by a fast one: the guest's devices are gone.  Nor is a guest
 * that fast is not safe for (fast_safe) ever resumed so.
 */
#include "config.h"

#include "resume/xen/recycle.h"
#include "resume/xen/source.h"

#include <errno.h>
#include <string.h>

#include <xenguest.h>

#include "base/clock.h"
#include "base/log.h"

#define RETRY_US UINT64_C(10000)
/* Longer than a loaded guest takes: a device that is made anew is lost to who
 * uses it, a file system on a disk too. */
#define REPLACE_US UINT64_C(30000000)

enum {
	TRIES = 100,
	/*
	 * What libxenguest 4.17 asks and sets before a fast resume, to write the
	 * return code of an HVM guest (modify_returncode() in its xg_resume.c):
	 * domain, callback, version, width, and the registers twice.
	 */
	FAST_CALLS = 6,
};

static int resume(struct xen_host *h, uint32_t domid, int fast)
{
	struct xen_state st;
	int rc = -EIO;

	for (int i = 0; i < TRIES; i++) {
		h->hypercalls += fast ? FAST_CALLS : 0;
		if (xc_domain_resume(xen_call(h), domid, fast) == 0) {
			if (!xs_resume_domain(h->xs, domid))
				log_debug("domain %u: telling xenstored of the"
					  " resume: %s",
					  domid, strerror(errno));
			return 0;
		}
		rc = -errno;
		if (xen_query(h, domid, &st) == 0) {
			if (st.status == GUEST_RUNNING)
				return 0;
			if (st.status != GUEST_SUSPENDED)
				return -ESHUTDOWN;
		}
		if (i == 0)
			log_error("domain %u is suspended and does not resume:"
				  " %s; trying again",
				  domid, xen_host_why(h).text);
		clock_sleep_us(RETRY_US);
	}
	log_error("domain %u cannot be resumed: %s; it stands still", domid,
		  strerror(-rc));
	return rc;
}

int xen_resume_fast(struct xen_host *h, uint32_t domid)
{
	return resume(h, domid, 1);
}

int xen_resume_plain(struct xen_host *h, uint32_t domid)
{
	return resume(h, domid, 0);
}

bool xen_source_resumes_slowly(const struct guest_source *s)
{
	return s->manner.resume == GUEST_RESUME_SLOW || !s->fast_safe;
}

int xen_source_prepare_slow(struct guest_source *s)
{
	int rc = 0;

	/* It has no drivers for what there would be to look after. */
	if (s->emulated && s->manner.ask == GUEST_ASK_TOOLSTACK)
		return 0;
	if (!s->slow)
		rc = xen_slow_open(s->host, s->domid, s->holder, s, &s->slow);
	if (rc < 0)
		log_error("%s: finding its devices: %s", s->name,
			  strerror(-rc));
	return rc;
}

static int resume_slow(struct guest_source *s)
{
	/* Opened before where it was to be expected; this is in the pause. */
	int rc = xen_source_prepare_slow(s);

	return rc < 0 ? rc : xen_slow_resume(s->slow);
}

int xen_source_resume_as(struct guest_source *s, enum guest_resume kind)
{
	int rc;

	if (!s->suspended)
		return 0;
	if (!s->fast_safe || (s->slow && s->slow->begun))
		kind = GUEST_RESUME_SLOW;
	/* First of all: some backends are in it. */
	if (s->model)
		xen_model_thaw(s->model);
	if (s->forced)
		rc = xen_resume_plain(s->host, s->domid);
	else if (kind == GUEST_RESUME_SLOW)
		rc = resume_slow(s);
	else
		rc = xen_resume_fast(s->host, s->domid);
	if (rc < 0)
		return rc;
	s->suspended = false;
	s->forced = false;
	if (s->marked)
		xen_source_mark(s, XEN_MARK_IDLE);
	return 0;
}

int xen_source_resume(struct guest_source *s)
{
	return xen_source_resume_as(s, GUEST_RESUME_FAST);
}

/*
 * The time counts in which the guest could have done its part.  Once: a device
 * that was made anew and does not come either is not helped by a second time.
 */
static void count_missing(struct guest_source *s, uint64_t waited_us)
{
	struct xen_slow *w = s->slow;
	struct xen_state st;

	if (xen_query(s->host, s->domid, &st) < 0 || st.paused)
		return;
	w->missing_us += waited_us;
	if (w->missing_us < REPLACE_US || w->replaced)
		return;
	w->replaced = true;
	if (xen_devices_replace(w->devices) == 0)
		log_warn("%s: it has done nothing to connect its devices for"
			 " %llu s",
			 s->name, (unsigned long long)w->missing_us / 1000000);
}

int xen_source_await_devices(struct guest_source *s, uint64_t end_us)
{
	uint64_t start_us = clock_now_us();
	char missing[200];
	int rc;

	if (!s->slow)
		return 0;
	rc = xen_slow_ready(s->slow, end_us, s->cancel_fd);
	if (rc == 0) {
		s->slow->missing_us = 0;
		s->slow->replaced = false;
	}
	if (rc != -ETIMEDOUT)
		return rc;
	xen_devices_missing(s->slow->devices, missing, sizeof(missing));
	log_line(s->slow->missing_us ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN,
		 "%s: devices that are not connected: %s", s->name, missing);
	count_missing(s, clock_now_us() - start_us);
	return -ENOTCONN;
}

int xen_source_check_devices(struct guest_source *s)
{
	char missing[200];
	int rc;

	/* Without SUSPEND_CANCEL there is no way back. */
	if (!s->slow || !s->fast_safe)
		return 0;
	rc = xen_devices_update(s->slow->devices);
	if (rc < 0 || xen_devices_connected(s->slow->devices))
		return 0; /* what is not known is no reason */
	xen_devices_missing(s->slow->devices, missing, sizeof(missing));
	log_warn("%s: suspended while it connects devices: %s; resuming it as"
		 " it was",
		 s->name, missing);
	rc = xen_source_resume(s);
	return rc < 0 ? rc : -ENOTCONN;
}
