/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The epoch log (`--epoch-log`): one JSON object a line for each epoch that is
 * over, with what every part of it cost.  colod(8) names the fields.
 *
 * The happy path of an epoch:
 *   - begin, then captured and encoded for each round, sent, over;
 *   - the line is written when it is over and its encoder is done, for an
 *     acknowledgement may overtake the encoder's thread.
 * Times come from where the thing happens; this only keeps and subtracts them.
 *
 * Writing never blocks and never fails the caller: a line that the file does
 * not take at once (full disk, full pipe, no reader) is lost.  One warning.
 *
 * On the loop's thread.  NULL for the log is no log.
 */
#ifndef ENGINE_EPOCH_LOG_H
#define ENGINE_EPOCH_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/env.h"
#include "stream/epoch.h"

struct epoch_log;

/*
 * Appends to `path`, which may be a FIFO (with or without a reader) or
 * /dev/fd/N.  0 or a negative errno.
 */
int epoch_log_open(const char *path, struct epoch_log **out);
void epoch_log_close(struct epoch_log *l);

/*
 * Numbers begin anew with every image, and what is left of an epoch before it
 * may come late: `generation` tells the two apart.
 */
struct epoch_id {
	uint64_t number;
	unsigned int generation;
};

/* The checkpoint starts; for every round, only the first counts. */
void epoch_log_begin(struct epoch_log *l, struct epoch_id id,
		     uint64_t started_us);
/* A round was captured, and the guest runs since `resumed_us`. */
void epoch_log_captured(struct epoch_log *l, struct epoch_id id,
			const struct epoch *e, uint64_t resumed_us);
/* A round was encoded by `done_us` into this many bytes. */
void epoch_log_encoded(struct epoch_log *l, struct epoch_id id,
		       const struct epoch *e, uint64_t bytes, uint64_t done_us);
/* The link has taken the epoch's last frame. */
void epoch_log_sent(struct epoch_log *l, struct epoch_id id, uint64_t at_us);

/*
 * The epoch of this number that is not yet over; `why` where it is not
 * acknowledged, `applied` as the peer says.
 */
void epoch_log_over(struct epoch_log *l, uint64_t number,
		    enum env_epoch_end end, const char *why, uint64_t applied,
		    uint64_t at_us);

#endif
