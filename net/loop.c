/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop on one io_uring.
 *
 * A turn of the loop: run what was posted, run the timers that are due, submit
 * and wait (until the next timer at most), call the completions.  Callbacks are
 * only ever called from the turn itself, so none runs inside a start, and an
 * operation's memory is not touched once its fn has been entered.
 *
 * The loop's own operations are polls only: where the ring goes away with one
 * of them pending, the kernel has no memory of ours to write to.
 *
 * Failure: a ring without room is submitted; where the kernel takes nothing
 * because completions have piled up they are set aside and called on the next
 * turn.  Posting a call takes no memory where its owner has a place for it.
 *
 * Needs Linux 5.19 for the cheaper wake-ups, does without them before that.
 */
#include "config.h"

#include "net/loop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <liburing.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

enum {
	SQ_ENTRIES = 256,
	CQ_ENTRIES = 1024,
	/* How long loop_run() waits, once stopped, for operations to end. */
	DRAIN_US = 500 * 1000,
};

struct completion {
	struct loop_op *op;
	int res;
};

struct loop {
	struct io_uring ring;
	bool stopping;
	size_t cancelled; /* operations that were, and are still busy */

	struct loop_timer *timers;

	pthread_mutex_t lock; /* guards the posts */
	struct loop_call *posts;
	struct loop_call **posts_end;
	int wake_fd;
	struct loop_op wake;

	int signal_fd;
	struct loop_op signals;
	void (*signal_fn)(void *arg, int signal);
	void *signal_arg;

	/* Taken from the ring while a start was waiting for room in it. */
	struct completion early[CQ_ENTRIES];
	size_t early_count;
};

static void set_aside(struct loop *l)
{
	struct io_uring_cqe *cqe;

	while (l->early_count < CQ_ENTRIES &&
	       !io_uring_peek_cqe(&l->ring, &cqe)) {
		l->early[l->early_count++] = (struct completion){
			.op = io_uring_cqe_get_data(cqe),
			.res = cqe->res,
		};
		io_uring_cqe_seen(&l->ring, cqe);
	}
}

static struct io_uring_sqe *room(struct loop *l)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&l->ring))) {
		int r = io_uring_submit(&l->ring);

		if ((r == -EBUSY || r == -EAGAIN) &&
		    l->early_count < CQ_ENTRIES) {
			set_aside(l);
		} else if (r < 0 && r != -EINTR) {
			log_error("io_uring takes no more work: error %d", -r);
			abort();
		}
	}
	return sqe;
}

static struct io_uring_sqe *begin(struct loop *l, struct loop_op *op)
{
	if (op->busy)
		abort();
	op->busy = true;
	op->cancelled = false;
	op->fault = 0;
	return room(l);
}

/* Does nothing in place of what a test wants to fail. */
static void prep_fault(struct io_uring_sqe *sqe, struct loop_op *op, int err)
{
	op->fault = err;
	io_uring_prep_nop(sqe);
}

void loop_accept(struct loop *l, struct loop_op *op, int fd)
{
	struct io_uring_sqe *sqe = begin(l, op);
	int err = fault_at(FAULT_ACCEPT);

	if (err)
		prep_fault(sqe, op, err);
	else
		io_uring_prep_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
	io_uring_sqe_set_data(sqe, op);
}

void loop_connect(struct loop *l, struct loop_op *op, int fd,
		  const struct sockaddr *addr, socklen_t len)
{
	struct io_uring_sqe *sqe = begin(l, op);
	int err = fault_at(FAULT_CONNECT);

	if (err)
		prep_fault(sqe, op, err);
	else
		io_uring_prep_connect(sqe, fd, addr, len);
	io_uring_sqe_set_data(sqe, op);
}

void loop_recv(struct loop *l, struct loop_op *op, int fd, void *buf,
	       size_t len)
{
	struct io_uring_sqe *sqe = begin(l, op);
	int err = fault_at_io(FAULT_READ, &len);

	if (err)
		prep_fault(sqe, op, err);
	else
		io_uring_prep_recv(sqe, fd, buf, len, 0);
	io_uring_sqe_set_data(sqe, op);
}

void loop_send(struct loop *l, struct loop_op *op, int fd, const void *buf,
	       size_t len)
{
	struct io_uring_sqe *sqe = begin(l, op);
	int err = fault_at_io(FAULT_WRITE, &len);

	if (err)
		prep_fault(sqe, op, err);
	else
		io_uring_prep_send(sqe, fd, buf, len, MSG_NOSIGNAL);
	io_uring_sqe_set_data(sqe, op);
}

