/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libxenguest in a thread (see save.h).
 *
 * Failure modes: whatever fails in libxenguest ends the thread, and with it the
 * stream, before its END or CHECKPOINT; a reader that leaves makes its next
 * write fail (SIGPIPE is ignored by all of colod).
 */
#include "config.h"

#include "resume/xen/pv/save.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include <xenguest.h>

#include "base/memory.h"

enum { PIPE_BYTES = 1 << 20 };

struct pv_save {
	struct xen_host *host;
	uint32_t domid;
	pthread_t thread;
	int in, out; /* the pipe; the thread closes `out' */
	int (*suspend)(void *arg);
	void *arg;
	bool tracked;
	sem_t go; /* for the next checkpoint */
	atomic_bool end;
	atomic_bool paused;
	atomic_int suspended; /* what the first suspend returned */
};

static int pause_it(struct pv_save *s)
{
	if (xc_domain_pause(s->host->xc, s->domid))
		return -errno;
	atomic_store(&s->paused, true);
	return 0;
}

static int unpause_it(struct pv_save *s)
{
	if (!atomic_load(&s->paused))
		return 0;
	if (xc_domain_unpause(s->host->xc, s->domid))
		return -errno;
	atomic_store(&s->paused, false);
	return 0;
}

/* --- what libxenguest calls; 0 ends it ------------------------------------ */

static int is_suspended(void *arg)
{
	(void)arg;
	return 1;
}

/* The first time it runs still. */
static int suspend_first(void *arg)
{
	struct pv_save *s = arg;
	int (*suspend)(void *arg) = s->suspend;
	int rc;

	if (!suspend)
		return 1;
	s->suspend = NULL;
	rc = suspend(s->arg);
	if (rc == 0)
		rc = pause_it(s);
	atomic_store(&s->suspended, rc);
	return rc == 0;
}

/* Resuming is the engine's. */
static int postcopy(void *arg)
{
	(void)arg;
	return 1;
}

static int await_next(void *arg)
{
	struct pv_save *s = arg;

	while (sem_wait(&s->go) && errno == EINTR)
		;
	return !atomic_load(&s->end);
}

static void *run(void *arg)
{
	struct pv_save *s = arg;
	struct save_callbacks whole = { .suspend = is_suspended, .data = s };
	struct save_callbacks tracked = {
		.suspend = suspend_first,
		.postcopy = postcopy,
		.checkpoint = await_next,
		.data = s,
	};

	/* What it returns says less than the record that came last. */
	if (s->tracked)
		xc_domain_save(s->host->xc, s->out, s->domid, XCFLAGS_LIVE,
			       &tracked, XC_STREAM_REMUS, -1);
	else
		xc_domain_save(s->host->xc, s->out, s->domid, 0, &whole,
			       XC_STREAM_PLAIN, -1);
	close(s->out);
	return NULL;
}

/* ---------------------------------------------------------------------------
 */

static void release(struct pv_save *s)
{
	unpause_it(s);
	sem_destroy(&s->go);
	if (s->in >= 0)
		close(s->in);
	free(s);
}

static int start(struct pv_save *s, struct pv_save **out)
{
	int ends[2], rc;

	if (pipe2(ends, O_CLOEXEC)) {
		rc = -errno;
		release(s);
		return rc;
	}
	fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES); /* or what is allowed */
	s->in = ends[0];
	s->out = ends[1];
	rc = -pthread_create(&s->thread, NULL, run, s);
	if (rc < 0) {
		close(s->out);
		release(s);
		return rc;
	}
	*out = s;
	return 0;
}

static struct pv_save *make(struct xen_host *h, uint32_t domid)
{
	struct pv_save *s = memory_zeroed(sizeof(*s));

	if (!s)
		return NULL;
	s->host = h;
	s->domid = domid;
	s->in = s->out = -1;
	sem_init(&s->go, 0, 0);
	return s;
}

int pv_save_whole(struct xen_host *h, uint32_t domid, struct pv_save **out)
{
	struct pv_save *s = make(h, domid);
	int rc = s ? pause_it(s) : -ENOMEM;

	if (rc == 0)
		return start(s, out);
	if (s)
		release(s);
	return rc;
}

int pv_save_tracked(struct xen_host *h, uint32_t domid,
		    int (*suspend)(void *arg), void *arg, struct pv_save **out)
{
	struct pv_save *s = make(h, domid);

	if (!s)
		return -ENOMEM;
	s->tracked = true;
	s->suspend = suspend;
	s->arg = arg;
	return start(s, out);
}

int pv_save_next(struct pv_save *s)
{
	int rc = pause_it(s);

	if (rc == 0)
		sem_post(&s->go);
	return rc;
}

int pv_save_taken(struct pv_save *s)
{
	return unpause_it(s);
}

int pv_save_fd(const struct pv_save *s)
{
	return s->in;
}

int pv_save_suspended(const struct pv_save *s)
{
	return atomic_load(&s->suspended);
}

void pv_save_end(struct pv_save *s)
{
	if (!s)
		return;
	atomic_store(&s->end, true);
	sem_post(&s->go);
	close(s->in); /* before the wait: it may be writing */
	s->in = -1;
	pthread_join(s->thread, NULL);
	release(s);
}

bool pv_save_can_track(struct xen_host *h)
{
	xc_physinfo_t info = { 0 };

	return xc_physinfo(h->xc, &info) == 0 &&
	       (info.capabilities & XEN_SYSCTL_PHYSCAP_shadow);
}
