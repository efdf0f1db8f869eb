/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The secondary's role: build the standby, keep it in step, and decide whether
 * it takes over.
 *
 *   LISTENING -> BUILDING -> STANDBY                   the happy path
 *   STANDBY -> LOST -> FENCING -> ACTIVATING -> ACTIVE the primary is gone
 *              LOST -> WAITING -> ACTIVATING           the operator decides
 *   ... -> DISCARDING -> LISTENING or BUILDING         the standby is removed
 *
 * A standby is activated from LOST, FENCING and WAITING only: that is, never
 * because of what a primary sent, and never while one is connected.  See
 * engine/env.h for the calling rules.
 */
#ifndef ENGINE_SECONDARY_H
#define ENGINE_SECONDARY_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/env.h"

#define SECONDARY_STATES(X)         \
	X(LISTENING, "listening")   \
	X(BUILDING, "building")     \
	X(STANDBY, "standby")       \
	X(LOST, "lost")             \
	X(FENCING, "fencing")       \
	X(WAITING, "waiting")       \
	X(ACTIVATING, "activating") \
	X(ACTIVE, "active")         \
	X(DISCARDING, "discarding") \
	X(ENDED, "ended")

enum secondary_state {
#define X(name, text) SECONDARY_##name,
	SECONDARY_STATES(X)
#undef X
		SECONDARY_STATE_COUNT
};

const char *secondary_state_text(unsigned int state);

struct secondary_config {
	char host[WIRE_NAME_MAX + 1]; /* this host's name, for HELLO */
	uint64_t heartbeat_us;
	unsigned int lost_after;
	unsigned int inflight;
	bool fence;
	bool unsafe_no_fence;
};

struct secondary {
	struct secondary_config cfg;
	struct env env;
	unsigned int state; /* enum secondary_state */
	uint64_t session;

	bool link_up; /* of the primary that was admitted */
	uint64_t alive_us;
	uint64_t primary_session;	/* its HELLO's */
	char domain[WIRE_NAME_MAX + 1]; /* empty: none */
	uint8_t uuid[16];
	char primary_host[WIRE_NAME_MAX + 1];

	bool building; /* the job */
	bool image_complete;
	bool built;
	bool inconsistent;     /* an epoch could not be applied */
	bool fencing;	       /* the job */
	bool rebuild;	       /* DISCARDING: a primary waits to be built for */
	unsigned int applying; /* APPLY jobs under way */
	uint64_t committed;    /* stored and verified */
	uint64_t applied;
	bool stop_asked;
	uint64_t stop_refused_us; /* SIGTERM with a standby that may be all */

	struct secondary_stats {
		uint64_t image_us;    /* when building began */
		uint64_t detected_us; /* when the primary was given up */
		uint64_t activated_us;
		uint64_t last_commit_us;
		uint64_t takeovers;
	} stats;
	char given_up[80]; /* why we ended the connection, until it is down */
	char last_error[WIRE_TEXT_MAX + 160];
};

void secondary_init(struct secondary *s, const struct secondary_config *cfg,
		    const struct env *env);
void secondary_event(struct secondary *s, const struct event *e);

/* Our side of the greeting. */
void secondary_hello(const struct secondary *s, struct hello *h);

/*
 * Whether a primary that has said HELLO may go on.  False: *bye says why.
 */
bool secondary_greet(const struct secondary *s, const struct hello *h,
		     struct bye *bye);

/*
 * A primary that was not taken is the very one whose connection we have: it has
 * given that up, and we have not noticed.  Ends the old connection, so that
 * the next attempt is taken.
 */
void secondary_called_again(struct secondary *s, const struct hello *h);

/* A standby is being removed, and this side will be free after that. */
bool secondary_removes(const struct secondary *s);

/*
 * Whether the primary of this domain is taken now.  True: the caller makes
 * its link the current one and sends EVENT_DOMAIN.  False: *bye says why;
 * WIRE_REASON_FAILED_OVER where the domain runs here.
 */
bool secondary_admit(const struct secondary *s,
		     const struct guest_description *d, struct bye *bye);

#endif
