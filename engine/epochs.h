/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One epoch's way through the primary, as a table of allowed moves:
 *
 *   RUN, SUSPEND, CAPTURE, RESUME, ENCODE, SEND, WAIT_ACK, RELEASE
 *
 * each to the next, and ABORT from each.  An epoch may take several rounds
 * (`partial`): where its dirty pages do not fit the arena, and where those that
 * are dirty already go ahead while the guest still runs (RUN, AHEAD, ENCODE).
 * It goes from SEND to SUSPEND for the next one, and back where the guest did
 * not suspend.
 *
 * An epoch belongs to one thread at a time: the guest's thread up to AHEAD, and
 * from SUSPEND to RESUME (epoch_checkpoint), the event loop's otherwise.
 */
#ifndef ENGINE_EPOCHS_H
#define ENGINE_EPOCHS_H

#include <stdbool.h>
#include <stdint.h>

#include "resume/guest.h"
#include "stream/epoch.h"

#define EPOCH_STATES(X) \
	X(RUN)          \
	X(AHEAD)        \
	X(SUSPEND)      \
	X(CAPTURE)      \
	X(RESUME)       \
	X(ENCODE)       \
	X(SEND)         \
	X(WAIT_ACK)     \
	X(RELEASE)      \
	X(ABORT)

enum epoch_state {
#define X(name) EPOCH_##name,
	EPOCH_STATES(X)
#undef X
		EPOCH_STATE_COUNT
};

struct epoch_run {
	uint64_t number;
	unsigned int state;   /* enum epoch_state */
	bool guest_suspended; /* between a suspend and its resume */
	bool partial;	      /* the last round left dirty pages behind */
	bool waits;	      /* the next round, until one is due */
	bool acknowledged;
	unsigned int rounds; /* but for those that it did not suspend for */
	uint64_t started_us;
	uint64_t span_us; /* since the one before; 0: there is none */
	uint64_t sent_us; /* all of it was on its way */
	/* In all of its rounds so far. */
	uint64_t paused_us;
	uint64_t pages; /* distinct, where each came in two rounds */
	uint64_t ahead_us;
	uint64_t encode_us;
	uint64_t hypercalls;
	uint64_t bytes; /* sent */
};

void epoch_run_start(struct epoch_run *r, uint64_t number, uint64_t now_us);

/* Moves and checks the invariants that hold in the new state. */
void epoch_move(struct epoch_run *r, enum epoch_state to, const char *why);

const char *epoch_state_name(unsigned int state);

/*
 * The suspended guest must run again, whatever it takes: tries more than once
 * and returns the last error.  On the guest's thread.
 */
int epoch_resume(const struct guest_source_ops *ops,
		 struct guest_source *source, enum guest_resume kind);

/* How a round is to be done. */
struct epoch_manner {
	uint64_t suspend_timeout_us;
	enum guest_resume resume;
	/* What goes ahead is a round of its own, and sent at once. */
	bool apart;
	/*
	 * The guest stands still: what it has put out so far belongs to this
	 * epoch, see output_barrier().  An error: the epoch is aborted.  NULL:
	 * nobody waits for that.
	 */
	int (*barrier)(void *arg, uint64_t epoch);
	void *barrier_arg;
};

/*
 * One round, on the guest's thread.
 *
 * SUSPEND to RESUME in one go: between the two the guest stands still, so no
 * other thread is waited for.  Whatever fails, a suspended guest is resumed
 * before this returns.  Ends in RESUME (0) or in ABORT (negative errno, see
 * guest_source_ops.suspend and .capture); in SEND again where a later round's
 * guest did not suspend.
 *
 * The first round of an epoch may end in AHEAD instead (0, and partial),
 * without that the guest was asked.
 */
int epoch_checkpoint(struct epoch_run *r, const struct guest_source_ops *ops,
		     struct guest_source *source, struct epoch *arena,
		     const struct epoch_manner *manner,
		     uint64_t (*now_us)(void));

#endif
