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

#include "base/clock.h"
#include "base/log.h"
#include "engine/moves.h"
#include "stream/records.h"

enum {
	/* A guest that runs anew has to boot before it can be suspended. */
	BOOT_PATIENCE_US = 180 * 1000 * 1000,
	BOOT_LOOK_US = 500 * 1000,
};

/* --- SYNC: the initial image -------------------------------------------- */

/* From the guest's thread to the loop: the image begins. */
struct image_start {
	struct primary_daemon *pd;
	struct frame_buf *domain;
	int fd;
	unsigned int generation;
};

static void image_moved(void *arg, uint64_t bytes)
{
	struct primary_daemon *pd = arg;

	pd->seen.image_bytes = bytes;
	progress_update(&pd->progress, bytes, clock_now_us());
}

/* The image is whole: its sender said so, and all of it is queued. */
static void sync_finish(struct primary_daemon *pd)
{
	struct guest_job *j = pd->sync_result;
	struct event e = { .type = EVENT_DONE, .job = ENV_JOB_SYNC };

	pd->sync_result = NULL;
	if (!j->err) {
		link_send(pd->link, image_end_encode(&pd->image_end));
		log_info("%s: image sent, %llu MiB", pd->machine.cfg.domain,
			 (unsigned long long)(pd->image_end.bytes >> 20));
	}
	image_sender_close(pd->image);
	pd->image = NULL;
	e.error = j->err;
	e.text = j->error.text[0] ? j->error.text : NULL;
	e.guest = j->guest;
	primary_event(&pd->machine, &e);
	free(j);
}

static void image_eof(void *arg, const struct wire_image_end *end)
{
	struct primary_daemon *pd = arg;

	pd->image_eof = true;
	pd->image_end = *end;
	if (pd->sync_result)
		sync_finish(pd);
}

void primary_daemon_image_dropped(struct primary_daemon *pd, const char *why)
{
	image_sender_close(pd->image);
	pd->image = NULL;
	if (!pd->sync_result)
		return;
	if (!pd->sync_result->err) {
		pd->sync_result->err = -ECONNRESET;
		guest_error_set(&pd->sync_result->error, "%s", why);
	}
	sync_finish(pd);
}

static void image_start(void *arg)
{
	static const struct image_sender_events events = {
		.moved = image_moved,
		.eof = image_eof,
	};
	struct image_start *st = arg;
	struct primary_daemon *pd = st->pd;

	if (!pd->link_ready || st->generation != pd->generation ||
	    !st->domain) {
		close(st->fd); /* the guest's side sees it and gives up */
		if (st->domain)
			st->domain->release(st->domain);
	} else {
		link_send(pd->link, st->domain);
		snprintf(pd->progress_what, sizeof(pd->progress_what),
			 "sending %s to %s", pd->machine.cfg.domain,
			 pd->peer_host);
		progress_start(&pd->progress, pd->progress_what,
			       pd->guest.ram_bytes, clock_now_us());
		pd->image_eof = false;
		image_sender_open(pd->d.loop, pd->link, st->fd, &events, pd,
				  &pd->image);
	}
	free(st);
}

/*
 * Describes and sends the guest; on return it runs, tracked from the moment
 * the image ended.
 */
static int send_and_track(struct guest_job *j, struct image_start *st)
{
	struct primary_daemon *pd = j->owner;
	struct guest_description d = { 0 };
	int fds[2], err, resumed;

	pd->ops->stop_tracking(pd->source);
	err = pd->ops->describe(pd->source, &d, &j->error);
	if (err)
		return err;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)) {
		guest_description_fini(&d);
		return -errno;
	}
	st->domain = domain_encode(&d);
	st->fd = fds[0];
	guest_description_fini(&d);
	j->extra = NULL;
	loop_post(pd->d.loop, image_start, st);
	err = pd->ops->send_image(pd->source, fds[1], &j->error);
	if (!err) {
		err = pd->ops->start_tracking(pd->source, &j->error);
		resumed = pd->ops->resume(pd->source, GUEST_RESUME_FAST);
		if (!err)
			err = resumed;
	}
	close(fds[1]);
	if (err)
		pd->ops->stop_tracking(pd->source);
	return err;
}

static void sync_run(struct guest_job *j)
{
	struct primary_daemon *pd = j->owner;
	struct image_start *st = j->extra;

	j->err = send_and_track(j, st);
	if (!j->err)
		return;
	j->guest = pd->ops->status(pd->source);
	if (j->guest != GUEST_RUNNING && j->guest != GUEST_SUSPENDED)
		j->err = -ESHUTDOWN;
}

/* On the loop; the job's own EVENT_DONE waits for the image's end. */
static void sync_returned(void *arg)
{
	struct guest_job *j = arg;
	struct primary_daemon *pd = j->owner;

	free(j->extra); /* where it was never handed over */
	pd->sync_result = j;
	if (j->err || !pd->image) /* failed, or the link went meanwhile */
		primary_daemon_image_dropped(pd, strerror(ECONNRESET));
	else if (pd->image_eof)
		sync_finish(pd);
}

static void sync_main(void *arg)
{
	sync_run(arg);
}

