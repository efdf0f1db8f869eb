/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/unit/engine-script.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const job_names[ENV_JOBS] = {
	[ENV_JOB_SYNC] = "sync",
	[ENV_JOB_CAPTURE] = "capture",
	[ENV_JOB_ENCODE] = "encode",
	[ENV_JOB_RELEASE] = "release",
	[ENV_JOB_YIELD] = "yield",
	[ENV_JOB_AFTER_SHUTDOWN] = "after-shutdown",
	[ENV_JOB_STATUS] = "status",
	[ENV_JOB_FENCE] = "fence",
	[ENV_JOB_BUILD] = "build",
	[ENV_JOB_APPLY] = "apply",
	[ENV_JOB_ACTIVATE] = "activate",
	[ENV_JOB_DESTROY] = "destroy",
};

/* --- the environment ---------------------------------------------------- */

static void note(struct script *s, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void note(struct script *s, const char *fmt, ...)
{
	size_t n = strlen(s->actions);
	va_list ap;

	if (s->finished)
		fail_msg("an action after the end: %s", fmt);
	if (n)
		n += (size_t)snprintf(s->actions + n, SCRIPT_ACTIONS - n, "; ");
	va_start(ap, fmt);
	n += (size_t)vsnprintf(s->actions + n, SCRIPT_ACTIONS - n, fmt, ap);
	va_end(ap);
	assert_true(n < SCRIPT_ACTIONS);
}

static uint64_t now_us(void *arg)
{
	return ((struct script *)arg)->now_us;
}

static uint64_t random_number(void *arg)
{
	(void)arg;
	return 4; /* any will do */
}

static void set_timer(void *arg, enum env_timer t, uint64_t at_us)
{
	struct script *s = arg;

	s->timers[t] = at_us;
}

static void connect_peer(void *arg)
{
	struct script *s = arg;

	assert_int_equal(s->link, NO_LINK);
	note(s, "connect");
	s->link = CONNECTING;
}

static void send_frame(void *arg, struct frame_buf *b)
{
	struct script *s = arg;
	struct frame f;
	struct wire_ack a;
	struct bye bye;
	const char *why;

	assert_non_null(b);
	f = (struct frame){ .type = b->type,
			    .length = b->length,
			    .epoch = b->epoch,
			    .payload = frame_payload(b) };
	if (b->type == WIRE_HEARTBEAT) {
		s->heartbeats++;
	} else if (b->type == WIRE_ACK) {
		assert_int_equal(ack_decode(&f, &a, &why), 0);
		note(s, "send ACK %" PRIu64 " applied %" PRIu64, f.epoch,
		     a.applied);
	} else if (b->type == WIRE_BYE) {
		assert_int_equal(bye_decode(&f, &bye, &why), 0);
		note(s, "send BYE %s", wire_reason_name(bye.reason));
	} else {
		note(s, "send %s", frame_type_name(b->type));
	}
	b->release(b);
}

static void disconnect_peer(void *arg, const struct bye *bye)
{
	struct script *s = arg;

	note(s, "disconnect %s", bye ? wire_reason_name(bye->reason) : "-");
	if (s->link != NO_LINK)
		s->link = LINK_CLOSING;
}

/* The guest's thread has one job of these at a time; see engine/env.h. */
static unsigned int guest_jobs(const struct script *s)
{
	return s->jobs[ENV_JOB_SYNC] + s->jobs[ENV_JOB_CAPTURE] +
	       s->jobs[ENV_JOB_RELEASE] + s->jobs[ENV_JOB_YIELD] +
	       s->jobs[ENV_JOB_AFTER_SHUTDOWN] + s->jobs[ENV_JOB_BUILD] +
	       s->jobs[ENV_JOB_ACTIVATE] + s->jobs[ENV_JOB_DESTROY];
}

static void gate(void *arg, enum guest_gate order, uint64_t epoch)
{
	struct script *s = arg;

	if (order == GUEST_GATE_RELEASE)
		note(s, "release %" PRIu64, epoch);
	else
		note(s, order == GUEST_GATE_OPEN ? "open the gate"
						 : "drop what is held");
}

static void epoch_over(void *arg, uint64_t epoch, enum env_epoch_end end,
		       const char *why)
{
	struct script *s = arg;

	assert_non_null(primary_epoch(&s->primary, epoch));
	assert_int_equal(end == ENV_EPOCH_ACKNOWLEDGED, why == NULL);
	s->over[end]++;
}

static void start_job(void *arg, enum env_job job, uint64_t epoch)
{
	struct script *s = arg;

	if (job == ENV_JOB_CAPTURE || job == ENV_JOB_ENCODE ||
	    job == ENV_JOB_APPLY || job == ENV_JOB_ACTIVATE)
		note(s, "%s %" PRIu64, job_names[job], epoch);
	else
		note(s, "%s", job_names[job]);
	assert_true(s->jobs[job] < WIRE_INFLIGHT_MAX);
	if (job == ENV_JOB_CAPTURE)
		s->capturing = epoch;
	else if (job == ENV_JOB_ENCODE)
		s->encoding[s->jobs[job]] = epoch;
	else if (job == ENV_JOB_APPLY)
		s->applying[s->jobs[job]] = epoch;
	s->jobs[job]++;
	s->cancelled[job] = false;
	assert_true(guest_jobs(s) <= 1);
	assert_true(s->jobs[ENV_JOB_FENCE] <= 1);
}

/* To ask twice for the same is as good as once. */
static void cancel_job(void *arg, enum env_job job)
{
	struct script *s = arg;

	assert_true(s->jobs[job] > 0);
	if (!s->cancelled[job])
		note(s, "cancel %s", job_names[job]);
	s->cancelled[job] = true;
}

static void finish(void *arg, int exit_status)
{
	struct script *s = arg;

	note(s, "finish %d", exit_status);
	s->finished = true;
	s->exit_status = exit_status;
}

static const struct env_ops ops = {
	.now_us = now_us,
	.random = random_number,
	.timer = set_timer,
	.connect = connect_peer,
	.send = send_frame,
	.disconnect = disconnect_peer,
	.gate = gate,
	.epoch_over = epoch_over,
	.job = start_job,
	.cancel = cancel_job,
	.finish = finish,
};

void script_primary(struct script *s)
{
	const struct env env = { .ops = &ops, .arg = s };
	const struct primary_config cfg = {
		.domain = "web",
		.peer = "beta:7475",
		.host = "alpha",
		.pace = { .min_us = INTERVAL_US, .max_us = INTERVAL_US },
		.heartbeat_us = HEARTBEAT_US,
		.lost_after = LOST_US / HEARTBEAT_US,
		.inflight = 2,
		.retry_us = RETRY_US,
	};

	memset(s, 0, sizeof(*s));
	s->now_us = START_US;
	primary_init(&s->primary, &cfg, &env);
}

void script_secondary(struct script *s)
{
	const struct env env = { .ops = &ops, .arg = s };
	const struct secondary_config cfg = {
		.host = "beta",
		.heartbeat_us = HEARTBEAT_US,
		.lost_after = LOST_US / HEARTBEAT_US,
		.inflight = 2,
	};

	memset(s, 0, sizeof(*s));
	s->now_us = START_US;
	s->is_secondary = true;
	secondary_init(&s->secondary, &cfg, &env);
}

int script_setup(void **state)
{
	*state = calloc(1, sizeof(struct script));
	return *state ? 0 : -1;
}

int script_teardown(void **state)
{
	free(*state);
	return 0;
}

/* --- looking ------------------------------------------------------------ */

const char *script_state(const struct script *s)
{
	return s->is_secondary ? secondary_state_text(s->secondary.state)
			       : primary_state_text(s->primary.state);
}

void script_expect(struct script *s, const char *wanted, const char *file,
		   int line)
{
	char got[SCRIPT_ACTIONS];

	strcpy(got, s->actions);
	s->actions[0] = '\0';
	if (strcmp(got, wanted)) {
		print_error("in state %s at %" PRIu64
			    " us:\n  wanted: %s\n  got:    %s\n",
			    script_state(s), elapsed(s), wanted, got);
		_fail(file, line);
	}
}

uint64_t due(const struct script *s, enum env_timer t)
{
	return s->timers[t] ? s->timers[t] - START_US : 0;
}

uint64_t elapsed(const struct script *s)
{
	return s->now_us - START_US;
}

/* --- events and time ---------------------------------------------------- */

void event(struct script *s, const struct event *e)
{
	assert_false(s->finished);
	if (e->type == EVENT_LINK_UP || e->type == EVENT_DOMAIN)
		s->link = LINK_UP;
	else if (e->type == EVENT_LINK_DOWN)
		s->link = NO_LINK;
	if (s->is_secondary) {
		secondary_event(&s->secondary, e);
		return;
	}
	primary_event(&s->primary, e);
	if (s->primary.epoch_count > s->in_flight_max)
		s->in_flight_max = s->primary.epoch_count;
}

/* The timer that fires next, or ENV_TIMERS. */
static unsigned int next_timer(const struct script *s)
{
	unsigned int next = ENV_TIMERS, t;

	for (t = 0; t < ENV_TIMERS; t++)
		if (s->timers[t] &&
		    (next == ENV_TIMERS || s->timers[t] < s->timers[next]))
			next = t;
	return next;
}

void run_until(struct script *s, uint64_t elapsed_us)
{
	unsigned int t, fired = 0;

	assert_true(START_US + elapsed_us >= s->now_us);
	while (!s->finished && (t = next_timer(s)) != ENV_TIMERS &&
	       s->timers[t] <= START_US + elapsed_us) {
		struct event e = { .type = EVENT_TIMER, .timer = t };

		assert_true(fired++ < 100000); /* a timer that is always due */
		if (s->timers[t] > s->now_us)
			s->now_us = s->timers[t];
		s->timers[t] = 0;
		event(s, &e);
	}
	s->now_us = START_US + elapsed_us;
}

void run_for(struct script *s, uint64_t us)
{
	run_until(s, elapsed(s) + us);
}

void stall(struct script *s, uint64_t us)
{
	s->now_us += us;
}

void simple(struct script *s, enum event_type type)
{
	event(s, &(struct event){ .type = type });
}

void link_down(struct script *s, const char *why)
{
	event(s, &(struct event){ .type = EVENT_LINK_DOWN,
				  .error = -ECONNRESET,
				  .text = why });
}

void hello_from(struct script *s, uint16_t version, enum wire_role role,
		uint32_t inflight)
{
	const struct hello h = { .version = version,
				 .role = role,
				 .payload_max = WIRE_PAYLOAD_MAX,
				 .inflight_max = inflight,
				 .host = "beta" };

	event(s, &(struct event){ .type = EVENT_HELLO, .hello = &h });
}

void ack(struct script *s, uint64_t epoch, uint64_t applied)
{
	event(s, &(struct event){ .type = EVENT_ACK,
				  .epoch = epoch,
				  .applied = applied });
}

void bye_with(struct script *s, enum wire_reason reason, const char *text)
{
	struct bye b = { .reason = reason };

	snprintf(b.text, sizeof(b.text), "%s", text);
	event(s, &(struct event){ .type = EVENT_BYE, .bye = &b });
}

void domain_of(struct script *s, const char *name, uint8_t uuid)
{
	const struct hello h = { .version = WIRE_VERSION,
				 .role = WIRE_ROLE_PRIMARY,
				 .host = "alpha" };
	struct guest_description d = { .uuid = { uuid } };

	snprintf(d.name, sizeof(d.name), "%s", name);
	event(s, &(struct event){ .type = EVENT_DOMAIN,
				  .hello = &h,
				  .description = &d });
}

void stored(struct script *s, uint64_t epoch, int err, const char *why)
{
	event(s, &(struct event){ .type = EVENT_STORED,
				  .epoch = epoch,
				  .error = err,
				  .text = why });
}

void image_end(struct script *s, int err)
{
	event(s, &(struct event){ .type = EVENT_IMAGE_END, .error = err });
}

static void done_event(struct script *s, const struct event *e)
{
	assert_true(s->jobs[e->job] > 0);
	s->jobs[e->job]--;
	if (e->job == ENV_JOB_ENCODE) {
		assert_int_equal(s->encoding[0], e->epoch);
		memmove(s->encoding, s->encoding + 1,
			sizeof(s->encoding) - sizeof(s->encoding[0]));
	} else if (e->job == ENV_JOB_APPLY) {
		assert_int_equal(s->applying[0], e->epoch);
		memmove(s->applying, s->applying + 1,
			sizeof(s->applying) - sizeof(s->applying[0]));
	}
	event(s, e);
}

void done(struct script *s, enum env_job job, uint64_t epoch, int err,
	  const char *text)
{
	done_event(s, &(struct event){ .type = EVENT_DONE,
				       .job = job,
				       .epoch = epoch,
				       .error = err,
				       .text = text });
}

void done_guest(struct script *s, enum env_job job, int err,
		enum guest_status guest)
{
	done_event(s, &(struct event){ .type = EVENT_DONE,
				       .job = job,
				       .error = err,
				       .guest = guest });
}

void done_again(struct script *s, bool again)
{
	done_event(s, &(struct event){ .type = EVENT_DONE,
				       .job = ENV_JOB_AFTER_SHUTDOWN,
				       .again = again });
}

/* --- captures ----------------------------------------------------------- */

/* A guest that gives one answer to each question. */
struct guest_source {
	int err;
	bool partial;
};

static int guest_suspend(struct guest_source *g, uint64_t timeout_us)
{
	(void)timeout_us;
	return g->err == -ETIMEDOUT || g->err == -ESHUTDOWN ? g->err : 0;
}

static int guest_capture(struct guest_source *g, struct epoch *e)
{
	e->partial = g->partial;
	return g->err;
}

static int guest_resume(struct guest_source *g, enum guest_resume kind)
{
	(void)g;
	assert_int_equal(kind, GUEST_RESUME_FAST);
	return 0;
}

static uint64_t no_time(void)
{
	return 0;
}

static void capture_ends(struct script *s, uint64_t epoch, int err,
			 bool partial, enum guest_status guest)
{
	static const struct guest_source_ops guest_ops = {
		.suspend = guest_suspend,
		.capture = guest_capture,
		.resume = guest_resume,
	};
	struct epoch_run *r = primary_epoch(&s->primary, epoch);
	struct guest_source g = { .err = err, .partial = partial };
	struct epoch arena = { 0 };
	const struct epoch_manner manner = { .suspend_timeout_us = 1000,
					     .resume = GUEST_RESUME_FAST };

	if (r) {
		struct epoch_run copy = *r;

		assert_int_equal(epoch_checkpoint(&copy, &guest_ops, &g, &arena,
						  &manner, no_time),
				 err);
		*r = copy;
	}
	done_event(s, &(struct event){ .type = EVENT_DONE,
				       .job = ENV_JOB_CAPTURE,
				       .epoch = epoch,
				       .error = err,
				       .partial = partial,
				       .guest = guest });
}

void captured(struct script *s, uint64_t epoch, int err, bool partial)
{
	capture_ends(s, epoch, err, partial, GUEST_RUNNING);
}

void captured_down(struct script *s, uint64_t epoch, enum guest_status guest)
{
	capture_ends(s, epoch, -ESHUTDOWN, false, guest);
}

/* --- the way to a state ------------------------------------------------- */

void to_syncing(struct script *s)
{
	simple(s, EVENT_START);
	expect(s, "connect");
	simple(s, EVENT_LINK_UP);
	expect(s, "send HELLO");
	hello_from(s, WIRE_VERSION, WIRE_ROLE_SECONDARY, 8);
	expect(s, "sync");
	expect_state(s, "syncing");
}

void to_protected(struct script *s)
{
	to_syncing(s);
	done(s, ENV_JOB_SYNC, 0, 0, NULL);
	expect(s, "");
	ack(s, 0, 0);
	expect(s, "capture 1");
	expect_state(s, "protected");
}

void one_epoch(struct script *s, uint64_t epoch)
{
	captured(s, epoch, 0, false);
	done(s, ENV_JOB_ENCODE, epoch, 0, NULL);
	ack(s, epoch, epoch - 1);
}

void run_alive_until(struct script *s, uint64_t elapsed_us)
{
	while (elapsed(s) < elapsed_us) {
		uint64_t step = elapsed_us - elapsed(s);

		simple(s, EVENT_ALIVE);
		run_for(s, step < HEARTBEAT_US ? step : HEARTBEAT_US);
	}
}

void to_building(struct script *s)
{
	domain_of(s, "web", 1);
	expect(s, "build");
	expect_state(s, "building");
}

void to_standby(struct script *s)
{
	to_building(s);
	image_end(s, 0);
	done(s, ENV_JOB_BUILD, 0, 0, NULL);
	expect(s, "send ACK 0 applied 0");
	expect_state(s, "standby");
}

void to_lost(struct script *s)
{
	to_standby(s);
	stored(s, 1, 0, NULL);
	done(s, ENV_JOB_APPLY, 1, 0, NULL);
	expect(s, "send ACK 1 applied 0; apply 1");
	simple(s, EVENT_ALIVE);
	link_down(s, "reset");
	expect(s, "");
	expect_state(s, "lost");
}
