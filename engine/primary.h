/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's role: reach the secondary, synchronise, run epochs, and decide
 * what becomes of the guest's protection when something fails.
 *
 *   CONNECTING -> SYNCING -> PROTECTED          the happy path
 *   ... -> LOST -> FENCING -> UNPROTECTED       the secondary is gone;
 *          UNPROTECTED -> CONNECTING            tried again for ever
 *   ... -> LOST -> (FENCING) -> WAITING         nobody knows; the operator
 *          WAITING -> UNPROTECTED, CONNECTING   decides, or it comes back
 *   ... -> ENDING -> ENDED                      the operator, or the guest
 *   ... -> YIELDING -> ENDED                    the guest runs over there
 *
 * The guest runs on in every state, unless it is YIELDING.  Its output is held
 * from the image on, as long as a standby may exist that could take over;
 * where it has no gate, there is nothing to wait for either, and LOST leads to
 * UNPROTECTED.  See engine/env.h for the calling rules.
 */
#ifndef ENGINE_PRIMARY_H
#define ENGINE_PRIMARY_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/env.h"
#include "engine/epochs.h"
#include "engine/pace.h"

#define PRIMARY_STATES(X)             \
	X(START, "start")             \
	X(CONNECTING, "connecting")   \
	X(SYNCING, "syncing")         \
	X(PROTECTED, "protected")     \
	X(LOST, "lost")               \
	X(FENCING, "fencing")         \
	X(WAITING, "waiting")         \
	X(UNPROTECTED, "unprotected") \
	X(ENDING, "ending")           \
	X(YIELDING, "yielding")       \
	X(ENDED, "ended")

enum primary_state {
#define X(name, text) PRIMARY_##name,
	PRIMARY_STATES(X)
#undef X
		PRIMARY_STATE_COUNT
};

const char *primary_state_text(unsigned int state);

struct primary_config {
	char domain[WIRE_NAME_MAX + 1];
	char peer[300];		      /* host:port, for the log */
	char host[WIRE_NAME_MAX + 1]; /* this host's name, for HELLO */
	struct pace_config pace;
	uint64_t heartbeat_us;
	unsigned int lost_after; /* heartbeats missed */
	unsigned int inflight;	 /* epochs captured and not acknowledged */
	bool fence;		 /* a fence command is configured */
	bool unsafe_no_fence;
	bool gate;	   /* the guest has one */
	bool gate_held;	   /* and an earlier colod left it holding */
	uint64_t retry_us; /* between attempts to reach the secondary */
	/* What is sent at --max-rate, but not yet on the wire, takes as long.
	 */
	uint64_t wire_us;
	/* A peer that lives has to acknowledge, or take more; 0: for ever. */
	uint64_t ack_timeout_us;
};

struct primary {
	struct primary_config cfg;
	struct env env;
	unsigned int state; /* enum primary_state */
	uint64_t session;   /* ours, in HELLO */

	bool link;	    /* from the attempt to make it until it is down */
	bool greeted;	    /* the peer's HELLO was accepted */
	bool was_protected; /* ever: from then on failures are retried */
	bool standby_may_exist;	 /* on the peer: arbitration is needed */
	bool standby_before;	 /* the same, before this connection's image */
	bool resync_asked;	 /* the connection ends because we want it to */
	bool farewell;		 /* our BYE is sent, the answer awaited */
	bool gate_closed;	 /* output waits for its epoch, or longer */
	bool waiting;		 /* arbitration has left it undecided */
	bool peer_down_said;	 /* by the operator, during a fence command */
	uint64_t alive_us;	 /* last sign of life of the peer */
	uint64_t grace_until_us; /* LOST: its time to come back */
	bool peer_busy;		 /* it lives, but does not take us (yet) */

	/* Jobs under way: what may not be started before they end. */
	bool syncing;
	bool capturing;
	bool looking;	       /* ENV_JOB_STATUS */
	unsigned int encoding; /* ENCODE jobs not yet done */
	bool fencing;

	bool synced;	    /* the image is sent, tracking is on */
	bool blocked;	    /* the image waits for the peer to take more */
	uint64_t moved_us;  /* when the last of image or epoch was */
	bool standby_ready; /* ACK of epoch 0 */

	/* Epochs: [0] is the oldest not acknowledged, then in order. */
	struct epoch_run epochs[WIRE_INFLIGHT_MAX];
	unsigned int epoch_count;
	unsigned int peer_inflight; /* what the peer allows, from HELLO */
	uint64_t next_epoch;
	struct pace pace;
	uint64_t turn_us;     /* when the last checkpoint started */
	uint64_t next_due_us; /* and the next one should */
	bool epoch_due;	      /* it was due and could not start yet */
	unsigned int skipped_in_a_row;
	uint64_t late_until_us; /* a suspend may still come: look for it */

	/* The way through YIELDING and ENDING, see wind_up(). */
	enum primary_wind {
		WIND_JOBS, /* wait for the jobs under way */
		WIND_YIELD,
		WIND_RELEASE,
		WIND_AFTER_SHUTDOWN,
		WIND_LINK, /* wait for the connection to end */
	} wind;
	bool wind_job; /* the job of this stage is under way */
	bool yielded;
	bool guest_down;  /* it ended by itself: see to what comes after */
	bool guest_again; /* its configuration made it run anew */
	bool stop_asked;
	int exit_status;

	struct primary_stats {
		uint64_t captured;     /* epochs, with all their rounds */
		uint64_t acknowledged; /* epochs */
		uint64_t number;  /* of the last one, since the last image */
		uint64_t applied; /* the same on the standby, as told */
		uint64_t skipped; /* the guest did not suspend, for: */
		uint64_t skipped_unanswered; /* not acknowledged */
		uint64_t skipped_late;	     /* acknowledged, not in time */
		uint64_t skipped_busy;	     /* somebody else's request */
		uint64_t skipped_devices;    /* not connected (again) yet */
		uint64_t skipped_model;	     /* it did not do its part */
		uint64_t stretched;	     /* checkpoints that had to wait */
		uint64_t synchronisations;
		uint64_t losses;	 /* times that protection was lost */
		uint64_t last_ack_us;	 /* when; 0: never */
		uint64_t last_commit_us; /* start of the epoch to its ack */
		uint64_t protected_since_us;
	} stats;
	char peer_said[WIRE_TEXT_MAX + 160];  /* why the connection ends */
	char last_error[WIRE_TEXT_MAX + 160]; /* for status; empty: none */
};

void primary_init(struct primary *p, const struct primary_config *cfg,
		  const struct env *env);
/* It has got what two of it must not share: from now on as with cfg.gate. */
void primary_gated(struct primary *p);
void primary_event(struct primary *p, const struct event *e);

/*
 * The link has taken more of what was queued.  Nothing follows from it, so it
 * may be said at any time, also from within an action.
 */
void primary_moved(struct primary *p);

/*
 * The epoch an ENV_JOB_CAPTURE or ENV_JOB_ENCODE is about; NULL where it has
 * been aborted meanwhile.
 */
struct epoch_run *primary_epoch(struct primary *p, uint64_t number);

#endif
