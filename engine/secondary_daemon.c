/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The secondary's process: listener, the admitted primary's link, the standby,
 * and the machine between them.
 *
 * Happy path: what an earlier colod left is swept, the listener opened; a
 * visitor is admitted; IMAGE frames build the standby, epochs go through the
 * intake to it; the machine decides the rest.
 * Failure at the start: one line, everything undone, EXIT_FAILED.
 */
#include "config.h"

#include "engine/secondary_daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/secondary_daemon_impl.h"

enum { PORT_PATIENCE_US = 2 * 1000 * 1000, PORT_RETRY_US = 50 * 1000 };

/* --- the admitted primary ----------------------------------------------- */

static bool paused(const struct secondary_daemon *sd)
{
	return sd->not_building || sd->image_lags || sd->intake_lags ||
	       sd->answers_lag;
}

void secondary_daemon_pace(struct secondary_daemon *sd)
{
	if (sd->link)
		link_pause(sd->link, paused(sd));
}

void secondary_daemon_admit(struct secondary_daemon *sd, struct link *l,
			    const struct hello *hello,
			    struct guest_description *guest)
{
	const struct event e = {
		.type = EVENT_DOMAIN,
		.hello = hello,
		.description = guest,
	};

	guest_description_fini(&sd->guest);
	sd->guest = *guest;
	guest->config = NULL;
	sd->link = l;
	sd->link_ready = true;
	sd->not_building = true; /* until the BUILD job is posted */
	snprintf(sd->peer, sizeof(sd->peer), "%s", link_peer_address(l));
	log_info("%s is the primary of %s, %llu MiB", link_peer_name(l),
		 sd->guest.name,
		 (unsigned long long)(sd->guest.ram_bytes >> 20));
	secondary_event(&sd->machine, &e);
	secondary_daemon_pace(sd);
}

static int image(struct secondary_daemon *sd, const struct frame *f)
{
	int err;

	if (!sd->image)
		return 0; /* the build has failed: BYE is on its way */
	err = image_receiver_put(sd->image, f->payload, f->length);
	progress_update(&sd->progress, image_receiver_bytes(sd->image),
			clock_now_us());
	return err;
}

static void image_end(struct secondary_daemon *sd, const struct frame *f)
{
	struct event e = { .type = EVENT_IMAGE_END };
	struct wire_image_end end;

	if (!sd->image)
		return;
	e.error = image_end_decode(f, &end, &e.text);
	if (!e.error) {
		e.error = image_receiver_end(sd->image, &end);
		e.text = "the image is not what was sent";
	}
	if (!e.error && (end.disk_bytes || end.disk_checksum) &&
	    !sd->has_disks) {
		e.error = -EBADMSG;
		e.text = "an IMAGE_END with disks that were not offered";
	}
	/* Its disks are behind it in the intake's queue. */
	if (!e.error && sd->has_disks && sd->intake) {
		e.error = intake_put(sd->intake, f);
		e.text = "no memory for the end of the image";
		if (!e.error)
			return;
	}
	secondary_event(&sd->machine, &e);
}

void secondary_daemon_frame(struct secondary_daemon *sd, const struct frame *f)
{
	struct event e = { .type = EVENT_BYE };
	const char *why = "unexpected frame";
	struct bye bye;
	int err = -EPROTO;

	switch (f->type) {
	case WIRE_HEARTBEAT:
		return;
	case WIRE_IMAGE:
		err = image(sd, f);
		why = err == -EPROTO ? "an IMAGE that is malformed or late"
				     : "no memory for the image";
		break;
	case WIRE_IMAGE_END:
		image_end(sd, f);
		return;
	case WIRE_DISKS:
		why = "DISKS that does not follow DOMAIN";
		if (sd->has_disks ||
		    (sd->image && image_receiver_bytes(sd->image)))
			break;
		sd->has_disks = true;
		/* fall through */
	case WIRE_DISK_ASK:
	case WIRE_DISK:
	case WIRE_EPOCH_BEGIN:
	case WIRE_PAGES:
	case WIRE_STATE:
	case WIRE_EPOCH_END:
		if (!sd->intake)
			return;
		err = intake_put(sd->intake, f);
		why = "no memory for an epoch";
		break;
	case WIRE_BYE:
		err = bye_decode(f, &bye, &why);
		e.bye = &bye;
		if (!err)
			secondary_event(&sd->machine, &e);
		break;
	default:
		if (f->type & WIRE_OPTIONAL)
			return;
		break;
	}
	if (err) {
		e = (struct event){
			.type = EVENT_VIOLATION,
			.error = err,
			.text = why,
		};
		secondary_event(&sd->machine, &e);
	}
}

