/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a guest run after the colod that protected it died.
 *
 * The mark that the source keeps in xenstore says what colod was doing:
 *   - no mark: nothing; whatever state the domain is in is not our making;
 *   - "idle": the guest runs; only tracking is to be undone;
 *   - "asked": the guest was asked to suspend and not yet resumed;
 *   - "image": libxl was at work, and may have asked or suspended it.
 * In the last two, a suspended guest is resumed at once; else the request is
 * withdrawn, and where there was none to withdraw it may have been
 * acknowledged, so a late suspend is waited for.  libxl's helper outlives
 * colod for a moment, but it neither suspends nor resumes: it fails at its
 * next write to the dead colod and switches log-dirty mode off on its way.
 *
 * Runs in the guard, and in a new colod that finds a mark.  Own handles only.
 */
#include "config.h"

#include "resume/xen/kind.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "resume/xen/holder.h"
#include "resume/xen/source.h"

#define POLL_US UINT64_C(5000)
/* During an image a request is seldom under way: a shorter patience. */
#define IMAGE_PATIENCE_US UINT64_C(10000000)

static bool is(const char *mark, const char *word)
{
	size_t n = strlen(word);

	return !strncmp(mark, word, n) && (!mark[n] || mark[n] == ' ');
}

/*
 * 1: the guest was suspended and runs again; 0: it was not suspended; or a
 * negative errno.
 */
static int resume_if_suspended(struct xen_host *h, uint32_t domid)
{
	struct xen_state st;
	int rc = xen_query(h, domid, &st);

	if (rc < 0)
		return rc;
	if (st.status == GUEST_GONE)
		return -ENOENT;
	if (st.status == GUEST_SUSPENDED) {
		rc = xen_resume_fast(h, domid);
		return rc < 0 ? rc : 1;
	}
	return 0;
}

static int await_late(struct xen_host *h, uint32_t domid, uint64_t patience_us)
{
	uint64_t end_us = clock_now_us() + patience_us;
	int rc;

	do {
		rc = resume_if_suspended(h, domid);
		if (rc)
			return rc;
		clock_sleep_us(POLL_US);
	} while (clock_now_us() < end_us);
	return 0;
}

static int make_run(struct xen_host *h, uint32_t domid, const char *mark,
		    uint64_t patience_us)
{
	int rc = resume_if_suspended(h, domid);

	if (rc < 0)
		return rc;
	if (rc == 1) {
		log_info("domain %u was suspended and runs again", domid);
		/* One more request can stand where an earlier one was late. */
		xen_withdraw(h, domid);
		return 0;
	}
	if (xen_withdraw(h, domid) == 1)
		return 0;
	if (is(mark, XEN_MARK_IMAGE) && patience_us > IMAGE_PATIENCE_US)
		patience_us = IMAGE_PATIENCE_US;
	rc = await_late(h, domid, patience_us);
	return rc < 0 ? rc : 0;
}

static void undo(struct xen_host *h, uint32_t domid)
{
	xc_domain_subscribe_for_suspend(h->xc, domid, 0);
	xc_shadow_control(h->xc, domid, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0);
	xen_node_remove(h, domid, XEN_NODE_SOURCE);
}

static int rescue(struct xen_host *h, const char *words, uint64_t patience_us)
{
	AUTO_FREE char *mark = NULL;
	const char *holder;
	uint32_t domid;
	int rc = xen_find(h, words, &domid);

	if (rc < 0)
		return rc;
	mark = xen_node_read(h, domid, XEN_NODE_SOURCE);
	if (!mark)
		return errno == ENOENT ? 0 : -errno;
	holder = strchr(mark, ' ');
	if (holder && xen_holder_lives(holder + 1))
		return -EBUSY;
	if (!is(mark, XEN_MARK_IDLE))
		rc = make_run(h, domid, mark, patience_us);
	/* It shut down by itself meanwhile: nothing to resume. */
	if (rc == -ESHUTDOWN)
		rc = 0;
	if (rc == 0)
		undo(h, domid);
	return rc;
}

int xen_rescue(const char *words, uint64_t patience_us)
{
	struct guest_error err = { { 0 } };
	struct xen_host *h;
	int rc = xen_host_open(&h, &err);

	if (rc < 0) {
		log_error("%s", err.text);
		return rc;
	}
	rc = rescue(h, words, patience_us);
	xen_host_close(h);
	return rc;
}
