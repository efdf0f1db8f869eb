/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The initial image, written by libxl so that libxl can restore it.
 *
 * The happy path:
 *   - the mark is set: from here on a rescue acts on this domain;
 *   - memory is mapped and the event channel bound while the guest runs, to
 *     keep its pause at the end short;
 *   - libxl_domain_suspend(LIVE) sends memory in rounds, suspends the guest,
 *     sends the rest; it leaves the guest suspended.
 * Failure modes: the reader leaves, `cancel` shuts the socket down, the guest
 * does not suspend within libxl's 60 s, or it shuts down meanwhile.  libxl
 * leaves a request or a suspended guest behind in some of them, so everything
 * is put back by looking at what is, not by what failed.
 */
#include "config.h"

#include "resume/xen/source.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "resume/xen/able.h"
#include "resume/xen/lead.h"

#define LIBXL_PATIENCE_US UINT64_C(60000000)
#define DEVICES_US UINT64_C(70000000) /* see coming.h */

/*
 * libxl writes to the socket with write(2), here as well as in its helper: a
 * reader that leaves must not end colod.
 */
static void block_sigpipe(sigset_t *old)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, old);
}

static void unblock_sigpipe(const sigset_t *old)
{
	const struct timespec none = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	if (!sigismember(old, SIGPIPE))
		while (sigtimedwait(&set, NULL, &none) < 0 && errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, old, NULL);
}

/* Sees every change of control/shutdown while libxl is at work. */
static struct xs_handle *watch_requests(struct guest_source *s)
{
	struct xs_handle *xs = xs_open(0);
	char path[64];

	snprintf(path, sizeof(path), "/local/domain/%u/control/shutdown",
		 s->domid);
	if (xs && !xs_watch(xs, path, "request")) {
		xs_close(xs);
		return NULL;
	}
	return xs;
}

/* Whether the node changed; the first event only says that we watch it. */
static bool requests_seen(struct xs_handle *xs)
{
	struct pollfd p = { .fd = xs_fileno(xs), .events = POLLIN };
	unsigned int events = 0;
	char **event;

	while (poll(&p, 1, 0) > 0 && (event = xs_check_watch(xs))) {
		free(event);
		events++;
	}
	return events > 1;
}

/*
 * Whether libxl may have asked the guest to suspend and left it at that.  Of an
 * event that it has sent nothing can be seen, but it waits 60 s for the guest
 * to follow (libxl_dom_suspend.c), whatever happens to the socket meanwhile.
 */
static bool may_be_asked(struct guest_source *s, struct xs_handle *requests,
			 uint64_t begun_us)
{
	if (!requests || requests_seen(requests))
		return true;
	return clock_now_us() - begun_us >= LIBXL_PATIENCE_US &&
	       xen_request_offered(s->host, s->domid) != 0;
}

/*
 * The guest is suspended.  One that libxl cannot ask it stops where it is
 * (libxl_dom_suspend.c, domain_suspend_callback_common()).
 */
static void taken_by_libxl(struct guest_source *s)
{
	s->suspended = true;
	s->was_suspended = true;
	s->forced = s->emulated && !xen_takes_events(s->host, s->domid);
	if (s->model)
		xen_model_was_stopped(s->model);
}

/* After a failure: the guest runs, or will be resumed should it suspend. */
static void put_back(struct guest_source *s, bool asked)
{
	int withdrawn = xen_withdraw(s->host, s->domid);

	if (xen_query(s->host, s->domid, &s->state) == 0 &&
	    s->state.status == GUEST_SUSPENDED) {
		taken_by_libxl(s);
		xen_source_resume(s);
	} else if (s->emulated && s->state.status == GUEST_RUNNING &&
		   !xen_takes_events(s->host, s->domid)) {
		/* As in give_up_forced(). */
		xen_resume_plain(s->host, s->domid);
		xen_source_mark(s, XEN_MARK_IDLE);
	} else if (asked && withdrawn != 1) {
		s->late_until_us = clock_now_us() + XEN_LATE_US;
		xen_source_mark(s, XEN_MARK_ASKED);
	} else {
		xen_source_mark(s, XEN_MARK_IDLE);
	}
	xen_source_unsubscribe(s); /* libxl leaves its own behind */
	xc_shadow_control(s->host->xc, s->domid, XEN_DOMCTL_SHADOW_OP_OFF, NULL,
			  0);
}

