/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking an embedded guest to suspend itself, and resuming it.
 *
 * The happy path:
 *   - WANTED is set, then the request made by the guest's channel;
 *   - the guest stops, moves the state word and tells by an eventfd;
 *   - resume is a few stores and a wake (control.h).
 * Failure modes:
 *   - the guest ignores the request: it is withdrawn, if it is still there;
 *   - it has taken the request but does not follow in time: WANTED is taken
 *     away, and should it suspend late, its process resumes it;
 *   - it powers off, reboots, crashes: the state word says so; it dies: its
 *     pidfd does.
 */
#include "config.h"

#include "resume/embedded/source.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

/* How long a pause may take: a vCPU finishes its step. */
#define PAUSE_US UINT64_C(2000000)

bool embedded_cancelled(struct guest_source *s)
{
	AUTO_LOCK(&s->lock);
	return s->cancelled;
}

enum guest_status embedded_status(const struct embedded *e)
{
	switch (embedded_state_of(e->control)) {
	case EMBEDDED_STATE_POWEROFF:
		return GUEST_POWEROFF;
	case EMBEDDED_STATE_REBOOT:
		return GUEST_REBOOT;
	case EMBEDDED_STATE_CRASHED:
		return GUEST_CRASHED;
	case EMBEDDED_STATE_SUSPENDED:
	case EMBEDDED_STATE_PAUSED:
		return embedded_gone(e) ? GUEST_GONE : GUEST_SUSPENDED;
	default:
		return embedded_gone(e) ? GUEST_GONE : GUEST_RUNNING;
	}
}

static void ask(struct guest_source *s)
{
	struct embedded *e = &s->guest;
	struct embedded_control *c = e->control;

	atomic_fetch_or(&c->state, EMBEDDED_WANTED);
	if (s->ask == GUEST_ASK_EVTCHN) {
		eventfd_write(e->fd[EMBEDDED_FD_SUSPEND], 1);
	} else {
		atomic_store(&c->word, EMBEDDED_WORD_SUSPEND);
		eventfd_write(e->fd[EMBEDDED_FD_WATCH], 1);
	}
}

bool embedded_withdraw(struct embedded *e)
{
	struct embedded_control *c = e->control;
	uint32_t word = EMBEDDED_WORD_SUSPEND;
	eventfd_t n;

	if (atomic_compare_exchange_strong(&c->word, &word, EMBEDDED_WORD_NONE))
		return false;
	return eventfd_read(e->fd[EMBEDDED_FD_SUSPEND], &n) < 0;
}

/* True: it stands still, or has shut down. */
static bool stopped(const struct embedded *e)
{
	return embedded_state_of(e->control) >= EMBEDDED_STATE_SUSPENDED;
}

/* 0; -ETIMEDOUT; -ECANCELED; -ESHUTDOWN where the process is gone. */
static int await(struct guest_source *s, uint64_t end_us)
{
	struct pollfd p[] = {
		{ s->guest.fd[EMBEDDED_FD_DONE], POLLIN, 0 },
		{ s->cancel_fd, POLLIN, 0 },
		{ s->guest.pidfd, POLLIN, 0 },
	};
	uint64_t now_us, left_us;
	struct timespec t;
	eventfd_t ignored;

	while (!stopped(&s->guest)) {
		now_us = clock_now_us();
		if (now_us >= end_us)
			return -ETIMEDOUT;
		left_us = end_us - now_us;
		t.tv_sec = (time_t)(left_us / 1000000);
		t.tv_nsec = (long)(left_us % 1000000) * 1000;
		if (ppoll(p, 3, &t, NULL) <= 0)
			continue;
		if (p[1].revents)
			return -ECANCELED;
		if (p[0].revents)
			eventfd_read(p[0].fd, &ignored);
		else if (p[2].revents)
			return -ESHUTDOWN;
	}
	return 0;
}

/* Nobody waits any more.  0: it has suspended at just that moment. */
static int give_up(struct guest_source *s, int why)
{
	struct embedded_control *c = s->guest.control;
	uint32_t was = atomic_load(&c->state);

	if (embedded_withdraw(&s->guest) && why == -ETIMEDOUT)
		why = -EINPROGRESS;
	while ((was & EMBEDDED_STATE_MASK) < EMBEDDED_STATE_SUSPENDED)
		if (atomic_compare_exchange_weak(&c->state, &was,
						 was & EMBEDDED_STATE_MASK))
			return why;
	return why == -ESHUTDOWN ? why : 0;
}

static void tell_of_late_ones(struct guest_source *s)
{
	uint64_t n = atomic_load(&s->guest.control->late_resumes);

	if (n != s->late_seen)
		log_info("%s: suspended late; it was resumed", s->name);
	s->late_seen = n;
}

int embedded_suspend(struct guest_source *s, uint64_t timeout_us)
{
	uint64_t end_us = clock_now_us() + timeout_us;
	struct embedded *e = &s->guest;
	int rc;

	tell_of_late_ones(s);
	if (s->suspended)
		return -EINVAL;
	if (embedded_cancelled(s))
		return -ECANCELED;
	ask(s);
	rc = await(s, end_us);
	if (rc < 0)
		rc = give_up(s, rc);
	if (rc < 0)
		return rc;
	/* Where it shut down, or came late, the request still stands. */
	embedded_withdraw(e);
	if (embedded_state_of(e->control) != EMBEDDED_STATE_SUSPENDED) {
		atomic_fetch_and(&e->control->state,
				 (uint32_t)~EMBEDDED_WANTED);
		return -ESHUTDOWN;
	}
	s->suspended = true;
	return 0;
}

int embedded_source_resume(struct guest_source *s, enum guest_resume kind)
{
	if (!s->suspended)
		return 0;
	s->suspended = false;
	if (embedded_resume(s->guest.control,
			    EMBEDDED_STATE_SUSPENDED | EMBEDDED_WANTED,
			    kind == GUEST_RESUME_FAST))
		return 0;
	return embedded_status(&s->guest) == GUEST_RUNNING ? 0 : -ESHUTDOWN;
}

int embedded_yield(struct guest_source *s)
{
	uint64_t end_us = clock_now_us() + PAUSE_US;
	struct embedded *e = &s->guest;
	struct guest_error err = { { 0 } };
	struct pollfd p = { e->fd[EMBEDDED_FD_DONE], POLLIN, 0 };
	eventfd_t ignored;
	int rc;

	if (embedded_state_of(e->control) >= EMBEDDED_STATE_PAUSED)
		return 0;
	rc = embedded_call(e, "pause", &err);
	while (rc == 0 &&
	       embedded_state_of(e->control) < EMBEDDED_STATE_PAUSED &&
	       clock_now_us() < end_us)
		if (poll(&p, 1, 10) > 0)
			eventfd_read(p.fd, &ignored);
	s->suspended = false;
	if (embedded_gone(e) ||
	    embedded_state_of(e->control) >= EMBEDDED_STATE_PAUSED)
		return 0;
	log_error("%s runs here although its standby has taken over: end it by"
		  " `colod guest destroy %s'",
		  s->name, s->name);
	return -EIO;
}
