/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's epochs: when the next checkpoint starts, and what becomes of
 * each.
 *
 * The happy path:
 *   - the timer makes a checkpoint due; it starts when it may;
 *   - where much is written already that goes ahead, as a round of its own;
 *   - CAPTURE done -> ENCODE -> encoded and queued -> WAIT_ACK;
 *   - the acknowledgement releases it.
 * When the peer or the encoder lags, the checkpoint that is due waits: the
 * interval grows by itself, memory does not.  Where the guest does not suspend
 * for a later round, its epoch stays open (`waits`), and the next turn is its.
 */
#include "config.h"

#include "engine/primary_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/moves.h"

enum {
	ROUNDS_A_WARNING = 50,
	/* How long Linux tries to freeze its tasks, and then some. */
	LATE_SUSPEND_US = 30 * 1000 * 1000,
	/* `protected' with a standby of that age is worth a word in status. */
	OLD_US = 10 * 1000 * 1000,
};

struct epoch_run *primary_epoch(struct primary *p, uint64_t number)
{
	unsigned int i;

	for (i = 0; i < p->epoch_count; i++)
		if (p->epochs[i].number == number)
			return &p->epochs[i];
	return NULL;
}

void primary_epochs_check(const struct primary *p)
{
	unsigned int i;

	INVARIANT(p->epoch_count <= p->cfg.inflight,
		  "epochs in flight are bounded");
	INVARIANT(p->state == PRIMARY_PROTECTED || p->epoch_count == 0,
		  "epochs are in flight only while protected");
	for (i = 1; i < p->epoch_count; i++)
		INVARIANT(p->epochs[i].number == p->epochs[i - 1].number + 1,
			  "epochs are in flight in order, without a gap");
}

void primary_epochs_begin(struct primary *p)
{
	p->pace = pace_start(&p->cfg.pace);
	p->turn_us = 0;
	p->next_epoch = 1;
	p->next_due_us = primary_now(p);
	p->epoch_due = true;
	p->skipped_in_a_row = 0;
	p->stats.number = 0;
	p->stats.applied = 0;
	p->stats.last_ack_us = primary_now(p);
	primary_epochs_start_due(p);
}

/*
 * A guest that writes more between two rounds than an arena holds never gets
 * to the end of an epoch: it runs on, and what the standby has grows old.
 */
static void warn_of_rounds(const struct primary *p, const struct epoch_run *r)
{
	if (r->partial && r->rounds % ROUNDS_A_WARNING == 0)
		log_warn("%s: epoch %" PRIu64 " is still not complete after "
			 "%u rounds, the standby is %" PRIu64
			 " ms behind: the guest writes more than --arena "
			 "holds; make it larger",
			 p->cfg.domain, r->number, r->rounds,
			 (primary_now(p) - p->stats.last_ack_us) / 1000);
}

/*
 * An epoch that the guest's thread is working on is left alone: its thread
 * moves it, and finds on its return that it is no longer wanted.
 */
void primary_epochs_drop(struct primary *p, const char *why)
{
	unsigned int i;

	for (i = 0; i < p->epoch_count; i++) {
		if (!p->epochs[i].acknowledged)
			primary_epoch_over(p, p->epochs[i].number,
					   ENV_EPOCH_ABORTED, why);
		if (p->epochs[i].state != EPOCH_ABORT &&
		    !(p->capturing && i == p->epoch_count - 1))
			epoch_move(&p->epochs[i], EPOCH_ABORT, why);
	}
	p->epoch_count = 0;
	p->epoch_due = false;
	primary_timer(p, ENV_TIMER_EPOCH, 0);
}

static void capture(struct primary *p, const struct epoch_run *r)
{
	p->capturing = true;
	primary_job(p, ENV_JOB_CAPTURE, r->number);
}

static bool room_for_another(const struct primary *p)
{
	return p->epoch_count < p->cfg.inflight &&
	       p->epoch_count < p->peer_inflight &&
	       p->encoding < p->cfg.inflight;
}

/* What was due begins, and the next turn is that much later. */
static void take_turn(struct primary *p)
{
	p->epoch_due = false;
	p->turn_us = primary_now(p);
	p->next_due_us = p->turn_us + p->pace.interval_us;
	primary_timer(p, ENV_TIMER_EPOCH, p->next_due_us);
}

