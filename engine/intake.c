/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/intake.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/memory.h"
#include "engine/worker.h"
#include "stream/messages.h"

enum {
	STORES = 2,
	QUEUE_PAUSE_BYTES = 32 * 1024 * 1024,
	/* Of that, when reading goes on. */
	QUEUE_RESUME_PART = 4,
};

struct intake {
	struct loop *loop;
	struct worker *worker;
	const struct intake_events *events;
	void *arg;
	size_t queued;	    /* the event loop's */
	size_t queue_bytes; /* from here on reading pauses */
	uint64_t bytes;	    /* the event loop's */
	bool paused;	    /* the event loop's */
	atomic_bool stopped;
	struct loop_call freed;

	pthread_mutex_t lock;
	pthread_cond_t released;
	struct store *free_stores[STORES];
	unsigned int free_count;

	/* The thread's own. */
	struct intake_disks *disks;
	struct history *history; /* NULL: no deltas */
	struct store *filling;
	int failed;
};

struct item {
	struct intake *in;
	struct worker_job job;
	struct frame frame; /* its payload follows */
	int err;
	const char *why;
	struct store *done; /* a complete epoch */
	struct frame_buf *answer;
	bool imaged;
	uint8_t payload[];
};

/* --- on the thread ------------------------------------------------------ */

static struct store *take_store(struct intake *in)
{
	AUTO_LOCK(&in->lock);
	while (!in->free_count && !in->stopped)
		pthread_cond_wait(&in->released, &in->lock);
	return in->stopped ? NULL : in->free_stores[--in->free_count];
}

static int begin(struct intake *in, struct item *it)
{
	if (in->filling) {
		it->why = "EPOCH_BEGIN inside an epoch";
		return -EPROTO;
	}
	if (!it->frame.epoch) {
		it->why = "epoch 0 is the image";
		return -EPROTO;
	}
	in->filling = take_store(in);
	if (!in->filling)
		return -ECANCELED;
	store_begin(in->filling, it->frame.epoch);
	return 0;
}

static int end(struct intake *in, struct item *it)
{
	struct wire_epoch_end e;
	int err = epoch_end_decode(&it->frame, &e, &it->why);

	if (!err)
		err = store_end(in->filling, &e, &it->why);
	if (!err)
		err = intake_disks_stored(in->disks, it->frame.epoch, &it->why);
	if (err)
		return err;
	it->done = TAKE_PTR(in->filling);
	return 0;
}

static bool is_of_disks(const struct frame *f)
{
	return f->type == WIRE_DISKS || f->type == WIRE_DISK_ASK ||
	       f->type == WIRE_DISK;
}

static int image_end(struct intake *in, struct item *it)
{
	struct wire_image_end e;
	int err = image_end_decode(&it->frame, &e, &it->why);

	it->imaged = true;
	return err ? err : intake_disks_imaged(in->disks, &e, &it->why);
}

static int decode(struct intake *in, struct item *it)
{
	const struct frame *f = &it->frame;
	int err;

	if (f->type == WIRE_EPOCH_BEGIN)
		return begin(in, it);
	if (f->type == WIRE_IMAGE_END)
		return image_end(in, it);
	if (is_of_disks(f) && !f->epoch)
		return intake_disks_frame(in->disks, f, &it->answer, &it->why);
	if (!in->filling || store_number(in->filling) != f->epoch) {
		it->why = "a frame outside its epoch";
		return -EPROTO;
	}
	switch (f->type) {
	case WIRE_PAGES:
		err = fault_at(FAULT_MID_STORE);
		if (err)
			return err;
		return store_pages(in->filling, f->payload, f->length,
				   &it->why);
	case WIRE_DISK:
		err = store_disk(in->filling, f->payload, f->length, &it->why);
		if (err)
			return err;
		return intake_disks_frame(in->disks, f, &it->answer, &it->why);
	case WIRE_STATE:
		return store_state(in->filling, f->payload, f->length,
				   &it->why);
	case WIRE_EPOCH_END:
		return end(in, it);
	default:
		it->why = "not a frame of an epoch";
		return -EPROTO;
	}
}

static void item_run(void *arg)
{
	struct item *it = arg;
	struct intake *in = it->in;

	if (in->failed || in->stopped) {
		it->err = -ECANCELED;
		return;
	}
	it->err = decode(in, it);
	in->failed = it->err;
}

/* --- on the event loop -------------------------------------------------- */

static void set_paused(struct intake *in, bool paused)
{
	if (in->paused == paused)
		return;
	in->paused = paused;
	in->events->pause(in->arg, paused);
}

