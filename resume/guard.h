/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard: a child process that outlives its parent by a moment.
 *
 * A suspended guest must run again within a second even where colod is killed
 * with SIGKILL between suspend and resume.  Nothing inside the killed process
 * can do that, so a child is forked at the start, before any thread exists: it
 * blocks on a socket whose other end only the parent holds, and when the parent
 * is gone, for whatever reason, it calls the guest's `rescue`.  It sits in a
 * session of its own, ignores the signals that end its parent, has its memory
 * locked and its score for the out-of-memory killer at the minimum.
 *
 * A parent that hangs, or was stopped, holds the guest as a dead one would: the
 * guard kills one that has not said in time that its checkpoint is over.
 */
#ifndef RESUME_GUARD_H
#define RESUME_GUARD_H

#include <stdint.h>
#include <sys/types.h>

#include "resume/guest.h"

struct guard;

/*
 * Forks the guard for this guest.  Call before the process has threads.
 * `keep_fd` (or -1) is a descriptor that the guard keeps open, such as the
 * guest's lock; all others are closed in it.
 */
int guard_start(const struct guest_kind *kind, const char *words,
		const char *run_dir, int keep_fd, struct guard **out);

/*
 * A checkpoint begins; guard_rest() must follow within limit_us, or the guard
 * kills this process.  Any thread, one at a time; never blocks.
 */
void guard_watch(struct guard *g, uint64_t limit_us);
void guard_rest(struct guard *g);

/* An orderly end: the guard leaves without touching the guest. */
void guard_stop(struct guard *g);

pid_t guard_pid(const struct guard *g);

#endif
