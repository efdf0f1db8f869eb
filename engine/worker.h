/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that does one job after the other and reports each to the event
 * loop.  For what may block: the guest's operations, compression.
 */
#ifndef ENGINE_WORKER_H
#define ENGINE_WORKER_H

#include "net/loop.h"

struct worker;

/* `name` (at most 15 characters) shows in ps and gdb. */
int worker_start(struct loop *loop, const char *name, struct worker **out);

/* In its owner, and all of it the worker's: handing it over cannot fail. */
struct worker_job {
	void (*run)(void *arg);
	void (*done)(void *arg);
	void *arg;
	struct worker_job *next;
	struct loop_call call;
};

/*
 * Queues run(arg) for the thread; done(arg) follows on the loop's thread, and
 * may free the job.
 */
void worker_post(struct worker *w, struct worker_job *job,
		 void (*run)(void *arg), void (*done)(void *arg), void *arg);

/* Finishes what is queued, then ends the thread; `done`s may still follow. */
void worker_stop(struct worker *w);

#endif
