/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's process: what its files share.
 *
 *   process.c  making it, from the command line to the agent's loop
 *   vcpu.c     the vCPUs' threads, and how all threads stop and go on
 *   backend.c  the device: connections and the output gate
 *   agent.c    the socket by which colod finds it, suspend requests, the end
 *
 * One guest a process.  The threads: the agent's (main), the backend's where
 * the workload has a device, one for each vCPU.  The vCPUs and the backend are
 * the parties of a stop; the agent never touches the guest's memory but while
 * all parties stand still.
 */
#ifndef RESUME_EMBEDDED_PROCESS_H
#define RESUME_EMBEDDED_PROCESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "resume/embedded/control.h"
#include "resume/embedded/tracked.h"
#include "resume/embedded/workload.h"

struct backend;

/* The descriptors that an attaching colod is given, in this order. */
enum embedded_fd {
	EMBEDDED_FD_MEMORY,
	EMBEDDED_FD_CONTROL,
	EMBEDDED_FD_SUSPEND, /* eventfd: the guest's suspend event channel */
	EMBEDDED_FD_WATCH,   /* eventfd: the control word was written */
	EMBEDDED_FD_BACKEND, /* eventfd: the gate was changed */
	EMBEDDED_FD_DONE,    /* eventfd: the state has changed */
	EMBEDDED_FDS,
};

struct embedded_process {
	struct embedded_control *control;
	uint8_t *memory;
	uint64_t ram_bytes;
	const struct workload *workload;
	int fd[EMBEDDED_FDS];
	int agent_fd; /* eventfd: a stop is complete */

	unsigned int parties;
	_Atomic uint32_t events; /* futex of vCPUs that wait for an event */
	/* After a stop, until vCPU 0 has set up its frontend: a futex. */
	_Atomic uint32_t devices_wait;
	struct backend *backend;

	/* The agent's. */
	struct tracked tracked;
	char run_dir[256];
	int listener;
	bool foreground;
	int signal_fd;	     /* or -1 */
	uint32_t shutdown;   /* asked for: enum embedded_state, or 0 */
	bool suspend_asked;  /* and acknowledged */
	uint64_t late_at_us; /* when that will be honoured, or 0 */
	bool asked_to_end;   /* by a signal */
	bool ending;
};

struct process_request {
	const char *run_dir;
	struct embedded_spec spec;
	uint8_t uuid[16];
	bool standby;
	bool foreground;
	int ready_fd; /* told when it is up, or why not; or -1 */
};

/* Another guest has the name; all other failures are status 1. */
enum { EMBEDDED_EXIT_EXISTS = 2 };

/* Runs the guest until its end; returns an exit status. */
int embedded_process(const struct process_request *r);

/* vcpu.c */
int vcpus_start(struct embedded_process *p);
/*
 * Registers and memory as after a boot; all parties stand still.  Where what
 * the workload loads is not to be had: one line in *err, and a guest that boots
 * without it.
 */
int vcpus_boot(struct embedded_process *p, struct guest_error *err);
/* For a party that has seen `stop`: stands still until a resume. */
void party_park(struct embedded_process *p);
/* The agent: asks all parties to stop and reach `state`. */
void parties_stop(struct embedded_process *p, uint32_t state);
/* An event for vCPUs that wait for one. */
void vcpus_event(struct embedded_process *p);

/* backend.c */
int backend_open(struct embedded_process *p, struct guest_error *err);
int backend_start(struct embedded_process *p);
/* By the last party that parks: takes what the frontend has put out. */
void backend_drain(struct embedded_process *p);

/* agent.c */
int agent_open(struct embedded_process *p, struct guest_error *err);
void agent_run(struct embedded_process *p);

#endif
