/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames from a thread that makes them to the event loop, which sends them: in
 * order, as many at once as there are.  One outbox for one connection.
 */
#ifndef ENGINE_OUTBOX_H
#define ENGINE_OUTBOX_H

#include <pthread.h>

#include "net/loop.h"
#include "stream/frame.h"

struct outbox {
	struct loop *loop;
	/*
	 * On the loop's thread: sends `frames`, a list by `next`, or gives them
	 * back where their connection is no more.
	 */
	void (*send)(void *arg, struct frame_buf *frames);
	void *arg;
	pthread_mutex_t lock;
	struct frame_buf *frames;
	struct frame_buf **end;
	struct loop_call call; /* under way where there are frames */
};

void outbox_open(struct outbox *o, struct loop *loop,
		 void (*send)(void *arg, struct frame_buf *frames), void *arg);
/* Takes the frame over.  Any thread. */
void outbox_put(struct outbox *o, struct frame_buf *frame);
/* On the loop's thread, behind the last `send`. */
void outbox_close(struct outbox *o);

#endif
