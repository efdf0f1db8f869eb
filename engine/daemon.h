/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both daemons share: the event loop, the timers, signals, the fence, the
 * control socket, and the way of a job to its thread and back as an event.
 */
#ifndef ENGINE_DAEMON_H
#define ENGINE_DAEMON_H

#include <jansson.h>
#include <stdbool.h>

#include "engine/control.h"
#include "engine/env.h"
#include "engine/options.h"
#include "engine/worker.h"
#include "net/filter.h"
#include "net/link.h"
#include "net/loop.h"
#include "net/tls.h"

struct daemon;

struct daemon_timer {
	struct loop_timer timer;
	struct daemon *daemon;
	enum env_timer id;
};

/*
 * A job on the guest's thread.  `run` fills err, error, guest, again; then, on
 * the loop, `after` (may be NULL) and EVENT_DONE.  `extra` is the role's.
 * There are as many as the machines can ask for at once, from the start: a job
 * never fails for want of memory, since nobody could be told.
 */
struct guest_job {
	struct daemon *daemon;
	enum env_job job;
	uint64_t epoch;
	void *owner;
	void *extra;
	void (*run)(struct guest_job *j);
	void (*after)(struct guest_job *j);
	int err;
	struct guest_error error;
	enum guest_status guest;
	bool again;
	bool partial;
	bool taken;
	struct worker_job work;
};

enum { DAEMON_JOBS = 16 };

struct daemon {
	const struct settings *set;
	struct loop *loop;
	struct tls_identity *identity;
	struct control *control;
	struct drill *drill;  /* what the links suffer, by the operator */
	struct worker *guest; /* the thread of all guest operations */
	struct fence *fence;  /* while its command runs */
	struct loop_call no_fence;
	struct guest_job jobs[DAEMON_JOBS];
	struct loop_call last; /* ends the loop */
	struct daemon_timer timers[ENV_TIMERS];
	char host[WIRE_NAME_MAX + 1];
	int exit_status;
	bool finished;

	/* The role's: its machine's event function, and its status. */
	void (*event)(void *owner, const struct event *e);
	json_t *(*status)(void *owner);
	void *owner;
};

/*
 * Loads the certificates, opens the log, and blocks the signals that the event
 * loop takes later: a library's thread must not be the one they kill.  Before
 * the process has threads.
 * 0 or a negative errno after one line on standard error.
 */
int daemon_prepare(struct daemon *d, const struct settings *set);
/* Starts loop, signals, guest thread and the control socket NAME.sock. */
int daemon_start(struct daemon *d, const char *name);
/* Runs the event loop until daemon_finish(); returns the exit status. */
int daemon_run(struct daemon *d);
/* Frees all; the role has closed what is its own. */
void daemon_fini(struct daemon *d);

/*
 * A link of this daemon, behind a filter that obeys its drills.  As
 * link_connect(); and for one that was accepted: takes *events and *arg, leaves
 * those for `inner`.
 */
struct link *daemon_connect(struct daemon *d, const char *host, uint16_t port,
			    const struct link_events *events, void *arg);
struct link *daemon_filter(struct daemon *d, struct link *inner,
			   const struct link_events **events, void **arg);
/* -EINVAL with one line in why[DRILL_WHY_BYTES]. */
int daemon_drill(struct daemon *d, const char *words, char *why);

/* For a status: microseconds from then to now; -1 where it never was. */
json_int_t daemon_since_us(uint64_t then_us);

/* For env_ops. */
uint64_t daemon_now_us(void *arg);
uint64_t daemon_random(void *arg);
void daemon_timer(struct daemon *d, enum env_timer t, uint64_t at_us);
void daemon_finish(struct daemon *d, int exit_status);
/* As env_ops.send and .disconnect; `l` is NULL where none is up. */
void daemon_send(struct link *l, struct frame_buf *frame);
void daemon_disconnect(struct link *l, const struct bye *bye);
void daemon_fence(struct daemon *d, const char *domain, const char *peer,
		  const char *role);
void daemon_fence_cancel(struct daemon *d);

/* One of them, zeroed; and back again. */
struct guest_job *daemon_job_take(struct daemon *d);
void daemon_job_give(struct guest_job *j);

void daemon_job(struct daemon *d, enum env_job job, uint64_t epoch,
		void (*run)(struct guest_job *j),
		void (*after)(struct guest_job *j), void *extra);

/*
 * The same with `err` and `error` already set: `run` sees them.
 */
void daemon_job_err(struct daemon *d, enum env_job job, uint64_t epoch,
		    void (*run)(struct guest_job *j),
		    void (*after)(struct guest_job *j), void *extra, int err,
		    const struct guest_error *error);

/* EVENT_DONE for a job that was not run by daemon_job(). */
void daemon_done(struct daemon *d, enum env_job job, uint64_t epoch, int err,
		 const char *text);

/*
 * Splits "HOST", "HOST:PORT", "[V6]:PORT" or a bare IPv6 address.  -EINVAL
 * where the port is not one or the host is empty or too long.
 */
int daemon_parse_peer(const char *words, char *host, size_t room,
		      uint16_t *port);

#endif
