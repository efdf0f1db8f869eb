/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/epochs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "engine/moves.h"

static const char *const names[] = {
#define X(name) [EPOCH_##name] = #name,
	EPOCH_STATES(X)
#undef X
};

static const uint32_t allowed[EPOCH_STATE_COUNT] = {
	[EPOCH_RUN] = MOVE_TO(EPOCH_AHEAD) | MOVE_TO(EPOCH_SUSPEND) |
		      MOVE_TO(EPOCH_ABORT),
	[EPOCH_AHEAD] = MOVE_TO(EPOCH_ENCODE) | MOVE_TO(EPOCH_ABORT),
	[EPOCH_SUSPEND] = MOVE_TO(EPOCH_CAPTURE) | MOVE_TO(EPOCH_SEND) |
			  MOVE_TO(EPOCH_ABORT),
	[EPOCH_CAPTURE] = MOVE_TO(EPOCH_RESUME) | MOVE_TO(EPOCH_ABORT),
	[EPOCH_RESUME] = MOVE_TO(EPOCH_ENCODE) | MOVE_TO(EPOCH_ABORT),
	[EPOCH_ENCODE] = MOVE_TO(EPOCH_SEND) | MOVE_TO(EPOCH_ABORT),
	[EPOCH_SEND] = MOVE_TO(EPOCH_WAIT_ACK) | MOVE_TO(EPOCH_SUSPEND) |
		       MOVE_TO(EPOCH_ABORT),
	[EPOCH_WAIT_ACK] = MOVE_TO(EPOCH_RELEASE) | MOVE_TO(EPOCH_ABORT),
};

static const struct move_table table = {
	.machine = "epoch",
	.names = names,
	.allowed = allowed,
	.states = EPOCH_STATE_COUNT,
	.level = LOG_LEVEL_DEBUG,
};

const char *epoch_state_name(unsigned int state)
{
	return state < EPOCH_STATE_COUNT ? names[state] : "?";
}

void epoch_run_start(struct epoch_run *r, uint64_t number, uint64_t now_us)
{
	*r = (struct epoch_run){ .number = number, .started_us = now_us };
}

/* design.md section 4, as far as one epoch can break it. */
static void check(const struct epoch_run *r)
{
	INVARIANT(r->guest_suspended == (r->state == EPOCH_CAPTURE),
		  "an epoch's guest is suspended in CAPTURE and only there");
	INVARIANT(r->state != EPOCH_WAIT_ACK || !r->partial,
		  "a partial epoch is never offered for acknowledgement");
	INVARIANT(r->state != EPOCH_RELEASE || r->acknowledged,
		  "nothing is released before it is acknowledged");
}

void epoch_move(struct epoch_run *r, enum epoch_state to, const char *why)
{
	char subject[24];

	snprintf(subject, sizeof(subject), "%" PRIu64, r->number);
	move(&table, &r->state, to, subject, "%s", why ? why : "");
	check(r);
}

int epoch_resume(const struct guest_source_ops *ops,
		 struct guest_source *source, enum guest_resume kind)
{
	int err = -EIO, tries;

	for (tries = 0; tries < 3 && err; tries++) {
		err = fault_at(FAULT_BEFORE_RESUME);
		if (!err)
			err = ops->resume(source, kind);
	}
	return err;
}

/* Pages of it are with the peer, and it goes on from there: later, or never. */
static int not_suspended(struct epoch_run *r, int err)
{
	r->rounds--;
	epoch_move(r, r->rounds ? EPOCH_SEND : EPOCH_ABORT, strerror(-err));
	return err;
}

/* True: that was a round. */
static bool copy_ahead(struct epoch_run *r, const struct guest_source_ops *ops,
		       struct guest_source *source, struct epoch *arena,
		       bool apart, uint64_t (*now_us)(void))
{
	uint64_t started = now_us();

	if (!ops->copy_ahead || !arena->index)
		return false;
	ops->copy_ahead(source, arena, apart);
	arena->times.ahead_us = now_us() - started;
	r->ahead_us += arena->times.ahead_us;
	if (!apart || !arena->page_count)
		return false;
	r->rounds++;
	r->pages = arena->page_count;
	r->partial = arena->partial = true;
	epoch_move(r, EPOCH_AHEAD, NULL);
	return true;
}

int epoch_checkpoint(struct epoch_run *r, const struct guest_source_ops *ops,
		     struct guest_source *source, struct epoch *arena,
		     const struct epoch_manner *manner,
		     uint64_t (*now_us)(void))
{
	uint64_t asked, suspended, captured;
	int err, resume_err;

	epoch_clear(arena);
	arena->number = r->number;
	if (copy_ahead(r, ops, source, arena, manner->apart && !r->rounds,
		       now_us))
		return 0;
	asked = now_us();
	r->rounds++;
	epoch_move(r, EPOCH_SUSPEND, NULL);
	err = ops->suspend(source, manner->suspend_timeout_us);
	suspended = now_us();
	if (err)
		return not_suspended(r, err);
	r->guest_suspended = true;
	epoch_move(r, EPOCH_CAPTURE, NULL);
	err = fault_at(FAULT_AFTER_SUSPEND);
	if (!err)
		err = ops->capture(source, arena);
	if (!err && manner->barrier)
		err = manner->barrier(manner->barrier_arg, r->number);
	captured = now_us();
	resume_err = epoch_resume(ops, source, manner->resume);
	arena->times.suspend_us = suspended - asked;
	arena->times.resume_us = now_us() - captured;
	arena->times.paused_us = now_us() - suspended;
	r->paused_us += arena->times.paused_us;
	r->pages += arena->page_count - arena->again_count;
	r->guest_suspended = false;
	/* Its pages count as taken: no other epoch would have them. */
	if (!err && resume_err)
		err = resume_err == -ESHUTDOWN ? resume_err : -EIO;
	if (!err)
		err = fault_at(FAULT_AFTER_RESUME);
	if (err) {
		epoch_move(r, EPOCH_ABORT, strerror(-err));
		return err;
	}
	r->partial = arena->partial;
	epoch_move(r, EPOCH_RESUME, NULL);
	return 0;
}
