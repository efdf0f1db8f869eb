/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: one thread, one io_uring, completions as calls.  The only
 * file that includes liburing is net/loop.c.
 *
 * An operation lives in a `struct loop_op` inside its owner, which must stay
 * where it is until `fn` has been called.  `fn` is called exactly once for
 * each start, on the loop's thread, with the result of the system call
 * (>= 0, or a negative errno; -ECANCELED after loop_cancel()), never from
 * inside the call that started it.  fn may start the same op again.
 *
 * Everything here is called on the loop's thread, except loop_post().  A start
 * cannot fail: where the ring has no room the loop submits and tries again.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct loop;

struct loop_op {
	void (*fn)(void *arg, int res);
	void *arg;
	bool busy;	/* started, fn not yet called */
	bool cancelled; /* the loop's: it waits for these on its way out */
	int fault;	/* the loop's: what a test makes of the result */
};

/* 0 or a negative errno: -ENOSYS or -EPERM where io_uring is not to be had. */
int loop_open(struct loop **out);
/* All operations must have ended, all timers must be stopped. */
void loop_close(struct loop *l);

/*
 * Runs until loop_stop(), then on until nothing is queued by loop_post(), no
 * timer is due, and the operations that their owners have cancelled have ended
 * (at most half a second).  Others stay under way: it may be run again.
 */
int loop_run(struct loop *l);
void loop_stop(struct loop *l);
bool loop_stopping(const struct loop *l);

/* A call to be made, in its owner; all of it is the loop's. */
struct loop_call {
	void (*fn)(void *arg);
	void *arg;
	struct loop_call *next;
	bool heap; /* made by loop_post() */
};

/*
 * Calls fn(arg) on the loop's thread, soon, in order.  Any thread.  `c` is its
 * owner's again when fn is entered.
 */
void loop_post_call(struct loop *l, struct loop_call *c, void (*fn)(void *arg),
		    void *arg);
/*
 * The same for one who has no place for it.  Without memory it aborts, so what
 * runs in the daemons uses the other.
 */
void loop_post(struct loop *l, void (*fn)(void *arg), void *arg);

void loop_accept(struct loop *l, struct loop_op *op, int fd);
/* `addr` must stay until fn is called. */
void loop_connect(struct loop *l, struct loop_op *op, int fd,
		  const struct sockaddr *addr, socklen_t len);
void loop_recv(struct loop *l, struct loop_op *op, int fd, void *buf,
	       size_t len);
/* May send less than `len`, as send(2); never raises SIGPIPE. */
void loop_send(struct loop *l, struct loop_op *op, int fd, const void *buf,
	       size_t len);
/* Waits for poll(2) `events` once; res is the revents. */
void loop_poll(struct loop *l, struct loop_op *op, int fd, short events);
/* Asks a busy op to end; its fn is still called.  Harmless when not busy. */
void loop_cancel(struct loop *l, struct loop_op *op);

/* A timer in its owner; may be started again at any time to move it. */
struct loop_timer {
	void (*fn)(void *arg);
	void *arg;
	uint64_t at_us;		 /* of clock_now_us() */
	struct loop_timer *next; /* the loop's, sorted by at_us */
	bool armed;
};

void loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t at_us);
void loop_timer_stop(struct loop *l, struct loop_timer *t);

/*
 * Blocks these signals for the process (call before threads are made) and
 * calls fn with each that arrives.
 */
int loop_signals(struct loop *l, const sigset_t *set,
		 void (*fn)(void *arg, int signal), void *arg);

#endif
