/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tracking and capturing what an embedded guest writes.
 *
 * The happy path:
 *   - embedded_prepare(), guest running: mapping, bitmaps, all touched;
 *   - embedded_track(), guest suspended: the tracker starts and proves itself;
 *   - embedded_copy_ahead(), guest running: written pages are copied, those
 *     that are written meanwhile once more; or they are left where they are, to
 *     be read by the encoder;
 *   - embedded_capture(), guest suspended: written pages are copied from the
 *     standing mapping, the vCPUs behind them.
 * Failure modes: the tracker does not do what it says: -EIO at the start; a
 * capture fails after written pages were collected: those are lost, and every
 * later capture says -ESTALE.
 */
#include "config.h"

#include "resume/embedded/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/memory.h"
#include "resume/embedded/vcpus.h"
#include "stream/records.h"

static int order_guest(void *arg, enum tracked_order order)
{
	static const char *const words[] = {
		[TRACKED_ARM] = "arm",
		[TRACKED_DISARM] = "disarm",
		[TRACKED_TOUCH] = "touch",
	};
	struct guest_error err;

	return embedded_call(arg, words[order], &err);
}

static int prepare(struct guest_source *s)
{
	struct embedded *e = &s->guest;
	void *at =
		mmap(NULL, e->ram_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE,
		     e->fd[EMBEDDED_FD_MEMORY], 0);

	if (at == MAP_FAILED)
		return -errno;
	s->memory = at;
	if (dirty_open(&s->dirty, (e->ram_bytes / WIRE_PAGE_BYTES + 63) / 64,
		       NULL))
		return -ENOMEM;
	return tracker_open(e->control->tracker, e->pid,
			    e->control->map_address, e->ram_bytes,
			    e->control->written, order_guest, e, &s->tracker);
}

int embedded_prepare(struct guest_source *s, struct guest_error *err)
{
	int rc;

	embedded_release(s);
	rc = prepare(s);
	if (rc < 0) {
		guest_error_set(err, "preparing to track %s: %s", s->name,
				strerror(-rc));
		embedded_release(s);
	}
	return rc;
}

void embedded_release(struct guest_source *s)
{
	if (s->tracker && !embedded_gone(&s->guest))
		tracker_stop(s->tracker);
	tracker_close(s->tracker);
	s->tracker = NULL;
	s->tracking = false;
	if (s->memory)
		munmap((void *)(uintptr_t)s->memory, s->guest.ram_bytes);
	s->memory = NULL;
	dirty_close(&s->dirty);
}

int embedded_track(struct guest_source *s, struct guest_error *err)
{
	const char *why = "it was not prepared";
	int rc = s->tracker && s->suspended ? 0 : -EINVAL;

	if (rc == 0) {
		why = "it cannot be started";
		rc = tracker_start(s->tracker);
	}
	if (rc == 0)
		rc = tracker_prove(s->tracker, &why);
	if (rc < 0) {
		guest_error_set(
			err,
			"what %s writes cannot be tracked by %s: %s"
			" (%s)",
			s->name,
			embedded_tracker_name(s->guest.control->tracker), why,
			strerror(-rc));
		return rc;
	}
	dirty_reset(&s->dirty);
	s->stale = false;
	s->tracking = true;
	return 0;
}

static bool put_page(void *arg, struct epoch *e, uint64_t gfn)
{
	const struct guest_source *s = arg;

	return epoch_put(e, gfn, s->memory + gfn * WIRE_PAGE_BYTES);
}

static bool refer_page(void *arg, struct epoch *e, uint64_t gfn)
{
	const struct guest_source *s = arg;

	return epoch_refer(e, gfn, s->memory + gfn * WIRE_PAGE_BYTES);
}

static int collect(struct guest_source *s)
{
	int rc = tracker_collect(s->tracker, s->dirty.bits);

	if (rc < 0) {
		log_error("%s: asking for the written pages: %s", s->name,
			  strerror(-rc));
		s->stale = true;
	}
	return rc;
}

/* What is written while some are copied is little; what is written then, less.
 */
enum { AHEAD_ROUNDS = 3, AHEAD_WORTH = 256 };

void embedded_copy_ahead(struct guest_source *s, struct epoch *e, bool apart)
{
	size_t copied = AHEAD_WORTH;

	if (!s->tracking || s->stale || !dirty_worth(&s->dirty) ||
	    !tracker_runs_along(s->tracker))
		return;
	for (int i = 0; i < AHEAD_ROUNDS && copied >= AHEAD_WORTH; i++) {
		if (collect(s) < 0)
			return;
		copied = dirty_copy_ahead(&s->dirty, e, apart,
					  apart ? refer_page : put_page, s);
	}
}

static int take_vcpus(const struct guest_source *s, struct epoch *e)
{
	struct cursor c = cursor_over(e->state, e->state_capacity);
	const struct embedded_control *page = s->guest.control;
	uint8_t *body = record_put(&c, WIRE_RECORD_COLOD_VCPUS,
				   vcpus_record_bytes(page->vcpu_count));
	int fault = fault_at(FAULT_MID_CAPTURE);

	if (fault)
		return fault;
	if (!body)
		return -E2BIG;
	vcpus_encode(page->vcpu, page->vcpu_count, body);
	e->state_bytes = e->state_capacity - cursor_left(&c);
	return 0;
}

int embedded_capture(struct guest_source *s, struct epoch *e)
{
	uint64_t t0 = clock_now_us(), t1, t2;
	int rc;

	if (!s->tracking || !s->suspended)
		return -EINVAL;
	if (s->stale)
		return -ESTALE;
	rc = collect(s);
	if (rc < 0)
		return rc;
	t1 = clock_now_us();
	dirty_copy(&s->dirty, e, put_page, s);
	t2 = clock_now_us();
	rc = take_vcpus(s, e);
	e->times.scan_us = t1 - t0;
	e->times.copy_us = t2 - t1;
	e->times.state_us = clock_now_us() - t2;
	if (rc < 0)
		s->stale = true;
	else
		dirty_captured(&s->dirty, e);
	return rc;
}
