/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's jobs: what the machine asks for, done on the guest's or the
 * encoder's thread.
 */
#include "config.h"

#include "engine/primary_daemon_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "engine/moves.h"
#include "stream/records.h"

enum {
	/* A guest that runs anew has to boot before it can be suspended. */
	BOOT_PATIENCE_US = 180 * 1000 * 1000,
	BOOT_LOOK_US = 500 * 1000,
};

/* --- CAPTURE ------------------------------------------------------------ */

/* What the guest has done up to here, to the outside and to its disks. */
int primary_daemon_barrier(void *arg, uint64_t epoch)
{
	struct primary_daemon *pd = arg;
	int err = primary_disks_limits(&pd->disks, &pd->capture.disks);

	return err ? err : output_barrier(&pd->output, epoch);
}

static void note_phases(struct primary_daemon *pd, struct capture *c)
{
	struct epoch_times *t = &c->arena->times;
	struct guest_phases p = { 0 };

	if (pd->ops->phases)
		pd->ops->phases(pd->source, &p);
	c->asked = p.asked;
	c->run.hypercalls += p.hypercalls;
	if (c->run.state == EPOCH_AHEAD)
		return; /* the others are of the suspend before */
	t->devices_us = p.devices_us;
	t->reset_us = p.reset_us;
	t->channels_us = p.channels_us;
}

static void capture_run(struct guest_job *j)
{
	struct primary_daemon *pd = j->owner;
	struct capture *c = j->extra;
	uint64_t suspend_us = c->manner.suspend_timeout_us;

	/* Twice: it may wait for devices before it asks. */
	guard_watch(pd->guard,
		    2 * suspend_us + pd->d.set->hung_after_ms * 1000);
	j->err = epoch_checkpoint(&c->run, pd->ops, pd->source, c->arena,
				  &c->manner, clock_now_us);
	guard_rest(pd->guard);
	if (!j->err && c->run.state == EPOCH_AHEAD)
		j->err = primary_disks_limits(&pd->disks, &c->disks);
	c->resumed_us = clock_now_us();
	if (!j->err)
		j->err = primary_disks_follow(&pd->disks, pd->ops, pd->source,
					      c->resumed_us);
	if (j->err == -ESTALE)
		primary_disks_explain(&pd->disks, &j->error);
	note_phases(pd, c);
	j->partial = c->run.partial;
	if (j->err == -ESHUTDOWN)
		j->guest = pd->ops->status(pd->source);
}

static void give_arena(struct primary_daemon *pd, struct epoch *arena)
{
	pd->arenas[pd->arena_count++] = arena;
}

static void capture_seen(struct primary_daemon *pd, const struct capture *c)
{
	const struct epoch *e = c->arena;
	uint64_t paused_us = e->times.paused_us;

	pd->seen.raw_bytes +=
		(e->page_count - e->again_count) * WIRE_PAGE_BYTES;
	epoch_log_captured(pd->epoch_log, c->id, e, c->resumed_us);
	if (c->run.state == EPOCH_AHEAD)
		return;
	pd->seen.times = e->times;
	pd->seen.times.ahead_us = c->run.ahead_us;
	pd->seen.asked = c->asked;
	pd->seen.hypercalls = c->run.hypercalls;
	pd->seen.dirty_pages = c->run.pages;
	pd->seen.pauses++;
	pd->seen.pause_sum_us += paused_us;
	if (paused_us > pd->seen.pause_max_us)
		pd->seen.pause_max_us = paused_us;
}

static void capture_after(struct guest_job *j)
{
	struct primary_daemon *pd = j->owner;
	struct capture *c = j->extra;
	struct epoch_run *r = primary_epoch(&pd->machine, j->epoch);

	if (!j->err)
		capture_seen(pd, c);
	if (r)
		*r = c->run;
	give_arena(pd, c->arena); /* an ENCODE that follows takes it again */
}

/*
 * Whether pages that go ahead are a round of their own, sent at once: commits
 * come sooner, and what is written again until the suspend is sent twice. Where
 * the link is what everything waits for that is no gain.
 */
static bool sends_ahead(const struct primary_daemon *pd)
{
	switch ((enum primary_policy)pd->d.set->policy) {
	case PRIMARY_POLICY_LATENCY:
		return true;
	case PRIMARY_POLICY_AUTO:
		return pd->machine.epoch_count == 1 &&
		       !frame_pool_out(pd->pool);
	default:
		return false;
	}
}

