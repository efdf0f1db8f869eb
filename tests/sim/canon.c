/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The canonical form of a world: two worlds with the same one go the same ways.
 *
 * Times are counted from now, those that are over are equal; what nothing
 * depends on (statistics, texts, what lies behind the end of a list) is
 * cleared; the numbers of history, of which only the order matters, are
 * replaced by their ranks.  A member that is added and not treated here costs
 * states that could have been one, never one that was missed.
 */
#include "config.h"

#include <stddef.h>
#include <string.h>

#include "tests/sim/explore.h"

static void until(uint64_t *at_us, uint64_t now_us)
{
	if (*at_us)
		*at_us = (*at_us > now_us ? *at_us - now_us : 0) + 1;
}

/* How long ago, as far as that matters. */
static void since(uint64_t *then_us, uint64_t now_us, uint64_t matters_us)
{
	uint64_t ago = now_us > *then_us ? now_us - *then_us : 0;

	*then_us = ago < matters_us ? ago : matters_us;
}

/* Without what may lie in its padding. */
static void epoch(struct epoch_run *r, uint64_t now_us, uint64_t matters_us)
{
	const struct epoch_run was = *r;

	memset(r, 0, sizeof(*r));
	r->number = was.number;
	r->state = was.state;
	r->guest_suspended = was.guest_suspended;
	r->partial = was.partial;
	r->waits = was.waits;
	r->acknowledged = was.acknowledged;
	r->rounds = was.rounds;
	r->sent_us = was.sent_us;
	since(&r->sent_us, now_us, matters_us);
}

/* Once it is over it is over (primary.c, look_for_acknowledgement()). */
static uint64_t ack_matters_us(const struct world *of)
{
	uint64_t timeout_us = of->primary.cfg.ack_timeout_us;

	return timeout_us ? timeout_us + 1 : 0;
}

static void primary(struct world *w, const struct world *of)
{
	struct primary *p = &w->primary;
	uint64_t now_us = sim_local(of, A);
	uint64_t lost_us = p->cfg.heartbeat_us * p->cfg.lost_after;
	uint64_t ack_us = ack_matters_us(of);
	bool held = p->cfg.gate_held;
	unsigned int i;

	memset(&p->cfg, 0, sizeof(p->cfg)); /* else it is always the same */
	p->cfg.gate_held = held;
	memset(&p->env, 0, sizeof(p->env));
	memset(&p->stats, 0, sizeof(p->stats));
	memset(p->last_error, 0, sizeof(p->last_error));
	memset(p->peer_said + 1, 0, sizeof(p->peer_said) - 1);
	p->peer_said[0] = p->peer_said[0] != '\0';
	since(&p->alive_us, now_us, lost_us);
	since(&p->moved_us, now_us, ack_us);
	until(&p->grace_until_us, now_us);
	until(&p->late_until_us, now_us);
	p->next_due_us = p->turn_us = 0;
	for (i = 0; i < p->epoch_count; i++)
		epoch(&p->epochs[i], now_us, ack_us);
	memset(&p->epochs[i], 0, (WIRE_INFLIGHT_MAX - i) * sizeof(*p->epochs));
}

static void secondary(struct world *w, const struct world *of)
{
	struct secondary *s = &w->secondary;
	uint64_t now_us = sim_local(of, B);

	memset(&s->cfg, 0, sizeof(s->cfg));
	memset(&s->env, 0, sizeof(s->env));
	memset(&s->stats, 0, sizeof(s->stats));
	memset(s->last_error, 0, sizeof(s->last_error));
	memset(s->given_up, 0, sizeof(s->given_up));
	since(&s->alive_us, now_us, 15 * SEC);
	until(&s->stop_refused_us, now_us);
}

static void jobs(struct world *w, const struct world *of, struct job *j,
		 unsigned int *count)
{
	unsigned int i;

	for (i = 0; i < *count; i++) {
		until(&j[i].due_us, w->now_us);
		j[i].generation = j[i].generation == w->generation;
		epoch(&j[i].run, sim_local(of, A), ack_matters_us(of));
	}
	memset(&j[i], 0, (JOBS - i) * sizeof(*j));
}

