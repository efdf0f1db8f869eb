/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a guest run after the colod that protected it died.
 *
 * The mark that the source keeps in xenstore says what colod was doing:
 *   - no mark: nothing; whatever state the domain is in is not our making;
 *   - "idle": the guest runs; only tracking is to be undone;
 *   - "asked": the guest was asked to suspend and not yet resumed;
 *   - "forced": it was stopped without being asked, and not yet resumed;
 *   - "image": libxl was at work, and may have asked or suspended it;
 *   - "slow", "reset": a slow resume was under way, which is gone on with.
 * An HVM guest's device model goes on before the guest does.
 * In the three before, a suspended guest is resumed at once: as it is where it
 * was forced, else fast unless the mark says that this is not safe; where it is
 * not suspended, the request is withdrawn, and where there was none to withdraw
 * it may have been acknowledged, or an event sent, so a late suspend is waited
 * for; as long as it is possible the mark stays, for nobody else would resume
 * it.  libxl's helper outlives colod for a moment, but it neither suspends nor
 * resumes: it fails at its next write to the dead colod and switches log-dirty
 * mode off on its way.
 *
 * Runs in the guard, and in a new colod that finds a mark.  Own handles only.
 */
#include "config.h"

#include "resume/xen/kind.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "resume/holder.h"
#include "resume/xen/able.h"
#include "resume/xen/source.h"

#define POLL_US UINT64_C(5000)
/* During an image a request is seldom under way: a shorter patience. */
#define IMAGE_PATIENCE_US UINT64_C(10000000)
#define MODEL_US UINT64_C(2000000)

enum { CLAIM_TRIES = 20 };

/* What is at hand: a guest, and how far another has come with it. */
struct left {
	struct xen_host *host;
	uint32_t domid;
	char *mark;
};

static bool is(const char *mark, const char *word)
{
	size_t n = strlen(word);

	return !strncmp(mark, word, n) &&
	       (!mark[n] || mark[n] == ' ' || mark[n] == ',');
}

static bool slow_begun(const char *mark)
{
	return is(mark, XEN_MARK_SLOW) || is(mark, XEN_MARK_RESET);
}

/* The mark of a guest for which fast is not safe is "WORD,slow HOLDER". */
static bool fast_safe(const char *mark)
{
	return !slow_begun(mark) && mark[strcspn(mark, ", ")] != ',';
}

static int resume_slow(const struct left *l, bool paused)
{
	char holder[HOLDER_BYTES];
	struct xen_slow *w;
	int rc;

	holder_self(holder);
	rc = xen_slow_open(l->host, l->domid, holder, NULL, &w);
	if (rc < 0) {
		log_error("domain %u: finding its devices: %s", l->domid,
			  strerror(-rc));
		return rc;
	}
	w->begun = slow_begun(l->mark);
	w->reset_marked = is(l->mark, XEN_MARK_RESET);
	w->paused = w->reset_marked && paused;
	rc = xen_slow_resume(w);
	xen_slow_close(w);
	return rc;
}

/*
 * Stopped without having been asked, by us or by libxl; or that stop is under
 * way, see give_up_forced() in suspend.c.
 */
static bool is_forced(const struct left *l, const struct xen_state *st)
{
	if (st->status != GUEST_SUSPENDED && st->status != GUEST_RUNNING)
		return false;
	return is(l->mark, XEN_MARK_FORCED) ||
	       (is(l->mark, XEN_MARK_IMAGE) && st->emulated &&
		!xen_takes_events(l->host, l->domid));
}

/*
 * 1: the guest stood still and runs again; 0: it did not; or a negative errno.
 */
static int resume_if_suspended(const struct left *l)
{
	struct xen_state st;
	int rc = xen_query(l->host, l->domid, &st);

	if (rc < 0)
		return rc;
	if (st.status == GUEST_GONE)
		return -ENOENT;
	/* It was being read (pv/save.h). */
	if (st.status == GUEST_SUSPENDED && !st.hvm && st.paused &&
	    is(l->mark, XEN_MARK_ASKED) &&
	    xc_domain_unpause(l->host->xc, l->domid) == 0)
		st.paused = false;
	if (is(l->mark, XEN_MARK_RESET) ||
	    (is(l->mark, XEN_MARK_SLOW) && st.status == GUEST_RUNNING))
		rc = resume_slow(l, st.paused);
	else if (is_forced(l, &st))
		rc = xen_resume_plain(l->host, l->domid);
	else if (st.status != GUEST_SUSPENDED)
		return 0;
	else if (fast_safe(l->mark))
		rc = xen_resume_fast(l->host, l->domid);
	else
		rc = resume_slow(l, false);
	return rc < 0 ? rc : 1;
}

static int await_late(const struct left *l, uint64_t patience_us)
{
	uint64_t end_us = clock_now_us() + patience_us;
	int rc;

	do {
		rc = resume_if_suspended(l);
		if (rc)
			return rc;
		clock_sleep_us(POLL_US);
	} while (clock_now_us() < end_us);
	return 0;
}

