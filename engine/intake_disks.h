/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frames about a domain's replicated disks, on the secondary: what comes of
 * them for the disks (resume/disk/replica.h), and the answers.
 *
 * frame, stored, imaged: the intake's thread.  commit, promote: the guest's.
 * close: any thread; it waits for a frame that is being worked on, and those
 * that follow fail with -ECANCELED.
 */
#ifndef ENGINE_INTAKE_DISKS_H
#define ENGINE_INTAKE_DISKS_H

#include <jansson.h>
#include <stdint.h>

#include "resume/guest.h"
#include "stream/messages.h"

struct intake_disks;

struct intake_disks_config {
	const char *disk_dir; /* these two are copied */
	const char *domain;
	uint64_t journal_bytes;
};

int intake_disks_new(const struct intake_disks_config *cfg,
		     struct intake_disks **out);
void intake_disks_free(struct intake_disks *d); /* NULL is fine */

/*
 * DISKS, DISK_ASK, DISK.  *answer: frames to be sent, a list by `next`.
 * -ECONNREFUSED: they are not taken, *why says why and stays valid; others as
 * disk_replica_put().
 */
int intake_disks_frame(struct intake_disks *d, const struct frame *f,
		       struct frame_buf **answer, const char **why);
/* All of an epoch, or of the image, has come.  0 too where there are none. */
int intake_disks_stored(struct intake_disks *d, uint64_t epoch,
			const char **why);
int intake_disks_imaged(struct intake_disks *d, const struct wire_image_end *e,
			const char **why);

void intake_disks_commit(struct intake_disks *d, uint64_t epoch);
int intake_disks_promote(struct intake_disks *d, uint64_t epoch,
			 struct guest_error *err);
void intake_disks_close(struct intake_disks *d);

/* null where there are none. */
json_t *intake_disks_status(struct intake_disks *d);

#endif