static void capture_post(struct primary_daemon *pd, uint64_t epoch)
{
	struct capture *c = &pd->capture; /* one at a time, says the machine */

	INVARIANT(pd->arena_count > 0, "a capture has an arena");
	c->run = *primary_epoch(&pd->machine, epoch);
	c->arena = pd->arenas[--pd->arena_count];
	c->id = primary_daemon_epoch(pd, epoch);
	c->manner = (struct epoch_manner){
		.suspend_timeout_us = pd->d.set->suspend_timeout_ms * 1000,
		.resume = pd->manner.resume,
		.apart = sends_ahead(pd),
		.barrier = primary_daemon_barrier,
		.barrier_arg = pd,
	};
	epoch_log_begin(pd->epoch_log, c->id, c->run.started_us);
	daemon_job(&pd->d, ENV_JOB_CAPTURE, epoch, capture_run, capture_after,
		   c);
}

/* --- ENCODE ------------------------------------------------------------- */

void primary_daemon_send_frames(struct primary_daemon *pd,
				unsigned int generation,
				struct frame_buf *frames)
{
	static const struct event moved = { .type = EVENT_MOVED };
	bool ours = pd->link_ready && generation == pd->generation;
	struct frame_buf *next;

	for (; frames; frames = next) {
		next = frames->next;
		if (ours)
			link_send(pd->link, frames);
		else
			frames->release(frames);
		ours = pd->link_ready && generation == pd->generation;
	}
	if (ours)
		primary_event(&pd->machine, &moved);
}

static void encode_send(void *arg, struct frame_buf *frames)
{
	struct encode *en = arg;

	primary_daemon_send_frames(en->pd, en->generation, frames);
}

static struct frame_buf *encode_get(void *arg)
{
	struct encode *en = arg;

	return frame_pool_get(en->pd->pool);
}

static void encode_unget(void *arg, struct frame_buf *frame)
{
	struct encode *en = arg;

	frame_pool_unget(en->pd->pool, frame);
}

/* One is being filled, one is being taken by the link. */
static bool encode_behind(void *arg)
{
	struct encode *en = arg;

	return frame_pool_out(en->pd->pool) > 2;
}

static void encode_put(void *arg, struct frame_buf *frame)
{
	struct encode *en = arg;

	outbox_put(&en->outbox, frame);
}

static void encode_run(void *arg)
{
	struct encode *en = arg;
	struct epoch_encoder *encoder = en->pd->epoch_encoder;
	const struct frame_sink sink = { encode_get, encode_put, encode_unget,
					 encode_behind, en };
	const struct epoch_changes changes = { primary_disks_changes,
					       &en->disks };
	uint64_t started = clock_now_us();

	en->err = epoch_encode(encoder, en->arena, &en->peer, &changes, &sink,
			       &en->sent_bytes);
	if (!en->err && !en->arena->partial)
		primary_disks_sent(&en->pd->disks, en->epoch);
	if (!en->err)
		en->err = fault_at(FAULT_AFTER_SEND);
	en->counts = *epoch_encoder_counts(encoder);
	en->shadow_bytes = epoch_encoder_memory_bytes(encoder);
	en->done_us = clock_now_us();
	en->arena->times.encode_us = en->done_us - started;
}

static void encode_done(void *arg)
{
	struct encode *en = arg;
	struct primary_daemon *pd = en->pd;
	struct epoch_run *r = primary_epoch(&pd->machine, en->epoch);

	if (r) {
		r->bytes += en->sent_bytes;
		r->encode_us += en->arena->times.encode_us;
	}
	pd->seen.sent_bytes += en->sent_bytes;
	pd->seen.counts = en->counts;
	pd->seen.shadow_bytes = en->shadow_bytes;
	if (r && !en->arena->partial)
		pd->seen.times.encode_us = r->encode_us;
	epoch_log_encoded(pd->epoch_log,
			  (struct epoch_id){ en->epoch, en->generation },
			  en->arena, en->sent_bytes, en->done_us);
	give_arena(pd, en->arena);
	en->arena = NULL;
	outbox_close(&en->outbox);
	daemon_done(&pd->d, ENV_JOB_ENCODE, en->epoch, en->err, NULL);
}

/* The guest's addresses, for the announcement after a takeover. */
static void add_addresses(struct primary_daemon *pd, struct epoch *e)
{
	uint8_t body[ADDRESSES_MAX * 24];
	size_t length = addresses_encode(&pd->addresses, body, sizeof(body));
	struct cursor c = cursor_over(e->state + e->state_bytes,
				      e->state_capacity - e->state_bytes);
	uint8_t *at;

	if (!length || e->partial)
		return;
	at = record_put(&c, WIRE_RECORD_COLOD_ADDRESSES, (uint32_t)length);
	if (!at)
		return;
	memcpy(at, body, length);
	e->state_bytes = (size_t)(c.at - e->state);
}