void loop_poll(struct loop *l, struct loop_op *op, int fd, short events)
{
	struct io_uring_sqe *sqe = begin(l, op);

	io_uring_prep_poll_add(sqe, fd, (unsigned short)events);
	io_uring_sqe_set_data(sqe, op);
}

/*
 * Entries are submitted in order, so a request that its owner starts again
 * after this call comes behind the cancellation and is not hit by it.
 */
void loop_cancel(struct loop *l, struct loop_op *op)
{
	struct io_uring_sqe *sqe;

	if (!op->busy)
		return;
	if (!op->cancelled)
		l->cancelled++;
	op->cancelled = true;
	sqe = room(l);
	io_uring_prep_cancel(sqe, op, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

void loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t at_us)
{
	struct loop_timer **p = &l->timers;

	loop_timer_stop(l, t);
	while (*p && (*p)->at_us <= at_us)
		p = &(*p)->next;
	t->at_us = at_us;
	t->next = *p;
	t->armed = true;
	*p = t;
}

void loop_timer_stop(struct loop *l, struct loop_timer *t)
{
	struct loop_timer **p = &l->timers;

	if (!t->armed)
		return;
	while (*p != t)
		p = &(*p)->next;
	*p = t->next;
	t->armed = false;
}

static void post(struct loop *l, struct loop_call *c)
{
	bool first;

	AUTO_LOCK(&l->lock);
	first = !l->posts;
	*l->posts_end = c;
	l->posts_end = &c->next;
	/* Inside the lock: the loop may be closed once the call has run. */
	if (first)
		eventfd_write(l->wake_fd, 1);
}

void loop_post_call(struct loop *l, struct loop_call *c, void (*fn)(void *arg),
		    void *arg)
{
	*c = (struct loop_call){ .fn = fn, .arg = arg };
	post(l, c);
}

void loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
	struct loop_call *c = malloc(sizeof(*c));

	if (!c) {
		log_error("no memory to hand a call to the event loop");
		abort();
	}
	*c = (struct loop_call){ .fn = fn, .arg = arg, .heap = true };
	post(l, c);
}

static void woken(void *arg, int res)
{
	struct loop *l = arg;
	eventfd_t count;

	(void)res;
	eventfd_read(l->wake_fd, &count);
	loop_poll(l, &l->wake, l->wake_fd, POLLIN);
}

static void signalled(void *arg, int res)
{
	struct loop *l = arg;
	struct signalfd_siginfo info;

	(void)res;
	loop_poll(l, &l->signals, l->signal_fd, POLLIN);
	while (read(l->signal_fd, &info, sizeof(info)) == sizeof(info))
		l->signal_fn(l->signal_arg, (int)info.ssi_signo);
}

int loop_signals(struct loop *l, const sigset_t *set,
		 void (*fn)(void *arg, int signal), void *arg)
{
	int r;

	if (l->signal_fd >= 0)
		return -EBUSY;
	r = pthread_sigmask(SIG_BLOCK, set, NULL);
	if (r)
		return -r;
	l->signal_fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (l->signal_fd < 0)
		return -errno;
	l->signal_fn = fn;
	l->signal_arg = arg;
	l->signals = (struct loop_op){ .fn = signalled, .arg = l };
	loop_poll(l, &l->signals, l->signal_fd, POLLIN);
	return 0;
}

static int ring_open(struct io_uring *ring)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL |
			 IORING_SETUP_COOP_TASKRUN,
		.cq_entries = CQ_ENTRIES,
	};
	int r = io_uring_queue_init_params(SQ_ENTRIES, ring, &p);

	if (r != -EINVAL)
		return r;
	p = (struct io_uring_params){
		.flags = IORING_SETUP_CQSIZE,
		.cq_entries = CQ_ENTRIES,
	};
	return io_uring_queue_init_params(SQ_ENTRIES, ring, &p);
}

int loop_open(struct loop **out)
{
	AUTO_FREE struct loop *l = calloc(1, sizeof(*l));
	AUTO_FD int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int r;

	if (!l)
		return -ENOMEM;
	if (wake_fd < 0)
		return -errno;
	r = ring_open(&l->ring);
	if (r)
		return r;
	pthread_mutex_init(&l->lock, NULL);
	l->posts_end = &l->posts;
	l->signal_fd = -1;
	l->wake_fd = TAKE_FD(wake_fd);
	l->wake = (struct loop_op){ .fn = woken, .arg = l };
	loop_poll(l, &l->wake, l->wake_fd, POLLIN);
	*out = TAKE_PTR(l);
	return 0;
}

