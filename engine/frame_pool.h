/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fixed number of full-size frame buffers between the encoder's thread and
 * the link: the bound on what is encoded and not yet sent.
 */
#ifndef ENGINE_FRAME_POOL_H
#define ENGINE_FRAME_POOL_H

#include <stdbool.h>

#include "stream/frame.h"

struct frame_pool;

struct frame_pool *frame_pool_new(unsigned int count);
/*
 * Calls fn(arg, b) whenever a buffer is given back, by whoever gives it: the
 * link has taken the frame in it, or is gone.  Before the pool is used.
 */
void frame_pool_watch(struct frame_pool *p,
		      void (*fn)(void *arg, const struct frame_buf *b),
		      void *arg);
/* All buffers must have come back. */
void frame_pool_free(struct frame_pool *p);

/*
 * A buffer of WIRE_PAYLOAD_MAX bytes; waits until one is released.  NULL after
 * frame_pool_cancel(true), until frame_pool_cancel(false).
 */
struct frame_buf *frame_pool_get(struct frame_pool *p);
/* Takes one back that was not used; nobody is told. */
void frame_pool_unget(struct frame_pool *p, struct frame_buf *b);
/* How many are on their way, as of now. */
unsigned int frame_pool_out(struct frame_pool *p);
void frame_pool_cancel(struct frame_pool *p, bool cancelled);

#endif
