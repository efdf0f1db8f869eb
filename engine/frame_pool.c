/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/frame_pool.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"

struct frame_pool {
	pthread_mutex_t lock;
	pthread_cond_t released;
	struct frame_buf *free_list;
	unsigned int out;
	bool cancelled;
	void (*watch)(void *arg, const struct frame_buf *b);
	void *watch_arg;
};

void frame_pool_unget(struct frame_pool *p, struct frame_buf *b)
{
	AUTO_LOCK(&p->lock);
	b->next = p->free_list;
	p->free_list = b;
	p->out--;
	pthread_cond_signal(&p->released);
}

static void release(struct frame_buf *b)
{
	struct frame_pool *p = b->owner;

	if (p->watch)
		p->watch(p->watch_arg, b);
	frame_pool_unget(p, b);
}

struct frame_pool *frame_pool_new(unsigned int count)
{
	struct frame_pool *p = memory_zeroed(sizeof(*p));

	if (!p)
		return NULL;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->released, NULL);
	while (count--) {
		struct frame_buf *b = frame_buf_new(0, 0, WIRE_PAYLOAD_MAX);

		if (!b) {
			frame_pool_free(p);
			return NULL;
		}
		b->owner = p;
		b->release = release;
		b->next = p->free_list;
		p->free_list = b;
	}
	return p;
}

void frame_pool_watch(struct frame_pool *p,
		      void (*fn)(void *arg, const struct frame_buf *b),
		      void *arg)
{
	p->watch = fn;
	p->watch_arg = arg;
}

void frame_pool_free(struct frame_pool *p)
{
	if (!p)
		return;
	while (p->free_list) {
		struct frame_buf *b = p->free_list;

		p->free_list = b->next;
		free(b);
	}
	pthread_cond_destroy(&p->released);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

struct frame_buf *frame_pool_get(struct frame_pool *p)
{
	struct frame_buf *b;

	AUTO_LOCK(&p->lock);
	while (!p->free_list && !p->cancelled)
		pthread_cond_wait(&p->released, &p->lock);
	if (p->cancelled)
		return NULL;
	b = p->free_list;
	p->free_list = b->next;
	p->out++;
	b->next = NULL;
	return b;
}

unsigned int frame_pool_out(struct frame_pool *p)
{
	AUTO_LOCK(&p->lock);
	return p->out;
}

void frame_pool_cancel(struct frame_pool *p, bool cancelled)
{
	AUTO_LOCK(&p->lock);
	p->cancelled = cancelled;
	pthread_cond_broadcast(&p->released);
}
