/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "engine/fence.h"
#include "engine/moves.h"
#include "net/congestion.h"

uint64_t daemon_now_us(void *arg)
{
	(void)arg;
	return clock_now_us();
}

json_int_t daemon_since_us(uint64_t then_us)
{
	return then_us ? (json_int_t)(clock_now_us() - then_us) : -1;
}

uint64_t daemon_random(void *arg)
{
	uint64_t r = 0;

	(void)arg;
	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		abort(); /* the kernel's generator does not fail after boot */
	return r;
}

/* --- the link ----------------------------------------------------------- */

void daemon_send(struct link *l, struct frame_buf *frame)
{
	if (frame && l)
		link_send(l, frame);
	else if (frame)
		frame->release(frame);
	else if (l)
		link_abort(l, "no memory for a frame");
}

void daemon_disconnect(struct link *l, const struct bye *bye)
{
	struct frame_buf *frame =
		bye ? bye_encode(bye->reason, bye->text) : NULL;

	if (!frame) {
		link_abort(l, "given up");
		return;
	}
	link_send(l, frame);
	link_close(l);
}

/* --- timers and signals ------------------------------------------------- */

static void timer_fired(void *arg)
{
	struct daemon_timer *t = arg;
	const struct event e = { .type = EVENT_TIMER, .timer = t->id };

	t->daemon->event(t->daemon->owner, &e);
}

void daemon_timer(struct daemon *d, enum env_timer t, uint64_t at_us)
{
	if (at_us)
		loop_timer_start(d->loop, &d->timers[t].timer, at_us);
	else
		loop_timer_stop(d->loop, &d->timers[t].timer);
}

static void signalled(void *arg, int signal)
{
	struct daemon *d = arg;
	const struct event e = { .type = EVENT_STOP };

	log_info("signal %d (%s)", signal, strsignal(signal));
	d->event(d->owner, &e);
}

/* --- jobs --------------------------------------------------------------- */

void daemon_done(struct daemon *d, enum env_job job, uint64_t epoch, int err,
		 const char *text)
{
	const struct event e = {
		.type = EVENT_DONE,
		.job = job,
		.epoch = epoch,
		.error = err,
		.text = text && text[0] ? text : NULL,
	};

	d->event(d->owner, &e);
}

struct guest_job *daemon_job_take(struct daemon *d)
{
	struct guest_job *j = d->jobs;

	while (j < d->jobs + DAEMON_JOBS && j->taken)
		j++;
	INVARIANT(j < d->jobs + DAEMON_JOBS, "the guest's jobs are bounded");
	*j = (struct guest_job){
		.daemon = d,
		.owner = d->owner,
		.taken = true,
	};
	return j;
}

void daemon_job_give(struct guest_job *j)
{
	j->taken = false;
}

static void job_run(void *arg)
{
	struct guest_job *j = arg;

	j->run(j);
}

static void job_done(void *arg)
{
	struct guest_job *j = arg;
	struct event e;

	if (j->after)
		j->after(j);
	e = (struct event){
		.type = EVENT_DONE,
		.job = j->job,
		.epoch = j->epoch,
		.error = j->err,
		.text = j->error.text[0] ? j->error.text : NULL,
		.partial = j->partial,
		.again = j->again,
		.guest = j->guest,
	};
	j->daemon->event(j->daemon->owner, &e);
	daemon_job_give(j);
}

void daemon_job(struct daemon *d, enum env_job job, uint64_t epoch,
		void (*run)(struct guest_job *j),
		void (*after)(struct guest_job *j), void *extra)
{
	static const struct guest_error none;

	daemon_job_err(d, job, epoch, run, after, extra, 0, &none);
}

void daemon_job_err(struct daemon *d, enum env_job job, uint64_t epoch,
		    void (*run)(struct guest_job *j),
		    void (*after)(struct guest_job *j), void *extra, int err,
		    const struct guest_error *error)
{
	struct guest_job *j = daemon_job_take(d);

	j->job = job;
	j->epoch = epoch;
	j->extra = extra;
	j->run = run;
	j->after = after;
	j->err = err;
	j->error = *error;
	worker_post(d->guest, &j->work, job_run, job_done, j);
}

static void fenced(void *arg, int err, const char *text)
{
	struct daemon *d = arg;
	int fault = fault_at(FAULT_AFTER_FENCE);

	d->fence = NULL;
	if (fault && !err) {
		err = fault;
		text = strerror(-err);
	}
	daemon_done(d, ENV_JOB_FENCE, 0, err, text);
}

static void not_fenced(void *arg)
{
	fenced(arg, -ENOMEM, "the fence command could not be started");
}

void daemon_fence(struct daemon *d, const char *domain, const char *peer,
		  const char *role)
{
	const struct fence_request r = {
		.command = d->set->fence,
		.domain = domain,
		.peer = peer,
		.role = role,
		.timeout_us = d->set->fence_timeout_s * 1000000,
	};

	if (!fault_at(FAULT_BEFORE_FENCE))
		d->fence = fence_run(d->loop, &r, fenced, d);
	if (!d->fence)
		loop_post_call(d->loop, &d->no_fence, not_fenced, d);
}

void daemon_fence_cancel(struct daemon *d)
{
	if (d->fence)
		fence_cancel(d->fence);
}

/* --- control socket ----------------------------------------------------- */

