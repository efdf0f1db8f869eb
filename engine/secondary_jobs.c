/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The secondary's jobs: what the machine asks for, done on the guest's thread.
 */
#include "config.h"

#include "engine/secondary_daemon_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/fault.h"
#include "engine/moves.h"

enum {
	/* An announcement may be lost, or come while a switch still learns. */
	ANNOUNCEMENTS = 5,
	ANNOUNCE_EVERY_US = 300 * 1000,
};

/* --- BUILD -------------------------------------------------------------- */

static void image_pause(void *arg, bool paused)
{
	struct secondary_daemon *sd = arg;

	sd->image_lags = paused;
	secondary_daemon_pace(sd);
	if (!paused)
		secondary_daemon_alive(sd); /* it was us who did not listen */
}

static void intake_pause(void *arg, bool paused)
{
	struct secondary_daemon *sd = arg;

	sd->intake_lags = paused;
	secondary_daemon_pace(sd);
}

static void intake_moving(void *arg)
{
	secondary_daemon_alive(arg);
}

static void intake_answer(void *arg, struct frame_buf *frames)
{
	struct secondary_daemon *sd = arg;
	struct frame_buf *next;

	for (; frames; frames = next) {
		next = frames->next;
		daemon_send(sd->link_ready ? sd->link : NULL, frames);
	}
	if (!sd->link_ready || link_queued(sd->link) <= LINK_QUEUE_LOW)
		return;
	sd->answers_lag = true;
	secondary_daemon_pace(sd);
}

static void intake_imaged(void *arg, int err, const char *why)
{
	const struct event e = {
		.type = EVENT_IMAGE_END,
		.error = err,
		.text = why,
	};
	struct secondary_daemon *sd = arg;

	secondary_event(&sd->machine, &e);
}

static void take_addresses(struct secondary_daemon *sd, const struct store *s)
{
	struct address_set set;
	struct record r;

	if (store_record(s, WIRE_RECORD_COLOD_ADDRESSES, &r) &&
	    !addresses_decode(r.body, r.length, &set))
		sd->addresses = set;
}

static bool can_activate(const struct secondary_daemon *sd,
			 const struct store *s)
{
	const struct guest_wire_kind *k = guest_wire_kind(sd->guest.kind);
	struct record r;

	for (size_t i = 0; k->needs[i]; i++)
		if (!store_record(s, k->needs[i], &r) ||
		    (k->whole && !k->whole(&r)))
			return false;
	return true;
}

static void intake_stored(void *arg, int err, const char *why, uint64_t epoch,
			  struct store *s)
{
	struct secondary_daemon *sd = arg;
	int fault;
	struct event e = {
		.type = EVENT_STORED,
		.error = err,
		.text = why,
		.epoch = epoch,
	};

	/* Nothing could be activated from it, so it is not acknowledged. */
	if (s && !can_activate(sd, s)) {
		intake_release(sd->intake, s);
		s = NULL;
		e.error = -EPROTO;
		e.text = "an epoch without the whole of the guest's state";
	}
	fault = s ? fault_at(FAULT_BEFORE_ACK) : 0;
	if (fault) {
		intake_release(sd->intake, s);
		s = NULL;
		e.error = fault;
		e.text = strerror(-fault);
	}
	if (s) {
		take_addresses(sd, s);
		sd->raw_bytes += store_page_count(s) * WIRE_PAGE_BYTES;
		sd->stored_bytes = intake_bytes(sd->intake);
	}
	sd->pending = s;
	secondary_event(&sd->machine, &e);
	if (sd->pending)
		intake_release(sd->intake, TAKE_PTR(sd->pending));
}

/* What a build needs besides the guest's own half. */
static int build_prepare(struct secondary_daemon *sd, struct build *b,
			 struct guest_error *why)
{
	static const struct image_receiver_events image_events = {
		.pause = image_pause,
	};
	static const struct intake_events intake_events = {
		.stored = intake_stored,
		.pause = intake_pause,
		.moving = intake_moving,
		.answer = intake_answer,
		.imaged = intake_imaged,
	};
	const struct intake_config cfg = {
		.ram_bytes = sd->guest.ram_bytes,
		.max_gfn = sd->guest.max_gfn,
		.deltas = guest_wire_kind(sd->guest.kind)->deltas,
		.memory_bytes = sd->d.set->memory_limit_mib << 20,
		.disks = {
			.disk_dir = sd->d.set->disk_dir,
			.domain = sd->guest.name,
			.journal_bytes = sd->d.set->disk_journal_mib << 20,
		},
	};
	int fds[2], err;

