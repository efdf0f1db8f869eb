/* SPDX-License-Identifier: Apache-2.0 */
/* What the two files of the primary's machine share; nobody else's. */
#ifndef ENGINE_PRIMARY_INTERNAL_H
#define ENGINE_PRIMARY_INTERNAL_H

#include "engine/primary.h"

/* Between two looks for a guest that has suspended late and stands still. */
enum { LATE_LOOK_US = 100 * 1000 };

static inline uint64_t primary_now(const struct primary *p)
{
	return p->env.ops->now_us(p->env.arg);
}

static inline void primary_timer(struct primary *p, enum env_timer t,
				 uint64_t at_us)
{
	p->env.ops->timer(p->env.arg, t, at_us);
}

static inline void primary_job(struct primary *p, enum env_job j,
			       uint64_t epoch)
{
	p->env.ops->job(p->env.arg, j, epoch);
}

/* primary.c: for the epochs, when they cannot go on */
void primary_resync(struct primary *p, const char *why);
/* Ends the protection; false where the guest is up by now. */
bool primary_guest_down(struct primary *p, enum guest_status status);
/* The peer broke the protocol: BYE, and the connection ends. */
void primary_violation(struct primary *p, const char *what);
void primary_disconnect(struct primary *p, enum wire_reason reason,
			const char *text);

/* primary_epochs.c */
void primary_epochs_begin(struct primary *p);
void primary_epochs_start_due(struct primary *p);
void primary_epochs_drop(struct primary *p, const char *why);
void primary_epochs_acknowledge(struct primary *p, const struct event *e);
void primary_epochs_captured(struct primary *p, const struct event *e);
void primary_epochs_encoded(struct primary *p, const struct event *e);
void primary_epochs_check(const struct primary *p);

#endif
