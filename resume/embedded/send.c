/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sending the initial image of an embedded guest.
 *
 * The happy path: tracking starts; all pages that are not zero are sent while
 * the guest runs; it is suspended; what it has written meanwhile is sent once
 * more, then its vCPUs.
 * Failure modes: the reader leaves, `cancel` shuts the socket down, the guest
 * does not suspend or shuts down: the guest is left running, and tracking on,
 * which stop_tracking undoes.
 */
#include "config.h"

#include "resume/embedded/source.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "resume/embedded/image.h"

/* As with libxl, which gives a guest a minute. */
#define SUSPEND_US UINT64_C(60000000)

static bool begin(struct guest_source *s, int fd)
{
	AUTO_LOCK(&s->lock);
	s->image_fd = s->cancelled ? -1 : fd;
	return s->image_fd >= 0;
}

static void end(struct guest_source *s)
{
	AUTO_LOCK(&s->lock);
	s->image_fd = -1;
}

static int send_running(struct guest_source *s, int fd)
{
	const struct embedded *e = &s->guest;
	uint64_t pages = e->ram_bytes / WIRE_PAGE_BYTES;
	int rc = tracker_start(s->tracker);

	if (rc == 0)
		rc = image_put_header(fd, pages, e->control->vcpu_count);
	if (rc == 0)
		rc = image_put_pages(fd, s->memory, pages, NULL);
	return rc;
}

static int send_rest(struct guest_source *s, int fd)
{
	const struct embedded *e = &s->guest;
	int rc;

	memset(s->dirty.bits, 0, s->dirty.words * 8);
	rc = tracker_collect(s->tracker, s->dirty.bits);
	if (rc == 0)
		rc = image_put_pages(fd, s->memory,
				     e->ram_bytes / WIRE_PAGE_BYTES, s->dirty.bits);
	if (rc == 0)
		rc = image_put_end(fd, e->control->vcpu,
				   e->control->vcpu_count);
	return rc;
}

static void explain(struct guest_source *s, int rc, struct guest_error *err)
{
	if (rc == -ECANCELED)
		guest_error_set(err, "sending the image of %s was cancelled",
				s->name);
	else if (rc == -ESHUTDOWN)
		guest_error_set(err, "%s is %s: its image is not complete",
				s->name,
				guest_status_text(embedded_status(&s->guest)));
	else if (rc == -EPIPE)
		guest_error_set(err,
				"the other side stopped reading the image of"
				" %s; its log says why",
				s->name);
	else if (rc == -ETIMEDOUT)
		guest_error_set(err, "%s does not suspend when asked", s->name);
	else
		guest_error_set(err, "sending the image of %s: %s", s->name,
				strerror(-rc));
}

int embedded_send_image(struct guest_source *s, int fd, struct guest_error *err)
{
	int rc = embedded_prepare(s, err);

	if (rc < 0)
		return rc;
	/* Another colod, that did not get the lock, may have cleared it. */
	if (!holder_is_self(s->guest.control->holder))
		embedded_hold(s);
	rc = begin(s, fd) ? send_running(s, fd) : -ECANCELED;
	if (rc == 0)
		rc = embedded_suspend(s, SUSPEND_US);
	if (rc == 0)
		rc = send_rest(s, fd);
	end(s);
	if (rc == 0)
		return 0;
	if (embedded_cancelled(s))
		rc = -ECANCELED;
	embedded_source_resume(s, GUEST_RESUME_FAST);
	explain(s, rc, err);
	return rc;
}