static int make_run(const struct left *l, uint64_t patience_us)
{
	int rc = resume_if_suspended(l);
	uint64_t late_us;

	if (rc < 0)
		return rc;
	if (rc == 1) {
		log_info("domain %u was suspended and runs again", l->domid);
		/* One more request can stand where an earlier one was late. */
		xen_withdraw(l->host, l->domid);
		return 0;
	}
	if (slow_begun(l->mark) || xen_withdraw(l->host, l->domid) == 1)
		return 0;
	late_us = is(l->mark, XEN_MARK_IMAGE) ? IMAGE_PATIENCE_US : XEN_LATE_US;
	log_info("domain %u: it may suspend yet, since it was asked to: waiting"
		 " for that, up to %llu s",
		 l->domid, (unsigned long long)late_us / 1000000);
	rc = await_late(l, patience_us < late_us ? patience_us : late_us);
	if (rc == 0 && patience_us < late_us)
		return -EINPROGRESS;
	return rc < 0 ? rc : 0;
}

static void undo(const struct left *l)
{
	xc_interface *xc = l->host->xc;

	xc_domain_subscribe_for_suspend(xc, l->domid, 0);
	xc_shadow_control(xc, l->domid, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0);
	xen_node_remove(l->host, l->domid, XEN_NODE_SOURCE);
}

/*
 * Takes the mark over, for two must not resume one guest: 1 with l->mark as it
 * was, 0: there is none; -EBUSY: whoever holds it lives.
 */
static int claim_once(struct left *l)
{
	struct xs_handle *xs = l->host->xs;
	xs_transaction_t t = xs_transaction_start(xs);
	char node[64], text[XEN_MARK_BYTES], self[HOLDER_BYTES];
	const char *holder;
	unsigned int len;
	int rc = 0;

	if (t == XBT_NULL)
		return -errno;
	snprintf(node, sizeof(node), "/local/domain/%u/" XEN_NODE_SOURCE,
		 l->domid);
	free(l->mark);
	l->mark = xs_read(xs, t, node, &len);
	if (!l->mark)
		rc = errno == ENOENT ? 0 : -errno;
	holder = l->mark ? strchr(l->mark, ' ') : NULL;
	if (holder && holder_lives(holder + 1) && !holder_is_self(holder + 1))
		rc = -EBUSY;
	if (!l->mark || rc < 0) {
		xs_transaction_end(xs, t, true);
		return rc;
	}
	holder_self(self);
	snprintf(text, sizeof(text), "%.*s %s", (int)strcspn(l->mark, " "),
		 l->mark, self);
	if (!xs_write(xs, t, node, text, (unsigned int)strlen(text))) {
		rc = -errno;
		xs_transaction_end(xs, t, true);
		return rc;
	}
	return xs_transaction_end(xs, t, false) ? 1 : -errno;
}

static int claim(struct left *l)
{
	int rc = -EAGAIN;

	for (int i = 0; i < CLAIM_TRIES && rc == -EAGAIN; i++)
		rc = claim_once(l);
	return rc;
}

/* It may have been stopped in the pause; whoever did that is no more. */
static int let_model_go(const struct left *l)
{
	struct guest_error err = { { 0 } };
	struct xen_model *m;
	struct xen_state st;
	int rc;

	if (xen_query(l->host, l->domid, &st) < 0 || !st.emulated)
		return 0;
	rc = xen_model_open(l->domid, clock_now_us() + MODEL_US, &m, &err);
	if (rc < 0)
		log_error("%s", err.text);
	if (rc == -ENOENT || rc == -ECONNREFUSED)
		return 0; /* it died: nothing can be told to it */
	if (rc < 0)
		return rc;
	xen_model_was_stopped(m);
	rc = xen_model_thaw(m);
	xen_model_close(m);
	return rc;
}

static int rescue(struct left *l, const char *words, uint64_t patience_us)
{
	char text[XEN_MARK_BYTES], self[HOLDER_BYTES];
	int rc = xen_find(l->host, words, &l->domid), model;

	if (rc == 0)
		rc = claim(l);
	if (rc <= 0)
		return rc;
	model = let_model_go(l);
	rc = is(l->mark, XEN_MARK_IDLE) ? 0 : make_run(l, patience_us);
	/* It shut down by itself meanwhile: nothing to resume. */
	if (rc == -ESHUTDOWN)
		rc = 0;
	/* The guest did not wait for it: now, or when this is called again. */
	if (rc == 0 && model < 0) {
		holder_self(self);
		snprintf(text, sizeof(text), XEN_MARK_IDLE " %s", self);
		rc = xen_node_write(l->host, l->domid, XEN_NODE_SOURCE, text);
		if (rc == 0)
			rc = let_model_go(l);
	}
	if (rc == 0)
		undo(l);
	return rc;
}

int xen_rescue(const char *words, const char *run_dir, uint64_t patience_us)
{
	struct guest_error err = { { 0 } };
	struct left l = { 0 };
	int rc = xen_host_open(&l.host, &err);

	(void)run_dir;
	if (rc < 0) {
		log_error("%s", err.text);
		return rc;
	}
	rc = rescue(&l, words, patience_us);
	free(l.mark);
	xen_host_close(l.host);
	return rc;
}