void secondary_daemon_alive(struct secondary_daemon *sd)
{
	static const struct event e = { .type = EVENT_ALIVE };

	if (sd->link)
		secondary_event(&sd->machine, &e);
}

void secondary_daemon_drained(struct secondary_daemon *sd)
{
	sd->answers_lag = false;
	secondary_daemon_pace(sd);
}

void secondary_daemon_down(struct secondary_daemon *sd, int err,
			   const char *why)
{
	const struct event e = {
		.type = EVENT_LINK_DOWN,
		.error = err,
		.text = why,
	};

	sd->link = NULL;
	sd->link_ready = false;
	sd->answers_lag = false;
	image_receiver_close(sd->image);
	sd->image = NULL;
	sd->image_lags = false;
	if (sd->intake)
		intake_stop(sd->intake);
	secondary_event(&sd->machine, &e);
	if (sd->finishing)
		daemon_finish(&sd->d, sd->exit_status);
}

/* --- the environment ---------------------------------------------------- */

static void env_timer(void *arg, enum env_timer t, uint64_t at_us)
{
	struct secondary_daemon *sd = arg;

	daemon_timer(&sd->d, t, at_us);
}

static void env_connect(void *arg)
{
	(void)arg; /* a secondary waits to be called */
}

static void env_send(void *arg, struct frame_buf *frame)
{
	struct secondary_daemon *sd = arg;

	daemon_send(sd->link_ready ? sd->link : NULL, frame);
}

static void env_disconnect(void *arg, const struct bye *bye)
{
	struct secondary_daemon *sd = arg;

	if (!sd->link_ready)
		return;
	sd->link_ready = false;
	daemon_disconnect(sd->link, bye);
}

static void env_gate(void *arg, enum guest_gate order, uint64_t epoch)
{
	(void)arg; /* a standby puts nothing out */
	(void)order;
	(void)epoch;
}

static void env_cancel(void *arg, enum env_job job)
{
	struct secondary_daemon *sd = arg;

	if (job == ENV_JOB_FENCE)
		daemon_fence_cancel(&sd->d);
	if (job != ENV_JOB_BUILD)
		return;
	image_receiver_close(sd->image); /* the builder reads a short image */
	sd->image = NULL;
}

static void env_finish(void *arg, int exit_status)
{
	struct secondary_daemon *sd = arg;

	sd->finishing = true;
	sd->exit_status = exit_status;
	link_listener_close(sd->listener);
	sd->listener = NULL;
	secondary_visitors_close(sd);
	loop_timer_stop(sd->d.loop, &sd->announce_timer);
	if (!sd->link) /* else when it is down */
		daemon_finish(&sd->d, exit_status);
}

static const struct env_ops env_ops = {
	.now_us = daemon_now_us,
	.random = daemon_random,
	.timer = env_timer,
	.connect = env_connect,
	.send = env_send,
	.disconnect = env_disconnect,
	.gate = env_gate,
	.job = secondary_daemon_job,
	.cancel = env_cancel,
	.finish = env_finish,
};

/* --- start and end ------------------------------------------------------ */

