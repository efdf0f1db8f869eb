/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An embedded guest as source: what its files share.
 *
 *   source.c   finding or starting it, describing it, the table of operations
 *   suspend.c  asking it to suspend, waiting, resuming, pausing
 *   capture.c  what it has written, and its vCPUs
 *   send.c     the initial image
 *   gate.c     the output gate
 *
 * All runs on the guest's worker thread but cancel and the gate's orders, which
 * touch only what `lock` protects, and the control page.
 */
#ifndef RESUME_EMBEDDED_SOURCE_H
#define RESUME_EMBEDDED_SOURCE_H

#include <pthread.h>

#include "resume/dirty.h"
#include "resume/embedded/attach.h"
#include "resume/embedded/tracker.h"
#include "resume/guest.h"

struct guest_source {
	struct embedded guest;
	char name[EMBEDDED_NAME_MAX + 1];
	char run_dir[256];
	bool held;	/* gate_held(): it was, when it was opened */
	bool suspended; /* by us, to be resumed by us */
	uint64_t hold;	/* the number of our hold, or 0 */
	uint64_t late_seen;
	enum guest_ask ask; /* never AUTO */

	const uint8_t *memory; /* mapped to read, touched; or NULL */
	struct tracker *tracker;
	bool tracking;
	bool stale; /* written pages were lost: a new image is needed */
	struct dirty dirty;

	pthread_mutex_t lock;
	int image_fd; /* being written to, or -1 */
	bool cancelled;
	int cancel_fd; /* eventfd, readable once cancelled */
};

/* source.c: marks the guest as open here.  With the lock on its name. */
void embedded_hold(struct guest_source *s);

/* suspend.c */
int embedded_suspend(struct guest_source *s, uint64_t timeout_us);
int embedded_source_resume(struct guest_source *s, enum guest_resume kind);
int embedded_yield(struct guest_source *s);
enum guest_status embedded_status(const struct embedded *e);
/* True if nothing was left to withdraw: the guest has taken the request. */
bool embedded_withdraw(struct embedded *e);
bool embedded_cancelled(struct guest_source *s);

/* capture.c */
int embedded_prepare(struct guest_source *s, struct guest_error *err);
void embedded_release(struct guest_source *s);
int embedded_track(struct guest_source *s, struct guest_error *err);
void embedded_copy_ahead(struct guest_source *s, struct epoch *e, bool apart);
int embedded_capture(struct guest_source *s, struct epoch *e);

/* send.c */
int embedded_send_image(struct guest_source *s, int fd,
			struct guest_error *err);

/* gate.c */
void embedded_barrier(struct guest_source *s, uint64_t epoch);
void embedded_gate(struct guest_source *s, enum guest_gate order,
		   uint64_t epoch);
bool embedded_gate_held(struct guest_source *s);

/* lifecycle.c: after the death of colod, and after a shutdown of the guest */
int embedded_rescue(const char *words, const char *run_dir,
		    uint64_t patience_us);
/* The guest runs, nobody waits for it, nothing is tracked, no holder. */
void embedded_let_go(struct embedded *e);
/* The guest's process ends or boots anew. */
int embedded_after_shutdown(struct embedded *e, bool *again);

#endif