static void host(struct world *w, const struct world *of, unsigned int which)
{
	struct sim_host *h = &w->host[which];
	unsigned int i;

	for (i = 0; i < ENV_TIMERS; i++)
		until(&h->timers[i], sim_local(of, which));
	jobs(w, of, h->jobs, &h->job_count);
	until(&h->fence.due_us, w->now_us);
	until(&h->guest.late_at_us, w->now_us);
	until(&h->guest.late_since_us, w->now_us);
	until(&h->guest.rescue_at_us, w->now_us);
	until(&w->bulk_until_us[which], w->now_us);
}

/* Of sessions it only matters which are the same. */
static void sessions(struct world *w)
{
	uint64_t ours = w->primary.session;
	uint64_t *theirs = &w->secondary.primary_session;
	unsigned int i;

	for (i = 0; i < CONNS; i++) {
		uint64_t *s = &w->conns[i].session;

		*s = (uint64_t)(*s == ours) + 2 * (*s == *theirs);
	}
	*theirs = *theirs == ours;
	w->primary.session = w->sessions = 0;
}

static void network(struct world *w)
{
	unsigned int i;

	sessions(w);
	for (i = 0; i < CONNS; i++) {
		struct conn *c = &w->conns[i];

		until(&c->notice_us[A], w->now_us);
		until(&c->notice_us[B], w->now_us);
		until(&c->setup_us, w->now_us);
		until(&c->beat_us, w->now_us);
		until(&c->until_us, w->now_us);
	}
	for (i = 0; i < w->message_count; i++)
		until(&w->messages[i].due_us, w->now_us);
	memset(&w->messages[i], 0, (MESSAGES - i) * sizeof(w->messages[0]));
}

/* --- history ------------------------------------------------------------ */

struct ranks {
	unsigned int count;
	uint64_t *at[256];
};

static void rank(struct ranks *r, uint64_t *number)
{
	unsigned int i = r->count++;

	for (; i && *r->at[i - 1] > *number; i--)
		r->at[i] = r->at[i - 1];
	r->at[i] = number;
}

static void history(struct world *w)
{
	struct ranks r = { 0 };
	uint64_t last = 0, level = 0;
	unsigned int i, k;

	for (k = 0; k < HOSTS; k++) {
		rank(&r, &w->host[k].guest.at.count);
		for (i = 0; i < w->host[k].job_count; i++)
			rank(&r, &w->host[k].jobs[i].at.count);
	}
	for (i = 0; i < w->encode_count; i++)
		rank(&r, &w->encodes[i].at.count);
	for (i = 0; i < w->message_count; i++)
		rank(&r, &w->messages[i].at.count);
	for (i = 0; i < w->gate.count; i++)
		rank(&r, &w->gate.barriers[i].upto);
	memset(&w->gate.barriers[i], 0,
	       (BARRIERS - i) * sizeof(w->gate.barriers[0]));
	for (i = 0; i < w->life_count; i++) {
		rank(&r, &w->lives[i].branch);
		rank(&r, &w->lives[i].visible);
	}
	rank(&r, &w->image_at.count);
	rank(&r, &w->twin.at.count);
	rank(&r, &w->stored_at.count);
	rank(&r, &w->committed_at.count);
	for (i = 0; i < r.count; i++) {
		if (*r.at[i] != last)
			level++;
		last = *r.at[i];
		*r.at[i] = level;
	}
}

/* --- all of it ---------------------------------------------------------- */

/* The mixing step is that of splitmix64. */
static uint64_t hash(const void *bytes, size_t count)
{
	const unsigned char *at = bytes;
	uint64_t sum = count, word;

	for (; count >= sizeof(word); count -= sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		at += sizeof(word);
		sum = (sum ^ word) * UINT64_C(0xbf58476d1ce4e5b9);
		sum ^= sum >> 29;
	}
	sum = (sum ^ (sum >> 30)) * UINT64_C(0x94d049bb133111eb);
	return sum ^ (sum >> 31);
}

uint64_t canon_hash(const struct world *of, unsigned int faults)
{
	static struct world w;

	w = *of;
	primary(&w, of);
	secondary(&w, of);
	network(&w);
	host(&w, of, A);
	host(&w, of, B);
	jobs(&w, of, w.encodes, &w.encode_count);
	until(&w.stored_us, w.now_us);
	history(&w);
	w.generation = 0;
	w.now_us = 0;
	w.steps = faults;
	return hash(&w, offsetof(struct world, violation));
}