/* At once, unless the guest did not suspend for it. */
static void next_round(struct primary *p, struct epoch_run *r)
{
	if (r->state != EPOCH_SEND || p->encoding >= p->cfg.inflight)
		return;
	if (r->waits && !p->epoch_due)
		return;
	if (r->waits)
		take_turn(p);
	r->waits = false;
	capture(p, r);
}

void primary_epochs_start_due(struct primary *p)
{
	uint64_t now = primary_now(p), before_us;
	struct epoch_run *last =
		p->epoch_count ? &p->epochs[p->epoch_count - 1] : NULL;

	if (p->state != PRIMARY_PROTECTED || p->capturing || p->resync_asked)
		return;
	if (last && last->partial) {
		next_round(p, last);
		return;
	}
	if (!p->epoch_due || !room_for_another(p))
		return;
	if (now > p->next_due_us + p->pace.interval_us / 2)
		p->stats.stretched++;
	before_us = p->turn_us;
	take_turn(p);
	last = &p->epochs[p->epoch_count++];
	epoch_run_start(last, p->next_epoch++, now);
	last->span_us = before_us ? now - before_us : 0;
	capture(p, last);
}

/* The checkpoint that the timer is set for comes earlier or later then. */
static void adapt_pace(struct primary *p, const struct epoch_run *r)
{
	const struct pace_epoch seen = {
		.paused_us = r->paused_us,
		.pages = r->pages,
		.bytes = r->bytes,
		.commit_us = p->stats.last_commit_us,
		.span_us = r->span_us,
	};
	uint64_t before_us = p->pace.interval_us, due_us;

	p->pace = pace_next(&p->cfg.pace, &p->pace, &seen);
	if (p->pace.interval_us == before_us || p->epoch_due)
		return;
	due_us = p->turn_us + p->pace.interval_us;
	p->next_due_us = due_us > primary_now(p) ? due_us : primary_now(p);
	primary_timer(p, ENV_TIMER_EPOCH, p->next_due_us);
}

/* The oldest epoch is acknowledged and all of it has left the encoder. */
static void release_oldest(struct primary *p)
{
	struct epoch_run *oldest = &p->epochs[0];

	adapt_pace(p, oldest);
	epoch_move(oldest, EPOCH_RELEASE, NULL);
	p->epoch_count--;
	memmove(&p->epochs[0], &p->epochs[1],
		p->epoch_count * sizeof(p->epochs[0]));
}

/*
 * An acknowledgement may overtake the news that the epoch has been encoded:
 * its last frame is on the wire a moment before the encoder's thread is done.
 */
static bool may_acknowledge(const struct primary *p, uint64_t epoch)
{
	const struct epoch_run *oldest = &p->epochs[0];

	return p->epoch_count && oldest->number == epoch && !oldest->partial &&
	       !oldest->acknowledged &&
	       (oldest->state == EPOCH_ENCODE ||
		oldest->state == EPOCH_WAIT_ACK);
}

void primary_epochs_acknowledge(struct primary *p, const struct event *e)
{
	struct epoch_run *oldest = &p->epochs[0];

	if (!may_acknowledge(p, e->epoch)) {
		primary_violation(p, "unexpected ACK");
		return;
	}
	oldest->acknowledged = true;
	p->stats.acknowledged++;
	p->stats.number = oldest->number;
	p->stats.applied = e->applied;
	p->stats.last_ack_us = primary_now(p);
	p->stats.last_commit_us = primary_now(p) - oldest->started_us;
	primary_gate(p, GUEST_GATE_RELEASE, oldest->number);
	primary_epoch_over(p, oldest->number, ENV_EPOCH_ACKNOWLEDGED, NULL);
	if (oldest->state == EPOCH_WAIT_ACK)
		release_oldest(p);
	primary_epochs_start_due(p);
}

bool primary_epochs_overdue(const struct primary *p, uint64_t timeout_us)
{
	const struct epoch_run *oldest = &p->epochs[0];
	uint64_t now = primary_now(p);

	if (!p->epoch_count)
		return false;
	/* A link that takes more takes its time: nobody has all of it yet. */
	if (now <= p->moved_us + timeout_us)
		return false;
	return oldest->state == EPOCH_ENCODE ||
	       (oldest->state == EPOCH_WAIT_ACK &&
		now > oldest->sent_us + timeout_us);
}

