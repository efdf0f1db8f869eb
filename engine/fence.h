/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fence command: the operator's program that makes sure the peer is down.
 *
 * Run by /bin/sh -c with COLOD_DOMAIN, COLOD_PEER and COLOD_ROLE in its
 * environment, in a process group of its own.  Exit status 0 means that the
 * peer is certainly down; anything else, a signal, or the time-out, means that
 * nothing is known.
 */
#ifndef ENGINE_FENCE_H
#define ENGINE_FENCE_H

#include <stdint.h>

#include "net/loop.h"

struct fence_request {
	const char *command;
	const char *domain;
	const char *peer;
	const char *role;
	uint64_t timeout_us;
};

struct fence;

/*
 * Calls done(arg, err, text) once, from the loop: 0, or a negative errno and
 * what happened in one line.  What is returned lives until then.
 */
struct fence *fence_run(struct loop *loop, const struct fence_request *request,
			void (*done)(void *arg, int err, const char *text),
			void *arg);

/* Kills the command; done() follows soon. */
void fence_cancel(struct fence *f);

#endif