	sd->lock_fd = guest_lock(sd->guest.name, sd->d.set->run_dir);
	if (sd->lock_fd < 0) {
		guest_error_set(why, "%s is held by another colod on %s: %s",
				sd->guest.name, sd->d.host,
				strerror(-sd->lock_fd));
		return sd->lock_fd;
	}
	sd->has_disks = false;
	err = intake_open(sd->d.loop, &cfg, &intake_events, sd, &sd->intake);
	if (err) {
		guest_error_set(why, "no memory for the epochs of %s on %s",
				sd->guest.name, sd->d.host);
		return err;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -errno;
	b->fd = fds[1];
	return image_receiver_open(sd->d.loop, fds[0], &image_events, sd,
				   &sd->image);
}

static void build_run(struct guest_job *j)
{
	struct secondary_daemon *sd = j->owner;
	struct build *b = j->extra;

	if (!j->err)
		j->err = sd->ops->build(&sd->guest, sd->d.set->run_dir, b->fd,
					&sd->standby, &j->error);
	if (!j->err)
		j->err = fault_at(FAULT_AFTER_BUILD);
	if (j->err && sd->standby) {
		sd->ops->destroy(sd->standby);
		sd->standby = NULL;
	}
	if (j->err && sd->intake)
		intake_disks_close(intake_disks(sd->intake));
	if (b->fd >= 0)
		close(b->fd);
	b->fd = -1;
}

static void unlock(struct secondary_daemon *sd)
{
	if (sd->lock_fd >= 0)
		close(sd->lock_fd);
	sd->lock_fd = -1;
}

static void close_intake(struct secondary_daemon *sd)
{
	intake_close(sd->intake);
	sd->intake = NULL;
	sd->intake_lags = false;
}

void secondary_daemon_close_guest(struct secondary_daemon *sd)
{
	image_receiver_close(sd->image);
	sd->image = NULL;
	sd->image_lags = false;
	close_intake(sd);
	unlock(sd);
}

static void build_after(struct guest_job *j)
{
	struct secondary_daemon *sd = j->owner;

	if (j->err)
		secondary_daemon_close_guest(sd);
}

static void build_post(struct secondary_daemon *sd)
{
	struct build *b = &sd->build;
	struct guest_error why = { { 0 } };
	int err;

	b->fd = -1;
	sd->ops = guest_kind_of_wire(sd->guest.kind)->standby;
	sd->addresses.count = 0;
	sd->raw_bytes = sd->stored_bytes = 0;
	err = build_prepare(sd, b, &why);
	snprintf(sd->progress_what, sizeof(sd->progress_what),
		 "receiving %s from %s", sd->guest.name,
		 sd->machine.primary_host);
	progress_start(&sd->progress, sd->progress_what, sd->guest.ram_bytes,
		       clock_now_us());
	sd->not_building = false;
	secondary_daemon_pace(sd);
	daemon_job_err(&sd->d, ENV_JOB_BUILD, 0, build_run, build_after, b, err,
		       &why);
}

/* --- APPLY, ACTIVATE, DESTROY ------------------------------------------- */

static void apply_run(struct guest_job *j)
{
	struct secondary_daemon *sd = j->owner;

	j->err = fault_at(FAULT_AFTER_COMMIT);
	if (!j->err)
		intake_disks_commit(intake_disks(sd->intake), j->epoch);
	if (!j->err)
		j->err = sd->ops->apply(sd->standby, j->extra);
	if (!j->err)
		j->err = fault_at(FAULT_AFTER_APPLY);
}

static void apply_after(struct guest_job *j)
{
	struct secondary_daemon *sd = j->owner;

	intake_release(sd->intake, j->extra);
}

static void announce_again(void *arg)
{
	struct secondary_daemon *sd = arg;
	size_t i;

	for (i = 0; i < sd->nic_count; i++) {
		int n = announce(sd->nics[i].ifname, sd->nics[i].mac,
				 &sd->addresses);

		if (sd->announce_left != ANNOUNCEMENTS)
			continue;
		if (n < 0)
			log_warn("%s: nothing announced behind %s: %s",
				 sd->guest.name, sd->nics[i].ifname,
				 n == -ENOTCONN ? "it is not on a bridge"
						: strerror(-n));
		else
			log_info("%s: announced behind %s, %d frames",
				 sd->guest.name, sd->nics[i].ifname, n);
	}
	if (--sd->announce_left)
		loop_timer_start(sd->d.loop, &sd->announce_timer,
				 clock_now_us() + ANNOUNCE_EVERY_US);
}

static void activate_run(struct guest_job *j)
{
	struct secondary_daemon *sd = j->owner;

	sd->nic_count = 0;
	j->err = fault_at(FAULT_BEFORE_ACTIVATE);
	if (!j->err)
		j->err = intake_disks_promote(intake_disks(sd->intake),
					      j->epoch, &j->error);
	if (!j->err)
		j->err = sd->ops->activate(sd->standby, &j->error);
	if (!j->err)
		intake_disks_close(intake_disks(sd->intake));
	/* It runs: whatever fails from here on must not say that it does not.
	 */
	if (!j->err && !fault_at(FAULT_AFTER_ACTIVATE))
		sd->nic_count = sd->ops->nics(sd->standby, sd->nics);
}

static void activate_after(struct guest_job *j)
{
	struct secondary_daemon *sd = j->owner;

	if (j->err)
		return;
	close_intake(sd);
	sd->announce_timer.fn = announce_again;
	sd->announce_timer.arg = sd;
	sd->announce_left = ANNOUNCEMENTS;
	announce_again(sd);
}

static void destroy_run(struct guest_job *j)
{
	struct secondary_daemon *sd = j->owner;

	if (sd->standby)
		sd->ops->destroy(sd->standby);
	sd->standby = NULL;
	if (sd->intake)
		intake_disks_close(intake_disks(sd->intake));
}

static void destroy_after(struct guest_job *j)
{
	secondary_daemon_close_guest(j->owner);
}

/* --- the active guest --------------------------------------------------- */

static void status_run(struct guest_job *j)
{
	struct secondary_daemon *sd = j->owner;

	j->guest = sd->ops->status(sd->standby);
}

static void after_shutdown_run(struct guest_job *j)
{
	struct secondary_daemon *sd = j->owner;

	j->err = sd->ops->after_shutdown(sd->standby, &j->again);
	if (j->again)
		return;
	sd->ops->close(sd->standby);
	sd->standby = NULL;
}

static void after_shutdown_after(struct guest_job *j)
{
	if (!j->again)
		secondary_daemon_close_guest(j->owner);
}

void secondary_daemon_job(void *arg, enum env_job job, uint64_t epoch)
{
	struct secondary_daemon *sd = arg;

	switch (job) {
	case ENV_JOB_BUILD:
		build_post(sd);
		break;
	case ENV_JOB_APPLY:
		daemon_job(&sd->d, job, epoch, apply_run, apply_after,
			   TAKE_PTR(sd->pending));
		break;
	case ENV_JOB_ACTIVATE:
		daemon_job(&sd->d, job, epoch, activate_run, activate_after,
			   NULL);
		break;
	case ENV_JOB_DESTROY:
		daemon_job(&sd->d, job, 0, destroy_run, destroy_after, NULL);
		break;
	case ENV_JOB_STATUS:
		daemon_job(&sd->d, job, 0, status_run, NULL, NULL);
		break;
	case ENV_JOB_AFTER_SHUTDOWN:
		daemon_job(&sd->d, job, 0, after_shutdown_run,
			   after_shutdown_after, NULL);
		break;
	case ENV_JOB_FENCE:
		daemon_fence(&sd->d, sd->machine.domain,
			     sd->machine.primary_host, "secondary");
		break;
	default:
		INVARIANT(false, "a job of the secondary");
	}
}