/* The connection counts from 1: an encoder that has met nobody has 0. */
static struct epoch_peer peer_of(struct primary_daemon *pd)
{
	return (struct epoch_peer){
		.connection = (uint64_t)pd->generation + 1,
		.max_gfn = pd->guest.max_gfn,
		.shadow_bytes = pd->shadow_bytes,
		.shadow_room = primary_daemon_shadow_room(pd),
	};
}

/* The arena that this epoch was captured into is the one given back last. */
static void encode_post(struct primary_daemon *pd, uint64_t epoch)
{
	struct encode *en = pd->encodes;

	while (en < pd->encodes + WIRE_INFLIGHT_MAX && en->arena)
		en++;
	INVARIANT(en < pd->encodes + WIRE_INFLIGHT_MAX,
		  "epochs being encoded are bounded");
	INVARIANT(pd->arena_count > 0 &&
			  pd->arenas[pd->arena_count - 1]->number == epoch,
		  "an epoch is encoded from its own arena");
	*en = (struct encode){
		.pd = pd,
		.arena = pd->arenas[--pd->arena_count],
		.generation = pd->generation,
		.peer = peer_of(pd),
		.disks = { .disks = &pd->disks, .to = pd->capture.disks },
		.epoch = epoch,
	};
	outbox_open(&en->outbox, pd->d.loop, encode_send, en);
	add_addresses(pd, en->arena);
	worker_post(pd->encoder, &en->work, encode_run, encode_done, en);
}

/* --- the smaller ones --------------------------------------------------- */

static void release_run(struct guest_job *j)
{
	struct primary_daemon *pd = j->owner;

	pd->ops->stop_tracking(pd->source);
}

static void yield_run(struct guest_job *j)
{
	struct primary_daemon *pd = j->owner;

	j->err = pd->ops->yield(pd->source);
}

static void status_run(struct guest_job *j)
{
	struct primary_daemon *pd = j->owner;

	j->guest = pd->ops->status(pd->source);
}

static void after_shutdown_run(struct guest_job *j)
{
	struct primary_daemon *pd = j->owner;
	struct guest_source *anew;

	uint64_t until_us = clock_now_us() + BOOT_PATIENCE_US;

	j->err = pd->ops->after_shutdown(pd->source, &j->again);
	if (!j->again)
		return;
	do {
		clock_sleep_us(BOOT_LOOK_US);
		j->err = pd->ops->open(pd->machine.cfg.domain,
				       pd->d.set->run_dir, &pd->manner, &anew,
				       &j->error);
	} while (j->err == -EAGAIN && !pd->boot_cancelled &&
		 clock_now_us() < until_us);
	if (!j->err) {
		pd->ops->close(pd->source);
		pd->source = anew;
		j->err = output_move(&pd->output, anew);
	}
	j->again = !j->err;
}

static void after_shutdown_after(struct guest_job *j)
{
	if (j->again)
		primary_daemon_watch_addresses(j->owner);
}

void primary_daemon_job(void *arg, enum env_job job, uint64_t epoch)
{
	struct primary_daemon *pd = arg;

	switch (job) {
	case ENV_JOB_SYNC:
		primary_daemon_sync(pd);
		break;
	case ENV_JOB_CAPTURE:
		capture_post(pd, epoch);
		break;
	case ENV_JOB_ENCODE:
		encode_post(pd, epoch);
		break;
	case ENV_JOB_RELEASE:
		daemon_job(&pd->d, job, 0, release_run, NULL, NULL);
		break;
	case ENV_JOB_YIELD:
		daemon_job(&pd->d, job, 0, yield_run, NULL, NULL);
		break;
	case ENV_JOB_STATUS:
		daemon_job(&pd->d, job, 0, status_run, NULL, NULL);
		break;
	case ENV_JOB_AFTER_SHUTDOWN:
		daemon_job(&pd->d, job, 0, after_shutdown_run,
			   after_shutdown_after, NULL);
		break;
	case ENV_JOB_FENCE:
		daemon_fence(&pd->d, pd->machine.cfg.domain, pd->peer_host,
			     "primary");
		break;
	default:
		INVARIANT(false, "a job of the primary");
	}
}