static int failure(struct guest_source *s, int fd, struct guest_error *err)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	if (xen_source_cancelled(s)) {
		guest_error_set(err, "sending the image of %s was cancelled",
				s->name);
		return -ECANCELED;
	}
	if (s->state.status != GUEST_RUNNING &&
	    s->state.status != GUEST_SUSPENDED) {
		guest_error_set(err, "%s is %s: its image is not complete",
				s->name, guest_status_text(s->state.status));
		return -ESHUTDOWN;
	}
	if (poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP))) {
		guest_error_set(err,
				"the other side stopped reading the image"
				" of %s; its log says why",
				s->name);
		return -EPIPE;
	}
	guest_error_set(err, "libxl could not send the image of %s: %s",
			s->name, xen_host_why(s->host).text);
	return -EIO;
}

static int run_libxl(struct guest_source *s, int fd, struct guest_error *err)
{
	libxl_ctx *ctx = xen_host_libxl(s->host, err);
	struct xen_lead_relay *relay;
	sigset_t old;
	int rc, passed;

	if (!ctx)
		return -EIO;
	pthread_mutex_lock(&s->lock);
	s->image_fd = s->cancelled ? -1 : fd;
	pthread_mutex_unlock(&s->lock);
	if (s->image_fd < 0)
		return -ECANCELED;
	block_sigpipe(&old);
	rc = xen_lead_relay_start(fd, &relay);
	if (rc == 0) {
		rc = libxl_domain_suspend(ctx, s->domid,
					  xen_lead_relay_fd(relay),
					  LIBXL_SUSPEND_LIVE, NULL);
		passed = xen_lead_relay_finish(relay);
		if (rc == 0)
			rc = passed;
	}
	unblock_sigpipe(&old);
	pthread_mutex_lock(&s->lock);
	s->image_fd = -1;
	pthread_mutex_unlock(&s->lock);
	return rc ? -EIO : 0;
}

int xen_source_prepare_image(struct guest_source *s, struct guest_error *err)
{
	int rc = 0;

	/* It may have loaded drivers since. */
	if (s->manner.ask == GUEST_ASK_TOOLSTACK)
		rc = xen_able(s, true, err);
	if (rc < 0)
		return rc;
	rc = xen_source_mark(s, XEN_MARK_IMAGE);
	if (rc == 0)
		rc = xen_source_bind(s);
	if (rc == 0)
		rc = xen_source_prepare(s);
	if (rc == 0)
		rc = xen_source_prepare_slow(s);
	/* libxl would wait a minute for a guest that cannot freeze yet. */
	if (rc == 0)
		rc = xen_source_await_devices(s, clock_now_us() + DEVICES_US);
	if (rc < 0)
		guest_error_set(err, "preparing to track %s: %s (%s)", s->name,
				strerror(-rc), xen_host_why(s->host).text);
	return rc;
}

int xen_source_send_image(struct guest_source *s, int fd,
			  struct guest_error *err)
{
	uint64_t begun_us = clock_now_us();
	struct xs_handle *requests;
	bool asked;
	int rc = xen_source_prepare_image(s, err);

	if (rc < 0) {
		xen_source_mark(s, XEN_MARK_IDLE);
		return rc;
	}
	requests = watch_requests(s);
	xen_offer_check(s);
	rc = run_libxl(s, fd, err);
	asked = may_be_asked(s, requests, begun_us);
	if (requests)
		xs_close(requests);
	if (rc == 0)
		rc = xen_query(s->host, s->domid, &s->state);
	if (rc == 0 && s->state.status == GUEST_SUSPENDED) {
		taken_by_libxl(s);
		rc = xen_source_check_devices(s);
		if (rc < 0)
			guest_error_set(err,
					"%s began to connect a device"
					" meanwhile",
					s->name);
		return rc;
	}
	put_back(s, asked);
	return failure(s, fd, err);
}
