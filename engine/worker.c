/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"

struct worker {
	struct loop *loop;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t posted;
	struct worker_job *first;
	struct worker_job **last;
	bool stopping;
};

static struct worker_job *next_job(struct worker *w)
{
	struct worker_job *job;

	AUTO_LOCK(&w->lock);
	while (!w->first && !w->stopping)
		pthread_cond_wait(&w->posted, &w->lock);
	job = w->first;
	if (job) {
		w->first = job->next;
		if (!w->first)
			w->last = &w->first;
	}
	return job;
}

static void *thread_main(void *arg)
{
	struct worker *w = arg;
	struct worker_job *job;

	while ((job = next_job(w))) {
		job->run(job->arg);
		loop_post_call(w->loop, &job->call, job->done, job->arg);
	}
	return NULL;
}

int worker_start(struct loop *loop, const char *name, struct worker **out)
{
	struct worker *w = memory_zeroed(sizeof(*w));
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

void worker_post(struct worker *w, struct worker_job *job,
		 void (*run)(void *arg), void (*done)(void *arg), void *arg)
{
	*job = (struct worker_job){ .run = run, .done = done, .arg = arg };
	AUTO_LOCK(&w->lock);
	*w->last = job;
	w->last = &job->next;
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