static void sync_post(struct primary_daemon *pd)
{
	struct guest_job *j = calloc(1, sizeof(*j));
	struct image_start *st = calloc(1, sizeof(*st));

	if (!j || !st)
		abort();
	st->pd = pd;
	st->generation = pd->generation;
	j->owner = pd;
	j->extra = st;
	epoch_encoder_reset(pd->epoch_encoder);
	worker_post(pd->d.guest, sync_main, sync_returned, j);
}

/* --- CAPTURE ------------------------------------------------------------ */

struct capture {
	struct epoch_run run; /* a copy: the machine's own may move in memory */
	struct epoch *arena;
};

static void capture_run(struct guest_job *j)
{
	struct primary_daemon *pd = j->owner;
	struct capture *c = j->extra;

	j->err = epoch_checkpoint(&c->run, pd->ops, pd->source, c->arena,
				  pd->d.set->suspend_timeout_ms * 1000,
				  clock_now_us);
	j->partial = c->run.partial;
	if (j->err == -ESHUTDOWN)
		j->guest = pd->ops->status(pd->source);
}

static void give_arena(struct primary_daemon *pd, struct epoch *arena)
{
	pd->arenas[pd->arena_count++] = arena;
}

static void capture_after(struct guest_job *j)
{
	struct primary_daemon *pd = j->owner;
	struct capture *c = j->extra;
	struct epoch_run *r = primary_epoch(&pd->machine, j->epoch);
	const struct epoch *e = c->arena;

	if (!j->err) {
		pd->seen.times = e->times;
		pd->seen.dirty_pages = e->page_count;
		pd->seen.raw_bytes += e->page_count * WIRE_PAGE_BYTES;
		pd->seen.pauses++;
		pd->seen.pause_sum_us += e->times.paused_us;
		if (e->times.paused_us > pd->seen.pause_max_us)
			pd->seen.pause_max_us = e->times.paused_us;
	}
	if (r)
		*r = c->run;
	give_arena(pd, c->arena); /* an ENCODE that follows takes it again */
	free(c);
}

static void capture_post(struct primary_daemon *pd, uint64_t epoch)
{
	struct capture *c = calloc(1, sizeof(*c));

	if (!c)
		abort();
	INVARIANT(pd->arena_count > 0, "a capture has an arena");
	c->run = *primary_epoch(&pd->machine, epoch);
	c->arena = pd->arenas[--pd->arena_count];
	daemon_job(&pd->d, ENV_JOB_CAPTURE, epoch, capture_run, capture_after,
		   c);
}

/* --- ENCODE ------------------------------------------------------------- */

struct encode {
	struct primary_daemon *pd;
	struct epoch *arena;
	unsigned int generation;
	uint64_t epoch;
	uint64_t sent_bytes;
	int err;
};

struct outgoing {
	struct primary_daemon *pd;
	struct frame_buf *frame;
	unsigned int generation;
};

static void send_outgoing(void *arg)
{
	struct outgoing *o = arg;
	struct primary_daemon *pd = o->pd;

	if (pd->link_ready && o->generation == pd->generation)
		link_send(pd->link, o->frame);
	else
		o->frame->release(o->frame);
	free(o);
}

static struct frame_buf *encode_get(void *arg)
{
	struct encode *en = arg;

	return frame_pool_get(en->pd->pool);
}

static void encode_put(void *arg, struct frame_buf *frame)
{
	struct encode *en = arg;
	struct outgoing *o = calloc(1, sizeof(*o));

	if (!o)
		abort();
	*o = (struct outgoing){ en->pd, frame, en->generation };
	loop_post(en->pd->d.loop, send_outgoing, o);
}

static void encode_run(void *arg)
{
	struct encode *en = arg;
	const struct frame_sink sink = { encode_get, encode_put, en };
	uint64_t started = clock_now_us();

	en->err = epoch_encode(en->pd->epoch_encoder, en->arena, &sink,
			       &en->sent_bytes);
	/* The next one may be queued already; the machine drops it too. */
	if (en->err)
		epoch_encoder_reset(en->pd->epoch_encoder);
	en->arena->times.encode_us = clock_now_us() - started;
}

static void encode_done(void *arg)
{
	struct encode *en = arg;
	struct primary_daemon *pd = en->pd;

	pd->seen.sent_bytes += en->sent_bytes;
	pd->seen.times.encode_us = en->arena->times.encode_us;
	give_arena(pd, en->arena);
	daemon_done(&pd->d, ENV_JOB_ENCODE, en->epoch, en->err, NULL);
	free(en);
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

/* The arena that this epoch was captured into is the one given back last. */
static void encode_post(struct primary_daemon *pd, uint64_t epoch)
{
	struct encode *en = calloc(1, sizeof(*en));

	if (!en)
		abort();
	INVARIANT(pd->arena_count > 0 &&
			  pd->arenas[pd->arena_count - 1]->number == epoch,
		  "an epoch is encoded from its own arena");
	en->pd = pd;
	en->arena = pd->arenas[--pd->arena_count];
	en->generation = pd->generation;
	en->epoch = epoch;
	add_addresses(pd, en->arena);
	worker_post(pd->encoder, encode_run, encode_done, en);
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
		j->err =
			pd->ops->open(pd->machine.cfg.domain, &anew, &j->error);
	} while (j->err == -EAGAIN && !pd->boot_cancelled &&
		 clock_now_us() < until_us);
	if (j->err) {
		j->again = false;
		return;
	}
	pd->ops->close(pd->source);
	pd->source = anew;
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
		sync_post(pd);
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