static void event(void *owner, const struct event *e)
{
	struct secondary_daemon *sd = owner;

	/* Who is not listened to cannot be called silent. */
	if (e->type == EVENT_TIMER && e->timer == ENV_TIMER_LOST && paused(sd))
		secondary_daemon_alive(sd);
	secondary_event(&sd->machine, e);
}

static void machine_init(struct secondary_daemon *sd)
{
	const struct settings *set = sd->d.set;
	const struct env env = { .ops = &env_ops, .arg = sd };
	struct secondary_config cfg = {
		.heartbeat_us = set->heartbeat_ms * 1000,
		.lost_after = (unsigned int)set->lost_after,
		.inflight = (unsigned int)set->inflight,
		.fence = set->fence != NULL,
		.unsafe_no_fence = set->unsafe_no_fence,
	};

	snprintf(cfg.host, sizeof(cfg.host), "%s", sd->d.host);
	secondary_init(&sd->machine, &cfg, &env);
}

/*
 * Removes what an earlier colod left.  A host where this works for no kind of
 * guest cannot hold a standby: the kinds have said why.
 */
static int sweep(const char *run_dir)
{
	const struct guest_kind *const *kind;
	int err = -ENOTSUP;

	for (kind = guest_kinds; *kind; kind++) {
		int one = (*kind)->standby->sweep(run_dir);

		if (!one || err)
			err = one;
	}
	return err;
}

/* The port of a process that was killed is free a moment later. */
static int start_listening(struct secondary_daemon *sd, const char *address)
{
	uint64_t until = clock_now_us() + PORT_PATIENCE_US;
	int err;

	while ((err = link_listen(sd->d.loop, sd->d.identity,
				  address[0] ? address : NULL, sd->port,
				  secondary_visitor_arrived, sd, &sd->listener,
				  &sd->port)) == -EADDRINUSE &&
	       clock_now_us() < until)
		clock_sleep_us(PORT_RETRY_US);
	if (!err && sd->d.set->congestion)
		link_listener_congestion(sd->listener, sd->d.set->congestion);
	if (err)
		log_error("cannot listen on %s port %u: %s",
			  address[0] ? address : "any address", sd->port,
			  strerror(-err));
	else
		log_info("listening on %s port %u as %s",
			 address[0] ? address : "any address", sd->port,
			 tls_identity_name(sd->d.identity));
	return err;
}

static int start(struct secondary_daemon *sd, const struct settings *set)
{
	char address[256] = "", name[40];
	int err;

	sd->port = PORT_DEFAULT;
	if (set->listen && daemon_parse_peer(set->listen, address,
					     sizeof(address), &sd->port)) {
		fprintf(stderr, "colod: '%s' is not ADDRESS or ADDRESS:PORT\n",
			set->listen);
		return -EINVAL;
	}
	err = daemon_prepare(&sd->d, set);
	if (err)
		return err;
	sd->d.event = event;
	sd->d.status = secondary_daemon_status;
	sd->d.owner = sd;
	machine_init(sd);
	snprintf(name, sizeof(name), "secondary-%u", sd->port);
	err = daemon_start(&sd->d, name);
	if (err)
		return err;
	err = sweep(set->run_dir);
	return err ? err : start_listening(sd, address);
}

int secondary_daemon(const struct settings *set)
{
	AUTO_FREE struct secondary_daemon *sd = calloc(1, sizeof(*sd));
	int status = EXIT_FAILED;

	if (!sd)
		return status;
	sd->lock_fd = -1;
	if (!start(sd, set))
		status = daemon_run(&sd->d);
	intake_close(sd->intake); /* where the event loop has failed */
	sd->intake = NULL;
	daemon_fini(&sd->d);
	if (sd->standby)
		sd->ops->close(sd->standby);
	if (sd->lock_fd >= 0)
		close(sd->lock_fd);
	guest_description_fini(&sd->guest);
	return status;
}