static void give_back(struct frame_buf *frames)
{
	struct frame_buf *next;

	for (; frames; frames = next) {
		next = frames->next;
		frames->release(frames);
	}
}

static void item_done(void *arg)
{
	struct item *it = arg;
	struct intake *in = it->in;

	in->queued -= sizeof(*it) + it->frame.length;
	if (in->stopped) {
		if (it->done)
			intake_release(in, it->done);
		give_back(it->answer);
	} else {
		if (in->paused)
			in->events->moving(in->arg);
		if (in->queued < in->queue_bytes / QUEUE_RESUME_PART)
			set_paused(in, false);
		if (it->answer)
			in->events->answer(in->arg, it->answer);
		if (it->imaged && it->err != -ECANCELED)
			in->events->imaged(in->arg, it->err, it->why);
		else if (it->done || (it->err && it->err != -ECANCELED))
			in->events->stored(in->arg, it->err,
					   it->why ? it->why
						   : strerror(-it->err),
					   it->frame.epoch, it->done);
	}
	free(it);
}

int intake_put(struct intake *in, const struct frame *f)
{
	struct item *it = memory_new(sizeof(*it) + f->length);

	if (!it)
		return -ENOMEM;
	*it = (struct item){ .in = in, .frame = *f };
	if (f->length)
		memcpy(it->payload, f->payload, f->length);
	it->frame.payload = it->payload;
	in->queued += sizeof(*it) + f->length;
	in->bytes += f->length;
	worker_post(in->worker, &it->job, item_run, item_done, it);
	if (in->queued > in->queue_bytes)
		set_paused(in, true);
	return 0;
}

void intake_release(struct intake *in, struct store *s)
{
	AUTO_LOCK(&in->lock);
	in->free_stores[in->free_count++] = s;
	pthread_cond_signal(&in->released);
}

struct intake_disks *intake_disks(struct intake *in)
{
	return in->disks;
}

uint64_t intake_bytes(const struct intake *in)
{
	return in->bytes;
}

void intake_stop(struct intake *in)
{
	AUTO_LOCK(&in->lock);
	in->stopped = true;
	pthread_cond_broadcast(&in->released);
}

static void intake_free(void *arg)
{
	struct intake *in = arg;

	store_free(in->filling);
	while (in->free_count)
		store_free(in->free_stores[--in->free_count]);
	history_free(in->history);
	intake_disks_free(in->disks);
	pthread_cond_destroy(&in->released);
	pthread_mutex_destroy(&in->lock);
	free(in);
}

static int make_stores(struct intake *in, const struct intake_config *cfg)
{
	while (in->free_count < STORES) {
		struct store *s =
			store_new(cfg->ram_bytes, cfg->max_gfn, in->history);

		if (!s)
			return -ENOMEM;
		if (cfg->memory_bytes)
			store_limit(s, cfg->memory_bytes * 3 / 4 / STORES);
		in->free_stores[in->free_count++] = s;
	}
	return 0;
}

static size_t queue_bytes(const struct intake_config *cfg)
{
	uint64_t bytes = cfg->memory_bytes / 4;

	return bytes && bytes < QUEUE_PAUSE_BYTES ? bytes : QUEUE_PAUSE_BYTES;
}

int intake_open(struct loop *loop, const struct intake_config *cfg,
		const struct intake_events *events, void *arg,
		struct intake **out)
{
	struct intake *in = memory_zeroed(sizeof(*in));
	int err = -ENOMEM;

	if (!in)
		return err;
	in->loop = loop;
	in->events = events;
	in->arg = arg;
	in->queue_bytes = queue_bytes(cfg);
	pthread_mutex_init(&in->lock, NULL);
	pthread_cond_init(&in->released, NULL);
	err = intake_disks_new(&cfg->disks, &in->disks);
	if (err)
		goto fail;
	err = -ENOMEM;
	if (cfg->deltas) {
		in->history = history_new(cfg->max_gfn);
		if (!in->history)
			goto fail;
	}
	err = make_stores(in, cfg);
	if (err)
		goto fail;
	err = worker_start(loop, "colod-intake", &in->worker);
	if (err)
		goto fail;
	*out = in;
	return 0;
fail:
	intake_free(in);
	return err;
}

void intake_close(struct intake *in)
{
	if (!in)
		return;
	intake_stop(in);
	worker_stop(in->worker);
	/* Behind the item_done calls that the thread has posted. */
	loop_post_call(in->loop, &in->freed, intake_free, in);
}
