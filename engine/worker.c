/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/cleanup.h"

struct work {
	struct work *next;
	void (*run)(void *arg);
	void (*done)(void *arg);
	void *arg;
};

struct worker {
	struct loop *loop;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t posted;
	struct work *first;
	struct work **last;
	bool stopping;
};

static struct work *next_work(struct worker *w)
{
	struct work *work;

	AUTO_LOCK(&w->lock);
	while (!w->first && !w->stopping)
		pthread_cond_wait(&w->posted, &w->lock);
	work = w->first;
	if (work) {
		w->first = work->next;
		if (!w->first)
			w->last = &w->first;
	}
	return work;
}

static void *thread_main(void *arg)
{
	struct worker *w = arg;
	struct work *work;

	while ((work = next_work(w))) {
		work->run(work->arg);
		loop_post(w->loop, work->done, work->arg);
		free(work);
	}
	return NULL;
}

int worker_start(struct loop *loop, const char *name, struct worker **out)
{
	struct worker *w = calloc(1, sizeof(*w));
	int err;

	if (!w)
		return -ENOMEM;
	w->loop = loop;
	w->last = &w->first;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->posted, NULL);
	err = pthread_create(&w->thread, NULL, thread_main, w);
	if (err) {
		free(w);
		return -err;
	}
	pthread_setname_np(w->thread, name);
	*out = w;
	return 0;
}

void worker_post(struct worker *w, void (*run)(void *arg),
		 void (*done)(void *arg), void *arg)
{
	struct work *work = calloc(1, sizeof(*work));

	if (!work)
		abort();
	*work = (struct work){ .run = run, .done = done, .arg = arg };
	AUTO_LOCK(&w->lock);
	*w->last = work;
	w->last = &work->next;
	pthread_cond_signal(&w->posted);
}

void worker_stop(struct worker *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_signal(&w->posted);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->posted);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
