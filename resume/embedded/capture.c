/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tracking and capturing what an embedded guest writes.
 *
 * The happy path:
 *   - embedded_prepare(), guest running: mapping, bitmaps, all touched;
 *   - embedded_track(), guest suspended: the tracker starts and proves itself;
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
	s->words = (e->ram_bytes / WIRE_PAGE_BYTES + 63) / 64;
	s->bits = memory_touched(s->words * 8);
	s->carry = memory_touched(s->words * 8);
	if (!s->bits || !s->carry)
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
	free(s->bits);
	free(s->carry);
	s->bits = s->carry = NULL;
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
	memset(s->bits, 0, s->words * 8);
	memset(s->carry, 0, s->words * 8);
	s->next_word = 0;
	s->stale = false;
	s->tracking = true;
	return 0;
}

/* Copies one word's pages; returns the bits for which there was no room. */
static uint64_t take_word(const struct guest_source *s, struct epoch *e,
			  size_t w, uint64_t dirty)
{
	uint64_t gfn;

	for (; dirty; dirty &= dirty - 1) {
		if (e->page_count == e->page_capacity)
			return dirty;
		gfn = w * 64 + (uint64_t)__builtin_ctzll(dirty);
		memcpy(e->pages + e->page_count * WIRE_PAGE_BYTES,
		       s->memory + gfn * WIRE_PAGE_BYTES, WIRE_PAGE_BYTES);
		e->gfns[e->page_count++] = gfn;
	}
	return 0;
}

/* Goes on where the last capture ran out of room, so that no page starves. */
static void copy_dirty(struct guest_source *s, struct epoch *e)
{
	size_t w = s->next_word;
	uint64_t dirty;

	e->page_count = 0;
	e->partial = false;
	for (size_t i = 0; i < s->words; i++) {
		dirty = s->bits[w] | s->carry[w];
		if (dirty) {
			s->bits[w] = 0;
			s->carry[w] = take_word(s, e, w, dirty);
			if (s->carry[w] && !e->partial) {
				e->partial = true;
				s->next_word = w;
			}
		}
		if (++w == s->words)
			w = 0;
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
	rc = tracker_collect(s->tracker, s->bits);
	if (rc < 0) {
		log_error("%s: asking for the written pages: %s", s->name,
			  strerror(-rc));
		s->stale = true;
		return rc;
	}
	t1 = clock_now_us();
	copy_dirty(s, e);
	t2 = clock_now_us();
	rc = take_vcpus(s, e);
	e->times.scan_us = t1 - t0;
	e->times.copy_us = t2 - t1;
	e->times.state_us = clock_now_us() - t2;
	if (rc < 0)
		s->stale = true;
	return rc;
}