/* Counts it, and says why in the words of `colod status`. */
static const char *skip_reason(struct primary *p, int error)
{
	switch (error) {
	case -EINPROGRESS:
		p->stats.skipped_late++;
		return "took the request and did not suspend in time";
	case -EBUSY:
		p->stats.skipped_busy++;
		return "is asked for something else (xl save, xl shutdown?)";
	case -ENOTCONN:
		p->stats.skipped_devices++;
		return "has devices that are not connected";
	case -EREMOTEIO:
		p->stats.skipped_model++;
		return "has a device model (QEMU) that does not do its part";
	default:
		p->stats.skipped_unanswered++;
		return "did not acknowledge the request to suspend in time";
	}
}

/* The guest runs on without a checkpoint; the next one is tried in its turn. */
static bool is_skip(int error)
{
	return error == -ETIMEDOUT || error == -EINPROGRESS ||
	       error == -EBUSY || error == -ENOTCONN || error == -EREMOTEIO;
}

/* Nothing was committed for that long, although all else is well. */
static void remember_age(struct primary *p, const char *why)
{
	uint64_t age_us = primary_now(p) - p->stats.last_ack_us;
	char text[sizeof(p->last_error)];

	if (age_us < OLD_US)
		return;
	snprintf(text, sizeof(text), "no epoch for %" PRIu64 " s: %s %s",
		 age_us / 1000000, p->cfg.domain, why);
	primary_remember(p, text);
}

static void skip(struct primary *p, struct epoch_run *r, int error)
{
	const char *why = skip_reason(p, error);

	p->stats.skipped++;
	if (p->skipped_in_a_row++ % 10 == 0)
		log_warn("%s %s (%u in a row): checkpoint skipped, the guest "
			 "runs on, the standby is %" PRIu64 " ms behind",
			 p->cfg.domain, why, p->skipped_in_a_row,
			 (primary_now(p) - p->stats.last_ack_us) / 1000);
	remember_age(p, why);
	if (r->state == EPOCH_SEND) {
		r->waits = true; /* pages of it are with the peer already */
	} else {
		primary_epoch_over(p, r->number, ENV_EPOCH_SKIPPED, why);
		p->epoch_count--;
		p->next_epoch--;
	}
	primary_epochs_start_due(p); /* the timer may have come meanwhile */
}

static void suspended_again(struct primary *p)
{
	if (p->skipped_in_a_row)
		primary_remember(p, "");
	p->skipped_in_a_row = 0;
}

void primary_epochs_captured(struct primary *p, const struct event *e)
{
	struct epoch_run *r = primary_epoch(p, e->epoch);

	p->capturing = false;
	if (is_skip(e->error)) { /* it may suspend late */
		p->late_until_us = primary_now(p) + LATE_SUSPEND_US;
		primary_timer(p, ENV_TIMER_GUEST,
			      primary_now(p) + LATE_LOOK_US);
	}
	if (e->error == -ESHUTDOWN && primary_guest_down(p, e->guest))
		return;
	if (!r)
		return; /* protection was lost meanwhile; the guest runs */
	switch (e->error) {
	case 0:
		if (r->state != EPOCH_AHEAD)
			suspended_again(p);
		if (!r->partial)
			p->stats.captured++;
		warn_of_rounds(p, r);
		epoch_move(r, EPOCH_ENCODE, NULL);
		p->moved_us = primary_now(p);
		p->encoding++;
		primary_job(p, ENV_JOB_ENCODE, r->number);
		primary_epochs_start_due(p);
		break;
	case -ETIMEDOUT:
	case -EINPROGRESS:
	case -EBUSY:
	case -ENOTCONN:
	case -EREMOTEIO:
		skip(p, r, e->error);
		break;
	case -ESTALE:
		primary_resync(p, e->text ? e->text
					  : "the guest's memory layout has "
					    "changed");
		break;
	default:
		primary_resync(p, e->text ? e->text : strerror(-e->error));
	}
}

void primary_epochs_encoded(struct primary *p, const struct event *e)
{
	struct epoch_run *r = primary_epoch(p, e->epoch);

	p->encoding--;
	if (!r || r->state != EPOCH_ENCODE)
		return;
	if (e->error) {
		if (e->error != -ECANCELED)
			primary_resync(p, "an epoch could not be encoded");
		return;
	}
	epoch_move(r, EPOCH_SEND, NULL);
	r->sent_us = primary_now(p);
	if (!r->partial)
		epoch_move(r, EPOCH_WAIT_ACK, NULL);
	if (r->acknowledged)
		release_oldest(p);
	primary_epochs_start_due(p);
}
