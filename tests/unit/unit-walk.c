/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both roles on random walks: events that an environment could send, in any
 * order, whatever sense they make.  The oracles are the machines' own
 * invariants, which abort, what engine-script.c asserts of actions, and that
 * from wherever a walk has led, the operator can stop it.
 *
 * COLOD_WALK_SEED and COLOD_WALKS choose other walks, and more of them;
 * COLOD_WALK_LOG names a file for what the machines say.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "tests/unit/engine-script.h"

enum { WALKS = 2000, STEPS = 150 };

static uint64_t random_state;
static bool seen[2][32]; /* states, of the primary and the secondary */

/* Marsaglia's xorshift64. */
static unsigned int any(unsigned int below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned int)((random_state >> 32) % below);
}

static bool one_in(unsigned int n)
{
	return any(n) == 0;
}

static const enum wire_reason reasons[] = {
#define X(number, name, text) WIRE_REASON_##name,
	WIRE_REASONS(X)
#undef X
};

static enum guest_status any_status(void)
{
	return one_in(3) ? (enum guest_status)any(GUEST_GONE + 1)
			 : GUEST_RUNNING;
}

static void end_capture(struct script *s, uint64_t epoch)
{
	static const int errors[] = { -ETIMEDOUT, -ESTALE, -EIO };

	if (one_in(20))
		captured_down(s, epoch, any_status());
	else if (one_in(6))
		captured(s, epoch, errors[any(3)], false);
	else
		captured(s, epoch, 0, one_in(4));
}

/* One of the jobs under way ends, one way or another; false: there is none. */
static bool end_a_job(struct script *s)
{
	unsigned int job = any(ENV_JOBS), i;
	int err = one_in(5) ? -EIO : 0;

	for (i = 0; i < ENV_JOBS && !s->jobs[job]; i++)
		job = (job + 1) % ENV_JOBS;
	if (!s->jobs[job])
		return false;
	switch (job) {
	case ENV_JOB_CAPTURE:
		end_capture(s, s->capturing);
		break;
	case ENV_JOB_ENCODE:
		done(s, job, s->encoding[0],
		     s->link == LINK_UP ? err : -ECANCELED, NULL);
		break;
	case ENV_JOB_SYNC:
		if (one_in(10))
			done_guest(s, job, -ESHUTDOWN, any_status());
		else
			done(s, job, 0, s->cancelled[job] ? -ECANCELED : err,
			     NULL);
		break;
	case ENV_JOB_STATUS:
		done_guest(s, job, 0, any_status());
		break;
	case ENV_JOB_AFTER_SHUTDOWN:
		done_again(s, one_in(2));
		break;
	case ENV_JOB_APPLY:
		done(s, job, s->applying[0], one_in(30) ? -EIO : 0, NULL);
		break;
	case ENV_JOB_ACTIVATE:
	case ENV_JOB_DESTROY:
		/* The guest's thread takes them in order. */
		if (s->jobs[ENV_JOB_APPLY])
			done(s, ENV_JOB_APPLY, s->applying[0], 0, NULL);
		else
			done(s, job, 0, job == ENV_JOB_DESTROY ? 0 : err, NULL);
		break;
	default:
		done(s, job, 0, err, NULL);
	}
	return true;
}

static uint64_t next_ack(const struct script *s)
{
	if (one_in(40))
		return any(8);
	return s->primary.epoch_count ? s->primary.epochs[0].number : 0;
}

static void peer_of_primary(struct script *s)
{
	if (s->link == NO_LINK)
		return;
	if (one_in(12))
		link_down(s, "reset");
	else if (s->link == CONNECTING)
		simple(s, EVENT_LINK_UP);
	else if (s->link != LINK_UP)
		return;
	else if (!s->primary.greeted)
		hello_from(s, one_in(20) ? 2 : WIRE_VERSION,
			   one_in(20) ? WIRE_ROLE_PRIMARY : WIRE_ROLE_SECONDARY,
			   any(4));
	else if (one_in(30))
		bye_with(s, reasons[any(sizeof(reasons) / sizeof(reasons[0]))],
			 "");
	else if (one_in(3))
		ack(s, next_ack(s), 0);
	else
		simple(s, EVENT_ALIVE);
}

static bool is_admitted(struct script *s, uint8_t uuid)
{
	const struct guest_description d = { .uuid = { uuid } };
	struct bye bye;

	return secondary_admit(&s->secondary, &d, &bye);
}

