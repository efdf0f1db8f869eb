/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's SYNC: the guest's disks and its image, until the peer has both
 * as of one moment.
 *
 * The happy path:
 *   - the guest's thread opens and offers the disks, and has them compared;
 *   - the guest's kind writes the image to a socket, whose other end the loop
 *     reads and sends, and leaves the guest suspended;
 *   - tracking is on, the barrier set, the guest runs again; what it has
 *     changed on its disks up to there is sent;
 *   - the loop sends IMAGE_END.
 * Failure: the guest runs, untracked, and EVENT_DONE says why.
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
#include "base/fault.h"
#include "base/log.h"
#include "base/memory.h"

/* --- the image on the loop ---------------------------------------------- */

static void image_moved(void *arg, uint64_t bytes)
{
	static const struct event moved = { .type = EVENT_MOVED };
	struct primary_daemon *pd = arg;

	pd->seen.image_bytes = bytes;
	progress_update(&pd->progress, bytes, clock_now_us());
	primary_event(&pd->machine, &moved);
}

/* From here on it is the peer's turn, or ours again. */
static void image_waits(void *arg, bool waits)
{
	const struct event e = { .type = waits ? EVENT_BLOCKED : EVENT_MOVED };
	struct primary_daemon *pd = arg;

	primary_event(&pd->machine, &e);
}

/* The image is whole: its sender said so, and all of it is queued. */
static void sync_finish(struct primary_daemon *pd)
{
	struct guest_job *j = pd->sync_result;
	struct frame_buf *end;
	struct event e = { .type = EVENT_DONE, .job = ENV_JOB_SYNC };

	pd->sync_result = NULL;
	if (!j->err && pd->image_failed) {
		j->err = -EIO;
		guest_error_set(&j->error, "the image could not be read");
	}
	pd->image_end.disk_bytes = pd->disks.sent.bytes;
	pd->image_end.disk_checksum = pd->disks.sent.checksum;
	end = j->err ? NULL : image_end_encode(&pd->image_end);
	if (!j->err && !end)
		j->err = -ENOMEM;
	if (!j->err) {
		primary_daemon_disks_synced(pd);
		link_send(pd->link, end);
		log_info("%s: image sent, %llu MiB", pd->machine.cfg.domain,
			 (unsigned long long)(pd->image_end.bytes >> 20));
	}
	image_sender_close(pd->image);
	pd->image = NULL;
	e.error = j->err;
	e.text = j->error.text[0] ? j->error.text : NULL;
	e.guest = j->guest;
	primary_event(&pd->machine, &e);
	daemon_job_give(j);
}

static void image_eof(void *arg, const struct wire_image_end *end)
{
	struct primary_daemon *pd = arg;

	pd->image_eof = true;
	pd->image_failed = !end;
	if (end)
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
		.waits = image_waits,
		.eof = image_eof,
	};
	struct primary_daemon *pd = arg;
	struct image_start *st = &pd->image_start;

	if (!pd->link_ready || st->generation != pd->generation ||
	    !st->domain) {
		close(st->fd); /* the guest's side sees it and gives up */
		if (st->domain)
			st->domain->release(st->domain);
		if (st->disks)
			st->disks->release(st->disks);
		primary_disks_stop(&pd->disks); /* nobody answers */
	} else {
		link_send(pd->link, st->domain);
		if (st->disks) {
			link_send(pd->link, st->disks);
			image_waits(pd, true);
		}
		snprintf(pd->progress_what, sizeof(pd->progress_what),
			 "sending %s to %s", pd->machine.cfg.domain,
			 pd->peer_host);
		progress_start(&pd->progress, pd->progress_what,
			       pd->guest.ram_bytes, clock_now_us());
		pd->image_eof = pd->image_failed = false;
		image_sender_open(pd->d.loop, pd->link, st->fd,
				  (int)pd->d.set->compress, &events, pd,
				  &pd->image);
	}
}

/* --- its replicated disks, in front of it and meanwhile ------------------ */

/*
 * Frames of one comparison on their way: what an earlier one's thread has left
 * behind goes back by its own.
 */
struct disks_way {
	struct primary_daemon *pd;
	unsigned int generation;
	struct outbox outbox;
	struct loop_call freed;
};

/* An answer that never comes is noticed as an image that is not taken is. */
void primary_daemon_disks_moved(struct primary_daemon *pd)
{
	const struct event e = { .type = primary_disks_wait(&pd->disks)
						 ? EVENT_BLOCKED
						 : EVENT_MOVED };

	primary_event(&pd->machine, &e);
}

static struct frame_buf *way_get(void *arg)
{
	struct disks_way *way = arg;

	return frame_pool_get(way->pd->pool);
}

static void way_put(void *arg, struct frame_buf *frame)
{
	struct disks_way *way = arg;

	outbox_put(&way->outbox, frame);
}

