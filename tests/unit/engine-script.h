/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A role's machine under a script: events in, actions out, in virtual time.
 *
 * The environment of engine/env.h is replaced: time stands still until a test
 * moves it, timers fire in order, and every action becomes a line of text that
 * expect() compares.  Heartbeats are counted instead, for they come in
 * between everywhere.  What no machine may do, whatever the script, is
 * asserted on the way: two jobs of the guest's thread at once, a job that was
 * never asked for, an action after the end.
 */
#ifndef TESTS_UNIT_ENGINE_SCRIPT_H
#define TESTS_UNIT_ENGINE_SCRIPT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#include <cmocka.h>

#include "engine/primary.h"
#include "engine/secondary.h"

enum {
	SCRIPT_ACTIONS = 4096,	/* bytes of text between two expect() */
	MS = 1000,		/* in microseconds */
	START_US = 1000 * 1000, /* the clock at the beginning */
	HEARTBEAT_US = 100 * MS,
	LOST_US = 3 * HEARTBEAT_US,
	INTERVAL_US = 50 * MS,
	RETRY_US = 2000 * MS,
};

struct script {
	uint64_t now_us;
	uint64_t timers[ENV_TIMERS];  /* 0: not set */
	char actions[SCRIPT_ACTIONS]; /* "connect; send HELLO" */
	unsigned int heartbeats;
	unsigned int jobs[ENV_JOBS]; /* under way */
	bool cancelled[ENV_JOBS];
	uint64_t capturing; /* the epoch of the CAPTURE under way */
	uint64_t encoding[WIRE_INFLIGHT_MAX]; /* epochs, in order */
	uint64_t applying[WIRE_INFLIGHT_MAX]; /* the same */
	unsigned int over[3];		      /* enum env_epoch_end */
	unsigned int in_flight_max;	      /* most that were ever */
	enum { NO_LINK, CONNECTING, LINK_UP, LINK_CLOSING } link;
	bool finished;
	int exit_status;

	bool is_secondary;
	struct primary primary;
	struct secondary secondary;
};

/* A machine with usual settings; change `cfg` of it before the first event. */
void script_primary(struct script *s);
void script_secondary(struct script *s);

/* The actions since the last call, "; " between them; "" for none. */
#define expect(s, wanted) script_expect(s, wanted, __FILE__, __LINE__)
void script_expect(struct script *s, const char *wanted, const char *file,
		   int line);
#define expect_state(s, wanted) assert_string_equal(script_state(s), wanted)
const char *script_state(const struct script *s);
/* When this timer is due, counted from START_US; 0: it is not set. */
uint64_t due(const struct script *s, enum env_timer t);
/* Now, counted from START_US. */
uint64_t elapsed(const struct script *s);

/* Lets time pass; the timers that are due fire at their time, in order. */
void run_until(struct script *s, uint64_t elapsed_us);
void run_for(struct script *s, uint64_t us);
/* Time passes without a timer being served: the process stood still. */
void stall(struct script *s, uint64_t us);

/* --- events ------------------------------------------------------------- */

void event(struct script *s, const struct event *e);
void simple(struct script *s, enum event_type type);
void link_down(struct script *s, const char *why);
void hello_from(struct script *s, uint16_t version, enum wire_role role,
		uint32_t inflight);
void ack(struct script *s, uint64_t epoch, uint64_t applied);
void bye_with(struct script *s, enum wire_reason reason, const char *text);
void domain_of(struct script *s, const char *name, uint8_t uuid);
void stored(struct script *s, uint64_t epoch, int err, const char *why);
void image_end(struct script *s, int err);

/* A job's end.  It must be under way. */
void done(struct script *s, enum env_job job, uint64_t epoch, int err,
	  const char *text);
void done_guest(struct script *s, enum env_job job, int err,
		enum guest_status guest);
void done_again(struct script *s, bool again);
/* The end of a CAPTURE, by way of epoch_checkpoint() as in the daemon. */
void captured(struct script *s, uint64_t epoch, int err, bool partial);
void captured_down(struct script *s, uint64_t epoch, enum guest_status guest);

/* --- the way to a state ------------------------------------------------- */

void to_syncing(struct script *s);
void to_protected(struct script *s); /* the first capture is under way */
/* A whole epoch: captured, encoded, acknowledged. */
void one_epoch(struct script *s, uint64_t epoch);
/* Nothing but heartbeats from the peer from now on, until this time. */
void run_alive_until(struct script *s, uint64_t elapsed_us);

void to_building(struct script *s);
void to_standby(struct script *s);
void to_lost(struct script *s); /* by a link that broke now */

/* A fresh one for every test. */
int script_setup(void **state);
int script_teardown(void **state);
#define SCRIPT_TEST(f) \
	cmocka_unit_test_setup_teardown(f, script_setup, script_teardown)

#endif