void loop_close(struct loop *l)
{
	struct loop_call *p;

	/* Waits for a loop_post() that has not yet left its lock. */
	pthread_mutex_lock(&l->lock);
	p = l->posts;
	pthread_mutex_unlock(&l->lock);
	while (p) {
		struct loop_call *next = p->next;

		if (p->heap)
			free(p);
		p = next;
	}
	io_uring_queue_exit(&l->ring);
	close(l->wake_fd);
	if (l->signal_fd >= 0)
		close(l->signal_fd);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static bool have_posts(struct loop *l)
{
	AUTO_LOCK(&l->lock);
	return l->posts;
}

static void run_posts(struct loop *l)
{
	struct loop_call *p;

	pthread_mutex_lock(&l->lock);
	p = l->posts;
	l->posts = NULL;
	l->posts_end = &l->posts;
	pthread_mutex_unlock(&l->lock);
	while (p) {
		struct loop_call c = *p;

		if (c.heap)
			free(p);
		c.fn(c.arg);
		p = c.next;
	}
}

/* No more than were due at first: one that is always due must not starve I/O.
 */
static void run_timers(struct loop *l)
{
	uint64_t now_us = l->timers ? clock_now_us() : 0;
	size_t due = 0;

	for (struct loop_timer *t = l->timers; t && t->at_us <= now_us;
	     t = t->next)
		due++;
	for (; due && l->timers && l->timers->at_us <= now_us; due--) {
		struct loop_timer *t = l->timers;

		l->timers = t->next;
		t->armed = false;
		t->fn(t->arg);
	}
}

enum { FOREVER = -1 };

static int64_t wait_us(struct loop *l)
{
	uint64_t now_us;

	if (l->early_count || have_posts(l))
		return 0;
	if (l->stopping)
		return l->cancelled ? 1000 : 0;
	if (!l->timers)
		return FOREVER;
	now_us = clock_now_us();
	return l->timers->at_us > now_us ? (int64_t)(l->timers->at_us - now_us)
					 : 0;
}

static int submit_and_wait(struct loop *l)
{
	int64_t us = wait_us(l);
	struct __kernel_timespec ts = {
		.tv_sec = us / 1000000,
		.tv_nsec = us % 1000000 * 1000,
	};
	struct io_uring_cqe *cqe;
	int r = io_uring_submit_and_wait_timeout(
		&l->ring, &cqe, 1, us == FOREVER ? NULL : &ts, NULL);

	if (r == -ETIME || r == -EINTR || r == -EBUSY || r == -EAGAIN)
		return 0;
	return r < 0 ? r : 0;
}

static void complete(struct loop *l, struct loop_op *op, int res)
{
	if (!op) /* a cancellation's own completion */
		return;
	if (op->cancelled)
		l->cancelled--;
	op->busy = false;
	op->fn(op->arg, op->fault ? op->fault : res);
}

/* Those that were there at first, in order; what they start comes next turn. */
static void run_completions(struct loop *l)
{
	struct io_uring_cqe *cqe;
	size_t i = 0;
	unsigned ready;

	while (i < l->early_count) {
		struct completion c = l->early[i++];

		complete(l, c.op, c.res);
	}
	l->early_count = 0;
	ready = io_uring_cq_ready(&l->ring);
	while (ready-- && !io_uring_peek_cqe(&l->ring, &cqe)) {
		struct loop_op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&l->ring, cqe);
		complete(l, op, res);
	}
}

/* An owner frees itself in the completion, or in a timer started there. */
static bool draining(struct loop *l, uint64_t *until_us)
{
	uint64_t now_us = clock_now_us();

	if (!l->cancelled && (!l->timers || l->timers->at_us > now_us))
		return false;
	if (!*until_us)
		*until_us = now_us + DRAIN_US;
	return now_us < *until_us;
}

int loop_run(struct loop *l)
{
	uint64_t until_us = 0;

	while (!l->stopping || have_posts(l) || draining(l, &until_us)) {
		int r;

		run_posts(l);
		run_timers(l);
		r = submit_and_wait(l);
		if (r)
			return r;
		run_completions(l);
	}
	l->stopping = false;
	return 0;
}

void loop_stop(struct loop *l)
{
	l->stopping = true;
}

bool loop_stopping(const struct loop *l)
{
	return l->stopping;
}