static void peer_of_secondary(struct script *s)
{
	uint8_t uuid = one_in(4) ? 2 : 1;

	if (s->link == NO_LINK) {
		if (is_admitted(s, uuid))
			domain_of(s, "web", uuid);
		return;
	}
	if (one_in(12))
		event(s, &(struct event){ .type = EVENT_LINK_DOWN,
					  .error = one_in(5) ? -EPROTO
							     : -ECONNRESET,
					  .text = "reset" });
	else if (s->link != LINK_UP)
		return;
	else if (one_in(40))
		bye_with(s, reasons[any(sizeof(reasons) / sizeof(reasons[0]))],
			 "");
	else if (s->secondary.state == SECONDARY_BUILDING &&
		 !s->secondary.image_complete)
		image_end(s, one_in(10) ? -EBADMSG : 0);
	else if (s->jobs[ENV_JOB_APPLY] < 2) /* two stores, see the intake */
		stored(s, s->secondary.committed + 1 + one_in(40),
		       one_in(40) ? -EPROTO : 0, NULL);
	else
		simple(s, EVENT_ALIVE);
}

static void step(struct script *s)
{
	switch (any(8)) {
	case 0:
	case 1:
	case 2:
		if (s->is_secondary)
			peer_of_secondary(s);
		else
			peer_of_primary(s);
		break;
	case 3:
	case 4:
	case 5:
		end_a_job(s);
		break;
	case 6:
		run_for(s, any(4) ? any(INTERVAL_US) : any(RETRY_US));
		break;
	default:
		if (one_in(40))
			simple(s, EVENT_STOP);
		else if (one_in(4))
			simple(s, EVENT_FAILOVER);
		else if (one_in(20) && s->link == LINK_UP)
			event(s, &(struct event){ .type = EVENT_VIOLATION,
						  .error = -EPROTO,
						  .text = "nonsense" });
	}
	s->actions[0] = '\0';
	seen[s->is_secondary]
	    [s->is_secondary ? s->secondary.state : s->primary.state] = true;
}

/* All that is under way ends, and nothing new comes from outside. */
static void settle(struct script *s)
{
	unsigned int i;

	for (i = 0; i < 100 && !s->finished; i++) {
		s->actions[0] = '\0';
		if (end_a_job(s))
			continue;
		if (s->link == LINK_CLOSING)
			link_down(s, "closed");
		else if (s->link == LINK_UP)
			run_for(s, LOST_US); /* no answer to our BYE */
		else
			break;
	}
}

static void stops(struct script *s)
{
	unsigned int i;

	for (i = 0; i < 3 && !s->finished; i++) {
		s->actions[0] = '\0';
		simple(s, EVENT_STOP);
		settle(s);
	}
	if (!s->finished)
		fail_msg("in state %s: it cannot be stopped", script_state(s));
}

static void walk(struct script *s, void (*begin)(struct script *s), bool fence,
		 bool unsafe, bool gate)
{
	const char *seed = getenv("COLOD_WALK_SEED");
	const char *more = getenv("COLOD_WALKS");
	unsigned int walks = more ? (unsigned int)atoi(more) : WALKS, i, n;

	random_state = seed ? strtoull(seed, NULL, 10) : 20;
	for (i = 0; i < walks; i++) {
		begin(s);
		s->primary.cfg.fence = s->secondary.cfg.fence = fence;
		s->primary.cfg.unsafe_no_fence = unsafe;
		s->primary.cfg.gate = gate;
		s->secondary.cfg.unsafe_no_fence = unsafe;
		if (!s->is_secondary)
			simple(s, EVENT_START);
		for (n = 0; n < STEPS && !s->finished; n++)
			step(s);
		if (!s->finished)
			stops(s);
	}
}

/* What they log is only of use when one walk is looked at. */
static int quiet(void **state)
{
	const char *log = getenv("COLOD_WALK_LOG");

	(void)state;
	return log_open(log ? log : "/dev/null");
}

static void test_primary(void **state)
{
	walk(*state, script_primary, false, false, false);
}

static void test_primary_with_fence(void **state)
{
	walk(*state, script_primary, true, false, false);
}

static void test_primary_with_gate(void **state)
{
	walk(*state, script_primary, false, false, true);
	walk(*state, script_primary, true, false, true);
}

static void test_secondary(void **state)
{
	walk(*state, script_secondary, false, false, false);
}

static void test_secondary_with_fence(void **state)
{
	walk(*state, script_secondary, true, false, false);
}

static void test_secondary_unsafe(void **state)
{
	walk(*state, script_secondary, false, true, false);
}

/* Walks that never leave the door prove nothing. */
static void test_every_state_was_seen(void **state)
{
	unsigned int i;

	(void)state;
	for (i = PRIMARY_CONNECTING; i < PRIMARY_STATE_COUNT; i++)
		if (!seen[0][i])
			fail_msg("primary: %s", primary_state_text(i));
	for (i = 0; i < SECONDARY_STATE_COUNT; i++)
		if (!seen[1][i])
			fail_msg("secondary: %s", secondary_state_text(i));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCRIPT_TEST(test_primary),
		SCRIPT_TEST(test_primary_with_fence),
		SCRIPT_TEST(test_primary_with_gate),
		SCRIPT_TEST(test_secondary),
		SCRIPT_TEST(test_secondary_with_fence),
		SCRIPT_TEST(test_secondary_unsafe),
		cmocka_unit_test(test_every_state_was_seen),
	};

	return cmocka_run_group_tests(tests, quiet, NULL);
}
