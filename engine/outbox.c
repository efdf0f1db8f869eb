/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/outbox.h"

#include "base/cleanup.h"

static void take(void *arg)
{
	struct outbox *o = arg;
	struct frame_buf *frames;

	pthread_mutex_lock(&o->lock);
	frames = o->frames;
	o->frames = NULL;
	pthread_mutex_unlock(&o->lock);
	o->send(o->arg, frames);
}

void outbox_open(struct outbox *o, struct loop *loop,
		 void (*send)(void *arg, struct frame_buf *frames), void *arg)
{
	*o = (struct outbox){ .loop = loop, .send = send, .arg = arg };
	pthread_mutex_init(&o->lock, NULL);
}

void outbox_put(struct outbox *o, struct frame_buf *frame)
{
	frame->next = NULL;
	AUTO_LOCK(&o->lock);
	if (!o->frames) {
		o->end = &o->frames;
		loop_post_call(o->loop, &o->call, take, o);
	}
	*o->end = frame;
	o->end = &frame->next;
}

void outbox_close(struct outbox *o)
{
	pthread_mutex_destroy(&o->lock);
}