static void way_send(void *arg, struct frame_buf *frames)
{
	struct disks_way *way = arg;

	primary_daemon_send_frames(way->pd, way->generation, frames);
	primary_daemon_disks_moved(way->pd);
}

static void way_free(void *arg)
{
	struct disks_way *way = arg;

	outbox_close(&way->outbox);
	free(way);
}

void primary_daemon_close_disks(struct primary_daemon *pd)
{
	primary_disks_close(&pd->disks);
	/* Behind what its thread has put. */
	if (pd->disks_way)
		loop_post_call(pd->d.loop, &pd->disks_way->freed, way_free,
			       pd->disks_way);
	pd->disks_way = NULL;
}

static int open_way(struct primary_daemon *pd, unsigned int generation)
{
	struct disks_way *way = memory_zeroed(sizeof(*way));

	if (!way)
		return -ENOMEM;
	way->pd = pd;
	way->generation = generation;
	outbox_open(&way->outbox, pd->d.loop, way_send, way);
	pd->disks_way = way;
	return 0;
}

/* Opened, and offered behind DOMAIN. */
static int open_disks(struct primary_daemon *pd, struct image_start *st,
		      struct guest_error *why)
{
	int err;

	primary_daemon_close_disks(pd);
	err = primary_disks_open(&pd->disks, pd->ops, pd->source,
				 daemon_random(&pd->d) | 1, why);
	st->disks = NULL;
	if (err || !pd->disks.count)
		return err;
	snprintf(pd->disks_what, sizeof(pd->disks_what),
		 "comparing the disks of %s with %s", pd->machine.cfg.domain,
		 pd->peer_host);
	st->disks = disks_encode(&pd->disks.offer);
	return st->disks ? open_way(pd, st->generation) : -ENOMEM;
}

/* While the guest runs; what it changes from now on is sent, too. */
static int compare_disks(struct primary_daemon *pd)
{
	const struct disks_link link = {
		.get = way_get,
		.put = way_put,
		.arg = pd->disks_way,
		.what = pd->disks_what,
		.level = (int)pd->d.set->compress,
	};

	return primary_disks_compare(&pd->disks, &link);
}

/* --- all of it ----------------------------------------------------------- */

/* Suspended by send_image, it is resumed whatever fails. */
static int image_sent(struct primary_daemon *pd, struct guest_error *why)
{
	int err = fault_at(FAULT_IMAGE_SENT), resumed;

	if (!err)
		err = pd->ops->start_tracking(pd->source, why);
	if (!err)
		err = primary_daemon_barrier(pd, 0);
	resumed = epoch_resume(pd->ops, pd->source, pd->manner.resume);
	if (!err)
		err = resumed;
	return err ? err
		   : primary_disks_follow_to(&pd->disks, &pd->capture.disks,
					     why);
}

/* What the loop sends first, and *image, where the guest's kind writes to. */
static int introduce(struct primary_daemon *pd, int *image,
		     struct guest_error *why)
{
	struct image_start *st = &pd->image_start;
	struct guest_description d = { 0 };
	int fds[2], err = open_disks(pd, st, why);

	if (!err)
		err = pd->ops->describe(pd->source, &d, why);
	/* Before the peer can answer. */
	if (!err)
		err = compare_disks(pd);
	if (!err && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		err = -errno;
	if (!err) {
		st->domain = domain_encode(&d);
		st->fd = fds[0];
		*image = fds[1];
		loop_post_call(pd->d.loop, &st->call, image_start, pd);
	} else if (st->disks) {
		st->disks->release(st->disks);
	}
	guest_description_fini(&d);
	return err;
}

/*
 * Describes and sends the guest; on return it runs, tracked from the moment
 * the image ended.
 */
static int send_and_track(struct guest_job *j)
{
	struct primary_daemon *pd = j->owner;
	int image, err;

	pd->ops->stop_tracking(pd->source);
	err = output_follow(&pd->output);
	if (!err)
		err = introduce(pd, &image, &j->error);
	if (err)
		return err;
	err = primary_disks_compared(&pd->disks, &j->error);
	if (!err)
		err = pd->ops->send_image(pd->source, image, &j->error);
	if (!err)
		err = image_sent(pd, &j->error);
	close(image);
	if (err)
		pd->ops->stop_tracking(pd->source);
	return err;
}

static void sync_run(struct guest_job *j)
{
	struct primary_daemon *pd = j->owner;

	j->err = send_and_track(j);
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

void primary_daemon_sync(struct primary_daemon *pd)
{
	struct guest_job *j = daemon_job_take(&pd->d);

	pd->image_start.generation = pd->generation;
	primary_disks_begin(&pd->disks);
	worker_post(pd->d.guest, &j->work, sync_main, sync_returned, j);
}
