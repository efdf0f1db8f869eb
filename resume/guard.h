/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard: a child process that outlives its parent by a moment.
 *
 * A suspended guest must run again within a second even where colod is killed
 * with SIGKILL between suspend and resume.  Nothing inside the killed process
 * can do that, so a child is forked at the start, before any thread exists: it
 * blocks on a pipe whose other end only the parent holds, and when the parent
 * is gone, for whatever reason, it calls the guest's `rescue`.  It sits in a
 * session of its own, ignores the signals that end its parent, has its memory
 * locked and its score for the out-of-memory killer at the minimum.
 */
#ifndef RESUME_GUARD_H
#define RESUME_GUARD_H

#include <sys/types.h>

#include "resume/guest.h"

struct guard;

/*
 * Forks the guard for this guest.  Call before the process has threads.
 * `keep_fd` (or -1) is a descriptor that the guard keeps open, such as the
 * guest's lock; all others are closed in it.
 */
int guard_start(const struct guest_kind *kind, const char *words, int keep_fd,
		struct guard **out);

/* An orderly end: the guard leaves without touching the guest. */
void guard_stop(struct guard *g);

pid_t guard_pid(const struct guard *g);

#endif
