/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the secondary's daemon share; nobody else's. */
#ifndef ENGINE_SECONDARY_DAEMON_IMPL_H
#define ENGINE_SECONDARY_DAEMON_IMPL_H

#include "engine/daemon.h"
#include "engine/image.h"
#include "engine/intake.h"
#include "engine/progress.h"
#include "engine/secondary.h"
#include "net/announce.h"

struct visitor;

/* What the BUILD job needs. */
struct build {
	int fd;
};

struct secondary_daemon {
	struct daemon d;
	struct secondary machine;

	struct link_listener *listener;
	uint16_t port;
	struct visitor *visitors; /* connected, not (yet) admitted */
	unsigned int visitor_count;
	struct link *link; /* of the admitted primary */
	bool link_ready;
	char peer[128];

	struct guest_description guest; /* of the admitted primary */
	const struct guest_standby_ops *ops;
	struct guest_standby
		*standby; /* the guest thread's, while it has jobs */
	int lock_fd;	  /* the right to the guest's name */

	struct build build; /* one at a time, says the machine */
	struct image_receiver *image;
	struct intake *intake;
	bool has_disks; /* DISKS has come */
	/* Why the link is paused: nobody to take the image yet, or too slow. */
	bool not_building;
	bool image_lags;
	bool intake_lags;
	bool answers_lag;      /* it does not take what it has asked for */
	struct store *pending; /* stored, offered to the machine for APPLY */
	struct progress progress;
	char progress_what[2 * WIRE_NAME_MAX + 40];

	struct address_set addresses;
	struct loop_timer announce_timer;
	unsigned int announce_left;
	struct guest_nic nics[GUEST_NICS_MAX];
	size_t nic_count;

	bool finishing;
	int exit_status;
	uint64_t raw_bytes;    /* pages stored, uncompressed */
	uint64_t stored_bytes; /* as received */
};

/* secondary_visitors.c: connections until they are admitted. */
const struct link_events *secondary_visitor_arrived(void *arg, struct link *l,
						    void **link_arg);
void secondary_visitors_close(struct secondary_daemon *sd);

/* secondary_daemon.c: what the admitted primary sends, and its end. */
void secondary_daemon_admit(struct secondary_daemon *sd, struct link *l,
			    const struct hello *hello,
			    struct guest_description *guest);
void secondary_daemon_frame(struct secondary_daemon *sd, const struct frame *f);
void secondary_daemon_alive(struct secondary_daemon *sd);
void secondary_daemon_drained(struct secondary_daemon *sd);
void secondary_daemon_down(struct secondary_daemon *sd, int err,
			   const char *why);
/* Reads from the link or not, as those behind it can take more or not. */
void secondary_daemon_pace(struct secondary_daemon *sd);

/* secondary_jobs.c: the jobs of enum env_job. */
void secondary_daemon_job(void *arg, enum env_job job, uint64_t epoch);
void secondary_daemon_close_guest(struct secondary_daemon *sd);

/* secondary_status.c */
json_t *secondary_daemon_status(void *owner);

#endif
