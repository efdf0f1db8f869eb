/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The secondary's intake: frames of epochs in, verified stores out, on a
 * thread of its own so that decoding never keeps a heartbeat waiting.
 *
 * The happy path:
 *   - intake_put() queues a copy of EPOCH_BEGIN, PAGES, DISK, STATE, EPOCH_END;
 *   - the thread decodes them into a store, and on the event loop `stored`
 *     hands over the verified epoch;
 *   - its taker gives the store back by intake_release(), from any thread.
 * In front of the epochs it takes what the frames of a synchronisation say of
 * the domain's disks: DISKS, DISK_ASK, DISK, and the IMAGE_END behind them.
 * Two stores: one is filled while the other is applied.  Where both are in
 * use, or frames come faster than they are decoded, `pause` asks to stop
 * reading from the link: that is the bound on memory.
 * Failure: the first malformed frame ends the intake with `stored` and an
 * error; everything behind it is dropped.
 */
#ifndef ENGINE_INTAKE_H
#define ENGINE_INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/intake_disks.h"
#include "net/loop.h"
#include "stream/frame.h"
#include "stream/store.h"

struct intake;

struct intake_events {
	/* err 0: `s` is complete and the taker's.  Else *why is one line. */
	void (*stored)(void *arg, int err, const char *why, uint64_t epoch,
		       struct store *s);
	void (*pause)(void *arg, bool paused);
	/* Frames were taken from a paused queue: the peer is not silent. */
	void (*moving)(void *arg);
	/* Frames for the primary, a list by `next`, which are the taker's. */
	void (*answer)(void *arg, struct frame_buf *frames);
	/* An IMAGE_END was put, and the disks are as of the image. */
	void (*imaged)(void *arg, int err, const char *why);
};

struct intake_config {
	uint64_t ram_bytes;
	uint64_t max_gfn;
	bool deltas; /* pages may come as such */
	/*
	 * For two epochs and what is queued in front of them; 0: no limit.
	 * Three eighths each, and a quarter.
	 */
	uint64_t memory_bytes;
	struct intake_disks_config disks;
};

int intake_open(struct loop *loop, const struct intake_config *cfg,
		const struct intake_events *events, void *arg,
		struct intake **out);
/* -ENOMEM, or 0. */
int intake_put(struct intake *in, const struct frame *f);
void intake_release(struct intake *in, struct store *s);
/* What the frames say of the domain's replicated disks. */
struct intake_disks *intake_disks(struct intake *in);
/* Bytes of payload taken so far. */
uint64_t intake_bytes(const struct intake *in);

/* No `stored` follows from here; what is queued is dropped. */
void intake_stop(struct intake *in);
/* After intake_stop(), when every store is released; frees it in time. */
void intake_close(struct intake *in); /* NULL is fine */

#endif
