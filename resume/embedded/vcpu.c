/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vCPUs' threads, and how all parties stop and go on.
 *
 * The happy path:
 *   - a vCPU runs step after step, at the workload's rate or as events come;
 *   - the agent sets `stop`; each party parks when it sees it, between steps;
 *   - the last one takes what the frontend has put out, moves the state word
 *     and tells colod;
 *   - all leave when `resumes` moves; with return code 0, vCPU 0 sets up its
 *     frontend anew before the backend touches the rings.
 * Failure modes: none; a vCPU that never returns from a step would be a guest
 * that hangs, which colod's time limit is for.
 */
#include "config.h"

#include "resume/embedded/process.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include "base/clock.h"
#include "resume/embedded/memory.h"

/* A vCPU that waits for an event looks by itself this often. */
#define HALT_US UINT64_C(200000)
#define TICK_US UINT64_C(1000)
/* What it fell behind by more than this is not made up for. */
#define BEHIND_US UINT64_C(100000)
enum { STEPS_A_LOOK = 64 };

struct vcpu {
	struct embedded_process *process;
	struct workload_view view;
	uint64_t began_us; /* of `done` */
	uint64_t done;
};

static void complete(struct embedded_process *p)
{
	struct embedded_control *c = p->control;
	uint32_t was = atomic_load(&c->state), to;

	backend_drain(p);
	atomic_store(&p->devices_wait, 1);
	do {
		to = atomic_load(&c->stop);
		if (to == EMBEDDED_STATE_SUSPENDED)
			to |= was & EMBEDDED_WANTED;
	} while (!atomic_compare_exchange_weak(&c->state, &was, to));
	atomic_fetch_add(&c->suspends, 1);
	eventfd_write(p->fd[EMBEDDED_FD_DONE], 1);
	eventfd_write(p->agent_fd, 1);
}

void party_park(struct embedded_process *p)
{
	struct embedded_control *c = p->control;
	uint32_t then = atomic_load(&c->resumes);

	if (atomic_fetch_add(&c->parked, 1) + 1 == p->parties)
		complete(p);
	while (atomic_load(&c->resumes) == then)
		embedded_futex_wait(&c->resumes, then, 0);
}

void vcpus_event(struct embedded_process *p)
{
	atomic_fetch_add(&p->events, 1);
	embedded_futex_wake(&p->events);
}

void parties_stop(struct embedded_process *p, uint32_t state)
{
	atomic_store(&p->control->stop, state);
	vcpus_event(p);
	if (p->backend)
		eventfd_write(p->fd[EMBEDDED_FD_BACKEND], 1);
}

/* --- one vCPU ----------------------------------------------------------- */

static void stand_still(struct vcpu *v)
{
	struct embedded_process *p = v->process;
	struct embedded_control *c = p->control;

	party_park(p);
	if (v->view.vcpu == 0) {
		if (atomic_load(&c->return_code) == 0 && p->workload->reconnect)
			p->workload->reconnect(&v->view);
		atomic_store(&p->devices_wait, 0);
		embedded_futex_wake(&p->devices_wait);
	}
	atomic_fetch_sub(&c->parked, 1);
	v->began_us = clock_now_us();
	v->done = 0;
}

static void run_by_events(struct vcpu *v)
{
	struct embedded_process *p = v->process;
	uint32_t events = atomic_load(&p->events);
	bool busy = true;

	for (int i = 0; busy && i < STEPS_A_LOOK; i++) {
		busy = p->workload->step(&v->view);
		if (v->view.notify)
			eventfd_write(p->fd[EMBEDDED_FD_BACKEND], 1);
		v->view.notify = false;
		if (atomic_load(&p->control->stop))
			return;
	}
	if (!busy)
		embedded_futex_wait(&p->events, events, HALT_US);
}

static void run_by_rate(struct vcpu *v, uint64_t rate)
{
	struct embedded_process *p = v->process;
	uint64_t gone_us = clock_now_us() - v->began_us;
	uint64_t due = gone_us * rate / 1000000;
	uint32_t events = atomic_load(&p->events);

	for (int i = 0; v->done < due && i < STEPS_A_LOOK; i++) {
		p->workload->step(&v->view);
		v->done++;
		if (atomic_load(&p->control->stop))
			return;
	}
	if (v->done >= due) {
		embedded_futex_wait(&p->events, events, TICK_US);
	} else if ((due - v->done) * 1000000 / rate > BEHIND_US) {
		v->began_us += gone_us;
		v->done = 0;
	}
}

static void *vcpu_main(void *arg)
{
	struct vcpu *v = arg;
	struct embedded_process *p = v->process;
	uint64_t rate = p->workload->rate ? p->workload->rate(v->view.spec) : 0;

	prctl(PR_SET_NAME, "vcpu");
	for (;;) {
		if (atomic_load(&p->control->stop))
			stand_still(v);
		else if (rate)
			run_by_rate(v, rate);
		else
			run_by_events(v);
	}
	return NULL;
}

static struct workload_view view_of(struct embedded_process *p, unsigned int i)
{
	return (struct workload_view){
		.spec = &p->control->spec,
		.memory = p->memory,
		.bytes = p->ram_bytes,
		.vcpu = i,
		.reg = p->control->vcpu[i].reg,
	};
}

static int load(struct embedded_process *p, struct guest_error *err)
{
	struct workload_view v = view_of(p, 0);

	return p->workload->load ? p->workload->load(&v, err) : 0;
}

int vcpus_boot(struct embedded_process *p, struct guest_error *err)
{
	struct embedded_header *h = (void *)p->memory;
	int rc = load(p, err);

	h->magic = EMBEDDED_MEMORY_MAGIC;
	h->bytes = p->ram_bytes;
	h->workload = p->control->spec.workload;
	h->vcpus = p->control->vcpu_count;
	for (unsigned int i = 0; i < p->control->vcpu_count; i++) {
		struct workload_view v = view_of(p, i);

		p->workload->boot(&v);
	}
	return rc;
}

int vcpus_start(struct embedded_process *p)
{
	for (unsigned int i = 0; i < p->control->vcpu_count; i++) {
		struct vcpu *v = calloc(1, sizeof(*v));
		pthread_t thread;
		int err;

		if (!v)
			return -ENOMEM;
		v->process = p;
		v->view = view_of(p, i);
		v->began_us = clock_now_us();
		err = pthread_create(&thread, NULL, vcpu_main, v);
		if (err)
			return -err;
		pthread_detach(thread);
	}
	return 0;
}
