/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PV domain as source (see source.h).
 *
 * The happy path:
 *   - image, tracked: libxenguest's own live save up to its first checkpoint,
 *     with an end behind it;
 *   - image, by a full scan: suspended once to copy all of it, which runs on
 *     while that copy is sent; suspended again, what changed meanwhile follows.
 *     A stream with two checkpoints and an end;
 *   - capture: scan.h.
 * Failure modes: the reader leaves or `cancel' comes, seen between batches of
 * pages; the guest is resumed.
 */
#include "config.h"

#include "resume/xen/pv/source.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "resume/xen/pv/scan.h"
#include "stream/records.h"

/* As long as libxl waits for the other kinds. */
#define SUSPEND_US UINT64_C(60000000)

static bool take_all(void *arg, const struct pv_page *p)
{
	(void)p;
	++*(uint64_t *)arg;
	return true;
}

static bool write_on(void *arg, const struct pv_page *p)
{
	pv_write_page(arg, p);
	return true;
}

static bool is_cancelled(void *arg)
{
	return xen_source_cancelled(arg);
}

static int suspend(struct guest_source *s)
{
	int rc = xen_source_suspend(s, SUSPEND_US);

	s->pv_pages = s->state.tot_pages;
	return rc;
}

static int suspend_it(void *arg)
{
	return suspend(arg);
}

static int copy_all(struct guest_source *s)
{
	uint64_t start_us = clock_now_us(), pages = 0, left;
	int rc = suspend(s), resumed;

	if (rc < 0)
		return rc;
	rc = pv_scan_run(s->scan, take_all, &pages, &left);
	resumed = xen_source_resume(s);
	log_info("%s: it stood still for its first copy, %llu pages; with the"
		 " suspend this took %llu ms",
		 s->name, (unsigned long long)pages,
		 (unsigned long long)(clock_now_us() - start_us) / 1000);
	return rc < 0 ? rc : resumed;
}

static void end_checkpoint(struct guest_source *s, struct pv_writer *w)
{
	pv_scan_write_state(s->scan, w);
	pv_write_record(w, PV_CHECKPOINT, NULL, 0);
}

static int end_image(struct guest_source *s, struct pv_writer *w)
{
	end_checkpoint(s, w);
	pv_write_record(w, PV_END, NULL, 0);
	return pv_writer_flush(w);
}

static int write_rest(struct guest_source *s, struct pv_writer *w)
{
	uint64_t left;
	int rc = suspend(s);

	if (rc == 0)
		rc = pv_scan_run(s->scan, write_on, w, &left);
	return rc < 0 ? rc : end_image(s, w);
}

static int write_tracked(struct guest_source *s, struct pv_writer *w)
{
	int rc = pv_scan_live(s->scan, w, suspend_it, s);

	return rc < 0 ? rc : end_image(s, w);
}

static int write_image(struct guest_source *s, struct pv_writer *w)
{
	int rc;

	if (!s->manner.full_scan)
		return write_tracked(s, w);
	rc = copy_all(s);
	if (rc < 0)
		return rc;
	pv_scan_write_header(s->scan, w);
	rc = pv_scan_write_pages(s->scan, w, is_cancelled, s);
	if (rc < 0)
		return rc;
	end_checkpoint(s, w);
	return write_rest(s, w);
}

static void set_image_fd(struct guest_source *s, int fd)
{
	pthread_mutex_lock(&s->lock);
	s->image_fd = s->cancelled ? -1 : fd;
	pthread_mutex_unlock(&s->lock);
}

static int run(struct guest_source *s, int fd)
{
	struct pv_writer *w = pv_writer_new(fd);
	int rc = -ENOMEM;

	set_image_fd(s, fd);
	if (w)
		rc = s->image_fd < 0 ? -ECANCELED : write_image(s, w);
	set_image_fd(s, -1);
	pv_writer_free(w);
	return rc;
}

int xen_pv_send_image(struct guest_source *s, int fd, struct guest_error *err)
{
	int rc = xen_source_prepare_image(s, err);

	/* It suspends the guest in its own way, whose marks are its own. */
	xen_source_mark(s, XEN_MARK_IDLE);
	if (rc < 0)
		return rc;
	rc = run(s, fd);
	if (rc == 0)
		return 0;
	pv_scan_stop(s->scan); /* it may be about to suspend it */
	xen_source_resume(s);
	if (xen_source_cancelled(s))
		rc = -ECANCELED;
	guest_error_set(err, "the image of %s could not be sent: %s", s->name,
			rc == -EPIPE ? "the other side stopped reading it; its"
				       " log says why"
				     : strerror(-rc));
	return rc;
}

int xen_pv_track(struct guest_source *s, struct guest_error *err)
{
	int rc = xen_source_subscribe(s);

	if (rc < 0) {
		guest_error_set(err, "Xen does not tell of suspends of %s: %s",
				s->name, strerror(-rc));
		return rc;
	}
	s->tracking = true;
	s->stale = false;
	return 0;
}

static bool into_epoch(void *arg, const struct pv_page *p)
{
	return epoch_put(arg, p->pfn, p->bytes);
}

static int put_state(struct guest_source *s, struct epoch *e)
{
	const size_t head = sizeof(struct wire_record_header), pad = 8;
	struct cursor c = cursor_over(e->state, e->state_capacity);
	size_t n;

	n = pv_scan_state(s->scan, e->state + head,
			  e->state_capacity - head - pad);
	if (!n || !record_put(&c, WIRE_RECORD_COLOD_PV, (uint32_t)n))
		return -E2BIG;
	e->state_bytes = e->state_capacity - cursor_left(&c);
	return 0;
}

static int check(struct guest_source *s)
{
	if (!s->stale && s->state.tot_pages == s->pv_pages)
		return 0;
	if (!s->stale)
		log_info("%s: its memory changed (%llu pages, %llu before)",
			 s->name, (unsigned long long)s->state.tot_pages,
			 (unsigned long long)s->pv_pages);
	s->stale = true;
	return -ESTALE;
}

int xen_pv_capture(struct guest_source *s, struct epoch *e)
{
	uint64_t t0 = clock_now_us(), t1, left;
	int rc;

	if (!s->tracking || !s->suspended)
		return -EINVAL;
	rc = check(s);
	if (rc < 0)
		return rc;
	rc = pv_scan_run(s->scan, into_epoch, e, &left);
	t1 = clock_now_us();
	if (rc == 0)
		rc = put_state(s, e);
	if (rc == 0)
		rc = xen_source_stood(s);
	if (rc < 0) {
		s->stale = true;
		return rc;
	}
	e->partial = left > 0;
	e->times.scan_us = t1 - t0;
	e->times.copy_us = 0;
	e->times.state_us = clock_now_us() - t1;
	return 0;
}