static json_t *control_handle(void *arg, const char *command)
{
	static const char drill[] = "drill ";
	struct daemon *d = arg;
	struct event e = { .type = EVENT_STOP };

	if (strncmp(command, drill, strlen(drill)) == 0) {
		char why[DRILL_WHY_BYTES];

		if (daemon_drill(d, command + strlen(drill), why))
			return json_pack("{s:s}", "error", why);
		return d->status(d->owner);
	}
	if (strcmp(command, "failover") == 0)
		e.type = EVENT_FAILOVER;
	else if (strcmp(command, "status") == 0)
		return d->status(d->owner);
	else if (strcmp(command, "stop") != 0)
		return NULL;
	log_info("the operator asks for: %s", command);
	d->event(d->owner, &e);
	return d->status(d->owner);
}

/* --- from start to end -------------------------------------------------- */

static void daemon_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

int daemon_prepare(struct daemon *d, const struct settings *set)
{
	const struct tls_files files = { set->cert, set->key, set->ca };
	char why[TLS_ERROR_BYTES], used[CONGESTION_NAME_BYTES];
	sigset_t signals;
	size_t i;
	int err;

	memset(d, 0, sizeof(*d));
	d->set = set;
	for (i = 0; i < ENV_TIMERS; i++) {
		d->timers[i].daemon = d;
		d->timers[i].id = (enum env_timer)i;
		d->timers[i].timer.fn = timer_fired;
		d->timers[i].timer.arg = &d->timers[i];
	}
	if (gethostname(d->host, sizeof(d->host) - 1))
		strcpy(d->host, "localhost");
	signal(SIGPIPE, SIG_IGN);
	daemon_signals(&signals);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	if (set->verbose)
		log_set_level(LOG_LEVEL_DEBUG);
	err = congestion_check(set->congestion, used);
	if (err) {
		fprintf(stderr,
			"colod: --congestion=%s: %s; see "
			"/proc/sys/net/ipv4/tcp_available_congestion_control\n",
			set->congestion ? set->congestion : "", strerror(-err));
		return err;
	}
	err = tls_identity_load(&files, &d->identity, why);
	if (err) {
		fprintf(stderr, "colod: %s\n", why);
		return err;
	}
	if (set->log_file)
		err = log_open(set->log_file);
	if (err)
		fprintf(stderr, "colod: cannot write the log %s: %s\n",
			set->log_file, strerror(-err));
	else
		fault_log();
	return err;
}

int daemon_start(struct daemon *d, const char *name)
{
	char why[DRILL_WHY_BYTES];
	sigset_t set;
	int err = loop_open(&d->loop);

	if (err) {
		log_error("io_uring is not to be had: %s", strerror(-err));
		return err;
	}
	daemon_signals(&set);
	err = loop_signals(d->loop, &set, signalled, d);
	if (err) {
		log_error("signals: %s", strerror(-err));
		return err;
	}
	d->drill = drill_new(d->loop);
	if (!d->drill) {
		log_error("no memory for links");
		return -ENOMEM;
	}
	if (d->set->drill)
		daemon_drill(d, d->set->drill, why); /* parsed before */
	err = worker_start(d->loop, "colod-guest", &d->guest);
	if (err) {
		log_error("thread: %s", strerror(-err));
		return err;
	}
	err = control_open(d->loop, d->set->run_dir, name, control_handle, d,
			   &d->control);
	if (err)
		log_error("control socket %s/%s.sock: %s", d->set->run_dir,
			  name,
			  err == -EADDRINUSE ? "another colod answers there"
					     : strerror(-err));
	return err;
}

static void stop_if_finished(void *arg)
{
	struct daemon *d = arg;

	loop_stop(d->loop);
}

void daemon_finish(struct daemon *d, int exit_status)
{
	if (d->finished)
		return;
	d->finished = true;
	d->exit_status = exit_status;
	control_close(d->control);
	d->control = NULL;
	loop_post_call(d->loop, &d->last, stop_if_finished, d);
}

int daemon_run(struct daemon *d)
{
	int err = loop_run(d->loop);

	if (err) {
		log_error("event loop: %s", strerror(-err));
		return EXIT_FAILED;
	}
	return d->exit_status;
}

void daemon_fini(struct daemon *d)
{
	size_t i;

	control_close(d->control);
	worker_stop(d->guest);
	if (d->loop) {
		for (i = 0; i < ENV_TIMERS; i++)
			loop_timer_stop(d->loop, &d->timers[i].timer);
		loop_stop(d->loop); /* what was just closed has to end */
		loop_run(d->loop);
		drill_free(d->drill);
		loop_close(d->loop);
	}
	tls_identity_free(d->identity);
}

int daemon_parse_peer(const char *words, char *host, size_t room,
		      uint16_t *port)
{
	const char *colon = strrchr(words, ':'), *end;
	unsigned long n = PORT_DEFAULT;
	char *rest;

	if (words[0] == '[') {
		words++;
		end = strchr(words, ']');
		if (!end || (end[1] && end[1] != ':'))
			return -EINVAL;
		colon = end[1] ? end + 1 : NULL;
	} else if (colon && strchr(words, ':') != colon) {
		colon = NULL; /* a bare IPv6 address */
		end = words + strlen(words);
	} else {
		end = colon ? colon : words + strlen(words);
	}
	if (colon) {
		n = strtoul(colon + 1, &rest, 10);
		if (!colon[1] || *rest || n == 0 || n > 65535)
			return -EINVAL;
	}
	if ((size_t)(end - words) >= room)
		return -EINVAL;
	memcpy(host, words, (size_t)(end - words));
	host[end - words] = '\0';
	*port = (uint16_t)n;
	return 0;
}
