/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The environment seam: events in, actions out.
 *
 * The two role machines (engine/primary.h, engine/secondary.h) do no I/O, know
 * no clock and make no threads.  What happens reaches them as a `struct event`;
 * what is to be done leaves them through `struct env_ops`.  Every action is
 * asynchronous: it returns at once, never calls back into the machine, and
 * what comes of it is a later event.  The daemon has one implementation
 * (primary_daemon.c, secondary_daemon.c), a simulator in virtual time can have
 * another.
 *
 * All calls are made on one thread.
 */
#ifndef ENGINE_ENV_H
#define ENGINE_ENV_H

#include <stdbool.h>
#include <stdint.h>

#include "resume/guest.h"
#include "stream/messages.h"

enum env_timer {
	ENV_TIMER_HEARTBEAT, /* send the next sign of life */
	ENV_TIMER_LOST,	     /* the peer has been silent for too long */
	ENV_TIMER_EPOCH,     /* the next checkpoint is due */
	ENV_TIMER_RETRY,     /* try again to reach the peer */
	ENV_TIMER_GUEST,     /* look whether an unprotected guest still runs */
	ENV_TIMERS
};

/* Work for the guest's thread or the fence; each ends in EVENT_DONE. */
enum env_job {
	/* primary: image to the peer, tracking on, guest runs again */
	ENV_JOB_SYNC,
	/* primary: one checkpoint round of event.epoch: suspend..resume */
	ENV_JOB_CAPTURE,
	/* primary: what was captured becomes frames on the link */
	ENV_JOB_ENCODE,
	/* primary: tracking off, guest runs */
	ENV_JOB_RELEASE,
	/* primary: the guest must not run here any more */
	ENV_JOB_YIELD,
	/* both: what the guest's configuration says after its shutdown */
	ENV_JOB_AFTER_SHUTDOWN,
	/* both: ask the guest's status */
	ENV_JOB_STATUS,
	/* both: the fence command; status 0 means the peer is down */
	ENV_JOB_FENCE,
	/* secondary: the standby from the DOMAIN and IMAGE frames */
	ENV_JOB_BUILD,
	/* secondary: apply the stored epoch */
	ENV_JOB_APPLY,
	/* secondary: the standby runs */
	ENV_JOB_ACTIVATE,
	/* secondary: the standby and all of its epochs are removed */
	ENV_JOB_DESTROY,
	ENV_JOBS
};

enum env_epoch_end {
	ENV_EPOCH_ACKNOWLEDGED,
	ENV_EPOCH_SKIPPED, /* the guest did not suspend */
	ENV_EPOCH_ABORTED,
};

enum event_type {
	EVENT_START,
	EVENT_LINK_UP,	 /* authenticated */
	EVENT_LINK_DOWN, /* error, text; also when it never came up */
	EVENT_ALIVE,	 /* authenticated bytes arrived */
	EVENT_HELLO,	 /* hello: the secondary's answer */
	EVENT_DOMAIN,	 /* hello, description: a primary was admitted */
	EVENT_BLOCKED, /* primary: the image waits for the peer to take more */
	EVENT_MOVED,   /* primary: more of image or epoch is sent, or can be */
	EVENT_IMAGE_END, /* the whole image has arrived, checked */
	EVENT_STORED,	 /* epoch: complete and verified, or error */
	EVENT_ACK,	 /* epoch, applied */
	EVENT_BYE,	 /* bye */
	EVENT_VIOLATION, /* error, text: a frame that is not of the protocol */
	EVENT_TIMER,	 /* timer */
	EVENT_DONE, /* job, epoch, error; partial, guest where they apply */
	EVENT_STOP, /* the operator ends it: SIGTERM, SIGINT, `colod stop` */
	EVENT_FAILOVER, /* the operator says that the peer is down */
};

struct event {
	enum event_type type;
	int error;	  /* 0 or a negative errno */
	const char *text; /* one line, or NULL */
	uint64_t epoch;
	uint64_t applied;
	enum env_timer timer;
	enum env_job job;
	bool partial; /* ENV_JOB_CAPTURE: another round must follow */
	bool again;   /* ENV_JOB_AFTER_SHUTDOWN: the guest runs anew */
	enum guest_status guest; /* after -ESHUTDOWN and ENV_JOB_STATUS */
	const struct hello *hello;
	const struct guest_description *description;
	const struct bye *bye;
};

struct env_ops {
	uint64_t (*now_us)(void *arg);
	uint64_t (*random)(void *arg);

	/* Sets the timer; a set one is moved.  at_us == 0 stops it. */
	void (*timer)(void *arg, enum env_timer timer, uint64_t at_us);

	/* primary: make a connection -> EVENT_LINK_UP or EVENT_LINK_DOWN */
	void (*connect)(void *arg);
	/*
	 * Sends the frame and takes it over; drops it where there is no link.
	 * NULL (no memory for it) is allowed and ends the connection: a frame
	 * that is missing must not keep the peer waiting for ever.
	 */
	void (*send)(void *arg, struct frame_buf *frame);
	/*
	 * Ends the connection -> EVENT_LINK_DOWN.  With `bye` it is sent behind
	 * what is queued; without, queued frames are dropped.
	 */
	void (*disconnect)(void *arg, const struct bye *bye);

	/*
	 * primary: what becomes of the output that the guest's gate holds, see
	 * guest_source_ops.gate.  The gate closes by itself when ENV_JOB_SYNC
	 * has the whole image, before the guest runs on, and each
	 * ENV_JOB_CAPTURE sets the barrier of its epoch.
	 */
	void (*gate)(void *arg, enum guest_gate order, uint64_t epoch);

	/*
	 * primary: what became of an epoch, with the reason where it will never
	 * be acknowledged; before its number is given away again.  For records
	 * alone: nothing follows from it.  May be NULL.
	 */
	void (*epoch_over)(void *arg, uint64_t epoch, enum env_epoch_end end,
			   const char *why);

	void (*job)(void *arg, enum env_job job, uint64_t epoch);
	/* Makes a running SYNC, BUILD, FENCE or AFTER_SHUTDOWN end soon. */
	void (*cancel)(void *arg, enum env_job job);

	/* The process (or this protection) is over. */
	void (*finish)(void *arg, int exit_status);
};

struct env {
	const struct env_ops *ops;
	void *arg;
};

/* Exit statuses, documented in colod(8). */
enum {
	EXIT_ENDED = 0,	 /* in order */
	EXIT_FAILED = 1, /* could not start, or bad input */
	EXIT_USAGE = 2,
	EXIT_UNPROTECTED = 3, /* ended while protection was lost */
	EXIT_YIELDED = 4,     /* the guest runs on the other host */
	EXIT_GUEST_CRASHED = 5,
};

#endif
